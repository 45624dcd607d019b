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

from .backend import Array, Backend
from .dtypes import DType
from .geometry import Shape
from .tensor import Around, Op, Tensor, mode, next_age

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
            op.keep_output(self)
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
        before = self.grad_fn
        self.__dict__.clear()
        self.__dict__.update(made.__dict__)
        if before is not None and self.grad_fn is not None and self._retained_by(before):
            before.kept, self.grad_fn.kept = None, before.kept
        object.__setattr__(self, "__class__", type(made))
        if isinstance(mode.around, Fusion):
            mode.around.waiting.append(weakref.ref(self))
        return self


class Fusion(Around):
    """While a module runs: operations wait here for their consumer."""

    def __init__(self) -> None:
        self.waiting: list[weakref.ref[Deferred]] = []

    def before(self, op: Op, inputs: tuple[Any, ...]) -> Tensor | None:
        return fuse(op, inputs) if self.waiting else None

    def later(self, op: Op, inputs: tuple[Any, ...], kernels: Backend) -> Deferred | None:
        made = Deferred.__new__(Deferred)
        made.op, made.operands, made.backend = op, inputs, kernels
        made._shape, made._dtype = op.output_shape(*inputs), inputs[0].dtype
        self.waiting.append(weakref.ref(made))
        return made

    def flush(self) -> None:
        """Run everything that waits and that somebody still holds."""
        waiting, self.waiting = self.waiting, []
        for reference in waiting:
            t = reference()
            if type(t) is Deferred:
                t.array  # noqa: B018  (runs the operation)


def fuse(op: Op, inputs: tuple[Any, ...]) -> Tensor | None:
    """``op`` and the waiting operation that made one of its first two inputs as one, if there is a
    rule for the two."""
    for t in inputs[:2]:
        if type(t) is Deferred:
            rule = RULES.get((type(op), type(t.op)))
            if rule is not None:
                return rule(op, t, inputs)
    return None


def take_over(op: Op, t: Deferred) -> Tensor:
    """The output of ``op`` on the operands of the operation that made ``t`` wait, which it contains
    and replaces: their place in the graph is known already."""
    first = t.op
    made: Tensor
    if op.deferrable and isinstance(mode.around, Fusion):
        made = late = Deferred.__new__(Deferred)
        late.op, late.operands, late._shape, late._dtype = op, t.operands, t._shape, t._dtype
        late.backend = t.backend
        mode.around.waiting.append(weakref.ref(late))
    else:
        arrays = [o.array if isinstance(o, Tensor) else o for o in t.operands]
        made = Tensor._wrap(op.forward(t.backend, *arrays), t.backend)
    if t.grad_fn is first and mode.record:
        op.edges, op.made, op.age = first.edges, made.shape, next_age()
        op.inputs, op.versions = first.inputs, first.versions
        made.requires_grad, made.grad_fn = True, op
        if op.saves_output and type(made) is Tensor:
            op.keep_output(made)
    return made


def fusing(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """function(*args, **kwargs), in which operations may wait for their consumer."""
    if mode.around is not None or not _enabled:
        return function(*args, **kwargs)
    mode.around = fusion = Fusion()
    try:
        result = function(*args, **kwargs)
        fusion.flush()
    finally:
        mode.around = None
    return result
