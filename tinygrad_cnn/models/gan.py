"""The two networks of the original GAN: dense layers (Goodfellow and others: Generative
adversarial nets, 2014).
"""

from __future__ import annotations

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
    cells = 1
    for size in image_shape:
        cells *= size
    return nn.Sequential(*layers, nn.Linear(latent, cells), nn.Tanh(), nn.Unflatten(1, image_shape))


def mlp_discriminator(
    hidden: Sequence[int] = (512, 256), in_features: int = 28 * 28, dropout: float = 0.3
) -> nn.Sequential:
    """Images → logits (N, 1) of being real."""
    layers: list[nn.Module] = [nn.Flatten()]
    for width in hidden:
        layers += [nn.Linear(in_features, width), nn.LeakyReLU(0.2), nn.Dropout(dropout)]
        in_features = width
    return nn.Sequential(*layers, nn.Linear(in_features, 1))
