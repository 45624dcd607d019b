"""Step 2: im2col, then somebody else's matrix product.

Row (n, p, q) of a matrix gets all C·3·3 input values that output pixel (n, p, q) depends on; the
convolution is this matrix times the weights. BLAS multiplies near the peak. The price: the matrix
is nine times as large as the images, and is written and read once.
"""

import numpy as np
from common import C, H, K, N, O, W, padded_nhwc, report, w
from numpy.lib.stride_tricks import sliding_window_view

images = padded_nhwc()
weights = np.ascontiguousarray(w.transpose(2, 3, 1, 0).reshape(K * K * C, O))
matrix = np.empty((N, H, W, K, K, C), np.float32)
y = np.empty((N * H * W, O), np.float32)


def convolve():  # type: ignore[no-untyped-def]
    matrix[:] = sliding_window_view(images, (K, K), (1, 2)).transpose(0, 1, 2, 4, 5, 3)
    np.matmul(matrix.reshape(N * H * W, K * K * C), weights, out=y)
    return y.reshape(N, H, W, O).transpose(0, 3, 1, 2)


report("2  im2col and BLAS", convolve)
