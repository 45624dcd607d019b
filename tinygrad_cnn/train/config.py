"""Settings of a training run: a frozen dataclass, filled from a TOML file.

A program with settings of its own derives its class; every field becomes a key of the file and an
option of the command line: ::

    @dataclass(frozen=True)
    class GanConfig(TrainConfig):
        out: str = "runs/gan"
        k: int = setting(1, "steps of the discriminator for one of the generator", at_least=1)
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import operator
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from ..backend import backend_names, check_keys
from ..data import DATASETS
from ..models import BUILDERS


class RequestError(ValueError):
    """Something that the person who started the run can put right; its message says how."""


LIMITS: dict[str, tuple[Callable[[Any, Any], bool], str]] = {
    "at_least": (operator.ge, "of at least"),
    "above": (operator.gt, "above"),
    "at_most": (operator.le, "of at most"),
    "below": (operator.lt, "below"),
}


def setting(default: Any, about: str, **limits: float) -> Any:
    """A field of a settings class: its default, what ``--help`` says about it, and the limits of a
    number: ``at_least=``, ``above=``, ``at_most=``, ``below=``. A derived class keeps them.

    Its type is bool, int, float, str, ``tuple[int, ...]`` (or of floats or strings: an array in
    TOML, ``--name 1,2`` on the command line) or ``dict[str, Any]`` (a table; ``--name a=1,b=2``).
    Raises TypeError for an unknown limit.
    """
    if unknown := limits.keys() - LIMITS.keys():
        raise TypeError(f"setting: expected {', '.join(LIMITS)}, received {min(unknown)}")
    about_field = {"help": about, "limits": limits}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=lambda: dict(default), metadata=about_field)
    return dataclasses.field(default=default, metadata=about_field)


@dataclass(frozen=True)
class TrainConfig:
    """Every key of a config file, with its default. Paths are relative to the working folder."""

    model: str = setting("lenet5", "which model to build")
    dataset: str = setting("mnist-mini", f"one of {', '.join(DATASETS)}; mnist-mini is bundled")
    data: str = setting("", "folder with data sets; else TINYGRAD_CNN_DATA, the cache, a download")
    backend: str = setting("", "numba, numpy or another one; else TINYGRAD_CNN_BACKEND, numba")
    threads: int = setting(
        0, "threads of the kernels (default: all this process may use)", at_least=0
    )
    epochs: int = setting(12, "passes over the training images", at_least=1)
    batch_size: int = setting(64, "images a step", at_least=1)
    lr: float = setting(0.03, "first learning rate; it falls to 0 along half a cosine", above=0)
    momentum: float = setting(0.9, "momentum", at_least=0)
    weight_decay: float = setting(5e-4, "times the weights, added to their gradients", at_least=0)
    seed: int = setting(
        0, "of initial weights and order: the same seed gives the same run", at_least=0
    )
    steps: int = setting(0, "stop after so many steps (default: after all epochs)", at_least=0)
    out: str = setting("runs/lenet5", "folder for metrics, checkpoint and pictures")
    resume: bool = setting(False, "continue the run whose checkpoint is in --out")

    def __post_init__(self) -> None:
        for kind in type(self).__mro__:  # a field that is defined anew has its old limits too
            for field in getattr(kind, "__dataclass_fields__", {}).values():
                for limit, bound in field.metadata.get("limits", {}).items():
                    within, words = LIMITS[limit]
                    received = getattr(self, field.name)
                    try:
                        good = math.isfinite(received) and within(received, bound)
                    except (TypeError, OverflowError):  # no number, or beyond all floats
                        good = False
                    if not good:
                        raise RequestError(
                            f"{field.name}: expected a number {words} {bound}, "
                            f"received {received!r:.40}"
                        )
        one_of("model", self.model, BUILDERS)
        one_of("dataset", self.dataset, DATASETS)
        if self.backend:
            one_of("backend", self.backend, backend_names())


Config = TypeVar("Config", bound=TrainConfig)


def one_of(name: str, value: str, known: Iterable[str]) -> None:
    """Raise RequestError unless ``value`` is among ``known``, naming the nearest."""
    known = list(known)
    if value not in known:
        near = difflib.get_close_matches(value, known, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise RequestError(f"{name}: expected one of {', '.join(known)}, received {value!r}{hint}")


def kinds(kind: type[TrainConfig]) -> dict[str, tuple[type, type | None]]:
    """The type of every field, and for a tuple or dict that of its elements."""
    hints = get_type_hints(kind)
    found = {field.name: hints[field.name] for field in fields(kind)}
    return {
        name: (get_origin(hint), get_args(hint)[0]) if get_args(hint) else (hint, None)
        for name, hint in found.items()
    }


def load_config(
    path: str | Path,
    kind: type[Config] = TrainConfig,  # type: ignore[assignment]
    /,
    **changes: Any,
) -> Config:
    """The settings in a TOML file as a ``kind``, with ``changes`` on top.

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
    known = kinds(kind)
    try:
        check_keys(
            {k: tuple(v) if isinstance(v, list) else v for k, v in found.items()},
            {name: container for name, (container, _) in known.items()},
            str(file),
        )
        for name, (container, element) in known.items():
            if container is tuple and name in found:
                for value in found[name]:
                    check_keys({name: value}, {name: element or str}, str(file))
                found[name] = tuple(found[name])
    except ValueError as error:
        raise RequestError(str(error)) from error
    return kind(**{**found, **changes})
