"""Group, instance and layer normalisation of float32 arrays.

Group norm works on sums of each channel of each image: they are combined to sums of groups, in
float64, and come back as numbers of each channel of each image, so that one pass is left for the
values. Images with their channels innermost have kernels here, a vector of channels of one image a
chunk; for planes, image and channel together are the channel of batch norm's kernels (``norm.py``).
Layer norm has whole rows, and keeps a row in the cache for all its passes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from . import norm
from .lanes import vget, vput
from .memory import empty
from .norm_sums import sums_planes
from .order import dense_strides, order, split
from .runtime import address, device, kernel
from .simd import WIDTH, fma, lane_sum, load_f32, splat, store_f32

f4 = np.float32
BLOCK = 64  # rows that are summed in float32 before they join the total
CHUNK = 16384  # elements of a chunk, where chunks are blocks of rows
ROW_CHUNKS = 16  # of layer norm's weight gradients: a partial sum each


# ---------------------------------------------------------------------------------------------
# Images, channels innermost
# ---------------------------------------------------------------------------------------------
@device
def _place(chunk, cells, channels):
    """(byte offset in the images, byte offset in a table (N, C), lanes) of a chunk."""
    blocks = (channels + WIDTH - 1) // WIDTH
    image, c = chunk // blocks, chunk % blocks * WIDTH
    return (
        4 * (image * cells * channels + c),
        4 * (image * channels + c),
        min(WIDTH, channels - c),
    )


@kernel
def image_stats(chunk, worker, x, means, variances, cells, channels):
    """Mean and variance over the cells of an image, a vector of channels a chunk."""
    at, to, lanes = _place(chunk, cells, channels)
    pitch, share = 4 * channels, splat(f4(1) / f4(cells))
    total = splat(f4(0))
    for first in range(0, cells, BLOCK):
        part = splat(f4(0))
        for i in range(first, min(first + BLOCK, cells)):
            part = part + vget(x + at + i * pitch, lanes)
        total = total + part
    mean = total * share
    total = splat(f4(0))
    for first in range(0, cells, BLOCK):
        part = splat(f4(0))
        for i in range(first, min(first + BLOCK, cells)):
            away = vget(x + at + i * pitch, lanes) - mean
            part = fma(away, away, part)
        total = total + part
    vput(means + to, mean, lanes)
    vput(variances + to, total * share, lanes)


@kernel
def image_sums(chunk, worker, gy, x, means, totals, moments, cells, channels):
    """Σ gy and Σ gy·(x − mean) over the cells of an image, a vector of channels a chunk."""
    at, to, lanes = _place(chunk, cells, channels)
    pitch, mean = 4 * channels, vget(means + to, lanes)
    total, moment = splat(f4(0)), splat(f4(0))
    for first in range(0, cells, BLOCK):
        part, other = splat(f4(0)), splat(f4(0))
        for i in range(first, min(first + BLOCK, cells)):
            v = vget(gy + at + i * pitch, lanes)
            part = part + v
            other = fma(v, vget(x + at + i * pitch, lanes) - mean, other)
        total, moment = total + part, moment + other
    vput(totals + to, total, lanes)
    vput(moments + to, moment, lanes)


@kernel
def image_apply(chunk, worker, x, y, table, size, cells, channels, bands, band):
    """y = (x − mean)·scale + bias; table = (mean, scale, bias), each (N, C) of ``size`` bytes."""
    image, first = chunk // bands, chunk % bands * band
    pitch, numbers = 4 * channels, table + 4 * image * channels
    for i in range(first, min(first + band, cells)):
        row = (image * cells + i) * pitch
        for c in range(0, channels, WIDTH):
            lanes, t = min(WIDTH, channels - c), numbers + 4 * c
            v = vget(x + row + 4 * c, lanes) - vget(t, lanes)
            v = fma(v, vget(t + size, lanes), vget(t + 2 * size, lanes))
            vput(y + row + 4 * c, v, lanes)


@kernel
def image_input(chunk, worker, gy, x, gx, table, size, cells, channels, bands, band):
    """gx = a·gy + b·(x − mean) + c; table = (mean, a, b, c), each (N, C) of ``size`` bytes."""
    image, first = chunk // bands, chunk % bands * band
    pitch, numbers = 4 * channels, table + 4 * image * channels
    for i in range(first, min(first + band, cells)):
        row = (image * cells + i) * pitch
        for c in range(0, channels, WIDTH):
            lanes, t, at = min(WIDTH, channels - c), numbers + 4 * c, row + 4 * c
            v = vget(x + at, lanes) - vget(t, lanes)
            v = fma(v, vget(t + 2 * size, lanes), vget(t + 3 * size, lanes))
            vput(gx + at, fma(vget(gy + at, lanes), vget(t + size, lanes), v), lanes)


class Images:
    """How x (N, C, …) lies: with its channels innermost, or as planes (else it is copied)."""

    def __init__(self, x: Any) -> None:
        self.n, self.channels = x.shape[:2]
        self.cells = math.prod(x.shape[2:])
        axes = order(x.shape, x.strides, 4)
        inner = 0 if axes is None else split(x.shape, axes, 1)[2]
        leads = axes is not None and (self.n == 1 or axes[:1] == (0,))
        self.last = self.channels > 1 and leads and inner == 1 and self.cells > 1
        if not self.last and not x.flags.c_contiguous:
            x = np.ascontiguousarray(x)
            axes = order(x.shape, x.strides, 4)
        self.axes, self.x = axes, x
        self.vectors = self.n * -(-self.channels // WIDTH)
        self.band = max(1, CHUNK // self.channels)
        self.bands = -(-self.cells // self.band)

    def like(self) -> Any:
        return empty(self.x.shape, f4, dense_strides(self.x.shape, self.axes, 4))

    def aligned(self, a: Any) -> Any:
        """``a`` in this memory order: itself, or a copy."""
        if order(a.shape, a.strides, 4) == self.axes:
            return a
        b = self.like()
        np.copyto(b, a)
        return b

    def planes(self, a: Any) -> Any:
        """Planes as an array (1, N·C, cells)."""
        return a.reshape(1, self.n * self.channels, self.cells)

    def table(self, *numbers: Any) -> Any:
        """The kernels' table: arrays that broadcast to (N, C), one after the other."""
        made = np.empty((len(numbers), self.n, self.channels), f4)
        for row, values in zip(made, numbers, strict=True):
            row[...] = values
        return made

    def run(self, rows: Any, planes: Any, arrays: tuple[int, ...], table: Any, skip: int) -> None:
        """One of the two kernels; batch norm's takes a 0 before its argument ``skip``."""
        if self.last:
            where = (address(table), table[0].nbytes, self.cells, self.channels)
            rows(self.n * self.bands, *arrays, *where, self.bands, self.band)
            return
        count, step = self.n * self.channels, max(1, CHUNK // self.cells)
        sizes = (count, count, self.cells, step, 0)
        arrays = (*arrays[:skip], 0, *arrays[skip:])
        planes(-(-count // step), *arrays, address(table), *sizes)


def _spread(numbers: Any, images: Images) -> Any:
    """(N, G) repeated to (N, C)."""
    return np.repeat(numbers, images.channels // numbers.shape[1], 1)


def group_norm(x: Any, groups: int, weight: Any, bias: Any, eps: float) -> tuple[Any, Any, Any]:
    """(y, mean, var), the statistics (N, G)."""
    images = Images(x)
    x, shape = images.x, (images.n, images.channels)
    if images.last:
        means, variances = np.empty(shape, f4), np.empty(shape, f4)
        places = (address(x), address(means), address(variances))
        image_stats(images.vectors, *places, images.cells, images.channels)
    else:
        means, variances = norm.stats(images.planes(x))
    each = means.reshape(images.n, groups, -1).astype(np.float64)
    share = 1 / each.shape[2]
    mean = np.add.reduce(each, 2) * share
    away = each - mean[:, :, None]
    var = np.add.reduce(variances.reshape(each.shape) + away * away, 2) * share
    scale = _spread(1 / np.sqrt(var + eps), images)
    table = images.table(
        _spread(mean, images),
        scale if weight is None else scale * weight,
        0 if bias is None else bias,
    )
    y = images.like()
    images.run(image_apply, norm.apply_planes, (address(x), address(y)), table, 2)
    return y, mean.astype(f4), var.astype(f4)


def group_norm_grad(
    gy: Any, x: Any, mean: Any, var: Any, weight: Any, groups: int, eps: float
) -> tuple[Any, Any, Any]:
    """(gx, gweight, gbias) of ``group_norm``."""
    images = Images(x)
    x, gy = images.x, images.aligned(gy)
    means = np.ascontiguousarray(_spread(mean, images))
    sums = np.empty((2, images.n, images.channels), f4)
    if images.last:
        places = (address(gy), address(x), address(means), address(sums[0]), address(sums[1]))
        image_sums(images.vectors, *places, images.cells, images.channels)
    else:
        count, step = means.size, max(1, CHUNK // images.cells)
        sums_planes(-(-count // step), address(gy), address(x), 0, 0, address(means), address(sums),
                    count, count, images.cells, step, 0)  # fmt: skip
    inverse = 1 / np.sqrt(var.astype(np.float64) + eps)
    total, moment = sums.astype(np.float64)
    moment *= _spread(inverse, images)
    gweight, gbias = moment.sum(0), total.sum(0)
    if weight is not None:
        total, moment = total * weight, moment * weight
    terms = images.cells * images.channels // groups
    by_group = (images.n, groups, -1)
    level = total.reshape(by_group).sum(2) / terms
    tilt = moment.reshape(by_group).sum(2) / terms
    scale = _spread(inverse, images)
    table = images.table(
        means, scale if weight is None else scale * weight,
        _spread(-tilt * inverse * inverse, images), _spread(-level * inverse, images),
    )  # fmt: skip
    gx = images.like()
    arrays = (address(gy), address(x), address(gx))
    images.run(image_input, norm.input_planes, arrays, table, 2)
    return gx, gweight.astype(f4), gbias.astype(f4)


# ---------------------------------------------------------------------------------------------
# Layer norm: rows
# ---------------------------------------------------------------------------------------------
@device(inline=True)
def _inverse(var, eps):
    """1/√(var + eps), ``eps`` the address of a number."""
    return f4(1) / f4(math.sqrt(var + load_f32(eps)))


@kernel
def layer_rows(chunk, worker, x, weight, bias, y, means, variances, eps, rows, n, step):
    """y[r] = (x[r] − mean)/√(var + eps)·weight + bias; weight or bias 0 for none; ``eps`` is an
    address."""
    for r in range(chunk * step, min(rows, (chunk + 1) * step)):
        a, b = x + 4 * r * n, y + 4 * r * n
        total = splat(f4(0))
        for i in range(0, n, WIDTH):
            total = total + vget(a + 4 * i, min(WIDTH, n - i))
        mean = lane_sum(total) / f4(n)
        m, squares = splat(mean), splat(f4(0))
        for i in range(0, n, WIDTH):
            lanes = min(WIDTH, n - i)
            away = vget(a + 4 * i, lanes) - m
            if lanes < WIDTH:  # the lanes beyond the end are 0 − mean
                vput(b + 4 * i, away, lanes)
                away = vget(b + 4 * i, lanes)
            squares = fma(away, away, squares)
        var = lane_sum(squares) / f4(n)
        store_f32(means + 4 * r, mean)
        store_f32(variances + 4 * r, var)
        v = splat(_inverse(var, eps))
        for i in range(0, n, WIDTH):
            lanes = min(WIDTH, n - i)
            z = (vget(a + 4 * i, lanes) - m) * v
            if weight:
                z = z * vget(weight + 4 * i, lanes)
            if bias:
                z = z + vget(bias + 4 * i, lanes)
            vput(b + 4 * i, z, lanes)


@kernel
def layer_rows_grad(
    chunk, worker, gy, x, weight, means, variances, eps, gx, partial, rows, n, step
):
    """gx[r] = (g − mean(g) − x̂·mean(g·x̂))/σ with g = gy[r]·weight; partial[chunk] = Σ gy·x̂, Σ gy
    over the rows of a chunk."""
    sums = partial + 8 * n * chunk
    for i in range(0, 2 * n, WIDTH):
        vput(sums + 4 * i, splat(f4(0)), min(WIDTH, 2 * n - i))
    for r in range(chunk * step, min(rows, (chunk + 1) * step)):
        a, b, to = x + 4 * r * n, gy + 4 * r * n, gx + 4 * r * n
        m, v = splat(load_f32(means + 4 * r)), splat(_inverse(load_f32(variances + 4 * r), eps))
        level, tilt = splat(f4(0)), splat(f4(0))
        for i in range(0, n, WIDTH):
            lanes, at = min(WIDTH, n - i), sums + 4 * i
            g, xhat = vget(b + 4 * i, lanes), (vget(a + 4 * i, lanes) - m) * v
            vput(at, fma(g, xhat, vget(at, lanes)), lanes)
            vput(at + 4 * n, vget(at + 4 * n, lanes) + g, lanes)
            if weight:
                g = g * vget(weight + 4 * i, lanes)
            level, tilt = level + g, fma(g, xhat, tilt)  # g is 0 beyond the end
        p, q = splat(lane_sum(level) / f4(n)), splat(lane_sum(tilt) / f4(n))
        for i in range(0, n, WIDTH):
            lanes = min(WIDTH, n - i)
            g, xhat = vget(b + 4 * i, lanes), (vget(a + 4 * i, lanes) - m) * v
            if weight:
                g = g * vget(weight + 4 * i, lanes)
            vput(to + 4 * i, (g - p - xhat * q) * v, lanes)


def layer_norm(x: Any, weight: Any, bias: Any, eps: float) -> tuple[Any, Any, Any]:
    """(y, mean, var) of the rows of a matrix."""
    x = np.ascontiguousarray(x)
    rows, n = x.shape
    y, means, variances = empty(x.shape, f4), np.empty(rows, f4), np.empty(rows, f4)
    weight, bias = (None if v is None else np.ascontiguousarray(v) for v in (weight, bias))
    step, number = max(1, CHUNK // n), np.array([eps], f4)
    layer_rows(-(-rows // step), address(x), _where(weight), _where(bias), address(y),
               address(means), address(variances), address(number), rows, n, step)  # fmt: skip
    return y, means, variances


def layer_norm_grad(
    gy: Any, x: Any, means: Any, variances: Any, weight: Any, eps: float
) -> tuple[Any, Any, Any]:
    """(gx, gweight, gbias) of ``layer_norm``."""
    x, gy = np.ascontiguousarray(x), np.ascontiguousarray(gy)
    rows, n = x.shape
    weight = None if weight is None else np.ascontiguousarray(weight)
    step, number = max(-(-rows // ROW_CHUNKS), 1), np.array([eps], f4)
    chunks = -(-rows // step)
    gx, partial = empty(x.shape, f4), np.empty((chunks, 2, n), f4)
    layer_rows_grad(chunks, address(gy), address(x), _where(weight), address(means),
                    address(variances), address(number), address(gx), address(partial), rows, n,
                    step)  # fmt: skip
    gweight, gbias = partial.sum(0, dtype=np.float64).astype(f4)
    return gx, gweight, gbias


def _where(a: Any) -> int:
    return 0 if a is None else address(a)
