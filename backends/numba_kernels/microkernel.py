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

``columns_kernel``  the rows are contiguous floats and each k has an address of its own:
    C[i, :] (+)= Σ_k A[a + k_list[k] + 4i] · B[b + k·b_step, :]
    Rows are channels under one or several taps, k runs over pixels: the weight gradient.

LLVM IR is generated rather than written in Numba because Numba has no way to say "these 16
variables stay in registers". One pair (MR, NV) is one small compilation (0.1 s), done when it is
first needed and kept on disk. Drivers call micro-kernels through their address (``call``), so a
driver is compiled once for all tiles.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .runtime import Kernel, kernel_of
from .simd import (
    F32,
    I64,
    WIDTH,
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

# Vector registers: 32 with AVX-512 and on ARM, 16 with AVX2; scalars find at least 16.
REGISTERS = {16: 32, 8: 16, 4: 32, 1: 16}[WIDTH]
# MR for NV = 1, 2, 3: MR·NV sums, NV vectors of B and one broadcast must fit in the vector
# registers, MR addresses in the 16 integer ones.
TILE_ROWS = {32: (8, 8, 8), 16: (8, 6, 4)}[REGISTERS]
MAX_ROWS = max(TILE_ROWS)  # of a tile with a list of rows


class Panels(NamedTuple):
    """How a matrix of some columns is cut into panels: ``number`` of them, ``wide`` vectors each
    but the last, which has ``narrow``, and ``lanes`` floats a vector."""

    number: int
    wide: int
    narrow: int
    lanes: int

    @property
    def nr(self) -> int:
        """Columns of a full panel."""
        return self.wide * self.lanes

    @property
    def columns(self) -> int:
        """Columns with the padding of the last panel."""
        return ((self.number - 1) * self.wide + self.narrow) * self.lanes


@cache
def panels(columns: int) -> Panels:
    """Wide panels read A less often. 1 vector: 1; 4: 2 + 2; 5: 3 + 2; 6: 3 + 3; 7: 3 + 3 + 1.

    Up to half a vector of columns half vectors are used: processors that split the widest vectors
    in two (Zen 4) run them twice as fast.
    """
    lanes = WIDTH // 2 if WIDTH > 4 and columns <= WIDTH // 2 else WIDTH
    vectors = -(-columns // lanes)
    wide = 2 if vectors % 2 == 0 and vectors % 3 else min(3, vectors)
    return Panels(-(-vectors // wide), wide, vectors % wide or wide, lanes)


# The same for tiles of evenly spaced rows, which need one address: fewest and most rows.
EVEN_ROWS = {32: ((7, 16), (6, 10), (6, 8)), 16: ((6, 12), (4, 6), (3, 4))}[REGISTERS]


def even_rows(length: int, nv: int) -> int:
    """The largest tile height that divides rows of ``length`` pixels; 0 when none is worth it."""
    least, most = EVEN_ROWS[nv - 1]
    return max((mr for mr in range(least, most + 1) if length % mr == 0), default=0)


class Loop:
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


def choose(
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


class _Tile:
    """MR × NV vectors of ``lanes`` floats: the registers of a micro-kernel and what is done to
    them."""

    def __init__(self, b: ir.IRBuilder, mr: int, nv: int, lanes: int) -> None:
        self.b, self.mr, self.nv = b, mr, nv
        self.vector = ir.VectorType(F32, lanes)
        self.zero = ir.Constant(self.vector, [0.0] * lanes)
        self.bytes = 4 * lanes  # of one vector

    def multiply_add(
        self, sums: list[ir.Value], rows: list[ir.Value], columns: ir.Value
    ) -> list[ir.Value]:
        """One k: sums[i, :] += A[i, k] · B[k, :] with A[i, k] at rows[i], B[k, :] at
        ``columns``."""
        b, nv = self.b, self.nv
        vectors = [
            emit_load(b, b.add(columns, const(self.bytes * j)), self.vector) for j in range(nv)
        ]
        following = []
        for i, row in enumerate(rows):
            a = emit_splat(b, emit_load(b, row, F32), self.vector)
            following += [emit_fma(b, a, vectors[j], sums[i * nv + j]) for j in range(nv)]
        return following

    def read(self, rows: list[ir.Value], mask: ir.Value) -> list[ir.Value]:
        """The tile at the addresses ``rows``; lanes of the last vector outside the mask are 0."""
        b, values = self.b, []
        for row in rows:
            places = [b.add(row, const(self.bytes * j)) for j in range(self.nv)]
            values += [emit_load(b, place, self.vector) for place in places[:-1]]
            values.append(emit_load_masked(b, places[-1], mask))
        return values

    def write_row(self, values: list[ir.Value], row: ir.Value, mask: ir.Value | None) -> None:
        """One row; of the last vector only the lanes of the mask, if there is one."""
        b = self.b
        for j, value in enumerate(values):
            place = b.add(row, const(self.bytes * j))
            if mask is None or j < self.nv - 1:
                emit_store(b, value, place)
            else:
                emit_store_masked(b, value, place, mask)

    def prefetch(self, rows: list[ir.Value]) -> None:
        """Ask for the cache lines of C before the sums are computed: a fresh output is in no cache,
        and a store that has to wait for its line would stop the kernel."""
        for row in rows:
            for at in range(0, self.bytes * self.nv, 64):
                emit_prefetch(self.b, self.b.add(row, const(at)))


def _rows_intrinsic(mr: int, nv: int, width: int, a_step: int = 0) -> Any:
    """``a_step`` other than 0: rows of A at that distance, so that one address serves all of
    them."""

    @intrinsic
    def rows_tile(typingctx, a, a_rows, taps, n_taps, run, panel, c, c_rows, lanes, mode, bias):
        def generate(context, b, signature, args):
            a, a_rows, taps, n_taps, run, panel, c, c_rows, lanes, mode, bias = args
            tile = _Tile(b, mr, nv, width)
            mask = emit_mask(b, lanes, width)
            listed = 1 if a_step else mr
            a_at = [b.add(a, emit_load(b, b.add(a_rows, const(8 * i)), I64)) for i in range(listed)]
            if a_step:
                first, second = (emit_load(b, b.add(c_rows, const(8 * i)), I64) for i in (0, 1))
                start, c_step = b.add(c, first), b.sub(second, first)
                c_at = [b.add(start, b.mul(c_step, const(i))) for i in range(mr)]
            else:
                c_at = [b.add(c, emit_load(b, b.add(c_rows, const(8 * i)), I64)) for i in range(mr)]
            tile.prefetch(c_at)

            zeros = [tile.zero] * (mr * nv)
            has_bias = b.icmp_signed("!=", bias, const(0))
            start = choose(b, has_bias, lambda: tile.read([bias], mask) * mr, zeros)
            accumulate = b.icmp_signed("!=", b.and_(mode, const(ACCUMULATE)), const(0))
            start = choose(b, accumulate, lambda: tile.read(c_at, mask), start)

            outer = Loop(b, n_taps, [panel, *start])
            tap = emit_load(b, b.add(taps, b.shl(outer.index, const(3))), I64)
            tapped = [b.add(row, tap) for row in a_at]
            inner = Loop(b, run, outer.values)
            step = b.shl(inner.index, const(2))
            columns, *sums = inner.values
            places = [b.add(t, step) for t in tapped]
            if a_step:
                places = [b.add(places[0], const(i * a_step)) for i in range(mr)]
            sums = tile.multiply_add(sums, places, columns)
            carried = inner.close([b.add(columns, const(tile.bytes * nv)), *sums])
            sums = outer.close(carried)[1:]

            rectify = b.icmp_signed("!=", b.and_(mode, const(RELU)), const(0))
            sums = choose(
                b,
                rectify,
                lambda: [emit_select_gt(b, tile.zero, s, tile.zero, s) for s in sums],
                sums,
            )
            with b.if_else(b.icmp_signed("==", lanes, const(width))) as (full, part):
                for branch, limit in ((full, None), (part, mask)):
                    with branch:
                        for i, row in enumerate(c_at):
                            tile.write_row(sums[i * nv : i * nv + nv], row, limit)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 11), generate

    return rows_tile


@cache
def rows_kernel(nv: int, lanes: int = WIDTH) -> Kernel:
    """C[i, :] (+)= bias + Σ_t Σ_{k<run} A[a + a_rows[i] + taps[t] + 4k] · B[t·run + k, :].

    i < MR = TILE_ROWS[nv − 1]. B is packed: nv vectors a step, t and k in order, unused lanes zero.
    C[i] begins at c + c_rows[i]; the ``lanes`` argument says how many floats of its last vector
    exist. ``bias`` is an address or 0; n_taps and run are at least 1. A tile at the edge repeats
    its last row in both lists: the row is then computed and stored twice, alike.
    """
    tile = _rows_intrinsic(TILE_ROWS[nv - 1], nv, lanes)

    def rows(a, a_rows, taps, n_taps, run, panel, c, c_rows, lanes, mode, bias):
        tile(a, a_rows, taps, n_taps, run, panel, c, c_rows, lanes, mode, bias)

    return kernel_of(rows, f"rows_{nv}x{lanes}", False)


@cache
def even_rows_kernel(mr: int, nv: int, lanes: int, a_step: int) -> Kernel:
    """As ``rows_kernel`` for ``mr`` rows of A that are ``a_step`` bytes apart and evenly spaced
    rows of C.

    The addresses of A are constants away from one register, so ``mr`` may exceed TILE_ROWS, and
    little is done before and after the loops: what short inner dimensions (1 to 16 channels) need.
    """
    tile = _rows_intrinsic(mr, nv, lanes, a_step)

    def rows(a, a_rows, taps, n_taps, run, panel, c, c_rows, lanes, mode, bias):
        tile(a, a_rows, taps, n_taps, run, panel, c, c_rows, lanes, mode, bias)

    return kernel_of(rows, f"even_rows_{mr}x{nv}x{lanes}x{a_step}", False)


def _columns_intrinsic(groups: int, per: int, nv: int, width: int) -> Any:
    @intrinsic
    def columns_tile(
        typingctx, a, group_step, k_list, k_count, panel, b_step, c, c_step, accumulate
    ):
        def generate(context, b, signature, args):
            a, group_step, k_list, k_count, panel, b_step, c, c_step, accumulate = args
            tile = _Tile(b, groups * per, nv, width)
            loop = Loop(b, k_count, [panel, *[tile.zero] * (groups * per * nv)])
            at = b.add(a, emit_load(b, b.add(k_list, b.shl(loop.index, const(3))), I64))
            starts = [b.add(at, b.mul(group_step, const(g))) for g in range(groups)]
            places = [b.add(start, const(4 * i)) for start in starts for i in range(per)]
            columns, *sums = loop.values
            sums = tile.multiply_add(sums, places, columns)
            sums = loop.close([b.add(columns, b_step), *sums])[1:]
            again = b.icmp_signed("!=", accumulate, const(0))
            c_at = [b.add(c, b.mul(c_step, const(i))) for i in range(groups * per)]
            everything = ir.Constant(ir.VectorType(ir.IntType(1), width), [1] * width)

            def add_old():
                old = tile.read(c_at, everything)
                return [b.fadd(s, o) for s, o in zip(sums, old, strict=True)]

            totals = choose(b, again, add_old, sums)
            for i, row in enumerate(c_at):
                tile.write_row(totals[i * nv : i * nv + nv], row, None)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 9), generate

    return columns_tile


@cache
def columns_kernel(groups: int, per: int, nv: int, lanes: int = WIDTH) -> Kernel:
    """C[g·per + i, :] (+)= Σ_k A[a + g·group_step + k_list[k] + 4i] · B[panel + k·b_step, :].

    ``groups`` times ``per`` rows, contiguous floats within a group: channels under neighbouring
    taps. All of them are read at each step, and nv whole vectors of each row of B and C, whose
    rows are c_step bytes apart: both must have them. k_count is at least 1.
    """
    tile = _columns_intrinsic(groups, per, nv, lanes)

    def columns(a, group_step, k_list, k_count, panel, b_step, c, c_step, accumulate):
        tile(a, group_step, k_list, k_count, panel, b_step, c, c_step, accumulate)

    return kernel_of(columns, f"columns_{groups}x{per}x{nv}x{lanes}", False)


@intrinsic
def call(typingctx, entry, *arguments):
    """Inside a kernel: call the kernel whose ``load()`` is ``entry``. Unlike a direct call this
    does not compile the other kernel's code into the caller once more."""

    def generate(context, b, signature, args):
        entry, given = args
        values = cgutils.unpack_tuple(b, given)
        form = ir.FunctionType(ir.IntType(8).as_pointer(), [I64] * len(values))
        b.call(b.inttoptr(entry, form.as_pointer()), values)
        return context.get_dummy_value()

    count = len(arguments[0]) if len(arguments) == 1 else len(arguments)
    return types.void(types.int64, types.StarArgUniTuple(types.int64, count)), generate
