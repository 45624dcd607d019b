"""Classification losses: negative log-likelihood, cross-entropy, and their binary forms."""

from __future__ import annotations

import math

from ..backend import Array, Backend
from ..dtypes import float16
from ..geometry import Shape, remembered
from ..tensor import Op, Tensor
from .activation import LogSigmoid, Softmax, log_softmax
from .checks import reduction_name, same_dtype, tensor_of_floats
from .elementwise import clamp, where
from .index import gather
from .linear import one_hot
from .loss import PairLoss, pair_loss, reduced
from .unary import sigmoid
from .views import Take


class CrossEntropy(Op):
    """loss[n] = log Σ_k e^(x[n,k]) − x[n, target[n]], their sum or their mean;
    gx[n,k] = g[n]·(softmax(x)[n,k] − [k = target[n]]).

    The kernel keeps the softmax it has computed; as a constant it would be wrong in a second
    derivative, so ``backward`` computes it anew from x.
    """

    def __init__(self, reduction: str) -> None:
        self.reduction = reduction

    def forward(self, kernels: Backend, x: Array, target: Array) -> Array:
        losses, self.probabilities = kernels.cross_entropy(x, target)
        if self.reduction == "none":
            return losses
        total = kernels.sum(losses, (0,), False)
        return kernels.divide(total, len(losses)) if self.reduction == "mean" else total

    def backward(self, grad: Tensor, out: None) -> tuple[Tensor, None]:
        x, target = self.inputs
        hot = one_hot(target, x.shape[1]).to(dtype=x.dtype)
        grad = grad / x.shape[0] if self.reduction == "mean" else grad
        each = grad.unsqueeze(1) if self.reduction == "none" else grad
        return (Softmax(1)(x) - hot) * each, None

    def fused_backward(
        self, kernels: Backend, grad: Array, out: None, x: Array, target: Array
    ) -> tuple[Array, None]:
        grad = kernels.divide(grad, len(x)) if self.reduction == "mean" else grad
        each = kernels.broadcast_to(grad, target.shape)
        return kernels.cross_entropy_grad(each, self.probabilities, target), None


