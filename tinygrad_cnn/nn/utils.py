"""Gradient clipping, all parameters as one vector, and a model in evaluation mode for a while."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from ..autograd import no_grad
from ..dtypes import float16
from ..ops import cat
from ..tensor import Tensor
from .module import Module


def _gradients(parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    given = [parameters] if isinstance(parameters, Tensor) else parameters
    return [p.grad for p in given if p.grad is not None]


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor], max_norm: float, norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
) -> Tensor:  # fmt: skip
    """Scale all gradients by min(1, max_norm / (norm + 1e-6)), in place; returns their joint norm.

    The norm is (Σ |g|ᵖ)^(1/p) over all elements of all gradients, or the largest |g| for p = inf.
    Raises RuntimeError for a norm that is NaN or infinite when ``error_if_nonfinite``.
    """
    grads = _gradients(parameters)
    if not grads:
        return Tensor(0.0)
    with no_grad():
        total = _joint_norm(grads, norm_type)
        if error_if_nonfinite and not math.isfinite(total.item()):
            raise RuntimeError(f"clip_grad_norm_: the norm of order {norm_type} is {total.item()}")
        scale = (max_norm / (total + 1e-6)).clamp(max=1.0).item()
    if scale != 1:
        for g in grads:
            g.backend.multiply(g.array, scale, out=g.array)
            g._version_list()[0] += 1
    return total


def _joint_norm(grads: list[Tensor], order: float) -> Tensor:
    kernels = grads[0].backend
    alike = all(g.backend is kernels and g.dtype != float16 for g in grads)
    if order == 2 and alike:  # squares of half precision would overflow
        return Tensor._wrap(kernels.squared_norms([g.array for g in grads]), kernels).sum().sqrt()
    sizes = [g.abs().reshape(-1).norm(order).reshape(1).to(grads[0].dtype) for g in grads]
    return cat(sizes).norm(order)


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Limit every element of every gradient to [−clip_value, clip_value], in place."""
    with no_grad():
        for g in _gradients(parameters):
            g.clamp_(-clip_value, clip_value)


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """All elements of all parameters in one vector, differentiably."""
    return cat([p.reshape(-1) for p in parameters])


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Write consecutive pieces of ``vec`` into the parameters.

    Raises ValueError when the sizes differ.
    """
    params = list(parameters)
    sizes = [math.prod(p.shape) for p in params]
    if vec.shape != (sum(sizes),):
        raise ValueError(
            f"vector_to_parameters: expected shape ({sum(sizes)},), received {vec.shape}"
        )
    start = 0
    with no_grad():
        for p, size in zip(params, sizes, strict=True):
            p.copy_(vec[start : start + size].reshape(p.shape))
            start += size


@contextmanager
def evaluation_mode(model: Module) -> Iterator[None]:
    """Evaluation mode inside; afterwards every module is in the mode it was in."""
    before = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training
