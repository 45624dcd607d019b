"""Feature extraction: what a trained base says about images, computed once and kept in files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ..data import TensorDataset
from ..nn import Module
from .trainer import evaluating


def extract_features(base: Module, loader: Iterable[Any], folder: str | Path) -> TensorDataset:
    """Run ``base`` once over ``loader``, batches (input, target), and keep what it says.

    ``folder`` gets ``features.npy`` (N, …), the outputs in evaluation mode, and ``labels.npy``
    (N,), in the loader's order; returned is the data set of both, for training a head on them.
    Features of augmented images are of one augmentation each, as every image is seen once.

    Raises ValueError for a loader without batches.
    """
    features, labels = [], []
    with evaluating(base):
        for x, y in loader:
            features.append(base(x).numpy())
            labels.append(y.numpy())
    if not labels:
        raise ValueError("extract_features: expected some batches, received none")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    found = np.concatenate(features), np.concatenate(labels)
    for name, array in zip(("features", "labels"), found, strict=True):
        np.save(folder / f"{name}.npy", array)
    return TensorDataset(*found)
