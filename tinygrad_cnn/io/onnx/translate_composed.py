"""Operations of ours that ONNX has not, or only in its latest versions, in several operators."""

from __future__ import annotations

import math

import numpy as np

from ...geometry import LinearMap
from ...ops import activation
from ...ops.cross_entropy import Logistic
from ...ops.index import Roll
from ...ops.loss import AbsoluteError, Divergence, SquaredError
from ...ops.normalization import BatchNorm, GroupNorm, LayerNorm
from ...ops.reduce import Root, SumOfSquares, Variance
from ...ops.resample import Resample
from .translate import translates
from .writer import Site, Writer


# -- normalisation ---------------------------------------------------------------------------------
def _standardised(w: Writer, s: Site, x: str, axes: list[int]) -> str:
    """(x − mean)/√(var + eps), the statistics over ``axes`` of x itself."""
    centred = w.node("Sub", x, w.reduce("ReduceMean", x, axes, True))
    var = w.reduce("ReduceMean", w.node("Mul", centred, centred), axes, True)
    sigma = w.node("Sqrt", w.node("Add", var, w.constant(np.array(s.op.eps, s.dtype))))
    return w.node("Div", centred, sigma)


def _scaled(w: Writer, s: Site, y: str, weight: str | None, bias: str | None) -> str:
    """y·weight + bias, a number a channel."""
    shape = w.constant([1, -1, *(1,) * (s.rank - 2)], np.int64)
    if weight is not None:
        y = w.node("Mul", y, w.node("Reshape", weight, shape))
    return y if bias is None else w.node("Add", y, w.node("Reshape", bias, shape))


@translates(BatchNorm)
def _batch_norm(w: Writer, s: Site, x: str, weight: str | None, bias: str | None) -> str:
    return _scaled(w, s, _standardised(w, s, x, [0, *range(2, s.rank)]), weight, bias)


@translates(GroupNorm)
def _group_norm(w: Writer, s: Site, x: str, weight: str | None, bias: str | None) -> str:
    """A 0 in the shapes keeps the batch, of whatever size."""
    by_group = w.node("Reshape", x, w.constant([0, s.op.groups, -1], np.int64))
    y = _standardised(w, s, by_group, [2])
    y = w.node("Reshape", y, w.constant([0, *s.shapes[0][1:]], np.int64))
    return _scaled(w, s, y, weight, bias)


@translates(LayerNorm)
def _layer_norm(w: Writer, s: Site, x: str, weight: str | None, bias: str | None) -> str:
    y = _standardised(w, s, x, [1])
    y = y if weight is None else w.node("Mul", y, weight)
    return y if bias is None else w.node("Add", y, bias)


# -- activations -----------------------------------------------------------------------------------
def _half_of_one_plus(w: Writer, s: Site, x: str, y: str) -> str:
    """x·(1 + y)/2."""
    one, half = (w.constant(np.array(v, s.dtype)) for v in (1, 0.5))
    return w.node("Mul", x, w.node("Mul", w.node("Add", y, one), half))


@translates(activation.Gelu)
def _gelu(w: Writer, s: Site, x: str) -> str:
    root = w.constant(np.array(math.sqrt(0.5), s.dtype))
    return _half_of_one_plus(w, s, x, w.node("Erf", w.node("Mul", x, root)))


@translates(activation.GeluTanh)
def _gelu_tanh(w: Writer, s: Site, x: str) -> str:
    bend, root = (w.constant(np.array(v, s.dtype)) for v in (0.044715, math.sqrt(2 / math.pi)))
    cube = w.node("Mul", w.node("Mul", x, x), x)
    inner = w.node("Mul", w.node("Add", x, w.node("Mul", cube, bend)), root)
    return _half_of_one_plus(w, s, x, w.node("Tanh", inner))


