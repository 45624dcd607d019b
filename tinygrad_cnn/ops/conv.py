"""Convolution and its two adjoints: three bilinear ops, each the derivative of the other two.

With  y = conv(x, w),   gx = conv_input_grad(gy, w),   gw = conv_weight_grad(x, gy)

    ⟨gy, conv(x, w)⟩ = ⟨conv_input_grad(gy, w), x⟩ = ⟨conv_weight_grad(x, gy), w⟩.

Each side is linear in gy, x and w, so the derivative of every member by either operand is another
member: the family is closed, and the same three kernels give derivatives of every order. A
transposed convolution is ``conv_input_grad`` called forward.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..backend import Array, Backend
from ..geometry import Shape, Window, conv_window, ntuple, remembered, transposed_output
from ..tensor import Op, Tensor
from .checks import batched, restored, same_dtype
from .pad import ConstantPad

Size = int | Sequence[int]
Padding = str | int | Sequence[int] | Sequence[tuple[int, int]]


class Conv(Op):
    """y[n,o,p,q] = b[o] + Σ_{c,i,j} x[n, c, p·s+i·d−pad, q·s+j·d−pad] · w[o,c,i,j]."""

    deferrable = True

    def __init__(self, window: Window, groups: int) -> None:
        self.window, self.groups = window, groups

    def output_shape(self, x: Any, w: Any, bias: Any = None) -> Shape:
        return (x.shape[0], w.shape[0], *self.window.output(x.shape[2:]))

    def forward(self, kernels: Backend, x: Array, w: Array, bias: Array | None = None) -> Array:
        return kernels.conv(x, w, bias, self.window, self.groups)

    def backward(self, grad: Tensor, out: None) -> tuple[Tensor | None, ...]:
        x, w, *bias = self.inputs
        gx = ConvInputGrad(x.shape, self.window, self.groups)(grad, w) if self.needs[0] else None
        gw = ConvWeightGrad(w.shape, self.window, self.groups)(x, grad) if self.needs[1] else None
        if not bias:
            return gx, gw
        return gx, gw, grad.sum((0, *range(2, grad.ndim))) if self.needs[2] else None

    def fused_backward(
        self, kernels: Backend, grad: Array, out: None, x: Array, w: Array, *bias: Array
    ) -> tuple[Array | None, ...]:
        needs = self.needs if bias else [*self.needs, False]
        return kernels.conv_grad(grad, x, w, self.window, self.groups, needs)[: 2 + len(bias)]


class ConvInputGrad(Op):
    """gx[n,c,h,w] = Σ gy[n,o,p,q] · w[o,c,i,j] over p·s+i·d−pad = h, q·s+j·d−pad = w."""

    def __init__(self, shape: Shape, window: Window, groups: int) -> None:
        self.shape, self.window, self.groups = shape, window, groups

    def forward(self, kernels: Backend, gy: Array, w: Array) -> Array:
        return kernels.conv_input_grad(gy, w, self.shape, self.window, self.groups)

    def backward(self, grad: Tensor, out: None) -> tuple[Tensor | None, Tensor | None]:
        gy, w = self.inputs
        return (
            Conv(self.window, self.groups)(grad, w) if self.needs[0] else None,
            ConvWeightGrad(w.shape, self.window, self.groups)(grad, gy) if self.needs[1] else None,
        )


class ConvWeightGrad(Op):
    """gw[o,c,i,j] = Σ_{n,p,q} gy[n,o,p,q] · x[n, c, p·s+i·d−pad, q·s+j·d−pad]."""

    def __init__(self, shape: Shape, window: Window, groups: int) -> None:
        self.shape, self.window, self.groups = shape, window, groups

    def forward(self, kernels: Backend, x: Array, gy: Array) -> Array:
        return kernels.conv_weight_grad(x, gy, self.shape, self.window, self.groups)

    def backward(self, grad: Tensor, out: None) -> tuple[Tensor | None, Tensor | None]:
        x, gy = self.inputs
        return (
            ConvInputGrad(x.shape, self.window, self.groups)(gy, grad) if self.needs[0] else None,
            Conv(self.window, self.groups)(x, grad) if self.needs[1] else None,
        )


# -- checks ----------------------------------------------------------------------------------------
def _operands(
    name: str, n: int, x: Any, weight: Tensor, bias: Tensor | None
) -> tuple[Tensor, bool]:
    """``batched(x)``, after the checks of the dtypes."""
    x, had_batch = batched(name, x, n)
    same_dtype(name, x, "weight", weight)
    if bias is not None:
        same_dtype(name, x, "bias", bias)
    return x, had_batch


def _check_weight(name: str, n: int, weight: Shape, groups: int) -> None:
    if len(weight) != n + 2:
        raise ValueError(f"{name}: weight must have {n + 2} dimensions, received {weight}")
    if 0 in weight:
        raise ValueError(f"{name}: weight must not be empty, received {weight}")
    if not isinstance(groups, int) or groups < 1:
        raise ValueError(f"{name}: groups must be a positive integer, received {groups!r}")


def _check_bias(name: str, bias: Shape | None, channels: int) -> None:
    if bias is not None and bias != (channels,):
        raise ValueError(
            f"{name}: bias must have shape ({channels},), one number an output channel, "
            f"received {bias}"
        )


@remembered
def _window(
    name: str, x: Shape, weight: Shape, bias: Shape | None,
    stride: Size, padding: Padding, dilation: Size, groups: int,
) -> Window:  # fmt: skip
    """The window of a convolution, after the checks of the shapes."""
    _check_weight(name, len(x) - 2, weight, groups)
    o, c = weight[0], weight[1] * groups
    if x[1] != c:
        raise ValueError(
            f"{name}: weight expects {c} input channel{'s' * (c != 1)} but input has {x[1]} "
            f"(input {x}, weight {weight}{f', groups {groups}' * (groups > 1)})"
        )
    if o % groups:
        raise ValueError(
            f"{name}: groups must divide the output channels, received groups {groups} "
            f"and {o} output channels (weight {weight})"
        )
    _check_bias(name, bias, o)
    return conv_window(x[2:], weight[2:], stride, padding, dilation, name)


def _conv(
    name: str, n: int, x: Any, weight: Tensor, bias: Tensor | None,
    stride: Size, padding: Padding, dilation: Size, groups: int,
) -> Tensor:  # fmt: skip
    x, had_batch = _operands(name, n, x, weight, bias)
    sizes = None if bias is None else bias.shape
    window = _window(name, x.shape, weight.shape, sizes, stride, padding, dilation, groups)
    op = Conv(window, groups)
    return restored(op(x, weight) if bias is None else op(x, weight, bias), had_batch)


def _conv_transpose(
    name: str, n: int, x: Any, weight: Tensor, bias: Tensor | None,
    stride: Size, padding: Size, output_padding: Size, groups: int, dilation: Size,
) -> Tensor:  # fmt: skip
    x, had_batch = _operands(name, n, x, weight, bias)
    sizes = None if bias is None else bias.shape
    shape, window, tail = _transposed(name, x.shape, weight.shape, sizes, stride, padding,
                                      output_padding, groups, dilation)  # fmt: skip
    y = ConvInputGrad(shape, window, groups)(x, weight)
    if any(tail):
        y = ConstantPad(((0, 0), (0, 0), *((0, t) for t in tail)), 0.0)(y)
    if bias is not None:
        y = y + bias.reshape(1, shape[1], *(1,) * n)
    return restored(y, had_batch)


@remembered
def _transposed(
    name: str, x: Shape, weight: Shape, bias: Shape | None,
    stride: Size, padding: Size, output_padding: Size, groups: int, dilation: Size,
) -> tuple[Shape, Window, Shape]:  # fmt: skip
    """(shape and window of the convolution whose input gradient is wanted, zeros to append), after
    the checks of the shapes."""
    _check_weight(name, len(x) - 2, weight, groups)
    if x[1] != weight[0]:
        raise ValueError(
            f"{name}: weight (C, O/groups, …) expects {weight[0]} input channels "
            f"but input has {x[1]} (input {x}, weight {weight})"
        )
    if weight[0] % groups:
        raise ValueError(
            f"{name}: groups must divide the input channels, received groups {groups} "
            f"and {weight[0]} input channels"
        )
    channels = weight[1] * groups
    _check_bias(name, bias, channels)
    window, extra = _transposed_window(name, weight[2:], stride, padding, output_padding, dilation)
    sizes = transposed_output(x[2:], window, extra)
    if min(sizes) < 1:
        raise ValueError(
            f"{name}: output sizes (n−1)·s − 2·pad + d·(k−1) + output_padding + 1 = {sizes} "
            f"must be at least 1 (input {x}, kernel {window.kernel}, stride {window.stride}, "
            f"padding {padding!r})"
        )
    # The output is the input of the convolution that ``window`` describes. Where output_padding
    # reaches a whole stride, that convolution would have more positions than x has cells; cells of
    # the output that no position reaches are then cut from its end padding, or appended as zeros.
    pairs = tuple(
        (lo, hi if e < s else max(hi - e, 0))
        for (lo, hi), e, s in zip(window.padding, extra, window.stride, strict=True)
    )
    tail = tuple(
        0 if e < s else max(e - hi, 0)
        for (_, hi), e, s in zip(window.padding, extra, window.stride, strict=True)
    )
    shape = (x[0], channels, *(m - t for m, t in zip(sizes, tail, strict=True)))
    return shape, window._replace(padding=pairs), tail


def _transposed_window(
    name: str, kernel: Shape, stride: Size, padding: Size, output_padding: Size, dilation: Size
) -> tuple[Window, Shape]:
    n = len(kernel)
    strides, dilations = (
        ntuple(stride, n, f"{name}: stride", 1),
        ntuple(dilation, n, f"{name}: dilation", 1),
    )
    extra = ntuple(output_padding, n, f"{name}: output_padding", 0)
    if any(e >= max(s, d) for e, s, d in zip(extra, strides, dilations, strict=True)):
        raise ValueError(
            f"{name}: output_padding must be smaller than stride or dilation, received "
            f"output_padding {extra}, stride {strides}, dilation {dilations}"
        )
    pads = tuple((p, p) for p in ntuple(padding, n, f"{name}: padding", 0))
    return Window(kernel, strides, pads, dilations), extra


# -- public functions ------------------------------------------------------------------------------
def conv1d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Size = 1,
    padding: Padding = 0, dilation: Size = 1, groups: int = 1,
) -> Tensor:  # fmt: skip
    """Convolution of (N, C, L) with weight (O, C/groups, I), giving (N, O, P); as ``conv2d``."""
    return _conv("conv1d", 1, input, weight, bias, stride, padding, dilation, groups)


def conv2d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Size = 1,
    padding: Padding = 0, dilation: Size = 1, groups: int = 1,
) -> Tensor:  # fmt: skip
    """Convolution (cross-correlation) over two spatial dimensions.

    y[n,o,p,q] = bias[o] + Σ_{c,i,j} x[n, c, p·s+i·d−pad, q·s+j·d−pad] · w[o,c,i,j]

    input (N, C, H, W) or (C, H, W), weight (O, C/groups, I, J), bias (O,); result (N, O, P, Q) with
    P = floor((H + 2·pad − d·(I−1) − 1)/s) + 1. ``padding``: an integer, one a dimension, (before,
    after) pairs, "valid" (none), or "same": ceil(H/s) outputs by TensorFlow's rule, also for
    strides above 1. Channel groups are convolved independently.

    Raises ValueError on channels, ranks, groups or sizes that do not fit, TypeError on different
    dtypes. Derivatives: the closed family of this file.

    >>> import tinygrad_cnn as tg
    >>> x = tg.ones(1, 1, 3, 3, backend="numpy")
    >>> conv2d(x, tg.ones(1, 1, 2, 2, backend="numpy"), padding="same").tolist()
    [[[[4.0, 4.0, 2.0], [4.0, 4.0, 2.0], [2.0, 2.0, 1.0]]]]
    """
    return _conv("conv2d", 2, input, weight, bias, stride, padding, dilation, groups)


def conv3d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Size = 1,
    padding: Padding = 0, dilation: Size = 1, groups: int = 1,
) -> Tensor:  # fmt: skip
    """Convolution of (N, C, D, H, W) with weight (O, C/groups, …); as ``conv2d``."""
    return _conv("conv3d", 3, input, weight, bias, stride, padding, dilation, groups)


def conv_transpose1d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Size = 1, padding: Size = 0,
    output_padding: Size = 0, groups: int = 1, dilation: Size = 1,
) -> Tensor:  # fmt: skip
    """Transposed convolution of (N, C, L) with weight (C, O/groups, I); as ``conv_transpose2d``."""
    return _conv_transpose(
        "conv_transpose1d",
        1,
        input,
        weight,
        bias,
        stride,
        padding,
        output_padding,
        groups,
        dilation,
    )


def conv_transpose2d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Size = 1, padding: Size = 0,
    output_padding: Size = 0, groups: int = 1, dilation: Size = 1,
) -> Tensor:  # fmt: skip
    """Transposed convolution: the adjoint of the convolution of the same weight and window.

    y[n,o,h,w] = bias[o] + Σ x[n,c,p,q] · w[c,o,i,j]   over   p·s+i·d−pad = h,  q·s+j·d−pad = w

    input (N, C, P, Q) or (C, P, Q), weight (C, O/groups, I, J), bias (O,); result (N, O, H, W) with
    H = (P−1)·s − 2·pad + d·(I−1) + output_padding + 1. output_padding chooses among the sizes that
    a convolution of stride s maps to P; it adds no numbers of its own.

    Raises ValueError on channels, ranks, groups or sizes that do not fit, TypeError on different
    dtypes. Derivatives: the closed family of this file.
    """
    return _conv_transpose(
        "conv_transpose2d",
        2,
        input,
        weight,
        bias,
        stride,
        padding,
        output_padding,
        groups,
        dilation,
    )


def conv_transpose3d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Size = 1, padding: Size = 0,
    output_padding: Size = 0, groups: int = 1, dilation: Size = 1,
) -> Tensor:  # fmt: skip
    """Transposed convolution of (N, C, D, H, W); as ``conv_transpose2d``."""
    return _conv_transpose(
        "conv_transpose3d",
        3,
        input,
        weight,
        bias,
        stride,
        padding,
        output_padding,
        groups,
        dilation,
    )
