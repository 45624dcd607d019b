"""An explicit SIMD vector type for Numba: ``f32xN``, N float32 lanes in one machine register.

Numba leaves vector code to LLVM's auto-vectoriser, which reaches 20–40 % of the peak on convolution
loops. Here the vector is a value of its own instead: a kernel says ``fma(a, b, c)`` and gets one
fused multiply-add instruction on N lanes. N is 16 with AVX-512, 8 with AVX2, 4 with NEON and SSE,
and 1 on any other processor: a vector of one lane is a scalar, and the same kernels are then plain
loops. They are written for any N and read it as the constant ``WIDTH``.

Memory is addressed by plain 64-bit integers (bytes). A kernel that takes only integers compiles
several times faster than one that takes arrays, has one specialisation, and can be called in
0.2 µs; the price is that nothing checks bounds, so every address comes from a wrapper that knows
the shapes. Alignment is not required, only faster.

Functions inside kernels (v, a, b, c vectors; x scalar; p address; n count of lanes):
    load(p)  store(p, v)  load_part(p, n)  store_part(p, v, n)   only the first n lanes are touched
    stream(p, v)                   store past the caches, p a multiple of BYTES; then fence()
    prefetch(p)                    start to bring the cache line at p, which will be written
    touch(p)                       load 4 bytes at p and forget them
    splat(x)  a + b  a - b  a * b  a / b  fma(a, b, c) = a·b + c  -> one rounding
    vmax(a, b) = a > b ? a : b     (b when either is NaN, so vmax(0, x) is a ReLU that keeps NaN)
    vmin(a, b) = a < b ? a : b     vsqrt(a)   select_gt(a, b, u, v) = a > b ? u : v, lane by lane
    select_larger(a, b, u, v) = a > b or a is NaN ? u : v
    lane_sum(v)  lane_max(v)       one scalar, in a fixed order of pairs
    power_of_two(v) = 2**v for whole v in [-126, 127]   round_even(v)
    load_f32(p)  store_f32(p, x)  load_i64(p)  store_i64(p, i)    scalars
    transpose_square(p, s, q, t)   N × N floats at q, rows t bytes apart, transposed to p, rows s
    apart
    transpose_listed(p, s, l, q, t)    the same, to rows at p + s·l[i] for the int64 at l
    transpose_part(p, s, q, t, n, m)   the same, reading n floats of each row (the others are 0) and
    writing m
    unpack(p, 12)                  the 12 (a literal) int64 at p, as a tuple: a table of parameters
"""

from __future__ import annotations

import operator
import os
import platform
from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model


def _register_lanes() -> int:
    """float32 lanes of the widest register; TINYGRAD_CNN_SIMD (1, 4, 8, 16) overrides it."""
    wanted = os.environ.get("TINYGRAD_CNN_SIMD")
    if wanted is not None:
        if wanted not in ("1", "4", "8", "16"):
            raise ValueError(
                f"TINYGRAD_CNN_SIMD: expected 1, 4, 8 or 16 lanes, received {wanted!r}"
            )
        return int(wanted)
    features = binding.get_host_cpu_features()
    if features.get("avx512f"):
        return 16
    if features.get("avx2"):
        return 8
    return 4 if platform.machine().lower() in ("x86_64", "amd64", "aarch64", "arm64") else 1


WIDTH = _register_lanes()
BYTES = 4 * WIDTH  # of one vector

F32 = ir.FloatType()
I8, I32, I64 = (ir.IntType(bits) for bits in (8, 32, 64))
VECTOR = ir.VectorType(F32, WIDTH)
VECTOR_I32 = ir.VectorType(I32, WIDTH)
MASK = ir.VectorType(ir.IntType(1), WIDTH)


class VectorType(types.Type):
    """Numba's view of the vector: opaque, passed in a register."""

    def __init__(self) -> None:
        super().__init__(name=f"f32x{WIDTH}")


@register_model(VectorType)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, VECTOR)


f32xN = VectorType()

# -- pieces of LLVM IR, shared with the micro-kernel generator ------------------------------------


def const(value: int) -> ir.Constant:
    """A 64-bit integer constant."""
    return ir.Constant(I64, value)


def emit_splat(b: ir.IRBuilder, x: ir.Value, vector: ir.VectorType = VECTOR) -> ir.Value:
    """All lanes equal to the scalar x."""
    undefined = ir.Constant(vector, ir.Undefined)
    first = b.insert_element(undefined, x, ir.Constant(I32, 0))
    zeros = ir.Constant(ir.VectorType(I32, vector.count), [0] * vector.count)
    return b.shuffle_vector(first, undefined, zeros)


