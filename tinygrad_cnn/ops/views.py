"""Other shapes of the same elements. The results share memory with the input where that is
possible.

All of these are linear, and each derivative is another member of the family: reshape ↔ reshape,
permute ↔ its inverse, expand ↔ sum, indexing ↔ scatter-add.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import dtypes
from ..backend import Array, Backend, BackendLike, pick_backend
from ..geometry import Shape, broadcast_axes, broadcast_shapes, normalize_axis
from ..tensor import Op, Tensor
from .elementwise import cast, operands
from .names import numpy_names


class Reshape(Op):
    saves_inputs, is_view = False, True

    def __init__(self, shape: Shape) -> None:
        self.shape = shape

    def forward(self, kernels: Backend, x: Array) -> Array:
        return kernels.reshape(x, self.shape)

    def backward(self, grad: Tensor, out: None) -> Tensor:
        return Reshape(self.shapes[0])(grad)


class Permute(Op):
    saves_inputs, is_view = False, True

    def __init__(self, axes: Shape) -> None:
        self.axes = axes

    def forward(self, kernels: Backend, x: Array) -> Array:
        return kernels.transpose(x, self.axes)

    def backward(self, grad: Tensor, out: None) -> Tensor:
        inverse = sorted(range(len(self.axes)), key=self.axes.__getitem__)
        return Permute(tuple(inverse))(grad)


class Expand(Op):
    """Repeat along axes of size 1 without copying; the derivative sums over the repeats (in the
    engine).
    """

    saves_inputs, is_view, broadcasts = False, True, True

    def __init__(self, shape: Shape) -> None:
        self.shape = shape

    def forward(self, kernels: Backend, x: Array) -> Array:
        return kernels.broadcast_to(x, self.shape)

    def backward(self, grad: Tensor, out: None) -> Tensor:
        return grad


class Select(Op):
    """Basic indexing: integers, slices and None; a view."""

    saves_inputs, is_view = False, True

    def __init__(self, index: tuple[Any, ...]) -> None:
        self.index = index

    def forward(self, kernels: Backend, x: Array) -> Array:
        return kernels.getitem(
            x, (*self.index, ...)
        )  # the dots make a single element a 0-d view too

    def backward(self, grad: Tensor, out: None) -> Tensor:
        return IndexAdd(self.index, self.shapes[0])(grad)


class Take(Op):
    """Indexing by integer or boolean arrays; a copy."""

    saves_inputs = False

    def __init__(self, index: tuple[Any, ...]) -> None:
        self.index = index

    def forward(self, kernels: Backend, x: Array) -> Array:
        return kernels.getitem(x, self.index)

    def backward(self, grad: Tensor, out: None) -> Tensor:
        return IndexAdd(self.index, self.shapes[0])(grad)


class IndexAdd(Op):
    """zeros(shape) with the input added at ``index``: the adjoint of indexing."""

    saves_inputs = False

    def __init__(self, index: tuple[Any, ...], shape: Shape) -> None:
        self.index, self.shape = index, shape

    def forward(self, kernels: Backend, g: Array) -> Array:
        return kernels.index_add(self.shape, self.index, g)

    def backward(self, grad: Tensor, out: None) -> Tensor:
        return Take(self.index)(grad)


class IndexPut(Op):
    """A copy of x with x[index] = value (broadcast to the place)."""

    saves_inputs = False

    def __init__(self, index: tuple[Any, ...]) -> None:
        self.index = index

    def forward(self, kernels: Backend, x: Array, value: Array) -> Array:
        made = kernels.copy(x)
        kernels.assign_at(made, self.index, value)
        return made

    def backward(self, grad: Tensor, out: None) -> tuple[Tensor | None, Tensor | None]:
        zero = Tensor._wrap(grad.backend.full((), 0.0, grad.dtype), grad.backend)
        gx = IndexPut(self.index)(grad, zero) if self.needs[0] else None
        return gx, sum_to(Take(self.index)(grad), self.shapes[1]) if self.needs[1] else None


class ViewWrite(Op):
    """The base of a view after the view was overwritten by ``value``: what in-place writing does to
    a graph.
    """

    saves_inputs = False

    def __init__(self, chain: tuple[Op, ...]) -> None:
        self.chain = chain

    def forward(self, kernels: Backend, base: Array, value: Array) -> Array:
        return base  # the memory has been written already

    def backward(self, grad: Tensor, out: None) -> tuple[Tensor | None, Tensor | None]:
        outside = None
        if self.needs[0]:  # by position, as the view of another memory order might be a copy
            count, kernels = math.prod(grad.shape), grad.backend
            numbers = Tensor._wrap(kernels.arange(0, count, 1, dtypes.int64), kernels)
            places = self._view(numbers.reshape(grad.shape)).reshape(-1)
            zero = Tensor._wrap(kernels.full((), 0.0, grad.dtype), kernels)
            outside = IndexPut((places.array,))(grad.reshape(-1), zero).reshape(grad.shape)
        return outside, self._view(grad) if self.needs[1] else None

    def _view(self, x: Tensor) -> Tensor:
        for op in self.chain:
            x = op.replay(x)
        return x


class Copy(Op):
    saves_inputs = False

    def forward(self, kernels: Backend, x: Array) -> Array:
        return kernels.copy(x)

    def backward(self, grad: Tensor, out: None) -> Tensor:
        return grad


class Move(Op):
    """The same values on another backend; the derivative moves back."""

    saves_inputs = False

    def __init__(self, origin: Backend, target: Backend) -> None:
        self.origin, self.target = origin, target

    def forward(self, kernels: Backend, x: Array) -> Array:
        return self.target.asarray(kernels.to_numpy(x))

    def backward(self, grad: Tensor, out: None) -> Tensor:
        return move(grad, self.origin)


def move(x: Tensor, target: Backend) -> Tensor:
    """x on another backend; x itself when it is there already."""
    if x.backend is target:
        return x
    made = Move(x.backend, target)(x)
    made.backend = target
    return made


def to(
    input: Tensor,
    *args: Any,
    dtype: Any = None,
    backend: BackendLike = None,
    copy: bool = False,
) -> Tensor:
    """``input`` with another dtype and/or on another backend: to("numpy"), to(float64),
    to(other_tensor).
    """
    for a in args:
        if isinstance(a, Tensor):
            dtype, backend = a.dtype, a.backend
        elif isinstance(a, str) and a not in dtypes._NAMES and not _is_dtype(a):
            backend = a
        else:
            dtype = a
    made = input if dtype is None else cast(input, dtypes.as_dtype(dtype))
    if backend is not None:
        made = move(made, pick_backend(backend))
    return clone(made) if copy and made is input else made


def _is_dtype(name: str) -> bool:
    try:
        np.dtype(name)
    except TypeError:
        return False
    return True


def clone(input: Tensor) -> Tensor:
    """A copy with its own memory; the gradient passes through."""
    return Copy()(input)


def contiguous(input: Tensor) -> Tensor:
    """``input`` in row-major order; itself when it is already."""
    size = input.dtype.itemsize
    for n, stride in zip(reversed(input.shape), reversed(input.array.strides), strict=True):
        if n > 1 and stride != size:
            flat = clone(input.reshape(-1)) if input.ndim != 1 else clone(input)
            return reshape(flat, input.shape)
        size *= n
    return input


def _sizes(shape: int | Sequence[int]) -> Shape:
    return (shape,) if isinstance(shape, int) else tuple(map(int, shape))


def reshape(input: Tensor, shape: int | Sequence[int]) -> Tensor:
    """The elements in row-major order in another shape; one size may be −1. Raises ValueError when
    it does not fit.
    """
    sizes = _sizes(shape)
    total = input.array.size
    if sizes.count(-1) == 1:
        known = -math.prod(sizes)
        if not known or total % known:
            raise ValueError(f"reshape: {total} elements of shape {input.shape} do not fit {sizes}")
        sizes = tuple(total // known if n == -1 else n for n in sizes)
    if math.prod(sizes) != total or min(sizes, default=0) < 0:
        raise ValueError(f"reshape: {total} elements of shape {input.shape} do not fit {sizes}")
    return Reshape(sizes).on((input,))


def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Dimensions start_dim … end_dim merged into one."""
    shape = input.shape
    a, b = normalize_axis(start_dim, len(shape)), normalize_axis(end_dim, len(shape))
    if a > b:
        raise ValueError(f"flatten: start_dim {start_dim} comes after end_dim {end_dim}")
    merged = math.prod(shape[a : b + 1])
    return Reshape((*shape[:a], merged, *shape[b + 1 :])).on((input,))


