"""Elementwise operations on large arrays, at the speed of memory.

An operation runs here when its result has at least ``LARGE`` elements and everything is float32 (or
float64, for arithmetic). Memory is walked as one run: operands of the same dense memory order, or
one of them a scalar or varying along one axis only (a bias along the channels). An operand of any
other order or shape is first copied to that of the result (operands.py). All else goes to the NumPy
function, whose result is the definition.

Results that no cache can hold are computed piece by piece in a buffer of one kilobyte and then
streamed to their place: a plain store would first read what it overwrites, a third of the traffic.

Four loops serve every operation of two operands: ``flat`` (both run along), ``periodic`` (the short
one repeats every few elements: scalars, channels that are innermost in memory), ``samples`` (so it
does, but another one for each image) and ``planes`` (it is constant over long runs: channels of
N, C, H, W memory). Each combination that occurs is one
small kernel, compiled when first needed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from . import memory, strided
from .access import get8, get32, get64, put32, put64
from .layout import stream_floats
from .memory import empty
from .operands import common_order, dense, order_of, ordered, repeated, result, short
from .order import Order, dense_strides, order, split, varying_axis
from .polynomials import erf32, exp32, log32, sigmoid32, tanh32
from .runtime import Kernel, address, device, kernel_of, max_workers
from .simd import fence

LARGE = 32768  # elements: below it NumPy has finished before the threads have started
FEW = 4096  # the same for powers, which NumPy computes in 1 ns each, of negative numbers in 60
CHUNK = 16384
PERIOD = 512  # a repeated operand is tiled to at least this many elements
PIECE = 256  # elements that are computed before they are streamed: loads and stores overlap
RUN = 32  # elements a channel must be constant for to be worth a loop of its own

Ufunc = Callable[..., Any]
_ACCESS = {"float32": (get32, put32, 4), "float64": (get64, put64, 8)}
_FLOATS = {np.dtype(np.float32): "float32", np.dtype(np.float64): "float64"}


# ---------------------------------------------------------------------------------------------
# The operations on one element; numbers are typed, so that float32 stays float32
# ---------------------------------------------------------------------------------------------
def _element(name: str, dtype: str) -> Any:
    """The compiled-in function of one element for an operation."""
    zero, one, infinity = (np.dtype(dtype).type(value) for value in (0, 1, math.inf))
    table: dict[str, Callable[..., Any]] = {
        "add": lambda a, b: a + b,
        "subtract": lambda a, b: a - b,
        "multiply": lambda a, b: a * b,
        "divide": lambda a, b: a / b,
        "maximum": lambda a, b: a if a > b or a != a else b,
        "minimum": lambda a, b: a if a < b or a != a else b,
        "relu_grad": lambda g, y: g if y > zero else zero,
        "relu": lambda a: zero if a < zero else a,
        "negative": lambda a: -a,
        "absolute": lambda a: abs(a),
        "sqrt": lambda a: math.sqrt(a),
        "power3": lambda a: a * a * a,
        "power4": lambda a: (a * a) * (a * a),
        "power-1": lambda a: one / a,
        "power-2": lambda a: (one / a) * (one / a),  # 1/(a·a) would lose what a·a cannot hold
        "power-3": lambda a: (one / a) * (one / a) * (one / a),
        "power1.5": lambda a: -a if a == -infinity else a * math.sqrt(a),
        "power-0.5": lambda a: zero if a == -infinity else one / math.sqrt(a + zero),  # −0 as 0
    }
    return device(table[name], inline=True) if name in table else _POLYNOMIALS[name]


# Powers that are products, quotients and roots: within four units in the last place.
POWERS = {
    3: "power3", 4: "power4", -1: "power-1", -2: "power-2", -3: "power-3",
    0.5: "sqrt", 1.5: "power1.5", -0.5: "power-0.5",
}  # fmt: skip
_POLYNOMIALS = {"exp": exp32, "log": log32, "tanh": tanh32, "sigmoid": sigmoid32, "erf": erf32}
_EXACT = {"relu", "negative", "absolute", "sqrt", *POWERS.values()}
UNARY = {"float32": {*_EXACT, *_POLYNOMIALS}, "float64": _EXACT}


# ---------------------------------------------------------------------------------------------
# Kernels
# ---------------------------------------------------------------------------------------------
def _in_pieces(piece: Any, size: int) -> Any:
    """run(first, end, target, buffer, p, q, r): ``piece`` of the elements from first to end, which
    writes them from an address on; directly to ``target``, or by way of ``buffer`` if there is one.
    """

    @device
    def run(first, end, target, buffer, p, q, r):
        if buffer == 0:
            piece(first, end - first, target + size * first, p, q, r)
            return
        for at in range(first, end, PIECE):
            count = min(PIECE, end - at)
            piece(at, count, buffer, p, q, r)
            stream_floats(target + size * at, buffer, count * size // 4)
        fence()

    return run


@device
def _buffer(buffers: int, worker: int) -> int:
    """A worker's buffer; 0 when there are none."""
    return buffers + worker * PIECE * 8 if buffers else 0


