"""Regression losses and the Kullback–Leibler divergence; the reductions that all losses share.

``reduction``: "none" gives a loss an element, "mean" (the default) their mean, "sum" their sum.
"""

from __future__ import annotations

import warnings

from ..tensor import Tensor
from .activation import Activation
from .checks import reduction_name, tensor_of_floats
from .elementwise import where
from .unary import abs, exp, log


def reduced(losses: Tensor, reduction: str) -> Tensor:
    """The losses, their mean or their sum."""
    return losses.mean() if reduction == "mean" else losses.sum() if reduction == "sum" else losses


class Square(Activation):
    """x², y′ = 2x."""

    name = "square"

    def backward(self, grad: Tensor, out: None) -> Tensor:
        return grad * self.inputs[0] * 2


class Huber(Activation):
    """x²/2 where |x| < delta, else delta·(|x| − delta/2);  y′ = x, or delta with the sign of x."""

    name = "huber"

    def backward(self, grad: Tensor, out: None) -> Tensor:
        (x,), (delta,) = self.inputs, self.settings
        return grad * where(x <= -delta, -delta, where(x >= delta, delta, x))


def _difference(name: str, x: Tensor, target: Tensor, reduction: str) -> Tensor:
    """x − target; different shapes broadcast with a warning, because that is rarely meant."""
    reduction_name(name, reduction)
    tensor_of_floats(name, x)
    if not isinstance(target, Tensor):
        raise TypeError(f"{name}: target must be a tensor, received {type(target).__name__}")
    if target.shape != x.shape:
        warnings.warn(
            f"{name}: input {x.shape} and target {target.shape} have different shapes and are "
            "broadcast; reshape one of them if that is not meant",
            UserWarning, stacklevel=3,
        )  # fmt: skip
    return x - target


def mse_loss(input: Tensor, target: Tensor, *, reduction: str = "mean") -> Tensor:
    """(x − t)²."""
    d = _difference("mse_loss", input, target, reduction)
    return reduced(Square()(d), reduction)


def l1_loss(input: Tensor, target: Tensor, *, reduction: str = "mean") -> Tensor:
    """|x − t|; the derivative at 0 is 0."""
    return reduced(abs(_difference("l1_loss", input, target, reduction)), reduction)


def smooth_l1_loss(
    input: Tensor, target: Tensor, *, reduction: str = "mean", beta: float = 1.0
) -> Tensor:
    """(x − t)²/(2·beta) where |x − t| < beta, else |x − t| − beta/2.

    Raises ValueError for beta < 0. Source: Girshick, "Fast R-CNN", 2015."""
    if beta < 0:
        raise ValueError(f"smooth_l1_loss: beta must be at least 0, received {beta}")
    d = _difference("smooth_l1_loss", input, target, reduction)
    return reduced(abs(d) if beta == 0 else Huber(beta)(d) / beta, reduction)


def huber_loss(
    input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0
) -> Tensor:
    """(x − t)²/2 where |x − t| < delta, else delta·(|x − t| − delta/2).

    Raises ValueError for delta ≤ 0."""
    if delta <= 0:
        raise ValueError(f"huber_loss: delta must be positive, received {delta}")
    return reduced(Huber(delta)(_difference("huber_loss", input, target, reduction)), reduction)


def kl_div(
    input: Tensor, target: Tensor, *, reduction: str = "mean", log_target: bool = False
) -> Tensor:
    """t·(log t − x), ``input`` being log-probabilities; 0·log 0 is 0.

    With ``log_target`` t = e^target. "batchmean" divides the sum by the first size, which is the
    divergence itself; "mean" divides by all elements.
    """
    reduction_name("kl_div", reduction, ("none", "mean", "sum", "batchmean"))
    tensor_of_floats("kl_div", input)
    if log_target:
        losses = exp(target) * (target - input)
    else:
        positive = target > 0
        entropy = where(positive, target * log(where(positive, target, 1.0)), target * 0)
        losses = entropy - target * input
    if reduction == "batchmean":
        return losses.sum() / losses.shape[0]
    return reduced(losses, reduction)
