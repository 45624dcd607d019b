// C[z] (M, N) = A[z] (M, K) · B[z] (K, N) for a batch of matrices; after tile.cu.
//
// A matrix is given by its leading dimension: element (m, k) of A lies at m·lda + k, or with -DALONG_M
// at k·lda + m (A stored transposed); B likewise with ALONG_N. Batches are `…_batch` elements apart;
// 0 repeats one matrix. Vector loads (-DVA, -DVB) need addresses and leading dimensions that are
// multiples of the vector.
//
// split-K: `splits` blocks share the sum over k, each for `length` of it, and write partial products
// (z·splits + s, M, N), which reduce.cu adds up: small products then fill a large GPU.
struct alignas(sizeof(T) * VA) VectorA { T v[VA]; };
struct alignas(sizeof(T) * VB) VectorB { T v[VB]; };

extern "C" __global__ void __launch_bounds__(THREADS)
matmul(const T* A, const T* B, T* C, int M, int N, int K, int lda, int ldb, long long a_batch, long long b_batch,
       int batch, int splits, int length) {
    const int m0 = blockIdx.y * BM, n0 = blockIdx.x * BN;
    for (int zs = blockIdx.z; zs < batch * splits; zs += gridDim.z) {
        const T* a = A + zs / splits * a_batch;
        const T* b = B + zs / splits * b_batch;
        const int k_begin = zs % splits * length, k_end = min(K, k_begin + length);
        auto fetch_a = [&](T* v, int m, int k) {
            m += m0;
            const T* at = ALONG_M ? a + (long long)k * lda + m : a + (long long)m * lda + k;
            if (VA > 1 && m + (ALONG_M ? VA : 1) <= M && k + (ALONG_M ? 1 : VA) <= k_end) {
                const VectorA whole = *(const VectorA*)at;
#pragma unroll
                for (int i = 0; i < VA; ++i) v[i] = whole.v[i];
                return;
            }
#pragma unroll
            for (int i = 0; i < VA; ++i)
                v[i] = m + (ALONG_M ? i : 0) < M && k + (ALONG_M ? 0 : i) < k_end ? at[i] : (T)0;
        };
        auto fetch_b = [&](T* v, int k, int n) {
            n += n0;
            const T* at = ALONG_N ? b + (long long)k * ldb + n : b + (long long)n * ldb + k;
            if (VB > 1 && n + (ALONG_N ? VB : 1) <= N && k + (ALONG_N ? 1 : VB) <= k_end) {
                const VectorB whole = *(const VectorB*)at;
#pragma unroll
                for (int i = 0; i < VB; ++i) v[i] = whole.v[i];
                return;
            }
#pragma unroll
            for (int i = 0; i < VB; ++i)
                v[i] = n + (ALONG_N ? i : 0) < N && k + (ALONG_N ? 0 : i) < k_end ? at[i] : (T)0;
        };
        T sum[TM][TN];
        multiply(k_begin, k_end, fetch_a, fetch_b, sum);
        T* c = C + (long long)zs * M * N;
#pragma unroll
        for (int i = 0; i < TM; ++i)
#pragma unroll
            for (int j = 0; j < TN; ++j) {
                const int m = m0 + tile_row() + i, n = n0 + tile_column() + j;
                if (m < M && n < N) c[(long long)m * N + n] = sum[i][j];
            }
        __syncthreads();  // the tiles are free for the next matrix
    }
}
