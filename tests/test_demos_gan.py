"""The generative demos on a few digits: algorithm 4-2 step by step, resumed runs, pictures."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_training import write_digits

import tinygrad_cnn as tg
from tinygrad_cnn import optim
from tinygrad_cnn.train import RequestError

pytestmark = pytest.mark.usefixtures("same_backend_afterwards")
DEMOS = Path(__file__).resolve().parents[1] / "demos"


def program(name: str) -> dict[str, Any]:
    return runpy.run_path(str(DEMOS / name))


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with 60 training and 30 test digits."""
    return write_digits(tmp_path_factory.mktemp("data"), training=60, test=30)


def small(digits: Path, out: Path, **changes: Any) -> dict[str, Any]:
    return {
        "dataset": "mnist", "data": str(digits), "backend": "numpy", "epochs": 2,
        "batch_size": 10, "samples": 40, "latent": 8, "out": str(out), **changes,
    }  # fmt: skip


def pixels_of(path: Path) -> bytes:
    assert path.read_bytes()[:4] == b"\x89PNG"
    return path.read_bytes()


def test_d_ascends_k_times_and_g_descends_once(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch of 30 images is k = 3 batches of m = 10; the networks start once."""
    taken: list[int] = []
    step = optim.Adam.step

    def counted(self: optim.Adam) -> None:
        taken.append(id(self))
        step(self)

    monkeypatch.setattr(optim.Adam, "step", counted)
    demo = program("gan_mnist.py")
    demo["main"](demo["GanConfig"](**small(digits, tmp_path, k=3, epochs=1)))
    d, g = taken[0], taken[3]
    assert d != g and taken == [d, d, d, g] * (60 // 30)


@pytest.mark.parametrize(
    "options",
    [
        {"network": "dcgan", "width": 2, "loss": "feature-matching", "minibatch": 4},
        {"network": "dcgan", "width": 2, "norm": "virtual", "k": 2, "real_target": 0.9},
    ],
)
def test_gan_resumed_is_the_same_run(options: dict[str, Any], digits: Path, tmp_path: Path) -> None:
    demo = program("gan_mnist.py")
    main, config = demo["main"], demo["GanConfig"]
    told = main(config(**small(digits, tmp_path / "whole", **options)))
    main(config(**small(digits, tmp_path / "parts", steps=4, **options)))
    assert main(config(**small(digits, tmp_path / "parts", resume=True, **options))) == told
    assert "Fréchet distance" in told and "digits of 10" in told
    one, two = (tg.load(tmp_path / n / "checkpoint.safetensors") for n in ("whole", "parts"))
    for part in ("g", "d"):
        for key, value in one[part].items():
            np.testing.assert_array_equal(value.numpy(), two[part][key].numpy(), key)
    for name in ("samples.png", "interpolation.png"):
        assert pixels_of(tmp_path / "whole" / name) == pixels_of(tmp_path / "parts" / name)
    last = json.loads((tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()[-1])
    assert 0 <= last["d_accuracy"] <= 1 and last["frechet_relative"] > 0


@pytest.mark.parametrize("option", ["network", "loss", "norm", "dataset"])
def test_a_switch_that_does_not_exist(option: str) -> None:
    with pytest.raises(RequestError, match=f"{option}: expected one of .* received 'hinge'"):
        program("gan_mnist.py")["GanConfig"](**{option: "hinge"})


def test_wgan_gp(digits: Path, tmp_path: Path) -> None:
    demo = program("wgan_gp.py")
    given = small(digits, tmp_path, width=2, k=2, epochs=1)
    assert "Fréchet distance" in demo["main"](demo["WganConfig"](**given))
    first, last = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert {"distance", "penalty"} <= first.keys()
    assert 0 < first["penalty"] < 1.5  # a critic is nearly flat at the start: (0 − 1)²
    assert last["epoch"] == 1 and last["digits"] >= 1


def test_vae(digits: Path, tmp_path: Path) -> None:
    demo = program("vae_mnist.py")
    told = demo["main"](demo["VaeConfig"](**small(digits, tmp_path, width=2)))
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    epochs = [line for line in lines if "epoch" in line]
    assert f"{epochs[-1]['test_loss']:.2f} nats" in told
    assert epochs[1]["test_loss"] < epochs[0]["test_loss"] < 784
    names = {"samples.png", "reconstructions.png", "interpolation.png"}
    assert names <= {p.name for p in tmp_path.iterdir()}


# -- the table of ten points and the plane -----------------------------------------------------
def test_S2_33_the_four_tables_and_the_two_draws() -> None:
    demo = program("toy_gan.py")
    joint = demo["joint_table"]()
    np.testing.assert_allclose(joint, [[0, 0.2], [0.1, 0.2], [0.1, 0], [0.3, 0.1]])
    np.testing.assert_allclose(joint.sum(1), [0.2, 0.3, 0.1, 0.4])
    given_y = joint / joint.sum(0)
    np.testing.assert_allclose(given_y, [[0, 0.4], [0.2, 0.4], [0.2, 0], [0.6, 0.2]])
    assert round(joint[1, 1] / joint[1].sum(), 2) == 0.67
    assert [demo["draw"](joint.sum(1), n) for n in (0.34, 0.83)] == [(0, 1), (1, 1)]


def test_the_ring_and_its_clusters() -> None:
    demo = program("toy_gan.py")
    tg.manual_seed(0)
    points = demo["ring"](2000).numpy()
    served, near = demo["modes_served"](points)
    assert served == 8 and near > 0.99
    upper = points[points[:, 1] > 0.5]  # three clusters: at 45, 90 and 135 degrees
    assert demo["modes_served"](upper) == (3, pytest.approx(1, abs=0.01))
    assert demo["modes_served"](np.zeros((10, 2))) == (0, 0.0)
