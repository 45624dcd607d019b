// The adjoint of convolution in its input, as an implicit matrix product; after window.cu and tile.cu.
//
//   gx[n, c, h] = Σ_{o, i} w[o, c, i] · gy[n, o, p]   over the p with p·stride + i·dilation − pad = h
//
// Each input cell gathers what the outputs give it: no atomics. With stride s only some taps reach a
// cell: those with i·dilation ≡ h + pad (mod s). Cells of one residue share these taps, so one launch
// handles one residue an axis: cells h = first + s·u (u < cells), taps i = tap + tap_step·t (t < taps).
// Rows m = c, columns = (n, cell), k = (o, tap); blockIdx.z is the group.

extern "C" __global__ void __launch_bounds__(THREADS)
conv_input_grad(const T* gy, const T* w, T* gx, int N, int C, int O, int groups,
                int X0, int X1, int X2, int P0, int P1, int P2, int I0, int I1, int I2,
                int stride0, int stride1, int stride2, int pad0, int pad1, int pad2,
                int dilation0, int dilation1, int dilation2,
                int first0, int first1, int first2, int cells0, int cells1, int cells2,
                int tap0, int tap1, int tap2, int tap_step0, int tap_step1, int tap_step2,
                int t0, int t1, int t2) {
    const int T0 = PICK(FIXED_I0, t0), T1 = PICK(FIXED_I1, t1), T2 = PICK(FIXED_I2, t2);
    const int taps = T0 * T1 * T2, cells = cells0 * cells1 * cells2, kernel = I0 * I1 * I2;
    const int Og = O / groups, Cg = C / groups, K = Og * taps;
    const int c0 = blockIdx.y * BM, column0 = blockIdx.x * BN, group = blockIdx.z;

    const int column = column0 + b_n(threadIdx.x);
    const bool exists = column < N * cells;
    const int n = exists ? column / cells : 0, cell = exists ? column % cells : 0;
    // h + pad of this thread's cell on each axis
    const int h0 = first0 + cell / (cells1 * cells2) * stride0 + pad0;
    const int h1 = first1 + cell / cells2 % cells1 * stride1 + pad1;
    const int h2 = first2 + cell % cells2 * stride2 + pad2;
    const T* grads = gy + ((long long)n * O + group * Og) * P0 * P1 * P2;
    const T* weights = w + (long long)group * Og * Cg * kernel;

    auto fetch_a = [&](T* v, int m, int k) {
        const int o = k / taps, t = k % taps;
        const int i0 = tap0 + t / (T1 * T2) * tap_step0, i1 = tap1 + t / T2 % T1 * tap_step1, i2 = tap2 + t % T2 * tap_step2;
        v[0] = c0 + m < Cg && k < K
                   ? weights[((long long)o * Cg + c0 + m) * kernel + (i0 * I1 + i1) * I2 + i2] : (T)0;
    };
    auto fetch_b = [&](T* v, int k, int) {
        const int o = k / taps, t = k % taps;
        const int d0 = h0 - (tap0 + t / (T1 * T2) * tap_step0) * dilation0;  // p·stride: divisible by construction
        const int d1 = h1 - (tap1 + t / T2 % T1 * tap_step1) * dilation1;
        const int d2 = h2 - (tap2 + t % T2 * tap_step2) * dilation2;
        const int p0 = d0 / stride0, p1 = d1 / stride1, p2 = d2 / stride2;
        const bool seen = exists && k < K && d0 >= 0 && d1 >= 0 && d2 >= 0 && p0 < P0 && p1 < P1 && p2 < P2;
        v[0] = seen ? grads[(((long long)o * P0 + p0) * P1 + p1) * P2 + p2] : (T)0;
    };
    T sum[TM][TN];
    multiply(0, K, fetch_a, fetch_b, sum);
#pragma unroll
    for (int j = 0; j < TN; ++j) {
        const int to = column0 + tile_column() + j;
        if (to >= N * cells) break;
        const int u = to % cells;
        const int x0 = first0 + u / (cells1 * cells2) * stride0, x1 = first1 + u / cells2 % cells1 * stride1;
        const int x2 = first2 + u % cells2 * stride2;
#pragma unroll
        for (int i = 0; i < TM; ++i) {
            const int c = c0 + tile_row() + i;
            if (c < Cg)
                gx[((((long long)(to / cells) * C + group * Cg + c) * X0 + x0) * X1 + x1) * X2 + x2] = sum[i][j];
        }
    }
}
