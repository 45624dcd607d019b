// The CUDA C language on the CPU: put before a kernel file (-include cusim.h) it makes the file
// compile as C++17. No standard library: a compiler alone is enough (see runtime.cpp for the rest).
//
// Each CUDA thread runs on a fiber of one host thread, so nothing here needs host atomics, and
// `cusim_here` (whose threadIdx this is) can be a plain global that the scheduler changes.
#pragma once

#define CUSIM 1
#define CUSIM_LOCAL __attribute__((visibility("hidden")))
#ifdef CUSIM_CHECK  // helpers must not be instrumented: they report their own accesses, with a line
#define CUSIM_HELPER \
    __attribute__((noinline, unused, no_sanitize("thread"), no_sanitize("undefined"))) static
#else
#define CUSIM_HELPER __attribute__((always_inline, unused)) static inline
#endif

typedef __SIZE_TYPE__ size_t;
typedef __UINTPTR_TYPE__ uintptr_t;
#ifdef __cplusplus
// ---- vector types, aligned as nvcc aligns them --------------------------------------------------
#define CUSIM_VECTORS(T, Name, bytes2, bytes4)                                        \
    struct Name##1 { T x; };                                                          \
    struct alignas(bytes2) Name##2 { T x, y; };                                       \
    struct Name##3 { T x, y, z; };                                                    \
    struct alignas(bytes4) Name##4 { T x, y, z, w; };                                 \
    static inline Name##2 make_##Name##2(T x, T y) { return {x, y}; }                 \
    static inline Name##3 make_##Name##3(T x, T y, T z) { return {x, y, z}; }         \
    static inline Name##4 make_##Name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
CUSIM_VECTORS(float, float, 8, 16)
CUSIM_VECTORS(double, double, 16, 16)
CUSIM_VECTORS(int, int, 8, 16)
CUSIM_VECTORS(unsigned, uint, 8, 16)
CUSIM_VECTORS(unsigned char, uchar, 2, 4)
CUSIM_VECTORS(long long, longlong, 16, 16)
struct dim3 {
    unsigned x, y, z;
};

// ---- what the runtime offers --------------------------------------------------------------------
struct cusim_position {
    uint3 thread, block;
    dim3 block_dim, grid_dim;
};
extern "C" {
extern CUSIM_LOCAL cusim_position cusim_here;
CUSIM_LOCAL void cusim_barrier(int line);
CUSIM_LOCAL int cusim_barrier_count(int line, int predicate);
CUSIM_LOCAL void cusim_warp(int line, int op, unsigned mask, const void* value, int bytes,
                            unsigned long long all[32], unsigned* arrived);
CUSIM_LOCAL char* cusim_shared(int id, size_t bytes, size_t alignment, const char* name);
CUSIM_LOCAL char* cusim_dynamic_shared();
CUSIM_LOCAL void cusim_atomic_access(int line, void* address, int bytes);
CUSIM_LOCAL void cusim_trap(int kind, int line);
int printf(const char*, ...);
}

// ---- keywords -----------------------------------------------------------------------------------
#define __global__ __attribute__((noinline))
#define __device__ __attribute__((unused))
#define __host__
#define __constant__ static
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define threadIdx (*(const uint3*)&cusim_here.thread)
#define blockIdx (*(const uint3*)&cusim_here.block)
#define blockDim (*(const dim3*)&cusim_here.block_dim)
#define gridDim (*(const dim3*)&cusim_here.grid_dim)
#define warpSize 32
// `__shared__` declarations are rewritten by translate.py into calls of cusim_shared.

// ---- barriers and warp operations ---------------------------------------------------------------
#define __syncthreads() cusim_barrier(__LINE__)
#define __syncthreads_count(p) cusim_barrier_count(__LINE__, (p) != 0)
#define __syncthreads_or(p) (cusim_barrier_count(__LINE__, (p) != 0) != 0)
#define __syncthreads_and(p) (cusim_barrier_count(__LINE__, (p) == 0) == 0)

CUSIM_HELPER int cusim_lane() {
    const cusim_position& h = cusim_here;
    return (h.thread.x + h.block_dim.x * (h.thread.y + h.block_dim.y * h.thread.z)) & 31;
}

