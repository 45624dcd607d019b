"""Gradient checkpointing: forget a segment's intermediate values, recompute them in backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import random
from .tensor import Edge, Op, Tensor, mode


class _Segment(Op):
    """The output of a function that is run again in backward.

    Its inputs are the tensor arguments and every parameter that the function was found to use.
    """

    def __init__(self, value: Tensor, run: Callable[[], _Trace], state: tuple[int, int]) -> None:
        self.value, self.run, self.state = value, run, state

    def forward(self, kernels: Any, *arrays: Any) -> Any:
        return self.value.array

    def backward(self, grad: Tensor, out: Any) -> tuple[Tensor | None, ...]:
        from . import autograd

        create, now = mode.record, random.get_rng_state()
        random.set_rng_state(self.state)
        try:
            again, starts = self.run()
        finally:
            random.set_rng_state(now)
        ends: list[Edge] = [t.grad_fn for t in starts] + list(self.inputs[len(starts) :])
        # The walk ends where the segment starts; what lies before is the outer walk's affair.
        found = autograd._run([again.grad_fn], [grad], ends, True, create, inside=True)
        return tuple(found.get(end) for end in ends)

    def free(self) -> None:
        super().free()
        del self.run


_Trace = tuple[Tensor, list[Tensor]]


def _traced(function: Callable[..., Tensor], args: Any, kwargs: dict[str, Any]) -> _Trace:
    """The value of ``function`` with its graph, which starts at new views of the arguments."""
    from . import autograd

    starts: list[Tensor] = []

    def start(a: Any) -> Any:
        if not isinstance(a, Tensor) or not a.requires_grad:
            return a
        starts.append(a.view_as(a))
        return starts[-1]

    with autograd.enable_grad():
        made = function(*map(start, args), **{k: start(a) for k, a in kwargs.items()})
    return made, starts


def checkpoint(function: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
    """function(*args, **kwargs), keeping only its arguments; backward runs it a second time.

    Memory of the segment's intermediate values is traded for one more forward pass. Random numbers
    (dropout) repeat exactly. The function must return one tensor and have no side effects that a
    second run would spoil (batch norm would update its running statistics twice).
    """
    state = random.get_rng_state()
    probe, starts = _traced(function, args, kwargs)
    if not isinstance(probe, Tensor):
        raise TypeError(
            f"checkpoint: the function must return one tensor, received {type(probe).__name__}"
        )
    if not mode.record or not probe.requires_grad:
        return probe.detach()
    given = [a for a in (*args, *kwargs.values()) if isinstance(a, Tensor) and a.requires_grad]
    inputs = given + _leaves_behind(probe, {t.grad_fn for t in starts})
    segment = _Segment(probe.detach(), lambda: _traced(function, args, kwargs), state)
    result = segment(*inputs)
    del segment.value
    return result


def _leaves_behind(out: Tensor, stop: set[Edge]) -> list[Tensor]:
    """Leaves that ``out`` depends on other than through ``stop``, in the order found."""
    leaves: dict[Tensor, None] = {}
    stack: list[Edge] = [out.grad_fn]
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
