"""Reductions, positions of extremes, running sums and sorting."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .device import Array
from .elementwise import Elementwise
from .host import Shape, c_highest, c_lowest, c_type, rows_and_columns

ROW_PIECE, COLUMN_PIECE = (
    8192,
    1024,
)  # elements that one warp or thread merges; fixed, see reduce.cu
MERGES = {
    "sum": "p + q", "prod": "p * q", "any": "p || q", "all": "p && q",
    "max": "q > p || q != q ? q : p", "min": "q < p || q != q ? q : p",
}  # fmt: skip


class Reductions(Elementwise):
    """Reductions over a tuple of axes."""

    def sum(self, a: Array, axes: Shape, keepdims: bool) -> Array:
        return self._reduce("sum", a, axes, keepdims, self._accumulator(a))

    def prod(self, a: Array, axes: Shape, keepdims: bool) -> Array:
        return self._reduce("prod", a, axes, keepdims, self._accumulator(a))

    def max(self, a: Array, axes: Shape, keepdims: bool) -> Array:
        return self._reduce("max", a, axes, keepdims, a.dtype)

    def min(self, a: Array, axes: Shape, keepdims: bool) -> Array:
        return self._reduce("min", a, axes, keepdims, a.dtype)

    def any(self, a: Array, axes: Shape, keepdims: bool) -> Array:
        return self._reduce("any", a, axes, keepdims, np.dtype(bool))

    def all(self, a: Array, axes: Shape, keepdims: bool) -> Array:
        return self._reduce("all", a, axes, keepdims, np.dtype(bool))

    def _accumulator(self, a: Array) -> np.dtype[Any]:
        return np.dtype(np.int64) if a.dtype.kind in "biu" else a.dtype

    def _reduce(
        self, name: str, a: Array, axes: Shape, keepdims: bool, dtype: np.dtype[Any]
    ) -> Array:
        if a.dtype == np.float16:
            wide = np.dtype(np.float32) if dtype == np.float16 else dtype
            result = self._reduce(name, self.cast(a, np.float32), axes, keepdims, wide)
            return self.cast(result, dtype) if dtype == np.float16 else result
        axes = tuple(sorted(axis % a.ndim for axis in axes)) if a.ndim else ()
        kept = tuple(1 if d in axes else n for d, n in enumerate(a.shape))
        shape = kept if keepdims else tuple(n for d, n in enumerate(a.shape) if d not in axes)
        return self._merge(name, *self._three_axes(a, axes), dtype).reshape(shape)

    def _three_axes(self, a: Array, axes: Shape) -> tuple[Array, int, int, int]:
        """``a`` dense with the reduced axes brought together, and (A, R, B): they are the R."""
        first = axes[0] if axes else a.ndim
        if axes != tuple(range(first, first + len(axes))):  # scattered: move them to the end
            rest = tuple(d for d in range(a.ndim) if d not in axes)
            a, first = a.transpose((*rest, *axes)), len(rest)
        sizes = a.shape[:first], a.shape[first : first + len(axes)], a.shape[first + len(axes) :]
        return self.dense(a), *(math.prod(s) for s in sizes)

    def _merge(self, name: str, x: Array, A: int, R: int, B: int, dtype: np.dtype[Any]) -> Array:
        """y (A·B) of x (A, R, B), in as many passes as fixed pieces need."""
        start = {"sum": "0", "prod": "1", "any": "false", "all": "true"}.get(name)
        start = start or (c_lowest(dtype) if name == "max" else c_highest(dtype))
        piece = ROW_PIECE if B == 1 else COLUMN_PIECE
        while True:
            kernel = self.kernel(
                "reduce_rows" if B == 1 else "reduce_columns",
                ["reduce.cu"],
                T=c_type(x.dtype),
                ACC=c_type(dtype),
                MERGE=MERGES[name],
                START=start,
            )
            chunks = max(1, -(-R // piece))
            y = self.new((A * chunks * B,), dtype)
            if B == 1:
                self.warps(kernel, A * chunks, x, y, A, R, chunks, piece)
            else:
                self.each(kernel, A * chunks * B, x, y, A * B, R, B, chunks, piece)
            if chunks == 1:
                return y
            x, R = y, chunks

    # -- positions --------------------------------------------------------------------------------
    def argmax(self, a: Array, axis: int) -> Array:
        return self._arg(a, axis, "p > q")

    def argmin(self, a: Array, axis: int) -> Array:
        return self._arg(a, axis, "p < q")

    def _arg(self, a: Array, axis: int, better: str) -> Array:
        a = self._sortable(a)
        A, R, B = rows_and_columns(a.shape, axis)
        y = self.new((*a.shape[:axis], *a.shape[axis + 1 :]), np.int64)
        kernel = self.kernel(
            "arg_rows" if B == 1 else "arg_columns", ["arg.cu"], T=c_type(a.dtype), BETTER=better
        )
        if B == 1:
            self.warps(kernel, A, a, y, A, R)
        else:
            self.each(kernel, A * B, a, y, A * B, R, B)
        return y

    def _sortable(self, a: Array) -> Array:
        """Dense, of a type whose values compare: float16 as float32, bool as uint8."""
        narrow = {np.dtype(np.float16): np.float32, np.dtype(bool): np.uint8}
        return self.dense(a, narrow.get(a.dtype, a.dtype))

    def argsort(self, a: Array, axis: int) -> Array:
        a = self._sortable(self.xp.moveaxis(a, axis, -1))
        rows, R = math.prod(a.shape[:-1]), a.shape[-1]
        names: dict[str, Any] = {"T": c_type(a.dtype)}
        there, back = self.new(a.shape, np.int64), self.new(a.shape, np.int64)
        self.each(self.kernel("sort_start", ["sort.cu"], **names), a.size, there, a.size, max(R, 1))
        width = 1
        while width < R and rows:
            self.each(
                self.kernel("sort_merge", ["sort.cu"], **names),
                a.size,
                a,
                there,
                back,
                a.size,
                R,
                width,
            )
            there, back, width = back, there, 2 * width
        return self.xp.moveaxis(there, -1, axis)

    def cumsum(self, a: Array, axis: int) -> Array:
        if a.dtype == np.float16:
            return self.cast(self.cumsum(self.cast(a, np.float32), axis), np.float16)
        a = self.dense(a)
        A, R, B = rows_and_columns(a.shape, axis)
        y = self.new(a.shape, self._accumulator(a))
        names: dict[str, Any] = {"T": c_type(a.dtype), "ACC": c_type(y.dtype)}
        if not a.size:
            return y
        if B == 1:
            self.warps(self.kernel("scan_rows", ["scan.cu"], **names), A, a, y, A, R)
        else:
            self.each(self.kernel("scan_columns", ["scan.cu"], **names), A * B, a, y, A * B, R, B)
        return y
