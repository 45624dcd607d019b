"""Images (and signals, and volumes) at another size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .. import dtypes
from ..geometry import LinearMap, Shape, remembered
from ..tensor import Tensor
from .adaptive import adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d
from .checks import tensor_of_floats
from .resample import Resample

LINEAR = {"linear": 1, "bilinear": 2, "trilinear": 3}
MODES = ("nearest", "nearest-exact", *LINEAR, "area")


def interpolate(
    input: Tensor, size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None, mode: str = "nearest",
    align_corners: bool | None = None, recompute_scale_factor: bool | None = None,
) -> Tensor:  # fmt: skip
    """(N, C, spatial…) at ``size``, or floor(n · scale_factor); 1–3 spatial dimensions.

    Output cell p reads the input at h, with scale = n_in/n_out, or 1/scale_factor if given and not
    recompute_scale_factor:

        nearest        h = floor(p·scale)
        nearest-exact  h = floor((p + ½)·scale)
        linear, bilinear, trilinear: h = max((p + ½)·scale − ½, 0), between its two neighbours;
                       with align_corners h = p·(n_in − 1)/(n_out − 1): the corners coincide
        area           adaptive average pooling

    Raises ValueError unless exactly one of size and scale_factor is given, and for a mode that
    does not fit the rank. Derivative: each output gives its gradient to the cells it read, by the
    same weights.
    """
    tensor_of_floats("interpolate", input)
    n = input.ndim - 2
    if n not in (1, 2, 3):
        raise ValueError(
            f"interpolate: expected 1 to 3 spatial dimensions (N, C, …), received {input.shape}"
        )
    if mode not in MODES or LINEAR.get(mode, n) != n:
        raise ValueError(
            f"interpolate: mode {mode!r} does not fit {n} spatial dimensions; expected one of "
            f"{tuple(m for m in MODES if LINEAR.get(m, n) == n)}"
        )
    if align_corners is not None and mode not in LINEAR:
        raise ValueError(
            f"interpolate: align_corners has a meaning in linear modes only, received {mode!r}"
        )
    sizes, outputs, factors = input.shape[2:], *_outputs(input, size, scale_factor)
    if recompute_scale_factor:
        if size is not None:
            raise ValueError("interpolate: recompute_scale_factor needs scale_factor, not size")
        factors = None
    if mode == "area":
        return (adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d)[n - 1](
            input, outputs
        )
    maps: list[LinearMap | None] = []
    for axis in range(n):
        scale = 1 / factors[axis] if factors else sizes[axis] / outputs[axis]
        if mode not in LINEAR:
            shift, fine = 0.5 if mode == "nearest-exact" else 0.0, input.dtype == dtypes.float64
            maps.append(_nearest(sizes[axis], outputs[axis], scale, shift, fine))
        elif sizes[axis] == outputs[axis]:
            maps.append(None)  # nothing to do, whatever the factor was before it was rounded
        else:
            maps.append(_linear(sizes[axis], outputs[axis], scale, bool(align_corners)))
    return Resample(tuple(maps))(input)


@remembered
def _nearest(n: int, outputs: int, scale: float, shift: float, fine: bool) -> LinearMap:
    """floor((p + shift)·scale) for each output p, in the precision that PyTorch decides in."""
    real = dtypes.float64.type if fine else dtypes.float32.type
    cells = [min(math.floor(real(p + shift) * real(scale)), n - 1) for p in range(outputs)]
    return LinearMap([[(cell, 1.0)] for cell in cells], n)


@remembered
def _linear(n: int, outputs: int, scale: float, align_corners: bool) -> LinearMap:
    """Linear interpolation along one axis: x[below]·(1 − λ) + x[above]·λ."""
    if align_corners:
        step = (n - 1) / (outputs - 1) if outputs > 1 else 0.0
        places = [p * step for p in range(outputs)]
    else:
        places = [max((p + 0.5) * scale - 0.5, 0.0) for p in range(outputs)]
    rows = []
    for h in places:
        below = min(int(h), n - 1)
        share = min(h - below, 1.0)
        rows.append([(below, 1 - share), (min(below + 1, n - 1), share)])
    return LinearMap(rows, n)


def _outputs(x: Tensor, size: Any, scale_factor: Any) -> tuple[Shape, tuple[float, ...] | None]:
    sizes, n = x.shape[2:], x.ndim - 2
    if (size is None) == (scale_factor is None):
        raise ValueError(
            f"interpolate: exactly one of size and scale_factor must be given, received {size!r} "
            f"and {scale_factor!r}"
        )
    given = size if scale_factor is None else scale_factor
    values = (given,) * n if isinstance(given, int | float) else tuple(given)
    if len(values) != n:
        raise ValueError(f"interpolate: expected one number or {n}, received {given!r}")
    outputs = tuple(
        int(v) if scale_factor is None else math.floor(m * v)
        for m, v in zip(sizes, values, strict=True)
    )
    if min(outputs) < 1 or 0 in sizes:
        raise ValueError(
            f"interpolate: sizes must be at least 1, received {sizes} to become {outputs}"
        )
    return outputs, None if scale_factor is None else tuple(float(v) for v in values)
