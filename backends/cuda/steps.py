"""Optimiser steps on many parameters in one launch, and random numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .device import Array
from .host import Shape, c_type
from .normalisation import Normalisation

PIECE = 16384  # elements of a parameter that one block updates
KEPT_TABLES = 16
_MASK = 2**64 - 1


class Steps(Normalisation):
    """In-place optimiser steps and draws."""

    def __init__(self, device: Any) -> None:
        super().__init__(device)
        self._tables: dict[bytes, Array] = {}

    def sgd_step(
        self,
        params: Sequence[Array],
        grads: Sequence[Array],
        momenta: Sequence[Array] | None,
        lr: float,
        momentum: float,
        dampening: float,
        weight_decay: float,
        nesterov: bool,
        first: bool,
    ) -> None:
        states = [] if momenta is None else [momenta]
        self._step(
            "sgd_step",
            params,
            grads,
            states,
            (lr, momentum, dampening, weight_decay, int(nesterov), int(first)),
        )

    def adam_step(
        self,
        params: Sequence[Array],
        grads: Sequence[Array],
        m: Sequence[Array],
        v: Sequence[Array],
        lr: float,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
        decoupled: bool,
        step: int,
    ) -> None:
        rate, root = lr / (1 - betas[0] ** step), math.sqrt(1 - betas[1] ** step)
        self._step(
            "adam_step",
            params,
            grads,
            [m, v],
            (lr, *betas, eps, weight_decay, rate, root, int(decoupled)),
        )

    def _step(
        self,
        name: str,
        params: Sequence[Array],
        grads: Sequence[Array],
        states: Sequence[Sequence[Array]],
        numbers: Any,
    ) -> None:
        """One launch for each dtype among the parameters."""
        everything = list(zip(params, grads, *states, strict=True))
        for dtype in sorted({p.dtype for p in params}, key=str):
            wide = np.dtype(np.float32) if dtype == np.float16 else dtype
            group = [
                (arrays, [self.dense(a, wide) for a in arrays])
                for arrays in everything
                if arrays[0].dtype == dtype
            ]
            table = self._table([dense for _, dense in group])
            if len(table):
                kernel = self.kernel(name, ["optim.cu"], T=c_type(wide))
                longest = int(table[:, 4].max())
                threads = min(256, -(-longest // 32) * 32)
                self.launch(kernel, len(table), threads, self._on_device(table), *numbers,
                            uses=[a for _, dense in group for a in dense])  # fmt: skip
            for originals, dense in group:  # parameters or states with gaps, or stored as float16
                for k, (a, d) in enumerate(zip(originals, dense, strict=True)):
                    if d is not a and k != 1:
                        self.copy_into(a, d)

    def _on_device(self, table: np.ndarray[Any, Any]) -> Array:
        """The table in device memory. A memory pool hands out the same addresses step after step,
        so the last few tables are kept and mostly nothing is copied."""
        key = table.tobytes()
        found = self._tables.pop(key, None)
        self._tables[key] = self.device.upload_table(table.reshape(-1)) if found is None else found
        while len(self._tables) > KEPT_TABLES:
            self._tables.pop(next(iter(self._tables)))
        return self._tables[key]

    def _table(self, group: list[list[Array]]) -> np.ndarray[Any, Any]:
        """Rows (p, g, m, v, length) of optim.cu: addresses, 0 where there is no such state."""
        rows = []
        for arrays in group:
            addresses = [self.device.pointer(a) for a in arrays]
            size, item = arrays[0].size, arrays[0].itemsize
            for start in range(0, size, PIECE):
                moved = [address + start * item for address in addresses]
                rows.append([*moved, *[0] * (4 - len(moved)), min(PIECE, size - start)])
        return np.array(rows, np.uint64).reshape(-1, 5)

    # -- random numbers ---------------------------------------------------------------------------
    def random_bits(self, count: int, seed: int, offset: int) -> Array:
        y = self.new((count,), np.uint32)
        self._draw("random_bits", y, 4, seed, offset)
        return y

    def random_uniform(self, shape: Shape, dtype: Any, seed: int, offset: int) -> Array:
        dtype = np.dtype(dtype)
        if dtype.itemsize == 8:
            y = self.new(shape, np.float64)
            self._draw("uniform53", y, 2, seed, offset)
            return y
        y = self.new(shape, np.float32)
        self._draw("uniform24", y, 4, seed, offset, 24 if dtype.itemsize == 4 else 11)
        return y if dtype == np.float32 else self.cast(y, dtype)

    def random_normal(self, shape: Shape, dtype: Any, seed: int, offset: int) -> Array:
        dtype = np.dtype(dtype)
        y = self.new(shape, np.float32 if dtype == np.float32 else np.float64)
        self._draw("normal", y, 2, seed, offset)
        return y if y.dtype == dtype else self.cast(y, dtype)

    def _draw(
        self, name: str, y: Array, per_block: int, seed: int, offset: int, *more: int
    ) -> None:
        """One Philox block a thread gives ``per_block`` elements."""
        kernel = self.kernel(
            name, ["random.cu"], fmad=False, T=c_type(y.dtype) if name == "normal" else "float"
        )
        self.each(
            kernel,
            y.size,
            y,
            y.size,
            np.uint64(seed & _MASK),
            np.uint64(offset & _MASK),
            *more,
            threads=-(-y.size // per_block),
        )
