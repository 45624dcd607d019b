"""Trainer: the usual training loop, written once.

    trainer = Trainer(model, optimizer, F.cross_entropy, metrics=[Accuracy()])
    trainer.fit(train, epochs=5, validation=test)

It is the loop that a program would write by hand around a ``Run``: read ``fit`` and ``step``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

from ..autograd import inference_mode
from ..nn import Module
from ..nn.utils import evaluation_mode
from ..ops import cat
from ..optim import Optimizer
from ..tensor import Tensor
from .callbacks import Callback, Schedule
from .loop import Loop
from .metrics import Metric


class Trainer:
    """Fits ``model`` with ``optimizer`` to batches (input, target) of the least ``loss``.

    ``loss(output, target)`` is a mean over the batch, such as ``F.cross_entropy``. ``scheduler`` is
    stepped after every epoch; for other rhythms give a ``Schedule`` among the ``callbacks``.
    ``metrics`` are computed in training and in validation; the objects given hold what the newest
    ``evaluate`` collected, such as a confusion matrix. Models with other batches or losses override
    ``forward``, other ways to make a step ``step``.

    Raises TypeError for a model or optimiser that is none.
    """

    def __init__(
        self, model: Module, optimizer: Optimizer, loss: Callable[[Any, Any], Tensor], *,
        scheduler: Any = None, callbacks: Iterable[Callback] = (), metrics: Sequence[Metric] = (),
    ) -> None:  # fmt: skip
        if not isinstance(model, Module) or not isinstance(optimizer, Optimizer):
            received = f"{type(model).__name__} and {type(optimizer).__name__}"
            raise TypeError(f"Trainer: expected a Module and an Optimizer, received {received}")
        self.model, self.optimizer, self.loss, self.metrics = model, optimizer, loss, metrics
        self.callbacks = [*([] if scheduler is None else [Schedule(scheduler)]), *callbacks]

    def forward(self, batch: Any) -> tuple[Tensor, Any, Any]:
        """(loss, output, target) of a batch."""
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            raise TypeError(
                "Trainer: expected batches (input, target), "
                f"received {_description(batch)}; override Trainer.forward for others"
            )
        output = self.model(batch[0])
        return self.loss(output, batch[1]), output, batch[1]

    def step(self, batch: Any) -> tuple[Tensor, Any, Any]:
        """Learn from a batch; returns what ``forward`` did."""
        loss, output, target = self.forward(batch)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss, output, target

    def fit(
        self,
        train: Iterable[Any],
        *,
        epochs: int = 1,
        validation: Iterable[Any] | Mapping[str, Iterable[Any]] | None = None,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        resume: bool = False,
    ) -> list[dict[str, Any]]:
        """Train; returns a dict of numbers an epoch: "train_loss", "val_loss", ….

        ``train`` may be any iterable of batches, also an endless generator: each epoch takes
        exactly ``steps_per_epoch`` of them (default: its length), each validation
        ``validation_steps``. ``validation`` is one loader, or several by name, whose numbers then
        carry that name instead of "val". ``resume`` goes on from the file of the ``Checkpoint``
        among the callbacks, to the same bits as without the interruption.

        Raises SystemExit(130) after Ctrl-C; RequestError when there is nothing to resume.
        """
        sets = validation if isinstance(validation, Mapping) else {"val": validation}
        with Loop(
            train, {"model": self.model, "optimizer": self.optimizer}, epochs=epochs,
            steps_per_epoch=steps_per_epoch, metrics=_fresh(self.metrics),
            callbacks=self.callbacks, resume=resume,
        ) as loop:  # fmt: skip
            for _ in loop.epochs():
                self.model.train()
                for batch in loop.batches():
                    loss, output, target = self.step(batch)
                    loop.record(loss, output, target)
                found = {
                    f"{name}_{key}": value
                    for name, loader in sets.items()
                    if loader is not None
                    for key, value in self.evaluate(loader, validation_steps).items()
                }
                loop.end_epoch(**found)
        return loop.results

    def evaluate(self, loader: Iterable[Any], steps: int | None = None) -> dict[str, float]:
        """The loss (mean over the samples) and the metrics on the batches of ``loader``.

        Those are all of them, or exactly the next ``steps``: ValueError where there are fewer. In
        evaluation mode, without gradients.
        """
        total, samples = 0.0, 0
        for metric in self.metrics:
            metric.reset()
        with evaluating(self.model):
            for batch in _exactly(loader, steps):
                loss, output, target = self.forward(batch)
                total += loss.item() * len(target)
                samples += len(target)
                for metric in self.metrics:
                    metric.update(output, target)
        metrics = {k: v for metric in self.metrics for k, v in metric.values().items()}
        return {"loss": total / samples, **metrics}

    def predict(self, loader: Iterable[Any], steps: int | None = None) -> Tensor:
        """The model's outputs for all inputs of ``loader``, whose batches are inputs or pairs."""
        return outputs(self.model, loader, steps)


def outputs(model: Module, loader: Iterable[Any], steps: int | None = None) -> Tensor:
    """The outputs of ``model`` for all inputs of ``loader``, in evaluation mode, one after the
    other. A batch is an input, or a tuple that begins with one."""
    with evaluating(model):
        return cat(
            [
                model(batch[0] if isinstance(batch, tuple | list) else batch)
                for batch in _exactly(loader, steps)
            ]
        )


@contextmanager
def evaluating(model: Module) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards every module is in the mode it was in."""
    with evaluation_mode(model), inference_mode():
        yield


def _exactly(loader: Iterable[Any], steps: int | None) -> Iterator[Any]:
    """All batches, or exactly the next ``steps``, not one more being asked for."""
    if steps is not None and steps < 1:
        raise ValueError(f"expected at least 1 step, received {steps}")
    count = 0
    for batch in islice(iter(loader), steps):
        count += 1
        yield batch
    if count < (steps or 1):
        raise ValueError(f"expected {steps or 'some'} batches, the data ended after {count}")


def _fresh(metrics: Sequence[Metric]) -> list[Metric]:
    copies = [copy.deepcopy(metric) for metric in metrics]
    for metric in copies:
        metric.reset()
    return copies


def _description(batch: Any) -> str:
    kind = type(batch).__name__
    return f"a {kind} of {len(batch)}" if isinstance(batch, tuple | list | dict) else f"a {kind}"
