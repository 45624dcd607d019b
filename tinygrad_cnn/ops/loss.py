"""Regression losses and the Kullback–Leibler divergence; the reductions that all losses share.

``reduction``: "none" gives a loss an element, "mean" (the default) their mean, "sum" their sum.
"""

from __future__ import annotations

import math
import warnings

from ..backend import Array, Backend
from ..dtypes import float16
from ..geometry import broadcast_shapes
from ..tensor import Op, Tensor
from .checks import reduction_name, tensor_of_floats
from .elementwise import operands, where
from .unary import exp, log, sign
from .views import Expand


def reduced(losses: Tensor, reduction: str) -> Tensor:
    """The losses, their mean or their sum."""
    return losses.mean() if reduction == "mean" else losses.sum() if reduction == "sum" else losses


class PairLoss(Op):
    """ℓ(x, t) of pairs of numbers, their sum or their mean, by one kernel.

    ``slopes`` of a subclass are ∂ℓ/∂x and ∂ℓ/∂t, for derivatives of higher order.
    """

    name: str

    def __init__(self, reduction: str, *settings: float) -> None:
        self.reduction, self.settings = reduction, settings

    def forward(self, kernels: Backend, x: Array, t: Array) -> Array:
        total = self.reduction != "none"
        y = kernels.pair_loss(self.name, total, x, t, *self.settings)
        return kernels.divide(y, math.prod(x.shape)) if self.reduction == "mean" else y

    def slopes(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError(f"the derivative of {self.name} is not defined")

    def backward(self, grad: Tensor, out: None) -> tuple[Tensor | None, ...]:
        x, t = self.inputs
        grad = grad / math.prod(x.shape) if self.reduction == "mean" else grad
        slopes = self.slopes(x, t)
        return tuple(grad * s if n else None for s, n in zip(slopes, self.needs, strict=True))

    def fused_backward(
        self, kernels: Backend, grad: Array, out: None, x: Array, t: Array
    ) -> tuple[Array | None, Array | None]:
        grad = kernels.divide(grad, math.prod(x.shape)) if self.reduction == "mean" else grad
        each = kernels.broadcast_to(grad, x.shape)
        return kernels.pair_loss_grad(self.name, each, x, t, self.needs, *self.settings)


class SquaredError(PairLoss):
    """(x − t)²."""

    name = "square"

    def slopes(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        slope = (x - t) * 2
        return slope, -slope


class AbsoluteError(PairLoss):
    """|x − t| with slope 0 where both are equal."""

    name = "absolute"

    def slopes(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        slope = sign(x - t)
        return slope, -slope


class Huber(PairLoss):
    """d²/2 where |d| < delta, d = x − t, else delta·(|d| − delta/2)."""

    name = "huber"

    def slopes(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        d, (delta,) = x - t, self.settings
        slope = where(d <= -delta, -delta, where(d >= delta, delta, d))
        return slope, -slope


class Divergence(PairLoss):
    """t·(log t − x), x a log-probability; 0·log 0 is 0."""

    name = "divergence"

    def slopes(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        positive = t > 0
        entropy = where(positive, log(where(positive, t, 1.0)) + 1, 0.0)
        return -t, entropy - x


def pair_loss(op: type[PairLoss], reduction: str, x: Tensor, t: Tensor, *settings: float) -> Tensor:
    """The losses of pairs, reduced; half-precision sums may overflow although the mean does not."""
    if reduction != "none" and (not x.array.size or x.dtype == float16):
        return reduced(op("none", *settings)(x, t), reduction)
    return op(reduction, *settings)(x, t)


def _pairs(name: str, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Both with one dtype and shape."""
    x, t = operands(name, x, t)
    if x.shape == t.shape:
        return x, t
    shape = broadcast_shapes(x.shape, t.shape)
    return Expand(shape)(x), Expand(shape)(t)


def _regression(
    name: str, op: type[PairLoss], x: Tensor, target: Tensor, reduction: str, *settings: float
) -> Tensor:
    """The losses, reduced; different shapes broadcast with a warning, as that is rarely meant."""
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
    return pair_loss(op, reduction, *_pairs(name, x, target), *settings)


def mse_loss(input: Tensor, target: Tensor, *, reduction: str = "mean") -> Tensor:
    """(x − t)²."""
    return _regression("mse_loss", SquaredError, input, target, reduction)


def l1_loss(input: Tensor, target: Tensor, *, reduction: str = "mean") -> Tensor:
    """|x − t|; the derivative at 0 is 0."""
    return _regression("l1_loss", AbsoluteError, input, target, reduction)


def smooth_l1_loss(
    input: Tensor, target: Tensor, *, reduction: str = "mean", beta: float = 1.0
) -> Tensor:
    """(x − t)²/(2·beta) where |x − t| < beta, else |x − t| − beta/2.

    Raises ValueError for beta < 0. Source: Girshick, "Fast R-CNN", 2015."""
    if beta < 0:
        raise ValueError(f"smooth_l1_loss: beta must be at least 0, received {beta}")
    name = "smooth_l1_loss"
    if beta == 0:
        return _regression(name, AbsoluteError, input, target, reduction)
    losses = _regression(name, Huber, input, target, reduction, beta)
    return losses if beta == 1 else losses / beta


def huber_loss(
    input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0
) -> Tensor:
    """(x − t)²/2 where |x − t| < delta, else delta·(|x − t| − delta/2).

    Raises ValueError for delta ≤ 0."""
    if delta <= 0:
        raise ValueError(f"huber_loss: delta must be positive, received {delta}")
    return _regression("huber_loss", Huber, input, target, reduction, delta)


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
        x, t = _pairs("kl_div", input, target)
        if reduction != "batchmean":
            return pair_loss(Divergence, reduction, x, t)
        return pair_loss(Divergence, "sum", x, t) / x.shape[0]
    if reduction == "batchmean":
        return losses.sum() / losses.shape[0]
    return reduced(losses, reduction)
