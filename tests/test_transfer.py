"""Transfer: features, freezing, thawing from a layer, and the recipe with two classes."""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import tinygrad_cnn as tg
from tinygrad_cnn import models, nn, optim
from tinygrad_cnn.data import DataLoader, MNISTMini, TensorDataset
from tinygrad_cnn.nn import functional as F
from tinygrad_cnn.train import (
    Accuracy,
    RequestError,
    Trainer,
    extract_features,
    freeze,
    load_config,
    unfreeze,
)
from tinygrad_cnn.viz import compare_trainings

pytestmark = pytest.mark.usefixtures("numpy_backend")
DEMOS = Path(__file__).resolve().parents[1] / "demos"


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The recipe, on 40 training and 20 test digits, as many of each, with a narrower base."""
    spec = importlib.util.spec_from_file_location("demo_cats_dogs", DEMOS / "cats_dogs.py")
    assert spec and spec.loader
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def few(name: str, train: bool = True, root: str | None = None) -> MNISTMini:
        digits = MNISTMini(train)
        each = 4 if train else 2
        chosen = [np.flatnonzero(digits.labels == k)[:each] for k in range(10)]
        at = np.concatenate(chosen)
        digits.images, digits.labels = digits.images[at], digits.labels[at]
        return digits

    monkeypatch.setattr(module, "load_dataset", few)
    narrow = {"block1": 2, "block2": 3, "block3": 4, "block4": 128}
    monkeypatch.setattr(module, "BLOCKS", narrow)
    return module


def tiny(module: ModuleType, out: Path, **settings: Any) -> Any:
    """Settings for four training and four validation images in batches of two."""
    small = {"images": 4, "validation": 4, "batch_size": 2, "epochs": 1, "base_epochs": 1}
    return module.Settings(
        out=str(out), **{**small, "head_epochs": 1, "tune_epochs": 1, **settings}
    )


def random_images(count: int, seed: int = 0) -> TensorDataset:
    rng = np.random.default_rng(seed)
    images = rng.standard_normal((count, 1, 6, 6)).astype(np.float32)
    return TensorDataset(images, rng.integers(0, 2, count))


def small_base() -> nn.Sequential:
    tg.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Dropout(0.5))


# -- S4-11: features ------------------------------------------------------------------------------
def test_S4_11_features_are_the_outputs_in_evaluation_mode(tmp_path: Path) -> None:
    base, images = small_base(), random_images(7)
    base[1].running_mean.copy_(tg.tensor([0.5, -0.5, 0.25]))
    found = extract_features(base, DataLoader(images, 3), tmp_path / "deep" / "folder")
    assert base.training and base[1].num_batches_tracked.item() == 0  # left as it was
    kept = np.load(tmp_path / "deep" / "folder" / "features.npy", allow_pickle=False)
    labels = np.load(tmp_path / "deep" / "folder" / "labels.npy", allow_pickle=False)
    x, y = images.tensors
    # by hand: convolution, (a − mean) / √(1 + ε) with the running statistics, ReLU, no dropout
    weight, bias = base[0].weight.detach().numpy(), base[0].bias.detach().numpy()
    windows = np.lib.stride_tricks.sliding_window_view(x[:, 0], (3, 3), axis=(1, 2))
    a = np.einsum("npqij,oij->nopq", windows, weight[:, 0]) + bias[:, None, None]
    mean = np.array([0.5, -0.5, 0.25])[:, None, None]
    expected = np.maximum((a - mean) / np.sqrt(1 + 1e-5), 0)
    np.testing.assert_allclose(kept, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(labels, y)
    assert len(found) == 7 and np.array_equal(found.get_batch(np.arange(7))[0], kept)


def test_S4_11_features_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected some batches, received none"):
        extract_features(small_base(), [], tmp_path)


def test_S4_11_a_head_trains_in_seconds(tmp_path: Path) -> None:
    """2,000 images' worth of 128 × 2 × 2 features, learnt to the last one."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 2000)
    features = rng.standard_normal((2000, 128, 2, 2)).astype(np.float32)
    features[:, 0] += 4 * labels[:, None, None]
    loader = DataLoader(TensorDataset(features, labels), 50, shuffle=True, seed=0)
    head = nn.Sequential(nn.Flatten(), nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, 2))
    trainer = Trainer(
        head, optim.Adam(head.parameters(), 1e-3), F.cross_entropy, metrics=[Accuracy()]
    )
    begun = time.process_time()
    results = trainer.fit(loader, epochs=3)
    assert time.process_time() - begun < 10
    assert results[-1]["train_accuracy"] > 0.99


