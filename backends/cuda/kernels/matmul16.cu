// The teaching version of matrix multiplication: C (M, N) = A (M, K) · B (K, N), row-major, one thread
// an element, tiles of 16×16 in shared memory. Each element of A and B is read from global memory
// once a tile instead of once a thread, 16 times less often.    -DT= float or double
#define TILE 16

extern "C" __global__ void __launch_bounds__(256) matmul16(const T* A, const T* B, T* C, int M, int N, int K) {
    __shared__ T As[TILE][TILE], Bs[TILE][TILE];
    const int tx = threadIdx.x, ty = threadIdx.y;
    const int row = blockIdx.y * TILE + ty, column = blockIdx.x * TILE + tx;
    T sum = 0;
    for (int k0 = 0; k0 < K; k0 += TILE) {
        As[ty][tx] = row < M && k0 + tx < K ? A[(long long)row * K + k0 + tx] : (T)0;
        Bs[ty][tx] = k0 + ty < K && column < N ? B[(long long)(k0 + ty) * N + column] : (T)0;
        __syncthreads();  // both tiles are complete
#pragma unroll
        for (int k = 0; k < TILE; ++k) sum += As[ty][k] * Bs[k][tx];
        __syncthreads();  // both tiles are used up
    }
    if (row < M && column < N) C[(long long)row * N + column] = sum;
}
