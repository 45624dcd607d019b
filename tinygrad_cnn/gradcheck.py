"""Is a derivative right? Compare it with differences of function values, along random directions.

For a function f, a direction u in the input and weights v of the output,

    vᵀ J u  =  lim (v·f(x + εu) − v·f(x − εu)) / 2ε:

the left side comes from one backward pass, the right from two evaluations, whatever the sizes. In
float64 with ε = 1e-6 the difference quotient is good to about 1e-9, so a rule that is wrong by a
thousandth is found. The same check applied to the gradient as a function gives the second order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from . import autograd
from .dtypes import float64
from .random import Generator, normal_array
from .tensor import Tensor


def gradcheck(
    func: Callable[..., Any],
    inputs: Tensor | Sequence[Tensor],
    *,
    eps: float = 1e-6,
    atol: float = 1e-7,
    rtol: float = 1e-6,
    raise_exception: bool = True,
    seed: int = 0,
) -> bool:
    """Whether backward of ``func`` agrees with central differences for every input that requires
    gradients.

    ``func`` takes the inputs and returns one tensor or a tuple; inputs that require gradients must
    be float64 leaves. Two random directions are tried. Raises AssertionError naming the input, the
    expected and the found number (or returns False without ``raise_exception``), ValueError when
    there is nothing to check.

    >>> import tinygrad_cnn as tg
    >>> x = tg.tensor([0.3, -1.2], dtype=tg.float64, requires_grad=True, backend="numpy")
    >>> tg.gradcheck(lambda x: x.tanh() * x, x)
    True
    """
    xs = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    checked = [i for i, x in enumerate(xs) if isinstance(x, Tensor) and x.requires_grad]
    if not checked:
        raise ValueError(
            "gradcheck: no input requires gradients; create one with requires_grad=True"
        )
    for i in checked:
        if xs[i].dtype != float64:
            raise ValueError(f"gradcheck: input {i} is {xs[i].dtype}; differences need float64")
    source = Generator(seed)
    for _ in range(2):
        ys = _outputs(func, xs)
        vs = [_noise(y, source) for y in ys]
        found = _backward(ys, vs, [xs[i] for i in checked])
        for i, gradient in zip(checked, found, strict=True):
            u = _noise(xs[i], source)
            analytic = 0.0 if gradient is None else float((gradient * u).sum().item())
            upper, lower = (_weighted(func, xs, i, u, step, vs) for step in (eps, -eps))
            numeric = (upper - lower) / (2 * eps)
            size = max(abs(analytic), abs(numeric))
            rounding = 1e-15 * max(abs(upper), abs(lower)) / eps
            if not abs(analytic - numeric) <= atol + rounding + rtol * size:
                if not raise_exception:
                    return False
                raise AssertionError(
                    f"gradcheck: input {i} {xs[i].shape}: expected a directional derivative of "
                    f"{numeric:.12g} (central difference), found {analytic:.12g} (backward), "
                    f"relative error {abs(analytic - numeric) / (size or 1.0):.2g}"
                )
    return True


def gradgradcheck(
    func: Callable[..., Any],
    inputs: Tensor | Sequence[Tensor],
    *,
    eps: float = 1e-6,
    atol: float = 1e-7,
    rtol: float = 1e-6,
    raise_exception: bool = True,
    seed: int = 0,
) -> bool:
    """``gradcheck`` of the gradient itself, with respect to the inputs and to the incoming
    gradient.
    """
    xs = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    checked = [i for i, x in enumerate(xs) if isinstance(x, Tensor) and x.requires_grad]
    source = Generator(seed + 1)
    seeds = [_noise(y, source).requires_grad_() for y in _outputs(func, xs)]

    def gradient(*args: Tensor) -> tuple[Tensor, ...]:
        values, weights = args[: len(xs)], args[len(xs) :]
        ys = _outputs(func, values)
        live = [k for k, y in enumerate(ys) if y.requires_grad]
        found = autograd.grad(
            [ys[k] for k in live], [values[i] for i in checked], [weights[k] for k in live],
            create_graph=True, allow_unused=True,
        )  # fmt: skip
        return tuple(g for g in found if g is not None)

    options: dict[str, Any] = dict(
        eps=eps, atol=atol, rtol=rtol, raise_exception=raise_exception, seed=seed
    )
    return gradcheck(gradient, (*xs, *seeds), **options)


def _outputs(func: Callable[..., Any], xs: Sequence[Any]) -> list[Tensor]:
    made = func(*xs)
    return [y for y in ((made,) if isinstance(made, Tensor) else made) if y.dtype.kind == "f"]


def _noise(like: Tensor, source: Generator) -> Tensor:
    return Tensor._wrap(normal_array(like.backend, like.shape, float64, source), like.backend)


def _backward(ys: list[Tensor], vs: list[Tensor], wanted: list[Tensor]) -> tuple[Any, ...]:
    live = [(y, v) for y, v in zip(ys, vs, strict=True) if y.requires_grad]
    if not live:
        return (None,) * len(wanted)
    return autograd.grad(
        [y for y, _ in live], wanted, [v.to(y.dtype) for y, v in live], allow_unused=True
    )


def _weighted(
    func: Callable[..., Any], xs: Sequence[Any], i: int, u: Tensor, step: float, vs: list[Tensor]
) -> float:
    moved = [x.detach().requires_grad_(x.requires_grad) if isinstance(x, Tensor) else x for x in xs]
    moved[i] = (xs[i].detach() + u * step).requires_grad_()
    return math.fsum(
        float((y * v).sum().item()) for y, v in zip(_outputs(func, moved), vs, strict=True)
    )
