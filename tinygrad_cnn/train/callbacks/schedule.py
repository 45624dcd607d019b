"""A learning-rate schedule that steps by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ...optim.lr_scheduler import ReduceLROnPlateau
from ..config import RequestError
from .base import Callback

if TYPE_CHECKING:
    from ..loop import Loop


class Schedule(Callback):
    """Call ``scheduler.step()`` after every "epoch" or "batch".

    ReduceLROnPlateau is given the epoch's number called ``monitor``.
    """

    def __init__(self, scheduler: Any, every: str = "epoch", monitor: str = "val_loss") -> None:
        if every not in ("epoch", "batch"):
            raise ValueError(f'Schedule: expected every="epoch" or "batch", received {every!r}')
        if not hasattr(scheduler, "step"):
            raise TypeError(
                f"Schedule: expected a scheduler with step(), received {type(scheduler).__name__}"
            )
        self.scheduler, self.every, self.monitor = scheduler, every, monitor
        self.plateau = isinstance(scheduler, ReduceLROnPlateau)
        if self.plateau and every == "batch":
            raise ValueError('Schedule: ReduceLROnPlateau needs every="epoch", received "batch"')

    def on_step(self, loop: Loop) -> None:
        if self.every == "batch":
            self.scheduler.step()

    def on_epoch_end(self, loop: Loop) -> None:
        if self.every == "batch":
            return
        if not self.plateau:
            self.scheduler.step()
            return
        results = loop.results[-1]
        if self.monitor not in results:
            known = ", ".join(k for k, v in results.items() if isinstance(v, float))
            raise RequestError(
                f"Schedule: monitor: expected one of {known}, received {self.monitor!r}"
            )
        self.scheduler.step(results[self.monitor])

    def state_dict(self) -> dict[str, Any]:
        return {"scheduler": self.scheduler.state_dict()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        self.scheduler.load_state_dict(state_dict["scheduler"])
