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
from .watch import recording


def gradient_norms(
    model: Module, x: Any, target: Any, loss: Callable[[Any, Any], Tensor] = F.cross_entropy,
    of: str = "weight",
) -> dict[str, float]:  # fmt: skip
    """‖∂loss/∂w‖₂ of every layer's weight, by the layer's path, from the input to the output.

    Layers are the modules with a parameter ``weight`` of two axes or more, in the order of their
    calls. With ``of="output"`` it is ‖∂loss/∂y‖₂ of what they return (of the last call, if there
    are several). The model computes in the mode it is in (in training mode batch norm sees this
    batch, and counts it); no ``.grad`` is written. Raises ValueError for another ``of``.
    """
    if of not in ("weight", "output"):
        raise ValueError(f"gradient_norms: expected of='weight' or 'output', received {of!r}")
    with enable_grad(), recording(model) as calls:
        value = loss(model(x), target)
        layers = {
            call.name: call.output if of == "output" else weight
            for call in calls
            if (weight := getattr(call.layer, "weight", None)) is not None and weight.ndim > 1
        }
        slopes = grad(value, list(layers.values()))
    norms = [slope.square().sum().sqrt().item() for slope in slopes]
    return dict(zip(layers, norms, strict=True))


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
    row[0].set_ylabel("norm of the gradient")
    return save(drawn, path)
