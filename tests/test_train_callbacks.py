"""Callbacks: what each notes, writes and decides."""

from __future__ import annotations

import csv
import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_training import Record, X, Y, loader, small, trainer, weights

import tinygrad_cnn as tg
from tinygrad_cnn import nn, optim
from tinygrad_cnn.nn import functional as F
from tinygrad_cnn.optim import lr_scheduler
from tinygrad_cnn.train import (
    Accuracy,
    ActivationStatistics,
    Callback,
    Checkpoint,
    CSVLog,
    EarlyStopping,
    GradientStatistics,
    KeepBest,
    MetricsLog,
    RequestError,
    Schedule,
    StopAfter,
    TensorBoard,
    TimeEstimate,
    Trainer,
)
from tinygrad_cnn.train.callbacks.estimate import duration
from tinygrad_cnn.train.loop import Loop

pytestmark = pytest.mark.usefixtures("numpy_backend")


class Scripted(Trainer):
    """Its validation gives these values one after the other."""

    script: Iterator[float]

    def evaluate(self, loader: Any, steps: int | None = None) -> dict[str, float]:
        return {"loss": next(self.script)}


def scripted(values: list[float], *callbacks: Callback, lr: float = 0.1) -> Scripted:
    model = small()
    optimizer = optim.SGD(model.parameters(), lr)
    made = Scripted(model, optimizer, F.cross_entropy, callbacks=callbacks)
    made.script = iter(values)
    return made


class Weights(Callback):
    """The weights after every epoch."""

    def __init__(self) -> None:
        self.epochs: list[dict[str, bytes]] = []

    def on_epoch_end(self, loop: Loop) -> None:
        self.epochs.append(weights(loop.parts["model"]))


NAN = float("nan")


@pytest.mark.parametrize(
    ("values", "patience", "min_delta", "mode", "epochs", "best"),
    [
        ([3, 2, 1, 1, 1.5, 0], 2, 0, "min", 5, 3),
        ([3, 2, 2.5, 1, 1.5, 1.2], 2, 0, "min", 6, 4),
        ([3, 2.9, 2.8, 2.7, 2, 9], 3, 0.5, "min", 4, 1),
        ([1, NAN, NAN, 5, 0, 0], 2, 0, "min", 3, 1),
        ([1, 3, 2, 4, 0, 0], 2, 0, "max", 6, 4),
        ([6, 5, 4, 3, 2, 1], 1, 0, "min", 6, 6),
    ],
)
def test_early_stopping(
    values: list[float], patience: int, min_delta: float, mode: str, epochs: int, best: int
) -> None:
    seen = Weights()
    stopping = EarlyStopping("val_loss", patience, mode, min_delta)
    made = scripted(values, seen, stopping)
    assert len(made.fit(loader(), epochs=6, validation=[])) == epochs
    assert stopping.best_epoch == best and stopping.best == values[best - 1]
    assert weights(made.model) == seen.epochs[best - 1]
    kept = scripted(values, EarlyStopping("val_loss", patience, mode, min_delta, False))
    kept.fit(loader(), epochs=6, validation=[])
    assert weights(kept.model) == seen.epochs[epochs - 1]


def test_early_stopping_says_why_and_stays_stopped(tmp_path: Path) -> None:
    record, path = Record(), tmp_path / "checkpoint"
    made = scripted([1, 2, 3, 4], EarlyStopping(patience=1), Checkpoint(path), record)
    assert len(made.fit(loader(), epochs=4, validation=[])) == 2
    assert "stopped early: no better val_loss than 1 of epoch 1 in 1 epochs" in record.said
    again = scripted([0, 0], EarlyStopping(patience=1), Checkpoint(path))
    assert len(again.fit(loader(), epochs=4, validation=[], resume=True)) == 2
    assert weights(again.model) == weights(made.model)


def test_a_second_fit_begins_anew() -> None:
    made = scripted([1, 2, 0.5, 2, 3], EarlyStopping(patience=1), TimeEstimate(1, least=0))
    record = Record()
    made.callbacks.append(record)
    for epochs in (2, 2):
        assert len(made.fit(loader(), epochs=9, validation=[])) == epochs
    assert sum("to go" in line for line in record.said) == 2


def test_an_error_at_the_beginning_leaves_nothing_behind() -> None:
    handler, record = signal.getsignal(signal.SIGINT), Record()
    with pytest.raises(AttributeError, match="no child 'c9'"):
        trainer(callbacks=[ActivationStatistics(["0", "c9"]), record]).fit(loader())
    assert signal.getsignal(signal.SIGINT) is handler and record.calls == ["end"]


