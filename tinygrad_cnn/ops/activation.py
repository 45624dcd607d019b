"""Activation functions. What they do at their kinks is PyTorch's convention, stated at each.

``inplace=True`` overwrites the input with the result, as PyTorch's functions of that argument do.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from ..backend import Array, Backend
from ..tensor import Op, Tensor
from .checks import same_dtype, tensor_of_floats
from .elementwise import clamp, where
from .names import numpy_names
from .unary import exp, sigmoid, tanh

SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805  # solutions of the fixed point


class Relu(Op):
    """y = max(x, 0), NaN staying NaN; the derivative is 1 where y > 0, so 0 at 0."""

    saves_inputs, saves_output = False, True

    def forward(self, kernels: Backend, x: Array) -> Array:
        return kernels.relu(x)

    def backward(self, grad: Tensor, out: Tensor) -> Tensor:
        return ReluGrad()(grad, out.detach())

    def fused_backward(self, kernels: Backend, grad: Array, out: Array) -> Array:
        return kernels.relu_grad(grad, out)


class ReluGrad(Op):
    """g where y > 0, else 0; linear in g, piecewise constant in y."""

    def forward(self, kernels: Backend, g: Array, y: Array) -> Array:
        return kernels.relu_grad(g, y)

    def backward(self, grad: Tensor, out: None) -> tuple[Tensor, None]:
        return ReluGrad()(grad, self.inputs[1]), None


class LeakyRelu(Op):
    """x where x > 0, else slope·x; the derivative at 0 is the slope."""

    def __init__(self, slope: float) -> None:
        self.slope = slope

    def forward(self, kernels: Backend, x: Array) -> Array:
        return kernels.leaky_relu(x, self.slope)

    def backward(self, grad: Tensor, out: None) -> Tensor:
        (x,) = self.inputs
        return where(x > 0, grad, grad * self.slope)

    def fused_backward(self, kernels: Backend, grad: Array, out: None, x: Array) -> Array:
        return kernels.leaky_relu_grad(grad, x, self.slope)


class PRelu(Op):
    """x where x > 0, else slope·x, slopes broadcast; ∂x at 0 is the slope, ∂slope is min(x, 0)."""

    broadcasts = True

    def forward(self, kernels: Backend, x: Array, slope: Array) -> Array:
        return kernels.leaky_relu(x, slope)

    def backward(self, grad: Tensor, out: None) -> tuple[Tensor, Tensor]:
        x, slope = self.inputs
        positive = x > 0
        return where(positive, grad, grad * slope), where(positive, 0.0, grad * x)

    def fused_backward(
        self, kernels: Backend, grad: Array, out: None, x: Array, slope: Array
    ) -> tuple[Array, Array | None]:
        if not self.needs[1]:
            return kernels.leaky_relu_grad(grad, x, slope), None
        return kernels.prelu_grad(grad, x, slope)


class Activation(Op):
    """A function of each element with one kernel for its values and one for its gradient.

    ``backward`` of a subclass is the gradient's definition, for derivatives of higher order.
    """

    name: str

    def __init__(self, *settings: float) -> None:
        self.settings = settings

    def forward(self, kernels: Backend, x: Array) -> Array:
        return kernels.activation(self.name, x, *self.settings)

    def fused_backward(self, kernels: Backend, grad: Array, out: None, x: Array) -> Array:
        return kernels.activation_grad(self.name, grad, x, *self.settings)


class Elu(Activation):
    """scale·x where x > 0, else scale·alpha·(e^(rate·x) − 1); at 0 the left derivative."""

    name = "elu"

    def backward(self, grad: Tensor, out: None) -> Tensor:
        (x,) = self.inputs
        alpha, scale, rate = self.settings
        low = exp(where(x >= 0, 0.0, x) * rate) * (alpha * scale * rate)
        return where(x > 0, grad * scale, grad * low)


class Silu(Activation):
    """x·σ(x);  y′ = σ·(1 + x·(1 − σ))."""

    name = "silu"

    def backward(self, grad: Tensor, out: None) -> Tensor:
        (x,) = self.inputs
        s = sigmoid(x)
        return grad * (s * (x * (1 - s) + 1))


class Gelu(Activation):
    """x·Φ(x), Φ(x) = (1 + erf(x/√2))/2;  y′ = Φ(x) + x·φ(x), φ(x) = e^(−x²/2)/√(2π)."""

    name = "gelu"

    def backward(self, grad: Tensor, out: None) -> Tensor:
        (x,) = self.inputs
        bounded = clamp(x, -20.0, 20.0)  # beyond, the density is 0, and so is x times it
        density = exp(bounded * bounded * -0.5) * (1 / math.sqrt(2 * math.pi))
        return grad * (((x * math.sqrt(0.5)).erf() + 1) * 0.5 + bounded * density)


class GeluTanh(Activation):
    """x/2·(1 + t), t = tanh(u), u = √(2/π)·(x + 0.044715·x³);  y′ = (1 + t + x·(1 − t²)·u′)/2."""

    name = "gelu_tanh"

    def backward(self, grad: Tensor, out: None) -> Tensor:
        (x,) = self.inputs
        x = clamp(x, -20.0, 20.0)  # beyond, y′ is 0 or 1
        root = math.sqrt(2 / math.pi)
        t = tanh((x + x * x * x * 0.044715) * root)
        inner = (x * x * (3 * 0.044715) + 1) * root
        return grad * ((x * (1 - t * t) * inner + t + 1) * 0.5)


class Softplus(Activation):
    """log(1 + e^(beta·x))/beta, and x itself where beta·x > threshold;  y′ = σ(beta·x), or 1."""

    name = "softplus"

    def backward(self, grad: Tensor, out: None) -> Tensor:
        (x,) = self.inputs
        beta, threshold = self.settings
        z = x * beta
        curved = where(z >= threshold, threshold, z)
        return where(z > threshold, grad, grad * sigmoid(curved))


class LogSigmoid(Activation):
    """log σ(x) = min(x, 0) − log(1 + e^(−|x|));  y′ = σ(−x)."""

    name = "log_sigmoid"

    def backward(self, grad: Tensor, out: None) -> Tensor:
        return grad * sigmoid(-self.inputs[0])


class Hardtanh(Activation):
    """min(max(x, low), high); the derivative is 1 strictly between the limits, 0 at them."""

    name = "hardtanh"

    def backward(self, grad: Tensor, out: None) -> Tensor:
        (x,) = self.inputs
        low, high = self.settings
        return where((x > low) & (x < high), grad, 0.0)


class Hardswish(Activation):
    """0 where x ≤ −3, x where x ≥ 3, else x·(x + 3)/6; at ±3 the outer derivative."""

    name = "hardswish"

    def backward(self, grad: Tensor, out: None) -> Tensor:
        (x,) = self.inputs
        return where(x <= -3, 0.0, where(x >= 3, grad, grad * (x / 3 + 0.5)))


class Hardsigmoid(Activation):
    """min(max(x + 3, 0), 6)/6; the derivative is 1/6 strictly between −3 and 3, 0 at them."""

    name = "hardsigmoid"

    def backward(self, grad: Tensor, out: None) -> Tensor:
        (x,) = self.inputs
        return where((x > -3) & (x < 3), grad / 6, 0.0)


class Softsign(Activation):
    """x / (1 + |x|);  y′ = 1 / (1 + |x|)²."""

    name = "softsign"

    def backward(self, grad: Tensor, out: None) -> Tensor:
        root = 1 / (self.inputs[0].abs() + 1)
        return grad * root * root


class Softmax(Op):
    """y = eˣ / Σ eˣ along an axis;  gx = y·(g − Σ g·y)."""

    saves_inputs, saves_output = False, True

    def __init__(self, axis: int) -> None:
        self.axis = axis

    def forward(self, kernels: Backend, x: Array) -> Array:
        return kernels.softmax(x, self.axis)

    def backward(self, grad: Tensor, out: Tensor) -> Tensor:
        weighted = grad * out
        return weighted - out * weighted.sum(self.axis, keepdim=True)

    def fused_backward(self, kernels: Backend, grad: Array, out: Array) -> Array:
        return kernels.softmax_grad(grad, out, self.axis)


class LogSoftmax(Op):
    """y = x − log Σ eˣ along an axis;  gx = g − e^y·Σ g."""

    saves_inputs, saves_output = False, True

    def __init__(self, axis: int) -> None:
        self.axis = axis

    def forward(self, kernels: Backend, x: Array) -> Array:
        return kernels.log_softmax(x, self.axis)

    def backward(self, grad: Tensor, out: Tensor) -> Tensor:
        return grad - exp(out) * grad.sum(self.axis, keepdim=True)

    def fused_backward(self, kernels: Backend, grad: Array, out: Array) -> Array:
        return kernels.log_softmax_grad(grad, out, self.axis)


# -- public functions ------------------------------------------------------------------------------
def _apply(name: str, op: Op, x: Tensor, inplace: bool = False) -> Tensor:
    tensor_of_floats(name, x)
    return x.inplace(op) if inplace else op.on((x,))


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """max(x, 0); the derivative at 0 is 0."""
    if not isinstance(input, Tensor):
        raise TypeError(f"relu: input must be a tensor, received {type(input).__name__}")
    return input.inplace(Relu()) if inplace else Relu().on((input,))


def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """min(max(x, 0), 6); the derivative at 0 and 6 is 0."""
    return _apply("relu6", Hardtanh(0.0, 6.0), input, inplace)


def hardtanh(
    input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> Tensor:
    """min(max(x, min_val), max_val); the derivative at the limits is 0.

    Raises ValueError unless min_val ≤ max_val."""
    if min_val > max_val:
        raise ValueError(f"hardtanh: expected min_val ≤ max_val, received {min_val} and {max_val}")
    return _apply("hardtanh", Hardtanh(min_val, max_val), input, inplace)


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """x where x > 0, else negative_slope·x; the derivative at 0 is the slope."""
    return _apply("leaky_relu", LeakyRelu(negative_slope), input, inplace)


def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """x where x > 0, else weight·x, one learned weight for all or one a channel (dimension 1).

    The derivative at 0 is the weight. Raises ValueError when the number of weights is neither 1
    nor C."""
    tensor_of_floats("prelu", input)
    same_dtype("prelu", input, "weight", weight)
    channels = input.shape[1] if input.ndim > 1 else 1
    if weight.ndim > 1 or weight.array.size not in (1, channels):
        raise ValueError(
            f"prelu: weight must have 1 element or {channels}, one a channel "
            f"of input {input.shape}, received shape {weight.shape}"
        )
    count = weight.array.size
    slope = weight.reshape(
        (1, count, *(1,) * (input.ndim - 2)) if input.ndim > 1 else (1,) * input.ndim
    )
    return PRelu()(input, slope)


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x where x > 0, else alpha·(eˣ − 1); the derivative at 0 is alpha."""
    return _apply("elu", Elu(alpha, 1.0, 1.0), input, inplace)


