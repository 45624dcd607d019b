"""Convolution layers over 1, 2 and 3 spatial dimensions, and their transposes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from ..geometry import Pairs, Shape, ntuple, same_padding
from ..tensor import Tensor
from . import functional as F
from . import init
from .linear import new_parameter
from .module import Module, Parameter

Size = int | Sequence[int]
PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class _ConvNd(Module):
    """What all convolutions share: arguments, weight (O, C/groups, I, J…), bias (O), repr.

    Both start uniform on ±1/sqrt(fan_in).
    """

    dims: ClassVar[int]
    transposed: ClassVar[bool] = False
    weight: Parameter
    bias: Parameter | None

    def _setup(
        self, in_channels: int, out_channels: int, kernel_size: Size, stride: Size, padding: Any,
        dilation: Size, groups: int, bias: bool, padding_mode: str, dtype: Any, backend: str | None,
    ) -> None:  # fmt: skip
        n, name = self.dims, type(self).__name__
        for what, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            if groups < 1 or channels % groups:
                raise ValueError(f"{name}: {what}={channels} must be divisible by groups={groups}")
        if padding_mode not in PADDING_MODES:
            raise ValueError(
                f"{name}: padding_mode must be one of {PADDING_MODES}, received {padding_mode!r}"
            )
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = ntuple(kernel_size, n, f"{name}: kernel_size", 1)
        self.stride = ntuple(stride, n, f"{name}: stride", 1)
        self.dilation = ntuple(dilation, n, f"{name}: dilation", 1)
        self.padding: str | Shape = padding
        if not isinstance(padding, str):
            self.padding = ntuple(padding, n, f"{name}: padding", 0)
        elif padding.lower() not in ("same", "valid"):
            raise ValueError(
                f'{name}: padding must be "same", "valid" or integers, received {padding!r}'
            )
        self.output_padding: Shape = (0,) * n
        self.padding_mode = padding_mode
        first, second = (
            (in_channels, out_channels) if self.transposed else (out_channels, in_channels)
        )
        self.weight = new_parameter(
            first, second // groups, *self.kernel_size, dtype=dtype, backend=backend
        )
        self.bias = new_parameter(out_channels, dtype=dtype, backend=backend) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial values."""
        init.weight_and_bias_(self.weight, self.bias)

    def extra_repr(self) -> str:
        shown = [
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}"
        ]
        if self.padding != (0,) * self.dims:
            shown.append(f"padding={self.padding}")
        if self.dilation != (1,) * self.dims:
            shown.append(f"dilation={self.dilation}")
        if self.output_padding != (0,) * self.dims:
            shown.append(f"output_padding={self.output_padding}")
        if self.groups != 1:
            shown.append(f"groups={self.groups}")
        if self.bias is None:
            shown.append("bias=False")
        if self.padding_mode != "zeros":
            shown.append(f"padding_mode={self.padding_mode}")
        return ", ".join(shown)


class _Conv(_ConvNd):
    function: ClassVar[Callable[..., Tensor]]

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Size, stride: Size = 1,
        padding: Size | str = 0, dilation: Size = 1, groups: int = 1, bias: bool = True,
        padding_mode: str = "zeros", dtype: Any = None, backend: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self._setup(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias,
                    padding_mode, dtype, backend)  # fmt: skip

    def forward(self, input: Tensor) -> Tensor:
        padding = self.padding
        if self.padding_mode != "zeros":
            cells = [p for pair in reversed(self._pairs(input)) for p in pair]
            input, padding = F.pad(input, cells, self.padding_mode), 0  # type: ignore[assignment]
        return type(self).function(
            input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups
        )

    def _pairs(self, input: Tensor) -> Pairs:
        """(before, after) cells of padding on each spatial axis."""
        if isinstance(self.padding, str):
            if self.padding.lower() == "valid":
                return ((0, 0),) * self.dims
            return same_padding(
                input.shape[-self.dims :], self.kernel_size, self.stride, self.dilation
            )
        return tuple((p, p) for p in self.padding)


class Conv1d(_Conv):
    """Cross-correlation of x (N, C, L) with weight (O, C/groups, I).

    ``padding`` is a number of cells, "valid" or "same" (TensorFlow's rule: ceil(L/stride) outputs);
    ``padding_mode`` says what the cells hold: zeros, reflect, replicate or circular.
    """

    dims = 1
    function = F.conv1d


class Conv2d(_Conv):
    """Cross-correlation of x (N, C, H, W) with weight (O, C/groups, I, J).

    ``padding`` is a number of cells an axis, "valid" or "same" (TensorFlow's rule: ceil(H/stride)
    outputs); ``padding_mode`` says what the cells hold: zeros, reflect, replicate or circular.
    """

    dims = 2
    function = F.conv2d


class Conv3d(_Conv):
    """Cross-correlation of x (N, C, D, H, W) with weight (O, C/groups, …), like ``Conv2d``."""

    dims = 3
    function = F.conv3d


class _ConvTranspose(_ConvNd):
    transposed = True
    function: ClassVar[Callable[..., Tensor]]

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Size, stride: Size = 1,
        padding: Size = 0, output_padding: Size = 0, groups: int = 1, bias: bool = True,
        dilation: Size = 1, padding_mode: str = "zeros", dtype: Any = None,
        backend: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        if padding_mode != "zeros" or isinstance(padding, str):
            raise ValueError(f"{type(self).__name__}: only a number of zeros can be padded")
        self._setup(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias,
                    padding_mode, dtype, backend)  # fmt: skip
        self.output_padding = ntuple(
            output_padding, self.dims, f"{type(self).__name__}: output_padding", 0
        )

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        """``output_size`` (spatial sizes, or the whole shape) sets this call's output padding."""
        extra = self.output_padding if output_size is None else self._extra(input, output_size)
        return type(self).function(
            input,
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            extra,
            self.groups,
            self.dilation,
        )

    def _extra(self, input: Tensor, output_size: Sequence[int]) -> Shape:
        wanted, sizes = tuple(output_size)[-self.dims :], input.shape[-self.dims :]
        assert not isinstance(self.padding, str)
        least = tuple(
            (n - 1) * s - 2 * p + d * (k - 1) + 1
            for n, k, s, p, d in zip(
                sizes, self.kernel_size, self.stride, self.padding, self.dilation, strict=True
            )
        )
        extra = tuple(w - v for w, v in zip(wanted, least, strict=True))
        if any(not 0 <= e < s for e, s in zip(extra, self.stride, strict=True)):
            most = tuple(v + s - 1 for v, s in zip(least, self.stride, strict=True))
            raise ValueError(
                f"output_size {wanted} must lie between {least} and {most} for input sizes {sizes}"
            )
        return extra


class ConvTranspose1d(_ConvTranspose):
    """The adjoint of Conv1d in its input, with weight (C, O/groups, I).

    It has (n−1)·stride − 2·padding + dilation·(k−1) + output_padding + 1 outputs.
    """

    dims = 1
    function = F.conv_transpose1d


class ConvTranspose2d(_ConvTranspose):
    """The adjoint of Conv2d in its input, with weight (C, O/groups, I, J)."""

    dims = 2
    function = F.conv_transpose2d


class ConvTranspose3d(_ConvTranspose):
    """The adjoint of Conv3d in its input, with weight (C, O/groups, …)."""

    dims = 3
    function = F.conv_transpose3d
