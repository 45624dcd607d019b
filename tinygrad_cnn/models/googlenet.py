"""GoogLeNet (Szegedy and others: Going deeper with convolutions, 2015)."""

from __future__ import annotations

from typing import Any, NamedTuple

from .. import nn
from ..ops import cat
from ..tensor import Tensor
from .units import ConvBNReLU


class GoogLeNetOutputs(NamedTuple):
    """What the network returns in training: its logits and those of the auxiliary heads."""

    logits: Tensor
    aux_logits2: Tensor
    aux_logits1: Tensor


class _Conv(nn.Module):
    """max(conv(x) + b, 0); keys ``conv.*``."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, **options: Any
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, **options)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).relu()  # type: ignore[no-any-return]


def _unit(
    batch_norm: bool, inputs: int, outputs: int, kernel_size: int, **options: Any
) -> nn.Module:
    if not batch_norm:
        return _Conv(inputs, outputs, kernel_size, **options)
    unit = ConvBNReLU(inputs, outputs, kernel_size, **options)
    unit.bn.eps = 1e-3  # torchvision's
    return unit


class Inception(nn.Module):
    """Four views of the same input, joined along the channels:

    1 × 1 · 1 × 1 then 3 × 3 · 1 × 1 then 5 × 5 · 3 × 3 max pooling then 1 × 1.

    The 1 × 1 convolutions before the larger kernels reduce the channels. torchvision, whose layout
    ``batch_norm`` follows, has a 3 × 3 kernel where the paper has 5 × 5.
    """

    def __init__(
        self, inputs: int, one: int, reduce3: int, three: int, reduce5: int, five: int, pool: int,
        batch_norm: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        bn, kernel = batch_norm, 3 if batch_norm else 5
        self.branch1 = _unit(bn, inputs, one, 1)
        self.branch2 = nn.Sequential(
            _unit(bn, inputs, reduce3, 1), _unit(bn, reduce3, three, 3, padding=1)
        )
        self.branch3 = nn.Sequential(
            _unit(bn, inputs, reduce5, 1), _unit(bn, reduce5, five, kernel, padding=kernel // 2)
        )
        self.branch4 = nn.Sequential(
            nn.MaxPool2d(3, 1, padding=1, ceil_mode=True), _unit(bn, inputs, pool, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)


class AuxiliaryHead(nn.Module):
    """A classifier on the middle of the network, so that its lower half gets a near gradient.

    The pooling is adaptive, so that other image sizes than 224 fit.
    """

    def __init__(self, inputs: int, num_classes: int, batch_norm: bool) -> None:
        super().__init__()
        self.conv = _unit(batch_norm, inputs, 128, 1)
        self.fc1 = nn.Linear(128 * 4 * 4, 1024)
        self.fc2 = nn.Linear(1024, num_classes)
        self.dropout = nn.Dropout(0.7)
        self.pool = nn.AdaptiveAvgPool2d(4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(self.pool(x)).flatten(1)
        return self.fc2(self.dropout(self.fc1(x).relu()))  # type: ignore[no-any-return]


class GoogLeNet(nn.Module):
    """Nine inception modules; 22 layers with weights, and 27 with the pooling layers."""

    def __init__(
        self, num_classes: int = 1000, aux_logits: bool = True, batch_norm: bool = False
    ) -> None:
        super().__init__()
        bn = batch_norm

        def norm() -> nn.Module:
            return nn.Identity() if bn else nn.LocalResponseNorm(5)

        self.conv1 = _unit(bn, 3, 64, 7, stride=2, padding=3)
        self.maxpool1 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.norm1 = norm()
        self.conv2 = _unit(bn, 64, 64, 1)
        self.conv3 = _unit(bn, 64, 192, 3, padding=1)
        self.norm2 = norm()
        self.maxpool2 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.inception3a = Inception(192, 64, 96, 128, 16, 32, 32, bn)
        self.inception3b = Inception(256, 128, 128, 192, 32, 96, 64, bn)
        self.maxpool3 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.inception4a = Inception(480, 192, 96, 208, 16, 48, 64, bn)
        self.inception4b = Inception(512, 160, 112, 224, 24, 64, 64, bn)
        self.inception4c = Inception(512, 128, 128, 256, 24, 64, 64, bn)
        self.inception4d = Inception(512, 112, 144, 288, 32, 64, 64, bn)
        self.inception4e = Inception(528, 256, 160, 320, 32, 128, 128, bn)
        self.maxpool4 = nn.MaxPool2d(2 if bn else 3, 2, ceil_mode=True)
        self.inception5a = Inception(832, 256, 160, 320, 32, 128, 128, bn)
        self.inception5b = Inception(832, 384, 192, 384, 48, 128, 128, bn)
        self.aux1 = AuxiliaryHead(512, num_classes, bn) if aux_logits else None
        self.aux2 = AuxiliaryHead(528, num_classes, bn) if aux_logits else None
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.2 if bn else 0.4)
        self.fc = nn.Linear(1024, num_classes)

    def forward(self, x: Tensor) -> Tensor | GoogLeNetOutputs:
        x = self.norm1(self.maxpool1(self.conv1(x)))
        x = self.maxpool2(self.norm2(self.conv3(self.conv2(x))))
        x = self.maxpool3(self.inception3b(self.inception3a(x)))
        a = self.inception4a(x)
        d = self.inception4d(self.inception4c(self.inception4b(a)))
        x = self.maxpool4(self.inception4e(d))
        x = self.inception5b(self.inception5a(x))
        logits: Tensor = self.fc(self.dropout(self.avgpool(x).flatten(1)))
        if not self.training or self.aux1 is None or self.aux2 is None:
            return logits
        return GoogLeNetOutputs(logits, self.aux2(d), self.aux1(a))


def googlenet(
    num_classes: int = 1000, aux_logits: bool = True, batch_norm: bool = False
) -> GoogLeNet:
    """GoogLeNet for 224 × 224 images: 6,998,552 parameters without the auxiliary heads.

    In training the result is (logits, aux_logits2, aux_logits1), else the logits. The paper adds
    the heads' losses with weight 0.3. ``batch_norm=True`` is the network as torchvision has it,
    whose weights then fit; they want images scaled to −1 … 1.
    """
    return GoogLeNet(num_classes, aux_logits, batch_norm)
