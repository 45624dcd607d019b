// Pooling over windows of x (NC, X0, X1, X2) → y (NC, P0, P1, P2); after window.cu.
//   -DT= type of the values    -DW= type of winners (unsigned char up to 255 taps, else int)
//
// A winner is the number i0·I1·I2 + i1·I2 + i2 of a tap, a quarter of a position's size. Backward passes
// gather: each input cell asks the few windows that cover it, so there are no atomics, nothing is
// zeroed first, and the order of additions is fixed.
#define EACH(e, count) \
    long long e = (long long)blockIdx.x * blockDim.x + threadIdx.x; e < count; e += (long long)gridDim.x * blockDim.x

// y = the first maximum of the window (the last NaN, if any); padding never wins.
extern "C" __global__ void max_pool(const T* x, T* y, W* winner, long long outputs, int X0, int X1, int X2, int P0, int P1, int P2,
                                    int I0, int I1, int I2, int stride0, int stride1, int stride2,
                                    int pad0, int pad1, int pad2, int dilation0, int dilation1, int dilation2) {
    const int P = P0 * P1 * P2;
    for (EACH(e, outputs)) {
        const int p = (int)(e % P);
        const int h0 = p / (P1 * P2) * stride0 - pad0, h1 = p / P2 % P1 * stride1 - pad1, h2 = p % P2 * stride2 - pad2;
        const T* cells = x + e / P * X0 * X1 * X2;
        T best = LEAST;  // of a window that sees padding only
        int at = 0;
        bool any = false;
        for (int a = 0; a < I0; ++a)
            for (int b = 0; b < I1; ++b)
                for (int d = 0; d < I2; ++d) {
                    const int x0 = h0 + a * dilation0, x1 = h1 + b * dilation1, x2 = h2 + d * dilation2;
                    if (!inside(x0, X0) || !inside(x1, X1) || !inside(x2, X2)) continue;
                    const T v = cells[(x0 * X1 + x1) * X2 + x2];
                    if (!any || v > best || v != v) best = v, at = (a * I1 + b) * I2 + d, any = true;
                }
        y[e] = best;
        winner[e] = (W)at;
    }
}

// y = x at the winner
extern "C" __global__ void max_pool_gather(const T* x, const W* winner, T* y, long long outputs,
                                           int X0, int X1, int X2, int P0, int P1, int P2,
                                           int I0, int I1, int I2, int stride0, int stride1, int stride2,
                                           int pad0, int pad1, int pad2, int dilation0, int dilation1, int dilation2) {
    const int P = P0 * P1 * P2;
    for (EACH(e, outputs)) {
        const int p = (int)(e % P), i = winner[e];
        const int x0 = p / (P1 * P2) * stride0 - pad0 + i / (I1 * I2) * dilation0;
        const int x1 = p / P2 % P1 * stride1 - pad1 + i / I2 % I1 * dilation1;
        const int x2 = p % P2 * stride2 - pad2 + i % I2 * dilation2;
        const bool seen = inside(x0, X0) && inside(x1, X1) && inside(x2, X2);
        y[e] = seen ? x[e / P * X0 * X1 * X2 + (x0 * X1 + x1) * X2 + x2] : (T)0;
    }
}

// Calls visit(p, tap) for each window p that covers cell x, with the tap that lies on it.
template <class Visit>
__device__ __forceinline__ void covering(int x, int X1, int X2, int P0, int P1, int P2, int I0, int I1, int I2,
                                         int stride0, int stride1, int stride2, int pad0, int pad1, int pad2,
                                         int dilation0, int dilation1, int dilation2, Visit visit) {
    const int h0 = x / (X1 * X2) + pad0, h1 = x / X2 % X1 + pad1, h2 = x % X2 + pad2;
    for (int a = 0; a < I0; ++a) {
        const int d0 = h0 - a * dilation0, p0 = d0 / stride0;
        if (d0 < 0 || p0 >= P0 || p0 * stride0 != d0) continue;
        for (int b = 0; b < I1; ++b) {
            const int d1 = h1 - b * dilation1, p1 = d1 / stride1;
            if (d1 < 0 || p1 >= P1 || p1 * stride1 != d1) continue;
            for (int d = 0; d < I2; ++d) {
                const int d2 = h2 - d * dilation2, p2 = d2 / stride2;
                if (d2 < 0 || p2 >= P2 || p2 * stride2 != d2) continue;
                visit(p0, p1, p2, (a * I1 + b) * I2 + d);
            }
        }
    }
}

