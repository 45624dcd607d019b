"""Checkpoints: the whole state of a training, or the best model so far. Each file is written at
once or not at all."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ... import io
from ..config import RequestError
from .base import Callback, Monitor

if TYPE_CHECKING:
    from ..loop import Loop


class Checkpoint(Callback):
    """All that a training needs to go on bit for bit as if it had never stopped.

    It is saved after every epoch, after every ``every`` steps (0: not), and where the training is
    stopped: models, optimisers, metrics, callbacks, the random stream and the loader's position.
    ``settings`` are saved with it, and a resumed training must have the same, except those in
    ``may_change``. ``how`` tells a person who pressed Ctrl-C how to go on.
    """

    last: ClassVar[bool] = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        every: int = 0,
        *,
        settings: Mapping[str, Any] | None = None,
        may_change: Collection[str] = (),
        how: str = "call fit with resume=True to continue",
    ) -> None:
        self.path, self.every, self.how = Path(path), every, how
        self.settings, self.may_change = dict(settings or {}), may_change
        self._saved_at = 0

    def on_begin(self, loop: Loop) -> None:
        if not loop.resumed:
            self.path.unlink(missing_ok=True)  # of an earlier training: not ours to resume

    def on_step(self, loop: Loop) -> None:
        if self.every and loop.step % self.every == 0:
            self.save(loop)

    def on_epoch_end(self, loop: Loop) -> None:
        self.save(loop)

    def on_pause(self, loop: Loop) -> None:
        self.save(loop)
        if loop.interrupted:
            loop.say(f"interrupted after step {loop.step}: saved {self.path}; {self.how}")

    def on_end(self, loop: Loop) -> None:
        if loop.error is KeyboardInterrupt:
            kept = f"{self.path} is of step {self._saved_at}" if self._saved_at else "none"
            loop.say(f"stopped at once at step {loop.step}; last checkpoint: {kept}")

    def save(self, loop: Loop) -> None:
        """Write the checkpoint now."""
        io.save({**loop.state_dict(), "config": self.settings}, self.path)
        self._saved_at = loop.step

    def on_resume(self, loop: Loop) -> None:
        if not self.path.is_file():
            raise RequestError(
                f"nothing to resume: {self.path} does not exist; "
                "start the run without --resume, or name its folder with --out"
                if self.settings
                else f"nothing to resume: {self.path} does not exist"
            )
        state = io.load(self.path)
        if not isinstance(state, dict) or "config" not in state:
            raise RequestError(f"{self.path} is not the checkpoint of a training run")
        self._check_settings(state.pop("config"))
        loop.load_state_dict(state, str(self.path))
        self._saved_at = loop.step

    def _check_settings(self, saved: Mapping[str, Any]) -> None:
        """A resumed run must be the run that was interrupted: also its number of epochs, which the
        learning rate's schedule was planned for."""
        for name, value in self.settings.items():
            if name not in self.may_change and saved.get(name, value) != value:
                option = "--" + name.replace("_", "-")
                why = ", which its learning rates are planned for" if name == "epochs" else ""
                raise RequestError(
                    f"resume: expected {name} = {saved[name]!r} as in {self.path}{why}, "
                    f"received {value!r}; give {option} {saved[name]}, "
                    "or start a new run in another folder with --out"
                )


class KeepBest(Monitor):
    """The weights of the best epoch, in a file that ``tg.load`` reads for ``load_state_dict``.

    ``part`` says which model, by its name in ``loop.parts``.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        monitor: str = "val_loss",
        mode: str = "min",
        part: str = "model",
    ) -> None:
        super().__init__(monitor, mode)
        self.path, self.part = Path(path), part

    def on_epoch_end(self, loop: Loop) -> None:
        if self.improved(loop):
            io.save(loop.parts[self.part].state_dict(), self.path)
