"""CupyBackend against a recording stand-in of CuPy; on a GPU, ``pytest -m gpu`` runs the real
thing.
"""

from __future__ import annotations

import sys
import types
from typing import Any

import numpy as np
import pytest
from cupy_stand_in import CupyArray, make_cupy, new

import tinygrad_cnn as tg
from tinygrad_cnn.backend import load_backend
from tinygrad_cnn.backends.cuda.sim import compiler
from tinygrad_cnn.backends.cuda.sim.device import SimDevice
from tinygrad_cnn.backends.cudasim_backend import CudaSimBackend
from tinygrad_cnn.backends.cupy_backend import CupyBackend

F = np.float32


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> Any:
    try:
        compiler.find_compiler()
    except ImportError as error:
        pytest.skip(str(error))
    made = make_cupy()
    monkeypatch.setitem(sys.modules, "cupy", made)
    cupyx = types.ModuleType("cupyx")
    cupyx.empty_pinned = np.empty  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cupyx", cupyx)
    return made


def network(backend: Any) -> tuple[Any, list[Any], Any]:
    """(one training step, its parameters, the loss it leaves)."""
    rng = np.random.default_rng(0)
    x = tg.tensor(rng.standard_normal((4, 2, 9, 9)).astype(F), backend=backend)
    target = tg.tensor(np.array([0, 2, 1, 2]), backend=backend)
    shapes = ((33, 2, 3, 3), (5, 33, 3, 3), (3, 20))
    params = [
        tg.tensor((0.2 * rng.standard_normal(s)).astype(F), backend=backend, requires_grad=True)
        for s in shapes
    ]
    optimizer = tg.optim.SGD(params, 0.05, 0.9)
    losses: list[Any] = []

    def step() -> None:
        import tinygrad_cnn.nn.functional as T

        optimizer.zero_grad()
        y = T.max_pool2d(T.relu(T.conv2d(x, params[0])), 2)
        y = T.conv2d(y, params[1], stride=1, padding=1)
        loss = T.cross_entropy(T.avg_pool2d(y, 2, 1).flatten(1) @ params[2].T, target)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())

    return step, params, losses


def test_same_results_as_the_simulator(cupy: Any) -> None:
    """The same host layer and kernels; the Device differs, and windows are compiled in."""
    results = []
    for backend in (CupyBackend(), CudaSimBackend(SimDevice())):
        step, params, losses = network(backend)
        for _ in range(3):
            step()
        results.append([t.detach().numpy() for t in (*params, *losses)])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_a_training_step_stays_on_the_device(cupy: Any) -> None:
    step, _, losses = network(CupyBackend())
    step()
    step()
    del cupy.calls[:]
    step()
    names = {name for name, _ in cupy.calls}
    assert names == {"launch"}, names
    assert isinstance(losses[-1].array, CupyArray)


def test_capture_records_a_step_as_a_graph(cupy: Any) -> None:
    backend = CupyBackend()
    step, _, _ = network(backend)
    again = backend.device.capture(step)
    again()
    (launches,) = [n for name, n in cupy.calls if name == "graph"]
    assert launches > 20


def test_compile_once_with_plain_options(cupy: Any) -> None:
    backend = CupyBackend()
    for _ in range(2):
        backend.random_uniform((5,), np.dtype(F), 1, 0)
        backend.add(backend.asarray(np.ones(3, F)), 1.0)
    made = [options for name, options in cupy.calls if name == "RawModule"]
    assert made == [("--std=c++17", "--fmad=false"), ("--std=c++17",)]


def test_prefetch_timing_memory_and_peak(cupy: Any) -> None:
    device = CupyBackend().device
    batches = [(np.full((2, 3), i, F), np.arange(2)) for i in range(5)]
    found = list(device.prefetch(iter(batches)))
    assert all(isinstance(a, CupyArray) for pair in found for a in pair)
    assert [int(np.asarray(x)[0, 0]) for x, _ in found] == [0, 1, 2, 3, 4]
    assert device.time(lambda: None) == 0.0015 and device.memory() == (1, 2)
    assert device.peak() == {"flops": 2 * 64 * 108 * 1.41e9, "bytes": 2 * 1.215e9 * 640}


