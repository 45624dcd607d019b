// Running sums along the middle axis of x (A, R, B): y[a, r, b] = Σ_{s ≤ r} x[a, s, b].
//   -DT= type of x    -DACC= type of y

// B = 1: one warp a row, 32 elements at a time: after the step with offset o, lane l holds the sum of
// lanes l−2o+1 … l; `before` carries the sum of all earlier elements.
extern "C" __global__ void scan_rows(const T* x, ACC* y, long long rows, int R) {
    const long long row = ((long long)blockIdx.x * blockDim.x + threadIdx.x) / 32;
    if (row >= rows) return;
    const int lane = threadIdx.x % 32;
    ACC before = 0;
    for (int r0 = 0; r0 < R; r0 += 32) {
        const int r = r0 + lane;
        ACC v = r < R ? (ACC)x[row * R + r] : (ACC)0;
        for (int offset = 1; offset < 32; offset *= 2) {
            const ACC left = __shfl_up_sync(0xffffffffu, v, offset);
            if (lane >= offset) v += left;
        }
        v += before;
        if (r < R) y[row * R + r] = v;
        before = __shfl_sync(0xffffffffu, v, 31);
    }
}

extern "C" __global__ void scan_columns(const T* x, ACC* y, long long columns, int R, int B) {
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < columns; i += (long long)gridDim.x * blockDim.x) {
        const long long first = i / B * R * B + i % B;
        ACC total = 0;
        for (int r = 0; r < R; ++r) {
            total += (ACC)x[first + (long long)r * B];
            y[first + (long long)r * B] = total;
        }
    }
}
