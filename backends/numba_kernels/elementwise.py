"""Elementwise operations on large arrays, at the speed of memory.

An operation runs here when it has at least ``LARGE`` elements (``SIMPLE`` bytes) and
``elements.py`` has its function for their dtype: arithmetic of float32 and float64, comparisons of
int64 as well, logic of booleans, the polynomials of float32. Memory is walked as one run: operands
of the same dense memory order, or one of them a scalar or varying along one axis only (a bias along
the channels). An operand of any other order or shape is first copied to that of the result
(operands.py). All else goes to the NumPy function, whose result is the definition. ``loops.py`` has
the loops.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from . import memory, strided
from .elements import BOOL, NAMES, PLAIN, POLYNOMIALS, POWERS, has, result_of
from .loops import (
    BUFFER,
    CHUNK,
    flat_kernel,
    periodic_kernel,
    planes_kernel,
    samples_kernel,
    slope_kernel,
    unary_kernel,
    where_kernel,
)
from .memory import empty
from .operands import common_order, dense, order_of, ordered, repeated, result, short
from .order import Order, dense_strides, order, split, varying_axis
from .runtime import address, max_workers

LARGE = 32768  # elements: below it NumPy has finished before the threads have started
SIMPLE = 3 << 17  # bytes: the same for what NumPy does in one pass of vectors
FEW = 4096  # the same for powers, which NumPy computes in 1 ns each, of negative numbers in 60
PERIOD = 512  # a repeated operand is tiled to at least this many elements
RUN = 32  # elements a channel must be constant for to be worth a loop of its own

Ufunc = Callable[..., Any]


# ---------------------------------------------------------------------------------------------
# Choosing a loop
# ---------------------------------------------------------------------------------------------
def _buffers(z: Any, *operands: Any) -> int:
    """Where the pieces of a result that is worth streaming are computed, else 0.

    In place there is nothing to gain, as what is overwritten had to be read.
    """
    if z.nbytes <= memory.STREAM_BYTES or any(address(z) == address(a) for a in operands):
        return 0
    return memory.scratch(max_workers() * BUFFER)


def _over(name: str, copy: Any, out: Any) -> Any:
    """Where the result goes: ``out`` if given, else over a copy of an operand, if it fits there."""
    return copy if out is None and result_of(name, copy.dtype) == copy.dtype else out


def _broadcast(name: str, a: Any, b: Any, out: Any, short_first: bool) -> Any:
    """f(a, b) (or f(b, a)) with b repeated along a; None when no loop fits."""
    axes = order(a.shape, a.strides, a.itemsize)
    if axes is None and out is None and a.size >= strided.FLAT:
        a, axes = dense(a)
        out = _over(name, a, None)
    if axes is None:
        return None
    axis = -1 if type(b) is not np.ndarray else varying_axis(a.shape, b.shape)
    if axis is None:
        z = _between(name, a, b, axes, out, short_first)
        if z is not None:
            return z
        full = repeated(b, a, axes)
        if full is None:
            return None
        first, second = (full, a) if short_first else (a, full)
        return binary(name, first, second, _over(name, full, out))
    small = short(b, a.dtype)
    z = None if small is None else result(a, result_of(name, a.dtype), axes, out, (a,))
    if z is None:
        return None
    outer, channels, inner = (1, 1, a.size) if axis < 0 else split(a.shape, axes, axis)
    if inner >= RUN and channels > 1:
        return _planes(name, a, small, z, outer * channels, channels, short_first)
    if channels > 1 and inner > 1:
        small = np.repeat(small, inner)
    if small.size < PERIOD:
        small = np.repeat(small[None], -(-PERIOD // small.size), 0).reshape(-1)
    step = small.size * max(1, CHUNK // small.size)
    periodic_kernel(name, NAMES[a.dtype], short_first)(
        -(-a.size // step), *map(address, (a, small, z)), a.size, small.size, step,
        _buffers(z, a),
    )  # fmt: skip
    return z


def _planes(
    name: str, a: Any, small: Any, z: Any, planes: int, channels: int, short_first: bool
) -> Any:
    """z = f(a, small) of planes in memory, with one number a channel."""
    inner = a.size // planes
    step = max(1, CHUNK // inner)
    planes_kernel(name, NAMES[a.dtype], short_first)(
        -(-planes // step), *map(address, (a, small, z)), planes, channels, inner, step,
        _buffers(z, a),
    )  # fmt: skip
    return z


def _between(name: str, a: Any, b: Any, axes: Order, out: Any, short_first: bool) -> Any:
    """f(a, b) (or f(b, a)) with b constant over neighbouring axes of memory, the innermost (weights
    of the channels of each image) or not (a map for all channels); None when no loop fits."""
    sizes = (1,) * (a.ndim - b.ndim) + b.shape
    if b.dtype != a.dtype or len(sizes) != a.ndim:
        return None
    if any(n not in (1, m) for n, m in zip(sizes, a.shape, strict=True)):
        return None
    constant = [k for k, i in enumerate(axes) if sizes[i] == 1]
    if not constant or constant[-1] - constant[0] >= len(constant):
        return None
    shape, start, end = [a.shape[i] for i in axes], constant[0], constant[-1] + 1
    samples, inner, row = map(math.prod, (shape[:start], shape[start:end], shape[end:]))
    if inner < RUN or (row > 1 and inner * row < 4 * PERIOD):
        return None
    rest = tuple(i for i in range(a.ndim) if i not in axes)
    small = np.array(b.reshape(sizes).transpose(axes + rest).reshape(samples, row), order="C")
    z = result(a, result_of(name, a.dtype), axes, out, (a,))
    if z is None or row == 1:
        return z if z is None else _planes(name, a, small, z, samples, samples, short_first)
    small = np.tile(small, (1, -(-PERIOD // row)))
    length, period = inner * row, small.shape[1]
    step = period * max(1, CHUNK // period)
    blocks = -(-length // step)
    samples_kernel(name, NAMES[a.dtype], short_first)(
        samples * blocks, *map(address, (a, small, z)), length, period, blocks, step,
        _buffers(z, a),
    )  # fmt: skip
    return z


def _takes(name: str, a: Any, alike: bool) -> bool:
    """Whether there is a loop for this array and it is worth starting; operands that are ``alike``
    (of the same memory order, or one a number) are no trouble to NumPy."""
    return has(name, a.dtype) and (a.nbytes >= SIMPLE or not (alike and name in PLAIN))


def binary(name: str, a: Any, b: Any, out: Any) -> Any:
    """f(a, b) of two operands of which one is a large NumPy array; None when NumPy should do it."""
    first, second = type(a) is np.ndarray, type(b) is np.ndarray
    if first and second and a.shape == b.shape:
        if a.dtype != b.dtype or not _takes(name, a, a.strides == b.strides):
            return None
        axes = order(a.shape, a.strides, a.itemsize)
        if axes is None or a.strides != b.strides or out is not None:
            axes = common_order(a, b) if out is None else order_of(out, a.shape)
            if axes is None:
                return None
            a, b = ordered(a, axes), ordered(b, axes)
            if a is None or b is None:
                return None
        z = result(a, result_of(name, a.dtype), axes, out, (a, b))
        if z is not None:
            places = address(a), address(b), address(z)
            flat_kernel(name, NAMES[a.dtype])(
                -(-a.size // CHUNK), *places, a.size, _buffers(z, a, b)
            )
        return z
    if first and (not second or a.size > b.size):
        taken = _takes(name, a, not second or b.size == 1)
        return _broadcast(name, a, b, out, False) if taken else None
    taken = second and _takes(name, b, not first or a.size == 1)
    return _broadcast(name, b, a, out, True) if taken else None


def unary(name: str, a: Any, out: Any) -> Any:
    """f(a) of a large NumPy array; None when NumPy should do it."""
    if not _takes(name, a, True):
        return None
    axes = order(a.shape, a.strides, a.itemsize)
    if axes is None and out is None and (name in POLYNOMIALS or a.size >= strided.FLAT):
        a, axes = dense(a)
        out = _over(name, a, None)
    z = None if axes is None else result(a, result_of(name, a.dtype), axes, out, (a,))
    if z is not None:
        # Polynomials take longer than memory does: another pass would only add to it.
        buffers = _buffers(z, z if name in POLYNOMIALS else a)
        unary_kernel(name, NAMES[a.dtype])(
            -(-a.size // CHUNK), address(a), address(z), a.size, buffers
        )
    return z


def _spread(condition: Any, a: Any, b: Any) -> Any:
    """A mask in the shape and memory order of the arrays that it is repeated along."""
    full = max(
        (v for v in (a, b) if type(v) is np.ndarray), key=lambda v: v.size, default=condition
    )
    lead = full.ndim - condition.ndim
    if full.size <= condition.size or lead < 0:
        return condition
    if any(n not in (1, m) for n, m in zip(condition.shape, full.shape[lead:], strict=True)):
        return condition
    made = np.empty_like(full, dtype=condition.dtype)
    made[...] = condition
    return made


def where(condition: Any, a: Any, b: Any) -> Any:
    """a where condition else b, for a boolean array and arrays or numbers of one dtype, large ones;
    None when NumPy should."""
    condition = _spread(condition, a, b)
    shape, values, moves = condition.shape, [], []
    axes = order(shape, condition.strides, 1)
    dtype = next((v.dtype for v in (a, b) if type(v) is np.ndarray), None)
    if condition.dtype != BOOL or axes is None or dtype not in NAMES or dtype.itemsize < 4:
        return None
    for v in (a, b):
        moves.append(type(v) is np.ndarray and v.size > 1)
        if type(v) is np.ndarray and (
            v.dtype != dtype or v.ndim > len(shape) or (moves[-1] and v.shape != shape)
        ):
            return None
        v = ordered(v, axes) if moves[-1] else short(v, dtype)
        if v is None:
            return None
        values.append(v)
    z = empty(shape, dtype, dense_strides(shape, axes, dtype.itemsize))
    n = condition.size
    where_kernel(*moves, dtype.itemsize)(
        -(-n // CHUNK), address(condition), *map(address, values), address(z), n
    )
    return z


def slope(g: Any, x: Any, factor: float) -> Any:
    """g where x > 0, else factor·g; None when NumPy should do it."""
    if x.dtype != np.float32 or g.dtype != x.dtype or g.shape != x.shape:
        return None
    axes = common_order(x, g)
    x, g = ordered(x, axes), ordered(g, axes)
    if x is None or g is None:
        return None
    z, number = (
        empty(x.shape, x.dtype, dense_strides(x.shape, axes, 4)),
        np.array([factor], x.dtype),
    )
    places = map(address, (g, x, z, number))
    slope_kernel()(-(-x.size // CHUNK), *places, x.size, _buffers(z))
    return z


# ---------------------------------------------------------------------------------------------
# What the backend binds
# ---------------------------------------------------------------------------------------------
def bind_binary(name: str, ufunc: Ufunc) -> Ufunc:
    """``ufunc`` with the loops above for large arrays; small ones cost two comparisons more."""
    array = np.ndarray

    def call(a: Any, b: Any, out: Any = None) -> Any:
        if (type(a) is array and a.size >= LARGE) or (type(b) is array and b.size >= LARGE):
            z = binary(name, a, b, out)
            if z is not None:
                return z
        return ufunc(a, b) if out is None else ufunc(a, b, out=out)

    return call


def bind_unary(name: str, ufunc: Ufunc) -> Ufunc:
    """``ufunc`` with the loops above for large arrays."""
    array = np.ndarray

    def call(a: Any, out: Any = None) -> Any:
        if type(a) is array and a.size >= LARGE:
            z = unary(name, a, out)
            if z is not None:
                return z
        return ufunc(a) if out is None else ufunc(a, out=out)

    return call


def bind_power(ufunc: Ufunc) -> Ufunc:
    """``ufunc``, but the powers in ``POWERS`` of ``FEW`` elements or more by the loops above."""
    array = np.ndarray

    def call(a: Any, b: Any, out: Any = None) -> Any:
        if type(a) is array and a.size >= FEW and (type(b) is int or type(b) is float):
            name = POWERS.get(b)
            z = None if name is None else unary(name, a, out)
            if z is not None:
                return z
        return ufunc(a, b) if out is None else ufunc(a, b, out=out)

    return call