// Every lane of `mask` brings a value; the caller takes the value of lane `source`.
template <class T>
CUSIM_HELPER T cusim_shuffle(int line, unsigned mask, T value, int source, int width, bool inside) {
    static_assert(sizeof(T) <= 8, "a shuffle moves at most 8 bytes");
    unsigned long long all[32];
    unsigned arrived;
    cusim_warp(line, 1, mask, &value, sizeof(T), all, &arrived);
    const int lane = cusim_lane();
    source = inside ? (lane & -width) + (source & (width - 1)) : lane;
    if (!(arrived >> source & 1)) cusim_trap(1, line);
    T result;
    __builtin_memcpy(&result, &all[source], sizeof(T));
    return result;
}
#define CUSIM_SHUFFLE(name, source_lane, is_inside)                                      \
    template <class T>                                                                   \
    CUSIM_HELPER T name(int line, unsigned mask, T value, int d, int width = 32) {       \
        const int lane = cusim_lane() & (width - 1);                                     \
        return cusim_shuffle(line, mask, value, source_lane, width, is_inside);          \
    }
CUSIM_SHUFFLE(cusim_shfl, d + 0 * lane, true)
CUSIM_SHUFFLE(cusim_shfl_down, lane + d, lane + d < width)
CUSIM_SHUFFLE(cusim_shfl_up, lane - d, lane >= d)
CUSIM_SHUFFLE(cusim_shfl_xor, lane ^ d, (lane ^ d) < width)
#define __shfl_sync(...) cusim_shfl(__LINE__, __VA_ARGS__)
#define __shfl_down_sync(...) cusim_shfl_down(__LINE__, __VA_ARGS__)
#define __shfl_up_sync(...) cusim_shfl_up(__LINE__, __VA_ARGS__)
#define __shfl_xor_sync(...) cusim_shfl_xor(__LINE__, __VA_ARGS__)
CUSIM_HELPER void cusim_syncwarp(int line, unsigned mask = 0xffffffffu) {
    unsigned long long all[32];
    unsigned arrived, none = 0;
    cusim_warp(line, 2, mask, &none, 4, all, &arrived);
}
#define __syncwarp(...) cusim_syncwarp(__LINE__, ##__VA_ARGS__)
CUSIM_HELPER unsigned cusim_ballot(int line, unsigned mask, int predicate) {
    unsigned long long all[32];
    unsigned arrived, bits = 0, value = predicate != 0;
    cusim_warp(line, 3, mask, &value, 4, all, &arrived);
    for (int i = 0; i < 32; ++i)
        if (arrived >> i & 1 && (all[i] & 1)) bits |= 1u << i;
    return bits;
}
#define __ballot_sync(m, p) cusim_ballot(__LINE__, m, p)
#define __any_sync(m, p) (cusim_ballot(__LINE__, m, p) != 0)
#define __all_sync(m, p) (cusim_ballot(__LINE__, m, !(p)) == 0)
#define __threadfence() ((void)0)
#define __threadfence_block() ((void)0)

// ---- atomics: fibers are never interrupted, so plain code is atomic -----------------------------
template <class T> struct cusim_same { typedef T type; };
#define CUSIM_ATOMIC(name, next)                                                             \
    template <class T>                                                                       \
    CUSIM_HELPER T cusim_##name(int line, T* p, typename cusim_same<T>::type v) {            \
        cusim_atomic_access(line, (void*)p, sizeof(T));                                      \
        const T old = *p;                                                                    \
        *p = next;                                                                           \
        return old;                                                                          \
    }
