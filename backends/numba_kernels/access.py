"""Memory at an address, one element at a time, for loops that LLVM turns into vector code.

``get32(p, i)`` reads float32 number i from address p and ``put32(p, i, v)`` writes it. Unlike array
elements they have no negative indices to wrap, and reads and writes are marked as independent of
each other: without that mark LLVM keeps a scalar loop for whenever input and output overlap, which
every in-place operation does. The mark is right if a loop never reads, at a place i, what it wrote
at another place.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic


def _scopes(module: Any) -> Any:
    """The metadata node that all marked reads belong to and that no marked write touches."""
    domain = module.add_metadata(["tinygrad_cnn.domain"])
    return module.add_metadata([module.add_metadata(["tinygrad_cnn.reads", domain])])


def _make(kind: Any, form: Any, marked: bool = True) -> tuple[Any, Any]:
    """(get, put) for one element type."""

    def pointer(builder: Any, where: Any, index: Any) -> Any:
        return builder.gep(builder.inttoptr(where, form.as_pointer()), [index])

    @intrinsic
    def get(typing_context: Any, where: Any, index: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            value = builder.load(pointer(builder, *arguments))
            if marked:
                value.set_metadata("alias.scope", _scopes(builder.module))
            return value

        return kind(types.int64, types.int64), generate

    @intrinsic
    def put(typing_context: Any, where: Any, index: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            where, index, value = arguments
            store = builder.store(value, pointer(builder, where, index))
            if marked:
                store.set_metadata("noalias", _scopes(builder.module))
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, kind), generate

    return get, put


get32, put32 = _make(types.float32, ir.FloatType())
get64, put64 = _make(types.float64, ir.DoubleType())
get8, put8 = _make(types.uint8, ir.IntType(8))
geti32, puti32 = _make(types.int32, ir.IntType(32))
geti64, puti64 = _make(types.int64, ir.IntType(64))
# Unmarked: for accumulators in memory, which a loop reads back at the place it wrote earlier.
read32, write32 = _make(types.float32, ir.FloatType(), marked=False)
read64, write64 = _make(types.float64, ir.DoubleType(), marked=False)
readi64, writei64 = _make(types.int64, ir.IntType(64), marked=False)


def _bits(source: Any, target: Any, form: Any) -> Any:
    """The bits of one type read as another of the same size."""

    @intrinsic
    def cast(typing_context: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.bitcast(arguments[0], form)

        return target(source), generate

    return cast


bits_of = _bits(types.float32, types.int32, ir.IntType(32))
float_of = _bits(types.int32, types.float32, ir.FloatType())
bits64_of = _bits(types.float64, types.int64, ir.IntType(64))
float64_of = _bits(types.int64, types.float64, ir.DoubleType())
