"""Settings of a training run: from a TOML file, changed by command line options."""

from __future__ import annotations

import argparse
import difflib
import math
import sys
import tomllib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, get_type_hints

from ..backend import backend_names, check_keys
from ..data import DATASETS
from ..models import BUILDERS


class RequestError(ValueError):
    """Something that the person who started the run can put right; its message says how."""


@dataclass(frozen=True)
class TrainConfig:
    """Every key of a config file, with its default. Paths are relative to the working folder."""

    model: str = "lenet5"  # a builder in tinygrad_cnn.models
    dataset: str = "mnist-mini"  # mnist-mini, mnist or fashion-mnist
    data: str = ""  # folder of data sets; "" searches TINYGRAD_CNN_DATA, the settings and the cache
    backend: str = ""  # "" is the current backend
    threads: int = 0  # 0 keeps the number of threads
    epochs: int = 12
    batch_size: int = 64
    lr: float = 0.03
    momentum: float = 0.9
    weight_decay: float = 5e-4
    seed: int = 0
    steps: int = 0  # stop after so many steps; 0 runs all epochs
    out: str = "runs/lenet5"  # metrics, checkpoint and pictures go here
    resume: bool = False  # continue from the checkpoint in ``out``

    def __post_init__(self) -> None:
        for name, least in (
            ("epochs", 1), ("batch_size", 1), ("threads", 0), ("steps", 0), ("seed", 0),
            ("momentum", 0), ("weight_decay", 0),
        ):  # fmt: skip
            if not least <= getattr(self, name) < math.inf:
                received = getattr(self, name)
                raise RequestError(
                    f"{name}: expected a number of at least {least}, received {received}"
                )
        if not 0 < self.lr < math.inf:
            raise RequestError(f"lr: expected a positive number, received {self.lr}")
        _one_of("model", self.model, BUILDERS)
        _one_of("dataset", self.dataset, DATASETS)
        if self.backend:
            _one_of("backend", self.backend, backend_names())


def _one_of(name: str, value: str, known: Iterable[str]) -> None:
    known = list(known)
    if value not in known:
        near = difflib.get_close_matches(value, known, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise RequestError(f"{name}: expected one of {', '.join(known)}, received {value!r}{hint}")


def load_config(path: str | Path, **changes: Any) -> TrainConfig:
    """The settings in a TOML file, with ``changes`` on top.

    Raises FileNotFoundError, and RequestError for malformed TOML, an unknown key (naming the
    nearest known one), a value of the wrong type or out of range.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"config file {file} does not exist")
    try:
        found = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RequestError(f"{file}: not valid TOML: {error}") from error
    try:
        check_keys(found, get_type_hints(TrainConfig), str(file))
    except ValueError as error:
        raise RequestError(str(error)) from error
    return TrainConfig(**{**found, **changes})


HELP = {
    "model": "which model to build",
    "dataset": "mnist-mini (bundled), mnist or fashion-mnist",
    "data": "folder with data sets; else TINYGRAD_CNN_DATA, the cache, a download",
    "backend": "numba, numpy or another one; else TINYGRAD_CNN_BACKEND, numba",
    "threads": "threads of the kernels (default: all this process may use)",
    "epochs": "passes over the training images",
    "batch_size": "images a step",
    "lr": "first learning rate; it falls to 0 along half a cosine",
    "weight_decay": "times the weights, added to their gradients",
    "seed": "of initial weights and order: the same seed gives the same run",
    "steps": "stop after so many steps (default: after all epochs)",
    "out": "folder for metrics, checkpoint and pictures",
    "resume": "continue the run whose checkpoint is in --out",
}


def add_options(parser: argparse.ArgumentParser, skip: Sequence[str] = ()) -> None:
    """One option a setting: ``--batch-size`` for batch_size. Options that are not given stay out of
    the result, so that they do not hide what a config file says."""
    for field in fields(TrainConfig):
        if field.name in skip:
            continue
        option = "--" + field.name.replace("_", "-")
        shown = HELP.get(field.name, field.name.replace("_", " "))
        if isinstance(field.default, bool):
            parser.add_argument(option, action="store_true", default=argparse.SUPPRESS, help=shown)
        else:
            empty = field.default in ("", 0) and field.name != "seed"
            default = "" if empty else f" (default: {field.default})"
            kind = type(field.default)
            letter = {str: "NAME", int: "N", float: "X"}[kind]
            parser.add_argument(
                option, type=kind, default=argparse.SUPPRESS, metavar=letter, help=shown + default
            )


def options(
    description: str | None, argv: Sequence[str] | None = None, **defaults: Any
) -> TrainConfig:
    """The settings of a demo: its ``defaults``, then ``--config FILE``, then the other options."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", metavar="TOML", help="read settings from this file first")
    add_options(parser, skip=("model",))
    given = vars(parser.parse_args(argv))
    file = given.pop("config")
    try:
        base = load_config(file) if file else TrainConfig(**defaults)
        return TrainConfig(**{**asdict(base), **given})
    except (RequestError, OSError) as error:
        parser.error(str(error))


def script(main: Callable[[TrainConfig], float], description: str | None, **defaults: Any) -> None:
    """Run ``main(config)`` with the options of the command line; print the accuracy it returns.

    What the user can put right (a file that is missing, nothing to resume, a backend that cannot
    run) ends in one message and status 2, Ctrl-C in status 130, an error in the code in its
    traceback.
    """
    try:
        print(f"test accuracy: {main(options(description, **defaults)):.4f}")
    except (RequestError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    except KeyboardInterrupt:
        raise SystemExit(130) from None