class BinaryCrossEntropy(PairLoss):
    """−(t·log x + (1 − t)·log(1 − x)), logarithms cut at −100.

    ∂x = (x − t)/(x·(1 − x)), the divisor at least 1e-12; ∂t = log(1 − x) − log x, cut too.
    """

    name = "binary"

    def slopes(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        log_x, log_rest = clamp(x.log(), min=-100), clamp((-x).log1p(), min=-100)
        return (x - t) / clamp((1 - x) * x, min=1e-12), log_rest - log_x


class Logistic(PairLoss):
    """(1 − t)·x − log σ(x): the binary cross-entropy of σ(x), without overflow. ∂x = σ(x) − t."""

    name = "logistic"

    def slopes(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        return sigmoid(x) - t, -x


# -- classes ---------------------------------------------------------------------------------------
def _check_classes(name: str, x: Tensor, target: Tensor, weight: Tensor | None) -> int:
    """The class dimension of x (N, K, …) or (K,); raises when target or weight do not fit it."""
    tensor_of_floats(name, x)
    if not isinstance(target, Tensor) or target.dtype.kind not in "iu":
        found = target.dtype if isinstance(target, Tensor) else type(target).__name__
        raise TypeError(f"{name}: target must be an int64 tensor of classes, received {found}")
    if weight is not None:
        same_dtype(name, x, "weight", weight)
    return _class_axis(name, x.shape, target.shape, None if weight is None else weight.shape)


@remembered
def _class_axis(name: str, x: Shape, target: Shape, weight: Shape | None) -> int:
    """The class dimension, after the checks of the shapes."""
    if not x:
        raise ValueError(f"{name}: expected input (N, K, …) or (K,), received a 0-d tensor")
    axis = 0 if len(x) == 1 else 1
    wanted = x[:axis] + x[axis + 1 :]
    if target != wanted:
        raise ValueError(
            f"{name}: target must have shape {wanted}, one class for each place "
            f"of input {x}, received {target}"
        )
    if weight is not None and weight != (x[axis],):
        raise ValueError(
            f"{name}: weight must have shape ({x[axis]},), one number a class, received {weight}"
        )
    return axis


def _check_range(name: str, target: Tensor, classes: int, ignore_index: int) -> bool:
    """Whether any target is ``ignore_index``. Raises IndexError when another is no class."""
    if not target.array.size:
        return False
    kernels, axes = target.backend, tuple(range(target.ndim))
    low = int(kernels.min(target.array, axes, False))
    high = int(kernels.max(target.array, axes, False))
    if 0 <= low and high < classes and not low <= ignore_index <= high:
        return False
    ignored = target == ignore_index
    wrong = ((target < 0) | (target >= classes)) & ~ignored
    if bool(wrong.any()):
        raise IndexError(
            f"{name}: targets must be classes 0 … {classes - 1} or ignore_index {ignore_index}, "
            f"received values from {low} to {high}"
        )
    return bool(ignored.any())


def _weights(
    x: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int
) -> tuple[Tensor, Tensor]:
    """(target with ignored places set to class 0, the weight of each place: 0 where ignored)."""
    kernels = x.backend
    target = target.long()
    ignored = target == ignore_index
    safe = where(ignored, 0, target)
    if weight is None:
        w = Tensor._wrap(kernels.astype(kernels.logical_not(ignored.array), x.dtype), kernels)
    else:
        w = where(ignored, 0.0, Take((safe.array,))(weight))
    return safe, w


def _weighted_nll(
    log_p: Tensor, axis: int, safe: Tensor, w: Tensor, ignored_from: Tensor
) -> Tensor:
    """−w · log_p[…, target, …], exactly 0 at ignored places even where log_p is −∞."""
    picked = gather(log_p, axis, safe.unsqueeze(axis)).squeeze(axis)
    return where(ignored_from, 0.0, -picked * w)


def _of_log_probabilities(
    log_p: Tensor, axis: int, target: Tensor, reduction: str, smoothing: float = 0.0
) -> Tensor:
    """−log_p[…, target, …], reduced, when all places count alike; smoothed over the classes."""
    likely = gather(log_p, axis, target.long().unsqueeze(axis)).squeeze(axis)
    if smoothing:
        share = smoothing / log_p.shape[axis]
        likely = likely * (1 - smoothing) + log_p.sum(axis) * share
    return reduced(-likely, reduction)


def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """loss[n] = −weight[target[n]] · input[n, target[n]], ``input`` being log-probabilities.

    input (N, K), (K,) or (N, K, d1, …), target (N,), () or (N, d1, …) of classes; places whose
    target is ``ignore_index`` count nothing. "mean" divides by the sum of the weights that count.
    Raises TypeError, ValueError on dtypes and shapes, IndexError on classes outside 0 … K − 1.
    """
    reduction_name("nll_loss", reduction)
    axis = _check_classes("nll_loss", input, target, weight)
    ignoring = _check_range("nll_loss", target, input.shape[axis], ignore_index)
    if weight is None and not ignoring:
        return _of_log_probabilities(input, axis, target, reduction)
    safe, w = _weights(input, target, weight, ignore_index)
    losses = _weighted_nll(input, axis, safe, w, target == ignore_index)
    if reduction == "mean":
        return losses.sum() / w.sum()
    return reduced(losses, reduction)


def cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None = None, *, ignore_index: int = -100,
    reduction: str = "mean", label_smoothing: float = 0.0,
) -> Tensor:  # fmt: skip
    """−Σ_k t[n,k] · weight[k] · log_softmax(input)[n,k], ``input`` being logits.

    input (N, K), (K,) or (N, K, d1, …). ``target``: classes (integers, shape without K), t being
    one-hot, or class probabilities (floats, input's shape). With label_smoothing ε, t becomes (1 −
    ε)·t + ε/K. Ignored places and "mean" as in ``nll_loss`` for classes; for probabilities "mean"
    divides by the number of places. Raises as ``nll_loss``, and ValueError unless 0 ≤ ε ≤ 1.
    Derivative: fused kernel (plain classes of (N, K)), and its definition for higher orders.

    >>> import tinygrad_cnn as tg
    >>> logits, target = tg.zeros(1, 4, backend="numpy"), tg.tensor([2], backend="numpy")
    >>> round(cross_entropy(logits, target).item(), 4)
    1.3863
    """
    reduction_name("cross_entropy", reduction)
    if not 0 <= label_smoothing <= 1:
        raise ValueError(
            f"cross_entropy: label_smoothing must lie in [0, 1], received {label_smoothing}"
        )
    if isinstance(target, Tensor) and target.dtype.kind == "f":
        return _cross_entropy_of_probabilities(input, target, weight, reduction, label_smoothing)
    axis = _check_classes("cross_entropy", input, target, weight)
    ignoring = _check_range("cross_entropy", target, input.shape[axis], ignore_index)
    plain = weight is None and not label_smoothing and not ignoring and bool(input.shape[axis])
    if plain and input.ndim > 2 and input.array.size:  # each place is a sample of its own
        rows = input.movedim(1, -1).reshape(target.array.size, input.shape[1])
        losses = cross_entropy(rows, target.reshape(target.array.size), reduction=reduction)
        return losses if losses.ndim == 0 else losses.reshape(target.shape)
    if plain and input.ndim == 2:
        half = input.dtype == float16  # whose sums may overflow although the mean does not
        made = CrossEntropy("none" if half else reduction)(input, target.long())
        return reduced(made, reduction) if half else made
    log_p = log_softmax(input, axis)
    if weight is None and not ignoring and bool(input.shape[axis]):
        return _of_log_probabilities(log_p, axis, target, reduction, label_smoothing)
    safe, w = _weights(input, target, weight, ignore_index)
    ignored = target == ignore_index
    losses = _weighted_nll(log_p, axis, safe, w, ignored)
    if label_smoothing:
        classes = input.shape[axis]
        spread = log_p if weight is None else log_p * _per_class(weight, input.ndim, axis)
        smooth = where(ignored, 0.0, -spread.sum(axis))
        losses = losses * (1 - label_smoothing) + smooth * (label_smoothing / classes)
    if reduction == "mean":
        return losses.sum() / w.sum()
    return reduced(losses, reduction)


def _per_class(weight: Tensor, ndim: int, axis: int) -> Tensor:
    return weight.reshape(*(1,) * axis, weight.shape[0], *(1,) * (ndim - axis - 1))


def _cross_entropy_of_probabilities(
    x: Tensor, target: Tensor, weight: Tensor | None, reduction: str, smoothing: float
) -> Tensor:
    tensor_of_floats("cross_entropy", x)
    same_dtype("cross_entropy", x, "target", target)
    if target.shape != x.shape or not x.ndim:
        raise ValueError(
            f"cross_entropy: class probabilities must have the input's shape {x.shape}, received "
            f"{target.shape}"
        )
    axis = 0 if x.ndim == 1 else 1
    classes = x.shape[axis]
    if smoothing:
        target = target * (1 - smoothing) + smoothing / classes
    log_p = log_softmax(x, axis)
    if weight is not None:
        same_dtype("cross_entropy", x, "weight", weight)
        if weight.shape != (classes,):
            raise ValueError(
                f"cross_entropy: weight must have shape ({classes},), one number a class, "
                f"received {weight.shape}"
            )
        log_p = log_p * _per_class(weight, x.ndim, axis)
    losses = -(log_p * target).sum(axis)
    if reduction == "mean" and not losses.ndim:
        return losses
    return reduced(losses, reduction)


# -- two classes -----------------------------------------------------------------------------------
def _check_binary(name: str, x: Tensor, target: Tensor) -> None:
    tensor_of_floats(name, x)
    same_dtype(name, x, "target", target)
    if target.shape != x.shape:
        raise ValueError(
            f"{name}: target must have the input's shape {x.shape}, received {target.shape}"
        )


def binary_cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None = None, *, reduction: str = "mean"
) -> Tensor:
    """−weight · (t·log x + (1 − t)·log(1 − x)) for probabilities x; logarithms are cut at −100.

    Raises ValueError for different shapes and for x outside [0, 1]; ``weight`` broadcasts.
    ``binary_cross_entropy_with_logits`` is the more exact form."""
    reduction_name("binary_cross_entropy", reduction)
    _check_binary("binary_cross_entropy", input, target)
    if input.array.size and not (0 <= float(input.array.min()) and float(input.array.max()) <= 1):
        low, high = float(input.array.min()), float(input.array.max())
        if not math.isnan(low):  # NaN goes through, as it does in every other op
            raise ValueError(
                f"binary_cross_entropy: input must be probabilities in [0, 1], "
                f"received {low:g} … {high:g}; apply sigmoid, or use "
                f"binary_cross_entropy_with_logits"
            )
    if weight is None:
        return pair_loss(BinaryCrossEntropy, reduction, input, target)
    return reduced(BinaryCrossEntropy("none")(input, target) * weight, reduction)


def binary_cross_entropy_with_logits(
    input: Tensor, target: Tensor, weight: Tensor | None = None, *, reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """−weight · (pos_weight·t·log σ(x) + (1 − t)·log(1 − σ(x))) for logits x, without overflow.

    With log(1 − σ(x)) = log σ(x) − x:  (1 − t)·x − (1 + (pos_weight − 1)·t)·log σ(x). ``weight``
    and ``pos_weight`` broadcast. Raises ValueError for different shapes of input and target."""
    name = "binary_cross_entropy_with_logits"
    reduction_name(name, reduction)
    _check_binary(name, input, target)
    if pos_weight is None and weight is None:
        return pair_loss(Logistic, reduction, input, target)
    if pos_weight is None:
        losses = Logistic("none")(input, target)
    else:
        log_s = LogSigmoid()(input) * ((pos_weight - 1) * target + 1)
        losses = (1 - target) * input - log_s
    return reduced(losses if weight is None else losses * weight, reduction)
