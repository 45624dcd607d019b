"""DataLoader, data sets of arrays, and transforms."""

from __future__ import annotations

import json
import threading
import traceback
from collections import namedtuple
from typing import Any

import numpy as np
import pytest

import tinygrad_cnn as tg
from tinygrad_cnn.data import (
    Compose,
    DataLoader,
    Dataset,
    ExpandDims,
    MNISTMini,
    Normalize,
    OneHot,
    Pad,
    Subset,
    TensorDataset,
    ToFloat,
    random_split,
)


def numbers(count: int) -> TensorDataset:
    return TensorDataset(np.arange(count), np.arange(count) * 10)


def seen(loader: DataLoader) -> list[list[int]]:
    return [x.tolist() for x, _ in loader]


def loader_threads() -> int:
    return sum(thread.name.startswith("DataLoader") for thread in threading.enumerate())


class Squares:
    """A data set without the fast path: sample i is (i², "name")."""

    def __init__(self, bad: int = -1) -> None:
        self.bad = bad

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> tuple[int, str]:
        if index == self.bad:
            raise OSError(f"cannot read sample {index}")
        return index * index, f"name {index}"


# ------------------------------------------------------------------------------------------------
# Batches
# ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("prefetch", [0, 1, 2, 9])
@pytest.mark.parametrize("drop_last", [False, True])
def test_batches_in_order(prefetch, drop_last):
    loader = DataLoader(numbers(10), 4, prefetch=prefetch, drop_last=drop_last)
    expected = [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]][: 2 if drop_last else 3]
    assert seen(loader) == expected and len(loader) == len(expected)
    for x, y in loader:
        assert isinstance(x, tg.Tensor) and (y.numpy() == 10 * x.numpy()).all()


@pytest.mark.parametrize("prefetch", [0, 2])
def test_an_empty_data_set_gives_no_batch(prefetch):
    loader = DataLoader(TensorDataset(np.zeros((0, 3))), 4, shuffle=True, seed=1, prefetch=prefetch)
    assert list(loader) == [] and len(loader) == 0


def test_tensors_belong_to_the_backend_asked_for(backend):
    for loader in (DataLoader(numbers(3), 2, backend=backend), DataLoader(numbers(3), 2)):
        with tg.use_backend(backend):
            x, y = next(iter(loader))
        assert x.backend.name == y.backend.name == backend


def test_the_image_data_and_plain_data_sets_give_the_same_batches():
    mini = MNISTMini(train=False)
    plain = [mini[i] for i in range(300)]
    fast, slow = DataLoader(Subset(mini, range(300)), 128), DataLoader(plain, 128)
    for (x, y), (u, v) in zip(fast, slow, strict=True):
        assert x.dtype == u.dtype == tg.uint8 and y.dtype == v.dtype == tg.int64
        assert x.shape[1:] == (28, 28)
        np.testing.assert_array_equal(x.numpy(), u.numpy())
        np.testing.assert_array_equal(y.numpy(), v.numpy())


def test_collating_samples_of_every_kind():
    Pair = namedtuple("Pair", "image label")
    samples: list[Any] = [
        Pair({"a": np.float32(i), "b": [i, "s"]}, tg.tensor([i, i + 1])) for i in range(3)
    ]
    (batch,) = DataLoader(samples, 3)
    assert isinstance(batch, Pair) and batch.image["a"].dtype == tg.float32
    assert batch.image["b"][0].tolist() == [0, 1, 2] and batch.image["b"][1] == ["s"] * 3
    assert batch.label.tolist() == [[0, 1], [1, 2], [2, 3]]


def test_collate_fn_takes_the_samples():
    loader = DataLoader(Squares(), 5, collate_fn=lambda samples: np.array([s[0] for s in samples]))
    assert [b.tolist() for b in loader] == [[0, 1, 4, 9, 16], [25, 36, 49, 64, 81]]


def test_transforms_map_images_and_targets():
    loader = DataLoader(
        MNISTMini(train=False),
        8,
        transform=Compose(ToFloat(), Pad(2), ExpandDims(1)),
        target_transform=OneHot(10),
    )
    images, targets = next(iter(loader))
    assert images.shape == (8, 1, 32, 32) and images.dtype == tg.float32
    assert targets.shape == (8, 10)


def test_a_batch_never_shares_memory_with_the_data_set():
    array = np.zeros((4, 2), np.float32)
    for (x,) in DataLoader(TensorDataset(array), 4):
        x.numpy()[...] = 1
    assert not array.any()


