"""How good generated digits are, in the eyes of a LeNet-5 that was trained to read digits.

Numbers for images of handwritten digits only; a person looks at the samples besides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import models, nn, random
from ..data import DataLoader
from ..nn import functional as F
from ..optim import SGD
from ..optim.lr_scheduler import CosineAnnealingLR
from ..tensor import Tensor
from .config import TrainConfig, one_of, setting
from .frechet import Array, frechet_distance
from .trainer import outputs

BATCH = 500  # images that are judged at once
DATASETS = ("mnist-mini", "mnist", "fashion-mnist")  # ten classes of grey images, 28 × 28


@dataclass(frozen=True)
class JudgedConfig(TrainConfig):
    """Settings of a program that trains with Adam to make images, and has them judged."""

    dataset: str = setting("mnist-mini", f"one of {', '.join(DATASETS)}; mnist-mini is bundled")
    lr: float = setting(2e-4, "rate of Adam, the same throughout")
    momentum: float = setting(0.5, "β₁ of Adam", below=1)
    weight_decay: float = setting(0.0, "times the weights, added to their gradients")
    latent: int = setting(100, "numbers of a z", at_least=1)
    samples: int = setting(10_000, "images that are judged after an epoch", at_least=2)

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("dataset", self.dataset, DATASETS)


@dataclass
class DigitJudge:
    """Compares generated images with a test set: ``judge(images)`` for images (N, 1, 28, 28).

    ``network`` reads digits; ``features`` (N, 84) are its last hidden layer's values of the test
    set, ``unit`` is their Fréchet distance to those of as many training images as will be judged:
    what a perfect generator would get.
    """

    network: nn.Sequential
    accuracy: float
    features: Array
    unit: float

    def __call__(self, images: Tensor) -> dict[str, float]:
        """``frechet``; ``frechet_relative``, in units of ``unit``; ``digits``, how many classes
        get at least 1 % of the images; ``digit_entropy`` of the classes' shares, in bits (at most
        log₂ 10 = 3.32); ``confidence``, the mean probability of the most likely class."""
        features, probabilities = read(self.network, images)
        shares = digit_shares(probabilities)
        distance = frechet_distance(features, self.features)
        return {
            "frechet": distance,
            "frechet_relative": distance / self.unit,
            "digits": float((shares >= 0.01).sum()),
            "digit_entropy": entropy(shares),
            "confidence": float(probabilities.max(1).mean()),
        }


def report(measured: Mapping[str, float]) -> str:
    """What a judge found, in one line."""
    return (
        f"Fréchet distance {measured['frechet']:.2f}, that is {measured['frechet_relative']:.1f} × "
        f"that of training to test set; {measured['digits']:.0f} digits of 10, "
        f"entropy {measured['digit_entropy']:.2f} of 3.32 bits"
    )


def digit_shares(probabilities: Array) -> Array:
    """The share (10,) of the images that the reader takes for each digit."""
    counts = np.bincount(probabilities.argmax(1), minlength=10)
    shares: Array = counts / counts.sum()
    return shares


def entropy(shares: Array) -> float:
    """−Σ p log₂ p in bits."""
    present = shares[shares > 0]
    return float(-(present * np.log2(present)).sum()) + 0.0  # no −0.0


def read(network: nn.Sequential, images: Tensor) -> tuple[Array, Array]:
    """Features (N, 84) and probabilities (N, 10) of images, in evaluation mode."""
    features = evaluate(network[:-1], images)
    return features.numpy(), evaluate(network[-1], features).softmax(1).numpy()


def evaluate(model: nn.Module, inputs: Tensor) -> Tensor:
    """``model(inputs)`` in evaluation mode, without a graph, a few hundred samples at a time."""
    return outputs(model, inputs.split(BATCH))


def first_images(loader: DataLoader, count: int) -> Tensor:
    """The first ``count`` images of the loader's data set, transformed, in the set's own order."""
    plain = DataLoader(loader.dataset, count, transform=loader.transform)
    images: Tensor = next(iter(plain))[0]
    return images


def train_judge(
    train: DataLoader, test: DataLoader, samples: int = 10_000, epochs: int = 3, seed: int = 0
) -> DigitJudge:
    """Train LeNet-5 on the digits of ``train`` as the generator sees them; measure it on ``test``.

    The same data and seed give the same judge. The default random stream is left as it was.
    """
    before = random.get_rng_state()
    random.manual_seed(seed)
    network = models.lenet5(image_size=28)
    loader = DataLoader(train.dataset, 64, shuffle=True, seed=seed, transform=train.transform)
    optimizer = SGD(network.parameters(), 0.03, 0.9, weight_decay=5e-4)
    scheduler = CosineAnnealingLR(optimizer, epochs)
    for _ in range(epochs):
        for x, y in loader:
            loss = F.cross_entropy(network(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        scheduler.step()
    random.set_rng_state(before)

    dataset: Any = test.dataset
    features, probabilities = read(network, first_images(test, len(dataset)))
    training, _ = read(network, first_images(train, min(samples, len(train.dataset))))
    accuracy = float((probabilities.argmax(1) == dataset.labels).mean())
    return DigitJudge(network, accuracy, features, frechet_distance(training, features))


def discriminator_accuracy(logits_real: Any, logits_fake: Any) -> float:
    """The share of images, half of them generated, that D sorts rightly: 0.5 is a guess."""
    real, fake = np.asarray(logits_real), np.asarray(logits_fake)
    return float(((real > 0).mean() + (fake < 0).mean()) / 2)
