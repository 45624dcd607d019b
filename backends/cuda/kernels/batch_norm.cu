// Batch norm of x (N, C, S): statistics over n and s for each channel c.   -DT= float or double
//
// A channel's N·S elements are cut into `chunks` pieces, one block each; a second kernel merges them.

// Mean and sum of squared deviations M2 of two sets merge by Chan's formula, which subtracts means, not
// sums of squares, so nothing cancels:  δ = mean_b − mean_a,  mean = mean_a + δ·n_b/n,
// M2 = M2_a + M2_b + δ²·n_a·n_b/n.   Source: Chan, Golub, LeVeque, 1979; one element at a time: Welford, 1962.
// The channel's first element is subtracted from all others beforehand: a mean that is large against
// the spread then costs float32 no digits, and no float64 is needed, which most GPUs do slowly.
struct Moments { T n, mean, m2; };

__device__ __forceinline__ Moments merge(Moments a, Moments b) {
    const T n = a.n + b.n;
    if (n == (T)0) return a;
    const T delta = b.mean - a.mean, share = b.n / n;
    return {n, a.mean + delta * share, a.m2 + b.m2 + delta * delta * a.n * share};
}

// partial[c, chunk] = (n, mean, M2) of a piece, relative to the channel's first element; 128 threads a block: lanes merge by shuffles, warps
// through shared memory.
extern "C" __global__ void __launch_bounds__(128)
batch_norm_partial(const T* x, T* partial, int N, int C, int S, int chunks, int length) {
    const int c = blockIdx.x / chunks, chunk = blockIdx.x % chunks;
    const int begin = chunk * length, end = min(N * S, begin + length);
    const T origin = x[(long long)c * S];
    Moments mine = {0, 0, 0};
    for (int e = begin + threadIdx.x; e < end; e += 128) {
        const T v = x[((long long)(e / S) * C + c) * S + e % S] - origin, delta = v - mine.mean;
        mine.n += 1;
        mine.mean += delta / mine.n;
        mine.m2 += delta * (v - mine.mean);
    }
    for (int offset = 16; offset > 0; offset /= 2) {
        Moments other;
        other.n = __shfl_down_sync(0xffffffffu, mine.n, offset);
        other.mean = __shfl_down_sync(0xffffffffu, mine.mean, offset);
        other.m2 = __shfl_down_sync(0xffffffffu, mine.m2, offset);
        mine = merge(mine, other);
    }
    __shared__ T warps[4][3];
    if (threadIdx.x % 32 == 0) {
        warps[threadIdx.x / 32][0] = mine.n;
        warps[threadIdx.x / 32][1] = mine.mean;
        warps[threadIdx.x / 32][2] = mine.m2;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        for (int w = 1; w < 4; ++w) mine = merge(mine, {warps[w][0], warps[w][1], warps[w][2]});
        partial[blockIdx.x * 3 + 0] = mine.n;
        partial[blockIdx.x * 3 + 1] = mine.mean;
        partial[blockIdx.x * 3 + 2] = mine.m2;
    }
}

// mean[c] and biased variance[c] from the pieces; one thread a channel
extern "C" __global__ void batch_norm_merge(const T* partial, const T* x, T* mean, T* var, int C, int S, int chunks) {
    const int c = blockIdx.x * blockDim.x + threadIdx.x;
    if (c >= C) return;
    Moments all = {0, 0, 0};
    for (int k = 0; k < chunks; ++k) {
        const T* p = partial + ((long long)c * chunks + k) * 3;
        all = merge(all, {p[0], p[1], p[2]});
    }
    mean[c] = x[(long long)c * S] + all.mean;
    var[c] = all.n > (T)0 ? all.m2 / all.n : (T)0;
}

// y = (x − mean) / sqrt(var + eps) · weight + bias + residual, then max(y, 0) if relu
extern "C" __global__ void batch_norm_apply(const T* x, const T* mean, const T* var, const T* weight, const T* bias,
                                            const T* residual, T* y, T eps, long long n, int C, int S, int relu) {
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (long long)gridDim.x * blockDim.x) {
        const int c = (int)(i / S % C);
        T v = (x[i] - mean[c]) / sqrt(var[c] + eps);
        if (weight) v *= weight[c];
        if (bias) v += bias[c];
        if (residual) v += residual[i];
        y[i] = relu && v < (T)0 ? (T)0 : v;
    }
}

// partial[0, c, chunk] = Σ gy,  partial[1, c, chunk] = Σ gy·x̂  with x̂ = (x − mean) / sqrt(var + eps)
extern "C" __global__ void __launch_bounds__(128)
batch_norm_sums(const T* gy, const T* x, const T* mean, const T* var, T* partial, T eps, int N, int C, int S, int chunks,
                int length) {
    const int c = blockIdx.x / chunks, chunk = blockIdx.x % chunks;
    const int begin = chunk * length, end = min(N * S, begin + length);
    const T centre = mean[c], inverse = (T)1 / sqrt(var[c] + eps);
    T sum = 0, dot = 0;
    for (int e = begin + threadIdx.x; e < end; e += 128) {
        const long long i = ((long long)(e / S) * C + c) * S + e % S;
        sum += gy[i];
        dot += gy[i] * ((x[i] - centre) * inverse);
    }
    for (int offset = 16; offset > 0; offset /= 2) {
        sum += __shfl_down_sync(0xffffffffu, sum, offset);
        dot += __shfl_down_sync(0xffffffffu, dot, offset);
    }
    __shared__ T warps[4][2];
    if (threadIdx.x % 32 == 0) {
        warps[threadIdx.x / 32][0] = sum;
        warps[threadIdx.x / 32][1] = dot;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        for (int w = 1; w < 4; ++w) sum += warps[w][0], dot += warps[w][1];
        partial[blockIdx.x] = sum;
        partial[C * chunks + blockIdx.x] = dot;
    }
}

// gx = weight/σ · (gy − gbias/m − x̂·gweight/m),  m = N·S
extern "C" __global__ void batch_norm_input_grad(const T* gy, const T* x, const T* mean, const T* var, const T* weight,
                                                 const T* gweight, const T* gbias, T* gx, T eps, long long n, int C, int S) {
    const T m = (T)(n / C);
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (long long)gridDim.x * blockDim.x) {
        const int c = (int)(i / S % C);
        const T inverse = (T)1 / sqrt(var[c] + eps), scale = weight ? weight[c] * inverse : inverse;
        gx[i] = scale * (gy[i] - gbias[c] / m - (x[i] - mean[c]) * inverse * (gweight[c] / m));
    }
}
