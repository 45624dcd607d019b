"""Layers that multiply by a matrix or look up its rows."""

from __future__ import annotations

from typing import Any

from ..ops import create
from ..tensor import Tensor
from . import functional as F
from . import init
from .module import Module, Parameter


def new_parameter(*shape: int, dtype: Any = None, backend: str | None = None) -> Parameter:
    """A parameter of zeros, to be filled by an initialiser."""
    return Parameter(create.zeros(*shape, dtype=dtype or "float32", backend=backend))


class Linear(Module):
    """y = x Wᵀ + b over the last dimension: x (…, in), W (out, in), b (out), y (…, out).

    Starts uniform on ±1/sqrt(in).
    """

    weight: Parameter
    bias: Parameter | None

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, dtype: Any = None,
        backend: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.weight = new_parameter(out_features, in_features, dtype=dtype, backend=backend)
        self.bias = new_parameter(out_features, dtype=dtype, backend=backend) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial values."""
        init.weight_and_bias_(self.weight, self.bias)

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.weight, self.bias)

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}"
        )


class Embedding(Module):
    """Rows of a table: y[…] = W[index[…]], index integers (…), W (num_embeddings, embedding_dim).

    Starts standard normal; row ``padding_idx`` starts at zero and receives no gradient.
    """

    weight: Parameter

    def __init__(
        self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None,
        dtype: Any = None, backend: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            raise ValueError(
                f"Embedding: padding_idx {padding_idx} is not a row of {num_embeddings}"
            )
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.padding_idx = None if padding_idx is None else padding_idx % num_embeddings
        self.weight = new_parameter(num_embeddings, embedding_dim, dtype=dtype, backend=backend)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial values."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            self.weight.backend.assign_at(self.weight.array, (self.padding_idx,), 0.0)

    def forward(self, input: Tensor) -> Tensor:
        return F.embedding(input, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        shown = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{shown}"


class CosineSimilarity(Module):
    """cos(x, y) = Σ x·y / max(‖x‖·‖y‖, eps) along ``dim``."""

    def __init__(self, dim: int = 1, eps: float = 1e-8) -> None:
        super().__init__()
        self.dim, self.eps = dim, eps

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        return F.cosine_similarity(x1, x2, self.dim, self.eps)
