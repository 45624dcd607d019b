"""Network in network (Lin, Chen, Yan: Network in network, 2014)."""

from __future__ import annotations

from collections import OrderedDict

from ..nn import (
    AdaptiveAvgPool2d,
    AvgPool2d,
    Conv2d,
    Dropout,
    Flatten,
    MaxPool2d,
    Module,
    ReLU,
    Sequential,
)


def mlpconv(
    in_channels: int, channels: tuple[int, int, int], kernel_size: int, padding: int
) -> list[Module]:
    """A convolution and two 1 × 1 convolutions: a dense network that slides over the image."""
    first, second, third = channels
    return [
        Conv2d(in_channels, first, kernel_size, padding=padding), ReLU(),
        Conv2d(first, second, 1), ReLU(),
        Conv2d(second, third, 1), ReLU(),
    ]  # fmt: skip


def nin(num_classes: int = 10, in_channels: int = 3) -> Sequential:
    """The paper's network for 32 × 32 images: three mlpconv blocks, the last with a map a class.

    A class's score is the mean of its map, so nothing after the last convolution has parameters.
    """
    features = Sequential(
        *mlpconv(in_channels, (192, 160, 96), 5, 2),
        MaxPool2d(3, 2, padding=1),
        Dropout(0.5),
        *mlpconv(96, (192, 192, 192), 5, 2),
        AvgPool2d(3, 2, padding=1),
        Dropout(0.5),
        *mlpconv(192, (192, 192, num_classes), 3, 1)[:-1],
    )
    classifier = Sequential(AdaptiveAvgPool2d(1), Flatten())
    return Sequential(OrderedDict(features=features, classifier=classifier))
