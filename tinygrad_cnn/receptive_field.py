"""Which cells of the image a cell of a feature map can see.

The operations of one forward pass are followed by the tensors they make, so modules, functions and
residual additions all count. With kernel k, stride s, dilation d and padding ``before`` a window
turns the field (size r, stride j, offset o) of its input into

    r' = r + d·(k − 1)·j        j' = s·j        o' = o − before·j

and where branches meet, the field is the smallest that covers theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from .geometry import Shape, Window
from .nn import Module
from .ops.conv import Conv, ConvInputGrad
from .ops.index import Concatenate
from .ops.linalg import MatMul
from .ops.linear import Linear
from .ops.pad import ConstantPad
from .ops.pool import AvgPool, MaxPool
from .ops.reduce import Extreme, Sum
from .ops.views import Reshape, Select
from .tensor import Around, Op, Tensor

# Operations on each element by itself, or that mix only samples and channels.
_POINTWISE = tuple(
    f"{__package__}.ops.{name}"
    for name in ("activation", "dropout", "elementwise", "normalization", "unary")
)


class Field(NamedTuple):
    """On each spatial axis, cell p of the map sees the image's cells offset + p·stride … + size −
    1.

    Cells outside the image are padding. Stride 0: every cell sees the same, all of the image.
    """

    size: Shape
    stride: Shape
    offset: Shape


class Fields(Around):
    """Follows the operations of this thread and knows the field of every tensor they make.

    ``flops`` counts two operations for each multiplication and addition in convolutions and matrix
    products, for one sample; all others are not counted.
    """

    def __init__(self, image: Tensor) -> None:
        axes = max(image.ndim - 2, 0)
        self.whole = Field(image.shape[2:], (0,) * axes, (0,) * axes)
        start = Field((1,) * axes, (1,) * axes, (0,) * axes)
        # The tensors are kept, so that no other one can get the same id.
        self._known: dict[int, tuple[Tensor, Field | None]] = {id(image): (image, start)}
        self.flops = 0

    def of(self, t: Any) -> Field | None:
        """The field of a tensor; None when it is not known or depends on no image."""
        return self._known[id(t)][1] if id(t) in self._known else None

    def same(self, source: Tensor, result: Tensor) -> None:
        """Give ``result`` the field of ``source``."""
        self._known[id(result)] = result, self.of(source)

    def after(self, op: Op, inputs: tuple[Any, ...], result: Tensor) -> None:
        sources = [t for t in inputs if id(t) in self._known]
        field = self._combine(op, sources, result) if sources else None
        if sources:
            self._known[id(result)] = result, field
        self.flops += _flops(op, inputs, result)

    def _combine(self, op: Op, sources: list[Tensor], result: Tensor) -> Field | None:
        fields = [self.of(t) for t in sources]
        first = fields[0]
        if first is None or None in fields or not first.size:
            return None
        if all(f == self.whole for f in fields):
            return self.whole
        spatial = len(first.size)
        if isinstance(op, Conv | MaxPool | AvgPool):
            return seen_by(op.window, first)
        if isinstance(op, ConstantPad):
            before = tuple(lo for lo, _ in op.padding[-spatial:])
            return first._replace(offset=_shifted(first, before, -1))
        if isinstance(op, Select):
            return _selected(first, op.index, sources[0].shape)
        if isinstance(op, Linear | MatMul | Reshape):
            return self.whole
        if isinstance(op, Sum | Extreme) and set(range(2, 2 + spatial)) <= set(op.axes):
            return self.whole
        joins = isinstance(op, Concatenate) and op.axis == 1
        if joins or (
            type(op).__module__ in _POINTWISE and result.shape[2:] == sources[0].shape[2:]
        ):
            return _cover([f for f in fields if f is not None])
        return None


def seen_by(window: Window, field: Field) -> Field:
    """The field behind a window whose input has this one."""
    kernel, stride, padding, dilation = window
    return Field(
        tuple(
            r + d * (k - 1) * j
            for r, d, k, j in zip(field.size, dilation, kernel, field.stride, strict=True)
        ),
        tuple(s * j for s, j in zip(stride, field.stride, strict=True)),
        _shifted(field, tuple(before for before, _ in padding), -1),
    )


def _shifted(field: Field, cells: Shape, sign: int) -> Shape:
    return tuple(
        o + sign * c * j for o, c, j in zip(field.offset, cells, field.stride, strict=True)
    )


def _selected(field: Field, index: tuple[Any, ...], shape: Shape) -> Field | None:
    """The field behind x[:, :, a:b:s, …]."""
    if len(index) < 2 or not all(isinstance(i, slice) for i in index):
        return None
    whole = (slice(None),) * (len(shape) - len(index))
    steps = [i.indices(n) for i, n in zip((*index, *whole), shape, strict=True)][2:]
    return Field(
        field.size,
        tuple(step * j for (_, _, step), j in zip(steps, field.stride, strict=True)),
        _shifted(field, tuple(first for first, _, _ in steps), 1),
    )


def _cover(fields: list[Field]) -> Field | None:
    """The smallest field that covers all of these; None when their strides differ."""
    if len({f.stride for f in fields}) > 1:
        return None
    axes = range(len(fields[0].size))
    first = tuple(min(f.offset[a] for f in fields) for a in axes)
    last = tuple(max(f.offset[a] + f.size[a] for f in fields) for a in axes)
    return Field(tuple(b - a for a, b in zip(first, last, strict=True)), fields[0].stride, first)


def _flops(op: Op, inputs: Sequence[Any], result: Tensor) -> int:
    """Of one sample: dimension 0 counts as 1."""
    if isinstance(op, Conv):
        weight = inputs[1]
        terms = _size(weight.shape[1:])  # of each output's sum
    elif isinstance(op, ConvInputGrad):  # forward, this is a transposed convolution
        return 2 * _size(inputs[0].shape[2:]) * _size(inputs[1].shape)
    elif isinstance(op, Linear):
        terms = inputs[1].shape[1]
    elif isinstance(op, MatMul):
        terms = inputs[0].shape[-1]
    else:
        return 0
    return 2 * _size(result.shape[1:]) * terms


def _size(shape: Shape) -> int:
    count = 1
    for n in shape:
        count *= n
    return count


def receptive_field(model: Module, input_shape: Sequence[int]) -> dict[str, Field]:
    """The field of every layer's output by the layer's path, for an image of this shape (C, H, W).

    Layers that are called several times are listed with their last call; those whose field is not
    known, such as transposed convolutions, are left out. Raises what the model raises for such an
    image.

    >>> from tinygrad_cnn import nn
    >>> field = receptive_field(nn.Sequential(nn.Conv2d(1, 2, 5), nn.MaxPool2d(2)), (1, 8, 8))
    >>> field["1"]
    Field(size=(6, 6), stride=(2, 2), offset=(0, 0))
    """
    from .summary import summary

    rows = summary(model, input_shape, show=False).rows
    return {row.name: row.field for row in rows if row.field is not None}
