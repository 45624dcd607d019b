"""The module that runs the graph of an ONNX file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ...nn import Module, Parameter
from ...tensor import Tensor
from .layers import LAYERS
from .operators import Node
from .shapes import SHAPES

OPERATORS = LAYERS | SHAPES


class State(NamedTuple):
    """A tensor of the file: learned, kept in the state beside what is learned, or a constant."""

    name: str
    value: Tensor
    learned: bool
    kept: bool


class Step(NamedTuple):
    """A node, the values it takes and makes, and those that nobody needs after it."""

    node: Node
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    done: tuple[str, ...]


class OnnxModel(Module):
    """The graph of an ONNX file; see ``tinygrad_cnn.onnx.load``.

    Called with the graph's inputs in their order (``input_names``); returns its output, or a tuple
    of several. The state lies in submodules by the names in the file: an initialiser
    "features.0.weight" is ``model.features`` → ``"0"`` → ``weight``.
    """

    def __init__(
        self, name: str, inputs: Sequence[tuple[str, tuple[int | None, ...] | None]],
        outputs: Sequence[str], state: Sequence[State],
        nodes: Sequence[tuple[Node, tuple[str, ...], tuple[str, ...]]],
    ) -> None:  # fmt: skip
        super().__init__()
        self.name, self.inputs = name, list(inputs)
        self.input_names = [name for name, _ in inputs]
        self.output_names = list(outputs)
        self.steps = _steps(nodes, {*outputs, *(entry.name for entry in state)})
        self.places: dict[str, tuple[Module, str]] = {}
        for entry in state:
            self.places[entry.name] = self._place(entry)
        self.eval()

    def _place(self, entry: State) -> tuple[Module, str]:
        """Put a tensor where its name says; returns the submodule and the attribute."""
        owner: Module = self
        *folders, last = map(_attribute, entry.name.split("."))
        for part in folders:
            while not isinstance(owner.__dict__.get(part), Module | None):
                part += "_"  # a tensor or a list of ours has this name
            if part not in owner.__dict__:
                owner.register_module(part, Module())
            owner = owner.__dict__[part]
        while last in owner.__dict__ or hasattr(owner, last):
            last += "_"
        if entry.learned:
            owner.register_parameter(last, Parameter(entry.value))
        else:
            owner.register_buffer(last, entry.value, persistent=entry.kept)
        return owner, last

    def forward(self, *inputs: Tensor) -> Any:
        """Run the nodes in order, forgetting each value after its last use."""
        self._check(inputs)
        values: dict[str, Any] = {name: getattr(*place) for name, place in self.places.items()}
        values.update(zip(self.input_names, inputs, strict=True))
        del inputs
        for step in self.steps:
            node = step.node._replace(training=True) if self.training else step.node
            try:
                made = OPERATORS[node.kind](node, *(values[n] if n else None for n in step.inputs))
            except (ValueError, TypeError, IndexError, RuntimeError) as error:
                error.add_note(f"in {node}")
                raise
            results = made if isinstance(made, tuple) else (made,)
            values.update(zip(step.outputs, results, strict=False))
            del made, results
            for name in step.done:
                values.pop(name, None)
        found = tuple(values[name] for name in self.output_names)
        return found[0] if len(found) == 1 else found

    def _check(self, inputs: Sequence[Tensor]) -> None:
        if len(inputs) != len(self.inputs):
            raise TypeError(
                f"expected {len(self.inputs)} inputs ({', '.join(self.input_names)}), received "
                f"{len(inputs)}"
            )
        for (name, sizes), x in zip(self.inputs, inputs, strict=True):
            if sizes is not None and (
                len(sizes) != x.ndim
                or any(n not in (None, m) for n, m in zip(sizes[1:], x.shape[1:], strict=True))
            ):
                shown = ", ".join("N" if not i else str(n or "?") for i, n in enumerate(sizes))
                raise ValueError(f"input {name!r}: expected shape ({shown}), received {x.shape}")

    def _get_name(self) -> str:
        return f"OnnxModel {self.name}"


def _attribute(part: str) -> str:
    """A piece of a name in a file as an attribute of a module that is not one already."""
    return f"{part}_" if not part or part.startswith("_") or hasattr(Module, part) else part


def _steps(
    nodes: Sequence[tuple[Node, tuple[str, ...], tuple[str, ...]]], kept: set[str]
) -> list[Step]:
    last: dict[str, int] = {}
    for i, (_, inputs, outputs) in enumerate(nodes):
        last.update(dict.fromkeys((*outputs, *inputs), i))
    done: list[list[str]] = [[] for _ in nodes]
    for name, i in last.items():
        if name and name not in kept:
            done[i].append(name)
    return [
        Step(node._replace(outputs=_used(outputs)), inputs, outputs, tuple(names))
        for (node, inputs, outputs), names in zip(nodes, done, strict=True)
    ]


def _used(outputs: tuple[str, ...]) -> int:
    return max((i + 1 for i, name in enumerate(outputs) if name), default=0)