// gx[h] = Σ gy[p] over the windows p that cell h won
extern "C" __global__ void max_pool_scatter(const T* gy, const W* winner, T* gx, long long inputs,
                                            int X0, int X1, int X2, int P0, int P1, int P2,
                                            int I0, int I1, int I2, int stride0, int stride1, int stride2,
                                            int pad0, int pad1, int pad2, int dilation0, int dilation1, int dilation2) {
    const int X = X0 * X1 * X2;
    for (EACH(e, inputs)) {
        const long long plane = e / X * P0 * P1 * P2;
        T sum = 0;
        covering((int)(e % X), X1, X2, P0, P1, P2, I0, I1, I2, stride0, stride1, stride2, pad0, pad1, pad2,
                 dilation0, dilation1, dilation2, [&](int p0, int p1, int p2, int tap) {
                     const long long p = plane + (p0 * P1 + p1) * P2 + p2;
                     if ((int)winner[p] == tap) sum += gy[p];
                 });
        gx[e] = sum;
    }
}

// y[p] = Σ x over the window / (div0[p0]·div1[p1]·div2[p2])
extern "C" __global__ void avg_pool(const T* x, const int* div0, const int* div1, const int* div2, T* y, long long outputs,
                                    int X0, int X1, int X2, int P0, int P1, int P2,
                                    int I0, int I1, int I2, int stride0, int stride1, int stride2,
                                    int pad0, int pad1, int pad2, int dilation0, int dilation1, int dilation2) {
    const int P = P0 * P1 * P2;
    for (EACH(e, outputs)) {
        const int p = (int)(e % P), p0 = p / (P1 * P2), p1 = p / P2 % P1, p2 = p % P2;
        const T* cells = x + e / P * X0 * X1 * X2;
        T sum = 0;
        for (int a = 0; a < I0; ++a)
            for (int b = 0; b < I1; ++b)
                for (int d = 0; d < I2; ++d) {
                    const int x0 = p0 * stride0 - pad0 + a * dilation0, x1 = p1 * stride1 - pad1 + b * dilation1;
                    const int x2 = p2 * stride2 - pad2 + d * dilation2;
                    if (inside(x0, X0) && inside(x1, X1) && inside(x2, X2)) sum += cells[(x0 * X1 + x1) * X2 + x2];
                }
        y[e] = sum / ((T)div0[p0] * (T)div1[p1] * (T)div2[p2]);
    }
}

// gx[h] = Σ gy[p] / divisor[p] over the windows p that cover h
extern "C" __global__ void avg_pool_scatter(const T* gy, const int* div0, const int* div1, const int* div2, T* gx, long long inputs,
                                            int X0, int X1, int X2, int P0, int P1, int P2,
                                            int I0, int I1, int I2, int stride0, int stride1, int stride2,
                                            int pad0, int pad1, int pad2, int dilation0, int dilation1, int dilation2) {
    const int X = X0 * X1 * X2;
    for (EACH(e, inputs)) {
        const long long plane = e / X * P0 * P1 * P2;
        T sum = 0;
        covering((int)(e % X), X1, X2, P0, P1, P2, I0, I1, I2, stride0, stride1, stride2, pad0, pad1, pad2,
                 dilation0, dilation1, dilation2, [&](int p0, int p1, int p2, int) {
                     sum += gy[plane + (p0 * P1 + p1) * P2 + p2] / ((T)div0[p0] * (T)div1[p1] * (T)div2[p2]);
                 });
        gx[e] = sum;
    }
}
