"""Each operation of ours in ONNX operators: ``f(writer, site, *input names) -> output name``."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ...geometry import Window
from ...ops import activation, arcs, elementwise, linalg, reduce, unary, views
from ...ops.activation import SELU_ALPHA, SELU_SCALE
from ...ops.conv import Conv, ConvInputGrad
from ...ops.index import Concatenate, Gather, Pad
from ...ops.linear import Linear
from ...ops.normalization import BatchNormInference
from ...ops.pad import ConstantPad
from ...ops.pool import AvgPool, MaxPool
from ...tensor import Op
from .trace import Call
from .writer import Samples, Site, Writer

Translation = Callable[..., str]
TRANSLATIONS: dict[type[Op], Translation] = {}
LAST = (1 << 63) - 1  # further than any index


def translates(*kinds: type[Op]) -> Callable[[Translation], Translation]:
    """Enter a translation into the table."""

    def enter(function: Translation) -> Translation:
        TRANSLATIONS.update(dict.fromkeys(kinds, function))
        return function

    return enter


# -- operations that ONNX has with the same inputs and no parameters -------------------------------
_SAME: dict[type[Op], str] = {
    activation.LogSoftmax: "LogSoftmax", activation.Relu: "Relu", activation.Softmax: "Softmax",
    elementwise.Maximum: "Max",
    elementwise.Minimum: "Min", elementwise.Multiply: "Mul", elementwise.Power: "Pow",
    elementwise.Subtract: "Sub", linalg.MatMul: "MatMul", unary.Absolute: "Abs", unary.Cos: "Cos",
    unary.Erf: "Erf", unary.Exp: "Exp", unary.Log: "Log", unary.Negative: "Neg",
    unary.Sigmoid: "Sigmoid", unary.Sin: "Sin", unary.Sqrt: "Sqrt", unary.Tanh: "Tanh",
    arcs.Acos: "Acos", arcs.Asin: "Asin", arcs.Atan: "Atan", Concatenate: "Concat",
}  # fmt: skip


@translates(*_SAME)
def _same(w: Writer, s: Site, *inputs: str) -> str:
    axis = {"axis": s.op.axis} if hasattr(s.op, "axis") else {}
    return w.node(_SAME[type(s.op)], *inputs, **axis)


@translates(views.Copy, views.Move)
def _nothing(w: Writer, s: Site, x: str) -> str:
    return x


# -- operators that are several operations of ours -------------------------------------------------
@translates(elementwise.Divide)
def _divide(w: Writer, s: Site, a: str, b: str) -> str:
    response = _local_response(w, s)
    return w.node("Div", a, b) if response is None else w.node("LRN", a, **response)


# What local response normalisation divides by: (k + alpha·mean of x²)^beta, from the outside in.
_RESPONSE = (
    elementwise.Power, elementwise.Add, elementwise.Multiply, views.Reshape, AvgPool,
    views.Reshape, elementwise.Multiply,
)  # fmt: skip


def _local_response(w: Writer, s: Site) -> dict[str, Any] | None:
    """The attributes of LRN, if that is what this quotient is. ONNX Runtime has it for (N, C, H, W)
    and odd windows only."""
    x, below = s.call.inputs
    found: list[Call] = []
    for kind in _RESPONSE:
        call = w.maker(below, kind)
        if call is None:
            return None
        found.append(call)
        below = call.inputs[0]
    *scalars, _, pool, flat, squares = found
    beta, k, alpha = (call.inputs[1] for call in scalars)
    window: Window = pool.op.window
    size, n, c = window.kernel[0], *s.shapes[0][:2]
    if (
        s.rank != 4
        or size % 2 == 0
        or squares.inputs != (x, x)
        or flat.shape[:3] != (n, 1, c)
        or window != Window((size, 1), (1, 1), ((size // 2, size // 2), (0, 0)), (1, 1))
        or set(pool.op.divisors[0]) != {size}
        or not all(ref is not None and ref.kind == "number" for ref in (beta, k, alpha))
    ):
        return None
    names = ("beta", "bias", "alpha")
    numbers = {n: float(ref.key) for n, ref in zip(names, (beta, k, alpha), strict=True) if ref}
    return {"size": size, **numbers}


@translates(elementwise.Add)
def _add(w: Writer, s: Site, a: str, b: str) -> str:
    """The sum; a bias that follows a transposed convolution becomes part of it."""
    conv, row = w.maker(s.call.inputs[0], ConvInputGrad), w.maker(s.call.inputs[1], views.Reshape)
    if conv is not None and row is not None:
        channels = s.shapes[0][1]
        if (row.shapes[0], row.shape) == ((channels,), (1, channels, *(1,) * (s.rank - 2))):
            inputs = (w.value(ref, s.dtype) for ref in (*conv.inputs, *row.inputs) if ref)
            return w.node("ConvTranspose", *inputs, **_transposed(conv))
    return w.node("Add", a, b)


# -- convolution, pooling, dense layers, normalisation ---------------------------------------------
def _window(window: Window) -> dict[str, list[int]]:
    befores, afters = zip(*window.padding, strict=True)
    return {
        "kernel_shape": list(window.kernel),
        "strides": list(window.stride),
        "pads": [*befores, *afters],
        "dilations": list(window.dilation),
    }


@translates(Conv)
def _conv(w: Writer, s: Site, *inputs: str | None) -> str:
    return w.node("Conv", *inputs, group=s.op.groups, **_window(s.op.window))


@translates(ConvInputGrad)
def _conv_transpose(w: Writer, s: Site, x: str, weight: str) -> str:
    return w.node("ConvTranspose", x, weight, **_transposed(s.call))


def _transposed(call: Call) -> dict[str, Any]:
    """The attributes of a transposed convolution."""
    op: Any = call.op
    window, sizes = op.window, call.shapes[0][2:]
    least = tuple(
        (n - 1) * step - lo - hi + d * (k - 1) + 1
        for n, k, step, (lo, hi), d in zip(sizes, *window, strict=True)
    )
    extra = [m - n for m, n in zip(op.shape[2:], least, strict=True)]
    return {"group": op.groups, "output_padding": extra, **_window(window)}


@translates(MaxPool)
def _max_pool(w: Writer, s: Site, x: str) -> str:
    window: Window = s.op.window
    if any(p >= k for pair, k in zip(window.padding, window.kernel, strict=True) for p in pair):
        befores, afters = zip(*window.padding, strict=True)  # wider than ONNX lets a pool pad
        least = w.constant(np.array(-np.inf, s.dtype))
        x = w.node("Pad", x, w.constant([0, 0, *befores, 0, 0, *afters], np.int64), least)
        window = window._replace(padding=((0, 0),) * len(window.kernel))
    return w.node("MaxPool", x, **_window(window))


@translates(AvgPool)
def _avg_pool(w: Writer, s: Site, x: str) -> str:
    window, sizes = s.op.window, s.shapes[0][2:]
    attributes = _window(window)
    del attributes["dilations"]
    inside = tuple(
        tuple(min(p * step - lo + k, n) - max(p * step - lo, 0) for p in range(outputs))
        for n, k, step, (lo, _), outputs in zip(
            sizes, window.kernel, window.stride, window.padding, window.output(sizes), strict=True
        )
    )
    if s.op.divisors == inside:
        if all(q == 1 for q in window.output(sizes)) and window.kernel == sizes:
            return w.node("GlobalAveragePool", x)
        return w.node("AveragePool", x, count_include_pad=0, **attributes)
    mean = w.node("AveragePool", x, count_include_pad=1, **attributes)
    table = math.prod(np.ix_(*(np.array(d, np.float64) for d in s.op.divisors)))
    factors = window.taps() / table
    if (factors == 1).all():
        return mean
    return w.node("Mul", mean, w.constant(factors[None, None], s.dtype))


@translates(Linear)
def _linear(w: Writer, s: Site, x: str, weight: str, bias: str | None) -> str:
    if s.rank == 2:
        return w.node("Gemm", x, weight, bias, transB=1)
    y = w.node("MatMul", x, w.node("Transpose", weight, perm=[1, 0]))
    return y if bias is None else w.node("Add", y, bias)


@translates(BatchNormInference)
def _batch_norm(
    w: Writer, s: Site, x: str, mean: str, var: str, weight: str | None, bias: str | None
) -> str:
    channels = s.shapes[1]
    scale = w.constant(np.ones(channels, s.dtype)) if weight is None else weight
    shift = w.constant(np.zeros(channels, s.dtype)) if bias is None else bias
    return w.node("BatchNormalization", x, scale, shift, mean, var, epsilon=s.op.eps)


# -- activations -----------------------------------------------------------------------------------
@translates(activation.LeakyRelu)
def _leaky_relu(w: Writer, s: Site, x: str) -> str:
    return w.node("LeakyRelu", x, alpha=float(s.op.slope))


@translates(activation.PRelu)
def _prelu(w: Writer, s: Site, x: str, slope: str) -> str:
    return w.node("PRelu", x, slope)


@translates(activation.Elu)
def _elu(w: Writer, s: Site, x: str) -> str:
    alpha, scale, rate = s.op.settings
    if (alpha, scale) == (SELU_ALPHA, SELU_SCALE):
        return w.node("Selu", x, alpha=alpha, gamma=scale)
    return w.node("Elu" if rate == 1 else "Celu", x, alpha=float(alpha))


@translates(activation.Silu)
def _silu(w: Writer, s: Site, x: str) -> str:
    return w.node("Mul", x, w.node("Sigmoid", x))


@translates(activation.Softplus)
def _softplus(w: Writer, s: Site, x: str) -> str:
    beta, _ = s.op.settings
    if beta == 1:
        return w.node("Softplus", x)
    factor = w.constant(np.array(beta, s.dtype))
    return w.node("Div", w.node("Softplus", w.node("Mul", x, factor)), factor)


@translates(activation.LogSigmoid)
def _log_sigmoid(w: Writer, s: Site, x: str) -> str:
    return w.node("Neg", w.node("Softplus", w.node("Neg", x)))


def _clip(w: Writer, s: Site, x: str, low: float, high: float) -> str:
    return w.node(
        "Clip", x, w.constant(np.array(low, s.dtype)), w.constant(np.array(high, s.dtype))
    )


@translates(activation.Hardtanh, elementwise.Clamp)
def _hardtanh(w: Writer, s: Site, x: str) -> str:
    return _clip(w, s, x, *s.op.settings)


@translates(activation.Hardswish)
def _hardswish(w: Writer, s: Site, x: str) -> str:
    return w.node("Mul", x, w.node("HardSigmoid", x, alpha=1 / 6, beta=0.5))


@translates(activation.Hardsigmoid)
def _hardsigmoid(w: Writer, s: Site, x: str) -> str:
    return w.node("HardSigmoid", x, alpha=1 / 6, beta=0.5)


@translates(activation.Softsign)
def _softsign(w: Writer, s: Site, x: str) -> str:
    return w.node("Softsign", x)


# -- elements --------------------------------------------------------------------------------------
@translates(elementwise.Cast)
def _cast(w: Writer, s: Site, x: str) -> str:
    return _as_type(w, x, s.op.dtype)


def _as_type(w: Writer, x: str, dtype: Any) -> str:
    return w.node("Cast", x, to=w.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


@translates(unary.Step)
def _step(w: Writer, s: Site, x: str) -> str:
    kinds = {"sign": "Sign", "floor": "Floor", "ceil": "Ceil", "rint": "Round"}
    return w.node(kinds[s.op.primitive], x)


@translates(unary.Expm1)
def _expm1(w: Writer, s: Site, x: str) -> str:
    return w.node("Sub", w.node("Exp", x), w.constant(np.ones((), s.dtype)))


@translates(unary.Log1p)
def _log1p(w: Writer, s: Site, x: str) -> str:
    return w.node("Log", w.node("Add", x, w.constant(np.ones((), s.dtype))))


@translates(elementwise.Remainder)
def _remainder(w: Writer, s: Site, a: str, b: str) -> str:
    if s.dtype.kind != "f":
        return w.node("Mod", a, b)
    return w.node("Sub", a, w.node("Mul", b, w.node("Floor", w.node("Div", a, b))))


@translates(elementwise.FloorDivide)
def _floor_divide(w: Writer, s: Site, a: str, b: str) -> str:
    if s.dtype.kind == "f":
        return w.node("Floor", w.node("Div", a, b))
    return w.node("Div", w.node("Sub", a, w.node("Mod", a, b)), b)  # exact, rounded down


@translates(elementwise.Where)
def _where(w: Writer, s: Site, a: str, b: str, condition: str) -> str:
    return w.node("Where", condition, a, b)


_COMPARE = {
    "equal": "Equal", "not_equal": "Equal", "less": "Less", "less_equal": "LessOrEqual",
    "greater": "Greater", "greater_equal": "GreaterOrEqual", "logical_and": "And",
    "logical_or": "Or", "logical_xor": "Xor", "logical_not": "Not", "isnan": "IsNaN",
    "isinf": "IsInf",
}  # fmt: skip


@translates(elementwise.Compare)
def _compare(w: Writer, s: Site, *inputs: str) -> str:
    name = s.op.primitive
    if name == "isfinite":
        return w.node("Not", w.node("Or", w.node("IsNaN", *inputs), w.node("IsInf", *inputs)))
    kinds = [d.kind for d in s.call.dtypes if d is not None]
    if name.startswith("logical") and set(kinds) != {"b"}:
        raise ValueError(f"export: {name} of numbers: compare with 0 first, as in x != 0")
    if name not in _COMPARE:
        raise ValueError(f"export: {name} of integers is not supported; & | ^ ~ of booleans are")
    y = w.node(_COMPARE[name], *inputs)
    return w.node("Not", y) if name == "not_equal" else y


# -- reductions ------------------------------------------------------------------------------------
@translates(reduce.Sum)
def _sum(w: Writer, s: Site, x: str) -> str:
    if s.call.dtypes[0] != s.dtype:
        x = _as_type(w, x, s.dtype)
    return w.reduce("ReduceSum", x, s.op.axes, s.op.keepdim)


@translates(reduce.Mean)
def _mean(w: Writer, s: Site, x: str) -> str:
    if s.op.keepdim and s.rank > 2 and s.op.axes == tuple(range(2, s.rank)):
        return w.node("GlobalAveragePool", x)
    return w.reduce("ReduceMean", x, s.op.axes, s.op.keepdim)


@translates(reduce.Extreme)
def _extreme(w: Writer, s: Site, x: str) -> str:
    return w.reduce(f"Reduce{s.op.primitive.capitalize()}", x, s.op.axes, s.op.keepdim)


@translates(reduce.Product)
def _product(w: Writer, s: Site, x: str) -> str:
    return w.reduce("ReduceProd", x, [s.op.axis], True)


@translates(reduce.Position)
def _position(w: Writer, s: Site, x: str) -> str:
    if s.op.primitive == "argsort":
        raise ValueError("export: sort and argsort have no ONNX operator that keeps the order")
    kind = "ArgMax" if s.op.primitive == "argmax" else "ArgMin"
    return w.node(kind, x, axis=s.op.axis, keepdims=0)


@translates(reduce.CumulativeSum)
def _cumsum(w: Writer, s: Site, x: str) -> str:
    return w.node("CumSum", x, w.constant(s.op.axis, np.int64), reverse=int(s.op.reverse))


# -- shapes and indices ----------------------------------------------------------------------------
@translates(views.Reshape)
def _reshape(w: Writer, s: Site, x: str) -> str:
    sizes, before = s.output(w), s.input(w)
    if len(sizes) == 2 and s.rank > 2 and sizes[0] == before[0]:
        return w.node("Flatten", x, axis=1)
    if sum(isinstance(n, Samples) for n in sizes) == 1 and 0 not in sizes:
        wanted = [n if isinstance(n, int) else -1 for n in sizes]
        return w.node("Reshape", x, w.constant(wanted, np.int64))
    return w.node("Reshape", x, w.shape(sizes))


@translates(views.Expand)
def _expand(w: Writer, s: Site, x: str) -> str:
    sizes, before = s.output(w), s.input(w)
    aligned = [1] * (len(sizes) - len(before)) + before
    return w.node(
        "Expand", x, w.shape([1 if n == m else n for n, m in zip(sizes, aligned, strict=True)])
    )


@translates(views.Permute)
def _permute(w: Writer, s: Site, x: str) -> str:
    return w.node("Transpose", x, perm=list(s.op.axes))


@translates(views.Select)
def _select(w: Writer, s: Site, x: str) -> str:
    """Slices cut, then integers drop their dimension and None adds one."""
    cuts, dropped, added = [], [], []
    axis = place = 0
    for i in s.op.index:
        if i is None:
            added.append(place)
            place += 1
            continue
        if isinstance(i, int):
            cuts.append((i, i + 1 if i != -1 else LAST, axis, 1))
            dropped.append(axis)
        else:
            step = i.step or 1
            first = i.start if i.start is not None else 0 if step > 0 else LAST
            stop = i.stop if i.stop is not None else LAST if step > 0 else -LAST
            if (first, stop, step) != (0, LAST, 1):
                cuts.append((first, stop, axis, step))
            place += 1
        axis += 1
    if cuts:
        x = w.node("Slice", x, *(w.constant(v, np.int64) for v in zip(*cuts, strict=True)))
    if dropped:
        x = w.node("Squeeze", x, w.constant(dropped, np.int64))
    return w.node("Unsqueeze", x, w.constant(added, np.int64)) if added else x


@translates(views.Take)
def _take(w: Writer, s: Site, x: str, *index: str) -> str:
    kinds = [i.dtype.kind for i in s.op.index if hasattr(i, "dtype")]
    if len(index) != 1 or kinds == ["b"]:
        raise ValueError("export: indexing by several arrays or by a mask has no ONNX operator")
    axis = next(a for a, i in enumerate(s.op.index) if hasattr(i, "dtype"))
    return w.node("Gather", x, index[0], axis=axis)


@translates(Gather)
def _gather(w: Writer, s: Site, x: str, index: str) -> str:
    return w.node("GatherElements", x, index, axis=s.op.axis)


@translates(reduce.Flip)
def _flip(w: Writer, s: Site, x: str) -> str:
    axes = s.op.axes
    if not axes:
        return x
    parts = ([-1] * len(axes), [-LAST] * len(axes), axes, [-1] * len(axes))
    return w.node("Slice", x, *(w.constant(v, np.int64) for v in parts))


@translates(Pad, ConstantPad)
def _pad(w: Writer, s: Site, x: str) -> str:
    befores, afters = zip(*s.op.padding, strict=True)
    value = w.constant(np.array(getattr(s.op, "value", 0), s.dtype))
    return w.node("Pad", x, w.constant([*befores, *afters], np.int64), value)
