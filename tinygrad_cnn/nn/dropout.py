"""Dropout layers: set random elements or channels to zero while training.

Source: Srivastava and others, "Dropout: a simple way to prevent neural networks from overfitting",
2014.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from ..tensor import Tensor
from . import functional as F
from .module import Module


class _Dropout(Module):
    """In training zero with probability p and scale the rest by 1/(1 − p); else the identity."""

    function: ClassVar[Callable[..., Tensor]]

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"{type(self).__name__}: expected 0 ≤ p ≤ 1, received {p}")
        self.p, self.inplace = p, inplace

    def forward(self, input: Tensor) -> Tensor:
        return type(self).function(input, self.p, self.training, self.inplace)

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"


class Dropout(_Dropout):
    """Each element on its own."""

    function = F.dropout


class Dropout1d(_Dropout):
    """Whole channels of x (N, C, L) or (C, L)."""

    function = F.dropout1d


class Dropout2d(_Dropout):
    """Whole channels of x (N, C, H, W) or (C, H, W)."""

    function = F.dropout2d


class Dropout3d(_Dropout):
    """Whole channels of x (N, C, D, H, W) or (C, D, H, W)."""

    function = F.dropout3d


class AlphaDropout(_Dropout):
    """Each element on its own, for networks of SELU: mean 0 and variance 1 are kept.

    Source: Klambauer and others, "Self-normalizing neural networks", 2017.
    """

    function = F.alpha_dropout
