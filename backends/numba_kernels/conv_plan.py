"""Convolution as a list of row addresses: the geometry behind ``conv_direct``.

A forward convolution, and each phase of an input gradient, is one *correlation*: output cells on a
regular grid, each the sum over some taps of an input pixel (all its channels) times a matrix,

    out[o0 + u·o_step] += Σ_taps in[i0 + u·i_step + offset(tap)] · W[tap]      on each axis.

Forward: one phase, i0 = −padding, i_step = stride, offset = tap·dilation, o_step = 1.

Input gradient: cell h of gx hears from output p through tap i when p·s + i·d − lo = h. Cells with
the same remainder r = (h + lo) mod s hear the same taps, those with i·d mod s = r, at
p = (h + lo − r)/s − (i·d − r)/s: so there is one phase a remainder, with i_step = 1 and o_step = s.
A stride-2 gradient is four small dense convolutions instead of one full of zeros, and a transposed
convolution is the same thing.

``Plan`` turns the phases of both axes into jobs of byte offsets for ``microkernel.rows_kernel``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import NamedTuple

import numpy as np

from tinygrad_cnn.geometry import Shape, Window

from .layout import copy_window
from .microkernel import (
    MAX_ROWS,
    REGISTERS,
    TILE_ROWS,
    columns_kernel,
    even_rows,
    even_rows_kernel,
    panels,
    rows_kernel,
)
from .runtime import address
from .simd import WIDTH

CACHE_BYTES = 256 * 1024  # what a chunk may hold of the input, and a panel of weights: half an L2
MAX_EVEN_STEP = 1024  # bytes: with wider pixels the loops are long, and a tile by list as fast
CHUNK_ROWS = 256  # output pixels of a chunk at least, where there are that many


class Phase(NamedTuple):
    """Output cells of one axis that share their taps; see the top of the file."""

    cells: int
    out_first: int
    out_step: int
    in_first: int
    in_step: int
    taps: tuple[tuple[int, int], ...]  # (kernel position, input offset), offsets ascending

    def reach(self, count: int) -> tuple[int, int]:
        """First and last input cell that the first ``count`` outputs read."""
        last = self.in_first + (count - 1) * self.in_step
        return self.in_first + self.taps[0][1], last + self.taps[-1][1]


def forward_phases(outputs: int, k: int, s: int, d: int, lo: int) -> list[Phase]:
    """The one phase of a forward convolution on one axis."""
    return [Phase(outputs, 0, 1, -lo, s, tuple((i, i * d) for i in range(k)))]


def adjoint_phases(inputs: int, k: int, s: int, d: int, lo: int) -> list[Phase]:
    """The phases of an input gradient on one axis; cells that hear no tap are in none of them."""
    phases = []
    for r in range(s):
        first = (r - lo) % s
        count = -(-(inputs - first) // s)
        taps = tuple((i, -((i * d - r) // s)) for i in range(k - 1, -1, -1) if i * d % s == r)
        if count > 0 and taps:
            phases.append(Phase(count, first, s, (first + lo - r) // s, 1, taps))
    return phases


class Source(NamedTuple):
    """The array that is read, as (N, C, H, W) with its byte strides."""

    shape: Shape
    strides: Shape


@dataclass(slots=True)
class Plan:
    """Everything about one geometry that ``conv_direct.correlate`` needs, as tables of integers.

    ``table`` holds the fields in the order in which the kernel unpacks them, ``jobs`` one row of
    eight integers a phase. ``k_lists`` give, for each phase, the kernel position and channel of
    every row of the packed matrix: (tap index i·J + j, channel) pairs. ``keep`` owns the lists
    behind the addresses.
    """

    chunks: int
    table: np.ndarray
    jobs: np.ndarray
    k_lists: list[np.ndarray]
    lists: np.ndarray  # their addresses
    places: np.ndarray  # of one job whose weights are contiguous: the row of each; else empty
    packed_bytes: int  # of the weights of all jobs
    scratch_bytes: int
    complete: bool  # every output cell is written
    micro: tuple[int, int]  # addresses of the micro-kernels for the full panels and the last
    keep: list[np.ndarray]


def padded_pitch(channels: int) -> int:
    """Bytes from pixel to pixel in a scratch image.

    A pitch that is a multiple of a large power of two would map all pixels to a few sets of the
    cache, where they push each other out; one more cache line a pixel spreads them.
    """
    return 4 * channels + (64 if 4 * channels % 1024 == 0 else 0)


def blocks(n: int, rows: int, columns: int, row_bytes: int) -> tuple[int, int]:
    """(images a chunk, bands an image) for images of rows × columns outputs; one of the two is 1.

    A chunk is large enough to pay for reading the weights and small enough for the cache; it does
    not depend on the number of threads. Work is cut into at least eight chunks where it can be.
    """
    image_bytes = max(1, rows * row_bytes)
    if rows * columns >= CHUNK_ROWS or n == 1:
        bands = max(1, -(-image_bytes // CACHE_BYTES), min(rows, -(-8 // n)))
        bands = min(bands, rows)
        return 1, -(-rows // -(-rows // bands))
    images = min(-(-CHUNK_ROWS // (rows * columns)), max(1, 2 * CACHE_BYTES // image_bytes))
    return max(1, min(images, -(-n // 8))), 1


def _merge(row_taps, column_taps, c_group, pitch, row_pitch, channels):
    """Taps as (byte offset, [(kernel position, …)]), neighbouring columns joined into one run."""
    joined = pitch == 4 * channels and c_group == channels
    groups: list[list[tuple[int, int]]] = []
    for position, offset in column_taps:
        if joined and groups and offset == groups[-1][-1][1] + 1:
            groups[-1].append((position, offset))
        else:
            groups.append([(position, offset)])
    if len({len(group) for group in groups}) > 1:  # runs must be equally long
        groups = [[tap] for tap in column_taps]
    return [
        (offset * row_pitch + group[0][1] * pitch, [(i, j) for j, _ in group])
        for i, offset in row_taps
        for group in groups
    ]


@lru_cache(maxsize=512)
def correlation_plan(
    source: Source,
    target: Source,
    w_strides: Shape,
    window: Window,
    groups: int,
    adjoint: bool,
    rows_together: int = 1,
) -> Plan:
    """The plan of a 2-D convolution of ``source`` into ``target``, or with ``adjoint`` of its input
    gradient (source is gy, target gx). ``w_strides`` are the weight's, as (O, C/groups, I, J).

    Bands are cut after multiples of ``rows_together`` output rows.
    """
    (n, channels, h, w), (s_n, s_c, s_h, s_w) = source
    (_, out_channels, *out_sizes), (o_n, _, o_h, o_w) = target
    make = adjoint_phases if adjoint else forward_phases
    per_axis = [
        make(size, k, s, d, lo)
        for size, k, s, d, (lo, _) in zip(
            out_sizes, window.kernel, window.stride, window.dilation, window.padding, strict=True
        )
    ]
    if not all(per_axis):
        nothing = np.zeros(0, np.int64)
        return Plan(0, nothing, nothing, [], nothing, nothing, 0, 0, False, (0, 0), [])
    (row_lo, row_hi), (col_lo, col_hi) = (_reach(phases) for phases in per_axis)
    c_group, o_group = channels // groups, out_channels // groups
    inside = row_lo >= 0 and col_lo >= 0 and row_hi < h and col_hi < w
    copies = not (inside and (s_c == 4 or channels == 1))
    columns = col_hi - col_lo + 1
    row_count = max(p.cells for p in per_axis[0])
    column_count = max(p.cells for p in per_axis[1])
    in_step = per_axis[0][0].in_step
    if copies:
        pitch = 4 * channels
        row_pitch = columns * pitch
        images, bands = blocks(n, row_count, column_count, in_step * row_pitch)
    else:
        pitch, row_pitch = s_w, s_h
        images, bands = blocks(n, row_count, column_count, in_step * w * channels * 4)
    band = -(-row_count // bands // rows_together) * rows_together
    bands = -(-row_count // band)
    scratch_rows = max(p.reach(min(band, p.cells))[1] for p in per_axis[0]) - row_lo + 1
    image_step = scratch_rows * row_pitch if copies else s_n
    origin = (row_lo, col_lo) if copies else (0, 0)
    k_strides = (w_strides[0 if adjoint else 1], *w_strides[2:])
    keep, jobs, k_lists, packed = [], [], [], 0
    cut = panels(o_group)
    for rows, cols in product(*per_axis):
        grid = (np.arange(images), np.arange(min(band, rows.cells)), np.arange(cols.cells))
        a_start = (rows.in_first - origin[0]) * row_pitch + (cols.in_first - origin[1]) * pitch
        a_rows = a_start + _offsets(
            grid, (image_step, rows.in_step * row_pitch, cols.in_step * pitch)
        )
        c_start = rows.out_first * o_h + cols.out_first * o_w
        c_rows = c_start + _offsets(grid, (o_n, rows.out_step * o_h, cols.out_step * o_w))
        merged = _merge(rows.taps, cols.taps, c_group, pitch, row_pitch, channels)
        taps = np.array([offset for offset, _ in merged], np.int64)
        run = len(merged[0][1]) * c_group
        positions = [(c, i, j) for _, tap in merged for i, j in tap for c in range(c_group)]
        k_lists.append(np.array(positions, np.int64) @ np.array(k_strides, np.int64))
        keep += [a_rows, c_rows, taps]
        jobs.append((address(a_rows), address(c_rows), rows.cells, cols.cells, address(taps),
                     len(taps), run, packed))  # fmt: skip
        packed += groups * len(positions) * cut.columns * 4
    out_band = band * per_axis[0][0].out_step * o_h
    lengths = math.gcd(*(cols.cells for cols in per_axis[1]))
    step = per_axis[1][0].in_step * pitch
    # Of the pixels' channels a group reads few, so its loops are short whatever the step is: up to
    # 1.2 times as fast.
    most = step if groups > 1 and cut.lanes == WIDTH else MAX_EVEN_STEP
    tiles = [row_tile(lengths, nv, cut.lanes, step, most) for nv in (cut.wide, cut.narrow)]
    table = (n, images, bands, band, int(copies), s_n, s_h, s_w, s_c, h, w, channels, row_lo,
             band * in_step, scratch_rows, col_lo, columns, pitch, groups, c_group, o_group, cut.nr,
             o_n, out_band, len(jobs), tiles[0][0], tiles[1][0], cut.columns,
             cut.lanes, copy_window.load())  # fmt: skip
    covered = [sum(p.cells for p in phases) for phases in per_axis]
    scratch = 2 * MAX_ROWS * 8 + (images * scratch_rows * row_pitch if copies else 0)
    return Plan(
        chunks=-(-n // images) * bands,
        table=np.array(table, np.int64),
        jobs=np.array(jobs, np.int64),
        k_lists=k_lists,
        lists=np.array([address(k_list) for k_list in k_lists], np.int64),
        places=_places(k_lists),
        packed_bytes=packed,
        scratch_bytes=-(-scratch // 64) * 64,
        complete=tuple(covered) == tuple(out_sizes),
        micro=(tiles[0][1], tiles[1][1]),
        keep=keep,
    )


def row_tile(
    length: int, nv: int, lanes: int, step: int, most: int = MAX_EVEN_STEP
) -> tuple[int, int]:
    """(rows, address of the micro-kernel): of pixels ``step`` bytes apart where whole tiles fill
    the output rows and the step is at most ``most``, else with a list of rows."""
    rows = even_rows(length, nv)
    if rows and 0 < step <= most:
        return rows, even_rows_kernel(rows, nv, lanes, step).load()
    return TILE_ROWS[nv - 1], rows_kernel(nv, lanes).load()


def _places(k_lists: list[np.ndarray]) -> np.ndarray:
    """The row at which each of the contiguous weights under one output channel is used."""
    order = np.argsort(k_lists[0])
    contiguous = np.array_equal(k_lists[0][order], 4 * np.arange(order.size))
    return order if len(k_lists) == 1 and contiguous else order[:0]


def _reach(phases: list[Phase]) -> tuple[int, int]:
    """First and last input cell that any of the phases reads."""
    reaches = [phase.reach(phase.cells) for phase in phases]
    return min(first for first, _ in reaches), max(last for _, last in reaches)


def _offsets(grid: tuple[np.ndarray, ...], steps: tuple[int, ...]) -> np.ndarray:
    """Σ index·step over all index tuples of the grid, the last index running fastest."""
    total = np.zeros(1, np.int64)
    for positions, step in zip(grid, steps, strict=True):
        total = (total[:, None] + positions * step).reshape(-1)
    return np.ascontiguousarray(total, np.int64)


# -- the weight gradient ---------------------------------------------------------------------------

SPLIT_BYTES = 4 << 20  # of partial weight gradients, all splits together
MAX_SPLITS = 16


@dataclass(slots=True)
class WeightPlan:
    """What ``conv_direct.weight_partials`` and ``weight_sum`` need; see there."""

    chunks: int
    table: np.ndarray
    k_list: np.ndarray  # byte offset into gw of every (tap, channel of the run)
    partial_bytes: int  # of one split
    splits: int
    sums: int  # chunks of weight_sum
    scratch_bytes: int
    micro: tuple[int, int]  # addresses of the micro-kernels for wide and narrow panels
    keep: list[np.ndarray]


@lru_cache(maxsize=512)
def weight_plan(
    source: Source, gradient: Source, w_shape: Shape, w_strides: Shape, window: Window, groups: int
) -> WeightPlan:
    """The plan of gw = Σ over pixels of x under a tap × gy, for x ``source`` and gy
    ``gradient``."""
    (n, channels, h, w), (s_n, s_c, s_h, s_w) = source
    (_, out_channels, *sizes), _ = gradient
    rows, cols = (
        forward_phases(size, k, s, d, lo)[0]
        for size, k, s, d, (lo, _) in zip(
            sizes, window.kernel, window.stride, window.dilation, window.padding, strict=True
        )
    )
    row_lo, (col_lo, col_hi) = rows.reach(rows.cells)[0], cols.reach(cols.cells)
    c_group, o_group = channels // groups, out_channels // groups
    columns, pitch = col_hi - col_lo + 1, padded_pitch(channels)
    row_pitch = columns * pitch
    images, bands = blocks(n, rows.cells, cols.cells, rows.in_step * row_pitch)
    band = -(-rows.cells // bands)
    scratch_rows = (band - 1) * rows.in_step + rows.taps[-1][1] + 1
    grid = (np.arange(images), np.arange(band), np.arange(cols.cells))
    pixels = _offsets(
        grid, (scratch_rows * row_pitch, rows.in_step * row_pitch, cols.in_step * pitch)
    )
    merged = _merge(rows.taps, cols.taps, c_group, pitch, row_pitch, channels)
    taps = np.array([offset for offset, _ in merged], np.int64)
    run = len(merged[0][1]) * c_group
    positions = [(c, i, j) for _, tap in merged for i, j in tap for c in range(c_group)]
    k_list = np.array(positions, np.int64) @ np.array(w_strides[1:], np.int64)
    cut = panels(o_group)
    steps = np.diff(taps)
    even = steps.size > 0 and bool((steps == steps[0]).all())
    tiles = [column_tile(len(taps) if even else 1, run, nv) for nv in (cut.wide, cut.narrow)]
    run_rows = max(-(-run // per) * per for _, per in tiles)
    if run_rows > run:  # several taps in a tile must be neighbours in the sums too
        tiles = [(1, per) for _, per in tiles]
    partial_bytes = groups * len(taps) * run_rows * cut.columns * 4
    units = -(-n // images) * bands
    splits = max(1, min(units, MAX_SPLITS, SPLIT_BYTES // partial_bytes))
    count = groups * cut.number
    shares = min(count, -(-MAX_SPLITS // 2 // splits))
    panel_bytes = len(pixels) * cut.nr * 4
    image_bytes = -(-(images * scratch_rows * row_pitch + 64) // 64) * 64
    g_n, g_o, g_p, g_q = gradient.strides
    # A dense gy with full vectors is read as it lies, unless a power of two apart: see
    # padded_pitch.
    dense = g_o == 4 and g_p == cols.cells * g_q and g_n == rows.cells * g_p
    as_it_lies = dense and o_group % cut.lanes == 0 and g_q <= 256
    table = (n, images, bands, band, s_n, s_h, s_w, s_c, h, w, channels, row_lo,
             band * rows.in_step, scratch_rows, col_lo, columns, pitch, rows.cells, cols.cells,
             *gradient.strides, c_group, o_group, cut.columns, cut.nr, cut.number, count, units,
             splits, shares, address(pixels), address(taps), len(taps), run, run_rows,
             steps[0] if even else 0, partial_bytes, panel_bytes, *tiles[0], *tiles[1],
             copy_window.load(), int(as_it_lies))  # fmt: skip
    return WeightPlan(
        chunks=splits * shares,
        table=np.array(table, np.int64),
        k_list=k_list,
        partial_bytes=partial_bytes,
        splits=splits,
        sums=count * len(taps),
        scratch_bytes=-(-(panel_bytes + image_bytes) // 64) * 64,
        micro=(
            columns_kernel(*tiles[0], cut.wide, cut.lanes).load(),
            columns_kernel(*tiles[1], cut.narrow, cut.lanes).load(),
        ),
        keep=[pixels, taps],
    )


def column_tile(taps: int, run: int, nv: int) -> tuple[int, int]:
    """(taps, rows of a run) of the ``columns_kernel``: the fewest loads and multiply-adds.

    The tile's registers bound it; unlike ``rows_kernel`` it needs only one address. Short runs
    (first layers, 1 to 3 channels) put several taps into one tile.
    """
    most = min((REGISTERS - 1 - nv) // nv, 28)
    if run <= most:
        return max(
            t for t in range(1, taps + 1) if taps % t == 0 and t * run <= max(most, run)
        ), run
    if run % 8 == 0 and most >= 8:
        return 1, 8
    return 1, min(range(most, 2, -1), key=lambda m: -(-run // m) * (m * nv + nv + 1))
