"""Indexing: views for slices and integers, kernels for integer and boolean arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tinygrad_cnn.geometry import Pairs

from .device import Array
from .host import Shape, c_type, inverse, rows_and_columns
from .reductions import Reductions


class IndexPlan(NamedTuple):
    """An index split into a view and integer arrays on some of the view's dimensions."""

    basic: tuple[Any, ...]  # applied first; arrays are replaced by full slices
    arrays: tuple[Array, ...]
    axes: Shape  # of the view, one an array
    front: (
        bool  # where the arrays' dimensions go in the result: first, or where the first array stood
    )


class Indexing(Reductions):
    """``getitem`` and its relatives."""

    # -- in place and joining ---------------------------------------------------------------------
    def assign(self, a: Array, value: Any) -> None:
        if not self.is_array(value):
            value = self.device.upload(np.asarray(value, a.dtype))
        elif self.xp.may_share_memory(a, value):
            value = self.cast(value, value.dtype)
        self.copy_into(a, value)

    def pad(self, a: Array, padding: Pairs) -> Array:
        out = self._zeros(
            [lo + n + hi for n, (lo, hi) in zip(a.shape, padding, strict=True)], a.dtype
        )
        inner = out[tuple(slice(lo, lo + n) for n, (lo, _) in zip(a.shape, padding, strict=True))]
        self.copy_into(inner, a)
        return out

    def concatenate(self, arrays: Sequence[Array], axis: int) -> Array:
        axis %= arrays[0].ndim
        dtype = np.result_type(*(a.dtype for a in arrays))
        shape = list(arrays[0].shape)
        shape[axis] = sum(a.shape[axis] for a in arrays)
        out, at = self.new(shape, dtype), 0
        for a in arrays:
            self.copy_into(out[(slice(None),) * axis + (slice(at, at + a.shape[axis]),)], a)
            at += a.shape[axis]
        return out

    def _zeros(self, shape: Sequence[int], dtype: Any) -> Array:
        out = self.new(shape, dtype)
        self._fill(out, 0)
        return out

    def _fill(self, out: Array, value: Any) -> None:
        """out[...] = value by a kernel without operands."""
        if out.dtype == np.float16:
            bits = np.asarray(value, np.float16).view(np.uint16)[()]
            self._fill(out.view(np.uint16), bits)
        elif out.size:
            number = np.asarray(value).astype(out.dtype)[()]
            self._run_map("copy", out.dtype, out.dtype, number, None, out)

    # -- getitem ----------------------------------------------------------------------------------
    def getitem(self, a: Array, index: Any) -> Array:
        plan = self._plan(a, index)
        view = a[(*plan.basic, ...)]
        if not plan.arrays:
            return view
        table, position, picked, back = self._flatten(view, plan)
        bits = self._bits(table)
        out = self.new((*position.shape, bits.shape[1]), bits.dtype)
        kernel = self.kernel("gather_rows", ["index.cu"], T=c_type(bits.dtype))
        self.each(kernel, out.size, bits, position, out, position.size, bits.shape[1])
        return (out.view(a.dtype) if out.dtype != a.dtype else out).reshape(picked).transpose(back)

    def index_add(self, shape: Shape, index: Any, values: Array) -> Array:
        out = self._zeros(shape, values.dtype)
        plan = self._plan(out, index)
        view = out[(*plan.basic, ...)]
        if not plan.arrays:
            self.copy_into(view, values)
        elif values.dtype == np.float16:
            return self.cast(
                self.index_add(shape, index, self.cast(values, np.float32)), np.float16
            )
        else:
            self._scatter(view, plan, values, add=True)
        return out

    def assign_at(self, a: Array, index: Any, value: Any) -> None:
        plan = self._plan(a, index)
        view = a[(*plan.basic, ...)]
        if not plan.arrays:
            self.assign(view, value)
        else:
            value = (
                value if self.is_array(value) else self.device.upload(np.asarray(value, a.dtype))
            )
            if a.dtype == np.float16:
                view, value = view.view(np.uint16), self.dense(value, np.float16).view(np.uint16)
            self._scatter(view, plan, value, add=False)

    def _scatter(self, view: Array, plan: IndexPlan, values: Array, add: bool) -> None:
        """view[arrays] += values, or = values: on a dense copy with the indexed axes first, put
        back.
        """
        table, position, picked, back = self._flatten(view, plan)
        result_shape = tuple(picked[d] for d in back)
        spread = self.xp.broadcast_to(values, result_shape).transpose(inverse(back))
        spread = self.dense(spread, view.dtype)
        if table is view or self.xp.may_share_memory(table, view):
            table = self.cast(table, table.dtype)
        order = self.argsort(position, 0)
        kernel = self.kernel("scatter_rows", ["index.cu"], T=c_type(view.dtype))
        self.each(
            kernel,
            spread.size,
            spread,
            position,
            order,
            table,
            position.size,
            table.shape[1],
            int(add),
        )
        moved = tuple(view.shape[d] for d in self._front(view, plan))
        self.copy_into(view, table.reshape(moved).transpose(inverse(self._front(view, plan))))

    def _front(self, view: Array, plan: IndexPlan) -> Shape:
        """The view's dimensions with the indexed ones first."""
        return (*plan.axes, *(d for d in range(view.ndim) if d not in plan.axes))

    def _bits(self, a: Array) -> Array:
        return a.view(np.uint16) if a.dtype == np.float16 else a

    def _flatten(self, view: Array, plan: IndexPlan) -> tuple[Array, Array, Shape, Shape]:
        """(table (L, M), row number of each picked entry, shape of the picked entries with the
        arrays' dimensions first, transposition to the result's order)."""
        order = self._front(view, plan)
        indexed = [view.shape[d] for d in plan.axes]
        rest = [view.shape[d] for d in order[len(plan.axes) :]]
        table = self.dense(view.transpose(order)).reshape(math.prod(indexed), math.prod(rest))
        common = np.broadcast_shapes(*(i.shape for i in plan.arrays))
        position = self._zeros((math.prod(common),), np.int64)
        bad = self._zeros((1,), np.int32)
        for axis, index, size in zip(plan.axes, plan.arrays, indexed, strict=True):
            flat = self.dense(self.xp.broadcast_to(index, common), np.int64)
            if not size and flat.size:
                raise IndexError(f"index into axis {axis} of size 0 (shape {view.shape})")
            self.each(
                self.kernel("linear_index", ["index.cu"], T="float"),
                flat.size,
                flat,
                size,
                position,
                bad,
                flat.size,
            )
        if (
            self.device.name == "cudasim" and self.device.download(bad)[0]
        ):  # elsewhere it would cost a wait
            raise IndexError(f"an index is out of range for axes {plan.axes} of shape {view.shape}")
        lead = (
            0
            if plan.front
            else sum(d < min(plan.axes) for d in range(view.ndim) if d not in plan.axes)
        )
        k = len(common)
        back = (*range(k, k + lead), *range(k), *range(k + lead, k + len(rest)))
        return table, position, (*common, *rest), back

    def _plan(self, a: Array, index: Any) -> IndexPlan:
        """NumPy's indexing rules. Boolean arrays become positions, which waits for the device."""
        parts = list(index) if isinstance(index, tuple) else [index]
        parts = [
            self.device.upload(np.asarray(p))
            if isinstance(p, list | np.ndarray) and not self.is_array(p)
            else p
            for p in parts
        ]
        expanded: list[Any] = []
        for p in parts:
            expanded += self._nonzero(p) if self.is_array(p) and p.dtype == np.bool_ else [p]
        used = sum(p is not None and p is not Ellipsis for p in expanded)
        at = next((i for i, p in enumerate(expanded) if p is Ellipsis), len(expanded))
        expanded[at : at + 1] = [slice(None)] * (a.ndim - used)
        picking = any(self.is_array(p) for p in expanded)
        basic, arrays, axes, places, axis = [], [], [], [], 0
        for place, p in enumerate(expanded):
            integer = isinstance(p, int | np.integer)
            if self.is_array(p) or (integer and picking):
                arrays.append(self.device.upload(np.asarray(p, np.int64)) if integer else p)
                axes.append(axis)
                places.append(place)
                p = slice(None)
            basic.append(p)
            axis += not isinstance(p, int | np.integer)
        apart = places != list(range(places[0], places[0] + len(places))) if places else False
        return IndexPlan(tuple(basic), tuple(arrays), tuple(axes), apart)

    def _nonzero(self, mask: Array) -> list[Array]:
        """The positions of true elements, one int64 array a dimension."""
        flat = self.dense(mask).reshape(-1)
        rank = self.cumsum(flat, 0)
        count = int(self.device.download(rank[-1:])[0]) if flat.size else 0
        found = self.new((count,), np.int64)
        self.each(
            self.kernel("compact", ["index.cu"], T="float"), flat.size, flat, rank, found, flat.size
        )
        axes: list[Array] = []
        for size in reversed(mask.shape):
            axes.insert(0, self._binary("remainder", found, size))
            found = self._binary("floor_divide", found, size)
        return axes

    # -- along an axis ----------------------------------------------------------------------------
    def take_along_axis(self, a: Array, indices: Array, axis: int) -> Array:
        bits = self.dense(self._bits(self._as_wide_as(a, indices, axis)))
        _, J, B = rows_and_columns(indices.shape, axis)
        y = self.new(indices.shape, bits.dtype)
        kernel = self.kernel("take_along", ["index.cu"], T=c_type(bits.dtype))
        self.each(
            kernel, y.size, bits, self.dense(indices, np.int64), y, y.size, J, a.shape[axis], B
        )
        return y.view(a.dtype) if y.dtype != a.dtype else y

    def add_along_axis(self, shape: Shape, indices: Array, values: Array, axis: int) -> Array:
        if values.dtype == np.float16:
            wide = self.cast(values, np.float32)
            return self.cast(self.add_along_axis(shape, indices, wide, axis), np.float16)
        out = self._zeros(shape, values.dtype)
        view = self._as_wide_as(out, indices, axis)
        total = view if view.flags.c_contiguous else self._zeros(view.shape, values.dtype)
        A, J, B = rows_and_columns(indices.shape, axis)
        kernel = self.kernel("add_along", ["index.cu"], T=c_type(values.dtype))
        self.each(
            kernel,
            A * B,
            self.dense(values),
            self.dense(indices, np.int64),
            total,
            A * B,
            J,
            shape[axis],
            B,
        )
        if total is not view:
            self.copy_into(view, total)
        return out

    def _as_wide_as(self, a: Array, indices: Array, axis: int) -> Array:
        """The part of ``a`` that ``indices`` counts through on the other axes."""
        return a[tuple(slice(None) if d == axis else slice(n) for d, n in enumerate(indices.shape))]
