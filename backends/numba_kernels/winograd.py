"""Winograd convolution: 3×3 kernels of stride 1, and the stages that ``winograd_strided`` shares.

Three stages (``winograd_tiles`` has the mathematics):

1. each input tile is transformed: V[f][tile][channel], f = 0 … (r+3)² − 1;
2. for each f, a matrix product over channels: M[f] = V[f] · U[f], U the transformed weights;
3. each output tile is transformed back.

The input may be cut into *phases*, every second pixel with a kernel of its own: their channels
follow one another in V and U, so that the products add them up.

Narrow layers run all three for a block of tiles at a time, in one kernel: V and M of a block stay
in the second-level cache (``fused``). Wide layers have weights larger than that cache, which every
block would read again; there each stage runs over many tiles before the next (``staged``).

The input gradient of such a convolution is the convolution of gy with the kernel turned by 180° and
its channel axes exchanged, padded by 2 − padding.
"""

from __future__ import annotations

from functools import lru_cache
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from tinygrad_cnn.geometry import Shape, Window

from .layout import channels_last, copy_floats, copy_window, to_channels_last
from .memory import empty
from .microkernel import (
    ACCUMULATE,
    EVEN_ROWS,
    RELU,
    Panels,
    call,
    even_rows_kernel,
    panels,
)
from .runtime import address, device, kernel, worker_scratch
from .simd import (
    BYTES,
    WIDTH,
    load,
    load_f32,
    splat,
    store,
    store_f32,
    transpose_part,
    unpack,
)
from .winograd_tiles import F2, F3, M, Transforms