def emit_load(b: ir.IRBuilder, address: ir.Value, kind: ir.Type = VECTOR) -> ir.Value:
    """A value of type ``kind`` at an address that need only be a multiple of 4."""
    value = b.load(b.inttoptr(address, kind.as_pointer()))
    value.align = 8 if kind == I64 else 4
    return value


def emit_store(b: ir.IRBuilder, value: ir.Value, address: ir.Value) -> None:
    stored = b.store(value, b.inttoptr(address, value.type.as_pointer()))
    stored.align = 8 if value.type == I64 else 4


def emit_stream(b: ir.IRBuilder, value: ir.Value, address: ir.Value) -> None:
    """Store past the caches; the address is a multiple of the vector's size."""
    stored = b.store(value, b.inttoptr(address, value.type.as_pointer()))
    stored.align = 4 * value.type.count
    stored.set_metadata("nontemporal", b.module.add_metadata([ir.Constant(I32, 1)]))


def emit_fma(b: ir.IRBuilder, x: ir.Value, y: ir.Value, z: ir.Value) -> ir.Value:
    kind = ir.FunctionType(x.type, [x.type] * 3)
    name = f"llvm.fma.v{x.type.count}f32"
    return b.call(cgutils.get_or_insert_function(b.module, kind, name), [x, y, z])


def emit_mask(b: ir.IRBuilder, lanes: ir.Value, count: int = WIDTH) -> ir.Value:
    """``count`` booleans, true in the first ``lanes``."""
    kind = ir.VectorType(I32, count)
    positions = ir.Constant(kind, list(range(count)))
    return b.icmp_signed("<", positions, emit_splat(b, b.trunc(lanes, I32), kind))


def emit_load_masked(b: ir.IRBuilder, address: ir.Value, mask: ir.Value) -> ir.Value:
    """Lanes where the mask is false are 0 and their memory is not touched."""
    vector = ir.VectorType(F32, mask.type.count)
    pointer = vector.as_pointer()
    kind = ir.FunctionType(vector, [pointer, I32, mask.type, vector])
    name = f"llvm.masked.load.v{vector.count}f32.p0"
    load = cgutils.get_or_insert_function(b.module, kind, name)
    zero = ir.Constant(vector, [0.0] * vector.count)
    return b.call(load, [b.inttoptr(address, pointer), ir.Constant(I32, 4), mask, zero])


def emit_store_masked(b: ir.IRBuilder, v: ir.Value, address: ir.Value, mask: ir.Value) -> None:
    pointer = v.type.as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [v.type, pointer, I32, mask.type])
    name = f"llvm.masked.store.v{v.type.count}f32.p0"
    store = cgutils.get_or_insert_function(b.module, kind, name)
    b.call(store, [v, b.inttoptr(address, pointer), ir.Constant(I32, 4), mask])


def emit_select_gt(b: ir.IRBuilder, x: ir.Value, y: ir.Value, u: ir.Value, v: ir.Value) -> ir.Value:
    return b.select(b.fcmp_ordered(">", x, y), u, v)


def emit_prefetch(b: ir.IRBuilder, address: ir.Value, to_write: bool = True) -> None:
    """Ask for the cache line at an address that will be written, or else read, soon."""
    pointer = I8.as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [pointer, I32, I32, I32])
    fetch = cgutils.get_or_insert_function(b.module, kind, "llvm.prefetch.p0")
    use, keep, data = (ir.Constant(I32, value) for value in (int(to_write), 3, 1))
    b.call(fetch, [b.inttoptr(address, pointer), use, keep, data])


# -- the functions that kernels call --------------------------------------------------------------


@intrinsic
def load(typingctx: Any, address: Any) -> Any:
    def generate(context: Any, b: Any, signature: Any, args: Any) -> Any:
        return emit_load(b, args[0])

    return f32xN(types.int64), generate


@intrinsic
def store(typingctx: Any, address: Any, v: Any) -> Any:
    def generate(context: Any, b: Any, signature: Any, args: Any) -> Any:
        emit_store(b, args[1], args[0])
        return context.get_dummy_value()

    return types.void(types.int64, f32xN), generate


@intrinsic
def stream(typingctx: Any, address: Any, v: Any) -> Any:
    """A plain store first reads the line that it will overwrite; this one does not."""

    def generate(context: Any, b: Any, signature: Any, args: Any) -> Any:
        emit_stream(b, args[1], args[0])
        return context.get_dummy_value()

    return types.void(types.int64, f32xN), generate


@intrinsic
def fence(typingctx: Any) -> Any:
    """What was streamed before is visible to other threads before what is stored afterwards."""

    def generate(context: Any, b: Any, signature: Any, args: Any) -> Any:
        b.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def prefetch(typingctx: Any, address: Any) -> Any:
    def generate(context: Any, b: Any, signature: Any, args: Any) -> Any:
        emit_prefetch(b, args[0])
        return context.get_dummy_value()

    return types.void(types.int64), generate


