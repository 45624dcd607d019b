"""Compiling kernels for the CPU: which compiler, which flags, and a cache of what was compiled.

A compiled kernel lies in ``$TINYGRAD_CNN_CACHE/cudasim`` (else the user's cache folder) under a
hash of its text, the flags, the compiler and the runtime, so nothing is compiled twice and nothing
stale is used.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent
FAST = ("-O2", "-fno-math-errno", "-ffp-contract=fast")
CHECK = (
    "-O1", "-g1", "-gdwarf-4", "-DCUSIM_CHECK", "-ffp-contract=fast", "-fsanitize=thread",
    "-fsanitize=bounds,alignment,integer-divide-by-zero,shift", "-fsanitize-coverage=trace-pc",
)  # fmt: skip
COMMON = ("-std=gnu++17", "-fPIC", "-fno-strict-aliasing", "-fno-exceptions", "-fno-rtti", "-w")


class CompileError(RuntimeError):
    """A kernel does not compile; the text holds the compiler's messages with the kernel's lines."""


@functools.cache
def find_compiler() -> tuple[str, ...]:
    """The command of a C++ compiler: TINYGRAD_CNN_CXX, else g++, clang++ or the ziglang package.

    Raises ImportError, saying what to install, when there is none.
    """
    named = os.environ.get("TINYGRAD_CNN_CXX")
    if named:
        return tuple(shlex.split(named))
    for name in ("g++", "clang++"):
        if path := shutil.which(name):
            return (path,)
    if importlib.util.find_spec("ziglang"):
        return (sys.executable, "-m", "ziglang", "c++")
    raise ImportError(
        'cudasim compiles kernels and found no C++ compiler: install g++ or clang, or "pip '
        'install ziglang"'
    )


@functools.cache
def native_flags() -> tuple[str, ...]:
    """Machine code for this processor, where the compiler knows it; it brings fused multiply-add,
    which a GPU uses too."""
    if "ziglang" in find_compiler():
        return ("-mcpu=native", "-nostdlib++")
    return ("-mcpu=native",) if platform.machine() in ("aarch64", "arm64") else ("-march=native",)


def cache_folder() -> Path:
    """Where compiled kernels are kept."""
    root = os.environ.get("TINYGRAD_CNN_CACHE")
    base = (
        Path(root)
        if root
        else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"), "tinygrad_cnn")
    )
    return base / "cudasim"


@functools.cache
def _identity() -> str:
    """Hash of all that a compiled kernel depends on besides its own text."""
    digest = hashlib.sha256(" ".join((*find_compiler(), *native_flags(), *COMMON)).encode())
    digest.update(platform.processor().encode() + sys.platform.encode())
    version = subprocess.run(
        [*find_compiler(), "--version"], capture_output=True, text=True, check=False, timeout=120
    )
    digest.update(version.stdout.encode())
    for name in ("cusim.h", "state.h", "fibers.h", "runtime.cpp", "check.cpp"):
        digest.update((HERE / name).read_bytes())
    return digest.hexdigest()


def _run(arguments: list[str]) -> None:
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CompileError(
            done.stderr.strip() or f"{arguments[0]} failed with status {done.returncode}"
        )


def _runtime_object(part: str, check: bool) -> Path:
    """The compiled runtime (part of every kernel library), made once."""
    target = cache_folder() / f"{part}-{'check' if check else 'fast'}-{_identity()[:16]}.o"
    if not target.exists():
        flags = ["-O2", *(["-DCUSIM_CHECK"] if check else [])]
        _atomically(
            target,
            [*find_compiler(), *COMMON, *native_flags(), *flags, "-c", str(HERE / f"{part}.cpp")],
        )
    return target


def _atomically(target: Path, command: list[str]) -> None:
    """Run ``command -o`` a temporary name, then rename: others see all of it or nothing."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        made = Path(folder, target.name)
        _run([*command, "-o", str(made)])
        os.replace(made, target)


listeners: list[Callable[[str, float | None], None]] = []  # told when compiling starts and ends


def compile_library(name: str, text: str, check: bool, options: tuple[str, ...] = ()) -> Path:
    """A shared library of the translated kernel ``text`` and the runtime. Raises CompileError."""
    flags = CHECK if check else FAST
    if "ziglang" in find_compiler() and not check:
        flags = (*flags, "-fno-sanitize=undefined")  # which zig adds of itself
    key = hashlib.sha256("\0".join((text, *flags, *options, _identity())).encode()).hexdigest()[:32]
    target = cache_folder() / f"{key}.so"
    if target.exists():
        return target
    start = time.perf_counter()
    for tell in listeners:
        tell(name, None)
    parts = ["runtime", "check"] if check else ["runtime"]
    objects = [str(_runtime_object(part, check)) for part in parts]
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder, "kernel.cpp"), Path(folder, "kernel.o")
        source.write_text(text, encoding="utf-8")
        _run(
            [
                *find_compiler(),
                *COMMON,
                *native_flags(),
                *flags,
                *options,
                "-include",
                str(HERE / "cusim.h"),
                "-c",
                str(source),
                "-o",
                str(made),
            ]
        )
        linker = ["-shared", "-nostdlib++"] if "ziglang" in find_compiler() else ["-shared"]
        _atomically(target, [*find_compiler(), *linker, str(made), *objects, "-lm"])
    for tell in listeners:
        tell(name, time.perf_counter() - start)
    return target
