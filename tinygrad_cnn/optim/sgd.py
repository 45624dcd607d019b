"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .optimizer import Bucket, Group, Optimizer


class SGD(Optimizer):
    """Gradient descent with momentum: g ← g + wd·p;  m ← µ·m + (1 − dampening)·g;  p ← p − lr·m.

    The first m is g itself. ``nesterov`` steps along g + µ·m instead of m; ``maximize`` climbs.
    Source: Sutskever and others, "On the importance of initialization and momentum in deep
    learning", 2013.

    >>> import tinygrad_cnn as tg
    >>> w = tg.tensor([4.0], requires_grad=True)
    >>> optimizer = tg.optim.SGD([w], lr=0.25)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w.tolist()
    [2.0]
    """

    counts = False

    def __init__(
        self, params: Iterable[Any], lr: float = 1e-3, momentum: float = 0.0,
        dampening: float = 0.0, weight_decay: float = 0.0, nesterov: bool = False, *,
        maximize: bool = False,
    ) -> None:  # fmt: skip
        defaults = dict(lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay,
                        nesterov=nesterov, maximize=maximize)  # fmt: skip
        super().__init__(params, defaults)

    def check(self, group: Group) -> None:
        super().check(group)
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"]):
            raise ValueError(
                "SGD: nesterov needs momentum > 0 and dampening 0, received "
                f"momentum={group['momentum']} and dampening={group['dampening']}"
            )

    def state_names(self, group: Group) -> tuple[str, ...]:
        return ("momentum_buffer",) if group["momentum"] else ()

    def update(self, group: Group, bucket: Bucket) -> None:
        momenta = bucket.state("momentum_buffer") if group["momentum"] else None
        bucket.kernels.sgd_step(
            bucket.arrays, bucket.grads, momenta, group["lr"], group["momentum"],
            group["dampening"], group["weight_decay"], group["nesterov"], bucket.step == 0,
        )  # fmt: skip