def test_a_pause_does_not_restore_the_best_weights(tmp_path: Path) -> None:
    values = [1.0, 2.0, 0.5, 3.0]
    whole = scripted(values, EarlyStopping(patience=3))
    whole.fit(loader(), epochs=4, validation=[])
    path = tmp_path / "checkpoint"
    scripted(values, EarlyStopping(patience=3), StopAfter(8), Checkpoint(path)).fit(
        loader(), epochs=4, validation=[]
    )
    resumed = scripted(values[2:], EarlyStopping(patience=3), Checkpoint(path))
    resumed.fit(loader(), epochs=4, validation=[], resume=True)
    assert weights(resumed.model) == weights(whole.model)


def test_the_best_model_is_kept(tmp_path: Path) -> None:
    seen, path = Weights(), tmp_path / "best"
    made = scripted([3, 1, 2], seen, KeepBest(path))
    made.fit(loader(), epochs=3, validation=[])
    other = small(5)
    other.load_state_dict(tg.load(path))
    assert weights(other) == seen.epochs[1] != seen.epochs[2]


def test_schedules_by_epoch_and_by_batch() -> None:
    rates: list[float] = []

    class Rates(Callback):
        def on_step(self, loop: Loop) -> None:
            rates.append(loop.parts["optimizer"].param_groups[0]["lr"])

    for every, expected in (
        ("epoch", [1.0] * 4 + [0.5] * 4),
        ("batch", [0.5**n for n in range(8)]),
    ):
        rates.clear()
        made = trainer(lr=1.0)
        schedule = Schedule(lr_scheduler.StepLR(made.optimizer, 1, 0.5), every)
        made.callbacks = [Rates(), schedule]
        made.fit(loader(), epochs=2)
        assert rates == expected
    made = scripted([1, 2, 3, 4], lr=1.0)
    plateau = lr_scheduler.ReduceLROnPlateau(made.optimizer, factor=0.1, patience=1)
    made.callbacks = [Schedule(plateau)]
    made.fit(loader(), epochs=4, validation=[])
    assert made.optimizer.param_groups[0]["lr"] == pytest.approx(0.1)


def test_tables_of_metrics(tmp_path: Path) -> None:
    files = [tmp_path / "metrics.jsonl", tmp_path / "epochs.csv"]
    callbacks = [MetricsLog(files[0], every=3), CSVLog(files[1])]
    results = trainer(callbacks=callbacks, metrics=[Accuracy()]).fit(
        loader(), epochs=2, validation=loader()
    )
    lines = [json.loads(line) for line in files[0].read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 4, 4, 7, 8]
    assert [line for line in lines if "epoch" in line] == results
    table = list(csv.DictReader(files[1].read_text().splitlines()))
    assert [list(row) for row in table] == [list(results[0])] * 2
    assert [{k: float(v) for k, v in row.items()} for row in table] == results


def test_tensorboard_reads_what_was_logged(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    path, folder = tmp_path / "checkpoint", tmp_path / "board"
    made = trainer(callbacks=[TensorBoard(folder, every=3), Checkpoint(path), StopAfter(6)])
    made.fit(loader(), epochs=3, validation=loader())
    record = Record()
    made = trainer(callbacks=[TensorBoard(folder, every=3), Checkpoint(path), record])
    results = made.fit(loader(), epochs=3, validation=loader(), resume=True)
    events = accumulator.EventAccumulator(str(folder))
    events.Reload()
    read = {tag: events.Scalars(tag) for tag in events.Tags()["scalars"]}
    assert {"loss", "train_loss", "val_loss", "images_per_second"} == set(read)
    assert [e.step for e in read["loss"]] == [1, 4, 7, 10]
    assert [e.step for e in read["val_loss"]] == [4, 6, 8, 12]  # also where it was stopped
    whole = [event for event in read["val_loss"] if event.step != 6]
    for event, result in zip(whole, results, strict=True):
        assert event.value == np.float32(result["val_loss"])


def test_tensorboard_without_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ImportError, match=r"pip install 'tinygrad-cnn\[tensorboard\]'"):
        TensorBoard(tmp_path)


