"""Micro-kernels of depthwise convolution: along a line of the image, one vector of channels.

Every channel has a kernel of its own, so there is no inner dimension to block. What can be saved is
loads: a pixel is part of as many sums as the kernel has positions. So a micro-kernel goes along a
line with these sums in registers; it loads each pixel once, adds it to all of them, stores the one
that is now complete and begins another:

    step v:    for the pixels u = v·s + 0 … s−1 of each line that the kernel covers,
                   for b < ⌈J/s⌉:   sum of output v − b  +=  pixel · weight at column u − (v − b)·s

Several output lines are made at once (``lines_together``), because the rows of their kernels
overlap: four lines of a 3×3 kernel take 6 loads for 36 multiply-adds. While they are computed, the
lines that come next are brought into the cache; without it a stride of 2, which computes little for
what it reads, takes twice as long.

Nothing is padded: a row outside of the image is read from a vector of zeros, a column is skipped.

``forward_kernel``   a convolution, or the input gradient of stride 1
``adjoint_kernel``   the input gradient of other strides
``weights_kernel``   the weight gradient
"""

from __future__ import annotations

from functools import cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from tinygrad_cnn.geometry import Shape

from .microkernel import ACCUMULATE, REGISTERS, RELU, Loop, choose
from .runtime import Kernel, kernel_of
from .simd import (
    BYTES,
    I64,
    VECTOR,
    WIDTH,
    const,
    emit_fma,
    emit_load,
    emit_load_masked,
    emit_mask,
    emit_prefetch,
    emit_select_gt,
    emit_store,
    emit_store_masked,
)

HELD = REGISTERS // 3  # weights that stay in registers; more are read again for each pixel
MOST_LINES = {32: 4, 16: 2}[REGISTERS]
MOST_ROWS = 8  # of the image under the kernels of these lines: their addresses take registers too