CUSIM_ATOMIC(add, old + v)
CUSIM_ATOMIC(sub, old - v)
CUSIM_ATOMIC(max, old < v ? v : old)
CUSIM_ATOMIC(min, v < old ? v : old)
CUSIM_ATOMIC(exch, v)
CUSIM_ATOMIC(and, old & v)
CUSIM_ATOMIC(or, old | v)
CUSIM_ATOMIC(xor, old ^ v)
template <class T>
CUSIM_HELPER T cusim_cas(int line, T* p, typename cusim_same<T>::type expected,
                         typename cusim_same<T>::type v) {
    cusim_atomic_access(line, (void*)p, sizeof(T));
    const T old = *p;
    if (old == expected) *p = v;
    return old;
}
#define atomicAdd(p, v) cusim_add(__LINE__, p, v)
#define atomicSub(p, v) cusim_sub(__LINE__, p, v)
#define atomicMax(p, v) cusim_max(__LINE__, p, v)
#define atomicMin(p, v) cusim_min(__LINE__, p, v)
#define atomicExch(p, v) cusim_exch(__LINE__, p, v)
#define atomicAnd(p, v) cusim_and(__LINE__, p, v)
#define atomicOr(p, v) cusim_or(__LINE__, p, v)
#define atomicXor(p, v) cusim_xor(__LINE__, p, v)
#define atomicCAS(p, c, v) cusim_cas(__LINE__, p, c, v)

