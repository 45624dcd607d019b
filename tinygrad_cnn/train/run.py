"""Run: what surrounds a training loop: progress, metrics, checkpoints, and a clean stop on Ctrl-C.

The loop itself stays with the caller:

    with Run(config, loader=train, model=model, optimizer=optimizer, scheduler=scheduler) as run:
        for epoch in run.epochs():
            for x, y in run.batches():
                ...forward, backward, optimizer.step()...
                run.record(loss, logits, y)
            scheduler.step()
            run.end_epoch(test_accuracy=...)

What has a state (``state_dict`` and ``load_state_dict``) is given by any name and saved and resumed
with the rest: ``Run(config, loader=noise, generator=g, discriminator=d, g_optimizer=…)``, and any
numbers are recorded by name: ``run.record(images=len(x), d_loss=d_loss, g_loss=g_loss)``.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from .. import io, random
from ..backend import get_backend
from ..data import DataLoader
from ..tensor import Tensor
from ..threads import get_num_threads
from .config import RequestError, TrainConfig
from .progress import Progress

SAMPLE = 10  # a loss in metrics.jsonl every so many steps
OWN = ("step", "sums", "rng", "config")  # what a checkpoint holds besides the parts
MAY_CHANGE = ("backend", "data", "out", "resume", "steps", "threads")  # between a run and its rest


class Run:
    """One training run in the folder ``config.out``.

    ``metrics.jsonl`` gets a line every ten steps and one an epoch; ``checkpoint.safetensors`` holds
    all ``parts``, the random stream and the loader's position after every epoch, on Ctrl-C and
    where ``config.steps`` ends the run. A run killed at any moment and resumed gives the same bits
    as an uninterrupted one. Raises TypeError for a part without a state; RequestError when there is
    nothing to resume, when the settings differ from the checkpoint's, or a part is another one.
    """

    def __init__(self, config: TrainConfig, *, loader: DataLoader, **parts: Any) -> None:
        self.config, self.loader = config, loader
        self.parts = {**parts, "loader": loader}
        for name, part in self.parts.items():
            if name in OWN or not hasattr(part, "load_state_dict"):
                raise TypeError(
                    f"Run: {name}: expected something with state_dict() and load_state_dict(), "
                    f"under another name than {', '.join(OWN)}; received {type(part).__name__}"
                )
        self.folder = Path(config.out)
        self.checkpoint = self.folder / "checkpoint.safetensors"
        self.metrics = self.folder / "metrics.jsonl"
        self.step = 0
        self.sums: dict[str, list[float]] = {}  # of this epoch: name -> [sum, images]
        self.last: dict[str, Any] = {}
        self.progress = Progress()
        self._stopping = False
        self._saved_at = 0
        if config.resume:
            self._resume()
        else:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.checkpoint.unlink(missing_ok=True)  # of an earlier run: not ours to resume
            self.metrics.write_text("", encoding="utf-8")

    # -- around the loops --------------------------------------------------------------------------
    def __enter__(self) -> Run:
        self._before: Any = None
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._interrupt)
        self.progress.__enter__()
        done = f", resuming after step {self.step}" if self.step else ""
        threads = get_num_threads()
        self.progress.say(
            f"{get_backend().name} with {threads} thread{'s' if threads > 1 else ''}: "
            f"{self.config.epochs} epochs "
            f"of {len(self.loader)} steps, writing {self.folder}{done}"
        )
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        self.progress.__exit__()
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
        if kind is KeyboardInterrupt:
            kept = f"{self.checkpoint} is of step {self._saved_at}" if self._saved_at else "none"
            self.progress.say(f"stopped at once at step {self.step}; last checkpoint: {kept}")

    def _interrupt(self, *_: Any) -> None:
        """The first Ctrl-C ends the step under way and saves; a second one stops at once."""
        if self._stopping:
            raise KeyboardInterrupt
        self._stopping = True
        # os.write, because a signal may come in the middle of a print
        os.write(2, b"\nsaving after this step; Ctrl-C again stops at once\n")

    def epochs(self) -> Iterator[int]:
        """The epochs that are left, counted from 0. Raises SystemExit(130) after Ctrl-C."""
        for epoch in range(self.loader.epoch, self.config.epochs):
            if self._stopping:
                self._stop()
            if not self._finished():
                yield epoch

    def batches(self) -> Iterator[Any]:
        """The batches that are left of this epoch. Raises SystemExit(130) after the step in which
        Ctrl-C was pressed.
        """
        epoch, done, total = self.loader.epoch, self.loader.position, len(self.loader)
        self.progress.begin(f"epoch {epoch + 1}/{self.config.epochs}", total, done)
        self._since, self._seen = time.perf_counter() - self.progress.compiling, 0
        for batch in self.loader:
            yield batch
            if self.loader.position == total:
                continue  # the epoch is complete: end_epoch saves it
            if self._stopping:
                self.save()
                self._stop()
            if self._finished():
                self.save()  # before the caller's scheduler.step(), which belongs to a whole epoch
                return

    def _finished(self) -> bool:
        return 0 < self.config.steps <= self.step

    def _stop(self) -> NoReturn:
        self.progress.say(
            f"interrupted after step {self.step}: saved {self.checkpoint}; "
            "add --resume to the same command to continue"
        )
        raise SystemExit(130)

    # -- what happened -----------------------------------------------------------------------------
    def record(
        self,
        loss: Tensor | float | None = None,
        logits: Tensor | None = None,
        target: Tensor | None = None,
        *,
        images: int | None = None,
        **metrics: Tensor | float,
    ) -> None:
        """Count one step of ``images`` images (default: those of ``target``) and its numbers.

        ``loss`` and every one of ``metrics`` are means over the batch; ``logits`` (N, K) and
        ``target`` (N,) add the accuracy. Lines of ``metrics.jsonl`` hold them by name.
        """
        if images is None:
            if target is None:
                raise TypeError("record: expected the target or images=, received neither")
            images = len(target)
        given = metrics if loss is None else {"loss": loss, **metrics}
        values = {k: v.item() if isinstance(v, Tensor) else float(v) for k, v in given.items()}
        self.step += 1
        self._seen += images
        for name, value in values.items():
            self._add(name, value * images, images)
        if logits is not None and target is not None:
            self._add("accuracy", int((logits.detach().argmax(1) == target).sum()), images)
        if self.step % SAMPLE == 1:
            self._write({"step": self.step, **values})
        shown = {**self._means(), **values}  # what varies from image to image: the mean so far
        facts = [f"{k.replace('_', ' ')} {v:.4f}" for k, v in shown.items()]
        self.progress.advance("  ".join([*facts, f"{self._rate():,.0f} images/s"]))

    def _add(self, name: str, total: float, images: int) -> None:
        sums = self.sums.setdefault(name, [0, 0])
        sums[0] += total
        sums[1] += images

    def _means(self) -> dict[str, float]:
        return {name: total / max(images, 1) for name, (total, images) in self.sums.items()}

    def _rate(self) -> float:
        """Images a second in this epoch, without the time that compiling kernels took."""
        took = time.perf_counter() - self.progress.compiling - self._since
        return self._seen / max(took, 1e-9)

    def end_epoch(self, **results: float) -> None:
        """Write the epoch's line and show it; save a checkpoint if the epoch is complete."""
        self.last = {
            "step": self.step,
            "epoch": -(-self.step // len(self.loader)),
            **{f"train_{name}": mean for name, mean in self._means().items()},
            **results,
            "images_per_second": round(self._rate(), 1),
        }
        self._write(self.last)
        shown = "  ".join(
            f"{k.replace('_', ' ')} {v:.4f}"
            for k, v in self.last.items()
            if isinstance(v, float) and k != "images_per_second"
        )
        self.progress.say(f"epoch {self.last['epoch']:>3}  {shown}  {self._rate():,.0f} images/s")
        if self.loader.position == 0:  # else --steps ended it in the middle: batches() has saved
            self.sums = {}
            self.save()

    def _write(self, line: dict[str, Any]) -> None:
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def history(self) -> list[dict[str, Any]]:
        """All lines of ``metrics.jsonl``; a last one that was cut off by a crash is left out."""
        lines = self.metrics.read_text(encoding="utf-8").splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    # -- checkpoints -------------------------------------------------------------------------------
    def save(self) -> None:
        """Write the checkpoint, at once or not at all."""
        state = {name: part.state_dict() for name, part in self.parts.items()}
        position = {"step": self.step, "sums": self.sums, "rng": random.get_rng_state()}
        io.save({**state, **position, "config": asdict(self.config)}, self.checkpoint)
        self._saved_at = self.step

    def _resume(self) -> None:
        if not self.checkpoint.is_file():
            raise RequestError(
                f"nothing to resume: {self.checkpoint} does not exist; "
                "start the run without --resume, or name its folder with --out"
            )
        state = io.load(self.checkpoint)
        if not isinstance(state, dict) or not {*self.parts, *OWN} <= state.keys():
            raise RequestError(f"{self.checkpoint} is not the checkpoint of a training run")
        self._check_settings(state["config"])
        for name, part in self.parts.items():
            try:
                part.load_state_dict(state[name])
            except (RuntimeError, ValueError) as error:
                raise RequestError(f"{self.checkpoint} is of another {name}: {error}") from error
        self.step, self.sums = state["step"], state["sums"]
        self._saved_at = self.step
        random.set_rng_state(state["rng"])
        # after the checkpoint the killed run may have written more, which is about to be repeated;
        # a line of an epoch that --steps cut short makes way for the whole one
        kept = [
            line
            for line in (self.history() if self.metrics.is_file() else [])
            if line["step"] <= self.step
            and ("epoch" not in line or line["step"] % len(self.loader) == 0)
        ]
        self.last = next((line for line in reversed(kept) if "epoch" in line), {})
        io.write_atomically(
            self.metrics, "".join(json.dumps(line) + "\n" for line in kept).encode()
        )

    def _check_settings(self, saved: dict[str, Any]) -> None:
        """A resumed run must be the run that was interrupted: also its number of epochs, which the
        learning rate's schedule was planned for."""
        for name, value in asdict(self.config).items():
            if name not in MAY_CHANGE and saved.get(name, value) != value:
                option = "--" + name.replace("_", "-")
                why = ", which its learning rates are planned for" if name == "epochs" else ""
                raise RequestError(
                    f"resume: expected {name} = {saved[name]!r} as in {self.checkpoint}{why}, "
                    f"received {value!r}; give {option} {saved[name]}, "
                    "or start a new run in another folder with --out"
                )
