"""Tables and pictures of what was measured, and what changed since an earlier time."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from . import workloads
from .measure import Cell
from .peers import KEPT, TORCH, Peer

_UNKEPT = [Peer("torch", variant).name for variant in TORCH if variant != KEPT]
_KEPT = Peer("torch", KEPT).name


class Quartiles(NamedTuple):
    """The middle half of some numbers."""

    low: float
    median: float
    high: float


class Row(NamedTuple):
    """One backend on one workload. Ratios are PyTorch's time over ours: above 1 we are faster."""

    workload: str
    mode: str
    threads: int
    backend: str
    seconds: Quartiles
    best: str  # PyTorch's faster layout
    best_seconds: float
    ratio: Quartiles | None
    kept_ratio: Quartiles | None  # the same against PyTorch that keeps freed memory
    fastest_ratio: float  # of the fastest turns, which other programs disturbed least
    rate: float  # floating-point operations a second, or bytes where memory is the bound
    unit: str
    fraction: float  # of the machine's limit


def quartiles(values: Sequence[float]) -> Quartiles:
    """Linear between neighbours, as a single value has no spread."""
    if len(values) == 1:
        return Quartiles(values[0], values[0], values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Quartiles(low, median, high)


def rows(cell: Cell) -> Iterator[Row]:
    """One row for each backend that ran."""
    torch = {name: times for name, times in cell.times.items() if name in _UNKEPT}
    best = min(torch, key=lambda name: statistics.median(torch[name]), default="")
    for backend, times in cell.times.items():
        if backend in torch or backend == _KEPT:
            continue
        cost = workloads.cost(cell.workload, cell.mode)
        amount = 0.0 if cost is None else cost.flops if cell.limit == "peak" else cost.bytes
        seconds = quartiles(times)
        yield Row(
            cell.workload, cell.mode, cell.threads, backend, seconds, best.removeprefix("torch "),
            statistics.median(torch[best]) if best else 0.0,
            _ratio(torch.get(best), times), _ratio(cell.times.get(_KEPT), times),
            min(map(min, torch.values())) / min(times) if best else 0.0,
            amount / seconds.median, {"peak": "GFLOP/s", "copy": "GB/s", "": ""}[cell.limit],
            _fraction(amount, times, cell.limits),
        )  # fmt: skip


def _ratio(theirs: list[float] | None, ours: list[float]) -> Quartiles | None:
    """Of neighbouring turns."""
    return quartiles([b / a for a, b in zip(ours, theirs, strict=True)]) if theirs else None


def _fraction(amount: float, times: list[float], limits: list[float]) -> float:
    """Of the limit measured in the neighbouring turn, median. (Against the best of the limit's own
    turns a plain copy would reach two thirds on a machine that others use as well.)"""
    if not limits:
        return 0.0
    return statistics.median(amount / t / limit for t, limit in zip(times, limits, strict=True))


HEADING = (
    f"{'workload':<18}{'run':<8}{'thr':>3} {'backend':<8}{'ours ms':>10} {'±%':>4} "
    f"{'torch ms':>10} {'layout':<7}{'ratio':>6} {'quartiles':<14}{'kept':>5}{'best':>5} "
    f"{'rate':>13} {'of limit':>8}"
)


def line(row: Row) -> str:
    """A row of the table under ``HEADING``; empty where there was no PyTorch or no cost."""
    low, middle, high = row.seconds
    spread = 100 * (high - low) / middle / 2
    text = (
        f"{row.workload:<18}{row.mode:<8}{row.threads:>3} {row.backend:<8}{_ms(middle):>10} "
        f"{spread:>4.0f} "
    )
    if row.ratio:
        span = f"{row.ratio.low:.2f} … {row.ratio.high:.2f}"
        layout = {"contiguous": "NCHW", "channels_last": "NHWC"}[row.best]
        kept = f"{row.kept_ratio.median:.2f}" if row.kept_ratio else ""
        text += f"{_ms(row.best_seconds):>10} {layout:<7}{row.ratio.median:>6.2f} {span:<14}"
        text += f"{kept:>5}{row.fastest_ratio:>5.2f}"
    else:
        text += " " * 49
    if row.unit:
        text += f" {row.rate / 1e9:>5.0f} {row.unit:<7} {100 * row.fraction:>6.0f} %"
    return text.rstrip()


def _ms(seconds: float) -> str:
    value = 1e3 * seconds
    return f"{value:.3f}" if value >= 0.1 else f"{value:.5f}"


LEGEND = """\
±%: half the distance of the quartiles.  ratio: PyTorch's time over ours, median of neighbouring
turns, against its faster layout; kept: against channels_last with glibc told to keep freed memory,
its best setting; best: of the fastest turns, for when other programs run.  rate: what the
definition needs, over the time (Winograd needs less and may pass 100 %).  of limit: of the
multiply-add peak or the copy bandwidth, median of neighbouring turns."""


def changes(now: Sequence[Row], before: Sequence[Row]) -> list[str]:
    """A line for each row of both runs: time and ratio then and now.

    Compared by the ratio to PyTorch where both have one, since the machine's speed cancels in it. A
    change is named when the quartiles of then and now do not overlap.
    """
    known = {(r.workload, r.mode, r.threads, r.backend): r for r in before}
    lines = [f"{'workload':<18}{'run':<8}{'thr':>3} {'backend':<8}{'ms then':>10} {'now':>10} "
             f"{'ratio then':>11} {'now':>6}  change"]  # fmt: skip
    for row in now:
        old = known.get((row.workload, row.mode, row.threads, row.backend))
        if old is None:
            continue
        if row.ratio and old.ratio:
            factor, told = row.ratio.median / old.ratio.median, (row.ratio, old.ratio)
        else:
            factor, told = old.seconds.median / row.seconds.median, (old.seconds, row.seconds)
        apart = told[0].low > told[1].high or told[0].high < told[1].low
        verdict = "" if not apart else "faster" if factor > 1 else "slower"
        ratios = [f"{r.ratio.median:.2f}" if r.ratio else "" for r in (old, row)]
        lines.append(
            f"{row.workload:<18}{row.mode:<8}{row.threads:>3} {row.backend:<8}"
            f"{_ms(old.seconds.median):>10} {_ms(row.seconds.median):>10} "
            f"{ratios[0]:>11} {ratios[1]:>6}  ×{factor:.2f} {verdict}".rstrip()
        )
    return lines


def roofline(found: Sequence[Row], limits: dict[str, float], path: str | Path) -> Path:
    """Draw operations a second over operations a byte, under the roof of this machine.

    ``limits`` are {"peak": operations a second, "copy": bytes a second}. Dots are forward runs and
    inference, triangles runs with gradients.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    peak, copy = limits["peak"] / 1e9, limits["copy"] / 1e9
    ends = (0.05, 2000.0)
    axes.plot([ends[0], peak / copy, ends[1]], [ends[0] * copy, peak, peak], color="0.3", lw=1.5)
    axes.text(ends[1], peak * 1.06, f"multiply-add peak {peak:.0f} GFLOP/s", ha="right", size=8)
    axes.text(ends[0] * 1.1, ends[0] * copy * 1.35, f"copy {copy:.1f} GB/s", size=8, rotation=33)
    for row in found:
        cost = workloads.cost(row.workload, row.mode)
        if cost is None:
            continue
        x, y = cost.flops / cost.bytes, cost.flops / row.seconds.median / 1e9
        whole = row.mode in ("train", "both", "step")
        color = "tab:red" if row.workload.partition("@")[0] in workloads.NETWORKS else "tab:blue"
        axes.plot(x, y, "^" if whole else "o", color=color, ms=5)
        if row.mode in ("infer", "forward", "step"):  # the triangle below or above is its other run
            axes.annotate(row.workload, (x, y), (5, 4), textcoords="offset points", size=6.5)
    axes.set(xscale="log", yscale="log", xlim=ends, ylabel="GFLOP/s (direct-equivalent)",
             xlabel="operations a byte (read and written once)",
             title="Networks (red) and operations (blue) under this machine's roof")  # fmt: skip
    axes.grid(alpha=0.3, which="both", lw=0.4)
    figure.savefig(path, dpi=100)
    return Path(path)
