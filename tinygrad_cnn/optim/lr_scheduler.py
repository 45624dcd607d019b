"""Learning-rate schedules: call ``scheduler.step()`` once an epoch (or batch) has been optimised.

Each schedule sets ``group["lr"]`` of every group from the rate that the group started with, kept as
``group["initial_lr"]``. Where a schedule only multiplies the current rate, several can be combined
by stepping one after the other.
"""

from __future__ import annotations

import math
import warnings
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .optimizer import Group, Optimizer


class LRScheduler:
    """Base class: a subclass returns in ``get_lr`` the rate of every group at ``self.last_epoch``.

    ``last_epoch`` −1 starts anew, another number goes on from there (the groups must have their
    ``initial_lr``). Raises TypeError for something that is not an optimiser.
    """

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        _check_optimizer(self, optimizer)
        self.optimizer = optimizer
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise ValueError(
                    f"{type(self).__name__}: to go on from epoch {last_epoch}, group {i} needs its "
                    'first rate as "initial_lr"; load the state of the optimiser first'
                )
        self.base_lrs: list[float] = [g["initial_lr"] for g in optimizer.param_groups]
        self.last_epoch = last_epoch
        self._last_lr: list[float] = []
        self._advance()

    def get_lr(self) -> list[float]:
        """The rate of every group at ``self.last_epoch``; the groups hold the current ones."""
        raise NotImplementedError(f"{type(self).__name__} must define get_lr()")

    def get_last_lr(self) -> list[float]:
        """The rates set last, one a group."""
        return self._last_lr

    def step(self) -> None:
        """Go on to the next epoch."""
        if self.last_epoch == 0 and not self.optimizer.steps_taken:
            warnings.warn(
                "scheduler.step() before the first optimizer.step(): "
                "the first learning rate is skipped",
                stacklevel=2,
            )
        self._advance()

    def _advance(self) -> None:
        self.last_epoch += 1
        rates = self.get_lr()
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        self._last_lr = rates

    def _restart(self) -> None:
        """Begin again at epoch 0 from the first rates."""
        for group, rate in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
            group["lr"] = rate
        self.last_epoch = -1
        self._advance()

    def state_dict(self) -> dict[str, Any]:
        """Every attribute but the optimiser and functions."""
        return {k: v for k, v in vars(self).items() if k != "optimizer" and not _has_functions(v)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over the attributes of ``state_dict()``. Load the optimiser's state as well."""
        vars(self).update(state_dict)

    @property
    def _groups(self) -> list[Group]:
        return self.optimizer.param_groups


def _check_optimizer(scheduler: Any, optimizer: Any) -> None:
    if not isinstance(optimizer, Optimizer):
        raise TypeError(
            f"{type(scheduler).__name__}: expected an optimiser, "
            f"received {type(optimizer).__name__}"
        )


def _has_functions(value: Any) -> bool:
    return callable(value) or (isinstance(value, list) and any(map(callable, value)))


class _Factor(LRScheduler):
    """A schedule that multiplies the current rate by ``factor_at(t)`` when epoch t begins."""

    def factor_at(self, t: int) -> float:
        raise NotImplementedError

    def get_lr(self) -> list[float]:
        factor = self.factor_at(self.last_epoch)
        return [group["lr"] * factor for group in self._groups]


class StepLR(_Factor):
    """lr·gamma^floor(t / step_size).

    >>> import tinygrad_cnn as tg
    >>> optimizer = tg.optim.SGD([tg.ones(1, requires_grad=True)], lr=0.5)
    >>> scheduler = tg.optim.StepLR(optimizer, step_size=2, gamma=0.5)
    >>> for epoch in range(4):
    ...     optimizer.step()
    ...     scheduler.step()
    ...     print(scheduler.get_last_lr())
    [0.5]
    [0.25]
    [0.25]
    [0.125]
    """

    def __init__(
        self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer, last_epoch)

    def factor_at(self, t: int) -> float:
        return self.gamma if t and t % self.step_size == 0 else 1.0


class MultiStepLR(_Factor):
    """lr·gamma^(number of milestones ≤ t)."""

    def __init__(
        self,
        optimizer: Optimizer,
        milestones: Sequence[int],
        gamma: float = 0.1,
        last_epoch: int = -1,
    ) -> None:
        self.milestones, self.gamma = sorted(milestones), gamma
        super().__init__(optimizer, last_epoch)

    def factor_at(self, t: int) -> float:
        return self.gamma ** self.milestones.count(t)


class ExponentialLR(_Factor):
    """lr·gammaᵗ."""

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def factor_at(self, t: int) -> float:
        return self.gamma if t else 1.0


class ConstantLR(_Factor):
    """lr·factor before epoch ``total_iters``, then lr."""

    def __init__(
        self,
        optimizer: Optimizer,
        factor: float = 1 / 3,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        if not 0 <= factor <= 1:
            raise ValueError(f"ConstantLR: expected 0 ≤ factor ≤ 1, received {factor}")
        self.factor, self.total_iters = factor, total_iters
        super().__init__(optimizer, last_epoch)

    def factor_at(self, t: int) -> float:
        return self.factor if t == 0 else 1 / self.factor if t == self.total_iters else 1.0


class LinearLR(_Factor):
    """lr·f, f going straight from start_factor at epoch 0 to end_factor at ``total_iters``."""

    def __init__(
        self, optimizer: Optimizer, start_factor: float = 1 / 3, end_factor: float = 1.0,
        total_iters: int = 5, last_epoch: int = -1,
    ) -> None:  # fmt: skip
        if not 0 < start_factor <= 1 or not 0 <= end_factor <= 1:
            raise ValueError(
                "LinearLR: expected 0 < start_factor ≤ 1 and 0 ≤ end_factor ≤ 1, "
                f"received {start_factor} and {end_factor}"
            )
        self.start_factor, self.end_factor, self.total_iters = start_factor, end_factor, total_iters
        super().__init__(optimizer, last_epoch)

    def factor_at(self, t: int) -> float:
        if t == 0:
            return self.start_factor
        if t > self.total_iters:
            return 1.0
        return self._line(t) / self._line(t - 1)

    def _line(self, t: int) -> float:
        return self.start_factor + (self.end_factor - self.start_factor) * t / self.total_iters


class PolynomialLR(_Factor):
    """lr·(1 − min(t, T)/T)^power with T = total_iters."""

    def __init__(
        self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0, last_epoch: int = -1
    ) -> None:
        self.total_iters, self.power = total_iters, power
        super().__init__(optimizer, last_epoch)

    def factor_at(self, t: int) -> float:
        if t == 0 or t > self.total_iters:
            return 1.0
        return float(((self.total_iters - t) / (self.total_iters - t + 1)) ** self.power)


class LambdaLR(LRScheduler):
    """lr·lr_lambda(t), with one function or one a group, which ``state_dict`` does not hold."""

    def __init__(
        self, optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | list[Callable[[int], float]], last_epoch: int = -1,
    ) -> None:  # fmt: skip
        _check_optimizer(self, optimizer)
        count = len(optimizer.param_groups)
        self.lr_lambdas = (
            list(lr_lambda) if isinstance(lr_lambda, list | tuple) else [lr_lambda] * count
        )
        if len(self.lr_lambdas) != count:
            raise ValueError(
                f"LambdaLR: expected {count} functions, received {len(self.lr_lambdas)}"
            )
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        return [
            base * function(self.last_epoch)
            for base, function in zip(self.base_lrs, self.lr_lambdas, strict=True)
        ]


class CosineAnnealingLR(LRScheduler):
    """eta_min + (lr − eta_min)·(1 + cos(π·t/T_max))/2. Source: Loshchilov and Hutter, "SGDR", 2017.

    Computed from the current rate, so that another schedule may change the rate in between.
    """

    def __init__(
        self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        t, low = self.last_epoch, self.eta_min
        if t == 0:
            return [group["lr"] for group in self._groups]
        now, before = self._height(t), self._height(t - 1)
        if (t - 1 - self.T_max) % (2 * self.T_max) == 0:  # the rate was eta_min: nothing to scale
            return [low + (base - low) * now for base in self.base_lrs]
        return [low + (group["lr"] - low) * (now / before) for group in self._groups]

    def _height(self, t: int) -> float:
        return (1 + math.cos(math.pi * t / self.T_max)) / 2


class OneCycleLR(LRScheduler):
    """Up from max_lr/div_factor to max_lr in the first ``pct_start`` of all steps, then down to
    max_lr/div_factor/final_div_factor; with ``three_phase`` the way down first mirrors the way up.

    Step it after every batch. ``cycle_momentum`` moves the momentum (or β₁) the other way, between
    max_momentum and base_momentum. Source: Smith and Topin, "Super-convergence", 2018.
    """

    def __init__(
        self, optimizer: Optimizer, max_lr: float | Sequence[float], total_steps: int | None = None,
        epochs: int | None = None, steps_per_epoch: int | None = None, pct_start: float = 0.3,
        anneal_strategy: str = "cos", cycle_momentum: bool = True,
        base_momentum: float = 0.85, max_momentum: float = 0.95, div_factor: float = 25.0,
        final_div_factor: float = 1e4, three_phase: bool = False, last_epoch: int = -1,
    ) -> None:  # fmt: skip
        _check_optimizer(self, optimizer)
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ValueError("OneCycleLR: expected total_steps, or epochs and steps_per_epoch")
            total_steps = epochs * steps_per_epoch
        if total_steps <= 0 or not 0 <= pct_start <= 1:
            raise ValueError(
                "OneCycleLR: expected total_steps > 0 and 0 ≤ pct_start ≤ 1, "
                f"received {total_steps} and {pct_start}"
            )
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(
                f'OneCycleLR: anneal_strategy is "cos" or "linear", received {anneal_strategy!r}'
            )
        self.total_steps, self.anneal_strategy = total_steps, anneal_strategy
        self.cycle_momentum = cycle_momentum
        top = pct_start * total_steps - 1
        # each phase ends at a step and goes from one named value to another
        self.phases: list[tuple[float, str, str, str, str]] = [
            (top, "initial_lr", "max_lr", "max_momentum", "base_momentum")
        ]
        if three_phase:
            self.phases.append((2 * top, "max_lr", "initial_lr", "base_momentum", "max_momentum"))
            rest = ("initial_lr", "min_lr", "max_momentum", "max_momentum")
        else:
            rest = ("max_lr", "min_lr", "base_momentum", "max_momentum")
        self.phases.append((total_steps - 1, *rest))
        if cycle_momentum and not {"momentum", "betas"} & set(optimizer.defaults):
            raise ValueError(
                "OneCycleLR: this optimiser has no momentum: pass cycle_momentum=False"
            )
        if last_epoch == -1:
            count = len(optimizer.param_groups)
            peaks = [max_lr] * count if isinstance(max_lr, int | float) else list(max_lr)
            if len(peaks) != count:
                raise ValueError(
                    f"OneCycleLR: expected {count} values of max_lr, received {len(peaks)}"
                )
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["initial_lr"], group["max_lr"] = peak / div_factor, peak
                group["min_lr"] = group["initial_lr"] / final_div_factor
                if cycle_momentum:
                    group["max_momentum"], group["base_momentum"] = max_momentum, base_momentum
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        t = self.last_epoch
        if t > self.total_steps:
            raise ValueError(f"OneCycleLR: step {t} is beyond total_steps={self.total_steps}")
        start = 0.0
        for phase in self.phases:
            if t <= phase[0] or phase is self.phases[-1]:
                break
            start = phase[0]
        end, lr_from, lr_to, momentum_from, momentum_to = phase
        part = (t - start) / (end - start)
        if self.cycle_momentum:
            for group in self._groups:
                value = self._between(group[momentum_from], group[momentum_to], part)
                if "betas" in group:
                    group["betas"] = (value, *group["betas"][1:])
                else:
                    group["momentum"] = value
        return [self._between(group[lr_from], group[lr_to], part) for group in self._groups]

    def _between(self, start: float, end: float, part: float) -> float:
        if self.anneal_strategy == "linear":
            return start + (end - start) * part
        return end + (start - end) * (1 + math.cos(math.pi * part)) / 2


class SequentialLR(LRScheduler):
    """One schedule after the other: ``schedulers[i]`` begins anew at epoch ``milestones[i−1]``."""

    def __init__(
        self, optimizer: Optimizer, schedulers: Sequence[LRScheduler], milestones: Sequence[int],
        last_epoch: int = -1,
    ) -> None:  # fmt: skip
        if len(milestones) != len(schedulers) - 1:
            raise ValueError(
                f"SequentialLR: expected {len(schedulers) - 1} milestones for {len(schedulers)} "
                f"schedulers, received {len(milestones)}"
            )
        for i, scheduler in enumerate(schedulers):
            if not isinstance(scheduler, LRScheduler):
                raise TypeError(
                    f"SequentialLR: scheduler {i}: expected a schedule that steps without a "
                    f"metric, received {type(scheduler).__name__}"
                )
            if scheduler.optimizer is not optimizer:
                raise ValueError(f"SequentialLR: scheduler {i} belongs to another optimiser")
        self.schedulers, self.milestones = list(schedulers), list(milestones)
        super().__init__(optimizer, last_epoch)

    def _advance(self) -> None:
        self.last_epoch += 1
        place = bisect_right(self.milestones, self.last_epoch)
        current = self.schedulers[place]
        if self.last_epoch == (self.milestones[place - 1] if place else 0):
            current._restart()
        else:
            current._advance()
        self._last_lr = current.get_last_lr()

    def state_dict(self) -> dict[str, Any]:
        """The attributes, with the state of every schedule under "schedulers"."""
        own = {k: v for k, v in vars(self).items() if k not in ("optimizer", "schedulers")}
        return {**own, "schedulers": [s.state_dict() for s in self.schedulers]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over ``state_dict()``."""
        vars(self).update({k: v for k, v in state_dict.items() if k != "schedulers"})
        for scheduler, state in zip(self.schedulers, state_dict["schedulers"], strict=True):
            scheduler.load_state_dict(state)


class ReduceLROnPlateau:
    """Multiply the rates by ``factor`` when a metric was no better for over ``patience`` epochs.

    ``step(metrics)`` is given the metric. Better means below best·(1 − threshold), or above best·(1
    + threshold) for mode "max"; with threshold_mode "abs" the threshold is added instead. After a
    reduction, ``cooldown`` epochs are not counted. No rate falls below ``min_lr``, nor changes by
    less than ``eps``.
    """

    def __init__(
        self, optimizer: Optimizer, mode: str = "min", factor: float = 0.1, patience: int = 10,
        threshold: float = 1e-4, threshold_mode: str = "rel", cooldown: int = 0,
        min_lr: float | Sequence[float] = 0.0, eps: float = 1e-8,
    ) -> None:  # fmt: skip
        _check_optimizer(self, optimizer)
        if mode not in ("min", "max") or threshold_mode not in ("rel", "abs"):
            raise ValueError(
                'ReduceLROnPlateau: mode is "min" or "max" and threshold_mode "rel" or "abs", '
                f"received {mode!r} and {threshold_mode!r}"
            )
        if factor >= 1:
            raise ValueError(f"ReduceLROnPlateau: expected factor < 1, received {factor}")
        count = len(optimizer.param_groups)
        self.optimizer, self.mode, self.factor, self.patience = optimizer, mode, factor, patience
        self.threshold, self.threshold_mode, self.cooldown = threshold, threshold_mode, cooldown
        self.min_lrs = [min_lr] * count if isinstance(min_lr, int | float) else list(min_lr)
        if len(self.min_lrs) != count:
            raise ValueError(
                f"ReduceLROnPlateau: expected {count} values of min_lr, received {min_lr}"
            )
        self.eps, self.last_epoch = eps, 0
        self.best = math.inf if mode == "min" else -math.inf
        self.cooldown_counter = self.num_bad_epochs = 0

    def step(self, metrics: Any) -> None:
        """Note the metric of an epoch (a number or a one-element tensor)."""
        self.last_epoch += 1
        value = float(metrics)
        if self._is_better(value):
            self.best, self.num_bad_epochs = value, 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0
            for group, least in zip(self.optimizer.param_groups, self.min_lrs, strict=True):
                rate = max(group["lr"] * self.factor, least)
                if group["lr"] - rate > self.eps:
                    group["lr"] = rate

    def _is_better(self, value: float) -> bool:
        sign = -1 if self.mode == "min" else 1
        if self.threshold_mode == "rel":
            return sign * value > sign * self.best * (1 + sign * self.threshold)
        return sign * value > sign * self.best + self.threshold

    def get_last_lr(self) -> list[float]:
        """The current rates, one a group."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Every attribute but the optimiser."""
        return {k: v for k, v in vars(self).items() if k != "optimizer"}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over ``state_dict()``."""
        vars(self).update(state_dict)
