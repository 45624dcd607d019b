"""Samplers: the order in which a loader takes samples, one epoch at a time.

PyTorch's names and meaning, with the seed of a loader in place of a generator: the order of epoch e
is a function of (seed, e), so a resumed run goes on with the same order on every machine.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence, Sized
from typing import Any

import numpy as np

from ..random import permutation
from .idx import Array
from .keys import Keys
from .tensor_dataset import fresh_seed

Numbers = Sequence[float] | Array
_STREAM = 2  # of random numbers; those of transforms are 1 and from 64 on


class Sampler(ABC):
    """Base class: ``order(seed, epoch)`` gives the indices of an epoch, ``len()`` their number.

    In a loader, ``seed`` is the loader's unless the sampler was made with one. Iterated on its own,
    a sampler with a seed gives epoch 0, or what ``set_epoch`` says; one without is new each time.
    """

    def __init__(self, seed: int | None = None) -> None:
        self.seed, self.epoch = seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    @abstractmethod
    def order(self, seed: int, epoch: int) -> Array:
        """The indices of an epoch, int64."""

    @abstractmethod
    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[int]:
        seed = fresh_seed() if self.seed is None else self.seed
        return iter(self.order(seed, self.epoch).tolist())


class SequentialSampler(Sampler):
    """0, 1, 2, …, the same in every epoch."""

    def __init__(self, data_source: Sized) -> None:
        super().__init__(0)
        self.data_source = data_source

    def __len__(self) -> int:
        return len(self.data_source)

    def order(self, seed: int, epoch: int) -> Array:
        return np.arange(len(self))


class RandomSampler(Sampler):
    """A random order of all samples; or ``num_samples`` of them, drawn with ``replacement``.

    Without replacement, ``num_samples`` beyond the data's length goes on with further orders.
    Raises ValueError if there is nothing to draw from.
    """

    def __init__(
        self,
        data_source: Sized,
        replacement: bool = False,
        num_samples: int | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__(seed)
        self.data_source, self.replacement = data_source, replacement
        self.num_samples = len(data_source) if num_samples is None else num_samples
        _check_count("RandomSampler", self.num_samples, len(data_source))

    def __len__(self) -> int:
        return self.num_samples

    def order(self, seed: int, epoch: int) -> Array:
        total, count = len(self.data_source), self.num_samples
        if self.replacement:
            return (_uniform(count, seed, epoch) * total).astype(np.int64)
        first = permutation(total, seed, epoch + 1)  # the order that ``shuffle=True`` gives
        if count <= total:
            return first[:count]
        further = _uniform(-(-count // total) * total - total, seed, epoch).reshape(-1, total)
        orders = np.argsort(further, axis=1, kind="stable")
        return np.concatenate([first, orders.ravel()])[:count]


class SubsetRandomSampler(Sampler):
    """The given indices in a random order."""

    def __init__(self, indices: Sequence[int] | Array, seed: int | None = None) -> None:
        super().__init__(seed)
        self.indices = np.asarray(indices, np.int64)

    def __len__(self) -> int:
        return len(self.indices)

    def order(self, seed: int, epoch: int) -> Array:
        found: Array = self.indices[permutation(len(self.indices), seed, epoch + 1)]
        return found


class WeightedRandomSampler(Sampler):
    """``num_samples`` draws in which sample i comes with probability weights[i] / Σ weights.

    Without replacement, each draw is among the samples that are left, by the exponential keys of
    Efraimidis and Spirakis (2006): the largest log(u) / w first. Raises ValueError for weights that
    are negative, not finite or all 0, and for more draws than there are samples to give.
    """

    def __init__(
        self,
        weights: Numbers,
        num_samples: int,
        replacement: bool = True,
        seed: int | None = None,
    ) -> None:
        super().__init__(seed)
        self.weights = np.array(weights, np.float64)
        self.num_samples, self.replacement = num_samples, replacement
        usable = int(np.count_nonzero(self.weights))
        if self.weights.ndim != 1 or not (
            np.isfinite(self.weights).all() and (self.weights >= 0).all()
        ):
            raise ValueError(
                "WeightedRandomSampler expects finite weights of at least 0, one a sample"
            )
        if usable:
            self.weights /= self.weights.max()  # so that no sum overflows
        _check_count("WeightedRandomSampler", num_samples, usable)
        if not replacement and num_samples > usable:
            raise ValueError(
                f"WeightedRandomSampler expects at most {usable} samples without replacement "
                f"(so many have a weight), received num_samples={num_samples}"
            )

    def __len__(self) -> int:
        return self.num_samples

    def order(self, seed: int, epoch: int) -> Array:
        if self.replacement:
            ends = np.cumsum(self.weights)
            u = _uniform(self.num_samples, seed, epoch) * ends[-1]
            drawn: Array = np.searchsorted(ends, u, side="right")
            return drawn
        usable = np.flatnonzero(self.weights)
        u = _uniform(len(self.weights), seed, epoch)[usable]
        keys = np.log1p(-u) / self.weights[usable]  # 1 − u is never 0
        chosen: Array = usable[np.argsort(-keys, kind="stable")[: self.num_samples]]
        return chosen


class BatchSampler:
    """Batches of indices: ``batch_size`` of ``sampler``'s at a time, the last fewer, or dropped."""

    def __init__(self, sampler: Any, batch_size: int, drop_last: bool) -> None:
        if batch_size < 1:
            raise ValueError(f"BatchSampler expects batch_size of at least 1, not {batch_size}")
        self.sampler, self.batch_size, self.drop_last = sampler, batch_size, drop_last

    def __len__(self) -> int:
        size = self.batch_size
        return len(self.sampler) // size if self.drop_last else -(-len(self.sampler) // size)

    def __iter__(self) -> Iterator[list[int]]:
        return (batch.tolist() for batch in self._cut(np.fromiter(self.sampler, np.int64)))

    def batches(self, seed: int, epoch: int) -> list[Array]:
        """The batches of an epoch, as a loader with this seed takes them."""
        return self._cut(indices_of(self.sampler, seed, epoch))

    def _cut(self, order: Array) -> list[Array]:
        size = self.batch_size
        return [order[b * size : (b + 1) * size] for b in range(len(self))]


