"""Reverse-mode differentiation: walk the recorded graph from outputs to leaves.

``backward`` adds gradients to ``.grad`` of leaves; ``grad`` returns them and writes nowhere. With
``create_graph=True`` the derivative rules themselves are recorded, which gives derivatives of every
order.

Why an order at all? An operation may run backward only when the gradients of *all* its uses have
been added up. Every operation is younger than its inputs, so "youngest first" is such an order,
found without recursion.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Sequence
from contextlib import ContextDecorator
from heapq import heappop, heappush
from operator import attrgetter
from typing import Any

import numpy as np

from .anomaly import Anomaly, detect_anomaly
from .checkpoint import checkpoint
from .derivatives import hessian, hvp, jacobian, jvp, vjp
from .function import Function
from .geometry import Shape, broadcast_axes
from .tensor import Edge, Op, Tensor, mode

__all__ = [
    "Anomaly", "Function", "backward", "checkpoint", "detect_anomaly", "enable_grad", "grad",
    "hessian", "hvp",
    "inference_mode", "is_grad_enabled", "jacobian", "jvp", "no_grad", "set_grad_enabled", "vjp",
]  # fmt: skip


class _Switch(ContextDecorator):
    """A re-usable ``with`` block (and decorator) that sets recording and restores what was
    before.
    """

    record = False

    def __init__(self) -> None:
        self.before: list[bool] = []

    def __enter__(self) -> None:
        self.before.append(mode.record)
        mode.record = self.record

    def __exit__(self, *_: object) -> None:
        mode.record = self.before.pop()

    def __call__(self, function: Callable[..., Any]) -> Any:
        """Decorate a function, so that its body runs inside; of a generator, every step does."""
        if not inspect.isgeneratorfunction(function):
            return super().__call__(function)

        @functools.wraps(function)
        def steps(*args: Any, **kwargs: Any) -> Any:
            running, sent = function(*args, **kwargs), None
            while True:
                with self._recreate_cm():
                    try:
                        made = running.send(sent)
                    except StopIteration as end:
                        return end.value
                sent = yield made

        return steps

    def _recreate_cm(self) -> _Switch:
        fresh = type(self).__new__(type(self))
        fresh.record, fresh.before = self.record, []
        return fresh


class _PlainSwitch(_Switch):
    """One without arguments, so that ``@no_grad`` works as well as ``@no_grad()``."""

    def __new__(cls, function: Callable[..., Any] | None = None) -> Any:
        made = super().__new__(cls)
        if function is None:
            return made
        made.__init__()  # type: ignore[misc]
        return made(function)


class no_grad(_PlainSwitch):  # noqa: N801  (PyTorch's name)
    """``with no_grad():`` nothing is recorded."""


class enable_grad(_PlainSwitch):  # noqa: N801
    """``with enable_grad():`` recording is on again inside ``no_grad``."""

    record = True


class inference_mode(_Switch):  # noqa: N801
    """``no_grad`` for code whose results will never be differentiated."""

    def __init__(self, mode: bool = True) -> None:
        super().__init__()
        self.record = not mode


class set_grad_enabled(_Switch):  # noqa: N801
    """Switch recording on or off in this thread: ``with set_grad_enabled(False):``, a decorator, or
    a plain call.
    """

    def __init__(self, enabled: bool) -> None:
        super().__init__()
        self.record = enabled
        self.at_call = mode.record
        mode.record = enabled

    def __enter__(self) -> None:
        self.before.append(getattr(self, "at_call", mode.record))
        mode.record = self.record

    def __call__(self, function: Callable[..., Any]) -> Any:
        mode.record = self.at_call  # a decorator switches nothing by itself
        return super().__call__(function)


def is_grad_enabled() -> bool:
    """Whether operations are being recorded in this thread."""
    return mode.record


def backward(
    tensors: Tensor | Sequence[Tensor],
    grad_tensors: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Sequence[Tensor] | Tensor | None = None,
) -> None:
    """Add the derivative of Σ tensorsᵢ·grad_tensorsᵢ to ``.grad`` of every leaf (or of ``inputs``
    only).

    The graph is freed unless ``retain_graph`` (default: ``create_graph``). Raises RuntimeError when
    a tensor has no graph, when a non-scalar has no gradient, when the graph was freed, or when a
    saved tensor was changed in place.
    """
    roots, seeds = _roots(tensors, grad_tensors)
    targets = None if inputs is None else [_key(t) for t in _listed(inputs)]
    retain = create_graph if retain_graph is None else retain_graph
    found = _run(roots, seeds, targets, retain, create_graph)
    if inputs is not None:
        for t in _listed(inputs):
            if t.grad_fn is not None and t.grad_fn in found:
                _write_grad(t, [found[t.grad_fn]], create_graph)
    del seeds
    while found:
        edge, *cell = found.popitem()
        if isinstance(edge, Tensor):
            _write_grad(edge, cell, create_graph)


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> tuple[Any, ...]:
    """The derivatives of Σ outputsᵢ·grad_outputsᵢ with respect to ``inputs``, as a tuple; ``.grad``
    is not touched.

    Raises RuntimeError for an input that was not used (None instead with ``allow_unused``), and as
    ``backward`` does.

    >>> import tinygrad_cnn as tg
    >>> x = tg.tensor(3.0, requires_grad=True, backend="numpy")
    >>> (dy,) = tg.autograd.grad(x ** 3, x, create_graph=True)
    >>> tg.autograd.grad(dy, x)[0].item()      # d²(x³)/dx² = 6x
    18.0
    """
    roots, seeds = _roots(outputs, grad_outputs)
    wanted = _listed(inputs)
    for i, t in enumerate(wanted):
        if not t.requires_grad:
            raise RuntimeError(f"grad: input {i} {t.shape} does not require gradients")
    keys = [_key(t) for t in wanted]
    found = _run(
        roots, seeds, keys, create_graph if retain_graph is None else retain_graph, create_graph
    )
    missing = [i for i, key in enumerate(keys) if key not in found]
    if missing and not allow_unused:
        raise RuntimeError(
            f"grad: input {missing[0]} {wanted[missing[0]].shape} was not used to compute the "
            "outputs; "
            "pass allow_unused=True to get None for it"
        )
    return tuple(found.get(key) for key in keys)


# ------------------------------------------------------------------------------------------------
# The walk
# ------------------------------------------------------------------------------------------------
def _run(
    roots: Sequence[Edge],
    seeds: Sequence[Tensor],
    targets: Sequence[Edge] | None,
    retain: bool,
    create: bool,
    inside: bool = False,
) -> dict[Edge, Tensor]:
    """Send the seed gradients back; returns the gradient of every leaf, or of the ``targets``
    only. With ``inside`` nothing passes through a target.
    """
    needed = None if targets is None else _leading_to(targets, roots, inside)
    wanted = () if targets is None else frozenset(targets)
    sums = _Sums(create)
    for root, seed in zip(roots, seeds, strict=True):
        sums.add(root, seed, root)
    found: dict[Edge, Tensor] = {}
    op: Op | None = None
    before, mode.record, mode.around = (mode.record, mode.around), create, mode.anomaly
    ready, waiting = sums.ready, sums.waiting
    try:
        while ready:
            op = heappop(ready)[1]
            total = waiting.pop(op)
            if op.hooks or op.kept is not None:
                total = observe(op, total)
            if op in wanted:
                found[op] = total
            inner = [part for part in op.parts if part in wanted] if wanted else []
            if needed is not None:
                needs = [e in needed for e in op.edges]
                if op not in needed or not (True in needs or inner):
                    continue
                op.needs = needs
            if not op.edges:
                raise _freed(op)
            for part_op in inner:
                part_op.hooks = {**(part_op.hooks or {}), _CAPTURE: _capture(found, part_op)}
            parts = _derivative(op, total, create)
            for part_op in inner:
                (part_op.hooks or {}).pop(_CAPTURE)
            for edge, part in zip(op.edges, parts, strict=True):
                if part is not None and edge is not None and (needed is None or edge in needed):
                    sums.add(edge, part, op)
            if needed is not None:
                op.needs = None
            if not retain:
                op.free()
        for leaf, total in waiting.items():
            if needed is None or leaf in wanted:
                for hook in list((leaf._hooks or {}).values()):
                    total = _replaced(hook(total), total)
                found[leaf] = total
    finally:
        mode.record, mode.around = before
        if op is not None:
            op.needs = None
    return found


_CAPTURE = 0  # the key of the hook below; those of users are negative


def _capture(found: dict[Edge, Tensor], op: Op) -> Callable[[Tensor], None]:
    """A hook that notes the gradient of an output between the parts of a fused operation."""

    def note(total: Tensor) -> None:
        found[op] = total

    return note


class _Sums:
    """Gradients that wait for the rest of their sum, and the operations they wait at.

    ``ready`` is a heap with the youngest operation on top: when it is taken, all that used its
    output have been there. Sums made here are added to in place.
    """

    def __init__(self, create: bool) -> None:
        self.waiting: dict[Edge, Tensor] = {}
        self.ready: list[tuple[int, Op]] = []
        self.ours: set[Edge] = set()
        self.create = create

    def add(self, edge: Edge, part: Tensor, source: Op) -> None:
        """Add what ``source`` sends to ``edge``, summed to its shape."""
        inner = isinstance(edge, Op)
        shape = edge.made if inner else edge.array.shape
        if part.array.shape != shape:
            part = _unbroadcast(source, part, shape)
        waiting = self.waiting
        if edge not in waiting:
            waiting[edge] = part
            if inner:
                heappush(self.ready, (edge.age, edge))
        elif edge in self.ours:
            before = waiting[edge]
            before.backend.add(before.array, part.array, out=before.array)
        else:
            waiting[edge] = waiting[edge] + part
            if not self.create:
                self.ours.add(edge)


def _freed(op: Op) -> RuntimeError:
    return RuntimeError(
        f"backward through {op.name} a second time: its graph was freed after the first; "
        "call backward(retain_graph=True) the first time to keep it"
    )


def _leading_to(targets: Sequence[Edge], roots: Sequence[Edge], inside: bool) -> set[Edge]:
    """The targets and the operations through which a gradient reaches one."""
    ends = frozenset(targets) if inside else frozenset()
    youngest = max((t.age if isinstance(t, Op) else 1 for t in targets), default=1)
    found: set[Op] = set()
    stack = [r for r in roots if isinstance(r, Op)]
    while stack:
        op = stack.pop()
        if op not in found:
            found.add(op)
            if op not in ends and (
                youngest == 1 or op.age < youngest
            ):  # nothing older leads to a target
                if not op.edges:
                    raise _freed(op)
                stack.extend(e for e in op.edges if isinstance(e, Op))
    needed: set[Edge] = set(targets)
    for op in sorted(found, key=attrgetter("age"), reverse=True):
        if any(e in needed for e in (*op.edges, *op.parts) if e is not None):
            needed.add(op)
    return needed


def observe(op: Op, total: Tensor) -> Tensor:
    """Run the hooks of the tensor that ``op`` made, and keep its gradient when asked to."""
    if op.hooks:
        for hook in list(op.hooks.values()):
            total = _replaced(hook(total), total)
    if op.kept is not None and (made := op.kept()) is not None:
        _write_grad(made, [total], mode.record)
    return total


def _replaced(answer: Any, total: Tensor) -> Tensor:
    if answer is None:
        return total
    if not isinstance(answer, Tensor) or answer.shape != total.shape:
        raise ValueError(
            f"a gradient hook must return None or a tensor of shape {total.shape}, "
            f"received {answer!r}"
        )
    return answer


def _derivative(op: Op, total: Tensor, create: bool) -> Sequence[Tensor | None]:
    """The gradients of the inputs of ``op``, un-broadcast, from that of its output."""
    inputs = op.inputs
    if inputs:
        for t, version in zip(inputs, op.versions, strict=True):
            if isinstance(t, Tensor) and t.version != version:
                raise _changed(op, "input", t.shape)
    if op.constants:
        for t, version in zip(op.constants, op.constant_versions, strict=True):
            if t.version != version:
                raise _changed(op, "index or condition", t.shape)
    out = None
    if op.array is not None:
        if op.counter[0]:
            raise _changed(op, "output", op.array.shape)
        out = Tensor._wrap(op.array, total.backend)
        out.requires_grad, out.grad_fn = create, op if create else None
    parts: Any
    if op.fused_backward is not None and not create and not op.watched():
        kernels = total.backend
        arrays = [t.array if isinstance(t, Tensor) else t for t in inputs]
        parts = op.fused_backward(kernels, total.array, op.array, *arrays)
        parts = parts if isinstance(parts, tuple) else (parts,)
        parts = [None if p is None else Tensor._wrap(p, kernels) for p in parts]
    else:
        parts = op.backward(total, out)
        parts = parts if isinstance(parts, tuple) else (parts,)
    if mode.anomaly is not None:
        mode.anomaly.backward(op, parts)
    return parts  # type: ignore[no-any-return]


def _unbroadcast(op: Op, part: Tensor, shape: Shape) -> Tensor:
    if not op.broadcasts:
        raise RuntimeError(
            f"{op.name}: a gradient of shape {part.shape} came back for an input of shape {shape}"
        )
    summed = part.sum(broadcast_axes(part.shape, shape), keepdim=True) if part.ndim else part
    return summed.reshape(shape)


def _changed(op: Op, what: str, shape: Shape) -> RuntimeError:
    where = (
        f" (made at {op.source})" if op.source else "; detect_anomaly() adds the line that made it"
    )
    return RuntimeError(
        f"{op.name} saved its {what} {tuple(shape)} for backward, "
        f"but it was changed in place since{where}. "
        "Use the out-of-place operation, or .clone() before the change"
    )


def _write_grad(leaf: Tensor, cell: list[Tensor], create: bool) -> None:
    """leaf.grad (+)= the gradient in ``cell``, which is copied if anything else may hold it."""
    kernels = leaf.backend
    if leaf.grad is not None:
        total = cell.pop()
        if create:
            leaf.grad = leaf.grad + total
        else:
            kernels.add(leaf.grad.array, total.array, out=leaf.grad.array)
            leaf.grad._version_list()[0] += 1
        return
    alone = _references(cell) == _ALONE
    total = cell.pop()
    array = total.array
    if not create and (total.requires_grad or not alone or not kernels.owns(array)):
        if array.flags.c_contiguous:
            copied = kernels.copy(array)
        else:  # a view in another order: the gradient lies in memory as parameters do
            copied = kernels.empty(array.shape, array.dtype)
            kernels.assign(copied, array)
        total = Tensor._wrap(copied, kernels)
    leaf.grad = total


def _references(cell: list[Tensor]) -> tuple[int, int]:
    """How often the tensor in ``cell`` and its array are referred to, by CPython's count."""
    total = cell[0]
    return sys.getrefcount(total), sys.getrefcount(total.array)


