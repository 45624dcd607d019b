"""The demos of classification recipes, each through a tiny training on tiny data sets."""

from __future__ import annotations

import functools
import importlib.util
import json
import sys
import tomllib
import zipfile
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import tinygrad_cnn as tg
from tinygrad_cnn import nn
from tinygrad_cnn.data import MNISTMini, write_idx
from tinygrad_cnn.models.resnet_cifar import CifarResNet
from tinygrad_cnn.train import load_config

pytestmark = pytest.mark.usefixtures("numpy_backend")
DEMOS = Path(__file__).resolve().parents[1] / "demos"
RECIPES = {
    "mnist_cnn": ["mnist_cnn"],
    "mnist_best": ["mnist_best"],
    "train_resnet": ["resnet20", "fashion"],
    "shifts": ["shifts"],
    "depth_study": ["depth"],
}


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"demo_{name}", DEMOS / f"{name}.py")
    assert spec and spec.loader
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MNIST and Fashion-MNIST with 24 training and 6 test images: digits in turn, 0 to 9."""
    root = tmp_path_factory.mktemp("data")
    for train, stem, count in ((True, "train", 24), (False, "t10k", 6)):
        digits = MNISTMini(train)
        chosen = [np.flatnonzero(digits.labels == i % 10)[i // 10] for i in range(count)]
        for folder in ("mnist", "fashion-mnist"):
            (root / folder).mkdir(exist_ok=True)
            write_idx(root / folder / f"{stem}-images-idx3-ubyte", digits.images[chosen])
            labels = digits.labels[chosen].astype(np.uint8)
            write_idx(root / folder / f"{stem}-labels-idx1-ubyte", labels)
    return root


def run(module: ModuleType, kind: Any, data: Path, out: Path, **settings: Any) -> Any:
    """The demo's ``main`` for two steps of two images."""
    small = {"dataset": "mnist", "batch_size": 2, "epochs": 1, "steps": 2, **settings}
    return module.main(kind(data=str(data), out=str(out), **small))


def epoch_lines(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(x) for x in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "train_loss" in line]


@pytest.mark.parametrize(
    ("demo", "config"), [(demo, config) for demo, names in RECIPES.items() for config in names]
)
def test_every_key_of_the_config_files_is_known(demo: str, config: str) -> None:
    module = load(demo)
    kind = getattr(module, "Settings", module.TrainConfig)
    read = load_config(DEMOS / "configs" / f"{config}.toml", kind)
    keys = tomllib.loads((DEMOS / "configs" / f"{config}.toml").read_text(encoding="utf-8"))
    assert {name: getattr(read, name) for name in keys} == keys and keys["out"] == read.out


