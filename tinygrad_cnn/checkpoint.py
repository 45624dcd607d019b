"""Gradient checkpointing: forget a segment's intermediate values, recompute them in backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import random
from .tensor import Edge, Op, Tensor, mode


class _Segment(Op):
    """One output of a function that is run again in backward.

    Its inputs are the tensor arguments and every parameter that the function was found to use.
    """

    def __init__(self, run: Callable[..., Tensor], value: Tensor, state: tuple[int, int]) -> None:
        self.run, self.value, self.state = run, value, state

    def forward(self, kernels: Any, *arrays: Any) -> Any:
        return self.value.array

    def backward(self, grad: Tensor, out: Any) -> tuple[Tensor | None, ...]:
        from . import autograd

        create, now = mode.record, random.get_rng_state()
        random.set_rng_state(self.state)
        try:
            with autograd.enable_grad():
                again = self.run()
        finally:
            random.set_rng_state(now)
        wanted = [t for t, need in zip(self.inputs, self.needs, strict=True) if need]
        # The walk stays inside the segment, and what lies before it is still needed by the walk
        # that called this one: nothing may be freed here.
        found = iter(autograd.grad(again, wanted, grad, True, create, allow_unused=True))
        return tuple(next(found) if need else None for need in self.needs)

    def free(self) -> None:
        super().free()
        del self.run


def checkpoint(function: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
    """function(*args, **kwargs), keeping only its arguments; backward runs it a second time.

    Memory of the segment's intermediate values is traded for one more forward pass. Random numbers
    (dropout) repeat exactly. The function must return one tensor and have no side effects that a
    second run would spoil (batch norm would update its running statistics twice).
    """
    from . import autograd

    state = random.get_rng_state()
    with autograd.enable_grad():
        probe = function(*args, **kwargs)
    if not isinstance(probe, Tensor):
        raise TypeError(
            f"checkpoint: the function must return one tensor, received {type(probe).__name__}"
        )
    if not mode.record or not probe.requires_grad:
        return probe.detach()
    given = [a for a in (*args, *kwargs.values()) if isinstance(a, Tensor) and a.requires_grad]
    inputs = given + _leaves_behind(probe, {a.grad_fn or a for a in given})
    segment = _Segment(lambda: function(*args, **kwargs), probe.detach(), state)
    result = segment(*inputs)
    del segment.value
    return result


def _leaves_behind(out: Tensor, stop: set[Edge]) -> list[Tensor]:
    """Leaves that ``out`` depends on other than through ``stop``, in the order found."""
    leaves: dict[Tensor, None] = {}
    stack: list[Edge] = [out.grad_fn or out]
    seen = set(stop)
    while stack:
        edge = stack.pop()
        if edge in seen:
            continue
        seen.add(edge)
        if isinstance(edge, Tensor):
            leaves[edge] = None
        else:
            stack.extend(e for e in edge.edges if e is not None)
    return list(leaves)
