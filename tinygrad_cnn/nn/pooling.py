"""Pooling layers: the maximum or mean of each window."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from ..tensor import Tensor
from . import functional as F
from .module import Module

Size = int | Sequence[int]


class _MaxPool(Module):
    """Maximum of each window; ``stride=None`` is the kernel size. Padding never wins.

    With ``return_indices`` the result is (y, position of each maximum in its flattened input
    plane).
    """

    function: ClassVar[Callable[..., Any]]

    def __init__(
        self, kernel_size: Size, stride: Size | None = None, padding: Size = 0, dilation: Size = 1,
        return_indices: bool = False, ceil_mode: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.dilation = padding, dilation
        self.return_indices, self.ceil_mode = return_indices, ceil_mode

    def forward(self, input: Tensor) -> Any:
        return type(self).function(
            input, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode,
            self.return_indices,
        )  # fmt: skip

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, ceil_mode={self.ceil_mode}"
        )


class MaxPool1d(_MaxPool):
    """Maximum of windows of x (N, C, L)."""

    function = F.max_pool1d


class MaxPool2d(_MaxPool):
    """Maximum of windows of x (N, C, H, W)."""

    function = F.max_pool2d


class MaxPool3d(_MaxPool):
    """Maximum of windows of x (N, C, D, H, W)."""

    function = F.max_pool3d


class AvgPool1d(Module):
    """Mean of windows of x (N, C, L); padding counts as 0 unless ``count_include_pad=False``."""

    def __init__(
        self, kernel_size: Size, stride: Size | None = None, padding: Size = 0,
        ceil_mode: bool = False, count_include_pad: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        self.kernel_size, self.stride = (
            _single(kernel_size),
            _single(kernel_size if stride is None else stride),
        )
        self.padding, self.ceil_mode, self.count_include_pad = (
            _single(padding),
            ceil_mode,
            count_include_pad,
        )

    def forward(self, input: Tensor) -> Tensor:
        return F.avg_pool1d(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
        )

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


def _single(value: Size) -> tuple[int, ...]:
    return (value,) if isinstance(value, int) else tuple(value)


class _AvgPool(Module):
    """Mean of each window; padding counts as zeros unless ``count_include_pad=False``.

    ``divisor_override`` divides the sums by a number of your own.
    """

    function: ClassVar[Callable[..., Tensor]]

    def __init__(
        self, kernel_size: Size, stride: Size | None = None, padding: Size = 0,
        ceil_mode: bool = False, count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.ceil_mode, self.count_include_pad = padding, ceil_mode, count_include_pad
        self.divisor_override = divisor_override

    def forward(self, input: Tensor) -> Tensor:
        return type(self).function(
            input, self.kernel_size, self.stride, self.padding, self.ceil_mode,
            self.count_include_pad, self.divisor_override,
        )  # fmt: skip

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool2d(_AvgPool):
    """Mean of windows of x (N, C, H, W)."""

    function = F.avg_pool2d


class AvgPool3d(_AvgPool):
    """Mean of windows of x (N, C, D, H, W)."""

    function = F.avg_pool3d


class _Adaptive(Module):
    """Windows chosen so that the output has ``output_size`` cells: floor(i·n/o) … ceil((i+1)·n/o).

    None keeps the input's size on that axis.
    """

    function: ClassVar[Callable[..., Any]]

    def __init__(self, output_size: int | None | Sequence[int | None]) -> None:
        super().__init__()
        self.output_size = output_size

    def forward(self, input: Tensor) -> Any:
        return type(self).function(input, self.output_size)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveAvgPool1d(_Adaptive):
    """Means of x (N, C, L) on a grid of the wanted size."""

    function = F.adaptive_avg_pool1d


class AdaptiveAvgPool2d(_Adaptive):
    """Means of x (N, C, H, W) on a grid of the wanted size."""

    function = F.adaptive_avg_pool2d


class AdaptiveAvgPool3d(_Adaptive):
    """Means of x (N, C, D, H, W) on a grid of the wanted size."""

    function = F.adaptive_avg_pool3d


class _AdaptiveMax(_Adaptive):
    def __init__(
        self, output_size: int | None | Sequence[int | None], return_indices: bool = False
    ) -> None:
        super().__init__(output_size)
        self.return_indices = return_indices

    def forward(self, input: Tensor) -> Any:
        return type(self).function(input, self.output_size, self.return_indices)


class AdaptiveMaxPool1d(_AdaptiveMax):
    """Maxima of x (N, C, L) on a grid of the wanted size."""

    function = F.adaptive_max_pool1d


class AdaptiveMaxPool2d(_AdaptiveMax):
    """Maxima of x (N, C, H, W) on a grid of the wanted size."""

    function = F.adaptive_max_pool2d


class AdaptiveMaxPool3d(_AdaptiveMax):
    """Maxima of x (N, C, D, H, W) on a grid of the wanted size."""

    function = F.adaptive_max_pool3d
