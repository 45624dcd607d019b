"""Joining, splitting, repeating, and picking elements by index."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .. import dtypes
from ..backend import Array, Backend
from ..dtypes import result_type
from ..geometry import Pairs, Shape, broadcast_shapes, normalize_axis
from ..tensor import Op, Tensor
from .create import arange
from .elementwise import cast, where
from .names import numpy_names
from .views import Expand, Reshape, Select, getitem, setitem, unsqueeze


class Concatenate(Op):
    """Arrays one after another along an axis; the derivative cuts the gradient apart."""

    saves_inputs = False

    def __init__(self, axis: int) -> None:
        self.axis = axis

    def forward(self, kernels: Backend, *arrays: Array) -> Array:
        self.sizes = [a.shape[self.axis] for a in arrays]
        return kernels.concatenate(arrays, self.axis)

    def backward(self, grad: Tensor, out: None) -> tuple[Tensor, ...]:
        return tuple(split(grad, self.sizes, self.axis))


class Pad(Op):
    """Zeros around the array; the derivative cuts them off."""

    saves_inputs = False

    def __init__(self, padding: Pairs) -> None:
        self.padding = padding

    def forward(self, kernels: Backend, x: Array) -> Array:
        return kernels.pad(x, self.padding)

    def backward(self, grad: Tensor, out: None) -> Tensor:
        inside = zip(self.padding, self.shapes[0], strict=True)
        return Select(tuple(slice(lo, lo + n) for (lo, _), n in inside))(grad)


class Gather(Op):
    """out[.., j, ..] = x[.., index[.., j, ..], ..]; the derivative is ``ScatterAdd``."""

    saves_inputs = False

    def __init__(self, axis: int, index: Tensor) -> None:
        self.axis, self.index, self.constants = axis, index, (index,)

    def forward(self, kernels: Backend, x: Array) -> Array:
        return kernels.take_along_axis(x, self.index.array, self.axis)

    def backward(self, grad: Tensor, out: None) -> Tensor:
        return ScatterAdd(self.axis, self.index, self.shapes[0])(grad)


class ScatterAdd(Op):
    """zeros(shape) with out[.., index[.., j, ..], ..] += x[.., j, ..]; the derivative is
    ``Gather``.
    """

    saves_inputs = False

    def __init__(self, axis: int, index: Tensor, shape: Shape) -> None:
        self.axis, self.index, self.shape, self.constants = axis, index, shape, (index,)

    def forward(self, kernels: Backend, x: Array) -> Array:
        return kernels.add_along_axis(self.shape, self.index.array, x, self.axis)

    def backward(self, grad: Tensor, out: None) -> Tensor:
        return Gather(self.axis, self.index)(grad)


def _joinable(name: str, tensors: Sequence[Tensor]) -> list[Tensor]:
    found = list(tensors)
    if not found:
        raise ValueError(f"{name}: expected at least one tensor, received none")
    for t in found:
        if not isinstance(t, Tensor):
            raise TypeError(f"{name}: expected tensors, received {type(t).__name__}")
    dtype = result_type(*found)
    return [cast(t, dtype) for t in found]


@numpy_names
def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Tensors one after another along ``dim``; all other sizes must be equal (empty 1-d tensors are
    skipped).
    """
    found = _joinable("cat", tensors)
    kept = [t for t in found if t.shape != (0,)] or found[:1]
    axis = normalize_axis(dim, kept[0].ndim)
    for t in kept:
        if t.ndim != kept[0].ndim or any(
            a != b for i, (a, b) in enumerate(zip(t.shape, kept[0].shape, strict=True)) if i != axis
        ):
            raise ValueError(
                f"cat: shapes {kept[0].shape} and {t.shape} differ outside dimension {dim}"
            )
    if not kept[0].ndim:
        raise ValueError("cat: 0-d tensors cannot be concatenated; use stack")
    return Concatenate(axis)(*kept)


concat = concatenate = cat


