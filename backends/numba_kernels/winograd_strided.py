"""Winograd convolution for 3×3 and 4×4 kernels of stride 2, and transposed convolutions with them.

With stride 2 the even and the odd pixels of an axis meet different taps: i and j are even or odd
with them. So the input is four images of half the size, its *phases*, and each has a kernel of 2×2
taps of stride 1, for which F(4×4, 2×2) needs 25 multiplications instead of 64. (Of a 3×3 kernel
some phases have one tap only: 100 instead of 144.)

Forward and weight gradient: the phases are more input channels, 4·C. Input gradient: each phase of
gx is a convolution of gy of its own. On the layers of a DCGAN (64 to 128 and 128 to 256 channels)
it is 1.5 to 2.3 times as fast as the direct kernels.
"""

from __future__ import annotations

from itertools import product
from typing import Any, NamedTuple

import numpy as np

from tinygrad_cnn.geometry import Shape, Window

from .layout import channels_last, to_channels_last
from .memory import empty
from .microkernel import ACCUMULATE, RELU
from .runtime import address
from .winograd import Weights, convolve
from .winograd_grad import correlate
from .winograd_plan import Phase, problem_of
from .winograd_tiles import F2


class _Axis(NamedTuple):
    """One phase of one axis: pixels a, a + 2, … meet the taps i, i + 2, …, with y[p] reading pixel
    number p + shift first."""

    a: int
    pixels: int
    i: int
    taps: int
    shift: int


def _axis(size: int, k: int, lo: int) -> list[_Axis]:
    """y[p] = Σ_i x[2p + i − lo]·w[i]: pixel 2t + a is met by the taps with i − lo − a even."""
    found = []
    for a in range(min(2, size)):
        i = (a + lo) % 2
        found.append(_Axis(a, (size - a + 1) // 2, i, (k - i + 1) // 2, (i - lo - a) // 2))
    return found


def _axes(sizes: Shape, window: Window) -> Any:
    """All pairs of a phase of the rows and one of the columns."""
    return product(
        *(
            _axis(size, k, lo)
            for size, k, (lo, _) in zip(sizes, window.kernel, window.padding, strict=True)
        )
    )


def _input_phases(x: Any, window: Window) -> tuple[Phase, ...]:
    s_h, s_w = x.strides[2:]
    return tuple(
        Phase(r.a * s_h + c.a * s_w, r.pixels, c.pixels, -r.shift, -c.shift, r.i, 2, r.taps, c.i, 2,
              c.taps)
        for r, c in _axes(x.shape[2:], window)
    )  # fmt: skip


def _twice(strides: Shape) -> Shape:
    """The strides of every second pixel."""
    return (*strides[:2], 2 * strides[2], 2 * strides[3])


def conv(
    x: Any, w: Any, bias: Any, window: Window, groups: int, relu: bool = False, into: Any = None
) -> Any:
    """As ``conv_direct.conv``, for kernels of 2 to 4 rows and columns and stride 2, without
    groups."""
    x = to_channels_last(x)
    shape = (x.shape[0], w.shape[0], *window.output(x.shape[2:]))
    y = channels_last(shape) if into is None else into
    phases = _input_phases(x, window)
    problem = problem_of(x.shape[:2], _twice(x.strides), phases, y.shape[1:], y.strides)
    s_o, s_c, s_i, s_j = w.strides
    mode = (RELU if relu else 0) | (ACCUMULATE if into is not None else 0)
    weights = Weights(address(w), (s_c, s_o, s_i, s_j), *window.kernel)
    convolve(problem, F2, address(x), address(y), weights, bias, mode)
    return y


def conv_input_grad(
    gy: Any, w: Any, shape: Shape, window: Window, groups: int, into: Any = None
) -> Any:
    """As ``conv_direct.conv_input_grad``, for the kernels of ``conv``: gx[2t + a] is the sum of
    gy[t − shift − v]·w[i + 2v] over the taps v of its phase."""
    gy = to_channels_last(gy)
    gx = channels_last(shape) if into is None else into
    (x_h, x_w), weights = gx.strides[2:], Weights(address(w), w.strides, *window.kernel)
    (p, q), mode = gy.shape[2:], ACCUMULATE if into is not None else 0
    for r, c in _axes(shape[2:], window):
        top, left = r.shift + r.taps - 1, c.shift + c.taps - 1
        taps = (r.i + 2 * r.taps - 2, -2, r.taps, c.i + 2 * c.taps - 2, -2, c.taps)
        phases = (Phase(0, p, q, top, left, *taps),)
        cells = (shape[1], r.pixels, c.pixels)
        problem = problem_of(gy.shape[:2], gy.strides, phases, cells, _twice(gx.strides))
        start = address(gx) + r.a * x_h + c.a * x_w
        convolve(problem, F2, address(gy), start, weights, None, mode)
    return gx


def conv_weight_grad(x: Any, gy: Any, shape: Shape, window: Window, groups: int) -> Any:
    """As ``conv_direct.conv_weight_grad``, for the kernels of ``conv``."""
    x, gy = to_channels_last(x), to_channels_last(gy)
    gw = empty(shape, np.float32)
    phases = _input_phases(x, window)
    problem = problem_of(x.shape[:2], _twice(x.strides), phases, gy.shape[1:], gy.strides)
    correlate(problem, F2, address(x), address(gy), gw)
    return gw
