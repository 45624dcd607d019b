"""Metrics: numbers about outputs and targets that add up over the batches of an epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from ..nn import functional as F
from ..tensor import Tensor

Array = np.ndarray[Any, Any]


class Metric:
    """Base class: a subclass collects in ``update`` and answers in ``values``.

    ``kept`` names the attributes that ``reset`` sets and a checkpoint must hold.
    """

    kept: ClassVar[tuple[str, ...]] = ()

    def reset(self) -> None:
        """Forget all batches."""
        raise NotImplementedError(f"{type(self).__name__} must define reset()")

    def update(self, output: Tensor, target: Tensor) -> None:
        """Take a batch into account."""
        raise NotImplementedError(f"{type(self).__name__} must define update()")

    def values(self) -> dict[str, float]:
        """The numbers of all batches since ``reset``, by name; none before the first batch."""
        raise NotImplementedError(f"{type(self).__name__} must define values()")

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.kept}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        for name in self.kept:
            value = state_dict[name]
            setattr(self, name, np.array(value.numpy()) if isinstance(value, Tensor) else value)


class Accuracy(Metric):
    """Share of right answers, as "accuracy".

    Scores (N, K) are right where the largest is the target's: targets are class numbers (N,), or
    (N, K) with the class as the largest value. One score a sample, (N,) or (N, 1), is right where
    its sign is: positive for target 1.
    """

    kept = ("right", "count")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.right = self.count = 0

    def update(self, output: Tensor, target: Tensor) -> None:
        scores = output.detach()
        if scores.ndim == 2 and scores.shape[1] > 1:
            if target.shape == scores.shape:
                target = target.argmax(1)
            _check_classes("Accuracy", scores, target)
            self.right += int((scores.argmax(1) == target).sum())
        else:
            if scores.ndim not in (1, 2) or scores.numel() != target.numel():
                raise ValueError(
                    "Accuracy: expected scores (N, K) with targets (N,) or (N, K), or one score a "
                    f"sample, received {scores.shape} with {target.shape}"
                )
            self.right += int(((scores.reshape(-1) > 0) == (target.reshape(-1) > 0.5)).sum())
        self.count += len(target)

    def values(self) -> dict[str, float]:
        return {"accuracy": self.right / self.count} if self.count else {}


class TopK(Metric):
    """Share of samples whose class is among the ``k`` largest scores, as "top5_accuracy" for k=5.

    Of equal scores the one with the lower class number comes first.
    """

    kept = ("right", "count")

    def __init__(self, k: int = 5) -> None:
        if k < 1:
            raise ValueError(f"TopK: expected k of at least 1, received {k}")
        self.k = k
        self.reset()

    def reset(self) -> None:
        self.right = self.count = 0

    def update(self, output: Tensor, target: Tensor) -> None:
        _check_classes("TopK", output, target)
        if self.k > output.shape[1]:
            raise ValueError(f"TopK: expected k of at most {output.shape[1]}, received {self.k}")
        scores, labels = output.detach().numpy(), target.numpy()
        own = scores[np.arange(len(labels)), labels][:, None]
        before = np.arange(scores.shape[1]) < labels[:, None]
        rank = ((scores > own) | ((scores == own) & before)).sum(
            1
        )  # classes ahead of the right one
        self.right += int(((rank < self.k) & ~np.isnan(own[:, 0])).sum())
        self.count += len(labels)

    def values(self) -> dict[str, float]:
        return {f"top{self.k}_accuracy": self.right / self.count} if self.count else {}


class ConfusionMatrix(Metric):
    """``matrix[t, p]``: how many samples of class t were taken for class p.

    Its numbers are the means over the classes of precision and recall. ``precision()`` and
    ``recall()`` give them class by class.
    """

    kept = ("matrix",)

    def __init__(self, num_classes: int) -> None:
        if num_classes < 2:
            raise ValueError(
                f"ConfusionMatrix: expected at least 2 classes, received {num_classes}"
            )
        self.num_classes = num_classes
        self.reset()

    def reset(self) -> None:
        self.matrix: Array = np.zeros((self.num_classes, self.num_classes), np.int64)

    def update(self, output: Tensor, target: Tensor) -> None:
        _check_classes("ConfusionMatrix", output, target)
        if output.shape[1] != self.num_classes:
            raise ValueError(
                f"ConfusionMatrix: expected scores of {self.num_classes} classes, "
                f"received {output.shape}"
            )
        pairs = target.numpy() * self.num_classes + output.detach().numpy().argmax(1)
        counts = np.bincount(pairs, minlength=self.num_classes**2)
        self.matrix += counts.reshape(self.num_classes, self.num_classes)

    def precision(self) -> Array:
        """(K,): of the samples taken for class k, the share that is; NaN where there is none."""
        return self._share(self.matrix.sum(0))

    def recall(self) -> Array:
        """(K,): of the samples of class k, the share found; NaN where there is none."""
        return self._share(self.matrix.sum(1))

    def _share(self, of: Array) -> Array:
        right = np.diagonal(self.matrix).astype(np.float64)
        shares: Array = np.divide(right, of, out=np.full(len(of), np.nan), where=of > 0)
        return shares

    def values(self) -> dict[str, float]:
        found = {"precision": self.precision(), "recall": self.recall()}
        return {
            name: float(np.nanmean(share))
            for name, share in found.items()
            if not all(share != share)
        }


class LossDistribution(Metric):
    """The loss sample by sample: its mean, and the values below which given shares of them lie.

    ``loss(output, target, reduction="none")`` gives the samples' losses. Two models with the same
    mean may differ much in accuracy: a sample is right or wrong by its own loss. Named "loss_mean",
    "loss_q50" and so on; ``losses`` holds them all, in the order of the batches.
    """

    kept = ("losses",)

    def __init__(
        self,
        loss: Callable[..., Tensor] = F.cross_entropy,
        quantiles: Sequence[float] = (0.1, 0.5, 0.9, 0.99),
    ) -> None:
        if not all(0 <= q <= 1 for q in quantiles):
            raise ValueError(
                f"LossDistribution: expected quantiles from 0 to 1, received {tuple(quantiles)}"
            )
        self.loss, self.quantiles = loss, tuple(quantiles)
        self.reset()

    def reset(self) -> None:
        self.losses: Array = np.zeros(0)

    def update(self, output: Tensor, target: Tensor) -> None:
        values = self.loss(output.detach(), target, reduction="none").numpy()
        values = values.reshape(len(values), -1).mean(1).astype(np.float64)
        self.losses = np.concatenate([self.losses, values])

    def values(self) -> dict[str, float]:
        if not len(self.losses):
            return {}
        found = np.quantile(self.losses, self.quantiles)
        named = zip(self.quantiles, found, strict=True)
        return {
            "loss_mean": float(self.losses.mean()),
            **{f"loss_q{100 * q:g}": float(value) for q, value in named},
        }


def _check_classes(name: str, output: Tensor, target: Tensor) -> None:
    if output.ndim != 2 or target.shape != (len(output),):
        raise ValueError(
            f"{name}: expected scores (N, K) and class numbers (N,), "
            f"received {output.shape} and {target.shape}"
        )
