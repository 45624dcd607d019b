// Stable ascending sort of the rows of x (rows, R), as positions: merge sort, one launch a level.
//   -DT= type of x
//
// Before the pass, runs of `width` positions are sorted; after it, runs of 2·width. Element k of a
// left run goes to k + (elements of the right run that are smaller); element k of a right run to
// k + (elements of the left run that are not greater). Both counts come from a binary search.
// NaN sorts after every number.

__device__ __forceinline__ bool before(T p, T q) { return p < q || (p == p && q != q); }

extern "C" __global__ void sort_start(long long* positions, long long n, int R) {
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (long long)gridDim.x * blockDim.x)
        positions[i] = i % R;
}

extern "C" __global__ void sort_merge(const T* x, const long long* from, long long* to, long long n, int R, int width) {
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (long long)gridDim.x * blockDim.x) {
        const long long row = i / R * R;
        const int r = (int)(i - row), pair = r / (2 * width) * 2 * width;
        const bool right = r >= pair + width;
        const int begin = right ? pair : min(pair + width, R), end = min(begin + width, R);
        const T mine = x[row + from[i]];
        int low = begin, high = end;  // the first element of the other run that goes after mine
        while (low < high) {
            const int middle = (low + high) / 2;
            const T other = x[row + from[row + middle]];
            if (right ? !before(mine, other) : before(other, mine)) low = middle + 1;
            else high = middle;
        }
        const int own = right ? r - pair - width : r - pair;
        to[row + pair + own + (low - begin)] = from[i];
    }
}
