"""The Numba backend's machinery: code cache, threads, memory pool, and kernels on awkward memory.

What the kernels compute is tested with all backends in test_kernels*.py; here are the things that
only compiled code on raw addresses can get wrong.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kernel_inputs import Guarded

pytest.importorskip("numba")

from tinygrad_cnn.backend import load_backend  # noqa: E402
from tinygrad_cnn.backends.numba_kernels import (  # noqa: E402
    elementwise,
    loss,
    memory,
    norm,
    operands,
    pool,
    reduce,
    runtime,
    strided,
    threads,
)
from tinygrad_cnn.backends.numpy_backend import NumpyBackend  # noqa: E402
from tinygrad_cnn.geometry import Window  # noqa: E402

ROOT = Path(__file__).parents[1]
REFERENCE = NumpyBackend()
kernels: Any = load_backend("numba")

PROBE = """
import json, warnings
import numpy as np
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    from tinygrad_cnn.backends.numba_kernels import cache, loops, runtime
    compiled = []
    runtime.on_compile(lambda name, seconds: seconds is None or compiled.append(name))
    x = np.arange(40000, dtype=np.float32) - 20000
    y = np.empty_like(x)
    relu = loops.unary_kernel("relu", "float32")
    relu.serial(3, runtime.address(x), runtime.address(y), x.size, 0)
assert (y == np.maximum(x, 0)).all()
print(json.dumps({"compiled": compiled, "key": runtime.source_key(), "folder": str(cache.folder()),
                  "warnings": [str(w.message) for w in seen]}))
"""


def _install(target: Path) -> Path:
    """A copy of the package as an installed one looks; returns the folder for PYTHONPATH."""
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "tinygrad_cnn", target / "tinygrad_cnn", ignore=skip)
    shutil.copytree(ROOT / "backends", target / "tinygrad_cnn" / "backends", ignore=skip)
    return target


def _environment(site: Path, cache: Path | None, **more: str) -> dict[str, str]:
    found = {k: v for k, v in os.environ.items() if not k.startswith(("TINYGRAD_CNN_", "XDG_"))}
    found |= {"PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUTF8": "1", **more}
    return found if cache is None else found | {"TINYGRAD_CNN_CACHE": str(cache)}


def _start(
    site: Path, environment: dict[str, str], script: str = PROBE, *arguments: str
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments], cwd=site, env=environment, text=True,
        encoding="utf-8", stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def _finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _install(tmp_path_factory.mktemp("site"))


# -- machine code on disk -------------------------------------------------------------------------
def test_code_is_kept_until_any_source_changes(tmp_path: Path) -> None:
    """Two processes compile at once; later ones load; a damaged file or an edited helper compiles
    again."""
    site = _install(tmp_path / "site")
    environment = _environment(site, tmp_path / "cache")
    both = [_start(site, environment) for _ in range(2)]
    first = [_finish(process) for process in both]
    assert any("loops.relu_float32" in found["compiled"] for found in first)
    loaded = _finish(_start(site, environment))
    assert loaded["compiled"] == [] and loaded["warnings"] == []

    files = list(Path(loaded["folder"]).glob("*.bin"))
    assert files and not list(Path(loaded["folder"]).glob("*.part"))
    for file in files:
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    assert "loops.relu_float32" in _finish(_start(site, environment))["compiled"]

    helper = site / "tinygrad_cnn" / "backends" / "numba_kernels" / "access.py"
    helper.write_text(helper.read_text(encoding="utf-8") + "\n# edited\n", encoding="utf-8")
    edited = _finish(_start(site, environment))
    assert edited["key"] != loaded["key"]
    assert "loops.relu_float32" in edited["compiled"]


FACTORY = """
import json, sys
import numpy as np
from tinygrad_cnn.backends.numba_kernels import loops, runtime
x = np.linspace(-1, 1, 1000, dtype=np.float32)
y = np.empty_like(x)
errors = {}
for name in sys.argv[1:]:
    kernel = loops.unary_kernel(name, "float32")
    kernel.serial(1, runtime.address(x), runtime.address(y), x.size, 0)
    expected = np.maximum(x, 0) if name == "relu" else getattr(np, name)(x)
    errors[name] = float(np.abs(y - expected).max())
