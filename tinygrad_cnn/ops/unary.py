"""Functions of one number, applied to every element. Integers are computed as float32."""

from __future__ import annotations

import math

from .. import dtypes
from ..backend import Array, Backend
from ..tensor import Op, Tensor
from .elementwise import cast, power, zeros_like


def _floating(x: Tensor) -> Tensor:
    return x if x.array.dtype.kind == "f" else cast(x, dtypes.float32)


class Negative(Op):
    saves_inputs = False

    def forward(self, kernels: Backend, x: Array) -> Array:
        return kernels.negative(x)

    def backward(self, grad: Tensor, out: None) -> Tensor:
        return -grad


class Absolute(Op):
    """|x| with derivative sign(x): 0 at 0."""

    def forward(self, kernels: Backend, x: Array) -> Array:
        return kernels.absolute(x)

    def backward(self, grad: Tensor, out: None) -> Tensor:
        return grad * sign(self.inputs[0])

    def fused_backward(self, kernels: Backend, grad: Array, out: None, x: Array) -> Array:
        return kernels.activation_grad("absolute", grad, x)


class Step(Op):
    """sign, floor, ceil, round: constant almost everywhere, so the derivative is 0."""

    saves_inputs = False

    def __init__(self, primitive: str) -> None:
        self.primitive = primitive

    def forward(self, kernels: Backend, x: Array) -> Array:
        return getattr(kernels, self.primitive)(x)

    def backward(self, grad: Tensor, out: None) -> Tensor:
        return zeros_like(grad)


class Exp(Op):
    saves_inputs, saves_output = False, True

    def forward(self, kernels: Backend, x: Array) -> Array:
        return kernels.exp(x)

    def backward(self, grad: Tensor, out: Tensor) -> Tensor:
        return grad * out


class Expm1(Op):
    """eˣ − 1 without cancellation near 0."""

    saves_inputs, saves_output = False, True

    def forward(self, kernels: Backend, x: Array) -> Array:
        return kernels.expm1(x)

    def backward(self, grad: Tensor, out: Tensor) -> Tensor:
        return grad * (out + 1)


class Log(Op):
    def forward(self, kernels: Backend, x: Array) -> Array:
        return kernels.log(x)

    def backward(self, grad: Tensor, out: None) -> Tensor:
        (x,) = self.inputs
        return grad / x


class Log1p(Op):
    """log(1 + x) without cancellation near 0."""

    def forward(self, kernels: Backend, x: Array) -> Array:
        return kernels.log1p(x)

    def backward(self, grad: Tensor, out: None) -> Tensor:
        (x,) = self.inputs
        return grad / (x + 1)


class Sqrt(Op):
    saves_inputs, saves_output = False, True

    def forward(self, kernels: Backend, x: Array) -> Array:
        return kernels.sqrt(x)

    def backward(self, grad: Tensor, out: Tensor) -> Tensor:
        return grad / (out * 2)


class Sin(Op):
    def forward(self, kernels: Backend, x: Array) -> Array:
        return kernels.sin(x)

    def backward(self, grad: Tensor, out: None) -> Tensor:
        return grad * cos(self.inputs[0])


class Cos(Op):
    def forward(self, kernels: Backend, x: Array) -> Array:
        return kernels.cos(x)

    def backward(self, grad: Tensor, out: None) -> Tensor:
        return -grad * sin(self.inputs[0])


class Tanh(Op):
    saves_inputs, saves_output = False, True

    def forward(self, kernels: Backend, x: Array) -> Array:
        return kernels.tanh(x)

    def backward(self, grad: Tensor, out: Tensor) -> Tensor:
        return grad * (1 - out * out)

    def fused_backward(self, kernels: Backend, grad: Array, out: Array) -> Array:
        return kernels.activation_grad("tanh", grad, out)


class Sigmoid(Op):
    """1 / (1 + e⁻ˣ) without overflow."""

    saves_inputs, saves_output = False, True

    def forward(self, kernels: Backend, x: Array) -> Array:
        return kernels.sigmoid(x)

    def backward(self, grad: Tensor, out: Tensor) -> Tensor:
        return grad * (out * (1 - out))

    def fused_backward(self, kernels: Backend, grad: Array, out: Array) -> Array:
        return kernels.activation_grad("sigmoid", grad, out)


class Erf(Op):
    """2/√π ∫₀ˣ e^(−t²) dt."""

    def forward(self, kernels: Backend, x: Array) -> Array:
        return kernels.erf(x)

    def backward(self, grad: Tensor, out: None) -> Tensor:
        (x,) = self.inputs
        return grad * (exp(-(x * x)) * (2 / math.sqrt(math.pi)))


def neg(input: Tensor) -> Tensor:
    """−input. Raises TypeError for booleans."""
    if input.dtype == dtypes.bool_:
        raise TypeError("neg: the negative of a boolean is not defined; use logical_not")
    return Negative()(input)


def abs(input: Tensor) -> Tensor:
    """|input|; the derivative at 0 is 0."""
    return Absolute()(input)


def sign(input: Tensor) -> Tensor:
    """−1, 0 or 1; the derivative is 0."""
    return Step("sign")(input) if input.dtype != dtypes.bool_ else input.clone()


def floor(input: Tensor) -> Tensor:
    """The largest integer not above the element."""
    return Step("floor")(input)


def ceil(input: Tensor) -> Tensor:
    """The smallest integer not below the element."""
    return Step("ceil")(input)


def round(input: Tensor) -> Tensor:
    """The nearest integer, halves to the even one."""
    return Step("rint")(input) if input.dtype.kind == "f" else input.clone()


def exp(input: Tensor) -> Tensor:
    """e to the power of the element."""
    return Exp()(_floating(input))


def expm1(input: Tensor) -> Tensor:
    """eˣ − 1, exact near 0."""
    return Expm1()(_floating(input))


def log(input: Tensor) -> Tensor:
    """Natural logarithm: −∞ at 0, NaN below."""
    return Log()(_floating(input))


def log1p(input: Tensor) -> Tensor:
    """log(1 + x), exact near 0."""
    return Log1p()(_floating(input))


def sqrt(input: Tensor) -> Tensor:
    """Square root: NaN below 0; the derivative at 0 is ∞."""
    return Sqrt()(_floating(input))


def rsqrt(input: Tensor) -> Tensor:
    """1 / √x."""
    return reciprocal(sqrt(input))


def square(input: Tensor) -> Tensor:
    """x²."""
    return power(input, 2)


def reciprocal(input: Tensor) -> Tensor:
    """1 / x."""
    return 1.0 / _floating(input)


def sin(input: Tensor) -> Tensor:
    """Sine of radians."""
    return Sin()(_floating(input))


def cos(input: Tensor) -> Tensor:
    """Cosine of radians."""
    return Cos()(_floating(input))


def tanh(input: Tensor) -> Tensor:
    """Hyperbolic tangent."""
    return Tanh()(_floating(input))


def sigmoid(input: Tensor) -> Tensor:
    """1 / (1 + e⁻ˣ)."""
    return Sigmoid()(_floating(input))


def erf(input: Tensor) -> Tensor:
    """The error function."""
    return Erf()(_floating(input))
