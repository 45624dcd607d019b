"""Train two networks for a few seconds each, then look inside: one picture for each question.

python demos/see_network.py                           # the bundled digits, offline; a minute
python demos/see_network.py --trained runs/see        # look again at what that run trained
python demos/see_network.py --dataset fashion-mnist --data FOLDER --out runs/see-fashion

What does it get wrong (curves, confusion, misclassified)? What does it look for (filters,
patterns)? What is left of an image in each layer (maps/)? Which pixels decide (heat)? What is a
convolution (matrix)? docs/pictures.md shows the pictures and says what to see in them. The first
network is LeNet-5; the second ends in the mean of each map, for the map of heat it is good for.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

import tinygrad_cnn as tg
from tinygrad_cnn import models, nn, optim, viz
from tinygrad_cnn.data import (
    Compose,
    DataLoader,
    ExpandDims,
    ImageDataset,
    Normalize,
    ToFloat,
    load_dataset,
)
from tinygrad_cnn.nn import functional as F
from tinygrad_cnn.train import Run, TrainConfig, predict, prepare, script, setting, subrun

MEAN, STD = 0.1307, 0.3081
BLACK, WHITE = -MEAN / STD, (1 - MEAN) / STD
IMAGES = Compose(ToFloat(), Normalize(MEAN, STD), ExpandDims(1))
Array = np.ndarray


@dataclass(frozen=True)
class Settings(TrainConfig):
    out: str = setting("runs/see", "folder for metrics, checkpoint and pictures")
    epochs: int = setting(4, "passes over the training images")
    trained: str = setting("", "take the networks from this folder of an earlier run")
    images: int = setting(
        200, "test images that the counts in maps and heat are taken over", at_least=1
    )
    pattern_steps: int = setting(60, "steps of gradient ascent for each pattern", at_least=1)


def pooled_net() -> nn.Module:
    """(N, 1, 28, 28) → 16@28 → 32@14 → 32@14 → mean of each map → (N, 10)."""
    return nn.Sequential(
        models.ConvBNReLU(1, 16, 3, padding=1), nn.MaxPool2d(2),
        models.ConvBNReLU(16, 32, 3, padding=1), models.ConvBNReLU(32, 32, 3, padding=1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10),
    )  # fmt: skip


def train(model: nn.Module, data: ImageDataset, test: DataLoader, config: Settings) -> None:
    loader = DataLoader(data, config.batch_size, shuffle=True, seed=config.seed, transform=IMAGES)
    optimizer = optim.SGD(
        model.parameters(), config.lr, config.momentum, weight_decay=config.weight_decay
    )
    scheduler = optim.lr_scheduler.CosineAnnealingLR(optimizer, config.epochs)
    with Run(config, model=model, optimizer=optimizer, scheduler=scheduler, loader=loader) as run:
        for _ in run.epochs():
            model.train()
            for x, y in run.batches():
                logits = model(x)
                loss = F.cross_entropy(logits, y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                run.record(loss, logits, y)
            scheduler.step()
            right = (predict(model, test).numpy() == test.dataset.labels).mean()
            run.end_epoch(test_accuracy=float(right))
    viz.learning_curves(run.history(), run.folder / "curves.png")


def draw_errors(predicted: Array, data: ImageDataset, out: Path) -> None:
    count = len(data.classes)
    pairs = np.bincount(count * data.labels + predicted, minlength=count**2).reshape(count, count)
    viz.confusion_matrix(pairs, data.classes, out / "confusion.png")
    errors = pairs - np.diag(pairs.diagonal())
    i, j = np.unravel_index(errors.argmax(), errors.shape)
    print(f"most frequent error: {data.classes[i]} taken for {data.classes[j]}, {errors[i, j]}×")
    wrong = (predicted != data.labels).nonzero()[0][:24]
    titles = [f"{data.classes[predicted[k]]}, not {data.classes[data.labels[k]]}" for k in wrong]
    viz.image_grid(data.images[wrong], titles, out / "misclassified.png", columns=8)


def draw_maps(model: nn.Module, x: Array, out: Path) -> None:
    print(f"{'layer':8s}{'maps':>16s}{'dead, %':>10s}{'always, %':>11s}{'positive cells, %':>19s}")
    for row in viz.activations(model, x, out / "maps"):
        size = " × ".join(map(str, row.maps.shape[1:]))
        shares = f"{100 * row.dead:10.1f}{100 * row.never:11.1f}{100 * row.positive:19.1f}"
        print(f"{row.name:8s}{size:>16s}{shares}")


def draw_patterns(model: nn.Module, steps: int, out: Path) -> None:
    for layer, channels in (("c3", 16), ("output", 10)):
        found = [
            viz.filter_pattern(
                model, layer, k, (1, 28, 28), steps=steps, limits=(BLACK, WHITE), start=0.1, seed=k
            )
            for k in range(channels)
        ]
        titles = [f"{k}: {p.activations[0]:.1f} → {p.activations[-1]:.1f}"
                  for k, p in enumerate(found)]  # fmt: skip
        heading = f"what excites {layer}: activation of noise → of the pattern"
        sheet = np.stack([p.image[0] for p in found])
        viz.image_grid(sheet, titles, out / f"patterns-{layer}.png", heading, columns=8)
        rising = sum(len(p.activations) > 1 and min(np.diff(p.activations)) > 0 for p in found)
        print(f"patterns of {layer}: {rising} of {channels} activations rose at every logged step")


def draw_heat(
    lenet: nn.Module, pooled: nn.Module, x: Array, data: ImageDataset, predicted: Array, out: Path
) -> None:
    """Saliency and Grad-CAM of some images, and the share of all heat that is on the ink."""
    heats = {
        "saliency": viz.saliency(lenet, x),
        "Grad-CAM": viz.grad_cam(lenet, x),
        "Grad-CAM, mean": viz.grad_cam(pooled, x),
    }
    ink = F.max_pool2d(tg.tensor((x > 0).astype(np.float32)), 5, 1, padding=2).numpy()[:, 0]
    print(f"the ink and two pixels around it are {100 * ink.mean():.1f} % of the image and hold")
    for name, heat in heats.items():
        print(f"  {100 * (heat * ink).sum() / heat.sum():.1f} % of {name}")
    first = [int(np.argmax(data.labels[: len(x)] == k)) for k in (0, 2, 3, 4, 5)]
    titles = [f"taken for {data.classes[predicted[k]]}" for k in first]
    rows = [(name, heat[first]) for name, heat in heats.items()]
    viz.heat_sheet(data.images[first], rows, out / "heat.png", titles)


def draw_matrix(model: nn.Module, out: Path) -> None:
    """The first filter of c1 as the matrix that turns a 12 × 12 image into its 12 × 12 map."""
    one = nn.Conv2d(1, 1, 5, padding=2, bias=False)
    one.load_state_dict({"weight": model.c1.weight[:1]})
    found = viz.conv_matrix(one, (1, 12, 12), out / "matrix.png")
    rows, columns = found.matrix.shape
    print(f"one filter of c1 on a 12 × 12 image is a matrix of {rows} × {columns} numbers, "
          f"{100 * found.zeros:.1f} % of them 0, made of {found.weights} weights")  # fmt: skip


def main(config: Settings) -> float:
    prepare(config)
    out = Path(config.out)
    sets = [load_dataset(config.dataset, part, config.data or None) for part in (True, False)]
    test = DataLoader(sets[1], 500, transform=IMAGES)
    networks = {"lenet5": models.lenet5(image_size=28), "pooled": pooled_net()}
    for name, network in networks.items():
        if config.trained:
            saved = tg.load(Path(config.trained, name, "checkpoint.safetensors"))
            network.load_state_dict(saved["model"])
        else:
            train(network, sets[0], test, subrun(config, name))
    model, pooled = networks.values()

    data, predicted = sets[1], predict(model, test).numpy()
    shown = IMAGES(data.images[: config.images])
    draw_errors(predicted, data, out)
    viz.filters(model, out / "filters.png")
    draw_maps(model, shown, out)
    draw_patterns(model, config.pattern_steps, out)
    draw_heat(model, pooled, shown, data, predicted, out)
    draw_matrix(model, out)
    print(f"wrote the pictures into {out}")
    return float((predicted == data.labels).mean())


if __name__ == "__main__":
    script(main, __doc__, Settings)
