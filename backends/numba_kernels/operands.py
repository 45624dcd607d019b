"""What elementwise loops walk: operands in one memory order, and the array for the result.

An operand in another order than the result, or repeated along several axes, is first copied: by all
threads, which beats NumPy's walk over both arrays on one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_cnn.geometry import Shape

from . import strided
from .memory import empty
from .order import Order, dense_strides, order
from .runtime import address


def order_of(a: Any, shape: Shape) -> Order | None:
    """The memory order of a dense array of this shape."""
    return order(shape, a.strides, a.itemsize) if a.shape == shape else None


def common_order(a: Any, b: Any) -> Order:
    """The memory order for operands of one shape: one that an operand has, rather not that of the
    axes, as convolutions want their channels innermost."""
    plain = tuple(i for i, n in enumerate(a.shape) if n > 1)
    mine, its = order_of(a, a.shape), order_of(b, b.shape)
    return (its or plain) if mine is None or (mine == plain and its) else mine


def ordered(a: Any, axes: Order) -> Any:
    """``a``, copied unless it is dense and in this memory order; None when NumPy should do it."""
    return a if order_of(a, a.shape) == axes else strided.ordered(a, axes)


def dense(a: Any) -> tuple[Any, Order | None]:
    """A dense copy of ``a`` and its order."""
    made = strided.copy(a)
    return (a, None) if made is None else (made, order_of(made, made.shape))


def repeated(b: Any, a: Any, axes: Order) -> Any:
    """``b`` broadcast to the shape of ``a``, in this memory order; None when it does not fit."""
    sizes = a.shape[a.ndim - b.ndim :]
    if b.ndim > a.ndim or any(n not in (1, m) for n, m in zip(b.shape, sizes, strict=True)):
        return None
    return strided.ordered(np.broadcast_to(b, a.shape), axes) if b.dtype == a.dtype else None


def short(b: Any, dtype: Any) -> Any:
    """An operand that is repeated, as a 1-D array of ``dtype``; None when that would change the
    result's dtype, or the number."""
    if type(b) is float or type(b) is int:
        fits = dtype.kind == "f" or (type(b) is int and -(2**63) <= b < 2**63)
        return np.array([b], dtype) if fits else None
    if type(b) is np.ndarray and b.dtype == dtype:
        return np.array(b.reshape(-1))  # a copy: it may share memory with the result
    return None


def _overlaps(a: Any, start: int, nbytes: int) -> bool:
    """Whether a dense array's memory meets another run without being the same run."""
    mine = address(a)
    return mine != start and mine < start + nbytes and start < mine + a.nbytes


def result(a: Any, dtype: Any, axes: Order, out: Any, others: tuple[Any, ...]) -> Any:
    """The array of ``dtype`` to write: ``out`` when it is like ``a`` and apart from the operands,
    None when it is not usable."""
    if out is None:
        return empty(a.shape, dtype, dense_strides(a.shape, axes, dtype.itemsize))
    if out.shape != a.shape or out.dtype != dtype or not out.flags.writeable:
        return None
    if order(out.shape, out.strides, out.itemsize) != axes:
        return None
    start, nbytes = address(out), out.nbytes
    return None if any(_overlaps(o, start, nbytes) for o in others) else out
