"""The CUDA simulator itself: planted mistakes, textbook figures, replay, translation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cuda_kernels import CORRECT, PLANTED, Planted, marked_line, source

import tinygrad_cnn as tg
from tinygrad_cnn.backend import load_backend
from tinygrad_cnn.backends.cuda.device import LaunchError
from tinygrad_cnn.backends.cuda.sim import compiler
from tinygrad_cnn.backends.cuda.sim.device import CudaSimError
from tinygrad_cnn.backends.cuda.source import blank_comments, rewrite_shared, signatures

F = np.float32


@pytest.fixture(scope="module", autouse=True)
def _needs_a_compiler() -> None:
    try:
        compiler.find_compiler()
    except ImportError as error:
        pytest.skip(str(error))


def raw(text: str, name: str, **options: Any) -> Any:
    return tg.cuda.RawKernel(text, name, backend="cudasim", **options)


def run(planted: Planted) -> list[Any]:
    x = np.arange(130, dtype=F)
    with tg.cuda.report(mode="check") as r:
        raw(source(planted), planted.name)(
            (planted.grid,), (planted.block,), (x, *planted.args), planted.shared_mem
        )
    return r.findings


# -- findings -------------------------------------------------------------------------------------
@pytest.mark.parametrize("planted", PLANTED, ids=lambda p: p.name)
def test_every_planted_mistake_is_found_where_it_is(planted: Planted) -> None:
    if planted.kind == "misaligned" and "ziglang" in compiler.find_compiler():
        pytest.skip("zig reads a float4 as four floats, each of them aligned")
    found = [(f.kind, f.line) for f in run(planted)]
    assert (planted.kind, marked_line(planted)) in found
    finding = next(f for f in run(planted) if f.kind == planted.kind)
    assert (
        finding.kernel == planted.name
        and finding.message
        and len(finding.block) == len(finding.thread) == 3
    )
    assert f"kernel.cu:{finding.line}" in str(finding)


@pytest.mark.parametrize("planted", CORRECT, ids=lambda p: p.name)
def test_correct_kernels_have_no_findings(planted: Planted) -> None:
    assert run(planted) == []


def test_a_finding_names_memory_place_and_both_threads() -> None:
    (overflow,) = run(next(p for p in PLANTED if p.name == "global_overflow"))
    assert overflow.block == (1, 0, 0) and overflow.thread == (36, 0, 0)
    assert "400" in overflow.message and "y" in overflow.message
    race = next(f for f in run(PLANTED[0]) if f.line == marked_line(PLANTED[0]))
    assert "__shared__ s" in race.message and "thread (31, 0, 0)" in race.message
    assert race.other is not None and race.other.line == marked_line(PLANTED[0]) - 1


def test_hopeless_kernels_stop_in_fast_mode_too() -> None:
    for name in ("two_barriers", "absent_lanes"):
        planted = next(p for p in PLANTED if p.name == name)
        with pytest.raises(CudaSimError, match=f"kernel.cu:{marked_line(planted)}"):
            raw(source(planted), name)(1, planted.block, (np.zeros(130, F),))


def test_two_thread_orders_disagree_about_a_race() -> None:
    """Comparing orders is a second, cheap detector: a correct kernel cannot tell them apart."""
    device = load_backend("cudasim").device
    text = source(PLANTED[0])
    results = []
    for descending in (False, True):
        device.descending, before = descending, device.descending
        x = np.arange(64, dtype=F)
        try:
            raw(text, PLANTED[0].name)(1, 64, (x,))
        finally:
            device.descending = before
        results.append(x)
    assert not np.array_equal(results[0], results[1], equal_nan=True)


# -- launches -------------------------------------------------------------------------------------
SCALE = (
    'extern "C" __global__ void scale(const float* x, float* y, int n, float by) {\n'
    "    int i = blockIdx.x * blockDim.x + threadIdx.x;\n    if (i < n) y[i] = by * x[i];\n}"
)


def test_raw_kernel_writes_arrays_and_tensors_in_place() -> None:
    scale, x, y = raw(SCALE, "scale"), np.arange(70, dtype=F), np.zeros(70, F)
    scale((2,), (64,), (x, y, np.int32(70), np.float32(3)))
    assert np.array_equal(y, 3 * x)
    tx, ty = tg.tensor(x, backend="cudasim"), tg.zeros(70, backend="cudasim")
    scale(2, 64, (tx, ty, 70, 2.0))
    assert np.array_equal(ty.numpy(), 2 * x)


@pytest.mark.parametrize(("grid", "block", "args", "text"), [
    (1, 32, (0, 1, 2), "takes 4 arguments"),
    (1, 32, ("y", "y", np.int64(5), np.float32(1)), "argument 2 .n. is int; received int64"),
    (1, 32, ("y", "y", 2**40, 1.0), "does not fit"),
    (1, 32, ("y", "d", np.int32(5), np.float32(1)), "received an array of float64"),
    (1, 32, ("y", "r", np.int32(5), np.float32(1)), "read-only"),
    (1, 32, ("y", 3, np.int32(5), np.float32(1)), "pass an array"),
    (1, 32, ("y", "y", 5.0, 1.0), "pass an integer"),
    (0, 32, ("y", "y", 5, 1.0), "grid: dimension x"),
    (1, 1025, ("y", "y", 5, 1.0), "block: dimension x"),
    (1, (32, 64), ("y", "y", 5, 1.0), "at most 1024"),
    ((1, 70000), 32, ("y", "y", 5, 1.0), "grid: dimension y"),
])  # fmt: skip
def test_wrong_launches_are_refused(grid: Any, block: Any, args: Any, text: str) -> None:
    arrays = {"y": np.zeros(5, F), "d": np.zeros(5), "r": np.zeros(5, F)}
    arrays["r"].flags.writeable = False
    args = tuple(arrays[a] if isinstance(a, str) else a for a in args)
    with pytest.raises(LaunchError, match=text):
        raw(SCALE, "scale")(grid, block, args)
    with tg.cuda.report(mode="check") as r:
        raw(SCALE, "scale")(grid, block, args)
    assert [f.kind for f in r.findings] == ["launch"]


def test_sources_are_refused_with_a_reason() -> None:
    with pytest.raises(ValueError, match="no kernel found"):
        raw("void f() {}", "f")
    with pytest.raises(ValueError, match="it has scale"):
        raw(SCALE, "scales")
    with pytest.raises(compiler.CompileError, match=r"kernel.cu:2"):
        raw('extern "C" __global__ void k(float* x) {\n  y = 1;\n}', "k")(1, 1, (np.zeros(1, F),))
    with pytest.raises(CudaSimError, match="exceeds 49152 bytes"):
        raw(
            'extern "C" __global__ void k(float* x) '
            "{ __shared__ float s[20000]; s[0] = x[0]; x[0] = s[0]; }",
            "k",
        )(1, 1, (np.zeros(1, F),))


# -- figures --------------------------------------------------------------------------------------
TRANSPOSE = """
extern "C" __global__ void tiled(const float* x, float* y, int n) {
    __shared__ float t[32][PITCH];
    int i = blockIdx.x * 32 + threadIdx.x, j = blockIdx.y * 32 + threadIdx.y;
    for (int k = 0; k < 32; k += 8) t[threadIdx.y + k][threadIdx.x] = x[(j + k) * n + i];
    __syncthreads();
    i = blockIdx.y * 32 + threadIdx.x, j = blockIdx.x * 32 + threadIdx.y;
    for (int k = 0; k < 32; k += 8) y[(j + k) * n + i] = t[threadIdx.x][threadIdx.y + k];
}
extern "C" __global__ void naive(const float* x, float* y, int n) {
    int i = blockIdx.x * 32 + threadIdx.x, j = blockIdx.y * 8 + threadIdx.y;
    y[i * n + j] = x[j * n + i];
}
extern "C" __global__ void branches(const float* x, float* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    float v = x[i];
    if (threadIdx.x & 1) { for (int k = 0; k < n; ++k) v = v * 1.01f + sinf(v); }
    else { for (int k = 0; k < n; ++k) v = v * 0.99f + cosf(v); }
    y[i] = v;
}
"""


def trace(name: str, grid: Any, block: Any, n: int, pitch: int = 33) -> Any:
    x, y = np.random.default_rng(0).random((64, 64)).astype(F), np.zeros((64, 64), F)
    with tg.cuda.report() as r:
        raw(TRANSPOSE, name, defines={"PITCH": pitch})(grid, block, (x, y, np.int32(n)))
    return r.launches[0]


@pytest.mark.parametrize(("pitch", "degree"), [(33, 1), (32, 32), (34, 2), (48, 16)])
def test_bank_conflicts_of_a_transpose(pitch: int, degree: int) -> None:
    row = trace("tiled", (2, 2), (32, 8), 64, pitch)
    found = {(s.space, s.action): s for s in row.sites}
    assert found["shared", "load"].bank_degree == degree
    assert found["shared", "store"].bank_degree == 1
    for key in (("global", "load"), ("global", "store")):
        assert found[key].sectors == found[key].ideal_sectors == 4 and found[key].lanes == 32


def test_uncoalesced_stores_of_a_naive_transpose() -> None:
    row = trace("naive", (2, 8), (32, 8), 64)
    store = next(s for s in row.sites if s.action == "store")
    assert store.sectors == 32 and store.efficiency == 1 / 8
    assert row.bytes_moved == 64 * 64 / 32 * (32 + 4) * 32


def test_divergence() -> None:
    assert 0.5 <= trace("branches", 2, 64, 40).simd_efficiency < 0.65
    assert trace("naive", (2, 8), (32, 8), 64).simd_efficiency == 1


def test_report_says_what_it_is() -> None:
    with tg.cuda.report() as r:
        raw(SCALE, "scale")(1, 32, (np.zeros(32, F), np.zeros(32, F), 32, 1.0))
    text = str(r)
    assert (
        "times are not GPU times" in text
        and "scale: grid (1, 1, 1)" in text
        and "kernel.cu:3" in text
    )
    with pytest.raises(ValueError, match="mode"), tg.cuda.report(mode="slow"):
        pass


# -- replay ---------------------------------------------------------------------------------------
def test_replay_steps_through_a_thread() -> None:
    reverse = next(p for p in CORRECT if p.name == "reverse")
    kernel, x = raw(source(reverse), "reverse"), np.arange(64, dtype=F)
    kernel(1, 64, (x,))
    steps = [
        (s.action, s.array, s.index, s.value, s.barriers) for s in tg.cuda.replay(kernel, 0, 3)
    ]
    assert steps == [("load", "x", (3,), 3.0, 0), ("store", "s", (3,), 3.0, 0),
                     ("load", "s", (60,), 60.0, 1), ("store", "x", (3,), 60.0, 1)]  # fmt: skip
    assert np.array_equal(x, np.arange(64)[::-1])  # replaying works on copies


def test_replay_of_a_later_block_and_of_a_report() -> None:
    kernel, x, y = raw(SCALE, "scale"), np.arange(70, dtype=F), np.zeros(70, F)
    kernel(3, 32, (x, y, 70, 2.0))
    steps = tg.cuda.replay(kernel, 1, 4)
    assert [(s.array, s.index, s.value) for s in steps] == [("x", (36,), 36.0), ("y", (36,), 72.0)]
    assert tg.cuda.replay(kernel, 2, 31) == []
    row = trace("tiled", (2, 2), (32, 8), 64)
    first = tg.cuda.replay(row, (0, 0, 0), (3, 1, 0))[1]
    assert (first.action, first.array, first.index) == ("store", "t", (1, 3))
    for block, thread in ((3, 0), (0, 32)):
        with pytest.raises(ValueError, match="must lie in"):
            tg.cuda.replay(kernel, block, thread)


# -- reading the source ---------------------------------------------------------------------------
def test_signatures_resolve_names() -> None:
    text = (
        '#define REAL double\ntypedef unsigned char byte;\nextern "C" __global__ void '
        "__launch_bounds__(N)\n"
        "k(const REAL* __restrict__ a, byte *b, T c, unsigned long long d, const int e, float "
        "f[]) {}"
    )
    found = signatures(text, {"T": "long long", "N": 3})["k"]
    assert found.letters() == "cdpBvqvQvipf" and [p.name for p in found.parameters] == list(
        "abcdef"
    )


def test_shared_declarations_keep_their_lines() -> None:
    text = (
        "a; // __shared__ int x;\n__shared__ float s[2]\n  [3], t;\nextern __shared__ int d[];\nz;"
    )
    made = rewrite_shared(text)
    assert made.count("\n") == text.count("\n") and made.splitlines()[-1] == "z;"
    assert (
        "cusim_shared(0," in made
        and "cusim_shared(1," in made
        and "int* d = (int*)cusim_dynamic" in made
    )
    assert made.startswith("a; // __shared__ int x;") and "__shared__" not in blank_comments(made)


def test_missing_compiler_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.delenv("TINYGRAD_CNN_CXX", raising=False)
    with pytest.raises(ImportError, match="pip install ziglang"):
        compiler.find_compiler.__wrapped__()


def test_nothing_is_compiled_twice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TINYGRAD_CNN_CACHE", str(tmp_path))
    text = (
        rewrite_shared('extern "C" __global__ void once(int* x) { x[0] = 1; }')
        + "\nCUSIM_EXPORT(once)\n"
    )
    made = compiler.compile_library("once", text, check=False)
    written = made.stat().st_mtime_ns
    assert (
        compiler.compile_library("once", text, check=False) == made
        and made.stat().st_mtime_ns == written
    )
    assert compiler.compile_library("once", text + "\n", check=False) != made
