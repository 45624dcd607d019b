"""What a convolutional network gains over a dense one, and what pooling gains, when images shift.

python demos/shifts.py                    # the bundled digits; about three minutes

Four networks of the same number of parameters learn the same digits, each with several seeds: an
MLP, and LeNet-5 with max pooling, with average pooling, and with every second row and column in
place of pooling. Then the test images are shifted by 0 to 4 pixels left, right, up and down. The
table shows accuracy on training and test images, the gap between them, accuracy at each shift, and
by how much a shift of one pixel changes the outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import tinygrad_cnn as tg
from tinygrad_cnn import nn, optim
from tinygrad_cnn.data import Compose, DataLoader, ExpandDims, Normalize, ToFloat, load_dataset
from tinygrad_cnn.models import mlp
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

Array = np.ndarray
IMAGES = Compose(ToFloat(), Normalize(0.1307, 0.3081), ExpandDims(1))
DIRECTIONS = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}
POOLING: dict[str, Callable[[tg.Tensor], tg.Tensor]] = {
    "max": lambda x: F.max_pool2d(x, 2),
    "average": lambda x: F.avg_pool2d(x, 2),
    "none": lambda x: x[:, :, ::2, ::2],
}
NETWORKS = ("mlp", *(f"cnn-{pooling}" for pooling in POOLING))


@dataclass(frozen=True)
class Settings(TrainConfig):
    out: str = setting("runs/shifts", "folder for metrics, checkpoints and the picture")
    seeds: int = setting(3, "trainings of each network, with seeds counted from --seed", at_least=1)


class LeNet5(nn.Module):
    """LeNet-5 for 28 × 28 images with the pooling of this name: 61,706 parameters."""

    def __init__(self, pooling: str) -> None:
        super().__init__()
        self.pool = POOLING[pooling]
        self.c1 = nn.Conv2d(1, 6, kernel_size=5, padding=2)
        self.c3 = nn.Conv2d(6, 16, kernel_size=5)
        self.classifier = nn.Sequential(
            nn.Flatten(), nn.Linear(16 * 5 * 5, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(),
            nn.Linear(84, 10),
        )  # fmt: skip

    def forward(self, x: tg.Tensor) -> tg.Tensor:
        return self.classifier(self.pool(F.relu(self.c3(self.pool(F.relu(self.c1(x)))))))


def network(name: str) -> nn.Module:
    """The network of this name; 77 hidden units give the MLP 61,225 parameters."""
    return mlp(hidden=(77,)) if name == "mlp" else LeNet5(name.removeprefix("cnn-"))


def train(name: str, config: Settings) -> nn.Module:
    prepare(config)
    digits = load_dataset(config.dataset, True, config.data or None)
    loader = DataLoader(digits, config.batch_size, shuffle=True, seed=config.seed, transform=IMAGES)
    model = network(name)
    optimizer = optim.SGD(
        model.parameters(), config.lr, config.momentum, weight_decay=config.weight_decay
    )
    scheduler = optim.lr_scheduler.CosineAnnealingLR(optimizer, config.epochs)
    trainer = Trainer(
        model, optimizer, F.cross_entropy, scheduler=scheduler, metrics=[Accuracy()],
        callbacks=standard_callbacks(config),
    )  # fmt: skip
    trainer.fit(loader, epochs=config.epochs, resume=config.resume)
    return model


def shift(images: Array, down: int, right: int) -> Array:
    """Images (N, H, W) moved by whole pixels; what comes in from outside is 0."""
    height, width = images.shape[1:]
    wide = np.pad(images, ((0, 0), (abs(down),) * 2, (abs(right),) * 2))
    top, left = abs(down) - down, abs(right) - right
    return wide[:, top : top + height, left : left + width]


def outputs(model: nn.Module, images: Array) -> Array:
    """Logits (N, 10) of uint8 images; an image's mean, which softmax ignores, is taken away."""
    with tg.inference_mode():
        parts = [images[i : i + 500] for i in range(0, len(images), 500)]
        logits = np.concatenate([model(tg.tensor(IMAGES(part))).numpy() for part in parts])
    return logits - logits.mean(1, keepdims=True)


def measure(model: nn.Module, train: tuple[Array, Array], test: tuple[Array, Array]) -> Array:
    """Training accuracy, test accuracy at shifts 0 to 4, relative change of outputs at shift 1."""
    right = [(outputs(model, train[0]).argmax(1) == train[1]).mean()]
    images, labels = test
    still = outputs(model, images)
    right.append((still.argmax(1) == labels).mean())
    for pixels in range(1, 5):
        moved = [
            outputs(model, shift(images, pixels * y, pixels * x)) for y, x in DIRECTIONS.values()
        ]
        right.append(np.mean([(logits.argmax(1) == labels).mean() for logits in moved]))
        if pixels == 1:
            lengths = np.linalg.norm(still, axis=1)
            change = np.mean([np.linalg.norm(m - still, axis=1) / lengths for m in moved])
    return np.array([*right, change])


def draw(results: dict[str, Array], path: Path) -> None:
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, values in results.items():
        accuracy = 100 * values[:, 1:6]
        (line,) = left.plot(range(5), accuracy.mean(0), "o-", ms=3, label=name)
        left.fill_between(
            range(5), accuracy.min(0), accuracy.max(0), color=line.get_color(), alpha=0.2
        )
        gap = 100 * (values[:, 0] - values[:, 1])
        right.bar(name, gap.mean(), yerr=[[np.ptp(gap) / 2]], color=line.get_color())
    left.set(title="test accuracy, %", xlabel="shift, pixels", xticks=range(5))
    left.legend(frameon=False)
    right.set(title="training less test accuracy, points")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def main(config: Settings) -> None:
    sets = [load_dataset(config.dataset, part, config.data or None) for part in (True, False)]
    (digit,) = sets[1].images[:1]
    dark, moved = digit > 127, shift(digit[None], 0, -2)[0] > 127
    on, off = int((moved & ~dark).sum()), int((dark & ~moved).sum())
    print(
        f"the first test image, 2 pixels to the left: {on + off} of {digit.size} inputs change, "
        f"{on} to ink and {off} to paper"
    )

    results = {}
    for name in NETWORKS:
        rows = []
        for seed in range(config.seed, config.seed + config.seeds):
            model = train(name, subrun(config, f"{name}-{seed}", seed=seed)).eval()
            rows.append(measure(model, *((part.images, part.labels) for part in sets)))
        results[name] = np.array(rows)

    print(f"\nmean ± spread (half of highest less lowest) in %; seeds: {config.seeds}")
    heads = ("training", "test", "gap", "1 px", "2 px", "3 px", "4 px", "change")
    print(f"{'network':12s} {'parameters':>10s}" + "".join(f"{head:>14s}" for head in heads))
    for name, rows in results.items():
        values = 100 * np.insert(rows, 2, rows[:, 0] - rows[:, 1], axis=1)
        cells = zip(values.mean(0), np.ptp(values, axis=0) / 2, strict=True)
        size = sum(p.numel() for p in network(name).parameters())
        print(f"{name:12s} {size:10,d}" + "".join(f"{m:8.2f} ±{s:4.2f}" for m, s in cells))
    draw(results, Path(config.out, "shifts.png"))
    print(f"wrote {Path(config.out, 'shifts.png')}")


if __name__ == "__main__":
    script(main, __doc__, Settings)
