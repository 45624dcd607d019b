// Philox 4x32-10: block number b of the stream `seed` gives four 32-bit words, so every draw is a
// pure function of (seed, offset, position) and all backends produce the same bits. Only integer
// operations and correctly rounded +, −, ·, / and sqrt occur; compile without fused multiply-add.
//   -DT= float or double (the result of a draw)
// Sources: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011; Wichura, AS 241, 1988.

__device__ void philox(unsigned long long block, unsigned long long seed, unsigned words[4]) {
    unsigned c0 = (unsigned)block, c1 = (unsigned)(block >> 32), c2 = 0, c3 = 0;
    unsigned k0 = (unsigned)seed, k1 = (unsigned)(seed >> 32);
    for (int round = 0; round < 10; ++round) {
        const unsigned long long p0 = (unsigned long long)c0 * 0xD2511F53u, p1 = (unsigned long long)c2 * 0xCD9E8D57u;
        c0 = (unsigned)(p1 >> 32) ^ c1 ^ k0, c1 = (unsigned)p1;
        c2 = (unsigned)(p0 >> 32) ^ c3 ^ k1, c3 = (unsigned)p0;
        k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
    }
    words[0] = c0, words[1] = c1, words[2] = c2, words[3] = c3;
}

extern "C" __global__ void random_bits(unsigned* y, long long n, unsigned long long seed, unsigned long long offset) {
    for (long long b = (long long)blockIdx.x * blockDim.x + threadIdx.x; 4 * b < n; b += (long long)gridDim.x * blockDim.x) {
        unsigned words[4];
        philox(offset + b, seed, words);
        for (int i = 0; i < 4 && 4 * b + i < n; ++i) y[4 * b + i] = words[i];
    }
}

// One word an element: (word >> 32 − bits)·2^−bits; bits is 24 for float32, 11 for float16.
extern "C" __global__ void uniform24(float* y, long long n, unsigned long long seed, unsigned long long offset, int bits) {
    for (long long b = (long long)blockIdx.x * blockDim.x + threadIdx.x; 4 * b < n; b += (long long)gridDim.x * blockDim.x) {
        unsigned words[4];
        philox(offset + b, seed, words);
        for (int i = 0; i < 4 && 4 * b + i < n; ++i)
            y[4 * b + i] = (float)((double)(words[i] >> (32 - bits)) / (double)(1 << bits));
    }
}

__device__ unsigned long long integer53(unsigned high, unsigned low) {
    return ((unsigned long long)high << 32 | low) >> 11;
}

// Two words an element: the upper 53 bits, ·2^−53.
extern "C" __global__ void uniform53(double* y, long long n, unsigned long long seed, unsigned long long offset) {
    for (long long b = (long long)blockIdx.x * blockDim.x + threadIdx.x; 2 * b < n; b += (long long)gridDim.x * blockDim.x) {
        unsigned w[4];
        philox(offset + b, seed, w);
        for (int i = 0; i < 2 && 2 * b + i < n; ++i)
            y[2 * b + i] = (double)integer53(w[2 * i], w[2 * i + 1]) * 1.1102230246251565e-16;
    }
}

__device__ double horner(const double* c, int n, double x) {
    double total = c[n - 1];
    for (int i = n - 2; i >= 0; --i) total = total * x + c[i];
    return total;
}

// log x for normal positive x = m·2^e, m in [sqrt(1/2), sqrt 2): e·log 2 + 2·atanh((m−1)/(m+1)).
__device__ double exact_log(double x) {
    const long long bits = __double_as_longlong(x), mantissa = (bits & 0x000FFFFFFFFFFFFFll) | 0x3FF0000000000000ll;
    const long long above = mantissa >= 0x3FF6A09E667F3BCDll;
    const double e = (double)((bits >> 52) - 1023 + above), m = __longlong_as_double(mantissa - (above << 52));
    const double s = (m - 1.0) / (m + 1.0);
    double series = 1.0 / 23.0;
    for (int n = 10; n >= 0; --n) series = series * (s * s) + 1.0 / (2 * n + 1);
    series = 2.0 * s * series;
    return e * 0.6931471803691238 + (e * 1.9082149292705877e-10 + series);
}

// Φ⁻¹(p) for 0 < p < 1/2: rational functions for the centre, the near and the far tail.
__device__ double normal_quantile(double p) {
    const double centre[2][8] = {
        {3.3871328727963666080e0, 1.3314166789178437745e2, 1.9715909503065514427e3, 1.3731693765509461125e4,
         4.5921953931549871457e4, 6.7265770927008700853e4, 3.3430575583588128105e4, 2.5090809287301226727e3},
        {1.0, 4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3,
         2.1213794301586595867e4, 3.9307895800092710610e4, 2.8729085735721942674e4, 5.2264952788528545610e3}};
    const double near_tail[2][8] = {
        {1.42343711074968357734e0, 4.63033784615654529590e0, 5.76949722146069140550e0, 3.64784832476320460504e0,
         1.27045825245236838258e0, 2.41780725177450611770e-1, 2.27238449892691845833e-2, 7.74545014278341407640e-4},
        {1.0, 2.05319162663775882187e0, 1.67638483018380384940e0, 6.89767334985100004550e-1,
         1.48103976427480074590e-1, 1.51986665636164571966e-2, 5.47593808499534494600e-4, 1.05075007164441684324e-9}};
    const double far_tail[2][8] = {
        {6.65790464350110377720e0, 5.46378491116411436990e0, 1.78482653991729133580e0, 2.96560571828504891230e-1,
         2.65321895265761230930e-2, 1.24266094738807843860e-3, 2.71155556874348757815e-5, 2.01033439929228813265e-7},
        {1.0, 5.99832206555887937690e-1, 1.36929880922735805310e-1, 1.48753612908506148525e-2,
         7.86869131845613259100e-4, 1.84631831751005468180e-5, 1.42151175831644588870e-7, 2.04426310338993978564e-15}};
    const double q = p - 0.5;
    if (q >= -0.425) {
        const double r = 0.180625 - q * q;
        return q * (horner(centre[0], 8, r) / horner(centre[1], 8, r));
    }
    const double r = sqrt(-exact_log(p));
    if (r <= 5.0) return -(horner(near_tail[0], 8, r - 1.6) / horner(near_tail[1], 8, r - 1.6));
    return -(horner(far_tail[0], 8, r - 5.0) / horner(far_tail[1], 8, r - 5.0));
}

// Standard normal by the inverse distribution function of u = (k + 1/2)·2^−53; the smaller tail and a
// sign carry u exactly.
extern "C" __global__ void normal(T* y, long long n, unsigned long long seed, unsigned long long offset) {
    for (long long b = (long long)blockIdx.x * blockDim.x + threadIdx.x; 2 * b < n; b += (long long)gridDim.x * blockDim.x) {
        unsigned w[4];
        philox(offset + b, seed, w);
        for (int i = 0; i < 2 && 2 * b + i < n; ++i) {
            const unsigned long long k = integer53(w[2 * i], w[2 * i + 1]);
            const bool upper = k >= 1ull << 52;
            const unsigned long long tail = upper ? (1ull << 53) - 1 - k : k;
            const double z = normal_quantile(((double)tail + 0.5) * 1.1102230246251565e-16);
            y[2 * b + i] = (T)(upper ? -z : z);
        }
    }
}
