"""Adam and AdamW."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from .optimizer import Bucket, Group, Optimizer


class Adam(Optimizer):
    """Steps scaled by running moments of the gradient, at update t:

        m ← β₁·m + (1 − β₁)·g        v ← β₂·v + (1 − β₂)·g²
        p ← p − lr · m/(1 − β₁ᵗ) / (sqrt(v/(1 − β₂ᵗ)) + eps)

    ``weight_decay`` adds wd·p to g; ``amsgrad`` uses the largest v so far. Sources: Kingma and Ba,
    "Adam: a method for stochastic optimization", 2015; Reddi, Kale, Kumar, "On the convergence of
    Adam and beyond", 2018.
    """

    decoupled: ClassVar[bool] = False

    def __init__(
        self, params: Iterable[Any], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8, weight_decay: float = 0.0, amsgrad: bool = False, *,
        maximize: bool = False,
    ) -> None:  # fmt: skip
        defaults = dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad,
                        maximize=maximize)  # fmt: skip
        super().__init__(params, defaults)

    def state_names(self, group: Group) -> tuple[str, ...]:
        return ("exp_avg", "exp_avg_sq", *(("max_exp_avg_sq",) if group["amsgrad"] else ()))

    def update(self, group: Group, bucket: Bucket) -> None:
        kernels = bucket.kernels
        step: Any = kernels.amsgrad_step if group["amsgrad"] else kernels.adam_step
        step(
            bucket.arrays, bucket.grads, *map(bucket.state, self.state_names(group)), group["lr"],
            group["betas"], group["eps"], group["weight_decay"], self.decoupled, bucket.step,
        )  # fmt: skip


class AdamW(Adam):
    """Adam whose weight decay shrinks the parameters, p ← p·(1 − lr·wd), and leaves g alone.

    Source: Loshchilov and Hutter, "Decoupled weight decay regularization", 2019.
    """

    decoupled = True

    def __init__(
        self, params: Iterable[Any], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8, weight_decay: float = 1e-2, amsgrad: bool = False, *,
        maximize: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize)