def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """scale·elu(x, alpha) with the constants that keep mean 0 and variance 1.

    Source: Klambauer et al., "Self-Normalizing Neural Networks", 2017."""
    return _apply("selu", Elu(SELU_ALPHA, SELU_SCALE, 1.0), input, inplace)


def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x where x > 0, else alpha·(e^(x/alpha) − 1): continuously differentiable, alpha ≠ 0."""
    if alpha == 0:
        raise ValueError("celu: alpha must not be 0")
    return _apply("celu", Elu(alpha, 1.0, 1.0 / alpha), input, inplace)


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """x·Φ(x), Φ the normal distribution function; "tanh": x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³))).

    Source: Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016."""
    if approximate not in ("none", "tanh"):
        raise ValueError(f'gelu: approximate must be "none" or "tanh", received {approximate!r}')
    return _apply("gelu", Gelu() if approximate == "none" else GeluTanh(), input)


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """x·σ(x), also called swish."""
    return _apply("silu", Silu(), input, inplace)


def mish(input: Tensor, inplace: bool = False) -> Tensor:
    """x·tanh(softplus(x)). Source: Misra, "Mish", 2019."""
    tensor_of_floats("mish", input)
    function: Callable[[Tensor], Tensor] = lambda x: x * tanh(softplus(x))  # noqa: E731
    return input.inplace(function) if inplace else function(input)


def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + e^(beta·x))/beta; x itself where beta·x > threshold, to the same digits."""
    return _apply("softplus", Softplus(beta, threshold), input)


