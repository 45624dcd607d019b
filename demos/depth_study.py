"""Deeper is not better without shortcuts: plain and residual networks of 20 and 56 layers, trained.

python demos/depth_study.py                    # a few of the bundled digits
python demos/depth_study.py --config demos/configs/depth.toml --data FOLDER     # cifar10-jpeg

All four have batch norm, He's initial weights, the same images in the same order and the same
learning rates; the loss on the training images is what is compared, so overfitting plays no part.
demos/gradient_depth.py shows why: what becomes of the gradient on its way to the first layer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinygrad_cnn import nn, optim
from tinygrad_cnn.data import (
    Compose,
    DataLoader,
    ExpandDims,
    Normalize,
    Subset,
    ToFloat,
    load_dataset,
)
from tinygrad_cnn.models import plain_net, resnet20, resnet56
from tinygrad_cnn.nn import functional as F
from tinygrad_cnn.train import (
    Accuracy,
    RequestError,
    Schedule,
    TrainConfig,
    Trainer,
    prepare,
    read_history,
    script,
    setting,
    standard_callbacks,
    subrun,
)
from tinygrad_cnn.viz import lines

NETWORKS: dict[str, Callable[[int], nn.Module]] = {
    "plain 20": lambda channels: plain_net(20, in_channels=channels),
    "residual 20": lambda channels: resnet20(in_channels=channels),
    "plain 56": lambda channels: plain_net(56, in_channels=channels),
    "residual 56": lambda channels: resnet56(in_channels=channels),
}


@dataclass(frozen=True)
class Settings(TrainConfig):
    out: str = setting("runs/depth", "folder for metrics, checkpoints and the picture")
    images: int = setting(2000, "training images used, evenly spread over the data set", at_least=1)
    epochs: int = setting(3, "passes over these images")
    lr: float = setting(0.05, "highest learning rate; it rises once and falls to 0")
    weight_decay: float = setting(1e-4, "times the weights, added to their gradients")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.images < self.batch_size:
            raise RequestError(
                f"images: expected at least the batch size, {self.batch_size}, "
                f"received {self.images}"
            )


def train(name: str, config: Settings) -> list[tuple[int, float]]:
    """Train the network of this name; (step, mean training loss) at the end of each epoch."""
    prepare(config)
    whole = load_dataset(config.dataset, True, config.data or None)
    some = Subset(whole, np.linspace(0, len(whole) - 1, config.images).astype(int))
    grey = whole.images.ndim == 3
    pixels = Compose(ToFloat(), Normalize(0.5, 0.25), *([ExpandDims(1)] if grey else []))
    loader = DataLoader(
        some, config.batch_size, shuffle=True, seed=config.seed, drop_last=True, transform=pixels
    )
    model = NETWORKS[name](1 if grey else 3)
    optimizer = optim.SGD(
        model.parameters(), config.lr, config.momentum, weight_decay=config.weight_decay
    )
    cycle = optim.lr_scheduler.OneCycleLR(
        optimizer, config.lr, total_steps=config.epochs * len(loader), cycle_momentum=False
    )
    trainer = Trainer(
        model, optimizer, F.cross_entropy, metrics=[Accuracy()],
        callbacks=[*standard_callbacks(config), Schedule(cycle, "batch")],
    )  # fmt: skip
    trainer.fit(loader, epochs=config.epochs, resume=config.resume)
    history = read_history(Path(config.out, "metrics.jsonl"))
    return [(line["step"], line["train_loss"]) for line in history if "train_loss" in line]


def main(config: Settings) -> None:
    out, curves = Path(config.out), {}
    for name in NETWORKS:
        print(f"\n{name}")
        points = train(name, subrun(config, name.replace(" ", "-")))
        curves[name] = tuple(zip(*points, strict=True))
    labels = {"title": "training loss", "xlabel": "step", "ylabel": "mean of the epoch"}
    print(f"\nwrote {lines(curves, out / 'training.png', **labels)}")


if __name__ == "__main__":
    script(main, __doc__, Settings)
