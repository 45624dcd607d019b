"""The inverse trigonometric functions, in radians. Integers are computed as float32."""

from __future__ import annotations

from ..backend import Array, Backend
from ..tensor import Op, Tensor
from .unary import _floating, sqrt


class Asin(Op):
    """arcsin x with derivative 1/√(1 − x²), written so that 1 − x² does not cancel near ±1."""

    def forward(self, kernels: Backend, x: Array) -> Array:
        return kernels.arcsin(x)

    def backward(self, grad: Tensor, out: None) -> Tensor:
        (x,) = self.inputs
        return grad / sqrt((1 - x) * (1 + x))


class Acos(Op):
    def forward(self, kernels: Backend, x: Array) -> Array:
        return kernels.arccos(x)

    def backward(self, grad: Tensor, out: None) -> Tensor:
        (x,) = self.inputs
        return -grad / sqrt((1 - x) * (1 + x))


class Atan(Op):
    def forward(self, kernels: Backend, x: Array) -> Array:
        return kernels.arctan(x)

    def backward(self, grad: Tensor, out: None) -> Tensor:
        (x,) = self.inputs
        return grad / (1 + x * x)


def asin(input: Tensor) -> Tensor:
    """The angle in [−π/2, π/2] whose sine is the element: NaN outside [−1, 1]; the derivative at
    ±1 is ∞."""
    return Asin()(_floating(input))


def acos(input: Tensor) -> Tensor:
    """The angle in [0, π] whose cosine is the element: NaN outside [−1, 1]; the derivative at ±1
    is −∞."""
    return Acos()(_floating(input))


def atan(input: Tensor) -> Tensor:
    """The angle in (−π/2, π/2) whose tangent is the element."""
    return Atan()(_floating(input))
