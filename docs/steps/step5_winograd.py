"""Step 5: fewer multiplications (Winograd's F(4×4, 3×3)).

A 4×4 tile of outputs is Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A for its 6×6 tile d of inputs: 36 multiplications
for what takes 144. Over channels, each of the 36 entries is a matrix product of its own. Here in
NumPy: the transforms as small products, the 36 as one batched product. All of it goes to memory and
back several times, and that costs more than the arithmetic saves. Step 6 keeps it in the cache.
"""

import numpy as np
from common import C, H, N, O, W, padded_nhwc, report, w
from numpy.lib.stride_tricks import sliding_window_view

f = np.float32
B_T = np.array([[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0],
                [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]], f)  # fmt: skip
G = np.array([[1 / 4, 0, 0], [-1 / 6, -1 / 6, -1 / 6], [-1 / 6, 1 / 6, -1 / 6],
              [1 / 24, 1 / 12, 1 / 6], [1 / 24, -1 / 12, 1 / 6], [0, 0, 1]], f)  # fmt: skip
A_T = np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0],
                [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]], f)  # fmt: skip
TILES = N * (H // 4) * (W // 4)

images = padded_nhwc()
both = np.kron(B_T, B_T)  # (36, 36): Bᵀ d B of a flattened tile
back = np.kron(A_T, A_T)  # (16, 36)
u = (np.kron(G, G) @ w.reshape(O * C, 9).T).reshape(36, O, C).transpose(0, 2, 1)
u = np.ascontiguousarray(u)


def convolve():  # type: ignore[no-untyped-def]
    tiles = sliding_window_view(images, (6, 6), (1, 2))[:, ::4, ::4]  # (N, H/4, W/4, C, 6, 6)
    d = tiles.transpose(4, 5, 0, 1, 2, 3).reshape(36, TILES * C)
    v = (both @ d).reshape(36, TILES, C)
    m = np.matmul(v, u).reshape(36, TILES * O)
    y = (back @ m).reshape(4, 4, N, H // 4, W // 4, O)
    return y.transpose(2, 3, 0, 4, 1, 5).reshape(N, H, W, O).transpose(0, 3, 1, 2)


report("5  Winograd in NumPy, stage after stage", convolve, bound=1e-4)
