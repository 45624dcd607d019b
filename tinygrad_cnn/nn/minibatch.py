"""Minibatch discrimination: features that tell how much the samples of a batch resemble each other.

Source: Salimans, Goodfellow, Zaremba, Cheung, Radford, Chen, "Improved techniques for training
GANs", 2016, section 3.2.
"""

from __future__ import annotations

from typing import Any

from ..ops import cat
from ..tensor import Tensor
from . import init
from .linear import new_parameter
from .module import Module, Parameter


class MinibatchDiscrimination(Module):
    """x (N, A) → (N, A + B): x and, beside it, the closeness o of each sample to the others.

        M_ibc = Σ_a x_ia T_abc,   o_ib = Σ_{j ≠ i} exp(−Σ_c |M_ibc − M_jbc|)

    with T (A, B, C), B = ``out_features``, C = ``kernel_dims``. A discriminator that sees o can
    tell a batch of copies from a varied one, so a generator gains nothing by repeating itself.
    ``weight`` is T as (A, B·C), normal with deviation 1/√A at the start, so that the distances of
    standardised features begin near C.
    """

    weight: Parameter

    def __init__(
        self, in_features: int, out_features: int, kernel_dims: int = 5, dtype: Any = None,
        backend: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.kernel_dims = kernel_dims
        self.weight = new_parameter(
            in_features, out_features * kernel_dims, dtype=dtype, backend=backend
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial values."""
        init.normal_(self.weight, 0.0, self.in_features**-0.5)

    def forward(self, input: Tensor) -> Tensor:
        if input.ndim != 2 or input.shape[1] != self.in_features:
            raise ValueError(
                f"MinibatchDiscrimination: expected an input (N, {self.in_features}), "
                f"received shape {input.shape}"
            )
        m = (input @ self.weight).reshape(-1, self.out_features, self.kernel_dims)
        distance = (m.unsqueeze(0) - m.unsqueeze(1)).abs().sum(3)  # (N, N, B)
        closeness = (-distance).exp().sum(1) - 1.0  # less the sample's own exp(0)
        return cat((input, closeness), 1)

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"kernel_dims={self.kernel_dims}"
        )
