"""RMSprop and Adagrad: steps divided by the size that each parameter's gradients have had."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..backend import Array, Backend
from ..tensor import Tensor
from .optimizer import Bucket, Group, Optimizer, filled_like


def _decayed(k: Backend, p: Array, g: Array, weight_decay: float) -> Array:
    return k.add(g, k.multiply(p, weight_decay)) if weight_decay else g


class RMSprop(Optimizer):
    """v ← α·v + (1 − α)·g²;  p ← p − lr·g / (sqrt(v) + eps).

    ``centered`` subtracts the square of a running mean of g from v; with ``momentum`` µ the
    quotient goes into b ← µ·b + g/(…) and p ← p − lr·b. Source: Tieleman and Hinton, lecture 6.5 of
    "Neural networks for machine learning", 2012; centred: Graves, "Generating sequences with
    recurrent neural networks", 2013.
    """

    def __init__(
        self, params: Iterable[Any], lr: float = 1e-2, alpha: float = 0.99, eps: float = 1e-8,
        weight_decay: float = 0.0, momentum: float = 0.0, centered: bool = False, *,
        maximize: bool = False,
    ) -> None:  # fmt: skip
        defaults = dict(lr=lr, alpha=alpha, eps=eps, weight_decay=weight_decay, momentum=momentum,
                        centered=centered, maximize=maximize)  # fmt: skip
        super().__init__(params, defaults)

    def state_names(self, group: Group) -> tuple[str, ...]:
        optional = {"momentum_buffer": group["momentum"], "grad_avg": group["centered"]}
        return ("square_avg", *(name for name, used in optional.items() if used))

    def update(self, group: Group, bucket: Bucket) -> None:
        k, alpha, lr = bucket.kernels, group["alpha"], group["lr"]
        for p, g, state in zip(bucket.arrays, bucket.grads, bucket.states, strict=True):
            g = _decayed(k, p, g, group["weight_decay"])
            v = state["square_avg"].array
            k.add(k.multiply(v, alpha, out=v), k.multiply(k.multiply(g, g), 1 - alpha), out=v)
            if group["centered"]:
                mean = state["grad_avg"].array
                k.add(k.multiply(mean, alpha, out=mean), k.multiply(g, 1 - alpha), out=mean)
                v = k.subtract(v, k.multiply(mean, mean))
            g = k.divide(g, k.add(k.sqrt(v), group["eps"]))
            if group["momentum"]:
                b = state["momentum_buffer"].array
                g = k.add(k.multiply(b, group["momentum"], out=b), g, out=b)
            k.subtract(p, k.multiply(g, lr), out=p)


class Adagrad(Optimizer):
    """s ← s + g²;  p ← p − lr/(1 + (t − 1)·lr_decay) · g / (sqrt(s) + eps), at update t.

    s starts at ``initial_accumulator_value``. Source: Duchi, Hazan, Singer, "Adaptive subgradient
    methods for online learning and stochastic optimization", 2011.
    """

    def __init__(
        self, params: Iterable[Any], lr: float = 1e-2, lr_decay: float = 0.0,
        weight_decay: float = 0.0, initial_accumulator_value: float = 0.0, eps: float = 1e-10, *,
        maximize: bool = False,
    ) -> None:  # fmt: skip
        defaults = dict(lr=lr, lr_decay=lr_decay, weight_decay=weight_decay,
                        initial_accumulator_value=initial_accumulator_value, eps=eps,
                        maximize=maximize)  # fmt: skip
        super().__init__(params, defaults)

    def state_names(self, group: Group) -> tuple[str, ...]:
        return ("sum",)

    def new_state(self, group: Group, p: Tensor) -> dict[str, Any]:
        return {"sum": filled_like(p, group["initial_accumulator_value"])}

    def update(self, group: Group, bucket: Bucket) -> None:
        k = bucket.kernels
        rate = group["lr"] / (1 + (bucket.step - 1) * group["lr_decay"])
        for p, g, s in zip(bucket.arrays, bucket.grads, bucket.state("sum"), strict=True):
            g = _decayed(k, p, g, group["weight_decay"])
            k.add(s, k.multiply(g, g), out=s)
            k.subtract(p, k.divide(k.multiply(g, rate), k.add(k.sqrt(s), group["eps"])), out=p)