# -- S4-12, S4-14: frozen, and thawed from a layer on ---------------------------------------------
def test_S4_12_frozen_base_in_a_network() -> None:
    base = small_base()
    model = nn.Sequential(base, nn.Flatten(), nn.Linear(3 * 16, 2))
    freeze(base)
    before = {name: value.numpy().copy() for name, value in model.state_dict().items()}
    optimizer = optim.SGD(model.parameters(), 0.1, 0.9, weight_decay=0.1)
    Trainer(model, optimizer, F.cross_entropy).fit(DataLoader(random_images(8), 4), epochs=2)
    after = {name: value.numpy() for name, value in model.state_dict().items()}
    assert {n for n in after if not np.array_equal(after[n], before[n])} == {"2.weight", "2.bias"}
    assert all(p.grad is None for p in base.parameters())


@pytest.mark.parametrize(
    ("start", "learning"),
    [
        ("1", {"1.0.weight", "1.0.bias", "1.1.weight", "1.1.bias", "2.weight", "2.bias"}),
        ("1.1", {"1.1.weight", "1.1.bias", "2.weight", "2.bias"}),
        ("2", {"2.weight", "2.bias"}),
    ],
)
def test_S4_14_thawed_from_a_layer_on(start: str, learning: set[str]) -> None:
    block = nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2))
    model = nn.Sequential(nn.BatchNorm2d(2), block, nn.Conv2d(2, 1, 1))
    freeze(model)
    unfreeze(model, start)
    assert {name for name, p in model.named_parameters() if p.requires_grad} == learning
    model.train()
    model(tg.randn(4, 2, 3, 3))
    assert model[0].num_batches_tracked.item() == 0  # before the layer: as it was
    assert block[1].num_batches_tracked.item() == (start != "2")
    unfreeze(model)
    assert all(p.requires_grad for p in model.parameters())


def test_S4_14_thawing_from_no_layer() -> None:
    with pytest.raises(AttributeError):
        unfreeze(small_base(), "9")


