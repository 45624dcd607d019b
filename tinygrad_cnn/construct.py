"""Tensors from what is not one yet: Python numbers and sequences, NumPy arrays, DLPack."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import dtypes
from .backend import BackendLike, pick_backend
from .tensor import Tensor


def tensor(
    data: Any, dtype: Any = None, backend: BackendLike = None, requires_grad: bool = False
) -> Tensor:
    """A new leaf tensor with a copy of ``data``: nested sequences, a scalar, a NumPy array or a
    tensor.

    Python floats become float32 and integers int64; arrays keep their dtype. Raises TypeError for a
    dtype that tensors cannot hold, ValueError for ragged sequences.

    >>> tensor([[1, 2], [3, 4]], dtype="float32", backend="numpy").sum().item()
    10.0
    """
    owner = pick_backend(backend)
    wanted = None if dtype is None else dtypes.as_dtype(dtype)
    if isinstance(data, Tensor):
        data = data.backend.to_numpy(data.array)
    elif isinstance(data, list | tuple):
        data = _without_tensors(data)
    keep = isinstance(data, np.ndarray | np.generic)
    try:
        array = np.asarray(data)
    except ValueError as error:
        raise ValueError(f"tensor: the nested sequences have different lengths: {error}") from error
    if wanted is None:
        if keep:
            wanted = dtypes.as_dtype(array.dtype)
        else:
            kinds = {"b": dtypes.bool_, "i": dtypes.int64, "u": dtypes.int64, "f": dtypes.float32}
            if array.dtype.kind not in kinds:
                raise TypeError(
                    f"tensor: expected numbers, received {type(data).__name__} of {array.dtype}"
                )
            wanted = kinds[array.dtype.kind]
            if _has_numpy(data):
                wanted = dtypes.as_dtype(array.dtype)
    made = Tensor._wrap(owner.asarray(array, wanted), owner)
    return made.requires_grad_() if requires_grad else made


def _without_tensors(data: Any) -> Any:
    if isinstance(data, Tensor):
        return data.backend.to_numpy(data.array)
    return [_without_tensors(d) for d in data] if isinstance(data, list | tuple) else data


def _has_numpy(data: Any) -> bool:
    while isinstance(data, list | tuple) and data:
        data = data[0]
    return isinstance(data, np.ndarray | np.generic)


def from_numpy(array: np.ndarray[Any, Any], backend: BackendLike = None) -> Tensor:
    """A tensor that shares memory with ``array`` where the backend can (NumPy and Numba can)."""
    owner = pick_backend(backend)
    dtypes.as_dtype(array.dtype)
    made = Tensor._wrap(owner.from_numpy(array), owner)
    made._version_list()  # the memory is shared
    return made


def from_dlpack(source: Any, backend: BackendLike = None) -> Tensor:
    """A tensor that shares memory with another library's CPU tensor, by the DLPack protocol."""
    return from_numpy(np.from_dlpack(source), backend)


def as_tensor(data: Any, dtype: Any = None, backend: BackendLike = None) -> Tensor:
    """``data`` itself when it already is such a tensor; shares a NumPy array's memory; else a
    copy.
    """
    if isinstance(data, Tensor):
        return data if dtype is None else data.to(dtypes.as_dtype(dtype))
    if isinstance(data, np.ndarray) and (dtype is None or dtypes.as_dtype(dtype) == data.dtype):
        return from_numpy(data, backend)
    return tensor(data, dtype, backend)
