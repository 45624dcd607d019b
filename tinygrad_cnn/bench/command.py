"""The command ``tinygrad-cnn bench``: its options, and a run from start to saved result."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..backend import get_backend, load_backend
from . import extras, report, workloads
from .measure import Cell, Team
from .peers import TORCH, Peer, torch_is_installed
from .workloads import NETWORKS, OPERATIONS

PAIRS, TURN = 9, 0.15
QUICK_PAIRS, QUICK_TURN = 3, 0.03
BUSY = 0.5  # programs besides this one that make figures unreliable


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of ``tinygrad-cnn bench``."""
    choose = parser.add_argument_group("what (default: everything)")
    choose.add_argument("--workload", nargs="+", metavar="NAME", choices=NETWORKS, default=None,
                        help=f"networks: {', '.join(NETWORKS)}")  # fmt: skip
    choose.add_argument("--op", nargs="+", metavar="NAME", choices=OPERATIONS, default=None,
                        help=f"operations: {', '.join(OPERATIONS)}")  # fmt: skip
    choose.add_argument(
        "--startup", action="store_true", help="only: import, first step, first ever"
    )
    choose.add_argument("--memory", action="store_true", help="only: peak of a ResNet-18 step")
    choose.add_argument(
        "--growth", action="store_true", help="only: time an image, batch 32 to 512"
    )
    how = parser.add_argument_group("how")
    how.add_argument("--backend", nargs="+", metavar="NAME", help="default: what new tensors get")
    how.add_argument("--no-torch", action="store_true", help="leave PyTorch out")
    how.add_argument("--threads", nargs="+", type=int, metavar="N", help="default: all processors")
    how.add_argument("--pairs", type=int, metavar="N", help=f"turns of each (default {PAIRS})")
    how.add_argument("--quick", action="store_true", help="few and short turns: rough figures")
    out = parser.add_argument_group("results")
    out.add_argument("--out", metavar="FILE.json", help="save everything measured")
    out.add_argument("--compare", metavar="OLD.json", help="show what changed since then")
    out.add_argument("--plot", metavar="FILE.png", help="draw the roofline")
    out.add_argument("--show", metavar="FILE.json", help="a saved run instead of a new one")


def run(args: argparse.Namespace) -> int:
    """Measure (or load), print, save; 0 whatever the figures are."""
    before = _load(args.compare) if args.compare else None
    if args.show:
        results = _load(args.show)
        print(_title(results["machine"]), report.HEADING, sep="\n")
        for row in _rows(results):
            print(report.line(row))
    else:
        _check(args)
        results = {"machine": extras.description(_threads(args)), "limits": {}, "cells": []}
        try:
            _measure(args, results)
        except KeyboardInterrupt:
            print("\nstopped; what was measured:", file=sys.stderr)
    _finish(args, results, before)
    return 0


