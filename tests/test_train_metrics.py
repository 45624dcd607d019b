"""Metrics against literal loops over the samples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_cnn as tg
from tinygrad_cnn.backend import get_backend, set_backend
from tinygrad_cnn.nn import functional as F
from tinygrad_cnn.train import Accuracy, ConfusionMatrix, LossDistribution, Metric, TopK


@pytest.fixture(autouse=True, scope="module")
def numpy_backend() -> Iterator[None]:
    before = get_backend().name
    set_backend("numpy")
    yield
    set_backend(before)


def batches(seed: int, classes: int, sizes: list[int]) -> list[tuple[Any, Any]]:
    """Scores of few different values, so that there are ties, and their targets."""
    draw = np.random.default_rng(seed)
    return [
        (draw.integers(0, 4, (n, classes)).astype(np.float32), draw.integers(0, classes, n))
        for n in sizes
    ]


def after(metric: Metric, given: list[tuple[Any, Any]]) -> Metric:
    for scores, labels in given:
        metric.update(tg.tensor(scores), tg.tensor(labels))
    return metric


def ranking(scores: Any) -> list[int]:
    """The classes from the best down, the lower number first among equals."""
    return sorted(range(len(scores)), key=lambda k: (-scores[k], k))


sizes = st.lists(st.integers(1, 9), min_size=1, max_size=4)


@given(st.integers(0, 10**6), st.integers(2, 7), sizes)
def test_accuracy_and_top_k(seed: int, classes: int, sizes: list[int]) -> None:
    given = batches(seed, classes, sizes)
    pairs = [(s, y) for scores, labels in given for s, y in zip(scores, labels, strict=True)]
    assert after(Accuracy(), given).values()["accuracy"] == sum(
        ranking(s)[0] == y for s, y in pairs
    ) / len(pairs)
    for k in range(1, classes + 1):
        right = sum(y in ranking(s)[:k] for s, y in pairs)
        assert after(TopK(k), given).values() == {f"top{k}_accuracy": right / len(pairs)}


@given(st.integers(0, 10**6), st.integers(2, 5), sizes)
def test_confusion_matrix_precision_and_recall(seed: int, classes: int, sizes: list[int]) -> None:
    given = batches(seed, classes, sizes)
    table = [[0] * classes for _ in range(classes)]
    for scores, labels in given:
        for s, y in zip(scores, labels, strict=True):
            table[y][ranking(s)[0]] += 1
    found = after(ConfusionMatrix(classes), given)
    assert found.matrix.tolist() == table
    columns = list(zip(*table, strict=True))
    for shares, sums in ((found.precision(), columns), (found.recall(), table)):
        for k, counts in enumerate(sums):
            if sum(counts):
                assert shares[k] == pytest.approx(table[k][k] / sum(counts), abs=1e-15)
            else:
                assert np.isnan(shares[k])
    known = [p for p in found.precision() if p == p]
    assert found.values()["precision"] == pytest.approx(sum(known) / len(known))


def test_S2_23_top_1_and_top_5_error_of_1000_classes() -> None:
    """Of four images the right class is ranked 1st, 2nd, 5th and 6th: errors 3/4 and 1/4."""
    scores = np.tile(np.linspace(1, 0, 1000, dtype=np.float32), (4, 1))
    given = [(scores, np.array([0, 1, 4, 5]))]
    assert 1 - after(TopK(1), given).values()["top1_accuracy"] == 0.75
    assert 1 - after(TopK(5), given).values()["top5_accuracy"] == 0.25
    assert after(Accuracy(), given).values() == {"accuracy": 0.25}


def test_S4_15_equal_mean_loss_and_different_accuracy() -> None:
    """Right or wrong is decided sample by sample: the mean does not tell, the distribution does."""
    log = np.log

    def scores(p: list[float]) -> Any:  # of class 0, which is always right
        return np.array([[log(x), log(1 - x)] for x in p], np.float64)

    mean = -(log(0.9) * 3 + log(0.1)) / 4  # three sure and right, one sure and wrong
    one, two = scores([0.9, 0.9, 0.9, 0.1]), scores([np.exp(-mean)] * 4)
    labels = np.zeros(4, np.int64)
    found = [after(LossDistribution(), [(s, labels)]).values() for s in (one, two)]
    assert found[0]["loss_mean"] == pytest.approx(mean, rel=1e-12)
    assert found[1]["loss_mean"] == pytest.approx(mean, rel=1e-12)
    assert [after(Accuracy(), [(s, labels)]).values()["accuracy"] for s in (one, two)] == [0.75, 1]
    assert found[0]["loss_q50"] == pytest.approx(-log(0.9)) and found[0]["loss_q99"] > 2
    assert found[1]["loss_q50"] == pytest.approx(found[1]["loss_q99"])


def test_loss_distribution_over_batches() -> None:
    given = batches(3, 5, [4, 7, 1])
    metric = after(LossDistribution(quantiles=(0.0, 0.25, 1.0)), given)
    literal = [
        np.log(np.exp(s.astype(np.float64)).sum()) - s[y]
        for scores, labels in given
        for s, y in zip(scores, labels, strict=True)
    ]
    np.testing.assert_allclose(metric.losses, literal, rtol=1e-5)
    found = metric.values()
    assert list(found) == ["loss_mean", "loss_q0", "loss_q25", "loss_q100"]
    inner = sorted(literal)  # 12 losses: the lower quarter ends at position 0.25 · 11 = 2.75
    assert found["loss_q25"] == pytest.approx(0.25 * inner[2] + 0.75 * inner[3], rel=1e-5)
    pixels = LossDistribution(F.mse_loss, quantiles=(0.5,))
    pixels.update(tg.zeros(2, 3, 2), tg.tensor(np.stack([np.ones((3, 2)), np.full((3, 2), 2.0)])))
    assert pixels.losses.tolist() == [1, 4]


def test_accuracy_of_one_score_and_of_one_hot_targets() -> None:
    metric = Accuracy()
    metric.update(tg.tensor([[2.0], [-1.0], [0.5], [-3.0]]), tg.tensor([1.0, 0.0, 0.0, 1.0]))
    assert metric.values() == {"accuracy": 0.5}
    metric.reset()
    metric.update(tg.tensor([2.0, -1.0]), tg.tensor([1, 0]))
    assert metric.values() == {"accuracy": 1.0}
    metric.reset()
    hot = tg.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    metric.update(tg.tensor([[0.1, 0.9, 0.3], [0.1, 0.9, 0.3]]), hot)
    assert metric.values() == {"accuracy": 0.5}


def test_top_k_counts_a_nan_as_wrong() -> None:
    metric = TopK(1)
    metric.update(tg.tensor([[float("nan"), 1.0]]), tg.tensor([0]))
    assert metric.values() == {"top1_accuracy": 0.0}


@pytest.mark.parametrize(
    "metric", [Accuracy(), TopK(2), ConfusionMatrix(5), LossDistribution()],
    ids=lambda m: type(m).__name__,
)  # fmt: skip
def test_a_saved_metric_goes_on(metric: Metric, tmp_path: Any) -> None:
    given = batches(5, 5, [3, 8, 2])
    whole = after(metric, given).values()
    metric.reset()
    assert metric.values() == {}
    after(metric, given[:1])
    tg.save(metric.state_dict(), tmp_path / "metric")
    metric.reset()
    metric.load_state_dict(tg.load(tmp_path / "metric"))
    assert after(metric, given[1:]).values() == whole


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TopK(0), "k of at least 1, received 0"),
        (lambda: ConfusionMatrix(1), "at least 2 classes, received 1"),
        (lambda: LossDistribution(quantiles=(50,)), r"quantiles from 0 to 1, received \(50,\)"),
        (lambda: after(TopK(6), batches(0, 5, [2])), "k of at most 5, received 6"),
        (lambda: after(ConfusionMatrix(4), batches(0, 5, [2])), r"scores of 4 classes, .*\(2, 5\)"),
        (
            lambda: after(TopK(1), [(np.zeros((2, 3)), np.zeros((2, 3)))]),
            r"TopK: expected scores \(N, K\) and class numbers \(N,\), received \(2, 3\) and",
        ),
        (
            lambda: after(Accuracy(), [(np.zeros((2, 3, 4)), np.zeros(2))]),
            r"Accuracy: expected scores .* received \(2, 3, 4\) with \(2,\)",
        ),
    ],
)  # fmt: skip
def test_wrong_use_of_a_metric(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
