"""The numbers of a training in files: JSON lines of everything, or a table of the epochs."""

from __future__ import annotations

import csv
import io as text_io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ... import io
from .base import Callback

if TYPE_CHECKING:
    from ..loop import Loop


def read_history(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The lines of a ``metrics.jsonl``; a last one that was cut off by a crash is left out."""
    lines = Path(path).read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


class MetricsLog(Callback):
    """JSON lines: the numbers of every ``every``-th step, of every epoch, and what others log.

    A resumed training drops the lines after its checkpoint, which are about to be written again,
    and the line of an epoch that was cut short, which makes way for the whole one.
    """

    def __init__(self, path: str | os.PathLike[str], every: int = 10) -> None:
        self.path, self.every = Path(path), every

    def on_begin(self, loop: Loop) -> None:
        kept = [
            line
            for line in (read_history(self.path) if loop.resumed and self.path.is_file() else [])
            if line["step"] <= loop.step
            and ("epoch" not in line or line["step"] % loop.steps_per_epoch == 0)
        ]
        text = "".join(json.dumps(line) + "\n" for line in kept)
        io.write_atomically(self.path, text.encode())

    def on_step(self, loop: Loop) -> None:
        if loop.step % self.every == 1 % self.every and loop.values:
            self.on_log(loop, {"step": loop.step, **loop.values})

    def on_log(self, loop: Loop, numbers: Mapping[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(numbers) + "\n")


class CSVLog(Callback):
    """A table with a line an epoch, for spreadsheets."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def on_epoch_end(self, loop: Loop) -> None:
        columns = list(dict.fromkeys(key for line in loop.results for key in line))
        text = text_io.StringIO()
        table = csv.DictWriter(text, columns, restval="", lineterminator="\n")
        table.writeheader()
        table.writerows(loop.results)
        io.write_atomically(self.path, text.getvalue().encode())
