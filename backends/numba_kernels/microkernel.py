"""Register-blocked micro-kernels: where convolution and matrix products spend their time.

A micro-kernel computes a small tile of C, MR rows by NR = NV·WIDTH columns, and keeps the whole
tile in registers while it runs over the inner dimension:

    for k:   b_0 … b_{NV−1} = B[k, :]                 NV vector loads
             for i < MR:  a = A[i, k] in all lanes    one broadcast load
                          tile[i, :] += a · b_0 … b_{NV−1}      NV fused multiply-adds

MR·NV multiply-adds for MR + NV loads: with 8 × 2 tiles the arithmetic units, not memory, set the
pace, and enough independent sums are in flight to hide the latency of each. Nothing is stored
until the tile is done. On one thread of a Zen 4 (peak 113 GFLOP/s) the inner loops reach 103–113.

Two kernels differ in how they find A. Both take their rows or steps from lists of byte offsets, so
that one kernel serves every stride, dilation, padding and image border:

``rows_kernel``   each row has an address of its own and k runs over contiguous floats:
    C[i, :] (+)= Σ_t Σ_{k<run} A[a + a_rows[i] + taps[t] + 4k] · B[t·run + k, :]
    Rows are pixels, taps are kernel positions, the run is over the channels under a tap: a
    convolution without im2col. With one tap it is an ordinary matrix product, A in rows.

``columns_kernel``  the MR rows are contiguous floats and each k has an address of its own:
    C[i, :] (+)= Σ_k A[a + k_list[k] + 4i] · B[b + k·b_step, :]
    Rows are channels under a tap, k runs over pixels: the weight gradient. It also serves Aᵀ·B.

LLVM IR is generated rather than written in Numba because Numba has no way to say "these 16
variables stay in registers". One pair (MR, NV) is one small compilation (0.1 s), done when it is
first needed and kept on disk. Drivers call micro-kernels through their address (``call_rows``,
``call_columns``), so a driver is compiled once for all tiles.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .runtime import Kernel, kernel_of
from .simd import (
    BYTES,
    F32,
    I64,
    WIDTH,
    ZERO,
    const,
    emit_fma,
    emit_load,
    emit_load_masked,
    emit_mask,
    emit_prefetch,
    emit_select_gt,
    emit_splat,
    emit_store,
    emit_store_masked,
)

# Bits of the ``mode`` argument of rows_kernel.
ACCUMULATE = 1  # start from what C holds
RELU = 2  # C = max(C, 0) at the end

# MR for NV = 1, 2, 3: MR·NV sums, NV vectors of B and one broadcast must fit in the vector
# registers (32 with AVX-512 and on ARM, 16 with AVX2), MR addresses in the 16 integer ones.
TILE_ROWS = {16: (8, 8, 8), 8: (8, 6, 4), 4: (8, 8, 8)}[WIDTH]
MAX_ROWS = max(TILE_ROWS)


def panel_vectors(columns: int) -> list[int]:
    """How a matrix of so many columns is cut into panels: vectors (NV) of each, the last the smallest.

    Wide panels read A less often. 1 vector: [1]; 4: [2, 2]; 5: [3, 2]; 6: [3, 3]; 7: [3, 3, 1].
    """
    vectors = -(-columns // WIDTH)
    nv = 2 if vectors % 2 == 0 and vectors % 3 else 3
    return [nv] * (vectors // nv) + ([vectors % nv] if vectors % nv else [])


class _Loop:
    """``for i in range(count)`` in LLVM IR (count ≥ 1) with values carried from turn to turn."""

    def __init__(self, b: ir.IRBuilder, count: ir.Value, carried: list[ir.Value]) -> None:
        self.b, self.count = b, count
        before = b.block
        self.body, self.after = b.append_basic_block("loop"), b.append_basic_block("after")
        b.branch(self.body)
        b.position_at_end(self.body)
        self.index = b.phi(I64)
        self.index.add_incoming(const(0), before)
        self.values = []
        for value in carried:
            phi = b.phi(value.type)
            phi.add_incoming(value, before)
            self.values.append(phi)

    def close(self, following: list[ir.Value]) -> list[ir.Value]:
        """End the body; ``following`` are the values of the next turn. Returns the last ones."""
        b = self.b
        step = b.add(self.index, const(1))
        self.index.add_incoming(step, b.block)
        for phi, value in zip(self.values, following, strict=True):
            phi.add_incoming(value, b.block)
        b.cbranch(b.icmp_signed("<", step, self.count), self.body, self.after)
        b.position_at_end(self.after)
        return following


def _choose(
    b: ir.IRBuilder, condition: ir.Value, then: Any, otherwise: list[ir.Value]
) -> list[ir.Value]:
    """``then()`` where the condition holds, else the values ``otherwise``."""
    before = b.block
    inside, after = b.append_basic_block("then"), b.append_basic_block("after")
    b.cbranch(condition, inside, after)
    b.position_at_end(inside)
    values = then()
    last = b.block
    b.branch(after)
    b.position_at_end(after)
    chosen = []
    for value, other in zip(values, otherwise, strict=True):
        phi = b.phi(value.type)
        phi.add_incoming(value, last)
        phi.add_incoming(other, before)
        chosen.append(phi)
    return chosen


def _multiply_add(
    b: ir.IRBuilder, tile: list[ir.Value], rows: list[ir.Value], columns: ir.Value, nv: int
) -> list[ir.Value]:
    """One k: tile[i, :] += A[i, k] · B[k, :] with A[i, k] at rows[i], B[k, :] at ``columns``."""
    vectors = [emit_load(b, b.add(columns, const(BYTES * j))) for j in range(nv)]
    following = []
    for i, row in enumerate(rows):
        a = emit_splat(b, emit_load(b, row, F32))
        following += [emit_fma(b, a, vectors[j], tile[i * nv + j]) for j in range(nv)]
    return following


def _read_tile(b: ir.IRBuilder, rows: list[ir.Value], nv: int, mask: ir.Value) -> list[ir.Value]:
    """The tile at the addresses ``rows``; lanes of the last vector outside the mask are 0."""
    values = []
    for row in rows:
        values += [emit_load(b, b.add(row, const(BYTES * j))) for j in range(nv - 1)]
        values.append(emit_load_masked(b, b.add(row, const(BYTES * (nv - 1))), mask))
    return values


def _write_row(
    b: ir.IRBuilder, values: list[ir.Value], row: ir.Value, mask: ir.Value | None
) -> None:
    for j, value in enumerate(values):
        place = b.add(row, const(BYTES * j))
        if mask is None or j < len(values) - 1:
            emit_store(b, value, place)
        else:
            emit_store_masked(b, value, place, mask)


def _prefetch(b: ir.IRBuilder, rows: list[ir.Value], nv: int) -> None:
    """Ask for the cache lines of C before the sums are computed: a fresh output is in no cache, and a
    store that has to wait for its line would stop the kernel."""
    for row in rows:
        for at in range(0, BYTES * nv, 64):
            emit_prefetch(b, b.add(row, const(at)))


def _rows_intrinsic(mr: int, nv: int) -> Any:
    @intrinsic
    def rows_tile(typingctx, a, a_rows, taps, n_taps, run, panel, c, c_rows, lanes, mode, bias):
        def generate(context, b, signature, args):
            a, a_rows, taps, n_taps, run, panel, c, c_rows, lanes, mode, bias = args
            mask = emit_mask(b, lanes)
            a_at = [b.add(a, emit_load(b, b.add(a_rows, const(8 * i)), I64)) for i in range(mr)]
            c_at = [b.add(c, emit_load(b, b.add(c_rows, const(8 * i)), I64)) for i in range(mr)]

            _prefetch(b, c_at, nv)

            def read_bias():
                return _read_tile(b, [bias], nv, mask) * mr

            start = _choose(b, b.icmp_signed("!=", bias, const(0)), read_bias, [ZERO] * (mr * nv))
            accumulate = b.icmp_signed("!=", b.and_(mode, const(ACCUMULATE)), const(0))
            start = _choose(b, accumulate, lambda: _read_tile(b, c_at, nv, mask), start)

            outer = _Loop(b, n_taps, [panel, *start])
            tap = emit_load(b, b.add(taps, b.shl(outer.index, const(3))), I64)
            tapped = [b.add(row, tap) for row in a_at]
            inner = _Loop(b, run, outer.values)
            step = b.shl(inner.index, const(2))
            sums = _multiply_add(
                b, inner.values[1:], [b.add(t, step) for t in tapped], inner.values[0], nv
            )
            carried = inner.close([b.add(inner.values[0], const(BYTES * nv)), *sums])
            sums = outer.close(carried)[1:]

            rectify = b.icmp_signed("!=", b.and_(mode, const(RELU)), const(0))
            sums = _choose(
                b, rectify, lambda: [emit_select_gt(b, ZERO, s, ZERO, s) for s in sums], sums
            )
            with b.if_else(b.icmp_signed("==", lanes, const(WIDTH))) as (full, part):
                for branch, limit in ((full, None), (part, mask)):
                    with branch:
                        for i, row in enumerate(c_at):
                            _write_row(b, sums[i * nv : i * nv + nv], row, limit)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 11), generate

    return rows_tile


@cache
def rows_kernel(mr: int, nv: int) -> Kernel:
    """C[i, :] (+)= bias + Σ_t Σ_{k<run} A[a + a_rows[i] + taps[t] + 4k] · B[t·run + k, :], i < mr.

    B is packed: NV·WIDTH floats a step, t and k in order, unused lanes zero. C[i] begins at
    c + c_rows[i]; ``lanes`` (1 … WIDTH) of its last vector exist. ``bias`` is an address or 0.
    n_taps and run are at least 1. A tile at the edge repeats its last row in both lists: the row is
    then computed and stored twice, alike.
    """
    tile = _rows_intrinsic(mr, nv)

    def rows(a, a_rows, taps, n_taps, run, panel, c, c_rows, lanes, mode, bias):
        tile(a, a_rows, taps, n_taps, run, panel, c, c_rows, lanes, mode, bias)

    return kernel_of(rows, f"rows_{mr}x{nv}", False)


def _columns_intrinsic(mr: int, nv: int) -> Any:
    @intrinsic
    def columns_tile(
        typingctx, a, k_list, k_count, panel, b_step, c, c_step, rows, lanes, accumulate
    ):
        def generate(context, b, signature, args):
            a, k_list, k_count, panel, b_step, c, c_step, rows, lanes, accumulate = args
            mask = emit_mask(b, lanes)
            loop = _Loop(b, k_count, [panel, *[ZERO] * (mr * nv)])
            at = b.add(a, emit_load(b, b.add(k_list, b.shl(loop.index, const(3))), I64))
            places = [b.add(at, const(4 * i)) for i in range(mr)]
            sums = _multiply_add(b, loop.values[1:], places, loop.values[0], nv)
            sums = loop.close([b.add(loop.values[0], b_step), *sums])[1:]
            again = b.icmp_signed("!=", accumulate, const(0))
            for i in range(mr):
                row = b.add(c, b.mul(c_step, const(i)))
                values = sums[i * nv : i * nv + nv]
                with b.if_then(b.icmp_signed(">", rows, const(i))):

                    def add_old(row=row, values=values):
                        old = _read_tile(b, [row], nv, mask)
                        return [b.fadd(v, o) for v, o in zip(values, old, strict=True)]

                    _write_row(b, _choose(b, again, add_old, values), row, mask)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 10), generate

    return columns_tile


@cache
def columns_kernel(mr: int, nv: int) -> Kernel:
    """C[i, :] (+)= Σ_k A[a + k_list[k] + 4i] · B[panel + k·b_step, :] for i < ``rows`` ≤ ``mr``.

    All ``mr`` floats at each step and NV·WIDTH floats of each row of B are read, so both must
    exist; only ``rows`` rows of C, c_step bytes apart, and ``lanes`` lanes of the last vector are
    written. k_count is at least 1.
    """
    tile = _columns_intrinsic(mr, nv)

    def columns(a, k_list, k_count, panel, b_step, c, c_step, rows, lanes, accumulate):
        tile(a, k_list, k_count, panel, b_step, c, c_step, rows, lanes, accumulate)

    return kernel_of(columns, f"columns_{mr}x{nv}", False)


def _caller(count: int) -> Any:
    """An intrinsic that calls a C function of ``count`` integers at an address."""

    def generate(context, b, signature, args):
        form = ir.FunctionType(ir.IntType(8).as_pointer(), [I64] * count)
        b.call(b.inttoptr(args[0], form.as_pointer()), args[1:])
        return context.get_dummy_value()

    return types.void(*[types.int64] * (count + 1)), generate


@intrinsic
def call_rows(typingctx, entry, a, a_rows, taps, n_taps, run, panel, c, c_rows, lanes, mode, bias):
    """Inside a kernel: run the ``rows_kernel`` whose ``load()`` is ``entry``."""
    return _caller(11)


@intrinsic
def call_columns(
    typingctx, entry, a, k_list, k_count, panel, b_step, c, c_step, rows, lanes, accumulate
):
    """Inside a kernel: run the ``columns_kernel`` whose ``load()`` is ``entry``."""
    return _caller(10)
