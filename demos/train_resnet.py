"""Train a residual network: ResNet-20 on colour images, a small wide one on grey ones.

python demos/train_resnet.py                       # the bundled digits, offline
python demos/train_resnet.py --config demos/configs/resnet20.toml --data FOLDER   # cifar10-jpeg
python demos/train_resnet.py --config demos/configs/fashion.toml --data FOLDER    # Fashion-MNIST

Images are cropped at random, up to 4 pixels (2 for grey ones) off the middle, and where the config
says so mirrored. The learning rate goes up and down once (one cycle), a step a batch, which reaches
within few epochs what steps of a constant rate need many for. At the end the test images are also
judged by the mean of the outputs for image and mirror image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import tinygrad_cnn as tg
from tinygrad_cnn import nn, optim
from tinygrad_cnn.data import (
    Compose,
    DataLoader,
    ExpandDims,
    Normalize,
    RandomCrop,
    RandomHorizontalFlip,
    ToFloat,
    load_dataset,
)  # fmt: skip
from tinygrad_cnn.models import ConvBNReLU, resnet20
from tinygrad_cnn.nn import functional as F
from tinygrad_cnn.train import Run, TrainConfig, prepare, script, setting
from tinygrad_cnn.viz import learning_curves


@dataclass(frozen=True)
class Settings(TrainConfig):
    out: str = setting("runs/resnet", "folder for metrics, checkpoint and learning curves")
    epochs: int = setting(4, "passes over the training images")
    batch_size: int = setting(128, "images a step")
    lr: float = setting(0.2, "highest learning rate of the cycle")
    weight_decay: float = setting(5e-4, "times the weights, added to their gradients")
    flip: bool = setting(False, "mirror every other image; not for digits")
    weights: str = setting("", "the checkpoint of another run, to go on from its weights")


class Residual(nn.Module):
    """x + F(x), F two 3 × 3 convolutions with batch norm and ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = ConvBNReLU(channels, channels, 3, padding=1)
        self.conv2 = ConvBNReLU(channels, channels, 3, padding=1)

    def forward(self, x: tg.Tensor) -> tg.Tensor:
        return x + self.conv2(self.conv1(x))


def small_resnet() -> nn.Module:
    """(N, 1, 28, 28) → 32@28 → 64@14, residual → 128@7, residual → mean of each map → (N, 10)."""
    return nn.Sequential(
        ConvBNReLU(1, 32, 3, padding=1), nn.MaxPool2d(2),
        ConvBNReLU(32, 64, 3, padding=1), Residual(64), nn.MaxPool2d(2),
        ConvBNReLU(64, 128, 3, padding=1), Residual(128), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(128, 10),
    )  # fmt: skip


def logits_of(model: nn.Module, loader: DataLoader, mirrored: bool = False) -> np.ndarray:
    """The outputs (N, 10) for all images of ``loader``."""
    model.eval()
    with tg.inference_mode():
        return np.concatenate([model(x.flip(-1) if mirrored else x).numpy() for x, _ in loader])


def main(config: Settings) -> float:
    prepare(config)
    sets = [load_dataset(config.dataset, part, config.data or None) for part in (True, False)]
    labels = sets[1].labels
    colour = sets[0].images.ndim == 4  # (N, 3, H, W); grey ones are (N, H, W)
    if colour:
        pixels = Compose(ToFloat(), Normalize((0.491, 0.482, 0.447), (0.247, 0.243, 0.262)))
    else:
        pixels = Compose(ToFloat(), Normalize(0.2860, 0.3530), ExpandDims(1))
    size = sets[0].images.shape[-1]
    changes = [RandomCrop(size, padding=4 if colour else 2)]
    if config.flip:
        changes.append(RandomHorizontalFlip())
    train = DataLoader(
        sets[0], config.batch_size, shuffle=True, seed=config.seed, drop_last=True,
        transform=Compose(*changes, pixels),
    )  # fmt: skip
    test = DataLoader(sets[1], 250, transform=pixels)

    model = resnet20() if colour else small_resnet()
    if config.weights:
        model.load_state_dict(tg.load(config.weights)["model"])
    optimizer = optim.SGD(
        model.parameters(), config.lr, config.momentum, weight_decay=config.weight_decay
    )
    scheduler = optim.lr_scheduler.OneCycleLR(
        optimizer, config.lr, total_steps=config.epochs * len(train), cycle_momentum=False
    )

    with Run(config, model=model, optimizer=optimizer, scheduler=scheduler, loader=train) as run:
        for _ in run.epochs():
            model.train()
            for x, y in run.batches():
                logits = model(x)
                loss = F.cross_entropy(logits, y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                scheduler.step()
                run.record(loss, logits, y)
            run.end_epoch(test_accuracy=float((logits_of(model, test).argmax(1) == labels).mean()))

    logits = logits_of(model, test)
    both = logits + logits_of(model, test, mirrored=True)
    print(f"with mirror images: {(both.argmax(1) == labels).mean():.4f}")
    learning_curves(run.history(), run.folder / "curves.png")
    return float((logits.argmax(1) == labels).mean())


if __name__ == "__main__":
    script(main, __doc__, Settings)