@numpy_names
def stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Tensors of one shape along a new dimension ``dim``."""
    found = _joinable("stack", tensors)
    for t in found:
        if t.shape != found[0].shape:
            raise ValueError(
                f"stack: expected equal shapes, received {found[0].shape} and {t.shape}"
            )
    axis = normalize_axis(dim, found[0].ndim + 1)
    return Concatenate(axis)(*(unsqueeze(t, axis) for t in found))


def split(
    tensor: Tensor, split_size_or_sections: int | Sequence[int], dim: int = 0
) -> tuple[Tensor, ...]:
    """Views of pieces along ``dim``: of one size (the last may be smaller), or of the given
    sizes.
    """
    axis = normalize_axis(dim, tensor.ndim)
    n = tensor.shape[axis]
    if isinstance(split_size_or_sections, int):
        size = split_size_or_sections
        if size < 1:
            raise ValueError(f"split: the size of a piece must be at least 1, received {size}")
        sizes = [min(size, n - start) for start in range(0, n, size)] or [0]
    else:
        sizes = [int(s) for s in split_size_or_sections]
        if sum(sizes) != n:
            raise ValueError(
                f"split: sizes {sizes} add up to {sum(sizes)}, dimension {dim} has {n}"
            )
    pieces, start = [], 0
    for size in sizes:
        pieces.append(Select((*(slice(None),) * axis, slice(start, start + size)))(tensor))
        start += size
    return tuple(pieces)


def chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """``split`` into (at most) that many pieces of equal size, the last perhaps smaller."""
    if chunks < 1:
        raise ValueError(f"chunk: expected at least 1 chunk, received {chunks}")
    n = input.shape[normalize_axis(dim, input.ndim)]
    return split(input, max(-(-n // chunks), 1), dim)


def unbind(input: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """All slices along ``dim``, without it."""
    axis = normalize_axis(dim, input.ndim)
    return tuple(Select((*(slice(None),) * axis, i))(input) for i in range(input.shape[axis]))


def repeat(input: Tensor, repeats: int | Sequence[int]) -> Tensor:
    """The whole tensor repeated along every dimension; extra repeats in front add dimensions."""
    counts = (repeats,) if isinstance(repeats, int) else tuple(repeats)
    if len(counts) < input.ndim:
        raise ValueError(
            f"repeat: expected at least {input.ndim} repeats for shape {input.shape}, "
            f"received {counts}"
        )
    shape = (1,) * (len(counts) - input.ndim) + input.shape
    pairs = tuple(v for n in shape for v in (1, n))
    spread = tuple(v for c, n in zip(counts, shape, strict=True) for v in (c, n))
    made = Expand(spread)(Reshape(pairs)(input))
    made = Reshape(tuple(c * n for c, n in zip(counts, shape, strict=True)))(made)
    return made if made._base is None else made.clone()


def tile(input: Tensor, dims: int | Sequence[int]) -> Tensor:
    """``repeat`` where missing repeats in front are 1."""
    counts = (dims,) if isinstance(dims, int) else tuple(dims)
    return repeat(input, (1,) * (input.ndim - len(counts)) + counts)


def repeat_interleave(input: Tensor, repeats: int, dim: int | None = None) -> Tensor:
    """Every element repeated in place along ``dim`` (the flat tensor by default)."""
    x = input if dim is not None else Reshape((input.array.size,))(input)
    axis = normalize_axis(dim or 0, x.ndim)
    wide = (*x.shape[: axis + 1], repeats, *x.shape[axis + 1 :])
    made = Expand(wide)(unsqueeze(x, axis + 1))
    return Reshape((*x.shape[:axis], x.shape[axis] * repeats, *x.shape[axis + 1 :]))(made).clone()


class Roll(Op):
    """Moved along an axis by 0 ≤ shift < n, the last elements first; the derivative moves back."""

    saves_inputs = False

    def __init__(self, shift: int, axis: int) -> None:
        self.shift, self.axis = shift, axis

    def forward(self, kernels: Backend, x: Array) -> Array:
        before, cut = (slice(None),) * self.axis, x.shape[self.axis] - self.shift
        parts = (slice(cut, None), slice(0, cut))
        found = [kernels.getitem(x, (*before, part)) for part in parts]
        return kernels.concatenate(found, self.axis)

    def backward(self, grad: Tensor, out: None) -> Tensor:
        n = grad.shape[self.axis]
        return Roll((n - self.shift) % n if n else 0, self.axis)(grad)


def roll(
    input: Tensor, shifts: int | Sequence[int], dims: int | Sequence[int] | None = None
) -> Tensor:
    """Elements moved by ``shifts`` along ``dims``, those that leave coming in at the other end."""
    if dims is None:
        if not isinstance(shifts, int):
            raise ValueError("roll: several shifts need as many dims")
        return Reshape(input.shape)(roll(Reshape((input.array.size,))(input), shifts, 0))
    moves = [shifts] if isinstance(shifts, int) else list(shifts)
    axes = [dims] if isinstance(dims, int) else list(dims)
    if len(moves) != len(axes):
        raise ValueError(f"roll: received {len(moves)} shifts for {len(axes)} dims")
    made = input
    for shift, dim in zip(moves, axes, strict=True):
        axis = normalize_axis(dim, made.ndim)
        n = made.shape[axis]
        made = Roll(shift % n if n else 0, axis)(made)
    return made if made is not input else input.clone()


def tril(input: Tensor, diagonal: int = 0) -> Tensor:
    """The lower triangle of the last two dimensions, zeros above diagonal number ``diagonal``."""
    return _triangle("tril", input, lambda offset: offset <= diagonal)


def triu(input: Tensor, diagonal: int = 0) -> Tensor:
    """The upper triangle of the last two dimensions, zeros below diagonal number ``diagonal``."""
    return _triangle("triu", input, lambda offset: offset >= diagonal)


def _triangle(name: str, input: Tensor, keep: Callable[[Tensor], Tensor]) -> Tensor:
    if input.ndim < 2:
        raise ValueError(f"{name}: expected at least 2 dimensions, received shape {input.shape}")
    rows = arange(input.shape[-2], backend=input.backend).reshape(-1, 1)
    zero = Tensor._wrap(input.backend.full((), 0, input.dtype), input.backend)
    return where(keep(arange(input.shape[-1], backend=input.backend) - rows), input, zero)


def _index_tensor(name: str, index: Any) -> None:
    if not isinstance(index, Tensor) or index.dtype.kind not in "iu":
        found = index.dtype if isinstance(index, Tensor) else type(index).__name__
        raise TypeError(f"{name}: index must be an int64 tensor, received {found}")


def index_select(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """The slices of ``dim`` named by the 1-d ``index``."""
    _index_tensor("index_select", index)
    axis = normalize_axis(dim, input.ndim)
    if index.ndim > 1:
        raise ValueError(f"index_select: index must have 1 dimension, received shape {index.shape}")
    return getitem(input, (*(slice(None),) * axis, index.reshape(-1)))


def masked_select(input: Tensor, mask: Tensor) -> Tensor:
    """The elements where the boolean ``mask`` is true, as a vector; both broadcast."""
    if not isinstance(mask, Tensor) or mask.dtype != dtypes.bool_:
        found = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
        raise TypeError(f"masked_select: mask must be a boolean tensor, received {found}")
    shape = broadcast_shapes(input.shape, mask.shape)
    return getitem(Expand(shape)(input), (Expand(shape)(mask),))


def nonzero(input: Tensor) -> Tensor:
    """The indices of the elements that are not 0, one a row, in row-major order; int64."""
    flat = Reshape((input.array.size,))(input.detach()) != 0
    found = getitem(arange(flat.shape[0], backend=input.backend), (flat,))
    if not input.ndim:
        return Reshape((found.shape[0], 0))(found[:0])
    columns = []
    for n in reversed(input.shape):
        columns.append(found % max(n, 1))
        found = found // max(n, 1)
    return stack(columns[::-1], 1)


def _check_gather(name: str, input: Tensor, axis: int, index: Tensor) -> Tensor:
    _index_tensor(name, index)
    if index.backend is not input.backend:
        raise ValueError(
            f"{name}: input is on {input.backend.name}, index on {index.backend.name}; "
            f'use index.to("{input.backend.name}")'
        )
    n = input.shape[axis] if input.ndim else 1
    if index.ndim != input.ndim or any(
        a > b for d, (a, b) in enumerate(zip(index.shape, input.shape, strict=True)) if d != axis
    ):
        raise ValueError(
            f"{name}: index shape {index.shape} does not fit input {input.shape} outside dim {axis}"
        )
    if index.array.size and not (0 <= int(index.array.min()) and int(index.array.max()) < n):
        raise IndexError(f"{name}: index out of range for dimension {axis} of size {n}")
    return cast(index, dtypes.int64)


def gather(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """out[i][j] = input[index[i][j]][j] for dim 0, and so on. Raises IndexError out of range."""
    axis = normalize_axis(dim, input.ndim)
    index = _check_gather("gather", input, axis, index)
    if not input.ndim:
        return gather(input.reshape(1), 0, index.reshape(1)).reshape(())
    return Gather(axis, index)(input)


def scatter_add(input: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    """input with src[i][j] added at [index[i][j]][j] for dim 0, and so on."""
    axis = normalize_axis(dim, input.ndim)
    index = _check_gather("scatter_add", input, axis, index)
    src = _fitting_src("scatter_add", index, src)
    return input + ScatterAdd(axis, index, input.shape)(cast(src, input.dtype))


def scatter(
    input: Tensor,
    dim: int,
    index: Tensor,
    src: Tensor | float | None = None,
    *,
    value: float | None = None,
) -> Tensor:
    """input with src[i][j] written at [index[i][j]][j] for dim 0, and so on; src may be a number.

    Where an index occurs twice, one of its elements stays. Raises IndexError out of range,
    TypeError when src has another dtype than input.
    """
    if (src is None) == (value is None):
        raise ValueError("scatter: expected either src or value")
    axis = normalize_axis(dim, input.ndim)
    index = _check_gather("scatter", input, axis, index)
    new = value if src is None else src
    if isinstance(new, Tensor):
        if new.dtype != input.dtype:
            raise TypeError(
                f"scatter: src must have the input's dtype {input.dtype}, received {new.dtype}; "
                f"convert it with .to({input.dtype})"
            )
        new = _fitting_src("scatter", index, new)
    made = input.clone()
    places: list[Any] = [
        index if d == axis else _along(d, n, index) for d, n in enumerate(index.shape)
    ]
    setitem(made, tuple(places) or ..., new)
    return made


def _along(d: int, n: int, like: Tensor) -> Tensor:
    """0 … n−1 along dimension d of as many dimensions as ``like`` has."""
    steps = arange(n, backend=like.backend)
    return Reshape(tuple(n if i == d else 1 for i in range(like.ndim)))(steps)


def _fitting_src(name: str, index: Tensor, src: Tensor) -> Tensor:
    """The part of ``src`` that ``index`` covers. Raises ValueError when that is more than src."""
    if src.ndim != index.ndim or any(a > b for a, b in zip(index.shape, src.shape, strict=True)):
        raise ValueError(f"{name}: index shape {index.shape} does not fit src {src.shape}")
    if src.shape == index.shape:
        return src
    return Select(tuple(slice(0, n) for n in index.shape))(src)


def diagonal(input: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """The elements with equal index in both dimensions (shifted by ``offset``), as a last
    dimension.
    """
    a, b = normalize_axis(dim1, input.ndim), normalize_axis(dim2, input.ndim)
    if a == b:
        raise ValueError(f"diagonal: dim1 and dim2 must differ, both are {dim1}")
    rest = [d for d in range(input.ndim) if d not in (a, b)]
    moved = input.permute(*rest, a, b)
    rows, columns = max(-offset, 0), max(offset, 0)
    n = max(min(moved.shape[-2] - rows, moved.shape[-1] - columns), 0)
    steps = arange(n, backend=input.backend)
    return moved[(..., steps + rows, steps + columns)]
