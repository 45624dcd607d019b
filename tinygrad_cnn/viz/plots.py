"""Learning curves and sheets of images, as PNG files (matplotlib, without a window)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def _figure(width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def learning_curves(history: Sequence[dict[str, Any]], path: str | Path) -> Path:
    """Loss and accuracy over the steps of a run, from the lines of its ``metrics.jsonl``."""
    figure = _figure(9, 3.6)
    left, right = figure.subplots(1, 2)
    steps = [line for line in history if "loss" in line]
    epochs = [line for line in history if "train_loss" in line]
    left.plot(
        [s["step"] for s in steps], [s["loss"] for s in steps], lw=0.7, alpha=0.5, label="one batch"
    )
    left.plot(
        [e["step"] for e in epochs],
        [e["train_loss"] for e in epochs],
        "o-",
        ms=3,
        label="epoch mean",
    )
    left.set(title="training loss", xlabel="step", yscale="log")
    for key, label in (("train_accuracy", "training"), ("test_accuracy", "test")):
        values = [(e["step"], 100 * e[key]) for e in epochs if key in e]
        if values:
            right.plot(*zip(*values, strict=True), "o-", ms=3, label=label)
    right.set(title="accuracy, %", xlabel="step")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    figure.savefig(path, dpi=110)
    return Path(path)


def compare_curves(
    curves: Mapping[str, Sequence[float]],
    differences: Sequence[float],
    bound: float,
    path: str | Path,
) -> Path:
    """Named loss curves over the steps, and beside them their relative difference."""
    figure = _figure(9, 3.6)
    left, right = figure.subplots(1, 2)
    for (name, losses), style in zip(curves.items(), ("-", "--", ":"), strict=False):
        left.plot(range(1, len(losses) + 1), losses, style, lw=1.4, label=name)
    left.set(title="training loss", xlabel="step")
    shown = [max(d, 1e-9) for d in differences]  # equal bits have no logarithm
    right.plot(range(1, len(shown) + 1), shown, ".", ms=4, label="relative difference")
    right.axhline(bound, color="tab:red", lw=0.8, label=f"bound {bound:.0e}")
    right.set(title="difference of the two curves", xlabel="step", yscale="log")
    right.set_ylim(top=max(10 * bound, 2 * max(shown)))  # room for the legend
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    figure.savefig(path, dpi=110)
    return Path(path)


def image_grid(
    images: Any, titles: Sequence[str], path: str | Path, heading: str = "", columns: int = 6
) -> Path:
    """Images (N, H, W) grey or (N, H, W, 3) with a title each, in rows of ``columns``."""
    rows = max(-(-len(images) // columns), 1)
    figure = _figure(1.45 * columns, 1.6 * rows + 0.5)
    figure.suptitle(heading)
    for k, axes in enumerate(figure.subplots(rows, columns, squeeze=False).flat):
        axes.set_axis_off()
        if k < len(images):
            axes.imshow(images[k], cmap="gray_r", interpolation="nearest")
            axes.set_title(titles[k], fontsize=8)
    figure.savefig(path, dpi=110)
    return Path(path)
