"""Is deeper finer? One hidden layer of 20 ReLU units against two of 10, on two spirals.

python demos/decision_boundaries.py                # five seeds; half a minute

Each network learns which of two intertwined spirals a point of the plane belongs to. The picture
shows how it divides the plane. Between the kinks of its units a network is linear: the table counts
the flat pieces of its surface, and how many points it gets right, for several seeds.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import tinygrad_cnn as tg
from tinygrad_cnn import models, nn, optim, viz
from tinygrad_cnn.nn import functional as F
from tinygrad_cnn.train import at_least

NETWORKS = {"20 units": (20,), "10 + 10 units": (10, 10)}
Array = np.ndarray


def spirals(count: int = 200, turns: float = 1.5, noise: float = 0.03) -> tuple[Array, Array]:
    """Points (2·count, 2) on two spirals, and which one each is on."""
    random = np.random.default_rng(0)
    radius = np.sqrt(np.linspace(0.02, 1, count))
    points = []
    for start in (0, np.pi):
        angle = 2 * np.pi * turns * radius + start
        points.append(radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1))
    noisy = np.concatenate(points) + noise * random.standard_normal((2 * count, 2))
    return noisy.astype(np.float32), np.repeat([0, 1], count)


def fit(hidden: tuple[int, ...], points: Array, labels: Array, seed: int, steps: int) -> nn.Module:
    """An MLP trained on all points at once."""
    tg.manual_seed(seed)
    model = models.mlp(2, 2, hidden)
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    x, y = tg.tensor(points), tg.tensor(labels)
    for _ in range(steps):
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


def main(out: Path, seeds: int, steps: int) -> None:
    points, labels = spirals()
    found: dict[str, list[viz.Boundary]] = {name: [] for name in NETWORKS}
    for seed in range(seeds):
        trained = {
            name: fit(hidden, points, labels, seed, steps) for name, hidden in NETWORKS.items()
        }
        path = out if seed == 0 else out.with_stem(f"{out.stem}-{seed}")
        for name, boundary in viz.decision_boundaries(trained, points, labels, path).items():
            found[name].append(boundary)
    print(f"{'network':16s}{'parameters':>12s}{'flat pieces':>26s}{'points right, %':>34s}")
    for name, hidden in NETWORKS.items():
        size = sum(p.numel() for p in models.mlp(2, 2, hidden).parameters())
        pieces = " ".join(f"{b.pieces:4d}" for b in found[name])
        right = " ".join(f"{100 * b.accuracy:5.1f}" for b in found[name])
        print(f"{name:16s}{size:12d}{pieces:>26s}{right:>34s}")
    print(f"wrote {out}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs/boundaries.png"), help="picture to write"
    )
    parser.add_argument(
        "--seeds", type=at_least(1), default=5, help="trainings of each (default: 5)"
    )
    parser.add_argument(
        "--steps", type=at_least(1), default=1000, help="steps of Adam (default: 1000)"
    )
    args = parser.parse_args()
    main(args.out, args.seeds, args.steps)
