"""Freezing: layers that training leaves as they are, until they are thawed."""

from __future__ import annotations

from typing import Any

from ..nn import Module
from ..nn.normalization import _BatchNorm


def freeze(module: Module, statistics: bool = True) -> None:
    """Give the parameters of ``module`` no gradients, and so no updates, nor weight decay.

    With ``statistics`` its batch norms use and keep the statistics they have, also in training
    mode; without, they go on measuring the batches.
    """
    unfreeze(module)
    module.requires_grad_(False)
    module.zero_grad()
    for layer in module.modules():
        if statistics and isinstance(layer, _BatchNorm):
            layer.register_forward_pre_hook(_stay_in_evaluation)


def unfreeze(module: Module, start: str = "") -> None:
    """Undo ``freeze`` for ``module`` and all below it: they learn again.

    With ``start``, the path of a layer such as "block4" or "features.24", only for that layer and
    those after it in the order in which they were defined; what lies before stays as it is.
    Raises AttributeError if there is no such layer.
    """
    first = module.get_submodule(start)
    layers = list(module.modules())
    for layer in layers[layers.index(first) :]:
        for parameter in layer.parameters(recurse=False):
            parameter.requires_grad_()
        hooks = layer._hooks.before if layer._hooks else {}
        for key in [key for key, hook in hooks.items() if hook is _stay_in_evaluation]:
            del hooks[key]


def _stay_in_evaluation(module: Any, args: Any) -> None:
    module.training = False  # model.train() has set it
