"""The command line: what people type when they arrive, and when something is broken."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tinygrad_cnn import _doctor, _explain, _warmup, backend, cli
from tinygrad_cnn.backends.numpy_backend import NumpyBackend
from tinygrad_cnn.data.warp import warp

Listener = Callable[[str, float | None], None]
COMMAND = [sys.executable, "-c", "import sys; from tinygrad_cnn.cli import main; sys.exit(main())"]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, where no backend has been chosen yet."""
    return subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, **environment},
    )


def test_installed_command_is_this_one() -> None:
    pyproject = Path(__file__).resolve().parents[1] / "pyproject.toml"
    scripts = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]["scripts"]
    module, _, function = scripts["tinygrad-cnn"].partition(":")
    assert getattr(importlib.import_module(module), function) is cli.main


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["--help"])
    shown = capsys.readouterr().out
    assert stopped.value.code == 0
    assert all(f"    {name} " in shown for name in cli.COMMANDS)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main([name, "--help"])
    about = (cli.COMMANDS[name].__doc__ or "").split()
    assert stopped.value.code == 0
    assert len(about) > 3
    assert " ".join(about) in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("arguments", [[], ["docter"], ["doctor", "--loud"]])
def test_wrong_request_is_status_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 2
    assert "usage: tinygrad-cnn" in capsys.readouterr().err


def test_unknown_backend_is_one_line_with_the_nearest_name(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["warmup", "--backend", "nunpy"]) == 2
    shown = capsys.readouterr().err.splitlines()
    assert len(shown) == 1
    assert shown[0].startswith(
        "tinygrad-cnn: unknown backend 'nunpy': expected one of numpy, numba"
    )
    assert shown[0].endswith("did you mean 'numpy'?")


# -- doctor -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def healthy() -> str:
    """Doctor's report on the machine that runs the tests."""
    done = run("doctor")
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_doctor_has_every_section_and_none_failed(healthy: str) -> None:
    lines = healthy.splitlines()
    assert all(title in lines for title, _ in _doctor.SECTIONS)
    assert [line for line in lines if line.startswith("  failed ")] == []


def test_doctor_fits_100_columns(healthy: str) -> None:
    wide = [line for line in healthy.splitlines() if len(line) > 100]
    assert all(os.sep in line for line in wide), wide  # a path is not broken


def test_doctor_lists_the_packages_of_every_extra(
    healthy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = healthy.split("\nPackages\n")[1].split("\n\n")[0]
    named = [line.split()[0] for line in section.splitlines()]
    assert {"numpy", "PIL", "onnx", "onnxruntime", "tensorboardX"} <= set(named)
    monkeypatch.setattr("importlib.metadata.packages_distributions", dict)
    missing = dict(_doctor._packages())
    assert missing["onnx"] == "not installed (pip install 'tinygrad-cnn[onnx]', for ONNX files)"
    assert missing["rich"] == "not installed (pip install rich)"


def test_doctor_says_which_backend_tensors_get(healthy: str) -> None:
    (line,) = [line for line in healthy.splitlines() if "new tensors get" in line]
    assert line.split()[3] in backend.backend_names()


def test_doctor_names_the_variable_that_chose() -> None:
    shown = run("doctor", TINYGRAD_CNN_BACKEND="numpy").stdout
    assert "numpy (named by TINYGRAD_CNN_BACKEND)" in shown


def test_doctor_reports_an_unknown_backend_and_goes_on() -> None:
    done = run("doctor", TINYGRAD_CNN_BACKEND="nunpy")
    assert done.returncode == 0
    assert "unknown backend 'nunpy'" in done.stdout
    assert "mnist-mini" in done.stdout  # of the last section


def test_doctor_reports_a_wrong_configuration_and_goes_on(tmp_path: Path) -> None:
    config = tmp_path / "settings.toml"
    config.write_text('bakend = "numpy"\n')
    done = run("doctor", TINYGRAD_CNN_CONFIG=str(config))
    assert done.returncode == 0
    assert "did you mean 'backend'?" in " ".join(done.stdout.split())
    assert "mnist-mini" in done.stdout


def test_doctor_without_numba_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "numba.py").write_text("raise ModuleNotFoundError(\"No module named 'numba'\")\n")
    done = run("doctor", PYTHONPATH=str(tmp_path))
    shown = " ".join(done.stdout.split())
    assert done.returncode == 0
    assert (
        "numba not usable: ModuleNotFoundError: No module named 'numba' (pip install numba)"
        in shown
    )
    assert "new tensors get numpy" in shown
    assert "failed" not in shown.split()


def test_doctor_survives_a_section_that_breaks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> Iterator[_doctor.Row]:
        yield "driver", "answers"
        raise RuntimeError("out of luck\nand more of it")

    def sound() -> Iterator[_doctor.Row]:
        yield "floor", "dry"

    monkeypatch.setattr(_doctor, "SECTIONS", (("GPU", broken), ("House", sound)))
    assert cli.main(["doctor"]) == 0
    shown = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if line]
    assert ["failed", "RuntimeError: out of luck"] in shown
    assert ["driver", "answers"] in shown and ["floor", "dry"] in shown


def test_doctor_shows_warnings_as_rows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def noisy() -> Iterator[_doctor.Row]:
        import warnings

        warnings.warn("the cache is full", RuntimeWarning, stacklevel=1)
        yield "cache", "there"

    monkeypatch.setattr(_doctor, "SECTIONS", (("Kernels", noisy),))
    assert cli.main(["doctor"]) == 0
    captured = capsys.readouterr()
    assert "warning             the cache is full" in captured.out
    assert captured.err == ""


