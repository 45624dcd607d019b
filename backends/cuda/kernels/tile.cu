// The core of every product here: a block computes a BM×BN tile of Σ_k a(m, k)·b(k, n).
//
//   -DT= type   -DBM= -DBN= -DBK= tile sizes   -DTM= -DTN= results of one thread
//   -DALONG_M=1: neighbouring threads fetch neighbouring m of a(m, k), else neighbouring k
//   -DALONG_N=1: neighbouring threads fetch neighbouring n of b(k, n), else neighbouring k
//   -DVA= -DVB=: elements fetched at once along that direction (1, or a vector of 16 bytes)
//
// What a and b mean (a matrix, a convolution's input seen as one) is told by two functions:
// fetch_a(v, m, k) sets v[0 … VA−1] to a at (m, k) and its successors, and fetch_b(v, k, n) likewise;
// outside the matrices they give 0.
//
// Two pairs of tiles in shared memory take turns: while one is multiplied, the next is already on its
// way into registers, so one barrier a step is enough. Each thread owns TM×TN results; per step of k
// it reads TM + TN numbers and does TM·TN multiply-adds.
#ifndef VA
#define VA 1
#endif
#ifndef VB
#define VB 1
#endif
#define THREADS ((BM / TM) * (BN / TN))
#define PAD 4  // keeps the transposing stores of a tile free of 32-way bank conflicts
static_assert(BK * BM % (THREADS * VA) == 0 && BK * BN % (THREADS * VB) == 0, "tiles divide evenly");
static_assert(ALONG_M ? THREADS * VA % BM == 0 : THREADS * VA % BK == 0, "a thread keeps its m or k");
static_assert(ALONG_N ? THREADS * VB % BN == 0 : THREADS * VB % BK == 0, "a thread keeps its n or k");

// Where the e-th vector of a tile lies: along the fast direction first.
__device__ __forceinline__ int a_m(int e) { return ALONG_M ? e * VA % BM : e * VA / BK; }
__device__ __forceinline__ int a_k(int e) { return ALONG_M ? e * VA / BM : e * VA % BK; }
__device__ __forceinline__ int b_n(int e) { return ALONG_N ? e * VB % BN : e * VB / BK; }
__device__ __forceinline__ int b_k(int e) { return ALONG_N ? e * VB / BN : e * VB % BK; }

template <class FetchA, class FetchB>
__device__ __forceinline__ void multiply(int k_begin, int k_end, FetchA fetch_a, FetchB fetch_b, T (&sum)[TM][TN]) {
    __shared__ T As[2][BK][BM + PAD];
    __shared__ T Bs[2][BK][BN + PAD];
    const int NA = BK * BM / (THREADS * VA), NB = BK * BN / (THREADS * VB);
    const int t = threadIdx.x, row = t / (BN / TN) * TM, column = t % (BN / TN) * TN;
    T next_a[NA][VA], next_b[NB][VB];

    auto fetch = [&](int k0) {
#pragma unroll
        for (int i = 0; i < NA; ++i) fetch_a(next_a[i], a_m(t + i * THREADS), k0 + a_k(t + i * THREADS));
#pragma unroll
        for (int i = 0; i < NB; ++i) fetch_b(next_b[i], k0 + b_k(t + i * THREADS), b_n(t + i * THREADS));
    };
    auto store = [&](int side) {
#pragma unroll
        for (int i = 0; i < NA; ++i)
#pragma unroll
            for (int v = 0; v < VA; ++v) {
                const int e = t + i * THREADS;
                As[side][a_k(e) + (ALONG_M ? 0 : v)][a_m(e) + (ALONG_M ? v : 0)] = next_a[i][v];
            }
#pragma unroll
        for (int i = 0; i < NB; ++i)
#pragma unroll
            for (int v = 0; v < VB; ++v) {
                const int e = t + i * THREADS;
                Bs[side][b_k(e) + (ALONG_N ? 0 : v)][b_n(e) + (ALONG_N ? v : 0)] = next_b[i][v];
            }
    };

#pragma unroll
    for (int i = 0; i < TM; ++i)
#pragma unroll
        for (int j = 0; j < TN; ++j) sum[i][j] = 0;
    if (k_begin >= k_end) return;  // the same for the whole block
    fetch(k_begin);
    store(0);
    __syncthreads();
    int side = 0;
    for (int k0 = k_begin; k0 < k_end; k0 += BK) {
        const bool more = k0 + BK < k_end;
        if (more) fetch(k0 + BK);
#pragma unroll
        for (int k = 0; k < BK; ++k) {
            T a[TM], b[TN];
#pragma unroll
            for (int i = 0; i < TM; ++i) a[i] = As[side][k][row + i];
#pragma unroll
            for (int j = 0; j < TN; ++j) b[j] = Bs[side][k][column + j];
#pragma unroll
            for (int i = 0; i < TM; ++i)
#pragma unroll
                for (int j = 0; j < TN; ++j) sum[i][j] += a[i] * b[j];
        }
        if (more) {
            store(side ^ 1);
            __syncthreads();
            side ^= 1;
        }
    }
}

// This thread's first row and column in the tile.
__device__ __forceinline__ int tile_row() { return threadIdx.x / (BN / TN) * TM; }
__device__ __forceinline__ int tile_column() { return threadIdx.x % (BN / TN) * TN; }
