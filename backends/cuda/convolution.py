"""Convolution and its adjoints: which kernel, which tile, which grid."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_cnn.backend import Gradients
from tinygrad_cnn.geometry import Shape, Window

from .device import Array
from .host import c_type, through_float32
from .products import Products, pick_splits, pick_tile

DIRECT_BELOW = 32  # terms of an output's sum: with fewer, a matrix tile would be mostly padding
FILES = ["window.cu", "tile.cu"]


def three(values: Sequence[int], filler: int) -> list[int]:
    """One number an axis for three axes; missing ones are the slowest."""
    return [filler] * (3 - len(values)) + [int(v) for v in values]


def window_args(window: Window) -> list[int]:
    """Kernel, stride, padding before and dilation on three axes, in the kernels' argument order."""
    before = [lo for lo, _ in window.padding]
    return [
        *three(window.kernel, 1),
        *three(window.stride, 1),
        *three(before, 0),
        *three(window.dilation, 1),
    ]


def residues(
    cells: int, kernel: int, stride: int, dilation: int, pad: int
) -> list[tuple[int, ...]]:
    """For each residue of h + pad modulo the stride that occurs on one axis:
    (first cell, number of cells, first tap, step between taps, number of taps)."""
    found: list[tuple[int, ...]] = []
    step = stride // math.gcd(stride, dilation)
    for residue in range(stride):
        first = (residue - pad) % stride
        taps = [i for i in range(kernel) if (i * dilation - residue) % stride == 0]
        if first < cells:
            found.append(
                (first, -(-(cells - first) // stride), taps[0] if taps else 0, step, len(taps))
            )
    return found


class Convolution(Products):
    """The closed family of convolutions. ``fixed_kernels`` compiles a kernel for each window size,
    which makes index arithmetic cheap on a GPU; off in the simulator, where compiling is dear."""

    fixed_kernels = False

    def _conv_defines(self, window: Window, dtype: Any) -> dict[str, Any]:
        fixed = three(window.kernel, 1) if self.fixed_kernels else [0, 0, 0]
        return {"T": c_type(dtype)} | {f"FIXED_I{i}": n for i, n in enumerate(fixed)}

    def _tile(self, rows: int, columns: int, itemsize: int) -> dict[str, Any]:
        tile = pick_tile(rows, columns, itemsize)
        return (
            tile if tile["BM"] < 128 else pick_tile(64, 64, itemsize)
        )  # 128×128 leaves one block an SM

    def _tiled(self, name: str, tile: dict[str, Any], defines: dict[str, Any], along_n: int) -> Any:
        return self.kernel(
            name, [*FILES, f"{name}.cu"], **defines, **tile, ALONG_M=0, ALONG_N=along_n
        )

    def conv(self, x: Array, w: Array, bias: Array | None, window: Window, groups: int) -> Array:
        return self._conv(x, w, bias, window, groups, relu=0)

    def conv_relu(
        self, x: Array, w: Array, bias: Array | None, window: Window, groups: int
    ) -> Array:
        return self._conv(x, w, bias, window, groups, relu=1)

    @through_float32
    def _conv(
        self, x: Array, w: Array, bias: Array | None, window: Window, groups: int, relu: int
    ) -> Array:
        x, w = self.dense(x), self.dense(w, x.dtype)
        bias = None if bias is None else self.dense(bias, x.dtype)
        outputs = window.output(x.shape[2:])
        N, C, outs, P = x.shape[0], x.shape[1], w.shape[0], math.prod(outputs)
        y = self.new((N, outs, *outputs), x.dtype)
        terms = math.prod(w.shape[1:])
        sizes = [*three(x.shape[2:], 1), *three(outputs, 1), *window_args(window)]
        defines, flops = self._conv_defines(window, x.dtype), 2.0 * y.size * terms
        if not y.size:
            return y
        if terms < DIRECT_BELOW:
            kernel = self.kernel("conv_direct", ["window.cu", "conv_direct.cu"], **defines)
            self.each(
                kernel, y.size, x, w, bias, y, y.size, C, outs, groups, *sizes, relu, flops=flops
            )
            return y
        tile = self._tile(outs // groups, N * P, x.itemsize)
        grid = (-(-N * P // tile["BN"]), -(-(outs // groups) // tile["BM"]), groups)
        kernel = self._tiled("conv_forward", tile, defines, along_n=1)
        threads = tile["BM"] // tile["TM"] * (tile["BN"] // tile["TN"])
        self.launch(
            kernel, grid, threads, x, w, bias, y, N, C, outs, groups, *sizes, relu, flops=flops
        )
        return y

    @through_float32
    def conv_input_grad(
        self, gy: Array, w: Array, shape: Shape, window: Window, groups: int
    ) -> Array:
        gy, w = self.dense(gy), self.dense(w, gy.dtype)
        (N, C), outs = shape[:2], w.shape[0]
        gx = self.new(shape, gy.dtype)
        if not gx.size:
            return gx
        if not gy.size:
            self._fill(gx, 0)
            return gx
        sizes = [*three(shape[2:], 1), *three(gy.shape[2:], 1), *window_args(window)]
        defines = self._conv_defines(window, gy.dtype)
        if math.prod(w.shape[1:]) < DIRECT_BELOW:
            kernel = self.kernel(
                "conv_direct_input_grad", ["window.cu", "conv_direct.cu"], **defines
            )
            self.each(kernel, gx.size, gy, w, gx, gx.size, C, outs, groups, *sizes)
            return gx
        if math.prod(window.stride) > 1:  # taps differ from residue to residue
            defines |= {f"FIXED_I{i}": 0 for i in range(3)}
        axes = zip(
            three(shape[2:], 1),
            three(window.kernel, 1),
            three(window.stride, 1),
            three(window.dilation, 1),
            three([lo for lo, _ in window.padding], 0),
            strict=True,
        )
        for parts in itertools.product(*(residues(*axis) for axis in axes)):
            first, cells, tap, step, taps = ([part[i] for part in parts] for i in range(5))
            columns = N * math.prod(cells)
            tile = self._tile(C // groups, columns, gy.itemsize)
            grid = (-(-columns // tile["BN"]), -(-(C // groups) // tile["BM"]), groups)
            kernel = self._tiled("conv_input_grad", tile, defines, along_n=1)
            threads = tile["BM"] // tile["TM"] * (tile["BN"] // tile["TN"])
            self.launch(
                kernel,
                grid,
                threads,
                gy,
                w,
                gx,
                N,
                C,
                outs,
                groups,
                *sizes,
                *first,
                *cells,
                *tap,
                *step,
                *taps,
                flops=2.0 * columns * C * (outs // groups) * math.prod(taps),
            )
        return gx

    @through_float32
    def conv_weight_grad(
        self, x: Array, gy: Array, shape: Shape, window: Window, groups: int
    ) -> Array:
        x, gy = self.dense(x), self.dense(gy, x.dtype)
        N, C, outs, P = x.shape[0], x.shape[1], shape[0], math.prod(gy.shape[2:])
        gw = self.new(shape, x.dtype)
        if not gw.size:
            return gw
        if not gy.size:
            self._fill(gw, 0)
            return gw
        sizes = [*three(x.shape[2:], 1), *three(gy.shape[2:], 1), *window_args(window)]
        columns, defines = math.prod(shape[1:]), self._conv_defines(window, x.dtype)
        flops = 2.0 * gw.size * N * P
        if columns < DIRECT_BELOW:
            kernel = self.kernel(
                "conv_direct_weight_grad", ["window.cu", "conv_direct.cu"], **defines
            )
            self.warps(kernel, gw.size, x, gy, gw, gw.size, N, C, outs, groups, *sizes, flops=flops)
            return gw
        tile = self._tile(outs // groups, columns, x.itemsize)
        across, down = -(-columns // tile["BN"]), -(-(outs // groups) // tile["BM"])
        splits, length = pick_splits(across * down * groups, N * P)
        partial = gw if splits == 1 else self.new((splits, gw.size), x.dtype)
        kernel = self._tiled("conv_weight_grad", tile, defines, along_n=0)
        threads = tile["BM"] // tile["TM"] * (tile["BN"] // tile["TN"])
        self.launch(
            kernel,
            (across, down, groups * splits),
            threads,
            x,
            gy,
            partial,
            N,
            C,
            outs,
            groups,
            *sizes,
            splits,
            length,
            flops=flops,
        )
        if splits > 1:
            return self._merge("sum", partial, 1, splits, gw.size, np.dtype(x.dtype)).reshape(shape)
        return gw

    def conv_grad(
        self, gy: Array, x: Array, w: Array, window: Window, groups: int, needs: Sequence[bool]
    ) -> Gradients:
        return (
            self.conv_input_grad(gy, w, x.shape, window, groups) if needs[0] else None,
            self.conv_weight_grad(x, gy, w.shape, window, groups) if needs[1] else None,
            self.sum(gy, (0, *range(2, gy.ndim)), False) if needs[2] else None,
        )