def _load(path: str) -> dict[str, Any]:
    """A result that ``--out`` saved."""
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
        found["cells"] = [Cell(**cell) for cell in found["cells"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: expected a file that bench --out saved: {error}") from error
    result: dict[str, Any] = found
    return result


def _check(args: argparse.Namespace) -> None:
    """Fail on wrong settings now, not in the middle."""
    for name in _backends(args):
        load_backend(name)
    if min(_threads(args)) < 1 or _turns(args)[0] < 1:
        raise ValueError("bench: --threads and --pairs expect numbers of at least 1")
    for path in (args.out, args.plot):
        if path and not Path(path).absolute().parent.is_dir():
            raise ValueError(f"bench: there is no folder {Path(path).absolute().parent}")


def _backends(args: argparse.Namespace) -> list[str]:
    return args.backend or [get_backend().name]


def _threads(args: argparse.Namespace) -> list[int]:
    return args.threads or [get_backend().get_num_threads()]


def _turns(args: argparse.Namespace) -> tuple[int, float]:
    pairs, seconds = (QUICK_PAIRS, QUICK_TURN) if args.quick else (PAIRS, TURN)
    return (pairs if args.pairs is None else args.pairs), seconds


def _peers(args: argparse.Namespace) -> list[Peer]:
    compared = TORCH if torch_is_installed() and not args.no_torch else ()
    return [*(Peer("ours", name) for name in _backends(args)),
            *(Peer("torch", variant) for variant in compared)]  # fmt: skip


def _title(machine: dict[str, Any]) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    load = machine["load"]
    busy = "" if load is None else f"\nload at the start: {load:.1f}"
    if load is not None and load > BUSY:
        busy += " (other programs are running: times and ratios will be off)"
    where = f"{machine['processor']}, {machine['cores']} cores; Python {machine['python']}"
    return f"{where}, {packages}; {machine['date']}{busy}"


def _measure(args: argparse.Namespace, results: dict[str, Any]) -> None:
    """Everything asked for, into ``results`` as it comes."""
    print(_title(results["machine"]), flush=True)
    pairs, seconds = _turns(args)
    for count in _threads(args):
        if args.startup:
            first = [peer for peer in _peers(args) if peer.variant not in TORCH[1:]]
            results["startup"] = extras.startup(first, count, _say, 1 if args.quick else 5)
        if args.memory:
            results["memory"] = extras.memory(_peers(args), count, _say)
        if args.growth:
            results["growth"] = extras.growth(_peers(args), count, _say, pairs, seconds)
    if args.workload or args.op or not (args.startup or args.memory or args.growth):
        for count in _threads(args):
            with Team(_peers(args), count) as team:
                _table(args, team, results)
    results["machine"]["load_after"] = extras.load()


def _table(args: argparse.Namespace, team: Team, results: dict[str, Any]) -> None:
    """The rows for one number of threads, each printed when it is there."""
    pairs, seconds = _turns(args)
    limits = {name: team.limit(name) for name in ("peak", "copy", "read")}
    results["limits"][str(team.threads)] = limits
    peak, copied, read = (limits[name] / 1e9 for name in ("peak", "copy", "read"))
    _say(
        f"\n{team.threads} thread(s): multiply-add peak {peak:.0f} GFLOP/s, "
        f"copy {copied:.1f} GB/s (read and written), reading alone {read:.1f} GB/s\n"
        f"{report.HEADING}"
    )
    for name in _chosen(args):
        _progress(f"{name}, {team.threads} thread(s) …")
        for cell in team.compare(name, workloads.modes(name), pairs, seconds):
            results["cells"].append(cell)
            if cell.limits:  # a limit is the most that was ever seen
                limits[cell.limit] = max(limits[cell.limit], *cell.limits)
            _progress("")
            for reason in cell.failed.values():
                _say(f"{name}: {reason}")
            for row in report.rows(cell):
                _say(report.line(row))


def _chosen(args: argparse.Namespace) -> list[str]:
    named = [*(args.workload or ()), *(args.op or ())]
    return named or [*NETWORKS, *OPERATIONS]


def _say(text: str) -> None:
    print(text, flush=True)


def _progress(text: str) -> None:
    """What is being measured, on a terminal only, on a line that the next one overwrites."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def _rows(results: dict[str, Any]) -> Iterator[report.Row]:
    for cell in results["cells"]:
        if any(cell.times.values()):
            yield from report.rows(cell)


def _finish(
    args: argparse.Namespace, results: dict[str, Any], before: dict[str, Any] | None
) -> None:
    """Legend, changes, file and picture."""
    found = list(_rows(results))
    if found:
        print(f"\n{report.LEGEND}")
    if before is not None:
        print(f"\nchanges since {before['machine']['date']}")
        print("\n".join(report.changes(found, list(_rows(before)))))
    if args.out:
        saved = {**results, "cells": [cell._asdict() for cell in results["cells"]]}
        Path(args.out).write_text(json.dumps(saved, indent=1) + "\n", encoding="utf-8")
        print(f"saved {args.out}")
    if args.plot and found:
        most = str(max(row.threads for row in found))
        shown: Sequence[report.Row] = [row for row in found if str(row.threads) == most]
        print(f"drew {report.roofline(shown, results['limits'][most], args.plot)}")
