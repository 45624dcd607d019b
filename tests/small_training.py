"""A training small enough for tests: 26 points of two classes, a network of two layers; and a data
folder of few digits."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

import tinygrad_cnn as tg
from tinygrad_cnn import nn, optim
from tinygrad_cnn.data import DataLoader, TensorDataset, load_dataset, write_idx
from tinygrad_cnn.nn import functional as F
from tinygrad_cnn.train import Callback, Trainer
from tinygrad_cnn.train.loop import Loop

DRAW = np.random.default_rng(0)
X = DRAW.standard_normal((26, 4)).astype(np.float32)
Y = (X.sum(1) > 0).astype(np.int64)


def loader(batch_size: int = 8, shuffle: bool = True, **options: Any) -> DataLoader:
    return DataLoader(TensorDataset(X, Y), batch_size, shuffle=shuffle, seed=3, **options)


def small(seed: int = 0, *middle: nn.Module) -> nn.Sequential:
    tg.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), *middle, nn.Linear(6, 2))


def trainer(model: nn.Module | None = None, lr: float = 0.1, **options: Any) -> Trainer:
    model = model or small()
    optimizer = optim.SGD(model.parameters(), lr, 0.9)
    return Trainer(model, optimizer, F.cross_entropy, **options)


def weights(model: nn.Module) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in model.state_dict().items()}


class Record(Callback):
    """Notes what is called, and the numbers that are logged."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.logged: list[dict[str, Any]] = []
        self.said: list[str] = []

    def on_begin(self, loop: Loop) -> None:
        self.calls.append("begin")

    def on_epoch_begin(self, loop: Loop) -> None:
        self.calls.append("epoch")

    def on_step(self, loop: Loop) -> None:
        self.calls.append(f"step {loop.step}")

    def on_log(self, loop: Loop, numbers: Any) -> None:
        self.logged.append(dict(numbers))

    def on_message(self, loop: Loop, line: str) -> None:
        self.said.append(line)

    def on_epoch_end(self, loop: Loop) -> None:
        self.calls.append("epoch end")

    def on_pause(self, loop: Loop) -> None:
        self.calls.append("pause")

    def on_end(self, loop: Loop) -> None:
        self.calls.append("end")


def endless(taken: list[int]) -> Iterator[tuple[tg.Tensor, tg.Tensor]]:
    for i in count():
        taken.append(i)
        yield tg.tensor(X[i % 20 : i % 20 + 4]), tg.tensor(Y[i % 20 : i % 20 + 4])


def write_digits(folder: Path, training: int, test: int) -> Path:
    """Make ``folder`` a data folder whose MNIST has so many images, the first bundled ones."""
    (folder / "mnist").mkdir()
    for stem, some, images in (
        ("train", load_dataset("mnist-mini", True), training),
        ("t10k", load_dataset("mnist-mini", False), test),
    ):
        labels = some.labels[:images].astype(np.uint8)
        write_idx(folder / "mnist" / f"{stem}-images-idx3-ubyte", some.images[:images])
        write_idx(folder / "mnist" / f"{stem}-labels-idx1-ubyte", labels)
    return folder
