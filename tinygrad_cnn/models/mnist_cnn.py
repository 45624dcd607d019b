"""One small network for 28 × 28 grey images, written in each of the three ways to build a model.

    x (N, 1, 28, 28) → 32@28 → pool 14 → 64@14 → pool 7 → 128@7 → pool 4 → 256 → dropout → classes

Convolutions are 3 × 3 with one cell of padding, pooling 2 × 2 by the SAME rule (7 → 4: the last
window is cut off by the border, which is ``ceil_mode``). For ten classes there are 619,786
parameters, and with batch norm 620,746 and 960 running statistics.
"""

from __future__ import annotations

from collections import OrderedDict

from .. import nn
from ..tensor import Tensor
from .units import ConvBNReLU, DenseBNReLU

CHANNELS = (32, 64, 128)
HIDDEN = 256
DROPOUT = 0.4


def mnist_cnn(
    num_classes: int = 10, style: str = "sequential", batch_norm: bool = False
) -> nn.Module:
    """The network above as ``nn.Sequential``, as a graph of calls or as a class.

    The three have the same parameters in the same order and compute the same bits. Raises
    ValueError for another ``style``.
    """
    builders = {"sequential": _sequential, "functional": _functional, "subclass": MnistCNN}
    if style not in builders:
        raise ValueError(f"mnist_cnn: style: expected one of {', '.join(builders)}, "
                         f"received {style!r}")  # fmt: skip
    return builders[style](num_classes, batch_norm)


def _conv(inputs: int, outputs: int, batch_norm: bool) -> nn.Module:
    if batch_norm:
        return ConvBNReLU(inputs, outputs, 3, padding=1, bias=True)
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU())


def _dense(inputs: int, outputs: int, batch_norm: bool) -> nn.Module:
    if batch_norm:
        return DenseBNReLU(inputs, outputs, bias=True)
    return nn.Sequential(nn.Linear(inputs, outputs), nn.ReLU())


def _sequential(num_classes: int, batch_norm: bool) -> nn.Module:
    first, second, third = CHANNELS
    features = nn.Sequential(
        _conv(1, first, batch_norm),
        nn.MaxPool2d(2),
        _conv(first, second, batch_norm),
        nn.MaxPool2d(2),
        _conv(second, third, batch_norm),
        nn.MaxPool2d(2, ceil_mode=True),
    )
    classifier = nn.Sequential(
        nn.Flatten(),
        _dense(third * 4 * 4, HIDDEN, batch_norm),
        nn.Dropout(DROPOUT),
        nn.Linear(HIDDEN, num_classes),
    )
    return nn.Sequential(OrderedDict(features=features, classifier=classifier))


def _functional(num_classes: int, batch_norm: bool) -> nn.Module:
    x = image = nn.Input((1, 28, 28))
    for channels in CHANNELS:
        x = _conv(x.shape[0], channels, batch_norm)(x)
        x = nn.MaxPool2d(2, ceil_mode=True)(x)
    x = nn.Flatten()(x)
    x = nn.Dropout(DROPOUT)(_dense(x.shape[0], HIDDEN, batch_norm)(x))
    return nn.Model(image, nn.Linear(HIDDEN, num_classes)(x))


class MnistCNN(nn.Module):
    """The network as a class: layers in ``__init__``, wiring in ``forward``."""

    def __init__(self, num_classes: int = 10, batch_norm: bool = False) -> None:
        super().__init__()
        first, second, third = CHANNELS
        self.conv1 = _conv(1, first, batch_norm)
        self.conv2 = _conv(first, second, batch_norm)
        self.conv3 = _conv(second, third, batch_norm)
        self.pool = nn.MaxPool2d(2, ceil_mode=True)
        self.fc1 = _dense(third * 4 * 4, HIDDEN, batch_norm)
        self.dropout = nn.Dropout(DROPOUT)
        self.fc2 = nn.Linear(HIDDEN, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.conv1(x))
        x = self.pool(self.conv2(x))
        x = self.pool(self.conv3(x))
        x = self.dropout(self.fc1(x.flatten(1)))
        return self.fc2(x)  # type: ignore[no-any-return]
