"""What happens inside a network while it trains: sizes of gradients, and of activations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...nn import Module
from ...tensor import RemovableHandle
from .base import Callback

if TYPE_CHECKING:
    from ..loop import Loop


class GradientStatistics(Callback):
    """√Σg² of every parameter's gradient, logged as "gradient_norm/PART.PATH" at the first and then
    at every ``every``-th step. ``latest`` holds the last ones by "PART.PATH"."""

    def __init__(self, every: int = 100) -> None:
        self.every = every
        self.latest: dict[str, float] = {}

    def on_step(self, loop: Loop) -> None:
        if loop.step % self.every != 1 % self.every:
            return
        self.latest = {
            f"{part}.{path}": float(np.linalg.norm(p.grad.numpy().astype(np.float64)))
            for part, model in loop.parts.items()
            if isinstance(model, Module)
            for path, p in model.named_parameters()
            if p.grad is not None
        }
        loop.log(**{f"gradient_norm/{name}": norm for name, norm in self.latest.items()})


class ActivationStatistics(Callback):
    """Mean and standard deviation of what layers put out, and the share of it that is dead.

    A map (of a 4-D output) or unit is dead when it is 0 for every image of the batch. ``layers``
    are paths such as "c1" (default: all modules without children) of the model ``part``. They are
    looked at in the first and then in every ``every``-th training step, by forward hooks, and
    logged as "activation_mean/PATH", "activation_std/PATH" and "dead/PATH"; ``latest`` holds the
    last three by path.
    """

    def __init__(
        self, layers: Sequence[str] | None = None, every: int = 100, part: str = "model"
    ) -> None:
        self.layers, self.every, self.part = layers, every, part
        self.latest: dict[str, tuple[float, float, float]] = {}
        self._handles: list[RemovableHandle] = []
        self._looking = False

    def on_begin(self, loop: Loop) -> None:
        model = loop.parts[self.part]
        paths = self.layers
        if paths is None:
            paths = [path for path, m in model.named_modules() if path and not any(m.children())]
        for path in paths:
            layer = model.get_submodule(path)
            self._handles.append(layer.register_forward_hook(self._hook(path)))
        self._looking = self._due(loop.step + 1)

    def _due(self, step: int) -> bool:
        return step % self.every == 1 % self.every

    def _hook(self, path: str) -> Callable[[Any, Any, Any], None]:
        def look(module: Module, args: Any, output: Any) -> None:
            if self._looking and module.training:
                values = output.detach().numpy().astype(np.float64)
                axes = (0, *range(2, values.ndim))
                dead = float((np.abs(values).max(axes) == 0).mean())
                self.latest[path] = float(values.mean()), float(values.std()), dead

        return look

    def on_step(self, loop: Loop) -> None:
        if self._looking:
            names = ("activation_mean", "activation_std", "dead")
            loop.log(
                **{
                    f"{name}/{path}": value
                    for path, found in self.latest.items()
                    for name, value in zip(names, found, strict=True)
                }
            )
        self._looking = self._due(loop.step + 1)

    def on_end(self, loop: Loop) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
