"""The image that excites a filter most, found by gradient ascent on the input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..autograd import enable_grad, grad
from ..nn import Module
from ..nn.utils import evaluation_mode
from ..random import Generator, rand
from ..tensor import Tensor
from .canvas import Array, host
from .watch import recording

_SMALLEST = 1e-6  # a step below this share of the first one cannot be seen any more


class Pattern(NamedTuple):
    """An image (C, H, W), and the activation at the start, every ``log_every`` steps and at the
    end.
    """

    image: Array
    activations: list[float]


def filter_pattern(
    model: Module, layer: Module | str, channel: int, shape: Sequence[int], *, steps: int = 100,
    step: float = 0.1, limits: tuple[float, float] = (0.0, 1.0), start: float = 0.5,
    log_every: int = 10, seed: int = 0,
) -> Pattern:  # fmt: skip
    """The image of this ``shape`` (C, H, W) that most excites one channel of ``layer``.

    Activation a(x) = mean of the channel over its map (the value itself after a dense layer).
    From faint noise around the brightness ``start`` (0 and 1 are the ``limits``) we go along
    g = ∂a/∂x,

        x' = clip(x + η g / rms(g), limits)

    with η starting at ``step`` times their distance. A step counts only if a(x') > a(x); else η is
    halved and tried again, and after one that counted it grows by half. So the activation rises
    from each logged value to the next. The ascent ends early where no step helps any
    more: at once, if the slope is 0 at the start because a ReLU on the way is dead there.
    Raises ValueError for a channel that the layer does not have.
    """
    low, high = limits
    like = next(model.parameters())
    noise = rand(1, *shape, generator=Generator(seed), dtype=like.dtype, backend=like.backend)
    x = (low + (high - low) * (start + 0.1 * (noise - 0.5))).clamp(low, high)
    eta = first = step * (high - low)
    with evaluation_mode(model):
        value, slope = _activation(model, layer, channel, x)
        reached = [value]
        while len(reached) <= steps and eta > _SMALLEST * first:
            direction = slope / slope.square().mean().sqrt().clamp(min=1e-30)
            tried = (x + eta * direction).clamp(low, high)
            value, slope_there = _activation(model, layer, channel, tried)
            if value > reached[-1]:
                x, slope, eta = tried, slope_there, 1.5 * eta
                reached.append(value)
            else:
                eta /= 2
    log = reached[::log_every]
    return Pattern(host(x[0]), log if log[-1] == reached[-1] else [*log, reached[-1]])


def _activation(
    model: Module, layer: Module | str, channel: int, image: Tensor
) -> tuple[float, Tensor]:
    """a(x) of one image, and its gradient with respect to the image."""
    wanted = model.get_submodule(layer) if isinstance(layer, str) else layer
    x = image.detach().requires_grad_()
    with enable_grad(), recording(model) as calls:
        model(x)
        maps = next((call.output for call in reversed(calls) if call.layer is wanted), None)
        if maps is None:
            raise ValueError("filter_pattern: the model does not call this layer")
        if not 0 <= channel < maps.shape[1]:
            raise ValueError(
                f"filter_pattern: expected a channel from 0 to {maps.shape[1] - 1}, "
                f"received {channel}"
            )
        value = maps[0, channel].mean()
        (slope,) = grad(value, x)
    return value.item(), slope
