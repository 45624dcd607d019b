"""Training that was killed or stopped goes on to the same bits."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file
from small_training import endless, loader, small, trainer, weights

from tinygrad_cnn import nn
from tinygrad_cnn.train import (
    Callback,
    Checkpoint,
    Progress,
    RequestError,
    StopAfter,
)
from tinygrad_cnn.train.loop import Loop

pytestmark = pytest.mark.usefixtures("numpy_backend")
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


def clockless(folder: Path) -> tuple[list[Any], list[Any]]:
    lines = [json.loads(s) for s in (folder / "metrics.jsonl").read_text().splitlines()]
    table = list(csv.DictReader((folder / "epochs.csv").read_text().splitlines()))
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
