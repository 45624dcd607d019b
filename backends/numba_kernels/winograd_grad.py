"""Winograd weight gradient for 3×3 kernels of stride 1.

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

from .layout import to_channels_last
from .memory import empty
from .microkernel import call, columns_kernel
from .runtime import address, device, kernel, max_workers
from .simd import BYTES, WIDTH, load, load_f32, store, store_f32, unpack
from .winograd import GROUP, KERNELS, Plan, Problem, make_plan, padded
from .winograd_tiles import F4

SPLITS = 8
SPLIT_BYTES = 16 << 20  # of the sums of all splits
PANEL_ROWS = 64  # input channels of a chunk that adds up and transforms back at once
SUM_ROWS = 16  # channels of a chunk that transforms sums back
# Rows of the micro-kernel for one vector and for two or three: they divide every padded channel
# count and fit the registers.
MR_ONE, MR_MORE = {16: (16, 8), 8: (8, 4), 4: (4, 4)}[WIDTH]


@device
def entry_sums(plan, count, v, d, sums, k_list, first, wide, narrow, accumulate):
    """S[c][o] (+)= Σ_tiles V[tile][c] · D[tile][o] for one entry and the channels c from
    ``first``."""
    c, cp = unpack(plan + 8 * 8, 2)
    (op,) = unpack(plan + 8 * 15, 1)
    (nr,) = unpack(plan + 8 * 22, 1)
    for o in range(0, op, nr):
        entry = wide if op - o >= nr else narrow
        mr = MR_ONE if min(nr, op - o) == WIDTH else MR_MORE
        for at in range(first[0], first[1], mr):
            call(entry, v + 4 * at, 0, k_list, count, d + 4 * o, 4 * op,
                 sums + 4 * (at * op + o), 4 * op, accumulate)  # fmt: skip


@kernel
def winograd_sums(chunk, worker, plan, count, v, d, sums, s_step, parts, wide, narrow, accumulate):
    """Entry f and a part of the channels a chunk."""
    cp = unpack(plan + 8 * 9, 1)[0]
    v_step, d_step = unpack(plan + 8 * 20, 2)
    (k_list,) = unpack(plan + 8 * 26, 1)
    f, part = chunk // parts, chunk % parts
    groups = cp // MR_ONE
    first = (groups * part // parts * MR_ONE, groups * (part + 1) // parts * MR_ONE)
    entry_sums(plan, count, v + f * v_step, d + f * d_step, sums + f * s_step, k_list, first, wide,
               narrow, accumulate)  # fmt: skip


def _kernels(F):
    """The kernels for one tile size."""
    m, size = F.m, F.m + 2
    entries = size * size
    gradient_tile, weight_back = F.gradient, F.weight_back
    read_tile = KERNELS[m].read_tile
    work_bytes = entries * BYTES

    @device
    def read_gradient(plan, index, gy, work, local, target, step):
        """Transform gradient tile ``index``; at the border by way of a copy padded with zeros."""
        tiles, high, wide = unpack(plan, 3)
        p, q, o, op, o_n, o_h, o_w = unpack(plan + 8 * 12, 7)
        image, place = index // (high * wide), index % (high * wide)
        row, column = place // wide * m, place % wide * m
        source = gy + image * o_n
        if row + m <= p and column + m <= q and o == op:
            gradient_tile(source + row * o_h + column * o_w, o_h, o_w, op, work, target, step)
        else:
            (copier,) = unpack(plan + 8 * 29, 1)
            call(copier, local, 4 * op, m, m, source, o_h, o_w, 4, p, q, o, row, column)
            gradient_tile(local, m * 4 * op, 4 * op, op, work, target, step)

    @kernel(name=f"winograd{m}_split_sums")
    def split_sums(
        chunk, worker, plan, x, gy, sums, s_step, splits, scratch, scratch_bytes, wide, narrow
    ):
        """The sums over the tiles of one split."""
        (tiles,) = unpack(plan, 1)
        (cp,) = unpack(plan + 8 * 9, 1)
        (op,) = unpack(plan + 8 * 15, 1)
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
                read_tile(plan, first + t, x, work, local, v + 4 * t * cp, v_step)
                read_gradient(plan, first + t, gy, work, local, d + 4 * t * op, d_step)
            for f in range(entries):
                entry_sums(plan, count, v + f * v_step, d + f * d_step, out + f * s_step, k_list,
                           (0, cp), wide, narrow, first > begin)  # fmt: skip

    @kernel(name=f"winograd{m}_gradients")
    def gradients(chunk, worker, plan, first, count, gy, d, scratch, scratch_bytes):
        """The transformed gradients of ``GROUP`` tiles a chunk."""
        (op,) = unpack(plan + 8 * 15, 1)
        block, v_step, d_step = unpack(plan + 8 * 19, 3)
        work = scratch + worker * scratch_bytes
        for t in range(chunk * GROUP, min(count, chunk * GROUP + GROUP)):
            read_gradient(plan, first + t, gy, work, work + work_bytes, d + 4 * t * op, d_step)

    @device
    def transform_back(sums, step, splits, split_step, gw, s_i, s_j, s_o, lanes, total):
        """gw[o, :, :] = Gᵀ(Σ_splits S)G for one input and WIDTH output channels, of which
        ``lanes`` exist."""
        work, taps = total + entries * BYTES, total + 2 * entries * BYTES
        for f in range(entries):
            value = load(sums + f * step)
            for split in range(1, splits):
                value = value + load(sums + f * step + split * split_step)
            store(total + f * BYTES, value)
        weight_back(total, BYTES, work, taps)
        for lane in range(lanes):
            for i in range(3):
                for j in range(3):
                    value_ij = load_f32(taps + (3 * i + j) * BYTES + 4 * lane)
                    store_f32(gw + lane * s_o + i * s_i + j * s_j, value_ij)

    @kernel(name=f"winograd{m}_back")
    def back(
        chunk, worker, plan, sums, s_step, splits, gw, s_o, s_c, s_i, s_j, scratch, scratch_bytes
    ):
        """gw from the sums of all splits, for ``SUM_ROWS`` input and WIDTH output channels a
        chunk."""
        (c,) = unpack(plan + 8 * 8, 1)
        o, op = unpack(plan + 8 * 14, 2)
        n, first = chunk % (op // WIDTH) * WIDTH, chunk // (op // WIDTH) * SUM_ROWS
        for k in range(first, min(first + SUM_ROWS, c)):
            transform_back(sums + 4 * (k * op + n), s_step, splits, entries * s_step,
                           gw + n * s_o + k * s_c, s_i, s_j, s_o, min(WIDTH, o - n),
                           scratch + worker * scratch_bytes)  # fmt: skip

    @kernel(name=f"winograd{m}_panel_sums")
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
        s_i,
        s_j,
        scratch,
        scratch_bytes,
        wide,
        narrow,
    ):
        """Sums over all tiles for PANEL_ROWS input channels and one panel of output channels a
        chunk,
        transformed back while they are in the cache."""
        c, cp = unpack(plan + 8 * 8, 2)
        o, op = unpack(plan + 8 * 14, 2)
        v_step, d_step, nr = unpack(plan + 8 * 20, 3)
        (k_list,) = unpack(plan + 8 * 26, 1)
        panels = -(-op // nr)
        first, n = chunk // panels * PANEL_ROWS, chunk % panels * nr
        width, rows = min(nr, op - n), min(PANEL_ROWS, cp - first)
        total = scratch + worker * scratch_bytes
        sums = total + (2 * entries + 9) * BYTES
        step = PANEL_ROWS * width * 4 + 64
        for f in range(entries):
            mr = MR_ONE if width == WIDTH else MR_MORE
            for at in range(0, rows, mr):
                call(wide if width == nr else narrow, v + f * v_step + 4 * (first + at), 0, k_list,
                     count, d + f * d_step + 4 * n, 4 * op, sums + f * step + 4 * at * width,
                     4 * width, 0)  # fmt: skip
        for k in range(min(rows, c - first)):
            for lane in range(0, width, WIDTH):
                transform_back(sums + 4 * (k * width + lane), step, 1, 0,
                               gw + (n + lane) * s_o + (first + k) * s_c, s_i, s_j, s_o, min(WIDTH,
                               o - n - lane), total)  # fmt: skip

    return SimpleNamespace(
        split_sums=split_sums, gradients=gradients, back=back, panel_sums=panel_sums
    )


GRADIENT_KERNELS = {4: _kernels(F4)}


def conv_weight_grad(x: Any, gy: Any, shape: Shape, window: Window, groups: int, m: int = 4) -> Any:
    """As ``conv_direct.conv_weight_grad``, for a 3×3 kernel of stride 1 without groups."""
    x, gy = to_channels_last(x), to_channels_last(gy)
    (n, c, h, w), (o, p, q) = x.shape, gy.shape[1:]
    pad = (window.padding[0][0], window.padding[1][0])
    plan = make_plan(Problem(n, c, h, w, x.strides, pad, o, p, q, gy.strides), m, True)
    gw = empty(shape, np.float32)
    if plan.staged:
        _staged(plan, x, gy, gw, m)
    else:
        _split(plan, x, gy, gw, m)
    return gw


def _micro(plan: Plan) -> tuple[int, int]:
    """Addresses of the micro-kernels."""
    wide, narrow = plan.panels.wide, plan.panels.narrow
    rows = [MR_ONE if nv == 1 else MR_MORE for nv in (wide, narrow)]
    return columns_kernel(1, rows[0], wide).load(), columns_kernel(1, rows[1], narrow).load()


def _scratch(per_worker: int) -> Any:
    return empty((per_worker * max_workers() // 4 + 16,), np.float32)


def _sizes(x: Any, gy: Any, m: int) -> tuple[int, int, int]:
    """(padded channels of x, of gy, bytes of scratch memory for transforms)."""
    cp, op, entries = padded(x.shape[1]), padded(gy.shape[1]), (m + 2) ** 2
    return cp, op, entries * (BYTES + 4 * max(cp, op)) + (2 * entries + 9) * BYTES


def _split(plan: Plan, x: Any, gy: Any, gw: Any, m: int) -> None:
    """Blocks of tiles in the cache, in a fixed number of splits with sums of their own."""
    run, entries, table = GRADIENT_KERNELS[m], (m + 2) ** 2, address(plan.table)
    cp, op, local = _sizes(x, gy, m)
    s_step = cp * op * 4 + 64
    splits = max(1, min(SPLITS, SPLIT_BYTES // (entries * s_step), plan.tiles // plan.block))
    sums = empty((splits * entries * s_step // 4,), np.float32)
    per_worker = local + entries * (plan.v_step + plan.m_step)
    scratch = _scratch(per_worker)
    run.split_sums(splits, table, address(x), address(gy), address(sums), s_step, splits,
                   address(scratch), per_worker, *_micro(plan))  # fmt: skip
    _back(plan, sums, s_step, splits, gw, x, gy, m)


def _back(
    plan: Plan, sums: Any, s_step: int, splits: int, gw: Any, x: Any, gy: Any, m: int
) -> None:
    _, op, local = _sizes(x, gy, m)
    scratch = _scratch(local)
    chunks = -(-x.shape[1] // SUM_ROWS) * (op // WIDTH)
    GRADIENT_KERNELS[m].back(chunks, address(plan.table), address(sums), s_step, splits,
                             address(gw), *gw.strides, address(scratch), local)  # fmt: skip


def _staged(plan: Plan, x: Any, gy: Any, gw: Any, m: int) -> None:
    """Transform x and gy for many tiles, then add up entry by entry.

    When these are all tiles, the sums of a panel are transformed back at once; else they are kept.
    """
    run, entries, table = GRADIENT_KERNELS[m], (m + 2) ** 2, address(plan.table)
    cp, op, local = _sizes(x, gy, m)
    panel_bytes = (2 * entries + 9) * BYTES + entries * (PANEL_ROWS * plan.panels.nr * 4 + 64)
    scratch = _scratch(max(local, panel_bytes))
    v, d = (empty((entries * step // 4,), np.float32) for step in (plan.v_step, plan.m_step))
    s_step, parts = cp * op * 4 + 64, 2
    at_once = plan.tiles <= plan.block
    sums = None if at_once else empty((entries * s_step // 4,), np.float32)
    for first in range(0, plan.tiles, plan.block):
        count = min(plan.block, plan.tiles - first)
        chunks = -(-count // GROUP)
        KERNELS[m].inputs(
            chunks, table, first, count, address(x), address(v), address(scratch), local
        )
        run.gradients(chunks, table, first, count, address(gy), address(d), address(scratch), local)
        if at_once:
            run.panel_sums(-(-cp // PANEL_ROWS) * plan.panels.number, table, count, address(v),
                           address(d), address(gw), *gw.strides, address(scratch), panel_bytes,
                           *_micro(plan))  # fmt: skip
        else:
            winograd_sums(entries * parts, table, count, address(v), address(d), address(sums),
                          s_step, parts, *_micro(plan), first > 0)  # fmt: skip
    if sums is not None:
        _back(plan, sums, s_step, 1, gw, x, gy, m)
