"""Features made by hand or learned? One small network with three different first layers.

python demos/fixed_kernels.py                     # the bundled digits, offline

Nine kernels of 3 × 3, ReLU, max pooling of 4 × 4 and one dense layer tell digits apart. The kernels
are those of image processing (edges, sharpening, blurs: tinygrad_cnn/viz/kernels.py), random ones,
or random ones that learn together with the dense layer. The first two stay as they are, as features
did before networks learned them. Each is trained with several seeds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import tinygrad_cnn as tg
from tinygrad_cnn import nn, optim
from tinygrad_cnn.data import Compose, DataLoader, ExpandDims, Normalize, ToFloat, load_dataset
from tinygrad_cnn.nn import functional as F
from tinygrad_cnn.train import (
    Accuracy,
    TrainConfig,
    Trainer,
    prepare,
    script,
    setting,
    standard_callbacks,
    subrun,
)
from tinygrad_cnn.viz import kernels

IMAGES = Compose(ToFloat(), Normalize(0.1307, 0.3081), ExpandDims(1))
FIRST_LAYERS = ("by hand", "random", "learned")


@dataclass(frozen=True)
class Settings(TrainConfig):
    epochs: int = setting(5, "passes over the training images")
    weight_decay: float = setting(0.0, "times the weights, added to their gradients")
    out: str = setting("runs/fixed_kernels", "folder for metrics and checkpoints")
    seeds: int = setting(3, "trainings of each network, with seeds counted from --seed", at_least=1)


def network(first_layer: str) -> nn.Sequential:
    """(N, 1, 28, 28) → 9 maps → (N, 9, 7, 7) → (N, 10)."""
    conv = nn.Conv2d(1, 9, 3, padding=1)
    if first_layer == "by hand":
        with tg.no_grad():
            conv.weight.copy_(kernels.filter_weight(list(kernels.KERNELS.values()), 1))
            conv.bias.fill_(0.0)
    conv.requires_grad_(first_layer == "learned")
    return nn.Sequential(conv, nn.ReLU(), nn.MaxPool2d(4), nn.Flatten(), nn.Linear(9 * 7 * 7, 10))


def train(first_layer: str, config: Settings) -> float:
    """Test accuracy of the trained network."""
    prepare(config)  # backend, threads, seed
    parts = [load_dataset(config.dataset, part, config.data or None) for part in (True, False)]
    loader = DataLoader(
        parts[0], config.batch_size, shuffle=True, seed=config.seed, transform=IMAGES
    )
    model = network(first_layer)
    optimizer = optim.SGD(
        [p for p in model.parameters() if p.requires_grad],
        config.lr,
        config.momentum,
        weight_decay=config.weight_decay,
    )
    scheduler = optim.lr_scheduler.CosineAnnealingLR(optimizer, config.epochs)
    trainer = Trainer(
        model, optimizer, F.cross_entropy, scheduler=scheduler, metrics=[Accuracy()],
        callbacks=standard_callbacks(config),
    )  # fmt: skip
    trainer.fit(loader, epochs=config.epochs, resume=config.resume)
    return trainer.evaluate(DataLoader(parts[1], 500, transform=IMAGES))["accuracy"]


def main(config: Settings) -> None:
    rows = {}
    for name in FIRST_LAYERS:
        rows[name] = []
        for seed in range(config.seed, config.seed + config.seeds):
            settings = subrun(config, f"{name.replace(' ', '-')}-{seed}", seed=seed)
            rows[name].append(train(name, settings))
    print(f"\ntest accuracy in %, mean ± half of highest less lowest; seeds: {config.seeds}")
    for name, found in rows.items():
        learning = sum(p.numel() for p in network(name).parameters() if p.requires_grad)
        print(
            f"{name:8s} {100 * np.mean(found):6.2f} ±{50 * np.ptp(found):5.2f}"
            f"   ({learning:,} parameters learn)"
        )


if __name__ == "__main__":
    script(main, __doc__, Settings)
