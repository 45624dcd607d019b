"""ONNX operators that work element by element, and layers; those that change shapes are in
``shapes.py``.
"""

from __future__ import annotations

import math
from typing import Any

from ... import ops
from ...geometry import Pairs, Shape, Window, check_output, same_padding
from ...nn import functional as F
from ...ops.activation import SELU_ALPHA, SELU_SCALE
from ...ops.pool import AvgPool, MaxPool
from ...tensor import Tensor
from .operators import Node, Operator, Table, limited, only

LAYERS = Table()


# -- element by element ----------------------------------------------------------------------------
def _plain(function: Any) -> Operator:
    return lambda node, *inputs: function(*inputs)


LAYERS.update({
    kind: _plain(function)
    for kind, function in {
        "Abs": ops.abs, "Acos": ops.acos, "Add": ops.add, "And": ops.logical_and,
        "Asin": ops.asin, "Atan": ops.atan, "Ceil": ops.ceil, "Cos": ops.cos,
        "Equal": ops.eq, "Erf": ops.erf, "Exp": ops.exp, "Floor": ops.floor, "Greater": ops.gt,
        "GreaterOrEqual": ops.ge, "HardSwish": F.hardswish, "Identity": lambda x: x,
        "IsNaN": ops.isnan, "Less": ops.lt, "LessOrEqual": ops.le, "Log": ops.log,
        "MatMul": ops.matmul, "Mish": F.mish, "Mul": ops.mul, "Neg": ops.neg,
        "Not": ops.logical_not, "Or": ops.logical_or, "Pow": ops.power,
        "Reciprocal": ops.reciprocal, "Relu": F.relu, "Round": ops.round, "Sigmoid": ops.sigmoid,
        "Sign": ops.sign, "Sin": ops.sin, "Softplus": F.softplus, "Softsign": F.softsign,
        "Sqrt": ops.sqrt, "Sub": ops.sub, "Tanh": ops.tanh, "Where": ops.where,
        "Xor": ops.logical_xor,
    }.items()
})  # fmt: skip


@LAYERS("Div")
def _div(node: Node, a: Tensor, b: Tensor) -> Tensor:
    return ops.div(a, b, rounding_mode=None if a.dtype.kind == "f" else "trunc")


@LAYERS("Mod")
def _mod(node: Node, a: Tensor, b: Tensor) -> Tensor:
    if not node.get("fmod", 0):
        return ops.remainder(a, b)
    return a - b * ops.div(a, b, rounding_mode="trunc")


@LAYERS("Max", "Min", "Sum", "Mean")
def _variadic(node: Node, *inputs: Tensor) -> Tensor:
    pair = {"Max": ops.maximum, "Min": ops.minimum}.get(node.kind, ops.add)
    total = inputs[0]
    for x in inputs[1:]:
        total = pair(total, x)
    return total / len(inputs) if node.kind == "Mean" else total


@LAYERS("IsInf")
def _is_inf(node: Node, x: Tensor) -> Tensor:
    only(node, "detect_positive", 1)
    only(node, "detect_negative", 1)
    return ops.isinf(x)