def test_doctor_prints_names_the_terminal_cannot_show(tmp_path: Path) -> None:
    folder = tmp_path / "데이터"
    folder.mkdir()
    done = run("doctor", TINYGRAD_CNN_DATA=str(folder), PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert "???" in done.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="closing a pipe early is a POSIX habit")
def test_doctor_into_a_closed_pipe_is_quiet() -> None:
    with subprocess.Popen(
        [*COMMAND, "doctor"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0


# -- doctor --explain -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "x_shape", "w_shape", "window", "groups"),
    [
        ("conv2d (128,16,32,32)->16 k3", (128, 16, 32, 32), (16, 16, 3, 3),
         ((3, 3), (1, 1), ((0, 0), (0, 0)), (1, 1)), 1),
        (" conv2d ( 8, 6, 9, 7 ) -> 4  k5x3 s2 p1 d2 g2 ", (8, 6, 9, 7), (4, 3, 5, 3),
         ((5, 3), (2, 2), ((1, 1), (1, 1)), (2, 2)), 2),
    ],
)  # fmt: skip
def test_question_is_read_with_pytorchs_defaults(
    text: str,
    x_shape: tuple[int, ...],
    w_shape: tuple[int, ...],
    window: tuple[object, ...],
    groups: int,
) -> None:
    if "s2" in text:  # (9 + 2 - 2·4 - 1) // 2 + 1 = 2 rows
        assert "-> (8, 4, 2, 3)" in str(_explain.parse(text))
    assert tuple(_explain.parse(text)) == ("conv2d", x_shape, w_shape, window, groups)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("conv2d 3x3", "as in 'conv2d (128,16,32,32)->16 k3 p1'; received 'conv2d 3x3'"),
        ("conv2d (8,6,9,7)->4 k3 g4", "6 and 4 channels do not split into 4 groups"),
        ("conv2d (8,6,4,4)->4 k5", "output size 0 on spatial axis 0"),
    ],
)
def test_wrong_question_is_answered(
    text: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["doctor", "--explain", text]) == 2
    assert message in capsys.readouterr().err


def test_explain_names_an_algorithm_for_each_direction() -> None:
    done = run("doctor", "--explain", _explain.EXAMPLE, TINYGRAD_CNN_BACKEND="numba")
    if done.returncode == 2 and "numba" in done.stderr:
        pytest.skip(done.stderr)
    first, *rest = [line.split() for line in done.stdout.splitlines() if line[2:3] != " "]
    assert first[:5] == ["conv2d", "(128,", "16,", "32,", "32)"]
    assert [line[0] for line in rest] == ["conv", "conv_input_grad", "conv_weight_grad"]


def test_explain_of_numpy_has_one_kernel() -> None:
    shown = run("doctor", "--explain", _explain.EXAMPLE, TINYGRAD_CNN_BACKEND="numpy").stdout
    assert shown.splitlines()[1].split(maxsplit=1) == ["numpy", "one kernel for every shape"]


# -- warmup -----------------------------------------------------------------------------------


def test_warmup_runs_every_group_and_counts_what_is_compiled(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Compiling(NumpyBackend):
        """Pretends to compile two kernels of the second group."""

        def __init__(self) -> None:
            super().__init__()
            self.listeners: list[Listener] = []

        def on_compile(self, listener: Listener) -> Callable[[], None]:
            self.listeners.append(listener)
            return lambda: self.listeners.remove(listener)

    def compile_two(kernels: backend.Backend) -> None:
        assert isinstance(kernels, Compiling)
        for name in ("conv", "conv_input_grad"):
            kernels.listeners[0](name, None)
            kernels.listeners[0](name, 0.5)

    compiling = Compiling()
    monkeypatch.setitem(backend._loaded, "compiling", compiling)
    groups = (("elementwise", lambda kernels: None), ("convolution", compile_two))
    monkeypatch.setattr(_warmup, "GROUPS", groups)
    assert cli.main(["warmup", "--backend", "compiling"]) == 0
    shown = [line.split()[:-2] for line in capsys.readouterr().out.splitlines()]
    assert shown == [
        ["elementwise", "ready"],
        ["convolution", "2", "compiled"],
        ["all", "2", "compiled"],
    ]
    assert compiling.listeners == []


@pytest.mark.parametrize("group", _warmup.GROUPS, ids=lambda group: str(group[0]))
def test_warmup_group_only_uses_the_contract(
    group: tuple[str, Callable[[backend.Backend], None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the reference backend, with the large convolutions left out: it must run, in silence."""
    small = [layer for layer in _warmup.CONVOLUTIONS if layer[0][2] <= 14 and layer[1] < 256]
    assert len(small) > 3
    monkeypatch.setattr(_warmup, "CONVOLUTIONS", small)
    group[1](NumpyBackend())


def test_warmup_compiles_the_warp_of_augmentation() -> None:
    seen = []

    class Warping(NumpyBackend):
        def affine_warp(self, x: Any, matrices: Any, mode: int, cval: float) -> Any:
            seen.append((x.dtype.name, x.ndim))
            return warp(x, matrices, mode, cval)

    dict(_warmup.GROUPS)["augmentation"](Warping())
    assert seen == [("uint8", 4), ("float32", 4)]
