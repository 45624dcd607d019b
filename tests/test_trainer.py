"""The Trainer: the loop one would write, on any batches, and layers that it leaves alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_training import Record, X, Y, endless, loader, small, trainer, weights

import tinygrad_cnn as tg
from tinygrad_cnn import nn, optim
from tinygrad_cnn.nn import functional as F
from tinygrad_cnn.optim import lr_scheduler
from tinygrad_cnn.train import (
    Accuracy,
    ConfusionMatrix,
    Trainer,
    evaluating,
    freeze,
    unfreeze,
)

pytestmark = pytest.mark.usefixtures("numpy_backend")
ROOT = Path(__file__).resolve().parents[1]


# -- fit, evaluate, predict --------------------------------------------------------------------
def test_fit_is_the_loop_one_would_write() -> None:
    model = small(0, nn.Dropout(0.5))
    optimizer = optim.SGD(model.parameters(), 0.1, 0.9)
    scheduler = lr_scheduler.StepLR(optimizer, 1, 0.5)
    expected = []
    batches, test = loader(), loader(10, shuffle=False)
    for _ in range(3):
        model.train()
        total = right = 0.0
        for x, y in batches:
            logits = model(x)
            loss = F.cross_entropy(logits, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(y)
            right += int((logits.argmax(1) == y).sum())
        scheduler.step()
        model.eval()
        with tg.no_grad():
            val = sum(F.cross_entropy(model(x), y).item() * len(y) for x, y in test) / 26
        expected.append((total / 26, right / 26, val))

    other = small(0, nn.Dropout(0.5))
    optimizer = optim.SGD(other.parameters(), 0.1, 0.9)
    fitted = Trainer(
        other, optimizer, F.cross_entropy, metrics=[Accuracy()],
        scheduler=lr_scheduler.StepLR(optimizer, 1, 0.5),
    )  # fmt: skip
    results = fitted.fit(loader(), epochs=3, validation=loader(10, shuffle=False))
    found = [(r["train_loss"], r["train_accuracy"], r["val_loss"]) for r in results]
    assert found == expected
    assert weights(other) == weights(model)
    assert [(r["epoch"], r["step"]) for r in results] == [(1, 4), (2, 8), (3, 12)]


def test_S4_6_a_generator_is_asked_for_exactly_these_batches() -> None:
    """``fit(generator, steps_per_epoch=, validation_steps=)``, as the notes' fit_generator."""
    train, validation = list[int](), list[int]()
    results = trainer().fit(
        endless(train), epochs=3, steps_per_epoch=5,
        validation=endless(validation), validation_steps=2,
    )  # fmt: skip
    assert train == list(range(15)) and validation == list(range(6))
    assert [r["step"] for r in results] == [5, 10, 15]


@pytest.mark.parametrize(("steps", "epochs"), [(3, 5), (10, 2), (4, 2)])
def test_epochs_of_another_length_than_the_loader(steps: int, epochs: int) -> None:
    """Batches come as from one endless stream of the loader's epochs."""
    stream = loader()
    expected = [x.tolist() for _ in range(5) for x, _ in stream][: steps * epochs]
    seen: list[Any] = []

    class Seeing(Trainer):
        def step(self, batch: Any) -> Any:
            seen.append(batch[0].tolist())
            return super().step(batch)

    model = small()
    Seeing(model, optim.SGD(model.parameters(), 0.1), F.cross_entropy).fit(
        loader(), epochs=epochs, steps_per_epoch=steps
    )
    assert seen == expected


def test_evaluate_and_predict() -> None:
    model = small(1, nn.Dropout(0.5), nn.BatchNorm1d(6))
    model.train()
    model[3].eval()
    confusion = ConfusionMatrix(2)
    fitted = trainer(model, metrics=[Accuracy(), confusion])
    before = weights(model)
    found = fitted.evaluate(loader(5))
    predicted = fitted.predict(loader(5, shuffle=False))
    assert weights(model) == before
    assert [m.training for m in model] == [True, True, True, False, True]
    with evaluating(model):
        logits = model(tg.tensor(X))
    np.testing.assert_allclose(predicted.numpy(), logits.numpy(), rtol=1e-6)
    assert not predicted.requires_grad
    assert found["loss"] == pytest.approx(F.cross_entropy(logits, tg.tensor(Y)).item(), rel=1e-6)
    classes = logits.numpy().argmax(1)
    assert found["accuracy"] == (classes == Y).mean()
    assert confusion.matrix.sum() == 26  # the object given holds what evaluate collected
    assert confusion.matrix[1, 0] == ((Y == 1) & (classes == 0)).sum()
    inputs = [tg.tensor(X[:3]), tg.tensor(X[3:5])]
    np.testing.assert_array_equal(fitted.predict(inputs).numpy(), logits.numpy()[:5])
    assert len(fitted.predict(inputs, steps=1)) == 3


