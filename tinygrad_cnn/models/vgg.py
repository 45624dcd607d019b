"""VGG (Simonyan, Zisserman: Very deep convolutional networks for large-scale image recognition,
2015): 3 × 3 convolutions only, five blocks that each end in 2 × 2 pooling.
"""

from __future__ import annotations

from .. import nn
from ..tensor import Tensor

CHANNELS = (64, 128, 256, 512, 512)  # of the five blocks
CONVOLUTIONS = {  # in each block, by the number of layers with weights
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}


class VGG(nn.Module):
    """``features`` (N, 3, 32·a, 32·b) → (N, 512, a, b), pooled to 7 × 7, then ``classifier``.

    ``include_top=False`` has the features only. Keys are torchvision's.
    """

    def __init__(
        self, depth: int, num_classes: int = 1000, batch_norm: bool = False,
        include_top: bool = True, in_channels: int = 3,
    ) -> None:  # fmt: skip
        super().__init__()
        layers: list[nn.Module] = []
        channels = in_channels
        for outputs, count in zip(CHANNELS, CONVOLUTIONS[depth], strict=True):
            for _ in range(count):
                layers.append(nn.Conv2d(channels, outputs, 3, padding=1))
                if batch_norm:
                    layers.append(nn.BatchNorm2d(outputs))
                layers.append(nn.ReLU())
                channels = outputs
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.include_top = include_top
        if include_top:
            self.avgpool = nn.AdaptiveAvgPool2d(7)
            self.classifier = nn.Sequential(
                nn.Linear(512 * 7 * 7, 4096),
                nn.ReLU(),
                nn.Dropout(0.5),
                nn.Linear(4096, 4096),
                nn.ReLU(),
                nn.Dropout(0.5),
                nn.Linear(4096, num_classes),
            )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                assert module.bias is not None
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0.0, 0.01)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        if not self.include_top:
            return x
        return self.classifier(self.avgpool(x).flatten(1))  # type: ignore[no-any-return]


def vgg11(num_classes: int = 1000, batch_norm: bool = False, include_top: bool = True) -> VGG:
    """VGG-11, the paper's configuration A: 8 convolutions, 132,863,336 parameters."""
    return VGG(11, num_classes, batch_norm, include_top)


def vgg13(num_classes: int = 1000, batch_norm: bool = False, include_top: bool = True) -> VGG:
    """VGG-13: 10 convolutions, 133,047,848 parameters."""
    return VGG(13, num_classes, batch_norm, include_top)


def vgg16(num_classes: int = 1000, batch_norm: bool = False, include_top: bool = True) -> VGG:
    """VGG-16: 13 convolutions, 138,357,544 parameters."""
    return VGG(16, num_classes, batch_norm, include_top)


def vgg19(num_classes: int = 1000, batch_norm: bool = False, include_top: bool = True) -> VGG:
    """VGG-19: 16 convolutions, 143,667,240 parameters."""
    return VGG(19, num_classes, batch_norm, include_top)
