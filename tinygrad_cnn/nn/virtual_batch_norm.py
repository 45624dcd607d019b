"""Virtual batch norm: statistics of a fixed reference batch, so that samples stay independent.

Source: Salimans, Goodfellow, Zaremba, Cheung, Radford, Chen, "Improved techniques for training
GANs", 2016, section 3.4.
"""

from __future__ import annotations

from typing import Any

from ..ops import cat
from ..tensor import Tensor
from .module import Module
from .normalization import _Affine


class VirtualBatchNorm(_Affine):
    """Batch norm of x (N, C, …) whose first ``reference_size`` = R samples are the reference batch.

    The reference is normalised by its own mean and variance μ_r, v_r of each channel; every other
    sample i, with μ_i, v_i over its positions, by those of reference and sample together:

        μ = (R μ_r + μ_i) / (R + 1),   v = (R (v_r + (μ_r − μ)²) + v_i + (μ_i − μ)²) / (R + 1)

    No sample's result depends on the others beside it. ``VirtualBatch`` puts the reference in front
    and sets ``reference_size``; without it forward raises RuntimeError.
    """

    def __init__(
        self, num_features: int, eps: float = 1e-5, dtype: Any = None, backend: str | None = None
    ) -> None:
        super().__init__()
        self.num_features, self.eps = num_features, eps
        self.reference_size = 0
        self._setup((num_features,), True, True, dtype, backend)

    def forward(self, input: Tensor) -> Tensor:
        size = self.reference_size
        if not 0 < size <= len(input):
            raise RuntimeError(
                "VirtualBatchNorm: expected the reference batch in front of the input, received "
                f"{len(input)} samples with reference_size={size}; "
                "wrap the whole model: nn.VirtualBatch(model, reference)"
            )
        if input.ndim < 2 or input.shape[1] != self.num_features:
            raise ValueError(
                f"VirtualBatchNorm: expected an input (N, {self.num_features}, …), "
                f"received shape {input.shape}"
            )
        inside = tuple(range(2, input.ndim))
        reference, rest = input[:size], input[size:]
        mean_r = reference.mean((0, *inside), keepdim=True)
        var_r = (reference - mean_r).square().mean((0, *inside), keepdim=True)
        mean_i = rest.mean(inside, keepdim=True) if inside else rest
        mean = (size * mean_r + mean_i) / (size + 1)
        # (v_i + (μ_i − μ)²) in one: the mean of (x − μ)² over the positions
        spread = (rest - mean).square()
        var_i = spread.mean(inside, keepdim=True) if inside else spread
        var = (size * (var_r + (mean_r - mean).square()) + var_i) / (size + 1)
        normalised = cat(
            (
                (reference - mean_r) / (var_r + self.eps).sqrt(),
                (rest - mean) / (var + self.eps).sqrt(),
            )
        )
        assert self.weight is not None and self.bias is not None
        shape = (1, -1, *(1 for _ in inside))
        return normalised * self.weight.reshape(shape) + self.bias.reshape(shape)

    def extra_repr(self) -> str:
        return f"{self.num_features}, eps={self.eps}, reference_size={self.reference_size}"


class VirtualBatch(Module):
    """``model`` with a fixed batch ``reference`` (R, …) for its ``VirtualBatchNorm`` layers.

    forward(x (N, …)) sends (R + N) samples through the model and returns the last N results.
    """

    reference: Tensor

    def __init__(self, model: Module, reference: Tensor) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("reference", reference)
        for module in model.modules():
            if isinstance(module, VirtualBatchNorm):
                module.reference_size = len(reference)

    def forward(self, input: Tensor) -> Tensor:
        together = self.model(cat((self.reference, input)))
        return together[len(self.reference) :]  # type: ignore[no-any-return]
