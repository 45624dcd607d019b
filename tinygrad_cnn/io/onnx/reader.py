"""An ONNX file as a module. Nothing in a file is run, and what it claims is checked."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ...backend import BackendLike
from ...construct import tensor
from ...dtypes import SUPPORTED
from .graph import OPERATORS, OnnxModel, State
from .operators import Node
from .package import LARGEST_FILE, OLDEST, onnx_package

DOMAINS = ("", "ai.onnx")
# Inputs (by number) that hold settings although they are floating point numbers in an array.
SETTINGS = {"Resize": (1, 2), "Upsample": (1,)}
STATISTICS = {"BatchNormalization": (3, 4)}  # inputs that are kept but not learned


def load(f: str | os.PathLike[str], backend: BackendLike = None) -> OnnxModel:
    """The graph in an ONNX file as a module that can be run, trained and saved.

    Floating point initialisers become parameters, the running statistics of batch norm buffers,
    under their names in the file; constants of the graph are neither. The module starts in
    evaluation mode; ``train()`` makes batch norm and dropout nodes behave as in training.

    Raises FileNotFoundError, ImportError without the package ``onnx``, and ValueError for a damaged
    file, data outside the file's folder, and operators that are not known, all of which are listed.
    """
    onnx = onnx_package()
    path = Path(f)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        return _module(onnx, _parse(onnx, path), path.parent, backend)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _parse(onnx: Any, path: Path) -> Any:
    from google.protobuf.message import DecodeError

    if path.stat().st_size > LARGEST_FILE:
        raise ValueError("larger than the 2 GB that an ONNX file can have")
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise ValueError(f"not a complete ONNX file: {error}") from error
    if not proto.graph.output:
        raise ValueError("not an ONNX file, or its graph has no outputs")
    return proto


def _module(onnx: Any, proto: Any, folder: Path, backend: BackendLike) -> OnnxModel:
    versions = [o.version for o in proto.opset_import if o.domain in DOMAINS]
    opset = max(versions, default=0)
    if opset < OLDEST:
        raise ValueError(f"expected operators of version {OLDEST} or newer, received {opset}")
    graph = proto.graph
    _check_operators(graph)
    if graph.sparse_initializer:
        raise ValueError("sparse initialisers are not supported")
    initial = {t.name: _array(onnx, t, folder) for t in graph.initializer}
    constants, nodes = {}, []
    for n in graph.node:
        attributes = {a.name: _attribute(onnx, a, folder) for a in n.attribute}
        if n.op_type == "Constant":
            constants[n.output[0]] = _constant(attributes)
            continue
        node = Node(n.op_type, n.name or n.output[0], attributes, opset)
        nodes.append((node, tuple(n.input), tuple(n.output)))
    inputs = [i for i in graph.input if i.name not in initial]
    _check_order([i.name for i in inputs], [*initial, *constants], nodes, graph.output)
    learned, kept = _roles(initial, nodes)
    return OnnxModel(
        graph.name,
        [(i.name, _sizes(i)) for i in inputs],
        [o.name for o in graph.output],
        [
            State(name, tensor(array, backend=backend), name in learned, name in kept)
            for name, array in (initial | constants).items()
        ],
        nodes,
    )


def _check_operators(graph: Any) -> None:
    """Raise ValueError that lists the operators that we do not have."""
    unknown = Counter(
        n.op_type if n.domain in DOMAINS else f"{n.domain}.{n.op_type}"
        for n in graph.node
        if n.domain not in DOMAINS or n.op_type not in OPERATORS and n.op_type != "Constant"
    )
    if unknown:
        found = ", ".join(f"{name} ({count}×)" for name, count in sorted(unknown.items()))
        raise ValueError(f"operators that are not supported: {found}")


def _check_order(
    inputs: list[str], state: list[str], nodes: list[Any], outputs: Iterable[Any]
) -> None:
    """Raise ValueError where a value is used before it is made, or made twice."""
    seen = {*inputs, *state}
    if len(seen) != len(inputs) + len(state):
        twice = [name for name, count in Counter([*inputs, *state]).items() if count > 1]
        raise ValueError(f"values with two sources: {', '.join(map(repr, twice))}")
    for node, needed, made in nodes:
        missing = [n for n in needed if n and n not in seen]
        if missing:
            raise ValueError(f"{node} needs {missing[0]!r}, which nothing before it makes")
        again = [n for n in made if n and n in seen]
        if again:
            raise ValueError(f"{node} makes {again[0]!r}, which exists already")
        seen.update(made)
    lost = [o.name for o in outputs if o.name not in seen]
    if lost:
        raise ValueError(f"nothing makes the output {lost[0]!r}")


def _roles(initial: dict[str, Any], nodes: list[Any]) -> tuple[set[str], set[str]]:
    """Which initialisers are learned, and which are kept in the state beside them."""
    statistics: set[str] = set()
    settings: set[str] = set()
    for node, needed, _ in nodes:
        statistics.update(needed[i] for i in STATISTICS.get(node.kind, ()) if i < len(needed))
        settings.update(needed[i] for i in SETTINGS.get(node.kind, ()) if i < len(needed))
    floats = {name for name, a in initial.items() if a.dtype.kind == "f" and a.ndim}
    return floats - statistics - settings, floats & statistics


def _sizes(info: Any) -> tuple[int | None, ...] | None:
    """The sizes of an input; None where it is open, or altogether."""
    kind = info.type.tensor_type
    if not kind.HasField("shape"):
        return None
    return tuple(d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim)


# -- numbers ---------------------------------------------------------------------------------------
def _attribute(onnx: Any, attribute: Any, folder: Path) -> Any:
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, onnx.TensorProto):
        return _array(onnx, value, folder)
    return value


def _constant(attributes: dict[str, Any]) -> np.ndarray[Any, Any]:
    kinds = {"value_int": np.int64, "value_ints": np.int64,
             "value_float": np.float32, "value_floats": np.float32}  # fmt: skip
    for name, value in attributes.items():
        if name == "value":
            return value  # type: ignore[no-any-return]
        if name in kinds:
            return np.array(value, kinds[name])
    raise ValueError(f"a constant of a kind that is not supported: {', '.join(attributes)}")


def _array(onnx: Any, proto: Any, folder: Path) -> np.ndarray[Any, Any]:
    """The numbers of a tensor in a dtype that we have. Raises ValueError where they do not add up.

    Nothing is allocated on the word of the file: its bytes must be there.
    """
    if proto.data_location == onnx.TensorProto.EXTERNAL:
        proto = _with_external_data(onnx, proto, folder)
    try:
        array: np.ndarray[Any, Any] = np.asarray(onnx.numpy_helper.to_array(proto))
    except (ValueError, TypeError, KeyError, OverflowError, MemoryError) as error:
        raise ValueError(f"tensor {proto.name!r} is damaged: {error}") from error
    if array.shape != tuple(proto.dims):
        raise ValueError(f"tensor {proto.name!r} is damaged: its sizes are {tuple(proto.dims)}")
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.dtype in SUPPORTED:
        return array
    if array.dtype.name == "bfloat16":
        return array.astype(np.float32)
    if array.dtype in (np.int8, np.int16, np.uint16):
        return array.astype(np.int32)
    raise ValueError(f"tensor {proto.name!r} has dtype {array.dtype}, which is not supported")


def _with_external_data(onnx: Any, proto: Any, folder: Path) -> Any:
    """The tensor with its bytes, from a file that must lie in the folder of the ONNX file."""
    entries = {e.key: e.value for e in proto.external_data}
    location = Path(entries.get("location", ""))
    place = (folder / location).resolve()
    if location.is_absolute() or not place.is_relative_to(folder.resolve()):
        raise ValueError(f"the data of {proto.name!r} lie outside the file's folder: {location}")
    if not place.is_file():
        raise ValueError(f"the data of {proto.name!r} are missing: {location}")
    start, size = int(entries.get("offset", 0)), place.stat().st_size
    count = int(entries.get("length", size - start))
    if start < 0 or count < 0 or start + count > size:
        raise ValueError(f"the data of {proto.name!r} end after {location}: it has {size} bytes")
    with place.open("rb") as file:
        file.seek(start)
        content = file.read(count)
    made = onnx.TensorProto(name=proto.name, data_type=proto.data_type, raw_data=content)
    made.dims.extend(proto.dims)
    return made
