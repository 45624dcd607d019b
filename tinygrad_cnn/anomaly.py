"""Finding the first NaN or infinity: which operation, in which layer, on which line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ContextDecorator
from typing import Any

from .tensor import Around, Op, Tensor, mode, user_line


class Anomaly(Around):
    """What ``detect_anomaly`` remembers: the layers being run, and the first bad forward value."""

    def __init__(self) -> None:
        self.layers: list[str] = []
        self.first: str | None = None

    def after(self, op: Op, inputs: Sequence[Any], result: Tensor) -> None:
        """Note where ``op`` was called, and whether it is the first to make a NaN or infinity."""
        place = f"{op.name}{self.path()} at {user_line()}"
        if result.grad_fn is op:
            op.source = place
        if self.first is None and _bad(result) and not any(_bad(t) for t in inputs):
            self.first = f"{_bad(result)} first appeared in the forward pass in {place}"

    def backward(self, op: Op, parts: Sequence[Tensor | None]) -> None:
        """Raise RuntimeError when a gradient of ``op`` is not finite."""
        for i, part in enumerate(parts):
            if part is not None and op.needs[i] and (what := _bad(part)):
                cause = f"; {self.first}" if self.first else ""
                raise RuntimeError(
                    f"the backward of {op.source or op.name} gave {what} in the gradient "
                    f"of its input {i}{cause}"
                )

    def path(self) -> str:
        return f" in layer {'.'.join(filter(None, self.layers))!r}" if any(self.layers) else ""


class detect_anomaly(ContextDecorator):  # noqa: N801  (PyTorch's name)
    """``with detect_anomaly():`` backward raises RuntimeError at the first NaN or infinity.

    The message names the operation, the path of its layer, the source line that called it, and the
    forward line where the first bad value appeared. Both the forward and the backward pass must run
    inside; costs time.
    """

    def __enter__(self) -> Anomaly:
        self.before = mode.anomaly, mode.around
        mode.anomaly = mode.around = found = Anomaly()
        return found

    def __exit__(self, *_: object) -> None:
        mode.anomaly, mode.around = self.before


def _bad(t: Any) -> str:
    """ "NaN", "infinity" or "" for a tensor or a scalar."""
    if not isinstance(t, Tensor):
        return (
            ""
            if not isinstance(t, float) or math.isfinite(t)
            else "NaN"
            if math.isnan(t)
            else "infinity"
        )
    if t.dtype.kind != "f" or not t.array.size:
        return ""
    kernels, axes = t.backend, tuple(range(t.ndim))
    if bool(kernels.all(kernels.isfinite(t.array), axes, False)):
        return ""
    return "NaN" if bool(kernels.any(kernels.isnan(t.array), axes, False)) else "infinity"
