// Selection: y[i] = c[i] ? a[i] : b[i], all operands of one shape without gaps; null pointers stand
// for one number.   -DT= type of a, b and y
extern "C" __global__ void where(const bool* c, const T* a, T a_number, const T* b, T b_number, T* y, long long n) {
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (long long)gridDim.x * blockDim.x)
        y[i] = c[i] ? (a ? a[i] : a_number) : (b ? b[i] : b_number);
}