def test_gradient_statistics() -> None:
    found: list[dict[str, float]] = []

    class Literal(Callback):
        def on_step(self, loop: Loop) -> None:
            found.append(
                {
                    f"model.{name}": sum(v * v for v in p.grad.reshape(-1).tolist()) ** 0.5
                    for name, p in loop.parts["model"].named_parameters()
                }
            )

    record, statistics = Record(), GradientStatistics(every=3)
    trainer(callbacks=[Literal(), statistics, record]).fit(loader(), epochs=2)
    logged = [line for line in record.logged if "epoch" not in line]
    assert [line.pop("step") for line in logged] == [1, 4, 7]
    assert set(logged[0]) == {f"gradient_norm/{name}" for name in found[0]}
    for line, step in zip(logged, (1, 4, 7), strict=True):
        for name, norm in found[step - 1].items():
            assert line[f"gradient_norm/{name}"] == pytest.approx(norm, rel=1e-6)
    assert list(statistics.latest) == list(found[0])


def test_activation_statistics_find_a_dead_unit_and_change_nothing() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 2), nn.ReLU(), nn.Flatten(), nn.Linear(4, 2))
    with tg.no_grad():
        model[0].bias[1] = -100.0  # never reaches 0
    start = {name: value.clone() for name, value in model.state_dict().items()}
    data = [(tg.tensor(X.reshape(26, 1, 2, 2)), tg.tensor(Y))] * 3
    record, statistics = Record(), ActivationStatistics(["1", "3"], every=2)
    trainer(model, callbacks=[statistics, record]).fit(data, epochs=1, validation=data)
    after = weights(model)
    logged = [line for line in record.logged if "epoch" not in line]
    assert [line["step"] for line in logged] == [1, 3]
    model.load_state_dict(start)
    output = F.relu(model[0](data[0][0])).detach().numpy()
    assert logged[0]["activation_mean/1"] == pytest.approx(output.mean(), rel=1e-6)
    assert logged[0]["activation_std/1"] == pytest.approx(output.std(), rel=1e-6)
    dead = [all(v == 0 for v in output[:, k].reshape(-1)) for k in range(4)]
    assert logged[0]["dead/1"] == sum(dead) / 4 >= 0.25
    assert logged[0]["dead/3"] == 0 and not model[1]._hooks.after
    trainer(model).fit(data, epochs=1)
    assert weights(model) == after


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.2, "0 s"), (45, "45 s"), (60, "1 min"), (125.4, "2 min 5 s"), (3599.9, "1 h"),
        (12000, "3 h 20 min"), (7195, "2 h"), (86400, "1 day"), (187200, "2 days 4 h"),
    ],
)  # fmt: skip
def test_durations(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_S3_6_the_first_batches_tell_how_long_it_will_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A clock that gains 2 s a step, of which one step spends 10 s in the compiler."""
    now = 0.0
    monkeypatch.setattr("tinygrad_cnn.train.loop.time.perf_counter", lambda: now)

    class Slow(Callback):
        def on_step(self, loop: Loop) -> None:
            nonlocal now
            now += 2.0
            if loop.step == 1:
                loop._compiled("conv", 10.0)
                now += 10.0

    record = Record()
    trainer(callbacks=[Slow(), TimeEstimate(steps=3), record]).fit(loader(), epochs=100)
    told = [line for line in record.said if "to go" in line]
    assert told == ["about 13 min 14 s to go, at 2 s a step, validation not counted"]  # 397 steps
    quiet = Record()
    trainer(callbacks=[Slow(), TimeEstimate(steps=3, least=800), quiet]).fit(loader(), epochs=100)
    assert not [line for line in quiet.said if "to go" in line]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EarlyStopping(mode="lowest"), 'expected mode "min" or "max", received \'lowest\''),
        (lambda: EarlyStopping(patience=0), "patience of at least 1, received 0"),
        (lambda: EarlyStopping(min_delta=-1), "min_delta of at least 0, received -1"),
        (lambda: Schedule(None), r"scheduler with step\(\), received NoneType"),
        (lambda: Schedule(Accuracy(), "step"), 'every="epoch" or "batch", received \'step\''),
        (lambda: Trainer(1, 2, F.cross_entropy), "Module and an Optimizer, received int and int"),
    ],
)
def test_wrong_arguments(make: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        make()


@pytest.mark.parametrize("make", [EarlyStopping, KeepBest])
def test_a_number_that_does_not_exist(make: Any, tmp_path: Path) -> None:
    callback = make(tmp_path / "best", "val_los") if make is KeepBest else make("val_los")
    with pytest.raises(RequestError, match="one of train_loss, val_loss, .*received 'val_los'"):
        trainer(callbacks=[callback]).fit(loader(), validation=loader())
