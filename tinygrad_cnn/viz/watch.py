"""Seeing inside a model while it computes, by forward hooks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from ..construct import tensor
from ..nn import Module
from ..tensor import Tensor
from .canvas import host


class Call(NamedTuple):
    """One call of a layer: its path in the model, itself, its first argument and its output."""

    name: str
    layer: Module
    input: Any
    output: Tensor


@contextmanager
def recording(model: Module) -> Iterator[list[Call]]:
    """The calls of all layers below ``model``, in the order in which they end.

    A call that does not give exactly one tensor is left out; a layer called twice is there twice.
    """
    calls: list[Call] = []

    def hook(name: str) -> Any:
        def seen(layer: Module, args: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                calls.append(Call(name, layer, args[0] if args else None, output))

        return seen

    handles = [m.register_forward_hook(hook(name)) for name, m in model.named_modules() if name]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def batch_for(model: Module, x: Any) -> Tensor:
    """``x`` (N, …) with the dtype and backend of the model's parameters, a copy of its own."""
    parameter = next(model.parameters(), None)
    if parameter is None:
        return tensor(host(x))
    return tensor(host(x), dtype=parameter.dtype, backend=parameter.backend)
