"""3-D convolution as 2-D: the kernel's depths become input channels.

    y[n, o, a] = Σ_{k,c} s[(n, a), (k, c)] ∗ w[o, (k, c)]
    s[(n, a), (k, c)] = x[n, c, a·s + k·d − lo]

so that one 2-D convolution of N·A images does it all, by whichever algorithm suits it. The stacked
images take as many times the memory of x as the kernel is deep (over the stride); 1.1 to 3 times as
fast as a 2-D convolution for each image and kernel depth.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_cnn.geometry import Shape

from . import strided

STACK_BYTES = 256 * 1024 * 1024  # of stacked images at most: larger volumes go depth by depth

Depths = Sequence[tuple[int, slice, slice]]  # (kernel depth, input depths, output depths)


def accepts(shape: Shape, kernel: int, outputs: int, groups: int) -> bool:
    """Whether volumes of this shape (N, C, D, H, W) may be stacked."""
    n, c, _, h, w = shape
    return groups == 1 and 4 * n * outputs * h * w * kernel * c <= STACK_BYTES


def stack(x: Any, kernel: int, outputs: int, depths: Depths) -> Any:
    """s above, (N·A, K·C, H, W), channels last; depths outside x are zeros."""
    n, c, _, h, w = x.shape
    s = np.zeros((n, outputs, h, w, kernel, c), np.float32)
    for k, inputs, hearing in depths:
        target, source = s[:, hearing, :, :, k], x[:, :, inputs].transpose(0, 2, 3, 4, 1)
        if not strided.assign(target, source):
            np.copyto(target, source)
    return s.reshape(n * outputs, h, w, kernel * c).transpose(0, 3, 1, 2)


def unstack(s: Any, shape: Shape, kernel: int, depths: Depths) -> Any:
    """The adjoint of ``stack``: x of this shape, channels last."""
    n, c, d, h, w = shape
    parts = s.transpose(0, 2, 3, 1).reshape(n, -1, h, w, kernel, c)
    x = np.zeros((n, d, h, w, c), np.float32)
    for k, inputs, hearing in depths:
        x[:, inputs] += parts[:, hearing, :, :, k]
    return x.transpose(0, 4, 1, 2, 3)


def images(y: Any) -> Any:
    """(N, O, A, P, Q) as (N·A, O, P, Q)."""
    n, o, a, p, q = y.shape
    last = y.transpose(0, 2, 3, 4, 1)
    if not last.flags.c_contiguous:
        last, lying = np.empty((n, a, p, q, o), np.float32), last
        if not strided.assign(last, lying):
            np.copyto(last, lying)
    return last.reshape(n * a, p, q, o).transpose(0, 3, 1, 2)


def volumes(y: Any, n: int) -> Any:
    """The inverse of ``images``."""
    _, o, p, q = y.shape
    return y.transpose(0, 2, 3, 1).reshape(n, -1, p, q, o).transpose(0, 4, 1, 2, 3)


def flat_weight(w: Any) -> Any:
    """w (O, C, K, I, J) as (O, K·C, I, J)."""
    o, c, k, i, j = w.shape
    return w.transpose(0, 2, 1, 3, 4).reshape(o, k * c, i, j)


def deep_weight(w: Any, shape: Shape) -> Any:
    """The inverse of ``flat_weight``, contiguous."""
    o, c, k, i, j = shape
    return np.ascontiguousarray(w.reshape(o, k, c, i, j).transpose(0, 2, 1, 3, 4))
