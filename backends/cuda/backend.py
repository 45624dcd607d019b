"""The backend contract on CUDA kernels; CudaSimBackend and CupyBackend add a device."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..composed import Composed
from .device import Array
from .host import Shape, inverse
from .steps import Steps

# Methods that compute nothing: they allocate, copy between host and device, or make views with the
# array module. Everything else launches kernels; tests/test_cuda_backend.py holds the two lists
# together.
BOOKKEEPING = frozenset(
    "asarray from_numpy to_numpy owns empty synchronize set_num_threads get_num_threads "
    "on_compile reshape transpose "
    "broadcast_to flip".split()
)


class CudaBackend(Steps, Composed):
    """All primitives of ``tinygrad_cnn.backend.Backend``; their meaning is stated there."""

    name: str

    def __repr__(self) -> str:
        return f"<backend {self.name}>"

    # -- arrays -----------------------------------------------------------------------------------
    def asarray(self, data: Any, dtype: Any = None) -> Array:
        if self.is_array(data):
            return self.cast(data, data.dtype if dtype is None else dtype)
        return self.device.upload(np.array(data, dtype=dtype))

    def from_numpy(self, array: Any) -> Array:
        return self.device.upload(np.asarray(array))

    def to_numpy(self, a: Array) -> Any:
        return self.device.download(a)

    def owns(self, a: Array) -> bool:
        return a.base is None and bool(a.flags.owndata)

    def empty(self, shape: Shape, dtype: Any) -> Array:
        return self.new(shape, dtype)

    def full(self, shape: Shape, value: float, dtype: Any) -> Array:
        out = self.new(shape, dtype)
        self._fill(out, value)
        return out

    def arange(self, start: float, stop: float, step: float, dtype: Any) -> Array:
        """start + step·i for 0 ≤ i < ceil((stop − start) / step), in int64 or float64, then
        rounded.
        """
        whole = all(isinstance(v, int) for v in (start, stop, step))
        count = (
            max(math.ceil((stop - start) / step), 0)
            if not whole
            else max(-((start - stop) // step), 0)
        )
        kind = np.dtype(np.int64 if whole else np.float64)
        ones = self.new((int(count),), kind)
        self._fill(ones, 1)
        places = self._binary("subtract", self.cumsum(ones, 0), 1)
        return self.cast(self._binary("add", self._binary("multiply", places, step), start), dtype)

    def astype(self, a: Array, dtype: Any) -> Array:
        return self.cast(a, dtype)

    def copy(self, a: Array) -> Array:
        """With the memory order of ``a``: dimensions keep their order of strides."""
        order = sorted(range(a.ndim), key=lambda d: -abs(a.strides[d]))
        if order == list(range(a.ndim)):
            return self.cast(a, a.dtype)
        return self.cast(a.transpose(order), a.dtype).transpose(inverse(order))

    def synchronize(self) -> None:
        self.device.synchronize()

    def set_num_threads(self, n: int) -> None:
        """The device decides for itself."""

    def get_num_threads(self) -> int:
        return 1

    def on_compile(self, listener: Callable[[str, float | None], None]) -> Callable[[], None]:
        return self.device.on_compile(listener)

    # -- shape: views -----------------------------------------------------------------------------
    def reshape(self, a: Array, shape: Shape) -> Array:
        """A view where the layout allows it, else a copy made by a kernel."""
        view = a.view()
        try:
            view.shape = shape
            return view
        except AttributeError:
            return self.dense(a).reshape(shape)

    def transpose(self, a: Array, axes: Shape) -> Array:
        return a.transpose(axes)

    def broadcast_to(self, a: Array, shape: Shape) -> Array:
        return self.xp.broadcast_to(a, shape)

    def flip(self, a: Array, axes: Shape) -> Array:
        return self.xp.flip(a, axes)
