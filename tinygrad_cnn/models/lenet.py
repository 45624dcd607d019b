"""LeNet-5 (LeCun, Bottou, Bengio, Haffner: Gradient-based learning applied to document recognition,
1998).
"""

from __future__ import annotations

from collections import OrderedDict

from ..nn import Conv2d, Flatten, Linear, MaxPool2d, ReLU, Sequential


def lenet5(num_classes: int = 10, in_channels: int = 1, image_size: int = 32) -> Sequential:
    """LeNet-5 with ReLU and max pooling for 32 × 32 images.

    (N, C, 32, 32) → conv 6@28×28 → pool 14×14 → conv 16@10×10 → pool 5×5 → 120 → 84 → (N,
    num_classes): 61,706 parameters for ten classes of grey images. C5, a convolution whose kernel
    covers the whole 5 × 5 map, is written as the dense layer it equals. Images of 28 × 28 are
    padded to 32 by the first convolution. Raises ValueError for any other size.
    """
    if image_size not in (28, 32):
        raise ValueError(f"lenet5: expected image_size 28 or 32, received {image_size}")
    layers = OrderedDict(
        c1=Conv2d(in_channels, 6, 5, padding=(32 - image_size) // 2),
        relu1=ReLU(),
        s2=MaxPool2d(2),
        c3=Conv2d(6, 16, 5),
        relu2=ReLU(),
        s4=MaxPool2d(2),
        flatten=Flatten(),
        c5=Linear(16 * 5 * 5, 120),
        relu3=ReLU(),
        f6=Linear(120, 84),
        relu4=ReLU(),
        output=Linear(84, num_classes),
    )
    return Sequential(layers)
