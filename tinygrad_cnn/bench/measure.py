"""Taking turns: every peer runs for a moment, A B C A B C …, and ratios are of neighbouring turns.

A machine changes its speed from second to second (other programs, clock, neighbours on the same
host), by more than the differences of interest. Two turns that follow each other see the same
machine, so the ratio of a pair is steadier than either time; the median of the ratios is the result
and their quartiles its uncertainty. The machine's own limit takes a turn as well, so that a share
of the peak is one of the peak in those seconds.

The other end is this module as a program (``serve``): one process a peer, which makes workloads and
runs turns when told to by a line of JSON.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from . import workloads
from .peers import MACHINE, Peer

WARM_SECONDS = 0.3
WARM_RUNS = 3


class Failed(RuntimeError):
    """A peer could not do what it was told."""


class Process:
    """A peer in a process of its own."""

    def __init__(self, peer: Peer, threads: int, environment: dict[str, str] | None = None) -> None:
        self.peer, count = peer, str(threads)
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS",
                 "TINYGRAD_CNN_NUM_THREADS")  # fmt: skip
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, *peer, count],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **dict.fromkeys(names, count), **(environment or {})},
            start_new_session=True,  # Ctrl-C reaches the command, which ends its peers
        )

    def tell(self, **request: Any) -> dict[str, Any]:
        """Send a request and wait for its answer; raises ``Failed``."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        except (OSError, ValueError):
            raise Failed(f"{self.peer.name}: its process has ended") from None
        if "error" in answer:
            raise Failed(f"{self.peer.name}: {answer['error']}")
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()


def serve(peer: Peer, threads: int) -> None:
    """The peer's process: answer one line of JSON for each on the standard input."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    make: Any = None
    program: dict[str, Any] = {}
    for line in sys.stdin:
        request = json.loads(line)
        try:
            make = make or peer.prepare(threads)
            if "make" in request:
                program = {}  # the last one's memory is free before the next one's is taken
                program = make(request["make"])
                answer: dict[str, Any] = {"amount": program.get("amount")}
            elif "memory" in request:
                answer = {"bytes": _memory_peak(request["memory"] == "reset")}
            else:
                answer = {"seconds": _turn(program[request["mode"]], **request["turn"])}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _turn(run: Callable[[], None], seconds: float, warm: bool) -> float:
    """The median time of one run over ``seconds`` of runs, at least one."""
    run()  # wakes the threads
    start = time.perf_counter()
    left = WARM_RUNS - 1 if warm else 0
    while left > 0 or (warm and time.perf_counter() - start < WARM_SECONDS):
        run()
        left -= 1
    times: list[float] = []
    while not times or sum(times) < seconds:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _memory_peak(reset: bool) -> int:
    """The most memory this process has had since the last reset, where the system can tell."""
    if sys.platform != "linux":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in bytes on macOS
    if reset:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("VmHWM"))


class Cell(NamedTuple):
    """The times of one workload, in seconds, turn by turn: of each peer that could run it."""

    workload: str
    mode: str
    threads: int
    times: dict[str, list[float]]
    limit: str  # "peak", "copy" or "" when neither bounds it
    limits: list[float]  # floating-point operations or bytes a second at each turn
    failed: dict[str, str]


class Team:
    """All peers for one number of threads, and the machine."""

    def __init__(self, peers: Sequence[Peer], threads: int) -> None:
        self.threads = threads
        self.processes = [Process(peer, threads) for peer in peers]
        self.machine = Process(MACHINE, threads)

    def __enter__(self) -> Team:
        return self

    def __exit__(self, *_: object) -> None:
        for process in (*self.processes, self.machine):
            process.close()

    def limit(self, name: str) -> float:
        """The machine's "peak" (operations a second), "copy" or "read" (bytes a second): the best
        of five turns, as anything that disturbs makes it less."""
        amount = self.machine.tell(make=name)["amount"]
        _timed(self.machine, name, 0.0, warm=True)
        return float(amount / min(_timed(self.machine, name, 0.05) for _ in range(5)))

    def compare(
        self, workload: str, modes: Sequence[str], pairs: int, seconds: float
    ) -> Iterator[Cell]:
        """One cell a mode; peers that fail are left out of them and named."""
        running, failed = [], {}
        for process in self.processes:
            try:
                process.tell(make=workload)
                running.append(process)
            except Failed as error:
                failed[process.peer.name] = str(error)
        for mode in modes:
            yield self._compare(workload, mode, pairs, seconds, running, failed)

    def _compare(
        self, workload: str, mode: str, pairs: int, seconds: float,
        running: list[Process], failed: dict[str, str],
    ) -> Cell:  # fmt: skip
        limit = bound(workload)
        runs = workloads.OPERATIONS[workload].repeat if workload in workloads.OPERATIONS else 1
        amount = self.machine.tell(make=limit)["amount"] if limit else 0.0
        times: dict[str, list[float]] = {}
        limits: list[float] = []
        for process in list(running):
            try:
                _timed(process, mode, 0.0, warm=True)
                times[process.peer.name] = []
            except Failed as error:
                failed = {**failed, process.peer.name: str(error)}
        able = [process for process in running if process.peer.name in times]
        for _ in range(pairs):
            for process in able:
                times[process.peer.name].append(_timed(process, mode, seconds) / runs)
            if limit:
                limits.append(amount / _timed(self.machine, limit, min(seconds, 0.02)))
        return Cell(workload, mode, self.threads, times, limit, limits, failed)


def bound(workload: str) -> str:
    """Which limit a workload is held against: products "peak", the rest "copy"; what is all
    overhead, none."""
    op = workloads.OPERATIONS.get(workload)
    if op is None or op.kind in ("conv", "matmul"):
        return "peak"
    return "copy" if op.repeat == 1 else ""


def _timed(process: Process, mode: str, seconds: float, warm: bool = False) -> float:
    return float(process.tell(mode=mode, turn={"seconds": seconds, "warm": warm})["seconds"])


if __name__ == "__main__":
    kind, variant, count = sys.argv[1:]
    serve(Peer(kind, variant), int(count))
