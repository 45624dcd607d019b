"""Which algorithm runs: the one table of the convolution and matrix-product kernels.

``ROUTES`` lists, for each operation, the algorithms from the most special to the general one, each
with the condition under which it is taken and the reason with what was measured. ``explain`` tells
which one a shape gets, and the same choice is what runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from tinygrad_cnn.geometry import Shape, Window

from ..numpy_backend import NumpyBackend
from . import (
    conv_depthwise,
    conv_depthwise_lines,
    conv_direct,
    conv_pool,
    conv_pool_grad,
    conv_scatter,
    conv_volume,
    conv_whole,
    gemm,
    linear_grads,
    winograd,
    winograd_grad,
    winograd_strided,
)
from .simd import WIDTH

_reference = NumpyBackend()
_algorithm = "auto"
_FLOAT32 = np.dtype(np.float32)  # comparing dtypes is faster than comparing one with its type


class Geometry(NamedTuple):
    """A 2-D convolution: x (n, c, h, w), weight (o, c/groups, I, J), y (n, o, p, q)."""

    n: int
    c: int
    h: int
    w: int
    o: int
    p: int
    q: int
    window: Window
    groups: int


class Route(NamedTuple):
    """An algorithm, when it is taken, and why."""

    name: str
    applies: Callable[[Geometry], bool]
    run: Callable[..., Any]
    why: str


def _always(g: Geometry) -> bool:
    return True


def _whole(g: Geometry) -> bool:
    """One window, which is the whole image."""
    window = g.window
    alone = window.dilation == (1, 1) and not any(sum(window.padding, ()))
    return alone and window.kernel == (g.h, g.w) and g.groups == 1


def _whole_forward(g: Geometry) -> bool:
    """The same, unless so many images would have to wait for few weights to be brought in order:
    then direct is up to 1.6 times as fast."""
    return _whole(g) and (g.n <= 2 * g.o or g.h * g.w == 1)


_WHOLE = (
    "a kernel as large as the image: one matrix product; 1.1 to 6 times direct, and in input "
    "gradients 1.7 to 15 times the phases"
)


def _depthwise(g: Geometry) -> bool:
    return g.groups == g.c == g.o and g.c > 1


def _depthwise_lines(g: Geometry) -> bool:
    return _depthwise(g) and conv_depthwise_lines.accepts(g.window)


_DEPTHWISE = "a kernel for each channel: vectors of channels, no inner dimension"
_LINES = (
    "a kernel of at most 7×7 for each channel: along the lines, all sums of a pixel in registers; "
    "1.2 to 2.5 times the general one"
)


def _winograd_pays(g: Geometry) -> bool:
    """3×3, stride 1, and fewer operations after counting the transforms.

    Costs in multiply-adds: 36 a tile, input and output channel; 300 a tile and channel for the two
    transforms (they are additions and memory, so worth more than their count); 500 for each weight.
    """
    if g.window.kernel != (3, 3) or g.window.stride != (1, 1) or g.window.dilation != (1, 1):
        return False
    if g.groups != 1 or min(g.c, g.o) < 12:
        return False
    tiles = g.n * -(-g.p // 4) * -(-g.q // 4)
    cost = tiles * (36 * g.c * g.o + 300 * (g.c + g.o)) + 500 * g.c * g.o
    return cost < 0.85 * 9 * g.n * g.p * g.q * g.c * g.o


def _strided_winograd_pays(g: Geometry) -> bool:
    """3×3 and 4×4 of stride 2, counted as above: 25 multiplications a tile for each of 4 phases."""
    if not {3, 4}.issuperset(g.window.kernel) or g.window.stride != (2, 2):
        return False
    if g.window.dilation != (1, 1) or g.groups != 1 or min(g.c, g.o) < 12:
        return False
    tiles = g.n * -(-g.p // 4) * -(-g.q // 4)
    cost = tiles * (100 * g.c * g.o + 250 * (4 * g.c + g.o)) + 1500 * g.c * g.o
    return cost < 0.85 * g.window.taps() * g.n * g.p * g.q * g.c * g.o


def _scatter_pays(g: Geometry) -> bool:
    """Vectors of all taps and channels together cost less than those of each tap, adding
    included."""
    (rows, columns), taps = g.window.kernel, g.window.taps()
    if g.groups != 1 or g.n < 2:
        return False
    together = g.o * -(-g.c * taps // WIDTH) + 6 * rows * -(-columns * g.c // WIDTH)
    return together < 0.8 * g.o * taps * -(-g.c // WIDTH)


_WINOGRAD = (
    "3×3 of stride 1: 36 multiplications for 144; 1.5 times direct at 16 channels, 2.4 at 32, "
    "2.5 to 3 at 64 to 512"
)

_STRIDED = (
    "3×3 and 4×4 of stride 2: 100 multiplications for 144 and 256; 1.5 to 2.3 times direct for 4×4"
)

ROUTES: dict[str, list[Route]] = {
    "conv": [
        Route("one product", _whole_forward, conv_whole.conv, _WHOLE),
        Route("depthwise by lines", _depthwise_lines, conv_depthwise_lines.conv, _LINES),
        Route("depthwise", _depthwise, conv_depthwise.conv, _DEPTHWISE),
        Route("Winograd F(4×4,3×3)", _winograd_pays, winograd.conv, _WINOGRAD),
        Route(
            "Winograd F(4×4,2×2) of phases",
            _strided_winograd_pays,
            winograd_strided.conv,
            _STRIDED,
        ),
        Route("direct", _always, conv_direct.conv, "any shape: pixels × channels under each tap"),
    ],
    "conv_input_grad": [
        Route("one product", _whole, conv_whole.conv_input_grad, _WHOLE),
        Route("depthwise by lines", _depthwise_lines, conv_depthwise_lines.conv_input_grad, _LINES),
        Route("depthwise", _depthwise, conv_depthwise.conv_input_grad, _DEPTHWISE),
        Route("Winograd F(4×4,3×3)", _winograd_pays, winograd.conv_input_grad, _WINOGRAD),
        Route(
            "Winograd F(4×4,2×2) of phases",
            _strided_winograd_pays,
            winograd_strided.conv_input_grad,
            _STRIDED,
        ),
        Route(
            "product and scatter",
            _scatter_pays,
            conv_scatter.conv_input_grad,
            "few input channels, which alone would leave most lanes of a vector empty",
        ),
        Route(
            "phases",
            _always,
            conv_direct.conv_input_grad,
            "any shape: one dense correlation for each remainder modulo the stride",
        ),
    ],
    "conv_weight_grad": [
        Route("one product", _whole, conv_whole.conv_weight_grad, _WHOLE),
        Route(
            "depthwise by lines", _depthwise_lines, conv_depthwise_lines.conv_weight_grad, _LINES
        ),
        Route("depthwise", _depthwise, conv_depthwise.conv_weight_grad, _DEPTHWISE),
        Route("Winograd F(4×4,3×3)", _winograd_pays, winograd_grad.conv_weight_grad, _WINOGRAD),
        Route(
            "Winograd F(4×4,2×2) of phases",
            _strided_winograd_pays,
            winograd_strided.conv_weight_grad,
            _STRIDED,
        ),
        Route(
            "direct",
            _always,
            conv_direct.conv_weight_grad,
            "any shape: channels under a tap × pixels, in a fixed number of partial sums",
        ),
    ],
}


def set_conv_algorithm(name: str) -> None:
    """ "auto" takes the fastest algorithm; "direct" never Winograd, whose rounding error is
    larger."""
    global _algorithm
    if name not in ("auto", "direct"):
        raise ValueError(f'set_conv_algorithm: expected "auto" or "direct", received {name!r}')
    _algorithm = name
    for remembered in (_route, _pools_at_once, _pool_grads_at_once):
        remembered.cache_clear()


def get_conv_algorithm() -> str:
    """What ``set_conv_algorithm`` was last given."""
    return _algorithm


@lru_cache(maxsize=2048)
def _route(op: str, x: Shape, o: int, outputs: Shape, window: Window, groups: int) -> Route:
    """The first algorithm for ``op`` that applies; x (n, c, h, w)."""
    (n, c, h, w), (p, q) = x, outputs
    geometry = Geometry(n, c, h, w, o, p, q, window, groups)
    return next(
        route
        for route in ROUTES[op]
        if route.applies(geometry) and (_algorithm == "auto" or "Winograd" not in route.name)
    )


def _fast(*arrays: Any) -> bool:
    """Whether the compiled kernels can take these arrays: float32, nothing empty."""
    for a in arrays:
        if a is not None and (a.dtype != _FLOAT32 or not a.size):
            return False
    return True


def _lift(window: Window) -> Window:
    """A 1-D window as a 2-D one of height 1."""
    return Window(
        (1, *window.kernel), (1, *window.stride), ((0, 0), *window.padding), (1, *window.dilation)
    )


def conv(x: Any, w: Any, bias: Any, window: Window, groups: int, relu: bool = False) -> Any:
    """See ``tinygrad_cnn.backend.Backend.conv``; ``relu`` applies max(·, 0) before y is stored."""
    if x.ndim != 4 or not _fast(x, w, bias):
        y = _conv_of_other_kind(x, w, bias, window, groups)
        return np.maximum(y, 0, out=y) if relu else y
    route = _route("conv", x.shape, w.shape[0], window.output(x.shape[2:]), window, groups)
    return route.run(x, w, bias, window, groups, relu)


@lru_cache(maxsize=2048)
def _pools_at_once(x: Shape, o: int, window: Window, groups: int, pool: Window) -> bool:
    """Whether ``conv_relu_pool`` is better than convolution and pooling one after the other."""
    if len(x) != 4 or pool != conv_pool.POOL:
        return False
    outputs = window.output(x[2:])
    return (
        min(outputs) >= 2 and _route("conv", x, o, outputs, window, groups).run is conv_direct.conv
    )


def conv_relu_pool(x: Any, w: Any, bias: Any, window: Window, groups: int, pool: Window) -> Any:
    """(y, winners) of conv, ReLU and max pooling in one pass, or None where two passes are better:
    for other windows than 2×2 of stride 2, and where Winograd computes the convolution."""
    if not _fast(x, w, bias) or not _pools_at_once(x.shape, w.shape[0], window, groups, pool):
        return None
    return conv_pool.conv_relu_pool(x, w, bias, window, groups)


@lru_cache(maxsize=2048)
def _pool_grads_at_once(
    x: Shape, o: int, window: Window, groups: int, pool: Window, input_too: bool
) -> bool:
    """Whether one pass for all gradients is better than one each.

    A quarter of the multiplications of direct ones: up to 4 times as fast. Winograd saves as many,
    and with these channels more.
    """
    if len(x) != 4 or groups != 1 or pool != conv_pool.POOL:
        return False
    if not conv_pool_grad.saves(window, input_too):
        return False
    route = _route("conv_weight_grad", x, o, window.output(x[2:]), window, groups).run
    few = x[1] * o < 1024
    return route is conv_direct.conv_weight_grad or few and route is winograd_grad.conv_weight_grad


def conv_relu_pool_grad(
    gy: Any, y: Any, winner: Any, x: Any, w: Any, window: Window, groups: int, pool: Window,
    needs: Sequence[bool],
) -> Any:  # fmt: skip
    """The gradients of ``conv_relu_pool`` in one pass, or None where separate passes are better:
    where Winograd or another special algorithm computes one of them."""
    if not _fast(gy, y, x, w) or not _pool_grads_at_once(
        x.shape, w.shape[0], window, groups, pool, needs[0]
    ):
        return None
    if not conv_pool_grad.accepts(x, w, y, winner, window):
        return None
    return conv_pool_grad.conv_relu_pool_grad(gy, y, winner, x, w, window, needs)


def _conv_of_other_kind(x: Any, w: Any, bias: Any, window: Window, groups: int) -> Any:
    """1-D and 3-D as 2-D, and the reference for what is not float32."""
    if not _fast(x, w, bias):
        return _reference.conv(x, w, bias, window, groups)
    if x.ndim == 3:
        return conv(x[:, :, None], w[:, :, None], bias, _lift(window), groups)[:, :, 0]
    return conv_volume.conv(conv, x, w, bias, window, groups)


def conv_input_grad(
    gy: Any, w: Any, shape: Shape, window: Window, groups: int, into: Any = None
) -> Any:
    """See ``tinygrad_cnn.backend.Backend.conv_input_grad``; with ``into`` the result is added to
    it."""
    if not _fast(gy, w, into) or 0 in shape:
        gx = _reference.conv_input_grad(gy, w, shape, window, groups)
        return gx if into is None else np.add(into, gx, out=into)
    if gy.ndim == 3:
        lifted = None if into is None else into[:, :, None]
        at = (*shape[:2], 1, shape[2])
        return conv_input_grad(gy[:, :, None], w[:, :, None], at, _lift(window), groups, lifted)[
            :, :, 0
        ]
    if gy.ndim == 5:
        return conv_volume.conv_input_grad(conv_input_grad, gy, w, shape, window, groups, into)
    if into is not None and into.strides[1] != 4:
        into += conv_input_grad(gy, w, shape, window, groups)
        return into
    route = _route("conv_input_grad", shape, w.shape[0], gy.shape[2:], window, groups)
    return route.run(gy, w, shape, window, groups, into)


def conv_weight_grad(x: Any, gy: Any, shape: Shape, window: Window, groups: int) -> Any:
    """See ``tinygrad_cnn.backend.Backend.conv_weight_grad``."""
    if not _fast(x, gy) or 0 in shape:
        return _reference.conv_weight_grad(x, gy, shape, window, groups)
    if x.ndim == 3:
        at = (*shape[:2], 1, shape[2])
        return conv_weight_grad(x[:, :, None], gy[:, :, None], at, _lift(window), groups)[:, :, 0]
    if x.ndim == 5:
        return conv_volume.conv_weight_grad(conv_weight_grad, x, gy, shape, window, groups)
    route = _route("conv_weight_grad", x.shape, shape[0], gy.shape[2:], window, groups)
    return route.run(x, gy, shape, window, groups)


# -- matrix products -------------------------------------------------------------------------------


def matmul(a: Any, b: Any) -> Any:
    """See ``tinygrad_cnn.backend.Backend.matmul``."""
    if a.dtype != np.float32 or b.dtype != np.float32:
        return _reference.matmul(a, b)
    return gemm.matmul(a, b)


def linear(x: Any, w: Any, bias: Any, relu: bool = False) -> Any:
    """x (…, K) · w (N, K)ᵀ + bias (N,), then max(·, 0) with ``relu``."""
    if _fast(x, w, bias):
        return gemm.linear(x, w, bias, relu)
    y = _reference.linear(x, w, bias)
    return np.maximum(y, 0, out=y) if relu else y


def linear_grad(gy: Any, x: Any, w: Any, needs: Sequence[bool], y: Any) -> Any:
    """See ``tinygrad_cnn.backend.Backend.linear_grad``; None for what its parts compute."""
    if x.ndim != 2 or not _fast(gy, x, w) or not linear_grads.accepts(gy, x, y):
        return None
    return linear_grads.gradients(gy, x, w, needs, y)


# -- what will run, in words -----------------------------------------------------------------------


def explain(op: str, x_shape: Shape, w_shape: Shape, window: Window, groups: int = 1) -> str:
    """Which algorithm a 2-D float32 convolution gets and why, one line for each direction asked.

    ``op`` is "conv", "conv_input_grad", "conv_weight_grad", or "conv2d" for all three.
    """
    ops = list(ROUTES) if op == "conv2d" else [op]
    lines = []
    for name in ops:
        if name not in ROUTES:
            raise ValueError(
                f"explain: expected conv2d or one of {', '.join(ROUTES)}, received {op!r}"
            )
        outputs = window.output(x_shape[2:])
        route = _route(name, x_shape, w_shape[0], outputs, window, groups)
        lines.append(f"{name}: {route.name} ({route.why})")
    return "\n".join(lines)
