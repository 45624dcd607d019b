"""How kernels are written, compiled, kept and started.

A kernel is an ordinary Python function whose arguments are all int64: first the number of a chunk
of work and the number of the worker that does it, then addresses and sizes. It is compiled once, on
first use (or loaded from the cache).

    @kernel
    def scale(chunk, worker, x, y, n):              # y = 2·x
        start = chunk * 4096
        a, b = f32(x + 4 * start, min(4096, n - start)), f32(...)
        for i in range(a.size):
            b[i] = 2 * a[i]

    scale(chunks, address(x), address(y), x.size)          # chunks 0 … chunks−1, on all threads
    scale.serial(chunks, address(x), address(y), x.size)   # on this thread

All kernels share the one parallel loop below, so that each costs a single small compilation. A
chunk is the unit of work: what it computes depends on its number alone, never on how many threads
there are, so a sum that keeps one partial result a chunk and adds them in order has the same bits
for every number of threads. Each worker starts on its own run of neighbouring chunks (which stay in
its cache from one kernel to the next) and then helps the others.

The worker's number, 0 … threads−1, is for scratch memory. Kernels hold the interpreter lock: two
Python threads never run kernels at once, which the simplest of Numba's thread layers could not
bear. They must not raise.
"""

from __future__ import annotations

import ctypes
import struct
import threading
from collections.abc import Callable
from typing import Any, overload

import numpy as np
from llvmlite import ir
from numba import carray, njit, prange, types
from numba.core import config
from numba.extending import intrinsic

from .cache import KernelCache, on_compile, source_key
from .memory import scratch
from .threads import get_num_threads, set_blas_threads, set_num_threads, share_pool, state

__all__ = [
    "Kernel", "address", "device", "f32", "f64", "i32", "i64", "kernel", "max_workers",
    "get_num_threads", "on_compile", "set_num_threads", "source_key", "u8",
    "worker_scratch",
]  # fmt: skip

if config.DISABLE_JIT:
    raise ImportError(
        "NUMBA_DISABLE_JIT is set, and the kernels work on addresses, which only compiled code can"
    )

MAX_ARGUMENTS = 32
LINE = 64  # bytes of a cache line
_FLAGS: dict[str, Any] = {"error_model": "numpy", "boundscheck": False}
_I64 = ir.IntType(64)


# ---------------------------------------------------------------------------------------------
# Inside kernels: memory at an address
# ---------------------------------------------------------------------------------------------
@intrinsic
def _pointer(typing_context: Any, where: Any) -> Any:
    """An int64 address as a pointer."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())

    return types.voidptr(types.int64), generate


def device(
    function: Callable[..., Any] | None = None,
    /,
    *,
    fastmath: bool | set[str] = False,
    inline: bool = False,
) -> Any:
    """Decorator of a helper that kernels call: compiled into them, not on its own.

    ``inline`` insists on it, for functions of one element: a loop with a call in it does not become
    vector code.
    """
    if function is None:
        return lambda f: device(f, fastmath=fastmath, inline=inline)
    return njit(fastmath=fastmath, forceinline=inline, **_FLAGS)(function)


@device
def f32(where: int, count: int) -> Any:
    """``count`` float32 at an address, as a 1-D array."""
    return carray(_pointer(where), count, np.float32)


@device
def f64(where: int, count: int) -> Any:
    """``count`` float64 at an address."""
    return carray(_pointer(where), count, np.float64)


@device
def i32(where: int, count: int) -> Any:
    """``count`` int32 at an address."""
    return carray(_pointer(where), count, np.int32)


@device
def i64(where: int, count: int) -> Any:
    """``count`` int64 at an address."""
    return carray(_pointer(where), count, np.int64)


@device
def u8(where: int, count: int) -> Any:
    """``count`` bytes at an address."""
    return carray(_pointer(where), count, np.uint8)


# ---------------------------------------------------------------------------------------------
# The one parallel loop
# ---------------------------------------------------------------------------------------------
@intrinsic
def _take(typing_context: Any, counter: Any) -> Any:
    """The number at an address, which is then one more: atomically."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = builder.inttoptr(arguments[0], _I64.as_pointer())
        return builder.atomic_rmw("add", pointer, ir.Constant(_I64, 1), "monotonic")

    return types.int64(types.int64), generate