def softsign(input: Tensor) -> Tensor:
    """x / (1 + |x|)."""
    return _apply("softsign", Softsign(), input)


def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """min(max(x + 3, 0), 6)/6; the derivative at ±3 is 0."""
    return _apply("hardsigmoid", Hardsigmoid(), input, inplace)


def hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    """x·min(max(x + 3, 0), 6)/6; the derivative is 0 at −3 and 1 at 3."""
    return _apply("hardswish", Hardswish(), input, inplace)


def logsigmoid(input: Tensor) -> Tensor:
    """log σ(x), exact for large |x|."""
    return _apply("logsigmoid", LogSigmoid(), input)


def _softmax_axis(input: Tensor, dim: int | None) -> int:
    if dim is None:  # PyTorch's old rule, kept for its callers
        dim = 0 if input.ndim in (0, 1, 3) else 1
    limit = max(input.ndim, 1)
    if not -limit <= dim < limit:
        raise IndexError(f"softmax: dim must lie in [{-limit}, {limit - 1}], received {dim}")
    return dim % limit


def _soft(
    name: str, op: type[Softmax] | type[LogSoftmax], x: Tensor, dim: int | None, dtype: object
) -> Tensor:
    if dtype is not None and isinstance(x, Tensor):
        x = x.to(dtype=dtype)
    tensor_of_floats(name, x)
    axis = _softmax_axis(x, dim)
    if x.array.size == 0:
        return x * 1
    return op(axis)(x) if x.ndim else op(0)(x.reshape(1)).reshape(())


@numpy_names
def softmax(input: Tensor, dim: int | None = None, *, dtype: object = None) -> Tensor:
    """eˣ / Σ eˣ along ``dim``, without overflow; computed in ``dtype`` if given.

    Without ``dim``: dimension 0 of inputs with 0, 1 or 3 dimensions, else 1."""
    return _soft("softmax", Softmax, input, dim, dtype)


@numpy_names
def log_softmax(input: Tensor, dim: int | None = None, *, dtype: object = None) -> Tensor:
    """x − log Σ eˣ along ``dim``: the logarithm of ``softmax``, exact where that underflows."""
    return _soft("log_softmax", LogSoftmax, input, dim, dtype)
