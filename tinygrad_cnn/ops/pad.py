"""Padding: more cells at the ends of dimensions, made of a constant or of the input's own cells."""

from __future__ import annotations

from collections.abc import Sequence

from ..backend import Array, Backend
from ..geometry import LinearMap, Pairs, remembered
from ..tensor import Op, Tensor
from .resample import Resample
from .views import Take

MODES = ("constant", "reflect", "replicate", "circular")


class ConstantPad(Op):
    """A frame of ``value``; negative widths cut cells off. (lo, hi) and (−lo, −hi) are adjoint."""

    saves_inputs = False

    def __init__(self, padding: Pairs, value: float) -> None:
        self.padding, self.value = padding, value

    def forward(self, kernels: Backend, x: Array) -> Array:
        inside = tuple(
            slice(max(-lo, 0), n - max(-hi, 0))
            for n, (lo, hi) in zip(x.shape, self.padding, strict=True)
        )
        frame = tuple((max(lo, 0), max(hi, 0)) for lo, hi in self.padding)
        kept = kernels.getitem(x, inside)
        if not self.value:
            return kernels.pad(kept, frame)
        sizes = tuple(lo + n + hi for n, (lo, hi) in zip(kept.shape, frame, strict=True))
        out = kernels.full(sizes, self.value, x.dtype)
        place = tuple(slice(lo, lo + n) for n, (lo, _) in zip(kept.shape, frame, strict=True))
        kernels.assign_at(out, place, kept)
        return out

    def backward(self, grad: Tensor, out: None) -> Tensor:
        return ConstantPad(tuple((-lo, -hi) for lo, hi in self.padding), 0.0)(grad)


def take_along(x: Tensor, axis: int, cells: Sequence[int]) -> Tensor:
    """x at ``cells`` of one axis, repeats allowed; the derivative adds the repeats up."""
    index = x.backend.asarray(list(cells), "int64")
    return Take((slice(None),) * axis + (index,))(x)


def _source_cells(mode: str, n: int, lo: int, hi: int) -> list[int]:
    """The input cell that each output copies: p − lo mirrored, clamped or wrapped into 0 … n−1."""
    positions = range(-lo, n + hi)
    if mode == "reflect":
        return [(n - 1) - abs((n - 1) - abs(h)) for h in positions]
    if mode == "replicate":
        return [min(max(h, 0), n - 1) for h in positions]
    kept = range(
        max(-lo, 0), n - max(-hi, 0)
    )  # the other end is that of what negative widths leave
    return [kept[h % len(kept)] for h in range(-max(lo, 0), len(kept) + max(hi, 0))]


@remembered
def _copies(mode: str, n: int, lo: int, hi: int) -> LinearMap:
    return LinearMap([[(cell, 1.0)] for cell in _source_cells(mode, n, lo, hi)], n)


def pad(
    input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None
) -> Tensor:
    """``input`` with cells added at the ends of its last dimensions; negative numbers remove some.

    ``pad`` = (last before, last after, last-but-one before, …). ``mode``: "constant" fills with
    ``value`` (default 0); "reflect" mirrors without repeating the edge (3 2 | 1 2 3 | 2 1);
    "replicate" repeats the edge (1 1 | 1 2 3 | 3 3); "circular" continues from the other end
    (2 3 | 1 2 3 | 1 2).

    Raises ValueError for an odd count, more pairs than dimensions, a negative result, or a frame
    that is wider than the input offers cells. Derivative: frame cells give their gradient to the
    cell they copy.

    >>> import tinygrad_cnn as tg
    >>> pad(tg.tensor([[1.0, 2.0, 3.0]], backend="numpy"), (2, 1), mode="reflect").tolist()
    [[3.0, 2.0, 1.0, 2.0, 3.0, 2.0]]
    """
    widths = [int(p) for p in pad]
    if len(widths) % 2 or len(widths) > 2 * input.ndim:
        raise ValueError(
            f"pad: expected (before, after) for at most {input.ndim} dimensions, received "
            f"{tuple(widths)}"
        )
    if mode not in MODES:
        raise ValueError(f"pad: mode must be one of {MODES}, received {mode!r}")
    if mode != "constant" and value is not None and value != 0:
        raise ValueError(
            f'pad: value {value!r} has a meaning in mode "constant" only, received {mode!r}'
        )
    pairs = [(0, 0)] * (input.ndim - len(widths) // 2)
    pairs += list(zip(widths[-2::-2], widths[-1::-2], strict=True))
    _check_widths(mode, input, tuple(pairs))
    if mode == "constant":
        return ConstantPad(tuple(pairs), 0.0 if value is None else value)(input)
    if input.dtype.kind == "f" and input.ndim in (3, 4) and not any(map(any, pairs[:-2])):
        sizes = input.shape[-2:]
        maps = [
            _copies(mode, n, *pair) if any(pair) else None
            for n, pair in zip(sizes, pairs[-2:], strict=True)
        ]
        return Resample(tuple(maps))(input)
    out = input
    for axis, (lo, hi) in enumerate(pairs):
        if lo or hi:
            out = take_along(out, axis, _source_cells(mode, out.shape[axis], lo, hi))
    return out


def _check_widths(mode: str, x: Tensor, pairs: Pairs) -> None:
    for axis, (n, (lo, hi)) in enumerate(zip(x.shape, pairs, strict=True)):
        if lo + n + hi < 0 or min(lo, 0) + min(hi, 0) + n < 0:
            raise ValueError(
                f"pad: ({lo}, {hi}) leaves nothing of dimension {axis} of shape {x.shape}"
            )
        if (lo or hi) and mode != "constant" and n == 0:
            raise ValueError(
                f"pad: mode {mode!r} needs cells to copy, dimension {axis} of {x.shape} is empty"
            )
        most = {"reflect": n - 1, "circular": n + min(lo, 0) + min(hi, 0)}.get(mode, max(lo, hi))
        if max(lo, hi, 0) > max(most, 0):
            raise ValueError(
                f"pad: mode {mode!r} can add at most {most} cells to dimension {axis} "
                f"of shape {x.shape}, received ({lo}, {hi})"
            )