def test_S4_10_and_S4_14_last_block_of_vgg16() -> None:
    """The notes' example: of vgg16(include_top=False) the three convolutions of block 5 learn."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("kaiming_normal_", "kaiming_uniform_", "uniform_"):
            patch.setattr(nn.init, name, lambda tensor, *args, **options: tensor)
        base = models.vgg16(include_top=False)
    freeze(base)
    unfreeze(base, "features.24")
    learning = [name for name, p in base.named_parameters() if p.requires_grad]
    assert learning == [f"features.{k}.{kind}" for k in (24, 26, 28) for kind in ("weight", "bias")]
    assert sum(p.numel() for p in base.parameters() if p.requires_grad) == 3 * 512 * (9 * 512 + 1)
    assert sum(p.numel() for p in base.parameters()) == 14_714_688


# -- S4-13: five steps ----------------------------------------------------------------------------
def test_S4_13_what_each_step_of_fine_tuning_changes(demo: ModuleType, tmp_path: Path) -> None:
    config = tiny(demo, tmp_path, unfreeze=("block4", "block3"), tune_lr=0.1, lr=0.1)
    images = demo.Images(config)
    tg.manual_seed(3)
    base = demo.convolutional_base(1).state_dict()
    noted = demo.fine_tuned(config, images, demo.Table(images), base)
    head = {"head.1.weight", "head.1.bias", "head.4.weight", "head.4.bias"}
    blocks = {name: {f"base.{key}" for key in base if key.startswith(name)} for name in demo.BLOCKS}
    assert {len(names) for names in blocks.values()} == {12}  # 2 · (weight, γ, β, 3 statistics)
    steps = [set(names) for names in noted["block4"].steps]
    assert steps == [set(), set(), head, set(), head | blocks["block4"]]
    steps = [set(names) for names in noted["block3"].steps]
    assert steps == [set(), set(), head, set(), head | blocks["block3"] | blocks["block4"]]


# -- S4-7, S4-15, S3-6: the whole recipe ----------------------------------------------------------
def test_S4_7_and_S4_15_the_recipe(
    demo: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    demo.main(tiny(demo, tmp_path, unfreeze=("block4", "block1")))
    said = capsys.readouterr().out
    rows = (tmp_path / "table.txt").read_text().splitlines()
    assert rows[0].split()[:8] == "learning seconds train % valid. % test %".split()
    assert rows[0].split()[8:11] == ["mean", "median", "99"]
    table = {row.split()[0]: row.split()[1:] for row in rows[1:]}
    assert list(table) == ["scratch", "augmented", "features", "frozen", "tuned-block4",
                           "tuned-block1"]  # fmt: skip
    learning = {name: int(row[0].replace(",", "")) for name, row in table.items()}
    whole = sum(p.numel() for p in demo.network(1, 2).parameters())
    assert learning["scratch"] == learning["augmented"] == learning["tuned-block1"] == whole
    assert learning["frozen"] == learning["features"] == 512 * 64 + 64 + 64 * 2 + 2
    assert learning["frozen"] < learning["tuned-block4"] < learning["tuned-block1"]
    for name in table:  # curves of training and validation, with and without remedies
        lines = [
            json.loads(x) for x in (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        ]
        epochs = [line for line in lines if "train_loss" in line]
        assert epochs and {"train_accuracy", "validation_accuracy"} <= epochs[0].keys()
    assert (tmp_path / "curves.png").read_bytes()[:4] == b"\x89PNG"
    assert np.load(tmp_path / "features" / "train" / "features.npy").shape == (4, 128, 2, 2)
    assert set(tg.load(tmp_path / "base.safetensors")) == set(
        demo.convolutional_base(1).state_dict()
    )

    demo.main(tiny(demo, tmp_path, unfreeze=("block4", "block1"), resume=True))
    again = capsys.readouterr().out
    assert "resuming after step" in again and said.splitlines()[-8:] == again.splitlines()[-8:]


def test_S4_15_losses_beside_their_mean(demo: ModuleType) -> None:
    """Three sure and right, one sure and wrong: the mean is far from the median."""
    scores = np.array([[5, 0], [5, 0], [5, 0], [0, 5]], np.float32)
    loader = DataLoader(TensorDataset(scores, np.zeros(4, np.int64)), 3)
    found = demo.measure(nn.Identity(), loader)
    low = np.log1p(np.exp(-5))
    assert found["accuracy"] == 0.75
    assert found["loss_mean"] == pytest.approx((4 * low + 5) / 4, rel=1e-5)
    assert found["loss_q50"] == pytest.approx(low, rel=1e-4) and found["loss_q99"] > 4.8


def test_no_other_class_and_no_image_twice(demo: ModuleType, tmp_path: Path) -> None:
    images = demo.Images(tiny(demo, tmp_path))
    assert images.others.classes == tuple("01235678") and len(images.others) == 32
    assert not {*images.others.indices} & {*images.train.indices, *images.validation.indices}
    assert not {*images.train.indices} & {*images.validation.indices}
    with pytest.raises(RequestError, match="there are 4"):
        demo.Images(tiny(demo, tmp_path, images=100))
    with pytest.raises(RequestError, match="unfreeze: expected one of block1, .*'block9'"):
        tiny(demo, tmp_path, unfreeze=("block9",))


def test_every_key_of_the_config_file_is_known(demo: ModuleType) -> None:
    read = load_config(DEMOS / "configs" / "cats_dogs.toml", demo.Settings)
    assert asdict(read) != asdict(demo.Settings()) and read.classes == ("cat", "dog")
    assert (read.images, read.validation, read.augment["rotation_range"]) == (2000, 1000, 20)


def test_picture_of_trainings(tmp_path: Path) -> None:
    line = {"step": 1, "epoch": 1, "train_accuracy": 0.5, "validation_accuracy": 0.25}
    path = compare_trainings({"one": [line], "two": [line, {"step": 2}]}, tmp_path / "x.png")
    assert path.read_bytes()[:4] == b"\x89PNG"