def lines_together(shape: Shape, stride: Shape, lines: int) -> int:
    """Output lines that one call of ``forward_kernel`` makes, for ``lines`` altogether."""
    (rows, columns), (step, across) = shape, stride
    weights = rows * columns
    held = weights if weights <= HELD else 1
    sums = -(-columns // across)
    most = max(
        r for r in range(1, max(1, MOST_LINES // step) + 1)
        if r == 1 or (held + r * (sums + step) + rows <= REGISTERS + step
                      and (r - 1) * step + rows <= MOST_ROWS)
    )  # fmt: skip
    return -(-lines // -(-lines // most))


def _name(kind: str, *parameters: int) -> str:
    return "_".join((kind, *map(str, parameters)))


class _Pixels:
    """How one vector of channels is read and written: ``lanes`` of them, all when it is whole."""

    def __init__(self, b: ir.IRBuilder, zeros: ir.Value, lanes: ir.Value, whole: bool) -> None:
        self.b, self.zeros = b, zeros
        self.mask = None if whole else emit_mask(b, lanes)
        self.zero = ir.Constant(VECTOR, [0.0] * WIDTH)

    def read(self, at: ir.Value) -> ir.Value:
        if self.mask is None:
            return emit_load(self.b, at)
        return emit_load_masked(self.b, at, self.mask)

    def write(self, v: ir.Value, at: ir.Value) -> None:
        if self.mask is None:
            emit_store(self.b, v, at)
        else:
            emit_store_masked(self.b, v, at, self.mask)

    def inside(self, i: ir.Value, count: ir.Value) -> ir.Value:
        """0 ≤ i < count."""
        return self.b.icmp_unsigned("<", i, count)

    def row(
        self, image: ir.Value, step: ir.Value, i: ir.Value, count: ir.Value
    ) -> tuple[ir.Value, ir.Value]:
        """(where row i begins, all ones), or (the zeros, 0) where there is no such row."""
        b, exists = self.b, self.inside(i, count)
        return b.select(exists, b.add(image, b.mul(i, step)), self.zeros), b.sext(exists, I64)

    def column(
        self, rows: list[tuple[ir.Value, ir.Value]], i: ir.Value, step: ir.Value
    ) -> list[ir.Value]:
        """Pixel i of each of the rows."""
        b, offset = self.b, self.b.mul(i, step)
        return [self.read(b.add(start, b.and_(offset, mask))) for start, mask in rows]

    def column_or_zeros(
        self, rows: list[tuple[ir.Value, ir.Value]], i: ir.Value, count: ir.Value, step: ir.Value
    ) -> list[ir.Value]:
        """The same, or zeros where there is no such column."""
        b, exists, offset = self.b, self.inside(i, count), self.b.mul(i, step)
        places = [b.add(start, b.and_(offset, mask)) for start, mask in rows]
        return [self.read(b.select(exists, place, self.zeros)) for place in places]

    def finish(self, v: ir.Value, at: ir.Value, mode: ir.Value) -> None:
        """Store a sum; ``mode`` as that of ``microkernel.rows_kernel``."""
        b = self.b
        accumulate = b.icmp_signed("!=", b.and_(mode, const(ACCUMULATE)), const(0))
        (v,) = choose(b, accumulate, lambda: [b.fadd(v, self.read(at))], [v])
        rectify = b.icmp_signed("!=", b.and_(mode, const(RELU)), const(0))
        rectified = [emit_select_gt(b, self.zero, v, self.zero, v)]
        (v,) = choose(b, rectify, lambda: rectified, [v])
        self.write(v, at)


class _Weights:
    """The packed weights of a vector of channels: in registers if they fit, else in memory."""

    def __init__(self, b: ir.IRBuilder, start: ir.Value, shape: Shape) -> None:
        self.b, self.start, self.columns = b, start, shape[1]
        count = shape[0] * shape[1]
        self.held = [self._load(t) for t in range(count)] if count <= HELD else []

    def _load(self, tap: int) -> ir.Value:
        return emit_load(self.b, self.b.add(self.start, const(BYTES * tap)))

    def __getitem__(self, at: tuple[int, int]) -> ir.Value:
        tap = at[0] * self.columns + at[1]
        return self.held[tap] if self.held else self._load(tap)


def _ahead(
    b: ir.IRBuilder, image: ir.Value, steps: tuple[ir.Value, ir.Value], row: ir.Value, rows: int,
    column: ir.Value, columns: int, to_write: bool,
) -> None:  # fmt: skip
    """Ask for rows × columns pixels from (row, column) on; nothing happens where there are none."""
    start = b.add(b.add(image, b.mul(row, steps[0])), b.mul(column, steps[1]))
    for i in range(rows):
        line = b.add(start, b.mul(steps[0], const(i)))
        for j in range(columns):
            emit_prefetch(b, b.add(line, b.mul(steps[1], const(j))), to_write)


def _forward(shape: Shape, stride: Shape, lines: int, whole: bool) -> Any:
    (rows, columns), (step, across) = shape, stride
    under = -(-columns // across)  # outputs that a pixel is part of
    covered = (lines - 1) * step + rows

    @intrinsic
    def tile(typingctx, x, x_h, x_q, row, height, width, lead, weights, bias, y, y_h, y_q, outputs,
             left, lanes, mode, zeros):  # fmt: skip
        def generate(context, b, signature, args):
            (x, x_h, x_q, row, height, width, lead, weights, bias, y, y_h, y_q, outputs, left,
             lanes, mode, zeros) = args  # fmt: skip
            pixels, weight = _Pixels(b, zeros, lanes, whole), _Weights(b, weights, shape)
            sources = [pixels.row(x, x_h, b.add(row, const(i)), height) for i in range(covered)]
            biased = b.icmp_signed("!=", bias, const(0))
            (start,) = choose(b, biased, lambda: [pixels.read(bias)], [pixels.zero])
            carried = under - 1
            loop = Loop(b, b.add(outputs, const(carried)), [start] * (lines * carried))
            sums = []  # of each line: those of the outputs v, v − 1, …
            for r in range(lines):
                sums += [start, *loop.values[r * carried : (r + 1) * carried]]
            first = b.sub(b.mul(loop.index, const(across)), lead)
            _ahead(b, x, (x_h, x_q), b.add(row, const(covered)), lines * step, first, across, False)
            _ahead(b, y, (y_h, y_q), const(lines), lines, loop.index, 1, True)
            for u in range(min(across, columns)):
                column = b.add(first, const(u))

                def add(u=u, column=column, sums=sums):
                    made, values = list(sums), pixels.column(sources, column, x_q)
                    for i in range(rows):
                        for back, j in enumerate(range(u, columns, across)):
                            w = weight[i, j]
                            for r in range(lines):
                                at = r * under + back
                                made[at] = emit_fma(b, values[r * step + i], w, made[at])
                    return made

                sums = choose(b, pixels.inside(column, width), add, sums)
            done = b.sub(loop.index, const(carried))
            with b.if_then(b.icmp_signed(">=", done, const(0))):
                place = b.add(y, b.mul(done, y_q))
                for r in range(lines):
                    with b.if_then(b.icmp_signed("<", const(r), left)):
                        total = sums[r * under + carried]
                        pixels.finish(total, b.add(place, b.mul(y_h, const(r))), mode)
            loop.close([s for at, s in enumerate(sums) if at % under < carried])
            return context.get_dummy_value()

        return types.void(*[types.int64] * 17), generate

    return tile


@cache
def forward_kernel(shape: Shape, stride: Shape, lines: int, whole: bool) -> Kernel:
    """y[r, q] (+)= bias + Σ x[row + r·s + i, q·t + j − lead] · w[i, j] for r < ``lines``, q <
    outputs.

    x is where the image begins (height × width pixels, rows x_h and pixels x_q bytes apart),
    ``row`` the first that the first kernel covers, y the place of the first output. Of the lines
    only ``left`` are stored. ``weights`` are packed, a vector a kernel position; ``bias`` is an
    address or 0; ``zeros`` that of a vector of zeros. ``whole`` leaves out the mask that ``lanes``
    < WIDTH channels need.
    """
    tile = _forward(shape, stride, lines, whole)

    def forward(x, x_h, x_q, row, height, width, lead, weights, bias, y, y_h, y_q, outputs, left,
                lanes, mode, zeros):  # fmt: skip
        tile(x, x_h, x_q, row, height, width, lead, weights, bias, y, y_h, y_q, outputs, left,
             lanes, mode, zeros)  # fmt: skip

    return kernel_of(forward, _name("forward", *shape, *stride, lines, int(whole)), False)


def _adjoint(shape: Shape, stride: Shape, whole: bool) -> Any:
    (rows, columns), (step, across) = shape, stride
    high, wide = -(-rows // step), -(-columns // across)

    @intrinsic
    def tile(typingctx, g, g_h, g_q, group, height, width, x, x_h, x_q, row, x_height, x_width,
             lead, groups, weights, lanes, mode, zeros):  # fmt: skip
        def generate(context, b, signature, args):
            (g, g_h, g_q, group, height, width, x, x_h, x_q, row, x_height, x_width, lead, groups,
             weights, lanes, mode, zeros) = args  # fmt: skip
            pixels, weight = _Pixels(b, zeros, lanes, whole), _Weights(b, weights, shape)
            sources = [pixels.row(g, g_h, b.sub(group, const(t)), height) for t in range(high)]
            carried = wide - 1
            loop = Loop(b, groups, [pixels.zero] * (high * carried))
            now = pixels.column_or_zeros(sources, loop.index, width, g_q)
            seen = [[v, *loop.values[t * carried : (t + 1) * carried]] for t, v in enumerate(now)]
            first = b.sub(b.mul(loop.index, const(across)), lead)
            _ahead(b, g, (g_h, g_q), b.add(group, const(1)), 1, loop.index, 1, False)
            _ahead(b, x, (x_h, x_q), b.add(row, const(step)), step, first, across, True)
            for r in range(step):
                to = b.add(row, const(r))
                line = b.add(x, b.mul(to, x_h))
                for u in range(across):
                    total = pixels.zero
                    for t, i in enumerate(range(r, rows, step)):
                        for back, j in enumerate(range(u, columns, across)):
                            total = emit_fma(b, seen[t][back], weight[i, j], total)
                    column = b.add(first, const(u))
                    exists = b.and_(pixels.inside(to, x_height), pixels.inside(column, x_width))
                    with b.if_then(exists, likely=True):
                        pixels.finish(total, b.add(line, b.mul(column, x_q)), mode)
            loop.close([v for line in seen for v in line[:carried]])
            return context.get_dummy_value()

        return types.void(*[types.int64] * 18), generate

    return tile


@cache
def adjoint_kernel(shape: Shape, stride: Shape, whole: bool) -> Kernel:
    """x[row + r, v·t + u − lead] (+)= Σ g[group − k, v − l] · w[k·s + r, l·t + u] for the s × t
    remainders r, u and v < groups: all cells of ``s`` lines of an input gradient.

    g has height × width pixels, x x_height × x_width; what lies outside of x is not stored. The
    other arguments are as those of ``forward_kernel``.
    """
    tile = _adjoint(shape, stride, whole)

    def adjoint(g, g_h, g_q, group, height, width, x, x_h, x_q, row, x_height, x_width, lead,
                groups, weights, lanes, mode, zeros):  # fmt: skip
        tile(g, g_h, g_q, group, height, width, x, x_h, x_q, row, x_height, x_width, lead, groups,
             weights, lanes, mode, zeros)  # fmt: skip

    return kernel_of(adjoint, _name("adjoint", *shape, *stride, int(whole)), False)


def _weight_sums(shape: Shape, stride: Shape, whole: bool) -> Any:
    (rows, columns), (step, across) = shape, stride
    carried = -(-columns // across) - 1

    @intrinsic
    def tile(typingctx, x, x_h, x_q, row, height, width, lead, g, g_h, g_q, outputs, lines, sums,
             lanes, zeros):  # fmt: skip
        def generate(context, b, signature, args):
            (x, x_h, x_q, row, height, width, lead, g, g_h, g_q, outputs, lines, sums, lanes,
             zeros) = args  # fmt: skip
            pixels = _Pixels(b, zeros, lanes, whole)
            places = [b.add(sums, const(BYTES * t)) for t in range(rows * columns)]
            outer = Loop(b, lines, [emit_load(b, place) for place in places])
            top = b.add(row, b.mul(outer.index, const(step)))
            line = b.add(g, b.mul(outer.index, g_h))
            sources = [pixels.row(x, x_h, b.add(top, const(i)), height) for i in range(rows)]
            start = [pixels.zero] * carried
            loop = Loop(b, b.add(outputs, const(carried)), [*start, *outer.values])
            seen = pixels.column_or_zeros([(line, const(-1))], loop.index, outputs, g_q)
            seen += loop.values[:carried]
            totals = loop.values[carried:]
            first = b.sub(b.mul(loop.index, const(across)), lead)
            _ahead(b, x, (x_h, x_q), b.add(top, const(rows)), step, first, across, False)
            _ahead(b, line, (g_h, g_q), const(1), 1, loop.index, 1, False)
            for u in range(min(across, columns)):
                column = b.add(first, const(u))

                def add(u=u, column=column, totals=totals):
                    made = list(totals)
                    for i, value in enumerate(pixels.column(sources, column, x_q)):
                        for back, j in enumerate(range(u, columns, across)):
                            t = i * columns + j
                            made[t] = emit_fma(b, value, seen[back], made[t])
                    return made

                totals = choose(b, pixels.inside(column, width), add, totals)
            totals = outer.close(loop.close([*seen[:carried], *totals])[carried:])
            for place, total in zip(places, totals, strict=True):
                emit_store(b, total, place)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 15), generate

    return tile


@cache
def weights_kernel(shape: Shape, stride: Shape, whole: bool) -> Kernel:
    """sums[i, j] += Σ g[p, q] · x[row + p·s + i, q·t + j − lead] over p < lines, q < outputs.

    A vector for each of the rows × columns of ``shape``, which may be a part of the kernel's rows.
    g is the place of the first pixel; the other arguments are as those of ``forward_kernel``.
    """
    tile = _weight_sums(shape, stride, whole)

    def weights(x, x_h, x_q, row, height, width, lead, g, g_h, g_q, outputs, lines, sums, lanes,
                zeros):  # fmt: skip
        tile(x, x_h, x_q, row, height, width, lead, g, g_h, g_q, outputs, lines, sums, lanes,
             zeros)  # fmt: skip

    return kernel_of(weights, _name("weights", *shape, *stride, int(whole)), False)
