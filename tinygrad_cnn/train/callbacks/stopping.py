"""Reasons to stop before the last epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .base import Callback, Monitor

if TYPE_CHECKING:
    from ..loop import Loop


class StopAfter(Callback):
    """Pause after so many steps; 0 never does. A resumed training may go on."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_begin(self, loop: Loop) -> None:
        self.on_step(loop)

    def on_step(self, loop: Loop) -> None:
        if 0 < self.steps <= loop.step:
            loop.stop()


class EarlyStopping(Monitor):
    """Stop when ``monitor`` was no better than its best for ``patience`` epochs in a row.

    Better means by more than ``min_delta``. At the end of the training, early or not,
    ``restore_best`` gives the model (``part`` of ``loop.parts``) the weights of its best epoch.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        patience: int = 3,
        mode: str = "min",
        min_delta: float = 0.0,
        restore_best: bool = True,
        part: str = "model",
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        if patience < 1:
            raise ValueError(f"EarlyStopping: expected patience of at least 1, received {patience}")
        self.patience, self.restore_best, self.part = patience, restore_best, part
        self.waited, self.best_epoch = 0, 0
        self.weights: dict[str, Any] = {}

    def on_begin(self, loop: Loop) -> None:
        super().on_begin(loop)
        if not loop.resumed:
            self.waited, self.best_epoch, self.weights = 0, 0, {}
        elif self.waited >= self.patience:  # it had stopped before it was resumed
            loop.stop()

    def on_epoch_end(self, loop: Loop) -> None:
        model = loop.parts[self.part]
        if self.improved(loop):
            self.waited, self.best_epoch = 0, loop.epoch
            if self.restore_best:
                self.weights = {k: v.clone() for k, v in model.state_dict().items()}
        else:
            self.waited += 1
        if self.waited == self.patience:
            loop.stop()
            loop.say(
                f"stopped early: no better {self.monitor} than {self.best} of epoch "
                f"{self.best_epoch} in {self.patience} epochs"
            )
        if self.weights and (self.waited == self.patience or loop.epoch == loop.total_epochs):
            model.load_state_dict(self.weights)

    def state_dict(self) -> dict[str, Any]:
        return {
            **super().state_dict(), "waited": self.waited, "best_epoch": self.best_epoch,
            "weights": self.weights,
        }  # fmt: skip
