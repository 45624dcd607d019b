"""The Trainer: the loop one would write, its callbacks, and training that goes on after a kill."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import tinygrad_cnn as tg
from tinygrad_cnn import nn, optim
from tinygrad_cnn.backend import get_backend, set_backend
from tinygrad_cnn.data import DataLoader, TensorDataset
from tinygrad_cnn.nn import functional as F
from tinygrad_cnn.optim import lr_scheduler
from tinygrad_cnn.train import (
    Accuracy,
    ActivationStatistics,
    Callback,
    Checkpoint,
    ConfusionMatrix,
    CSVLog,
    EarlyStopping,
    GradientStatistics,
    KeepBest,
    MetricsLog,
    Progress,
    RequestError,
    Schedule,
    StopAfter,
    TensorBoard,
    TimeEstimate,
    Trainer,
    evaluating,
    freeze,
    unfreeze,
)
from tinygrad_cnn.train.callbacks.estimate import duration
from tinygrad_cnn.train.loop import Loop

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def numpy_backend() -> Iterator[None]:
    before = get_backend().name
    set_backend("numpy")
    yield
    set_backend(before)


DRAW = np.random.default_rng(0)
X = DRAW.standard_normal((26, 4)).astype(np.float32)
Y = (X.sum(1) > 0).astype(np.int64)


def loader(batch_size: int = 8, shuffle: bool = True, **options: Any) -> DataLoader:
    return DataLoader(TensorDataset(X, Y), batch_size, shuffle=shuffle, seed=3, **options)


def small(seed: int = 0, *middle: nn.Module) -> nn.Sequential:
    tg.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), *middle, nn.Linear(6, 2))


def trainer(model: nn.Module | None = None, lr: float = 0.1, **options: Any) -> Trainer:
    model = model or small()
    optimizer = optim.SGD(model.parameters(), lr, 0.9)
    return Trainer(model, optimizer, F.cross_entropy, **options)


def weights(model: nn.Module) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in model.state_dict().items()}


class Record(Callback):
    """Notes what is called, and the numbers that are logged."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.logged: list[dict[str, Any]] = []
        self.said: list[str] = []

    def on_begin(self, loop: Loop) -> None:
        self.calls.append("begin")

    def on_epoch_begin(self, loop: Loop) -> None:
        self.calls.append("epoch")

    def on_step(self, loop: Loop) -> None:
        self.calls.append(f"step {loop.step}")

    def on_log(self, loop: Loop, numbers: Any) -> None:
        self.logged.append(dict(numbers))

    def on_message(self, loop: Loop, line: str) -> None:
        self.said.append(line)

    def on_epoch_end(self, loop: Loop) -> None:
        self.calls.append("epoch end")

    def on_pause(self, loop: Loop) -> None:
        self.calls.append("pause")

    def on_end(self, loop: Loop) -> None:
        self.calls.append("end")


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


def endless(taken: list[int]) -> Iterator[tuple[tg.Tensor, tg.Tensor]]:
    for i in count():
        taken.append(i)
        yield tg.tensor(X[i % 20 : i % 20 + 4]), tg.tensor(Y[i % 20 : i % 20 + 4])


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


# -- killed and resumed ------------------------------------------------------------------------
SCRIPT = """
import os, signal, sys
import numpy as np
import tinygrad_cnn as tg
from tinygrad_cnn import nn, optim
from tinygrad_cnn.data import DataLoader, RandomHorizontalFlip, TensorDataset
from tinygrad_cnn.nn import functional as F
from tinygrad_cnn.train import *

class Kill(Callback):
    last = True
    def on_step(self, loop):
        if loop.step == kill:
            os.kill(os.getpid(), signal.SIGKILL)

out, kill, resume = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "resume"
tg.set_backend("numpy")
tg.manual_seed(0)
draw = np.random.default_rng(0)
images = draw.standard_normal((30, 1, 4, 4)).astype(np.float32)
labels = (images[:, 0, :, :2].mean((1, 2)) > 0).astype(np.int64)
data = TensorDataset(images, labels)
model = nn.Sequential(
    nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3),
    nn.Linear(12, 2),
)
optimizer = optim.Adam(model.parameters(), 0.02)
trainer = Trainer(
    model, optimizer, F.cross_entropy, metrics=[Accuracy(), ConfusionMatrix(2), LossDistribution()],
    scheduler=optim.ReduceLROnPlateau(optimizer, patience=0, threshold=0.1),
    callbacks=[
        Schedule(optim.StepLR(optimizer, 3, 0.9), every="batch"),
        EarlyStopping("val_loss", patience=2, min_delta=0.02),
        KeepBest(f"{out}/best.safetensors", "val_accuracy", "max"),
        GradientStatistics(every=3), ActivationStatistics(every=4),
        MetricsLog(f"{out}/metrics.jsonl", every=2), CSVLog(f"{out}/epochs.csv"),
        Checkpoint(f"{out}/checkpoint.safetensors", every=2), Kill(),
    ],
)
train = DataLoader(data, 4, shuffle=True, seed=5, transform=RandomHorizontalFlip())
trainer.fit(train, epochs=6, validation=DataLoader(data, 30), steps_per_epoch=7, resume=resume)
"""


