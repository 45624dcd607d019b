"""Primitives that every backend can compose of its others, and some replace by a kernel of their
own.

``self`` is any ``Backend``: nothing here knows an array module. The protocol states the meaning of
every method.
"""

from __future__ import annotations

from collections.abc import Sequence

from tinygrad_cnn.backend import Array, Backend
from tinygrad_cnn.geometry import LinearMap

from . import activations


class Composed:
    """To inherit from: the compositions."""

    def activation(self: Backend, name: str, x: Array, *settings: float) -> Array:
        y: Array = activations.VALUES[name](self, x, *settings)
        return y

    def activation_grad(self: Backend, name: str, g: Array, x: Array, *settings: float) -> Array:
        gx: Array = activations.GRADIENTS[name](self, g, x, *settings)
        return gx

    def resample(self: Backend, x: Array, maps: Sequence[LinearMap | None]) -> Array:
        """One axis after the other, one column of the map's table at a time: y = Σ_k w_k·x[i_k].

        Rows shorter than the table point at one more cell, which is 0.
        """
        for axis, table in enumerate(maps, x.ndim - len(maps)):
            if table is None:
                continue
            n = x.shape[axis]
            if not table.longest:  # nothing is read
                x = self.full((*x.shape[:axis], len(table.rows), *x.shape[axis + 1 :]), 0, x.dtype)
                continue
            if table.ragged:
                frame = tuple((0, int(d == axis)) for d in range(x.ndim))
                x = self.pad(x, frame)
            total = None
            for cells, weights in table.columns(n):
                index = (*(slice(None),) * axis, self.asarray(cells, "int64"))
                shape = (len(cells), *(1,) * (x.ndim - axis - 1))
                weight = self.reshape(self.asarray(weights, x.dtype), shape)
                part = self.multiply(self.getitem(x, index), weight)
                total = part if total is None else self.add(total, part)
            x = total
        return x
