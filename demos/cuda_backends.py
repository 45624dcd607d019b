"""Train the same LeNet-5 on several backends in one process and compare the losses.

python demos/cuda_backends.py --steps 50                       # numba, cudasim, numba
python demos/cuda_backends.py --backends numpy cudasim cupy    # with a GPU
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from train_lenet import LeNet5

import tinygrad_cnn as tg
from tinygrad_cnn import optim
from tinygrad_cnn.data import Compose, DataLoader, ExpandDims, Normalize, Pad, ToFloat, load_dataset
from tinygrad_cnn.nn import functional as F
from tinygrad_cnn.train import at_least


def train(backend: str, steps: int, batch_size: int) -> list[float]:
    """The loss of each step; everything but the backend is the same every time."""
    tg.set_backend(backend)  # the one line that changes
    tg.manual_seed(0)
    images = Compose(ToFloat(), Normalize(0.1307, 0.3081), Pad(2), ExpandDims(1))
    data = load_dataset("mnist-mini", True)
    loader = iter(DataLoader(data, batch_size, shuffle=True, seed=0, transform=images))
    model = LeNet5()
    optimizer = optim.SGD(model.parameters(), 0.03, 0.9, weight_decay=5e-4)
    losses = []
    for _ in range(steps):
        x, y = next(loader)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backends", nargs="+", default=["numba", "cudasim", "numba"])
    parser.add_argument("--steps", type=at_least(1), default=50)
    parser.add_argument("--batch-size", type=at_least(1), default=32)
    args = parser.parse_args()
    first: list[float] = []
    for backend in args.backends:
        start = time.perf_counter()
        losses = train(backend, args.steps, args.batch_size)
        first = first or losses
        worst = max(abs(a - b) / abs(b) for a, b in zip(losses, first, strict=True))
        print(
            f"{backend:8} loss {losses[0]:.6f} -> {np.mean(losses[-5:]):.6f}   "
            f"max relative difference from {args.backends[0]} {worst:.1e}   "
            f"{time.perf_counter() - start:.1f} s"
        )


if __name__ == "__main__":
    main()
