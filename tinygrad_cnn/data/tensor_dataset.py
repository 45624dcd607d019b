"""Data sets made of arrays, and parts of data sets."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ..random import permutation, randint
from ..tensor import Tensor
from .idx import Array

_SPLIT_STREAM = 1 << 23  # no epoch of a loader with the same seed gets there


def fresh_seed() -> int:
    """A seed drawn from the default random stream: new each time, and fixed by ``manual_seed``."""
    return int(randint(0, 1 << 62, (1,), backend="numpy").item())


@runtime_checkable
class Dataset(Protocol):
    """What a loader needs: a length and samples by position.

    A data set that can hand out many samples at once also has ``get_batch(indices)``, which takes
    an int64 array and returns a tuple of arrays whose first axis is the batch; loaders prefer it.
    """

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Any: ...


class TensorDataset:
    """Tensors or arrays of equal length: sample i is ``(t[i], ...)``.

    Raises ValueError if they differ in length.
    """

    def __init__(self, *tensors: Tensor | Array) -> None:
        shapes = [tuple(t.shape) for t in tensors]
        if not shapes or any(not s or s[0] != shapes[0][0] for s in shapes):
            raise ValueError(f"TensorDataset expects equal lengths, received shapes {shapes}")
        self.tensors = tensors
        self._arrays = [t.detach().numpy() if isinstance(t, Tensor) else t for t in tensors]

    def __len__(self) -> int:
        return len(self._arrays[0])

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        return tuple(t[index] for t in self.tensors)

    def get_batch(self, indices: Array) -> tuple[Array, ...]:
        return tuple(a[indices] for a in self._arrays)


class Subset:
    """The samples of ``dataset`` at ``indices``, in that order."""

    def __init__(self, dataset: Dataset, indices: Sequence[int] | Array) -> None:
        self.dataset, self.indices = dataset, np.asarray(indices, np.int64)
        size = len(dataset)
        if self.indices.size and not -size <= self.indices.min() <= self.indices.max() < size:
            raise IndexError(
                f"Subset: the data set has {size} samples, received indices from "
                f"{self.indices.min()} to {self.indices.max()}"
            )

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[int(self.indices[index])]

    @property
    def get_batch(self) -> Callable[[Array], tuple[Array, ...]] | None:
        """The fast path, where the data set has one."""
        inner = getattr(self.dataset, "get_batch", None)
        return None if inner is None else lambda indices: inner(self.indices[indices])


def random_split(
    dataset: Dataset, lengths: Sequence[float], seed: int | None = None
) -> list[Subset]:
    """Disjoint random parts with the given ``lengths``, or fractions of the whole that sum to 1.

    With fractions, what rounding down leaves over goes to the first parts, one sample each. The
    parts are a function of ``seed`` (by default one drawn from the default stream). Raises
    ValueError if the lengths do not sum to the data set's.
    """
    total = len(dataset)
    if math.isclose(sum(lengths), 1):
        sizes = [math.floor(total * x) for x in lengths]
        for i in range(total - sum(sizes)):
            sizes[i % len(sizes)] += 1
    else:
        sizes = [int(x) if x == int(x) else -1 for x in lengths]
    if sum(sizes) != total or min(sizes, default=0) < 0:
        raise ValueError(
            f"random_split expects lengths that sum to {total} or fractions that sum to 1, "
            f"received {list(lengths)}"
        )
    order = permutation(total, fresh_seed() if seed is None else seed, _SPLIT_STREAM)
    ends = np.cumsum([0, *sizes])
    return [Subset(dataset, order[a:b]) for a, b in zip(ends[:-1], ends[1:], strict=True)]
