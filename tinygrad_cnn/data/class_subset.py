"""Some classes of a data set, and balanced parts of them: cats against dogs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from ..random import permutation
from .idx import Array
from .tensor_dataset import Dataset, Subset

_STREAM = 1 << 22  # no epoch of a loader with the same seed gets there


class Classified(Dataset, Protocol):
    """A data set whose samples are (image, label), with all labels and their names at hand."""

    @property
    def classes(self) -> Sequence[str]: ...
    @property
    def labels(self) -> Array: ...


class ClassSubset(Subset):
    """The samples of ``dataset`` that belong to ``classes``, labelled 0, 1, … in that order.

    ``indices`` (by default all) chooses among them. ``classes`` and ``labels`` (N,) are the
    subset's. Raises ValueError for a class that the data set does not have, or one named twice.
    """

    def __init__(
        self, dataset: Classified, classes: Sequence[str], indices: Array | None = None
    ) -> None:
        known = list(dataset.classes)
        unknown = [name for name in classes if name not in known]
        if unknown or len(set(classes)) != len(classes) or not classes:
            raise ValueError(
                f"ClassSubset expects different classes out of {', '.join(known)}, "
                f"received {', '.join(classes) or 'none'}"
            )
        self.classes = tuple(classes)
        self._new = np.full(len(known), -1, np.int64)
        self._new[[known.index(name) for name in classes]] = np.arange(len(classes))
        labels = self._new[dataset.labels]
        super().__init__(dataset, np.flatnonzero(labels >= 0) if indices is None else indices)
        self.labels = labels[self.indices]
        if self.labels.size and self.labels.min() < 0:
            raise ValueError(f"ClassSubset expects indices of samples of {', '.join(classes)}")

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.dataset[int(self.indices[index])][0], int(self.labels[index])

    @property
    def get_batch(self) -> Callable[[Array], tuple[Array, ...]] | None:
        inner = super().get_batch
        return None if inner is None else lambda i: (inner(i)[0], self.labels[i])

    def __repr__(self) -> str:
        return f"ClassSubset({len(self):,} samples of {', '.join(self.classes)})"


def class_subsets(
    dataset: Classified, classes: Sequence[str], sizes: Sequence[int], seed: int = 0
) -> list[ClassSubset]:
    """Disjoint random parts of ``sizes`` samples, each with equally many of every class.

        train, validation = class_subsets(CIFAR10JPEG(), ("cat", "dog"), (2000, 1000))

    Which samples they are is a function of ``seed``. Raises ValueError if a size does not divide by
    the number of classes, or a class has too few samples.
    """
    whole = ClassSubset(dataset, classes)
    if any(size % len(classes) or size < 0 for size in sizes):
        raise ValueError(
            f"class_subsets expects sizes that {len(classes)} classes share equally, "
            f"received {list(sizes)}"
        )
    shares = [size // len(classes) for size in sizes]
    ends = np.cumsum([0, *shares])
    parts: list[list[Array]] = [[] for _ in sizes]
    for k, name in enumerate(classes):
        own = whole.indices[whole.labels == k]
        if len(own) < ends[-1]:
            raise ValueError(
                f"class_subsets expects {ends[-1]} samples of {name}, there are {len(own)}"
            )
        own = own[permutation(len(own), seed, _STREAM + k)]
        for part, start, stop in zip(parts, ends[:-1], ends[1:], strict=True):
            part.append(own[start:stop])
    return [ClassSubset(dataset, classes, np.sort(np.concatenate(part))) for part in parts]
