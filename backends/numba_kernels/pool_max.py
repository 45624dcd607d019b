"""Kernels of max pooling and its adjoint (see ``pool`` for the two memory orders)."""

from __future__ import annotations

import numpy as np

from .access import get8, get32, geti64, put8, put32, read32, write32
from .lanes import (
    HALF,
    every_other,
    every_second,
    interleave_high,
    interleave_low,
    load_bytes,
    select_later,
    select_same,
    store_bytes,
    stream_high,
    stream_low,
    vget,
    vpart,
    vput,
)
from .memory import LINE
from .pool_windows import (
    INNER,
    KERNEL,
    OUTPUT,
    SIZE,
    STRIDE,
    TAPS,
    TWO_BY_TWO,
    cell,
    first_tap,
    last_tap,
    line_start,
    next_line,
    set_zero,
    vspaced,
    winning_cell,
)
from .runtime import device, kernel
from .simd import BYTES, WIDTH, fence, splat, touch

f4 = np.float32
LONG = 256  # bytes of a line


@kernel
def max_rows(chunk, worker, x, y, winner, geo, lines, channels, step):
    """Channels innermost; ``step`` output lines (n, a, p) a chunk."""
    depth, height, width = geti64(geo, OUTPUT), geti64(geo, OUTPUT + 1), geti64(geo, OUTPUT + 2)
    image = 4 * channels * geti64(geo, SIZE) * geti64(geo, SIZE + 1) * geti64(geo, SIZE + 2)
    rows, columns, taps = geti64(geo, KERNEL + 1), geti64(geo, KERNEL + 2), geti64(geo, TAPS)
    for line in range(chunk * step, min(lines, (chunk + 1) * step)):
        p, a, source = line % height, line // height % depth, x + line // (height * depth) * image
        k0, k1 = first_tap(geo, 0, a), last_tap(geo, 0, a)
        i0, i1 = first_tap(geo, 1, p), last_tap(geo, 1, p)
        begin = line_start(geo, cell(geo, 0, a, 0), cell(geo, 1, p, 0))
        for q in range(width):
            j0, j1, out = first_tap(geo, 2, q), last_tap(geo, 2, q), (line * width + q) * channels
            corner = source + 4 * (begin + cell(geo, 2, q, 0)) * channels
            for c in range(0, channels, WIDTH):
                lanes = min(WIDTH, channels - c)
                best, taken = splat(f4(-np.inf)), splat(f4((k0 * rows + i0) * columns + j0))
                for k in range(k0, k1):
                    for i in range(i0, i1):
                        for t in range(
                            (k * rows + i) * columns + j0, (k * rows + i) * columns + j1
                        ):
                            v = vget(corner + 4 * (geti64(geo, taps + t) * channels + c), lanes)
                            taken = select_later(v, best, splat(f4(t)), taken)
                            best = select_later(v, best, v, best)
                vput(y + 4 * (out + c), best, lanes)
                store_bytes(winner + out + c, taken, lanes)


@device(inline=True)
def _max_cell(x: int, y: int, winner: int, geo: int, a: int, p: int, q: int, out: int) -> None:
    """One output cell of one plane."""
    rows, columns = geti64(geo, KERNEL + 1), geti64(geo, KERNEL + 2)
    k0, i0, j0 = first_tap(geo, 0, a), first_tap(geo, 1, p), first_tap(geo, 2, q)
    best, taken = f4(-np.inf), (k0 * rows + i0) * columns + j0
    for k in range(k0, last_tap(geo, 0, a)):
        for i in range(i0, last_tap(geo, 1, p)):
            start = line_start(geo, cell(geo, 0, a, k), cell(geo, 1, p, i))
            for j in range(j0, last_tap(geo, 2, q)):
                v = get32(x, start + cell(geo, 2, q, j))
                if v > best or v != v:
                    best, taken = v, (k * rows + i) * columns + j
    put32(y, out, best)
    put8(winner, out, np.uint8(taken))


