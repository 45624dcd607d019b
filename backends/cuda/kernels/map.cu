// Elementwise: y[i] = F(a[i], b[i]).
//
//   -DT=    type of the operands      -DR=  type of the result
//   -DF=    the formula, in a and b (unary formulas use a only)
//   -DREAL= 1 if T is a floating-point type, else 0
//   -DINDEX= int, or long long for arrays of 2^31 elements and more
//
// A null pointer stands for one number that all elements share. `map_flat` is for operands without
// gaps; it moves four elements at a time, where VECTOR says all addresses allow it. `map_strided`
// takes any layout of up to six dimensions of sizes (…, d1, …, d5): element i has the coordinates
// c5 = i mod d5, c4 = (i / d5) mod d4, …, and lies at Σ c_k · stride_k.
#ifndef INDEX
#define INDEX int
#endif

struct alignas(4 * sizeof(T) < 16 ? 4 * sizeof(T) : 16) FourT { T v[4]; };
struct alignas(4 * sizeof(R) < 16 ? 4 * sizeof(R) : 16) FourR { R v[4]; };

// Division as Python has it: the remainder takes the divisor's sign, the quotient is rounded down.
#if REAL
__device__ T modulo(T a, T b) {
    T r = fmod(a, b);
    if (b == 0 || r != r) return r;
    if (r == 0) return copysign((T)0, b);
    return (r < 0) != (b < 0) ? r + b : r;
}
__device__ T floor_quotient(T a, T b) {
    if (b == 0) return a / b;
    const T q = (a - modulo(a, b)) / b, whole = floor(q);
    return q - whole > (T)0.5 ? whole + 1 : whole;
}
#else
__device__ T modulo(T a, T b) {
    if (b == 0) return 0;
    const T r = a % b;
    return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}
__device__ T floor_quotient(T a, T b) { return b == 0 ? 0 : (a - modulo(a, b)) / b; }
__device__ T integer_power(T a, T b) {
    T result = 1;
    for (; b > 0; b = (T)(b - 1)) result = (T)(result * a);
    return result;
}
#endif

__device__ __forceinline__ R formula(T a, T b) { return (R)(F); }

extern "C" __global__ void map_flat(const T* a, T a_number, const T* b, T b_number, R* y, long long n,
                                    int vector) {
    const long long first = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    const long long step = (long long)gridDim.x * blockDim.x;
    long long done = 0;
    if (vector) {
        done = n / 4 * 4;
        for (long long i = first; i < n / 4; i += step) {
            FourT p = {{a_number, a_number, a_number, a_number}};
            FourT q = {{b_number, b_number, b_number, b_number}};
            if (a) p = ((const FourT*)a)[i];
            if (b) q = ((const FourT*)b)[i];
            FourR r;
#pragma unroll
            for (int k = 0; k < 4; ++k) r.v[k] = formula(p.v[k], q.v[k]);
            ((FourR*)y)[i] = r;
        }
    }
    for (long long i = done + first; i < n; i += step)
        y[i] = formula(a ? a[i] : a_number, b ? b[i] : b_number);
}

extern "C" __global__ void map_strided(const T* a, T a_number, const T* b, T b_number, R* y, long long n,
                                       int d1, int d2, int d3, int d4, int d5,
                                       long long a0, long long a1, long long a2, long long a3, long long a4, long long a5,
                                       long long b0, long long b1, long long b2, long long b3, long long b4, long long b5,
                                       long long y0, long long y1, long long y2, long long y3, long long y4, long long y5) {
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (long long)gridDim.x * blockDim.x) {
        INDEX rest = (INDEX)i;
        const INDEX c5 = rest % d5; rest /= d5;
        const INDEX c4 = rest % d4; rest /= d4;
        const INDEX c3 = rest % d3; rest /= d3;
        const INDEX c2 = rest % d2; rest /= d2;
        const INDEX c1 = rest % d1, c0 = rest / d1;
        const T p = a ? a[c0 * a0 + c1 * a1 + c2 * a2 + c3 * a3 + c4 * a4 + c5 * a5] : a_number;
        const T q = b ? b[c0 * b0 + c1 * b1 + c2 * b2 + c3 * b3 + c4 * b4 + c5 * b5] : b_number;
        y[c0 * y0 + c1 * y1 + c2 * y2 + c3 * y3 + c4 * y4 + c5 * y5] = formula(p, q);
    }
}
