"""What a table of times leaves out: starting up, memory, and how time grows with the batch."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

from .._doctor import _processor as processor
from .measure import Failed, Process, Team
from .peers import Peer

GROWTH = ("lenet", "resnet20")
BATCHES = (32, 64, 128, 256, 512)
_STEP = """
import time
start = time.perf_counter()
from tinygrad_cnn.bench.peers import Peer
import {module}
loaded = time.perf_counter()
Peer({kind!r}, {variant!r}).prepare({threads})("lenet")["train"]()
print(loaded - start, time.perf_counter() - start)
"""
_IMPORT = "import time; s = time.perf_counter(); import {module}; print(time.perf_counter() - s)"


def startup(
    peers: Sequence[Peer], threads: int, say: Callable[[str], None], runs: int
) -> dict[str, Any]:
    """Seconds to import, and from there to the end of the first training step of LeNet-5: with the
    kernels compiled by an earlier process, and with nothing compiled."""
    found: dict[str, Any] = {}
    for peer in peers:
        module = "tinygrad_cnn" if peer.kind == "ours" else "torch"
        step = _STEP.format(module=module, kind=peer.kind, variant=peer.variant, threads=threads)
        _python(step)  # compiles, and brings the files into memory
        imports = [_python(_IMPORT.format(module=module))[0] for _ in range(runs)]
        steps = [_python(step)[1] for _ in range(runs)]
        loaded, stepped = statistics.median(imports), statistics.median(steps)
        found[peer.name] = {"import": loaded, "first_step": stepped}
        say(f"{peer.name}: import {loaded:.2f} s, first LeNet step done after {stepped:.2f} s")
        if peer.kind == "ours":
            with tempfile.TemporaryDirectory() as folder:
                found[peer.name]["first_ever"] = _python(step, TINYGRAD_CNN_CACHE=folder)[1]
            say(f"{peer.name}: with nothing compiled, after {found[peer.name]['first_ever']:.1f} s")
    return found


def _python(code: str, **environment: str) -> list[float]:
    """The numbers that a fresh interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )
    if done.returncode:
        raise Failed(done.stderr.strip().splitlines()[-1])
    return [float(text) for text in done.stdout.split()]


def memory(
    peers: Sequence[Peer], threads: int, say: Callable[[str], None], workload: str = "resnet18"
) -> dict[str, Any]:
    """Peak memory of a process that trains, in bytes, and how much of it came after loading the
    library (a first step of LeNet-5 has run)."""
    found: dict[str, Any] = {}
    for peer in peers:
        process = Process(peer, threads)
        try:
            found[peer.name] = _memory_of(process, workload)
        except Failed as error:
            say(str(error))
            continue
        finally:
            process.close()
        say(f"{peer.name}: peak {found[peer.name]['peak'] / 1e6:.0f} MB, "
            f"{found[peer.name]['added'] / 1e6:.0f} MB of it for {workload}")  # fmt: skip
    theirs = [found[peer.name] for peer in peers if peer.kind == "torch" and peer.name in found]
    for peer in peers if theirs else ():
        if peer.kind == "ours" and peer.name in found:
            ratios = [
                found[peer.name][key] / min(t[key] for t in theirs) for key in ("peak", "added")
            ]
            say(
                "{}: over the least of PyTorch's: peak {:.2f}, added {:.2f}".format(
                    peer.name, *ratios
                )
            )
    return found


def _memory_of(process: Process, workload: str) -> dict[str, int]:
    one_run = {"seconds": 0.0, "warm": False}
    process.tell(make="lenet")
    process.tell(mode="train", turn=one_run)
    before = process.tell(memory="reset")["bytes"]
    before = min(before, process.tell(memory="read")["bytes"])
    process.tell(make=workload)
    for _ in range(3):
        process.tell(mode="train", turn=one_run)
    peak = process.tell(memory="read")["bytes"]
    return {"peak": peak, "added": peak - before}


def growth(
    peers: Sequence[Peer], threads: int, say: Callable[[str], None], pairs: int, seconds: float
) -> dict[str, Any]:
    """Milliseconds an image of a training step at batches of 32 to 512."""
    found: dict[str, Any] = {}
    say(f"{'ms an image at batch':<34}" + "".join(f"{batch:>8}" for batch in BATCHES))
    with Team(peers, threads) as team:
        for name in GROWTH:
            times: dict[str, list[float]] = {}
            for batch in BATCHES:
                (cell,) = team.compare(f"{name}@{batch}", ["train"], pairs, seconds)
                for peer, turns in cell.times.items():
                    times.setdefault(peer, []).append(1e3 * statistics.median(turns) / batch)
            for peer, by_batch in times.items():
                say(f"{name:<12}{peer:<22}" + "".join(f"{ms:>8.4f}" for ms in by_batch))
            found[name] = times
    return found


def description(threads: Sequence[int]) -> dict[str, Any]:
    """The machine and its state, for whoever reads the figures later."""
    import importlib.metadata
    import platform

    packages = {d.metadata["Name"].lower(): d.version for d in importlib.metadata.distributions()}
    wanted = ("tinygrad-cnn", "numpy", "numba", "torch")
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": list(threads),
        "python": platform.python_version(),
        "packages": {name: packages[name] for name in wanted if name in packages},
        "load": load(),
    }


def load() -> float | None:
    """Programs that want to run now, on average over the last minute; None where it is not told."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None
