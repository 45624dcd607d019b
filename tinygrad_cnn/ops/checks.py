"""What the neural-network ops check in their arguments, because kernels check nothing."""

from __future__ import annotations

from typing import Any

from ..tensor import Tensor

LETTERS = {1: ("L",), 2: ("H", "W"), 3: ("D", "H", "W")}


def tensor_of_floats(name: str, x: Any, argument: str = "input") -> None:
    """Raise TypeError unless ``x`` is a floating point tensor."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name}: {argument} must be a tensor, received {type(x).__name__}")
    if x.dtype.kind != "f":
        raise TypeError(
            f"{name}: {argument} must be a floating point tensor, received {x.dtype}; "
            "convert it with .to(float32)"
        )


def same_dtype(name: str, x: Tensor, argument: str, other: Tensor) -> None:
    """Raise TypeError unless ``other`` (called ``argument``) has the dtype of the input ``x``."""
    if not isinstance(other, Tensor):
        raise TypeError(f"{name}: {argument} must be a tensor, received {type(other).__name__}")
    if other.dtype is not x.dtype and other.dtype != x.dtype:
        raise TypeError(
            f"{name}: {argument} must have the input's dtype {x.dtype}, received {other.dtype}; "
            f"convert one with .to({x.dtype})"
        )


def batched(name: str, x: Any, n: int) -> tuple[Tensor, bool]:
    """(x as (N, C, spatial…), whether it had a batch dimension) for ``n`` spatial dimensions.

    Raises TypeError unless x is a floating point tensor, ValueError for another rank."""
    tensor_of_floats(name, x)
    if x.ndim == n + 2:
        return x, True
    if x.ndim == n + 1:
        return x.reshape(1, *x.shape), False
    space = ", ".join(LETTERS[n])
    raise ValueError(
        f"{name}: expected input (N, C, {space}) or (C, {space}), received shape {x.shape}"
    )


def restored(y: Tensor, had_batch: bool) -> Tensor:
    """Undo ``batched``."""
    return y if had_batch else y.reshape(y.shape[1:])


def reduction_name(
    name: str, reduction: str, allowed: tuple[str, ...] = ("none", "mean", "sum")
) -> None:
    """Raise ValueError unless ``reduction`` is one of ``allowed``."""
    if reduction not in allowed:
        raise ValueError(f"{name}: reduction must be one of {allowed}, received {reduction!r}")
