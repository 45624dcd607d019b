"""What a model computes, as a list of operations: it is run while every operation is noted.

A graph in a file must hold for any input, a run shows one. So the model runs twice, on different
numbers and, where the batch is to stay open, with one more sample. Whatever differs between the two
runs and is not a size that grows with the batch would be wrong in a file, and is an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...autograd import no_grad
from ...geometry import Shape
from ...nn import Module
from ...random import Generator, randn
from ...tensor import Around, Op, Tensor, mode

# What operations find out while they run, and sizes, which may grow with the batch; their other
# attributes are parameters.
_FOUND = Op.RECORDED | {"shape", "sizes", "count", "winner", "mean", "var", "before"}


class Ref(NamedTuple):
    """A value: number ``key`` of the inputs, calls or constants, a path in the state, a scalar."""

    kind: str  # "input", "state", "call", "constant", "number"
    key: Any


class Call(NamedTuple):
    """One operation that was run."""

    op: Any  # an Op, whose parameters differ by kind
    inputs: tuple[Ref | None, ...]  # those of the call, then the tensors among its parameters
    shapes: tuple[Shape, ...]  # of the inputs; () for scalars
    dtypes: tuple[Any, ...]  # of the inputs; None for scalars
    shape: Shape  # of the result
    dtype: Any


class Trace(Around):
    """The calls of one run of ``model`` in evaluation mode, and what refers to its results."""

    def __init__(self, model: Module, inputs: Sequence[Tensor]) -> None:
        self.calls: list[Call] = []
        self.constants: list[np.ndarray[Any, Any]] = []
        self.inputs = list(inputs)
        # By identity of a tensor, and of its array for tensors that share it; the tensors are kept,
        # so that no other one can get the same id.
        self._tensors: dict[int, tuple[Tensor, int, Ref]] = {}
        self._arrays: dict[int, tuple[Tensor, int, Ref]] = {}
        self.state = model.state_dict(keep_vars=True)
        for path, t in reversed(self.state.items()):
            self._know(t, Ref("state", path))
        for i, x in enumerate(inputs):
            self._know(x, Ref("input", i))
        self.outputs = [(self.ref(t), t.shape, t.dtype) for t in _tensors(self._run(model))]

    def _run(self, model: Module) -> Any:
        modes = [(m, m.training) for m in model.modules()]
        before, mode.around = mode.around, self
        try:
            model.eval()
            with no_grad():
                return model(*self.inputs)
        finally:
            mode.around = before
            for m, training in modes:
                m.training = training

    def _know(self, t: Tensor, ref: Ref) -> None:
        self._tensors[id(t)] = self._arrays[id(t.array)] = t, t.version, ref

    def ref(self, t: Any) -> Ref | None:
        """What ``t`` is; a tensor that no call has made is a constant."""
        if t is None:
            return None
        if not isinstance(t, Tensor):
            return Ref("number", t)
        known = self._tensors.get(id(t)) or self._arrays.get(id(t.array))
        if known is None:
            self.constants.append(np.array(t.backend.to_numpy(t.array)))
            self._know(t, Ref("constant", len(self.constants) - 1))
            return self._tensors[id(t)][2]
        if known[1] != t.version:
            raise ValueError(
                "export: a tensor that shares its memory with another was written in place, which "
                "a graph cannot say; write y = x.reshape(…).relu() for x.reshape(…).relu_()"
            )
        return known[2]

    def after(self, op: Op, inputs: tuple[Any, ...], result: Tensor) -> None:
        given = (*inputs, *_parameters(op, result))
        self.calls.append(
            Call(
                op,
                tuple(map(self.ref, given)),
                tuple(getattr(t, "shape", ()) for t in given),
                tuple(getattr(t, "dtype", None) for t in given),
                result.shape,
                result.dtype,
            )
        )
        self._know(result, Ref("call", len(self.calls) - 1))

    def wrote(self, target: Tensor, new: Tensor) -> None:
        ref = self.ref(new)
        assert ref is not None
        self._know(target, ref)


def _parameters(op: Op, result: Tensor) -> Iterable[Tensor]:
    """The tensors among an operation's static parameters: a condition, an index."""
    if isinstance(getattr(op, "condition", None), Tensor):
        yield op.condition  # type: ignore[attr-defined]
    index = getattr(op, "index", None)
    if isinstance(index, Tensor):
        yield index
    elif isinstance(index, tuple):
        for i in index:
            if hasattr(i, "dtype"):
                yield Tensor._wrap(i, result.backend)


