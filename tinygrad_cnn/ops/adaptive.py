"""Pooling to a wanted output size o: window p covers floor(p·n/o) … ceil((p+1)·n/o) − 1."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..geometry import LinearMap, Shape, Window, adaptive_bounds, remembered
from ..tensor import Tensor
from .checks import batched, restored
from .index import gather
from .pool import AvgPool, MaxPool, flat_positions
from .resample import Resample
from .views import Take

OutputSize = int | None | Sequence[int | None]


def _output_sizes(name: str, output_size: OutputSize, sizes: Shape) -> Shape:
    """``output_size`` for each spatial dimension; None keeps the input's."""
    wanted = (
        (output_size,) * len(sizes)
        if output_size is None or isinstance(output_size, int)
        else tuple(output_size)
    )
    if len(wanted) == 1:
        wanted *= len(sizes)
    if len(wanted) != len(sizes) or any(o is not None and o < 0 for o in wanted):
        raise ValueError(
            f"{name}: output_size must be one integer ≥ 0 or {len(sizes)} (None keeps a size), "
            f"received {output_size!r}"
        )
    if 0 in sizes:
        raise ValueError(f"{name}: the spatial dimensions must not be empty, received {sizes}")
    return tuple(n if o is None else o for n, o in zip(sizes, wanted, strict=True))


