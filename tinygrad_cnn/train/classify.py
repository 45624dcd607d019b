"""Train an image classifier from a config: what ``tinygrad-cnn train CONFIG.toml`` does."""

from __future__ import annotations

from typing import Any

from .. import models, random
from ..autograd import inference_mode
from ..backend import set_backend
from ..data import Compose, DataLoader, ExpandDims, Normalize, Pad, ToFloat, load_dataset
from ..nn import functional as F
from ..ops import cat
from ..optim import SGD
from ..optim.lr_scheduler import CosineAnnealingLR
from ..tensor import Tensor
from ..threads import set_num_threads
from ..viz import image_grid, learning_curves
from .config import TrainConfig
from .run import Run


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
    model.eval()
    with inference_mode():
        return cat([model(x).argmax(1) for x, _ in loader])


def pictures(run: Run, dataset: Any, predicted: Any) -> None:
    """Draw ``curves.png`` and ``misclassified.png`` in the run's folder, and say so."""
    wrong = (predicted != dataset.labels).nonzero()[0]
    titles = [
        f"{dataset.classes[predicted[i]]}, not {dataset.classes[dataset.labels[i]]}"
        for i in wrong[:30]
    ]
    head = f"{len(wrong)} of {len(predicted)} test images are wrong"
    for path in (
        learning_curves(run.history(), run.folder / "curves.png"),
        image_grid(dataset.images[wrong[:30]], titles, run.folder / "misclassified.png", head),
    ):
        run.progress.say(f"wrote {path}")


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
    scheduler = CosineAnnealingLR(optimizer, config.epochs)
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
            run.end_epoch(
                test_accuracy=float((predict(model, test).numpy() == digits.labels).mean())
            )
    predicted = predict(model, test).numpy()
    pictures(run, digits, predicted)
    return float((predicted == digits.labels).mean())