def unflatten(input: Tensor, dim: int, sizes: Sequence[int]) -> Tensor:
    """Dimension ``dim`` split into ``sizes``, one of which may be −1."""
    d = normalize_axis(dim, input.ndim)
    n, wanted = input.shape[d], list(sizes)
    if wanted.count(-1) == 1:
        known = -math.prod(wanted)
        wanted[wanted.index(-1)] = n // known if known else 0
    if math.prod(wanted) != n:
        raise ValueError(
            f"unflatten: dimension {dim} of size {n} does not split into {tuple(sizes)}"
        )
    return Reshape((*input.shape[:d], *wanted, *input.shape[d + 1 :]))(input)


@numpy_names
def squeeze(input: Tensor, dim: int | Sequence[int] | None = None) -> Tensor:
    """Without its dimensions of size 1 (all, or those in ``dim`` that have size 1)."""
    if dim is None:
        drop = {i for i, n in enumerate(input.shape) if n == 1}
    else:
        named = [dim] if isinstance(dim, int) else dim
        drop = {
            d
            for d in (normalize_axis(d, input.ndim) for d in named)
            if input.ndim and input.shape[d] == 1
        }
    return Reshape(tuple(n for i, n in enumerate(input.shape) if i not in drop))(input)


@numpy_names
def unsqueeze(input: Tensor, dim: int) -> Tensor:
    """With a new dimension of size 1 at ``dim``."""
    d = normalize_axis(dim, input.ndim + 1)
    return Reshape((*input.shape[:d], 1, *input.shape[d:]))(input)


