"""Normalisation: subtract a mean, divide by a spread, apply a learned scale and shift.

Batch norm is the kernel; the others arrange the cells that share a mean as its channels:

    batch norm     over N, H, W of each channel c
    instance norm  over H, W of each (n, c)
    group norm     over C/G, H, W of each (n, group)
    layer norm     over the last dimensions of each sample
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..backend import Array, Backend
from ..geometry import Shape, Window
from ..tensor import Op, Tensor
from .checks import same_dtype, tensor_of_floats
from .pool import AvgPool


def _channels(v: Tensor, ndim: int) -> Tensor:
    """v (C,) shaped to broadcast along dimension 1 of ``ndim``."""
    return v.reshape(1, v.shape[0], *(1,) * (ndim - 2))


class BatchNorm(Op):
    """y = (x − mean)/σ · w + b with mean, σ² = var + eps taken over all axes but 1 of x itself.

    The statistics depend on x, and a gradient of the gradient must know: ``backward`` computes
    them anew from x. With the saved numbers as constants the first derivative is the same but the
    second is wrong (off by half in typical cases).
    """

    deferrable = True

    def __init__(self, x: Tensor, eps: float) -> None:
        self.mean, self.var = x.backend.batch_norm_stats(x.array)
        self.eps = eps

    def output_shape(self, x: Tensor, *_: Tensor | None) -> Shape:
        return x.shape

    def forward(self, kernels: Backend, x: Array, w: Array | None, b: Array | None) -> Array:
        return kernels.batch_norm(x, self.mean, self.var, w, b, self.eps)

    def backward(self, grad: Tensor, out: None) -> tuple[Tensor | None, ...]:
        x, w, b = self.inputs
        axes = (0, *range(2, x.ndim))
        centred = x - x.mean(axes, keepdim=True)
        inverse = ((centred * centred).mean(axes, keepdim=True) + self.eps).rsqrt()
        xhat = centred * inverse
        product = grad * xhat
        spread = grad - grad.mean(axes, keepdim=True) - xhat * product.mean(axes, keepdim=True)
        gx = spread * (inverse if w is None else inverse * _channels(w, x.ndim))
        return gx, None if w is None else product.sum(axes), None if b is None else grad.sum(axes)

    def fused_backward(
        self, kernels: Backend, grad: Array, out: None, x: Array, w: Array | None, b: Array | None
    ) -> tuple[Array, ...]:
        return kernels.batch_norm_grad(grad, x, self.mean, self.var, w, self.eps)


class BatchNormInference(Op):
    """y = (x − mean)/√(var + eps) · w + b with given statistics: affine in x, w and b."""

    deferrable = True

    def __init__(self, eps: float) -> None:
        self.eps = eps

    def output_shape(self, x: Tensor, *_: Tensor | None) -> Shape:
        return x.shape

    def forward(
        self, kernels: Backend, x: Array, mean: Array, var: Array, w: Array | None, b: Array | None
    ) -> Array:
        return kernels.batch_norm(x, mean, var, w, b, self.eps)

    def backward(self, grad: Tensor, out: None) -> tuple[Tensor | None, ...]:
        x, mean, var, w, b = self.inputs
        axes, nd = (0, *range(2, x.ndim)), x.ndim
        inverse = (var + self.eps).rsqrt()
        scale = inverse if w is None else inverse * w
        product = None
        if self.needs[2] or self.needs[3]:
            product = (grad * (x - _channels(mean, nd))).sum(axes)
        total = grad.sum(axes)
        return (
            grad * _channels(scale, nd),
            -total * scale,
            product * scale * (-0.5) / (var + self.eps) if self.needs[2] else None,
            product * inverse if self.needs[3] else None,
            None if b is None else total,
        )


def batch_norm(
    input: Tensor, running_mean: Tensor | None, running_var: Tensor | None,
    weight: Tensor | None = None, bias: Tensor | None = None, training: bool = False,
    momentum: float = 0.1, eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """y[n,c,…] = (x[n,c,…] − mean[c]) / √(var[c] + eps) · weight[c] + bias[c].

    input (N, C) or (N, C, …); the others (C,). With ``training`` mean and (biased) variance are
    the batch's, and the running ones become (1 − momentum)·running + momentum·batch, with the
    unbiased variance; without it the running ones are used. Raises ValueError for wrong shapes,
    for one value a channel in training, and without statistics. Derivative: fused kernel, and its
    definition from x for higher orders.

    Source: Ioffe and Szegedy, "Batch Normalization", 2015.
    """
    _check_channels(
        "batch_norm",
        input,
        running_mean=running_mean,
        running_var=running_var,
        weight=weight,
        bias=bias,
    )
    if not training:
        if running_mean is None or running_var is None:
            raise ValueError(
                "batch_norm: without training, running_mean and running_var must be given"
            )
        return BatchNormInference(eps)(input, running_mean, running_var, weight, bias)
    if input.array.size == 0:
        return _of_nothing(input, weight, bias)
    count = input.array.size // input.shape[1]
    if count == 1:
        raise ValueError(
            f"batch_norm: training needs more than 1 value a channel, received input {input.shape}"
        )
    op = BatchNorm(input, eps)
    y = op(input, weight, bias)
    kernels = input.backend
    if running_mean is not None:
        _move_towards(running_mean, op.mean, momentum)
    if running_var is not None:
        _move_towards(running_var, kernels.multiply(op.var, count / (count - 1)), momentum)
    return y


def _of_nothing(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    y = x * 1 if weight is None else x * _channels(weight, x.ndim)
    return y if bias is None else y + _channels(bias, x.ndim)


def _move_towards(running: Tensor, found: Array, momentum: float) -> None:
    """running ← (1 − momentum)·running + momentum·found, in place and unrecorded."""
    kernels = running.backend
    values = running.array
    found = found if found.dtype == values.dtype else kernels.astype(found, values.dtype)
    kernels.multiply(values, 1 - momentum, out=values)
    kernels.add(values, kernels.multiply(found, momentum), out=values)
    running._version_list()[0] += 1


def _check_channels(name: str, x: Tensor, **vectors: Tensor | None) -> None:
    tensor_of_floats(name, x)
    shape = x.shape
    if len(shape) < 2:
        raise ValueError(f"{name}: expected input (N, C, …), received shape {shape}")
    for argument, v in vectors.items():
        if v is None:
            continue
        same_dtype(name, x, argument, v)
        if v.shape != shape[1:2]:
            raise ValueError(
                f"{name}: {argument} must have shape ({shape[1]},), one number a channel "
                f"of input {shape}, received {v.shape}"
            )


def _normalized(flat: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """((x − mean)/σ, 1/σ) over the last dimension: computed from x, as in ``BatchNorm``."""
    centred = flat - flat.mean(-1, keepdim=True)
    inverse = ((centred * centred).mean(-1, keepdim=True) + eps).rsqrt()
    return centred * inverse, inverse


def _spread(g: Tensor, xhat: Tensor, inverse: Tensor) -> Tensor:
    """The input's gradient, (g − mean(g) − x̂·mean(g·x̂))/σ, means over the last dimension."""
    product = (g * xhat).mean(-1, keepdim=True)
    return (g - g.mean(-1, keepdim=True) - xhat * product) * inverse


