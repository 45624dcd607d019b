"""``tinygrad-cnn train``: colour images, models fitted to the data set, augmentation."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tinygrad_cnn import cli
from tinygrad_cnn.data import CIFAR10JPEG, ImageAugmentation, load_dataset
from tinygrad_cnn.train import (
    ClassifierConfig,
    RequestError,
    image_loaders,
    load_config,
)
from tinygrad_cnn.train.classify import STATISTICS, build_model

pytestmark = pytest.mark.usefixtures("numpy_backend")


@pytest.fixture
def colours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with a cifar10-jpeg of four training and two test images a class."""
    image = pytest.importorskip("PIL.Image")
    monkeypatch.setenv("TINYGRAD_CNN_CACHE", str(tmp_path / "cache"))
    draw = np.random.default_rng(0)
    (tmp_path / "cifar10-jpeg").mkdir()
    with zipfile.ZipFile(tmp_path / "cifar10-jpeg" / "cifar10-jpeg.zip", "w") as archive:
        for split, count in (("train", 4), ("test", 2)):
            for k, name in enumerate(CIFAR10JPEG.classes):
                for i in range(count):
                    noise = draw.integers(0, 60, (32, 32, 3), np.uint8) + np.uint8(15 * k)
                    file = io.BytesIO()
                    image.fromarray(noise).save(file, "JPEG")
                    archive.writestr(f"{split}/{name}/{i}.jpg", file.getvalue())
    return tmp_path


def test_the_command_trains_on_colour_images(
    colours: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = colours / "colours.toml"
    file.write_text(
        'dataset = "cifar10-jpeg"\nmodel = "lenet5"\nepochs = 2\nbatch_size = 8\n'
        f"data = '{colours}'\nout = '{colours / 'out'}'\nbackend = \"numpy\"\n"
        "[augment]\nrotation_range = 15\nzoom_range = [0.9, 1.1]\nhorizontal_flip = true\n"
    )
    assert cli.main(["train", str(file)]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith("numpy with ") and "2 epochs of 5 steps, writing " in shown[0]
    assert shown[-1].startswith("test accuracy: ")
    assert {p.name for p in (colours / "out").iterdir()} == {
        "checkpoint.safetensors", "curves.png", "metrics.jsonl", "misclassified.png"
    }  # fmt: skip
    assert cli.main(["train", str(file), "--resume", "--augment", "zoom_range=0.5"]) == 2
    assert "resume: expected augment = {'rotation_range': 15" in capsys.readouterr().err


def test_models_get_the_classes_and_channels_of_the_data(colours: Path) -> None:
    grey, colour = load_dataset("mnist-mini"), load_dataset("cifar10-jpeg", root=colours)
    assert build_model("lenet5", grey).get_parameter("c1.weight").shape == (6, 1, 5, 5)
    assert build_model("lenet5", colour).get_parameter("c1.weight").shape == (6, 3, 5, 5)
    assert build_model("resnet20", colour).get_parameter("linear.weight").shape == (10, 64)


def test_augmentation_changes_training_images_only() -> None:
    config = ClassifierConfig(batch_size=16, augment={"rotation_range": 20, "cval": 0.0})
    plain = image_loaders(config)
    turned = image_loaders(config, ImageAugmentation(**config.augment))
    again = image_loaders(config, ImageAugmentation(**config.augment))

    def first(loader: object, epoch: int) -> np.ndarray:
        loader.set_epoch(epoch)
        return next(iter(loader))[0].numpy()

    assert first(plain[0], 0).shape == first(turned[0], 0).shape == (16, 1, 32, 32)
    assert not np.array_equal(first(plain[0], 0), first(turned[0], 0))
    np.testing.assert_array_equal(first(turned[0], 1), first(again[0], 1))
    np.testing.assert_array_equal(first(turned[1], 0), first(plain[1], 0))


def test_statistics_are_those_of_the_pixels() -> None:
    pixels = load_dataset("mnist-mini").images / 255
    assert STATISTICS["mnist-mini"] == pytest.approx((pixels.mean(), pixels.std()), abs=2e-3)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("rotation = 15", "augment: expected one of rotation_range, .*, received 'rotation'; did"),
        ("zoom_range = 2", "augment: zoom_range: expected a number from 0 to below 1"),
        ('rotation_range = "wide"', "augment: .*"),
        ('fill_mode = "mirror"', "augment: fill_mode: expected one of .*, received 'mirror'"),
    ],
)
def test_wrong_augmentation(table: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(f"augment = {{{table}}}\n")
    with pytest.raises(RequestError, match=message):
        load_config(file, ClassifierConfig)


def test_the_file_in_the_documentation_is_one(tmp_path: Path) -> None:
    page = Path(__file__).resolve().parents[1] / "docs" / "training.md"
    (block,) = re.findall(r"^```toml\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    (tmp_path / "resnet.toml").write_text(block)
    config = load_config(tmp_path / "resnet.toml", ClassifierConfig)
    assert (config.model, config.dataset) == ("resnet20", "cifar10-jpeg")
    assert config.augment["width_shift_range"] == 4.0


def test_the_help_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["train", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "one of mnist-mini, mnist, fashion-mnist, cifar10-jpeg; mnist-mini is bundled" in shown
    assert "--augment KEY=VALUE,… random changes of the training images" in shown
