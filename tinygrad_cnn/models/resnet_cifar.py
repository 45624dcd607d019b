"""ResNet and plain networks for small images (He, Zhang, Ren, Sun: Deep residual learning for image
recognition, 2016, section 4.2).

A 3 × 3 convolution to 16 channels, three stages of n blocks with 16, 32 and 64 channels on maps of
H, H/2 and H/4, the mean of each map, a dense layer: 6n + 2 layers with weights.
"""

from __future__ import annotations

from .. import nn
from ..nn import functional as F
from ..tensor import Tensor

SHORTCUTS = ("A", "B", "none")


class SubsampleAndPad(nn.Module):
    """Every ``stride``-th row and column, and ``channels`` more of zeros: shortcut A."""

    def __init__(self, stride: int, channels: int) -> None:
        super().__init__()
        self.stride, self.channels = stride, channels

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, :, :: self.stride, :: self.stride]
        before = self.channels // 2
        return F.pad(x, (0, 0, 0, 0, before, self.channels - before))

    def extra_repr(self) -> str:
        return f"stride={self.stride}, channels={self.channels}"


class Block(nn.Module):
    """relu(F(x) + shortcut(x)), F two 3 × 3 convolutions with batch norm.

    Where the shape changes, the shortcut is "A" (subsample, pad the channels with zeros) or "B" (a
    1 × 1 convolution); "none" leaves it out everywhere, which makes the network plain.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, shortcut: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module | None = nn.Sequential()
        if shortcut == "none":
            self.shortcut = None
        elif stride != 1 or inputs != outputs:
            if shortcut == "A":
                self.shortcut = SubsampleAndPad(stride, outputs - inputs)
            else:
                self.shortcut = nn.Sequential(
                    nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
                )

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(self.conv1(x)).relu()
        y = self.bn2(self.conv2(y))
        if self.shortcut is not None:
            y = y + self.shortcut(x)
        return y.relu()  # type: ignore[no-any-return]


class CifarResNet(nn.Module):
    """The network above; keys ``conv1 bn1 layer1.0.conv1 … linear``."""

    def __init__(
        self, depth: int, num_classes: int = 10, shortcut: str = "A", in_channels: int = 3
    ) -> None:
        super().__init__()
        if depth < 8 or depth % 6 != 2:
            raise ValueError(f"CifarResNet: expected a depth of 6n + 2, received {depth}")
        if shortcut not in SHORTCUTS:
            raise ValueError(
                f"CifarResNet: shortcut: expected one of {SHORTCUTS}, received {shortcut!r}"
            )
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        channels = 16
        for stage, width in enumerate((16, 32, 64)):
            blocks = []
            for i in range(depth // 6):
                blocks.append(Block(channels, width, 2 if stage and i == 0 else 1, shortcut))
                channels = width
            self.register_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.linear = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn1(self.conv1(x)).relu()
        for stage in ("layer1", "layer2", "layer3"):
            x = getattr(self, stage)(x)
        return self.linear(x.mean((2, 3)))  # type: ignore[no-any-return]


def resnet20(num_classes: int = 10, shortcut: str = "A", in_channels: int = 3) -> CifarResNet:
    """ResNet-20: 269,722 parameters with shortcut A."""
    return CifarResNet(20, num_classes, shortcut, in_channels)


def resnet32(num_classes: int = 10, shortcut: str = "A", in_channels: int = 3) -> CifarResNet:
    """ResNet-32: 464,154 parameters with shortcut A."""
    return CifarResNet(32, num_classes, shortcut, in_channels)


def resnet44(num_classes: int = 10, shortcut: str = "A", in_channels: int = 3) -> CifarResNet:
    """ResNet-44: 658,586 parameters with shortcut A."""
    return CifarResNet(44, num_classes, shortcut, in_channels)


def resnet56(num_classes: int = 10, shortcut: str = "A", in_channels: int = 3) -> CifarResNet:
    """ResNet-56: 853,018 parameters with shortcut A."""
    return CifarResNet(56, num_classes, shortcut, in_channels)


def resnet110(num_classes: int = 10, shortcut: str = "A", in_channels: int = 3) -> CifarResNet:
    """ResNet-110: 1,727,962 parameters with shortcut A."""
    return CifarResNet(110, num_classes, shortcut, in_channels)


def resnet1202(num_classes: int = 10, shortcut: str = "A", in_channels: int = 3) -> CifarResNet:
    """ResNet-1202: 19,421,274 parameters with shortcut A."""
    return CifarResNet(1202, num_classes, shortcut, in_channels)


def plain_net(depth: int, num_classes: int = 10, in_channels: int = 3) -> CifarResNet:
    """The network of this depth without shortcuts, for comparison."""
    return CifarResNet(depth, num_classes, "none", in_channels)
