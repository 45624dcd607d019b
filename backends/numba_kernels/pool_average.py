"""Kernels of average pooling and its adjoint; ``divisors`` has one float32 an output cell."""

from __future__ import annotations

from typing import Any

import numpy as np

from .access import get32, geti64, put32, read32, write32
from .lanes import vget, vput
from .pool_windows import (
    DILATION,
    INNER,
    KERNEL,
    OUTPUT,
    SIZE,
    STRIDE,
    TAPS,
    WHOLE,
    cell,
    first_tap,
    last_tap,
    line_start,
    next_line,
    set_zero,
    vspaced,
)
from .runtime import device, kernel
from .simd import WIDTH, splat

f4 = np.float32


@kernel
def average_rows(chunk, worker, x, y, divisors, geo, lines, channels, step):
    """Channels innermost; ``step`` output lines a chunk."""
    depth, height, width = geti64(geo, OUTPUT), geti64(geo, OUTPUT + 1), geti64(geo, OUTPUT + 2)
    image = 4 * channels * geti64(geo, SIZE) * geti64(geo, SIZE + 1) * geti64(geo, SIZE + 2)
    rows, columns, taps = geti64(geo, KERNEL + 1), geti64(geo, KERNEL + 2), geti64(geo, TAPS)
    for line in range(chunk * step, min(lines, (chunk + 1) * step)):
        p, a, source = line % height, line // height % depth, x + line // (height * depth) * image
        k0, k1 = first_tap(geo, 0, a), last_tap(geo, 0, a)
        i0, i1 = first_tap(geo, 1, p), last_tap(geo, 1, p)
        begin = line_start(geo, cell(geo, 0, a, 0), cell(geo, 1, p, 0))
        for q in range(width):
            divisor = splat(get32(divisors, (a * height + p) * width + q))
            j0, j1, out = first_tap(geo, 2, q), last_tap(geo, 2, q), (line * width + q) * channels
            corner = source + 4 * (begin + cell(geo, 2, q, 0)) * channels
            for c in range(0, channels, WIDTH):
                lanes, total = min(WIDTH, channels - c), splat(f4(0))
                for k in range(k0, k1):
                    for i in range(i0, i1):
                        first = (k * rows + i) * columns
                        for t in range(first + j0, first + j1):
                            at = corner + 4 * (geti64(geo, taps + t) * channels + c)
                            total = total + vget(at, lanes)
                vput(y + 4 * (out + c), total / divisor, lanes)


@device(fastmath={"reassoc", "nsz"})
def _sum_line(p: int, step: int, count: int) -> Any:
    """Σ of ``count`` numbers ``step`` apart."""
    total = f4(0)
    if step == 1:
        for j in range(count):
            total += get32(p, j)
    else:
        for j in range(count):
            total += get32(p, j * step)
    return total


@device
def _average_line(
    source: int, y: int, divisors: int, geo: int, a: int, p: int, first: int, last: int
) -> None:
    """As ``_max_line`` of ``pool_max``."""
    rows, columns, taps = geti64(geo, KERNEL + 1), geti64(geo, KERNEL + 2), geti64(geo, TAPS)
    begin = line_start(geo, cell(geo, 0, a, 0), cell(geo, 1, p, 0))
    step = geti64(geo, STRIDE + 2)
    for q in range(first, last, WIDTH):
        lanes, total = min(WIDTH, last - q), splat(f4(0))
        corner = source + 4 * (begin + cell(geo, 2, q, 0))
        for k in range(first_tap(geo, 0, a), last_tap(geo, 0, a)):
            for i in range(first_tap(geo, 1, p), last_tap(geo, 1, p)):
                for t in range((k * rows + i) * columns, (k * rows + i + 1) * columns):
                    total = total + vspaced(corner + 4 * geti64(geo, taps + t), step, lanes)
        vput(y + 4 * q, total / vget(divisors + 4 * q, lanes), lanes)


@device
def _average_cell(source: int, geo: int, a: int, p: int, q: int) -> Any:
    """The sum under output cell (a, p, q) of one plane."""
    j0, j1, total = first_tap(geo, 2, q), last_tap(geo, 2, q), f4(0)
    for k in range(first_tap(geo, 0, a), last_tap(geo, 0, a)):
        for i in range(first_tap(geo, 1, p), last_tap(geo, 1, p)):
            start = line_start(geo, cell(geo, 0, a, k), cell(geo, 1, p, i)) + cell(geo, 2, q, j0)
            total += _sum_line(source + 4 * start, geti64(geo, DILATION + 2), j1 - j0)
    return total


