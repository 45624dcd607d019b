"""Fusion: an operation waits until its consumer is known, and runs together with it.

Inside the forward of a module, convolution, linear and batch norm do not run at once: they give a
``Deferred`` tensor with shape, dtype and place in the graph. When the next operation has a rule for
it (``ops/fused.py``: ReLU after convolution, ReLU after batch norm + residual, …), one fused
operation takes over, and the value in between is never written to memory. Whoever looks at the
value first (any other operation, ``print``, a forward hook, the end of the outermost module) makes
it run as written. Nothing else changes: the graph keeps the parts, so hooks on a tensor in between
still see its gradient, and ``create_graph`` uses the rules of the parts.

``set_fusion(False)`` switches it off; ``detect_anomaly`` does so while it runs.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from .backend import Array
from .dtypes import DType
from .geometry import Shape
from .tensor import Op, Tensor, mixed_backends, mode

Rule = Callable[[Op, "Deferred", tuple[Any, ...]], "Tensor | None"]
RULES: dict[tuple[type[Op], type[Op]], Rule] = {}  # (consumer, waiting operation); see ops/fused.py
_enabled = True


def set_fusion(enabled: bool) -> None:
    """Let modules fuse operations (the default), or run every operation as it is written."""
    global _enabled
    _enabled = bool(enabled)


def is_fusion_enabled() -> bool:
    """Whether modules fuse operations."""
    return _enabled


class Deferred(Tensor):
    """The output of an operation that has not run; it becomes a plain Tensor when it has."""

    op: Op
    operands: tuple[Any, ...]
    _shape: Shape
    _dtype: DType

    @property
    def array(self) -> Array:
        """The values: run the operation now."""
        op, operands = self.op, self.operands
        made = op.forward(
            self.backend, *(t.array if isinstance(t, Tensor) else t for t in operands)
        )
        del self.op, self.operands, self._shape, self._dtype
        object.__setattr__(self, "__class__", Tensor)
        self.array = made
        if op.saves_output and self.grad_fn is op:
            op.array, op.counter = made, self._version_list()
        return made

    @array.setter
    def array(self, value: Array) -> None:
        self.__dict__["array"] = value

    @property
    def shape(self) -> Shape:
        return self._shape

    @property
    def ndim(self) -> int:
        return len(self._shape)

    @property
    def dtype(self) -> DType:
        return self._dtype

    def inplace(self, function: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Any:
        """In place on a value that nobody has seen: become the result, fused or not."""
        made = fuse(function, (self,)) if isinstance(function, Op) else None
        if made is None:
            self.array  # noqa: B018  (runs the operation and makes this a plain tensor)
            return self.inplace(function, *args, **kwargs)
        self.__dict__.clear()
        self.__dict__.update(made.__dict__)
        object.__setattr__(self, "__class__", type(made))
        mode.waiting.append(weakref.ref(self))
        return self


def defer(op: Op, inputs: tuple[Any, ...]) -> Deferred:
    """The output of ``op``, to be computed later; the inputs are computed now."""
    x = inputs[0]
    made = Deferred.__new__(Deferred)
    made.op, made.operands, made.backend = op, inputs, x.backend
    made._shape, made._dtype = op.output_shape(*inputs), x.array.dtype
    record = False
    for t in inputs:
        if isinstance(t, Tensor):
            if t.backend is not x.backend:
                raise mixed_backends(op, inputs)
            record = record or t.requires_grad
    if record and mode.record:
        op._record(inputs, made)
    mode.waiting.append(weakref.ref(made))
    return made


def fuse(op: Op, inputs: tuple[Any, ...]) -> Tensor | None:
    """``op`` and a waiting operation that made one of its first two inputs as one, if there is a
    rule.
    """
    for t in inputs[:2]:
        if type(t) is Deferred:
            rule = RULES.get((type(op), type(t.op)))
            if rule is not None:
                return rule(op, t, inputs)
    return None


def flush() -> None:
    """Run everything that waits and that somebody still holds."""
    waiting, mode.waiting = mode.waiting, []
    for reference in waiting:
        t = reference()
        if type(t) is Deferred:
            t.array  # noqa: B018  (runs the operation)


def fusing(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """function(*args, **kwargs), in which operations may wait for their consumer."""
    if mode.fusing or not _enabled or mode.anomaly is not None:
        return function(*args, **kwargs)
    mode.fusing = True
    try:
        result = function(*args, **kwargs)
        flush()
    finally:
        mode.fusing = False
        mode.waiting.clear()
    return result