@intrinsic
def touch(typingctx: Any, address: Any) -> Any:
    def generate(context: Any, b: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [I32])
        b.asm(kind, "", "r", [emit_load(b, args[0], I32)], side_effect=True)  # a use of the value
        return context.get_dummy_value()

    return types.void(types.int64), generate


@intrinsic
def load_part(typingctx: Any, address: Any, lanes: Any) -> Any:
    def generate(context: Any, b: Any, signature: Any, args: Any) -> Any:
        return emit_load_masked(b, args[0], emit_mask(b, args[1]))

    return f32xN(types.int64, types.int64), generate


@intrinsic
def store_part(typingctx: Any, address: Any, v: Any, lanes: Any) -> Any:
    def generate(context: Any, b: Any, signature: Any, args: Any) -> Any:
        emit_store_masked(b, args[1], args[0], emit_mask(b, args[2]))
        return context.get_dummy_value()

    return types.void(types.int64, f32xN, types.int64), generate


def _scalar_load(kind: Any, llvm: ir.Type) -> Any:
    @intrinsic
    def scalar_load(typingctx: Any, address: Any) -> Any:
        def generate(context: Any, b: Any, signature: Any, args: Any) -> Any:
            return emit_load(b, args[0], llvm)

        return kind(types.int64), generate

    return scalar_load


def _scalar_store(kind: Any) -> Any:
    @intrinsic
    def scalar_store(typingctx: Any, address: Any, value: Any) -> Any:
        def generate(context: Any, b: Any, signature: Any, args: Any) -> Any:
            emit_store(b, args[1], args[0])
            return context.get_dummy_value()

        return types.void(types.int64, kind), generate

    return scalar_store


load_f32, store_f32 = _scalar_load(types.float32, F32), _scalar_store(types.float32)
load_i64, store_i64 = _scalar_load(types.int64, I64), _scalar_store(types.int64)


@intrinsic
def select_larger(typingctx: Any, x: Any, y: Any, u: Any, v: Any) -> Any:
    def generate(context: Any, b: Any, signature: Any, args: Any) -> Any:
        x, y, u, v = args
        return b.select(b.or_(b.fcmp_ordered(">", x, y), b.fcmp_unordered("uno", x, x)), u, v)

    return f32xN(f32xN, f32xN, f32xN, f32xN), generate


@intrinsic
def splat(typingctx: Any, x: Any) -> Any:
    def generate(context: Any, b: Any, signature: Any, args: Any) -> Any:
        return emit_splat(b, args[0])

    return f32xN(types.float32), generate


@intrinsic
def fma(typingctx: Any, x: Any, y: Any, z: Any) -> Any:
    def generate(context: Any, b: Any, signature: Any, args: Any) -> Any:
        return emit_fma(b, *args)

    return f32xN(f32xN, f32xN, f32xN), generate


@intrinsic
def select_gt(typingctx: Any, x: Any, y: Any, u: Any, v: Any) -> Any:
    def generate(context: Any, b: Any, signature: Any, args: Any) -> Any:
        return emit_select_gt(b, *args)

    return f32xN(f32xN, f32xN, f32xN, f32xN), generate


def _binary(emit: Any) -> Any:
    @intrinsic
    def binary(typingctx: Any, x: Any, y: Any) -> Any:
        def generate(context: Any, b: Any, signature: Any, args: Any) -> Any:
            return emit(b, args[0], args[1])

        return f32xN(f32xN, f32xN), generate

    return binary


def _unary(name: str) -> Any:
    @intrinsic
    def unary(typingctx: Any, x: Any) -> Any:
        def generate(context: Any, b: Any, signature: Any, args: Any) -> Any:
            kind = ir.FunctionType(VECTOR, [VECTOR])
            called = cgutils.get_or_insert_function(b.module, kind, f"llvm.{name}.v{WIDTH}f32")
            return b.call(called, args)

        return f32xN(f32xN), generate

    return unary


vmax = _binary(lambda b, x, y: b.select(b.fcmp_ordered(">", x, y), x, y))
vmin = _binary(lambda b, x, y: b.select(b.fcmp_ordered("<", x, y), x, y))
vsqrt, round_even = _unary("sqrt"), _unary("rint")

_OPERATORS = {
    operator.add: _binary(lambda b, x, y: b.fadd(x, y)),
    operator.sub: _binary(lambda b, x, y: b.fsub(x, y)),
    operator.mul: _binary(lambda b, x, y: b.fmul(x, y)),
    operator.truediv: _binary(lambda b, x, y: b.fdiv(x, y)),
}


def _define_operator(symbol: Any, function: Any) -> None:
    @overload(symbol)
    def operate(x, y):  # without annotations: Numba compares the signatures
        if isinstance(x, VectorType) and isinstance(y, VectorType):
            return lambda x, y: function(x, y)
        return None


