// Reductions of x (A, R, B) over its middle axis: y[a, b] = MERGE over r of x[a, r, b].
//
//   -DT= type of x    -DACC= type of y, in which values are merged
//   -DMERGE= a formula in p and q, such as p + q     -DSTART= its neutral element
//
// The axis may be cut into `chunks` pieces of `length`; then y is (A, chunks, B) and a second call
// merges the pieces. Pieces depend on sizes only, never on the device, so a sum has the same bits
// everywhere and every time; there are no atomics.

__device__ __forceinline__ ACC merge(ACC p, ACC q) { return (ACC)(MERGE); }

// B = 1: one warp a row piece. Lane l merges elements l, l+32, …; then five shuffles merge the lanes.
extern "C" __global__ void reduce_rows(const T* x, ACC* y, long long rows, int R, int chunks, int length) {
    const long long warp = ((long long)blockIdx.x * blockDim.x + threadIdx.x) / 32;
    if (warp >= rows * chunks) return;  // whole warps leave
    const int lane = threadIdx.x % 32, chunk = (int)(warp % chunks);
    const int begin = chunk * length, end = min(R, begin + length);
    const T* row = x + warp / chunks * R;
    ACC total = START;
    for (int r = begin + lane; r < end; r += 32) total = merge(total, (ACC)row[r]);
    for (int offset = 16; offset > 0; offset /= 2)
        total = merge(total, __shfl_down_sync(0xffffffffu, total, offset));
    if (lane == 0) y[warp] = total;
}

// B > 1: one thread a column piece; neighbours read neighbouring addresses.
extern "C" __global__ void reduce_columns(const T* x, ACC* y, long long columns, int R, int B, int chunks, int length) {
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < columns * chunks;
         i += (long long)gridDim.x * blockDim.x) {
        const long long b = i % B, chunk = i / B % chunks, a = i / B / chunks;
        const int begin = (int)chunk * length, end = min(R, begin + length);
        ACC total = START;
        for (int r = begin; r < end; ++r) total = merge(total, (ACC)x[(a * R + r) * B + b]);
        y[i] = total;
    }
}
