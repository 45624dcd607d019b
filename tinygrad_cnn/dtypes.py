"""Element types and PyTorch's promotion rules. A dtype is a ``numpy.dtype``.

Promotion looks at three groups in this order of weight: tensors with dimensions, 0-d tensors,
Python scalars. A lower group changes the result only when its category (bool < integer < float) is
higher, so a Python scalar never widens a tensor: int64 tensor + 1.5 is float32, float16 tensor +
1.5 stays float16.
"""

from __future__ import annotations

from typing import Any

import numpy as np

DType = np.dtype[Any]

float16: DType = np.dtype("float16")
float32: DType = np.dtype("float32")
float64: DType = np.dtype("float64")
int32: DType = np.dtype("int32")
int64: DType = np.dtype("int64")
uint8: DType = np.dtype("uint8")
bool_: DType = np.dtype("bool")

SUPPORTED = (float16, float32, float64, int32, int64, uint8, bool_)
_NAMES = {"float": float32, "double": float64, "half": float16, "long": int64, "int": int32}
_PYTHON: dict[type, DType] = {bool: bool_, int: int64, float: float32}


def as_dtype(value: Any) -> DType:
    """The supported dtype meant by ``value`` (a dtype, its name, or bool/int/float).

    Raises TypeError for one that tensors cannot hold."""
    if isinstance(value, type) and value in _PYTHON:
        return _PYTHON[value]
    if isinstance(value, str) and value in _NAMES:
        return _NAMES[value]
    try:
        found = np.dtype(value)
    except TypeError as error:
        raise TypeError(f"not a dtype: {value!r}") from error
    for dtype in SUPPORTED:
        if found == dtype:
            return dtype
    names = ", ".join(str(d) for d in SUPPORTED)
    raise TypeError(f"tensors hold {names}; received {found}: convert with .astype(...) first")


def is_floating(dtype: DType) -> bool:
    """Whether ``dtype`` is one that gradients exist for."""
    return dtype.kind == "f"


def promote_types(a: DType, b: DType) -> DType:
    """The smallest dtype of PyTorch's lattice that holds both; a float always beats an integer."""
    if a == b:
        return a
    if a.kind == "f" or b.kind == "f":
        floats = [d for d in (a, b) if d.kind == "f"]
        return max(floats, key=lambda d: d.itemsize)
    if a.kind == "b" or b.kind == "b":
        return b if a.kind == "b" else a
    return max(a, b, key=lambda d: d.itemsize)


def _combine(high: DType | None, low: DType | None) -> DType | None:
    if high is None or low is None:
        return high if low is None else low
    if high.kind == "f":
        return high
    return promote_types(high, low) if high.kind == "b" or low.kind == "f" else high


def result_type(*operands: Any) -> DType:
    """The dtype that an operation on these tensors and Python scalars computes in."""
    groups: list[DType | None] = [None, None, None]  # with dimensions, 0-d, Python scalars
    for x in operands:
        dtype: DType
        x = x.item() if isinstance(x, np.generic) else x  # NumPy's scalars count as Python's
        if isinstance(x, bool | int | float):
            group, dtype = 2, _PYTHON[type(x)]
        else:
            group, dtype = (0 if x.ndim else 1), x.dtype
        before = groups[group]
        groups[group] = dtype if before is None else promote_types(before, dtype)
    result = _combine(groups[0], _combine(groups[1], groups[2]))
    assert result is not None
    return result
