"""Machine code kept on disk: one file a kernel, in a folder of this project's own.

Numba's own cache looks only at the file that defines a function, so an edited helper would leave
stale machine code. Here the folder's name is a hash of every source file of this package, the
versions of Python, NumPy, Numba and llvmlite, and the processor: whatever can change the code
changes the folder. The files are read when this module is imported, with the code they define; an
edit made while a process runs does not pass its old machine code off as the new.

Numba names machine code after the function and its number in the process. The functions of one
factory share their name, so code that two processes kept (``exp`` the first of one, ``relu`` the
first of the other) could share both, and a third process would take the one for the other. The
numbers of a process, a forked one too, therefore begin at a random place.

Root of the cache: ``TINYGRAD_CNN_CACHE``, else the platform's cache folder, else a private folder
under the temporary folder; if none can be written, kernels are compiled in every process, with one
warning.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import pickle
import platform
import secrets
import shutil
import stat
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
import numpy as np
from llvmlite import binding as llvm
from numba.core import config
from numba.core.bytecode import FunctionIdentity
from numba.core.caching import CompileResultCacheImpl, _Cache
from numba.core.compiler import CompileResult

KEPT_FOLDERS = 4  # machine code of this many package versions stays on disk
Listener = Callable[[str, "float | None"], None]
_listeners: list[Listener] = []


def _number_anew() -> None:
    FunctionIdentity._unique_ids = itertools.count(secrets.randbits(48))


_number_anew()
if hasattr(os, "register_at_fork"):  # children would go on with the same numbers, all of them
    os.register_at_fork(after_in_child=_number_anew)


def on_compile(listener: Listener) -> Callable[[], None]:
    """Call ``listener(name, None)`` when a kernel starts being compiled (not when it is loaded from
    the cache) and ``listener(name, seconds)`` when it is done. Returns a function that
    unregisters it."""
    _listeners.append(listener)
    return lambda: _listeners.remove(listener)


def _tell(name: str, seconds: float | None) -> None:
    for listener in list(_listeners):
        listener(name, seconds)


def _hash_sources() -> Any:
    """Hash of the files of this package."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest


_SOURCES = _hash_sources()


def source_key() -> str:
    """Hash of all that decides the machine code of the kernels."""
    digest = _SOURCES.copy()
    settings = [
        config.OPT, config.BOUNDSCHECK, config.DEBUGINFO_DEFAULT,
        config.CPU_NAME, config.CPU_FEATURES,
        os.environ.get("TINYGRAD_CNN_SIMD"),
    ]  # fmt: skip
    versions = [
        sys.version,
        platform.machine(),
        np.__version__,
        numba.__version__,
        llvmlite.__version__,
    ]
    processor = [llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()]
    digest.update(repr((settings, versions, processor)).encode())
    return digest.hexdigest()[:24]


def _roots() -> Iterator[Path]:
    """Places for the cache, best first."""
    named = os.environ.get("TINYGRAD_CNN_CACHE")
    if named:
        yield Path(named)
        return
    home = Path(os.path.expanduser("~"))
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA", "")
    elif sys.platform == "darwin":
        base = str(home / "Library" / "Caches")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or str(home / ".cache")
    if os.path.isabs(base):
        yield Path(base) / "tinygrad_cnn"
    user = os.getuid() if hasattr(os, "getuid") else "user"
    yield Path(tempfile.gettempdir()) / f"tinygrad_cnn-{user}"


def _is_private(folder: Path) -> bool:
    """Whether only this user can put files there: cached code is executed."""
    if not hasattr(os, "getuid"):
        return True
    found = folder.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022


@cache
def folder() -> Path | None:
    """The folder of this version's machine code, created when missing; None when nothing can be
    written."""
    tried = []
    for root in _roots():
        path = root / "kernels" / source_key()
        try:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            with tempfile.TemporaryFile(dir=path):
                pass
            if not _is_private(path):
                raise PermissionError(f"{path} can be written by other users")
            _drop_old(path)
            return path
        except OSError as error:
            tried.append(str(error))
    warnings.warn(
        f"no folder for compiled kernels ({'; '.join(tried)}); every process will compile them. "
        "Set TINYGRAD_CNN_CACHE to a folder that can be written.",
        RuntimeWarning,
        stacklevel=2,
    )
    return None


def _drop_old(path: Path) -> None:
    """Remove the machine code of all but the latest few versions."""
    os.utime(path)
    others = sorted(path.parent.iterdir(), key=lambda p: p.stat().st_mtime, reverse=True)
    for old in others[KEPT_FOLDERS:]:
        shutil.rmtree(old, ignore_errors=True)


class KernelCache(_Cache):
    """The cache object of one Numba dispatcher."""

    def __init__(self, name: str, py_func: Callable[..., Any]) -> None:
        self.name = name
        self._started = 0.0
        self._impl = CompileResultCacheImpl.__new__(CompileResultCacheImpl)
        self._code = hashlib.sha256(py_func.__code__.co_code).hexdigest()[:12]

    @property
    def cache_path(self) -> str:
        return str(folder())

    def _file(self, signature: Any) -> Path | None:
        where = folder()
        form = hashlib.sha256(f"{self._code} {signature}".encode()).hexdigest()[:16]
        return where and where / f"{self.name}-{form}.bin"

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled function from disk; None (compile it) when it is missing or damaged."""
        target_context.refresh()
        path = self._file(sig)
        if path is not None and path.is_file():
            try:
                content = path.read_bytes()
                if hashlib.sha256(content[32:]).digest() == content[:32]:
                    return CompileResult._rebuild(target_context, *pickle.loads(content[32:]))
            except OSError:
                pass  # as good as missing: it is compiled again
        self._started = time.perf_counter()
        _tell(self.name, None)
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Write the compiled function: to a file of its own name first, so that readers never see
        half of it."""
        _tell(self.name, time.perf_counter() - self._started)
        path = self._file(sig)
        if path is None or not self._impl.check_cachable(data):
            return
        content = pickle.dumps(data._reduce(), protocol=pickle.HIGHEST_PROTOCOL)
        partial = None
        try:
            handle, partial = tempfile.mkstemp(dir=path.parent, suffix=".part")
            with os.fdopen(handle, "wb") as file:
                file.write(hashlib.sha256(content).digest() + content)
            os.replace(partial, path)
        except OSError:  # a full disk or a lost race on Windows: the code in memory is good
            if partial is not None:
                Path(partial).unlink(missing_ok=True)

    def enable(self) -> None:
        """Always on."""

    def disable(self) -> None:
        """Always on."""

    def flush(self) -> None:
        """Nothing is buffered."""
