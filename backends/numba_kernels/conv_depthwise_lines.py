"""Depthwise convolution of small kernels without dilation: line by line, by ``line_tile``.

The input is read as it lies, if its channels are neighbours in memory; else each chunk brings the
lines it needs into that order first. A chunk is a band of lines of an image (in the weight gradient
a share of all lines of all images, with partial sums of its own that are added up in order).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from tinygrad_cnn.geometry import Shape, Window

from .layout import (
    add_floats,
    channels_last,
    copy_matrix,
    pack_panels,
    to_channels_last,
    zero_floats,
)
from .line_tile import adjoint_kernel, forward_kernel, lines_together, weights_kernel
from .memory import empty
from .microkernel import ACCUMULATE, REGISTERS, RELU, call
from .runtime import address, device, kernel, worker_scratch
from .simd import BYTES, WIDTH, load_f32, store_f32

MOST = 7  # rows and columns of a kernel: the sums of more would not fit in registers
CHUNKS = 16  # at least, where there are that many lines
PIXELS = 64  # of the lines that one call adds to the weight gradient

_zeros = np.zeros(WIDTH, np.float32)


def accepts(window: Window) -> bool:
    """Whether there are micro-kernels for such a window."""
    return max(window.kernel) <= MOST and max(window.stride) <= MOST and window.dilation == (1, 1)


@device
def _bring(x, x_h, x_q, x_c, first, last, width, channels, target):
    """Lines first … last−1 with channels last at ``target``; returns where line 0 would be."""
    pitch = 4 * channels
    if x_h == width * x_q:
        copy_matrix(target, pitch, x + first * x_h, x_q, x_c, (last - first) * width, channels)
    else:
        for h in range(first, last):
            copy_matrix(target + (h - first) * width * pitch, pitch, x + h * x_h, x_q, x_c, width,
                        channels)  # fmt: skip
    return target - first * width * pitch


@kernel
def forward_lines(
    chunk, worker, x, x_n, x_h, x_q, x_c, height, width, channels, y, y_n, y_h, y_q, down, across,
    step, top, lead, rows, taps, packed, bias, mode, bands, band, together, scratch, scratch_bytes,
    zeros, whole, part,
):  # fmt: skip
    """A band of lines of one image of a convolution, ``together`` at a time."""
    image, start = chunk // bands, chunk % bands * band
    end = min(down, start + band)
    source, target = x + image * x_n, y + image * y_n
    if x_c != 4:
        first, last = max(0, start * step - top), min(height, (end - 1) * step - top + rows)
        source = _bring(source, x_h, x_q, x_c, first, max(first, last), width, channels,
                        scratch + worker * scratch_bytes)  # fmt: skip
        x_h, x_q = 4 * channels * width, 4 * channels
    for p in range(start, end, together):
        for c in range(0, channels, WIDTH):
            lanes = min(WIDTH, channels - c)
            call(whole if lanes == WIDTH else part, source + 4 * c, x_h, x_q, p * step - top,
                 height, width, lead, packed + 4 * c * taps, bias + 4 * c if bias else 0,
                 target + p * y_h + 4 * c, y_h, y_q, across, end - p, lanes, mode,
                 zeros)  # fmt: skip


@kernel
def adjoint_lines(
    chunk, worker, g, g_n, g_h, g_q, height, width, channels, x, x_n, x_h, x_q, x_height, x_width,
    step, top, lead, down, across, taps, packed, mode, bands, band, zeros, whole, part,
):  # fmt: skip
    """A band of the groups of ``step`` lines of one image of an input gradient."""
    image, start = chunk // bands, chunk % bands * band
    for group in range(start, min(down, start + band)):
        for c in range(0, channels, WIDTH):
            lanes = min(WIDTH, channels - c)
            call(whole if lanes == WIDTH else part, g + image * g_n + 4 * c, g_h, g_q, group,
                 height, width, x + image * x_n + 4 * c, x_h, x_q, group * step - top, x_height,
                 x_width, lead, across, packed + 4 * c * taps, lanes, mode, zeros)  # fmt: skip


@kernel
def weight_lines(
    chunk, worker, x, x_n, x_h, x_q, height, width, channels, g, g_n, g_h, g_q, down, across, step,
    top, lead, rows, columns, per, partials, partial_bytes, images, splits, together, zeros, whole,
    part,
):  # fmt: skip
    """The partial sums of one split of the lines, ``together`` of them and ``per`` kernel rows at a
    time."""
    sums = partials + chunk * partial_bytes
    zero_floats(sums, partial_bytes // 4)
    at, end = images * down * chunk // splits, images * down * (chunk + 1) // splits
    while at < end:
        image, p = at // down, at % down
        lines = min(together, end - at, down - p)
        for c in range(0, channels, WIDTH):
            lanes = min(WIDTH, channels - c)
            for i in range(0, rows, per):
                call(whole if lanes == WIDTH else part, x + image * x_n + 4 * c, x_h, x_q,
                     p * step - top + i, height, width, lead,
                     g + image * g_n + p * g_h + 4 * c, g_h, g_q, across, lines,
                     sums + 4 * (c * rows + i * WIDTH) * columns, lanes, zeros)  # fmt: skip
        at += lines


@kernel
def weight_total(chunk, worker, partials, splits, partial_bytes, taps, channels, gw):
    """gw = Σ_splits, one vector of channels a chunk."""
    c = chunk * WIDTH
    start = partials + 4 * c * taps
    for split in range(1, splits):
        add_floats(start, start + split * partial_bytes, taps * WIDTH)
    for lane in range(min(WIDTH, channels - c)):
        for t in range(taps):
            store_f32(gw + 4 * ((c + lane) * taps + t), load_f32(start + 4 * (t * WIDTH + lane)))


def _entries(make: Any, *parameters: Any, channels: int) -> tuple[int, int]:
    """Addresses of the micro-kernels for whole vectors and for the last channels."""
    part = make(*parameters, False).load() if channels % WIDTH else 0
    return make(*parameters, True).load() if channels >= WIDTH else part, part


@lru_cache(maxsize=256)
def _offsets(strides: Shape, kernel: Shape, turned: bool) -> Any:
    """Byte offsets in the weight of every kernel position, last first when it is turned around."""
    at = np.add.outer(np.arange(kernel[0]) * strides[2], np.arange(kernel[1]) * strides[3])
    return np.ascontiguousarray(at.reshape(-1)[:: -1 if turned else 1], np.int64)


def _pack(w: Any, turned: bool, target: int) -> None:
    """The weights as [vector of channels][kernel position][lane], at an address."""
    offsets, padded = _offsets(w.strides, w.shape[2:], turned), -(-w.shape[0] // WIDTH) * WIDTH
    pack_panels.serial(padded // WIDTH, target, address(w), address(offsets), offsets.size,
                       w.strides[0], w.shape[0], padded, WIDTH, 0)  # fmt: skip


def _packed_bytes(channels: int, taps: int) -> int:
    return -(-(-(-channels // WIDTH) * taps * BYTES) // 64) * 64


def _bands(n: int, lines: int, together: int) -> tuple[int, int]:
    """(bands of an image, lines of a band): enough chunks, and whole groups of lines."""
    band = max(1, min(lines, lines * n // CHUNKS)) + together - 1
    band = band // together * together
    return -(-lines // band), band


@lru_cache(maxsize=512)
def _forward_plan(
    x: Shape, kernel: Shape, stride: Shape, outputs: Shape, copies: bool
) -> tuple[int, int, tuple[int, ...], tuple[int, int]]:
    """(bands, scratch bytes, (bands, band, together), micro-kernels) of ``forward_lines``."""
    n, channels, _, width = x
    together = lines_together(kernel, stride, outputs[0])
    bands, band = _bands(n, outputs[0], together)
    rows = (band - 1) * stride[0] + kernel[0] if copies else 0
    return (
        bands,
        -(-rows * width * channels * 4 // 64) * 64,
        (bands, band, together),
        _entries(forward_kernel, kernel, stride, together, channels=channels),
    )


def _correlate(
    x: Any, w: Any, bias: Any, y: Any, stride: Shape, before: Shape, turned: bool, mode: int
) -> None:
    """y[p, q, c] = bias[c] + Σ x[p·s + i − before, …, c]·w[c, i, j]; for ``turned`` with the
    kernel's last position first."""
    kernel, taps = w.shape[2:], w.shape[2] * w.shape[3]
    copies = x.strides[1] != 4
    bands, each, cut, entries = _forward_plan(x.shape, kernel, stride, y.shape[2:], copies)
    shared = _packed_bytes(x.shape[1], taps)
    packed = worker_scratch(each, shared)
    _pack(w, turned, packed)
    (n, channels, height, width), (x_n, x_c, x_h, x_q) = x.shape, x.strides
    forward_lines(
        n * bands, address(x), x_n, x_h, x_q, x_c, height, width, channels, address(y),
        y.strides[0], y.strides[2], y.strides[3], *y.shape[2:], stride[0], *before, kernel[0], taps,
        packed, 0 if bias is None else address(bias), mode, *cut, packed + shared, each,
        address(_zeros), *entries,
    )  # fmt: skip


