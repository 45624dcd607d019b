"""A data set and augmented copies of it, fixed once and for all."""

from __future__ import annotations

from typing import Any

import numpy as np

from .idx import Array
from .keys import Keys, Transform, apply
from .loader import default_collate
from .tensor_dataset import Dataset


class Enlarged:
    """``dataset`` followed by ``copies`` copies with ``transform`` applied: 60,000 become 300,000.

    Sample i of copy k (1 … copies) lies at k · len(dataset) + i, and what was done to it is a
    function of (``seed``, k, i): the same images in every epoch and in every process. Nothing is
    stored; images are made when asked for. Raises ValueError if ``copies`` is negative.
    """

    def __init__(
        self, dataset: Dataset, transform: Transform, copies: int = 4, seed: int = 0
    ) -> None:
        if copies < 0:
            raise ValueError(f"Enlarged expects copies of at least 0, received {copies}")
        self.dataset, self.transform, self.copies, self.seed = dataset, transform, copies, seed

    def __len__(self) -> int:
        return (1 + self.copies) * len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"Enlarged has {len(self)} samples, received index {index}")
        return tuple(column[0] for column in self.get_batch(np.array([index % len(self)])))

    def get_batch(self, indices: Array) -> tuple[Array, ...]:
        copy, sample = np.divmod(indices, len(self.dataset))
        get_batch = getattr(self.dataset, "get_batch", None)
        if get_batch is not None:
            images, *rest = get_batch(sample)
        else:
            images, *rest = default_collate([self.dataset[int(i)] for i in sample])
        made = np.empty_like(images)
        for k in np.unique(copy).tolist():
            at = np.flatnonzero(copy == k)
            keys = Keys(self.seed, k, sample[at])
            made[at] = apply(self.transform, images[at], keys) if k else images[at]
        return (made, *rest)
