"""Randomness that belongs to a sample: the numbers a random transform draws for it.

They are words of Philox 4x32-10 whose counter is (sample, epoch, transform) instead of a running
one. So what happens to an image does not depend on the batch it is in, on which images were loaded
before, on threads or on the backend, and a resumed run goes on with the same images.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..philox import philox
from .idx import Array
from .tensor_dataset import fresh_seed

Transform = Callable[..., Array]
MAX_NUMBERS = 1 << 18  # of one draw for one sample: 2^16 blocks of four words


@dataclass(frozen=True)
class Keys:
    """What the randomness of a batch depends on, and the numbers that follow from it.

    ``samples`` (N,) int64 are positions in the data set; the k-th repetition of a position within
    one epoch, which samplers with replacement make, is position + k·2^32. ``stream`` tells apart
    the transforms of a chain; it is never 0, so no number is also one of ``tg.rand``.
    """

    seed: int
    epoch: int
    samples: Array
    stream: int = 1

    @classmethod
    def fresh(cls, count: int) -> Keys:
        """Keys for ``count`` samples that have no position: a seed from the default stream."""
        return cls(fresh_seed(), 0, np.arange(count))

    def child(self, number: int) -> Keys:
        """The keys of part ``number`` (below 64) of a transform that is made of several."""
        return replace(self, stream=(self.stream << 6 | number) % 2**32)

    def uniform(self, count: int) -> Array:
        """float64 (N, count), uniform on [0, 1) in steps of 2^−32; row n belongs to sample n alone.

        Raises ValueError if ``count`` exceeds 2^18.
        """
        if not 0 <= count <= MAX_NUMBERS:
            raise ValueError(f"Keys.uniform expects a count of 0 to {MAX_NUMBERS}, not {count}")
        samples = np.asarray(self.samples, np.int64).astype(np.uint64)[:, None]
        blocks = np.arange(-(-count // 4), dtype=np.uint64)
        zero = np.zeros((len(samples), len(blocks)), np.uint64)
        counter = (
            blocks + ((samples >> np.uint64(32)) << np.uint64(16)) % np.uint64(2**32),
            zero + samples % np.uint64(2**32),
            zero + np.uint64(self.epoch % 2**32),
            zero + np.uint64(self.stream),
        )
        words = philox(np, counter, (self.seed % 2**32, self.seed >> 32 & 0xFFFFFFFF))
        numbers = np.stack(words, axis=-1).reshape(len(samples), -1)[:, :count]
        return numbers * 2.0**-32


class RandomTransform(ABC):
    """Base class of transforms that draw random numbers: ``transform(batch, keys)``.

    A loader gives the keys of (its seed, the epoch, the samples). Without keys, each call is new:
    its seed comes from the default stream, which ``manual_seed`` fixes.
    """

    random = True

    def __call__(self, batch: Array, keys: Keys | None = None) -> Array:
        return self.apply(batch, Keys.fresh(len(batch)) if keys is None else keys)

    @abstractmethod
    def apply(self, batch: Array, keys: Keys) -> Array:
        """The transformed batch (N, ...), a function of ``batch`` and ``keys`` only."""


def is_random(transform: Any) -> bool:
    """Whether ``transform`` takes keys."""
    return bool(getattr(transform, "random", False))


def apply(transform: Any, batch: Array, keys: Keys | None) -> Array:
    """``transform(batch)``, with the keys if it takes them."""
    made: Array = transform(batch, keys) if is_random(transform) else transform(batch)
    return made
