"""How long a training will take, said early enough to change one's mind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .base import Callback

if TYPE_CHECKING:
    from ..loop import Loop

UNITS = (("day", 86400), ("h", 3600), ("min", 60), ("s", 1))


def duration(seconds: float) -> str:
    """Two units at most: "45 s", "2 min 5 s", "3 h 20 min", "2 days 4 h"."""
    left = max(round(seconds), 0)
    parts: list[tuple[int, str]] = []
    if left >= 3600:
        left = round(left / 60) * 60
    for name, size in UNITS:
        count, left = divmod(left, size)
        if count or parts:
            parts.append((count, name + "s" if name == "day" and count > 1 else name))
    shown = [f"{count} {name}" for count, name in parts[:2] if count]
    return " ".join(shown) or "0 s"


class TimeEstimate(Callback):
    """After ``steps`` steps, say how long the rest of the training will take at this speed, unless
    that is less than ``least`` seconds. Compiling kernels and validation are not counted."""

    def __init__(self, steps: int = 20, least: float = 60.0) -> None:
        self.steps, self.least = steps, least
        self._begun, self._told = 0, False

    def on_begin(self, loop: Loop) -> None:
        self._told = False

    def on_epoch_begin(self, loop: Loop) -> None:
        self._begun = loop.step

    def on_step(self, loop: Loop) -> None:
        done = loop.step - self._begun
        if self._told or (done < self.steps and loop.step % loop.steps_per_epoch):
            return
        self._told = True
        left = (loop.total_epochs * loop.steps_per_epoch - loop.step) * loop.elapsed() / done
        if left >= self.least:
            speed = f"{loop.elapsed() / done:.3g} s a step"
            loop.say(f"about {duration(left)} to go, at {speed}, validation not counted")
