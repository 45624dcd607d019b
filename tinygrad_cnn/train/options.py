"""Settings from the command line, and what every demo's last line does with them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields, replace
from typing import Any

from .config import Config, RequestError, TrainConfig, kinds, load_config

LETTERS = {str: "NAME", int: "N", float: "X"}


def add_options(
    parser: argparse.ArgumentParser,
    kind: type[TrainConfig] = TrainConfig,
    skip: Sequence[str] = (),
) -> None:
    """One option a setting: ``--batch-size`` for batch_size. Options that are not given stay out of
    the result, so that they do not hide what a config file says."""
    types = kinds(kind)
    for field in fields(kind):
        if field.name in skip:
            continue
        option = "--" + field.name.replace("_", "-")
        about = field.metadata.get("help") or field.name.replace("_", " ")
        container, element = types[field.name]
        default = field.default
        if field.default_factory is not MISSING:
            default = field.default_factory()
        if container is bool:
            action: Any = argparse.BooleanOptionalAction if default else "store_true"
            parser.add_argument(option, action=action, default=argparse.SUPPRESS, help=about)
            continue
        if default not in (MISSING, "", (), {}) and "(default" not in about:
            about += f" (default: {_shown(default)})"
        parse: Any = container
        letter = LETTERS.get(container)
        if container is tuple:
            one: Any = element or str
            parse, letter = _sequence(one), f"{LETTERS[one]},…"
        elif container is dict:
            parse, letter = _table, "KEY=VALUE,…"
        parser.add_argument(
            option, type=parse, default=argparse.SUPPRESS, metavar=letter,
            help=about.replace("%", "%%"),
        )  # fmt: skip


def _shown(default: Any) -> str:
    if isinstance(default, dict):
        return ", ".join(f"{key}={value}" for key, value in default.items())
    return ",".join(map(str, default)) if isinstance(default, tuple) else str(default)


def at_least(least: int) -> Callable[[str], int]:
    """What ``argparse`` reads a whole number of at least so much with: ``type=at_least(1)``."""

    def parse(text: str) -> int:
        if not text.strip().removeprefix("-").isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(
                f"expected a whole number of at least {least}, received {text!r}"
            )
        return int(text)

    return parse


def _sequence(element: Callable[[str], Any]) -> Callable[[str], tuple[Any, ...]]:
    def parse(text: str) -> tuple[Any, ...]:
        return tuple(element(part) for part in text.split(",") if part)

    parse.__name__ = f"list of {getattr(element, '__name__', 'value')}"
    return parse


def _table(text: str) -> dict[str, Any]:
    """``a=1,b=true,c=nearest`` as a dict: numbers and booleans as such, the rest as text."""
    found: dict[str, Any] = {}
    for part in filter(None, text.split(",")):
        key, equals, value = part.partition("=")
        if not equals:
            raise argparse.ArgumentTypeError(f"expected KEY=VALUE,KEY=VALUE…, received {text!r}")
        found[key.strip()] = _value(value.strip())
    return found


def _value(text: str) -> Any:
    if text in ("true", "false"):
        return text == "true"
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text


def options(
    description: str | None,
    kind: type[Config] = TrainConfig,  # type: ignore[assignment]
    argv: Sequence[str] | None = None,
    **defaults: Any,
) -> Config:
    """The settings of a demo as a ``kind``: its ``defaults``, then ``--config FILE``, then the
    other options."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", metavar="TOML", help="read settings from this file first")
    add_options(parser, kind, skip=("model",))
    given = vars(parser.parse_args(argv))
    file = given.pop("config")
    try:
        base = load_config(file, kind) if file else kind(**defaults)
        return replace(base, **given)
    except (RequestError, OSError) as error:
        parser.error(str(error))


def script(
    main: Callable[[Config], float | str | None],
    description: str | None,
    kind: type[Config] = TrainConfig,  # type: ignore[assignment]
    **defaults: Any,
) -> None:
    """Run ``main(config)`` with the options of the command line; print what it returns: a number as
    the test accuracy, a text as it is.

    What the user can put right (a file that is missing, nothing to resume, a backend that cannot
    run) ends in one message and status 2, Ctrl-C in status 130, an error in the code in its
    traceback.
    """
    try:
        result = main(options(description, kind, **defaults))
        if result is not None:
            print(result if isinstance(result, str) else f"test accuracy: {result:.4f}")
    except (RequestError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    except KeyboardInterrupt:
        raise SystemExit(130) from None
