"""Normalisation layers: batch, instance, layer, group and local response."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from ..ops import create
from ..tensor import Tensor
from . import functional as F
from . import init
from .linear import new_parameter
from .module import Module, Parameter


class _Affine(Module):
    """What all but local response norm share: a scale and a shift of the normalised values."""

    weight: Parameter | None
    bias: Parameter | None

    def _setup(
        self, shape: tuple[int, ...], weight: bool, bias: bool, dtype: Any, backend: str | None
    ) -> None:
        """Make the parameters; ``bias`` counts only with ``weight``."""
        self.weight = new_parameter(*shape, dtype=dtype, backend=backend) if weight else None
        self.bias = new_parameter(*shape, dtype=dtype, backend=backend) if weight and bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set scale 1 and shift 0."""
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)


class _RunningNorm(_Affine):
    """What batch and instance norm share besides: statistics kept for evaluation.

    After each training batch: running ← (1 − momentum)·running + momentum·batch.
    ``num_batches_tracked`` counts them.
    """

    ranks: ClassVar[tuple[int, ...]]  # numbers of dimensions that an input may have
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(
        self, num_features: int, eps: float, momentum: float | None, affine: bool,
        track_running_stats: bool, dtype: Any, backend: str | None, bias: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        self._setup((num_features,), affine, bias, dtype, backend)
        shapes: dict[str, tuple[int, ...]] = {
            "running_mean": (num_features,),
            "running_var": (num_features,),
            "num_batches_tracked": (),
        }
        for name, shape in shapes.items():
            kind = (dtype or "float32") if shape else "int64"
            value = create.zeros(shape, dtype=kind, backend=backend)
            self.register_buffer(name, value if track_running_stats else None)
        self.reset_running_stats()

    def reset_running_stats(self) -> None:
        """Forget the statistics: mean 0, variance 1, no batches."""
        for name, value in (("running_mean", 0), ("running_var", 1), ("num_batches_tracked", 0)):
            buffer = getattr(self, name)
            if buffer is not None:
                init.constant_(buffer, value)

    def _check(self, input: Tensor) -> None:
        if input.ndim not in self.ranks:
            ranks = " or ".join(map(str, self.ranks))
            raise ValueError(
                f"{type(self).__name__}: expected an input of {ranks} dimensions, "
                f"received shape {input.shape}"
            )

    def _count(self) -> None:
        count = self.num_batches_tracked
        assert count is not None
        count.backend.add(count.array, 1, out=count.array)
        count._version_list()[0] += 1

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )


class _BatchNorm(_RunningNorm):
    """y = (x − mean) / sqrt(var + eps)·weight + bias, statistics over all axes but the channel's.

    Training uses those of the batch, evaluation the running ones (unless
    ``track_running_stats=False``). ``momentum=None`` keeps the plain average of all batches.
    Source: Ioffe and Szegedy, "Batch normalization", 2015.
    """

    def __init__(
        self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1,
        affine: bool = True, track_running_stats: bool = True, dtype: Any = None,
        backend: str | None = None, *, bias: bool = True,
    ) -> None:  # fmt: skip
        super().__init__(
            num_features, eps, momentum, affine, track_running_stats, dtype, backend, bias
        )

    def forward(self, input: Tensor) -> Tensor:
        self._check(input)
        factor = 0.0 if self.momentum is None else self.momentum
        mean, var = self.running_mean, self.running_var
        if self.training and self.track_running_stats:
            self._count()
            if self.momentum is None:
                assert self.num_batches_tracked is not None
                factor = 1.0 / self.num_batches_tracked.item()
        elif self.training:
            mean = var = None
        return F.batch_norm(
            input,
            mean,
            var,
            self.weight,
            self.bias,
            self.training or mean is None,
            factor,
            self.eps,
        )


class BatchNorm1d(_BatchNorm):
    """Batch norm of x (N, C) or (N, C, L)."""

    ranks = (2, 3)