def test_raw_kernel_and_report(cupy: Any) -> None:
    source = (
        'extern "C" __global__ void twice(const float* x, float* y, int n) {\n'
        "    int i = blockIdx.x * blockDim.x + threadIdx.x;\n    if (i < n) y[i] = 2 * x[i];\n}"
    )
    backend = CupyBackend()
    twice = tg.cuda.RawKernel(source, "twice", backend=backend)
    x, y, z = np.arange(40, dtype=F), np.zeros(40, F), new((40,))
    with tg.cuda.report(mode="fast") as r:
        twice(2, 32, (x, y, np.int32(40)))
        twice(2, 32, (x, z, 40))
    assert np.array_equal(y, 2 * x) and np.array_equal(z, 2 * x)
    assert [row.registers for row in r.launches if row.device == "cupy"] == [32, 32]


def test_cublas_is_a_choice(cupy: Any) -> None:
    backend = CupyBackend()
    a = backend.asarray(np.arange(6, dtype=F).reshape(2, 3))
    backend.gemm = "cublas"
    del cupy.calls[:]
    found = backend.to_numpy(backend.matmul(a, backend.asarray(np.ones((3, 2), F))))
    assert np.array_equal(found, [[3, 3], [12, 12]]) and "launch" not in {n for n, _ in cupy.calls}


@pytest.mark.parametrize(
    ("driver", "devices", "text"), [(0, 0, "driver"), (12090, 0, "no NVIDIA GPU")]
)
def test_missing_driver_or_device_in_one_line(
    monkeypatch: pytest.MonkeyPatch, driver: int, devices: int, text: str
) -> None:
    monkeypatch.setitem(sys.modules, "cupy", make_cupy(driver, devices))
    with pytest.raises(ImportError, match=text) as caught:
        CupyBackend()
    assert "\n" not in str(caught.value)


def test_missing_package_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(ImportError, match=r"pip install tinygrad-cnn\[cuda\]"):
        CupyBackend()


# -- with a GPU -----------------------------------------------------------------------------------
@pytest.mark.gpu
def test_gpu_agrees_with_the_simulator() -> None:
    results = []
    for backend in (load_backend("cupy"), load_backend("cudasim")):
        step, params, losses = network(backend)
        for _ in range(3):
            step()
        results.append([t.detach().numpy() for t in (*params, *losses)])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.gpu
def test_gpu_random_numbers_are_bit_equal() -> None:
    on_gpu, reference = load_backend("cupy"), load_backend("numpy")
    for dtype in ("float16", "float32", "float64"):
        for draw in ("random_uniform", "random_normal"):
            a = on_gpu.to_numpy(getattr(on_gpu, draw)((1001,), np.dtype(dtype), 5, 3))
            assert a.tobytes() == getattr(reference, draw)((1001,), np.dtype(dtype), 5, 3).tobytes()


@pytest.mark.gpu
def test_gpu_graph_repeats_a_step() -> None:
    backend: Any = load_backend("cupy")
    step, params, _ = network(backend)
    again = backend.device.capture(step)
    before = params[0].detach().numpy().copy()
    again()
    assert not np.array_equal(before, params[0].detach().numpy())


@pytest.mark.gpu
def test_gpu_registers_match_the_paper_table() -> None:
    """The driver reports what NVRTC said on paper of the same text."""
    backend: Any = load_backend("cupy")
    a = backend.asarray(np.ones((64, 64), F))
    with tg.cuda.report(mode="fast") as r:
        backend.matmul(a, a)
    assert r.launches[0].registers is not None and r.launches[0].registers <= 128
