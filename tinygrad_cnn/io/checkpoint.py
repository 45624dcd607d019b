"""Checkpoints: nested dicts and lists of tensors and plain values in one safetensors file.

Tensors are stored under their path, joined by dots ("model.conv1.weight"), so that any reader of
the format finds them; the nesting and the plain values are JSON in the file's metadata. Nothing is
ever unpickled, and a file appears under its name only when it is complete.
"""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np

from ..backend import BackendLike
from ..construct import tensor
from ..tensor import Tensor
from .formats import foreign_reader

_KEY = "tinygrad_cnn"  # the metadata entry with the structure
_PLAIN = (str, int, float, bool, type(None))


def save(obj: Any, path: str | os.PathLike[str]) -> None:
    """Write ``obj`` (tensors, arrays and plain values in dicts, lists and tuples) to ``path``.

    The file is written beside its place, flushed to the disk and renamed: a crash leaves the old
    file or the new one. Raises TypeError for anything else, naming its path in ``obj``.
    """
    from safetensors.numpy import save as serialize

    arrays: dict[str, np.ndarray[Any, Any]] = {}
    structure = json.dumps(_encode(obj, (), arrays))
    write_atomically(Path(path), serialize(arrays, metadata={_KEY: structure}))


def load(path: str | os.PathLike[str], backend: BackendLike = None) -> Any:
    """What ``save`` wrote, or the tensors and plain values in a file of another program.

    The format shows in the content: safetensors (a flat dict of tensors), NumPy's ``.npz`` and
    ``.npy``, and what PyTorch's ``torch.save`` wrote, in either of its formats. No file can make
    anything run. Raises FileNotFoundError, and ValueError for a file that is damaged, of another
    format, or holds more than tensors and plain values.
    """
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file")
    reader = foreign_reader(Path(path))
    if reader is not None:
        return reader(Path(path), backend)
    try:
        with safe_open(os.fspath(path), framework="numpy") as file:
            structure = (file.metadata() or {}).get(_KEY)
            found = {name: tensor(file.get_tensor(name), backend=backend) for name in file.keys()}
    except SafetensorError as error:
        raise ValueError(
            f"{path}: not a complete safetensors file: {error}; other known formats are .npz, "
            ".npy and PyTorch's"
        ) from error
    if structure is None:
        return found
    try:
        return _decode(json.loads(structure), found)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: the structure in its metadata is damaged: {error!r}") from error


def _encode(obj: Any, path: tuple[str, ...], arrays: dict[str, np.ndarray[Any, Any]]) -> Any:
    """JSON of ``obj``; one-key objects {"$…": …} stand for what JSON has no word for."""
    if isinstance(obj, Tensor | np.ndarray):
        name = ".".join(path) or "tensor"
        while name in arrays:
            name += "_"
        values = obj.detach().numpy() if isinstance(obj, Tensor) else obj
        arrays[name] = np.ascontiguousarray(values).reshape(values.shape)
        return {"$tensor": name}
    if isinstance(obj, np.generic):
        obj = obj.item()
    if isinstance(obj, _PLAIN):
        return obj
    if isinstance(obj, dict):
        if all(isinstance(k, str) and not k.startswith("$") for k in obj):
            return {k: _encode(v, (*path, k), arrays) for k, v in obj.items()}
        return {
            "$dict": [
                [_encode(k, path, arrays), _encode(v, (*path, str(k)), arrays)]
                for k, v in obj.items()
            ]
        }
    if isinstance(obj, list | tuple):
        items = [_encode(v, (*path, str(i)), arrays) for i, v in enumerate(obj)]
        return items if isinstance(obj, list) else {"$tuple": items}
    raise TypeError(
        f"save: expected tensors, arrays and plain values, received {type(obj).__name__} "
        f"at {'.'.join(path) or 'the top'}"
    )


def _decode(node: Any, found: dict[str, Tensor]) -> Any:
    if isinstance(node, list):
        return [_decode(v, found) for v in node]
    if not isinstance(node, dict):
        return node
    if len(node) == 1:
        ((mark, value),) = node.items()
        if mark == "$tensor":
            return found[value]
        if mark == "$tuple":
            return tuple(_decode(v, found) for v in value)
        if mark == "$dict":
            return {_decode(k, found): _decode(v, found) for k, v in value}
    return {k: _decode(v, found) for k, v in node.items()}


def write_atomically(path: Path, content: bytes) -> None:
    """Put ``content`` under ``path`` at once or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
