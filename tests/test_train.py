"""Training runs: interrupted anywhere and resumed they give the bits of an uninterrupted one."""

from __future__ import annotations

import json
import os
import re
import runpy
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file
from small_training import write_digits

import tinygrad_cnn as tg
from tinygrad_cnn import cli
from tinygrad_cnn.backend import get_backend
from tinygrad_cnn.data import load_dataset
from tinygrad_cnn.train import (
    ClassifierConfig,
    Progress,
    RequestError,
    Run,
    TrainConfig,
    classify,
    load_config,
    train,
)
from tinygrad_cnn.train.loop import Loop

pytestmark = pytest.mark.usefixtures("same_backend_afterwards")
ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "demos" / "train_lenet.py"
STEPS = 7  # in an epoch: 200 images in batches of 32
EPOCHS = 3


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with 200 training and 50 test digits."""
    return write_digits(tmp_path_factory.mktemp("data"), training=200, test=50)


def settings(digits: Path, out: Path, **changes: Any) -> ClassifierConfig:
    given = {
        "dataset": "mnist", "data": str(digits), "backend": "numpy", "epochs": EPOCHS,
        "batch_size": 32, "out": str(out),
    }  # fmt: skip
    return ClassifierConfig(**{**given, **changes})


def options(config: TrainConfig) -> list[str]:
    names = ("dataset", "data", "backend", "epochs", "batch_size", "out", "steps", "lr")
    return [f"--{n.replace('_', '-')}={getattr(config, n)}" for n in names]


def lines(out: Path) -> list[dict[str, Any]]:
    """metrics.jsonl without what a clock decides, and the test loss, which the demo leaves out."""
    found = [json.loads(s) for s in (out / "metrics.jsonl").read_text().splitlines()]
    left_out = ("images_per_second", "test_loss")
    return [{k: v for k, v in line.items() if k not in left_out} for line in found]


def same_run(one: Path, two: Path) -> None:
    """Equal metrics, and equal bits of weights and momenta."""
    assert lines(one) == lines(two)
    a, b = (load_file(folder / "checkpoint.safetensors") for folder in (one, two))
    assert list(a) == list(b) and len(a) >= 20
    for name in a:
        assert a[name].tobytes() == b[name].tobytes(), name


@pytest.fixture(scope="module")
def whole(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """The uninterrupted run that others are compared with: its folder and test accuracy."""
    out = tmp_path_factory.mktemp("whole")
    return out, train(settings(digits, out))


DRIVER = """
import os, runpy, signal, sys
from tinygrad_cnn.train import Run
step, name, script = int(sys.argv[1]), sys.argv[2], sys.argv[3]
record = Run.record
def recorded(self, *arguments):
    record(self, *arguments)
    if self.step == step:
        for _ in range(2 if name == "twice" else 1):
            os.kill(os.getpid(), signal.SIGINT if name == "twice" else getattr(signal, name))
