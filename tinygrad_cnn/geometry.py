"""Integer geometry of convolution, pooling and broadcasting: no arrays, only sizes.

Shape letters, used in the whole project:
    N batch · C input channels · O output channels · D H W input sizes · P Q output sizes ·
    I J kernel positions · M K N rows, inner and columns of a matrix product

A convolution or pooling window on one axis of n input cells, kernel k, stride s, dilation d and
padding (before, after) covers at output position p the input cells

    h = p·s + i·d − before,   i = 0 … k−1,      cells outside 0 … n−1 being padding,

and has  floor((n + before + after − d·(k−1) − 1) / s) + 1  output positions.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, ParamSpec, TypeVar

Shape = tuple[int, ...]
Pairs = tuple[tuple[int, int], ...]
P = ParamSpec("P")
T = TypeVar("T")


def remembered(function: Callable[P, T]) -> Callable[P, T]:
    """The same function, which keeps its last results: a network asks for the same few windows in
    every step, and computing one takes as long as a small kernel."""
    kept = functools.lru_cache(1024, typed=True)(function)

    @functools.wraps(function)
    def answer(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return kept(*args, **kwargs)  # type: ignore[arg-type]
        except TypeError:  # a list among the arguments
            return function(*args, **kwargs)

    return answer


class Window(NamedTuple):
    """Where a convolution or pooling kernel looks; every field has one entry a spatial axis.

    ``padding`` holds (before, after) pairs. ``ceil_mode`` and SAME padding are turned into such
    pairs before a kernel sees them, so that kernels know one formula only.
    """

    kernel: Shape
    stride: Shape
    padding: Pairs
    dilation: Shape

    def output(self, sizes: Sequence[int]) -> Shape:
        """Output sizes for the given input sizes (the formula above; may be ≤ 0)."""
        return _outputs(self, tuple(sizes))

    def taps(self) -> int:
        """Number of kernel positions I·J·…"""
        return math.prod(self.kernel)


@remembered
def _outputs(window: Window, sizes: Shape) -> Shape:
    return tuple(
        (n + lo + hi - d * (k - 1) - 1) // s + 1
        for n, k, s, (lo, hi), d in zip(sizes, *window, strict=True)
    )


def ntuple(value: int | Sequence[int], n: int, name: str, least: int) -> Shape:
    """``value`` as n integers: one integer is repeated. Raises ValueError below ``least``."""
    values = (value,) * n if isinstance(value, int) else tuple(int(v) for v in value)
    if len(values) == 1:
        values *= n
    if len(values) != n:
        raise ValueError(f"{name}: expected one integer or {n}, received {value!r}")
    if min(values, default=least) < least:
        raise ValueError(f"{name}: expected values of at least {least}, received {value!r}")
    return values


def same_padding(sizes: Sequence[int], kernel: Shape, stride: Shape, dilation: Shape) -> Pairs:
    """TensorFlow's SAME rule: ceil(n / s) outputs, the odd cell of padding at the end.

    p = max((ceil(n/s) − 1)·s + d·(k−1) + 1 − n, 0), split into (floor(p/2), ceil(p/2)).
    """
    totals = [
        max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0)
        for n, k, s, d in zip(sizes, kernel, stride, dilation, strict=True)
    ]
    return tuple((p // 2, p - p // 2) for p in totals)


@remembered
def conv_window(
    sizes: Sequence[int],
    kernel: Sequence[int],
    stride: int | Sequence[int],
    padding: int | str | Sequence[int] | Sequence[tuple[int, int]],
    dilation: int | Sequence[int],
    name: str,
) -> Window:
    """The window of a convolution with PyTorch's arguments; ``padding`` may also be
    "same" or "valid" in any case, or (before, after) pairs. Raises ValueError when nothing fits."""
    n = len(sizes)
    kernel = tuple(kernel)
    strides, dilations = (
        ntuple(stride, n, f"{name}: stride", 1),
        ntuple(dilation, n, f"{name}: dilation", 1),
    )
    pads: Pairs
    if isinstance(padding, str):
        rule = padding.lower()
        if rule not in ("same", "valid"):
            raise ValueError(
                f'{name}: padding must be "same", "valid" or integers, received {padding!r}'
            )
        pads = same_padding(sizes, kernel, strides, dilations) if rule == "same" else ((0, 0),) * n
    elif not isinstance(padding, int) and padding and isinstance(padding[0], tuple | list):
        pads = tuple((int(lo), int(hi)) for lo, hi in padding)  # type: ignore[misc]
        if len(pads) != n:
            raise ValueError(
                f"{name}: expected {n} (before, after) pairs of padding, received {padding!r}"
            )
    else:
        pads = tuple((p, p) for p in ntuple(padding, n, f"{name}: padding", 0))  # type: ignore[arg-type]
    window = Window(kernel, strides, pads, dilations)
    check_output(window, sizes, name)
    return window


def check_output(window: Window, sizes: Sequence[int], name: str) -> None:
    """Raise ValueError, with the formula and the user's numbers, when an output size is ≤ 0."""
    for axis, (p, n, k, s, (lo, hi), d) in enumerate(
        zip(window.output(sizes), sizes, *window, strict=True)
    ):
        if p <= 0:
            raise ValueError(
                f"{name}: output size {p} on spatial axis {axis}: "
                "floor((n + before + after − d·(k−1) − 1)/s) + 1 "
                f"= floor(({n} + {lo} + {hi} − {d}·({k}−1) − 1)/{s}) + 1; it must be at least 1: "
                f"make the input at least {d * (k - 1) + 1 - lo - hi} or the kernel smaller"
            )