# Rows of the micro-kernel for NV = 1, 2, 3: tiles of V are evenly spaced.
MR = tuple(most // 4 * 4 for _, most in EVEN_ROWS)
FUSED_BYTES = 512 * 1024  # V and M of a block of tiles
STAGED_BYTES = 16 << 20  # V and M of all tiles between two stages
STAGED_WEIGHTS = 16 << 20  # transformed weights above which stages are separate
STAGED_SUMS = 1 << 20  # sums of a weight gradient, likewise
WEIGHT_ROWS = 64  # of a chunk that transforms weights
GROUP = 8  # tiles of a chunk that only transforms
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


@device
def products(plan, first, count, v, mm, u, wide, narrow):
    """M[f] = V[f] · U[f] for one f, on the ``count`` tiles from ``first`` on (rounded up to whole
    MR)."""
    (k,) = unpack(plan + 8 * 10, 1)
    (op,) = unpack(plan + 8 * 15, 1)
    nr, mr_wide, mr_narrow, u_step, a_rows, c_rows, taps = unpack(plan + 8 * 22, 7)
    for o in range(0, op, nr):
        width = min(nr, op - o)
        mr = mr_wide if width == nr else mr_narrow
        entry = wide if width == nr else narrow
        for t in range(first, first + count, mr):
            call(entry, v, a_rows + 8 * t, taps, 1, k, u + o * k * 4, mm + 4 * o, c_rows + 8 * t,
                 WIDTH, 0, 0)  # fmt: skip


@device
def taps_rows(taps: int) -> int:
    """Vectors of room for the taps of WIDTH columns: whole squares."""
    return -(-taps // WIDTH) * WIDTH


@device
def read_taps(w, s_n, s_i, s_j, high, wide, lanes, taps):
    """taps[i·wide + j][lane] = w[lane, i, j] for ``lanes`` of WIDTH columns, the others 0.

    Taps that are neighbours in memory are read as vectors and transposed: 4 times as fast.
    """
    if lanes == WIDTH and s_j == 4 and s_i == 4 * wide:
        for at in range(0, high * wide, WIDTH):
            transpose_part(taps + at * BYTES, BYTES, w + 4 * at, s_n, min(WIDTH, high * wide - at),
                           WIDTH)  # fmt: skip
        return
    for tap in range(high * wide):
        source, to = w + tap // wide * s_i + tap % wide * s_j, taps + tap * BYTES
        store(to, splat(np.float32(0)))
        for lane in range(lanes):
            store_f32(to + 4 * lane, load_f32(source + lane * s_n))


def _kernels(F):
    """The kernels for one size of the taps."""
    r, size, entries = F.r, F.size, F.entries
    input_tile, output_tile, weight_tile = F.input, F.output, F.weight
    work_bytes = entries * BYTES

    @device
    def read_tile(plan, index, x, work, local, target, step):
        """Transform input tile ``index``, phase after phase; at the border by way of a copy padded
        with zeros."""
        tiles, high, wide, phases, parts, s_n, s_h, s_w, c, cp = unpack(plan, 10)
        image, place = index // (high * wide), index % (high * wide)
        for phase in range(phases):
            start, h, w, top, left = unpack(parts + PHASE_BYTES * phase, 5)
            row, column = place // wide * M - top, place % wide * M - left
            source, to = x + start + image * s_n, target + 4 * phase * cp
            inside = row >= 0 and column >= 0 and row + size <= h and column + size <= w
            if inside and c == cp:
                input_tile(source + row * s_h + column * s_w, s_h, s_w, cp, work, to, step)
            else:
                (copier,) = unpack(plan + 8 * 29, 1)
                call(copier, local, 4 * cp, size, size, source, s_h, s_w, 4, h, w, c, row, column)
                input_tile(local, size * 4 * cp, 4 * cp, cp, work, to, step)

    @device
    def write_tile(plan, index, source, work, local, y, bias, mode):
        """Transform output tile ``index`` back; at the border by way of a copy."""
        tiles, high, wide = unpack(plan, 3)
        p, q, o, op, o_n, o_h, o_w, block, v_step, m_step = unpack(plan + 8 * 12, 10)
        image, place = index // (high * wide), index % (high * wide)
        row, column = place // wide * M, place % wide * M
        rows, columns = min(M, p - row), min(M, q - column)
        target = y + image * o_n + row * o_h + column * o_w
        old, relu = mode & ACCUMULATE, mode & RELU
        if rows == M and columns == M and o == op:
            output_tile(source, m_step, op, work, target, o_h, o_w, old, bias, relu)
            return
        if old:
            for i in range(rows):
                for j in range(columns):
                    copy_floats(local + (i * M + j) * 4 * op, target + i * o_h + j * o_w, o)
        output_tile(source, m_step, op, work, local, 4 * M * op, 4 * op, old, bias, relu)
        for i in range(rows):
            for j in range(columns):
                copy_floats(target + i * o_h + j * o_w, local + (i * M + j) * 4 * op, o)

    @kernel(name=f"winograd{r}_fused")
    def fused(chunk, worker, plan, x, y, u, bias, mode, scratch, scratch_bytes, wide, narrow):
        """All three stages for one block of tiles."""
        (tiles,) = unpack(plan, 1)
        (cp,) = unpack(plan + 8 * 9, 1)
        (op,) = unpack(plan + 8 * 15, 1)
        v_pitch, m_pitch = unpack(plan + 8 * 30, 2)
        block, v_step, m_step = unpack(plan + 8 * 19, 3)
        (u_step,) = unpack(plan + 8 * 25, 1)
        work = scratch + worker * scratch_bytes
        local = work + work_bytes
        v = local + entries * 4 * max(cp, op)
        mm = v + entries * v_step
        first = chunk * block
        count = min(block, tiles - first)
        for t in range(count):
            read_tile(plan, first + t, x, work, local, v + 4 * t * v_pitch, v_step)
        for f in range(entries):
            products(plan, 0, count, v + f * v_step, mm + f * m_step, u + f * u_step, wide, narrow)
        for t in range(count):
            write_tile(plan, first + t, mm + 4 * t * m_pitch, work, local, y, bias, mode)

    @kernel(name=f"winograd{r}_inputs")
    def inputs(chunk, worker, plan, first, count, x, v, scratch, scratch_bytes):
        """Stage 1 for ``GROUP`` tiles a chunk."""
        (v_pitch,) = unpack(plan + 8 * 30, 1)
        block, v_step = unpack(plan + 8 * 19, 2)
        work = scratch + worker * scratch_bytes
        for t in range(chunk * GROUP, min(count, chunk * GROUP + GROUP)):
            read_tile(plan, first + t, x, work, work + work_bytes, v + 4 * t * v_pitch, v_step)

    @kernel(name=f"winograd{r}_outputs")
    def outputs(chunk, worker, plan, first, count, mm, y, bias, mode, scratch, scratch_bytes):
        """Stage 3 for ``GROUP`` tiles a chunk."""
        (m_pitch,) = unpack(plan + 8 * 31, 1)
        work = scratch + worker * scratch_bytes
        for t in range(chunk * GROUP, min(count, chunk * GROUP + GROUP)):
            write_tile(
                plan, first + t, mm + 4 * t * m_pitch, work, work + work_bytes, y, bias, mode
            )

    @device
    def transform_columns(
        w, s_k, s_n, s_i, s_j, high, wide, part, first, last, n, lanes, target, k_step, u_step,
        work,
    ):  # fmt: skip
        """WIDTH columns of U, of which ``lanes`` exist, for the rows from ``first`` to ``last`` of
        the phase at ``part``: target[f][k − first][column]."""
        i, i_step, rows, j, j_step, columns = unpack(part + 40, 6)
        square = work + work_bytes
        taps = square + r * r * BYTES
        for at in range(0, r * r * BYTES, BYTES):
            store(square + at, splat(np.float32(0)))
        for k in range(first, last):
            read_taps(w + k * s_k + n * s_n, s_n, s_i, s_j, high, wide, lanes, taps)
            for row in range(r):
                for column in range(r):
                    if row < rows and column < columns:
                        tap = (i + row * i_step) * wide + j + column * j_step
                        store(square + (r * row + column) * BYTES, load(taps + tap * BYTES))
            weight_tile(square, work, target + (k - first) * k_step, u_step)

    @kernel(name=f"winograd{r}_weights")
    def weights(chunk, worker, plan, w, s_k, s_n, s_i, s_j, high, wide, u, scratch, scratch_bytes):
        """U[f][panel][k][column] for WEIGHT_ROWS channels of all phases and WIDTH columns a chunk.

        Neighbouring k of one panel are neighbours in memory: the streams are written in order.
        """
        phases, parts = unpack(plan + 8 * 3, 2)
        c, cp, k_count = unpack(plan + 8 * 8, 3)
        o, op = unpack(plan + 8 * 14, 2)
        (nr,) = unpack(plan + 8 * 22, 1)
        (u_step,) = unpack(plan + 8 * 25, 1)
        n, first = chunk % (op // WIDTH) * WIDTH, chunk // (op // WIDTH) * WEIGHT_ROWS
        panel = n // nr * nr
        width, last = min(nr, op - panel), min(first + WEIGHT_ROWS, c)
        to = u + (panel * k_count + n - panel + first * width) * 4
        for phase in range(phases):  # one by one: each writes (r+3)² streams
            transform_columns(w, s_k, s_n, s_i, s_j, high, wide, parts + PHASE_BYTES * phase,
                              first, last, n, min(WIDTH, o - n), to + phase * cp * width * 4,
                              4 * width, u_step, scratch + worker * scratch_bytes)  # fmt: skip
        if last == c and k_count > c:  # the channels that only pad a phase
            for f in range(entries):
                for phase in range(phases):
                    for k in range(c, cp):
                        place = to + f * u_step + (phase * cp + k - first) * width * 4
                        store(place, splat(np.float32(0)))

    @kernel(name=f"winograd{r}_panel_products")
    def panel_products(
        chunk,
        worker,
        plan,
        count,
        v,
        mm,
        w,
        s_k,
        s_n,
        s_i,
        s_j,
        high,
        columns,
        scratch,
        scratch_bytes,
        wide,
        narrow,
    ):
        """Stage 2 of all tiles for one panel a chunk, whose weights are transformed on the way.

        WEIGHT_ROWS input channels at a time, so that the transformed weights never leave the cache:
        for 512 channels all of them together would be 38 MB.
        """
        phases, parts = unpack(plan + 8 * 3, 2)
        c, cp = unpack(plan + 8 * 8, 2)
        o, op = unpack(plan + 8 * 14, 2)
        v_step, m_step, nr, mr_wide, mr_narrow, u_step, a_rows, c_rows, taps = unpack(
            plan + 8 * 20, 9
        )
        work = scratch + worker * scratch_bytes
        u = work + work_bytes + (r * r + taps_rows(high * columns)) * BYTES
        first = chunk * nr
        width = min(nr, op - first)
        mr, entry = (mr_wide, wide) if width == nr else (mr_narrow, narrow)
        step = WEIGHT_ROWS * width * 4 + 64
        blocks = -(-c // WEIGHT_ROWS)
        for block in range(phases * blocks):
            phase, k = block // blocks, block % blocks * WEIGHT_ROWS
            last = min(k + WEIGHT_ROWS, c)
            for n in range(0, width, WIDTH):
                transform_columns(w, s_k, s_n, s_i, s_j, high, columns,
                                  parts + PHASE_BYTES * phase, k, last, first + n,
                                  min(WIDTH, o - first - n), u + 4 * n, 4 * width, step,
                                  work)  # fmt: skip
            start = v + 4 * (phase * cp + k)
            for f in range(entries):
                for t in range(0, count, mr):
                    call(entry, start + f * v_step, a_rows + 8 * t, taps, 1, last - k,
                         u + f * step, mm + f * m_step + 4 * first, c_rows + 8 * t, WIDTH,
                         ACCUMULATE if block else 0, 0)  # fmt: skip

    return SimpleNamespace(
        fused=fused,
        inputs=inputs,
        outputs=outputs,
        weights=weights,
        panel_products=panel_products,
        read_tile=read_tile,
    )


KERNELS = {F.r: _kernels(F) for F in (F3, F2)}


class Weights(NamedTuple):
    """Kernels as a matrix: address, byte strides of (k, n, i, j), rows and columns."""

    start: int
    strides: Shape
    high: int
    wide: int

    @property
    def arguments(self) -> tuple[int, ...]:
        """In the order of the kernels' arguments."""
        return (self.start, *self.strides, self.high, self.wide)

    @property
    def taps_bytes(self) -> int:
        """See ``taps_rows``."""
        return -(-self.high * self.wide // WIDTH) * WIDTH * BYTES


def transform_weights(
    plan: Plan, w: Weights, problem: Problem, F: Transforms, u: int, scratch: int
) -> None:
    """U of all weights, to the address u."""
    chunks = -(-problem.c // WEIGHT_ROWS) * (padded(problem.o) // WIDTH)
    KERNELS[F.r].weights(chunks, address(plan.table), *w.arguments, u, scratch,
                         _weight_bytes(w, F))  # fmt: skip


def _weight_bytes(w: Weights, F: Transforms) -> int:
    """Scratch memory of a worker that transforms weights."""
    return (F.entries + F.r**2) * BYTES + w.taps_bytes


def convolve(
    problem: Problem, F: Transforms, x: int, y: int, w: Weights, bias: Any, mode: int
) -> None:
    """Run a problem on the arrays at the addresses x and y."""
    plan = make_plan(problem, F)
    bias = _padded_bias(bias, padded(problem.o))
    if plan.staged:
        return _run_staged(plan, problem, x, y, w, bias, mode, F)
    per_worker = _local_bytes(problem, F) + F.entries * (plan.v_step + plan.m_step)
    u_bytes = -(-F.entries * plan.u_step // 64) * 64
    u = worker_scratch(max(per_worker, _weight_bytes(w, F)), u_bytes)
    transform_weights(plan, w, problem, F, u, u + u_bytes)
    KERNELS[F.r].fused(
        -(-plan.tiles // plan.block), address(plan.table), x, y, u,
        0 if bias is None else address(bias), mode, u + u_bytes, per_worker, *_micro(plan),
    )  # fmt: skip
    return None


def _run_staged(
    plan: Plan, problem: Problem, x: int, y: int, w: Weights, bias: Any, mode: int, F: Transforms
) -> None:
    run, entries, table = KERNELS[F.r], F.entries, address(plan.table)
    local = _local_bytes(problem, F)
    panel_bytes = _weight_bytes(w, F) + entries * (WEIGHT_ROWS * plan.panels.nr * 4 + 64)
    scratch = worker_scratch(max(local, panel_bytes))
    v, mm = (empty((entries * step // 4,), np.float32) for step in (plan.v_step, plan.m_step))
    for first in range(0, plan.tiles, plan.block):
        count = min(plan.block, plan.tiles - first)
        groups = -(-count // GROUP)
        run.inputs(groups, table, first, count, x, address(v), scratch, local)
        run.panel_products(plan.panels.number, table, count, address(v), address(mm),
                           *w.arguments, scratch, panel_bytes, *_micro(plan))  # fmt: skip
        run.outputs(groups, table, first, count, address(mm), y,
                    0 if bias is None else address(bias), mode, scratch,
                    local)  # fmt: skip


def _local_bytes(problem: Problem, F: Transforms) -> int:
    """Scratch memory for the transform of one tile: its temporaries and a padded copy."""
    width: int = F.entries * (BYTES + 4 * max(padded(problem.c), padded(problem.o)))
    return width


def _micro(plan: Plan) -> tuple[int, int]:
    """Addresses of the micro-kernels."""
    step = int(plan.table[30]) * 4  # from tile to tile of V
    wide, narrow = plan.panels.wide, plan.panels.narrow
    return (
        even_rows_kernel(MR[wide - 1], wide, WIDTH, step).load(),
        even_rows_kernel(MR[narrow - 1], narrow, WIDTH, step).load(),
    )


def _padded_bias(bias: Any, op: int) -> Any:
    """The bias with zeros up to a whole vector."""
    if bias is None:
        return None
    out = np.zeros(op, np.float32)
    out[: bias.size] = bias
    return out


def whole(x: Any, top: int, left: int, turned: bool = False) -> tuple[Phase, ...]:
    """The one phase of a 3×3 kernel of stride 1, or of the kernel turned by 180°."""
    h, w = x.shape[2:]
    taps = (2, -1, 3) if turned else (0, 1, 3)
    return (Phase(0, h, w, top, left, *taps, *taps),)


def conv(
    x: Any, w: Any, bias: Any, window: Window, groups: int, relu: bool = False, into: Any = None
) -> Any:
    """As ``conv_direct.conv``, for a 3×3 kernel of stride 1 without groups."""
    x = to_channels_last(x)
    y = (
        channels_last((x.shape[0], w.shape[0], *window.output(x.shape[2:])))
        if into is None
        else into
    )
    phases = whole(x, window.padding[0][0], window.padding[1][0])
    problem = problem_of(x.shape[:2], x.strides, phases, y.shape[1:], y.strides)
    weights = Weights(address(w), (w.strides[1], w.strides[0], *w.strides[2:]), 3, 3)
    mode = (RELU if relu else 0) | (ACCUMULATE if into is not None else 0)
    convolve(problem, F3, address(x), address(y), weights, bias, mode)
    return y


def conv_input_grad(
    gy: Any, w: Any, shape: Shape, window: Window, groups: int, into: Any = None
) -> Any:
    """As ``conv_direct.conv_input_grad``, for a 3×3 kernel of stride 1 without groups."""
    gy = to_channels_last(gy)
    gx = channels_last(shape) if into is None else into
    phases = whole(gy, 2 - window.padding[0][0], 2 - window.padding[1][0], turned=True)
    problem = problem_of(gy.shape[:2], gy.strides, phases, shape[1:], gx.strides)
    weights = Weights(address(w), w.strides, 3, 3)
    mode = ACCUMULATE if into is not None else 0
    convolve(problem, F3, address(gy), address(gx), weights, None, mode)
    return gx
