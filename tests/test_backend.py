"""Choosing a backend: per tensor, per context, per process, by environment and by config file."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import tinygrad_cnn as tg
from tinygrad_cnn.backend import backend_names, settings


def run(code: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """``code`` in a fresh process, in the folder ``cwd``."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("TINYGRAD_CNN_BACKEND")}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        env={**env, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


SHOW = "import tinygrad_cnn as tg; print(tg.zeros(1).backend.name)"


def test_per_tensor_then_context_then_process() -> None:
    before = tg.get_backend().name
    try:
        tg.set_backend("numba")
        assert tg.zeros(2).backend.name == "numba"
        with tg.use_backend("numpy"):
            assert tg.zeros(2).backend.name == "numpy"
            assert tg.tensor([1.0], backend="numba").backend.name == "numba"
            with tg.use_backend("numba"):
                assert tg.randn(2).backend.name == "numba"
            assert tg.ones(2).backend.name == "numpy"
        assert tg.arange(3).backend.name == "numba"
    finally:
        tg.set_backend(before)


def test_a_context_belongs_to_its_thread() -> None:
    found = []
    before = tg.get_backend().name
    try:
        tg.set_backend("numba")
        with tg.use_backend("numpy"):
            thread = threading.Thread(target=lambda: found.append(tg.zeros(1).backend.name))
            thread.start()
            thread.join()
        assert found == ["numba"]
    finally:
        tg.set_backend(before)


def test_a_tensor_keeps_its_backend_and_moves_on_request() -> None:
    x = tg.tensor([1.0, 2.0], backend="numpy", requires_grad=True)
    y = x.to("numba")
    assert (x.backend.name, y.backend.name) == ("numpy", "numba")
    (y * y).sum().backward()
    assert x.grad is not None and x.grad.backend.name == "numpy" and x.grad.tolist() == [2, 4]


def test_environment_and_config_file(tmp_path: Path) -> None:
    assert run(SHOW, tmp_path).stdout.strip() == "numba"
    (tmp_path / "tinygrad_cnn.toml").write_text('backend = "numpy"\nthreads = 1\n')
    assert run(SHOW, tmp_path).stdout.strip() == "numpy"
    assert run(SHOW, tmp_path, TINYGRAD_CNN_BACKEND="numba").stdout.strip() == "numba"
    other = tmp_path / "설정.toml"
    other.write_text('backend = "numba"\n', encoding="utf-8")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert run(SHOW, elsewhere, TINYGRAD_CNN_CONFIG=str(other)).stdout.strip() == "numba"


@pytest.mark.parametrize(
    "text, message",
    [
        ('bakend = "numpy"', "unknown key 'bakend'; did you mean 'backend'?"),
        ("backend = 3", "backend expects str, received 3"),
        ('threads = "two"', "threads expects int, received 'two'"),
        ("backend =", "not valid TOML"),
    ],
)
def test_bad_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TINYGRAD_CNN_CONFIG", raising=False)
    Path("tinygrad_cnn.toml").write_text(text)
    with pytest.raises(ValueError, match="tinygrad_cnn.toml: .*") as error:
        settings()
    assert message in str(error.value)


def test_named_config_file_must_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYGRAD_CNN_CONFIG", "nowhere.toml")
    with pytest.raises(ValueError, match="nowhere.toml"):
        settings()


def test_unknown_backend() -> None:
    with pytest.raises(ValueError, match="unknown backend 'nunba'.*did you mean 'numba'?"):
        tg.set_backend("nunba")
    assert {"numpy", "numba"} <= set(backend_names())
    assert tg.available_backends()["numpy"] == ""


def test_without_numba_there_is_one_notice(tmp_path: Path) -> None:
    (tmp_path / "numba").mkdir()
    (tmp_path / "numba" / "__init__.py").write_text("raise ImportError('no numba here')")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {SHOW}; tg.zeros(1)"
    done = run(code, tmp_path)
    assert done.stdout.strip() == "numpy"
    assert done.stderr.count("Numba cannot be imported") == 1 and "no numba here" in done.stderr


def test_a_backend_of_ones_own_registers_by_entry_point(tmp_path: Path) -> None:
    (tmp_path / "loud.py").write_text(
        "from tinygrad_cnn.backends.numpy_backend import NumpyBackend\n"
        "class Loud(NumpyBackend):\n    name = 'loud'\n"
    )
    info = tmp_path / "loud-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: loud\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[tinygrad_cnn.backends]\nloud = loud:Loud\n")
    done = run(SHOW, tmp_path, TINYGRAD_CNN_BACKEND="loud", PYTHONPATH=str(tmp_path))
    assert done.stdout.strip() == "loud", done.stderr


