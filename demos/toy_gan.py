"""Generative models small enough to see whole: a table of ten points, and a GAN in the plane.

python demos/toy_gan.py                              # about a quarter of a minute
python demos/toy_gan.py --minibatch 0 --loss saturating

First a model that is a table: counts of ten points with two binary features and a class give P(x),
P(x, y), P(x | y) and P(y | x), and a random number draws a point by the distribution function. Then
two dense networks play algorithm 4-2 for points on a ring of eight clusters. A generator may serve
a few of the clusters and leave out the others; minibatch discrimination lets the discriminator see
that. The program trains without and with it and counts the clusters that are served.
toy_gan.png shows the points.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np

import tinygrad_cnn as tg
from tinygrad_cnn import models, optim
from tinygrad_cnn.train import at_least
from tinygrad_cnn.train.adversarial import discriminator_loss, generator_loss

POINTS = np.array([(0, 0), (0, 0), (0, 1), (0, 1), (0, 1), (1, 0), (1, 1), (1, 1), (1, 1), (1, 1)])
CLASSES = np.array([1, 1, 1, 0, 1, 0, 0, 0, 0, 1])
CELLS = [(0, 0), (0, 1), (1, 0), (1, 1)]

MODES, RADIUS, SPREAD, LATENT = 8, 2.0, 0.1, 8


def joint_table() -> np.ndarray:
    """P(x, y) of the ten points: a row for each x, a column for each y."""
    is_x = np.array([(POINTS == cell).all(1) for cell in CELLS])
    is_y = np.array([CLASSES == y for y in (0, 1)])
    return (is_x[:, None] & is_y).sum(2) / len(POINTS)


def draw(chances: np.ndarray, number: float) -> tuple[int, int]:
    """The x whose step of the distribution function holds ``number`` in [0, 1)."""
    return CELLS[int(np.searchsorted(np.cumsum(chances), number, side="right"))]


def show_tables() -> None:
    joint = joint_table()
    p_x, p_y = joint.sum(1), joint.sum(0)
    print("x       P(x)   P(x,y=0) P(x,y=1)   P(x|y=0) P(x|y=1)   P(y=1|x)")
    for i, cell in enumerate(CELLS):
        together, given_y = joint[i], joint[i] / p_y
        print(
            f"{cell}  {p_x[i]:.2f}   {together[0]:8.2f} {together[1]:8.2f}   "
            f"{given_y[0]:8.2f} {given_y[1]:8.2f}   {together[1] / p_x[i]:8.2f}"
        )
    print(f"drawn by 0.34: {draw(p_x, 0.34)}, by 0.83: {draw(p_x, 0.83)}\n")


def ring(count: int) -> tg.Tensor:
    """Points (count, 2) of the eight clusters."""
    angle = tg.randint(0, MODES, (count,)).to("float32") * (2 * math.pi / MODES)
    centre = tg.stack((angle.cos(), angle.sin()), 1) * RADIUS
    return centre + SPREAD * tg.randn(count, 2)


def modes_served(points: np.ndarray) -> tuple[int, float]:
    """How many clusters get at least 2 % of the points, and the share of points within four
    deviations of a cluster."""
    angles = np.arange(MODES) * (2 * math.pi / MODES)
    centres = RADIUS * np.stack((np.cos(angles), np.sin(angles)), 1)
    distance = np.linalg.norm(points[:, None] - centres, axis=2)
    near = distance.min(1) < 4 * SPREAD
    counts = np.bincount(distance.argmin(1)[near], minlength=MODES)
    return int((counts >= 0.02 * len(points)).sum()), float(near.mean())


def train(minibatch: int, loss: str, k: int, m: int, steps: int, seed: int) -> np.ndarray:
    """Points (1000, 2) of a generator after so many iterations of algorithm 4-2."""
    tg.manual_seed(seed)
    G = models.mlp_generator(LATENT, (64, 64), (2,))
    del G[-2]  # no tanh: points may lie anywhere
    D = models.mlp_discriminator((64, 64), 2, dropout=0.0, minibatch=minibatch)
    g_optimizer = optim.Adam(G.parameters(), 1e-3, (0.5, 0.999))
    d_optimizer = optim.Adam(D.parameters(), 1e-3, (0.5, 0.999))
    for _ in range(steps):
        for _ in range(k):  # D ascends
            d_loss = discriminator_loss(D(ring(m)), D(G(tg.randn(m, LATENT)).detach()))
            d_optimizer.zero_grad()
            d_loss.backward()
            d_optimizer.step()
        g_loss = generator_loss(D(G(tg.randn(m, LATENT))), loss)  # G descends
        g_optimizer.zero_grad()
        g_loss.backward()
        g_optimizer.step()
    with tg.no_grad():
        return G(tg.randn(1000, LATENT)).numpy()


def picture(panels: dict[str, np.ndarray], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure((3.2 * len(panels), 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (title, points) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        axes.scatter(*points.T, s=3, alpha=0.4)
        axes.set(title=title, xlim=(-3, 3), ylim=(-3, 3), aspect="equal")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--loss", choices=("non-saturating", "saturating"), default="non-saturating",
        help="of the generator (default: non-saturating)",
    )  # fmt: skip
    for option, least, default, about in (
        ("--minibatch", 0, 8, "values of discrimination"),
        ("-k", 1, 1, "steps of D for one of G"),
        ("-m", 1, 64, "points a step"),
        ("--steps", 1, 1000, "iterations"),
        ("--seed", 0, 0, "of weights and noise"),
    ):
        about += f" (default: {default})"
        parser.add_argument(option, type=at_least(least), default=default, metavar="N", help=about)
    parser.add_argument(
        "--out", type=Path, default=Path("runs/toy_gan.png"), help="picture to write"
    )
    args = parser.parse_args()

    show_tables()
    panels = {"data": ring(1000).numpy()}
    for minibatch in dict.fromkeys((0, args.minibatch)):
        points = train(minibatch, args.loss, args.k, args.m, args.steps, args.seed)
        served, near = modes_served(points)
        name = f"minibatch {minibatch}" if minibatch else "plain"
        panels[f"{name}: {served} of {MODES}"] = points
        print(f"{name:12s} {served} of {MODES} clusters, {near:.0%} of the points near one")
    picture(panels, args.out)
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
