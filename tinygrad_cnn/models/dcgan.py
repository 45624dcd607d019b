"""DCGAN (Radford, Metz, Chintala: Unsupervised representation learning with deep convolutional
generative adversarial networks, 2016).

The generator turns a vector into an image by transposed convolutions of stride 2 that double the
size, the discriminator is its mirror image: both start at or end in a 4 × 4 map (7 × 7 for 28).
"""

from __future__ import annotations

from collections.abc import Callable

from .. import nn
from .gan import with_logit

SIZES = {28: 7, 32: 4, 64: 4}  # image size → size of the smallest map


def _stages(image_size: int) -> tuple[int, int]:
    """(size of the smallest map, how often it is doubled)."""
    if image_size not in SIZES:
        raise ValueError(
            f"dcgan: image_size: expected one of {tuple(SIZES)}, received {image_size}"
        )
    start = SIZES[image_size]
    return start, (image_size // start).bit_length() - 1


def dcgan_generator(
    image_size: int = 64, channels: int = 3, latent: int = 100, width: int = 64,
    norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
) -> nn.Sequential:  # fmt: skip
    """Noise (N, latent) → images (N, channels, image_size, image_size) in (−1, 1).

    ``width`` is the number of maps before the last layer; each earlier layer has twice as many.
    ``norm`` makes the layer that normalises so many maps: ``nn.VirtualBatchNorm`` is another choice
    (then wrap the generator in ``nn.VirtualBatch``), ``nn.Identity`` is none.
    """
    start, doublings = _stages(image_size)
    maps = width * 2 ** (doublings - 1)
    layers: list[nn.Module] = [
        nn.Unflatten(1, (latent, 1, 1)),
        nn.ConvTranspose2d(latent, maps, start, bias=False),
        norm(maps),
        nn.ReLU(),
    ]
    for _ in range(doublings - 1):
        layers += [
            nn.ConvTranspose2d(maps, maps // 2, 4, stride=2, padding=1, bias=False),
            norm(maps // 2),
            nn.ReLU(),
        ]
        maps //= 2
    layers += [nn.ConvTranspose2d(maps, channels, 4, stride=2, padding=1, bias=False), nn.Tanh()]
    return _initialized(nn.Sequential(*layers))


def dcgan_discriminator(
    image_size: int = 64, channels: int = 3, width: int = 64, batch_norm: bool = True,
    minibatch: int = 0,
) -> nn.Sequential:  # fmt: skip
    """Images (N, channels, image_size, image_size) → logits (N, 1); the sigmoid is the loss's.

    Its parts are ``features`` (the last maps, flat) and ``logit``, the dense layer that a
    convolution over the whole map is. ``batch_norm=False`` is for losses with a gradient penalty,
    which need independent samples; ``minibatch`` as in ``mlp_discriminator``.
    """
    start, halvings = _stages(image_size)
    layers: list[nn.Module] = [
        nn.Conv2d(channels, width, 4, stride=2, padding=1, bias=False),
        nn.LeakyReLU(0.2),
    ]
    for _ in range(halvings - 1):
        layers.append(nn.Conv2d(width, 2 * width, 4, stride=2, padding=1, bias=False))
        if batch_norm:
            layers.append(nn.BatchNorm2d(2 * width))
        layers.append(nn.LeakyReLU(0.2))
        width *= 2
    features = nn.Sequential(*layers, nn.Flatten())
    return _initialized(with_logit(features, width * start * start, minibatch, bias=False))


def _initialized(model: nn.Sequential) -> nn.Sequential:
    """The paper's start: normal with deviation 0.02, batch norm's scale around 1."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(module.weight, 0.0, 0.02)
        elif isinstance(module, nn.BatchNorm2d):
            assert module.weight is not None
            nn.init.normal_(module.weight, 1.0, 0.02)
    return model
