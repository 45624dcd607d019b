"""Step 0: the definition as loops, compiled.

    y[n, o, p, q] = Σ_c Σ_i Σ_j x[n, c, p + i − 1, q + j − 1] · w[o, c, i, j]

The innermost sum is one number that every multiply-add has to wait for, three taps long, with a
test for the border in between: one scalar multiply-add at a time.
"""

import numpy as np
from common import PAD, K, report, w, x
from numba import njit


@njit
def convolve(x, w, y):  # type: ignore[no-untyped-def]
    n_count, c_count, height, width = x.shape
    for n in range(n_count):
        for o in range(w.shape[0]):
            for p in range(height):
                for q in range(width):
                    total = np.float32(0)
                    for c in range(c_count):
                        for i in range(K):
                            for j in range(K):
                                row, column = p + i - PAD, q + j - PAD
                                if 0 <= row < height and 0 <= column < width:
                                    total += x[n, c, row, column] * w[o, c, i, j]
                    y[n, o, p, q] = total
    return y


y = np.zeros((x.shape[0], w.shape[0], *x.shape[2:]), np.float32)
report("0  loops as in the definition", lambda: convolve(x, w, y))
