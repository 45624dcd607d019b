// The adjoint of convolution in its weight, as an implicit matrix product; after window.cu and tile.cu.
//
//   gw[o, c, i] = Σ_{n, p} gy[n, o, p] · x[n, c, p·stride + i·dilation − pad]
//
// Rows m = o, columns = (c, i), and the long sum runs over k = (n, p). Few results and a long sum leave
// most of a GPU idle, so `splits` blocks share the sum, `length` of it each; they write partial results
// (splits, O, C/groups, I) that reduce.cu adds up in a fixed order. blockIdx.z = group·splits + split.

extern "C" __global__ void __launch_bounds__(THREADS)
conv_weight_grad(const T* x, const T* gy, T* partial, int N, int C, int O, int groups,
                 int X0, int X1, int X2, int P0, int P1, int P2, int i0, int i1, int i2,
                 int stride0, int stride1, int stride2, int pad0, int pad1, int pad2,
                 int dilation0, int dilation1, int dilation2, int splits, int length) {
    const int I0 = PICK(FIXED_I0, i0), I1 = PICK(FIXED_I1, i1), I2 = PICK(FIXED_I2, i2);
    const int taps = I0 * I1 * I2, P = P0 * P1 * P2, X = X0 * X1 * X2;
    const int Og = O / groups, Cg = C / groups, columns = Cg * taps;
    const int o0 = blockIdx.y * BM, column0 = blockIdx.x * BN;
    const int group = blockIdx.z / splits, split = blockIdx.z % splits;
    const int k_begin = split * length, k_end = min(N * P, k_begin + length);

    auto fetch_a = [&](T* v, int m, int k) {
        v[0] = o0 + m < Og && k < k_end
                   ? gy[((long long)(k / P) * O + group * Og + o0 + m) * P + k % P] : (T)0;
    };
    auto fetch_b = [&](T* v, int k, int n) {
        const int column = column0 + n, c = column / taps, i = column % taps, p = k % P;
        const int x0 = p / (P1 * P2) * stride0 + i / (I1 * I2) * dilation0 - pad0;
        const int x1 = p / P2 % P1 * stride1 + i / I2 % I1 * dilation1 - pad1;
        const int x2 = p % P2 * stride2 + i % I2 * dilation2 - pad2;
        const bool seen = column < columns && k < k_end && inside(x0, X0) && inside(x1, X1) && inside(x2, X2);
        v[0] = seen ? x[((long long)(k / P) * C + group * Cg + c) * X + (x0 * X1 + x1) * X2 + x2] : (T)0;
    };
    T sum[TM][TN];
    multiply(k_begin, k_end, fetch_a, fetch_b, sum);
    T* gw = partial + ((long long)split * O + group * Og) * columns;
#pragma unroll
    for (int i = 0; i < TM; ++i)
#pragma unroll
        for (int j = 0; j < TN; ++j) {
            const int o = o0 + tile_row() + i, column = column0 + tile_column() + j;
            if (o < Og && column < columns) gw[(long long)o * columns + column] = sum[i][j];
        }
}
