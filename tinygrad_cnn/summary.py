"""What a model is made of: a table of its layers, their sizes, costs and receptive fields."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from . import dtypes
from .autograd import no_grad
from .backend import get_backend
from .geometry import Shape
from .nn import LocalResponseNorm, Module, Sequential
from .ops import zeros
from .receptive_field import Field, Fields
from .tensor import Op, Tensor, mode

_ACTIVATIONS = (f"{__package__}.ops.activation", "Sigmoid", "Tanh")  # a file, and two elsewhere
MB = 1e6


@dataclass
class Row:
    """One call of a layer. Shapes are without the batch; counts are for one sample."""

    name: str  # path in the model
    kind: str
    output_shape: Any  # a shape, or a tuple of shapes
    parameters: int = 0  # that no earlier row has
    trainable: int = 0  # of these
    kernel: Shape | None = None
    stride: Shape | None = None
    activation: str = ""  # what is applied to the output next
    flops: int = 0
    field: Field | None = None
    output_bytes: int = 0


@dataclass
class Summary:
    """The rows and totals of a model; ``str`` of it is the table.

    ``flops`` counts two for each multiply-add of convolutions and matrix products of one sample and
    nothing else. Bytes of activations are those of the rows' outputs for one sample.
    """

    model: str
    input_shapes: list[Shape]
    rows: list[Row] = field(default_factory=list)
    parameters: int = 0
    trainable: int = 0
    buffers: int = 0  # numbers that are kept but not learned, such as running means
    flops: int = 0
    input_bytes: int = 0
    activation_bytes: int = 0
    parameter_bytes: int = 0

    @property
    def frozen(self) -> int:
        """Parameters that require no gradient."""
        return self.parameters - self.trainable

    def __str__(self) -> str:
        head = ("layer", "type", "output", "parameters", "kernel", "stride", "activation", "MFLOP",
                "field")  # fmt: skip
        lines = [head, *(_cells(row) for row in self.rows)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
        right = (3, 7)  # columns of numbers
        text = [
            "  ".join(
                cell.rjust(width) if i in right else cell.ljust(width)
                for i, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        ]
        rule = "-" * max(map(len, text))
        total = self.input_bytes + self.activation_bytes + self.parameter_bytes
        inputs = ", ".join(_shape(s) for s in self.input_shapes)
        return "\n".join([
            f"{self.model}, input {inputs}", rule, text[0], rule, *text[1:], rule,
            f"parameters  {self.parameters:,}: {self.trainable:,} trainable, {self.frozen:,} "
            f"frozen; and {self.buffers:,} numbers in buffers",
            f"compute     {self.flops / 1e6:,.1f} MFLOP a sample (2 a multiply-add)",
            f"memory      {total / MB:,.2f} MB: input {self.input_bytes / MB:,.2f}, outputs of "
            f"layers {self.activation_bytes / MB:,.2f}, state {self.parameter_bytes / MB:,.2f}",
        ])  # fmt: skip


def summary(
    model: Module, input_shape: Sequence[int] | Sequence[Sequence[int]], show: bool = True,
    dtype: Any = None,
) -> Summary:  # fmt: skip
    """The table of a model's layers for an input of this shape, without the batch; also printed.

    ``input_shape`` is (C, H, W) or a list of shapes for several inputs; ``dtype`` is theirs
    (default: the parameters'). The rows are the calls of layers in one forward pass in evaluation
    mode, for a batch of no samples (of one zero sample where a layer cannot do that). A layer
    called again counts its parameters once, and says so; parameters of modules that are never
    called have a row at the end. Raises what the model raises for such an input.
    """
    given = list(input_shape)
    nested = bool(given) and not isinstance(given[0], int)
    shapes: list[Shape] = [tuple(s) for s in given] if nested else [tuple(given)]  # type: ignore
    like = next(model.parameters(), None)
    backend = get_backend() if like is None else like.backend
    kind = dtypes.as_dtype(dtype or (dtypes.float32 if like is None else like.dtype))
    result = Summary(model._get_name(), shapes)
    for batch in (0, 1):
        images = [zeros(batch, *s, dtype=kind, backend=backend) for s in shapes]
        trace = _Trace(model, images)
        try:
            trace.run()
            break
        except (ValueError, TypeError, IndexError, RuntimeError):
            if batch:  # wrong with any batch
                raise
    result.rows = trace.rows + trace.uncalled()
    parameters = list(model.parameters())
    result.parameters = sum(p.array.size for p in parameters)
    result.trainable = sum(p.array.size for p in parameters if p.requires_grad)
    buffers = [b for b in model.buffers() if b.ndim]
    result.buffers = sum(b.array.size for b in buffers)
    result.flops = trace.fields.flops
    result.input_bytes = sum(_bytes(x) for x in images)
    result.activation_bytes = sum(row.output_bytes for row in result.rows)
    result.parameter_bytes = sum(t.array.size * t.dtype.itemsize for t in (*parameters, *buffers))
    if show:
        print(result)
    return result


class _Trace:
    """One forward pass, with a row for each call of a layer: no children, or own parameters."""

    def __init__(self, model: Module, images: list[Tensor]) -> None:
        self.model, self.images = model, images
        self.paths = {module: path for path, module in reversed(list(model.named_modules()))}
        self.fields = _Watch(images[0])
        self.rows: list[Row] = []
        self.counted: set[int] = set()  # parameters that have a row
        self.flops: list[int] = []  # at the start of each running call
        self.depth: list[int] = []  # rows at the start of each running call

    def run(self) -> None:
        modes = [(m, m.training) for m in self.model.modules()]
        handles = [
            handle
            for m in self.paths
            for handle in (m.register_forward_pre_hook(self.enter),
                           m.register_forward_hook(self.leave))
        ]  # fmt: skip
        before = mode.around
        try:
            self.model.eval()
            mode.around = self.fields
            with no_grad():
                self.model(*self.images)
        finally:
            mode.around = before
            for m, training in modes:
                m.training = training
            for handle in handles:
                handle.remove()

    def enter(self, module: Module, args: Any) -> None:
        self.flops.append(self.fields.flops)
        self.depth.append(len(self.rows))

    def leave(self, module: Module, args: Any, output: Any) -> None:
        flops, start = self.flops.pop(), self.depth.pop()
        parameters = list(module.parameters(recurse=False))
        if not parameters and (list(module.children()) or isinstance(module, Sequential)):
            return
        outputs = [output] if isinstance(output, Tensor) else list(output)
        if isinstance(module, LocalResponseNorm):  # mixes channels only, by way of a reshape
            self.fields.same(args[0], output)
        new = [p for p in parameters if id(p) not in self.counted]
        self.counted.update(map(id, new))
        inside = sum(row.flops for row in self.rows[start:])
        shapes = [t.shape[1:] for t in outputs]
        row = Row(
            self.paths[module], module._get_name(), shapes[0] if len(shapes) == 1 else shapes,
            sum(p.array.size for p in new), sum(p.array.size for p in new if p.requires_grad),
            _pair(module, "kernel_size"), _pair(module, "stride"),
            flops=self.fields.flops - flops - inside, field=self.fields.of(outputs[0]),
            output_bytes=sum(map(_bytes, outputs)),
        )  # fmt: skip
        if parameters and not new:
            row.kind += " (shared)"
        self.rows.append(row)
        self.fields.made[id(outputs[0])] = row

    def uncalled(self) -> list[Row]:
        """A row for each module with parameters that no call has shown."""
        rows = []
        for module, path in sorted(self.paths.items(), key=lambda item: item[1]):
            left = [p for p in module.parameters(recurse=False) if id(p) not in self.counted]
            self.counted.update(map(id, left))
            if left:
                size = sum(p.array.size for p in left)
                trained = sum(p.array.size for p in left if p.requires_grad)
                rows.append(Row(path, f"{module._get_name()} (not called)", (), size, trained))
        return rows


class _Watch(Fields):
    """Also knows which row made a tensor, and notes there the activation applied to it."""

    def __init__(self, image: Tensor) -> None:
        super().__init__(image)
        self.made: dict[int, Row] = {}

    def after(self, op: Op, inputs: tuple[Any, ...], result: Tensor) -> None:
        super().after(op, inputs, result)
        kind = type(op)
        row = self.made.get(id(inputs[0])) if inputs else None
        if row is not None and (kind.__module__ in _ACTIVATIONS or kind.__name__ in _ACTIVATIONS):
            row.activation = row.activation or kind.__name__.lower()


def _pair(module: Module, name: str) -> Shape | None:
    value = getattr(module, name, None)
    return (value, value) if isinstance(value, int) else None if value is None else tuple(value)


def _bytes(t: Tensor) -> int:
    """Of one sample."""
    size = t.dtype.itemsize
    for n in t.shape[1:]:
        size *= n
    return size


def _cells(row: Row) -> tuple[str, ...]:
    shapes = row.output_shape
    several = isinstance(shapes, list)
    return (
        row.name or "-",
        row.kind,
        " ".join(map(_shape, shapes)) if several else _shape(shapes),
        f"{row.parameters:,}" if row.parameters else "-",
        _times(row.kernel),
        _times(row.stride),
        row.activation or "-",
        f"{row.flops / 1e6:,.2f}" if row.flops else "-",
        _view(row.field),
    )


def _shape(shape: Shape) -> str:
    return "×".join(map(str, shape)) or "-"


def _times(sizes: Shape | None) -> str:
    return "-" if sizes is None else _shape(sizes)


def _view(seen: Field | None) -> str:
    if seen is None or not seen.size:
        return "-"
    return "all" if not any(seen.stride) else _shape(seen.size)