def test_two_backends_side_by_side_and_never_mixed() -> None:
    a, b = tg.ones(2, backend="numpy"), tg.ones(2, backend="numba")
    assert (a + a).backend.name == "numpy" and (b + b).backend.name == "numba"
    with pytest.raises(ValueError, match="numpy tensor .* and numba tensor .*; move one with .to"):
        a + b
    np.testing.assert_array_equal(tg.randn(5, backend="numpy").shape, (5,))


def test_changed_constants_are_noticed(backend: str) -> None:
    with tg.use_backend(backend):
        x = tg.randn(3, 4, requires_grad=True)
        condition = tg.tensor([True, False, True, False])
        index = tg.tensor([[0, 1, 2, 0]])
        chosen, gathered, picked = tg.where(condition, x, 0.0), x.gather(0, index), x[index[0, :3]]
        condition[0] = False
        index[0, 0] = 2
        for y in (chosen, gathered):
            with pytest.raises(RuntimeError, match="saved its index or condition"):
                y.sum().backward()
        picked.sum().backward()  # indexing keeps a copy
        assert x.grad is not None and x.grad.sum(1).tolist() == [4, 4, 4]


def test_a_fault_of_our_own_kernels_is_not_taken_for_a_missing_numba(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['tinygrad_cnn.backends.numba_kernels.dispatch'] = None\n"
        "import tinygrad_cnn as tg\ntg.zeros(1)"
    )
    done = run(code, tmp_path)
    assert done.returncode == 1 and "numba_kernels.dispatch" in done.stderr, done.stderr
    assert "pip install numba" not in done.stderr


OVERFLOWS = """
import warnings, tinygrad_cnn as tg
tg.set_backend({name!r})
for dtype in (tg.float16, tg.float32, tg.float64):
    x = tg.tensor([0.0, -1.0, float("inf"), -float("inf"), float("nan"), 6e4], dtype=dtype)
    huge = tg.full((6,), 6e4 if dtype == tg.float16 else 3e38, dtype=dtype).requires_grad_()
    for y in (
        x - x, x / x, 1 / x, x * 0, x.log(), x.sqrt(), x.exp(), x % 0, x // 0, x**-1, x.softmax(0),
        x.sum(), x.prod(), x.std(), x.norm(), x.logsumexp(0), x.cumsum(0), x @ x, huge @ huge,
        (huge * huge).sum(), huge.sum(), huge.prod(), huge.var(), huge.exp(), huge.norm(),
        huge.cumsum(0), huge.to(tg.float16), tg.empty(0).mean(), tg.ones(1).std(),
        tg.nn.functional.gelu(huge), tg.nn.functional.layer_norm(huge, (6,)),
    ):
        y.sum().item()
    (huge**3 * huge).sum().backward()
tg.tensor([1]) / 0
assert tg.tensor([2.0]).log().isfinite().all()
warnings.warn("still heard", RuntimeWarning)
"""


@pytest.mark.parametrize("name", ["numpy", "numba"])
def test_infinities_come_in_silence(tmp_path: Path, name: str) -> None:
    done = run(OVERFLOWS.format(name=name), tmp_path)
    heard = [line for line in done.stderr.splitlines() if "Warning" in line]
    assert done.returncode == 0, done.stderr
    assert len(heard) == 1 and "still heard" in heard[0], done.stderr


def test_the_convolution_algorithm_is_a_choice() -> None:
    """Winograd rounds more than the direct sum; both are near the exact result."""
    with tg.use_backend("numba"):
        tg.manual_seed(0)
        x, w = tg.randn(2, 32, 32, 32), tg.randn(32, 32, 3, 3)
        exact = tg.nn.functional.conv2d(x.double(), w.double(), padding=1).numpy()
        errors = {}
        try:
            for name in ("auto", "direct"):
                tg.set_conv_algorithm(name)
                y = tg.nn.functional.conv2d(x, w, padding=1).numpy()
                errors[name] = np.abs(y - exact).max() / np.abs(exact).max()
        finally:
            tg.set_conv_algorithm("auto")
    assert errors["direct"] < errors["auto"] < 2e-5
    with pytest.raises(ValueError, match='expected "auto" or "direct", received \'fft\''):
        tg.set_conv_algorithm("fft")
