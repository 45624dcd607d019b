"""More vector operations: several vectors at once, parts of vectors, small integers as bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .runtime import device
from .simd import (
    I8,
    I32,
    I64,
    MASK,
    VECTOR,
    WIDTH,
    const,
    emit_load,
    emit_mask,
    emit_splat,
    emit_store,
    emit_stream,
    f32xN,
    load,
    load_part,
    splat,
    store,
    store_part,
)

I16 = ir.IntType(16)
_BYTES = ir.VectorType(I8, WIDTH)


@device(inline=True)
def vget(p: int, lanes: int) -> Any:
    """The first ``lanes`` numbers of a vector in memory; the others are 0."""
    return load(p) if lanes == WIDTH else load_part(p, lanes)


@device(inline=True)
def vpart(p: int, lanes: int) -> Any:
    """``vget`` for any number of lanes, also 0 and less."""
    if lanes <= 0:
        return splat(np.float32(0))
    return vget(p, lanes)


@device(inline=True)
def vput(p: int, v: Any, lanes: int) -> None:
    """Write the first ``lanes`` lanes."""
    if lanes == WIDTH:
        store(p, v)
    else:
        store_part(p, v, lanes)


@intrinsic(prefer_literal=True)
def take(typingctx: Any, address: Any, step: Any, count: Any) -> Any:
    """``count`` (a literal) vectors, ``step`` bytes apart, as a tuple."""
    n = count.literal_value

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        places = [b.add(arguments[0], b.mul(arguments[1], const(i))) for i in range(n)]
        values = [emit_load(b, place) for place in places]
        return context.make_tuple(b, signature.return_type, values)

    return types.UniTuple(f32xN, n)(types.int64, types.int64, count), generate


@intrinsic
def put(typingctx: Any, address: Any, step: Any, vectors: Any) -> Any:
    """The vectors of a tuple, ``step`` bytes apart."""

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        address, step, vectors = arguments
        for i, v in enumerate(cgutils.unpack_tuple(b, vectors)):
            emit_store(b, v, b.add(address, b.mul(step, const(i))))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, vectors), generate


@intrinsic
def load_spaced(typingctx: Any, address: Any, step: Any, lanes: Any) -> Any:
    """``lanes`` floats, ``step`` floats apart; the other lanes are 0."""

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        address, step, lanes = arguments
        places = ir.VectorType(I64, WIDTH)
        lane = ir.Constant(places, list(range(WIDTH)))
        distance = emit_splat(b, b.shl(step, const(2)), places)
        at = b.add(emit_splat(b, address, places), b.mul(lane, distance))
        pointers = ir.VectorType(ir.FloatType().as_pointer(), WIDTH)
        kind = ir.FunctionType(VECTOR, [pointers, I32, MASK, VECTOR])
        name = f"llvm.masked.gather.v{WIDTH}f32.v{WIDTH}p0"
        gather = cgutils.get_or_insert_function(b.module, kind, name)
        nothing = ir.Constant(VECTOR, [0.0] * WIDTH)
        return b.call(
            gather, [b.inttoptr(at, pointers), ir.Constant(I32, 4), emit_mask(b, lanes), nothing]
        )

    return f32xN(*[types.int64] * 3), generate


def _emit_load_bytes(b: ir.IRBuilder, address: ir.Value, lanes: ir.Value) -> ir.Value:
    pointer = _BYTES.as_pointer()
    kind = ir.FunctionType(_BYTES, [pointer, I32, MASK, _BYTES])
    read = cgutils.get_or_insert_function(b.module, kind, f"llvm.masked.load.v{WIDTH}i8.p0")
    nothing = ir.Constant(_BYTES, [0] * WIDTH)
    where = b.inttoptr(address, pointer)
    return b.call(read, [where, ir.Constant(I32, 1), emit_mask(b, lanes), nothing])


def _emit_to_bytes(b: ir.IRBuilder, v: ir.Value) -> ir.Value:
    return b.trunc(b.fptoui(v, ir.VectorType(I32, WIDTH)), _BYTES)


@intrinsic
def _load_bytes_part(typingctx: Any, address: Any, lanes: Any) -> Any:
    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        return b.uitofp(_emit_load_bytes(b, *arguments), VECTOR)

    return f32xN(types.int64, types.int64), generate


@intrinsic
def _load_bytes_whole(typingctx: Any, address: Any) -> Any:
    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        read = b.load(b.inttoptr(arguments[0], _BYTES.as_pointer()))
        read.align = 1
        return b.uitofp(read, VECTOR)

    return f32xN(types.int64), generate


@intrinsic
def _store_bytes_part(typingctx: Any, address: Any, v: Any, lanes: Any) -> Any:
    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        address, v, lanes = arguments
        pointer = _BYTES.as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [_BYTES, pointer, I32, MASK])
        write = cgutils.get_or_insert_function(b.module, kind, f"llvm.masked.store.v{WIDTH}i8.p0")
        place = b.inttoptr(address, pointer)
        b.call(write, [_emit_to_bytes(b, v), place, ir.Constant(I32, 1), emit_mask(b, lanes)])
        return context.get_dummy_value()

    return types.void(types.int64, f32xN, types.int64), generate


@intrinsic
def _store_bytes_whole(typingctx: Any, address: Any, v: Any) -> Any:
    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        address, v = arguments
        stored = b.store(_emit_to_bytes(b, v), b.inttoptr(address, _BYTES.as_pointer()))
        stored.align = 1
        return context.get_dummy_value()

    return types.void(types.int64, f32xN), generate


@device(inline=True)
def load_bytes(p: int, lanes: int) -> Any:
    """``lanes`` bytes in memory as numbers 0 … 255; parts of vectors take several times as long."""
    return _load_bytes_whole(p) if lanes == WIDTH else _load_bytes_part(p, lanes)


@device(inline=True)
def store_bytes(p: int, v: Any, lanes: int) -> None:
    """Numbers 0 … 255 as ``lanes`` bytes."""
    if lanes == WIDTH:
        _store_bytes_whole(p, v)
    else:
        _store_bytes_part(p, v, lanes)


@intrinsic
def select_same(typingctx: Any, x: Any, y: Any, u: Any, v: Any) -> Any:
    """u where x = y, else v."""

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        x, y, u, v = arguments
        return b.select(b.fcmp_ordered("==", x, y), u, v)

    return f32xN(f32xN, f32xN, f32xN, f32xN), generate


@intrinsic
def select_later(typingctx: Any, x: Any, best: Any, u: Any, v: Any) -> Any:
    """u where x beats the maximum so far (is larger, or is NaN), else v."""

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        x, best, u, v = arguments
        beats = b.or_(b.fcmp_ordered(">", x, best), b.fcmp_unordered("uno", x, x))
        return b.select(beats, u, v)

    return f32xN(f32xN, f32xN, f32xN, f32xN), generate


def _shuffle(lanes: list[int]) -> Any:
    """These lanes of x₀ x₁ … y₀ y₁ …"""

    @intrinsic
    def shuffle(typingctx: Any, x: Any, y: Any) -> Any:
        def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
            return b.shuffle_vector(*arguments, ir.Constant(ir.VectorType(I32, WIDTH), lanes))

        return f32xN(f32xN, f32xN), generate

    return shuffle


_pairs = [i // 2 + i % 2 * WIDTH for i in range(2 * WIDTH)]  # x₀ y₀ x₁ y₁ …
interleave_low, interleave_high = _shuffle(_pairs[:WIDTH]), _shuffle(_pairs[WIDTH:])
every_second = _shuffle(list(range(0, 2 * WIDTH, 2)))  # x₀ x₂ … y₀ y₂ …
every_other = _shuffle(list(range(1, 2 * WIDTH, 2)))  # x₁ x₃ … y₁ y₃ …


def _stream_half(first: int) -> Any:
    @intrinsic
    def stream_half(typingctx: Any, address: Any, v: Any) -> Any:
        def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
            lanes = ir.Constant(ir.VectorType(I32, HALF), [first + i for i in range(HALF)])
            half = b.shuffle_vector(arguments[1], arguments[1], lanes)
            emit_stream(b, half, arguments[0])
            return context.get_dummy_value()

        return types.void(types.int64, f32xN), generate

    return stream_half


HALF = max(1, WIDTH // 2)  # lanes
stream_low, stream_high = _stream_half(0), _stream_half(WIDTH - HALF)  # of a vector, as ``stream``


@intrinsic
def store_shifts(
    typingctx: Any, target: Any, winners: Any, lanes: Any, down: Any, right: Any
) -> Any:
    """k // 2 · down + k % 2 · right for the ``lanes`` bytes k < 4 at ``winners``, as a whole vector
    of int16."""

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        target, winners, lanes, down, right = arguments
        shorts = ir.VectorType(I16, WIDTH)
        k = b.zext(_emit_load_bytes(b, winners, lanes), shorts)
        steps = [emit_splat(b, b.trunc(step, I16), shorts) for step in (down, right)]
        one = ir.Constant(shorts, [1] * WIDTH)
        moved = b.add(b.mul(b.lshr(k, one), steps[0]), b.mul(b.and_(k, one), steps[1]))
        stored = b.store(moved, b.inttoptr(target, shorts.as_pointer()))
        stored.align = 2
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), generate
