"""The multilayer perceptron: dense layers with ReLU between them."""

from __future__ import annotations

from collections.abc import Sequence

from ..nn import Dropout, Flatten, Linear, Module, ReLU, Sequential


def mlp(
    num_classes: int = 10, in_features: int = 28 * 28, hidden: Sequence[int] = (256,),
    dropout: float = 0.0,
) -> Sequential:  # fmt: skip
    """Flatten, then a dense layer of each width in ``hidden`` with ReLU, then one a class."""
    layers: list[Module] = [Flatten()]
    for width in hidden:
        layers += [Linear(in_features, width), ReLU()]
        if dropout:
            layers.append(Dropout(dropout))
        in_features = width
    return Sequential(*layers, Linear(in_features, num_classes))
