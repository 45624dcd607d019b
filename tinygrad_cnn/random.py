"""Random numbers: one counter-based stream (Philox 4x32-10) with the same bits on every backend.

A generator is only (seed, offset): a draw of ``count`` numbers reads the blocks ``offset …`` of
stream ``seed``, and the offset moves on by ceil(count / 2), as every number uses at most two of the
four words of a block.
"""

from __future__ import annotations

import math
import threading
from operator import index
from typing import Any

import numpy as np

from .backend import Array, Backend, BackendLike, load_backend, pick_backend
from .dtypes import DType, as_dtype, float32, int64
from .geometry import Shape
from .tensor import Tensor


class Generator:
    """A position in a random stream. ``get_state()`` and ``set_state()`` make a run repeatable from
    any point.
    """

    def __init__(self, seed: int = 0) -> None:
        self._lock = threading.Lock()
        self.manual_seed(seed)

    def manual_seed(self, seed: int) -> Generator:
        self.seed, self.offset = int(seed) % 2**64, 0
        return self

    def initial_seed(self) -> int:
        return self.seed

    def get_state(self) -> tuple[int, int]:
        return self.seed, self.offset

    def set_state(self, state: tuple[int, int]) -> None:
        self.seed, self.offset = int(state[0]), int(state[1])

    def reserve(self, count: int) -> tuple[int, int]:
        """(seed, offset) for a draw of ``count`` numbers, which no other draw will get."""
        with self._lock:
            start = self.offset
            self.offset += -(-count // 2)
        return self.seed, start


default_generator = Generator(0)


def manual_seed(seed: int) -> Generator:
    """Restart the default stream: initial weights, dropout and noise repeat exactly, on every
    backend.
    """
    return default_generator.manual_seed(seed)


def get_rng_state() -> tuple[int, int]:
    """The position of the default stream."""
    return default_generator.get_state()


def set_rng_state(state: tuple[int, int]) -> None:
    """Go back to a position of the default stream."""
    default_generator.set_state(state)


def uniform_array(
    backend: Backend, shape: Shape, dtype: DType, generator: Generator | None = None
) -> Array:
    seed, offset = (generator or default_generator).reserve(math.prod(shape))
    return backend.random_uniform(shape, dtype, seed, offset)


def normal_array(
    backend: Backend, shape: Shape, dtype: DType, generator: Generator | None = None
) -> Array:
    seed, offset = (generator or default_generator).reserve(math.prod(shape))
    return backend.random_normal(shape, dtype, seed, offset)


def _shape(shape: tuple[Any, ...], size: Any = None) -> Shape:
    """The shape meant by f(2, 3), f((2, 3)) and f(size=(2, 3))."""
    if size is None:
        size = shape[0] if len(shape) == 1 else shape
    try:
        found = tuple(map(index, [size] if hasattr(size, "__index__") else size))
    except TypeError:
        found = (-1,)
    if found and min(found) < 0:
        raise ValueError(f"expected a shape of integers of at least 0, received {size!r}")
    return found


def rand(
    *shape: Any,
    size: Any = None,
    generator: Generator | None = None,
    dtype: Any = float32,
    backend: BackendLike = None,
    requires_grad: bool = False,
) -> Tensor:
    """Uniform numbers in [0, 1)."""
    owner = pick_backend(backend)
    t = Tensor._wrap(uniform_array(owner, _shape(shape, size), as_dtype(dtype), generator), owner)
    return t.requires_grad_() if requires_grad else t


def randn(
    *shape: Any,
    size: Any = None,
    generator: Generator | None = None,
    dtype: Any = float32,
    backend: BackendLike = None,
    requires_grad: bool = False,
) -> Tensor:
    """Standard normal numbers."""
    owner = pick_backend(backend)
    t = Tensor._wrap(normal_array(owner, _shape(shape, size), as_dtype(dtype), generator), owner)
    return t.requires_grad_() if requires_grad else t


def randint(
    low: int = 0,
    high: Any = None,
    size: Any = None,
    generator: Generator | None = None,
    dtype: Any = int64,
    backend: BackendLike = None,
) -> Tensor:
    """Integers in [low, high), or in [0, low) when called as randint(high, size). Raises ValueError
    on an empty range.
    """
    if size is None:
        low, high, size = 0, low, high
    if high <= low:
        raise ValueError(f"randint: expected low < high, received [{low}, {high})")
    owner, shape = pick_backend(backend), _shape((), size)
    seed, offset = (generator or default_generator).reserve(math.prod(shape))
    values = _keys(math.prod(shape), seed, offset) % np.uint64(high - low)
    return Tensor._wrap(
        owner.asarray((values.astype(np.int64) + low).reshape(shape), as_dtype(dtype)), owner
    )


def _keys(count: int, seed: int, offset: int) -> np.ndarray[Any, Any]:
    """uint64 numbers of two words of the stream each, as a NumPy array (the same on every backend,
    so the reference makes them).
    """
    words = load_backend("numpy").random_bits(2 * count, seed, offset)
    pairs = words.reshape(count, 2).astype(np.uint64)
    keys: np.ndarray[Any, Any] = (pairs[:, 0] << np.uint64(32)) | pairs[:, 1]
    return keys


def permutation(n: int, seed: int, stream: int = 0) -> np.ndarray[Any, Any]:
    """A random order of 0 … n−1 as a function of (seed, stream): stable argsort of 64-bit keys."""
    return np.argsort(_keys(n, seed, stream << 40), kind="stable")


def randperm(n: int, generator: Generator | None = None, backend: BackendLike = None) -> Tensor:
    """A random order of 0 … n−1 as an int64 tensor. Raises ValueError on a negative n."""
    if n < 0:
        raise ValueError(f"randperm: expected n of at least 0, received {n}")
    owner = pick_backend(backend)
    seed, offset = (generator or default_generator).reserve(n)
    order = np.argsort(_keys(n, seed, offset), kind="stable")
    return Tensor._wrap(owner.asarray(order, int64), owner)