Run.record = recorded
sys.argv = sys.argv[3:]
runpy.run_path(script, run_name="__main__")
"""


def demo(config: TrainConfig, *more: str, kill: tuple[int, str] = (0, "")) -> Any:
    """The demo in a process of its own, which gets a signal after a step."""
    arguments = [str(kill[0]), kill[1], str(DEMO), *options(config), *more]
    return subprocess.run(
        [sys.executable, "-c", DRIVER, *arguments], capture_output=True, encoding="utf-8"
    )


# -- interrupted and resumed -------------------------------------------------------------------
posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")


@posix
@pytest.mark.parametrize("step", [STEPS + 1, 2 * STEPS, 3 * STEPS - 1])
def test_killed_and_resumed(
    step: int, digits: Path, whole: tuple[Path, float], tmp_path: Path
) -> None:
    config = settings(digits, tmp_path)
    assert demo(config, kill=(step, "SIGKILL")).returncode == -signal.SIGKILL
    assert max(line["step"] for line in lines(tmp_path)) > STEPS - 1
    resumed = demo(config, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert f"resuming after step {(step - 1) // STEPS * STEPS}" in resumed.stdout
    assert resumed.stdout.splitlines()[-1] == f"test accuracy: {whole[1]:.4f}"
    same_run(whole[0], tmp_path)


@posix
def test_killed_before_the_first_checkpoint(digits: Path, tmp_path: Path) -> None:
    config = settings(digits, tmp_path)
    demo(config, kill=(3, "SIGKILL"))
    resumed = demo(config, "--resume")
    assert resumed.returncode == 2
    assert resumed.stderr == (
        f"error: nothing to resume: {tmp_path / 'checkpoint.safetensors'} does not exist; "
        "start the run without --resume, or name its folder with --out\n"
    )


@posix
def test_ctrl_c_saves_at_once_and_says_how_to_resume(
    digits: Path, whole: tuple[Path, float], tmp_path: Path
) -> None:
    config = settings(digits, tmp_path)
    stopped = demo(config, kill=(STEPS + 3, "SIGINT"))
    assert stopped.returncode == 130
    assert "stopping after this step; Ctrl-C again stops at once" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert stopped.stdout.splitlines()[-1] == (
        f"interrupted after step {STEPS + 3}: saved {tmp_path / 'checkpoint.safetensors'}; "
        "add --resume to the same command to continue"
    )
    resumed = demo(config, "--resume")
    assert f"resuming after step {STEPS + 3}" in resumed.stdout
    assert resumed.stdout.splitlines()[-1] == f"test accuracy: {whole[1]:.4f}"
    same_run(whole[0], tmp_path)


@posix
def test_second_ctrl_c_stops_at_once(digits: Path, tmp_path: Path) -> None:
    stopped = demo(settings(digits, tmp_path), kill=(STEPS + 3, "twice"))
    assert stopped.returncode == 130
    assert "Traceback" not in stopped.stderr
    assert stopped.stdout.splitlines()[-1] == (
        f"stopped at once at step {STEPS + 3}; last checkpoint: "
        f"{tmp_path / 'checkpoint.safetensors'} is of step {STEPS}"
    )


@pytest.fixture(scope="module")
def whole_on(backend: str, digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As ``whole``, on every backend."""
    out = tmp_path_factory.mktemp(f"whole-{backend}")
    train(settings(digits, out, backend=backend))
    return out


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than training here."""
    monkeypatch.setattr(classify, "pictures", lambda *_: None)


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("step", [1, STEPS, STEPS + 4])
def test_interrupted_in_this_process(
    backend: str,
    whole_on: Path,
    step: int,
    digits: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As above, on every backend; also at the last step of an epoch."""
    record = Loop.record
    with monkeypatch.context() as patched:

        def recorded(self: Loop, *arguments: Any) -> None:
            record(self, *arguments)
            if self.step == step:
                signal.raise_signal(signal.SIGINT)

        patched.setattr(Loop, "record", recorded)
        handler = signal.getsignal(signal.SIGINT)
        with pytest.raises(SystemExit) as stopped:
            train(settings(digits, tmp_path, backend=backend))
        assert stopped.value.code == 130
        assert signal.getsignal(signal.SIGINT) is handler
    assert lines(tmp_path)[-1]["step"] <= step
    train(settings(digits, tmp_path, backend=backend, resume=True))
    same_run(whole_on, tmp_path)


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("steps", [4, STEPS, 2 * STEPS + 2])
def test_steps_end_a_run_that_can_go_on(
    steps: int, digits: Path, whole: tuple[Path, float], tmp_path: Path
) -> None:
    train(settings(digits, tmp_path, steps=steps))
    assert lines(tmp_path)[-1]["step"] == steps
    assert train(settings(digits, tmp_path, resume=True)) == whole[1]
    same_run(whole[0], tmp_path)


@pytest.mark.usefixtures("no_pictures")
def test_a_finished_run_resumed_does_nothing(
    digits: Path, whole: tuple[Path, float], tmp_path: Path
) -> None:
    first = train(settings(digits, tmp_path))
    assert train(settings(digits, tmp_path, resume=True)) == first == whole[1]
    same_run(whole[0], tmp_path)


