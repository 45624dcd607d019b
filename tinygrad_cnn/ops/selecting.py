"""Which elements, and how often: argwhere, isin, repeat_interleave."""

from __future__ import annotations

from ..dtypes import int64
from ..geometry import normalize_axis
from ..tensor import Tensor
from .create import ones, zeros
from .elementwise import Operand, cast, eq, logical_not
from .index import index_select, nonzero, scatter_add
from .index import repeat_interleave as repeat_evenly
from .reduce import cumsum
from .views import Reshape, expand, unsqueeze


def argwhere(input: Tensor) -> Tensor:
    """The indices of the elements that are not 0, one a row: ``nonzero``."""
    return nonzero(input)


def isin(
    elements: Operand, test_elements: Operand, *, assume_unique: bool = False, invert: bool = False
) -> Tensor:
    """Where an element is (``invert``: is not) among ``test_elements``; a NaN never is.

    Each is compared with each; ``assume_unique`` is PyTorch's, and changes nothing here."""
    for name, found in (("elements", elements), ("test_elements", test_elements)):
        if not isinstance(found, Tensor | int | float):
            raise TypeError(
                f"isin: {name} must be a tensor or a number, received {type(found).__name__}"
            )
    if isinstance(test_elements, Tensor):
        tests = Reshape((test_elements.array.size,))(test_elements)
        many = unsqueeze(elements, -1) if isinstance(elements, Tensor) else elements
        found = eq(many, tests).any(-1)
    else:
        found = eq(elements, test_elements)
    return logical_not(found) if invert else found


def repeat_interleave(input: Tensor, repeats: int | Tensor, dim: int | None = None) -> Tensor:
    """Every element repeated in place along ``dim`` (the flat tensor by default): ``repeats``
    times, or element i ``repeats[i]`` times.

    Raises TypeError unless ``repeats`` are integers, ValueError for negative ones, or for another
    number of them than there are slices of ``dim``."""
    if not isinstance(repeats, Tensor | int):
        raise TypeError(
            "repeat_interleave: repeats must be a number or a tensor of integers, received "
            f"{type(repeats).__name__}"
        )
    if not isinstance(repeats, Tensor):
        return repeat_evenly(input, repeats, dim)
    x = input if dim is not None else Reshape((input.array.size,))(input)
    axis = normalize_axis(dim or 0, x.ndim)
    n = x.shape[axis]
    if repeats.dtype.kind not in "iu":
        raise TypeError(f"repeat_interleave: expected integer repeats, received {repeats.dtype}")
    if repeats.shape not in ((n,), (1,), ()) or (n and repeats.min().item() < 0):
        raise ValueError(
            f"repeat_interleave: expected {n} repeats of at least 0, one for each slice of "
            f"dimension {axis}, received {repeats.tolist()}"
        )
    counts = expand(cast(repeats, int64), (n,))
    ends = cumsum(counts, 0)
    total = int(ends[-1].item()) if n else 0
    starts = zeros(total + 1, dtype=int64, backend=x.backend)  # how many slices begin here
    starts = scatter_add(starts, 0, ends - counts, ones(n, dtype=int64, backend=x.backend))
    return index_select(x, axis, cumsum(starts, 0)[:total] - 1)