for _symbol, _function in _OPERATORS.items():
    _define_operator(_symbol, _function)


@intrinsic
def power_of_two(typingctx: Any, v: Any) -> Any:
    """The exponent field of a float32 holds e + 127: an addition and a shift build 2**e."""

    def generate(context: Any, b: Any, signature: Any, args: Any) -> Any:
        whole = b.fptosi(args[0], VECTOR_I32)
        biased = b.add(whole, ir.Constant(VECTOR_I32, [127] * WIDTH))
        return b.bitcast(b.shl(biased, ir.Constant(VECTOR_I32, [23] * WIDTH)), VECTOR)

    return f32xN(f32xN), generate


def _fold(combine: Any) -> Any:
    """All lanes into one scalar: halves onto each other, log2(N) steps."""

    @intrinsic
    def folded(typingctx: Any, v: Any) -> Any:
        def generate(context: Any, b: Any, signature: Any, args: Any) -> Any:
            value, lanes = args[0], WIDTH
            while lanes > 1:
                lanes //= 2
                halves = [
                    b.shuffle_vector(
                        value,
                        value,
                        ir.Constant(ir.VectorType(I32, lanes), list(range(at, at + lanes))),
                    )
                    for at in (0, lanes)
                ]
                value = combine(b, *halves)
            return b.extract_element(value, ir.Constant(I32, 0))

        return types.float32(f32xN), generate

    return folded


lane_sum = _fold(lambda b, x, y: b.fadd(x, y))
lane_max = _fold(lambda b, x, y: b.select(b.fcmp_ordered(">", x, y), x, y))


@intrinsic(prefer_literal=True)
def unpack(typingctx: Any, address: Any, count: Any) -> Any:
    n = count.literal_value

    def generate(context: Any, b: Any, signature: Any, args: Any) -> Any:
        values = [emit_load(b, b.add(args[0], const(8 * i)), I64) for i in range(n)]
        return context.make_tuple(b, signature.return_type, values)

    return types.UniTuple(types.int64, n)(types.int64, count), generate


def _emit_transpose(b: ir.IRBuilder, rows: list[ir.Value]) -> None:
    """log2(N) rounds swap the off-diagonal quarters of ever smaller squares."""
    half = WIDTH // 2
    while half:
        keep_low = [i if not i & half else WIDTH + i - half for i in range(WIDTH)]
        keep_high = [i + half if not i & half else WIDTH + i for i in range(WIDTH)]
        for i in (i for i in range(WIDTH) if not i & half):
            low, high = rows[i], rows[i + half]
            rows[i] = b.shuffle_vector(low, high, ir.Constant(VECTOR_I32, keep_low))
            rows[i + half] = b.shuffle_vector(low, high, ir.Constant(VECTOR_I32, keep_high))
        half //= 2


@intrinsic
def transpose_square(
    typingctx: Any, target: Any, target_step: Any, source: Any, source_step: Any
) -> Any:
    def generate(context: Any, b: Any, signature: Any, args: Any) -> Any:
        target, target_step, source, source_step = args
        rows = [emit_load(b, b.add(source, b.mul(source_step, const(i)))) for i in range(WIDTH)]
        _emit_transpose(b, rows)
        for i, row in enumerate(rows):
            emit_store(b, row, b.add(target, b.mul(target_step, const(i))))
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), generate


@intrinsic
def transpose_listed(
    typingctx: Any, target: Any, unit: Any, places: Any, source: Any, source_step: Any
) -> Any:
    """``transpose_square`` to rows at target + places[i]·unit."""

    def generate(context: Any, b: Any, signature: Any, args: Any) -> Any:
        target, unit, places, source, source_step = args
        rows = [emit_load(b, b.add(source, b.mul(source_step, const(i)))) for i in range(WIDTH)]
        _emit_transpose(b, rows)
        for i, row in enumerate(rows):
            place = emit_load(b, b.add(places, const(8 * i)), I64)
            emit_store(b, row, b.add(target, b.mul(place, unit)))
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), generate


@intrinsic
def transpose_part(
    typingctx: Any, target: Any, target_step: Any, source: Any, source_step: Any, n: Any, m: Any
) -> Any:
    def generate(context: Any, b: Any, signature: Any, args: Any) -> Any:
        target, target_step, source, source_step, n, m = args
        reading, writing = emit_mask(b, n), emit_mask(b, m)
        places = [b.add(source, b.mul(source_step, const(i))) for i in range(WIDTH)]
        rows = [emit_load_masked(b, place, reading) for place in places]
        _emit_transpose(b, rows)
        for i, row in enumerate(rows):
            emit_store_masked(b, row, b.add(target, b.mul(target_step, const(i))), writing)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6), generate