@pytest.mark.usefixtures("no_pictures")
def test_a_line_cut_off_by_a_crash_is_dropped(
    digits: Path, whole: tuple[Path, float], tmp_path: Path
) -> None:
    train(settings(digits, tmp_path, steps=STEPS))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 11, "lo')
    train(settings(digits, tmp_path, resume=True))
    same_run(whole[0], tmp_path)


# -- what cannot be resumed --------------------------------------------------------------------
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": 0.1}, "expected lr = 0.03 as in .*, received 0.1; give --lr 0.03, or start a new"),
        ({"batch_size": 16}, "expected batch_size = 32 as in .* give --batch-size 32"),
        ({"seed": 1}, "expected seed = 0 as in "),
        (
            {"epochs": 5},
            "expected epochs = 3 as in .*, which its learning rates are planned for, received 5",
        ),
    ],
)
def test_other_settings(
    change: dict[str, Any], message: str, whole: tuple[Path, float], digits: Path
) -> None:
    with pytest.raises(RequestError, match=message):
        train(settings(digits, whole[0], resume=True, **change))


def test_another_model(digits: Path, whole: tuple[Path, float]) -> None:
    from tinygrad_cnn import nn, optim
    from tinygrad_cnn.data import DataLoader

    with tg.use_backend("numpy"):
        model = nn.Sequential(nn.Linear(3, 2))
    optimizer = optim.SGD(model.parameters(), 0.03, 0.9)
    with pytest.raises(RequestError) as caught:
        Run(
            settings(digits, whole[0], resume=True),
            model=model,
            optimizer=optimizer,
            loader=DataLoader(load_dataset("mnist", True, digits), 32, shuffle=True, seed=0),
        )
    shown = str(caught.value)
    assert shown.startswith(f"{whole[0] / 'checkpoint.safetensors'} is of another model: ")
    assert "missing keys: '0.weight', '0.bias'" in shown and "'c1.weight'" in shown


def test_a_file_that_is_no_checkpoint(digits: Path, tmp_path: Path) -> None:
    tg.save({"w": tg.ones(1)}, tmp_path / "checkpoint.safetensors")
    with pytest.raises(RequestError, match="is not the checkpoint of a training run"):
        train(settings(digits, tmp_path, resume=True))


# -- what a run writes and shows ---------------------------------------------------------------
def test_metrics(whole: tuple[Path, float]) -> None:
    found = lines(whole[0])
    steps = [line for line in found if set(line) == {"step", "loss"}]
    epochs = [line for line in found if "train_loss" in line]
    assert len(steps) + len(epochs) == len(found)
    assert [s["step"] for s in steps] == [1, 11, 21]
    assert [(e["epoch"], e["step"]) for e in epochs] == [(1, 7), (2, 14), (3, 21)]
    for e in epochs:
        assert set(e) == {
            "step", "epoch", "train_loss", "train_accuracy", "test_accuracy"
        }  # fmt: skip
        assert e["train_loss"] > 0 and 0 <= e["train_accuracy"] <= 1
    assert epochs[-1]["test_accuracy"] == whole[1]
    assert (whole[0] / "curves.png").read_bytes()[:4] == b"\x89PNG"
    assert (whole[0] / "misclassified.png").read_bytes()[:4] == b"\x89PNG"


