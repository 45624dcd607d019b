"""``tinygrad-cnn bench``: what is counted, printed, saved and compared; and ``memory_report``."""

from __future__ import annotations

import doctest
import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinygrad_cnn as tg
from tinygrad_cnn import cli
from tinygrad_cnn.bench import command, extras, measure, peers, programs, report, workloads
from tinygrad_cnn.nn import functional as F


def cell(
    workload: str, mode: str, times: dict[str, list[float]], limits: list[float]
) -> measure.Cell:
    return measure.Cell(workload, mode, 1, times, measure.bound(workload), limits, {})


# -- what a workload costs -------------------------------------------------------------------------


def test_cost_of_lenet_by_hand() -> None:
    images = 64
    conv1 = 28 * 28 * 6 * 25
    conv2 = 10 * 10 * 16 * 6 * 25
    linear = 400 * 120 + 120 * 84 + 84 * 10
    cost = workloads.cost("lenet", "infer")
    assert cost is not None and cost.flops == 2 * images * (conv1 + conv2 + linear)
    trained = workloads.cost("lenet", "train")  # no gradient of the images
    assert trained is not None and trained.flops == 3 * cost.flops - 2 * images * conv1


def test_cost_of_resnet20_is_the_published_one() -> None:
    cost = workloads.cost("resnet20@1", "infer")
    assert cost is not None and round(cost.flops / 2e6) == 41  # million multiply-adds an image


def test_cost_of_a_projected_block_by_hand() -> None:
    flops, _, _ = workloads._forward((("block", 64, 128, 2, "project"),), (1, 64, 32, 32))
    assert flops == 2 * 16 * 16 * (128 * 64 * 9 + 128 * 128 * 9 + 128 * 64)


def test_cost_of_operations_by_hand() -> None:
    relu, chain = workloads.cost("relu_10m", "forward"), workloads.cost("dispatch_chain", "both")
    assert relu is not None and relu.bytes == 2 * 4 * 10_000_000
    assert chain is None
    add = workloads.cost("add_bcast", "both")  # x and g read, y and x.grad written
    assert add is not None and add.bytes == 4 * 4 * 64 * 64 * 56 * 56
    matmul = workloads.cost("matmul_batched", "both")
    assert matmul is not None and matmul.flops == 3 * 2 * 32 * 128**3


SMALLER = {(10_000_000,): (1000,), (8, 1024, 1024): (8,), (65536, 10): (64, 10)}