@cache
def unary_kernel(name: str, dtype: str) -> Kernel:
    """y[i] = f(x[i])."""
    f = _element(name, dtype)
    get, put, size = _ACCESS[dtype]

    @device
    def piece(first, count, to, x, q, r):
        for i in range(count):
            put(to, i, f(get(x, first + i)))

    pieces = _in_pieces(piece, size)

    def run(chunk, worker, x, y, n, buffers):
        start = chunk * CHUNK
        pieces(start, min(n, start + CHUNK), y, _buffer(buffers, worker), x, 0, 0)

    return kernel_of(run, f"{name}_{dtype}", False)


@cache
def flat_kernel(name: str, dtype: str) -> Kernel:
    """z[i] = f(x[i], y[i])."""
    f = _element(name, dtype)
    get, put, size = _ACCESS[dtype]

    @device
    def piece(first, count, to, x, y, r):
        for i in range(count):
            put(to, i, f(get(x, first + i), get(y, first + i)))

    pieces = _in_pieces(piece, size)

    def run(chunk, worker, x, y, z, n, buffers):
        start = chunk * CHUNK
        pieces(start, min(n, start + CHUNK), z, _buffer(buffers, worker), x, y, 0)

    return kernel_of(run, f"{name}_{dtype}", False)


@cache
def periodic_kernel(name: str, dtype: str, short_first: bool) -> Kernel:
    """z[i] = f(x[i], y[i mod period]), or f(y, x) when the short operand comes first; chunks of
    ``step`` elements, a multiple of the period."""
    f = _element(name, dtype)
    get, put, size = _ACCESS[dtype]

    @device
    def piece(first, count, to, x, y, period):
        a = x + size * first
        for i in range(count):
            if short_first:
                put(to, i, f(get(y, first % period + i), get(a, i)))
            else:
                put(to, i, f(get(a, i), get(y, first % period + i)))

    pieces = _in_pieces(piece, size)

    def run(chunk, worker, x, y, z, n, period, step, buffers):
        for start in range(chunk * step, min(n, (chunk + 1) * step), period):
            end = min(start + period, n)
            pieces(start, end, z, _buffer(buffers, worker), x, y, period)

    return kernel_of(run, f"{name}_periodic{int(short_first)}_{dtype}", False)


@cache
def planes_kernel(name: str, dtype: str, short_first: bool) -> Kernel:
    """z[p, i] = f(x[p, i], y[p mod channels]) for planes p of ``inner`` elements, ``step`` of them
    a chunk."""
    f = _element(name, dtype)
    get, put, size = _ACCESS[dtype]

    @device
    def piece(first, count, to, x, place, r):
        b, a = get(place, 0), x + size * first
        for i in range(count):
            if short_first:
                put(to, i, f(b, get(a, i)))
            else:
                put(to, i, f(get(a, i), b))

    pieces = _in_pieces(piece, size)

    def run(chunk, worker, x, y, z, planes, channels, inner, step, buffers):
        for p in range(chunk * step, min(planes, (chunk + 1) * step)):
            place = y + size * (p % channels)
            pieces(p * inner, (p + 1) * inner, z, _buffer(buffers, worker), x, place, 0)

    return kernel_of(run, f"{name}_planes{int(short_first)}_{dtype}", False)


