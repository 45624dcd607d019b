"""What a layer looks for, read off its weights: filters, and a convolution as a matrix."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..autograd import no_grad
from ..nn import Module
from ..nn.conv import Conv2d
from ..ops import eye, zeros_like
from ..tensor import Tensor
from .canvas import Array, figure, host, save


def colourfulness(weight: Any) -> Array:
    """The share of each filter that is not the same in all channels, in [0, 1].

    1 − C·Σ w̄² / Σ w² for weight (O, C, I, J) with w̄ the mean over the channels: 0 for a filter
    that answers to brightness alone, 1 for one that sums to 0 over the channels in every cell and
    so answers to colour alone. (0 for a filter of zeros.)
    """
    w = host(weight).astype(np.float64)
    common = w.shape[1] * np.square(w.mean(1)).sum((1, 2))
    total = np.square(w).sum((1, 2, 3))
    return np.where(total > 0, 1 - common / np.where(total > 0, total, 1), 0.0).clip(0, 1)


def filters(model: Module, path: str | Path, columns: int = 16) -> Array:
    """Draw the filters of the first 2-D convolution of ``model``; returns their ``colourfulness``.

    Filters of three channels are drawn in colour, from the greyest to the most colourful, others
    as the mean of their channels; zero is mid-grey, and each filter has its own scale. Raises
    ValueError if there is no such layer.
    """
    layer = next((m for m in model.modules() if isinstance(m, Conv2d)), None)
    if layer is None:
        raise ValueError("filters: expected a model with a Conv2d layer")
    weight = host(layer.weight).astype(np.float64)
    count, channels = weight.shape[:2]
    colour = colourfulness(weight)
    order = np.argsort(colour, kind="stable") if channels == 3 else np.arange(count)
    shown = weight.transpose(0, 2, 3, 1) if channels == 3 else weight.mean(1)
    columns = min(columns, count)
    rows = -(-count // columns)
    drawn = figure(0.65 * columns, (0.85 if channels == 3 else 0.7) * rows)
    for k, axes in enumerate(drawn.subplots(rows, columns, squeeze=False).flat):
        axes.set_axis_off()
        if k < count:
            one = shown[order[k]]
            scale = 2 * np.abs(one).max() or 1.0
            axes.imshow(0.5 + one / scale, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            if channels == 3:
                axes.set_title(f"{colour[order[k]]:.2f}", fontsize=7)
    save(drawn, path)
    return colour


class ConvMatrix(NamedTuple):
    """A convolution as the matrix (outputs, inputs) with y = M x of flattened maps."""

    matrix: Array
    zeros: float  # share of entries that are 0
    weights: int  # numbers that the layer learns for it, without bias


def conv_matrix(layer: Module, shape: Sequence[int], path: str | Path | None = None) -> ConvMatrix:
    """The matrix that a convolution multiplies an image (C, H, W) with; ``path`` draws it.

    Column i is the layer's answer to an image that is 1 in cell i and 0 elsewhere, less its
    answer to zeros (the bias): a Toeplitz matrix, its diagonals repeating the same few weights.
    """
    cells = int(np.prod(shape))
    weight: Tensor = layer.get_parameter("weight")
    with no_grad():
        basis = eye(cells, dtype=weight.dtype, backend=weight.backend).reshape(cells, *shape)
        answers = layer(basis) - layer(zeros_like(basis[:1]))
    matrix = host(answers.reshape(cells, -1).t())
    if path is not None:
        drawn = figure(6, 6 * matrix.shape[0] / matrix.shape[1] + 0.5)
        axes = drawn.subplots()
        top = float(np.abs(matrix).max()) or 1.0
        axes.imshow(matrix, cmap="RdBu", vmin=-top, vmax=top, interpolation="nearest")
        axes.set(
            title=f"{100 * (matrix == 0).mean():.1f} % of {matrix.size:,} entries are 0",
            xlabel="input cell", ylabel="output cell",
        )  # fmt: skip
        save(drawn, path)
    return ConvMatrix(matrix, float((matrix == 0).mean()), weight.numel())
