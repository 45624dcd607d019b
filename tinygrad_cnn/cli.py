"""The command line ``tinygrad-cnn``: one function a command.

A command is a function of its argument parser that adds arguments and returns what runs them; its
docstring is its help. To add one, write the function and name it in ``COMMANDS``.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable, Sequence

Run = Callable[[argparse.Namespace], int]


def doctor(parser: argparse.ArgumentParser) -> Run:
    """Show what this machine offers: versions, backends, threads, kernel cache, data sets."""
    parser.add_argument(
        "--explain",
        metavar="OP",
        help='say which kernel an op will run, as in --explain "conv2d (128,16,32,32)->16 k3"',
    )

    def run(args: argparse.Namespace) -> int:
        from . import _doctor

        return _doctor.explain(args.explain) if args.explain else _doctor.report()

    return run


def warmup(parser: argparse.ArgumentParser) -> Run:
    """Compile the kernels now and keep them, so that no later run waits for the compiler."""
    parser.add_argument("--backend", metavar="NAME", help="default: the backend new tensors get")

    def run(args: argparse.Namespace) -> int:
        from . import _warmup

        return _warmup.run(args.backend)

    return run


def train(parser: argparse.ArgumentParser) -> Run:
    """Train a classifier by a TOML file of settings, with options on top; without a file, LeNet-5
    on the bundled digits."""
    from .train import ClassifierConfig, add_options

    parser.add_argument("config", metavar="CONFIG.toml", nargs="?", help="file of settings")
    add_options(parser, ClassifierConfig)

    def run(args: argparse.Namespace) -> int:
        from .train import load_config
        from .train import train as fit

        given = {k: v for k, v in vars(args).items() if k not in ("config", "run")}
        kind = ClassifierConfig
        chosen = load_config(args.config, kind, **given) if args.config else kind(**given)
        print(f"test accuracy: {fit(chosen):.4f}")
        return 0

    return run


def bench(parser: argparse.ArgumentParser) -> Run:
    """Time training, inference and single operations, next to PyTorch where it is installed and to
    what this machine can do at most."""
    from .bench import command

    command.add_options(parser)
    return command.run


def summary(parser: argparse.ArgumentParser) -> Run:
    """Show the layers, parameters, costs and receptive fields of a model."""
    parser.add_argument("model", metavar="MODEL", help="a builder's name, such as resnet18")
    parser.add_argument("shape", metavar="CxHxW", help="the input without the batch, as 3x224x224")

    def run(args: argparse.Namespace) -> int:
        from . import models, nn
        from .summary import summary as table

        sizes = args.shape.lower().replace("×", "x").split("x")
        if not all(size.isdecimal() and int(size) for size in sizes):
            raise ValueError(f"expected a shape such as 3x224x224, received {args.shape!r}")
        with nn.init.skip():
            model = models.build(args.model)
        table(model, [int(size) for size in sizes])
        return 0

    return run


COMMANDS: dict[str, Callable[[argparse.ArgumentParser], Run]] = {
    "doctor": doctor,
    "warmup": warmup,
    "train": train,
    "summary": summary,
    "bench": bench,
}


def build_parser() -> argparse.ArgumentParser:
    """The parser with every command; parsing leaves the chosen one's runner in ``args.run``."""
    from . import __version__

    parser = argparse.ArgumentParser(
        prog="tinygrad-cnn", description="Convolutional networks from scratch."
    )
    parser.add_argument("--version", action="version", version=f"tinygrad-cnn {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, add in COMMANDS.items():
        about = (add.__doc__ or "").strip()
        command = commands.add_parser(name, help=about, description=about)
        command.set_defaults(run=add(command))
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 2 for a wrong request, 130 after Ctrl-C."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a folder's name may not fit the terminal's code
            stream.reconfigure(errors="replace")
    args = build_parser().parse_args(argv)
    try:
        status: int = args.run(args)
        sys.stdout.flush()
        return status
    except (ValueError, ImportError, OSError) as error:
        if isinstance(error, BrokenPipeError):  # `tinygrad-cnn doctor | head` closed the pipe
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        print(f"tinygrad-cnn: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
