"""A model as an ONNX file: the operations of a run, translated one by one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ... import dtypes
from ...backend import get_backend
from ...geometry import Shape
from ...nn import Module
from ...random import Generator, randn
from ...tensor import Op, Tensor
from ..checkpoint import write_atomically
from .package import LARGEST_FILE, OPSET, OPSETS, onnx_package
from .trace import Call, Ref, Trace, trace_twice


class Samples(NamedTuple):
    """A size that grows with the batch: so many for each sample."""

    each: int


Size = int | Samples


def export(
    model: Module,
    args: Any,
    f: str | os.PathLike[str],
    *,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    opset_version: int = OPSET,
    dynamic_batch: bool = True,
) -> None:
    """Write the model, as it computes in evaluation mode, to the ONNX file ``f``.

    ``args`` is an example input: a tensor (N, …), several in a tuple, or the shape of one sample
    such as (3, 32, 32). The model runs twice on such inputs and the operations it does are written,
    so modules and plain functions count alike; ``dynamic_batch`` leaves N open. Parameters and
    buffers become initialisers named by their keys in ``state_dict()``; the file passes ONNX's own
    checker before it gets its name.

    Raises ImportError without the package ``onnx``, ValueError for operations that ONNX does not
    have (all are listed), for values that the graph cannot express, and for more than 2 GB.

        tg.onnx.export(model, (3, 32, 32), "model.onnx")
    """
    onnx = onnx_package()
    if opset_version not in OPSETS:
        raise ValueError(
            f"export: opset_version must lie in {OPSETS[0]} … {OPSETS[-1]}, received "
            f"{opset_version}"
        )
    first, second = trace_twice(model, _examples(model, args), dynamic_batch)
    writer = Writer(onnx, first, second, opset_version)
    if sum(t.array.nbytes for t in first.state.values()) > LARGEST_FILE:
        raise ValueError("export: an ONNX file cannot be larger than 2 GB")
    proto = writer.model(model._get_name(), input_names, output_names)
    onnx.checker.check_model(proto, full_check=True)
    write_atomically(Path(f), proto.SerializeToString())


def _examples(model: Module, args: Any) -> list[Tensor]:
    """The example inputs that ``args`` are, or one sample of random numbers of that shape."""
    if isinstance(args, Tensor):
        return [args]
    given = list(args)
    if given and all(isinstance(a, Tensor) for a in given):
        return given
    if not all(isinstance(a, int) for a in given):
        raise TypeError(
            "export: args must be a tensor, a tuple of tensors, or the shape of a sample, "
            f"received {args!r}"
        )
    like = next(model.parameters(), None)
    backend = get_backend() if like is None else like.backend
    dtype = dtypes.float32 if like is None else like.dtype
    return [randn(1, *given, generator=Generator(17), dtype=dtype, backend=backend)]


class Writer:
    """Builds the graph: values have names, and each translation adds nodes that make one."""

    def __init__(self, onnx: Any, first: Trace, second: Trace, opset: int) -> None:
        from . import translate_composed  # noqa: F401  (completes the table)
        from .translate import TRANSLATIONS

        self.onnx, self.first, self.second, self.opset = onnx, first, second, opset
        self.samples = tuple(t.inputs[0].shape[0] if t.inputs else 0 for t in (first, second))
        self.nodes: list[Any] = []
        self.used: dict[str, Tensor] = {}  # the state that the graph needs
        self.inputs: list[str] = []
        self.translations = TRANSLATIONS
        self._made: dict[int, str] = {}  # call number → name of its result
        self._constants: dict[tuple[bytes, str, Shape], str] = {}
        self._names: set[str] = set()

    # -- the graph -------------------------------------------------------------------------------
    def model(
        self, name: str, input_names: Sequence[str] | None, output_names: Sequence[str] | None
    ) -> Any:
        """The model with all that its outputs need."""
        outputs = self.first.outputs
        self.inputs = _names("input", input_names, len(self.first.inputs))
        results = _names("output", output_names, len(outputs))
        taken = [*self.inputs, *results, *self.first.state]
        if len(set(taken)) != len(taken):
            twice = sorted({n for n in taken if taken.count(n) > 1})
            raise ValueError(f"export: names of inputs, outputs and state must differ: {twice}")
        needed = self._needed()
        self._check_supported(needed)
        for i in needed:
            self._made[i] = self._translate(i)
        self._name_results(results)
        self._prune(results)
        make = self.onnx.helper
        graph = make.make_graph(
            self.nodes,
            name,
            [
                self._info(n, x.shape, y.shape, x.dtype)
                for n, x, y in zip(self.inputs, self.first.inputs, self.second.inputs, strict=True)
            ],
            [
                self._info(n, shape, other, dtype)
                for n, (_, shape, dtype), (_, other, _) in zip(
                    results, outputs, self.second.outputs, strict=True
                )
            ],
            [
                self.onnx.numpy_helper.from_array(t.detach().numpy(), n)
                for n, t in self.used.items()
            ],
        )
        opsets = [make.make_opsetid("", self.opset)]
        return make.make_model(
            graph,
            opset_imports=opsets,
            ir_version=make.find_min_ir_version_for(opsets),
            producer_name="tinygrad_cnn",
        )

    def _needed(self) -> list[int]:
        """The calls that the outputs depend on, in order."""
        calls, found = self.first.calls, set()
        left = [ref for ref, _, _ in self.first.outputs]
        while left:
            ref = left.pop()
            if ref is not None and ref.kind == "call" and ref.key not in found:
                found.add(ref.key)
                left.extend(calls[ref.key].inputs)
        return sorted(found)

    def _check_supported(self, needed: Sequence[int]) -> None:
        unknown = {
            self.first.calls[i].op.name
            for i in needed
            if type(self.first.calls[i].op) not in self.translations
        }
        if unknown:
            raise ValueError(
                "export: ONNX has no operator for " + ", ".join(sorted(unknown)) + "; leave what "
                "follows out of the model, or write it with other operations"
            )

    def _translate(self, i: int) -> str:
        call = self.first.calls[i]
        dtype = next((d for d in call.dtypes if d is not None), call.dtype)
        values = [None if ref is None else self.value(ref, dtype) for ref in call.inputs]
        site = Site(call, self.second.calls[i])
        return str(self.translations[type(call.op)](self, site, *values))

    def _name_results(self, results: Sequence[str]) -> None:
        """Give the results their names: the node that makes one takes it over if it can."""
        makers = {node.output[0]: node for node in self.nodes}
        renamed: dict[str, str] = {}
        for name, (ref, _, dtype) in zip(results, self.first.outputs, strict=True):
            assert ref is not None
            value = self.value(ref, dtype)
            if value in makers and value not in renamed and ref.kind == "call":
                renamed[value] = name
            else:
                self.nodes.append(
                    self.onnx.helper.make_node("Identity", [value], [name], name=name)
                )
        for node in self.nodes:
            for values in (node.input, node.output):
                for i, value in enumerate(values):
                    values[i] = renamed.get(value, value)

    def _prune(self, results: Sequence[str]) -> None:
        """Leave out what nobody reads: a node that took over the work of others leaves them."""
        read, kept = set(results), []
        for node in reversed(self.nodes):
            if node.output[0] in read:
                kept.append(node)
                read.update(node.input)
        self.nodes = kept[::-1]
        self.used = {path: t for path, t in self.used.items() if path in read}

    def maker(self, ref: Ref | None, kind: type[Op]) -> Call | None:
        """The call that made a value, if it is of this kind."""
        if ref is None or ref.kind != "call":
            return None
        call = self.first.calls[ref.key]
        return call if type(call.op) is kind else None

    def _info(self, name: str, shape: Shape, other: Shape, dtype: Any) -> Any:
        sizes = [
            n if isinstance(n, int) else "batch" if n.each == 1 else f"{n.each}*batch"
            for n in self.sizes(shape, other)
        ]
        kind = self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self.onnx.helper.make_tensor_value_info(name, kind, sizes)

    # -- values ----------------------------------------------------------------------------------
    def value(self, ref: Ref, dtype: Any) -> str:
        """The name of a value; a scalar becomes a constant of ``dtype``."""
        if ref.kind == "input":
            return self.inputs[int(ref.key)]
        if ref.kind == "call":
            return self._made[ref.key]
        if ref.kind == "constant":
            return self.constant(self.first.constants[ref.key])
        if ref.kind == "number":
            return self.constant(np.array(ref.key, dtype))
        self.used[ref.key] = self.first.state[ref.key]
        return str(ref.key)

    def constant(self, array: Any, dtype: Any = None) -> str:
        """The name of these numbers, which are written once."""
        array = np.ascontiguousarray(array, dtype).reshape(np.shape(array))
        key = (array.tobytes(), array.dtype.str, array.shape)
        if key not in self._constants:
            self._constants[key] = self.node(
                "Constant", value=self.onnx.numpy_helper.from_array(array)
            )
        return self._constants[key]

    def node(self, kind: str, *inputs: str | None, **attributes: Any) -> str:
        """Add an operator; returns the name of its (only) output."""
        layer = next((n.rpartition(".")[0] for n in inputs if n in self.used and "." in n), "")
        name = stem = f"{layer}/{kind}"
        count = 1
        while name in self._names:
            count += 1
            name = f"{stem}_{count}"
        self._names.add(name)
        given = ["" if n is None else n for n in inputs]
        while given and not given[-1]:
            given.pop()
        self.nodes.append(self.onnx.helper.make_node(kind, given, [name], name=name, **attributes))
        return name

    def reduce(self, kind: str, x: str, axes: Sequence[int], keepdims: bool) -> str:
        """A reduction; its axes are an input since version 18 (of ReduceSum, since 13)."""
        if not axes:
            return x
        if kind == "ReduceSum" or self.opset >= 18:
            return self.node(kind, x, self.constant(axes, np.int64), keepdims=int(keepdims))
        return self.node(kind, x, axes=list(axes), keepdims=int(keepdims))

    def sizes(self, shape: Shape, other: Shape) -> list[Size]:
        """The shape of a value for any number of samples, from what it was in the two runs."""
        a, b = self.samples
        found: list[Size] = []
        for m, n in zip(shape, other, strict=True):
            if m == n:
                found.append(m)
            elif a != b and m % a == 0 and m // a * b == n:
                found.append(Samples(m // a))
            else:
                raise ValueError(
                    f"export: a size is {m} for a batch of {a} and {n} for {b}, which is not a "
                    "multiple; export with dynamic_batch=False"
                )
        return found

    def shape(self, sizes: Sequence[Size]) -> str:
        """The name of a shape, computed from the first input where it depends on the batch."""
        if all(isinstance(n, int) for n in sizes):
            return self.constant(sizes, np.int64)
        whole = self.node("Shape", self.inputs[0])
        batch = self.node("Gather", whole, self.constant([0], np.int64))
        parts = [
            self.constant([n], np.int64)
            if isinstance(n, int)
            else self.node("Mul", batch, self.constant([n.each], np.int64))
            for n in sizes
        ]
        return self.node("Concat", *parts, axis=0)


class Site:
    """One operation to translate: its parameters and its shapes in both runs."""

    def __init__(self, call: Call, twin: Call) -> None:
        self.call, self.twin = call, twin
        self.op = call.op
        self.rank = len(call.shapes[0]) if call.shapes else 0
        self.shapes, self.dtype = call.shapes, call.dtype

    def output(self, writer: Writer) -> list[Size]:
        """The shape of the result for any batch."""
        return writer.sizes(self.call.shape, self.twin.shape)

    def input(self, writer: Writer, i: int = 0) -> list[Size]:
        """The shape of an input for any batch."""
        return writer.sizes(self.call.shapes[i], self.twin.shapes[i])


def _names(what: str, given: Sequence[str] | None, count: int) -> list[str]:
    if given is None:
        return [what] if count == 1 else [f"{what}_{i}" for i in range(count)]
    if isinstance(given, str) or len(given) != count:
        raise ValueError(f"export: expected {count} {what}_names, received {given!r}")
    return list(given)
