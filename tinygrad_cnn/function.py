"""Users' own operations, in PyTorch's form."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

from .tensor import Op, Tensor, mode


class _Context:
    """The ``ctx`` of a user's forward and backward."""

    def __init__(self) -> None:
        self.saved: tuple[Tensor | None, ...] = ()
        self.versions: list[int] = []
        self.constant: tuple[Tensor, ...] = ()
        self.needs_input_grad: tuple[bool, ...] = ()

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep tensors for backward; a later in-place change of one is noticed."""
        self.saved = tensors
        self.versions = [0 if t is None else t.version for t in tensors]

    @property
    def saved_tensors(self) -> tuple[Tensor | None, ...]:
        self.check()
        return self.saved

    def check(self) -> None:
        for i, (t, version) in enumerate(zip(self.saved, self.versions, strict=True)):
            if t is not None and t.version != version:
                raise RuntimeError(
                    f"saved tensor {i} {t.shape} was changed in place since save_for_backward"
                )

    def mark_non_differentiable(self, *tensors: Tensor) -> None:
        """These outputs have no gradient."""
        self.constant = tensors


class _User(Op):
    """The node of a user's function: all differentiable outputs in one flat vector (an Op has one
    output).
    """

    saves_inputs, saves_output = False, True

    def __init__(self, function: type[Function], arguments: tuple[Any, ...]) -> None:
        self.function, self.arguments, self.ctx = function, arguments, _Context()
        self.tensors = tuple(isinstance(a, Tensor) for a in arguments)
        self.ctx.needs_input_grad = tuple(
            isinstance(a, Tensor) and a.requires_grad for a in arguments
        )
        self.outputs: tuple[Tensor, ...] = ()

    @property
    def name(self) -> str:
        return self.function.__name__

    def forward(self, kernels: Any, *arrays: Any) -> Any:
        before, mode.record = mode.record, False
        try:
            made = self.function.forward(self.ctx, *self.arguments)
        finally:
            mode.record = before
        del self.arguments
        self.single = isinstance(made, Tensor)
        self.outputs = (made,) if isinstance(made, Tensor) else tuple(made)
        for out in self.outputs:
            if not isinstance(out, Tensor):
                raise TypeError(
                    f"{self.name}.forward must return tensors, received {type(out).__name__}"
                )
        self.flat = [
            t
            for t in self.outputs
            if t.dtype.kind == "f" and not any(t is c for c in self.ctx.constant)
        ]
        if not self.flat:
            return kernels.empty((0,), "float32")
        return kernels.concatenate(
            [kernels.reshape(t.array, (t.array.size,)) for t in self.flat], 0
        )

    def backward(self, grad: Tensor, out: Tensor) -> tuple[Tensor | None, ...]:
        pieces = dict(zip(map(id, self.flat), _unflatten(grad, self.flat), strict=True))
        ctx = self.ctx
        if mode.record and ctx.saved:  # a saved output must be tied to this operation
            tied = dict(zip(map(id, self.flat), _unflatten(out, self.flat), strict=True))
            ctx = copy.copy(ctx)
            ctx.check()
            ctx.saved = tuple(tied.get(id(t), t) for t in ctx.saved)
            ctx.versions = [0 if t is None else t.version for t in ctx.saved]
        parts = self.function.backward(ctx, *(pieces.get(id(t)) for t in self.outputs))
        parts = parts if isinstance(parts, tuple | list) else (parts,)
        if len(parts) != len(self.tensors):
            raise ValueError(
                f"{self.name}.backward must return {len(self.tensors)} gradients, "
                "one an argument of forward, "
                f"received {len(parts)}"
            )
        return tuple(p for p, a in zip(parts, self.tensors, strict=True) if a)

    def free(self) -> None:
        super().free()
        self.ctx.saved, self.ctx.versions = (), []


def _unflatten(flat: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    from .ops.elementwise import cast

    pieces, start = [], 0
    for t in like:
        size = math.prod(t.shape)
        pieces.append(cast(flat[start : start + size], t.dtype).reshape(t.shape))
        start += size
    return pieces


class Function:
    """Base class of an operation of your own.

    Write two static methods on tensors: ``forward(ctx, *args)`` returns one tensor or a tuple, and
    ``backward(ctx, *grad_outputs)`` returns one gradient (or None) an argument; call it as
    ``Name.apply(*args)``. Written in Tensor operations, the backward is differentiable again. Check
    it with ``tg.gradcheck``.

    >>> import tinygrad_cnn as tg
    >>> class Cube(tg.autograd.Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         ctx.save_for_backward(x)
    ...         return x * x * x
    ...     @staticmethod
    ...     def backward(ctx, grad):
    ...         (x,) = ctx.saved_tensors
    ...         return 3 * x * x * grad
    >>> x = tg.tensor([2.0], requires_grad=True, backend="numpy")
    >>> Cube.apply(x).backward()
    >>> x.grad.tolist()
    [12.0]
    """

    @staticmethod
    def forward(ctx: Any, *args: Any) -> Any:
        raise NotImplementedError("a Function needs a static forward(ctx, *args)")

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        raise NotImplementedError("this Function has no static backward(ctx, *grad_outputs)")

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """Run ``forward`` and record the operation."""
        node = _User(cls, args)
        tensors = [a for a in args if isinstance(a, Tensor)]
        if not tensors:
            raise TypeError(f"{cls.__name__}.apply needs at least one tensor argument")
        flat = node(*tensors)
        if flat.grad_fn is not None:
            pieces = dict(zip(map(id, node.flat), _unflatten(flat, node.flat), strict=True))
        else:
            pieces = {}
        results = tuple(pieces.get(id(t), t) for t in node.outputs)
        return results[0] if node.single else results
