"""Optimiser steps on all parameters in one launch.

A table holds, one row a parameter, its addresses and size and the number of its first chunk; a
chunk finds its row by walking down the table. Coefficients are passed as a float64 array. The
arithmetic is the reference's, in the parameter's dtype, operation by operation.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any

import numpy as np

from tinygrad_cnn.geometry import Shape

from .access import get32, get64, put32, put64, read64
from .access import geti64 as entry
from .order import order
from .reduce import run_sum
from .runtime import Kernel, address, device, kernel, kernel_of

CHUNK = 8192
FEW_CHUNKS = 4  # done before a second thread has started
COLUMNS = 7  # first chunk, size, then up to five addresses
Arrays = Sequence[Any]
_FLOATS = {"float32": (get32, put32, 4), "float64": (get64, put64, 8)}
_NAMES = {np.dtype(name): name for name in _FLOATS}


@device
def _part(table: int, rows: int, chunk: int) -> Any:
    """(the table's row of the parameter that a chunk is part of, its first element, how many)."""
    row = (rows - 1) * COLUMNS
    while entry(table, row) > chunk:
        row -= COLUMNS
    start = (chunk - entry(table, row)) * CHUNK
    return row, start, min(CHUNK, entry(table, row + 1) - start)


@cache
def sgd_kernel(dtype: str, momentum: bool) -> Kernel:
    """p −= lr·d, d = g + wd·p or, with momentum, what ``sgd_step`` says; options: nesterov +
    2·first."""
    get, put, size = _FLOATS[dtype]
    number = np.dtype(dtype).type

    def run(chunk, worker, table, rows, coefficients, options):
        row, start, count = _part(table, rows, chunk)
        p = entry(table, row + 2) + size * start
        g = entry(table, row + 3) + size * start
        m = entry(table, row + 4) + size * start
        lr, mu = number(read64(coefficients, 0)), number(read64(coefficients, 1))
        keep, decay = number(read64(coefficients, 2)), number(read64(coefficients, 3))
        for i in range(count):
            step = get(g, i) + decay * get(p, i)
            if momentum:
                average = step if options >= 2 else mu * get(m, i) + keep * step
                put(m, i, average)
                step = step + mu * average if options & 1 else average
            put(p, i, get(p, i) - lr * step)

    return kernel_of(run, f"sgd{int(momentum)}_{dtype}", False)


@cache
def adam_kernel(dtype: str, amsgrad: bool) -> Kernel:
    """The formulas of ``adam_step``, or those of ``amsgrad_step``."""
    get, put, size = _FLOATS[dtype]
    number = np.dtype(dtype).type

    def run(chunk, worker, table, rows, coefficients):
        row, start, count = _part(table, rows, chunk)
        p = entry(table, row + 2) + size * start
        g = entry(table, row + 3) + size * start
        m = entry(table, row + 4) + size * start
        v = entry(table, row + 5) + size * start
        h = entry(table, row + 6) + size * start
        b1, c1 = number(read64(coefficients, 0)), number(read64(coefficients, 1))
        b2, c2 = number(read64(coefficients, 2)), number(read64(coefficients, 3))
        rate, root = number(read64(coefficients, 4)), number(read64(coefficients, 5))
        eps, decay = number(read64(coefficients, 6)), number(read64(coefficients, 7))
        shrink = number(read64(coefficients, 8))
        for i in range(count):
            old = get(p, i) * shrink
            step = get(g, i) + decay * old
            mean = b1 * get(m, i) + c1 * step
            square = b2 * get(v, i) + c2 * (step * step)
            put(m, i, mean)
            put(v, i, square)
            if amsgrad:
                largest = get(h, i)
                square = square if square > largest or square != square else largest
                put(h, i, square)
            put(p, i, old - rate * mean / (number(math.sqrt(square)) / root + eps))

    return kernel_of(run, f"adam{int(amsgrad)}_{dtype}", False)


@cache
def rmsprop_kernel(dtype: str, centered: bool, momentum: bool) -> Kernel:
    """The formulas of ``rmsprop_step``."""
    get, put, size = _FLOATS[dtype]
    number = np.dtype(dtype).type
    last = 5 + int(centered)  # the column of the momenta

    def run(chunk, worker, table, rows, coefficients):
        row, start, count = _part(table, rows, chunk)
        p = entry(table, row + 2) + size * start
        g = entry(table, row + 3) + size * start
        v = entry(table, row + 4) + size * start
        m = entry(table, row + 5) + size * start
        b = entry(table, row + last) + size * start
        lr, mu = number(read64(coefficients, 0)), number(read64(coefficients, 1))
        keep, new = number(read64(coefficients, 2)), number(read64(coefficients, 3))
        eps, decay = number(read64(coefficients, 4)), number(read64(coefficients, 5))
        for i in range(count):
            step = get(g, i) + decay * get(p, i)
            square = keep * get(v, i) + new * (step * step)
            put(v, i, square)
            if centered:
                mean = keep * get(m, i) + new * step
                put(m, i, mean)
                square = square - mean * mean
            step = step / (number(math.sqrt(square)) + eps)
            if momentum:
                step = mu * get(b, i) + step
                put(b, i, step)
            put(p, i, get(p, i) - lr * step)

    return kernel_of(run, f"rmsprop{int(centered)}{int(momentum)}_{dtype}", False)


@cache
def adagrad_kernel(dtype: str) -> Kernel:
    """The formulas of ``adagrad_step``."""
    get, put, size = _FLOATS[dtype]
    number = np.dtype(dtype).type

    def run(chunk, worker, table, rows, coefficients):
        row, start, count = _part(table, rows, chunk)
        p = entry(table, row + 2) + size * start
        g = entry(table, row + 3) + size * start
        s = entry(table, row + 4) + size * start
        rate, eps = number(read64(coefficients, 0)), number(read64(coefficients, 1))
        decay = number(read64(coefficients, 2))
        for i in range(count):
            step = get(g, i) + decay * get(p, i)
            total = get(s, i) + step * step
            put(s, i, total)
            put(p, i, get(p, i) - step * rate / (number(math.sqrt(total)) + eps))

    return kernel_of(run, f"adagrad_{dtype}", False)


_sum_of_squares = run_sum(True)


@kernel
def _squares(chunk, worker, table, rows, sums):
    """sums[chunk] = Σ x² over the chunk's part of its row, of float32 in float64."""
    row, start, count = _part(table, rows, chunk)
    put64(sums, chunk, _sum_of_squares(entry(table, row + 2) + 4 * start, count))


@lru_cache(4096)
def _is_dense(shape: Shape, strides: Shape, itemsize: int) -> bool:
    return order(shape, strides, itemsize) is not None


def gather(lists: Sequence[Arrays]) -> tuple[dict[Any, list[tuple[Any, ...]]], list[int]]:
    """Parameters by dtype as rows (p, g, …) that can be walked together, and the positions of the
    others.

    A gradient in another memory order than its parameter is copied into its order.
    """
    found: dict[Any, list[tuple[Any, ...]]] = {}
    others = []
    for i, row in enumerate(zip(*lists, strict=True)):
        p, g, *states = row
        strides, dtype = p.strides, p.dtype
        if g.strides != strides:
            ordered = np.empty_like(p)
            np.copyto(ordered, g)
            row = (p, ordered, *states)
        alike = dtype in _NAMES and _is_dense(p.shape, strides, p.itemsize)
        for a in row:
            if a.dtype is not dtype and a.dtype != dtype or a.strides != strides:
                alike = False
        if alike:
            found.setdefault(dtype, []).append(row)
        else:
            others.append(i)
    return found, others


def _table(rows: Sequence[tuple[Any, ...]]) -> tuple[Any, int]:
    """The table of some rows, and how many chunks they are."""
    numbers, chunks = [], 0
    fill = [0] * (COLUMNS - 2 - len(rows[0]))
    for row in rows:
        size = row[0].size
        numbers += [chunks, size, *map(address, row), *fill]
        chunks += -(-size // CHUNK)
    return array("q", numbers), chunks


def launch(
    kernel: Kernel, rows: list[tuple[Any, ...]], coefficients: list[float], *options: int
) -> None:
    """Run a step's kernel over the rows of one dtype."""
    table, chunks = _table(rows)
    values = array("d", coefficients)
    run = kernel.serial if chunks <= FEW_CHUNKS else kernel
    run(chunks, table.buffer_info()[0], len(rows), values.buffer_info()[0], *options)


def sgd_step(
    params: Arrays,
    grads: Arrays,
    momenta: Arrays | None,
    lr: float,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
    first: bool,
) -> list[int]:
    """The reference's ``sgd_step``; returns the positions of the parameters left to it."""
    groups, others = gather([params, grads] + ([] if momenta is None else [momenta]))
    for dtype, rows in groups.items():
        kernel = sgd_kernel(_NAMES[dtype], momenta is not None)
        launch(kernel, rows, [lr, momentum, 1 - dampening, weight_decay], nesterov + 2 * first)
    return others


def adam_step(
    params: Arrays,
    grads: Arrays,
    m: Arrays,
    v: Arrays,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    decoupled: bool,
    step: int,
    largest: Arrays | None = None,
) -> list[int]:
    """The reference's ``adam_step``, or ``amsgrad_step`` where ``largest`` is given; returns the
    positions of the parameters left to it."""
    beta1, beta2 = betas
    groups, others = gather([params, grads, m, v] + ([] if largest is None else [largest]))
    coefficients = [
        beta1, 1 - beta1, beta2, 1 - beta2, lr / (1 - beta1**step), math.sqrt(1 - beta2**step), eps,
        0.0 if decoupled else weight_decay, 1 - lr * weight_decay if decoupled else 1.0,
    ]  # fmt: skip
    for dtype, rows in groups.items():
        launch(adam_kernel(_NAMES[dtype], largest is not None), rows, coefficients)
    return others


def rmsprop_step(
    params: Arrays,
    grads: Arrays,
    squares: Arrays,
    means: Arrays | None,
    momenta: Arrays | None,
    lr: float,
    alpha: float,
    eps: float,
    weight_decay: float,
    momentum: float,
) -> list[int]:
    """The reference's ``rmsprop_step``; returns the positions of the parameters left to it."""
    groups, others = gather(
        [params, grads, squares, *(states for states in (means, momenta) if states is not None)]
    )
    for dtype, rows in groups.items():
        kernel = rmsprop_kernel(_NAMES[dtype], means is not None, momenta is not None)
        launch(kernel, rows, [lr, momentum, alpha, 1 - alpha, eps, weight_decay])
    return others


def adagrad_step(
    params: Arrays, grads: Arrays, sums: Arrays, rate: float, eps: float, weight_decay: float
) -> list[int]:
    """The reference's ``adagrad_step``; returns the positions of the parameters left to it."""
    groups, others = gather([params, grads, sums])
    for dtype, rows in groups.items():
        launch(adagrad_kernel(_NAMES[dtype]), rows, [rate, eps, weight_decay])
    return others


def is_run(a: Any) -> bool:
    """Whether ``squared_norms`` takes ``a``: float32 numbers that lie next to each other."""
    return a.dtype == np.float32 and _is_dense(a.shape, a.strides, 4)


def squared_norms(arrays: Arrays) -> Any:
    """Σ x² of each array, chunks in float32 and their sums in float64, for arrays that are runs."""
    table, chunks = _table([(a,) for a in arrays])
    sums = np.empty(chunks + 1)
    sums[chunks] = 0
    run = _squares.serial if chunks <= FEW_CHUNKS else _squares
    run(chunks, table.buffer_info()[0], len(arrays), address(sums))
    ends = np.cumsum([0] + [-(-a.size // CHUNK) for a in arrays])
    made = [sums[first:end].sum() for first, end in zip(ends[:-1], ends[1:], strict=True)]
    return np.array(made, np.float32)
