// Convolution without tiles, for few channels (a first layer, depthwise layers), where a matrix product
// would be mostly padding; after window.cu. Formulas and shapes as in conv_forward.cu and its adjoints.
//   -DT= float or double

// One thread an output.
extern "C" __global__ void conv_direct(const T* x, const T* w, const T* bias, T* y, long long outputs, int C, int O, int groups,
                                       int X0, int X1, int X2, int P0, int P1, int P2, int i0, int i1, int i2,
                                       int stride0, int stride1, int stride2, int pad0, int pad1, int pad2,
                                       int dilation0, int dilation1, int dilation2, int relu) {
    const int I0 = PICK(FIXED_I0, i0), I1 = PICK(FIXED_I1, i1), I2 = PICK(FIXED_I2, i2);
    const int P = P0 * P1 * P2, X = X0 * X1 * X2, taps = I0 * I1 * I2, Cg = C / groups;
    for (long long e = (long long)blockIdx.x * blockDim.x + threadIdx.x; e < outputs; e += (long long)gridDim.x * blockDim.x) {
        const int p = (int)(e % P), o = (int)(e / P % O), group = o / (O / groups);
        const int h0 = p / (P1 * P2) * stride0 - pad0, h1 = p / P2 % P1 * stride1 - pad1, h2 = p % P2 * stride2 - pad2;
        const T* cells = x + (e / P / O * C + group * Cg) * X;
        const T* weights = w + (long long)o * Cg * taps;
        T sum = bias ? bias[o] : (T)0;
        for (int c = 0; c < Cg; ++c)
            for (int a = 0; a < I0; ++a)
                for (int b = 0; b < I1; ++b)
                    for (int d = 0; d < I2; ++d) {
                        const int x0 = h0 + a * dilation0, x1 = h1 + b * dilation1, x2 = h2 + d * dilation2;
                        if (inside(x0, X0) && inside(x1, X1) && inside(x2, X2))
                            sum += cells[(long long)c * X + (x0 * X1 + x1) * X2 + x2] * weights[(c * I0 + a) * I1 * I2 + b * I2 + d];
                    }
        y[e] = relu && sum < (T)0 ? (T)0 : sum;
    }
}

// One thread an input cell; it asks each tap whether an output reaches it.
extern "C" __global__ void conv_direct_input_grad(const T* gy, const T* w, T* gx, long long inputs, int C, int O, int groups,
                                                  int X0, int X1, int X2, int P0, int P1, int P2, int i0, int i1, int i2,
                                                  int stride0, int stride1, int stride2, int pad0, int pad1, int pad2,
                                                  int dilation0, int dilation1, int dilation2) {
    const int I0 = PICK(FIXED_I0, i0), I1 = PICK(FIXED_I1, i1), I2 = PICK(FIXED_I2, i2);
    const int P = P0 * P1 * P2, X = X0 * X1 * X2, taps = I0 * I1 * I2, Cg = C / groups, Og = O / groups;
    for (long long e = (long long)blockIdx.x * blockDim.x + threadIdx.x; e < inputs; e += (long long)gridDim.x * blockDim.x) {
        const int x = (int)(e % X), channel = (int)(e / X % C), group = channel / Cg, c = channel % Cg;
        const int h0 = x / (X1 * X2) + pad0, h1 = x / X2 % X1 + pad1, h2 = x % X2 + pad2;
        const T* grads = gy + (e / X / C * O + group * Og) * P;
        const T* weights = w + ((long long)group * Og * Cg + c) * taps;
        T sum = 0;
        for (int a = 0; a < I0; ++a)
            for (int b = 0; b < I1; ++b)
                for (int d = 0; d < I2; ++d) {
                    const int d0 = h0 - a * dilation0, d1 = h1 - b * dilation1, d2 = h2 - d * dilation2;
                    const int p0 = d0 / stride0, p1 = d1 / stride1, p2 = d2 / stride2;
                    if (d0 < 0 || d1 < 0 || d2 < 0 || p0 >= P0 || p1 >= P1 || p2 >= P2) continue;
                    if (p0 * stride0 != d0 || p1 * stride1 != d1 || p2 * stride2 != d2) continue;
                    for (int o = 0; o < Og; ++o)
                        sum += grads[(long long)o * P + (p0 * P1 + p1) * P2 + p2] *
                               weights[(long long)o * Cg * taps + (a * I1 + b) * I2 + d];
                }
        gx[e] = sum;
    }
}

// One warp a weight: its lanes share the sum over (n, p), then five shuffles add it up.
extern "C" __global__ void conv_direct_weight_grad(const T* x, const T* gy, T* gw, int weights, int N, int C, int O, int groups,
                                                   int X0, int X1, int X2, int P0, int P1, int P2, int i0, int i1, int i2,
                                                   int stride0, int stride1, int stride2, int pad0, int pad1, int pad2,
                                                   int dilation0, int dilation1, int dilation2) {
    const int I0 = PICK(FIXED_I0, i0), I1 = PICK(FIXED_I1, i1), I2 = PICK(FIXED_I2, i2);
    const int P = P0 * P1 * P2, X = X0 * X1 * X2, taps = I0 * I1 * I2, Cg = C / groups;
    const int e = (int)(((long long)blockIdx.x * blockDim.x + threadIdx.x) / 32), lane = threadIdx.x % 32;
    if (e >= weights) return;  // whole warps leave
    const int i = e % taps, o = e / taps / Cg, channel = o / (O / groups) * Cg + e / taps % Cg;
    const int a0 = i / (I1 * I2) * dilation0 - pad0, a1 = i / I2 % I1 * dilation1 - pad1, a2 = i % I2 * dilation2 - pad2;
    T sum = 0;
    for (int k = lane; k < N * P; k += 32) {
        const int p = k % P, n = k / P;
        const int x0 = p / (P1 * P2) * stride0 + a0, x1 = p / P2 % P1 * stride1 + a1, x2 = p % P2 * stride2 + a2;
        if (inside(x0, X0) && inside(x1, X1) && inside(x2, X2))
            sum += gy[((long long)n * O + o) * P + p] * x[((long long)n * C + channel) * X + (x0 * X1 + x1) * X2 + x2];
    }
    for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_down_sync(0xffffffffu, sum, offset);
    if (lane == 0) gw[e] = sum;
}
