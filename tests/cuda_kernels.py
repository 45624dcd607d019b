"""Small CUDA kernels with one planted mistake each, and correct ones, for the simulator's tests."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

F = np.float32


class Planted(NamedTuple):
    """``mark`` is a comment on the line that the finding must name."""

    name: str
    body: str
    kind: str  # "" for a correct kernel
    parameters: str = "float* x"
    args: tuple[Any, ...] = ()  # after x
    grid: int = 1
    block: int = 64
    shared_mem: int = 0


def source(planted: Planted) -> str:
    return (
        f'extern "C" __global__ void {planted.name}({planted.parameters}) {{\n{planted.body}\n}}\n'
    )


def marked_line(planted: Planted) -> int:
    return next(i for i, line in enumerate(source(planted).splitlines(), 1) if "// here" in line)


PLANTED = [
    Planted(
        "missing_barrier",
        """
    __shared__ float s[64];
    s[threadIdx.x] = x[threadIdx.x];
    x[threadIdx.x] = s[63 - threadIdx.x];  // here""",
        "race",
    ),
    Planted(
        "missing_second_barrier",
        """
    __shared__ float s[64];
    for (int k = 0; k < 2; ++k) {
        s[threadIdx.x] = x[threadIdx.x] + k;  // here
        __syncthreads();
        x[threadIdx.x] += s[63 - threadIdx.x];
    }""",
        "race",
    ),
    Planted(
        "shuffle_is_no_barrier",
        """
    __shared__ float s[64];
    s[threadIdx.x] = x[threadIdx.x];
    float v = __shfl_xor_sync(0xffffffffu, x[threadIdx.x], 1);
    x[threadIdx.x] = v + s[threadIdx.x ^ 1];  // here""",
        "race",
    ),
    Planted(
        "two_blocks_one_cell",
        """
    x[threadIdx.x % 16] = 1.0f * blockIdx.x;  // here""",
        "race",
        grid=2,
        block=16,
    ),
    Planted(
        "block_reads_what_another_writes",
        """
    if (blockIdx.x == 0) x[threadIdx.x] = 1;
    else x[64 + threadIdx.x] = x[threadIdx.x];  // here""",
        "race",
        grid=2,
    ),
    Planted(
        "shared_overflow",
        """
    __shared__ float s[64];
    __shared__ float t[64];
    s[threadIdx.x + 1] = x[threadIdx.x];  // here
    t[threadIdx.x] = 0;
    __syncthreads();
    x[threadIdx.x] = s[threadIdx.x] + t[threadIdx.x];""",
        "out-of-bounds",
    ),
    Planted(
        "row_overflow",
        """
    __shared__ float s[8][8];
    int i = threadIdx.x;
    s[i / 8][i % 8 + 1] = x[i];  // here
    __syncthreads();
    x[i] = s[i / 8][i % 8];""",
        "out-of-bounds",
    ),
    Planted(
        "pointer_into_shared_overflow",
        """
    __shared__ float s[64];
    float* p = s + threadIdx.x;
    *(p + 1) = x[threadIdx.x];  // here""",
        "out-of-bounds",
    ),
    Planted(
        "global_overflow",
        """
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    y[i] = x[i];  // here""",
        "out-of-bounds",
        "const float* x, float* y",
        (np.zeros(100, F),),
        grid=3,
    ),
    Planted(
        "before_the_start",
        """
    x[(int)threadIdx.x - 1] = 0;  // here""",
        "out-of-bounds",
    ),
    Planted(
        "dynamic_shared_overflow",
        """
    extern __shared__ float s[];
    s[threadIdx.x] = x[threadIdx.x];  // here
    __syncthreads();
    x[threadIdx.x] = s[threadIdx.x ^ 1];""",
        "out-of-bounds",
        shared_mem=128,
    ),
    Planted(
        "uninitialised",
        """
    __shared__ float s[64];
    if (threadIdx.x < 32) s[threadIdx.x] = 1;
    __syncthreads();
    x[threadIdx.x] = s[threadIdx.x];  // here""",
        "uninitialised-shared",
    ),
    Planted(
        "two_barriers",
        """
    if (threadIdx.x < 32) {
        __syncthreads();
    } else {
        __syncthreads();  // here
    }
    x[threadIdx.x] = 1;""",
        "divergent-barrier",
    ),
    Planted(
        "barrier_after_exit",
        """
    if (threadIdx.x >= 50) return;
    __syncthreads();  // here
    x[threadIdx.x] = 1;""",
        "exited-barrier",
    ),
    Planted(
        "absent_lanes",
        """
    float v = x[threadIdx.x];
    if (threadIdx.x % 32 < 16)
        v += __shfl_down_sync(0xffffffffu, v, 8);  // here
    x[threadIdx.x] = v;""",
        "deadlock",
    ),
    Planted(
        "not_in_the_mask",
        """
    x[threadIdx.x] += __shfl_xor_sync(0x0000ffffu, x[threadIdx.x], 1);  // here""",
        "shuffle",
    ),
    Planted(
        "misaligned_vector",
        """
    float4 v = *(float4*)(x + 1 + threadIdx.x * 4);  // here
    x[threadIdx.x] = v.x;""",
        "misaligned",
        block=8,
    ),
    Planted(
        "writes_an_input",
        """
    ((float*)x)[threadIdx.x] = 0;  // here""",
        "const-write",
        "const float* x",
    ),
    Planted(
        "divides_by_zero",
        """
    x[threadIdx.x] = (float)(7 / n);  // here""",
        "division-by-zero",
        "float* x, int n",
        (np.int32(0),),
    ),
    Planted(
        "shifts_too_far",
        """
    x[threadIdx.x] = (float)(1 << n);  // here""",
        "bad-shift",
        "float* x, int n",
        (np.int32(40),),
    ),
]

CORRECT = [
    Planted(
        "reverse",
        """
    __shared__ float s[64];
    s[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    x[threadIdx.x] = s[63 - threadIdx.x];""",
        "",
    ),
    Planted(
        "warp_exchange",
        """
    __shared__ volatile float s[64];
    s[threadIdx.x] = x[threadIdx.x];
    __syncwarp();
    x[threadIdx.x] = s[threadIdx.x ^ 1];""",
        "",
    ),
    Planted(
        "histogram",
        """
    atomicAdd(&x[threadIdx.x % 4], 1.0f);""",
        "",
        grid=3,
    ),
    Planted(
        "block_sum",
        """
    __shared__ float s[2];
    float v = x[threadIdx.x];
    for (int o = 16; o > 0; o /= 2) v += __shfl_down_sync(0xffffffffu, v, o);
    if (threadIdx.x % 32 == 0) s[threadIdx.x / 32] = v;
    __syncthreads();
    x[threadIdx.x] = s[0] + s[1];""",
        "",
    ),
    Planted(
        "whole_warps_leave",
        """
    if (threadIdx.x >= 32) return;
    x[threadIdx.x] = __shfl_xor_sync(0xffffffffu, x[threadIdx.x], 31);""",
        "",
    ),
    Planted(
        "dynamic",
        """
    extern __shared__ float s[];
    s[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    x[threadIdx.x] = s[threadIdx.x ^ 1];""",
        "",
        shared_mem=256,
    ),
    Planted(
        "vote",
        """
    int few = __syncthreads_count(threadIdx.x < 10);
    x[threadIdx.x] = (float)(few + __popc(__ballot_sync(0xffffffffu, 1)));""",
        "",
    ),
]