@pytest.mark.parametrize("name", [*workloads.NETWORKS, *workloads.OPERATIONS])
def test_program_offers_the_modes_it_is_timed_in(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = name
    if name in workloads.NETWORKS:
        at = f"{name}@2"
    else:
        op = workloads.OPERATIONS[name]
        first, *rest = (SMALLER.get(shape, shape) for shape in op.shapes)
        first = (2, *first[1:]) if len(first) == 4 else first
        monkeypatch.setitem(workloads.OPERATIONS, name, op._replace(shapes=(first, *rest)))
    with tg.use_backend("numpy"):
        program = programs.make(programs.Library(tg, tg.tensor), at)
        assert tuple(program) == workloads.modes(name)
        for run in program.values():
            run()


# -- rows, changes, picture ------------------------------------------------------------------------


def test_row_is_of_neighbouring_turns_and_the_faster_layout() -> None:
    times = {
        "numba": [1.0, 2.0, 4.0],
        "torch contiguous": [9.0, 9.0, 9.0],
        "torch channels_last": [2.0, 4.0, 8.0],
        "torch keeping memory": [1.0, 1.0, 1.0],
    }
    (row,) = report.rows(cell("matmul_1024", "forward", times, [4e9, 2e9, 1e9]))
    assert row.best == "channels_last" and row.ratio == (2.0, 2.0, 2.0)
    assert row.kept_ratio is not None and row.kept_ratio.median == 0.5
    assert row.rate == 1024**3 and row.unit == "GFLOP/s"  # 2·1024³ operations in 2 s
    assert row.fraction == pytest.approx(
        2 * 1024**3 / 4e9
    )  # the machine slows down, and we with it
    assert " 2.00 2.00 … 2.00" in report.line(row) and "54 %" in report.line(row)


def test_line_without_torch_has_no_ratio() -> None:
    (row,) = report.rows(cell("dispatch", "both", {"numpy": [1e-6]}, []))
    assert row.ratio is None and report.line(row).endswith("0.00100    0")


def test_changes_name_only_what_lies_outside_the_spread() -> None:
    def row(scale: float, mode: str) -> report.Row:
        times = {"numba": [1.0, 1.1, 1.2], "torch contiguous": [scale, 1.1 * scale, 1.3 * scale]}
        return next(report.rows(cell("lenet", mode, times, [1.0] * 3)))

    lines = report.changes([row(2, "train"), row(1, "infer")], [row(1, "train"), row(1, "infer")])
    assert len(lines) == 3
    assert lines[1].endswith("×2.00 faster") and lines[2].endswith("×1.00")
    slower = report.changes([row(1, "train")], [row(2, "train")])
    assert slower[1].endswith("×0.50 slower")


# -- the command -----------------------------------------------------------------------------------


@pytest.fixture
def on_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing to compile in the processes of the command."""
    monkeypatch.setenv("TINYGRAD_CNN_BACKEND", "numpy")


def test_quick_run_without_torch(
    tmp_path: Path, on_numpy: None, capsys: pytest.CaptureFixture[str]
) -> None:
    saved, drawn = tmp_path / "r.json", tmp_path / "r.png"
    options = ["--quick", "--pairs", "2", "--no-torch", "--threads", "1", "--backend", "numpy"]
    chosen = ["--workload", "lenet", "--op", "dispatch_chain"]
    files = ["--out", str(saved), "--plot", str(drawn)]
    assert cli.main(["bench", *options, *chosen, *files]) == 0
    shown = capsys.readouterr().out
    found = json.loads(saved.read_text())
    assert [(c["workload"], c["mode"]) for c in found["cells"]] == [
        ("lenet", "train"), ("lenet", "infer"),
        ("dispatch_chain", "forward"), ("dispatch_chain", "both"),
    ]  # fmt: skip
    assert all(len(c["times"]["numpy"]) == 2 and not c["failed"] for c in found["cells"])
    assert all(found["limits"]["1"][name] > 1e8 for name in ("peak", "copy", "read"))
    assert shown.count("numpy ") >= 4 and "GFLOP/s" in shown
    assert drawn.read_bytes().startswith(b"\x89PNG")

    assert cli.main(["bench", "--show", str(saved), "--compare", str(saved)]) == 0
    again = capsys.readouterr().out
    assert "changes since" in again and again.count("×1.00") == 4


def test_stopped_run_keeps_what_is_there(
    tmp_path: Path,
    on_numpy: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Stopping:
        threads = 1

        def __init__(self, *_: object) -> None: ...
        def __enter__(self) -> Stopping:
            return self

        def __exit__(self, *_: object) -> None: ...
        def limit(self, name: str) -> float:
            return 1e9

        def compare(self, name: str, modes: Any, *_: object) -> Iterator[measure.Cell]:
            yield cell(name, modes[0], {"numpy": [0.5]}, [1e9])
            raise KeyboardInterrupt

    monkeypatch.setattr(command, "Team", Stopping)
    saved = tmp_path / "r.json"
    assert cli.main(["bench", "--op", "relu_10m", "--out", str(saved)]) == 0
    assert [c["workload"] for c in json.loads(saved.read_text())["cells"]] == ["relu_10m"]
    assert "stopped" in capsys.readouterr().err


def test_peer_that_fails_is_left_out_and_named() -> None:
    with measure.Team([peers.Peer("ours", "numpy"), peers.Peer("ours", "nonesuch")], 1) as team:
        found = list(team.compare("dispatch", ("forward",), 1, 0.0))
    assert list(found[0].times) == ["numpy"]
    assert "nonesuch" in found[0].failed["nonesuch"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--backend", "nonesuch"], "nonesuch"),
        (["--threads", "0"], "at least 1"),
        (["--pairs", "0"], "at least 1"),
        (["--out", "/no/such/folder/r.json"], "no folder /no/such/folder"),
        (["--show", "/no/such/file.json"], "No such file"),
    ],
)
def test_wrong_options_fail_before_anything_is_timed(
    arguments: list[str], message: str, on_numpy: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["bench", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_file_of_another_kind_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "other.json"
    path.write_text('{"cells": [{"a": 1}]}')
    assert cli.main(["bench", "--show", str(path)]) == 2
    assert "that bench --out saved" in capsys.readouterr().err


def test_startup_and_memory_of_one_peer() -> None:
    ours, said = [peers.Peer("ours", "numpy")], []
    started = extras.startup(ours, 1, said.append, 1)
    assert started["numpy"]["import"] > 0 and started["numpy"]["first_step"] > 0
    weighed = extras.memory(ours, 1, said.append, "lenet256")
    assert 1e6 < weighed["numpy"]["added"] < weighed["numpy"]["peak"]
    assert len(said) == 3


def test_the_peak_is_a_plausible_number() -> None:
    """No machine runs Numba with less than a GFLOP/s a thread, or with 10 TFLOP/s. How good the
    number is, only a quiet machine can tell."""
    pytest.importorskip("numba")
    with measure.Team([], 1) as team:
        assert 1e9 < team.limit("peak") < 1e13
        assert 1e8 < team.limit("read") < 1e13


# -- the steps of docs/fast-kernels.md -----------------------------------------------------------

STEPS = Path(__file__).resolve().parents[1] / "docs" / "steps"


@pytest.mark.parametrize("path", sorted(STEPS.glob("step*.py")), ids=lambda path: path.stem)
def test_step_of_the_docs_runs_and_is_right(path: Path) -> None:
    pytest.importorskip("numba")
    done = subprocess.run(
        [sys.executable, str(path), "--small"], capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    assert "GFLOP/s" in done.stdout


# -- memory_report ---------------------------------------------------------------------------------


def test_memory_report_doctest() -> None:
    assert doctest.testmod(importlib.import_module("tinygrad_cnn.memory")).failed == 0


def test_memory_report_counts_a_tensor_from_birth_to_death() -> None:
    pytest.importorskip("numba")
    with tg.use_backend("numba"):
        before = tg.memory_report()
        t = tg.empty((1 << 20,))
        held = tg.memory_report()
        assert held.used - before.used == 4 << 20
        assert held.peak >= held.used
        del t
        after = tg.memory_report()
    assert after.used == before.used
    assert after.pooled >= 4 << 20
    assert str(held).startswith("numba: ") and "MB used" in str(held)


def test_memory_stays_flat_over_two_hundred_residual_steps() -> None:
    pytest.importorskip("numba")
    with tg.use_backend("numba"):
        c = 16
        convs = [tg.nn.Conv2d(c, c, 3, padding=1, bias=False) for _ in range(2)]
        norms = [tg.nn.BatchNorm2d(c) for _ in range(2)]
        head = tg.nn.Linear(c, 10)
        parts = tg.nn.ModuleList([*convs, *norms, head])
        optimiser = tg.optim.SGD(parts.parameters(), lr=0.01, momentum=0.9)
        x = tg.tensor(np.random.default_rng(0).standard_normal((8, c, 16, 16), np.float32))
        target = tg.tensor(np.arange(8))

        def step() -> None:
            y = F.relu(norms[0](convs[0](x)))
            y = F.relu(norms[1](convs[1](y)) + x)
            optimiser.zero_grad()
            F.cross_entropy(head(y.mean((2, 3))), target).backward()
            optimiser.step()

        for _ in range(5):
            step()
        early = tg.memory_report()
        for _ in range(200):
            step()
        late = tg.memory_report()
    assert early.pooled > 0
    assert (late.used, late.pooled, late.peak) == (early.used, early.pooled, early.peak)
