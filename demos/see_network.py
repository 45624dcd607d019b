"""Train LeNet-5 for a few seconds, then look inside: one picture for each question.

python demos/see_network.py                                    # the bundled digits, offline
python demos/see_network.py --checkpoint runs/see/checkpoint.safetensors       # trained before
python demos/see_network.py --dataset fashion-mnist --data FOLDER --out runs/see-fashion

What does it get wrong (curves, confusion, misclassified)? What does it look for (filters,
patterns)? What is left of an image in each layer (maps/)? Which pixels decide (heat)? What is a
convolution (matrix)? docs/pictures.md shows the pictures and says what to see in them.
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
from tinygrad_cnn.train import Run, TrainConfig, predict, prepare, script, setting

MEAN, STD = 0.1307, 0.3081
BLACK, WHITE = -MEAN / STD, (1 - MEAN) / STD
IMAGES = Compose(ToFloat(), Normalize(MEAN, STD), ExpandDims(1))
CAM_LAYERS = ("relu1", "s2", "relu2")  # Grad-CAM after each, from fine to coarse
Array = np.ndarray


@dataclass(frozen=True)
class Settings(TrainConfig):
    out: str = setting("runs/see", "folder for metrics, checkpoint and pictures")
    epochs: int = setting(4, "passes over the training images")
    checkpoint: str = setting("", "look at the LeNet-5 in this file instead of training one")
    images: int = setting(200, "test images that the counts in maps and heat are taken over")
    pattern_steps: int = setting(60, "steps of gradient ascent for each pattern")


def train(model: nn.Module, loader: DataLoader, test: DataLoader, config: Settings) -> None:
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
    for layer, channels in (("c1", 6), ("c3", 16), ("output", 10)):
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


def draw_heat(model: nn.Module, x: Array, data: ImageDataset, predicted: Array, out: Path) -> None:
    """Saliency and Grad-CAM of some images, and the share of all heat that is on the ink."""
    heats = {"saliency": viz.saliency(model, x)}
    heats |= {f"Grad-CAM {name}": viz.grad_cam(model, x, layer=name) for name in CAM_LAYERS}
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
    loader = DataLoader(
        sets[0], config.batch_size, shuffle=True, seed=config.seed, transform=IMAGES
    )
    test = DataLoader(sets[1], 500, transform=IMAGES)
    model = models.lenet5(image_size=28)
    if config.checkpoint:
        model.load_state_dict(tg.load(config.checkpoint)["model"])
    else:
        train(model, loader, test, config)

    data, predicted = sets[1], predict(model, test).numpy()
    shown = IMAGES(data.images[: config.images])
    draw_errors(predicted, data, out)
    viz.filters(model, out / "filters.png")
    draw_maps(model, shown, out)
    draw_patterns(model, config.pattern_steps, out)
    draw_heat(model, shown, data, predicted, out)
    draw_matrix(model, out)
    print(f"wrote the pictures into {out}")
    return float((predicted == data.labels).mean())


if __name__ == "__main__":
    script(main, __doc__, Settings)