@kernel
def average_planes(chunk, worker, x, y, divisors, geo, lines, step):
    """Columns innermost; ``step`` output lines (n, c, a, p) a chunk."""
    depth, height, width = geti64(geo, OUTPUT), geti64(geo, OUTPUT + 1), geti64(geo, OUTPUT + 2)
    cells = geti64(geo, SIZE) * geti64(geo, SIZE + 1) * geti64(geo, SIZE + 2)
    first, last = geti64(geo, INNER), geti64(geo, INNER + 1)
    if geti64(geo, STRIDE + 2) > 2 and geti64(geo, KERNEL + 2) > 4:
        first, last = 0, 0  # long runs under a window: vectors along them, not along the outputs
    line = chunk * step
    p, a, source = line % height, line // height % depth, x + 4 * (line // (height * depth)) * cells
    for at in range(line, min(lines, line + step)):
        out, divisor = y + 4 * at * width, divisors + 4 * (a * height + p) * width
        if geti64(geo, WHOLE):
            put32(out, 0, _sum_line(source, 1, cells) / get32(divisor, 0))
        else:
            for q in range(first):
                put32(out, q, _average_cell(source, geo, a, p, q) / get32(divisor, q))
            if first < last:
                _average_line(source, out, divisor, geo, a, p, first, last)
            for q in range(last, width):
                put32(out, q, _average_cell(source, geo, a, p, q) / get32(divisor, q))
        p, a, source = next_line(p, a, source, height, depth, 4 * cells)


@kernel
def spread_rows(chunk, worker, gy, gx, divisors, geo, channels, apart):
    """Image ``chunk``, channels innermost: every window's share added to its cells; ``apart`` as in
    scatter_rows."""
    depth, height, width = geti64(geo, OUTPUT), geti64(geo, OUTPUT + 1), geti64(geo, OUTPUT + 2)
    cells = geti64(geo, SIZE) * geti64(geo, SIZE + 1) * geti64(geo, SIZE + 2)
    target, out = gx + 4 * chunk * cells * channels, chunk * depth * height * width * channels
    if apart < 2:
        set_zero(target, cells * channels)
    for a in range(depth):
        for p in range(height):
            for q in range(width):
                divisor = splat(get32(divisors, (a * height + p) * width + q))
                for c in range(0, channels, WIDTH):
                    lanes = min(WIDTH, channels - c)
                    share = vget(gy + 4 * (out + c), lanes) / divisor
                    for k in range(first_tap(geo, 0, a), last_tap(geo, 0, a)):
                        for i in range(first_tap(geo, 1, p), last_tap(geo, 1, p)):
                            start = line_start(geo, cell(geo, 0, a, k), cell(geo, 1, p, i))
                            for j in range(first_tap(geo, 2, q), last_tap(geo, 2, q)):
                                at = target + 4 * ((start + cell(geo, 2, q, j)) * channels + c)
                                vput(at, share if apart else share + vget(at, lanes), lanes)
                out += channels


@kernel
def spread_planes(chunk, worker, gy, gx, divisors, geo, planes, step, apart):
    """``step`` planes a chunk."""
    depth, height, width = geti64(geo, OUTPUT), geti64(geo, OUTPUT + 1), geti64(geo, OUTPUT + 2)
    cells = geti64(geo, SIZE) * geti64(geo, SIZE + 1) * geti64(geo, SIZE + 2)
    for plane in range(chunk * step, min(planes, (chunk + 1) * step)):
        target, out = gx + 4 * plane * cells, plane * depth * height * width
        set_zero(target, cells)
        for a in range(depth):
            for p in range(height):
                for q in range(width):
                    share = get32(gy, out) / get32(divisors, (a * height + p) * width + q)
                    out += 1
                    for k in range(first_tap(geo, 0, a), last_tap(geo, 0, a)):
                        for i in range(first_tap(geo, 1, p), last_tap(geo, 1, p)):
                            start = line_start(geo, cell(geo, 0, a, k), cell(geo, 1, p, i))
                            for j in range(first_tap(geo, 2, q), last_tap(geo, 2, q)):
                                at = start + cell(geo, 2, q, j)
                                write32(target, at, read32(target, at) + share)