class BatchNorm2d(_BatchNorm):
    """Batch norm of x (N, C, H, W)."""

    ranks = (4,)


class BatchNorm3d(_BatchNorm):
    """Batch norm of x (N, C, D, H, W)."""

    ranks = (5,)


class _InstanceNorm(_RunningNorm):
    """Batch norm with statistics of each sample and channel of its own.

    Source: Ulyanov, Vedaldi, Lempitsky, "Instance normalization", 2016.
    """

    def __init__(
        self, num_features: int, eps: float = 1e-5, momentum: float = 0.1, affine: bool = False,
        track_running_stats: bool = False, dtype: Any = None, backend: str | None = None, *,
        bias: bool = True,
    ) -> None:  # fmt: skip
        super().__init__(
            num_features, eps, momentum, affine, track_running_stats, dtype, backend, bias
        )

    def forward(self, input: Tensor) -> Tensor:
        self._check(input)
        alone = input.ndim == self.ranks[0]  # one sample without a batch dimension
        result = F.instance_norm(
            input.unsqueeze(0) if alone else input, self.running_mean, self.running_var,
            self.weight, self.bias, self.training or not self.track_running_stats,
            self.momentum or 0.0, self.eps,
        )  # fmt: skip
        return result.squeeze(0) if alone else result


class InstanceNorm1d(_InstanceNorm):
    """Instance norm of x (N, C, L) or (C, L)."""

    ranks = (2, 3)


class InstanceNorm2d(_InstanceNorm):
    """Instance norm of x (N, C, H, W) or (C, H, W)."""

    ranks = (3, 4)


class InstanceNorm3d(_InstanceNorm):
    """Instance norm of x (N, C, D, H, W) or (C, D, H, W)."""

    ranks = (4, 5)


class LayerNorm(_Affine):
    """Normalise each sample over its last dimensions; scale and shift each element of them.

    Source: Ba, Kiros, Hinton, "Layer normalization", 2016.
    """

    def __init__(
        self, normalized_shape: int | Sequence[int], eps: float = 1e-5,
        elementwise_affine: bool = True, bias: bool = True, dtype: Any = None,
        backend: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        if isinstance(normalized_shape, int):
            normalized_shape = (normalized_shape,)
        self.normalized_shape = tuple(normalized_shape)
        self.eps, self.elementwise_affine = eps, elementwise_affine
        self._setup(self.normalized_shape, elementwise_affine, bias, dtype, backend)

    def forward(self, input: Tensor) -> Tensor:
        return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, "
            f"elementwise_affine={self.elementwise_affine}, bias={self.bias is not None}"
        )


class GroupNorm(_Affine):
    """Normalise each sample over groups of channels of x (N, C, …); scale and shift each channel.

    Source: Wu and He, "Group normalization", 2018. Raises ValueError unless the groups divide the
    channels.
    """

    def __init__(
        self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True,
        dtype: Any = None, backend: str | None = None, *, bias: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        if num_groups < 1 or num_channels % num_groups:
            raise ValueError(
                f"GroupNorm: num_channels={num_channels} must be divisible by "
                f"num_groups={num_groups}"
            )
        self.num_groups, self.num_channels = num_groups, num_channels
        self.eps, self.affine = eps, affine
        self._setup((num_channels,), affine, bias, dtype, backend)

    def forward(self, input: Tensor) -> Tensor:
        return F.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, "
            f"bias={self.bias is not None}"
        )


class LocalResponseNorm(Module):
    """x / (k + alpha·mean of x² over ``size`` neighbouring channels)^beta.

    Source: Krizhevsky, Sutskever, Hinton, "ImageNet classification with deep convolutional neural
    networks", 2012.
    """

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        super().__init__()
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def forward(self, input: Tensor) -> Tensor:
        return F.local_response_norm(input, self.size, self.alpha, self.beta, self.k)

    def extra_repr(self) -> str:
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"
