"""The kernels of Winograd convolution: its three stages for a block of tiles or one by one, and the
transform of the weights. See ``winograd``.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from .layout import copy_floats
from .microkernel import ACCUMULATE, RELU, call
from .runtime import device, kernel
from .simd import BYTES, WIDTH, load, load_f32, splat, store, store_f32, transpose_part, unpack
from .winograd_plan import PHASE_BYTES
from .winograd_tiles import F2, F3, M

WEIGHT_ROWS = 64  # of a chunk that transforms weights
GROUP = 8  # tiles of a chunk that only transforms


@device
def products(plan, first, count, v, mm, u, wide, narrow):
    """M[f] = V[f] · U[f] for one f, on the ``count`` tiles from ``first`` on (rounded up to whole
    MR)."""
    (k,) = unpack(plan + 8 * 10, 1)
    (op,) = unpack(plan + 8 * 15, 1)
    nr, mr_wide, mr_narrow, u_step, a_rows, c_rows, taps = unpack(plan + 8 * 22, 7)
    for o in range(0, op, nr):
        width = min(nr, op - o)
        mr = mr_wide if width == nr else mr_narrow
        entry = wide if width == nr else narrow
        for t in range(first, first + count, mr):
            call(entry, v, a_rows + 8 * t, taps, 1, k, u + o * k * 4, mm + 4 * o, c_rows + 8 * t,
                 WIDTH, 0, 0)  # fmt: skip


@device
def taps_rows(taps: int) -> int:
    """Vectors of room for the taps of WIDTH columns: whole squares."""
    return -(-taps // WIDTH) * WIDTH


@device
def read_taps(w, s_n, s_i, s_j, high, wide, lanes, taps):
    """taps[i·wide + j][lane] = w[lane, i, j] for ``lanes`` of WIDTH columns, the others 0.

    Taps that are neighbours in memory are read as vectors and transposed: 4 times as fast.
    """
    if lanes == WIDTH and s_j == 4 and s_i == 4 * wide:
        for at in range(0, high * wide, WIDTH):
            transpose_part(taps + at * BYTES, BYTES, w + 4 * at, s_n, min(WIDTH, high * wide - at),
                           WIDTH)  # fmt: skip
        return
    for tap in range(high * wide):
        source, to = w + tap // wide * s_i + tap % wide * s_j, taps + tap * BYTES
        store(to, splat(np.float32(0)))
        for lane in range(lanes):
            store_f32(to + 4 * lane, load_f32(source + lane * s_n))


def _kernels(F):
    """The kernels for one size of the taps."""
    r, size, entries = F.r, F.size, F.entries
    input_tile, output_tile, weight_tile = F.input, F.output, F.weight
    work_bytes = entries * BYTES

    @device
    def read_tile(plan, index, x, work, local, target, step):
        """Transform input tile ``index``, phase after phase; at the border by way of a copy padded
        with zeros."""
        tiles, high, wide, phases, parts, s_n, s_h, s_w, c, cp = unpack(plan, 10)
        image, place = index // (high * wide), index % (high * wide)
        for phase in range(phases):
            start, h, w, top, left = unpack(parts + PHASE_BYTES * phase, 5)
            row, column = place // wide * M - top, place % wide * M - left
            source, to = x + start + image * s_n, target + 4 * phase * cp
            inside = row >= 0 and column >= 0 and row + size <= h and column + size <= w
            if inside and c == cp:
                input_tile(source + row * s_h + column * s_w, s_h, s_w, cp, work, to, step)
            else:
                (copier,) = unpack(plan + 8 * 29, 1)
                call(copier, local, 4 * cp, size, size, source, s_h, s_w, 4, h, w, c, row, column)
                input_tile(local, size * 4 * cp, 4 * cp, cp, work, to, step)

    @device
    def write_tile(plan, index, source, work, local, y, bias, mode):
        """Transform output tile ``index`` back; at the border by way of a copy."""
        tiles, high, wide = unpack(plan, 3)
        p, q, o, op, o_n, o_h, o_w, block, v_step, m_step = unpack(plan + 8 * 12, 10)
        image, place = index // (high * wide), index % (high * wide)
        row, column = place // wide * M, place % wide * M
        rows, columns = min(M, p - row), min(M, q - column)
        target = y + image * o_n + row * o_h + column * o_w
        old, relu = mode & ACCUMULATE, mode & RELU
        if rows == M and columns == M and o == op:
            output_tile(source, m_step, op, work, target, o_h, o_w, old, bias, relu)
            return
        if old:
            for i in range(rows):
                for j in range(columns):
                    copy_floats(local + (i * M + j) * 4 * op, target + i * o_h + j * o_w, o)
        output_tile(source, m_step, op, work, local, 4 * M * op, 4 * op, old, bias, relu)
        for i in range(rows):
            for j in range(columns):
                copy_floats(target + i * o_h + j * o_w, local + (i * M + j) * 4 * op, o)

    @kernel(name=f"winograd{r}_fused")
    def fused(chunk, worker, plan, x, y, u, bias, mode, scratch, scratch_bytes, wide, narrow):
        """All three stages for one block of tiles."""
        (tiles,) = unpack(plan, 1)
        (cp,) = unpack(plan + 8 * 9, 1)
        (op,) = unpack(plan + 8 * 15, 1)
        v_pitch, m_pitch = unpack(plan + 8 * 30, 2)
        block, v_step, m_step = unpack(plan + 8 * 19, 3)
        (u_step,) = unpack(plan + 8 * 25, 1)
        work = scratch + worker * scratch_bytes
        local = work + work_bytes
        v = local + entries * 4 * max(cp, op)
        mm = v + entries * v_step
        first = chunk * block
        count = min(block, tiles - first)
        for t in range(count):
            read_tile(plan, first + t, x, work, local, v + 4 * t * v_pitch, v_step)
        for f in range(entries):
            products(plan, 0, count, v + f * v_step, mm + f * m_step, u + f * u_step, wide, narrow)
        for t in range(count):
            write_tile(plan, first + t, mm + 4 * t * m_pitch, work, local, y, bias, mode)

    @kernel(name=f"winograd{r}_inputs")
    def inputs(chunk, worker, plan, first, count, x, v, scratch, scratch_bytes):
        """Stage 1 for ``GROUP`` tiles a chunk."""
        (v_pitch,) = unpack(plan + 8 * 30, 1)
        block, v_step = unpack(plan + 8 * 19, 2)
        work = scratch + worker * scratch_bytes
        for t in range(chunk * GROUP, min(count, chunk * GROUP + GROUP)):
            read_tile(plan, first + t, x, work, work + work_bytes, v + 4 * t * v_pitch, v_step)

    @kernel(name=f"winograd{r}_outputs")
    def outputs(chunk, worker, plan, first, count, mm, y, bias, mode, scratch, scratch_bytes):
        """Stage 3 for ``GROUP`` tiles a chunk."""
        (m_pitch,) = unpack(plan + 8 * 31, 1)
        work = scratch + worker * scratch_bytes
        for t in range(chunk * GROUP, min(count, chunk * GROUP + GROUP)):
            write_tile(
                plan, first + t, mm + 4 * t * m_pitch, work, work + work_bytes, y, bias, mode
            )

    @device
    def transform_columns(
        w, s_k, s_n, s_i, s_j, high, wide, part, first, last, n, lanes, target, k_step, u_step,
        work,
    ):  # fmt: skip
        """WIDTH columns of U, of which ``lanes`` exist, for the rows from ``first`` to ``last`` of
        the phase at ``part``: target[f][k − first][column]."""
        i, i_step, rows, j, j_step, columns = unpack(part + 40, 6)
        square = work + work_bytes
        taps = square + r * r * BYTES
        for at in range(0, r * r * BYTES, BYTES):
            store(square + at, splat(np.float32(0)))
        for k in range(first, last):
            read_taps(w + k * s_k + n * s_n, s_n, s_i, s_j, high, wide, lanes, taps)
            for row in range(r):
                for column in range(r):
                    if row < rows and column < columns:
                        tap = (i + row * i_step) * wide + j + column * j_step
                        store(square + (r * row + column) * BYTES, load(taps + tap * BYTES))
            weight_tile(square, work, target + (k - first) * k_step, u_step)

    @kernel(name=f"winograd{r}_weights")
    def weights(chunk, worker, plan, w, s_k, s_n, s_i, s_j, high, wide, u, scratch, scratch_bytes):
        """U[f][panel][k][column] for WEIGHT_ROWS channels of all phases and WIDTH columns a chunk.

        Neighbouring k of one panel are neighbours in memory: the streams are written in order.
        """
        phases, parts = unpack(plan + 8 * 3, 2)
        c, cp, k_count = unpack(plan + 8 * 8, 3)
        o, op = unpack(plan + 8 * 14, 2)
        (nr,) = unpack(plan + 8 * 22, 1)
        (u_step,) = unpack(plan + 8 * 25, 1)
        n, first = chunk % (op // WIDTH) * WIDTH, chunk // (op // WIDTH) * WEIGHT_ROWS
        panel = n // nr * nr
        width, last = min(nr, op - panel), min(first + WEIGHT_ROWS, c)
        to = u + (panel * k_count + n - panel + first * width) * 4
        for phase in range(phases):  # one by one: each writes (r+3)² streams
            transform_columns(w, s_k, s_n, s_i, s_j, high, wide, parts + PHASE_BYTES * phase,
                              first, last, n, min(WIDTH, o - n), to + phase * cp * width * 4,
                              4 * width, u_step, scratch + worker * scratch_bytes)  # fmt: skip
        if last == c and k_count > c:  # the channels that only pad a phase
            for f in range(entries):
                for phase in range(phases):
                    for k in range(c, cp):
                        place = to + f * u_step + (phase * cp + k - first) * width * 4
                        store(place, splat(np.float32(0)))

    @kernel(name=f"winograd{r}_panel_products")
    def panel_products(
        chunk,
        worker,
        plan,
        count,
        v,
        mm,
        w,
        s_k,
        s_n,
        s_i,
        s_j,
        high,
        columns,
        scratch,
        scratch_bytes,
        wide,
        narrow,
    ):
        """Stage 2 of all tiles for one panel a chunk, whose weights are transformed on the way.

        WEIGHT_ROWS input channels at a time, so that the transformed weights never leave the cache:
        for 512 channels all of them together would be 38 MB.
        """
        phases, parts = unpack(plan + 8 * 3, 2)
        c, cp = unpack(plan + 8 * 8, 2)
        o, op = unpack(plan + 8 * 14, 2)
        v_step, m_step, nr, mr_wide, mr_narrow, u_step, a_rows, c_rows, taps = unpack(
            plan + 8 * 20, 9
        )
        work = scratch + worker * scratch_bytes
        u = work + work_bytes + (r * r + taps_rows(high * columns)) * BYTES
        first = chunk * nr
        width = min(nr, op - first)
        mr, entry = (mr_wide, wide) if width == nr else (mr_narrow, narrow)
        step = WEIGHT_ROWS * width * 4 + 64
        blocks = -(-c // WEIGHT_ROWS)
        for block in range(phases * blocks):
            phase, k = block // blocks, block % blocks * WEIGHT_ROWS
            last = min(k + WEIGHT_ROWS, c)
            for n in range(0, width, WIDTH):
                transform_columns(w, s_k, s_n, s_i, s_j, high, columns,
                                  parts + PHASE_BYTES * phase, k, last, first + n,
                                  min(WIDTH, o - first - n), u + 4 * n, 4 * width, step,
                                  work)  # fmt: skip
            start = v + 4 * (phase * cp + k)
            for f in range(entries):
                for t in range(0, count, mr):
                    call(entry, start + f * v_step, a_rows + 8 * t, taps, 1, last - k,
                         u + f * step, mm + f * m_step + 4 * first, c_rows + 8 * t, WIDTH,
                         ACCUMULATE if block else 0, 0)  # fmt: skip

    return SimpleNamespace(
        fused=fused,
        inputs=inputs,
        outputs=outputs,
        weights=weights,
        panel_products=panel_products,
        read_tile=read_tile,
    )


KERNELS = {F.r: _kernels(F) for F in (F3, F2)}