def test_arguments_that_make_no_sense():
    with pytest.raises(TypeError, match="data set with a length and items, received int"):
        DataLoader(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="received batch_size=0, prefetch=2"):
        DataLoader(numbers(3), 0)
    with pytest.raises(ValueError, match="shuffle=True or a sampler, received both"):
        DataLoader(numbers(3), shuffle=True, sampler=[0])


# ------------------------------------------------------------------------------------------------
# Order
# ------------------------------------------------------------------------------------------------
def test_shuffling_is_a_function_of_seed_and_epoch():
    first, second = (DataLoader(numbers(50), 7, shuffle=True, seed=3, prefetch=p) for p in (0, 3))
    epochs = [sum(seen(first), []) for _ in range(3)]
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    second.set_epoch(2)
    assert sum(seen(second), []) == epochs[2]
    second.set_epoch(0)
    assert sum(seen(second), []) == epochs[0]
    other = DataLoader(numbers(50), 7, shuffle=True, seed=4)
    assert sum(seen(other), []) != epochs[0]


def test_the_order_is_pinned():
    """A change of generator, key or stream would change every published run."""
    loader = DataLoader(numbers(8), 8, shuffle=True, seed=0)
    assert [seen(loader)[0], seen(loader)[0]] == [
        [5, 1, 0, 2, 7, 3, 4, 6],
        [5, 6, 0, 1, 2, 3, 7, 4],
    ]


def test_the_order_does_not_depend_on_the_backend(backend):
    found = []
    for name in ("numpy", backend):
        with tg.use_backend(name):
            tg.manual_seed(5)
            found.append(seen(DataLoader(numbers(30), 30, shuffle=True)))
    assert found[0] == found[1]


def test_without_a_seed_manual_seed_decides():
    orders = []
    for seed in (1, 1, 2):
        tg.manual_seed(seed)
        orders.append([seen(DataLoader(numbers(30), 30, shuffle=True)) for _ in range(2)])
    assert orders[0] == orders[1] != orders[2]
    assert orders[0][0] != orders[0][1]


def test_shuffling_is_uniform():
    """Each of 6 orders of 3 samples is due 1,000 times in 6,000 epochs; chi² with 5 degrees of
    freedom exceeds 20.5 once in 1,000 seeds."""
    loader = DataLoader(numbers(3), 3, shuffle=True, seed=11, prefetch=0)
    counts: dict[tuple[int, ...], int] = {}
    for epoch in range(6000):
        order = tuple(loader._order(epoch).tolist())
        counts[order] = counts.get(order, 0) + 1
    assert len(counts) == 6
    assert sum((n - 1000) ** 2 / 1000 for n in counts.values()) < 20.5


def test_sampler():
    loader = DataLoader(numbers(10), 2, sampler=[9, 9, 0])
    assert seen(loader) == [[9, 9], [0]] and len(loader) == 2


def test_leaving_a_loop_early_ends_that_epoch():
    whole = DataLoader(numbers(20), 4, shuffle=True, seed=1)
    epochs = [seen(whole), seen(whole)]
    loader = DataLoader(numbers(20), 4, shuffle=True, seed=1)
    for _ in loader:
        break
    assert seen(loader) == epochs[1]
    for _ in loader:
        break
    loader.set_epoch(0)
    assert seen(loader) == epochs[0]


# ------------------------------------------------------------------------------------------------
# Going on after an interruption
# ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("stop", [1, 3, 5])
@pytest.mark.parametrize("call_set_epoch", [False, True])
def test_a_resumed_loader_goes_on_with_the_next_batch(stop, call_set_epoch):
    def make(seed: int | None) -> DataLoader:
        return DataLoader(numbers(18), 4, shuffle=True, seed=seed)

    reference = make(6)
    expected = [seen(reference) for _ in range(3)]
    first, got, state = make(6), [], {}
    for epoch in range(2):
        for number, (x, _) in enumerate(first, 1):
            if epoch == 1:
                got.append(x.tolist())
                if number == stop:
                    state = first.state_dict()
                    break
    second = make(None)
    second.load_state_dict(json.loads(json.dumps(state)))
    if call_set_epoch:
        second.set_epoch(second.epoch)
    got += seen(second)
    assert got == expected[1]
    assert seen(second) == expected[2]


def test_only_the_first_loop_after_loading_is_a_resumed_one():
    reference = DataLoader(numbers(18), 4, shuffle=True, seed=6)
    expected = [seen(reference) for _ in range(3)]
    loader = DataLoader(numbers(18), 4, shuffle=True)
    loader.load_state_dict({**reference.state_dict(), "epoch": 1, "position": 2})
    for x, _ in loader:
        assert x.tolist() == expected[1][2]
        break
    assert seen(loader) == expected[2]


