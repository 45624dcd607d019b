"""Compiling for real GPUs without having one.

The NVRTC library alone (package nvidia-cuda-nvrtc-cu12) turns a kernel into machine code and
reports registers, spills and shared memory; from these the occupancy follows. nvdisasm (package
nvidia-cuda-nvdisasm) shows the instructions. Neither needs a driver.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

from .cupy_device import module_source
from .device import Module

ARCHITECTURES = (70, 75, 80, 86, 89, 90)

# Of a multiprocessor: warps, blocks, shared memory in KB, shared memory reserved a block.
# Source: CUDA C++ programming guide, technical specifications by compute capability.
LIMITS = {
    70: (64, 32, 96, 0), 75: (32, 16, 64, 0), 80: (64, 32, 164, 1024), 86: (48, 16, 100, 1024),
    89: (48, 24, 100, 1024), 90: (64, 32, 228, 1024),
}  # fmt: skip
REGISTERS = 65536  # of a multiprocessor


class Resources(NamedTuple):
    """What one kernel needs on one architecture."""

    registers: int
    spills: int  # bytes stored to local memory for want of registers
    shared: int  # bytes of static shared memory


class CompileError(RuntimeError):
    """NVRTC refuses a source; the text is its log."""


def find_library() -> Path | None:
    """libnvrtc of the nvidia-cuda-nvrtc packages, or None."""
    try:
        spec = importlib.util.find_spec("nvidia")
    except (ImportError, ValueError):
        return None
    for folder in spec.submodule_search_locations or () if spec else ():
        for name in ("cuda_nvrtc/lib/libnvrtc.so.12", "cu13/lib/libnvrtc.so.13"):
            if (path := Path(folder, name)).is_file():
                return path
    return None


@functools.cache
def library() -> ctypes.CDLL:
    """Raises ImportError, saying what to install, where NVRTC is missing."""
    path = find_library()
    if path is None:
        raise ImportError('NVRTC is not installed: "pip install tinygrad-cnn[cuda-check]"')
    loaded = ctypes.CDLL(str(path))
    loaded.nvrtcGetErrorString.restype = ctypes.c_char_p
    return loaded


def version() -> str:
    major, minor = ctypes.c_int(), ctypes.c_int()
    library().nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
    return f"{major.value}.{minor.value}"


def compile_module(module: Module, arch: int) -> tuple[bytes, str]:
    """(cubin, ptxas' report) for one architecture, with CuPy's options. Raises CompileError."""
    lib, text = library(), module_source(module)
    options = [
        *text[1],
        "-ftz=true",
        "--device-as-default-execution-space",
        f"--gpu-architecture=sm_{arch}",
        "--ptxas-options=-v",
    ]
    program = ctypes.c_void_p()
    lib.nvrtcCreateProgram(ctypes.byref(program), text[0].encode(), b"kernel.cu", 0, None, None)
    try:
        array = (ctypes.c_char_p * len(options))(*(o.encode() for o in options))
        failed = lib.nvrtcCompileProgram(program, len(options), array)
        log = (
            _fetch(lib.nvrtcGetProgramLogSize, lib.nvrtcGetProgramLog, program)
            .rstrip(b"\0")
            .decode()
        )
        if failed:
            raise CompileError(f"{lib.nvrtcGetErrorString(failed).decode()}\n{log}")
        return _fetch(lib.nvrtcGetCUBINSize, lib.nvrtcGetCUBIN, program), log
    finally:
        lib.nvrtcDestroyProgram(ctypes.byref(program))


def _fetch(size_of: ctypes._CFuncPtr, read: ctypes._CFuncPtr, program: ctypes.c_void_p) -> bytes:  # type: ignore[name-defined]
    size = ctypes.c_size_t()
    size_of(program, ctypes.byref(size))
    buffer = ctypes.create_string_buffer(size.value)
    read(program, buffer)
    return buffer.raw


def resources(log: str) -> dict[str, Resources]:
    """Kernel by kernel, from ptxas' report."""
    found: dict[str, Resources] = {}
    for part in re.split(r"Compiling entry function '", log)[1:]:
        name = part[: part.index("'")]
        spills = re.search(r"(\d+) bytes spill stores", part)
        used, shared = (
            re.search(r"Used (\d+) registers", part),
            re.search(r"(\d+) bytes smem", part),
        )
        found[name] = Resources(int(used[1]) if used else 0, int(spills[1]) if spills else 0,
                                int(shared[1]) if shared else 0)  # fmt: skip
    return found


def occupancy(
    arch: int, need: Resources, threads: int, dynamic_shared: int = 0
) -> tuple[int, float]:
    """(blocks on a multiprocessor, its warps that they fill).

    Registers are given to warps in units of 256, a quarter of the file to each of four schedulers;
    shared memory in units of 128 bytes (256 before sm_80).
    """
    warps_sm, blocks_sm, shared_kb, reserved = LIMITS[arch]
    warps = -(-threads // 32)
    a_warp = -(-max(need.registers, 1) * 32 // 256) * 256
    by_registers = REGISTERS // 4 // a_warp * 4 // warps
    unit = 128 if arch >= 80 else 256
    shared = -(-(need.shared + dynamic_shared + reserved) // unit) * unit
    by_shared = shared_kb * 1024 // shared if shared else blocks_sm
    blocks = min(by_registers, by_shared, warps_sm // warps, blocks_sm)
    return blocks, blocks * warps / warps_sm


def disassembler() -> str | None:
    """Path of nvdisasm, or None."""
    spec = importlib.util.find_spec("nvidia")
    for folder in spec.submodule_search_locations or () if spec else ():
        for path in Path(folder).glob("*/bin/nvdisasm"):
            return str(path)
    return shutil.which("nvdisasm")


def instruction_counts(cubin: bytes) -> dict[str, dict[str, int]]:
    """For each kernel, how often each instruction occurs in its code (LDS.128 beside LDS, and so
    on).
    """
    program = disassembler()
    if program is None:
        raise ImportError('nvdisasm is not installed: "pip install tinygrad-cnn[cuda-check]"')
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        done = subprocess.run(
            [program, "-c", file.name], capture_output=True, text=True, check=True
        )
    counts: dict[str, dict[str, int]] = {}
    current: dict[str, int] = {}
    for line in done.stdout.splitlines():
        if section := re.match(r"\s*\.section\s+\.text\.(\w+)", line):
            current = counts.setdefault(section[1], {})
        elif code := re.search(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)", line):
            name, *parts = code[1].split(".")
            key = f"{name}.128" if "128" in parts else name
            current[key] = current.get(key, 0) + 1
    return counts
