"""Taking cells along one axis by their numbers, and the adjoint, which adds them up: embeddings,
index_select, gather, the gradient of a maximum.

An array is seen as outer × n × inner. ``take`` and ``add`` have one number for each place along the
axis, the same for all outer and inner places; the functions "along" have a number for each element.
A chunk of an adjoint owns the cells that it writes and goes over the numbers in their order, so
sums do not depend on the number of threads.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygrad_cnn.geometry import Shape

from .access import get32, geti64, put32, read32, write32
from .layout import add_floats, copy_floats, zero_floats
from .memory import empty
from .runtime import address, kernel

f4 = np.float32
LARGE = 4096  # elements of the result: below it NumPy has finished before
CHUNK = 8192  # elements
RANGES = 16  # into which the cells of an adjoint are cut
BLOCK = 256  # inner places of a chunk


@kernel
def take_cells(chunk, worker, a, numbers, out, count, n, inner, rows, step):
    """out[o, j] = a[o, numbers[j]]; rows = outer·count, ``step`` of them a chunk."""
    for row in range(chunk * step, min(rows, (chunk + 1) * step)):
        o, j = row // count, row % count
        source = a + 4 * inner * (o * n + geti64(numbers, j))
        if inner == 1:
            put32(out, row, get32(source, 0))
        else:
            copy_floats(out + 4 * inner * row, source, inner)


@kernel
def add_cells(chunk, worker, values, numbers, out, count, n, inner, ranges):
    """out[o, numbers[j]] += values[o, j], from 0; a range of the cells of one o is a chunk."""
    o, at = chunk // ranges, chunk % ranges
    first, last = n * at // ranges, n * (at + 1) // ranges
    target, source = out + 4 * inner * o * n, values + 4 * inner * o * count
    zero_floats(target + 4 * inner * first, inner * (last - first))
    for j in range(count):
        cell = geti64(numbers, j)
        if first <= cell < last:
            if inner == 1:
                write32(target, cell, read32(target, cell) + get32(source, j))
            else:
                add_floats(target + 4 * inner * cell, source + 4 * inner * j, inner)


@kernel
def take_along(chunk, worker, a, numbers, out, count, n, inner, blocks):
    """out[o, j, i] = a[o, numbers[o, j, i], i]; a block of inner places of one o is a chunk."""
    o, first = chunk // blocks, chunk % blocks * BLOCK
    last, source = min(inner, first + BLOCK), a + 4 * inner * o * n
    for j in range(count):
        row = (o * count + j) * inner
        for i in range(first, last):
            put32(out, row + i, get32(source, geti64(numbers, row + i) * inner + i))


@kernel
def add_along(chunk, worker, values, numbers, out, count, n, inner, blocks):
    """out[o, numbers[o, j, i], i] += values[o, j, i], from 0; chunks as above."""
    o, first = chunk // blocks, chunk % blocks * BLOCK
    last, target = min(inner, first + BLOCK), out + 4 * inner * o * n
    for cell in range(n):
        zero_floats(target + 4 * (cell * inner + first), last - first)
    for j in range(count):
        row = (o * count + j) * inner
        for i in range(first, last):
            place = geti64(numbers, row + i) * inner + i
            write32(target, place, read32(target, place) + get32(values, row + i))


def only_numbers(index: Any) -> tuple[int, Any]:
    """(axis, numbers) of an index of one array of integers, else full slices; (−1, None) of any
    other."""
    axis, numbers = -1, None
    for at, part in enumerate(index if type(index) is tuple else (index,)):
        if type(part) is np.ndarray and part.dtype.kind == "i" and part.size and numbers is None:
            axis, numbers = at, part
        elif type(part) is not slice or part != slice(None):
            return -1, None
    return axis, numbers


def _numbers(numbers: Any, n: int) -> Any:
    """int64 and contiguous, counted from 0; None when one of them is no cell."""
    low, high = numbers.min(), numbers.max()
    if low < -n or high >= n:
        return None
    made = np.ascontiguousarray(numbers, np.int64)
    return np.where(made < 0, made + n, made) if low < 0 else made


def _seen(shape: Shape, axis: int) -> tuple[int, int, int]:
    return math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])


def take(a: Any, numbers: Any, axis: int) -> Any:
    """a[:, …, numbers]; None when NumPy should do it."""
    outer, n, inner = _seen(a.shape, axis)
    size = outer * numbers.size * inner
    if a.dtype != f4 or size < LARGE or not a.flags.c_contiguous:
        return None
    places = _numbers(numbers, n)
    if places is None:
        return None
    out = empty((*a.shape[:axis], *numbers.shape, *a.shape[axis + 1 :]), f4)
    rows, step = outer * numbers.size, max(1, CHUNK // inner)
    take_cells(-(-rows // step), address(a), address(places), address(out), numbers.size, n, inner,
               rows, step)  # fmt: skip
    return out


def add(shape: Shape, numbers: Any, values: Any, axis: int) -> Any:
    """zeros(shape) with ``values`` added at [:, …, numbers]; None when NumPy should do it."""
    wanted = (*shape[:axis], *numbers.shape, *shape[axis + 1 :])
    if values.dtype != f4 or values.size < LARGE or values.shape != wanted:
        return None
    outer, n, inner = _seen(shape, axis)
    places = _numbers(numbers, n)
    if places is None:
        return None
    values, out = np.ascontiguousarray(values), empty(shape, f4)
    ranges = 1 if outer >= RANGES else min(RANGES, n)
    add_cells(outer * ranges, address(values), address(places), address(out), numbers.size, n,
              inner, ranges)  # fmt: skip
    return out


def _along(kernel: Any, shape: Shape, numbers: Any, source: Any, out: Any, axis: int) -> Any:
    outer, n, inner = _seen(shape, axis)
    blocks, source = -(-inner // BLOCK), np.ascontiguousarray(source)
    kernel(outer * blocks, address(source), address(numbers), address(out), numbers.shape[axis], n,
           inner, blocks)  # fmt: skip
    return out


def _fits(shape: Shape, numbers: Any, axis: int) -> bool:
    """Whether there is a number for each place but those of the axis, and enough of them."""
    rest, given = (s[:axis] + s[axis + 1 :] for s in (shape, numbers.shape))
    return rest == given and numbers.dtype.kind == "i" and numbers.size >= LARGE


def gather(a: Any, numbers: Any, axis: int) -> Any:
    """np.take_along_axis; None when NumPy should do it."""
    if a.dtype != f4 or not _fits(a.shape, numbers, axis):
        return None
    places = _numbers(numbers, a.shape[axis])
    if places is None:
        return None
    return _along(take_along, a.shape, places, a, empty(numbers.shape, f4), axis)


def scatter(shape: Shape, numbers: Any, values: Any, axis: int) -> Any:
    """The adjoint of ``gather``; None when NumPy should do it."""
    if values.dtype != f4 or not _fits(shape, numbers, axis) or values.shape != numbers.shape:
        return None
    places = _numbers(numbers, shape[axis])
    if places is None:
        return None
    return _along(add_along, shape, places, values, empty(shape, f4), axis)
