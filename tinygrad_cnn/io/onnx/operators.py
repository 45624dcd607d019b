"""What the ONNX operators have in common: a table by name, and what is checked in settings."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from ...geometry import Shape
from ...tensor import Tensor

Operator = Callable[..., Any]

# The largest tensor that a setting in a file can ask for, such as a padding: 1 GiB of float32.
MOST_ELEMENTS = 1 << 28


class Node(NamedTuple):
    """An operator in a graph, and how it is to be understood."""

    kind: str
    name: str
    attributes: dict[str, Any]
    opset: int
    training: bool = False
    outputs: int = 1  # how many of its results are used

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r}"

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute."""
        return self.attributes.get(name, default)


class Table(dict[str, Operator]):
    """Operators by name: ``f(node, *inputs)`` gives a tensor or a tuple of tensors.

    ``@table("Conv")`` enters a function. Where versions of an operator differ, the node's ``opset``
    says which one is meant; inputs that are left out are None or missing.
    """

    def __call__(self, *kinds: str) -> Callable[[Operator], Operator]:
        def enter(function: Operator) -> Operator:
            self.update(dict.fromkeys(kinds, function))
            return function

        return enter


def integers(t: Tensor | None) -> Shape | None:
    """The values of a tensor that holds sizes or axes."""
    return None if t is None else tuple(int(v) for v in t.reshape(-1).tolist())


def limited(shape: Shape) -> Shape:
    """``shape``, unless it is one that only a damaged or hostile file can ask for."""
    if any(n < 0 for n in shape) or math.prod(shape) > MOST_ELEMENTS:
        raise ValueError(f"the file asks for a tensor of shape {shape}")
    return shape


def only(node: Node, name: str, *allowed: Any) -> Any:
    """An attribute (its default is the first allowed value). Raises ValueError for other values."""
    value = node.get(name, allowed[0])
    if value not in allowed:
        raise ValueError(f"{node}: {name}={value!r} is not supported, only {allowed}")
    return value
