"""From a naive CUDA matmul to the tiled one and to convolution, each step with its report.

python demos/cuda_walk.py            # on the simulator; no GPU is needed

The report of a step says how well it reads memory; docs/cuda-walk.md explains what to look for.
"""

from __future__ import annotations

import argparse

import numpy as np

import tinygrad_cnn as tg

NAIVE = """
extern "C" __global__ void naive(const float* A, const float* B, float* C, int n) {
    int row = blockIdx.x * blockDim.x + threadIdx.x;   // neighbouring threads: neighbouring rows
    int col = blockIdx.y * blockDim.y + threadIdx.y;
    float sum = 0;
    for (int k = 0; k < n; ++k) sum += A[row * n + k] * B[k * n + col];
    C[row * n + col] = sum;
}
"""
COALESCED = """
extern "C" __global__ void coalesced(const float* A, const float* B, float* C, int n) {
    int col = blockIdx.x * blockDim.x + threadIdx.x;   // neighbouring threads: neighbouring columns
    int row = blockIdx.y * blockDim.y + threadIdx.y;
    float sum = 0;
    for (int k = 0; k < n; ++k) sum += A[row * n + k] * B[k * n + col];
    C[row * n + col] = sum;
}
"""
TILED = """
extern "C" __global__ void tiled(const float* A, const float* B, float* C, int n) {
    __shared__ float As[16][16], Bs[16][16];
    int tx = threadIdx.x, ty = threadIdx.y;
    int row = blockIdx.y * 16 + ty, col = blockIdx.x * 16 + tx;
    float sum = 0;
    for (int k0 = 0; k0 < n; k0 += 16) {
        As[ty][tx] = A[row * n + k0 + tx];
        Bs[ty][tx] = B[(k0 + ty) * n + col];
        __syncthreads();
        for (int k = 0; k < 16; ++k) sum += As[ty][k] * Bs[k][tx];
        __syncthreads();
    }
    C[row * n + col] = sum;
}
"""


def matmul_step(source: str, name: str, block: tuple[int, int], n: int) -> None:
    """Run one kernel on n×n matrices, compare with NumPy, print its report."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, n, n)).astype(np.float32)
    c = np.zeros((n, n), np.float32)
    kernel = tg.cuda.RawKernel(source, name, backend="cudasim")
    with tg.cuda.report() as r:
        kernel((n // block[0], n // block[1]), block, (a, b, c, np.int32(n)))
    print(f"\n== {name}: largest difference from NumPy {abs(c - a @ b).max():.1e}")
    print(r)


def library_step(title: str, compute: object) -> None:
    """Run a library operation, print the reports of the kernels it launched."""
    with tg.cuda.report() as r:
        compute()  # type: ignore[operator]
    print(f"\n== {title}")
    print(r)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--size", type=int, default=64, help="rows of the matrices, a multiple of 16"
    )
    n: int = parser.parse_args().size
    if n < 16 or n % 16:
        parser.error(f"--size expects a multiple of 16, received {n}: no kernel here checks edges")
    matmul_step(NAIVE, "naive", (16, 16), n)
    matmul_step(COALESCED, "coalesced", (16, 16), n)
    matmul_step(TILED, "tiled", (16, 16), n)

    forgotten = TILED.replace("__syncthreads();\n    }", "}", 1).replace("tiled", "forgotten")
    kernel = tg.cuda.RawKernel(forgotten, "forgotten", backend="cudasim")
    arrays = [np.ones((32, 32), np.float32) for _ in range(3)]
    with tg.cuda.report(mode="check") as r:
        kernel((2, 2), (16, 16), (*arrays, np.int32(32)))
    print("\n== the tiled kernel without its second barrier, checked")
    print(r)
    print("\n== thread (1, 0) of block (0, 0), step by step")
    for step in tg.cuda.replay(kernel, (0, 0), (1, 0))[:8]:
        print(step)

    draw = np.random.default_rng(1).standard_normal
    a, b, x, w = (
        tg.tensor(draw(shape).astype(np.float32), backend="cudasim")
        for shape in ((64, 64), (64, 64), (2, 8, 10, 10), (64, 8, 3, 3))
    )
    library_step("the library's matmul: 4×4 results a thread, double buffer", lambda: a @ b)
    library_step(
        "convolution as an implicit matrix product",
        lambda: tg.nn.functional.conv2d(x, w, padding=1),
    )


if __name__ == "__main__":
    main()
