"""The ONNX operators that reduce, reshape and index; see ``layers.py``."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ... import ops
from ...construct import tensor
from ...geometry import Shape, broadcast_shapes, normalize_axes, normalize_axis
from ...nn import functional as F
from ...tensor import Tensor
from .operators import Node, Table, integers, limited, only

SHAPES = Table()


def _axes(node: Node, given: Tensor | None) -> Shape | None:
    """Axes, which older versions have as an attribute and newer ones as an input."""
    found = node.get("axes") if given is None else integers(given)
    return None if found is None else tuple(found)


# -- reductions ------------------------------------------------------------------------------------
_REDUCE: dict[str, Any] = {
    "ReduceMean": ops.mean,
    "ReduceSum": ops.sum,
    "ReduceMax": ops.amax,
    "ReduceMin": ops.amin,
    "ReduceL1": lambda x, dim, keepdim: ops.norm(x, 1, dim, keepdim),
    "ReduceL2": lambda x, dim, keepdim: ops.norm(x, 2, dim, keepdim),
    "ReduceSumSquare": lambda x, dim, keepdim: ops.sum(x * x, dim, keepdim),
    "ReduceLogSumExp": ops.logsumexp,
}


@SHAPES(*_REDUCE)
def _reduce(node: Node, x: Tensor, axes: Tensor | None = None) -> Tensor:
    dims = _axes(node, axes) or None
    if dims is None and node.get("noop_with_empty_axes", 0):
        return x
    made: Tensor = _REDUCE[node.kind](x, dims, bool(node.get("keepdims", 1)))
    return made


@SHAPES("ReduceProd")
def _product(node: Node, x: Tensor, axes: Tensor | None = None) -> Tensor:
    dims = normalize_axes(_axes(node, axes), x.ndim)
    for dim in sorted(dims, reverse=True):
        x = ops.prod(x, dim, bool(node.get("keepdims", 1)))
    return x


@SHAPES("ArgMax", "ArgMin")
def _position(node: Node, x: Tensor) -> Tensor:
    only(node, "select_last_index", 0)
    function = ops.argmax if node.kind == "ArgMax" else ops.argmin
    return function(x, node.get("axis", 0), bool(node.get("keepdims", 1)))


@SHAPES("CumSum")
def _cumsum(node: Node, x: Tensor, axis: Tensor) -> Tensor:
    only(node, "exclusive", 0)
    dim = int(axis.item())
    if not node.get("reverse", 0):
        return ops.cumsum(x, dim)
    return ops.cumsum(x.flip(dim), dim).flip(dim)


# -- other shapes ----------------------------------------------------------------------------------
@SHAPES("Flatten")
def _flatten(node: Node, x: Tensor) -> Tensor:
    axis = node.get("axis", 1)
    axis += x.ndim if axis < 0 else 0
    rows = int(np.prod(x.shape[:axis], dtype=np.int64))
    return x.reshape(rows, x.array.size // max(rows, 1))


@SHAPES("Reshape")
def _reshape(node: Node, x: Tensor, shape: Tensor) -> Tensor:
    wanted = list(integers(shape) or ())
    if not node.get("allowzero", 0):
        for i, n in enumerate(wanted):
            if n == 0:
                wanted[i] = x.shape[i]  # 0 keeps the size
    return x.reshape(wanted)


@SHAPES("Transpose")
def _transpose(node: Node, x: Tensor) -> Tensor:
    return x.permute(tuple(node.get("perm", reversed(range(x.ndim)))))


@SHAPES("Squeeze")
def _squeeze(node: Node, x: Tensor, axes: Tensor | None = None) -> Tensor:
    return ops.squeeze(x, _axes(node, axes))


@SHAPES("Unsqueeze")
def _unsqueeze(node: Node, x: Tensor, axes: Tensor | None = None) -> Tensor:
    dims = _axes(node, axes) or ()
    for dim in sorted(normalize_axis(d, x.ndim + len(dims)) for d in dims):
        x = ops.unsqueeze(x, dim)
    return x


@SHAPES("Expand")
def _expand(node: Node, x: Tensor, shape: Tensor) -> Tensor:
    wanted = broadcast_shapes(x.shape, integers(shape) or ())
    return ops.broadcast_to(x, limited(wanted))


@SHAPES("Tile")
def _tile(node: Node, x: Tensor, repeats: Tensor) -> Tensor:
    counts = integers(repeats) or ()
    limited(tuple(n * c for n, c in zip(x.shape, counts, strict=True)))
    return ops.repeat(x, counts)


@SHAPES("Concat")
def _concat(node: Node, *inputs: Tensor) -> Tensor:
    return ops.cat(inputs, node.get("axis"))


@SHAPES("Split")
def _split(node: Node, x: Tensor, split: Tensor | None = None) -> tuple[Tensor, ...]:
    axis = normalize_axis(node.get("axis", 0), x.ndim)
    sizes = node.get("split") if split is None else integers(split)
    if sizes is not None:
        return ops.split(x, list(sizes), axis)
    count = node.get("num_outputs", node.outputs)
    return ops.split(x, max(-(-x.shape[axis] // count), 1), axis)


@SHAPES("DepthToSpace")
def _depth_to_space(node: Node, x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    b = node.get("blocksize")
    if only(node, "mode", "DCR", "CRD") == "CRD":
        return F.pixel_shuffle(x, b)
    parts = x.reshape(n, b, b, c // (b * b), h, w).permute(0, 3, 4, 1, 5, 2)
    return parts.reshape(n, c // (b * b), h * b, w * b)


@SHAPES("Pad")
def _pad(
    node: Node, x: Tensor, pads: Tensor | None = None, value: Tensor | None = None,
    axes: Tensor | None = None,
) -> Tensor:  # fmt: skip
    modes = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}
    mode = modes[only(node, "mode", *modes)]
    widths = tuple(node.get("pads", ())) if pads is None else integers(pads) or ()
    dims = range(x.ndim) if axes is None else normalize_axes(integers(axes), x.ndim)
    befores = dict(zip(dims, widths[: len(widths) // 2], strict=True))
    afters = dict(zip(dims, widths[len(widths) // 2 :], strict=True))
    pairs = [(befores.get(d, 0), afters.get(d, 0)) for d in range(x.ndim)]
    limited(tuple(max(lo + n + hi, 0) for n, (lo, hi) in zip(x.shape, pairs, strict=True)))
    flat = [p for pair in reversed(pairs) for p in pair]
    if mode != "constant":
        return F.pad(x, flat, mode)
    return F.pad(x, flat, mode, node.get("value", 0.0) if value is None else value.item())


@SHAPES("Resize", "Upsample")
def _resize(node: Node, x: Tensor, *settings: Tensor | None) -> Tensor:
    """Sizes of the spatial dimensions changed, by the rules that ``interpolate`` has too."""
    old = node.kind == "Upsample" or node.opset < 11
    scales, sizes = (settings[0], None) if old else (*settings[1:3], None, None)[:2]
    wanted = integers(sizes)
    how: dict[str, Any] = {}
    if wanted is None:
        if scales is None or scales.array.size != x.ndim:
            raise ValueError(f"{node}: expected scales or sizes for all {x.ndim} dimensions")
        # float32 as the factors are: 5/3 of 3 cells is 5
        factors = scales.detach().numpy()
        wanted = tuple(int(np.float32(n) * s) for n, s in zip(x.shape, factors, strict=True))
        # the factor itself says where a cell reads, not the quotient of the sizes
        how["scale_factor"] = tuple(map(_factor, x.shape[2:], wanted[2:], factors[2:].tolist()))
    if len(wanted) != x.ndim or wanted[:2] != x.shape[:2]:
        raise ValueError(f"{node}: expected the batch and channels {x.shape[:2]}, not {wanted}")
    if limited(wanted) == x.shape:
        return x
    how = how or {"size": wanted[2:]}
    mode = only(node, "mode", "nearest", "linear")
    rule = node.get("coordinate_transformation_mode", "asymmetric" if old else "half_pixel")
    rounding = node.get("nearest_mode", "floor" if old else "round_prefer_floor")
    if mode == "nearest" and (rule, rounding) == ("asymmetric", "floor"):
        return F.interpolate(x, **how)
    if mode == "linear" and rule in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        kind = ("linear", "bilinear", "trilinear")[x.ndim - 3]
        return F.interpolate(x, **how, mode=kind, align_corners=rule == "align_corners")
    raise ValueError(f"{node}: {mode} by the rule {rule}, {rounding} is not supported")


def _factor(cells: int, wanted: int, factor: float) -> float:
    """``factor``, or the nearest one that makes ``wanted`` cells of ``cells``."""
    fits = math.floor(cells * factor) == wanted
    return factor if fits else math.nextafter(wanted / cells, math.inf)


# -- picking elements ------------------------------------------------------------------------------
@SHAPES("Slice")
def _slice(
    node: Node, x: Tensor, starts: Tensor | None = None, ends: Tensor | None = None,
    axes: Tensor | None = None, steps: Tensor | None = None,
) -> Tensor:  # fmt: skip
    first = tuple(node.get("starts", ())) if starts is None else integers(starts) or ()
    stop = tuple(node.get("ends", ())) if ends is None else integers(ends) or ()
    dims = normalize_axes(_axes(node, axes) or tuple(range(len(first))), x.ndim)
    by = integers(steps) or (1,) * len(first)
    index = [slice(None)] * x.ndim
    for d, a, b, step in zip(dims, first, stop, by, strict=True):
        if step == 0:
            raise ValueError(f"{node}: a step of 0")
        n = x.shape[d]
        if step < 0:
            # Before the first element is −1 to ONNX after clamping, and None to Python.
            below = b < -n
            index[d] = slice(a if a >= -n else 0, None if below else b, step)
        else:
            index[d] = slice(a, b, step)
    return x[tuple(index)]


@SHAPES("Gather")
def _gather(node: Node, x: Tensor, index: Tensor) -> Tensor:
    axis = normalize_axis(node.get("axis", 0), x.ndim)
    before = (slice(None),) * axis
    if not index.ndim:
        return x[(*before, int(index.item()))]
    return x[(*before, index)]


@SHAPES("GatherElements")
def _gather_elements(node: Node, x: Tensor, index: Tensor) -> Tensor:
    axis = node.get("axis", 0)
    n = x.shape[axis]
    return ops.gather(x, axis, ops.where(index < 0, index + n, index))


# -- shapes as values, and other kinds of numbers --------------------------------------------------
@SHAPES("Shape")
def _shape(node: Node, x: Tensor) -> Tensor:
    sizes = x.shape[node.get("start", 0) : node.get("end")]
    return tensor(np.array(sizes, np.int64), backend=x.backend)


@SHAPES("Size")
def _size(node: Node, x: Tensor) -> Tensor:
    return tensor(np.int64(x.array.size), backend=x.backend)


@SHAPES("ConstantOfShape")
def _constant_of_shape(node: Node, shape: Tensor) -> Tensor:
    value = node.get("value")
    filler = np.zeros(1, np.float32) if value is None else np.reshape(value, 1)
    sizes = limited(integers(shape) or ())
    return ops.broadcast_to(tensor(filler, backend=shape.backend).reshape(()), sizes)


@SHAPES("Range")
def _range(node: Node, start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    first, last, step = start.item(), limit.item(), delta.item()
    limited((max(int((last - first) // step) + 1, 0),))
    return ops.arange(first, last, step, dtype=start.dtype, backend=start.backend)


_DTYPES = {  # by their numbers in the format; the nearest we have
    1: "float32", 2: "uint8", 3: "int32", 4: "int32", 5: "int32", 6: "int32", 7: "int64",
    9: "bool", 10: "float16", 11: "float64", 12: "int64", 16: "float32",
}  # fmt: skip


@SHAPES("Cast")
def _cast(node: Node, x: Tensor) -> Tensor:
    return x.to(_DTYPES[only(node, "to", *_DTYPES)])
