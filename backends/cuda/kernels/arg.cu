// Position of the largest (or smallest) element of x (A, R, B) along its middle axis: the first one,
// NaN counting as beyond every number.    -DT= type    -DBETTER= a formula in p and q: p beats q
//
// A pair (value, position) beats another if its value does, or if neither value beats the other and
// its position is lower; that order is total, so lanes may be merged in any order.

__device__ __forceinline__ bool wins(T p, int i, T q, int j) {
    const bool p_nan = p != p, q_nan = q != q;
    if (p_nan || q_nan) return p_nan && q_nan ? i < j : p_nan;
    return (BETTER) || (p == q && i < j);
}

extern "C" __global__ void arg_rows(const T* x, long long* y, long long rows, int R) {
    const long long row = ((long long)blockIdx.x * blockDim.x + threadIdx.x) / 32;
    if (row >= rows) return;
    const int lane = threadIdx.x % 32;
    int at = min(lane, R - 1);
    T best = x[row * R + at];
    for (int r = lane + 32; r < R; r += 32) {
        const T v = x[row * R + r];
        if (wins(v, r, best, at)) best = v, at = r;
    }
    for (int offset = 16; offset > 0; offset /= 2) {
        const T v = __shfl_down_sync(0xffffffffu, best, offset);
        const int r = __shfl_down_sync(0xffffffffu, at, offset);
        if (wins(v, r, best, at)) best = v, at = r;
    }
    if (lane == 0) y[row] = at;
}

extern "C" __global__ void arg_columns(const T* x, long long* y, long long columns, int R, int B) {
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < columns; i += (long long)gridDim.x * blockDim.x) {
        const T* column = x + i / B * R * B + i % B;
        int at = 0;
        T best = column[0];
        for (int r = 1; r < R; ++r) {
            const T v = column[(long long)r * B];
            if (wins(v, r, best, at)) best = v, at = r;
        }
        y[i] = at;
    }
}
