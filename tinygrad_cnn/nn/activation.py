"""Activation layers: one function of each element, and softmax."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from ..tensor import Tensor
from . import functional as F
from . import init
from .linear import new_parameter
from .module import Module


class _Activation(Module):
    """Calls ``function`` with the attributes named in ``shown``, which ``repr`` shows as well.

    With ``inplace=True`` the input is overwritten with the result.
    """

    function: ClassVar[Callable[..., Tensor]]
    shown: ClassVar[tuple[str, ...]] = ()
    inplace: bool = False

    def forward(self, input: Tensor) -> Tensor:
        options = {"inplace": True} if self.inplace else {}
        return type(self).function(input, *[getattr(self, n) for n in self.shown], **options)

    def extra_repr(self) -> str:
        options = [f"{name}={getattr(self, name)!r}" for name in self.shown]
        return ", ".join([*options, "inplace=True"] if self.inplace else options)


class _Plain(_Activation):
    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace


class ReLU(_Plain):
    """max(x, 0)."""

    function = F.relu

    def forward(self, input: Tensor) -> Tensor:
        return F.relu(input, self.inplace)


class ReLU6(_Plain):
    """min(max(x, 0), 6)."""

    function = F.relu6


class SELU(_Plain):
    """scale·(max(x, 0) + min(α(eˣ − 1), 0)) with the constants that keep mean 0 and variance 1.

    Source: Klambauer and others, "Self-normalizing neural networks", 2017.
    """

    function = F.selu


class SiLU(_Plain):
    """x·sigmoid(x), also called swish."""

    function = F.silu


class Mish(_Plain):
    """x·tanh(softplus(x)). Source: Misra, 2019."""

    function = F.mish


class Hardsigmoid(_Plain):
    """min(max(x + 3, 0), 6)/6, a sigmoid of straight lines."""

    function = F.hardsigmoid


class Hardswish(_Plain):
    """x·hardsigmoid(x). Source: Howard and others, "Searching for MobileNetV3", 2019."""

    function = F.hardswish


class Sigmoid(_Activation):
    """1 / (1 + e⁻ˣ)."""

    function = F.sigmoid


class Tanh(_Activation):
    """Hyperbolic tangent."""

    function = F.tanh


class Softsign(_Activation):
    """x / (1 + |x|)."""

    function = F.softsign


class LogSigmoid(_Activation):
    """log(sigmoid(x)), without overflow."""

    function = F.logsigmoid


class LeakyReLU(_Activation):
    """x where x ≥ 0, else negative_slope·x."""

    function = F.leaky_relu
    shown = ("negative_slope",)

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        super().__init__()
        self.negative_slope, self.inplace = negative_slope, inplace


class ELU(_Activation):
    """x where x > 0, else α(eˣ − 1). Source: Clevert, Unterthiner, Hochreiter, 2016."""

    function = F.elu
    shown = ("alpha",)

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        self.alpha, self.inplace = alpha, inplace


class GELU(_Activation):
    """x·Φ(x); ``approximate="tanh"`` uses the tanh form. Source: Hendrycks and Gimpel, 2016."""

    shown = ("approximate",)

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        self.approximate = approximate

    def forward(self, input: Tensor) -> Tensor:
        return F.gelu(input, approximate=self.approximate)


class Softplus(_Activation):
    """log(1 + exp(β·x)) / β, and x itself where β·x > threshold."""

    function = F.softplus
    shown = ("beta", "threshold")

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__()
        self.beta, self.threshold = beta, threshold


class CELU(_Activation):
    """max(x, 0) + min(α·(e^(x/α) − 1), 0). Source: Barron, 2017."""

    function = F.celu
    shown = ("alpha",)

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        self.alpha, self.inplace = alpha, inplace


class Hardtanh(_Activation):
    """x limited to [min_val, max_val]."""

    function = F.hardtanh
    shown = ("min_val", "max_val")

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        if not min_val < max_val:
            raise ValueError(
                f"Hardtanh: expected min_val < max_val, received {min_val} and {max_val}"
            )
        self.min_val, self.max_val, self.inplace = min_val, max_val, inplace


class PReLU(Module):
    """x where x ≥ 0, else w·x with a learned slope w: one, or one a channel; starts at ``init``."""

    def __init__(
        self,
        num_parameters: int = 1,
        init: float = 0.25,
        dtype: Any = None,
        backend: str | None = None,
    ) -> None:
        super().__init__()
        self.num_parameters, self.init = num_parameters, init
        self.weight = new_parameter(num_parameters, dtype=dtype, backend=backend)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the slopes to their first value."""
        init.constant_(self.weight, self.init)

    def forward(self, input: Tensor) -> Tensor:
        return F.prelu(input, self.weight)

    def extra_repr(self) -> str:
        return f"num_parameters={self.num_parameters}"


class _AlongDim(_Activation):
    shown = ("dim",)

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim


class Softmax(_AlongDim):
    """exp(x) / Σ exp(x) along ``dim``."""

    function = F.softmax


class LogSoftmax(_AlongDim):
    """log of softmax along ``dim``, without overflow."""

    function = F.log_softmax