# -- moving elements -------------------------------------------------------------------------------
@translates(Roll)
def _roll(w: Writer, s: Site, x: str) -> str:
    """The last elements, then the others."""
    if not s.op.shift:
        return x
    ends = (-s.op.shift, np.iinfo(np.int64).max), (0, -s.op.shift)
    parts = []
    for start, end in ends:
        cut = (w.constant([v], np.int64) for v in (start, end, s.op.axis))
        parts.append(w.node("Slice", x, *cut))
    return w.node("Concat", *parts, axis=s.op.axis)


# -- reductions ------------------------------------------------------------------------------------
@translates(SumOfSquares)
def _sum_of_squares(w: Writer, s: Site, x: str) -> str:
    return w.reduce("ReduceSum", w.node("Mul", x, x), s.op.axes, s.op.keepdim)


@translates(Variance)
def _variance(w: Writer, s: Site, x: str) -> str:
    centred = w.node("Sub", x, w.reduce("ReduceMean", x, s.op.axes, True))
    total = w.reduce("ReduceSum", w.node("Mul", centred, centred), s.op.axes, s.op.keepdim)
    return w.node("Div", total, w.constant(np.array(s.op.freedom, s.dtype)))


@translates(Root)
def _root(w: Writer, s: Site, x: str) -> str:
    return w.node("Sqrt", x)


# -- losses ----------------------------------------------------------------------------------------
def _reduced(w: Writer, s: Site, losses: str) -> str:
    if s.op.reduction == "none":
        return losses
    operator = "ReduceMean" if s.op.reduction == "mean" else "ReduceSum"
    return w.reduce(operator, losses, list(range(s.rank)), False)


@translates(SquaredError)
def _squared_error(w: Writer, s: Site, x: str, t: str) -> str:
    d = w.node("Sub", x, t)
    return _reduced(w, s, w.node("Mul", d, d))


@translates(AbsoluteError)
def _absolute_error(w: Writer, s: Site, x: str, t: str) -> str:
    return _reduced(w, s, w.node("Abs", w.node("Sub", x, t)))


@translates(Logistic)
def _logistic(w: Writer, s: Site, x: str, t: str) -> str:
    one = w.constant(np.array(1, s.dtype))
    rest = w.node("Mul", w.node("Sub", one, t), x)
    return _reduced(w, s, w.node("Add", rest, w.node("Softplus", w.node("Neg", x))))


@translates(Divergence)
def _divergence(w: Writer, s: Site, x: str, t: str) -> str:
    one, zero = (w.constant(np.array(v, s.dtype)) for v in (1, 0))
    safe = w.node("Where", w.node("Greater", t, zero), t, one)
    entropy = w.node("Mul", t, w.node("Log", safe))
    return _reduced(w, s, w.node("Sub", entropy, w.node("Mul", t, x)))


# -- sparse linear maps ----------------------------------------------------------------------------
@translates(Resample)
def _resample(w: Writer, s: Site, x: str) -> str:
    """One axis after the other: the sum of gathered cells times their weights."""
    for axis, table in enumerate(s.op.maps, s.rank - len(s.op.maps)):
        if table is not None:
            x = _mapped(w, s, x, axis, table)
    return x


def _mapped(w: Writer, s: Site, x: str, axis: int, table: LinearMap) -> str:
    if table.ragged:  # short rows continue with one more cell, which is 0
        zeros, frame = [0] * s.rank, [0] * s.rank
        frame[axis] = 1
        zero = w.constant(np.array(0, s.dtype))
        x = w.node("Pad", x, w.constant([*zeros, *frame], np.int64), zero)
    parts = []
    for cells, weights in table.columns(table.inputs):
        part = w.node("Gather", x, w.constant(cells, np.int64), axis=axis)
        if set(weights) != {1.0}:
            shape = (len(weights), *(1,) * (s.rank - axis - 1))
            part = w.node("Mul", part, w.constant(np.array(weights, s.dtype).reshape(shape)))
        parts.append(part)
    total = parts[0]
    for part in parts[1:]:
        total = w.node("Add", total, part)
    return total