def _equal_windows(sizes: Shape, outputs: Shape) -> Window | None:
    """The ordinary pooling window that does the same, if all windows are equal and side by side."""
    if 0 in outputs or any(n % o for n, o in zip(sizes, outputs, strict=True)):
        return None
    kernel = tuple(n // o for n, o in zip(sizes, outputs, strict=True))
    return Window(kernel, kernel, ((0, 0),) * len(sizes), (1,) * len(sizes))


def _adaptive_avg_pool(name: str, n: int, x: Any, output_size: OutputSize) -> Tensor:
    x, had_batch = batched(name, x, n)
    sizes = x.shape[2:]
    outputs = _output_sizes(name, output_size, sizes)
    if math.prod(outputs) == 1:
        return restored(x.mean(tuple(range(2, x.ndim)), keepdim=True), had_batch)
    window = _equal_windows(sizes, outputs)
    if window is not None:
        divisors = tuple((k,) * o for k, o in zip(window.kernel, outputs, strict=True))
        return restored(AvgPool(window, divisors)(x), had_batch)
    maps = tuple(_means(n, o) for n, o in zip(sizes, outputs, strict=True))
    return restored(Resample(maps)(x), had_batch)


@remembered
def _means(n: int, outputs: int) -> LinearMap:
    """Means of cells a … b−1: a box's mean is that of its rows' means, so axes are independent."""
    bounds = adaptive_bounds(n, outputs)
    return LinearMap([[(i, 1 / (b - a)) for i in range(a, b)] for a, b in bounds], n)


def _adaptive_max_pool(
    name: str, n: int, x: Any, output_size: OutputSize, return_indices: bool
) -> Any:
    x, had_batch = batched(name, x, n)
    sizes = x.shape[2:]
    outputs = _output_sizes(name, output_size, sizes)
    window = _equal_windows(sizes, outputs)
    if window is not None:
        op = MaxPool(window)
        y = op(x)
        flat = flat_positions(x.backend, op.winner, window, sizes) if return_indices else None
    else:
        y, flat = _irregular_maxima(x, outputs)
    if not return_indices:
        return restored(y, had_batch)
    return restored(y, had_batch), restored(Tensor._wrap(flat, x.backend), had_batch)


def _irregular_maxima(x: Tensor, outputs: Shape) -> tuple[Tensor, Any]:
    """(maxima, their flat positions), from a table of each window's positions in the flat plane.

    Windows differ in size by at most one cell an axis; short ones repeat their last cell, which
    never comes before the first maximum.
    """
    kernels, sizes, n = x.backend, x.shape[2:], len(outputs)
    positions: Any = kernels.full((1,) * (2 * n), 0, "int64")  # to become (P, Q, …, I, J, …)
    for axis, (size, o) in enumerate(zip(sizes, outputs, strict=True)):
        bounds = adaptive_bounds(size, o)
        longest = max((b - a for a, b in bounds), default=1)
        cells = [[min(a + i, b - 1) for i in range(longest)] for a, b in bounds]
        shape = [1] * (2 * n)
        shape[axis], shape[n + axis] = o, longest
        table = kernels.reshape(
            kernels.reshape(kernels.asarray(cells, "int64"), (o, longest)), tuple(shape)
        )
        positions = kernels.add(kernels.multiply(positions, size), table)
    count = math.prod(outputs)
    rows = kernels.reshape(positions, (count, positions.size // max(count, 1)))
    plane = x.reshape(*x.shape[:2], math.prod(sizes))
    values = Take((slice(None), slice(None), rows))(plane)
    best = values.argmax(-1).reshape(-1).array
    each = kernels.arange(0, count, 1, "int64")
    lead = (x.shape[0], x.shape[1])
    repeated = kernels.reshape(
        kernels.broadcast_to(each, (*lead, count)), (math.prod(lead) * count,)
    )
    flat = kernels.reshape(kernels.getitem(rows, (repeated, best)), (*lead, count))
    y = gather(plane, 2, Tensor._wrap(flat, kernels))
    return y.reshape(*lead, *outputs), kernels.reshape(flat, (*lead, *outputs))


# -- public functions ------------------------------------------------------------------------------
def adaptive_avg_pool1d(input: Tensor, output_size: OutputSize) -> Tensor:
    """Means of windows that cover (N, C, L) or (C, L) evenly; as ``adaptive_avg_pool2d``."""
    return _adaptive_avg_pool("adaptive_avg_pool1d", 1, input, output_size)


def adaptive_avg_pool2d(input: Tensor, output_size: OutputSize) -> Tensor:
    """Means of P × Q windows that cover the plane evenly, whatever its size.

    y[n,c,p,q] = mean of x[n, c, floor(p·H/P) : ceil((p+1)·H/P), floor(q·W/Q) : ceil((q+1)·W/Q)]

    input (N, C, H, W) or (C, H, W); ``output_size`` P or (P, Q), None keeping the input's size.
    Raises ValueError on other ranks or sizes. Derivative: average pooling's, or that of means of
    slices.
    """
    return _adaptive_avg_pool("adaptive_avg_pool2d", 2, input, output_size)


def adaptive_avg_pool3d(input: Tensor, output_size: OutputSize) -> Tensor:
    """Means of windows that cover (N, C, D, H, W) evenly; as ``adaptive_avg_pool2d``."""
    return _adaptive_avg_pool("adaptive_avg_pool3d", 3, input, output_size)


def adaptive_max_pool1d(
    input: Tensor, output_size: OutputSize, return_indices: bool = False
) -> Any:
    """Maxima of windows that cover (N, C, L) or (C, L) evenly; as ``adaptive_max_pool2d``."""
    return _adaptive_max_pool("adaptive_max_pool1d", 1, input, output_size, return_indices)


def adaptive_max_pool2d(
    input: Tensor, output_size: OutputSize, return_indices: bool = False
) -> Any:
    """Maxima of P × Q windows that cover the plane evenly; the windows of ``adaptive_avg_pool2d``.

    With ``return_indices`` also the position h·W + w of each maximum, int64. Raises ValueError on
    other ranks or sizes. Derivative: scatter to the first maximum of each window.
    """
    return _adaptive_max_pool("adaptive_max_pool2d", 2, input, output_size, return_indices)


def adaptive_max_pool3d(
    input: Tensor, output_size: OutputSize, return_indices: bool = False
) -> Any:
    """Maxima of windows that cover (N, C, D, H, W) evenly; as ``adaptive_max_pool2d``."""
    return _adaptive_max_pool("adaptive_max_pool3d", 3, input, output_size, return_indices)
