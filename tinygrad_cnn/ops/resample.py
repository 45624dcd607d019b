"""Sparse linear maps along the last axes: what interpolation, padding by copies and means over
uneven windows have in common."""

from __future__ import annotations

from ..backend import Array, Backend
from ..geometry import LinearMap
from ..tensor import Op, Tensor


class Resample(Op):
    """y[…, p, …] = Σ weight·x[…, cell, …] over the pairs of row p of each axis' map; linear in x,
    its derivative the transposed maps."""

    saves_inputs = False

    def __init__(self, maps: tuple[LinearMap | None, ...]) -> None:
        self.maps = maps

    def forward(self, kernels: Backend, x: Array) -> Array:
        return kernels.resample(x, self.maps)

    def backward(self, grad: Tensor, out: None) -> Tensor:
        return Resample(tuple(table and table.transposed for table in self.maps))(grad)
