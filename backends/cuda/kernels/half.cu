// float16 is stored as its 16 bits; these kernels convert, all arithmetic is in float32.
//
// A half is sign · 2^(e−15) · 1.m with 5 bits e and 10 bits m; e = 0 holds the subnormals m · 2^−24,
// e = 31 infinity and NaN. Rounding is to nearest, ties to even.
__device__ float half_to_float(unsigned h) {
    const unsigned sign = (h & 0x8000u) << 16, e = h >> 10 & 31u, m = h & 1023u;
    if (e == 31u) return __uint_as_float(sign | 0x7f800000u | m << 13);
    if (e) return __uint_as_float(sign | (e + 112u) << 23 | m << 13);
    const float small = (float)m * 5.9604644775390625e-8f;  // 2^−24
    return sign ? -small : small;
}

__device__ unsigned float_to_half(float x) {
    const unsigned bits = __float_as_uint(x), sign = bits >> 16 & 0x8000u, size = bits & 0x7fffffffu;
    if (size > 0x7f800000u) return sign | 0x7e00u;   // NaN
    if (size >= 0x477ff000u) return sign | 0x7c00u;  // 65520 and more round to infinity
    if (size < 0x38800000u)                          // below 2^−14: a multiple of 2^−24
        return sign | (unsigned)rint(__uint_as_float(size) * 16777216.0f);
    const unsigned rounded = size - 0x38000000u + 0xfffu + (size >> 13 & 1u);
    return sign | rounded >> 13;
}

extern "C" __global__ void widen_half(const unsigned short* x, float* y, long long n) {
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (long long)gridDim.x * blockDim.x)
        y[i] = half_to_float(x[i]);
}

extern "C" __global__ void narrow_half(const float* x, unsigned short* y, long long n) {
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (long long)gridDim.x * blockDim.x)
        y[i] = (unsigned short)float_to_half(x[i]);
}

// From float64 by way of float32, which must not round first: an inexact value gets an odd last bit
// ("round to odd"), so the second rounding sees on which side of a tie it lies.
extern "C" __global__ void narrow_half64(const double* x, unsigned short* y, long long n) {
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (long long)gridDim.x * blockDim.x) {
        float f = (float)x[i];
        if ((double)f != x[i] && f - f == 0.0f) {
            const unsigned size = __float_as_uint(f);
            f = __uint_as_float((fabs((double)f) > fabs(x[i]) ? size - 1u : size) | 1u);
        }
        y[i] = (unsigned short)float_to_half(f);
    }
}