// ---- mathematics: the C library's functions, overloaded for float as in CUDA --------------------
#define CUSIM_MATH1(name)                       \
    extern "C" float name##f(float) noexcept;   \
    extern "C" double name(double) noexcept;    \
    static inline float name(float x) { return name##f(x); }
#define CUSIM_MATH2(name)                              \
    extern "C" float name##f(float, float) noexcept;   \
    extern "C" double name(double, double) noexcept;   \
    static inline float name(float x, float y) { return name##f(x, y); }
CUSIM_MATH1(exp) CUSIM_MATH1(exp2) CUSIM_MATH1(expm1) CUSIM_MATH1(log) CUSIM_MATH1(log2)
CUSIM_MATH1(log10) CUSIM_MATH1(log1p) CUSIM_MATH1(sqrt) CUSIM_MATH1(cbrt) CUSIM_MATH1(sin)
CUSIM_MATH1(cos) CUSIM_MATH1(tan) CUSIM_MATH1(asin) CUSIM_MATH1(acos) CUSIM_MATH1(atan)
CUSIM_MATH1(sinh) CUSIM_MATH1(cosh) CUSIM_MATH1(tanh) CUSIM_MATH1(erf) CUSIM_MATH1(erfc)
CUSIM_MATH1(floor) CUSIM_MATH1(ceil) CUSIM_MATH1(rint) CUSIM_MATH1(round) CUSIM_MATH1(trunc)
CUSIM_MATH1(fabs) CUSIM_MATH2(pow) CUSIM_MATH2(fmod) CUSIM_MATH2(fmax) CUSIM_MATH2(fmin)
CUSIM_MATH2(atan2) CUSIM_MATH2(hypot) CUSIM_MATH2(copysign)
extern "C" float fmaf(float, float, float) noexcept;
extern "C" double fma(double, double, double) noexcept;
static inline float fma(float a, float b, float c) { return fmaf(a, b, c); }
static inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
static inline float rsqrt(float x) { return 1.0f / sqrtf(x); }
static inline double rsqrt(double x) { return 1.0 / sqrt(x); }
#define __expf(x) expf(x)
#define __logf(x) logf(x)
#define __powf(x, y) powf(x, y)
#define __sinf(x) sinf(x)
#define __cosf(x) cosf(x)
#define __fdividef(a, b) ((float)(a) / (float)(b))
#define isnan(x) __builtin_isnan(x)
#define isinf(x) __builtin_isinf(x)
#define isfinite(x) __builtin_isfinite(x)
// One correctly rounded operation each: the compiler may not contract them to an fma.
#define CUSIM_ROUNDED(name, T, op) \
    __attribute__((noinline, unused)) static T name(T a, T b) { return a op b; }
CUSIM_ROUNDED(__fadd_rn, float, +) CUSIM_ROUNDED(__fmul_rn, float, *) CUSIM_ROUNDED(__fsub_rn, float, -)
CUSIM_ROUNDED(__dadd_rn, double, +) CUSIM_ROUNDED(__dmul_rn, double, *)
CUSIM_ROUNDED(__dsub_rn, double, -)

#define CUSIM_MINMAX(T)                                             \
    static inline T min(T a, T b) { return b < a ? b : a; }         \
    static inline T max(T a, T b) { return a < b ? b : a; }
CUSIM_MINMAX(int) CUSIM_MINMAX(unsigned) CUSIM_MINMAX(long long) CUSIM_MINMAX(unsigned long long)
static inline float min(float a, float b) { return fminf(a, b); }
static inline float max(float a, float b) { return fmaxf(a, b); }
static inline double min(double a, double b) { return fmin(a, b); }
static inline double max(double a, double b) { return fmax(a, b); }
static inline int abs(int a) { return a < 0 ? -a : a; }

// ---- bits ---------------------------------------------------------------------------------------
template <class To, class From> static inline To cusim_bits(From from) {
    To to;
    static_assert(sizeof(To) == sizeof(From), "sizes differ");
    __builtin_memcpy(&to, &from, sizeof(To));
    return to;
}
#define __float_as_int(x) cusim_bits<int, float>(x)
#define __int_as_float(x) cusim_bits<float, int>(x)
#define __float_as_uint(x) cusim_bits<unsigned, float>(x)
#define __uint_as_float(x) cusim_bits<float, unsigned>(x)
#define __double_as_longlong(x) cusim_bits<long long, double>(x)
#define __longlong_as_double(x) cusim_bits<double, long long>(x)
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
static inline unsigned __umulhi(unsigned a, unsigned b) {
    return (unsigned)((unsigned long long)a * b >> 32);
}
template <class T> static inline T __ldg(const T* p) { return *p; }

// ---- how the host calls a kernel: its type says how many arguments and of which kind ------------
namespace cusim {
template <int... I> struct indices {};
#if defined(__clang__)
template <class T, T... I> struct pack { typedef indices<I...> type; };
template <int N> using up_to = typename __make_integer_seq<pack, int, N>::type;
#else
template <int N> using up_to = indices<__integer_pack(N)...>;
#endif
template <class T> struct bare { typedef T type; };
template <class T> struct bare<const T> { typedef T type; };

template <class T> struct code { static const char value = 'x'; };
#define CUSIM_CODE(T, letter) \
    template <> struct code<T> { static const char value = letter; };
CUSIM_CODE(bool, '?') CUSIM_CODE(char, 'b') CUSIM_CODE(signed char, 'b')
CUSIM_CODE(unsigned char, 'B') CUSIM_CODE(short, 'h') CUSIM_CODE(unsigned short, 'H')
CUSIM_CODE(int, 'i') CUSIM_CODE(unsigned, 'I') CUSIM_CODE(long long, 'q') CUSIM_CODE(long, 'q')
CUSIM_CODE(unsigned long long, 'Q') CUSIM_CODE(unsigned long, 'Q') CUSIM_CODE(float, 'f')
CUSIM_CODE(double, 'd')
template <class T> struct kind { static const char how = 'v', what = code<T>::value; };
template <class T> struct kind<T*> { static const char how = 'p', what = code<T>::value; };
template <class T> struct kind<const T*> { static const char how = 'c', what = code<T>::value; };

template <class... A, int... I>
CUSIM_HELPER void call(void (*kernel)(A...), void** arguments, indices<I...>) {
    kernel(*(typename bare<A>::type*)arguments[I]...);
}
template <class... A> CUSIM_HELPER void enter(void (*kernel)(A...), void** arguments) {
    call(kernel, arguments, up_to<sizeof...(A)>());
}
// Two letters an argument: v value, p pointer, c pointer to const; then the type as in Python's struct.
template <class... A> CUSIM_HELPER int describe(void (*)(A...), char* text) {
    const char letters[] = {kind<typename bare<A>::type>::how..., 0};
    const char types[] = {kind<typename bare<A>::type>::what..., 0};
    int n = sizeof...(A);
    for (int i = 0; i < n; ++i) text[2 * i] = letters[i], text[2 * i + 1] = types[i];
    text[2 * n] = 0;
    return n;
}
}  // namespace cusim
#define CUSIM_EXPORT(kernel)                                                                     \
    extern "C" __attribute__((visibility("default"))) void cusim_enter_##kernel(void** a) {      \
        cusim::enter(kernel, a);                                                                 \
    }                                                                                            \
    extern "C" __attribute__((visibility("default"))) int cusim_describe_##kernel(char* text) {  \
        return cusim::describe(kernel, text);                                                    \
    }
#endif
