"""AlexNet (Krizhevsky, Sutskever, Hinton: ImageNet classification with deep convolutional neural
networks, 2012).
"""

from __future__ import annotations

from collections import OrderedDict

from ..nn import Conv2d, Dropout, Flatten, Linear, LocalResponseNorm, MaxPool2d, ReLU, Sequential


def alexnet(num_classes: int = 1000, groups: int = 1, in_channels: int = 3) -> Sequential:
    """AlexNet of the paper for 227 × 227 images.

    96@55 → pool 27 → 256@27 → pool 13 → 384@13 → 384@13 → 256@13 → pool 6 → 4096 → 4096 →
    num_classes; pooling windows of 3 overlap (stride 2), and local response normalisation follows
    the first two convolutions. ``groups=2`` cuts the second, fourth and fifth convolution into the
    paper's two halves, one a GPU: 60,965,224 parameters instead of 62,378,344.

    PyTorch's torchvision has a later, narrower variant (64-192-384-256-256 channels, no
    normalisation), whose weights do not fit.
    """
    features = Sequential(
        Conv2d(in_channels, 96, 11, stride=4),
        ReLU(),
        LocalResponseNorm(5, alpha=5e-4, k=2.0),  # 5·1e-4: PyTorch's alpha divides by the size
        MaxPool2d(3, 2),
        Conv2d(96, 256, 5, padding=2, groups=groups),
        ReLU(),
        LocalResponseNorm(5, alpha=5e-4, k=2.0),
        MaxPool2d(3, 2),
        Conv2d(256, 384, 3, padding=1),
        ReLU(),
        Conv2d(384, 384, 3, padding=1, groups=groups),
        ReLU(),
        Conv2d(384, 256, 3, padding=1, groups=groups),
        ReLU(),
        MaxPool2d(3, 2),
    )
    classifier = Sequential(
        Flatten(),
        Dropout(0.5),
        Linear(256 * 6 * 6, 4096),
        ReLU(),
        Dropout(0.5),
        Linear(4096, 4096),
        ReLU(),
        Linear(4096, num_classes),
    )
    return Sequential(OrderedDict(features=features, classifier=classifier))
