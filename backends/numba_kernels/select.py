"""The k largest or smallest numbers of each row, found in one pass without sorting the rest.

The k best so far are kept in order. A number is compared with the last of them, a block at a time:
in random rows few blocks hold a better one, about k·log(n/k) numbers in all.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .access import bits_of, get32, readi64, writei64
from .memory import empty
from .runtime import Kernel, address, device, kernel

MOST = 32  # numbers kept: inserting one moves up to as many
BLOCK = 64  # numbers compared at once
SMALL = 16384  # numbers below which the calling thread does it
WORK = 16384  # numbers of a chunk


@device(inline=True)
def _rank(x: int, j: int, flip: int) -> Any:
    """Number j as an integer in the same order, NaN above all; all bits flipped for the reverse."""
    v = get32(x, j)
    bits = bits_of(v + np.float32(0))  # −0 becomes 0
    ordered = bits ^ ((bits >> np.int32(31)) & np.int32(0x7FFFFFFF))
    return (ordered if v == v else np.int32(0x7FFFFFFF)) ^ np.int32(flip)


@device
def _any_above(x: int, begin: int, end: int, bound: int, flip: int) -> bool:
    found = False
    for j in range(begin, end):
        found |= _rank(x, j, flip) > bound
    return found


@kernel
def best_rows(chunk, worker, x, positions, rows, n, k, flip, step):
    """``step`` rows a chunk: int64 positions of the k of highest rank, equal ones in order."""
    for row in range(chunk * step, min(rows, (chunk + 1) * step)):
        source, to, kept = x + 4 * row * n, positions + 8 * row * k, 0
        for begin in range(0, n, BLOCK):
            end = min(n, begin + BLOCK)
            if kept == k:
                bound = np.int64(_rank(source, readi64(to, k - 1), flip))
                if not _any_above(source, begin, end, bound, flip):
                    continue
            for j in range(begin, end):
                rank = _rank(source, j, flip)
                if kept == k and rank <= _rank(source, readi64(to, k - 1), flip):
                    continue
                kept = min(k, kept + 1)
                at = kept - 1
                while at > 0 and _rank(source, readi64(to, at - 1), flip) < rank:
                    writei64(to, at, readi64(to, at - 1))
                    at -= 1
                writei64(to, at, j)


def accepts(a: Any, k: int) -> bool:
    """Whether the kernel takes this: float32, and few numbers of a row wanted."""
    return a.dtype == np.float32 and a.size > 0 and 0 < k <= MOST


def argtop(a: Any, k: int, axis: int, largest: bool) -> Any:
    """int64 positions of the k largest (smallest) along an axis, best first."""
    x = np.ascontiguousarray(np.moveaxis(a, axis, -1))
    n = x.shape[-1]
    rows = x.size // n
    found = empty((*x.shape[:-1], k), np.dtype(np.int64))
    step = max(1, WORK // n)
    run: Kernel = best_rows
    (run.serial if x.size < SMALL else run)(
        -(-rows // step), address(x), address(found), rows, n, k, 0 if largest else -1, step
    )
    return np.moveaxis(found, -1, axis)
