"""The two networks of the original GAN: dense layers (Goodfellow and others: Generative
adversarial nets, 2014).
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence

from .. import nn


def mlp_generator(
    latent: int = 100, hidden: Sequence[int] = (256, 512), image_shape: Sequence[int] = (1, 28, 28)
) -> nn.Sequential:
    """Noise (N, latent) → images (N, *image_shape) in (−1, 1)."""
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(latent, width), nn.LeakyReLU(0.2)]
        latent = width
    return nn.Sequential(
        *layers, nn.Linear(latent, math.prod(image_shape)), nn.Tanh(), nn.Unflatten(1, image_shape)
    )


def mlp_discriminator(
    hidden: Sequence[int] = (512, 256), in_features: int = 28 * 28, dropout: float = 0.3,
    minibatch: int = 0,
) -> nn.Sequential:  # fmt: skip
    """Images → logits (N, 1) of being real.

    Its parts are ``features``, with the last hidden layer as result, and ``logit``; with
    ``minibatch`` = B > 0 the logit also sees B values of minibatch discrimination.
    """
    layers: list[nn.Module] = [nn.Flatten()]
    for width in hidden:
        layers += [nn.Linear(in_features, width), nn.LeakyReLU(0.2), nn.Dropout(dropout)]
        in_features = width
    return with_logit(nn.Sequential(*layers), in_features, minibatch)


def with_logit(
    features: nn.Sequential, width: int, minibatch: int = 0, bias: bool = True
) -> nn.Sequential:
    """A discriminator of two parts: ``features`` (N, width) and ``logit`` (N, 1)."""
    logit: nn.Module = nn.Linear(width + minibatch, 1, bias=bias)
    if minibatch:
        logit = nn.Sequential(nn.MinibatchDiscrimination(width, minibatch), logit)
    return nn.Sequential(OrderedDict(features=features, logit=logit))
