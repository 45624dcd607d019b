"""Models as plain functions that build them."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any

from ..nn import Module
from .alexnet import alexnet
from .dcgan import dcgan_discriminator, dcgan_generator
from .ensemble import Ensemble
from .gan import mlp_discriminator, mlp_generator
from .googlenet import googlenet
from .lenet import lenet5
from .mlp import mlp
from .mnist_cnn import mnist_cnn
from .nin import nin
from .resnet import resnet18, resnet34, resnet50
from .resnet_cifar import (
    plain_net,
    resnet20,
    resnet32,
    resnet44,
    resnet56,
    resnet110,
    resnet1202,
)
from .units import ConvBNReLU, DenseBNReLU
from .vae import vae
from .vgg import vgg11, vgg13, vgg16, vgg19

__all__ = [
    "BUILDERS", "ConvBNReLU", "DenseBNReLU", "Ensemble", "alexnet", "build",
    "dcgan_discriminator", "dcgan_generator", "googlenet", "lenet5", "mlp", "mlp_discriminator",
    "mlp_generator", "mnist_cnn", "nin", "plain_net", "resnet110", "resnet1202", "resnet18",
    "resnet20", "resnet32", "resnet34", "resnet44", "resnet50", "resnet56", "vae", "vgg11",
    "vgg13", "vgg16", "vgg19",
]  # fmt: skip

BUILDERS: dict[str, Callable[..., Module]] = {
    builder.__name__: builder
    for builder in (
        lenet5, mnist_cnn, alexnet, vgg11, vgg13, vgg16, vgg19, nin, googlenet, resnet18, resnet34,
        resnet50, resnet20, resnet32, resnet44, resnet56, resnet110, resnet1202, plain_net, mlp,
        mlp_generator, mlp_discriminator, dcgan_generator, dcgan_discriminator, vae,
    )
}  # fmt: skip


def build(name: str, **options: Any) -> Module:
    """The model of this name. Raises ValueError for an unknown one, naming the nearest."""
    if name not in BUILDERS:
        near = difflib.get_close_matches(name, BUILDERS, 1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(BUILDERS)}"
        raise ValueError(f"unknown model {name!r}{hint}")
    return BUILDERS[name](**options)
