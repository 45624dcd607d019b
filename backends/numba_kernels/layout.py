"""Memory layout: images with padding, packed matrices and contiguous copies.

Activations have the logical shape (N, C, H, W) of the public API, but lie in memory as N, H, W, C
("NHWC", a transposed view): the channels of one pixel are then neighbours, so that a kernel
position × channels is one contiguous run and the output channels fill vectors. Inputs may have any
strides; kernels copy the part they work on to a padded scratch image that stays in the cache, and
that copy is also where the layout changes.

Matrices are packed into panels: B (K × N) is cut into strips of NV·WIDTH columns, each stored row
after row, the last one filled with zeros. See ``microkernel.panel_vectors``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_cnn.geometry import Shape

from .memory import empty
from .runtime import address, device, kernel
from .simd import (
    BYTES,
    WIDTH,
    load,
    load_f32,
    load_i64,
    load_part,
    splat,
    store,
    store_f32,
    store_part,
    stream,
    transpose_listed,
    transpose_square,
)

PIECE = 8 * WIDTH  # pixels that ``to_channels_last`` copies at a time


@device
def copy_floats(target: int, source: int, count: int) -> None:
    """``count`` contiguous float32."""
    whole = count // WIDTH * WIDTH * 4
    for at in range(0, whole, BYTES):
        store(target + at, load(source + at))
    if count % WIDTH:
        store_part(target + whole, load_part(source + whole, count % WIDTH), count % WIDTH)


@device
def stream_floats(target: int, source: int, count: int) -> None:
    """``copy_floats`` past the caches."""
    head = min(-target % BYTES // 4, count)
    if head:
        store_part(target, load_part(source, head), head)
    whole = head * 4 + (count - head) // WIDTH * BYTES
    for at in range(head * 4, whole, BYTES):
        stream(target + at, load(source + at))
    rest = count - whole // 4
    if rest:
        store_part(target + whole, load_part(source + whole, rest), rest)


@device
def zero_floats(target: int, count: int) -> None:
    """``count`` contiguous float32 set to 0."""
    zero = splat(np.float32(0))
    whole = count // WIDTH * WIDTH * 4
    for at in range(0, whole, BYTES):
        store(target + at, zero)
    if count % WIDTH:
        store_part(target + whole, zero, count % WIDTH)


@device
def add_floats(target: int, source: int, count: int) -> None:
    """target[i] += source[i] for ``count`` contiguous float32."""
    whole = count // WIDTH * WIDTH * 4
    for at in range(0, whole, BYTES):
        store(target + at, load(target + at) + load(source + at))
    rest = count % WIDTH
    if rest:
        total = load_part(target + whole, rest) + load_part(source + whole, rest)
        store_part(target + whole, total, rest)


@device
def copy_matrix(target, pitch, source, s_r, s_c, rows, columns):
    """target[r·pitch + 4·c] = source[r·s_r + c·s_c]: whichever of r and c is contiguous in the
    source."""
    if s_c == 4 and s_r == pitch and pitch == 4 * columns:
        copy_floats(target, source, rows * columns)
    elif s_c == 4:
        for r in range(rows):
            copy_floats(target + r * pitch, source + r * s_r, columns)
    else:
        squares = (rows // WIDTH * WIDTH) if s_r == 4 else 0
        whole = columns // WIDTH * WIDTH if squares else 0
        for r in range(0, squares, WIDTH):
            for c in range(0, whole, WIDTH):
                transpose_square(target + r * pitch + 4 * c, pitch, source + 4 * r + c * s_c, s_c)
        for r in range(rows):
            for c in range(whole if r < squares else 0, columns):
                store_f32(target + r * pitch + 4 * c, load_f32(source + r * s_r + c * s_c))


@device
def copy_padded(target, pitch, source, s_r, s_c, rows, columns):
    """``copy_matrix``, and zeros from the last column to the pitch."""
    dense = s_r == pitch and pitch == 4 * columns
    if s_c == 4 and pitch <= BYTES and not dense:
        # One vector a row: a masked load brings the zeros along.
        for r in range(rows):
            store_part(target + r * pitch, load_part(source + r * s_r, columns), pitch // 4)
        return
    copy_matrix(target, pitch, source, s_r, s_c, rows, columns)
    rest = pitch // 4 - columns
    if rest > 0:
        for r in range(rows):
            zero_floats(target + r * pitch + 4 * columns, rest)


@kernel
def copy_window(target, pitch, rows, columns, source, s_h, s_w, s_c, h, w, channels, row, column):
    """target[r, q, :] = source[row + r, column + q, :] for r < rows, q < columns; 0 outside h × w.

    ``target`` has pixels of ``pitch`` bytes, those beyond the channels become 0; ``row`` and
    ``column`` may be negative (padding). Other kernels reach it by ``call``, through an address in
    their plan.
    """
    first = min(max(-column, 0), columns)
    last = max(first, min(columns, w - column))
    for r in range(rows):
        line, at = target + r * columns * pitch, row + r
        if at < 0 or at >= h:
            zero_floats(line, columns * pitch // 4)
        else:
            zero_floats(line, first * pitch // 4)
            start = source + at * s_h + (column + first) * s_w
            copy_padded(line + first * pitch, pitch, start, s_w, s_c, last - first, channels)
            zero_floats(line + last * pitch, (columns - last) * pitch // 4)


@device
def pack_panel(index, target, source, k_list, k_count, n_step, n_count, padded, nr, group_step):
    """One panel of one group: target[group][panel][k][lane] =
    source[group·group_step + k_list[k] + (panel·nr + lane)·n_step].

    Panels are ``nr`` columns wide except the last; ``padded`` columns altogether, the rest zero.
    """
    panels = -(-padded // nr)
    group, first = index // panels, index % panels * nr
    width, count = min(nr, padded - first), min(nr, n_count - first)
    out = target + (group * padded + first) * k_count * 4
    for k in range(k_count):
        start = source + group * group_step + load_i64(k_list + 8 * k) + first * n_step
        to = out + k * width * 4
        if n_step == 4:
            copy_floats(to, start, count)
        else:
            for lane in range(count):
                store_f32(to + 4 * lane, load_f32(start + lane * n_step))
        zero_floats(to + 4 * count, width - count)


@device
def pack_rows(index, target, source, places, k_count, n_step, n_count, padded, nr, group_step):
    """``pack_panel`` of columns that are contiguous in the source, their row m being row places[m]
    of the panel: squares are read along the columns and turned, 1.5 to 4 times as fast."""
    panels = -(-padded // nr)
    group, first = index // panels, index % panels * nr
    width, count = min(nr, padded - first), min(nr, n_count - first)
    out = target + (group * padded + first) * k_count * 4
    start = source + group * group_step + first * n_step
    turned, square = count // WIDTH * WIDTH, k_count // WIDTH * WIDTH
    for lane in range(0, turned, WIDTH):
        for m in range(0, square, WIDTH):
            transpose_listed(out + 4 * lane, 4 * width, places + 8 * m,
                             start + lane * n_step + 4 * m, n_step)  # fmt: skip
    for m in range(square if turned == width else 0, k_count):
        to = out + load_i64(places + 8 * m) * width * 4
        for lane in range(turned if m < square else 0, count):
            store_f32(to + 4 * lane, load_f32(start + lane * n_step + 4 * m))
        zero_floats(to + 4 * count, width - count)


@kernel
def pack_panels(
    chunk, worker, target, source, k_list, k_count, n_step, n_count, padded, nr, group_step
):
    """``pack_panel``, one a chunk."""
    pack_panel(chunk, target, source, k_list, k_count, n_step, n_count, padded, nr, group_step)


def channels_last_strides(shape: Shape, itemsize: int = 4) -> Shape:
    """Byte strides of an array of logical shape (N, C, H, W) that lies in memory as N, H, W, C."""
    _, c, h, w = shape
    return h * w * c * itemsize, itemsize, w * c * itemsize, c * itemsize


def channels_last(shape: Shape) -> Any:
    """A new float32 array of logical shape (N, C, H, W) that lies in memory as N, H, W, C."""
    return empty(shape, np.float32, channels_last_strides(shape))


@kernel
def copy_images(chunk, worker, target, t_n, t_h, source, s_n, s_c, s_h, s_w, h, w, channels, piece):
    """target[n, h, w, c] = source[n, c, h, w]: ``piece`` pixels of an image row a chunk."""
    pieces = -(-w // piece)
    line, first = chunk // pieces, chunk % pieces * piece
    n, row = line // h, line % h
    copy_matrix(target + n * t_n + row * t_h + 4 * first * channels, 4 * channels,
                source + n * s_n + row * s_h + first * s_w, s_w, s_c, min(piece, w - first),
                channels)  # fmt: skip


def to_channels_last(x: Any) -> Any:
    """x (N, C, H, W) itself when its channels are contiguous in memory, else a copy of which they
    are."""
    if x.strides[1] == 4:
        return x
    (n, c, h, w), (_, _, s_h, s_w) = x.shape, x.strides
    y = channels_last(x.shape)
    if s_h == w * s_w:  # one long row: squares of WIDTH pixels fit better than into short ones
        h, w = 1, h * w
    copy_images(n * h * -(-w // PIECE), address(y), y.strides[0], y.strides[2], address(x),
                *x.strides, h, w, c, PIECE)  # fmt: skip
    return y
