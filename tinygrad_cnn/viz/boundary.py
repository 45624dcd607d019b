"""How a network divides the plane."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..autograd import no_grad
from ..nn import Module, ReLU
from ..nn.utils import evaluation_mode
from .canvas import Array, figure, host, save
from .watch import batch_for, recording


class Boundary(NamedTuple):
    """The classes on a grid of the plane, and two numbers of the network that gave them."""

    classes: Array  # (cells, cells), rows from the bottom up
    accuracy: float  # on the points
    pieces: int  # sets of ReLU units that are on together somewhere on the grid


def decision_boundaries(
    models: Mapping[str, Module], points: Any, labels: Any, path: str | Path, cells: int = 200
) -> dict[str, Boundary]:
    """Draw the plane around ``points`` (N, 2) coloured by class, a panel a model.

    Between the kinks of its ReLU modules a network is linear, so ``pieces`` is how many flat
    pieces its surface has on a grid of ``cells`` × ``cells`` (1 without ReLU modules).
    """
    where, truth = host(points), host(labels)
    low, high = where.min(0), where.max(0)
    margin = 0.15 * (high - low)
    axis = [np.linspace(a, b, cells) for a, b in zip(low - margin, high + margin, strict=True)]
    grid = np.stack(np.meshgrid(*axis), -1).reshape(-1, 2)
    drawn = figure(4 * len(models), 4.2)
    found = {}
    row = drawn.subplots(1, len(models), squeeze=False)[0]
    for axes, (name, model) in zip(row, models.items(), strict=True):
        classes, pieces = _divide(model, grid)
        predicted, _ = _divide(model, where)
        right = float((predicted == truth).mean())
        found[name] = Boundary(classes.reshape(cells, cells), right, pieces)
        box = (axis[0][0], axis[0][-1], axis[1][0], axis[1][-1])
        look = {"cmap": "coolwarm", "vmin": 0, "vmax": max(int(truth.max()), 1)}
        axes.imshow(
            found[name].classes, origin="lower", extent=box, alpha=0.4, aspect="auto", **look
        )
        axes.scatter(*where.T, c=truth, s=8, edgecolors="k", linewidths=0.2, **look)
        axes.set_title(f"{name}: {100 * right:.1f} % right, {pieces} flat pieces", fontsize=10)
        axes.set_axis_off()
    save(drawn, path)
    return found


def _divide(model: Module, points: Array) -> tuple[Array, int]:
    """The class of every point, and the number of different on-off patterns of the ReLU units."""
    with evaluation_mode(model), no_grad(), recording(model) as calls:
        classes = host(model(batch_for(model, points)).argmax(1))
    units = [host(call.output) > 0 for call in calls if isinstance(call.layer, ReLU)]
    if not units:
        return classes, 1
    patterns = np.packbits(np.concatenate(units, axis=1), axis=1)
    return classes, len(np.unique(patterns, axis=0))