def _tensors(made: Any) -> list[Tensor]:
    """The tensors in what a model returned."""
    if isinstance(made, Tensor):
        return [made]
    if isinstance(made, dict):
        made = list(made.values())
    if isinstance(made, list | tuple) and made:
        return [t for part in made for t in _tensors(part)]
    raise TypeError(f"export: the model must return tensors, received {type(made).__name__}")


def trace_twice(
    model: Module, inputs: Sequence[Tensor], dynamic_batch: bool
) -> tuple[Trace, Trace]:
    """Two runs, the second on other numbers and, with ``dynamic_batch``, one more sample.

    Raises ValueError where the two do not do the same.
    """
    first = Trace(model, inputs)
    second = Trace(model, [_other(x, dynamic_batch, i) for i, x in enumerate(inputs)])
    names = [[call.op.name for call in trace.calls] for trace in (first, second)]
    if names[0] != names[1] or len(first.outputs) != len(second.outputs):
        raise ValueError(
            "export: the model did other operations for other values"
            f"{' or for one sample more' * dynamic_batch}: a graph cannot choose"
        )
    for one, two in zip(first.calls, second.calls, strict=True):
        _check_same(one, two, first, second)
    return first, second


def _other(x: Tensor, more: bool, seed: int) -> Tensor:
    """An input like ``x`` with other values, and one more sample if ``more``."""
    if more and (not x.ndim or not x.shape[0]):
        raise ValueError(f"export: expected inputs (N, …) with N ≥ 1, received shape {x.shape}")
    shape = (x.shape[0] + 1, *x.shape[1:]) if more else x.shape
    if x.dtype.kind == "f":
        return randn(*shape, generator=Generator(seed), dtype=x.dtype, backend=x.backend)
    host = x.backend.to_numpy(x.array)
    values = np.resize(host.reshape(-1)[::-1], shape)
    return Tensor._wrap(x.backend.asarray(values, x.dtype), x.backend)


def _check_same(one: Call, two: Call, first: Trace, second: Trace) -> None:
    name = one.op.name

    def fixed(call: Call) -> dict[str, Any]:
        return {k: _numbers(v) for k, v in vars(call.op).items() if k not in _FOUND}

    if fixed(one) != fixed(two) or [r for r in one.inputs if r] != [r for r in two.inputs if r]:
        raise ValueError(
            f"export: a number in {name} depends on the values or on the batch size "
            f"(inputs {one.shapes} and {two.shapes}); export with dynamic_batch=False, or compute "
            "it from tensors"
        )
    for ref in one.inputs:
        if ref is not None and ref.kind == "constant":
            a, b = first.constants[ref.key], second.constants[ref.key]
            if a.shape != b.shape or not np.array_equal(a, b, equal_nan=a.dtype.kind == "f"):
                raise ValueError(
                    f"export: {name} takes a tensor that is new in each run (random numbers, or "
                    "made outside the recorded operations, such as indices): it cannot be written "
                    "as a constant"
                )


def _numbers(value: Any) -> Any:
    """A parameter without its tensors and arrays, which are compared as constants."""
    if isinstance(value, tuple):
        return tuple(map(_numbers, value))
    return None if isinstance(value, Tensor) or hasattr(value, "dtype") else value
