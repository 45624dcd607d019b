"""Convolution or dense layer, batch norm and ReLU as one layer, as they nearly always occur."""

from __future__ import annotations

from collections.abc import Sequence

from ..nn import BatchNorm1d, BatchNorm2d, Conv2d, Linear, Module
from ..tensor import Tensor


class ConvBNReLU(Module):
    """max(batch_norm(conv(x)), 0) of x (N, C, H, W); keys ``conv.*`` and ``bn.*``."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1, padding: int | Sequence[int] | str = 0, groups: int = 1,
        bias: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.conv = Conv2d(
            in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=bias
        )
        self.bn = BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x)).relu()  # type: ignore[no-any-return]


class DenseBNReLU(Module):
    """max(batch_norm(x Wᵀ + b), 0) of x (N, C); keys ``linear.*`` and ``bn.*``."""

    def __init__(self, in_features: int, out_features: int, bias: bool = False) -> None:
        super().__init__()
        self.linear = Linear(in_features, out_features, bias)
        self.bn = BatchNorm1d(out_features)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.linear(x)).relu()  # type: ignore[no-any-return]
