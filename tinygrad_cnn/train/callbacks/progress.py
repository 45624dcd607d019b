"""What a person sees while a model trains: a live bar on a terminal, a line an epoch elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from .base import Callback

if TYPE_CHECKING:
    from ..loop import Loop

PERIOD = 0.1  # seconds between two looks of the bar


class Progress(Callback):
    """A bar with the newest numbers and images per second; messages stay above it."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self.console = Console(highlight=False, soft_wrap=True)
        self.bar = Bar(
            TextColumn("{task.description}"), BarColumn(bar_width=None), MofNCompleteColumn(),
            TextColumn("{task.fields[facts]}"), TimeRemainingColumn(compact=True),
            console=self.console, transient=True, disable=not self.console.is_terminal,
        )  # fmt: skip
        self.task: Any = None
        self._drawn = 0.0

    def on_begin(self, loop: Loop) -> None:
        self.bar.start()

    def on_epoch_begin(self, loop: Loop) -> None:
        if self.task is not None:
            self.bar.remove_task(self.task)
        self.task = self.bar.add_task(
            f"epoch {loop.epoch + 1}/{loop.total_epochs}",
            total=loop.steps_per_epoch,
            completed=loop.step % loop.steps_per_epoch,
            facts="",
        )

    def on_step(self, loop: Loop) -> None:
        now = time.perf_counter()
        if self.bar.disable or now - self._drawn < PERIOD:
            return
        self._drawn = now
        done = (loop.step - 1) % loop.steps_per_epoch + 1
        facts = [f"{k.replace('_', ' ')} {v:.4f}" for k, v in loop.facts().items()]
        self.bar.update(
            self.task, completed=done, facts="  ".join([*facts, f"{loop.rate():,.0f} images/s"])
        )

    def on_message(self, loop: Loop, line: str) -> None:
        self.say(line)

    def on_end(self, loop: Loop) -> None:
        self.bar.stop()

    def say(self, line: str) -> None:
        """A line that stays, above the bar."""
        self.console.print(line, markup=False)