def conv(
    x: Any, w: Any, bias: Any, window: Window, groups: int, relu: bool = False, into: Any = None
) -> Any:
    """As ``conv_direct.conv``, for as many groups as input and output channels."""
    y = channels_last((*x.shape[:2], *window.output(x.shape[2:]))) if into is None else into
    (top, _), (left, _) = window.padding
    mode = (RELU if relu else 0) | (ACCUMULATE if into is not None else 0)
    bias = None if bias is None else np.ascontiguousarray(bias)
    _correlate(x, w, bias, y, window.stride, (top, left), False, mode)
    return y


def conv_input_grad(
    gy: Any, w: Any, shape: Shape, window: Window, groups: int, into: Any = None
) -> Any:
    """As ``conv_direct.conv_input_grad``, for as many groups as input and output channels."""
    gx = channels_last(shape) if into is None else into
    mode = ACCUMULATE if into is not None else 0
    (rows, columns), (step, across), ((top, _), (left, _)), _ = window
    if window.stride == (1, 1):
        _correlate(gy, w, None, gx, (1, 1), (rows - 1 - top, columns - 1 - left), True, mode)
        return gx
    gy = to_channels_last(gy)
    packed = worker_scratch(0, _packed_bytes(shape[1], window.taps()))
    _pack(w, False, packed)
    (n, channels, height, width), (g_n, _, g_h, g_q) = gy.shape, gy.strides
    groups_down, groups_across = -(-(shape[2] + top) // step), -(-(shape[3] + left) // across)
    bands, band = _bands(n, groups_down, 1)
    adjoint_lines(
        n * bands, address(gy), g_n, g_h, g_q, height, width, channels, address(gx), gx.strides[0],
        gx.strides[2], gx.strides[3], *shape[2:], step, top, left, groups_down, groups_across,
        window.taps(), packed, mode, bands, band, address(_zeros),
        *_entries(adjoint_kernel, window.kernel, window.stride, channels=channels),
    )  # fmt: skip
    return gx


def conv_weight_grad(x: Any, gy: Any, shape: Shape, window: Window, groups: int) -> Any:
    """As ``conv_direct.conv_weight_grad``, for as many groups as input and output channels."""
    x, gy, gw = to_channels_last(x), to_channels_last(gy), empty(shape, np.float32)
    (rows, columns), (step, across), ((top, _), (left, _)), _ = window
    (n, channels, height, width), (x_n, _, x_h, x_q) = x.shape, x.strides
    g_n, _, g_h, g_q = gy.strides
    down, wide = gy.shape[2:]
    room = REGISTERS - 1 - -(-columns // across)
    per = max(i for i in range(1, rows + 1) if rows % i == 0 and (i == 1 or i * columns <= room))
    splits = min(n * down, CHUNKS)
    partial_bytes = _packed_bytes(channels, window.taps())
    partials = worker_scratch(0, splits * partial_bytes)
    weight_lines(
        splits, address(x), x_n, x_h, x_q, height, width, channels, address(gy), g_n, g_h, g_q,
        down, wide, step, top, left, rows, columns, per, partials, partial_bytes, n, splits,
        max(1, PIXELS // wide), address(_zeros),
        *_entries(weights_kernel, (per, columns), window.stride, channels=channels),
    )  # fmt: skip
    weight_total(-(-channels // WIDTH), partials, splits, partial_bytes, window.taps(), channels,
                 address(gw))  # fmt: skip
    return gw
