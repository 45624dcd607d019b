"""float32 matrix products C = A·B + bias, for any strides, on the micro-kernel of the convolutions.

B is packed into panels once (``layout``): its rows are then read in order whatever B's layout was,
so Bᵀ costs the same as B. A is read in place when its rows are contiguous, else a block of it is
transposed to scratch memory. The product runs in blocks that fit the cache:

    for each chunk of rows of C (and share of the panels, when there are few rows):
        for each block of K_BLOCK steps of the inner dimension:
            for each panel of B:                 K_BLOCK × NR floats, in the L2 cache
                for each MR rows:  one call of the micro-kernel

The blocks depend on the shapes only, so that C has the same bits for any number of threads.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from tinygrad_cnn.geometry import Shape, broadcast_shapes

from .layout import copy_matrix, copy_padded
from .memory import empty
from .microkernel import (
    ACCUMULATE,
    MAX_ROWS,
    RELU,
    TILE_ROWS,
    call,
    panels,
    rows_kernel,
)
from .runtime import address, device, kernel, worker_scratch
from .simd import load_i64, store_i64, unpack

f4 = np.dtype(np.float32)
K_BLOCK = 512
ROW_BLOCK = 128
CHUNKS = 16  # at least, where the product is large enough to be cut
ONE_CHUNK = 400_000  # multiply-adds below which a second thread does not pay
SMALL = 300_000  # multiply-adds below which NumPy's call is faster than packing
SMALL_BATCH = 60_000  # the same for a batch of matrices, which NumPy multiplies one by one


@kernel
def pack_matrix(chunk, worker, plan, target, b):
    """B (K × N) of every batch entry as panels [panel][k][nr]: one panel a chunk."""
    b_list, b_k, b_n, k_count, n_count, padded, nr = unpack(plan, 7)
    panels = -(-padded // nr)
    batch, first = chunk // panels, chunk % panels * nr
    width = min(nr, padded - first)
    out = target + (batch * padded + first) * k_count * 4
    copy_padded(out, 4 * width, b + load_i64(b_list + 8 * batch) + first * b_n, b_k, b_n, k_count,
                min(width, n_count - first))  # fmt: skip


@device
def _row_lists(lists, mr, rows, a_m, c_m):
    """Byte offsets of ``mr`` rows of A, then of C; those from ``rows`` on repeat the last."""
    for i in range(mr):
        row = min(i, rows - 1)
        store_i64(lists + 8 * i, row * a_m)
        store_i64(lists + 8 * (mr + i), row * c_m)


@kernel
def multiply(chunk, worker, plan, a, packed, c, bias, mode, scratch):
    """Rows × a share of the panels of one batch entry: chunk = (entry, row block, share)."""
    _, _, _, k_count, n_count, padded, nr, a_list, a_m, a_k = unpack(plan, 10)
    b_step, c_list, c_m, m_count, row_block, row_blocks, shares = unpack(plan + 8 * 10, 7)
    vector, mr_wide, mr_narrow, scratch_bytes, wide, narrow = unpack(plan + 8 * 17, 6)
    share, rest = chunk % shares, chunk // shares
    first, entry = rest % row_blocks * row_block, rest // row_blocks
    rows = min(row_block, m_count - first)
    lists = scratch + worker * scratch_bytes
    block = lists + 32 * MAX_ROWS
    in_place = a_k == 4
    pitch = a_m if in_place else 4 * K_BLOCK + 64
    start = a + load_i64(a_list + 8 * entry) + first * a_m
    out = c + load_i64(c_list + 8 * entry) + first * c_m
    panels = -(-padded // nr)
    store_i64(lists + 32 * MAX_ROWS - 8, 0)  # the only tap
    for k in range(0, k_count, K_BLOCK):
        run = min(K_BLOCK, k_count - k)
        base = start + k * a_k
        if not in_place:
            copy_matrix(block, pitch, base, a_m, a_k, rows, run)
            base = block
        flags = (mode if k + run == k_count else mode & ~RELU) | (ACCUMULATE if k else 0)
        for panel in range(panels * share // shares, panels * (share + 1) // shares):
            n = panel * nr
            width = min(nr, padded - n)
            mr = mr_wide if width == nr else mr_narrow
            matrix = packed + entry * b_step + (n * k_count + k * width) * 4
            lanes = min(n_count - n - width + vector, vector)
            for m in range(0, rows, mr):
                if m == 0 or m + mr > rows:
                    _row_lists(lists, mr, rows - m, pitch, c_m)
                call(wide if width == nr else narrow, base + m * pitch, lists,
                     lists + 32 * MAX_ROWS - 8, 1, run, matrix, out + m * c_m + 4 * n,
                     lists + 8 * mr, lanes, flags,
                     bias + 4 * n if bias and k == 0 else 0)  # fmt: skip


@lru_cache(maxsize=1024)
def _offsets(shape: Shape, strides: Shape, batch: Shape) -> np.ndarray:
    """Byte offset of each batch entry of an operand broadcast to ``batch``."""
    lead = len(batch) - len(shape)
    total = np.zeros(1, np.int64)
    for axis, size in enumerate(batch):
        n = shape[axis - lead] if axis >= lead else 1
        step = strides[axis - lead] if n > 1 else 0
        total = (total[:, None] + np.arange(size) * step).reshape(-1)
    return np.ascontiguousarray(total, np.int64)


def _blocking(batch: int, m: int, n: int, k: int, panels: int) -> tuple[int, int]:
    """(rows of a chunk, shares of the panels): chunks of a fair size, ``CHUNKS`` of them or more
    when the product is large."""
    rows, work = min(m, ROW_BLOCK), batch * m * n * k
    if work < ONE_CHUNK:
        return rows, 1
    chunks = CHUNKS if work >= 2_000_000 else 4
    while rows > 16 and batch * -(-m // rows) < chunks:
        rows = max(16, -(-rows // 16) * 8)
    shares = min(panels, max(1, chunks // (batch * -(-m // rows))))
    return rows, shares


class Plan(NamedTuple):
    """What one pair of shapes and strides needs."""

    shape: Shape  # of the product
    packs: int  # chunks of pack_matrix
    chunks: int  # of multiply
    packed_bytes: int
    scratch_bytes: int  # for each worker
    serial: bool
    table: int  # address of what both kernels read: their geometry
    keep: list[np.ndarray]  # what lies at the addresses


@lru_cache(maxsize=1024)
def plan_of(a_shape: Shape, a_strides: Shape, b_shape: Shape, b_strides: Shape) -> Plan:
    batch = broadcast_shapes(a_shape[:-2], b_shape[:-2]) if len(a_shape) + len(b_shape) > 4 else ()
    (m, k), n = a_shape[-2:], b_shape[-1]
    cut = panels(n)
    one = all(size == 1 for size in b_shape[:-2])
    c_strides = tuple(4 * math.prod((*batch, m, n)[i + 1 :]) for i in range(len(batch) + 2))
    a_list = _offsets(a_shape[:-2], a_strides[:-2], batch)
    b_list = _offsets(b_shape[:-2], b_strides[:-2], () if one else batch)
    c_list = _offsets(batch, c_strides[:-2], batch)
    rows, shares = _blocking(a_list.size, m, n, k, cut.number)
    blocks = -(-m // rows)
    scratch_bytes = 64 * MAX_ROWS + (0 if a_strides[-1] == 4 else rows * (4 * K_BLOCK + 64))
    table = np.array([
        address(b_list), *b_strides[-2:], k, n, cut.columns, cut.nr,
        address(a_list), *a_strides[-2:], 0 if one else cut.columns * k * 4,
        address(c_list), c_strides[-2], m, rows, blocks, shares,
        cut.lanes, TILE_ROWS[cut.wide - 1], TILE_ROWS[cut.narrow - 1], scratch_bytes,
        rows_kernel(cut.wide, cut.lanes).load(), rows_kernel(cut.narrow, cut.lanes).load(),
    ], np.int64)  # fmt: skip
    return Plan(
        shape=(*batch, m, n),
        packs=b_list.size * cut.number,
        chunks=a_list.size * blocks * shares,
        packed_bytes=-(-b_list.size * cut.columns * k * 4 // 64) * 64,
        scratch_bytes=scratch_bytes,
        serial=a_list.size * m * n * k < SMALL,
        table=address(table),
        keep=[a_list, b_list, c_list, table],
    )


def product(a: Any, b: Any, bias: Any = None, relu: bool = False) -> Any:
    """A (…, M, K) · B (…, K, N) + bias (N,), float32, batch dimensions broadcast, no dimension
    0."""
    plan = plan_of(a.shape, a.strides, b.shape, b.strides)
    c, packed = empty(plan.shape, f4), worker_scratch(plan.scratch_bytes, plan.packed_bytes)
    pack, run = (pack_matrix.serial, multiply.serial) if plan.serial else (pack_matrix, multiply)
    pack(plan.packs, plan.table, packed, address(b))
    run(plan.chunks, plan.table, address(a), packed, address(c),
        0 if bias is None else address(bias), RELU if relu else 0,
        packed + plan.packed_bytes)  # fmt: skip
    return c


def _is_small(a: Any, b: Any) -> bool:
    """Whether NumPy's BLAS, on one thread, is faster: no time to pack B, or a vector as one
    factor."""
    rows, columns, work = a.shape[-2], b.shape[-1], a.size * b.shape[-1]
    if a.ndim == 2 and b.ndim == 2:
        return work < SMALL or rows == 1 or columns == 1
    return work < SMALL_BATCH


def matmul(a: Any, b: Any) -> Any:
    """A (…, M, K) · B (…, K, N) with broadcast batch dimensions, float32."""
    if b.size == 0 or _is_small(a, b):
        return np.matmul(a, b)
    if b.ndim == 2 and a.ndim > 2 and a.flags.c_contiguous:
        return product(a.reshape(-1, a.shape[-1]), b).reshape(*a.shape[:-1], b.shape[1])
    return product(a, b)


def linear(x: Any, w: Any, bias: Any, relu: bool = False) -> Any:
    """x (…, K) · w (N, K)ᵀ + bias (N,), then max(·, 0) with ``relu``: neither costs a pass of its
    own, except in small products."""
    rows, columns = x if x.ndim == 2 else x.reshape(-1, x.shape[-1]), w.T
    if _is_small(rows, columns):
        y = np.matmul(rows, columns)
        if bias is not None:
            y += bias
        if relu:
            np.maximum(y, 0, out=y)
    else:
        if bias is not None and bias.strides != (4,):
            bias = np.ascontiguousarray(bias)
        y = product(rows, columns, bias, relu)
    return y if x.ndim == 2 else y.reshape(*x.shape[:-1], w.shape[0])