@LAYERS("Clip")
def _clip(node: Node, x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    least = node.get("min") if low is None else low.item()
    most = node.get("max") if high is None else high.item()
    return x if least is None and most is None else ops.clamp(x, least, most)


@LAYERS("Gelu")
def _gelu(node: Node, x: Tensor) -> Tensor:
    return F.gelu(x, node.get("approximate", "none"))


@LAYERS("LeakyRelu")
def _leaky_relu(node: Node, x: Tensor) -> Tensor:
    return F.leaky_relu(x, node.get("alpha", 0.01))


@LAYERS("PRelu")
def _prelu(node: Node, x: Tensor, slope: Tensor) -> Tensor:
    return ops.where(x > 0, x, x * slope)


@LAYERS("Elu")
def _elu(node: Node, x: Tensor) -> Tensor:
    return F.elu(x, node.get("alpha", 1.0))


@LAYERS("Celu")
def _celu(node: Node, x: Tensor) -> Tensor:
    return F.celu(x, node.get("alpha", 1.0))


@LAYERS("Selu")
def _selu(node: Node, x: Tensor) -> Tensor:
    alpha, gamma = node.get("alpha", SELU_ALPHA), node.get("gamma", SELU_SCALE)
    return ops.mul(F.elu(x, alpha), gamma)


@LAYERS("HardSigmoid")
def _hard_sigmoid(node: Node, x: Tensor) -> Tensor:
    return F.hardtanh(x * node.get("alpha", 0.2) + node.get("beta", 0.5), 0.0, 1.0)


@LAYERS("Softmax", "LogSoftmax")
def _softmax(node: Node, x: Tensor) -> Tensor:
    function = F.softmax if node.kind == "Softmax" else F.log_softmax
    if node.opset >= 13:
        return function(x, node.get("axis", -1))
    axis = node.get("axis", 1) % max(x.ndim, 1)  # all dimensions from this one on are one
    rows = math.prod(x.shape[:axis])
    made: Tensor = function(x.reshape(rows, x.array.size // max(rows, 1)), 1)
    return made.reshape(x.shape)


@LAYERS("Dropout")
def _dropout(
    node: Node, x: Tensor, ratio: Tensor | None = None, training_mode: Tensor | None = None
) -> Any:
    if node.outputs > 1:
        raise ValueError(f"{node}: its mask is not supported")
    p = node.get("ratio", 0.5) if ratio is None else ratio.item()
    return F.dropout(x, p, node.training)


# -- dense layers and convolution ------------------------------------------------------------------
@LAYERS("Gemm")
def _gemm(node: Node, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    alpha, beta = node.get("alpha", 1.0), node.get("beta", 1.0)
    a = a.t() if node.get("transA", 0) else a
    if node.get("transB", 0) and alpha == beta == 1 and (c is None or c.shape == b.shape[:1]):
        return F.linear(a, b, c)
    y = ops.matmul(a, b.t() if node.get("transB", 0) else b)
    y = y if alpha == 1 else y * alpha
    return y if c is None else y + (c if beta == 1 else c * beta)


def window_of(node: Node, sizes: Shape, kernel: Shape) -> Window:
    """Where a convolution or pooling looks, by its attributes. Raises ValueError if it does not
    fit."""
    n = len(kernel)
    strides = tuple(node.get("strides", (1,) * n))
    dilations = tuple(node.get("dilations", (1,) * n))
    auto = only(node, "auto_pad", "NOTSET", "", "VALID", "SAME_UPPER", "SAME_LOWER")
    pads = list(node.get("pads", (0,) * (2 * n)))
    if auto == "VALID":
        pads = [0] * (2 * n)
    if not len(sizes) == len(strides) == len(dilations) == n == len(pads) // 2:
        raise ValueError(
            f"{node}: the window has {n} axes, input {len(sizes)}, strides {strides}, pads {pads}"
        )
    if min(*strides, *dilations, *kernel) < 1 or min(pads) < 0:
        raise ValueError(f"{node}: strides {strides}, dilations {dilations} or pads {pads}")
    pairs: Pairs = tuple(zip(pads[:n], pads[n:], strict=True))
    if auto.startswith("SAME"):
        pairs = same_padding(sizes, kernel, strides, dilations)
        if auto == "SAME_LOWER":
            pairs = tuple((hi, lo) for lo, hi in pairs)
    return Window(kernel, strides, pairs, dilations)


@LAYERS("Conv")
def _conv(node: Node, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    n = weight.ndim - 2
    if n not in (1, 2, 3):
        raise ValueError(f"{node}: expected 1 to 3 spatial dimensions, received weight "
                         f"{weight.shape}")  # fmt: skip
    window = window_of(node, x.shape[2:], weight.shape[2:])
    limited((x.shape[0], weight.shape[0], *(max(m, 0) for m in window.output(x.shape[2:]))))
    conv = (F.conv1d, F.conv2d, F.conv3d)[n - 1]
    return conv(
        x, weight, bias, window.stride, window.padding, window.dilation, node.get("group", 1)
    )


@LAYERS("ConvTranspose")
def _conv_transpose(node: Node, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The whole output of a transposed convolution without padding, then cut to its place."""
    n = weight.ndim - 2
    if n not in (1, 2, 3):
        raise ValueError(f"{node}: expected 1 to 3 spatial dimensions, received weight "
                         f"{weight.shape}")  # fmt: skip
    window = window_of(node, x.shape[2:], weight.shape[2:])
    extra = tuple(node.get("output_padding", (0,) * n))
    pairs = _transposed_pads(node, x.shape[2:], window, extra)
    full = [
        (m - 1) * s + d * (k - 1) + 1
        for m, k, s, d in zip(x.shape[2:], window.kernel, window.stride, window.dilation,
                              strict=True)
    ]  # fmt: skip
    groups = node.get("group", 1)
    limited((x.shape[0], weight.shape[1] * groups, *full))
    conv = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[n - 1]
    if all(lo == hi >= 0 for lo, hi in pairs):
        before = tuple(lo for lo, _ in pairs)
        return conv(x, weight, bias, window.stride, before, extra, groups, window.dilation)
    y = conv(x, weight, None, window.stride, 0, 0, groups, window.dilation)
    cut = [(-lo, more - hi) for (lo, hi), more in zip(pairs, extra, strict=True)]
    limited(tuple(m + lo + hi for m, (lo, hi) in zip(full, cut, strict=True)))
    y = F.pad(y, [p for pair in reversed(cut) for p in pair])
    return y if bias is None else y + bias.reshape(-1, *(1,) * n)


def _transposed_pads(node: Node, sizes: Shape, window: Window, extra: Shape) -> Pairs:
    """The padding of a transposed convolution, which may be given by the output's sizes."""
    auto, wanted = node.get("auto_pad", "NOTSET"), node.get("output_shape")
    if wanted is None and not auto.startswith("SAME"):
        return window.padding
    strides = window.stride
    outputs = tuple(wanted or (m * s for m, s in zip(sizes, strides, strict=True)))
    totals = [
        (m - 1) * s + more + d * (k - 1) + 1 - out
        for m, k, s, d, more, out in zip(
            sizes, window.kernel, strides, window.dilation, extra, outputs[-len(sizes) :],
            strict=True,
        )
    ]  # fmt: skip
    halves = [(t // 2, t - t // 2) for t in totals]
    return tuple(halves) if auto == "SAME_UPPER" else tuple((hi, lo) for lo, hi in halves)


# -- pooling ---------------------------------------------------------------------------------------
def _pool_window(node: Node, x: Tensor) -> tuple[Window, Pairs]:
    """The window, and the padding that was asked for (``ceil_mode`` adds cells at the end)."""
    sizes = x.shape[2:]
    window = window_of(node, sizes, tuple(node.get("kernel_shape", ())))
    asked = window.padding
    if node.get("ceil_mode", 0):
        pairs = []
        for m, k, s, (lo, hi), d in zip(sizes, *window, strict=True):
            rest = (m + lo + hi - d * (k - 1) - 1) % s
            start = m + lo + hi - d * (k - 1) - 1 - rest + s  # of one more window, from −lo
            pairs.append((lo, hi + s - rest if rest and start < m + lo else hi))
        window = window._replace(padding=tuple(pairs))
    check_output(window, sizes, str(node))
    if any(
        max(pair) > d * (k - 1)
        for pair, k, d in zip(asked, window.kernel, window.dilation, strict=True)
    ):
        raise ValueError(f"{node}: pads {asked} leave a window without cells")
    return window, asked


@LAYERS("MaxPool")
def _max_pool(node: Node, x: Tensor) -> Tensor:
    if node.outputs > 1:
        raise ValueError(f"{node}: the positions of the maxima are not supported")
    return MaxPool(_pool_window(node, x)[0])(x)


@LAYERS("AveragePool")
def _average_pool(node: Node, x: Tensor) -> Tensor:
    if set(node.get("dilations", (1,))) != {1}:
        raise ValueError(f"{node}: dilations are not supported")
    window, asked = _pool_window(node, x)
    sizes = x.shape[2:]
    count_pads = bool(node.get("count_include_pad", 0))
    divisors = []
    for m, k, s, (lo, _), (before, after), outputs in zip(
        sizes, window.kernel, window.stride, window.padding, asked, window.output(sizes),
        strict=True,
    ):  # fmt: skip
        first, last = (-before, m + after) if count_pads else (0, m)
        divisors.append(
            tuple(min(p * s - lo + k, last) - max(p * s - lo, first) for p in range(outputs))
        )
    return AvgPool(window, tuple(divisors))(x)


@LAYERS("GlobalAveragePool")
def _global_average(node: Node, x: Tensor) -> Tensor:
    return x.mean(tuple(range(2, x.ndim)), keepdim=True)


@LAYERS("GlobalMaxPool")
def _global_max(node: Node, x: Tensor) -> Tensor:
    return ops.amax(x, tuple(range(2, x.ndim)), keepdim=True)


# -- normalisation ---------------------------------------------------------------------------------
@LAYERS("BatchNormalization")
def _batch_norm(
    node: Node, x: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, var: Tensor
) -> Tensor:
    only(node, "spatial", 1)
    momentum = 1 - node.get("momentum", 0.9)  # ONNX says how much is kept
    return F.batch_norm(
        x, mean, var, scale, shift, node.training, momentum, node.get("epsilon", 1e-5)
    )


@LAYERS("InstanceNormalization")
def _instance_norm(node: Node, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return F.instance_norm(x, None, None, scale, shift, True, 0.0, node.get("epsilon", 1e-5))


@LAYERS("LayerNormalization")
def _layer_norm(node: Node, x: Tensor, scale: Tensor, shift: Tensor | None = None) -> Tensor:
    if node.outputs > 1:
        raise ValueError(f"{node}: its statistics are not supported as outputs")
    return F.layer_norm(x, x.shape[node.get("axis", -1) :], scale, shift, node.get("epsilon", 1e-5))


@LAYERS("LRN")
def _lrn(node: Node, x: Tensor) -> Tensor:
    size, alpha = node.get("size"), node.get("alpha", 1e-4)
    beta, bias = node.get("beta", 0.75), node.get("bias", 1.0)
    if size % 2:
        return F.local_response_norm(x, size, alpha, beta, bias)
    # An even window has its odd channel after the middle, ours before it.
    return F.local_response_norm(x.flip(1), size, alpha, beta, bias).flip(1)