@cache
def samples_kernel(name: str, dtype: str, short_first: bool) -> Kernel:
    """z[n, i] = f(x[n, i], y[n, i mod period]) for samples n of ``length`` elements, in ``blocks``
    chunks of ``step`` elements, a multiple of the period."""
    f = _element(name, dtype)
    get, put, size = _ACCESS[dtype]

    @device
    def piece(first, count, to, x, y, start):
        a, b = x + size * first, y + size * (first - start)
        for i in range(count):
            if short_first:
                put(to, i, f(get(b, i), get(a, i)))
            else:
                put(to, i, f(get(a, i), get(b, i)))

    pieces = _in_pieces(piece, size)

    def run(chunk, worker, x, y, z, length, period, blocks, step, buffers):
        n, block = chunk // blocks, chunk % blocks
        first = n * length + block * step
        last = min(first + step, (n + 1) * length)
        row = y + size * period * n
        for start in range(first, last, period):
            end = min(start + period, last)
            pieces(start, end, z, _buffer(buffers, worker), x, row, start)

    return kernel_of(run, f"{name}_samples{int(short_first)}_{dtype}", False)


@cache
def where_kernel(a_moves: bool, b_moves: bool) -> Kernel:
    """z[i] = a[i] if c[i] else b[i] for float32; an operand that does not move is one number."""

    def run(chunk, worker, c, a, b, z, n):
        start = chunk * CHUNK
        for i in range(start, min(n, start + CHUNK)):
            u = get32(a, i if a_moves else 0)
            v = get32(b, i if b_moves else 0)
            put32(z, i, u if get8(c, i) != 0 else v)

    return kernel_of(run, f"where{int(a_moves)}{int(b_moves)}", False)


@cache
def slope_kernel() -> Kernel:
    """z[i] = g[i] if x[i] > 0 else slope·g[i] for float32: leaky ReLU (g = x) and its gradient."""

    @device
    def piece(first, count, to, g, x, slope):
        s, zero = get32(slope, 0), np.float32(0)
        for i in range(count):
            v = get32(g, first + i)
            put32(to, i, v if get32(x, first + i) > zero else s * v)

    pieces = _in_pieces(piece, 4)

    def run(chunk, worker, g, x, z, slope, n, buffers):
        start = chunk * CHUNK
        pieces(start, min(n, start + CHUNK), z, _buffer(buffers, worker), g, x, slope)

    return kernel_of(run, "slope", False)


# ---------------------------------------------------------------------------------------------
# Choosing a loop
# ---------------------------------------------------------------------------------------------
def _buffers(z: Any, *operands: Any) -> Any:
    """Room for the pieces of a result that is worth streaming, else an array without elements.

    In place there is nothing to gain, as what is overwritten had to be read.
    """
    streams = z.nbytes > memory.STREAM_BYTES and all(address(z) != address(a) for a in operands)
    return empty((max_workers() * PIECE * 2 if streams else 0,), np.float32)


def _where(buffers: Any) -> int:
    """Its address, 0 without elements."""
    return address(buffers) if buffers.size else 0


