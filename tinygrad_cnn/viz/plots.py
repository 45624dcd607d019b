"""Learning curves, confusion and sheets of images, as PNG files (matplotlib, without a window)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .canvas import figure, host, save

PARTS = ("train", "validation", "test")  # what a metric is of: train_loss, validation_loss, …


def learning_curves(history: Sequence[dict[str, Any]], path: str | Path) -> Path:
    """The metrics of a run over its steps, from the lines of its ``metrics.jsonl``.

    A panel a metric m that lines hold as ``train_m``, ``validation_m`` or ``test_m``: those of
    training, validation and test in one panel, so that overfitting shows as a gap. Loss has a
    logarithmic axis and the loss of single batches behind it; accuracies are in percent.
    """
    present = dict.fromkeys(key for line in history for key in line)
    parted = [key.partition("_") for key in present]
    metrics = dict.fromkeys(["loss", *(name for part, _, name in parted if part in PARTS)])
    drawn = figure(4.5 * len(metrics), 3.6)
    for axes, metric in zip(
        drawn.subplots(1, len(metrics), squeeze=False)[0], metrics, strict=True
    ):
        percent = 100 if metric.endswith("accuracy") else 1
        if metric == "loss":
            batches = [(line["step"], line["loss"]) for line in history if "loss" in line]
            axes.plot(*_columns(batches), lw=0.7, alpha=0.5, label="one batch")
            axes.set_yscale("log")
        for part in PARTS:
            key = f"{part}_{metric}"
            if key in present:
                points = [(line["step"], percent * line[key]) for line in history if key in line]
                axes.plot(*_columns(points), "o-", ms=3, label=part)
        axes.set(title=metric + ", %" * (percent > 1), xlabel="step")
        axes.locator_params(axis="x", nbins=6)  # labels of five digits must not touch
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(frameon=False)
    return save(drawn, path)


def _columns(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def compare_curves(
    curves: Mapping[str, Sequence[float]],
    differences: Sequence[float],
    bound: float,
    path: str | Path,
) -> Path:
    """Named loss curves over the steps, and beside them their relative difference."""
    drawn = figure(9, 3.6)
    left, right = drawn.subplots(1, 2)
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
    return save(drawn, path)


def confusion_matrix(counts: Any, classes: Sequence[str], path: str | Path) -> Path:
    """Draw how often class i (row) was taken for class j (column), ``counts`` (K, K).

    The colour is the share of the row; the diagonal is left white, because what is right would
    outshine every error. Raises ValueError unless there is a row and a column for each class.
    """
    numbers = host(counts)
    if numbers.shape != (len(classes),) * 2:
        raise ValueError(
            f"confusion_matrix: expected counts of shape {(len(classes),) * 2} for "
            f"{len(classes)} classes, received {numbers.shape}"
        )
    shares = numbers / np.maximum(numbers.sum(1, keepdims=True), 1)
    np.fill_diagonal(shares, 0)
    size = 1.6 + 0.42 * len(classes)
    drawn = figure(size, size)
    axes = drawn.subplots()
    axes.imshow(shares, cmap="Reds", vmin=0, vmax=max(shares.max(), 1e-9))
    for i, j in zip(*numbers.nonzero(), strict=True):
        dark = shares[i, j] > 0.6 * shares.max() > 0
        axes.text(j, i, str(numbers[i, j]), ha="center", va="center", fontsize=8,
                  color="white" if dark else "black")  # fmt: skip
    places = range(len(classes))
    axes.set_xticks(places, classes, rotation=90 if max(map(len, classes)) > 2 else 0)
    axes.set_yticks(places, classes)
    right = int(np.trace(numbers))
    axes.set(xlabel="taken for", ylabel="is", title=f"{right:,} of {int(numbers.sum()):,} right")
    return save(drawn, path)


def image_grid(
    images: Any, titles: Sequence[str], path: str | Path, heading: str = "", columns: int = 6
) -> Path:
    """Images (N, H, W) grey or (N, H, W, 3) with a title each, in rows of ``columns``."""
    rows = max(-(-len(images) // columns), 1)
    drawn = figure(1.45 * columns, 1.6 * rows + 0.5)
    drawn.suptitle(heading)
    for k, axes in enumerate(drawn.subplots(rows, columns, squeeze=False).flat):
        axes.set_axis_off()
        if k < len(images):
            axes.imshow(images[k], cmap="gray_r", interpolation="nearest")
            axes.set_title(titles[k], fontsize=8)
    return save(drawn, path)


def lines(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], path: str | Path, *,
    title: str, xlabel: str, ylabel: str,
) -> Path:  # fmt: skip
    """Named curves (x, y) in one panel."""
    drawn = figure(5, 3.6)
    axes = drawn.subplots()
    for name, (x, y) in curves.items():
        axes.plot(x, y, "o-", ms=3, label=name)
    axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return save(drawn, path)


def compare_trainings(
    histories: Mapping[str, Sequence[dict[str, Any]]], path: str | Path, metric: str = "accuracy"
) -> Path:
    """A panel a training, by name: ``metric`` over the epochs, of training and of validation or
    test images, from the lines of its ``metrics.jsonl``. The gap is the overfitting."""
    drawn = figure(2.6 * len(histories), 3.2)
    panels = drawn.subplots(1, len(histories), squeeze=False, sharey=True)[0]
    percent = 100 if metric.endswith("accuracy") else 1
    for axes, (name, history) in zip(panels, histories.items(), strict=True):
        for part in PARTS:
            key = f"{part}_{metric}"
            points = [(line["epoch"], percent * line[key]) for line in history if key in line]
            if points:
                axes.plot(*_columns(points), "o-", ms=3, label=part)
        axes.set(title=name, xlabel="epoch")
        axes.grid(alpha=0.3)
    panels[0].set_ylabel(metric + ", %" * (percent > 1))
    panels[0].legend(frameon=False)
    return save(drawn, path)
