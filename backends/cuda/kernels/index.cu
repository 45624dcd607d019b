// Indexing with integer arrays. No atomics: repeated positions are brought together by a stable sort
// of the positions and added up by one thread, in the order of the values.   -DT= type of the values

// position[i] = position[i]·size + wrapped index[i]; called once for each indexed axis, slowest
// first. An index out of range is clamped, so that nothing is read wildly, and noted in *bad.
extern "C" __global__ void linear_index(const long long* index, long long size, long long* position, int* bad, long long n) {
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (long long)gridDim.x * blockDim.x) {
        long long at = index[i] < 0 ? index[i] + size : index[i];
        if (at < 0 || at >= size) {
            atomicExch(bad, 1);
            at = at < 0 ? 0 : size - 1;
        }
        position[i] = position[i] * size + at;
    }
}

// y[i, m] = x[position[i], m]
extern "C" __global__ void gather_rows(const T* x, const long long* position, T* y, long long n, long long M) {
    for (long long k = (long long)blockIdx.x * blockDim.x + threadIdx.x; k < n * M; k += (long long)gridDim.x * blockDim.x)
        y[k] = x[position[k / M] * M + k % M];
}

// y[position[i], m] += values[i, m], or = the last of them when ADD is 0. `order` sorts position, so
// equal ones form a run; the thread at a run's start handles all of it.
extern "C" __global__ void scatter_rows(const T* values, const long long* position, const long long* order, T* y,
                                        long long n, long long M, int add) {
    for (long long k = (long long)blockIdx.x * blockDim.x + threadIdx.x; k < n * M; k += (long long)gridDim.x * blockDim.x) {
        const long long m = k % M;
        long long i = k / M;
        const long long row = position[order[i]];
        if (i > 0 && position[order[i - 1]] == row) continue;
        T total = y[row * M + m];
        for (; i < n && position[order[i]] == row; ++i)
            total = add ? (T)(total + values[order[i] * M + m]) : values[order[i] * M + m];
        y[row * M + m] = total;
    }
}

// y[a, j, b] = x[a, index[a, j, b], b] for x (A, R, B) and index (A, J, B)
extern "C" __global__ void take_along(const T* x, const long long* index, T* y, long long n, int J, int R, int B) {
    for (long long k = (long long)blockIdx.x * blockDim.x + threadIdx.x; k < n; k += (long long)gridDim.x * blockDim.x) {
        const long long b = k % B, a = k / B / J;
        const long long r = index[k] < 0 ? index[k] + R : index[k];
        y[k] = x[(a * R + r) * B + b];
    }
}

// Its adjoint: y[a, index[a, j, b], b] += values[a, j, b]; one thread a column (a, b).
extern "C" __global__ void add_along(const T* values, const long long* index, T* y, long long columns, int J, int R, int B) {
    for (long long k = (long long)blockIdx.x * blockDim.x + threadIdx.x; k < columns; k += (long long)gridDim.x * blockDim.x) {
        const long long b = k % B, a = k / B;
        for (int j = 0; j < J; ++j) {
            const long long at = (a * J + j) * B + b;
            const long long r = index[at] < 0 ? index[at] + R : index[at];
            y[(a * R + r) * B + b] += values[at];
        }
    }
}

// The positions at which mask is true, given rank = running sum of mask.
extern "C" __global__ void compact(const bool* mask, const long long* rank, long long* positions, long long n) {
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (long long)gridDim.x * blockDim.x)
        if (mask[i]) positions[rank[i] - 1] = i;
}