print(json.dumps(errors))
"""


def test_code_of_several_processes_is_told_apart(site: Path, tmp_path: Path) -> None:
    """Each process compiles one kernel of the same factory as its first; a last one loads both."""
    environment = _environment(site, tmp_path / "cache")
    for names in (["negative"], ["relu"], ["exp"], ["relu", "exp"], ["exp", "relu"]):
        errors = _finish(_start(site, environment, FACTORY, *names))
        assert list(errors) == names and max(errors.values()) < 1e-6


NUMBERS = """
import json, os
from tinygrad_cnn.backends.numba_kernels.cache import FunctionIdentity
read, write = os.pipe()
for _ in range(2):
    if os.fork() == 0:
        os.write(write, b"%d\\n" % next(FunctionIdentity._unique_ids))
        os._exit(0)
    os.wait()
print(json.dumps([next(FunctionIdentity._unique_ids), *map(int, os.read(read, 99).split())]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_code_of_forked_children_is_told_apart(site: Path) -> None:
    numbers = _finish(_start(site, _environment(site, None), NUMBERS))
    assert len(set(numbers)) == 3


def test_an_edit_after_the_import_does_not_rename_the_code(tmp_path: Path) -> None:
    """The key belongs to the sources that were imported."""
    site = _install(tmp_path / "site")
    script = """
import json
from pathlib import Path
from tinygrad_cnn.backends.numba_kernels import access, cache
Path(access.__file__).write_text("# edited")
folders = [p.name for p in cache.folder().parent.iterdir()]
print(json.dumps({"key": cache.source_key(), "folders": folders}))
"""
    kept = _finish(_start(site, _environment(site, tmp_path / "cache")))
    edited = _finish(_start(site, _environment(site, tmp_path / "cache"), script))
    assert edited == {"key": kept["key"], "folders": [kept["key"]]}


def test_read_only_package_without_home_and_with_a_korean_path(site: Path, tmp_path: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in site.rglob("*")}
    for folder in (site, *(p for p in site.rglob("*") if p.is_dir())):
        folder.chmod(0o555)
    environment = _environment(site, tmp_path / "한글 캐시")
    environment.pop("HOME", None)
    try:
        found = _finish(_start(site, environment))
    finally:
        for folder in (site, *(p for p in site.rglob("*") if p.is_dir())):
            folder.chmod(0o755)
    assert found["warnings"] == []
    assert list((tmp_path / "한글 캐시").rglob("*.bin"))
    assert before == {p: p.stat().st_mtime_ns for p in site.rglob("*")}


def test_no_writable_cache_warns_once_and_works(site: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    found = _finish(_start(site, _environment(site, tmp_path / "file" / "cache")))
    assert found["compiled"]
    assert len(found["warnings"]) == 1 and "TINYGRAD_CNN_CACHE" in found["warnings"][0]


# -- threads --------------------------------------------------------------------------------------
FORK = """
import json, os
import numpy as np
from tinygrad_cnn.backend import load_backend
b = load_backend("numba")
b.set_num_threads(2)
x = np.random.default_rng(0).standard_normal((64, 2000), dtype=np.float32)
before = b.sum(b.exp(x), (0, 1), False).tobytes()
child = os.fork()
if child == 0:
    same = b.sum(b.exp(x), (0, 1), False).tobytes() == before
    os._exit(0 if same and b.get_num_threads() == 1 else 3)
_, status = os.waitpid(child, 0)
after = b.sum(b.exp(x), (0, 1), False).tobytes()
print(json.dumps({"child": os.waitstatus_to_exitcode(status), "same": before == after}))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_computes_on_its_own_thread(site: Path, tmp_path: Path) -> None:
    found = _finish(_start(site, _environment(site, tmp_path / "cache"), FORK))
    assert found == {"child": 0, "same": True}


FORK_IN_POOL = """
import json, os, signal, threading
from tinygrad_cnn.backends.numba_kernels.memory import pool
class Slow(dict):
    def get(self, *args):
        inside.set()
        go_on.wait(0.5)
        return super().get(*args)
inside, go_on = threading.Event(), threading.Event()
pool._free = Slow()
allocating = threading.Thread(target=pool.take, args=(100_000,))
allocating.start()
inside.wait()
child = os.fork()
go_on.set()
if child == 0:
    signal.alarm(5)
    pool.take(100_000)
    os._exit(0)
allocating.join()
print(json.dumps(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_forked_while_a_thread_allocates_can_allocate(site: Path, tmp_path: Path) -> None:
    found = _finish(_start(site, _environment(site, tmp_path / "cache"), FORK_IN_POOL))
    assert found == 0


def test_python_threads_share_the_kernels() -> None:
    """Eight threads run parallel kernels at once, each on data of its own."""
    failures: list[str] = []

    def work(seed: int) -> None:
        x = np.random.default_rng(seed).standard_normal((16, 5000)).astype(np.float32)
        doubled, total = x + x, x.sum(dtype=np.float64)
        for _ in range(40):
            if not np.array_equal(kernels.add(x, x), doubled):
                failures.append(f"add in thread {seed}")
            if abs(float(kernels.sum(x, (0, 1), False)) - total) > 1e-2:
                failures.append(f"sum in thread {seed}")

    started = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join(timeout=60)
        assert not thread.is_alive()
    assert failures == []


@pytest.fixture
def restore_threads() -> Iterator[None]:
    before = kernels.get_num_threads()
    yield
    kernels.set_num_threads(before)


def _everything(seed: int) -> Iterator[tuple[str, Any]]:
    """Results whose bits could depend on who adds what first."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((6, 37, 21, 23)).astype(np.float32)
    window = Window((3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1))
    for title, a in (
        ("planes", x),
        ("rows", np.array(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)),
    ):
        mean, var = kernels.batch_norm_stats(a)
        yield f"stats {title}", (mean, var)
        yield f"grad {title}", kernels.batch_norm_grad(a, a, mean, var, None, 1e-5)
        for axes in ((0, 1, 2, 3), (0, 2, 3), (1, 2, 3), (0,)):
            yield f"sum {axes} {title}", (kernels.sum(a, axes, False),)
        y, winner = kernels.max_pool(a, window)
        yield f"scatter {title}", (kernels.max_pool_scatter(y, winner, a.shape, window),)
    logits, target = rng.standard_normal((3000, 17)).astype(np.float32), rng.integers(0, 17, 3000)
    yield "cross-entropy", kernels.cross_entropy(logits, target)
    yield "exp", (kernels.exp(x),)
    params, grads = [x.copy(), logits.copy()], [x, logits]
    m, v = [x * 0, logits * 0], [x * 0, logits * 0]
    kernels.adam_step(params, grads, m, v, 0.1, (0.9, 0.99), 1e-8, 0.1, False, 1)
    yield "adam", params
    yield "squares", (kernels.squared_norms([x, logits]),)


def test_bits_do_not_depend_on_the_number_of_threads(restore_threads: None) -> None:
    kernels.set_num_threads(1)
    alone = [(title, [np.array(a) for a in arrays]) for title, arrays in _everything(1)]
    for count in (2, 4):
        kernels.set_num_threads(count)
        for (title, wanted), (_, found) in zip(alone, _everything(1), strict=True):
            for a, b in zip(wanted, found, strict=True):
                assert a.tobytes() == np.array(b).tobytes(), f"{title} with {count} threads"


def test_processor_quota(tmp_path: Path) -> None:
    assert threads._quota(tmp_path / "none") == math.inf
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    assert threads._quota(tmp_path) == 1.5
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert threads._quota(tmp_path) == math.inf
    old = tmp_path / "old" / "cpu"
    old.mkdir(parents=True)
    (old / "cpu.cfs_quota_us").write_text("50000\n")
    (old / "cpu.cfs_period_us").write_text("100000\n")
    assert threads._quota(tmp_path / "old") == 0.5


def test_thread_count_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_NUM_THREADS", "3")
    monkeypatch.delenv("TINYGRAD_CNN_NUM_THREADS", raising=False)
    assert threads.wanted_count() == 3
    monkeypatch.setenv("TINYGRAD_CNN_NUM_THREADS", "2")
    assert threads.wanted_count() == 2
    monkeypatch.setenv("TINYGRAD_CNN_NUM_THREADS", "many")
    with pytest.raises(ValueError, match="TINYGRAD_CNN_NUM_THREADS.*'many'"):
        threads.wanted_count()
    with pytest.raises(ValueError, match="from 1 to"):
        kernels.set_num_threads(0)


MORE = """
import json
import numpy as np
from tinygrad_cnn.backend import load_backend
b = load_backend("numba")
x = np.linspace(-1, 1, 1 << 20, dtype=np.float32)
found = []
for threads in (5, 1, 2, 7):
    b.set_num_threads(threads)
    found.append(b.exp(x).tobytes())
print(json.dumps({"same": found.count(found[0]) == 4, "count": b.get_num_threads(),
                  "error": float(np.abs(np.frombuffer(found[0], np.float32) - np.exp(x)).max())}))
"""


@pytest.mark.parametrize("limit", [None, "1", "3"])
def test_more_threads_than_processors(limit: str | None, site: Path, tmp_path: Path) -> None:
    """Before and after the pool exists, whatever Numba was told."""
    more = {} if limit is None else {"NUMBA_NUM_THREADS": limit}
    found = _finish(_start(site, _environment(site, tmp_path / "cache", **more), MORE))
    assert found["same"] and found["count"] == 7 and found["error"] < 1e-6


def test_numpy_blas_can_be_told_its_threads() -> None:
    assert threads.set_blas_threads(1) or not threads._blas_setters()


# -- memory pool ----------------------------------------------------------------------------------
def test_blocks_come_back_only_when_nothing_looks_at_them() -> None:
    a = memory.empty((300, 100), np.float32)
    place = runtime.address(a)
    assert place % 64 == 0 and kernels.owns(a)
    holders: list[Any] = [
        a[5:],
        a.T,
        a.reshape(-1).view(np.int32),
        memoryview(a),
        np.asarray(a)[::2],
    ]
    assert not any(kernels.owns(h) for h in holders if isinstance(h, np.ndarray) and h is not a)
    del a
    while holders:
        fresh = [memory.empty((300, 100), np.float32) for _ in range(3)]
        assert place not in [runtime.address(f) for f in fresh]
        del fresh
        holders.pop()
    assert place in [runtime.address(f) for f in [memory.empty((300, 100), np.float32)]]


def test_no_two_live_arrays_share_memory() -> None:
    """Random allocation and release, every live array keeping its own number."""
    rng = np.random.default_rng(2)
    live: list[tuple[Any, int]] = []
    for step in range(600):
        if live and rng.random() < 0.5:
            live.pop(int(rng.integers(len(live))))
        else:
            a = memory.empty((int(rng.integers(9000, 40000)),), np.int32)
            a[...] = step
            live.append((a[1:-1] if step % 3 else a, step))
        if step % 50 == 0:
            assert all((a == number).all() for a, number in live)
    assert all((a == number).all() for a, number in live)


def test_pool_counts_and_limit() -> None:
    pool_ = memory.Pool(limit=1 << 20)
    blocks = [pool_.take(300_000) for _ in range(5)]
    size = len(blocks[0])
    assert 300_000 <= size <= 300_000 * 1.125
    assert pool_.report()["in_use"] == pool_.report()["peak"] == 5 * size
    for block in blocks:
        pool_.give_back(block)
    report = pool_.report()
    assert report["in_use"] == 0 and report["pooled"] <= 1 << 20
    assert report["classes"] == {size: (1 << 20) // size}
    pool_.trim()
    assert pool_.report()["pooled"] == 0


def test_a_free_block_of_up_to_twice_the_size_serves() -> None:
    pool_ = memory.Pool()
    large = pool_.take(1_000_000)
    pool_.give_back(large)
    assert pool_.take(600_000) is large
    assert pool_.report()["in_use"] == len(large) and pool_.report()["pooled"] == 0
    pool_.give_back(large)
    assert len(pool_.take(400_000)) <= 450_000
    assert pool_.take(1_000_000) is large


def test_working_memory_that_grows_gives_the_old_block_back_first() -> None:
    grown: list[int] = []

    def work() -> None:  # on a thread of its own: it has no block yet
        memory.scratch(32 << 20)
        before = memory.pool.report()["in_use"]
        memory.pool.reset_peak()
        assert memory.scratch(64 << 20) % 64 == 0
        grown.append(memory.pool.report()["peak"] - before)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert grown[0] < 48 << 20


# -- awkward memory -------------------------------------------------------------------------------


@pytest.fixture
def guarded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Results lie between guard bytes, which must be whole in the end."""
    guard = Guarded()
    for module in (elementwise, loss, norm, operands, pool, reduce, strided):
        monkeypatch.setattr(module, "empty", guard.empty)
    yield
    assert guard.made
    guard.check()


def _awkward(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any, kinds: int = 5) -> Any:
    """An array of this shape: plain, permuted, offset by one element, every second, or reversed."""
    kind = rng.integers(kinds)
    if kind == 0:
        return rng.standard_normal(shape).astype(dtype)
    if kind == 1:
        axes = tuple(int(i) for i in rng.permutation(len(shape)))
        a = rng.standard_normal([shape[i] for i in axes]).astype(dtype)
        return a.transpose(np.argsort(axes))
    if kind == 2:
        return rng.standard_normal(math.prod(shape) + 1).astype(dtype)[1:].reshape(shape)
    a = rng.standard_normal([2 * n for n in shape]).astype(dtype)
    return a[tuple(slice(None, None, 2) if kind == 3 else slice(n - 1, None, -1) for n in shape)]


@pytest.mark.parametrize("seed", range(6))
def test_elementwise_on_awkward_memory(
    guarded: None, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(elementwise, "LARGE", 1)
    monkeypatch.setattr(elementwise, "SIMPLE", 1)
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(1, 23, int(rng.integers(1, 5))))
    for dtype in (np.float32, np.float64)[: 1 + (seed == 0)]:
        a, b = _awkward(rng, shape, dtype, 3), _awkward(rng, shape, dtype)
        axis = int(rng.integers(len(shape)))
        row = rng.standard_normal([n if i == axis else 1 for i, n in enumerate(shape)]).astype(
            dtype
        )
        grid = b[tuple(slice(None) if i % 2 == axis % 2 else slice(1) for i in range(len(shape)))]
        for op in ("add", "subtract", "multiply", "divide", "maximum", "minimum"):
            for x, y in (
                (a, b), (a, row), (row, b), (a, 1.5), (2, b), (a, a), (a, grid), (grid, b)
            ):  # fmt: skip
                found, wanted = getattr(kernels, op)(x, y), getattr(REFERENCE, op)(x, y)
                assert found.dtype == wanted.dtype
                np.testing.assert_array_equal(found, wanted)
            into = np.array(a)
            assert getattr(kernels, op)(into, row, out=into) is into
            np.testing.assert_array_equal(into, getattr(REFERENCE, op)(a, row))
        np.testing.assert_array_equal(kernels.relu_grad(a, b), np.where(b > 0, a, 0))
        np.testing.assert_array_equal(kernels.where(a > 0, a, b), np.where(a > 0, a, b))
        np.testing.assert_array_equal(
            kernels.where(a > 0, b, 0.0), np.where(a > 0, b, np.zeros_like(b))
        )


def test_results_that_overlap_an_operand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elementwise, "LARGE", 1)
    monkeypatch.setattr(elementwise, "SIMPLE", 1)
    buffer = np.arange(50000, dtype=np.float32)
    wanted = buffer[:-7] + buffer[:-7]
    kernels.add(buffer[:-7], buffer[:-7], out=buffer[7:])
    np.testing.assert_array_equal(buffer[7:], wanted)


@pytest.mark.parametrize("seed", range(6))
def test_images_on_awkward_memory(guarded: None, seed: int) -> None:
    """Odd sizes of channels and maps, against the reference in float64."""
    rng = np.random.default_rng(100 + seed)
    n, c, h, w = (int(v) for v in rng.integers((1, 1, 2, 2), (5, 40, 19, 19)))
    x, g = _awkward(rng, (n, c, h, w), np.float32), _awkward(rng, (n, c, h, w), np.float32)
    wide = x.astype(np.float64)
    mean, var = kernels.batch_norm_stats(x)
    for found, wanted in zip((mean, var), REFERENCE.batch_norm_stats(wide), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)
    weight = rng.standard_normal(c).astype(np.float32)
    y = kernels.batch_norm_relu(x, mean, var, weight, weight, 1e-3, g)
    middle = REFERENCE.batch_norm(wide, mean, var, weight, weight, 1e-3) + g
    np.testing.assert_allclose(y, np.maximum(middle, 0), rtol=1e-5, atol=1e-5)
    masked = np.where(y > 0, g, 0).astype(np.float64)
    *found, residual = kernels.batch_norm_relu_grad(g, y, x, mean, var, weight, 1e-3, True)
    np.testing.assert_array_equal(residual, masked)
    for a, b in zip(
        found, REFERENCE.batch_norm_grad(masked, wide, mean, var, weight, 1e-3), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * (1 + np.abs(b).max()))
    window = Window((2, 2), (2, 2), ((0, h % 2), (0, w % 2)), (1, 1))
    maxima, winner = kernels.max_pool(x, window)
    for a, b in zip((maxima, winner), REFERENCE.max_pool(x, window), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(
        kernels.max_pool_scatter(maxima, winner, x.shape, window),
        REFERENCE.max_pool_scatter(maxima, winner, x.shape, window),
    )
    logits, target = x.reshape(n * c, h * w), rng.integers(0, h * w, n * c)
    for a, b in zip(
        kernels.cross_entropy(np.ascontiguousarray(logits), target),
        REFERENCE.cross_entropy(logits.astype(np.float64), target), strict=True,
    ):  # fmt: skip
        np.testing.assert_allclose(a, b, rtol=3e-6, atol=1e-6)


# -- accuracy of the polynomials ------------------------------------------------------------------
_erf = np.vectorize(math.erf)
LIMITS = {  # largest error in units in the last place, as polynomials.py states it
    "exp": (np.exp, 1.1), "log": (np.log, 0.9), "tanh": (np.tanh, 1.4),
    "sigmoid": (lambda v: 1 / (1 + np.exp(-v)), 2.4), "erf": (_erf, 1.2),
}  # fmt: skip


@pytest.mark.parametrize("name", LIMITS)
def test_polynomials_stay_within_their_error(name: str) -> None:
    exact, limit = LIMITS[name]
    magnitudes = 10.0 ** np.linspace(-44, 38.5, 60001)
    sweep = [np.linspace(-100, 89, 60001), np.linspace(-4, 4, 60001), magnitudes, -magnitudes]
    x = np.concatenate(sweep).astype(np.float32)
    with np.errstate(all="ignore"):
        wanted, found = exact(x.astype(np.float64)), getattr(kernels, name)(x)
    largest = float(np.finfo(np.float32).max)
    ordinary = np.isfinite(wanted) & (np.abs(wanted) <= largest)
    unit = np.abs(np.spacing(wanted[ordinary].astype(np.float32))).astype(np.float64)
    error = np.abs(found[ordinary].astype(np.float64) - wanted[ordinary]) / unit
    assert error.max() <= limit
    rest = np.where(
        np.abs(wanted[~ordinary]) > largest, np.sign(wanted[~ordinary]) * np.inf, np.nan
    )
    np.testing.assert_array_equal(found[~ordinary], rest.astype(np.float32))
    special = np.resize(np.array([np.nan, np.inf, -np.inf, 0], np.float32), elementwise.LARGE)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(
            getattr(kernels, name)(special)[:4],
            exact(special[:4].astype(np.float64)).astype(np.float32),
        )


def test_two_kernels_of_one_name_are_refused() -> None:
    def body(chunk: int, worker: int, x: int) -> None:
        """Nothing."""

    def other(chunk: int, worker: int, x: int) -> None:
        """Nothing."""

    runtime.kernel_of(body, "test_twice", False)
    with pytest.raises(ValueError, match="test_twice"):
        runtime.kernel_of(other, "test_twice", False)