@remembered
def pool_window(
    sizes: Sequence[int],
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None,
    padding: int | Sequence[int],
    dilation: int | Sequence[int],
    ceil_mode: bool,
    name: str,
) -> Window:
    """The window of a pooling op with PyTorch's arguments.

    ``stride=None`` (or empty) means the kernel size. ``ceil_mode`` rounds the output size up, but
    drops a last window that would start in the padding after the input; it becomes extra padding at
    the end.
    """
    n = len(sizes)
    kernel = ntuple(kernel_size, n, f"{name}: kernel_size", 1)
    strides = kernel if stride is None or stride == () else ntuple(stride, n, f"{name}: stride", 1)
    pads = ntuple(padding, n, f"{name}: padding", 0)
    dilations = ntuple(dilation, n, f"{name}: dilation", 1)
    if any(2 * p > d * (k - 1) + 1 for p, k, d in zip(pads, kernel, dilations, strict=True)):
        raise ValueError(
            f"{name}: padding must be at most half the kernel {kernel}, received {padding!r}"
        )
    pairs = []
    for size, k, s, p, d in zip(sizes, kernel, strides, pads, dilations, strict=True):
        span = size + 2 * p - d * (k - 1) - 1
        extra = 0
        if ceil_mode and span % s:
            last = (-(-span // s)) * s  # where the extra window starts, counted from −p
            extra = s - span % s if last < size + p else 0
        pairs.append((p, p + extra))
    window = Window(kernel, strides, tuple(pairs), dilations)
    check_output(window, sizes, name)
    return window


def pool_divisors(
    sizes: Sequence[int], window: Window, padding: Shape, count_include_pad: bool
) -> tuple[tuple[int, ...], ...]:
    """How many cells average pooling divides by, as one factor a position on each axis.

    ``padding`` is the user's padding: cells beyond it (added by ceil_mode) never count.
    """
    axes = []
    for n, p, k, s, (lo, _), q in zip(
        sizes,
        padding,
        window.kernel,
        window.stride,
        window.padding,
        window.output(sizes),
        strict=True,
    ):
        first, last = (-p, n + p) if count_include_pad else (0, n)
        axes.append(tuple(min(i * s - lo + k, last) - max(i * s - lo, first) for i in range(q)))
    return tuple(axes)


def transposed_output(sizes: Sequence[int], window: Window, output_padding: Shape) -> Shape:
    """Output sizes of a transposed convolution: (n−1)·s − before − after + d·(k−1) + output_padding
    + 1.
    """
    return tuple(
        (n - 1) * s - lo - hi + d * (k - 1) + extra + 1
        for n, k, s, (lo, hi), d, extra in zip(sizes, *window, output_padding, strict=True)
    )


def adaptive_bounds(n: int, outputs: int) -> list[tuple[int, int]]:
    """Start and end of each window of adaptive pooling: floor(i·n/o) … ceil((i+1)·n/o)."""
    return [(i * n // outputs, -(-(i + 1) * n // outputs)) for i in range(outputs)]


def broadcast_shapes(*shapes: Shape) -> Shape:
    """NumPy's broadcasting rule. Raises ValueError naming both shapes."""
    n = max(map(len, shapes))
    out = []
    for sizes in zip(*((1,) * (n - len(s)) + tuple(s) for s in shapes), strict=True):
        wanted = {v for v in sizes if v != 1} or {1}
        if len(wanted) > 1:
            raise ValueError(
                "shapes " + " and ".join(map(str, shapes)) + " cannot be broadcast together"
            )
        out.append(wanted.pop())
    return tuple(out)


def broadcast_axes(shape: Shape, wanted: Shape) -> Shape:
    """Axes of ``shape`` over which a gradient is summed to get back to ``wanted``."""
    lead = len(shape) - len(wanted)
    return tuple(range(lead)) + tuple(
        lead + i for i, v in enumerate(wanted) if v == 1 and shape[lead + i] != 1
    )


def normalize_axis(axis: int, ndim: int, name: str = "dim") -> int:
    """A dimension counted from the end made non-negative. Raises IndexError out of range."""
    limit = max(ndim, 1)
    if not hasattr(axis, "__index__"):
        raise TypeError(f"{name} must be an integer, received {axis!r}")
    if not -limit <= axis < limit:
        raise IndexError(
            f"{name} must lie in [{-limit}, {limit - 1}] for {ndim} dimensions, received {axis}"
        )
    return axis % limit


@remembered
def normalize_axes(axes: int | Sequence[int] | None, ndim: int) -> Shape:
    """``dim`` of a reduction: None or () is all dimensions. Raises ValueError on a repeated one."""
    if axes is None or axes == ():
        return tuple(range(ndim))
    found: tuple[Any, ...] = (axes,)
    if isinstance(axes, Sequence) and not isinstance(axes, str):
        found = tuple(axes)
    result = tuple(normalize_axis(a, ndim) for a in found)
    if len(set(result)) != len(result):
        raise ValueError(f"dim names a dimension twice: {axes!r}")
    return result if ndim else ()


class LinearMap:
    """A sparse matrix along one axis: output cell p is Σ weight·input cell over its pairs.

    ``rows[p]`` holds the pairs (input cell, weight) of output p. Interpolation, means over windows
    and copying cells are of this kind, and so are their adjoints. Objects compare by identity: make
    each once (``remembered``), and backends can keep what they derive from it.
    """

    def __init__(self, rows: Sequence[Sequence[tuple[int, float]]], inputs: int) -> None:
        self.rows = tuple(tuple(row) for row in rows)
        self.inputs = inputs
        self.longest = max(map(len, self.rows), default=0)
        self.ragged = any(len(row) < self.longest for row in self.rows)

    @functools.cached_property
    def transposed(self) -> LinearMap:
        """The adjoint: input cell i gathers from the outputs that read it, in their order."""
        rows: list[list[tuple[int, float]]] = [[] for _ in range(self.inputs)]
        for p, row in enumerate(self.rows):
            for i, weight in row:
                rows[i].append((p, weight))
        found = LinearMap(rows, len(self.rows))
        found.__dict__["transposed"] = self
        return found

    def columns(self, missing: int) -> list[tuple[list[int], list[float]]]:
        """The k-th pairs of all rows as (cells, weights), for each k; short rows continue with
        (``missing``, 1)."""
        table = [(*row, *((missing, 1.0),) * (self.longest - len(row))) for row in self.rows]
        return [
            ([row[k][0] for row in table], [row[k][1] for row in table])
            for k in range(self.longest)
        ]
