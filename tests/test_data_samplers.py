"""Samplers, and loaders that take their order from them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import tinygrad_cnn as tg
from tinygrad_cnn.data import (
    BatchSampler,
    DataLoader,
    RandomSampler,
    RandomTransform,
    SequentialSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)


def numbers(count: int) -> TensorDataset:
    return TensorDataset(np.arange(count))


def seen(loader: DataLoader) -> list[list[int]]:
    return [x.tolist() for (x,) in loader]


def flat(loader: DataLoader) -> list[int]:
    return sum(seen(loader), [])


def test_sequential():
    sampler = SequentialSampler(range(7))
    assert list(sampler) == list(range(7)) and len(sampler) == 7
    assert seen(DataLoader(numbers(7), 3, sampler=sampler)) == [[0, 1, 2], [3, 4, 5], [6]]


def test_random_is_what_shuffle_does():
    sampler = RandomSampler(range(50))
    assert len(sampler) == 50
    shuffled = DataLoader(numbers(50), 8, shuffle=True, seed=3)
    sampled = DataLoader(numbers(50), 8, sampler=sampler, seed=3)
    for _ in range(3):
        assert seen(shuffled) == seen(sampled)
    assert sorted(flat(sampled)) == list(range(50))


@pytest.mark.parametrize("count", [0, 5, 12, 13, 31])
def test_random_without_replacement_uses_every_sample_before_repeating(count):
    order = RandomSampler(range(12), num_samples=count, seed=1).order(1, 0).tolist()
    assert len(order) == count
    for k in range(0, count, 12):
        part = order[k : k + 12]
        assert len(set(part)) == len(part) and set(part) <= set(range(12))
    if count == 31:
        assert order[:12] != order[12:24]


def test_random_with_replacement_is_uniform():
    from scipy.stats import chisquare

    order = RandomSampler(range(10), True, 20_000, seed=0).order(0, 0)
    assert chisquare(np.bincount(order, minlength=10)).pvalue > 1e-3


def test_subset():
    sampler = SubsetRandomSampler([3, 30, 300], seed=5)
    orders = {tuple(sampler.order(5, epoch).tolist()) for epoch in range(60)}
    assert orders == set(itertools.permutations([3, 30, 300]))


def test_weights_are_probabilities():
    from scipy.stats import chisquare

    weights = np.array([0, 1, 2, 0, 5])
    drawn = WeightedRandomSampler(weights, 20_000, seed=2).order(2, 0)
    counts = np.bincount(drawn, minlength=5)
    assert counts[[0, 3]].tolist() == [0, 0]
    assert chisquare(counts[[1, 2, 4]], 20_000 * np.array([1, 2, 5]) / 8).pvalue > 1e-3
    huge = WeightedRandomSampler([1e308, 1e308, 0], 2000).order(0, 0)
    assert 900 < (huge == 0).sum() < 1100 and huge.max() == 1


def test_weights_without_replacement_follow_successive_draws():
    from scipy.stats import chisquare

    weights, rounds = np.array([1.0, 2.0, 0.0, 5.0]), 3000
    sampler = WeightedRandomSampler(weights, 2, replacement=False)
    found: dict[tuple[int, ...], int] = {}
    for epoch in range(rounds):
        pair = tuple(sampler.order(9, epoch).tolist())
        found[pair] = found.get(pair, 0) + 1
    expected = {
        (a, b): rounds * weights[a] / 8 * weights[b] / (8 - weights[a])
        for a, b in itertools.permutations([0, 1, 3], 2)
    }
    assert found.keys() == expected.keys()
    assert chisquare([found[p] for p in expected], list(expected.values())).pvalue > 1e-3


@pytest.mark.parametrize(
    "make",
    [
        lambda seed: RandomSampler(range(40), seed=seed),
        lambda seed: RandomSampler(range(40), True, 30, seed=seed),
        lambda seed: RandomSampler(range(40), False, 90, seed=seed),
        lambda seed: SubsetRandomSampler(range(40), seed=seed),
        lambda seed: WeightedRandomSampler(np.arange(40), 30, seed=seed),
        lambda seed: WeightedRandomSampler(np.arange(40), 30, False, seed=seed),
    ],
)
def test_orders_follow_from_seed_and_epoch(make):
    fixed = make(4)
    assert list(fixed) == list(fixed) == fixed.order(4, 0).tolist()
    fixed.set_epoch(1)
    assert list(fixed) == fixed.order(4, 1).tolist() != fixed.order(4, 0).tolist()
    assert make(4).order(5, 0).tolist() != make(4).order(4, 0).tolist()

    free = make(None)
    tg.manual_seed(1)
    first, second = list(free), list(free)
    tg.manual_seed(1)
    assert list(free) == first != second

    # in a loader: its seed where the sampler has none, the sampler's where it has one
    loader = DataLoader(numbers(40), 8, sampler=free, seed=6)
    assert flat(loader) == free.order(6, 0).tolist()
    assert flat(loader) == free.order(6, 1).tolist()
    assert flat(DataLoader(numbers(40), 8, sampler=make(4), seed=6)) == make(4).order(4, 0).tolist()


@pytest.mark.parametrize("batches", [False, True])
def test_a_resumed_loader_keeps_the_order_of_its_sampler(batches):
    def loader() -> DataLoader:
        sampler = WeightedRandomSampler(np.arange(20), 20)
        if batches:
            return DataLoader(numbers(20), batch_sampler=BatchSampler(sampler, 4, False))
        return DataLoader(numbers(20), 4, sampler=sampler)

    tg.manual_seed(2)
    expected = [batch for whole in [loader()] for _ in range(2) for batch in seen(whole)]
    tg.manual_seed(2)
    killed, found = loader(), []
    for (x,) in killed:
        found.append(x.tolist())
        if len(found) == 3:
            state = killed.state_dict()
            break
    resumed = loader()
    resumed.load_state_dict(state)
    assert found + seen(resumed) + seen(resumed) == expected


@pytest.mark.parametrize(("drop_last", "sizes"), [(False, [4, 4, 2]), (True, [4, 4])])
def test_batch_sampler(drop_last, sizes):
    sampler = BatchSampler(RandomSampler(range(10), seed=0), 4, drop_last)
    assert len(sampler) == len(sizes) and [len(b) for b in sampler] == sizes
    loader = DataLoader(numbers(10), batch_sampler=sampler)
    assert len(loader) == len(sizes) and seen(loader) == list(sampler)
    for prefetch in (0, 5):
        again = DataLoader(numbers(10), batch_sampler=sampler, prefetch=prefetch)
        assert seen(again) == list(sampler)


def test_batches_and_samplers_of_ones_own():
    batches = [[3], [1, 2], [], [0, 0, 4]]
    assert seen(DataLoader(numbers(5), batch_sampler=batches)) == batches

    class Own:
        epoch = 0

        def set_epoch(self, epoch: int) -> None:
            self.epoch = epoch

        def __len__(self) -> int:
            return 2

        def __iter__(self):
            return iter([self.epoch, 4])

    loader = DataLoader(numbers(5), 2, sampler=Own())
    assert seen(loader) + seen(loader) == [[0, 4], [1, 4]]


class Numbers(RandomTransform):
    def apply(self, batch, keys):
        return keys.uniform(1)[:, 0]


def test_repeated_samples_are_augmented_differently():
    sampler = [2, 0, 2, 2, 0]
    found = sum(seen(DataLoader(numbers(3), 2, sampler=sampler, seed=1, transform=Numbers())), [])
    assert len(set(found)) == 5
    plain = sum(seen(DataLoader(numbers(3), 3, seed=1, transform=Numbers())), [])
    assert (found[0], found[1]) == (plain[2], plain[0])  # the first time as without a sampler
    one = DataLoader(numbers(3), batch_sampler=[[2, 0, 2], [2, 0]], seed=1, transform=Numbers())
    assert sum(seen(one), []) == found


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: RandomSampler([]), None),
        (lambda: RandomSampler([], num_samples=1), "num_samples=1 out of 0"),
        (lambda: RandomSampler(range(3), num_samples=-1), "num_samples=-1 out of 3"),
        (lambda: WeightedRandomSampler([0, 0], 1), "num_samples=1 out of 0"),
        (lambda: WeightedRandomSampler([1, -1], 1), "finite weights of at least 0"),
        (lambda: WeightedRandomSampler([[1.0]], 1), "finite weights of at least 0, one a sample"),
        (lambda: WeightedRandomSampler([1, np.nan], 1), "finite weights"),
        (lambda: WeightedRandomSampler([1, 0, 1], 3, False), "at most 2 samples without"),
        (lambda: BatchSampler([0], 0, False), "batch_size of at least 1, not 0"),
        (lambda: DataLoader(numbers(3), 2, batch_sampler=[[0]]), "which it replaces"),
        (lambda: DataLoader(numbers(3), sampler=[], batch_sampler=[[0]]), "which it replaces"),
    ],
)
def test_bad_arguments_are_explained(call, message):
    if message is None:
        assert list(call()) == []
        return
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.torch
def test_lengths_are_pytorchs():
    data = pytest.importorskip("torch").utils.data
    for drop_last in (False, True):
        theirs = data.BatchSampler(data.SequentialSampler(range(10)), 4, drop_last)
        ours = BatchSampler(SequentialSampler(range(10)), 4, drop_last)
        assert list(ours) == list(theirs) and len(ours) == len(theirs)
    for replacement, count in ((True, 7), (False, 7), (False, 25)):
        theirs = data.RandomSampler(range(10), replacement, count)
        assert len(RandomSampler(range(10), replacement, count)) == len(theirs) == count
