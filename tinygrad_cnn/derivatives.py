"""Products with Jacobians and Hessians, and the matrices themselves, from reverse mode alone.

With J the Jacobian of a function: vjp is vᵀJ, one backward pass. jvp is J·v: the map u ↦ uᵀJ is
linear, and its own vjp along v is J·v ("double backward"). A Hessian is the Jacobian of the
gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .tensor import Tensor

Tensors = Tensor | tuple[Tensor, ...]


def _tuple(x: Any) -> tuple[Tensor, ...]:
    return (x,) if isinstance(x, Tensor) else tuple(x)


def _call(func: Callable[..., Any], inputs: Any, connected: bool) -> tuple[tuple[Tensor, ...], Any]:
    """Fresh leaves with the values of ``inputs`` (or tensors tied to them) and func's value
    there.
    """
    from .autograd import enable_grad

    with enable_grad():
        xs = tuple(
            x.view_as(x) if connected and x.requires_grad else x.detach().clone().requires_grad_()
            for x in _tuple(inputs)
        )
        return xs, func(*xs)


def _grads(y: Tensor, xs: tuple[Tensor, ...], v: Any, create: bool) -> tuple[Tensor, ...]:
    """vᵀJ for every x; zeros where y does not depend on it."""
    from .autograd import grad

    if not y.requires_grad:
        return tuple(x.detach() * 0 for x in xs)
    found = grad(y, xs, v, retain_graph=True, create_graph=create, allow_unused=True)
    return tuple(x.detach() * 0 if g is None else g for x, g in zip(xs, found, strict=True))


def _like(pieces: tuple[Any, ...], model: Any) -> Any:
    return pieces[0] if isinstance(model, Tensor) else pieces


def _direction(v: Any, model: tuple[Tensor, ...], name: str) -> tuple[Tensor, ...]:
    if v is None:
        if len(model) != 1 or model[0].array.size != 1:
            raise ValueError(f"{name}: v may be left out only for one single number")
        return tuple(m.detach() * 0 + 1 for m in model)
    vs = _tuple(v)
    if [t.shape for t in vs] != [m.shape for m in model]:
        raise ValueError(
            f"{name}: v must have shapes {[m.shape for m in model]}, "
            f"received {[t.shape for t in vs]}"
        )
    return vs


def _weighted(ys: tuple[Tensor, ...], vs: tuple[Tensor, ...]) -> Tensor:
    total = (ys[0] * vs[0]).sum()
    for y, v in zip(ys[1:], vs[1:], strict=True):
        total = total + (y * v).sum()
    return total


def vjp(
    func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False
) -> tuple[Any, Any]:
    """(func(inputs), vᵀJ): the gradient of Σ v·func, in the structure of ``inputs``."""
    xs, out = _call(func, inputs, create_graph)
    ys = _tuple(out)
    total = _weighted(ys, _direction(v, ys, "vjp"))
    parts = _grads(total, xs, None, create_graph)
    return _detached(out, create_graph), _like(parts, inputs)


def jvp(
    func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False
) -> tuple[Any, Any]:
    """(func(inputs), J·v): the derivative of func along v, in the structure of the output."""
    xs, out = _call(func, inputs, create_graph)
    ys = _tuple(out)
    vs = _direction(v, xs, "jvp")
    us = tuple((y.detach() * 0).requires_grad_() for y in ys)
    pulled = _grads(_weighted(ys, us), xs, None, True)  # uᵀJ, linear in u
    total = _weighted(pulled, vs)
    parts = _grads(total, us, None, create_graph)
    return _detached(out, create_graph), _like(parts, out)


def _detached(out: Any, keep: bool) -> Any:
    if keep:
        return out
    return out.detach() if isinstance(out, Tensor) else tuple(t.detach() for t in out)


def jacobian(func: Callable[..., Any], inputs: Any, create_graph: bool = False) -> Any:
    """All partial derivatives: J[i…, j…] = ∂func[i…]/∂x[j…], of shape output.shape + input.shape.

    For several outputs or inputs a (nested) tuple, outer index output, inner index input."""
    from .ops import stack

    xs, out = _call(func, inputs, create_graph)
    table = []
    for y in _tuple(out):
        flat = y.reshape(-1)
        rows = [_grads(flat[i], xs, None, create_graph) for i in range(flat.array.size)]
        table.append(
            tuple(
                stack([row[k] for row in rows]).reshape(*y.shape, *x.shape)
                if rows
                else x.detach().new_zeros((*y.shape, *x.shape))
                for k, x in enumerate(xs)
            )
        )
    return _like(tuple(_like(row, inputs) for row in table), out)


def hessian(func: Callable[..., Any], inputs: Any, create_graph: bool = False) -> Any:
    """All second derivatives of a scalar function: H[i…, j…] = ∂²func/∂x[i…]∂x[j…] (nested tuples
    for several inputs).
    """

    def gradient(*xs: Tensor) -> Any:
        return _like(_grads(_scalar(func(*xs)), xs, None, True), inputs)

    return jacobian(gradient, inputs, create_graph)


def hvp(
    func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False
) -> tuple[Any, Any]:
    """(func(inputs), H·v) for a scalar function: one more backward pass through its gradient, no
    matrix.
    """
    xs, out = _call(func, inputs, create_graph)
    first = _grads(_scalar(out), xs, None, True)
    total = _weighted(first, _direction(v, xs, "hvp"))
    parts = _grads(total, xs, None, create_graph)
    return _detached(out, create_graph), _like(parts, inputs)


def _scalar(y: Any) -> Tensor:
    if not isinstance(y, Tensor) or y.array.size != 1:
        raise ValueError("hessian and hvp need a function that returns one number")
    return y.reshape(())
