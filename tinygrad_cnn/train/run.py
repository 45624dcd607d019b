"""Run: what surrounds a training loop: progress, metrics, checkpoints, and a clean stop on Ctrl-C.

The loop itself stays with the caller:

    with Run(config, model=model, optimizer=optimizer, scheduler=scheduler, loader=train) as run:
        for epoch in run.epochs():
            for x, y in run.batches():
                ...forward, backward, optimizer.step()...
                run.record(loss, logits, y)
            scheduler.step()
            run.end_epoch(test_accuracy=...)
"""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .. import io, random
from ..data import DataLoader
from ..tensor import Tensor
from .config import TrainConfig
from .progress import Progress

SAMPLE = 10  # a loss in metrics.jsonl every so many steps


class Run:
    """One training run in the folder ``config.out``.

    ``metrics.jsonl`` gets a line every ten steps and one an epoch; ``checkpoint.safetensors`` holds
    model, optimiser, scheduler, random stream and loader position after every epoch and on Ctrl-C,
    so that a resumed run gives the same bits as an uninterrupted one. Raises ValueError when there
    is nothing to resume, or the checkpoint is of another model.
    """

    def __init__(
        self, config: TrainConfig, *, model: Any, optimizer: Any, scheduler: Any, loader: DataLoader
    ) -> None:
        self.config, self.loader = config, loader
        self.parts = {
            "model": model,
            "optimizer": optimizer,
            "scheduler": scheduler,
            "loader": loader,
        }
        self.folder = Path(config.out)
        self.checkpoint = self.folder / "checkpoint.safetensors"
        self.metrics = self.folder / "metrics.jsonl"
        self.step = 0
        self.sums = [0.0, 0, 0]  # of this epoch: loss · images, right ones, images
        self.last: dict[str, Any] = {}
        self.progress = Progress()
        self._stopping = False
        self.folder.mkdir(parents=True, exist_ok=True)
        if config.resume:
            self._resume()
        else:
            self.metrics.write_text("", encoding="utf-8")

    # -- around the loops --------------------------------------------------------------------------
    def __enter__(self) -> Run:
        self._before: Any = None
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._interrupt)
        self.progress.__enter__()
        return self

    def __exit__(self, *exc: Any) -> None:
        self.progress.__exit__(*exc)
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _interrupt(self, *_: Any) -> None:
        """The first Ctrl-C ends the step under way and saves; a second one stops at once."""
        if self._stopping:
            raise KeyboardInterrupt
        self._stopping = True

    def epochs(self) -> Iterator[int]:
        """The epochs that are left, counted from 0."""
        for epoch in range(self.loader.epoch, self.config.epochs):
            if not self._finished():
                yield epoch

    def batches(self) -> Iterator[Any]:
        """The batches that are left of this epoch. Raises SystemExit(130) after a step when Ctrl-C
        was pressed.
        """
        epoch, done = self.loader.epoch, self.loader.position
        self.progress.begin(f"epoch {epoch + 1}/{self.config.epochs}", len(self.loader), done)
        self._since, self._seen = time.perf_counter(), 0
        for batch in self.loader:
            yield batch
            if self._stopping:
                self.save()
                self.progress.say(
                    f"interrupted after step {self.step}: saved {self.checkpoint}; "
                    "add --resume to the same command to continue"
                )
                raise SystemExit(130)
            if self._finished():
                return

    def _finished(self) -> bool:
        return 0 < self.config.steps <= self.step

    # -- what happened -----------------------------------------------------------------------------
    def record(self, loss: Tensor, logits: Tensor, target: Tensor) -> None:
        """Count one step: ``loss`` (mean over the batch), ``logits`` (N, K), ``target`` (N,)."""
        images, value = len(target), loss.item()
        self.step += 1
        self._seen += images
        self.sums[0] += value * images
        self.sums[1] += int((logits.detach().argmax(1) == target).sum())
        self.sums[2] += images
        if self.step % SAMPLE == 1:
            self._write({"step": self.step, "loss": value})
        self.progress.advance(
            f"loss {value:.4f}  accuracy {self.sums[1] / self.sums[2]:.4f}  "
            f"{self._rate():,.0f} images/s"
        )

    def _rate(self) -> float:
        return self._seen / max(time.perf_counter() - self._since, 1e-9)

    def end_epoch(self, **results: float) -> None:
        """Write the epoch's line, show it, and save a checkpoint."""
        total, right, images = self.sums
        self.last = {
            "step": self.step,
            "epoch": -(-self.step // len(self.loader)),
            "train_loss": total / max(images, 1),
            "train_accuracy": right / max(images, 1),
            **results,
            "images_per_second": round(self._rate(), 1),
        }
        self.sums = [0.0, 0, 0]
        self._write(self.last)
        shown = "  ".join(
            f"{k.replace('_', ' ')} {v:.4f}"
            for k, v in self.last.items()
            if isinstance(v, float) and k != "images_per_second"
        )
        self.progress.say(f"epoch {self.last['epoch']:>3}  {shown}  {self._rate():,.0f} images/s")
        self.save()

    def _write(self, line: dict[str, Any]) -> None:
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def history(self) -> list[dict[str, Any]]:
        """All lines of ``metrics.jsonl``."""
        return [json.loads(line) for line in self.metrics.read_text(encoding="utf-8").splitlines()]

    # -- checkpoints -------------------------------------------------------------------------------
    def save(self) -> None:
        """Write the checkpoint, at once or not at all."""
        state = {name: part.state_dict() for name, part in self.parts.items()}
        position = {"step": self.step, "sums": self.sums, "rng": random.get_rng_state()}
        io.save({**state, **position, "config": asdict(self.config)}, self.checkpoint)

    def _resume(self) -> None:
        if not self.checkpoint.is_file():
            raise ValueError(f"nothing to resume: {self.checkpoint} does not exist")
        state = io.load(self.checkpoint)
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        self.step, self.sums = state["step"], state["sums"]
        random.set_rng_state(state["rng"])
        kept = [line for line in self.history() if line["step"] <= self.step]
        self.last = next((line for line in reversed(kept) if "train_loss" in line), {})
        io.write_atomically(
            self.metrics, "".join(json.dumps(line) + "\n" for line in kept).encode()
        )
