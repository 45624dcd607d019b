"""Layers that add cells around the spatial axes; see ``functional.pad``.

``padding`` is one number for every side, or (before, after) for each axis, the last axis first:
(left, right), (left, right, top, bottom), (left, right, top, bottom, front, back).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from ..geometry import ntuple
from ..tensor import Tensor
from . import functional as F
from .module import Module

Size = int | Sequence[int]


class _Pad(Module):
    mode: ClassVar[str]
    axes: ClassVar[int]

    def __init__(self, padding: Size) -> None:
        super().__init__()
        self.padding = ntuple(padding, 2 * self.axes, f"{type(self).__name__}: padding", -(2**31))

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, self.mode)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class _ConstantPad(_Pad):
    mode = "constant"

    def __init__(self, padding: Size, value: float) -> None:
        super().__init__(padding)
        self.value = value

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, "constant", self.value)

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class ZeroPad1d(_Pad):
    """Pad L of x (N, C, L) with zeros."""

    mode, axes = "constant", 1


class ZeroPad2d(_Pad):
    """Pad H and W of x (N, C, H, W) with zeros."""

    mode, axes = "constant", 2


class ZeroPad3d(_Pad):
    """Pad D, H and W of x (N, C, D, H, W) with zeros."""

    mode, axes = "constant", 3


class ConstantPad1d(_ConstantPad):
    """Pad L of x (N, C, L) with ``value``."""

    axes = 1


class ConstantPad2d(_ConstantPad):
    """Pad H and W of x (N, C, H, W) with ``value``."""

    axes = 2


class ConstantPad3d(_ConstantPad):
    """Pad D, H and W of x (N, C, D, H, W) with ``value``."""

    axes = 3


class ReflectionPad1d(_Pad):
    """Pad L of x (N, C, L) with a mirror image that does not repeat the edge."""

    mode, axes = "reflect", 1


class ReflectionPad2d(_Pad):
    """Pad H and W of x (N, C, H, W) with a mirror image that does not repeat the edge."""

    mode, axes = "reflect", 2


class ReflectionPad3d(_Pad):
    """Pad D, H and W of x (N, C, D, H, W) with a mirror image that does not repeat the edge."""

    mode, axes = "reflect", 3


class ReplicationPad1d(_Pad):
    """Pad L of x (N, C, L) with copies of the edge."""

    mode, axes = "replicate", 1


class ReplicationPad2d(_Pad):
    """Pad H and W of x (N, C, H, W) with copies of the edge."""

    mode, axes = "replicate", 2


class ReplicationPad3d(_Pad):
    """Pad D, H and W of x (N, C, D, H, W) with copies of the edge."""

    mode, axes = "replicate", 3


class CircularPad1d(_Pad):
    """Pad L of x (N, C, L) with the cells of the opposite side."""

    mode, axes = "circular", 1


class CircularPad2d(_Pad):
    """Pad H and W of x (N, C, H, W) with the cells of the opposite side."""

    mode, axes = "circular", 2


class CircularPad3d(_Pad):
    """Pad D, H and W of x (N, C, D, H, W) with the cells of the opposite side."""

    mode, axes = "circular", 3
