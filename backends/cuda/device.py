"""What a device must offer, and how a kernel is launched on it.

A launch is checked here, on every device: the number and types of the arguments against the
kernel's signature, and grid, block and shared memory against the limits that every GPU since
compute capability 7.0 has. CuPy itself checks none of this.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from .source import CODES, DTYPES, Parameter, Signature, signatures

Array = Any
Dim = tuple[int, int, int]

GRID_LIMIT: Dim = (2**31 - 1, 65535, 65535)
BLOCK_LIMIT: Dim = (1024, 1024, 64)
MAX_THREADS, STATIC_SHARED, MAX_SHARED = 1024, 48 * 1024, 227 * 1024


class LaunchError(ValueError):
    """A launch that a GPU would refuse, or worse, would not notice: wrong arguments or sizes."""


@dataclass(frozen=True)
class Module:
    """A kernel source with its -D set: what a device compiles as one piece.

    ``parts`` are (file name, text) pairs that are compiled one after the other. ``fmad=False``
    forbids fusing a·b + c into one rounding.
    """

    parts: tuple[tuple[str, str], ...]
    defines: tuple[tuple[str, str], ...] = ()
    fmad: bool = True

    def signatures(self) -> dict[str, Signature]:
        return signatures("\n".join(text for _, text in self.parts), dict(self.defines))


@dataclass
class Kernel:
    """One kernel of a module; ``handle`` is what the device made of it."""

    name: str
    signature: Signature
    module: Module
    handle: Any = None


@dataclass
class Launch:
    """A checked launch: all that a device needs to run it, and a report to show it."""

    kernel: Kernel
    grid: Dim
    block: Dim
    args: tuple[Any, ...]  # arrays, None, and NumPy scalars of the exact type
    shared_mem: int = 0
    uses: Sequence[Array] = ()  # arrays reached through tables of pointers
    flops: float = 0.0
    notes: dict[str, Any] = field(default_factory=dict)


class Device(Protocol):
    """Where arrays lie and kernels run."""

    name: str
    xp: Any  # the array module: allocation and views only

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """Uninitialised memory, aligned to 256 bytes."""

    def upload(self, array: np.ndarray[Any, Any]) -> Array: ...
    def upload_table(self, array: np.ndarray[Any, Any]) -> Array:
        """A small table for a kernel, without waiting for the device."""

    def download(self, array: Array) -> np.ndarray[Any, Any]: ...
    def pointer(self, array: Array) -> int: ...
    def compile(self, module: Module) -> dict[str, Kernel]:
        """The module's kernels; devices may compile at the first launch."""

    def run(self, launch: Launch) -> None:
        """Put a checked launch into the current stream."""

    def synchronize(self) -> None: ...
    def on_compile(self, listener: Callable[[str, float | None], None]) -> Callable[[], None]:
        """As ``Backend.on_compile``."""


def as_dim(value: int | Sequence[int], name: str, limit: Dim) -> Dim:
    """Grid or block sizes as three numbers within the limits. Raises LaunchError."""
    sizes = (value,) if isinstance(value, int | np.integer) else tuple(value)
    if not 1 <= len(sizes) <= 3 or not all(isinstance(v, int | np.integer) for v in sizes):
        raise LaunchError(f"{name}: expected 1 to 3 integers, received {value!r}")
    full = tuple(int(v) for v in (*sizes, 1, 1)[:3])
    for axis, (size, most) in enumerate(zip(full, limit, strict=True)):
        if not 1 <= size <= most:
            raise LaunchError(
                f"{name}: dimension {'xyz'[axis]} must lie in 1 … {most}, received {size}"
            )
    return full[0], full[1], full[2]


def check_launch(
    kernel: Kernel, grid: int | Sequence[int], block: int | Sequence[int], args: Sequence[Any],
    shared_mem: int = 0, uses: Sequence[Array] = (), flops: float = 0.0,
) -> Launch:  # fmt: skip
    """The launch with every argument converted to the kernel's type. Raises LaunchError."""
    what = f"kernel {kernel.name}"
    g, b = as_dim(grid, f"{what}: grid", GRID_LIMIT), as_dim(block, f"{what}: block", BLOCK_LIMIT)
    if math.prod(b) > MAX_THREADS:
        raise LaunchError(
            f"{what}: a block has at most {MAX_THREADS} threads, received {b} = {math.prod(b)}"
        )
    if not 0 <= shared_mem <= MAX_SHARED:
        raise LaunchError(
            f"{what}: shared_mem must lie in 0 … {MAX_SHARED} bytes, received {shared_mem}"
        )
    wanted = kernel.signature.parameters
    if len(args) != len(wanted):
        names = ", ".join(p.name for p in wanted)
        raise LaunchError(f"{what}: takes {len(wanted)} arguments ({names}), received {len(args)}")
    checked = tuple(
        _argument(what, i, p, a) for i, (p, a) in enumerate(zip(wanted, args, strict=True))
    )
    return Launch(kernel, g, b, checked, shared_mem, uses, flops)


def _type_name(p: Parameter) -> str:
    base = next((name for name, code in CODES.items() if code == p.code), "another type")
    return {"v": base, "p": f"{base}*", "c": f"const {base}*"}[p.how]


def _argument(what: str, position: int, p: Parameter, a: Any) -> Any:
    """``a`` as the parameter's type: an array of its element type, or an exact NumPy scalar."""
    where = f"{what}: argument {position} ({p.name}) is {_type_name(p)}"
    if p.how != "v":
        if a is None:
            return None
        if not hasattr(a, "dtype") or not hasattr(a, "strides"):
            raise LaunchError(
                f"{where}; received {type(a).__name__} {a!r}: pass an array, or None for a null "
                "pointer"
            )
        dtype = DTYPES.get(p.code)
        if dtype is not None and a.dtype != dtype:
            raise LaunchError(f"{where}; received an array of {a.dtype}: convert it to {dtype}")
        if p.how == "p" and isinstance(a, np.ndarray) and not a.flags.writeable:
            raise LaunchError(f"{where}; received a read-only array: pass a copy")
        return a
    dtype = DTYPES.get(p.code)
    if dtype is None:
        raise LaunchError(f"{where}, which cannot be passed from Python: use numbers and pointers")
    if isinstance(a, np.generic):
        if a.dtype != dtype:
            raise LaunchError(f"{where}; received {a.dtype} {a!r}: pass numpy.{dtype.name}({a})")
        return a
    if isinstance(a, bool | int | float):
        if isinstance(a, float) and dtype.kind != "f":
            raise LaunchError(f"{where}; received the float {a!r}: pass an integer")
        if dtype.kind in "iu" and not np.iinfo(dtype).min <= a <= np.iinfo(dtype).max:
            raise LaunchError(f"{where}; {a!r} does not fit")
        return dtype.type(a)
    raise LaunchError(f"{where}; received {type(a).__name__}: pass a number")


def defines_key(defines: Mapping[str, object]) -> tuple[tuple[str, str], ...]:
    """A -D set in the order in which it is compiled and compared."""
    return tuple(sorted((k, str(v)) for k, v in defines.items()))
