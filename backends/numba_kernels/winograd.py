"""Winograd convolution for 3×3 kernels of stride 1: forward and input gradient.

Three stages (``winograd_tiles`` has the mathematics):

1. each input tile is transformed: V[f][tile][channel], f = 0 … (m+2)² − 1;
2. for each f, a matrix product over channels: M[f] = V[f] · U[f], U the transformed weights;
3. each output tile is transformed back.

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
from .runtime import address, device, kernel, max_workers
from .simd import BYTES, WIDTH, load_f32, splat, store, store_f32, unpack
from .winograd_tiles import F4

# Rows of the micro-kernel for NV = 1, 2, 3: tiles of V are evenly spaced.
MR = tuple(most // 4 * 4 for _, most in EVEN_ROWS)
FUSED_BYTES = 512 * 1024  # V and M of a block of tiles
STAGED_BYTES = 16 << 20  # V and M of all tiles between two stages
STAGED_WEIGHTS = 16 << 20  # transformed weights above which stages are separate
STAGED_SUMS = 1 << 20  # sums of a weight gradient, likewise
WEIGHT_ROWS = 64  # of a chunk that transforms weights
GROUP = 8  # tiles of a chunk that only transforms


class Problem(NamedTuple):
    """One 3×3 stride-1 convolution: sizes, byte strides and the top left padding."""

    n: int
    c: int
    h: int
    w: int
    x_strides: Shape
    pad: tuple[int, int]
    o: int
    p: int
    q: int
    y_strides: Shape


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


@lru_cache(maxsize=512)
def make_plan(problem: Problem, m: int, gradient: bool = False) -> Plan:
    """Blocking for one problem with m × m output tiles; ``gradient``: of the weights."""
    n, c, h, w, (s_n, _, s_h, s_w), pad, o, p, q, (o_n, _, o_h, o_w) = problem
    entries = (m + 2) ** 2
    high, wide = -(-p // m), -(-q // m)
    tiles = n * high * wide
    cp, op, cut = padded(c), padded(o), panels(padded(o))
    tile_bytes = entries * 4 * (cp + op)
    staged = entries * cp * op * 4 > (STAGED_SUMS if gradient else STAGED_WEIGHTS)
    if staged:
        block = min(tiles, max(64, STAGED_BYTES // tile_bytes))
    else:
        least = 32 if gradient else 16  # the sums of a gradient are read and written once a block
        block = min(tiles, 64, max(least, FUSED_BYTES // tile_bytes // 8 * 8))
    # One more cache line from entry to entry: a power of two would put all of them into one cache
    # set.
    v_step, m_step = ((block + max(MR)) * 4 * width + 64 for width in (cp, op))
    u_step = c * op * 4 + 64
    a_rows = np.arange(block + max(MR), dtype=np.int64) * 4 * cp
    c_rows = np.arange(block + max(MR), dtype=np.int64) * 4 * op
    taps = np.zeros(1, np.int64)
    table = (tiles, high, wide, h, w, s_n, s_h, s_w, c, cp, *pad, p, q, o, op, o_n, o_h, o_w, block,
             v_step, m_step, cut.nr, MR[cut.wide - 1], MR[cut.narrow - 1], u_step,
             address(a_rows), address(c_rows), address(taps), copy_window.load())  # fmt: skip
    return Plan(np.array(table, np.int64), tiles, block, staged, v_step, m_step, u_step, cut,
                [a_rows, c_rows, taps])  # fmt: skip


@device
def products(plan, first, count, v, mm, u, wide, narrow):
    """M[f] = V[f] · U[f] for one f, on the ``count`` tiles from ``first`` on (rounded up to whole
    MR)."""
    c, cp = unpack(plan + 8 * 8, 2)
    (op,) = unpack(plan + 8 * 15, 1)
    nr, mr_wide, mr_narrow, u_step, a_rows, c_rows, taps = unpack(plan + 8 * 22, 7)
    for o in range(0, op, nr):
        width = min(nr, op - o)
        mr = mr_wide if width == nr else mr_narrow
        entry = wide if width == nr else narrow
        for t in range(first, first + count, mr):
            call(entry, v, a_rows + 8 * t, taps, 1, c, u + o * c * 4, mm + 4 * o, c_rows + 8 * t,
                 WIDTH, 0, 0)  # fmt: skip


def _kernels(F):
    """The kernels for one tile size."""
    m, size = F.m, F.m + 2
    entries = size * size
    input_tile, output_tile, weight_tile = F.input, F.output, F.weight
    work_bytes = entries * BYTES

    @device
    def read_tile(plan, index, x, work, local, target, step):
        """Transform input tile ``index``; at the border by way of a copy padded with zeros."""
        tiles, high, wide, h, w, s_n, s_h, s_w, c, cp, pad_r, pad_c = unpack(plan, 12)
        image, place = index // (high * wide), index % (high * wide)
        row, column = place // wide * m - pad_r, place % wide * m - pad_c
        source = x + image * s_n
        inside = row >= 0 and column >= 0 and row + size <= h and column + size <= w
        if inside and c == cp:
            input_tile(source + row * s_h + column * s_w, s_h, s_w, cp, work, target, step)
        else:
            (copier,) = unpack(plan + 8 * 29, 1)
            call(copier, local, 4 * cp, size, size, source, s_h, s_w, 4, h, w, c, row, column)
            input_tile(local, size * 4 * cp, 4 * cp, cp, work, target, step)

    @device
    def write_tile(plan, index, source, work, local, y, bias, mode):
        """Transform output tile ``index`` back; at the border by way of a copy."""
        tiles, high, wide = unpack(plan, 3)
        p, q, o, op, o_n, o_h, o_w, block, v_step, m_step = unpack(plan + 8 * 12, 10)
        image, place = index // (high * wide), index % (high * wide)
        row, column = place // wide * m, place % wide * m
        rows, columns = min(m, p - row), min(m, q - column)
        target = y + image * o_n + row * o_h + column * o_w
        old, relu = mode & ACCUMULATE, mode & RELU
        if rows == m and columns == m and o == op:
            output_tile(source, m_step, op, work, target, o_h, o_w, old, bias, relu)
            return
        if old:
            for r in range(rows):
                for s in range(columns):
                    copy_floats(local + (r * m + s) * 4 * op, target + r * o_h + s * o_w, o)
        output_tile(source, m_step, op, work, local, 4 * m * op, 4 * op, old, bias, relu)
        for r in range(rows):
            for s in range(columns):
                copy_floats(target + r * o_h + s * o_w, local + (r * m + s) * 4 * op, o)

    @kernel(name=f"winograd{m}_fused")
    def fused(chunk, worker, plan, x, y, u, bias, mode, scratch, scratch_bytes, wide, narrow):
        """All three stages for one block of tiles."""
        (tiles,) = unpack(plan, 1)
        (cp,) = unpack(plan + 8 * 9, 1)
        (op,) = unpack(plan + 8 * 15, 1)
        block, v_step, m_step = unpack(plan + 8 * 19, 3)
        (u_step,) = unpack(plan + 8 * 25, 1)
        work = scratch + worker * scratch_bytes
        local = work + work_bytes
        v = local + entries * 4 * max(cp, op)
        mm = v + entries * v_step
        first = chunk * block
        count = min(block, tiles - first)
        for t in range(count):
            read_tile(plan, first + t, x, work, local, v + 4 * t * cp, v_step)
        for f in range(entries):
            products(plan, 0, count, v + f * v_step, mm + f * m_step, u + f * u_step, wide, narrow)
        for t in range(count):
            write_tile(plan, first + t, mm + 4 * t * op, work, local, y, bias, mode)

    @kernel(name=f"winograd{m}_inputs")
    def inputs(chunk, worker, plan, first, count, x, v, scratch, scratch_bytes):
        """Stage 1 for ``GROUP`` tiles a chunk."""
        (cp,) = unpack(plan + 8 * 9, 1)
        block, v_step = unpack(plan + 8 * 19, 2)
        work = scratch + worker * scratch_bytes
        for t in range(chunk * GROUP, min(count, chunk * GROUP + GROUP)):
            read_tile(plan, first + t, x, work, work + work_bytes, v + 4 * t * cp, v_step)

    @kernel(name=f"winograd{m}_outputs")
    def outputs(chunk, worker, plan, first, count, mm, y, bias, mode, scratch, scratch_bytes):
        """Stage 3 for ``GROUP`` tiles a chunk."""
        (op,) = unpack(plan + 8 * 15, 1)
        work = scratch + worker * scratch_bytes
        for t in range(chunk * GROUP, min(count, chunk * GROUP + GROUP)):
            write_tile(plan, first + t, mm + 4 * t * op, work, work + work_bytes, y, bias, mode)

    @device
    def transform_columns(
        w, s_k, s_n, s_i, s_j, first, last, n, lanes, target, k_step, u_step, work
    ):
        """WIDTH columns of U, of which ``lanes`` exist, for the rows from ``first`` to ``last``:
        gathered, then transformed. target[f][k − first][column]."""
        taps = work + work_bytes
        for at in range(0, 9 * BYTES, BYTES):
            store(taps + at, splat(np.float32(0)))
        for k in range(first, last):
            for lane in range(lanes):
                source = w + k * s_k + (n + lane) * s_n
                for i in range(3):
                    for j in range(3):
                        value = load_f32(source + i * s_i + j * s_j)
                        store_f32(taps + (3 * i + j) * BYTES + 4 * lane, value)
            weight_tile(taps, work, target + (k - first) * k_step, u_step)

    @kernel(name=f"winograd{m}_weights")
    def weights(chunk, worker, plan, w, s_k, s_n, s_i, s_j, u, scratch, scratch_bytes):
        """U[f][panel][k][column] for WEIGHT_ROWS of k and WIDTH columns a chunk.

        Neighbouring k of one panel are neighbours in memory: the (m+2)² streams are written in
        order.
        """
        (c,) = unpack(plan + 8 * 8, 1)
        o, op = unpack(plan + 8 * 14, 2)
        (nr,) = unpack(plan + 8 * 22, 1)
        (u_step,) = unpack(plan + 8 * 25, 1)
        n, first = chunk % (op // WIDTH) * WIDTH, chunk // (op // WIDTH) * WEIGHT_ROWS
        panel = n // nr * nr
        width = min(nr, op - panel)
        to = u + (panel * c + n - panel + first * width) * 4
        transform_columns(w, s_k, s_n, s_i, s_j, first, min(first + WEIGHT_ROWS, c), n,
                          min(WIDTH, o - n), to, 4 * width, u_step,
                          scratch + worker * scratch_bytes)  # fmt: skip

    @kernel(name=f"winograd{m}_panel_products")
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
        scratch,
        scratch_bytes,
        wide,
        narrow,
    ):
        """Stage 2 of all tiles for one panel a chunk, whose weights are transformed on the way.

        WEIGHT_ROWS input channels at a time, so that the transformed weights never leave the cache:
        for 512 channels all of them together would be 38 MB.
        """
        (c,) = unpack(plan + 8 * 8, 1)
        o, op = unpack(plan + 8 * 14, 2)
        v_step, m_step, nr, mr_wide, mr_narrow, u_step, a_rows, c_rows, taps = unpack(
            plan + 8 * 20, 9
        )
        work = scratch + worker * scratch_bytes
        u = work + work_bytes + 9 * BYTES
        first = chunk * nr
        width = min(nr, op - first)
        mr, entry = (mr_wide, wide) if width == nr else (mr_narrow, narrow)
        step = WEIGHT_ROWS * width * 4 + 64
        for k in range(0, c, WEIGHT_ROWS):
            rows = min(WEIGHT_ROWS, c - k)
            for n in range(0, width, WIDTH):
                transform_columns(w, s_k, s_n, s_i, s_j, k, k + rows, first + n, min(WIDTH,
                                  o - first - n), u + 4 * n, 4 * width, step, work)  # fmt: skip
            for f in range(entries):
                for t in range(0, count, mr):
                    call(entry, v + f * v_step + 4 * k, a_rows + 8 * t, taps, 1, rows, u + f * step,
                         mm + f * m_step + 4 * first, c_rows + 8 * t, WIDTH, ACCUMULATE if k else 0,
                         0)  # fmt: skip

    return SimpleNamespace(
        fused=fused,
        inputs=inputs,
        outputs=outputs,
        weights=weights,
        panel_products=panel_products,
        read_tile=read_tile,
    )


KERNELS = {4: _kernels(F4)}


def _scratch(per_worker: int) -> Any:
    return empty((per_worker * max_workers() // 4 + 16,), np.float32)


class Weights(NamedTuple):
    """A 3×3 kernel as a matrix: address of tap (0, 0) and byte strides of (k, n, i, j)."""

    start: int
    strides: Shape


def transform_weights(plan: Plan, w: Weights, problem: Problem, m: int) -> Any:
    """U of all weights."""
    u = empty(((m + 2) ** 2 * plan.u_step // 4,), np.float32)
    per_worker = ((m + 2) ** 2 + 9) * BYTES
    scratch = _scratch(per_worker)
    chunks = -(-problem.c // WEIGHT_ROWS) * (padded(problem.o) // WIDTH)
    KERNELS[m].weights(chunks, address(plan.table), w.start, *w.strides, address(u),
                       address(scratch), per_worker)  # fmt: skip
    return u


def _run(
    plan: Plan, problem: Problem, x: Any, y: Any, w: Weights, bias: Any, mode: int, m: int
) -> None:
    if plan.staged:
        return _run_staged(plan, problem, x, y, w, bias, mode, m)
    entries = (m + 2) ** 2
    u = transform_weights(plan, w, problem, m)
    per_worker = _local_bytes(problem, m) + entries * (plan.v_step + plan.m_step)
    scratch = _scratch(per_worker)
    KERNELS[m].fused(
        -(-plan.tiles // plan.block), address(plan.table), address(x), address(y), address(u),
        0 if bias is None else address(bias), mode, address(scratch), per_worker, *_micro(plan),
    )  # fmt: skip
    return None


def _run_staged(
    plan: Plan, problem: Problem, x: Any, y: Any, w: Weights, bias: Any, mode: int, m: int
) -> None:
    run, entries, table = KERNELS[m], (m + 2) ** 2, address(plan.table)
    local = _local_bytes(problem, m)
    panel_bytes = (entries + 9) * BYTES + entries * (WEIGHT_ROWS * plan.panels.nr * 4 + 64)
    scratch = _scratch(max(local, panel_bytes))
    v, mm = (empty((entries * step // 4,), np.float32) for step in (plan.v_step, plan.m_step))
    for first in range(0, plan.tiles, plan.block):
        count = min(plan.block, plan.tiles - first)
        groups = -(-count // GROUP)
        run.inputs(groups, table, first, count, address(x), address(v), address(scratch), local)
        run.panel_products(plan.panels.number, table, count, address(v), address(mm), w.start,
                           *w.strides, address(scratch), panel_bytes, *_micro(plan))  # fmt: skip
        run.outputs(groups, table, first, count, address(mm), address(y),
                    0 if bias is None else address(bias), mode, address(scratch),
                    local)  # fmt: skip


def _local_bytes(problem: Problem, m: int) -> int:
    """Scratch memory for the transform of one tile: its temporaries and a padded copy."""
    return (m + 2) ** 2 * (BYTES + 4 * max(padded(problem.c), padded(problem.o)))


def _micro(plan: Plan) -> tuple[int, int]:
    """Addresses of the micro-kernels."""
    step = int(plan.table[9]) * 4  # from tile to tile of V
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


def conv(
    x: Any,
    w: Any,
    bias: Any,
    window: Window,
    groups: int,
    relu: bool = False,
    into: Any = None,
    m: int = 4,
) -> Any:
    """As ``conv_direct.conv``, for a 3×3 kernel of stride 1 without groups."""
    x = to_channels_last(x)
    y = (
        channels_last((x.shape[0], w.shape[0], *window.output(x.shape[2:])))
        if into is None
        else into
    )
    (n, c, h, width), (o, p, q) = x.shape, y.shape[1:]
    pad = (window.padding[0][0], window.padding[1][0])
    problem = Problem(n, c, h, width, x.strides, pad, o, p, q, y.strides)
    plan = make_plan(problem, m)
    strides = (w.strides[1], w.strides[0], *w.strides[2:])
    mode = (RELU if relu else 0) | (ACCUMULATE if into is not None else 0)
    _run(plan, problem, x, y, Weights(address(w), strides), _padded_bias(bias, padded(o)), mode, m)
    return y


def conv_input_grad(
    gy: Any, w: Any, shape: Shape, window: Window, groups: int, into: Any = None, m: int = 4
) -> Any:
    """As ``conv_direct.conv_input_grad``, for a 3×3 kernel of stride 1 without groups."""
    gy = to_channels_last(gy)
    gx = channels_last(shape) if into is None else into
    (n, o, p, q), (c, h, width) = gy.shape, shape[1:]
    pad = (2 - window.padding[0][0], 2 - window.padding[1][0])
    problem = Problem(n, o, p, q, gy.strides, pad, c, h, width, gx.strides)
    plan = make_plan(problem, m)
    s_o, s_c, s_i, s_j = w.strides
    turned = Weights(address(w) + 2 * (s_i + s_j), (s_o, s_c, -s_i, -s_j))
    _run(plan, problem, gy, gx, turned, None, ACCUMULATE if into is not None else 0, m)
    return gx
