"""The number of threads that kernels use."""

from __future__ import annotations

from .backend import get_backend


def set_num_threads(n: int) -> None:
    """Let kernels of the current backend use ``n`` threads. Raises ValueError unless n ≥ 1."""
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise ValueError(f"set_num_threads: expected an integer of at least 1, received {n!r}")
    get_backend().set_num_threads(n)


def get_num_threads() -> int:
    """How many threads kernels of the current backend use."""
    return get_backend().get_num_threads()
