"""Step 3: our own matrix product, a tile of it at a time in registers.

im2col as before, but the product is ours: eight sums stay in vector registers over all C·3·3 steps
(see tile.py). The weights are packed: the columns of one tile lie together, step after step, and
are read in order.
"""

import numpy as np
from common import C, H, K, N, O, W, padded_nhwc, report, w
from numba import njit
from numpy.lib.stride_tricks import sliding_window_view
from tile import COLUMNS, multiply, write

from tinygrad_cnn.backends.numba_kernels.simd import BYTES, splat

STEPS = K * K * C
images = padded_nhwc()
matrix = np.empty((N, H, W, K, K, C), np.float32)
weights = w.transpose(2, 3, 1, 0).reshape(STEPS, O // COLUMNS, COLUMNS)
packed = np.ascontiguousarray(weights.transpose(1, 0, 2))  # (panel, step, column)
y = np.empty((N * H * W, O), np.float32)


@njit
def product(a, rows, packed, c):  # type: ignore[no-untyped-def]
    zero = splat(np.float32(0))
    for m in range(0, rows, 4):
        row, step = a + m * STEPS * 4, STEPS * 4
        for panel in range(O // COLUMNS):
            start = (zero, zero, zero, zero, zero, zero, zero, zero)
            at = packed + panel * STEPS * COLUMNS * 4
            sums = multiply(
                row, row + step, row + 2 * step, row + 3 * step, STEPS, at, 2 * BYTES, start
            )
            write(sums, c + (m * O + panel * COLUMNS) * 4, O * 4)


def convolve():  # type: ignore[no-untyped-def]
    matrix[:] = sliding_window_view(images, (K, K), (1, 2)).transpose(0, 1, 2, 4, 5, 3)
    product(matrix.ctypes.data, N * H * W, packed.ctypes.data, y.ctypes.data)
    return y.reshape(N, H, W, O).transpose(0, 3, 1, 2)


report("3  im2col and a tile in registers", convolve)