def test_the_prefetched_batches_do_not_count():
    loader = DataLoader(numbers(40), 4, prefetch=5)
    batches = iter(loader)
    next(batches), next(batches)
    assert loader.state_dict()["position"] == 2
    assert len(list(batches)) == 8
    assert (loader.state_dict()["epoch"], loader.state_dict()["position"]) == (1, 0)


def test_a_state_of_another_loader_is_refused():
    state = DataLoader(numbers(40), 4).state_dict()
    with pytest.raises(ValueError, match="expected batch_size=5 as in this loader, received 4"):
        DataLoader(numbers(40), 5).load_state_dict(state)
    with pytest.raises(ValueError, match="expected length=41 as in this loader, received 40"):
        DataLoader(numbers(41), 4).load_state_dict(state)
    with pytest.raises(ValueError, match="expects the keys"):
        DataLoader(numbers(40), 4).load_state_dict({"epoch": 1})
    with pytest.raises(ValueError, match="position of 0 to 10, received 0 and 11"):
        DataLoader(numbers(40), 4).load_state_dict({**state, "position": 11})


# ------------------------------------------------------------------------------------------------
# The thread
# ------------------------------------------------------------------------------------------------
def test_the_thread_ends_with_the_loop():
    assert loader_threads() == 0
    for _ in DataLoader(numbers(100), 2):
        assert loader_threads() == 1
    assert loader_threads() == 0
    for _ in DataLoader(numbers(100), 2):
        break
    assert loader_threads() == 0
    with pytest.raises(RuntimeError, match="body"):
        for _ in DataLoader(numbers(100), 2):
            raise RuntimeError("body")
    next(iter(DataLoader(numbers(100), 2)))
    assert loader_threads() == 0


@pytest.mark.parametrize("prefetch", [0, 2])
def test_an_error_in_the_thread_is_raised_in_order_with_its_traceback(prefetch):
    got = []
    with pytest.raises(OSError, match="cannot read sample 5") as caught:
        for numbers_, names in DataLoader(Squares(bad=5), 2, prefetch=prefetch):
            got.append((numbers_.tolist(), names))
    assert got == [([0, 1], ["name 0", "name 1"]), ([4, 9], ["name 2", "name 3"])]
    assert caught.value.__notes__ == ["while loading batch 2 of epoch 0: samples 4, 5"]
    frames = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert frames[-1] == "__getitem__"
    assert loader_threads() == 0


def test_samples_of_different_shapes_are_explained():
    ragged = [np.zeros(3), np.zeros(4)]
    with pytest.raises(ValueError, match=r"equal shapes, received \[\(3,\), \(4,\)\]: pad or crop"):
        list(DataLoader(ragged, 2))
    with pytest.raises(ValueError, match=r"equal lengths, received \[1, 2\]"):
        list(DataLoader([(1,), (1, 2)], 2))


def test_two_loops_over_one_loader_at_once():
    loader = DataLoader(numbers(6), 2, shuffle=True, seed=2)
    reference = DataLoader(numbers(6), 2, shuffle=True, seed=2)
    expected = [seen(reference), seen(reference)]
    outer = iter(loader)
    got = [next(outer)[0].tolist()]
    assert seen(loader) == expected[1]
    assert got + [x.tolist() for x, _ in outer] == expected[0]
    state = loader.state_dict()
    assert (state["epoch"], state["position"]) == (2, 0)  # of the loop that began last


# ------------------------------------------------------------------------------------------------
# Data sets
# ------------------------------------------------------------------------------------------------
def test_tensor_dataset():
    x, y = tg.tensor([[1.0], [2.0]], requires_grad=True), np.array([3, 4])
    dataset = TensorDataset(x, y)
    assert isinstance(dataset, Dataset) and len(dataset) == 2
    assert isinstance(dataset[1][0], tg.Tensor) and dataset[1][0].tolist() == [2.0]
    assert [a.tolist() for a in dataset.get_batch(np.array([1, 0]))] == [[[2.0], [1.0]], [4, 3]]
    for bad in ([x, np.zeros(3)], [], [np.zeros(())]):
        with pytest.raises(
            ValueError, match="TensorDataset expects equal lengths, received shapes"
        ):
            TensorDataset(*bad)


def test_subset():
    part = Subset(Subset(numbers(10), [9, 5, 1]), [-1, 0])
    assert len(part) == 2 and part[0] == (1, 10)
    assert seen(DataLoader(part, 2)) == [[1, 9]]
    assert Subset(Squares(), [2])[0] == (4, "name 2")
    assert Subset(Squares(), [2]).get_batch is None
    with pytest.raises(IndexError, match="has 10 samples, received indices from 0 to 10"):
        Subset(numbers(10), [0, 10])


