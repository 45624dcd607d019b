"""Winograd convolution: the problem, how it is cut into blocks of tiles, and the table of it all
that the kernels read.

The input may be cut into *phases*, every second pixel with a kernel of its own: their channels
follow one another in V and U (see ``winograd``), so that the products add them up.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from tinygrad_cnn.geometry import Shape

from .layout import copy_window
from .microkernel import EVEN_ROWS, Panels, panels
from .runtime import address
from .simd import WIDTH
from .winograd_tiles import M, Transforms

# Rows of the micro-kernel for NV = 1, 2, 3: tiles of V are evenly spaced.
MR = tuple(most // 4 * 4 for _, most in EVEN_ROWS)
FUSED_BYTES = 512 * 1024  # V and M of a block of tiles
STAGED_BYTES = 16 << 20  # V and M of all tiles between two stages
STAGED_WEIGHTS = 16 << 20  # transformed weights above which stages are separate
STAGED_SUMS = 1 << 20  # sums of a weight gradient, likewise
PHASE_BYTES = 8 * 11  # of a row of the table of phases


class Phase(NamedTuple):
    """A part of the input with its kernel: where it begins (bytes), pixels, padding; its taps are
    rows i, i + i_step, … and columns j, j + j_step, … of the whole kernel."""

    start: int
    h: int
    w: int
    top: int
    left: int
    i: int
    i_step: int
    rows: int
    j: int
    j_step: int
    columns: int


class Problem(NamedTuple):
    """A stride-1 convolution: sizes and byte strides (x and y as (n, c, h, w))."""

    n: int
    c: int
    x_strides: Shape
    phases: tuple[Phase, ...]
    o: int
    p: int
    q: int
    y_strides: Shape


def problem_of(
    nc: Shape, x_strides: Shape, phases: tuple[Phase, ...], opq: Shape, y_strides: Shape
) -> Problem:
    """The problem of x (n, c, …) and y (…, o, p, q)."""
    (n, c), (o, p, q) = nc, opq
    return Problem(n, c, x_strides, phases, o, p, q, y_strides)


class Plan(NamedTuple):
    """Parameters of the kernels below; ``table`` in the order in which they unpack it."""

    table: np.ndarray
    tiles: int
    block: int  # tiles of a chunk (fused) or between two stages (staged)
    staged: bool
    v_step: int
    m_step: int
    u_step: int
    panels: Panels
    keep: list[np.ndarray]


def padded(channels: int) -> int:
    """The next multiple of the vector width."""
    return -(-channels // WIDTH) * WIDTH


def tile_pitch(channels: int) -> int:
    """Floats from tile to tile of V and M: multiples of 512 bytes would put the tiles that one
    micro-kernel reads into few sets of the first-level cache."""
    return channels + (WIDTH if channels % 128 == 0 else 0)


@lru_cache(maxsize=512)
def make_plan(problem: Problem, F: Transforms, gradient: bool = False) -> Plan:
    """Blocking for one problem with the transforms ``F``; ``gradient``: of the weights."""
    n, c, (s_n, _, s_h, s_w), phases, o, p, q, (o_n, _, o_h, o_w) = problem
    high, wide = -(-p // M), -(-q // M)
    tiles = n * high * wide
    cp, op, cut = padded(c), padded(o), panels(padded(o))
    k, kp = (c, cp) if len(phases) == 1 else (len(phases) * cp,) * 2
    tile_bytes = F.entries * 4 * (kp + op)
    staged = F.entries * kp * op * 4 > (STAGED_SUMS if gradient else STAGED_WEIGHTS)
    if staged:
        block = min(tiles, max(64, STAGED_BYTES // tile_bytes))
    else:
        least = 32 if gradient else 16  # the sums of a gradient are read and written once a block
        block = min(tiles, 64, max(least, FUSED_BYTES // tile_bytes // 8 * 8))
    # One more cache line from entry to entry: a power of two would put all of them into one cache
    # set.
    pitches = [tile_pitch(width) for width in (kp, op)]
    v_step, m_step = ((block + max(MR)) * 4 * pitch + 64 for pitch in pitches)
    u_step = k * op * 4 + 64
    parts = np.array(phases, np.int64)
    a_rows = np.arange(block + max(MR), dtype=np.int64) * 4 * pitches[0]
    c_rows = np.arange(block + max(MR), dtype=np.int64) * 4 * pitches[1]
    taps = np.zeros(1, np.int64)
    table = (tiles, high, wide, len(phases), address(parts), s_n, s_h, s_w, c, cp, k, kp, p, q, o,
             op, o_n, o_h, o_w, block, v_step, m_step, cut.nr, MR[cut.wide - 1],
             MR[cut.narrow - 1], u_step, address(a_rows), address(c_rows), address(taps),
             copy_window.load(), *pitches)  # fmt: skip
    return Plan(np.array(table, np.int64), tiles, block, staged, v_step, m_step, u_step, cut,
                [parts, a_rows, c_rows, taps])  # fmt: skip


def whole(x: Any, top: int, left: int, turned: bool = False) -> tuple[Phase, ...]:
    """The one phase of a 3×3 kernel of stride 1, or of the kernel turned by 180°."""
    h, w = x.shape[2:]
    taps = (2, -1, 3) if turned else (0, 1, 3)
    return (Phase(0, h, w, top, left, *taps, *taps),)