def test_demo_and_command_give_the_same_run(
    digits: Path, whole: tuple[Path, float], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = demo(settings(digits, tmp_path / "demo")).stdout
    same_run(whole[0], tmp_path / "demo")
    file = tmp_path / "lenet.toml"
    file.write_text(f'dataset = "mnist"\nbackend = "numpy"\nepochs = {EPOCHS}\nlr = 0.5\n')
    config = settings(digits, tmp_path / "command")
    assert cli.main(["train", str(file), *options(config)]) == 0  # options come before the file
    same_run(whole[0], tmp_path / "command")

    def comparable(text: str) -> list[str]:
        text = re.sub(r"[\d,]+ images/s", "… images/s", text)
        text = re.sub(r"test loss \d\.\d{4}  ", "", text)
        return [s.replace(str(tmp_path / "command"), "OUT") for s in text.splitlines()]

    assert comparable(capsys.readouterr().out) == comparable(
        shown.replace(str(tmp_path / "demo"), str(tmp_path / "command"))
    )
    assert shown.splitlines()[-1] == f"test accuracy: {whole[1]:.4f}"


def test_plain_lines_where_there_is_no_terminal(digits: Path, tmp_path: Path) -> None:
    shown = demo(settings(digits, tmp_path)).stdout
    assert "\x1b" not in shown and "\r" not in shown
    first, *epochs = shown.splitlines()[: EPOCHS + 1]
    assert re.fullmatch(rf"numpy with \d+ threads?: 3 epochs of 7 steps, writing {tmp_path}", first)
    for number, line in enumerate(epochs, 1):
        assert re.fullmatch(
            rf"epoch   {number}  train loss \d\.\d{{4}}  train accuracy [01]\.\d{{4}}  "
            r"test accuracy [01]\.\d{4}  [\d,]+ images/s",
            line,
        )


@posix
def test_bar_on_a_terminal(digits: Path, tmp_path: Path) -> None:
    import pty

    ours, its = pty.openpty()
    child = subprocess.Popen(
        # 200 steps an epoch: the bar is drawn ten times a second
        [sys.executable, str(DEMO), *options(settings(digits, tmp_path, batch_size=1, lr=0.001))],
        stdin=its, stdout=its, stderr=its,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "PYTHONIOENCODING": "utf-8"},
    )  # fmt: skip
    os.close(its)
    received = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # Linux's way of saying that the other end is closed
            break
        if not part:
            break
        received += part
    os.close(ours)
    assert child.wait() == 0
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", received.decode()).replace("\r", "\n")
    bar = re.compile(
        r"epoch \d/3 [━╸╺ ]+ +\d+/200 loss \d\.\d{4}  accuracy [01]\.\d{4}  [\d,]+ images/s [-\d:]+"
    )
    bars = bar.findall(shown)
    assert bars and max(map(len, bars)) <= 80
    assert shown.rstrip().splitlines()[-1].startswith("test accuracy: ")


def test_compiling_is_said_once_and_timed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    listeners: list[Any] = []
    monkeypatch.setattr(
        get_backend(), "on_compile",
        lambda listener: listeners.append(listener) or listeners.clear, raising=False,
    )  # fmt: skip
    with Loop([1], {}, epochs=1, callbacks=[Progress()]) as loop:
        for kernel in ("conv", "pool"):
            listeners[0](kernel, None)
            listeners[0](kernel, 1.5)
    assert loop.compiling == pytest.approx(3.0)
    assert listeners == []
    assert capsys.readouterr().out.splitlines()[1:] == [
        "compiling kernels for this processor (first run only; they are kept) …"
    ]


# -- settings ----------------------------------------------------------------------------------
def test_the_bundled_config_holds_the_defaults(tmp_path: Path) -> None:
    assert load_config(ROOT / "demos/configs/lenet.toml") == TrainConfig(backend="numba")


def test_command_without_a_file_uses_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    import tinygrad_cnn.train as module

    seen: list[ClassifierConfig] = []
    monkeypatch.setattr(module, "train", lambda config: seen.append(config) or 0.5)
    assert cli.main(["train", "--epochs", "2", "--weight-decay", "0"]) == 0
    assert seen == [ClassifierConfig(epochs=2, weight_decay=0.0)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "mnist_mini"], "did you mean 'mnist-mini'?"),
        (["--backend", "nunpy"], "did you mean 'numpy'?"),
        (["--epochs", "0"], "epochs: expected a number of at least 1, received 0"),
        (["--config", "nowhere.toml"], "config file nowhere.toml does not exist"),
        (["--epochs", "two"], "argument --epochs: invalid int value: 'two'"),
    ],
)
def test_wrong_options_end_in_one_message(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["train_lenet.py", *arguments])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(DEMO), run_name="__main__")
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_missing_data_ends_in_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = str(tmp_path / "nowhere")
    monkeypatch.setattr(sys, "argv", ["train_lenet.py", "--dataset", "mnist", "--data", nowhere])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(DEMO), run_name="__main__")
    assert stopped.value.code == 2
    assert capsys.readouterr().err == f"error: root: expected a folder, received {nowhere!r}\n"
