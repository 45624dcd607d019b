"""Convolution whose kernel is as large as the image: one matrix product in each direction.

Without padding there is one output a channel, y[n, o] = Σ_{c,i,j} x[n, c, i, j] · w[o, c, i, j]: a
linear layer over flattened images. It ends a discriminator, and transposed it begins a generator of
images from vectors. Images and weights are flattened in one order of axes: that of the larger of
the two, so that only the smaller one may have to be copied.
"""

from __future__ import annotations

from typing import Any

from tinygrad_cnn.geometry import Shape, Window

from . import gemm, strided
from .layout import to_channels_last


def _rows(a: Any, channels_last: bool) -> Any:
    """a (N, C, H, W) as a matrix of N rows, in the order (C, H, W) or (H, W, C)."""
    order = a.transpose(0, 2, 3, 1) if channels_last else a
    shape = (len(a), a[0].size)
    if order.flags.c_contiguous or a.size < strided.LARGE:
        return order.reshape(shape)
    made = strided.reshape(order, shape)
    return order.reshape(shape) if made is None else made


def _images(rows: Any, shape: Shape, channels_last: bool) -> Any:
    """The matrix ``rows`` as the array (N, C, H, W) that it holds."""
    if not channels_last:
        return rows.reshape(shape)
    n, c, h, w = shape
    return rows.reshape(n, h, w, c).transpose(0, 3, 1, 2)


def _flattens_last(w: Any, n: int) -> bool:
    """Whether n images and the weights are flattened as (H, W, C), the images' usual order."""
    return bool(len(w) < n or w.strides[1] == w.itemsize and w.shape[1] > 1)


def conv(x: Any, w: Any, bias: Any, window: Window, groups: int, relu: bool = False) -> Any:
    """y[n,o,0,0] = Σ x[n,c,i,j] · w[o,c,i,j] + bias[o], then max(·, 0) with ``relu``."""
    last = _flattens_last(w, len(x))
    y = gemm.linear(_rows(x, last), _rows(w, last), bias, relu)
    return y.reshape(*y.shape, 1, 1)


def conv_input_grad(
    gy: Any, w: Any, shape: Shape, window: Window, groups: int, into: Any = None
) -> Any:
    """gx[n,c,i,j] = Σ_o gy[n,o] · w[o,c,i,j], channels last; with ``into`` it is added to that."""
    last = _flattens_last(w, len(gy))
    rows = gemm.matmul(gy.reshape(gy.shape[:2]), _rows(w, last))
    gx = to_channels_last(_images(rows, shape, last))
    if into is None:
        return gx
    into += gx
    return into


def conv_weight_grad(x: Any, gy: Any, shape: Shape, window: Window, groups: int) -> Any:
    """gw[o,c,i,j] = Σ_n gy[n,o] · x[n,c,i,j]."""
    last = shape[0] < len(x)
    gw = _images(gemm.matmul(gy.reshape(gy.shape[:2]).T, _rows(x, last)), shape, last)
    return _rows(gw, False).reshape(shape)