@intrinsic
def _call(typing_context: Any, entry: Any, arity: Any, table: Any, chunk: Any, worker: Any) -> Any:
    """entry(chunk, worker, table[0], …, table[arity−1]) for a C function at an address."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        entry, arity, table, chunk, worker = arguments
        values = builder.inttoptr(table, _I64.as_pointer())
        done = builder.append_basic_block("called")
        choice = builder.switch(arity, done)
        for count in range(MAX_ARGUMENTS + 1):
            block = builder.append_basic_block(f"call{count}")
            choice.add_case(ir.Constant(_I64, count), block)
            with builder.goto_block(block):
                given = [
                    builder.load(builder.gep(values, [ir.Constant(_I64, i)])) for i in range(count)
                ]
                form = ir.FunctionType(ir.IntType(8).as_pointer(), [_I64] * (count + 2))
                builder.call(builder.inttoptr(entry, form.as_pointer()), [chunk, worker, *given])
                builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), generate


def _run_serial(entry: int, arity: int, table: int, chunks: int) -> None:
    for chunk in range(chunks):
        _call(entry, arity, table, chunk, 0)


def _run_parallel(
    entry: int, arity: int, table: int, chunks: int, workers: int, counters: int
) -> None:
    for worker in range(workers):
        i64(counters + worker * LINE, 1)[0] = chunks * worker // workers
    for worker in prange(workers):
        for step in range(workers):
            other = (worker + step) % workers
            end = chunks * (other + 1) // workers
            chunk = _take(counters + other * LINE)
            while chunk < end:
                _call(entry, arity, table, chunk, worker)
                chunk = _take(counters + other * LINE)


class _Launcher(threading.local):
    """A thread's argument table and chunk counters, and the two compiled loops."""

    def __init__(self) -> None:
        counters = np.zeros((MAX_ARGUMENTS + 1 + 512) * LINE // 8, np.int64)
        self.keep = counters
        start = -(-counters.ctypes.data // LINE) * LINE
        self.table = start
        offset = (start - counters.ctypes.data) // 8
        self.buffer = counters[offset : offset + MAX_ARGUMENTS].data.cast("B")
        self.counters = start + MAX_ARGUMENTS * 8 + LINE
        self.pool_share = 0  # threads of Numba's pool this Python thread last asked for


_launcher = _Launcher()


def _compiled(function: Callable[..., Any], name: str, arity: int, **options: Any) -> Any:
    """The dispatcher of ``function(int64 × arity) -> None``, compiled or loaded."""
    dispatcher = njit(**options, **_FLAGS)(function)
    dispatcher._cache = KernelCache(name, function)
    dispatcher.compile(types.void(*[types.int64] * arity))
    dispatcher.disable_compile()
    return dispatcher


_lock = threading.RLock()
_loops: dict[str, Any] = {}


def _loop(name: str) -> Any:
    """The compiled serial or parallel loop."""
    with _lock:
        if name not in _loops:
            if name == "serial":
                _loops[name] = _compiled(_run_serial, "run_serial", 4)
            else:
                _loops[name] = _compiled(_run_parallel, "run_parallel", 6, parallel=True)
                set_blas_threads(1)
                state.launched = True
        return _loops[name]


class Kernel:
    """A compiled function over chunks of work; see the top of this file."""

    def __init__(self, function: Callable[..., Any], name: str, options: dict[str, Any]) -> None:
        self.name, self._function, self._options = name, function, options
        self.__doc__ = function.__doc__
        self.arity = function.__code__.co_argcount - 2
        if self.arity < 0 or self.arity > MAX_ARGUMENTS:
            raise TypeError(
                f"kernel {name}: expected (chunk, worker) and at most {MAX_ARGUMENTS} arguments"
            )
        self._pack = struct.Struct(f"{self.arity}q").pack_into
        self._entry = 0
        self._dispatcher: Any = None

    def load(self) -> int:
        """Compile or load now; returns the address of the machine code."""
        with _lock:
            if not self._entry:
                self._dispatcher = _compiled(
                    self._function, self.name, self.arity + 2, **self._options
                )
                (result,) = self._dispatcher.overloads.values()
                name = result.fndesc.llvm_cfunc_wrapper_name
                self._entry = result.library.get_pointer_to_function(name)
            return self._entry

    def __call__(self, chunks: int, *arguments: int) -> None:
        """Run chunks 0 … chunks−1, spread over the threads."""
        count = state.count
        if count == 1 or chunks == 1:
            return self.serial(chunks, *arguments)
        here = _launcher
        run = _loops.get("parallel") or _loop("parallel")
        if here.pool_share != count:
            share_pool(count)
            here.pool_share = count
        entry = self._entry or self.load()
        self._pack(here.buffer, 0, *arguments)
        run(entry, self.arity, here.table, chunks, min(count, chunks), here.counters)

    def serial(self, chunks: int, *arguments: int) -> None:
        """Run chunks 0 … chunks−1 in order on the calling thread."""
        run = _loops.get("serial") or _loop("serial")
        entry = self._entry or self.load()
        here = _launcher
        self._pack(here.buffer, 0, *arguments)
        run(entry, self.arity, here.table, chunks)


_names: dict[str, str] = {}


@overload
def kernel(function: Callable[..., Any], /) -> Kernel: ...
@overload
def kernel(
    *, name: str = ..., fastmath: bool | set[str] = ...
) -> Callable[[Callable[..., Any]], Kernel]: ...
def kernel(function: Any = None, /, *, name: str = "", fastmath: bool | set[str] = False) -> Any:
    """Decorator that makes a Kernel of a function of int64 arguments (see the top of this file).

    ``name`` is needed when one definition is used several times (closures over a dtype): cached
    machine code is found by name. ``fastmath`` is Numba's; True also assumes that no NaN occurs, so
    prefer a set of flags.
    """
    if function is None:
        return lambda f: kernel_of(f, name or f.__name__, fastmath)
    return kernel_of(function, function.__name__, False)


def kernel_of(function: Callable[..., Any], name: str, fastmath: bool | set[str]) -> Kernel:
    """What ``kernel`` does, as a plain call."""
    full = f"{function.__module__.rpartition('.')[2]}.{name}"
    source = f"{function.__code__.co_filename}:{function.__code__.co_firstlineno}"
    if _names.setdefault(full, source) != source:
        raise ValueError(f"two kernels are called {full}: give one of them another name")
    return Kernel(function, full, {"fastmath": fastmath})


# ---------------------------------------------------------------------------------------------
# Outside kernels
# ---------------------------------------------------------------------------------------------
_DATA_FIELD = (
    object.__basicsize__
)  # of NumPy's array object: its binary interface puts the data pointer first
_integer_at = ctypes.c_ssize_t.from_address


def address(a: Any) -> int:
    """Where a NumPy array's first element lies: 0.13 µs, where ``a.ctypes.data`` takes 1 µs."""
    return _integer_at(id(a) + _DATA_FIELD).value


if address(_probe := np.empty(1)) != _probe.ctypes.data:

    def address(a: Any) -> int:
        """Where a NumPy array's first element lies."""
        return int(a.ctypes.data)


def worker_scratch(per_worker: int, shared: int = 0) -> int:
    """``memory.scratch``: ``shared`` bytes, then ``per_worker`` for each worker."""
    return scratch(shared + per_worker * state.count)


def max_workers() -> int:
    """Worker numbers in the next launch are below this: the size of per-worker scratch memory."""
    return state.count
