"""DataLoader: batches in a reproducible order, prepared ahead by a thread.

The order of epoch e is a function of (seed, e) alone, the same on every backend and machine, and
what a random transform does to sample i is one of (seed, e, i). The thread runs only array code
(indexing, collating, transforms); the thread that iterates makes tensors.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any

import numpy as np

from ..construct import from_numpy
from ..random import permutation
from ..tensor import Tensor
from .idx import Array
from .keys import Keys, Transform, apply, is_random
from .samplers import BatchSampler, Sampler, batches_of, indices_of, numbered
from .tensor_dataset import Dataset, fresh_seed

_STATE = ("epoch", "position", "seed", "length", "batch_size", "shuffle", "drop_last")


class DataLoader:
    """Iterates over ``dataset`` in batches of ``batch_size`` (the last one smaller, or dropped).

    A batch is what a sample is, stacked along a new first axis: tuples, lists and dicts of tensors.
    ``transform`` (and ``target_transform``) map the first (and second) array of a batch, as NumPy
    arrays; a batch that is no tuple goes through ``transform`` whole. Numbers keep NumPy's types.
    Random transforms get the keys (``seed``, epoch, sample).

    ``shuffle`` orders epoch e by (``seed``, e); without a seed one is drawn from the default random
    stream, so that ``manual_seed`` fixes it. ``sampler`` gives the indices of an epoch instead, and
    ``batch_sampler`` whole batches, in place of batch_size, shuffle, sampler and drop_last.
    Each ``iter()`` is one epoch, the next one unless ``set_epoch`` says which. ``prefetch`` batches
    are prepared ahead by one thread (0: none), which ends with the loop, also by break or an error;
    an error in it is raised in the loop, with its own traceback and a note of the batch.

    ``state_dict()`` taken while the loop's body runs counts that batch as done; a loader that has
    loaded it goes on with the next batch. Raises ValueError or TypeError on senseless arguments.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int = 1,
        shuffle: bool = False,
        sampler: Sampler | Sequence[int] | None = None,
        batch_sampler: BatchSampler | Sequence[Sequence[int]] | None = None,
        *,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        drop_last: bool = False,
        seed: int | None = None,
        prefetch: int = 2,
        transform: Transform | None = None,
        target_transform: Transform | None = None,
        backend: str | None = None,
    ) -> None:
        if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
            kind = type(dataset).__name__
            raise TypeError(
                f"DataLoader expects a data set with a length and items, received {kind}"
            )
        if batch_size < 1 or prefetch < 0:
            raise ValueError(
                "DataLoader expects batch_size ≥ 1 and prefetch ≥ 0, "
                f"received batch_size={batch_size}, prefetch={prefetch}"
            )
        if shuffle and sampler is not None:
            raise ValueError("DataLoader expects shuffle=True or a sampler, received both")
        if batch_sampler is not None and (
            batch_size != 1 or shuffle or drop_last or sampler is not None
        ):
            raise ValueError(
                "DataLoader expects a batch_sampler without batch_size, shuffle, sampler and "
                "drop_last, which it replaces"
            )
        self.dataset, self.batch_size, self.shuffle = dataset, batch_size, shuffle
        self.sampler, self.batch_sampler = sampler, batch_sampler
        self.collate_fn, self.drop_last = collate_fn, drop_last
        self.prefetch, self.transform, self.target_transform = prefetch, transform, target_transform
        self.backend = backend
        drawing = isinstance(sampler, Sampler) or isinstance(batch_sampler, BatchSampler)
        chance = shuffle or drawing or is_random(transform) or is_random(target_transform)
        self.seed = fresh_seed() if chance and seed is None else seed or 0
        self.epoch = self.position = 0  # the epoch under way and how many of its batches were given
        self._resuming = False
        self._latest: object = None  # the newest iterator: the one that ``position`` counts for

    def __len__(self) -> int:
        """Batches in an epoch."""
        if self.batch_sampler is not None:
            return len(self.batch_sampler)
        size = self.batch_size
        return self._length() // size if self.drop_last else -(-self._length() // size)

    def set_epoch(self, epoch: int) -> None:
        """Make ``epoch`` the next one: in full, unless it is the one being resumed."""
        if self._resuming and epoch == self.epoch:
            return
        self.epoch, self.position, self._resuming = epoch, 0, False

    def state_dict(self) -> dict[str, int]:
        """The position and what gives it its meaning, as plain integers."""
        values = (self.epoch, self.position, self.seed, self._length(), self.batch_size)
        return dict(zip(_STATE, (*values, int(self.shuffle), int(self.drop_last)), strict=True))

    def load_state_dict(self, state_dict: Mapping[str, int]) -> None:
        """Go on where ``state_dict`` was taken, with its seed.

        Raises ValueError if this loader cuts or orders its data differently."""
        if set(state_dict) != set(_STATE):
            received = sorted(state_dict)
            raise ValueError(f"DataLoader state expects the keys {_STATE}, received {received}")
        mine = self.state_dict()
        for key in _STATE[3:]:
            if state_dict[key] != mine[key]:
                raise ValueError(
                    f"DataLoader state: expected {key}={mine[key]} as in this loader, "
                    f"received {state_dict[key]}"
                )
        if not (0 <= state_dict["epoch"] and 0 <= state_dict["position"] <= len(self)):
            raise ValueError(
                f"DataLoader state: expected an epoch ≥ 0 and a position of 0 to {len(self)}, "
                f"received {state_dict['epoch']} and {state_dict['position']}"
            )
        self.epoch, self.position = int(state_dict["epoch"]), int(state_dict["position"])
        self.seed, self._resuming, self._latest = int(state_dict["seed"]), True, None

    def __iter__(self) -> Iterator[Any]:
        if not self._resuming and self.position:  # the last loop was left early
            self.epoch, self.position = self.epoch + 1, 0
        self._resuming, self._latest = False, object()
        return self._iterate(self._latest, self.epoch, self.position)

    def _iterate(self, me: object, epoch: int, start: int) -> Iterator[Any]:
        for done, batch in enumerate(self._batches(epoch, start), start + 1):
            if me is self._latest:
                self.position = done
            yield to_tensors(batch, self.backend)
        if me is self._latest:
            self.epoch, self.position = epoch + 1, 0

    def _batches(self, epoch: int, start: int) -> Iterator[Any]:
        """The batches from number ``start`` on as arrays, ``prefetch`` of them made ahead."""
        plan = self._plan(epoch)
        numbers = iter(range(start, len(plan)))
        if self.prefetch == 0:
            for b in numbers:
                yield self._fetch(*plan[b], epoch, b)
            return
        pool = ThreadPoolExecutor(1, "DataLoader")
        pending: deque[Future[Any]] = deque()

        def submit(count: int) -> None:
            for b in islice(numbers, count):
                pending.append(pool.submit(self._fetch, *plan[b], epoch, b))

        try:
            submit(self.prefetch)
            while pending:
                batch = pending.popleft().result()
                submit(1)
                yield batch
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _fetch(self, indices: Array, samples: Array, epoch: int, number: int) -> Any:
        try:
            get_batch = getattr(self.dataset, "get_batch", None)
            if get_batch is not None and self.collate_fn is None:
                batch = get_batch(indices)
            else:
                batch = (self.collate_fn or default_collate)(
                    [self.dataset[int(i)] for i in indices]
                )
            return self._transformed(batch, Keys(self.seed, epoch, samples))
        except Exception as error:
            some = ", ".join(map(str, indices[:8])) + (", …" if len(indices) > 8 else "")
            error.add_note(f"while loading batch {number} of epoch {epoch}: samples {some}")
            raise

    def _transformed(self, batch: Any, keys: Keys) -> Any:
        if not isinstance(batch, tuple | list):
            return apply(self.transform, batch, keys.child(0)) if self.transform else batch
        columns = list(batch)
        for i, transform in enumerate((self.transform, self.target_transform)):
            if transform is not None and i < len(columns):
                columns[i] = apply(transform, columns[i], keys.child(i))
        return _like(batch, columns)

    def _length(self) -> int:
        source = next(x for x in (self.batch_sampler, self.sampler, self.dataset) if x is not None)
        return len(source)

    def _plan(self, epoch: int) -> list[tuple[Array, Array]]:
        """The batches of an epoch: (positions in the data set, the samples' numbers in keys)."""
        if self.batch_sampler is not None:
            parts = batches_of(self.batch_sampler, self.seed, epoch)
            ends = np.cumsum([0, *map(len, parts)])
            order = np.concatenate([np.empty(0, np.int64), *parts])
        else:
            order = self._order(epoch)
            ends = np.minimum(np.arange(len(self) + 1) * self.batch_size, len(order))
        given = self.sampler is not None or self.batch_sampler is not None
        samples = numbered(order) if given else order
        return [(order[a:b], samples[a:b]) for a, b in zip(ends[:-1], ends[1:], strict=True)]

    def _order(self, epoch: int) -> Array:
        if self.sampler is not None:
            return indices_of(self.sampler, self.seed, epoch)
        if self.shuffle:
            return permutation(len(self.dataset), self.seed, epoch + 1)  # 0 is the default stream
        return np.arange(len(self.dataset))


