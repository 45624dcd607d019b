"""What every convolution and pooling layer makes of an image, and how much of it is dead."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..autograd import no_grad
from ..nn import Module, activation, conv, normalization, pooling
from ..nn.utils import evaluation_mode
from .canvas import Array, figure, host, save, tiles
from .watch import Call, batch_for, recording

_MAKES_MAPS = (conv.__name__, pooling.__name__)
_FOLLOWS = (activation.__name__, normalization.__name__)


class LayerMaps(NamedTuple):
    """The maps (N, K, P, Q) of one layer, and what can be counted in them.

    A map is dead for an image when no cell of it is positive: ReLU leaves nothing of it.
    """

    name: str
    kind: str
    maps: Array
    dead: float  # share of dead maps, mean over the images
    never: float  # share of maps that are dead for all of the images
    positive: float  # share of cells that are positive
    path: Path  # of the picture


def activations(model: Module, x: Any, out: str | Path, batch_index: int = 0) -> list[LayerMaps]:
    """Draw the maps of every convolution and pooling layer, a picture a layer, into folder ``out``.

    x (N, C, H, W); the pictures show sample ``batch_index`` and the numbers are of all samples.
    Batch norm and activations that follow a layer as modules belong to it: the maps are what the
    next convolution or pooling receives. Each map is scaled to its own maximum; a dead one is
    framed in red. The model computes in evaluation mode. Raises ValueError if no layer gives maps.
    """
    with evaluation_mode(model), no_grad(), recording(model) as calls:
        model(batch_for(model, x))
    folder, found = Path(out), []
    for number, (name, kind, maps) in enumerate(_layers(calls), 1):
        alive = maps.max((2, 3)) > 0
        row = LayerMaps(
            name, kind, maps,
            dead=float(1 - alive.mean()),
            never=float(1 - alive.any(0).mean()),
            positive=float((maps > 0).mean()),
            path=folder / f"{number:02d}-{name.replace('.', '-')}.png",
        )  # fmt: skip
        _draw(row, alive[batch_index], batch_index)
        found.append(row)
    if not found:
        raise ValueError("activations: expected a model with convolution or pooling layers")
    return found


def _layers(calls: list[Call]) -> list[tuple[str, str, Array]]:
    """(name, kind, maps) of every layer that makes maps, after what follows it as a module."""
    rows: list[list[Any]] = []
    maker: dict[int, list[Any]] = {}  # id of a tensor → the row of the layer that it is the end of
    for call in calls:
        source = type(call.layer).__module__
        if source in _MAKES_MAPS and call.output.ndim == 4:
            row = [call.name, type(call.layer).__name__, call.output]
            rows.append(row)
        elif source in _FOLLOWS and id(call.input) in maker:
            row = maker[id(call.input)]
            row[2] = call.output
        else:
            continue
        maker[id(call.output)] = row
    return [(name, kind, host(output)) for name, kind, output in rows]


def _draw(row: LayerMaps, alive: Array, index: int) -> Path:
    maps = row.maps[index].astype(np.float32)
    count, height, width = maps.shape
    peak = np.maximum(maps, 0).max((1, 2), keepdims=True)
    shown = np.maximum(maps, 0) / np.where(peak > 0, peak, 1)
    columns = int(np.ceil(np.sqrt(2 * count)))
    gap = max(height // 14, 1)
    sheet = tiles(shown, columns, gap, fill=np.nan)
    lines = -(-count // columns)
    drawn = figure(8, max(8 * lines / columns * height / width, 0.8) + 0.5)
    axes = drawn.subplots()
    axes.set_axis_off()
    axes.imshow(sheet, cmap="viridis", vmin=0, vmax=1, interpolation="nearest")
    for k in np.flatnonzero(~alive):
        corner = (
            gap / 2 - 0.5 + k % columns * (width + gap),
            gap / 2 - 0.5 + k // columns * (height + gap),
        )
        axes.add_patch(_frame(corner, width + gap, height + gap))
    axes.set_title(
        f"{row.name} ({row.kind}): {count} maps of {height} × {width}, "
        f"{count - int(alive.sum())} dead",
        fontsize=10,
    )
    return save(drawn, row.path)


def _frame(corner: tuple[float, float], width: float, height: float) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle(corner, width, height, fill=False, edgecolor="tab:red", linewidth=1)
