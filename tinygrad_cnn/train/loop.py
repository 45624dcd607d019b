"""Loop: what surrounds a training loop: counting, callbacks, saved state, a clean stop on Ctrl-C.

The loop itself is written by others: by hand around a ``Run``, or once and for all in ``Trainer``.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any, Self

from .. import random
from ..backend import get_backend
from ..tensor import Tensor
from ..threads import get_num_threads
from .callbacks.base import Callback
from .config import RequestError
from .metrics import Metric

OWN = ("step", "steps_per_epoch", "sums", "metrics", "results", "callbacks", "rng", "config")


class Loop:
    """A training of ``epochs`` epochs with ``steps_per_epoch`` batches of ``loader`` each.

    ``parts`` are what has a state (``state_dict`` and ``load_state_dict``), by name: models,
    optimisers, schedulers. Batches come from ``loader`` (a DataLoader, a list, a generator …) as
    from an endless stream: where it ends, it begins again. Without ``steps_per_epoch`` an epoch is
    its length. ``resume`` asks the callbacks for the state of an interrupted training; what has no
    ``load_state_dict`` among loaders is then read and dropped up to the batch it had reached.
    """

    def __init__(
        self, loader: Iterable[Any], parts: Mapping[str, Any], *, epochs: int,
        steps_per_epoch: int | None = None, metrics: Sequence[Metric] = (),
        callbacks: Iterable[Callback] = (), resume: bool = False,
    ) -> None:  # fmt: skip
        self.loader, self.parts = loader, dict(parts)
        if hasattr(loader, "load_state_dict"):
            self.parts["loader"] = loader
        for name, part in self.parts.items():
            if name in OWN or not hasattr(part, "load_state_dict"):
                raise TypeError(
                    f"{name}: expected something with state_dict() and load_state_dict(), "
                    f"under another name than {', '.join(OWN)}; received {type(part).__name__}"
                )
        self.total_epochs = epochs
        self.steps_per_epoch = _epoch_length(loader, epochs, steps_per_epoch)
        self.metrics, self.callbacks = list(metrics), sorted(callbacks, key=lambda c: c.last)
        self.step = 0  # batches given out
        self.sums: dict[str, list[float]] = {}  # of this epoch: name -> [sum, images]
        self.values: dict[str, float] = {}  # of this step
        self.results: list[dict[str, Any]] = []  # of the finished epochs
        self.last: dict[str, Any] = {}  # of the newest epoch, even if it was cut short
        self.resumed = self.stopping = self.interrupted = False
        self.error: type[BaseException] | None = None  # what ended the loop before its time
        self.compiling = 0.0  # seconds that compiling kernels has taken
        self._seen, self._since = 0, 0.0  # images of this epoch, and since when
        self._stream = self._endless()
        if resume:
            self._fire("on_resume")
            if not self.resumed:
                raise RequestError("resume: expected a Checkpoint among the callbacks")

    @property
    def epoch(self) -> int:
        """Finished epochs."""
        return self.step // self.steps_per_epoch

    def _fire(self, moment: str, *arguments: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, moment)(self, *arguments)

    def log(self, **numbers: Any) -> None:
        """Write numbers of this step to every log."""
        self._fire("on_log", {"step": self.step, **numbers})

    def say(self, line: str) -> None:
        """Show a line to the person who watches."""
        self._fire("on_message", line)

    def stop(self) -> None:
        """End the training after this step."""
        self.stopping = True

    # -- around the loops --------------------------------------------------------------------------
    def __enter__(self) -> Self:
        self._before: Any = None
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._interrupt)
        self._stop_listening = get_backend().on_compile(self._compiled)
        try:
            self._fire("on_begin")
        except BaseException as error:
            self.__exit__(type(error))
            raise
        self.say(self._introduction())
        return self

    def _introduction(self) -> str:
        folders = dict.fromkeys(str(c.path.parent) for c in self.callbacks if hasattr(c, "path"))
        return (
            f"{get_backend().name} with {_counted(get_num_threads(), 'thread')}: "
            f"{_length(self.total_epochs, self.steps_per_epoch)}"
            + (f", writing {', '.join(folders)}" if folders else "")
            + (f", resuming after step {self.step}" if self.step else "")
        )

    def __exit__(self, kind: Any, *_: Any) -> None:
        self.error = kind
        try:
            self._stream.close()
            self._fire("on_end")
        finally:
            self._stop_listening()
            if self._before is not None:
                signal.signal(signal.SIGINT, self._before)

    def _interrupt(self, *_: Any) -> None:
        """The first Ctrl-C ends the step under way; a second one stops at once."""
        if self.interrupted:
            raise KeyboardInterrupt
        self.interrupted = self.stopping = True
        # os.write, because a signal may come in the middle of a print
        os.write(2, b"\nstopping after this step; Ctrl-C again stops at once\n")

    def _compiled(self, kernel: str, seconds: float | None) -> None:
        if not self.compiling and seconds is None:
            self.say("compiling kernels for this processor (first run only; they are kept) …")
        self.compiling += seconds or 1e-9

    def epochs(self) -> Iterator[int]:
        """The epochs that are left, counted from 0. Raises SystemExit(130) after Ctrl-C."""
        for epoch in range(self.epoch, self.total_epochs):
            if self.interrupted:
                self._pause()
            if self.stopping:
                return
            yield epoch

    def batches(self) -> Iterator[Any]:
        """The batches that are left of this epoch. Raises SystemExit(130) after the step in which
        Ctrl-C was pressed.
        """
        self._since, self._seen = time.perf_counter() - self.compiling, 0
        self._fire("on_epoch_begin")
        for done in range(self.step % self.steps_per_epoch + 1, self.steps_per_epoch + 1):
            batch = next(self._stream)
            self.step, self.values = self.step + 1, {}
            yield batch
            self._fire("on_step")
            if self.stopping and done < self.steps_per_epoch:  # else end_epoch sees to it
                self._pause()
                return

    def _pause(self) -> None:
        self._fire("on_pause")
        if self.interrupted:
            raise SystemExit(130)

    def _endless(self) -> Generator[Any, None, None]:
        passes_without = 0
        while passes_without < 2:  # a loader that resumes at its end has nothing left at first
            passes_without += 1
            for batch in self.loader:
                passes_without = 0
                yield batch
        raise ValueError(
            f"the training data ended after batch {self.step}, "
            f"expected {self.total_epochs * self.steps_per_epoch}: "
            f"{_length(self.total_epochs, self.steps_per_epoch)}"
        )

    # -- what happened -----------------------------------------------------------------------------
    def record(
        self, loss: Tensor | float | None = None, output: Tensor | None = None,
        target: Tensor | None = None, *, images: int | None = None, **values: Tensor | float,
    ) -> None:  # fmt: skip
        """Note the numbers of this step, of ``images`` images (default: those of ``target``).

        ``loss`` and all ``values`` are means over the batch; ``output`` and ``target`` are for the
        metrics, by default the accuracy of class scores (N, K) with classes (N,).
        """
        if images is None:
            if target is None:
                raise TypeError("record: expected the target or images=, received neither")
            images = len(target)
        given = values if loss is None else {"loss": loss, **values}
        self.values = {k: v.item() if isinstance(v, Tensor) else float(v) for k, v in given.items()}
        self._seen += images
        for name, value in self.values.items():
            sums = self.sums.setdefault(name, [0.0, 0])
            sums[0] += value * images
            sums[1] += images
        if output is not None and target is not None:
            for metric in self.metrics:
                metric.update(output, target)

    def facts(self) -> dict[str, float]:
        """The numbers of this step, and the metrics of the epoch so far."""
        return {**self.values, **_values(self.metrics)}

    def elapsed(self) -> float:
        """Seconds of this epoch's steps, without the time that compiling kernels took."""
        return max(time.perf_counter() - self.compiling - self._since, 1e-9)

    def rate(self) -> float:
        """Images a second in this epoch."""
        return self._seen / self.elapsed()

    def end_epoch(self, **results: Any) -> None:
        """Finish the epoch with further ``results`` (numbers): log, show and save it."""
        rate = self.rate()
        means = {name: total / max(images, 1) for name, (total, images) in self.sums.items()}
        self.last = {
            "step": self.step,
            "epoch": -(-self.step // self.steps_per_epoch),
            **{f"train_{k}": v for k, v in {**means, **_values(self.metrics)}.items()},
            **{k: v.item() if hasattr(v, "item") else v for k, v in results.items()},
            "images_per_second": round(rate, 1),
        }
        self.log(**self.last)
        shown = "  ".join(
            f"{k.replace('_', ' ')} {v:.4f}"
            for k, v in self.last.items()
            if isinstance(v, float) and k != "images_per_second"
        )
        self.say(f"epoch {self.last['epoch']:>3}  {shown}  {rate:,.0f} images/s")
        if self.step % self.steps_per_epoch == 0:  # else it was cut short, and saved then
            self.results.append(self.last)
            self.sums = {}
            for metric in self.metrics:
                metric.reset()
            self._fire("on_epoch_end")

    # -- saved state -------------------------------------------------------------------------------
    def state_dict(self) -> dict[str, Any]:
        """Everything that the rest of the training depends on."""
        return {
            **{name: part.state_dict() for name, part in self.parts.items()},
            "callbacks": {name: c.state_dict() for name, c in self._named_callbacks().items()},
            "metrics": [metric.state_dict() for metric in self.metrics],
            "step": self.step,
            "steps_per_epoch": self.steps_per_epoch,
            "sums": self.sums,
            "results": self.results,
            "rng": random.get_rng_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any], where: str = "the state") -> None:
        """Go on where ``state`` was taken. Raises RequestError, naming ``where``, when it is not of
        this training.
        """
        if not {*OWN} - {"config"} <= state.keys():
            raise RequestError(f"{where} is not the checkpoint of a training run")
        absent = [name for name in self.parts if name not in state]
        if absent:
            raise RequestError(f"{where} is of another training: it has no {', '.join(absent)}")
        if state["steps_per_epoch"] != self.steps_per_epoch:
            raise RequestError(
                f"{where}: expected {_counted(self.steps_per_epoch, 'step')} an epoch, "
                f"received {state['steps_per_epoch']}"
            )
        loadable = [(name, part, state[name]) for name, part in self.parts.items()]
        loadable += [
            (name, callback, state["callbacks"][name])
            for name, callback in self._named_callbacks().items()
            if name in state["callbacks"]
        ]
        loadable += [
            (type(m).__name__, m, s) for m, s in zip(self.metrics, state["metrics"], strict=False)
        ]
        for name, part, saved in loadable:
            try:
                part.load_state_dict(saved)
            except (RuntimeError, ValueError, KeyError) as error:
                raise RequestError(f"{where} is of another {name}: {error}") from error
        if "loader" not in self.parts:
            for _ in range(state["step"]):
                next(self._stream)
        self.step, self.sums, self.results = state["step"], state["sums"], state["results"]
        self.last = self.results[-1] if self.results else {}
        self.resumed = True
        random.set_rng_state(state["rng"])

    def _named_callbacks(self) -> dict[str, Callback]:
        """The callbacks by the name of their class, further ones of a class numbered."""
        seen: Counter[str] = Counter()
        named = {}
        for callback in self.callbacks:
            name = type(callback).__name__
            seen[name] += 1
            named[name if seen[name] == 1 else f"{name} {seen[name]}"] = callback
        return named


def _values(metrics: Iterable[Metric]) -> dict[str, float]:
    return {name: value for metric in metrics for name, value in metric.values().items()}


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _length(epochs: int, steps: int) -> str:
    return f"{_counted(epochs, 'epoch')} of {_counted(steps, 'step')}"


def _epoch_length(loader: Any, epochs: int, steps: int | None) -> int:
    if not (hasattr(loader, "__iter__") or hasattr(loader, "__getitem__")):
        raise TypeError(f"expected a loader of batches, received {type(loader).__name__}")
    if steps is None and not hasattr(loader, "__len__"):
        raise ValueError(
            f"a {type(loader).__name__} has no length: say with steps_per_epoch how many of its "
            "batches are an epoch"
        )
    found = len(loader) if steps is None else steps
    if found < 1 or epochs < 1:
        hint = "; is a batch larger than the training set?" if found < 1 else ""
        raise RequestError(
            "expected at least one epoch of at least one step, received "
            f"{_length(epochs, found)}{hint}"
        )
    return found