_ALONE = _references([Tensor._wrap(np.empty(0), None)])  # type: ignore[arg-type]


def _key(t: Tensor) -> Edge:
    if t._base is not None:
        t._refresh()
    return t.grad_fn or t


def _listed(tensors: Any) -> list[Tensor]:
    return [tensors] if isinstance(tensors, Tensor) else list(tensors)


def _roots(tensors: Any, gradients: Any) -> tuple[list[Edge], list[Tensor]]:
    outputs = _listed(tensors)
    given = [None] * len(outputs) if gradients is None else _listed(gradients)
    if len(given) != len(outputs):
        raise ValueError(f"expected {len(outputs)} gradients, one an output, received {len(given)}")
    seeds = []
    for i, (t, g) in enumerate(zip(outputs, given, strict=True)):
        if not t.requires_grad:
            raise RuntimeError(
                f"output {i} {t.shape} has no graph: "
                "none of the tensors it was computed from requires gradients"
            )
        if g is None:
            if t.array.size != 1:
                raise RuntimeError(
                    f"backward needs a scalar, output {i} has shape {t.shape}: "
                    f"reduce it with .sum() or .mean(), or pass a gradient of shape {t.shape}"
                )
            g = Tensor._wrap(t.backend.full(t.shape, 1.0, t.dtype), t.backend)
        elif g.array.shape != t.array.shape or g.array.dtype != t.array.dtype:
            raise ValueError(
                f"gradient {i}: expected shape {t.shape} and {t.dtype}, "
                f"received {g.shape} and {g.dtype}"
            )
        seeds.append(g)
    return [_key(t) for t in outputs], seeds
