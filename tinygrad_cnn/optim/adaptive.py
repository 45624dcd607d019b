"""RMSprop and Adagrad: steps divided by the size that each parameter's gradients have had."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..tensor import Tensor
from .optimizer import Bucket, Group, Optimizer, filled_like


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
        bucket.kernels.rmsprop_step(
            bucket.arrays, bucket.grads, bucket.state("square_avg"),
            bucket.state("grad_avg") if group["centered"] else None,
            bucket.state("momentum_buffer") if group["momentum"] else None,
            group["lr"], group["alpha"], group["eps"], group["weight_decay"], group["momentum"],
        )  # fmt: skip


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
        rate = group["lr"] / (1 + (bucket.step - 1) * group["lr_decay"])
        bucket.kernels.adagrad_step(
            bucket.arrays, bucket.grads, bucket.state("sum"), rate, group["eps"],
            group["weight_decay"],
        )  # fmt: skip
