"""How many threads kernels use, and what else in the process must know.

Count: ``TINYGRAD_CNN_NUM_THREADS`` > ``NUMBA_NUM_THREADS`` > ``threads`` in the settings file > the
processors this process may use (affinity and container quota). One pool only: NumPy's BLAS is set
to one thread while kernels use the pool, since two pools that wait actively for work take each
other's processors.
"""

from __future__ import annotations

import ctypes
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numba.np.ufunc import parallel

from tinygrad_cnn.backend import settings

MAX_THREADS = 256
_SETTERS = (
    "scipy_openblas_set_num_threads64_",
    "scipy_openblas_set_num_threads",
    "openblas_set_num_threads64_",
    "openblas_set_num_threads",
    "MKL_Set_Num_Threads",
    "bli_thread_set_num_threads",
)


def _quota(root: Path = Path("/sys/fs/cgroup")) -> float:
    """Processors the container's quota allows (cgroup version 2, else 1); infinity without one."""
    try:
        limit, period = (root / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            limit = (root / "cpu/cpu.cfs_quota_us").read_text().strip()
            period = (root / "cpu/cpu.cfs_period_us").read_text().strip()
        except OSError:
            return math.inf
    return math.inf if limit in ("max", "-1") else int(limit) / int(period)


def available_processors() -> int:
    """Processors this process may use: the smaller of its affinity and its container's quota, at
    least 1."""
    affinity = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return max(1, math.ceil(min(affinity, _quota())))


def _checked(value: object, source: str) -> int:
    try:
        count = int(str(value))
    except ValueError:
        count = 0
    if not 1 <= count <= MAX_THREADS:
        raise ValueError(
            f"{source}: expected a number of threads from 1 to {MAX_THREADS}, received {value!r}"
        )
    return count


def wanted_count() -> int:
    """The number of threads by the order of choice above."""
    for name in ("TINYGRAD_CNN_NUM_THREADS", "NUMBA_NUM_THREADS"):
        if os.environ.get(name):
            return _checked(os.environ[name], name)
    chosen = settings().get("threads")
    return (
        _checked(chosen, "threads")
        if chosen is not None
        else min(available_processors(), MAX_THREADS)
    )


class ThreadState:
    """``count``: threads a launch may use (1: kernels run on the caller's thread)."""

    def __init__(self) -> None:
        self.count = wanted_count()
        self.launched = False  # the pool exists; it does not survive fork()
        self.serial_only = False
        parallel.NUM_THREADS = max(self.count, available_processors())

    def after_fork(self) -> None:
        """In the child: the pool's threads are gone, and waiting for them would never end."""
        if self.launched:
            self.serial_only, self.count = True, 1


state = ThreadState()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=state.after_fork)


def set_num_threads(count: int) -> None:
    """Use ``count`` threads in every kernel of this process from now on; results do not depend on
    it.

    The pool has as many threads as there are processors (or as were asked for before its first
    use); asking for more later is allowed and adds none. In a forked child kernels stay on the
    calling thread. Raises ValueError below 1.
    """
    checked = _checked(count, "set_num_threads")
    state.count = 1 if state.serial_only else checked
    if not state.launched:
        parallel.NUM_THREADS = max(parallel.NUM_THREADS, checked)


def share_pool(count: int) -> None:
    """Let the parallel loops that this Python thread runs use ``count`` threads of Numba's pool.

    Numba's own function refuses more than there were processors when Numba was imported, whatever
    the size of the pool.
    """
    parallel._launch_threads()
    parallel._set_num_threads(min(count, parallel.NUM_THREADS))


def get_num_threads() -> int:
    """The number of threads kernels use."""
    return state.count


def _blas_setters() -> list[object]:
    """The set-number-of-threads functions of the BLAS libraries NumPy came with."""
    base = Path(np.__file__).parent
    folders = [base.parent / "numpy.libs", base / ".libs", base / ".dylibs"]
    found = []
    for path in (p for folder in folders if folder.is_dir() for p in folder.glob("*blas*")):
        try:
            library = ctypes.CDLL(str(path))
        except OSError:
            continue
        found += [getattr(library, name) for name in _SETTERS if hasattr(library, name)]
    return found


_setters: list[object] | None = None


def set_blas_threads(count: int) -> bool:
    """Let NumPy's BLAS use ``count`` threads; False when it cannot be told."""
    global _setters
    if _setters is None:
        _setters = _blas_setters()
    for setter in _setters:
        setter(ctypes.c_int(count))  # type: ignore[operator]
    return bool(_setters)


@contextmanager
def blas_threads() -> Iterator[None]:
    """``with blas_threads():`` a large matrix product that NumPy computes may use all threads."""
    set_blas_threads(state.count)
    try:
        yield
    finally:
        set_blas_threads(1)
