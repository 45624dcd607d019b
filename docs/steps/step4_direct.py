"""Step 4: no im2col.

The four rows of a tile are four neighbouring pixels, and under one kernel position each finds its C
input values contiguous in the image itself, at an address that is simple to compute. So the loop
over kernel positions moves inside the tile, and the matrix of step 2 is never written: the images
are read from the cache instead of nine copies of them from memory.
"""

import numpy as np
from common import C, H, K, N, O, W, padded_nhwc, report, w
from numba import njit
from tile import COLUMNS, multiply, write

from tinygrad_cnn.backends.numba_kernels.simd import BYTES, splat

images = padded_nhwc()
weights = w.transpose(2, 3, 1, 0).reshape(K * K * C, O // COLUMNS, COLUMNS)
packed = np.ascontiguousarray(weights.transpose(1, 0, 2))
y = np.empty((N, H, W, O), np.float32)
PIXEL, ROW = C * 4, (W + 2) * C * 4  # bytes


@njit
def direct(x, packed, y):  # type: ignore[no-untyped-def]
    zero = splat(np.float32(0))
    for n in range(N):
        for p in range(H):
            for panel in range(O // COLUMNS):
                for q in range(0, W, 4):
                    sums = (zero, zero, zero, zero, zero, zero, zero, zero)
                    at = packed + panel * K * K * C * COLUMNS * 4
                    for i in range(K):
                        for j in range(K):
                            a = x + (n * (H + 2) + p + i) * ROW + (q + j) * PIXEL
                            sums = multiply(
                                a, a + PIXEL, a + 2 * PIXEL, a + 3 * PIXEL, C, at, 2 * BYTES, sums
                            )
                            at += C * COLUMNS * 4
                    place = ((n * H + p) * W + q) * O + panel * COLUMNS
                    write(sums, y + place * 4, O * 4)


def convolve():  # type: ignore[no-untyped-def]
    direct(images.ctypes.data, packed.ctypes.data, y.ctypes.data)
    return y.transpose(0, 3, 1, 2)


report("4  direct: a tile of pixels, no im2col", convolve)
