"""Curves for TensorBoard."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .base import Callback

if TYPE_CHECKING:
    from ..loop import Loop


class TensorBoard(Callback):
    """Everything that is logged, as scalars in ``folder``, for ``tensorboard --logdir FOLDER``.

    The numbers of every ``every``-th step are among them. A resumed training hides what was written
    after its checkpoint. Needs the package tensorboardX: raises ImportError saying so.
    """

    def __init__(self, folder: str | os.PathLike[str], every: int = 10) -> None:
        try:
            import tensorboardX
        except ImportError as error:
            raise ImportError(
                "TensorBoard: expected the package tensorboardX, which is not installed: "
                "pip install 'tinygrad-cnn[tensorboard]'"
            ) from error
        self.folder, self.every = os.fspath(folder), every
        self._writer_class: Any = tensorboardX.SummaryWriter
        self._writer: Any = None

    def on_begin(self, loop: Loop) -> None:
        self._writer = self._writer_class(
            self.folder,
            purge_step=loop.step + 1 if loop.resumed else None,
            filename_suffix=f".{loop.step:09d}",  # else two within a second have the same name
        )

    def on_step(self, loop: Loop) -> None:
        if loop.step % self.every == 1 % self.every:
            self.on_log(loop, loop.values)

    def on_log(self, loop: Loop, numbers: Mapping[str, Any]) -> None:
        for name, value in numbers.items():
            if name not in ("step", "epoch"):
                self._writer.add_scalar(name, value, loop.step)

    def on_epoch_end(self, loop: Loop) -> None:
        self._writer.flush()

    def on_end(self, loop: Loop) -> None:
        self._writer.close()
