"""Which values occur, where, and how often; nothing here has a derivative."""

from __future__ import annotations

from typing import Any

from .. import dtypes
from ..tensor import Tensor
from .create import full, ones, zeros
from .elementwise import cast
from .index import cat, gather, nonzero, scatter_add
from .reduce import argsort, cumsum
from .reduce import sort as sort_of
from .views import Reshape


def unique(
    input: Tensor, sorted: bool = True, return_inverse: bool = False, return_counts: bool = False
) -> Any:
    """The different values in ascending order (with sorted=False too).

    With ``return_inverse`` also the position of every element's value, with ``return_counts`` also
    how often each occurs: (values, inverse, counts). Every NaN is a value of its own.
    """
    flat = Reshape((input.array.size,))(input.detach())
    n = flat.shape[0]
    values, order = sort_of(flat)
    start = ones(min(n, 1), dtype=dtypes.bool_, backend=flat.backend)
    fresh = cat([start, values[1:] != values[:-1]])  # the first of its run of equal values
    found = [values[fresh]]
    if return_inverse:
        run = cumsum(fresh, 0) - 1
        found.append(Reshape(input.shape)(gather(run, 0, argsort(order))))
    if return_counts:
        firsts = Reshape(found[0].shape)(nonzero(fresh))
        ends = cat([firsts, full((1,), n, backend=flat.backend)])
        found.append(ends[1:] - ends[:-1])
    return tuple(found) if len(found) > 1 else found[0]


def bincount(input: Tensor, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
    """out[k] = how many elements are k, or Σ of their weights; at least ``minlength`` long.

    Raises TypeError unless the elements are integers, ValueError for negative ones, another rank
    than 1, or weights of another shape."""
    if input.dtype.kind not in "iu":
        raise TypeError(f"bincount: expected an integer tensor, received {input.dtype}")
    if input.ndim != 1 or (weights is not None and weights.shape != input.shape):
        other = "" if weights is None else f" and weights {weights.shape}"
        raise ValueError(f"bincount: expected a vector, received shape {input.shape}{other}")
    if minlength < 0 or (input.array.size and input.min().item() < 0):
        raise ValueError("bincount: expected numbers of at least 0, received negative ones")
    bins = max(int(input.max().item()) + 1 if input.array.size else 0, minlength)
    if weights is None:
        weights = ones(input.shape, dtype=dtypes.int64, backend=input.backend)
    elif weights.dtype.kind != "f":
        weights = cast(weights, dtypes.float64)
    out = zeros(bins, dtype=weights.dtype, backend=input.backend)
    return scatter_add(out, 0, input, weights.detach())
