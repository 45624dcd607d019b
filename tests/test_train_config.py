"""Settings of derived classes, and runs of several models with numbers of any name."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinygrad_cnn as tg
from tinygrad_cnn import nn, optim
from tinygrad_cnn.data import DataLoader, TensorDataset
from tinygrad_cnn.train import (
    RequestError,
    Run,
    TrainConfig,
    at_least,
    load_config,
    options,
    script,
    setting,
    subrun,
)

pytestmark = pytest.mark.usefixtures("numpy_backend")


@dataclass(frozen=True)
class GanConfig(TrainConfig):
    out: str = "runs/gan"
    k: int = setting(1, "steps of the discriminator for one of the generator", at_least=1)
    rate: float = setting(0.5, "a share", above=0, below=1)
    momentum: float = setting(0.5, "of the optimiser", at_most=0.9)
    penalty: float = 10.0
    shifts: tuple[int, ...] = setting((1, 2), "pixels")
    augment: dict[str, Any] = setting({"zoom_range": 0.1, "fill_mode": "wrap"}, "100 % of images")
    averaged: bool = setting(True, "average the weights")


# -- settings ----------------------------------------------------------------------------------
def test_a_file_of_a_derived_class(tmp_path: Path) -> None:
    file = tmp_path / "gan.toml"
    file.write_text("k = 3\npenalty = 5\nshifts = [4]\n[augment]\nrotation_range = 15\n")
    config = load_config(file, GanConfig, epochs=2)
    assert config == GanConfig(
        k=3, penalty=5, shifts=(4,), augment={"rotation_range": 15}, epochs=2
    )
    assert (config.out, config.lr) == ("runs/gan", 0.03)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("penality = 5.0", "unknown key 'penality'; did you mean 'penalty'?"),
        ("k = 1.5", "k expects int, received 1.5"),
        ("shifts = 3", "shifts expects tuple, received 3"),
        ('shifts = [1, "2"]', "shifts expects int, received '2'"),
        ("augment = 1", "augment expects dict, received 1"),
        ("averaged = 1", "averaged expects bool, received 1"),
        ("epochs = 0", "epochs: expected a number of at least 1, received 0"),
        ("k = 0", "k: expected a number of at least 1, received 0"),
        ("rate = 0", "rate: expected a number above 0, received 0"),
        ("rate = 1.0", "rate: expected a number below 1, received 1.0"),
        ("rate = nan", "rate: expected a number above 0, received nan"),
        ("momentum = 1", "momentum: expected a number of at most 0.9, received 1"),
        ("momentum = -1", "momentum: expected a number of at least 0, received -1"),
    ],
)
def test_wrong_keys_of_a_derived_class(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "gan.toml"
    file.write_text(text)
    with pytest.raises(RequestError) as caught:
        load_config(file, GanConfig)
    assert message in str(caught.value)


@pytest.mark.parametrize("wrong", ["3", None, 10**400])
def test_what_is_no_number(wrong: Any) -> None:
    with pytest.raises(RequestError, match="epochs: expected a number of at least 1, received"):
        TrainConfig(epochs=wrong)


def test_keys_of_a_derived_class_are_not_those_of_its_base(tmp_path: Path) -> None:
    file = tmp_path / "gan.toml"
    file.write_text("k = 3\n")
    with pytest.raises(RequestError, match="unknown key 'k'"):
        load_config(file)


def test_options_of_a_derived_class(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "gan.toml"
    file.write_text("k = 3\nshifts = [4]\n")
    given = ["--config", str(file), "--shifts", "1,2,3", "--no-averaged", "--penalty", "2"]
    augment = ["--augment", "rotation_range=15,zoom_range=0.1,fill_mode=wrap,horizontal_flip=true"]
    config = options("A demo.", GanConfig, [*given, *augment])
    assert (config.k, config.shifts, config.averaged, config.penalty) == (3, (1, 2, 3), False, 2.0)
    assert config.augment == {
        "rotation_range": 15, "zoom_range": 0.1, "fill_mode": "wrap", "horizontal_flip": True
    }  # fmt: skip
    for wrong in (["--shifts", "1,x"], ["--augment", "rotation_range"]):
        with pytest.raises(SystemExit):
            options("A demo.", GanConfig, wrong)
    assert "expected KEY=VALUE" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        options("A demo.", GanConfig, ["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "steps of the discriminator for one of the generator (default: 1)" in shown
    assert "--shifts N,… pixels (default: 1,2)" in shown
    assert "100 % of images (default: zoom_range=0.1, fill_mode=wrap)" in shown
    assert "(default: all this process may use)" in shown and "(default: 0)" in shown


def test_unknown_limits_of_a_setting() -> None:
    with pytest.raises(TypeError, match="expected at_least, above, at_most, below, received least"):
        setting(1, "a count", least=1)


@pytest.mark.parametrize("text", ["0", "-3", "--3", "1.5", "x", "", "²"])
def test_options_of_whole_numbers(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=at_least(1))
    assert parser.parse_args(["--seeds", "12"]).seeds == 12
    with pytest.raises(SystemExit):
        parser.parse_args([f"--seeds={text}"])
    message = f"expected a whole number of at least 1, received {text!r}"
    assert message in capsys.readouterr().err


def test_script_prints_what_main_returns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["demo.py", "--k", "4"])
    for returned, printed in ((0.5, "test accuracy: 0.5000\n"), ("done", "done\n"), (None, "")):
        seen: list[GanConfig] = []
        script(lambda c, r=returned, s=seen: s.append(c) or r, "A demo.", GanConfig)
        assert seen == [GanConfig(k=4)] and capsys.readouterr().out == printed


def test_the_settings_of_one_of_several_trainings(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "checkpoint.safetensors").touch()
    whole = GanConfig(out=str(tmp_path), resume=True)
    begun, new = subrun(whole, "b", seed=2), subrun(whole, "c")
    assert begun == GanConfig(out=str(tmp_path / "b"), resume=True, seed=2)
    assert new == GanConfig(out=str(tmp_path / "c"), resume=False)
    assert not subrun(GanConfig(out=str(tmp_path)), "b").resume


# -- runs of any parts -------------------------------------------------------------------------
def gan_run(out: Path, **changes: Any) -> list[dict[str, Any]]:
    """A run of two models and two optimisers on random numbers; its metrics."""
    config = GanConfig(**{"epochs": 3, "batch_size": 4, "out": str(out), **changes})
    tg.manual_seed(config.seed)
    data = TensorDataset(np.linspace(-1, 1, 24, dtype=np.float32).reshape(12, 2))
    loader = DataLoader(data, config.batch_size, shuffle=True, seed=config.seed)
    generator, discriminator = nn.Linear(3, 2), nn.Linear(2, 1)
    g_optimizer = optim.Adam(generator.parameters(), 0.1)
    d_optimizer = optim.SGD(discriminator.parameters(), 0.1, 0.9)
    parts = {
        "generator": generator, "discriminator": discriminator,
        "g_optimizer": g_optimizer, "d_optimizer": d_optimizer,
    }  # fmt: skip
    with Run(config, loader=loader, **parts) as run:
        for _ in run.epochs():
            for (x,) in run.batches():
                d_loss = (discriminator(generator(tg.randn(4, 3))) - discriminator(x)).mean()
                d_optimizer.zero_grad()
                d_loss.backward()
                d_optimizer.step()
                g_loss = -discriminator(generator(tg.randn(4, 3))).mean()
                g_optimizer.zero_grad()
                g_loss.backward()
                g_optimizer.step()
                run.record(images=len(x), d_loss=d_loss, g_loss=g_loss, rate=0.5)
            run.end_epoch(distance=float(generator.weight.detach().abs().sum()))
    return run.history()


def test_several_models_and_numbers_of_any_name(tmp_path: Path) -> None:
    found = gan_run(tmp_path)
    steps = [line for line in found if "epoch" not in line]
    epochs = [line for line in found if "epoch" in line]
    assert [set(line) for line in steps] == [{"step", "d_loss", "g_loss", "rate"}]
    assert [line["epoch"] for line in epochs] == [1, 2, 3]
    assert set(epochs[0]) == {
        "step", "epoch", "train_d_loss", "train_g_loss", "train_rate", "distance",
        "images_per_second",
    }  # fmt: skip
    assert epochs[0]["train_rate"] == 0.5


@pytest.mark.parametrize("steps", [2, 3, 7])
def test_several_models_resumed(steps: int, tmp_path: Path) -> None:
    whole = gan_run(tmp_path / "whole")
    gan_run(tmp_path / "parts", steps=steps)
    resumed = gan_run(tmp_path / "parts", resume=True)
    for line in whole + resumed:
        line.pop("images_per_second", None)
    assert resumed == whole
    one, two = (tg.load(tmp_path / name / "checkpoint.safetensors") for name in ("whole", "parts"))
    for name in ("generator", "discriminator"):
        for key, value in one[name].items():
            assert np.array_equal(value.numpy(), two[name][key].numpy()), key


def test_parts_without_a_state(tmp_path: Path) -> None:
    config = TrainConfig(out=str(tmp_path))
    loader = DataLoader(TensorDataset(np.zeros((2, 2))))
    with pytest.raises(TypeError, match=r"noise: expected something with state_dict\(\)"):
        Run(config, loader=loader, noise=3)
    with pytest.raises(TypeError, match="step: .* under another name than step, steps_per_epoch"):
        Run(config, loader=loader, step=nn.Linear(1, 1))


def test_record_needs_to_know_how_many_images(tmp_path: Path) -> None:
    loader = DataLoader(TensorDataset(np.zeros((2, 2))))
    run = Run(TrainConfig(out=str(tmp_path)), loader=loader)
    with pytest.raises(TypeError, match="expected the target or images="):
        run.record(0.5)
