"""Checkpoints: round trips, foreign files, damage, and atomic writing."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import tinygrad_cnn as tg


def test_nested_round_trip(tmp_path: Path) -> None:
    state = {
        "model": {"conv.weight": tg.randn(2, 3), "steps": tg.tensor(7)},
        "optimizer": {"state": {0: {"m": tg.ones(3, dtype=tg.float64)}}, "betas": (0.9, 0.999)},
        "list": [1, 2.5, None, True, "텍스트", [], {}],
        "extremes": [math.inf, -math.inf, 5e-324, 0.1],
        "mask": tg.tensor([True, False]),
        "empty": tg.zeros(0, 4),
        "half": tg.ones(2, dtype=tg.float16),
    }
    path = tmp_path / "체크포인트.safetensors"
    tg.save(state, path)
    found = tg.load(path)
    assert found["optimizer"]["betas"] == (0.9, 0.999)
    assert found["list"] == state["list"] and found["extremes"] == state["extremes"]
    assert list(found["optimizer"]["state"]) == [0]
    for mine, theirs in (
        (state["model"]["conv.weight"], found["model"]["conv.weight"]),
        (state["model"]["steps"], found["model"]["steps"]),
        (state["optimizer"]["state"][0]["m"], found["optimizer"]["state"][0]["m"]),
        (state["mask"], found["mask"]),
        (state["empty"], found["empty"]),
        (state["half"], found["half"]),
    ):
        assert mine.dtype == theirs.dtype and mine.shape == theirs.shape
        assert mine.tolist() == theirs.tolist()


def test_names_are_paths_and_never_collide(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    tg.save({"a": {"b": tg.ones(1)}, "a.b": tg.zeros(1)}, path)
    assert sorted(load_file(path)) == ["a.b", "a.b_"]
    found = tg.load(path)
    assert found["a"]["b"].item() == 1 and found["a.b"].item() == 0


def test_noncontiguous_tensors(tmp_path: Path) -> None:
    x = tg.arange(12).reshape(3, 4)
    tg.save({"t": x.t(), "s": x[::2, ::3]}, tmp_path / "a")
    found = tg.load(tmp_path / "a")
    assert found["t"].tolist() == x.t().tolist() and found["s"].tolist() == [[0, 3], [8, 11]]


def test_foreign_safetensors(tmp_path: Path) -> None:
    save_file({"w": np.arange(3, dtype=np.float32)}, tmp_path / "w.safetensors")
    assert tg.load(tmp_path / "w.safetensors")["w"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("cut", [0, 4, 100, -1])
def test_truncated_file(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a.safetensors"
    tg.save({"w": tg.randn(100)}, path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ValueError, match="a.safetensors: not a complete safetensors file"):
        tg.load(path)


def test_missing_file_and_wrong_content(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        tg.load(tmp_path / "nowhere")
    with pytest.raises(TypeError, match=r"received function at model\.0"):
        tg.save({"model": [test_truncated_file]}, tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.safetensors"
    tg.save({"w": tg.ones(1)}, path)

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        tg.save({"w": tg.zeros(1)}, path)
    assert tg.load(path)["w"].item() == 1
    assert os.listdir(tmp_path) == ["a.safetensors"]
