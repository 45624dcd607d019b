"""Networks as graphs of calls: make an ``Input``, call layers on it, and build a ``Model``.

    x = nn.Input((3, 32, 32))                 shapes are written without the batch dimension
    y = nn.Conv2d(3, 8, 3, padding=1)(x)      a Node; y.shape == (8, 32, 32)
    y = nn.ReLU()(y) + y                      + − · / of nodes and numbers
    model = nn.Model(x, nn.Linear(8, 10)(nn.Flatten()(nn.AdaptiveAvgPool2d(1)(y))))

A node knows its shape because each call is tried on a batch of no samples (or of one zero sample,
where a layer cannot do that), in evaluation mode and without recording.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from .. import dtypes
from ..autograd import no_grad
from ..backend import get_backend
from ..geometry import Shape
from ..ops import cat, zeros
from ..tensor import Tensor
from .calls import Symbolic
from .module import Module

_order = itertools.count()


class Lambda(Module):
    """Any function of tensors as a layer: ``nn.Lambda(tg.tanh)(x)``."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    def _get_name(self) -> str:
        name = getattr(self.function, "__name__", "").strip("_")
        return name.capitalize() if name.isidentifier() else "Lambda"


class Concatenate(Module):
    """Join tensors along ``dim``; 1 is the channel."""

    def __init__(self, dim: int = 1) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, *tensors: Tensor) -> Tensor:
        return cat(tensors, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class _Call:
    """One use of a layer (None: an input) with ``width`` results (None: one that is no tuple)."""

    def __init__(self, layer: Module | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.layer, self.args, self.kwargs, self.order = layer, args, kwargs, next(_order)
        self.width: int | None = None


class Node(Symbolic):
    """A value of the graph: ``shape`` without the batch, ``dtype``, and the call that makes it."""

    def __init__(
        self, call: _Call, index: int, shape: Shape, dtype: dtypes.DType, backend: str
    ) -> None:
        self.call, self.index, self.shape, self.dtype, self.backend = (
            call,
            index,
            shape,
            dtype,
            backend,
        )

    @property
    def place(self) -> tuple[_Call, int]:
        """Which result of which call."""
        return self.call, self.index

    def connect(self, layer: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The node (or tuple of nodes) that ``layer`` makes of ``args``."""
        if any(isinstance(v, Node) for v in kwargs.values()):
            raise TypeError(f"{layer._get_name()}: pass nodes by position, not by keyword")
        made = _probe(layer, args, kwargs)
        call = _Call(layer, args, kwargs)
        if isinstance(made, Tensor):
            return Node(call, 0, made.shape[1:], made.dtype, made.backend.name)
        call.width = len(made)
        return tuple(
            Node(call, i, t.shape[1:], t.dtype, t.backend.name) for i, t in enumerate(made)
        )

    def _with(self, function: Callable[..., Any], *args: Any) -> Node:
        return self.connect(Lambda(function), args, {})  # type: ignore[no-any-return]

    def __add__(self, other: Any) -> Node:
        return self._with(operator.add, self, other)

    def __radd__(self, other: Any) -> Node:
        return self._with(operator.add, other, self)

    def __sub__(self, other: Any) -> Node:
        return self._with(operator.sub, self, other)

    def __rsub__(self, other: Any) -> Node:
        return self._with(operator.sub, other, self)

    def __mul__(self, other: Any) -> Node:
        return self._with(operator.mul, self, other)

    def __rmul__(self, other: Any) -> Node:
        return self._with(operator.mul, other, self)

    def __truediv__(self, other: Any) -> Node:
        return self._with(operator.truediv, self, other)

    def __rtruediv__(self, other: Any) -> Node:
        return self._with(operator.truediv, other, self)

    def __neg__(self) -> Node:
        return self._with(operator.neg, self)

    def __repr__(self) -> str:
        source = "Input" if self.call.layer is None else self.call.layer._get_name()
        return f"Node({source}, shape={self.shape}, dtype={self.dtype})"


def Input(
    shape: int | Sequence[int], dtype: Any = dtypes.float32, backend: str | None = None
) -> Node:
    """The start of a graph: a batch of samples of this shape (without the batch dimension)."""
    sizes = (shape,) if isinstance(shape, int) else tuple(shape)
    name = get_backend().name if backend is None else backend
    return Node(_Call(None, (), {}), 0, sizes, dtypes.as_dtype(dtype), name)


def concatenate(nodes: Sequence[Node], dim: int = 1) -> Node:
    """The node of several joined along ``dim``, the batch being dimension 0."""
    if not nodes or not all(isinstance(n, Node) for n in nodes):
        raise TypeError(f"concatenate: expected nodes, received {nodes!r}; use tg.cat for tensors")
    return nodes[0].connect(Concatenate(dim), tuple(nodes), {})  # type: ignore[no-any-return]


def _probe(layer: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What the layer makes of zeros of the nodes' shapes, leaving its state alone."""
    modes = [(m, m.training) for m in layer.modules()]
    layer.eval()
    try:
        with no_grad():
            for batch in (0, 1):
                try:
                    return _run_on(batch, layer, args, kwargs)
                except (ValueError, TypeError, IndexError, RuntimeError):
                    if batch:  # wrong with any batch
                        raise
    finally:
        for module, training in modes:
            module.training = training


def _run_on(batch: int, layer: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    made = layer(*(_zeros(batch, a) if isinstance(a, Node) else a for a in args), **kwargs)
    for t in (made,) if isinstance(made, Tensor) else tuple(made):
        if not isinstance(t, Tensor) or t.shape[:1] != (batch,):
            raise ValueError(
                f"{layer._get_name()}: a layer of a graph must keep dimension 0, the batch; "
                f"for a batch of {batch} it returned {getattr(t, 'shape', type(t).__name__)}"
            )
    return made


def _zeros(batch: int, node: Node) -> Tensor:
    return zeros(batch, *node.shape, dtype=node.dtype, backend=node.backend)


class _Step(NamedTuple):
    """values[target …] = layer(*values[sources]); then values[i] = None for i in done."""

    name: str
    sources: tuple[int, ...]
    kwargs: dict[str, Any]
    target: int
    width: int | None  # of a tuple of results
    done: tuple[int, ...]


class Model(Module):
    """The network between ``inputs`` and ``outputs``, each one node or a list of nodes.

    Called on as many tensors as there are inputs, it returns a tensor, or a tuple for a list of
    outputs. A layer used several times is one child, whose parameters are shared. Children are
    called by their class and a number (``conv2d``, ``conv2d_1``, …) in the order in which they were
    first called.

    >>> from tinygrad_cnn import nn
    >>> x = nn.Input(4)
    >>> model = nn.Model(x, nn.Linear(4, 4)(x) + x)
    >>> model
    Model(
      (linear): Linear(in_features=4, out_features=4, bias=True)
      (add): Add()
    )

    Raises ValueError when an output needs an input that is not listed, or an input leads to no
    output.
    """

    def __init__(self, inputs: Node | Sequence[Node], outputs: Node | Sequence[Node]) -> None:
        super().__init__()
        self._single = isinstance(outputs, Node)
        starts, ends = _nodes(inputs, "inputs"), _nodes(outputs, "outputs")
        self._compile(starts, _calls_between(starts, ends), ends)

    def _compile(self, starts: list[Node], calls: list[_Call], ends: list[Node]) -> None:
        """Give every value and constant a slot, every layer a name, every call a step."""
        slot = {node.place: i for i, node in enumerate(starts)}
        values: list[Any] = [None] * len(starts)  # before a run: the constants
        names: dict[Module, str] = {}
        steps: list[_Step] = []
        for call in calls:
            sources = []
            for a in call.args:
                if not isinstance(a, Node):
                    values.append(a)
                sources.append(slot[a.place] if isinstance(a, Node) else len(values) - 1)
            assert call.layer is not None
            name = names.get(call.layer) or self._add(call.layer)
            names[call.layer] = name
            steps.append(_Step(name, tuple(sources), call.kwargs, len(values), call.width, ()))
            for i in range(1 if call.width is None else call.width):
                slot.setdefault((call, i), len(values))
                values.append(None)
        self._count, self._values = len(starts), values
        self._ends = tuple(slot[node.place] for node in ends)
        last = {i: n for n, step in enumerate(steps) for i in step.sources}
        self._steps = tuple(
            step._replace(
                done=tuple(i for i, end in last.items() if end == n and i not in self._ends)
            )
            for n, step in enumerate(steps)
        )

    def _add(self, layer: Module) -> str:
        base = name = layer._get_name().lower()
        number = 0
        while hasattr(self, name):
            number += 1
            name = f"{base}_{number}"
        self.register_module(name, layer)
        return name

    def forward(self, *inputs: Tensor) -> Any:
        if len(inputs) != self._count:
            raise TypeError(f"Model: expected {self._count} inputs, received {len(inputs)}")
        values = self._values.copy()
        values[: self._count] = inputs
        layers = self.__dict__
        for name, sources, kwargs, target, width, done in self._steps:
            made = layers[name](*[values[i] for i in sources], **kwargs)
            if width is None:
                values[target] = made
            else:
                values[target : target + width] = made
            for i in done:  # let go of what nothing needs any more
                values[i] = None
        results = tuple(values[i] for i in self._ends)
        return results[0] if self._single else results


def _nodes(given: Node | Sequence[Node], what: str) -> list[Node]:
    found = [given] if isinstance(given, Node) else list(given)
    if not found or not all(isinstance(n, Node) for n in found):
        raise TypeError(f"Model: {what}: expected one or more nodes, received {given!r}")
    return found


def _calls_between(starts: list[Node], ends: list[Node]) -> list[_Call]:
    """The calls that compute the ends from the starts, in the order in which they were made."""
    given = {node.place for node in starts}
    used: set[tuple[_Call, int]] = set()
    calls: set[_Call] = set()
    stack = list(ends)
    while stack:
        node = stack.pop()
        used.add(node.place)
        if node.place in given or node.call in calls:
            continue
        if node.call.layer is None:
            raise ValueError(
                "Model: the graph is disconnected: the outputs need an input of shape "
                f"{node.shape} that is not among the inputs"
            )
        calls.add(node.call)
        stack.extend(a for a in node.call.args if isinstance(a, Node))
    for i, node in enumerate(starts):
        if node.place not in used:
            raise ValueError(
                f"Model: the graph is disconnected: no output depends on input {i} "
                f"of shape {node.shape}"
            )
    return sorted(calls, key=operator.attrgetter("order"))
