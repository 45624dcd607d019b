"""Which pixels a decision rests on: saliency, and Grad-CAM.

K. Simonyan, A. Vedaldi, A. Zisserman: Deep inside convolutional networks, 2014; R. Selvaraju and
others: Grad-CAM, visual explanations from deep networks via gradient-based localization, 2017.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..autograd import enable_grad, grad
from ..construct import tensor
from ..nn import Module
from ..nn import functional as F
from ..nn.utils import evaluation_mode
from ..ops import gather
from ..tensor import Tensor
from .canvas import Array, figure, host, save
from .watch import Call, batch_for, recording

_POOLING = f"{__package__.rpartition('.')[0]}.nn.pooling"


def saliency(model: Module, x: Any, class_index: int | Sequence[int] | None = None) -> Array:
    """How much each pixel moves the score of the class: max over c of |∂y_k/∂x_chw|.

    x (N, C, H, W); ``class_index`` one class, one a sample, or None for the predicted ones.
    Returns (N, H, W). The model computes in evaluation mode; no ``.grad`` is written.
    """
    images = batch_for(model, x).requires_grad_()
    with evaluation_mode(model), enable_grad():
        (slope,) = grad(_score(model(images), class_index), images)
    return host(slope.abs().amax(1))


def grad_cam(
    model: Module, x: Any, class_index: int | Sequence[int] | None = None,
    layer: Module | str | None = None, *, upsample: bool = True,
) -> Array:  # fmt: skip
    """Where in the image a layer finds what speaks for the class.

    With the layer's maps A (N, K, P, Q) and the score y of the class,

        α_k = mean over p, q of ∂y/∂A_kpq        heat_pq = max(Σ_k α_k A_kpq, 0)

    divided by its maximum, so that each sample's heat lies in [0, 1] (all 0 where nothing speaks
    for the class). ``layer`` is a module of the model or its path; None is the last layer with
    maps of more than one cell that is not pooling. ``upsample`` gives (N, H, W) by bilinear
    interpolation, else (N, P, Q). For a network that ends in the global average of that layer's
    maps and a dense layer, α_k = w_yk / PQ, and this is the class activation map.
    Raises ValueError for a layer that gives no maps or on which the score does not depend.
    """
    images = batch_for(model, x).requires_grad_()
    with evaluation_mode(model), enable_grad(), recording(model) as calls:
        score = _score(model(images), class_index)
        maps = _maps(calls, model, layer)
        (slope,) = grad(score, maps, allow_unused=True)
    if slope is None:
        raise ValueError("grad_cam: the score does not depend on this layer's output")
    heat = (slope.mean((2, 3), keepdim=True) * maps.detach()).sum(1).relu()
    peak = heat.amax((1, 2), keepdim=True)
    heat = heat / peak.where(peak > 0, 1.0)
    if upsample:
        heat = F.interpolate(heat.unsqueeze(1), size=images.shape[2:], mode="bilinear").squeeze(1)
    return host(heat)


def _score(logits: Tensor, class_index: int | Sequence[int] | None) -> Tensor:
    """The sum over the samples of the score of each one's class: samples do not mix."""
    if logits.ndim != 2:
        raise ValueError(f"expected a model with scores (N, classes), received {logits.shape}")
    count, classes = logits.shape
    if class_index is None:
        chosen = logits.detach().argmax(1)
    else:
        wanted = [class_index] * count if isinstance(class_index, int) else list(class_index)
        if len(wanted) != count or not all(0 <= k < classes for k in wanted):
            raise ValueError(
                f"class_index: expected one class or {count}, each from 0 to {classes - 1}, "
                f"received {class_index}"
            )
        chosen = tensor(wanted, backend=logits.backend)
    picked: Tensor = gather(logits, 1, chosen.unsqueeze(1)).sum()
    return picked


def _maps(calls: list[Call], model: Module, layer: Module | str | None) -> Tensor:
    if layer is None:
        return _last_maps(calls)
    wanted = model.get_submodule(layer) if isinstance(layer, str) else layer
    found: list[Tensor] = [call.output for call in calls if call.layer is wanted]
    if not found or found[-1].ndim != 4:
        got = f"output of shape {found[-1].shape}" if found else "no call of it"
        raise ValueError(f"grad_cam: expected a layer that gives maps (N, K, P, Q), found {got}")
    return found[-1]


def _last_maps(calls: list[Call]) -> Tensor:
    pooled = {id(call.output) for call in calls if type(call.layer).__module__ == _POOLING}
    for call in reversed(calls):
        maps: Tensor = call.output
        if maps.ndim == 4 and maps.shape[2] * maps.shape[3] > 1 and id(maps) not in pooled:
            return maps
    raise ValueError("grad_cam: no layer of this model gives maps (N, K, P, Q); name one")


def heat_sheet(
    images: Array, heats: Sequence[tuple[str, Array]], path: str | Path, titles: Sequence[str]
) -> Path:
    """A row an image: the image, then each named heat (N, H, W) laid over it in colour."""
    count = len(images)
    drawn = figure(1.5 * (1 + len(heats)), 1.55 * count)
    for row, axes in enumerate(drawn.subplots(count, 1 + len(heats), squeeze=False)):
        axes[0].set_title(titles[row], fontsize=8)
        for cell in axes:
            cell.set_axis_off()
            cell.imshow(images[row], cmap="gray_r", interpolation="nearest")
        for cell, (name, heat) in zip(axes[1:], heats, strict=True):
            top = float(heat[row].max()) or 1.0
            cell.imshow(heat[row] / top, cmap="inferno", alpha=0.75, vmin=0, vmax=1)
            cell.set_title(name, fontsize=8)
    return save(drawn, path)
