"""What happens around ``Module.forward``: hooks, and the path of a layer in errors and reports."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..deferred import Deferred
from ..function import Function
from ..tensor import Tensor, mode

if TYPE_CHECKING:
    from .module import Module


class Hooks:
    """The three hook tables of one module, keyed by registration."""

    def __init__(self) -> None:
        self.before: dict[int, Callable[..., Any]] = {}
        self.after: dict[int, Callable[..., Any]] = {}
        self.backward: dict[int, Callable[..., Any]] = {}


class Symbolic:
    """What a module can be called on besides tensors: it records the call instead of computing."""

    def connect(self, layer: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        raise NotImplementedError


class _Running(threading.local):
    """The modules being called in this thread that have hooks, or all when hunting anomalies."""

    def __init__(self) -> None:
        self.modules: list[Module] = []


_running = _Running()


def observed(module: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call ``module`` with its hooks, and tell anomaly detection where we are."""
    if args and isinstance(args[0], Symbolic):
        return args[0].connect(module, args, kwargs)
    anomaly = mode.anomaly
    if anomaly is not None:
        anomaly.layers.append(_path(_running.modules[-1], module) if _running.modules else "")
    _running.modules.append(module)
    try:
        return _hooked(module, args, kwargs)
    finally:
        _running.modules.pop()
        if anomaly is not None:
            anomaly.layers.pop()


def _hooked(module: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    hooks = module._hooks
    if hooks is None:
        return module.forward(*args, **kwargs)
    for hook in list(hooks.before.values()):
        changed = hook(module, args)
        if changed is not None:
            args = changed if isinstance(changed, tuple) else (changed,)
    watch = _BackwardWatch(module, hooks) if hooks.backward and mode.record else None
    if watch is not None:
        args = watch.inputs(args)
    result = module.forward(*args, **kwargs)
    if hooks.after and isinstance(result, Deferred):
        result.array  # noqa: B018  (computed now, or the graph might go past what the hook is given)
    for hook in list(hooks.after.values()):
        changed = hook(module, args, result)
        if changed is not None:
            result = changed
    return result if watch is None else watch.outputs(result)


class _BackwardWatch:
    """Sees the gradients pass at both ends of one call of a module, and runs its backward hooks."""

    def __init__(self, module: Module, hooks: Hooks) -> None:
        self.module, self.hooks = module, hooks
        self.count = 0  # of positional arguments
        self.places: list[int] = []  # those whose gradients we see
        self.grad_output: tuple[Tensor | None, ...] = ()

    def inputs(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        self.count = len(args)
        self.places = [i for i, a in enumerate(args) if isinstance(a, Tensor) and a.requires_grad]
        if not self.places:
            return args
        passed = dict(
            zip(self.places, _Pass.apply(self._leave, *(args[i] for i in self.places)), strict=True)
        )
        return tuple(passed.get(i, a) for i, a in enumerate(args))

    def outputs(self, result: Any) -> Any:
        single = isinstance(result, Tensor)
        values = (result,) if single else tuple(result)
        passed = _Pass.apply(self._enter, *values)
        return passed[0] if single else type(result)(passed)

    def _enter(self, grads: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
        self.grad_output = grads
        if not self.places:
            self._run((None,) * self.count)
        return grads

    def _leave(self, grads: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
        found: list[Tensor | None] = [None] * self.count
        for i, g in zip(self.places, grads, strict=True):
            found[i] = g
        answer = self._run(tuple(found))
        return tuple(answer[i] for i in self.places)

    def _run(self, grad_input: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
        for hook in list(self.hooks.backward.values()):
            changed = hook(self.module, grad_input, self.grad_output)
            if changed is not None:
                changed = changed if isinstance(changed, tuple) else (changed,)
                if len(changed) != len(grad_input):
                    raise ValueError(
                        f"a backward hook of {type(self.module).__name__} must return "
                        f"{len(grad_input)} gradients, received {len(changed)}"
                    )
                grad_input = changed
        return grad_input


class _Pass(Function):
    """The identity on several tensors; ``see(grads)`` returns the gradients to pass on."""

    @staticmethod
    def forward(ctx: Any, *args: Any) -> tuple[Tensor, ...]:
        ctx.see, *tensors = args
        return tuple(t.detach() for t in tensors)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Any, ...]:
        return (None, *ctx.see(grad_outputs))


def _path(parent: Module, child: Module) -> str:
    """The path from ``parent`` to ``child``; "" when it is not below it."""
    return next((name for name, module in parent.named_modules() if module is child and name), "")


def name_layer(module: Module, error: Exception) -> None:
    """Put the path of the layer that raised in front of the message, as the error travels outwards.

    Each module on the way prepends its own name for the one below, so the outermost knows the whole
    path.
    """
    if len(error.args) != 1 or not isinstance(error.args[0], str):
        return
    inner: _Origin | None = getattr(error, "_origin", None)
    if inner is None:
        error._origin = _Origin(module, error.args[0])  # type: ignore[attr-defined]
        return
    step = "" if module is inner.top else _path(module, inner.top)
    inner.top = module
    if step:
        inner.path = f"{step}.{inner.path}" if inner.path else step
        error.args = (f"layer {inner.path!r} ({inner.kind}): {inner.message}",)


class _Origin:
    """Where an error came from, and how far out it has travelled."""

    def __init__(self, module: Module, message: str) -> None:
        self.top, self.kind, self.message, self.path = module, type(module).__name__, message, ""


def zero_grad(p: Tensor, set_to_none: bool) -> None:
    """Forget the gradient of one leaf, or fill it with zeros in place."""
    if set_to_none or p.grad is None:
        p.grad = None
        return
    p.grad = p.grad.detach()
    p.backend.assign(p.grad.array, 0.0)
    p.grad._version_list()[0] += 1