def _broadcast(name: str, a: Any, b: Any, out: Any, short_first: bool) -> Any:
    """f(a, b) (or f(b, a)) with b repeated along a; None when no loop fits."""
    axes = order(a.shape, a.strides, a.itemsize)
    if axes is None and out is None and a.size >= strided.FLAT:
        a, axes, out = dense(a)
    axis = -1 if type(b) is not np.ndarray else varying_axis(a.shape, b.shape)
    if axes is None:
        return None
    if axis is None:
        z = _between(name, a, b, axes, out, short_first)
        if z is not None:
            return z
        full = repeated(b, a, axes)
        if full is None:
            return None
        target = full if out is None else out
        return binary(name, full, a, target) if short_first else binary(name, a, full, target)
    small = short(b, a.dtype)
    z = None if small is None else result(a, axes, out, (a,))
    if z is None:
        return None
    outer, channels, inner = (1, 1, a.size) if axis < 0 else split(a.shape, axes, axis)
    dtype, buffers = _FLOATS[a.dtype], _buffers(z, a)
    if inner >= RUN and channels > 1:
        planes = outer * channels
        step = max(1, CHUNK // inner)
        planes_kernel(name, dtype, short_first)(
            -(-planes // step),
            address(a),
            address(small),
            address(z),
            planes,
            channels,
            inner,
            step,
            _where(buffers),
        )
        return z
    if channels > 1 and inner > 1:
        small = np.repeat(small, inner)
    if small.size < PERIOD:
        small = np.tile(small, -(-PERIOD // small.size))
    step = small.size * max(1, CHUNK // small.size)
    periodic_kernel(name, dtype, short_first)(
        -(-a.size // step), address(a), address(small), address(z), a.size, small.size, step,
        _where(buffers),
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
    z = result(a, axes, out, (a,))
    if z is None:
        return None
    dtype, buffers = _FLOATS[a.dtype], _buffers(z, a)
    if row == 1:
        step = max(1, CHUNK // inner)
        planes_kernel(name, dtype, short_first)(
            -(-samples // step), *map(address, (a, small, z)), samples, samples, inner, step,
            _where(buffers),
        )  # fmt: skip
        return z
    small = np.tile(small, (1, -(-PERIOD // row)))
    length, period = inner * row, small.shape[1]
    step = period * max(1, CHUNK // period)
    blocks = -(-length // step)
    samples_kernel(name, dtype, short_first)(
        samples * blocks, *map(address, (a, small, z)), length, period, blocks, step,
        _where(buffers),
    )  # fmt: skip
    return z


def binary(name: str, a: Any, b: Any, out: Any) -> Any:
    """f(a, b) of two operands of which one is a large NumPy array; None when NumPy should do it."""
    first, second = type(a) is np.ndarray, type(b) is np.ndarray
    if first and second and a.shape == b.shape:
        if a.dtype != b.dtype or a.dtype not in _FLOATS:
            return None
        axes = common_order(a, b) if out is None else order_of(out, a.shape)
        if axes is None:
            return None
        a, b = ordered(a, axes), ordered(b, axes)
        if a is None or b is None:
            return None
        z = result(a, axes, out, (a, b))
        if z is not None:
            n, buffers = a.size, _buffers(z, a, b)
            flat_kernel(name, _FLOATS[a.dtype])(
                -(-n // CHUNK), address(a), address(b), address(z), n, _where(buffers)
            )
        return z
    if first and a.dtype in _FLOATS and (not second or a.size > b.size):
        return _broadcast(name, a, b, out, False)
    if second and b.dtype in _FLOATS:
        return _broadcast(name, b, a, out, True)
    return None


def unary(name: str, a: Any, out: Any) -> Any:
    """f(a) of a large NumPy array; None when NumPy should do it."""
    dtype = _FLOATS.get(a.dtype)
    if dtype is None or name not in UNARY[dtype]:
        return None
    axes = order(a.shape, a.strides, a.itemsize)
    if axes is None and out is None and (name in _POLYNOMIALS or a.size >= strided.FLAT):
        a, axes, out = dense(a)
    z = None if axes is None else result(a, axes, out, (a,))
    if z is not None:
        # Polynomials take longer than memory does: another pass would only add to it.
        buffers = _buffers(z, z if name in _POLYNOMIALS else a)
        unary_kernel(name, dtype)(
            -(-a.size // CHUNK), address(a), address(z), a.size, _where(buffers)
        )
    return z


def where(condition: Any, a: Any, b: Any) -> Any:
    """a where condition else b, for a large boolean array and float32 arrays or numbers; None when
    NumPy should."""
    shape = condition.shape
    axes = order(shape, condition.strides, 1)
    if condition.dtype != np.bool_ or axes is None:
        return None
    float32, moves, values = np.dtype(np.float32), [], []
    for v in (a, b):
        array = type(v) is np.ndarray
        if array and (v.dtype != float32 or (v.size > 1 and v.shape != shape)):
            return None
        moves.append(array and v.size > 1)
        if not array and type(v) not in (float, int):
            return None
        if moves[-1]:
            v = ordered(v, axes)
            if v is None:
                return None
        values.append(v if array else np.array(v, float32))
    if not any(type(v) is np.ndarray for v in (a, b)) or any(v.ndim > len(shape) for v in values):
        return None  # two numbers: NumPy decides on the dtype
    z = empty(shape, float32, dense_strides(shape, axes, 4))
    n = condition.size
    where_kernel(*moves)(-(-n // CHUNK), address(condition), *map(address, values), address(z), n)
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
    buffers = _buffers(z)
    slope_kernel()(-(-x.size // CHUNK), *map(address, (g, x, z, number)), x.size, _where(buffers))
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