@device(inline=True)
def _max_pairs(top: int, low: int, y: int, winner: int, lanes: int) -> None:
    """``lanes`` 2×2 windows side by side on two input lines."""
    near, far = min(WIDTH, 2 * lanes), 2 * lanes - WIDTH
    t0, t1 = vget(top, near), vpart(top + BYTES, far)
    l0, l1 = vget(low, near), vpart(low + BYTES, far)
    best, taken = every_second(t0, t1), splat(f4(0))
    v = every_other(t0, t1)
    taken, best = select_later(v, best, splat(f4(1)), taken), select_later(v, best, v, best)
    v = every_second(l0, l1)
    taken, best = select_later(v, best, splat(f4(2)), taken), select_later(v, best, v, best)
    v = every_other(l0, l1)
    taken, best = select_later(v, best, splat(f4(3)), taken), select_later(v, best, v, best)
    vput(y, best, lanes)
    store_bytes(winner, taken, lanes)


@device
def _max_line2(
    top: int, low: int, y: int, winner: int, count: int, written_later: int, end: int
) -> None:
    """``count`` 2×2 windows side by side; x ends at ``end``.

    The processor reads ahead of loads that go up in memory, and not of loads that go to and fro
    between long lines: so their cells are loaded in order first (112 columns on one thread: 1.3 ×,
    224: 1.6 to 2.7 × as fast). Parts of vectors are slow to store. So the last vector runs over the
    end of the line where what it hits is ``written_later`` (14 and 28 outputs wide: 1.3 and 1.6 ×).
    """
    if low - top >= LONG:
        for at in range(top, 2 * low - top, LINE):
            touch(at)
    for q in range(0, count, WIDTH):
        whole = q + WIDTH <= written_later and low + 8 * (q + WIDTH) <= end
        lanes = WIDTH if whole else min(WIDTH, count - q)
        _max_pairs(top + 8 * q, low + 8 * q, y + 4 * q, winner + q, lanes)


@device
def _max_line(
    source: int, y: int, winner: int, geo: int, a: int, p: int, first: int, last: int
) -> None:
    """Outputs ``first`` … ``last`` − 1 of one line of one plane, all of whose columns lie on input
    cells."""
    rows, columns, taps = geti64(geo, KERNEL + 1), geti64(geo, KERNEL + 2), geti64(geo, TAPS)
    k0, k1 = first_tap(geo, 0, a), last_tap(geo, 0, a)
    i0, i1 = first_tap(geo, 1, p), last_tap(geo, 1, p)
    begin = line_start(geo, cell(geo, 0, a, 0), cell(geo, 1, p, 0))
    step = geti64(geo, STRIDE + 2)
    for q in range(first, last, WIDTH):
        lanes = min(WIDTH, last - q)
        corner = source + 4 * (begin + cell(geo, 2, q, 0))
        best, taken = splat(f4(-np.inf)), splat(f4((k0 * rows + i0) * columns))
        for k in range(k0, k1):
            for i in range(i0, i1):
                for t in range((k * rows + i) * columns, (k * rows + i + 1) * columns):
                    v = vspaced(corner + 4 * geti64(geo, taps + t), step, lanes)
                    taken = select_later(v, best, splat(f4(t)), taken)
                    best = select_later(v, best, v, best)
        vput(y + 4 * q, best, lanes)
        store_bytes(winner + q, taken, lanes)