class GroupNorm(Op):
    """y = (x − mean)/σ · w[c] + b[c], mean and σ² = var + eps over each group of a sample."""

    def __init__(self, groups: int, eps: float) -> None:
        self.groups, self.eps = groups, eps

    def forward(self, kernels: Backend, x: Array, w: Array | None, b: Array | None) -> Array:
        y, self.mean, self.var = kernels.group_norm(x, self.groups, w, b, self.eps)
        return y

    def backward(self, grad: Tensor, out: None) -> tuple[Tensor | None, ...]:
        x, w, b = self.inputs
        axes, rows = (0, *range(2, x.ndim)), x.shape[0] * self.groups
        shape = (rows, math.prod(x.shape) // rows)
        xhat, inverse = _normalized(x.reshape(shape), self.eps)
        g = grad if w is None else grad * _channels(w, x.ndim)
        return (
            _spread(g.reshape(shape), xhat, inverse).reshape(x.shape),
            None if w is None else (grad * xhat.reshape(x.shape)).sum(axes),
            None if b is None else grad.sum(axes),
        )

    def fused_backward(
        self, kernels: Backend, grad: Array, out: None, x: Array, w: Array | None, b: Array | None
    ) -> tuple[Array, ...]:
        return kernels.group_norm_grad(grad, x, self.mean, self.var, w, self.groups, self.eps)


class LayerNorm(Op):
    """y = (x − mean)/σ · w + b for each row of a matrix, mean and σ² = var + eps its own."""

    def __init__(self, eps: float) -> None:
        self.eps = eps

    def forward(self, kernels: Backend, x: Array, w: Array | None, b: Array | None) -> Array:
        y, self.mean, self.var = kernels.layer_norm(x, w, b, self.eps)
        return y

    def backward(self, grad: Tensor, out: None) -> tuple[Tensor | None, ...]:
        x, w, b = self.inputs
        xhat, inverse = _normalized(x, self.eps)
        return (
            _spread(grad if w is None else grad * w, xhat, inverse),
            None if w is None else (grad * xhat).sum(0),
            None if b is None else grad.sum(0),
        )

    def fused_backward(
        self, kernels: Backend, grad: Array, out: None, x: Array, w: Array | None, b: Array | None
    ) -> tuple[Array, ...]:
        return kernels.layer_norm_grad(grad, x, self.mean, self.var, w, self.eps)


def layer_norm(
    input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None,
    bias: Tensor | None = None, eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """(x − mean)/√(var + eps) · weight + bias, the statistics over the last dimensions.

    ``normalized_shape`` is those dimensions, and the shape of weight and bias. Raises ValueError
    when the shapes differ. Source: Ba, Kiros and Hinton, "Layer Normalization", 2016.
    """
    tensor_of_floats("layer_norm", input)
    wanted = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    if not wanted or input.shape[-len(wanted) :] != wanted:
        raise ValueError(
            f"layer_norm: expected input (…, {str(wanted)[1:-1]}), received shape {input.shape}"
        )
    for argument, v in (("weight", weight), ("bias", bias)):
        if v is not None:
            same_dtype("layer_norm", input, argument, v)
            if v.shape != wanted:
                raise ValueError(
                    f"layer_norm: {argument} must have shape {wanted}, received {v.shape}"
                )
    if input.array.size == 0:
        y = input * 1 if weight is None else input * weight
        return y if bias is None else y + bias
    count = math.prod(wanted)
    if len(wanted) > 1:
        weight, bias = (v if v is None else v.reshape(count) for v in (weight, bias))
    if input.ndim == 2 and len(wanted) == 1:
        return LayerNorm(eps).on((input, weight, bias))
    flat = input.reshape(input.array.size // count, count)
    return LayerNorm(eps).on((flat, weight, bias)).reshape(input.shape)


def group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """(x − mean)/√(var + eps) · weight[c] + bias[c], the statistics over groups of channels.

    Each of the num_groups groups of a sample has its own. input (N, C, …). Raises ValueError when
    num_groups does not divide C. Source: Wu and He, "Group Normalization", 2018.
    """
    _check_channels("group_norm", input, weight=weight, bias=bias)
    if num_groups < 1 or input.shape[1] % num_groups:
        raise ValueError(
            f"group_norm: num_groups must divide the channels, received {num_groups} and input "
            f"{input.shape}"
        )
    rows = input.shape[0] * num_groups
    if input.array.size == rows:
        raise ValueError(
            f"group_norm: needs more than 1 value a group, received input {input.shape}"
        )
    if input.array.size == 0:
        return _of_nothing(input, weight, bias)
    return GroupNorm(num_groups, eps)(input, weight, bias)


def instance_norm(
    input: Tensor, running_mean: Tensor | None = None, running_var: Tensor | None = None,
    weight: Tensor | None = None, bias: Tensor | None = None, use_input_stats: bool = True,
    momentum: float = 0.1, eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """(x − mean)/√(var + eps) · weight[c] + bias[c], the statistics over each plane (n, c).

    input (N, C, …). The running statistics, if given, move towards the batch's averages; they are
    used instead when ``use_input_stats`` is False. Raises ValueError for wrong shapes or a single
    spatial cell. Source: Ulyanov, Vedaldi and Lempitsky, "Instance Normalization", 2016.
    """
    name = "instance_norm"
    _check_channels(
        name, input, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias
    )
    if not use_input_stats:
        if running_mean is None or running_var is None:
            raise ValueError(
                f"{name}: without use_input_stats, running_mean and running_var must be given"
            )
        return BatchNormInference(eps)(input, running_mean, running_var, weight, bias)
    n, c = input.shape[:2]
    if math.prod(input.shape[2:]) == 1:
        raise ValueError(f"{name}: needs more than 1 spatial cell, received input {input.shape}")
    if input.array.size == 0:
        return _of_nothing(input, weight, bias)
    cells, op = math.prod(input.shape[2:]), GroupNorm(c, eps)
    y = op(input, weight, bias)
    kernels = input.backend
    for running, found, factor in (
        (running_mean, op.mean, 1.0),
        (running_var, op.var, cells / (cells - 1)),
    ):
        if running is not None:
            total = kernels.sum(found, (0,), False)
            _move_towards(running, kernels.multiply(total, factor / n), momentum)
    return y


def local_response_norm(
    input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Tensor:
    """y[n,c,…] = x[n,c,…] / (k + alpha/size · Σ x[n,c′,…]²)^beta over ``size`` channels c′.

    c′ = c − floor(size/2) … c + floor((size−1)/2), those that exist. Raises ValueError unless
    input is (N, C, …) with at least 3 dimensions. Source: Krizhevsky, Sutskever and Hinton,
    "ImageNet Classification", 2012.
    """
    tensor_of_floats("local_response_norm", input)
    if input.ndim < 3 or size < 1:
        raise ValueError(
            f"local_response_norm: expected input (N, C, …) of at least 3 dimensions and size ≥ 1, "
            f"received {input.shape} and {size}"
        )
    n, c = input.shape[:2]
    cells = math.prod(input.shape[2:])
    window = Window((size, 1), (1, 1), ((size // 2, (size - 1) // 2), (0, 0)), (1, 1))
    squares = (input * input).reshape(n, 1, c, cells)
    means = AvgPool(window, ((size,) * c, (1,) * cells))(squares).reshape(input.shape)
    return input / (means * alpha + k) ** beta


def normalize(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """x / max(‖x‖ₚ, eps), the norm along ``dim``."""
    tensor_of_floats("normalize", input)
    return input / input.norm(p, dim, keepdim=True).clamp(min=eps)


def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """Σ x1·x2 / (max(‖x1‖, eps)·max(‖x2‖, eps)) along ``dim``; the two broadcast."""
    tensor_of_floats("cosine_similarity", x1, "x1")
    same_dtype("cosine_similarity", x1, "x2", x2)
    product = x1 * x2
    a, b = x1.broadcast_to(product.shape), x2.broadcast_to(product.shape)
    left = a.norm(2, dim, keepdim=True).clamp(min=eps)
    right = b.norm(2, dim, keepdim=True).clamp(min=eps)
    return ((a / left) * (b / right)).sum(dim)
