"""Sliding blocks as columns, their adjoint, and moving cells between channels and space."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

from ..backend import Array, Backend
from ..geometry import Shape, Window, conv_window, ntuple
from ..tensor import Op, Tensor
from .checks import batched, restored, tensor_of_floats

Size = int | Sequence[int]


def _blocks(window: Window, outputs: Shape) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """(t, index): the cells that kernel position t = i·J + j sees, in the padded plane."""
    for t, position in enumerate(itertools.product(*(range(k) for k in window.kernel))):
        slices = [
            slice(i * d, i * d + (q - 1) * s + 1, s)
            for i, d, s, q in zip(position, window.dilation, window.stride, outputs, strict=True)
        ]
        yield t, (slice(None), slice(None), *slices)


class Unfold(Op):
    """cols[n, c·I·J + i·J + j, p·Q + q] = x[n, c, p·s+i·d−pad, q·s+j·d−pad], 0 in the padding."""

    saves_inputs = False

    def __init__(self, window: Window) -> None:
        self.window = window

    def forward(self, kernels: Backend, x: Array) -> Array:
        outputs, (n, c) = self.window.output(x.shape[2:]), x.shape[:2]
        padded = kernels.pad(x, ((0, 0), (0, 0), *self.window.padding))
        cols = kernels.empty((n, c, self.window.taps(), *outputs), x.dtype)
        for t, cells in _blocks(self.window, outputs):
            kernels.assign_at(cols, (slice(None), slice(None), t), kernels.getitem(padded, cells))
        return kernels.reshape(cols, (n, c * self.window.taps(), math.prod(outputs)))

    def backward(self, grad: Tensor, out: None) -> Tensor:
        return Fold(self.window, self.shapes[0])(grad)


class Fold(Op):
    """x[n, c, h, w] = Σ of the entries that ``Unfold`` copies from cell (h, w): its adjoint."""

    saves_inputs = False

    def __init__(self, window: Window, shape: Shape) -> None:
        self.window, self.shape = window, shape

    def forward(self, kernels: Backend, cols: Array) -> Array:
        (n, c), sizes = self.shape[:2], self.shape[2:]
        outputs = self.window.output(sizes)
        blocks = kernels.reshape(cols, (n, c, self.window.taps(), *outputs))
        wide = (lo + m + hi for m, (lo, hi) in zip(sizes, self.window.padding, strict=True))
        total = kernels.full((n, c, *wide), 0, cols.dtype)
        for t, cells in _blocks(self.window, outputs):
            place = kernels.getitem(total, cells)
            kernels.add(place, kernels.getitem(blocks, (slice(None), slice(None), t)), out=place)
        inside = (slice(lo, lo + m) for m, (lo, _) in zip(sizes, self.window.padding, strict=True))
        return kernels.getitem(total, (slice(None), slice(None), *inside))

    def backward(self, grad: Tensor, out: None) -> Tensor:
        return Unfold(self.window)(grad)


def unfold(
    input: Tensor, kernel_size: Size, dilation: Size = 1, padding: Size = 0, stride: Size = 1
) -> Tensor:
    """Sliding blocks as columns: (N, C, H, W) or (C, H, W) gives (N, C·I·J, P·Q).

    cols[n, c·I·J + i·J + j, p·Q + q] = x[n, c, p·s+i·d−pad, q·s+j·d−pad]

    so that a convolution is the matrix product of the flattened weight with it. Raises ValueError
    on other ranks and when no block fits. Derivative: ``fold``.
    """
    x, had_batch = batched("unfold", input, 2)
    kernel = ntuple(kernel_size, 2, "unfold: kernel_size", 1)
    return restored(
        Unfold(conv_window(x.shape[2:], kernel, stride, padding, dilation, "unfold"))(x), had_batch
    )


def fold(
    input: Tensor,
    output_size: Size,
    kernel_size: Size,
    dilation: Size = 1,
    padding: Size = 0,
    stride: Size = 1,
) -> Tensor:
    """Columns summed into a plane: (N, C·I·J, P·Q) gives (N, C, H, W), the adjoint of ``unfold``.

    Raises ValueError when I·J does not divide the rows or the number of columns is not that of the
    blocks of an ``output_size`` plane. Derivative: ``unfold``.
    """
    tensor_of_floats("fold", input)
    if input.ndim not in (2, 3):
        raise ValueError(
            f"fold: expected input (N, C·I·J, P·Q) or (C·I·J, P·Q), received {input.shape}"
        )
    sizes, kernel = (
        ntuple(output_size, 2, "fold: output_size", 1),
        ntuple(kernel_size, 2, "fold: kernel_size", 1),
    )
    window = conv_window(sizes, kernel, stride, padding, dilation, "fold")
    cols = input if input.ndim == 3 else input.reshape(1, *input.shape)
    blocks = window.output(sizes)
    if cols.shape[1] % window.taps() or cols.shape[2] != math.prod(blocks):
        raise ValueError(
            f"fold: expected a multiple of {window.taps()} rows and {math.prod(blocks)} columns "
            f"({blocks[0]} × {blocks[1]} blocks), received input {input.shape}"
        )
    shape = (cols.shape[0], cols.shape[1] // window.taps(), *sizes)
    return restored(Fold(window, shape)(cols), input.ndim == 3)


def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """(…, C·r², H, W) → (…, C, H·r, W·r):  y[c, h·r + i, w·r + j] = x[c·r² + i·r + j, h, w].

    Raises ValueError when r² does not divide the channels.
    Source: Shi et al., "Real-Time Single Image and Video Super-Resolution", 2016."""
    r = upscale_factor
    if input.ndim < 3 or r < 1 or input.shape[-3] % (r * r):
        raise ValueError(
            f"pixel_shuffle: expected input (…, C·{r}², H, W) for upscale_factor {r}, received "
            f"{input.shape}"
        )
    *lead, channels, h, w = input.shape
    k, c = len(lead), channels // (r * r)
    x = input.reshape(*lead, c, r, r, h, w).permute(*range(k + 1), k + 3, k + 1, k + 4, k + 2)
    return x.reshape(*lead, c, h * r, w * r)


def pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """(…, C, H·r, W·r) → (…, C·r², H, W): the inverse of ``pixel_shuffle``.

    Raises ValueError when r does not divide H·r and W·r."""
    r = downscale_factor
    if input.ndim < 3 or r < 1 or input.shape[-2] % r or input.shape[-1] % r:
        raise ValueError(
            f"pixel_unshuffle: expected input (…, C, H·{r}, W·{r}) for downscale_factor {r}, "
            f"received {input.shape}"
        )
    *lead, c, height, width = input.shape
    k, h, w = len(lead), height // r, width // r
    x = input.reshape(*lead, c, h, r, w, r).permute(*range(k + 1), k + 2, k + 4, k + 1, k + 3)
    return x.reshape(*lead, c * r * r, h, w)
