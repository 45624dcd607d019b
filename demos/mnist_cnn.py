"""One network for handwritten digits, built in three ways, trained three times, and asked together.

python demos/mnist_cnn.py                            # the bundled 10,000 images, offline
python demos/mnist_cnn.py --config demos/configs/mnist_cnn.toml --data FOLDER     # all of MNIST

The convolutional network 32-64-128 (619,786 parameters) as nn.Sequential, as a graph of calls
(nn.Model) and as a class. First all three go through the bundled images once from the same weights:
the losses must be equal bits. Then each is trained with a seed of its own, and an ensemble adds
their outputs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import tinygrad_cnn as tg
from tinygrad_cnn import nn, optim
from tinygrad_cnn.data import Compose, DataLoader, ExpandDims, ToFloat, load_dataset
from tinygrad_cnn.models import Ensemble, mnist_cnn
from tinygrad_cnn.nn import functional as F
from tinygrad_cnn.train import Run, TrainConfig, predict, prepare, script, subrun
from tinygrad_cnn.viz import learning_curves

STYLES = ("sequential", "functional", "subclass")


def loaders(config: TrainConfig) -> tuple[DataLoader, DataLoader]:
    """Batches of grey values 0 to 1 (N, 1, 28, 28) and labels (N,)."""
    images = Compose(ToFloat(), ExpandDims(1))
    train, test = (
        load_dataset(config.dataset, part, config.data or None) for part in (True, False)
    )
    return (
        DataLoader(train, config.batch_size, shuffle=True, seed=config.seed, transform=images),
        DataLoader(test, 500, transform=images),
    )


def accuracy(model: nn.Module, test: DataLoader) -> float:
    return float((predict(model, test).numpy() == test.dataset.labels).mean())


def losses(style: str, config: TrainConfig) -> Iterator[float]:
    """The loss of every step of an epoch; all styles start from the same weights."""
    prepare(config)  # seeds the weights and the dropout masks
    given, model = mnist_cnn(), mnist_cnn(style=style)
    with tg.no_grad():
        for mine, weights in zip(model.parameters(), given.parameters(), strict=True):
            mine.copy_(weights)
    optimizer = optim.Adam(model.parameters(), config.lr)
    for x, y in loaders(config)[0]:
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield loss.item()


def train_member(style: str, config: TrainConfig) -> nn.Module:
    """Adam, its rate falling to 0 along half a cosine."""
    prepare(config)
    train, test = loaders(config)
    model = mnist_cnn(style=style)
    betas = (config.momentum, 0.999)
    optimizer = optim.Adam(model.parameters(), config.lr, betas, weight_decay=config.weight_decay)
    scheduler = optim.lr_scheduler.CosineAnnealingLR(optimizer, config.epochs)
    with Run(config, model=model, optimizer=optimizer, scheduler=scheduler, loader=train) as run:
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
            run.end_epoch(test_accuracy=accuracy(model, test))
    learning_curves(run.history(), run.folder / "curves.png")
    return model


def main(config: TrainConfig) -> float:
    small = replace(config, dataset="mnist-mini")
    curves = [list(islice(losses(style, small), config.steps or None)) for style in STYLES]
    if not curves[0] == curves[1] == curves[2]:
        raise SystemExit("the three styles differ, which they must not")
    print(f"same weights, {len(curves[0])} steps: the losses of the three styles are equal bits")

    models = []
    for i, style in enumerate(STYLES):
        models.append(train_member(style, subrun(config, style, seed=config.seed + i)))

    test = loaders(config)[1]
    for i, (style, model) in enumerate(zip(STYLES, models, strict=True)):
        print(f"{style:10s} seed {config.seed + i}  test accuracy {accuracy(model, test):.4f}")
    print(f"the {len(models)} together:", end=" ")
    return accuracy(Ensemble(models), test)


if __name__ == "__main__":
    script(
        main, __doc__, epochs=15, batch_size=100, lr=1e-3, weight_decay=0.0, out="runs/mnist_cnn"
    )
