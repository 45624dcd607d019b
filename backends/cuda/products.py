"""Matrix products: layouts, tiles and split-K for matmul.cu."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tinygrad_cnn.backend import Gradients

from .device import Array
from .host import c_type, through_float32
from .indexing import Indexing

# Tile shapes of tile.cu. A larger tile reads less memory for each multiplication (2·BM·BN / (4·(BM
# + BN)) operations a byte), a smaller one wastes less on small matrices.
TILES: dict[str, dict[str, Any]] = {
    "small": {"BM": 32, "BN": 32, "BK": 8, "TM": 4, "TN": 4},
    "medium": {"BM": 64, "BN": 64, "BK": 16, "TM": 4, "TN": 4},
    "large": {"BM": 128, "BN": 128, "BK": 8, "TM": 8, "TN": 8},
}
FULL_GRID = 128  # blocks that keep a GPU busy; a constant, so that sums are cut alike everywhere
SPLIT_LENGTH = 256  # at least so many terms of a sum to a block


class Operand(NamedTuple):
    """A batch of matrices as matmul.cu takes it."""

    array: Array
    transposed: bool  # stored column by column
    leading: int
    batch_step: int


def pick_tile(rows: int, columns: int, itemsize: int) -> dict[str, Any]:
    """The tile shape for a product of so many rows and columns."""
    if min(rows, columns) <= 32:
        return TILES["small"]
    return TILES["large"] if min(rows, columns) >= 256 and itemsize <= 4 else TILES["medium"]


def pick_splits(blocks: int, terms: int) -> tuple[int, int]:
    """(splits, length): how a sum of ``terms`` is cut, so that the grid is full."""
    splits = max(1, min(FULL_GRID // max(blocks, 1), terms // SPLIT_LENGTH))
    length = -(-terms // splits)
    return -(-terms // max(length, 1)) or 1, max(length, 1)


class Products(Indexing):
    """``matmul`` and ``linear``. ``gemm`` chooses: "raw" (our kernels), "matmul16" (the 16×16
    teaching kernel) or "cublas" (CuPy's matmul; on a GPU only)."""

    gemm = "raw"

    @through_float32
    def matmul(self, a: Array, b: Array) -> Array:
        dtype = np.result_type(a.dtype, b.dtype)
        lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        M, K, N = a.shape[-2], a.shape[-1], b.shape[-1]
        out = self.new((*lead, M, N), dtype)
        if not out.size:
            return out
        if not K:
            self._fill(out, 0)
        elif self.gemm == "cublas" and self.device.name == "cupy":
            self.xp.matmul(a, b, out=out)
        elif self.gemm == "matmul16" and not lead:
            kernel = self.kernel("matmul16", ["matmul16.cu"], T=c_type(dtype))
            grid = (-(-N // 16), -(-M // 16))
            self.launch(
                kernel,
                grid,
                (16, 16),
                self.dense(a, dtype),
                self.dense(b, dtype),
                out,
                M,
                N,
                K,
                flops=2.0 * M * N * K,
            )
        else:
            self._product(
                self._operand(a, lead, dtype), self._operand(b, lead, dtype), out, M, N, K
            )
        return out

    def _operand(self, a: Array, lead: tuple[int, ...], dtype: Any) -> Operand:
        """``a`` with one step a batch and unit stride along rows or columns, else a copy."""
        a = a if a.dtype == dtype else self.cast(a, dtype)
        a = self.xp.broadcast_to(a, (*lead, *a.shape[-2:]))
        for candidate in (a, None):
            if candidate is None:
                candidate = self.dense(a)
            steps = [s // candidate.itemsize for s in candidate.strides]
            rows, columns = candidate.shape[-2:]
            batch = self._batch_step(lead, steps)
            if batch is None:
                continue
            if (steps[-1] == 1 or columns == 1) and (steps[-2] >= columns or rows == 1):
                return Operand(candidate, False, max(steps[-2] if rows > 1 else columns, 1), batch)
            if (steps[-2] == 1 or rows == 1) and steps[-1] >= rows:
                return Operand(candidate, True, steps[-1], batch)
        raise AssertionError("a dense array always fits")

    def _batch_step(self, lead: tuple[int, ...], steps: list[int]) -> int | None:
        """The one step from matrix to matrix, or None if there is no such step."""
        step, span = 0, 1
        for n, s in zip(reversed(lead), reversed(steps[: len(lead)]), strict=True):
            if n == 1:
                continue
            if span == 1:
                step = s
            elif s != step * span:
                return None
            span *= n
        return step

    def _vector(self, o: Operand) -> int:
        """How many elements may be fetched at once."""
        wide = 16 // o.array.itemsize
        aligned = (
            self.device.pointer(o.array) % 16 == 0
            and o.leading % wide == 0
            and o.batch_step % wide == 0
        )
        return wide if aligned and wide > 1 else 1

    def _product(self, a: Operand, b: Operand, out: Array, M: int, N: int, K: int) -> None:
        tile = pick_tile(M, N, out.itemsize)
        batch = math.prod(out.shape[:-2])
        columns, rows = -(-N // tile["BN"]), -(-M // tile["BM"])
        splits, length = pick_splits(columns * rows * batch, K)
        if splits > 1:  # pieces start where vectors do
            length = -(-length // tile["BK"]) * tile["BK"]
            splits = -(-K // length)
        va, vb = self._vector(a), self._vector(b)
        kernel = self.kernel(
            "matmul", ["tile.cu", "matmul.cu"], T=c_type(out.dtype), **tile, VA=va, VB=vb,
            ALONG_M=int(a.transposed), ALONG_N=int(not b.transposed),
        )  # fmt: skip
        partial = out if splits == 1 else self.new((batch, splits, M * N), out.dtype)
        threads = (tile["BM"] // tile["TM"]) * (tile["BN"] // tile["TN"])
        grid = (columns, rows, min(batch * splits, 65535))
        self.launch(
            kernel,
            grid,
            threads,
            a.array,
            b.array,
            partial,
            M,
            N,
            K,
            a.leading,
            b.leading,
            a.batch_step,
            b.batch_step,
            batch,
            splits,
            length,
            flops=2.0 * batch * M * N * K,
        )
        if splits > 1:
            total = self._merge("sum", partial, batch, splits, M * N, out.dtype)
            self.copy_into(out, total.reshape(out.shape))

    def linear(self, x: Array, w: Array, bias: Array | None) -> Array:
        return self._linear(x, w, bias, "add")

    def linear_relu(self, x: Array, w: Array, bias: Array | None) -> Array:
        y = self._linear(x, w, bias, "add_relu")
        return self._unary("relu", y, out=y) if bias is None else y

    @through_float32
    def _linear(self, x: Array, w: Array, bias: Array | None, epilogue: str) -> Array:
        rows = math.prod(x.shape[:-1])
        y = self.matmul(self.dense(x).reshape(rows, x.shape[-1]), w.T)
        if bias is not None:
            self._binary(epilogue, y, bias, out=y)
        return y.reshape(*x.shape[:-1], w.shape[0])

    def linear_grad(
        self, gy: Array, x: Array, w: Array, needs: Sequence[bool], y: Array | None = None
    ) -> Gradients:
        gy = gy if y is None else self._binary("relu_grad", gy, y)
        count = math.prod(x.shape[:-1])
        g = self.dense(gy).reshape(count, w.shape[0])
        rows = self.dense(x).reshape(count, w.shape[1])
        return (
            self.matmul(g, w).reshape(x.shape) if needs[0] else None,
            self.matmul(g.T, rows) if needs[1] else None,
            self.sum(g, (0,), False) if needs[2] else None,
        )