def table_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def clockless(folder: Path) -> tuple[list[Any], list[Any]]:
    lines = [json.loads(s) for s in (folder / "metrics.jsonl").read_text().splitlines()]
    table = table_of(folder / "epochs.csv")
    for line in [*lines, *table]:
        line.pop("images_per_second", None)
    return lines, table


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_S1_26_killed_at_any_step_and_resumed_to_the_same_bits(tmp_path: Path) -> None:
    """Batch norm, dropout, flips, two schedules, metrics, best weights: nothing may differ."""

    def run(name: str, kill: int, mode: str) -> int:
        arguments = [sys.executable, "-c", SCRIPT, str(tmp_path / name), str(kill), mode]
        return subprocess.run(arguments, cwd=tmp_path).returncode

    assert run("whole", 0, "new") == 0
    expected = clockless(tmp_path / "whole")
    assert len(expected[1]) >= 4  # epochs
    # in the middle of the first epoch, at its end, then twice in a row
    for name, kills in (("early", [3]), ("end", [7]), ("twice", [10, 25])):
        for i, kill in enumerate(kills):
            assert run(name, kill, "resume" if i else "new") == -signal.SIGKILL
        assert run(name, 0, "resume") == 0
        assert clockless(tmp_path / name) == expected
        for file in ("checkpoint.safetensors", "best.safetensors"):
            one, two = (load_file(tmp_path / folder / file) for folder in ("whole", name))
            assert list(one) == list(two) and len(one) >= 9
            for key in one:
                assert one[key].tobytes() == two[key].tobytes(), (file, key)


@pytest.mark.parametrize("step", [2, 4, 5])
def test_ctrl_c_saves_at_once(step: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    class Press(Callback):
        def on_step(self, loop: Loop) -> None:
            if loop.step == step:
                signal.raise_signal(signal.SIGINT)

    whole = trainer()
    whole.fit(loader(), epochs=3)
    path = tmp_path / "checkpoint.safetensors"
    with pytest.raises(SystemExit) as stopped:
        trainer(callbacks=[Progress(), Checkpoint(path), Press()]).fit(loader(), epochs=3)
    assert stopped.value.code == 130
    captured = capfd.readouterr()
    assert "stopping after this step" in captured.err
    assert captured.out.splitlines()[-1] == (
        f"interrupted after step {step}: saved {path}; call fit with resume=True to continue"
    )
    resumed = trainer(small(7), callbacks=[Checkpoint(path)])
    results = resumed.fit(loader(), epochs=3, resume=True)
    assert weights(resumed.model) == weights(whole.model)
    assert len(results) == 3


def test_a_resumed_generator_is_read_up_to_where_it_was(tmp_path: Path) -> None:
    """What has no state of its own is made again by the program, and then passed over."""
    whole = trainer()
    whole.fit(endless([]), epochs=2, steps_per_epoch=5)
    path = tmp_path / "checkpoint"
    stop = [StopAfter(7), Checkpoint(path)]
    trainer(callbacks=stop).fit(endless([]), epochs=2, steps_per_epoch=5)
    resumed = trainer(small(1), callbacks=[Checkpoint(path)])
    resumed.fit(endless([]), epochs=2, steps_per_epoch=5, resume=True)
    assert weights(resumed.model) == weights(whole.model)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps_per_epoch": 3}, "expected 3 steps an epoch, received 4"),
        ({"model": nn.Sequential(nn.Linear(4, 2))}, "is of another model: load_state_dict"),
        ({"batch_size": 5}, "is of another loader: DataLoader state: expected batch_size=5"),
        ({"settings": {"lr": 1}}, "resume: expected lr = 2 as in .* received 1; give --lr 2"),
    ],
)
def test_what_cannot_be_resumed(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    trainer(callbacks=[Checkpoint(path, settings={"lr": 2})]).fit(loader())
    settings = change.pop("settings", {})
    batches = loader(change.pop("batch_size", 8))
    steps = change.pop("steps_per_epoch", 4)
    with pytest.raises(RequestError, match=message):
        trainer(**change, callbacks=[Checkpoint(path, settings=settings)]).fit(
            batches, steps_per_epoch=steps, resume=True
        )


def test_nothing_to_resume(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="expected a Checkpoint among the callbacks"):
        trainer().fit(loader(), resume=True)
    with pytest.raises(RequestError, match="nothing to resume: .*nowhere does not exist$"):
        trainer(callbacks=[Checkpoint(tmp_path / "nowhere")]).fit(loader(), resume=True)


# -- callbacks ---------------------------------------------------------------------------------
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
    table = table_of(files[1])
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
            "the training data ended after 3 batches, expected 4: 2 epochs of 2 steps",
        ),
        (ValueError, lambda t: t.fit([]), "received 1 epochs of 0 steps"),
        (ValueError, lambda t: t.fit([PAIR], epochs=0), "received 0 epochs of 1 steps"),
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


def test_S1_16_the_demo_numbers_its_steps() -> None:
    """Imports, settings, data, model, loss, gradient, optimiser, metrics, checkpoint, validation:
    each a call of its own, in this order, on less than 80 lines."""
    text = (ROOT / "demos" / "train_lenet.py").read_text(encoding="utf-8")
    names = ("imports", "settings", "data", "model", "loss", "gradient", "optimiser", "metrics",
             "checkpoint", "validation")  # fmt: skip
    places = [text.find(f"{number}. {name}") for number, name in enumerate(names)]
    assert -1 not in places and places == sorted(places)
    assert len(text.splitlines()) < 80
