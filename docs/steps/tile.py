"""The register tile of steps 3 and 4: four rows of A times two vectors of columns of B.

The eight sums are eight variables, so they stay in eight vector registers while k runs: for six
loads (two vectors of B, four numbers of A spread over all lanes) there are eight multiply-adds,
none of which waits for another. That is enough for two arithmetic units that take four cycles each.
The library generates such tiles in other sizes (backends/numba_kernels/microkernel.py); this one is
written out.
"""

from numba import njit

from tinygrad_cnn.backends.numba_kernels.simd import BYTES, WIDTH, fma, load, load_f32, splat, store

COLUMNS = 2 * WIDTH


@njit(inline="always")
def multiply(a0, a1, a2, a3, count, b, b_step, sums):  # type: ignore[no-untyped-def]
    """sums += A · B over ``count`` steps: rows of A at a0 … a3, row k of B at b + k·b_step."""
    s00, s01, s10, s11, s20, s21, s30, s31 = sums
    for k in range(count):
        b0, b1, at = load(b + k * b_step), load(b + k * b_step + BYTES), 4 * k
        v0, v1 = splat(load_f32(a0 + at)), splat(load_f32(a1 + at))
        v2, v3 = splat(load_f32(a2 + at)), splat(load_f32(a3 + at))
        s00, s01 = fma(v0, b0, s00), fma(v0, b1, s01)
        s10, s11 = fma(v1, b0, s10), fma(v1, b1, s11)
        s20, s21 = fma(v2, b0, s20), fma(v2, b1, s21)
        s30, s31 = fma(v3, b0, s30), fma(v3, b1, s31)
    return s00, s01, s10, s11, s20, s21, s30, s31


@njit(inline="always")
def write(sums, target, row_step):  # type: ignore[no-untyped-def]
    """Store the tile: four rows of two vectors."""
    for i in range(4):
        at = target + i * row_step
        if i == 0:
            first, second = sums[0], sums[1]
        elif i == 1:
            first, second = sums[2], sums[3]
        elif i == 2:
            first, second = sums[4], sums[5]
        else:
            first, second = sums[6], sums[7]
        store(at, first)
        store(at + BYTES, second)