def permute(input: Tensor, dims: int | Sequence[int]) -> Tensor:
    """The dimensions in another order. Raises ValueError unless every dimension is named once."""
    axes = tuple(normalize_axis(d, input.ndim) for d in _sizes(dims))
    if sorted(axes) != list(range(input.ndim)):
        raise ValueError(
            f"permute: expected every dimension of {input.shape} once, received {_sizes(dims)}"
        )
    return Permute(axes).on((input,))


def transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """Two dimensions exchanged."""
    axes = list(range(input.ndim))
    a, b = normalize_axis(dim0, input.ndim), normalize_axis(dim1, input.ndim)
    if axes:
        axes[a], axes[b] = axes[b], axes[a]
    return Permute(tuple(axes)).on((input,))


swapaxes = transpose


def t(input: Tensor) -> Tensor:
    """The transpose of a matrix; a vector stays itself. Raises ValueError above two dimensions."""
    if input.ndim > 2:
        raise ValueError(f"t: expected at most 2 dimensions, received shape {input.shape}")
    return Permute(tuple(reversed(range(input.ndim))))(input)


def movedim(input: Tensor, source: int | Sequence[int], destination: int | Sequence[int]) -> Tensor:
    """Dimensions moved to new places, the others keeping their order."""
    src = [normalize_axis(d, input.ndim) for d in ([source] if isinstance(source, int) else source)]
    dst = [
        normalize_axis(d, input.ndim)
        for d in ([destination] if isinstance(destination, int) else destination)
    ]
    if len(src) != len(dst) or len(set(src)) != len(src) or len(set(dst)) != len(dst):
        raise ValueError(
            f"movedim: {source!r} and {destination!r} must name as many different dimensions each"
        )
    order = [d for d in range(input.ndim) if d not in src]
    for place, d in sorted(zip(dst, src, strict=True)):
        order.insert(place, d)
    return Permute(tuple(order[: input.ndim]))(input)  # a 0-d tensor counts as one dimension


def broadcast_to(input: Tensor, shape: Sequence[int]) -> Tensor:
    """Repeated along dimensions of size 1, and new ones in front; a read-only view."""
    wanted = tuple(shape)
    if broadcast_shapes(input.shape, wanted) != wanted:
        raise ValueError(f"broadcast_to: shape {input.shape} does not broadcast to {wanted}")
    return Expand(wanted)(input)


def expand(input: Tensor, sizes: int | Sequence[int]) -> Tensor:
    """``broadcast_to`` where −1 keeps a size."""
    wanted = _sizes(sizes)
    lead = len(wanted) - input.ndim
    if lead < 0 or -1 in wanted[:lead]:
        raise ValueError(
            f"expand: {wanted} has too few dimensions, or -1 in a new one, for shape {input.shape}"
        )
    return broadcast_to(
        input, [input.shape[i - lead] if n == -1 else n for i, n in enumerate(wanted)]
    )


def sum_to(x: Tensor, shape: Shape) -> Tensor:
    """Summed over the axes that broadcasting from ``shape`` repeated: the adjoint of
    broadcast_to.
    """
    if x.shape == shape:
        return x
    return Reshape(shape)(x.sum(broadcast_axes(x.shape, shape), keepdim=True))


