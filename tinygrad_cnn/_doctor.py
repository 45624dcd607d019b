"""What ``tinygrad-cnn doctor`` prints: this machine as the project sees it.

Doctor is what people run when something is broken, so nothing may stop it: every section is
computed by itself, and one that fails says how and leaves the others alone.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import shutil
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from . import _explain
from . import backend as registry

Row = tuple[str, str]  # what it is, what it is here

_LABEL = 20  # columns
_HOUSEKEEPING = set(  # primitives that compute nothing
    """asarray from_numpy to_numpy owns empty full arange astype copy assign assign_at synchronize
    set_num_threads get_num_threads on_compile""".split()
)
_PACKAGES = """numpy numba llvmlite cupy matplotlib rich safetensors PIL onnx onnxruntime
    tensorboardX torch""".split()
_INSTALL = {
    "numba": "pip install numba",
    "cupy": "pip install cupy-cuda12x, for an NVIDIA GPU",
    "PIL": "pip install pillow, for JPEG and PNG files",
    "onnx": "pip install 'tinygrad-cnn[onnx]', for ONNX files",
    "onnxruntime": "to run ONNX files; with the same extra",
    "tensorboardX": "pip install tensorboardX, for the callback TensorBoard",
    "torch": "only for comparisons",
}


def report() -> int:
    """Print every section; always 0, whatever is missing or broken."""
    from . import __version__

    print(f"tinygrad-cnn {__version__}")
    for title, section in SECTIONS:
        print(f"\n{title}")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                for label, text in section():
                    _print_row(label, text)
            except Exception as error:  # a broken installation is what doctor is asked to look at
                _print_row("failed", _one_line(error))
        for warning in {str(w.message): None for w in caught}:
            _print_row("warning", warning)
    return 0


def explain(text: str) -> int:
    """Print which kernel the backend of new tensors runs for the convolution described."""
    question = _explain.parse(text)
    backend = registry.get_backend()
    print(question)
    answer = getattr(backend, "explain", None)
    if answer is None:
        _print_row(backend.name, "one kernel for every shape")
        return 0
    for line in answer(*question).splitlines():
        operation, _, kernel = line.partition(": ")
        _print_row(operation, kernel)
    return 0


# -- sections ---------------------------------------------------------------------------------


def _machine() -> Iterator[Row]:
    yield "Python", f"{platform.python_version()} ({platform.python_implementation()})"
    yield "", sys.executable
    yield "system", platform.platform()
    yield "processor", _processor()
    yield "cores", _cores()


def _packages() -> Iterator[Row]:
    distributions = importlib.metadata.packages_distributions()
    for package in _PACKAGES:
        names = sorted(set(distributions.get(package, [])))
        found = [f"{name} {importlib.metadata.version(name)}" for name in names]
        missing = f"not installed ({_INSTALL.get(package, f'pip install {package}')})"
        yield package, ", ".join(found).removeprefix(f"{package} ") or missing


def _backends() -> Iterator[Row]:
    for name, problem in registry.available_backends().items():
        lacking = [package for package in _INSTALL if f"No module named '{package}'" in problem]
        hint = f" ({_INSTALL[lacking[0]]})" if lacking else ""
        yield name, f"not usable: {problem}{hint}" if problem else "usable"
    yield "new tensors get", _choice()


def _settings() -> Iterator[Row]:
    names = [name for name in os.environ if name.startswith("TINYGRAD_CNN_")]
    names += ["NUMBA_NUM_THREADS", "NUMBA_THREADING_LAYER", "OMP_NUM_THREADS", "CUPY_CACHE_DIR"]
    for name in sorted(names):
        if name in os.environ:
            yield name, os.environ[name]
    found = registry.settings()
    yield "configuration file", ", ".join(f"{k} = {v!r}" for k, v in found.items()) or "none"


def _threads() -> Iterator[Row]:
    import tinygrad_cnn as tg

    yield "threads", str(tg.get_num_threads())
    if "numba" not in sys.modules:
        return  # missing or broken, which the section on backends has said
    numba = importlib.import_module("numba")
    numba.get_num_threads()  # starts the pool: which layer it uses is decided by then
    yield "Numba's layer", numba.threading_layer()


def _kernels() -> Iterator[Row]:
    yield from _kernel_cache()
    backend = registry.get_backend()
    yield from getattr(backend, "kernel_info", tuple)()
    for owner, names in sorted(
        _primitives(backend).items(), key=lambda item: item[0] != backend.name
    ):
        where = "" if owner != "numba" else " (other dtypes and small arrays: numpy)"
        yield f"run by {owner}", ", ".join(names) + where


def _data() -> Iterator[Row]:
    from .data.cache import user_cache_dir
    from .data.datasets import DATASETS, load_dataset

    yield "downloads go to", str(user_cache_dir() / "data")
    for name in DATASETS:
        try:
            yield name, f"found in {load_dataset(name, train=False, download=False).source}"
        except FileNotFoundError:
            later = "downloaded when first used" if hasattr(DATASETS[name], "mirrors") else "add it"
            yield name, f"not on this machine: {later}"
        except (OSError, ValueError, ImportError) as error:
            yield name, f"not usable: {_one_line(error)}"


SECTIONS: tuple[tuple[str, Callable[[], Iterator[Row]]], ...] = (
    ("Machine", _machine),
    ("Packages", _packages),
    ("Settings", _settings),
    ("Backends", _backends),
    ("Threads", _threads),
    ("Kernels", _kernels),
    ("Data sets", _data),
)


# -- what the sections are made of ------------------------------------------------------------


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _cores() -> str:
    """How many cores there are, how many this process may use, and what takes the rest away."""
    machine = os.cpu_count() or 1
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else machine
    text = f"{affinity} of {machine} usable"
    try:
        usable = int(_load("numba_kernels.threads").available_processors())
    except ImportError:
        return text
    return text if usable == affinity else f"{text}, {usable} by the container's quota"


def _choice() -> str:
    """The default backend and which of the places that may name it did."""
    wanted = os.environ.get("TINYGRAD_CNN_BACKEND")
    if wanted:
        return f"{wanted} (named by TINYGRAD_CNN_BACKEND)"
    wanted = registry.settings().get("backend")
    if wanted:
        return f"{wanted} (named by the configuration file)"
    return f"{registry.get_backend().name} (nothing names another)"


def _kernel_cache() -> Iterator[Row]:
    """Where machine code is kept, and how much of it there is."""
    try:
        cache = _load("numba_kernels.cache")
    except ImportError:
        return
    folder: Path | None = cache.folder()
    if folder is None:
        yield "compiled kernels", "kept nowhere: compiled in every process (see the warning)"
        return
    files = list(folder.glob("*.bin"))
    size = sum(file.stat().st_size for file in files)
    yield "compiled kernels", str(folder)
    yield "", f"writable, {len(files)} kernels, {size / 1e6:.1f} MB"


def _primitives(backend: Any) -> dict[str, list[str]]:
    """Which package computes which primitives of the contract: read off the functions."""
    contract = {**vars(registry.Backend), **registry.Backend.__annotations__}
    found: dict[str, list[str]] = {}
    for name in contract:
        function = getattr(backend, name, None)
        if name.startswith("_") or name in _HOUSEKEEPING or not callable(function):
            continue
        module = getattr(function, "__module__", None) or ""
        owner = module.removeprefix("tinygrad_cnn.backends.").split("_")[0]
        if owner not in registry.backend_names():
            owner = backend.xp.__name__  # the array module that most of a backend is one call into
        found.setdefault(owner, []).append(name)
    return found


def _load(module: str) -> Any:
    """A module of the backends by its dotted name: the engine names none of them statically."""
    return importlib.import_module(f"tinygrad_cnn.backends.{module}")


def _print_row(label: str, text: str) -> None:
    columns = shutil.get_terminal_size((100, 24)).columns
    lead = f"  {label:<{_LABEL}}" if len(label) < _LABEL else f"  {label}  "
    lines = textwrap.wrap(
        text,
        max(60, min(columns, 100)),
        initial_indent=lead,
        subsequent_indent=" " * (_LABEL + 2),
        break_long_words=False,
        break_on_hyphens=False,
    )
    print("\n".join(lines) or lead.rstrip())


def _one_line(error: BaseException) -> str:
    text = str(error).splitlines()
    return f"{type(error).__name__}: {text[0] if text else ''}"
