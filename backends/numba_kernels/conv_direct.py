"""Direct convolution: every kernel, stride, padding, dilation and group count, in three directions.

No im2col. Pixels of the output are the rows of a matrix product, the input channels under a kernel
position its inner dimension, and both are found through lists of addresses (``conv_plan``):

    for each chunk (some images, or a band of rows of one):
        copy its input to a padded scratch image, channels last     (unless x can be read as it is)
        for each job (1 forward, stride² for an input gradient), group, panel of output channels:
            for each MR pixels:  one call of the micro-kernel

The weight gradient runs the other micro-kernel: rows are input channels under a tap, and the inner
dimension is the pixels.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_cnn.geometry import Shape, Window

from .conv_plan import Plan, Source, correlation_plan, weight_plan
from .layout import add_floats, channels_last, pack_panel, pack_rows
from .memory import empty
from .microkernel import (
    ACCUMULATE,
    MAX_ROWS,
    RELU,
    call,
    panels,
)
from .runtime import address, device, kernel, worker_scratch
from .simd import load_f32, load_i64, store_f32, store_i64, unpack

SCRATCH_HEAD = 2 * MAX_ROWS * 8  # bytes: the row lists of a tile at the edge
SMALL_MATRIX = 16 * 1024  # bytes of packed weights that stay in the first-level cache
PANEL_BYTES = 256 * 1024  # of packed weights that one pass over a chunk reads


@device
def _tail(lists, tail, first, count, mr):
    """The row list ``lists`` from ``first`` on, ``count`` < mr long, continued by its last
    entry."""
    for i in range(mr):
        store_i64(tail + 8 * i, load_i64(lists + 8 * (first + min(i, count - 1))))


@device
def pixels_times_panel(
    entry, mr, pixels, base, a_rows, c_rows, tail, taps, n_taps, run, panel, out, lanes, mode, bias
):
    """All pixels of a chunk times one panel of weights."""
    whole = pixels // mr * mr
    for m in range(0, whole, mr):
        call(
            entry,
            base,
            a_rows + 8 * m,
            taps,
            n_taps,
            run,
            panel,
            out,
            c_rows + 8 * m,
            lanes,
            mode,
            bias,
        )
    if whole < pixels:
        _tail(a_rows, tail, whole, pixels - whole, mr)
        _tail(c_rows, tail + 8 * mr, whole, pixels - whole, mr)
        call(entry, base, tail, taps, n_taps, run, panel, out, tail + 8 * mr, lanes, mode, bias)


@device
def chunk_input(plan, chunk, x, target):
    """Where the input of a chunk lies: in x itself, or in a padded copy made at ``target``."""
    n, images, bands, band, copies, s_n, s_h, s_w, s_c, h, w, channels = unpack(plan, 12)
    row, row_step, rows, column, columns, pitch = unpack(plan + 8 * 12, 6)
    (copier,) = unpack(plan + 8 * 29, 1)
    first, at_band = chunk // bands * images, chunk % bands
    if not copies:
        return x + first * s_n + at_band * row_step * s_h
    for i in range(min(images, n - first)):
        call(copier, target + i * rows * columns * pitch, pitch, rows, columns,
             x + (first + i) * s_n, s_h, s_w, s_c, h, w, channels, row + at_band * row_step,
             column)  # fmt: skip
    return target


@kernel
def convolve_chunk(plan, jobs, chunk, x, target, packed, bias, mode, tail, wide, narrow):
    """One chunk of a convolution or input gradient by ``conv_plan.Plan`` (its table and jobs).

    Called by the kernels that say where the chunk's output goes: ``target`` is where it begins,
    ``tail`` the worker's scratch memory, ``wide`` and ``narrow`` are the micro-kernels of the full
    panels and of the last one.
    """
    n, images, bands, band = unpack(plan, 4)
    groups, c_group, o_group, nr, o_n, o_band, n_jobs = unpack(plan + 8 * 18, 7)
    mr_wide, mr_narrow, padded, vector = unpack(plan + 8 * 25, 4)
    at_band = chunk % bands
    count = min(images, n - chunk // bands * images)
    base = chunk_input(plan, chunk, x, tail + SCRATCH_HEAD)
    for job in range(n_jobs):
        a_rows, c_rows, height, width, taps, n_taps, run, offset = unpack(jobs + 64 * job, 8)
        pixels = count * min(band, height - at_band * band) * width
        if pixels <= 0:
            continue
        together = max(1, PANEL_BYTES // (run * nr * 4))
        for group in range(groups):
            matrix = packed + offset + group * n_taps * run * padded * 4
            for t in range(0, n_taps, together):
                now = min(together, n_taps - t)
                flags = (mode if t + now == n_taps else mode & ~RELU) | (ACCUMULATE if t else 0)
                # A small matrix stays in the first-level cache: a few rows at a time, all panels.
                whole = -(-4 * MAX_ROWS // width) * width
                few = whole if now * run * padded * 4 <= SMALL_MATRIX else pixels
                for m in range(0, pixels, few):
                    for o in range(0, o_group, nr):
                        vectors = min(nr, padded - o)
                        panel = matrix + (o * n_taps + t * vectors) * run * 4
                        lanes = min(o_group - o - vectors + vector, vector)
                        place = 4 * (group * o_group + o)
                        pixels_times_panel(
                            wide if vectors == nr else narrow,
                            mr_wide if vectors == nr else mr_narrow, min(few, pixels - m),
                            base + 4 * group * c_group, a_rows + 8 * m, c_rows + 8 * m, tail,
                            taps + 8 * t, now, run, panel, target + place, lanes, flags,
                            bias + place if bias and t == 0 else 0,
                        )  # fmt: skip


@kernel
def correlate(
    chunk,
    worker,
    body,
    plan,
    jobs,
    x,
    out,
    packed,
    bias,
    mode,
    scratch,
    scratch_bytes,
    wide,
    narrow,
):
    """One chunk of a convolution or input gradient, into its place in ``out``."""
    n, images, bands = unpack(plan, 3)
    o_n, o_band = unpack(plan + 8 * 22, 2)
    target = out + chunk // bands * images * o_n + chunk % bands * o_band
    call(body, plan, jobs, chunk, x, target, packed, bias, mode, scratch + worker * scratch_bytes,
         wide, narrow)  # fmt: skip


@kernel
def pack_jobs(
    chunk,
    worker,
    target,
    source,
    jobs,
    lists,
    n_step,
    n_count,
    padded,
    nr,
    group_step,
    each,
    places,
):
    """One panel of one group of the weights of one job; every job has ``each`` of them."""
    job = chunk // each
    n_taps, run, offset = unpack(jobs + 64 * job + 40, 3)
    if places:
        pack_rows(chunk, target, source, places, n_taps * run, n_step, n_count, padded, nr,
                  group_step)  # fmt: skip
        return
    pack_panel(chunk % each, target + offset, source, load_i64(lists + 8 * job), n_taps * run,
               n_step, n_count, padded, nr, group_step)  # fmt: skip


def pack(plan: Plan, w: Any, columns: int, n_step: int, group_step: int, groups: int) -> Any:
    """The weights as the panels of every job, group after group."""
    cut = panels(columns)
    packed = empty((plan.packed_bytes // 4,), np.float32)
    pack_jobs(len(plan.k_lists) * groups * cut.number, address(packed), address(w),
              address(plan.jobs), address(plan.lists), n_step, columns, cut.columns, cut.nr,
              group_step, groups * cut.number,
              address(plan.places) if plan.places.size else 0)  # fmt: skip
    return packed


def _run(plan: Plan, x: Any, out: Any, packed: Any, bias: Any, mode: int) -> None:
    scratch = worker_scratch(plan.scratch_bytes)
    correlate(plan.chunks, convolve_chunk.load(), address(plan.table), address(plan.jobs),
              address(x), address(out), address(packed), 0 if bias is None else address(bias), mode,
              scratch, plan.scratch_bytes, *plan.micro)  # fmt: skip


def conv(
    x: Any, w: Any, bias: Any, window: Window, groups: int, relu: bool = False, into: Any = None
) -> Any:
    """y = conv(x, w) + bias: (N, C, H, W), (O, C/groups, I, J) -> (N, O, P, Q).

    ``relu`` applies max(·, 0); with ``into`` (unit stride along O) y is added to that array, bias
    and all.
    """
    shape = (x.shape[0], w.shape[0], *window.output(x.shape[2:]))
    y = channels_last(shape) if into is None else into
    plan = correlation_plan(
        Source(x.shape, x.strides), Source(y.shape, y.strides), w.strides, window, groups, False
    )
    columns = w.shape[0] // groups
    packed = pack(plan, w, columns, w.strides[0], columns * w.strides[0], groups)
    if into is not None and bias is not None:
        y += bias[:, None, None]
        bias = None
    mode = (RELU if relu else 0) | (ACCUMULATE if into is not None else 0)
    _run(plan, x, y, packed, bias if bias is None else np.ascontiguousarray(bias), mode)
    return y


def conv_input_grad(
    gy: Any, w: Any, shape: Shape, window: Window, groups: int, into: Any = None
) -> Any:
    """gx of shape ``shape``, (N, C, H, W); with ``into`` (channels last) it is added to that array
    instead."""
    gx = channels_last(shape) if into is None else into
    plan = correlation_plan(
        Source(gy.shape, gy.strides), Source(gx.shape, gx.strides), w.strides, window, groups, True
    )
    if into is None and not plan.complete:
        gx.fill(0)
    if plan.chunks:
        columns = shape[1] // groups
        packed = pack(plan, w, columns, w.strides[1], w.shape[0] // groups * w.strides[0], groups)
        _run(plan, gy, gx, packed, None, ACCUMULATE if into is not None else 0)
    return gx


# -- the weight gradient ---------------------------------------------------------------------------


@device
def _panel_times_runs(
    entry, taps_together, mr, base, tap_step, pixels, count, panel, b_step, nr, target, taps,
    n_taps, run, run_rows, accumulate,
):  # fmt: skip
    """target[tap][row][nr] (+)= Σ_pixels x[pixel + tap, row] · panel[pixel], all taps and rows."""
    for t in range(0, n_taps, taps_together):
        start, to = base + load_i64(taps + 8 * t), target + t * run_rows * nr * 4
        for r in range(0, run, mr):
            call(entry, start + 4 * r, tap_step, pixels, count, panel, b_step, to + 4 * nr * r,
                 4 * nr, accumulate)  # fmt: skip


@kernel
def weight_partials(chunk, worker, plan, x, gy, partials, scratch, scratch_bytes, wide, narrow):
    """Partial weight gradients: chunk = (split of the units of pixels) × (share of the panels).

    The splits are added up by ``weight_sum``; they depend on the shapes only, so the sum has the
    same bits for any number of threads. partials[split][group][panel][tap][row of the run][column].
    """
    (n, images, bands, band, s_n, s_h, s_w, s_c, h, w, channels, row, row_step, rows, column,
     columns, pitch, height, width, g_n, g_o, g_p, g_q, c_group, o_group, padded, nr, per_group,
     panels, units, splits, shares, pixels, taps, n_taps, run, run_rows, tap_step, partial_bytes,
     panel_bytes, together_wide, mr_wide, together_narrow, mr_narrow, copier,
     as_it_lies) = unpack(plan, 46)  # fmt: skip
    split, share = chunk // shares, chunk % shares
    panel = scratch + worker * scratch_bytes
    base = panel + panel_bytes
    image_bytes = rows * columns * pitch
    unit_first = units * split // splits
    for unit in range(unit_first, units * (split + 1) // splits):
        first, at_band = unit // bands * images, unit % bands
        count, high = min(images, n - first), min(band, height - at_band * band)
        for i in range(count):
            call(copier, base + i * image_bytes, pitch, rows, columns, x + (first + i) * s_n, s_h,
                 s_w, s_c, h, w, channels, row + at_band * row_step, column)  # fmt: skip
        for index in range(panels * share // shares, panels * (share + 1) // shares):
            group, o = index // per_group, index % per_group * nr
            vectors = min(nr, padded - o)
            lies = gy + first * g_n + at_band * band * g_p + (group * o_group + o) * g_o
            for i in range(0 if as_it_lies else count):
                at = lies + i * g_n
                call(copier, panel + i * high * width * vectors * 4, 4 * vectors, high, width, at,
                     g_p, g_q, g_o, high, width, min(vectors, o_group - o), 0, 0)  # fmt: skip
            matrix = partials + split * partial_bytes
            matrix += (group * padded + o) * n_taps * run_rows * 4
            full = vectors == nr
            _panel_times_runs(
                wide if full else narrow, together_wide if full else together_narrow,
                mr_wide if full else mr_narrow, base + 4 * group * c_group, tap_step, pixels,
                count * high * width, lies if as_it_lies else panel,
                g_q if as_it_lies else 4 * vectors, vectors, matrix, taps, n_taps, run, run_rows,
                unit > unit_first,
            )  # fmt: skip


@kernel
def weight_sum(chunk, worker, plan, partials, gw, k_list, n_step, group_step):
    """gw[group·group_step + k_list[k] + o·n_step] = Σ_splits partials: one tap of one panel a
    chunk."""
    (o_group, padded, nr, per_group, panels, units, splits, shares, pixels, taps, n_taps, run,
     run_rows, tap_step, partial_bytes) = unpack(plan + 8 * 24, 15)  # fmt: skip
    index, tap = chunk // n_taps, chunk % n_taps
    group, o = index // per_group, index % per_group * nr
    width = min(nr, padded - o)
    start = partials + ((group * padded + o) * n_taps + tap * width) * run_rows * 4
    for split in range(1, splits):
        add_floats(start, start + split * partial_bytes, run * width)
    for r in range(run):
        to = gw + group * group_step + load_i64(k_list + 8 * (tap * run + r)) + o * n_step
        for lane in range(min(width, o_group - o)):
            store_f32(to + lane * n_step, load_f32(start + (r * width + lane) * 4))


def conv_weight_grad(x: Any, gy: Any, shape: Shape, window: Window, groups: int) -> Any:
    """gw of shape ``shape``, (O, C/groups, I, J): Σ over images and pixels of gy · x under each
    tap."""
    gw = empty(shape, np.float32)
    plan = weight_plan(
        Source(x.shape, x.strides), Source(gy.shape, gy.strides), shape, gw.strides, window, groups
    )
    partials = empty((plan.partial_bytes * plan.splits // 4,), np.float32)
    scratch = worker_scratch(plan.scratch_bytes)
    weight_partials(plan.chunks, address(plan.table), address(x), address(gy), address(partials),
                    scratch, plan.scratch_bytes, *plan.micro)  # fmt: skip
    weight_sum(plan.sums, address(plan.table), address(partials), address(gw), address(plan.k_list),
               gw.strides[0], shape[0] // groups * gw.strides[0])  # fmt: skip
    return gw