def test_several_validation_sets_by_name() -> None:
    sets = {"clean": loader(), "noisy": [(tg.tensor(X + 1), tg.tensor(Y))]}
    (result,) = trainer(metrics=[Accuracy()]).fit(loader(), validation=sets)
    assert {"clean_loss", "clean_accuracy", "noisy_loss", "noisy_accuracy"} < set(result)


def test_moments_come_in_order() -> None:
    record = Record()
    trainer(callbacks=[record]).fit(loader(13), epochs=2)
    epoch = ["epoch", "step {}", "step {}", "epoch end"]
    expected = ["begin", *epoch, *epoch, "end"]
    steps = iter(range(1, 5))
    assert record.calls == [c.format(next(steps)) if "{" in c else c for c in expected]
    broken = Record()
    with pytest.raises(ZeroDivisionError):
        model = small()
        Trainer(
            model, optim.SGD(model.parameters(), 0.1), lambda *_: 1 / 0, callbacks=[broken]
        ).fit(loader())
    assert broken.calls == ["begin", "epoch", "end"]


# -- frozen layers -----------------------------------------------------------------------------
def frozen_training(statistics: bool) -> tuple[nn.Sequential, dict[str, bytes]]:
    model = small(0, nn.BatchNorm1d(6))
    base = nn.Sequential(*list(model)[:3])
    freeze(base, statistics)
    before = weights(model)
    optimizer = optim.SGD(model.parameters(), 0.1, 0.9, weight_decay=0.1)
    Trainer(model, optimizer, F.cross_entropy).fit(loader(), epochs=2)
    return model, before


def test_S4_12_frozen_layers_keep_weights_and_statistics() -> None:
    model, before = frozen_training(True)
    changed = {name for name, value in weights(model).items() if value != before[name]}
    assert changed == {"3.weight", "3.bias"}
    assert all(p.grad is None for name, p in model.named_parameters() if not name.startswith("3"))


def test_S4_12_statistics_go_on_when_asked_and_thawed_layers_learn() -> None:
    model, before = frozen_training(False)
    changed = {name for name, value in weights(model).items() if value != before[name]}
    buffers = {"2.running_mean", "2.running_var", "2.num_batches_tracked"}
    assert changed == {"3.weight", "3.bias"} | buffers
    freeze(model)
    unfreeze(model)
    before = weights(model)
    trainer(model).fit(loader(), epochs=1)
    assert all(value != before[name] for name, value in weights(model).items())


# -- wrong use ---------------------------------------------------------------------------------
PAIR = (tg.tensor(X[:2], backend="numpy"), tg.tensor(Y[:2], backend="numpy"))


@pytest.mark.parametrize(
    ("kind", "act", "message"),
    [
        (ValueError, lambda t: t.fit(iter([PAIR])), "say with steps_per_epoch how many"),
        (
            ValueError, lambda t: t.fit(iter([PAIR] * 3), steps_per_epoch=2, epochs=2),
            "the training data ended after batch 3, expected 4: 2 epochs of 2 steps",
        ),
        (ValueError, lambda t: t.fit([]), "received 1 epoch of 0 steps; is a batch"),
        (ValueError, lambda t: t.fit([PAIR], epochs=0), "received 0 epochs of 1 step$"),
        (TypeError, lambda t: t.fit(3), "expected a loader of batches, received int"),
        (TypeError, lambda t: t.fit([PAIR[0]]), r"batches \(input, target\), received a Tensor"),
        (TypeError, lambda t: t.fit([(*PAIR, 1)]), r"received a tuple of 3; override"),
        (ValueError, lambda t: t.evaluate([PAIR] * 2, 3), "expected 3 batches, .* after 2"),
        (ValueError, lambda t: t.evaluate([]), "expected some batches, .* after 0"),
        (ValueError, lambda t: t.evaluate([PAIR], 0), "at least 1 step, received 0"),
    ],
)  # fmt: skip
def test_wrong_use_of_a_trainer(kind: type[Exception], act: Any, message: str) -> None:
    with pytest.raises(kind, match=message):
        act(trainer())


def test_S1_16_the_demo_numbers_its_steps() -> None:
    """Imports, settings, data, model, loss, gradient, optimiser, metrics, checkpoint, validation:
    each a call of its own, in this order, on less than 80 lines."""
    text = (ROOT / "demos" / "train_lenet.py").read_text(encoding="utf-8")
    names = ("imports", "settings", "data", "model", "loss", "gradient", "optimiser", "metrics",
             "checkpoint", "validation")  # fmt: skip
    places = [text.find(f"{number}. {name}") for number, name in enumerate(names)]
    assert -1 not in places and places == sorted(places)
    assert len(text.splitlines()) < 80
