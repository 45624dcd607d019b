// Convolution as one matrix product that is never stored (implicit GEMM); after window.cu and tile.cu.
//
//   y[n, o, p] = bias[o] + Σ_{c, i} w[o, c, i] · x[n, c, p·stride + i·dilation − pad],  max(·, 0) if relu
//
// With rows m = o, columns = (n, p) and k = (c, i), w is the left matrix as it lies in memory and x the
// right one, each element found when it is needed. p and i stand for three axes each. blockIdx.z is the
// group. x is (N, C, X0, X1, X2), w (O, C/groups, I0, I1, I2), y (N, O, P0, P1, P2); N·P < 2^31.

extern "C" __global__ void __launch_bounds__(THREADS)
conv_forward(const T* x, const T* w, const T* bias, T* y, int N, int C, int O, int groups,
             int X0, int X1, int X2, int P0, int P1, int P2, int i0, int i1, int i2,
             int stride0, int stride1, int stride2, int pad0, int pad1, int pad2,
             int dilation0, int dilation1, int dilation2, int relu) {
    const int I0 = PICK(FIXED_I0, i0), I1 = PICK(FIXED_I1, i1), I2 = PICK(FIXED_I2, i2);
    const int taps = I0 * I1 * I2, P = P0 * P1 * P2, Og = O / groups, Cg = C / groups, K = Cg * taps;
    const int o0 = blockIdx.y * BM, column0 = blockIdx.x * BN, group = blockIdx.z;

    // A thread always fetches the same column of x (tile.cu), so its pixel is found once.
    const int column = column0 + b_n(threadIdx.x);
    const bool exists = column < N * P;
    const int n = exists ? column / P : 0, p = exists ? column % P : 0;
    const int h0 = p / (P1 * P2) * stride0 - pad0, h1 = p / P2 % P1 * stride1 - pad1, h2 = p % P2 * stride2 - pad2;
    const T* cells = x + ((long long)n * C + group * Cg) * X0 * X1 * X2;
    const T* weights = w + (long long)group * Og * K;

    auto fetch_a = [&](T* v, int m, int k) {
        v[0] = o0 + m < Og && k < K ? weights[(long long)(o0 + m) * K + k] : (T)0;
    };
    auto fetch_b = [&](T* v, int k, int) {
        const int c = k / taps, i = k % taps;
        const int x0 = h0 + i / (I1 * I2) * dilation0, x1 = h1 + i / I2 % I1 * dilation1, x2 = h2 + i % I2 * dilation2;
        const bool seen = exists && k < K && inside(x0, X0) && inside(x1, X1) && inside(x2, X2);
        v[0] = seen ? cells[(((long long)c * X0 + x0) * X1 + x1) * X2 + x2] : (T)0;
    };
    T sum[TM][TN];
    multiply(0, K, fetch_a, fetch_b, sum);
#pragma unroll
    for (int j = 0; j < TN; ++j) {
        const int to = column0 + tile_column() + j;
        if (to >= N * P) break;
        T* pixel = y + ((long long)(to / P) * O + group * Og) * P + to % P;
#pragma unroll
        for (int i = 0; i < TM; ++i) {
            const int o = o0 + tile_row() + i;
            if (o >= Og) continue;
            const T v = sum[i][j] + (bias ? bias[group * Og + o] : (T)0);
            pixel[(long long)o * P] = relu && v < (T)0 ? (T)0 : v;
        }
    }
}
