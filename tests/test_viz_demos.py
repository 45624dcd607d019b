"""The demos that draw, run as a reader runs them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tinygrad_cnn import viz

ROOT = Path(__file__).resolve().parents[1]


def drawn(path: Path) -> None:
    """Check that the file is a picture that shows something."""
    from matplotlib.image import imread

    assert imread(path)[..., :3].std() > 0.01


def demo(name: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / "demos" / name), *arguments],
        capture_output=True, encoding="utf-8",
    )  # fmt: skip
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return done.stdout


@pytest.mark.slow
def test_see_network(tmp_path: Path) -> None:
    pytest.importorskip("numba")
    sizes = ["--images=20", "--pattern-steps=3", "--backend=numba"]
    first = demo("see_network.py", f"--out={tmp_path}", "--steps=20", *sizes)
    names = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.png")}
    assert names == {
        "confusion.png", "filters.png", "heat.png", "matrix.png", "misclassified.png",
        "patterns-c3.png", "patterns-output.png", "lenet5/curves.png", "pooled/curves.png",
        "maps/01-c1.png", "maps/02-s2.png", "maps/03-c3.png", "maps/04-s4.png",
    }  # fmt: skip
    again = demo("see_network.py", f"--out={tmp_path / 'again'}", *sizes,
                 f"--trained={tmp_path}")  # fmt: skip
    assert first.splitlines()[-1] == again.splitlines()[-1]  # the same accuracy
    assert "144 × 144 numbers" in again and "16 of 16 activations rose" in again


@pytest.mark.slow
def test_the_small_demos(tmp_path: Path) -> None:
    from matplotlib.image import imsave

    pytest.importorskip("PIL")
    imsave(tmp_path / "hall.png", viz.drawn_scenes(24, 36)["hall"])
    shown = demo("kernels_on_photos.py", str(tmp_path / "hall.png"), "--backends", "numpy",
                 "numpy", f"--out={tmp_path}")  # fmt: skip
    assert "numpy and numpy: 0.0e+00" in shown
    drawn(tmp_path / "kernels.png")
    drawn(tmp_path / "lines.png")
    shown = demo("decision_boundaries.py", f"--out={tmp_path / 'b.png'}", "--seeds=1", "--steps=5")
    assert "10 + 10 units            162" in shown
    drawn(tmp_path / "b.png")
    shown = demo("gradient_depth.py", f"--out={tmp_path / 'g.png'}", "--depths=8", "--batch-size=1")
    assert len(shown.splitlines()) == 6
    drawn(tmp_path / "g.png")
