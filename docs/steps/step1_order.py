"""Step 1: the same loops in another order, on another memory layout.

With channels last (x as N, H, W, C; w as I, J, C, O) and the output channels innermost,
neighbouring multiply-adds work on neighbouring floats and do not wait for each other, so the
compiler makes vector instructions of them. A border of zeros removes the test. What is left: y is
loaded and stored again for every multiply-add.
"""

import numpy as np
from common import H, K, N, O, W, padded_nhwc, report, w
from numba import njit


@njit
def convolve(x, w, y):  # type: ignore[no-untyped-def]
    n_count, height, width, o_count = y.shape
    y[:] = 0
    for n in range(n_count):
        for p in range(height):
            for q in range(width):
                target = y[n, p, q]
                for i in range(K):
                    for j in range(K):
                        for c in range(x.shape[3]):
                            value, weights = x[n, p + i, q + j, c], w[i, j, c]
                            for o in range(o_count):
                                target[o] += value * weights[o]
    return y.transpose(0, 3, 1, 2)


images = padded_nhwc()
weights = np.ascontiguousarray(w.transpose(2, 3, 1, 0))
y = np.empty((N, H, W, O), np.float32)
report("1  channels last, output channels innermost", lambda: convolve(images, weights, y))
