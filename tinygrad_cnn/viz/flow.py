"""How large the gradient is at each depth of a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..autograd import enable_grad, grad
from ..nn import Module
from ..nn import functional as F
from ..tensor import Tensor
from .canvas import figure, save


def gradient_norms(
    model: Module, x: Any, target: Any, loss: Callable[[Any, Any], Tensor] = F.cross_entropy
) -> dict[str, float]:
    """‖∂loss/∂w‖₂ of every weight with two axes or more, by path, from the input to the output.

    The model computes in the mode it is in (so in training mode batch norm sees this batch, and
    counts it); no ``.grad`` is written.
    """
    weights = {n: p for n, p in model.named_parameters() if p.ndim > 1 and p.requires_grad}
    with enable_grad():
        slopes = grad(loss(model(x), target), list(weights.values()))
    norms = [s.square().sum().sqrt().item() for s in slopes]
    return dict(zip(weights, norms, strict=True))


def gradient_curves(panels: Mapping[str, Mapping[str, Sequence[float]]], path: str | Path) -> Path:
    """Norms from the first layer to the last: a panel a title, in it a curve a network."""
    drawn = figure(4.5 * len(panels), 3.6)
    row = drawn.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axes, (title, curves) in zip(row, panels.items(), strict=True):
        for name, norms in curves.items():
            shown = np.where(np.asarray(norms) > 0, norms, np.nan)  # 0 has no logarithm
            axes.plot(range(1, len(norms) + 1), shown, ".-", ms=3, lw=0.8, label=name)
        axes.set(title=title, xlabel="layer, 1 = next to the image", yscale="log")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    row[0].set_ylabel("norm of the weight's gradient")
    return save(drawn, path)