@kernel
def max_planes(chunk, worker, x, y, winner, geo, lines, step):
    """Columns innermost; ``step`` output lines (n, c, a, p) a chunk."""
    depth, height, width = geti64(geo, OUTPUT), geti64(geo, OUTPUT + 1), geti64(geo, OUTPUT + 2)
    columns = geti64(geo, SIZE + 2)
    plane = 4 * geti64(geo, SIZE) * geti64(geo, SIZE + 1) * columns
    fast = geti64(geo, TWO_BY_TWO) == 1
    first, last = geti64(geo, INNER), geti64(geo, INNER + 1)
    end, stop = x + lines // (depth * height) * plane, min(lines, (chunk + 1) * step)
    line = chunk * step
    p, a, source = line % height, line // height % depth, x + line // (height * depth) * plane
    for out in range(line * width, stop * width, width):
        done = 0
        if fast and last_tap(geo, 1, p) - first_tap(geo, 1, p) == 2 and last_tap(geo, 0, a) == 1:
            done, left = min(width, columns // 2), stop * width - out
            top = source + 4 * line_start(geo, cell(geo, 0, a, 0), cell(geo, 1, p, 0))
            _max_line2(top, top + 4 * columns, y + 4 * out, winner + out, done, left, end)
        elif first < last:
            for q in range(first):
                _max_cell(source, y, winner, geo, a, p, q, out + q)
            _max_line(source, y + 4 * out, winner + out, geo, a, p, first, last)
            done = last
        for q in range(done, width):
            _max_cell(source, y, winner, geo, a, p, q, out + q)
        p, a, source = next_line(p, a, source, height, depth, plane)


@kernel
def gather_rows(chunk, worker, x, y, winner, geo, lines, channels, step):
    """Channels innermost: y[cell, c] = x[winning cell, c]."""
    depth, height, width = geti64(geo, OUTPUT), geti64(geo, OUTPUT + 1), geti64(geo, OUTPUT + 2)
    image = 4 * channels * geti64(geo, SIZE) * geti64(geo, SIZE + 1) * geti64(geo, SIZE + 2)
    for line in range(chunk * step, min(lines, (chunk + 1) * step)):
        p, a, source = line % height, line // height % depth, x + line // (height * depth) * image
        for q in range(width):
            out = (line * width + q) * channels
            for c in range(channels):
                won = winning_cell(geo, a, p, q, np.int64(get8(winner, out + c)))
                put32(y, out + c, get32(source, won * channels + c))


@kernel
def gather_planes(chunk, worker, x, y, winner, geo, lines, step):
    """y[line, q] = x[plane, winning cell]."""
    depth, height, width = geti64(geo, OUTPUT), geti64(geo, OUTPUT + 1), geti64(geo, OUTPUT + 2)
    plane = 4 * geti64(geo, SIZE) * geti64(geo, SIZE + 1) * geti64(geo, SIZE + 2)
    line = chunk * step
    p, a, source = line % height, line // height % depth, x + line // (height * depth) * plane
    for out in range(line * width, min(lines, line + step) * width, width):
        for q in range(out, out + width):
            won = winning_cell(geo, a, p, q - out, np.int64(get8(winner, q)))
            put32(y, q, get32(source, won))
        p, a, source = next_line(p, a, source, height, depth, plane)


@kernel
def scatter_rows(chunk, worker, gy, gx, winner, geo, channels, apart):
    """Image ``chunk``, channels innermost. ``apart``: windows do not overlap, so that cells are
    written, not added to."""
    depth, height, width = geti64(geo, OUTPUT), geti64(geo, OUTPUT + 1), geti64(geo, OUTPUT + 2)
    cells = geti64(geo, SIZE) * geti64(geo, SIZE + 1) * geti64(geo, SIZE + 2)
    rows, columns, taps = geti64(geo, KERNEL + 1), geti64(geo, KERNEL + 2), geti64(geo, TAPS)
    target, out = gx + 4 * chunk * cells * channels, chunk * depth * height * width * channels
    zero = splat(f4(0))
    if apart < 2:
        set_zero(target, cells * channels)
    for a in range(depth):
        k0, k1 = first_tap(geo, 0, a), last_tap(geo, 0, a)
        for p in range(height):
            i0, i1 = first_tap(geo, 1, p), last_tap(geo, 1, p)
            begin = line_start(geo, cell(geo, 0, a, 0), cell(geo, 1, p, 0))
            for q in range(width):
                j0, j1 = first_tap(geo, 2, q), last_tap(geo, 2, q)
                corner = target + 4 * (begin + cell(geo, 2, q, 0)) * channels
                for c in range(0, channels, WIDTH):
                    lanes = min(WIDTH, channels - c)
                    g, won = vget(gy + 4 * (out + c), lanes), load_bytes(winner + out + c, lanes)
                    for k in range(k0, k1):
                        for i in range(i0, i1):
                            first = (k * rows + i) * columns
                            for t in range(first + j0, first + j1):
                                v = select_same(won, splat(f4(t)), g, zero)
                                at = corner + 4 * (geti64(geo, taps + t) * channels + c)
                                vput(at, v if apart else v + vget(at, lanes), lanes)
                out += channels


@device
def _scatter_line2(g: int, winner: int, top: int, low: int, count: int) -> None:
    """The adjoint of ``_max_line2``."""
    zero = splat(f4(0))
    for q in range(0, count, WIDTH):
        lanes = min(WIDTH, count - q)
        low_lanes, high_lanes = min(WIDTH, 2 * lanes), 2 * lanes - WIDTH
        u, won = vget(g + 4 * q, lanes), load_bytes(winner + q, lanes)
        for line in range(2):
            to, first = (low if line else top) + 8 * q, f4(2 * line)
            a = select_same(won, splat(first), u, zero)
            b = select_same(won, splat(first + f4(1)), u, zero)
            vput(to, interleave_low(a, b), low_lanes)
            if high_lanes > 0:
                vput(to + BYTES, interleave_high(a, b), high_lanes)


@device
def _stream_line2(g: int, winner: int, first: int, line: int, count: int) -> None:
    """One of the two lines of ``_scatter_line2``, past the caches: ``first`` is its first tap.

    Half vectors, as lines of 56 cells end in the middle of one; whole lines one after the other, as
    the processor gathers neighbouring halves.
    """
    zero = splat(f4(0))
    for q in range(0, count, WIDTH):
        lanes, to = min(WIDTH, count - q), line + 8 * q
        u, won = vget(g + 4 * q, lanes), load_bytes(winner + q, lanes)
        a = select_same(won, splat(f4(first)), u, zero)
        b = select_same(won, splat(f4(first + 1)), u, zero)
        near, far = interleave_low(a, b), interleave_high(a, b)
        stream_low(to, near)
        if lanes > HALF // 2:
            stream_high(to + 4 * HALF, near)
        if lanes > HALF:
            stream_low(to + BYTES, far)
        if lanes > HALF + HALF // 2:
            stream_high(to + BYTES + 4 * HALF, far)


@kernel
def stream_planes(chunk, worker, gy, gx, winner, lines, columns, step):
    """``scatter_planes`` of results too large for the caches, ``step`` output lines a chunk: 2×2
    windows that cover all cells, in lines of whole half vectors.

    On two threads, (32, 64, 112, 112): 1.4 ×, (16, 64, 224, 224): 3 × as fast.
    """
    width = columns // 2
    for out in range(chunk * step * width, min(lines, (chunk + 1) * step) * width, width):
        for first in range(0, 4, 2):
            to = gx + 16 * out + 2 * first * columns
            _stream_line2(gy + 4 * out, winner + out, first, to, width)
    fence()


@kernel
def scatter_planes(chunk, worker, gy, gx, winner, geo, planes, step, apart):
    """``step`` planes a chunk."""
    depth, height, width = geti64(geo, OUTPUT), geti64(geo, OUTPUT + 1), geti64(geo, OUTPUT + 2)
    cells = geti64(geo, SIZE) * geti64(geo, SIZE + 1) * geti64(geo, SIZE + 2)
    fast = geti64(geo, TWO_BY_TWO) == 1
    rows, columns = geti64(geo, SIZE + 1), geti64(geo, SIZE + 2)
    for plane in range(chunk * step, min(planes, (chunk + 1) * step)):
        target, out = gx + 4 * plane * cells, plane * depth * height * width
        if not (fast and apart == 2 and height * 2 == rows and width * 2 == columns):
            set_zero(target, cells)
        for a in range(depth):
            for p in range(height):
                done = 0
                if (
                    fast
                    and last_tap(geo, 1, p) - first_tap(geo, 1, p) == 2
                    and last_tap(geo, 0, a) == 1
                ):
                    done = min(width, geti64(geo, SIZE + 2) // 2)
                    top = target + 4 * line_start(geo, cell(geo, 0, a, 0), cell(geo, 1, p, 0))
                    _scatter_line2(
                        gy + 4 * out, winner + out, top, top + 4 * geti64(geo, SIZE + 2), done
                    )
                for q in range(done, width):
                    won = winning_cell(geo, a, p, q, np.int64(get8(winner, out + q)))
                    write32(target, won, read32(target, won) + get32(gy, out + q))
                out += width
