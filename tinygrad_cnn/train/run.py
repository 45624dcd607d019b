"""Run: everything a training program needs except the loop, which stays with the caller:

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

from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from .callbacks import (
    Callback,
    Checkpoint,
    MetricsLog,
    Progress,
    StopAfter,
    TimeEstimate,
    read_history,
)
from .config import Config, TrainConfig
from .loop import Loop
from .metrics import Accuracy, Metric

MAY_CHANGE = ("backend", "data", "out", "resume", "steps", "threads")  # between a run and its rest
CHECKPOINT = "checkpoint.safetensors"


def standard_callbacks(config: TrainConfig) -> list[Callback]:
    """Progress and an estimate on the screen, ``metrics.jsonl`` and ``checkpoint.safetensors`` in
    the folder ``config.out``, and an end after ``config.steps`` steps."""
    folder = Path(config.out)
    return [
        Progress(),
        TimeEstimate(),
        MetricsLog(folder / "metrics.jsonl"),
        StopAfter(config.steps),
        Checkpoint(
            folder / CHECKPOINT,
            settings=asdict(config),
            may_change=MAY_CHANGE,
            how="add --resume to the same command to continue",
        ),
    ]


def subrun(config: Config, name: str, **changes: Any) -> Config:
    """The settings of one of several trainings, in the folder ``name`` below ``config.out``.

    ``changes`` are those of its own. With ``config.resume`` it goes on if it had begun, and begins
    otherwise: the trainings after the interrupted one have nothing to resume yet.
    """
    folder = Path(config.out, name)
    begun = config.resume and (folder / CHECKPOINT).is_file()
    return replace(config, out=str(folder), resume=begun, **changes)


class Run(Loop):
    """One training run in the folder ``config.out``.

    ``metrics.jsonl`` gets a line every ten steps and one an epoch; ``checkpoint.safetensors`` holds
    all ``parts``, the random stream and the loader's position after every epoch, on Ctrl-C and
    where ``config.steps`` ends the run. A run killed at any moment and resumed gives the same bits
    as an uninterrupted one. ``callbacks`` are further ones. Raises TypeError for a part without a
    state; RequestError when there is nothing to resume, when the settings differ from the
    checkpoint's, or a part is another one.
    """

    def __init__(
        self,
        config: TrainConfig,
        *,
        loader: Any,
        metrics: Sequence[Metric] | None = None,
        callbacks: Iterable[Callback] = (),
        steps_per_epoch: int | None = None,
        **parts: Any,
    ) -> None:
        self.config, self.folder = config, Path(config.out)
        standard = standard_callbacks(config)
        self.progress = next(c for c in standard if isinstance(c, Progress))
        super().__init__(
            loader,
            parts,
            epochs=config.epochs,
            steps_per_epoch=steps_per_epoch,
            metrics=[Accuracy()] if metrics is None else metrics,
            callbacks=[*standard, *callbacks],
            resume=config.resume,
        )

    def history(self) -> list[dict[str, Any]]:
        """All lines of ``metrics.jsonl``."""
        return read_history(self.folder / "metrics.jsonl")