# -- three ways to build a model, and the ensemble ------------------------------------------------
def test_three_styles_and_their_ensemble(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = load("mnist_cnn")
    accuracy = run(module, module.TrainConfig, data, tmp_path, lr=1e-3, weight_decay=0.0)
    said = capsys.readouterr().out
    assert "2 steps: the losses of the three styles are equal bits" in said
    rows = [line.split() for line in said.splitlines() if " seed " in line]
    assert [(row[0], row[2]) for row in rows] == [
        ("sequential", "0"), ("functional", "1"), ("subclass", "2")
    ]  # fmt: skip
    assert 0 <= accuracy <= 1
    losses = [epoch_lines(tmp_path / style)[0]["train_loss"] for style in module.STYLES]
    assert len(set(losses)) == 3  # three seeds

    run(module, module.TrainConfig, data, tmp_path, lr=1e-3, weight_decay=0.0, resume=True)
    again = capsys.readouterr().out
    assert "resuming after step 2" in again
    assert [line for line in again.splitlines() if " seed " in line] == [
        line for line in said.splitlines() if " seed " in line
    ]


def test_styles_that_differ_are_found(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = load("mnist_cnn")
    right = module.mnist_cnn

    def wrong(style: str = "sequential") -> nn.Module:
        model = right(style=style)
        return nn.Sequential(model, nn.Hardtanh(-9, 0.01)) if style == "functional" else model

    monkeypatch.setattr(module, "mnist_cnn", wrong)
    with pytest.raises(SystemExit, match="the three styles differ"):
        run(module, module.TrainConfig, data, tmp_path, lr=1e-3, weight_decay=0.0)


# -- the best recipe ------------------------------------------------------------------------------
def test_best_recipe(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = load("mnist_best")
    accuracy = run(module, module.Settings, data, tmp_path, members=2)
    said = capsys.readouterr().out
    assert "seed 0  test accuracy" in said and "the 2 together:" in said and 0 <= accuracy <= 1
    assert (tmp_path / "seed1" / "curves.png").read_bytes()[:4] == b"\x89PNG"


def test_best_recipe_augments_training_images_only(data: Path) -> None:
    module = load("mnist_best")
    config = module.Settings(dataset="mnist", data=str(data), batch_size=24)
    train = module.loader(config, train=True)
    seen = []
    for epoch in (0, 1, 0):
        train.set_epoch(epoch)
        ((images, labels),) = list(train)
        order = np.argsort(labels.numpy(), kind="stable")
        seen.append(images.numpy()[order])
    assert not np.array_equal(seen[0], seen[1]) and np.array_equal(seen[0], seen[2])
    ((images, _),) = list(module.loader(config, train=False))
    digits = module.load_dataset("mnist", False, str(data))
    np.testing.assert_allclose(images.numpy()[:, 0], digits.images / 255, rtol=1e-6)


# -- residual networks ----------------------------------------------------------------------------
def test_small_resnet(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = load("train_resnet")
    accuracy = run(module, module.Settings, data, tmp_path, dataset="fashion-mnist", flip=True)
    assert "with mirror images: 0." in capsys.readouterr().out
    assert epoch_lines(tmp_path)[0]["test_accuracy"] == accuracy
    assert (tmp_path / "curves.png").read_bytes()[:4] == b"\x89PNG"


def test_going_on_from_the_weights_of_another_run(data: Path, tmp_path: Path) -> None:
    """Steps of rate 1e-9 leave them where the first run ended."""
    module = load("train_resnet")
    run(module, module.Settings, data, tmp_path / "a", dataset="fashion-mnist")
    weights = str(tmp_path / "a" / "checkpoint.safetensors")
    options = {"dataset": "fashion-mnist", "lr": 1e-9, "seed": 5}
    run(module, module.Settings, data, tmp_path / "b", **options, weights=weights)
    before, after = (tg.load(tmp_path / x / "checkpoint.safetensors")["model"] for x in "ab")
    gap = max(float((before[k] - after[k]).abs().max()) for k in before if "weight" in k)
    assert 0 < gap < 1e-6


def test_resnet20_on_colour_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    image = pytest.importorskip("PIL.Image")
    monkeypatch.setenv("TINYGRAD_CNN_CACHE", str(tmp_path / "cache"))
    module = load("train_resnet")
    kind = module.load_dataset.__globals__["DATASETS"]["cifar10-jpeg"]
    (tmp_path / "cifar10-jpeg").mkdir()
    with zipfile.ZipFile(tmp_path / "cifar10-jpeg" / "cifar10-jpeg.zip", "w") as archive:
        for part in ("train", "test"):
            for i, name in enumerate(kind.classes):
                file = BytesIO()
                image.new("RGB", (32, 32), (25 * i, 128, 255 - 25 * i)).save(file, "JPEG")
                archive.writestr(f"{part}/{name}/0000.jpg", file.getvalue())
    monkeypatch.setattr(module, "resnet20", lambda: CifarResNet(8))  # 20 layers take too long
    run(module, module.Settings, tmp_path, tmp_path / "out", dataset="cifar10-jpeg", flip=True)
    assert "with mirror images: 0." in capsys.readouterr().out
    assert np.isfinite(epoch_lines(tmp_path / "out")[0]["train_loss"])


def test_mirrored_outputs_are_those_of_mirrored_images(data: Path) -> None:
    module = load("train_resnet")
    digits = module.load_dataset("mnist", False, str(data))
    whole = module.DataLoader(digits, 5, transform=lambda x: x.astype(np.float32))
    found = module.logits_of(nn.Flatten(), whole, mirrored=True)
    np.testing.assert_array_equal(found, digits.images[:, :, ::-1].reshape(6, -1))


# -- shifts ---------------------------------------------------------------------------------------
def test_shift_against_a_loop() -> None:
    module = load("shifts")
    images = np.arange(1, 21, dtype=np.uint8).reshape(1, 4, 5)
    for down in (-2, 0, 1):
        for right in (-3, 0, 2):
            moved = module.shift(images, down, right)[0]
            for i in range(4):
                for j in range(5):
                    inside = 0 <= i - down < 4 and 0 <= j - right < 5
                    expected = images[0, i - down, j - right] if inside else 0
                    assert moved[i, j] == expected


def test_networks_of_the_shift_study_are_of_one_size() -> None:
    module = load("shifts")
    sizes = [sum(p.numel() for p in module.network(name).parameters()) for name in module.NETWORKS]
    assert sizes == [61_225, 61_706, 61_706, 61_706]


def test_measure_of_a_network_that_ignores_shifts() -> None:
    """The mean over all pixels does not see where the ink is."""
    module = load("shifts")
    sees_ink = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 10))
    images = np.zeros((6, 28, 28), np.uint8)
    for i in range(6):
        images[i, 10:16, 10 : 11 + i] = 255
    labels = module.outputs(sees_ink, images).argmax(1)
    right = module.measure(sees_ink, (images, labels), (images, labels))
    np.testing.assert_allclose(right, [1] * 6 + [0], atol=1e-5)
    wrong = module.measure(sees_ink, (images, (labels + 1) % 10), (images, labels))
    np.testing.assert_allclose(wrong[:2], [0, 1])
    blind = module.measure(module.network("mlp"), (images, labels), (images, labels))
    assert blind[-1] > 0.1


def test_shift_study(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = load("shifts")
    run(module, module.Settings, data, tmp_path, seeds=1)
    said = capsys.readouterr().out
    assert "of 784 inputs change" in said
    rows = [line.split() for line in said.splitlines()]
    assert [row[0] for row in rows if row and row[0] in module.NETWORKS] == list(module.NETWORKS)
    assert (tmp_path / "shifts.png").read_bytes()[:4] == b"\x89PNG"


# -- depth ----------------------------------------------------------------------------------------
def test_depth_study(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = load("depth_study")
    sizes = [sum(p.numel() for p in build(3).parameters()) for build in module.NETWORKS.values()]
    assert sizes == [269_722, 269_722, 853_018, 853_018]
    for name, shortcut in zip(module.NETWORKS, ("none", "A") * 2, strict=True):
        small = functools.partial(CifarResNet, 8, 10, shortcut)  # the deep ones take too long
        monkeypatch.setitem(module.NETWORKS, name, small)
    run(module, module.Settings, data, tmp_path, images=8)
    assert (tmp_path / "training.png").read_bytes()[:4] == b"\x89PNG"
    loss = {
        name: epoch_lines(tmp_path / name.replace(" ", "-"))[0]["train_loss"]
        for name in module.NETWORKS
    }
    assert loss["plain 20"] == loss["plain 56"] != loss["residual 20"] == loss["residual 56"]