def test_random_split():
    parts = random_split(numbers(11), [0.5, 0.25, 0.25], seed=1)
    assert [len(p) for p in parts] == [6, 3, 2]
    assert sorted(int(p[i][0]) for p in parts for i in range(len(p))) == list(range(11))
    assert [len(p) for p in random_split(numbers(11), [8, 0, 3], seed=1)] == [8, 0, 3]
    same, other = (random_split(numbers(11), [11], seed=s)[0].indices.tolist() for s in (1, 2))
    assert same == sum((p.indices.tolist() for p in parts), []) != other
    for bad in ([8, 2], [12, -1], [0.5, 0.4], [5.5, 5.5], []):
        with pytest.raises(ValueError, match="lengths that sum to 11 or fractions that sum to 1"):
            random_split(numbers(11), bad, seed=1)


# ------------------------------------------------------------------------------------------------
# Transforms
# ------------------------------------------------------------------------------------------------
IMAGES = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)


def test_to_float_and_normalize():
    images = ToFloat()(IMAGES)
    assert images.dtype == np.float32 and ToFloat()(np.uint8([255])).item() == 1
    np.testing.assert_allclose(images, IMAGES / 255, rtol=2e-7)
    found = Normalize(0.5, 0.25)(images)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, (IMAGES / 255 - 0.5) / 0.25, rtol=1e-6)
    colour = np.random.default_rng(0).random((2, 3, 4, 5))
    found = Normalize([0.1, 0.2, 0.3], [1, 2, 4])(colour)
    for c in range(3):
        expected = (colour[:, c] - [0.1, 0.2, 0.3][c]) / [1, 2, 4][c]
        np.testing.assert_allclose(found[:, c], expected, rtol=1e-12)


def test_pad_expand_dims_and_one_hot():
    before = IMAGES.copy()
    padded = Pad((1, 2, 3, 4), fill=7)(IMAGES)
    assert padded.shape == (2, 3 + 2 + 4, 4 + 1 + 3) and padded.dtype == np.uint8
    np.testing.assert_array_equal(padded[:, 2:5, 1:5], IMAGES)
    assert padded.sum() == IMAGES.sum() + 7 * (padded.size - IMAGES.size)
    assert Pad((1, 2))(IMAGES).shape == (2, 7, 6) and Pad(2)(IMAGES).shape == (2, 7, 8)
    assert ExpandDims(1)(IMAGES).shape == (2, 1, 3, 4) and ExpandDims(-1)(IMAGES).shape[-1] == 1
    assert OneHot(3)(np.array([2, 0])).tolist() == [[0, 0, 1], [1, 0, 0]]
    assert OneHot(3)(np.array([], np.int64)).shape == (0, 3)
    np.testing.assert_array_equal(IMAGES, before)
    chain = Compose(ToFloat(), Normalize(0.5, 1), Pad(2), ExpandDims())
    assert repr(chain) == (
        "Compose(ToFloat(), Normalize(mean=0.5, std=1.0), Pad((2, 2, 2, 2), fill=0), ExpandDims(1))"
    )


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ToFloat()(np.zeros(3)), TypeError, "ToFloat expects uint8 .*received float64"),
        (lambda: Normalize(0, 1)(IMAGES), TypeError, r"received uint8: put ToFloat\(\) before it"),
        (lambda: Normalize(0, 0), ValueError, "finite mean and std > 0"),
        (lambda: Normalize([0, 0], 1), ValueError, "two sequences of equal length"),
        (
            lambda: Normalize([0, 0], [1, 1])(np.zeros((2, 3, 4, 4))),
            ValueError,
            r"expects \(N, 2, H, W\), received \(2, 3, 4, 4\)",
        ),
        (lambda: Pad((1, 2, 3)), ValueError, "1, 2 or 4 widths"),
        (lambda: Pad(-1), ValueError, "each ≥ 0, received -1"),
        (lambda: Pad(1)(np.zeros((2, 3))), ValueError, r"\(N, ..., H, W\), received \(2, 3\)"),
        (lambda: ExpandDims(5)(IMAGES), ValueError, r"ExpandDims\(5\): .* \(2, 3, 4\)"),
        (lambda: OneHot(0), ValueError, "at least 1 class"),
        (lambda: OneHot(3)(np.array([0, 3])), ValueError, "labels from 0 to 2, received 0 to 3"),
        (lambda: OneHot(3)(np.array([0.0])), TypeError, "integer labels, received float64"),
        (lambda: Compose(ToFloat(), 3), TypeError, "callables, received 3"),
    ],
)
def test_transforms_explain_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
