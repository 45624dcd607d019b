"""The base of the host layer: kernels by name, launches, and arrays in the form kernels want.

Arrays are NumPy's (simulator) or CuPy's. Their module is used for allocation and views only; every
number is computed by a kernel of kernels/.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any, TypeVar

import numpy as np

from .device import Array, Device, Kernel, Module, check_launch, defines_key

Shape = tuple[int, ...]

C_TYPES = {
    "bool": "bool", "int8": "signed char", "uint8": "unsigned char", "int16": "short",
    "uint16": "unsigned short", "int32": "int", "uint32": "unsigned", "int64": "long long",
    "uint64": "unsigned long long", "float32": "float", "float64": "double",
}  # fmt: skip
BLOCK = 256
MAX_BLOCKS = 32768  # of grid-stride kernels: enough to fill any GPU


@functools.cache
def kernel_text(name: str) -> str:
    """A file of kernels/."""
    return resources.files(__package__).joinpath("kernels", name).read_text(encoding="utf-8")


def c_type(dtype: Any) -> str:
    """The C type of a dtype. Raises TypeError for types no kernel handles, such as complex."""
    name = np.dtype(dtype).name
    if name not in C_TYPES:
        raise TypeError(f"CUDA kernels handle {', '.join(C_TYPES)} and float16; received {name}")
    return C_TYPES[name]


def c_lowest(dtype: Any) -> str:
    """The lowest value of a dtype, −inf if it has one, as a C expression."""
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return (
            "__int_as_float(0xff800000)"
            if dtype.itemsize == 4
            else "__longlong_as_double(0xfff0000000000000ll)"
        )
    return "0" if dtype.kind in "bu" else f"({c_type(dtype)})({np.iinfo(dtype).min + 1}ll - 1)"


def c_highest(dtype: Any) -> str:
    """The highest value of a dtype, inf if it has one, as a C expression."""
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return (
            "__int_as_float(0x7f800000)"
            if dtype.itemsize == 4
            else "__longlong_as_double(0x7ff0000000000000ll)"
        )
    return (
        "1"
        if dtype.kind == "b"
        else f"({c_type(dtype)}){np.iinfo(dtype).max}{'u' * (dtype.kind == 'u')}ll"
    )


class Host:
    """Launching kernels on one device."""

    def __init__(self, device: Device) -> None:
        self.device, self.xp = device, device.xp
        self._kernels: dict[Any, Kernel] = {}

    # -- launching --------------------------------------------------------------------------------
    def kernel(self, name: str, files: Sequence[str], fmad: bool = True, **defines: Any) -> Kernel:
        """The kernel ``name`` of some files compiled as one, for one -D set; compiled once."""
        key = (name, tuple(files), fmad, tuple(defines.items()))
        if key not in self._kernels:
            parts = tuple((file, kernel_text(file)) for file in files)
            self._kernels[key] = self.device.compile(Module(parts, defines_key(defines), fmad))[
                name
            ]
        return self._kernels[key]

    def launch(
        self, kernel: Kernel, grid: int | Sequence[int], block: int | Sequence[int], *args: Any,
        uses: Sequence[Array] = (), flops: float = 0.0,
    ) -> None:  # fmt: skip
        self.device.run(check_launch(kernel, grid, block, args, 0, uses, flops))

    def each(
        self, kernel: Kernel, n: int, *args: Any, threads: int | None = None, flops: float = 0.0
    ) -> None:
        """Launch a grid-stride kernel on n elements (``threads`` of them, if one does several)."""
        if n:
            wanted = -(-(n if threads is None else threads) // BLOCK)
            block = (
                BLOCK
                if wanted > 1
                else min(BLOCK, -(-(n if threads is None else threads) // 32) * 32)
            )
            self.launch(kernel, max(1, min(wanted, MAX_BLOCKS)), max(32, block), *args, flops=flops)

    def warps(self, kernel: Kernel, n: int, *args: Any, flops: float = 0.0) -> None:
        """Launch a kernel that gives each of n rows to a warp."""
        if n:
            a_block = min(4, n)
            self.launch(kernel, -(-n // a_block), 32 * a_block, *args, flops=flops)

    # -- arrays -----------------------------------------------------------------------------------
    def new(self, shape: Sequence[int], dtype: Any) -> Array:
        return self.device.empty(tuple(int(v) for v in shape), np.dtype(dtype))

    def is_array(self, a: Any) -> bool:
        return isinstance(a, self.xp.ndarray)

    def cast(self, a: Array, dtype: Any) -> Array:
        """A new dense array with the values of ``a`` converted."""
        dtype = np.dtype(dtype)
        out = self.new(a.shape, dtype)
        self.copy_into(out, a)
        return out

    def dense(self, a: Array, dtype: Any = None) -> Array:
        """``a`` without gaps in C order, of the given dtype; copied only where it is not so
        already.
        """
        wanted = a.dtype if dtype is None else np.dtype(dtype)
        return a if a.dtype == wanted and a.flags.c_contiguous else self.cast(a, wanted)

    def copy_into(self, out: Array, a: Array) -> None:
        """out[...] = a, both of any layout and dtype; ``a`` broadcasts."""
        a = self.xp.broadcast_to(a, out.shape)
        if a.dtype == out.dtype == np.float16:
            a, out = a.view(np.uint16), out.view(np.uint16)
        if a.dtype == np.float16:
            self._copy(out, self._convert_half("widen_half", a, np.uint16, np.float32))
        elif out.dtype == np.float16:
            double = a.dtype == np.float64
            name, source = ("narrow_half64", np.float64) if double else ("narrow_half", np.float32)
            half = self._convert_half(name, a, source, np.uint16)
            self._copy(out.view(np.uint16), half)
        else:
            self._copy(out, a)

    def _convert_half(self, name: str, a: Array, source: Any, target: Any) -> Array:
        """float16 as uint16 bits to float32, or back."""
        a = self.dense(a.view(source) if source == np.uint16 else a, source)
        out = self.new(a.shape, target)
        self.each(self.kernel(name, ["half.cu"]), a.size, a, out, a.size)
        return out

    def _copy(self, out: Array, a: Array) -> None:
        raise NotImplementedError  # elementwise.py


Method = TypeVar("Method", bound=Callable[..., Any])


def through_float32(method: Method) -> Method:
    """float16 is stored only: compute in float32, and round the results."""

    @functools.wraps(method)
    def wrapped(self: Host, *args: Any, **options: Any) -> Any:
        values = (*args, *options.values())
        if not any(self.is_array(v) and v.dtype == np.float16 for v in values):
            return method(self, *args, **options)

        def wide(v: Any) -> Any:
            return self.cast(v, np.float32) if self.is_array(v) and v.dtype == np.float16 else v

        def narrow(v: Any) -> Any:
            if isinstance(v, tuple):
                return tuple(narrow(part) for part in v)
            return self.cast(v, np.float16) if v.dtype == np.float32 else v

        return narrow(method(self, *map(wide, args), **{k: wide(v) for k, v in options.items()}))

    return wrapped  # type: ignore[return-value]


def rows_and_columns(shape: Sequence[int], axis: int) -> tuple[int, int, int]:
    """(A, R, B): a dense array seen as three axes around ``axis``."""
    return math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])


def inverse(order: Sequence[int]) -> Shape:
    """The transposition that undoes ``order``."""
    return tuple(sorted(range(len(order)), key=lambda d: order[d]))
