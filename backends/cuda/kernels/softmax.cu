// Softmax and cross-entropy of the rows of x (rows, K); one warp a row.   -DT= float or double
//
// The maximum is subtracted first, so exp never overflows. All lanes get each total by xor shuffles.

__device__ __forceinline__ T warp_max(T v) {
    for (int offset = 16; offset > 0; offset /= 2) {
        const T other = __shfl_xor_sync(0xffffffffu, v, offset);
        v = other > v || other != other ? other : v;  // NaN wins
    }
    return v;
}
__device__ __forceinline__ T warp_sum(T v) {
    for (int offset = 16; offset > 0; offset /= 2) v += __shfl_xor_sync(0xffffffffu, v, offset);
    return v;
}

// The row's maximum and Σ exp(x − max), known to every lane.
__device__ __forceinline__ void row_totals(const T* x, int K, int lane, T* top, T* total) {
    T most = x[min(lane, K - 1)];
    for (int k = lane + 32; k < K; k += 32) most = x[k] > most || x[k] != x[k] ? x[k] : most;
    most = warp_max(most);
    T sum = 0;
    for (int k = lane; k < K; k += 32) sum += exp(x[k] - most);
    *top = most;
    *total = warp_sum(sum);
}

// y = exp(x − max) / Σ exp(x − max), or its logarithm
extern "C" __global__ void softmax(const T* x, T* y, long long rows, int K, int logarithm) {
    const long long row = ((long long)blockIdx.x * blockDim.x + threadIdx.x) / 32;
    if (row >= rows) return;  // whole warps leave
    const int lane = threadIdx.x % 32;
    T top, total;
    row_totals(x + row * K, K, lane, &top, &total);
    for (int k = lane; k < K; k += 32) {
        const T v = x[row * K + k] - top;
        y[row * K + k] = logarithm ? v - log(total) : exp(v) / total;
    }
}

// loss[n] = log Σ exp(x[n] − max) − (x[n, target] − max), and the softmax, in one pass
extern "C" __global__ void cross_entropy(const T* x, const long long* target, T* loss, T* probability, long long rows, int K) {
    const long long row = ((long long)blockIdx.x * blockDim.x + threadIdx.x) / 32;
    if (row >= rows) return;
    const int lane = threadIdx.x % 32;
    T top, total;
    row_totals(x + row * K, K, lane, &top, &total);
    for (int k = lane; k < K; k += 32) {
        probability[row * K + k] = exp(x[row * K + k] - top) / total;
        if (k == (target[row] < 0 ? target[row] + K : target[row])) loss[row] = log(total) - (x[row * K + k] - top);
    }
}

// gx[n, k] = g[n] · (p[n, k] − [k = target[n]])
extern "C" __global__ void cross_entropy_grad(const T* g, const T* probability, const long long* target, T* gx, long long n, int K) {
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (long long)gridDim.x * blockDim.x) {
        const long long row = i / K, t = target[row] < 0 ? target[row] + K : target[row];
        gx[i] = g[row] * (probability[i] - (i % K == t ? (T)1 : (T)0));
    }
}
