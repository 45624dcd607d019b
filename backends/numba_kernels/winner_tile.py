"""The micro-kernel of sparse gradients: patches under the winners of max pooling, added up.

Three of four cells that 2×2 max pooling hands a gradient to get 0. Instead of writing these zeros
and multiplying by them, the sums run over the winners alone:

    C[g, r, :] += Σ_j s[j, g] · A[a + a_list[j] + 4·shift[j, g] + r·a_row, :]

A row of A is NV vectors, C a tile of G · R · NV vectors that stays in registers. The same loop is
the weight gradient (C the weights of channel g, j the pooled cells, A the image: the patch under
the winner) and the input gradient (C the patch of gx around a cell, j the channels, A the weights,
shifted to where the winner sits in the patch).
"""

from __future__ import annotations

from functools import cache
from itertools import product
from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .microkernel import REGISTERS, Loop
from .runtime import Kernel, kernel_of
from .simd import F32, I64, WIDTH, const, emit_fma, emit_load, emit_splat, emit_store


class Tile(NamedTuple):
    """``groups`` × ``rows`` × ``vectors`` vectors of ``lanes`` floats."""

    groups: int
    rows: int
    vectors: int
    lanes: int


@cache
def winner_tile(groups: int, rows: int, floats: int) -> Tile:
    """The largest tile that registers hold of ``groups`` × ``rows`` × ``floats``, in each dimension
    a divisor; whole rows are preferred.

    Half vectors, unless whole ones are full: they begin anywhere in memory, where the wide ones
    always straddle two cache lines.
    """
    lanes = WIDTH // 2 if WIDTH > 8 and floats % WIDTH else WIDTH
    vectors = -(-floats // lanes)
    sizes = product(*([d for d in range(1, n + 1) if n % d == 0] for n in (vectors, rows, groups)))
    v, r, g = max(
        (s for s in sizes if s[0] * s[1] * s[2] <= REGISTERS - 2),
        key=lambda s: (min(s[0] * s[1] * s[2], 8), s),
    )
    return Tile(g, r, v, lanes)


def _load_shifts(b: ir.IRBuilder, at: ir.Value, count: int) -> list[ir.Value]:
    """``count`` int16, several of them by one load: loads are what limits the loop."""
    found: list[ir.Value] = []
    while len(found) < count:
        together = next(n for n in (4, 2, 1) if len(found) + n <= count)
        kind = ir.IntType(16 * together)
        word = b.load(b.inttoptr(b.add(at, const(2 * len(found))), kind.as_pointer()))
        word.align = 2
        for i in range(together):
            part = b.lshr(word, ir.Constant(kind, 16 * i)) if i else word
            short = b.trunc(part, ir.IntType(16)) if together > 1 else part
            found.append(b.sext(short, I64))
    return found


def _intrinsic(tile: Tile) -> Any:
    groups, rows, vectors, lanes = tile

    @intrinsic
    def winner_sums(
        typingctx, count, values, v_step, shifts, s_step, a, a_list, a_row, c, c_group, c_row
    ):  # fmt: skip
        def generate(context, b, signature, args):
            count, values, v_step, shifts, s_step, a, a_list, a_row, c, c_group, c_row = args
            vector = ir.VectorType(F32, lanes)

            def places(start, step):
                lines = [b.add(start, b.mul(step, const(r))) for r in range(rows)]
                return [b.add(line, const(4 * lanes * v)) for line in lines for v in range(vectors)]

            targets = [
                place
                for g in range(groups)
                for place in places(b.add(c, b.mul(c_group, const(g))), c_row)
            ]
            zero = ir.Constant(vector, [0.0] * lanes)
            loop = Loop(b, count, [values, shifts, *[zero] * len(targets)])
            values, shifts, *sums = loop.values
            at = b.add(a, emit_load(b, b.add(a_list, b.shl(loop.index, const(3))), I64))
            following: list[ir.Value] = []
            for g, shift in enumerate(_load_shifts(b, shifts, groups)):
                start = b.add(at, b.shl(shift, const(2)))
                value = emit_splat(b, emit_load(b, b.add(values, const(4 * g)), F32), vector)
                for place in places(start, a_row):
                    patch = emit_load(b, place, vector)
                    following.append(emit_fma(b, value, patch, sums[len(following)]))
            following = [b.add(values, v_step), b.add(shifts, s_step), *following]
            for total, target in zip(loop.close(following)[2:], targets, strict=True):
                emit_store(b, b.fadd(total, emit_load(b, target, vector)), target)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 11), generate

    return winner_sums


@cache
def winner_kernel(tile: Tile) -> Kernel:
    """C[g, r, :] += Σ_j s[j, g] · A[…] as at the top of this file, for j < count (at least 1)."""
    sums = _intrinsic(tile)

    def winner(
        count, values, v_step, shifts, s_step, a, a_list, a_row, c, c_group, c_row
    ):  # fmt: skip
        sums(count, values, v_step, shifts, s_step, a, a_list, a_row, c, c_group, c_row)

    return kernel_of(winner, "winner_" + "x".join(map(str, tile)), False)
