"""A pool of aligned memory blocks behind NumPy arrays.

Every large fresh array costs page faults (about 0.2 ms a megabyte: more than most kernels that fill
it), so blocks are kept and handed out again. A block goes back when the last array that looks at it
dies, and not before: its arrays hang on a small ``Lease`` object whose end returns the block.

Blocks come in size classes, eight to a doubling, start at multiples of 64 bytes (a vector
register's width, a cache line) and are kept up to a limit. When a class has no free block, one of
up to twice the size serves before the system is asked. So at most 12.5 % of a fresh block is lost,
and half of one that served before. Small arrays are NumPy's own affair.
"""

from __future__ import annotations

import math
import mmap
import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from tinygrad_cnn.geometry import Shape

LINE = 64  # bytes of a cache line
SMALLEST = 1 << 15  # bytes: below this NumPy's allocator is as fast
HUGE_PAGE = 2 << 20  # bytes
LIMIT = 2 << 30  # bytes kept at most for later use


def last_level_cache(
    root: Path = Path("/sys/devices/system/cpu/cpu0/cache"), default: int = 32 << 20
) -> int:
    """Bytes of the largest cache that one processor sees. (The C library's answer is ten times too
    large in some virtual machines: it multiplies by processors that are not there.)"""
    sizes = [default] if not root.is_dir() else []
    for path in root.glob("index*/size"):
        with suppress(OSError, ValueError):
            sizes.append(int(path.read_text().strip().removesuffix("K")) << 10)
    return max(sizes, default=default)


# Results larger than this are streamed past the caches, which could not keep them anyway: a copy of
# 32 MB runs at 31 GB/s instead of 19 on one thread, 86 instead of 45 on two. Of 8 MB it is slower.
STREAM_BYTES = last_level_cache() * 3 // 4

_ndarray, _new, _bytes = np.ndarray, np.ndarray.__new__, np.dtype(np.uint8)


class Lease(np.ndarray):
    """One use of a block: the base of every array in it."""

    def __del__(self) -> None:
        if pool is not None:  # when the process ends, modules are emptied before their last arrays
            pool.give_back(self.base)


class Pool:
    """Free blocks by size, and counts of bytes."""

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit = limit
        self.lock = threading.RLock()  # a lease may end inside an allocation, on the same thread
        self._free: dict[int, list[Any]] = {}
        self._pooled = self._in_use = self._peak = 0

    def take(self, nbytes: int) -> Any:
        """A block of at least ``nbytes``."""
        step = nbytes.bit_length() - 4
        size = -(-nbytes >> step) << step
        with self.lock:
            blocks = self._free.get(size)
            block = blocks.pop() if blocks else self._larger(size)
            if block is not None:
                size = len(block)
                self._pooled -= size
            self._in_use += size
            if self._in_use > self._peak:
                self._peak = self._in_use
        return self._allocate(size) if block is None else block

    def _larger(self, size: int) -> Any:
        """A free block of one of the eight classes above, up to twice the size, or None: a pass
        backward finds the blocks of the pass forward too large or too small otherwise."""
        for _ in range(8):
            size += 1 << size.bit_length() - 4
            blocks = self._free.get(size)
            if blocks:
                return blocks.pop()
        return None

    def _allocate(self, size: int) -> Any:
        try:
            return _map(size)
        except (OSError, MemoryError):
            self.trim()
        try:
            return _map(size)
        except (OSError, MemoryError) as error:
            with self.lock:
                self._in_use -= size
            raise MemoryError(
                f"cannot allocate {size:,} bytes; arrays in use hold {self._in_use:,}"
            ) from error

    def give_back(self, block: Any) -> None:
        """The block is free: kept for later, or released when the limit is reached."""
        size = len(block)
        with self.lock:
            self._in_use -= size
            if self._pooled + size <= self.limit:
                self._pooled += size
                self._free.setdefault(size, []).append(block)

    def trim(self) -> None:
        """Release all blocks that are not in use to the operating system."""
        with self.lock:
            self._free.clear()
            self._pooled = 0

    def report(self) -> dict[str, Any]:
        """Bytes ``in_use``, ``pooled`` (kept for later), ``peak`` in use, ``limit``; ``classes``:
        {size: free blocks}."""
        with self.lock:
            classes = {size: len(blocks) for size, blocks in sorted(self._free.items()) if blocks}
            return {
                "in_use": self._in_use, "pooled": self._pooled, "peak": self._peak,
                "limit": self.limit, "classes": classes,
            }  # fmt: skip

    def reset_peak(self) -> None:
        """Count the peak from now on."""
        with self.lock:
            self._peak = self._in_use


def _map(size: int) -> Any:
    """Fresh memory whose pages exist only once touched; not shared with forked children.

    Pages of 2 MB where the system has them: fewer look-ups of addresses make a step of ResNet-20
    1 to 4 % faster, its inference 6 %. (Small blocks cut from such pages are 6 % slower: they lie
    next to each other in memory, and so meet in the same sets of the cache.)
    """
    if not hasattr(mmap, "MAP_PRIVATE"):
        return mmap.mmap(-1, size)
    block = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if size >= HUGE_PAGE and hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a kernel without them
            block.madvise(mmap.MADV_HUGEPAGE)
    return block


pool = Pool()
if hasattr(os, "register_at_fork"):  # a child has no other threads: none may be inside then
    os.register_at_fork(
        before=pool.lock.acquire,
        after_in_parent=pool.lock.release,
        after_in_child=pool.lock.release,
    )


def empty(shape: Shape, dtype: Any, strides: Shape | None = None) -> Any:
    """An uninitialised array; ``strides`` (bytes) give it any dense memory order."""
    if not isinstance(dtype, np.dtype):
        dtype = np.dtype(dtype)
    nbytes = math.prod(shape) * dtype.itemsize
    if nbytes < SMALLEST:
        return _new(_ndarray, shape, dtype, None, 0, strides)
    lease = _new(Lease, nbytes, _bytes, pool.take(nbytes))
    return _new(_ndarray, shape, dtype, lease, 0, strides)


def is_whole(a: Any) -> bool:
    """Whether ``a`` is all of a block (not a view of an array)."""
    return type(a.base) is Lease


class _Scratch(threading.local):
    """Working memory of one Python thread."""

    block: Any = None
    start = size = 0

    def grow(self, nbytes: int) -> None:
        self.size, self.block = 0, None  # the old block goes back before the new one is taken
        self.block = empty((nbytes + LINE + SMALLEST,), _bytes)
        self.start = -(-self.block.ctypes.data // LINE) * LINE
        self.size = nbytes


_scratch = _Scratch()


def scratch(nbytes: int) -> int:
    """The address of ``nbytes`` of working memory (at a multiple of 64) for the kernels that are
    started next; the next call on this thread gives the same memory again. 0.2 µs, where ``empty``
    takes 2; and the caches know it already."""
    here = _scratch
    if nbytes > here.size:
        here.grow(nbytes)
    return here.start