# -- indexing
# ----------------------------------------------------------------------------------------
def _split_index(x: Tensor, index: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """(basic, advanced): integers, slices and None first, then arrays on the result, as PyTorch
    does.

    Raises IndexError for too many indices, a wrong type, or an integer out of range."""
    items = list(index) if isinstance(index, tuple) else [index]
    items = [_index_item(x, item) for item in items]
    used = sum(
        0 if i is None or i is Ellipsis else getattr(i, "ndim", 1) if _is_mask(i) else 1
        for i in items
    )
    if used > x.ndim:
        raise IndexError(f"too many indices for a tensor of shape {x.shape}: received {used}")
    if sum(i is Ellipsis for i in items) > 1:
        raise IndexError("an index can hold only one '...'")
    dots = next((k for k, i in enumerate(items) if i is Ellipsis), len(items))
    items[dots : dots + 1] = [slice(None)] * (x.ndim - used)
    basic: list[Any] = []
    advanced: list[Any] = []
    axis = 0
    for item in items:
        if item is None:
            basic.append(None)
            advanced.append(slice(None))
            continue
        if isinstance(item, int):
            if not -x.shape[axis] <= item < x.shape[axis]:
                raise IndexError(
                    f"index {item} is out of range for dimension {axis} of shape {x.shape}"
                )
            basic.append(item)
        elif isinstance(item, slice):
            basic.append(item)
            advanced.append(slice(None))
        else:
            _check_array_index(item, x.shape, axis)
            basic.extend([slice(None)] * (item.ndim if _is_mask(item) else 1))
            advanced.append(item)
        axis += item.ndim if _is_mask(item) else 1
    if all(isinstance(a, slice) for a in advanced):
        advanced = []
    return tuple(basic), tuple(advanced)


def _index_item(x: Tensor, item: Any) -> Any:
    if item is None or item is Ellipsis or isinstance(item, slice):
        return _plain_slice(item) if isinstance(item, slice) else item
    if isinstance(item, int | np.integer) and not isinstance(item, bool):
        return int(item)
    if isinstance(item, Tensor):
        array = item.array
        if item.backend is not x.backend or x.requires_grad:  # backward needs the index of today
            array = x.backend.asarray(item.backend.to_numpy(array))
    else:
        try:
            array = np.asarray(item)
        except ValueError as error:
            raise IndexError(f"not an index: {item!r}") from error
        if array.size == 0 and isinstance(item, list | tuple):
            array = array.astype(np.int64)
        if array.dtype.kind in "iub" and (array.ndim or array.dtype.kind == "b"):
            array = x.backend.asarray(array)
    if array.dtype.kind not in "iub":
        raise IndexError(
            "indices must be integers, slices, None, ... or integer or boolean arrays, "
            f"received {item!r}"
        )
    if array.ndim == 0 and array.dtype.kind != "b":
        return int(array)
    return array.astype(np.int64) if array.dtype.kind == "u" else array


def _plain_slice(s: slice) -> slice:
    return slice(*(None if v is None else int(v) for v in (s.start, s.stop, s.step)))


def _is_mask(item: Any) -> bool:
    return getattr(item, "dtype", None) == dtypes.bool_


def _check_array_index(item: Any, shape: Shape, axis: int) -> None:
    if _is_mask(item):
        if item.shape != shape[axis : axis + item.ndim]:
            raise IndexError(
                f"a boolean index of shape {item.shape} does not match dimension {axis} "
                f"of shape {shape}"
            )
    elif item.size and not -shape[axis] <= int(item.min()) <= int(item.max()) < shape[axis]:
        low, high = int(item.min()), int(item.max())
        raise IndexError(
            f"index {low if low < -shape[axis] else high} is out of range "
            f"for dimension {axis} of shape {shape}"
        )


def _is_whole(basic: tuple[Any, ...]) -> bool:
    return all(b == slice(None) for b in basic if isinstance(b, slice)) and not any(
        b is None or isinstance(b, int) for b in basic
    )


def getitem(input: Tensor, index: Any) -> Tensor:
    """input[index] as NumPy indexes; a view for integers and slices, a copy for arrays."""
    basic, advanced = _split_index(input, index)
    made = input if advanced and _is_whole(basic) else Select(basic)(input)
    return Take(advanced)(made) if advanced else made


def setitem(input: Tensor, index: Any, value: Any) -> None:
    """input[index] = value, in place and recorded; ``value`` is broadcast and cast to input's
    dtype.
    """
    basic, advanced = _split_index(input, index)
    place = Select(basic)(input)
    if not isinstance(value, Tensor):
        from ..construct import tensor

        value = tensor(value, dtype=input.dtype, backend=input.backend)
    elif value.backend is not input.backend:
        (value,) = operands("setitem", value)
        raise ValueError(
            f"setitem: the tensor is on {input.backend.name}, the value on {value.backend.name}; "
            f'use value.to("{input.backend.name}")'
        )
    value = cast(value, input.dtype)
    while value.ndim and value.shape[0] == 1:
        value = Reshape(value.shape[1:])(value)
    if not advanced:
        if broadcast_shapes(place.shape, value.shape) != place.shape:
            raise ValueError(
                f"setitem: a value of shape {value.shape} does not fit the place {place.shape}"
            )
        place.inplace(lambda old, new: Expand(old.shape)(new), value)
    else:
        place.inplace(IndexPut(advanced), value)
