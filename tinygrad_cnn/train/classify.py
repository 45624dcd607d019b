"""Train an image classifier from a config: what ``tinygrad-cnn train CONFIG.toml`` does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .. import models, random
from ..backend import set_backend
from ..data import Compose, DataLoader, ExpandDims, Normalize, Pad, ToFloat, load_dataset
from ..nn import functional as F
from ..optim import SGD
from ..optim.lr_scheduler import CosineAnnealingLR
from ..tensor import Tensor
from ..threads import set_num_threads
from ..viz import image_grid, learning_curves
from .callbacks import read_history
from .config import TrainConfig
from .metrics import Accuracy
from .run import standard_callbacks
from .trainer import Trainer, outputs


def prepare(config: TrainConfig) -> None:
    """Make the config's backend, threads and seed the current ones."""
    if config.backend:
        set_backend(config.backend)
    if config.threads:
        set_num_threads(config.threads)
    random.manual_seed(config.seed)


def digit_loaders(config: TrainConfig) -> tuple[DataLoader, DataLoader]:
    """Loaders of the training and the test set: images (N, 1, 32, 32) normalised, labels (N,)."""
    images = Compose(ToFloat(), Normalize(0.1307, 0.3081), Pad(2), ExpandDims(1))
    train, test = (
        load_dataset(config.dataset, train=t, root=config.data or None) for t in (True, False)
    )
    return (
        DataLoader(train, config.batch_size, shuffle=True, seed=config.seed, transform=images),
        DataLoader(test, 500, transform=images),
    )


def predict(model: Any, loader: DataLoader) -> Tensor:
    """The classes (N,) that ``model`` gives the images of ``loader``, in evaluation mode."""
    return outputs(model, loader).argmax(1)


def pictures(folder: str | Path, dataset: Any, predicted: Any) -> None:
    """Draw ``curves.png`` and ``misclassified.png`` in the folder of a run, and say so."""
    folder = Path(folder)
    wrong = (predicted != dataset.labels).nonzero()[0]
    titles = [
        f"{dataset.classes[predicted[i]]}, not {dataset.classes[dataset.labels[i]]}"
        for i in wrong[:30]
    ]
    head = f"{len(wrong)} of {len(predicted)} test images are wrong"
    for path in (
        learning_curves(read_history(folder / "metrics.jsonl"), folder / "curves.png"),
        image_grid(dataset.images[wrong[:30]], titles, folder / "misclassified.png", head),
    ):
        print(f"wrote {path}")


def train(config: TrainConfig) -> float:
    """Train ``config.model`` on ``config.dataset``; returns the test accuracy.

    SGD with momentum, its rate falling to 0 along half a cosine. Prints its progress and writes
    metrics, a checkpoint and pictures into ``config.out``. Raises RequestError when it cannot
    resume, FileNotFoundError when the data set is not found, SystemExit(130) after Ctrl-C.
    """
    prepare(config)
    loader, test = digit_loaders(config)
    digits: Any = test.dataset
    model = models.build(config.model)
    optimizer = SGD(
        model.parameters(), config.lr, config.momentum, weight_decay=config.weight_decay
    )
    trainer = Trainer(
        model,
        optimizer,
        F.cross_entropy,
        scheduler=CosineAnnealingLR(optimizer, config.epochs),
        metrics=[Accuracy()],
        callbacks=standard_callbacks(config),
    )
    trainer.fit(loader, epochs=config.epochs, validation={"test": test}, resume=config.resume)
    predicted = predict(model, test).numpy()
    pictures(config.out, digits, predicted)
    return float((predicted == digits.labels).mean())