def default_collate(samples: list[Any]) -> Any:
    """Samples stacked along a new first axis, column by column for tuples, lists and dicts.

    Raises ValueError if shapes differ. Strings and other objects come back as the list they are.
    """
    first = samples[0]
    if isinstance(first, Mapping):
        return {key: default_collate([sample[key] for sample in samples]) for key in first}
    if isinstance(first, tuple | list):
        if any(len(sample) != len(first) for sample in samples):
            lengths = sorted({len(sample) for sample in samples})
            raise ValueError(f"samples of a batch expect equal lengths, received {lengths}")
        columns = [default_collate(list(column)) for column in zip(*samples, strict=True)]
        return _like(first, columns)
    if isinstance(first, Tensor):
        samples = [sample.detach().numpy() for sample in samples]
    elif not isinstance(first, np.ndarray | np.generic | bool | int | float):
        return samples
    arrays = [np.asarray(sample) for sample in samples]
    if any(a.shape != arrays[0].shape for a in arrays):
        shapes = sorted({a.shape for a in arrays})
        raise ValueError(
            f"samples of a batch expect equal shapes, received {shapes}: pad or crop them"
        )
    return np.stack(arrays)


def to_tensors(batch: Any, backend: str | None) -> Any:
    """``batch`` with every array in it as a tensor of ``backend``, sharing memory where it can."""
    if isinstance(batch, np.ndarray):
        return from_numpy(batch, backend)
    if isinstance(batch, Mapping):
        return {key: to_tensors(value, backend) for key, value in batch.items()}
    if isinstance(batch, tuple | list):
        return _like(batch, [to_tensors(value, backend) for value in batch])
    return batch


def _like(model: tuple[Any, ...] | list[Any], values: list[Any]) -> Any:
    """``values`` as a tuple, named tuple or list, whichever ``model`` is."""
    kind = type(model)
    return getattr(kind, "_make", kind)(values)
