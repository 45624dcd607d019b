"""Callback: what else happens during a training, one idea a class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from ..config import RequestError

if TYPE_CHECKING:
    from ..loop import Loop


class Callback:
    """Base class: a subclass defines the moments it cares about; each is given the ``Loop``.

    ``loop.parts`` are the models and optimisers by name, ``loop.step`` counts the steps,
    ``loop.values`` are the numbers recorded in this step, ``loop.results`` holds a dict for every
    finished epoch. ``loop.log(**numbers)`` writes to every log, ``loop.say(line)`` to the screen
    and ``loop.stop()`` ends the training after this step. What ``state_dict`` returns is part of
    every checkpoint.

    >>> class Doubling(Callback):
    ...     def on_epoch_end(self, loop):
    ...         for group in loop.parts["optimizer"].param_groups:
    ...             group["lr"] *= 2
    """

    last: ClassVar[bool] = False  # called after the others: it saves what they have noted

    def on_resume(self, loop: Loop) -> None:
        """An interrupted training is to go on: load its state, if this callback keeps it."""

    def on_begin(self, loop: Loop) -> None:
        """Before the first step; ``loop.resumed`` says whether there were steps before."""

    def on_epoch_begin(self, loop: Loop) -> None:
        """Before the first step of an epoch, or the first that is left of it."""

    def on_step(self, loop: Loop) -> None:
        """After every step, the gradients still being there."""

    def on_log(self, loop: Loop, numbers: Mapping[str, Any]) -> None:
        """``numbers``, "step" among them, are to be written down."""

    def on_message(self, loop: Loop, line: str) -> None:
        """A line for the person who watches."""

    def on_epoch_end(self, loop: Loop) -> None:
        """After an epoch; ``loop.results[-1]`` holds its numbers, those of validation included."""

    def on_pause(self, loop: Loop) -> None:
        """The training stops before its end."""

    def on_end(self, loop: Loop) -> None:
        """After the last step, also after an error: release what was opened."""

    def state_dict(self) -> dict[str, Any]:
        """What the rest of an interrupted training needs to know: tensors and plain values."""
        return {}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over what ``state_dict`` returned."""
        vars(self).update(state_dict)


class Monitor(Callback):
    """Base class of callbacks that compare a number of each epoch, such as "val_loss", with its
    best value so far: the lowest for mode "min", the highest for "max".
    """

    def __init__(self, monitor: str, mode: str = "min", min_delta: float = 0.0) -> None:
        name = type(self).__name__
        if mode not in ("min", "max"):
            raise ValueError(f'{name}: expected mode "min" or "max", received {mode!r}')
        if not min_delta >= 0:
            raise ValueError(f"{name}: expected min_delta of at least 0, received {min_delta}")
        self.monitor, self.mode, self.min_delta = monitor, mode, min_delta
        self.best: float | None = None

    def on_begin(self, loop: Loop) -> None:
        if not loop.resumed:
            self.best = None

    def improved(self, loop: Loop) -> bool:
        """Whether the epoch that has ended is the best by more than ``min_delta``; NaN never is."""
        results = loop.results[-1]
        if self.monitor not in results:
            known = ", ".join(k for k, v in results.items() if isinstance(v, float))
            raise RequestError(
                f"{type(self).__name__}: monitor: expected one of {known}, "
                f"received {self.monitor!r}"
            )
        value, sign = results[self.monitor], -1 if self.mode == "min" else 1
        better = value == value and (
            self.best is None or sign * (value - self.best) > self.min_delta
        )
        if better:
            self.best = value
        return bool(better)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}
