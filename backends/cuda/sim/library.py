"""A compiled kernel library: loading it, calling it, and the C structures in between."""

from __future__ import annotations

import ctypes
import functools
import mmap
from collections.abc import Sequence
from pathlib import Path

import numpy as np

STACK_BYTES, MAX_THREADS = 64 * 1024, 1024

# One row for each traced memory access or basic block, as struct Access in check.cpp.
TRACE = np.dtype(
    [
        ("pc", "u8"),
        ("address", "u8"),
        ("value", "u8"),
        ("block", "u4"),
        ("thread", "u4"),
        ("phase", "u4"),
        ("bytes", "u2"),
        ("kind", "u1"),
        ("range", "u1"),
    ],
    align=True,
)
LOAD, STORE, ATOMIC, BLOCK_ENTRY = range(4)

U3 = ctypes.c_uint * 3


@functools.cache
def pointer_array(n: int) -> type[ctypes.Array[ctypes.c_void_p]]:
    """The C type void*[n]; kept, as a type made anew would be a reference cycle each time."""
    return ctypes.c_void_p * n


class LaunchRecord(ctypes.Structure):
    """struct Launch of state.h."""

    _fields_ = [
        ("entry", ctypes.c_void_p),
        ("arguments", ctypes.c_void_p),
        ("grid", U3),
        ("block", U3),
        ("dynamic_bytes", ctypes.c_uint),
        ("descending", ctypes.c_uint),
        ("block_step", ctypes.c_uint),
        ("block_shift", ctypes.c_uint),
        ("check", ctypes.c_int),
        ("traced_blocks", ctypes.c_int),
        ("stacks", ctypes.c_void_p),
        ("stack_bytes", ctypes.c_uint64),
        ("trace", ctypes.c_void_p),
        ("trace_capacity", ctypes.c_uint64),
        ("trace_count", ctypes.c_uint64),
    ]


class FindingRecord(ctypes.Structure):
    """struct Finding of state.h."""

    _fields_ = [
        ("kind", ctypes.c_int),
        ("line", ctypes.c_int),
        ("other_line", ctypes.c_int),
        ("buffer", ctypes.c_int),
        ("bytes", ctypes.c_int),
        ("detail", ctypes.c_int),
        ("count", ctypes.c_int),
        ("block", U3),
        ("thread", U3),
        ("other_block", U3),
        ("other_thread", U3),
        ("pc", ctypes.c_uint64),
        ("other_pc", ctypes.c_uint64),
        ("offset", ctypes.c_longlong),
    ]


class SharedRecord(ctypes.Structure):
    """struct SharedArray of state.h."""

    _fields_ = [
        ("id", ctypes.c_int), ("bytes", ctypes.c_size_t), ("offset", ctypes.c_size_t),
        ("alignment", ctypes.c_size_t), ("name", ctypes.c_char_p),
    ]  # fmt: skip


_stacks = mmap.mmap(-1, STACK_BYTES * MAX_THREADS)  # reserved, not touched: pages come with use
_stack_address = ctypes.addressof(ctypes.c_char.from_buffer(_stacks))


class Library:
    """One shared library made by ``compile_library``."""

    def __init__(self, path: Path, check: bool) -> None:
        self.path, self.check = path, check
        self.lib = ctypes.CDLL(str(path))
        self.lib.cusim_run.argtypes = [ctypes.c_void_p]
        self.lib.cusim_findings.restype = ctypes.POINTER(FindingRecord)
        self.lib.cusim_arena_address.restype = ctypes.c_uint64
        if check:
            self.lib.cusim_image_address.restype = ctypes.c_uint64
            self.lib.cusim_add_buffer.argtypes = [
                ctypes.c_uint64,
                ctypes.c_uint64,
                ctypes.c_int,
                ctypes.c_int,
            ]
        self._entries: dict[str, int] = {}

    def entry(self, kernel: str) -> int:
        """Address of the function that calls ``kernel`` from an array of argument addresses."""
        if kernel not in self._entries:
            function = getattr(self.lib, f"cusim_enter_{kernel}")
            self._entries[kernel] = ctypes.cast(function, ctypes.c_void_p).value or 0
        return self._entries[kernel]

    def letters(self, kernel: str) -> str:
        """The kernel's signature as the compiler saw it (``Signature.letters``)."""
        text = ctypes.create_string_buffer(256)
        getattr(self.lib, f"cusim_describe_{kernel}")(text)
        return text.value.decode()

    def add_buffers(self, buffers: Sequence[tuple[int, int, int, bool]]) -> None:
        """Tell the checks what a launch may touch: (address, bytes, unit, constant) each."""
        self.lib.cusim_forget_buffers()
        for address, size, unit, constant in buffers:
            self.lib.cusim_add_buffer(address, size, unit, int(constant))

    def run(self, record: LaunchRecord) -> list[FindingRecord]:
        """Run a launch; the findings, empty when all is well."""
        record.stacks, record.stack_bytes = _stack_address, STACK_BYTES
        count = self.lib.cusim_run(ctypes.byref(record))
        if not count:
            return []
        found = self.lib.cusim_findings()
        return [FindingRecord.from_buffer_copy(found[i]) for i in range(count)]

    def shared_arrays(self) -> list[tuple[str, int, int, int]]:
        """(name, address, bytes, declaration number) of the last launch's static shared arrays."""
        pointer = ctypes.POINTER(SharedRecord)()
        count = self.lib.cusim_shared_arrays(ctypes.byref(pointer))
        base = self.lib.cusim_arena_address()
        return [
            (
                (pointer[i].name or b"").decode(),
                base + pointer[i].offset,
                pointer[i].bytes,
                pointer[i].id,
            )
            for i in range(count)
        ]