def indices_of(sampler: Any, seed: int, epoch: int) -> Array:
    """One epoch of a Sampler, or of anything that gives indices (``set_epoch`` is called if there
    is one, as PyTorch does)."""
    if isinstance(sampler, Sampler):
        return sampler.order(seed if sampler.seed is None else sampler.seed, epoch)
    if hasattr(sampler, "set_epoch"):
        sampler.set_epoch(epoch)
    return np.fromiter(sampler, np.int64)


def batches_of(batch_sampler: Any, seed: int, epoch: int) -> list[Array]:
    """One epoch of a BatchSampler, or of anything that gives lists of indices."""
    if isinstance(batch_sampler, BatchSampler):
        return batch_sampler.batches(seed, epoch)
    if hasattr(batch_sampler, "set_epoch"):
        batch_sampler.set_epoch(epoch)
    return [np.asarray(batch, np.int64) for batch in batch_sampler]


def numbered(order: Array) -> Array:
    """Each index plus k·2^32 where it comes for the k-th time: different keys for repetitions."""
    by_index = np.argsort(order, kind="stable")
    ordered, place = order[by_index], np.arange(len(order))
    first = np.concatenate([[True], ordered[1:] != ordered[:-1]])[: len(order)]
    numbers = np.empty_like(order)
    numbers[by_index] = ordered + ((place - np.maximum.accumulate(place * first)) << 32)
    return numbers


def _uniform(count: int, seed: int, epoch: int) -> Array:
    """``count`` numbers in [0, 1)."""
    blocks = Keys(seed, epoch, np.arange(-(-count // 4)), _STREAM)
    return blocks.uniform(4).reshape(-1)[:count]


def _check_count(who: str, count: int, available: int) -> None:
    if count < 0 or (count and not available):
        raise ValueError(
            f"{who} expects num_samples of at least 0 and something to draw from, "
            f"received num_samples={count} out of {available}"
        )
