"""Winograd weight gradient for 3×3 kernels of stride 1.

The adjoint in the weights of y = Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A is

    gw = Gᵀ [ Σ_tiles (Bᵀ d B) ⊙ (A gy Aᵀ) ] G,

and over channels the product of entry f is a matrix product with the tiles as inner dimension:
S[f][c][o] = Σ_tiles V[f][tile][c] · D[f][tile][o]. As in the forward direction, narrow layers go through
blocks of tiles that stay in the cache, each of a fixed number of splits keeping sums of its own; wide
layers, whose sums would not fit, transform many tiles first and then run over f.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_cnn.geometry import Shape, Window

from .layout import to_channels_last
from .memory import empty
from .microkernel import call, columns_kernel
from .runtime import address, device, kernel, max_workers
from .simd import BYTES, WIDTH, load, load_f32, store, store_f32, unpack
from .winograd import GROUP, KERNELS, Problem, make_plan, padded
from .winograd_tiles import F4

SPLITS = 8
SPLIT_BYTES = 16 << 20  # of the sums of all splits
SUM_ROWS = 16  # channels of a chunk that transforms sums back
# Rows of the micro-kernel: they divide every padded channel count and fit the registers with 3 vectors.
MR = 8 if WIDTH == 16 else 4


@device
def entry_sums(plan, count, v, d, sums, k_list, first, wide, narrow, accumulate):
    """S[c][o] (+)= Σ_tiles V[tile][c] · D[tile][o] for one entry and the channels c from ``first``."""
    c, cp = unpack(plan + 8 * 8, 2)
    (op,) = unpack(plan + 8 * 15, 1)
    (nr,) = unpack(plan + 8 * 22, 1)
    for o in range(0, op, nr):
        for at in range(first[0], first[1], MR):
            call(wide if op - o >= nr else narrow, v + 4 * at, 0, k_list, count, d + 4 * o, 4 * op,
                         sums + 4 * (at * op + o), 4 * op, accumulate)  # fmt: skip


@kernel
def winograd_sums(chunk, worker, plan, count, v, d, sums, s_step, parts, wide, narrow, accumulate):
    """Entry f and a part of the channels a chunk."""
    cp = unpack(plan + 8 * 9, 1)[0]
    v_step, d_step = unpack(plan + 8 * 20, 2)
    (k_list,) = unpack(plan + 8 * 26, 1)
    f, part = chunk // parts, chunk % parts
    groups = cp // MR
    first = (groups * part // parts * MR, groups * (part + 1) // parts * MR)
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
                entry_sums(plan, count, v + f * v_step, d + f * d_step, out + f * s_step, k_list, (0, cp),
                           wide, narrow, first > begin)  # fmt: skip

    @kernel(name=f"winograd{m}_gradients")
    def gradients(chunk, worker, plan, first, count, gy, d, scratch, scratch_bytes):
        """The transformed gradients of ``GROUP`` tiles a chunk."""
        (op,) = unpack(plan + 8 * 15, 1)
        block, v_step, d_step = unpack(plan + 8 * 19, 3)
        work = scratch + worker * scratch_bytes
        for t in range(chunk * GROUP, min(count, chunk * GROUP + GROUP)):
            read_gradient(plan, first + t, gy, work, work + work_bytes, d + 4 * t * op, d_step)

    @kernel(name=f"winograd{m}_back")
    def back(
        chunk, worker, plan, sums, s_step, splits, gw, s_o, s_c, s_i, s_j, scratch, scratch_bytes
    ):
        """gw = Gᵀ(Σ_splits S)G for ``SUM_ROWS`` input and WIDTH output channels a chunk."""
        (c,) = unpack(plan + 8 * 8, 1)
        o, op = unpack(plan + 8 * 14, 2)
        total = scratch + worker * scratch_bytes
        work, taps = total + entries * BYTES, total + 2 * entries * BYTES
        n, first = chunk % (op // WIDTH) * WIDTH, chunk // (op // WIDTH) * SUM_ROWS
        for k in range(first, min(first + SUM_ROWS, c)):
            for f in range(entries):
                source = sums + f * s_step + 4 * (k * op + n)
                value = load(source)
                for split in range(1, splits):
                    value = value + load(source + split * entries * s_step)
                store(total + f * BYTES, value)
            weight_back(total, BYTES, work, taps)
            for lane in range(min(WIDTH, o - n)):
                target = gw + (n + lane) * s_o + k * s_c
                for i in range(3):
                    for j in range(3):
                        value_ij = load_f32(taps + (3 * i + j) * BYTES + 4 * lane)
                        store_f32(target + i * s_i + j * s_j, value_ij)

    return split_sums, gradients, back


GRADIENT_KERNELS = {4: _kernels(F4)}


def conv_weight_grad(x: Any, gy: Any, shape: Shape, window: Window, groups: int, m: int = 4) -> Any:
    """As ``conv_direct.conv_weight_grad``, for a 3×3 kernel of stride 1 without groups."""
    x, gy = to_channels_last(x), to_channels_last(gy)
    (n, c, h, w), (o, p, q) = x.shape, gy.shape[1:]
    pad = (window.padding[0][0], window.padding[1][0])
    plan = make_plan(Problem(n, c, h, w, x.strides, pad, o, p, q, gy.strides), m, True)
    split_sums, gradients, back = GRADIENT_KERNELS[m]
    entries, cp, op, table = (m + 2) ** 2, padded(c), padded(o), address(plan.table)
    s_step = cp * op * 4 + 64
    splits = (
        1
        if plan.staged
        else max(1, min(SPLITS, SPLIT_BYTES // (entries * s_step), plan.tiles // plan.block))
    )
    sums = empty((splits * entries * s_step // 4,), np.float32)
    local = entries * (BYTES + 4 * max(cp, op)) + 2 * entries * BYTES
    micro = [columns_kernel(1, MR, nv).load() for nv in (plan.panels.wide, plan.panels.narrow)]
    if plan.staged:
        _staged_sums(plan, x, gy, sums, s_step, local, m, micro)
    else:
        per_worker = local + entries * (plan.v_step + plan.m_step)
        scratch = empty((per_worker * max_workers() // 4 + 16,), np.float32)
        split_sums(splits, table, address(x), address(gy), address(sums), s_step, splits,
                   address(scratch), per_worker, *micro)  # fmt: skip
    gw = empty(shape, np.float32)
    scratch = empty((local * max_workers() // 4 + 16,), np.float32)
    chunks = -(-c // SUM_ROWS) * (op // WIDTH)
    back(
        chunks,
        table,
        address(sums),
        s_step,
        splits,
        address(gw),
        *gw.strides,
        address(scratch),
        local,
    )
    return gw


def _staged_sums(
    plan: Any, x: Any, gy: Any, sums: Any, s_step: int, local: int, m: int, micro: list[int]
) -> None:
    """All tiles in blocks: transform x and gy, then add to the sums entry by entry."""
    entries, table = (m + 2) ** 2, address(plan.table)
    gradients = GRADIENT_KERNELS[m][1]
    scratch = empty((local * max_workers() // 4 + 16,), np.float32)
    v, d = (empty((entries * step // 4,), np.float32) for step in (plan.v_step, plan.m_step))
    parts = 2
    for first in range(0, plan.tiles, plan.block):
        count = min(plan.block, plan.tiles - first)
        chunks = -(-count // GROUP)
        KERNELS[m].inputs(
            chunks, table, first, count, address(x), address(v), address(scratch), local
        )
        gradients(chunks, table, first, count, address(gy), address(d), address(scratch), local)
        winograd_sums(entries * parts, table, count, address(v), address(d), address(sums), s_step,
                      parts, *micro, first > 0)  # fmt: skip
