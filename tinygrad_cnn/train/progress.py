"""What a person sees while a model trains: a live bar on a terminal, a line an epoch elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..backend import get_backend


class Progress:
    """A bar with loss, accuracy and images per second; says so while kernels are being compiled.

    ``compiling`` is the time, in seconds, that compiling has taken so far.
    """

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
        self.compiling = 0.0
        self._stop_listening: Callable[[], None] = lambda: None
        self._told = False

    def __enter__(self) -> Progress:
        self._stop_listening = get_backend().on_compile(self._compiled)
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_listening()
        self.bar.stop()

    def _compiled(self, kernel: str, seconds: float | None) -> None:
        self.compiling += seconds or 0.0
        if not self._told:
            self._told = True
            self.say("compiling kernels for this processor (first run only; they are kept) …")

    def begin(self, description: str, total: int, done: int) -> None:
        """Show a fresh bar."""
        if self.task is not None:
            self.bar.remove_task(self.task)
        self.task = self.bar.add_task(description, total=total, completed=done, facts="")

    def advance(self, facts: str) -> None:
        """One more step, with what is known now."""
        self.bar.update(self.task, advance=1, facts=facts)

    def say(self, line: str) -> None:
        """A line that stays, above the bar."""
        self.console.print(line, markup=False)
