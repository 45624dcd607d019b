"""Pooling to a wanted output size o: window p covers floor(p·n/o) … ceil((p+1)·n/o) − 1."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..geometry import LinearMap, Shape, Window, adaptive_bounds, remembered
from ..tensor import Tensor
from .checks import batched, restored
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
        y, flat = _irregular_maxima(x, outputs, return_indices)
    if not return_indices:
        return restored(y, had_batch)
    return restored(y, had_batch), restored(Tensor._wrap(flat, x.backend), had_batch)


def _irregular_maxima(x: Tensor, outputs: Shape, return_indices: bool) -> tuple[Tensor, Any]:
    """(maxima, their flat positions), as ordinary pooling of windows put side by side.

    Windows differ in size by at most one cell an axis; short ones repeat their last cell, which
    never comes before the first maximum.
    """
    kernels, sizes = x.backend, x.shape[2:]
    numbers: Any = kernels.reshape(kernels.arange(0, math.prod(sizes), 1, "int64"), sizes)
    longest = []
    for axis, (size, o) in enumerate(zip(sizes, outputs, strict=True)):
        bounds = adaptive_bounds(size, o)
        most = max((b - a for a, b in bounds), default=1)
        cells = [min(a + i, b - 1) for a, b in bounds for i in range(most)]
        at = (slice(None),) * axis
        table = kernels.reshape(kernels.asarray(cells, "int64"), (o * most,))
        x = Take((slice(None), slice(None), *at, table))(x)
        numbers = kernels.getitem(numbers, (*at, table))
        longest.append(most)
    kernel = tuple(longest)
    op = MaxPool(Window(kernel, kernel, ((0, 0),) * len(sizes), (1,) * len(sizes)))
    y = op(x)
    if not return_indices:
        return y, None
    flat = flat_positions(kernels, op.winner, op.window, x.shape[2:])
    found = kernels.getitem(kernels.reshape(numbers, (-1,)), (kernels.reshape(flat, (-1,)),))
    return y, kernels.reshape(found, y.shape)


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
