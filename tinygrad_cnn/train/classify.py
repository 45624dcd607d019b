"""Train an image classifier from a config: what ``tinygrad-cnn train CONFIG.toml`` does."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import models, random
from ..backend import set_backend
from ..data import (
    Compose,
    DataLoader,
    ExpandDims,
    ImageAugmentation,
    ImageDataset,
    Normalize,
    Pad,
    ToFloat,
    Transform,
    load_dataset,
)
from ..nn import Module
from ..nn import functional as F
from ..optim import SGD
from ..optim.lr_scheduler import CosineAnnealingLR
from ..tensor import Tensor
from ..threads import set_num_threads
from ..viz import image_grid, learning_curves
from .callbacks import read_history
from .config import RequestError, TrainConfig, one_of, setting
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


@dataclass(frozen=True)
class ClassifierConfig(TrainConfig):
    """The settings of ``train``: those of every run, and random changes of the training images."""

    augment: dict[str, Any] = setting(
        {},
        "random changes of the training images, such as rotation_range=15,zoom_range=0.1 "
        "(default: none)",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.augment:
            one_of("augment", name, inspect.signature(ImageAugmentation).parameters)
        try:
            ImageAugmentation(**self.augment)
        except (TypeError, ValueError) as error:
            raise RequestError(f"augment: {error}") from error


STATISTICS: dict[str, tuple[Any, Any]] = {  # mean and standard deviation of the training pixels
    "mnist-mini": (0.1307, 0.3081),
    "mnist": (0.1307, 0.3081),
    "fashion-mnist": (0.2860, 0.3530),
    "cifar10-jpeg": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
}


def image_loaders(
    config: TrainConfig, augmentation: ImageAugmentation | None = None
) -> tuple[DataLoader, DataLoader]:
    """Loaders of the training and the test set: images (N, C, 32, 32) normalised, labels (N,).

    ``augmentation`` changes the training images. Grey images of 28 × 28 get a black margin.
    """
    train, test = (
        load_dataset(config.dataset, train=t, root=config.data or None) for t in (True, False)
    )
    plain: list[Transform] = [ToFloat(), Normalize(*STATISTICS[config.dataset])]
    if train.images.ndim == 3:
        plain += [Pad(2), ExpandDims(1)]
    changed = [augmentation, *plain] if augmentation else plain
    return (
        DataLoader(
            train, config.batch_size, shuffle=True, seed=config.seed, transform=Compose(*changed)
        ),
        DataLoader(test, 500, transform=Compose(*plain)),
    )


def build_model(name: str, dataset: ImageDataset) -> Module:
    """The model of this name, for the classes and channels of a data set where it can choose."""
    channels = dataset.images.shape[1] if dataset.images.ndim == 4 else 1
    known = inspect.signature(models.BUILDERS[name]).parameters
    fitting = {"num_classes": len(dataset.classes), "in_channels": channels}
    return models.build(name, **{k: v for k, v in fitting.items() if k in known})


def predict(model: Any, loader: DataLoader) -> Tensor:
    """The classes (N,) that ``model`` gives the images of ``loader``, in evaluation mode."""
    return outputs(model, loader).argmax(1)


def pictures(folder: str | Path, dataset: Any, predicted: Any) -> None:
    """Draw ``curves.png`` and ``misclassified.png`` in the folder of a run, and say so."""
    folder = Path(folder)
    wrong = (predicted != dataset.labels).nonzero()[0]
    some = wrong[np.linspace(0, len(wrong) - 1, min(len(wrong), 30)).astype(int)]  # of all classes
    titles = [
        f"{dataset.classes[predicted[i]]}, not {dataset.classes[dataset.labels[i]]}" for i in some
    ]
    images = dataset.images[some]
    images = images.transpose(0, 2, 3, 1) if images.ndim == 4 else images
    head = f"{len(wrong)} of {len(predicted)} test images are wrong"
    for path in (
        learning_curves(read_history(folder / "metrics.jsonl"), folder / "curves.png"),
        image_grid(images, titles, folder / "misclassified.png", head),
    ):
        print(f"wrote {path}")


def train(config: ClassifierConfig) -> float:
    """Train ``config.model`` on ``config.dataset``; returns the test accuracy.

    SGD with momentum, its rate falling to 0 along half a cosine. Prints its progress and writes
    metrics, a checkpoint and pictures into ``config.out``. Raises RequestError when it cannot
    resume, FileNotFoundError when the data set is not found, SystemExit(130) after Ctrl-C.
    """
    prepare(config)
    augmentation = ImageAugmentation(**config.augment) if config.augment else None
    loader, test = image_loaders(config, augmentation)
    images: Any = test.dataset
    model = build_model(config.model, images)
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
    pictures(config.out, images, predicted)
    return float((predicted == images.labels).mean())
