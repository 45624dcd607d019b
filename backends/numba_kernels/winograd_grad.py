"""Winograd weight gradient: 3×3 kernels of stride 1, and what ``winograd_strided`` shares.

The adjoint in the weights of y = Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A is

    gw = Gᵀ [ Σ_tiles (Bᵀ d B) ⊙ (A gy Aᵀ) ] G,

and over channels the product of entry f is a matrix product with the tiles as inner dimension:
S[f][c][o] = Σ_tiles V[f][tile][c] · D[f][tile][o]. As in the forward direction, narrow layers go
through blocks of tiles that stay in the cache, each of a fixed number of splits keeping sums of
its own; wide layers, whose sums would not fit, transform many tiles first and then run over f.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from tinygrad_cnn.geometry import Shape, Window

from .layout import to_channels_last, zero_floats
from .memory import empty
from .microkernel import call, columns_kernel
from .runtime import address, device, kernel, worker_scratch
from .simd import BYTES, WIDTH, load, load_f32, store, store_f32, transpose_part, unpack
from .winograd_plan import PHASE_BYTES, Plan, Problem, make_plan, padded, problem_of, whole
from .winograd_stages import GROUP, KERNELS, taps_rows
from .winograd_tiles import F2, F3, M, Transforms

SPLITS = 8
SPLIT_BYTES = 16 << 20  # of the sums of all splits
PANEL_ROWS = 64  # of the sums in a chunk that adds up and transforms back at once
SUM_ROWS = 16  # channels of a chunk that transforms sums back
# Rows of the micro-kernel for one vector and for two or three: they divide every padded channel
# count and fit the registers.
MR_ONE, MR_MORE = {16: (16, 8), 8: (8, 4), 4: (4, 4), 1: (1, 1)}[WIDTH]


@device
def entry_sums(plan, count, v, d, sums, k_list, first, wide, narrow, accumulate):
    """S[c][o] (+)= Σ_tiles V[tile][c] · D[tile][o] for one entry and the channels c from
    ``first``."""
    (op,) = unpack(plan + 8 * 15, 1)
    (nr,) = unpack(plan + 8 * 22, 1)
    (d_pitch,) = unpack(plan + 8 * 31, 1)
    for o in range(0, op, nr):
        entry = wide if op - o >= nr else narrow
        mr = MR_ONE if min(nr, op - o) == WIDTH else MR_MORE
        for at in range(first[0], first[1], mr):
            call(entry, v + 4 * at, 0, k_list, count, d + 4 * o, 4 * d_pitch,
                 sums + 4 * (at * op + o), 4 * op, accumulate)  # fmt: skip


@kernel
def winograd_sums(chunk, worker, plan, count, v, d, sums, s_step, parts, wide, narrow, accumulate):
    """Entry f and a part of the channels a chunk."""
    kp = unpack(plan + 8 * 11, 1)[0]
    v_step, d_step = unpack(plan + 8 * 20, 2)
    (k_list,) = unpack(plan + 8 * 26, 1)
    f, part = chunk // parts, chunk % parts
    groups = kp // MR_ONE
    first = (groups * part // parts * MR_ONE, groups * (part + 1) // parts * MR_ONE)
    entry_sums(plan, count, v + f * v_step, d + f * d_step, sums + f * s_step, k_list, first, wide,
               narrow, accumulate)  # fmt: skip


def _kernels(F):
    """The kernels for one size of the taps."""
    r, entries = F.r, F.entries
    gradient_tile, weight_back = F.gradient, F.weight_back
    read_tile = KERNELS[r].read_tile
    work_bytes = entries * BYTES

    @device
    def read_gradient(plan, index, gy, work, local, target, step):
        """Transform gradient tile ``index``; at the border by way of a copy padded with zeros."""
        tiles, high, wide = unpack(plan, 3)
        p, q, o, op, o_n, o_h, o_w = unpack(plan + 8 * 12, 7)
        image, place = index // (high * wide), index % (high * wide)
        row, column = place // wide * M, place % wide * M
        source = gy + image * o_n
        if row + M <= p and column + M <= q and o == op:
            gradient_tile(source + row * o_h + column * o_w, o_h, o_w, op, work, target, step)
        else:
            (copier,) = unpack(plan + 8 * 29, 1)
            call(copier, local, 4 * op, M, M, source, o_h, o_w, 4, p, q, o, row, column)
            gradient_tile(local, M * 4 * op, 4 * op, op, work, target, step)

    @kernel(name=f"winograd{r}_split_sums")
    def split_sums(
        chunk, worker, plan, x, gy, sums, s_step, splits, scratch, scratch_bytes, wide, narrow
    ):
        """The sums over the tiles of one split."""
        (tiles,) = unpack(plan, 1)
        cp, k, kp = unpack(plan + 8 * 9, 3)
        (op,) = unpack(plan + 8 * 15, 1)
        v_pitch, d_pitch = unpack(plan + 8 * 30, 2)
        block, v_step, d_step = unpack(plan + 8 * 19, 3)
        (k_list,) = unpack(plan + 8 * 26, 1)
        work = scratch + worker * scratch_bytes
        local = work + work_bytes
        v = local + entries * 4 * max(cp, op)
        d = v + entries * v_step
        out = sums + chunk * entries * s_step
        begin, end = tiles * chunk // splits, tiles * (chunk + 1) // splits
        for first in range(begin, end, block):
            count = min(block, end - first)
            for t in range(count):
                read_tile(plan, first + t, x, work, local, v + 4 * t * v_pitch, v_step)
                read_gradient(plan, first + t, gy, work, local, d + 4 * t * d_pitch, d_step)
            for f in range(entries):
                entry_sums(plan, count, v + f * v_step, d + f * d_step, out + f * s_step, k_list,
                           (0, kp), wide, narrow, first > begin)  # fmt: skip

    @kernel(name=f"winograd{r}_gradients")
    def gradients(chunk, worker, plan, first, count, gy, d, scratch, scratch_bytes):
        """The transformed gradients of ``GROUP`` tiles a chunk."""
        (d_pitch,) = unpack(plan + 8 * 31, 1)
        block, v_step, d_step = unpack(plan + 8 * 19, 3)
        work = scratch + worker * scratch_bytes
        for t in range(chunk * GROUP, min(count, chunk * GROUP + GROUP)):
            read_gradient(plan, first + t, gy, work, work + work_bytes, d + 4 * t * d_pitch, d_step)

    @device
    def transform_back(
        plan, sums, step, phase_step, splits, split_step, gw, s_o, high, wide, lanes, total
    ):
        """gw[o, :, :] = Gᵀ(Σ_splits S)G for one input and WIDTH output channels, of which
        ``lanes`` exist, of all phases."""
        phases, parts = unpack(plan + 8 * 3, 2)
        work, square = total + entries * BYTES, total + 2 * entries * BYTES
        taps = square + r * r * BYTES
        zero_floats(taps, taps_rows(high * wide) * WIDTH)
        for phase in range(phases):
            i, i_step, rows, j, j_step, columns = unpack(parts + PHASE_BYTES * phase + 40, 6)
            start = sums + phase * phase_step
            for f in range(entries):
                value = load(start + f * step)
                for split in range(1, splits):
                    value = value + load(start + f * step + split * split_step)
                store(total + f * BYTES, value)
            weight_back(total, BYTES, work, square)
            for row in range(r):
                for column in range(r):
                    if row < rows and column < columns:
                        tap = (i + row * i_step) * wide + j + column * j_step
                        store(taps + tap * BYTES, load(square + (r * row + column) * BYTES))
        if lanes == WIDTH:
            for at in range(0, high * wide, WIDTH):
                transpose_part(gw + 4 * at, s_o, taps + at * BYTES, BYTES, WIDTH,
                               min(WIDTH, high * wide - at))  # fmt: skip
        else:
            for lane in range(lanes):
                for tap in range(high * wide):
                    value_at = load_f32(taps + tap * BYTES + 4 * lane)
                    store_f32(gw + lane * s_o + 4 * tap, value_at)

    @kernel(name=f"winograd{r}_back")
    def back(
        chunk, worker, plan, sums, s_step, splits, gw, s_o, s_c, high, wide, scratch, scratch_bytes
    ):
        """gw from the sums of all splits, for ``SUM_ROWS`` input and WIDTH output channels a
        chunk."""
        c, cp = unpack(plan + 8 * 8, 2)
        o, op = unpack(plan + 8 * 14, 2)
        n, first = chunk % (op // WIDTH) * WIDTH, chunk // (op // WIDTH) * SUM_ROWS
        for k in range(first, min(first + SUM_ROWS, c)):
            transform_back(plan, sums + 4 * (k * op + n), s_step, 4 * cp * op, splits,
                           entries * s_step, gw + n * s_o + k * s_c, s_o, high, wide,
                           min(WIDTH, o - n), scratch + worker * scratch_bytes)  # fmt: skip

    @kernel(name=f"winograd{r}_panel_sums")
    def panel_sums(
        chunk,
        worker,
        plan,
        count,
        v,
        d,
        gw,
        s_o,
        s_c,
        high,
        wide,
        scratch,
        scratch_bytes,
        wide_entry,
        narrow_entry,
    ):
        """Sums over all tiles for PANEL_ROWS (channels of all phases) and one panel of output
        channels a chunk, transformed back while they are in the cache."""
        (phases,) = unpack(plan + 8 * 3, 1)
        c, cp = unpack(plan + 8 * 8, 2)
        o, op = unpack(plan + 8 * 14, 2)
        v_step, d_step, nr = unpack(plan + 8 * 20, 3)
        (k_list,) = unpack(plan + 8 * 26, 1)
        (d_pitch,) = unpack(plan + 8 * 31, 1)
        panels, together = -(-op // nr), PANEL_ROWS // phases
        n, first = chunk % panels * nr, chunk // panels * together
        width, rows = min(nr, op - n), min(together, cp - first)
        total = scratch + worker * scratch_bytes
        sums = total + (2 * entries + r * r + taps_rows(high * wide)) * BYTES
        step, phase_step = PANEL_ROWS * width * 4 + 64, rows * width * 4
        mr = MR_ONE if width == WIDTH else MR_MORE
        entry = wide_entry if width == nr else narrow_entry
        for f in range(entries):
            for phase in range(phases):
                start, rows_of_d = v + f * v_step + 4 * (phase * cp + first), d + f * d_step + 4 * n
                to = sums + f * step + phase * phase_step
                for at in range(0, rows, mr):
                    call(entry, start + 4 * at, 0, k_list, count, rows_of_d, 4 * d_pitch,
                         to + 4 * at * width, 4 * width, 0)  # fmt: skip
        for k in range(min(rows, c - first)):
            for lane in range(0, width, WIDTH):
                transform_back(plan, sums + 4 * (k * width + lane), step, phase_step, 1, 0,
                               gw + (n + lane) * s_o + (first + k) * s_c, s_o, high, wide,
                               min(WIDTH, o - n - lane), total)  # fmt: skip

    return SimpleNamespace(
        split_sums=split_sums, gradients=gradients, back=back, panel_sums=panel_sums
    )


GRADIENT_KERNELS = {F.r: _kernels(F) for F in (F3, F2)}


def conv_weight_grad(x: Any, gy: Any, shape: Shape, window: Window, groups: int) -> Any:
    """As ``conv_direct.conv_weight_grad``, for a 3×3 kernel of stride 1 without groups."""
    x, gy = to_channels_last(x), to_channels_last(gy)
    gw = empty(shape, np.float32)
    phases = whole(x, window.padding[0][0], window.padding[1][0])
    problem = problem_of(x.shape[:2], x.strides, phases, gy.shape[1:], gy.strides)
    correlate(problem, F3, address(x), address(gy), gw)
    return gw


def correlate(problem: Problem, F: Transforms, x: int, gy: int, gw: Any) -> None:
    """Fill the dense array gw (o, c, i, j) from x and gy at their addresses."""
    plan = make_plan(problem, F, True)
    target = (address(gw), *gw.strides[:2], *gw.shape[2:])
    (_staged if plan.staged else _split)(plan, problem, F, x, gy, target)


def _micro(plan: Plan) -> tuple[int, int]:
    """Addresses of the micro-kernels."""
    wide, narrow = plan.panels.wide, plan.panels.narrow
    rows = [MR_ONE if nv == 1 else MR_MORE for nv in (wide, narrow)]
    return columns_kernel(1, rows[0], wide).load(), columns_kernel(1, rows[1], narrow).load()


def _back_bytes(F: Transforms, target: Shape) -> int:
    """Scratch memory for the transform of sums back to taps."""
    squares = -(-target[3] * target[4] // WIDTH) * WIDTH
    return (2 * F.entries + F.r**2 + squares) * BYTES


def _local_bytes(problem: Problem, F: Transforms, target: Shape) -> int:
    """Scratch memory for transforms of any kind."""
    width = max(padded(problem.c), padded(problem.o))
    return F.entries * (BYTES + 4 * width) + _back_bytes(F, target)


def _split(plan: Plan, problem: Problem, F: Transforms, x: int, gy: int, target: Shape) -> None:
    """Blocks of tiles in the cache, in a fixed number of splits with sums of their own."""
    local, s_step = _local_bytes(problem, F, target), _sum_bytes(problem)
    splits = max(1, min(SPLITS, SPLIT_BYTES // (F.entries * s_step), plan.tiles // plan.block))
    sums = empty((splits * F.entries * s_step // 4,), np.float32)
    per_worker = local + F.entries * (plan.v_step + plan.m_step)
    scratch = worker_scratch(per_worker)
    GRADIENT_KERNELS[F.r].split_sums(
        splits, address(plan.table), x, gy, address(sums), s_step, splits, scratch,
        per_worker, *_micro(plan),
    )  # fmt: skip
    _back(plan, problem, F, sums, splits, target)


def _sum_bytes(problem: Problem) -> int:
    """From entry to entry of the sums."""
    return len(problem.phases) * padded(problem.c) * padded(problem.o) * 4 + 64


def _back(
    plan: Plan, problem: Problem, F: Transforms, sums: Any, splits: int, target: Shape
) -> None:
    local = _local_bytes(problem, F, target)
    scratch = worker_scratch(local)
    blocks = -(-problem.c // SUM_ROWS)
    GRADIENT_KERNELS[F.r].back(
        blocks * (padded(problem.o) // WIDTH), address(plan.table), address(sums),
        _sum_bytes(problem), splits, *target, scratch, local,
    )  # fmt: skip


def _staged(plan: Plan, problem: Problem, F: Transforms, x: int, gy: int, target: Shape) -> None:
    """Transform x and gy for many tiles, then add up entry by entry.

    When these are all tiles, the sums of a panel are transformed back at once; else they are kept.
    """
    run, entries, table = GRADIENT_KERNELS[F.r], F.entries, address(plan.table)
    local, s_step, parts = _local_bytes(problem, F, target), _sum_bytes(problem), 2
    panel_bytes = _back_bytes(F, target) + entries * (PANEL_ROWS * plan.panels.nr * 4 + 64)
    scratch = worker_scratch(max(local, panel_bytes))
    v, d = (empty((entries * step // 4,), np.float32) for step in (plan.v_step, plan.m_step))
    at_once = plan.tiles <= plan.block
    sums = None if at_once else empty((entries * s_step // 4,), np.float32)
    for first in range(0, plan.tiles, plan.block):
        count = min(plan.block, plan.tiles - first)
        chunks = -(-count // GROUP)
        KERNELS[F.r].inputs(chunks, table, first, count, x, address(v), scratch, local)
        run.gradients(chunks, table, first, count, gy, address(d), scratch, local)
        if at_once:
            blocks = -(-padded(problem.c) // (PANEL_ROWS // len(problem.phases)))
            run.panel_sums(blocks * plan.panels.number, table, count, address(v), address(d),
                           *target, scratch, panel_bytes, *_micro(plan))  # fmt: skip
        else:
            winograd_sums(entries * parts, table, count, address(v), address(d), address(sums),
                          s_step, parts, *_micro(plan), first > 0)  # fmt: skip
    if sums is not None:
        _back(plan, problem, F, sums, 1, target)
