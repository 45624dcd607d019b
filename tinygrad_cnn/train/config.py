"""Settings of a training run: from a TOML file, changed by command line options."""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, get_type_hints

from ..backend import check_keys


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
        for name, least in (("epochs", 1), ("batch_size", 1), ("threads", 0), ("steps", 0)):
            if getattr(self, name) < least:
                raise ValueError(
                    f"{name}: expected at least {least}, received {getattr(self, name)}"
                )
        if not self.lr > 0:
            raise ValueError(f"lr: expected a positive number, received {self.lr}")


def load_config(path: str | Path, **changes: Any) -> TrainConfig:
    """The settings in a TOML file, with ``changes`` on top.

    Raises FileNotFoundError, and ValueError for malformed TOML, an unknown key (naming the nearest
    known one) or a value of the wrong type.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"config file {file} does not exist")
    try:
        found = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: not valid TOML: {error}") from error
    check_keys(found, get_type_hints(TrainConfig), str(file))
    return TrainConfig(**{**found, **changes})


HELP = {
    "model": "name of a model builder",
    "dataset": "mnist-mini (bundled), mnist or fashion-mnist",
    "data": "folder with data sets",
    "backend": "numba, numpy, …",
    "threads": "threads of the kernels",
    "steps": "stop after so many steps",
    "out": "folder for metrics, checkpoint and pictures",
    "resume": "continue from the checkpoint in --out",
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
            default = f" (default: {field.default})" if field.default not in ("", 0) else ""
            kind = type(field.default)
            parser.add_argument(
                option,
                type=kind,
                default=argparse.SUPPRESS,
                metavar=kind.__name__,
                help=shown + default,
            )


def options(
    description: str | None, argv: Sequence[str] | None = None, **defaults: Any
) -> TrainConfig:
    """The settings of a demo: its ``defaults``, then ``--config FILE``, then the other options."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--config", metavar="TOML", help="read settings from this file first")
    add_options(parser, skip=("model",))
    given = vars(parser.parse_args(argv))
    file = given.pop("config")
    try:
        base = load_config(file) if file else TrainConfig(**defaults)
        return TrainConfig(**{**asdict(base), **given})
    except (ValueError, OSError) as error:
        parser.error(str(error))
