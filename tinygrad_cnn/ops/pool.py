"""Max and average pooling over 1–3 spatial dimensions.

Once the winners are known, max pooling is linear: gather at the winners, whose adjoint scatters to
them. Average pooling is linear from the start. So each derivative is another op of this file, to
every order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..backend import Array, Backend
from ..geometry import (
    Pairs,
    Shape,
    Window,
    check_output,
    ntuple,
    pool_divisors,
    pool_window,
    same_padding,
)
from ..tensor import Op, Tensor
from .checks import batched, restored

Size = int | Sequence[int]
Divisors = tuple[tuple[int, ...], ...]


class MaxPool(Op):
    """y[n,c,p,q] = max_{i,j} x[n, c, p·s+i·d−pad, q·s+j·d−pad]; the first maximum wins."""

    saves_inputs = False

    def __init__(self, window: Window) -> None:
        self.window = window

    def forward(self, kernels: Backend, x: Array) -> Array:
        self.shape = x.shape
        y, self.winner = kernels.max_pool(x, self.window)
        return y

    def backward(self, grad: Tensor, out: None) -> Tensor:
        return MaxPoolScatter(self.winner, self.shape, self.window)(grad)

    def fused_backward(self, kernels: Backend, grad: Array, out: None) -> Array:
        return kernels.max_pool_scatter(grad, self.winner, self.shape, self.window)


class MaxPoolScatter(Op):
    """gx[n,c,h,w] = Σ gy[n,c,p,q] over the windows that cell (h, w) has won."""

    saves_inputs = False

    def __init__(self, winner: Array, shape: Shape, window: Window) -> None:
        self.winner, self.shape, self.window = winner, shape, window

    def forward(self, kernels: Backend, gy: Array) -> Array:
        return kernels.max_pool_scatter(gy, self.winner, self.shape, self.window)

    def backward(self, grad: Tensor, out: None) -> Tensor:
        return MaxPoolGather(self.winner, self.window)(grad)


class MaxPoolGather(Op):
    """y[n,c,p,q] = x at the winner of window (p, q): max pooling with the winners given."""

    saves_inputs = False

    def __init__(self, winner: Array, window: Window) -> None:
        self.winner, self.window = winner, window

    def forward(self, kernels: Backend, x: Array) -> Array:
        return kernels.max_pool_gather(x, self.winner, self.window)

    def backward(self, grad: Tensor, out: None) -> Tensor:
        return MaxPoolScatter(self.winner, self.shapes[0], self.window)(grad)


class AvgPool(Op):
    """y[n,c,p,q] = Σ_{i,j} x[n, c, p·s+i−pad, q·s+j−pad] / (divisors[0][p]·divisors[1][q])."""

    saves_inputs = False

    def __init__(self, window: Window, divisors: Divisors) -> None:
        self.window, self.divisors = window, divisors

    def forward(self, kernels: Backend, x: Array) -> Array:
        return kernels.avg_pool(x, self.window, self.divisors)

    def backward(self, grad: Tensor, out: None) -> Tensor:
        return AvgPoolScatter(self.shapes[0], self.window, self.divisors)(grad)


class AvgPoolScatter(Op):
    """gx[n,c,h,w] = Σ gy[n,c,p,q] / divisor[p,q] over the windows that see cell (h, w)."""

    saves_inputs = False

    def __init__(self, shape: Shape, window: Window, divisors: Divisors) -> None:
        self.shape, self.window, self.divisors = shape, window, divisors

    def forward(self, kernels: Backend, gy: Array) -> Array:
        return kernels.avg_pool_scatter(gy, self.shape, self.window, self.divisors)

    def backward(self, grad: Tensor, out: None) -> Tensor:
        return AvgPool(self.window, self.divisors)(grad)


def flat_positions(kernels: Backend, winner: Array, window: Window, sizes: Shape) -> Array:
    """The winners i·J + j as PyTorch counts them: positions h·W + w in the input plane, int64."""
    rest = kernels.astype(winner, "int64")
    flat: Any = 0
    cells = 1
    for axis in reversed(range(len(sizes))):
        k, s, d, (before, _) = (
            window.kernel[axis], window.stride[axis], window.dilation[axis], window.padding[axis]
        )  # fmt: skip
        outputs = winner.shape[2 + axis]
        starts = kernels.reshape(
            kernels.arange(-before, outputs * s - before, s, "int64"),
            (outputs, *(1,) * (len(sizes) - 1 - axis)),
        )
        offset = kernels.multiply(kernels.remainder(rest, k), d)
        flat = kernels.add(kernels.multiply(kernels.add(starts, offset), cells), flat)
        rest, cells = kernels.floor_divide(rest, k), cells * sizes[axis]
    return flat


def _window(
    name: str, sizes: Shape, kernel_size: Size, stride: Size | None, padding: str | Size,
    dilation: Size, ceil_mode: bool,
) -> Window:  # fmt: skip
    """``pool_window``, with padding "same" (ceil(n/s) outputs, TensorFlow's rule) and "valid"."""
    if not isinstance(padding, str):
        return pool_window(sizes, kernel_size, stride, padding, dilation, ceil_mode, name)
    rule = padding.lower()
    if rule == "valid":
        return pool_window(sizes, kernel_size, stride, 0, dilation, ceil_mode, name)
    if rule != "same":
        raise ValueError(
            f'{name}: padding must be "same", "valid" or integers, received {padding!r}'
        )
    n = len(sizes)
    kernel = ntuple(kernel_size, n, f"{name}: kernel_size", 1)
    strides = kernel if stride is None or stride == () else ntuple(stride, n, f"{name}: stride", 1)
    dilations = ntuple(dilation, n, f"{name}: dilation", 1)
    pads: Pairs = same_padding(sizes, kernel, strides, dilations)
    window = Window(kernel, strides, pads, dilations)
    check_output(window, sizes, name)
    return window


def _max_pool(
    name: str, n: int, x: Any, kernel_size: Size, stride: Size | None, padding: str | Size,
    dilation: Size, ceil_mode: bool, return_indices: bool,
) -> Any:  # fmt: skip
    x, had_batch = batched(name, x, n)
    op = MaxPool(_window(name, x.shape[2:], kernel_size, stride, padding, dilation, ceil_mode))
    y = op(x)
    if not return_indices:
        return restored(y, had_batch)
    flat = flat_positions(x.backend, op.winner, op.window, x.shape[2:])
    return restored(y, had_batch), restored(Tensor._wrap(flat, x.backend), had_batch)


def _avg_pool(
    name: str, n: int, x: Any, kernel_size: Size, stride: Size | None, padding: str | Size,
    ceil_mode: bool, count_include_pad: bool, divisor_override: int | None,
) -> Tensor:  # fmt: skip
    x, had_batch = batched(name, x, n)
    sizes = x.shape[2:]
    window = _window(name, sizes, kernel_size, stride, padding, 1, ceil_mode)
    if divisor_override is not None:
        if divisor_override == 0:
            raise ValueError(f"{name}: divisor_override must not be 0")
        first, *others = window.output(sizes)
        divisors: Divisors = ((divisor_override,) * first, *((1,) * q for q in others))
    elif isinstance(padding, str):
        divisors = _same_divisors(sizes, window, count_include_pad)
    else:
        pads = ntuple(padding, n, f"{name}: padding", 0)
        divisors = pool_divisors(sizes, window, pads, count_include_pad)
    return restored(AvgPool(window, divisors)(x), had_batch)


def _same_divisors(sizes: Shape, window: Window, count_include_pad: bool) -> Divisors:
    """Cells a window averages over under "same" padding, which differs at the two ends."""
    return tuple(
        tuple(
            k if count_include_pad else min(p * s - lo + k, n) - max(p * s - lo, 0)
            for p in range(outputs)
        )
        for n, k, s, (lo, _), outputs in zip(
            sizes, window.kernel, window.stride, window.padding, window.output(sizes), strict=True
        )
    )


# -- public functions ------------------------------------------------------------------------------
def max_pool1d(
    input: Tensor, kernel_size: Size, stride: Size | None = None, padding: str | Size = 0,
    dilation: Size = 1, ceil_mode: bool = False, return_indices: bool = False,
) -> Any:  # fmt: skip
    """Maxima of windows of (N, C, L) or (C, L); as ``max_pool2d``."""
    return _max_pool(
        "max_pool1d", 1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices
    )


def max_pool2d(
    input: Tensor, kernel_size: Size, stride: Size | None = None, padding: str | Size = 0,
    dilation: Size = 1, ceil_mode: bool = False, return_indices: bool = False,
) -> Any:  # fmt: skip
    """Maxima of windows:  y[n,c,p,q] = max_{i,j} x[n, c, p·s+i·d−pad, q·s+j·d−pad].

    input (N, C, H, W) or (C, H, W); result (N, C, P, Q), with
    P = floor((H + 2·pad − d·(I−1) − 1)/s) + 1, or rounded up with ``ceil_mode``. ``stride``
    defaults to the kernel size. Padding never wins; it is at most half the kernel, or "same"
    (ceil(H/s) outputs, TensorFlow's rule). With ``return_indices`` also h·W + w of each maximum,
    int64.

    Raises ValueError on ranks and sizes that do not fit. Derivative: scatter to the first maximum
    of each window.

    >>> import tinygrad_cnn as tg
    >>> x = tg.tensor([[[1.0, 2.0], [4.0, 3.0]]], backend="numpy")
    >>> max_pool2d(x, 2, return_indices=True)[1].item()
    2
    """
    return _max_pool(
        "max_pool2d", 2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices
    )


def max_pool3d(
    input: Tensor, kernel_size: Size, stride: Size | None = None, padding: str | Size = 0,
    dilation: Size = 1, ceil_mode: bool = False, return_indices: bool = False,
) -> Any:  # fmt: skip
    """Maxima of windows of (N, C, D, H, W) or (C, D, H, W); as ``max_pool2d``."""
    return _max_pool(
        "max_pool3d", 3, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices
    )


def avg_pool1d(
    input: Tensor, kernel_size: Size, stride: Size | None = None, padding: str | Size = 0,
    ceil_mode: bool = False, count_include_pad: bool = True,
) -> Tensor:  # fmt: skip
    """Means of windows of (N, C, L) or (C, L); as ``avg_pool2d``."""
    return _avg_pool(
        "avg_pool1d", 1, input, kernel_size, stride, padding, ceil_mode, count_include_pad, None
    )


def avg_pool2d(
    input: Tensor, kernel_size: Size, stride: Size | None = None, padding: str | Size = 0,
    ceil_mode: bool = False, count_include_pad: bool = True, divisor_override: int | None = None,
) -> Tensor:  # fmt: skip
    """Means of windows:  y[n,c,p,q] = Σ_{i,j} x[n, c, p·s+i−pad, q·s+j−pad] / divisor[p,q].

    Shapes, stride, padding and ``ceil_mode`` as in ``max_pool2d``. The divisor is the number of
    cells of the window, padding included unless ``count_include_pad`` is False; cells that only
    ``ceil_mode`` added never count. ``divisor_override`` replaces it. (TensorFlow's "same" is
    count_include_pad=False.)

    Raises ValueError on ranks and sizes that do not fit. Derivative: each window gives its cells
    equal shares.
    """
    return _avg_pool(
        "avg_pool2d",
        2,
        input,
        kernel_size,
        stride,
        padding,
        ceil_mode,
        count_include_pad,
        divisor_override,
    )


def avg_pool3d(
    input: Tensor, kernel_size: Size, stride: Size | None = None, padding: str | Size = 0,
    ceil_mode: bool = False, count_include_pad: bool = True, divisor_override: int | None = None,
) -> Tensor:  # fmt: skip
    """Means of windows of (N, C, D, H, W) or (C, D, H, W); as ``avg_pool2d``."""
    return _avg_pool(
        "avg_pool3d",
        3,
        input,
        kernel_size,
        stride,
        padding,
        ceil_mode,
        count_include_pad,
        divisor_override,
    )
