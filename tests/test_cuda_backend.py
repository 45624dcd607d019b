"""The CUDA host layer and kernels beyond the shared suite: completeness, thread orders, checks,
mutation.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import tinygrad_cnn as tg
from tinygrad_cnn.backend import Backend, load_backend
from tinygrad_cnn.backends.cuda import host
from tinygrad_cnn.backends.cuda.backend import BOOKKEEPING, CudaBackend
from tinygrad_cnn.backends.cuda.catalogue import catalogue
from tinygrad_cnn.backends.cuda.elementwise import BINARY, UNARY
from tinygrad_cnn.backends.cuda.sim import compiler
from tinygrad_cnn.backends.cuda.sim.device import SimDevice
from tinygrad_cnn.backends.cudasim_backend import CudaSimBackend, device_from_environment
from tinygrad_cnn.geometry import LinearMap, Window

F = np.float32
RNG = np.random.default_rng(7)


@pytest.fixture(scope="module", autouse=True)
def _needs_a_compiler() -> None:
    try:
        compiler.find_compiler()
    except ImportError as error:
        pytest.skip(str(error))


def draw(*shape: int, dtype: Any = F) -> Any:
    return RNG.standard_normal(shape).astype(dtype)


FUSED = {"add_relu", "leaky", "leaky_slope"}  # formulas of the host layer, not primitives


# -- completeness ---------------------------------------------------------------------------------
def primitives() -> set[str]:
    named = {n for n, v in vars(Backend).items() if inspect.isfunction(v) and not n.startswith("_")}
    return (named | set(Backend.__annotations__)) - {"name"}


def test_every_primitive_is_a_kernel_or_declared_bookkeeping() -> None:
    """The CUDA backends inherit nothing from the array-module backend, so nothing runs there
    silently.
    """
    elementwise = set(UNARY) | set(BINARY)
    missing = {n for n in primitives() if n not in elementwise and not hasattr(CudaBackend, n)}
    assert not missing
    assert "ArrayBackend" not in {c.__name__ for c in CudaBackend.__mro__}
    assert primitives() >= BOOKKEEPING


def test_computing_primitives_launch_kernels() -> None:
    """No primitive outside BOOKKEEPING answers without a launch."""
    k = load_backend("cudasim")
    x, w, i = k.asarray(draw(2, 4, 6, 6)), k.asarray(draw(4, 4, 3, 3)), k.asarray(np.array([1, 0]))
    a, b = k.asarray(draw(6, 6)), k.asarray(np.array([1, 2, 0, 3, 1, 1]))
    window, pool = (
        Window((3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1)),
        Window((2, 2), (2, 2), ((0, 0),) * 2, (1, 1)),
    )
    y, winner = k.max_pool(x, pool)
    c, two = k.asarray(draw(4)), ((2,) * 3, (2,) * 3)
    calls: dict[str, Callable[[], object]] = {
        name: lambda n=name: getattr(k, n)(a) for name in UNARY
    }  # type: ignore[misc]
    bits = {"bitwise_and", "bitwise_or", "bitwise_xor", "left_shift", "right_shift"}  # of integers
    calls |= {
        name: lambda n=name, c=b if name in bits else a: getattr(k, n)(c, c) for name in BINARY
    }  # type: ignore[misc]
    calls |= {
        name: lambda n=name: getattr(k, n)(a, (1,), False)
        for name in "sum sum_of_squares prod max min any all".split()
    }  # type: ignore[misc]
    calls |= {name: lambda n=name: getattr(k, n)(a, 1) for name in  # type: ignore[misc]
              "argmax argmin argsort cumsum softmax log_softmax".split()}  # fmt: skip
    calls |= {
        "full": lambda: k.full((3,), 1.0, F),
        "arange": lambda: k.arange(0, 5, 1, F),
        "astype": lambda: k.astype(a, F),
        "copy": lambda: k.copy(a),
        "assign": lambda: k.assign(a, 0.5),
        "assign_at": lambda: k.assign_at(a, (0,), 1.0),
        "random_bits": lambda: k.random_bits(5, 1, 0),
        "random_uniform": lambda: k.random_uniform((5,), F, 1, 0),
        "random_normal": lambda: k.random_normal((5,), F, 1, 0),
        "where": lambda: k.where(k.asarray(True), a, a),
        "argtop": lambda: k.argtop(a, 2, 1, True),
        "pad": lambda: k.pad(a, ((1, 1), (0, 0))),
        "concatenate": lambda: k.concatenate([a, a], 0),
        "getitem": lambda: k.getitem(a, (i,)),
        "index_add": lambda: k.index_add((6, 6), (i,), a[:2]),
        "take_along_axis": lambda: k.take_along_axis(a, k.asarray(np.zeros((6, 1), int)), 1),
        "add_along_axis": lambda: k.add_along_axis(
            (6, 6), k.asarray(np.zeros((6, 1), int)), a[:, :1], 1
        ),
        "matmul": lambda: k.matmul(a, a),
        "linear": lambda: k.linear(a, a, None),
        "linear_grad": lambda: k.linear_grad(a, a, a, (True, True, True)),
        "conv_grad": lambda: k.conv_grad(x, x, w, window, 1, (True, True, True)),
        "conv_relu_pool_grad": lambda: k.conv_relu_pool_grad(
            y, y, winner, x, w, window, 1, pool, (True, True, True)
        ),
        "conv": lambda: k.conv(x, w, None, window, 1),
        "max_pool": lambda: k.max_pool(x, pool),
        "conv_input_grad": lambda: k.conv_input_grad(x, w, x.shape, window, 1),
        "conv_weight_grad": lambda: k.conv_weight_grad(x, x, w.shape, window, 1),
        "max_pool_gather": lambda: k.max_pool_gather(x, winner, pool),
        "max_pool_scatter": lambda: k.max_pool_scatter(y, winner, x.shape, pool),
        "avg_pool": lambda: k.avg_pool(x, pool, two),
        "avg_pool_scatter": lambda: k.avg_pool_scatter(y, x.shape, pool, two),
        "batch_norm_stats": lambda: k.batch_norm_stats(x),
        "batch_norm": lambda: k.batch_norm(x, c, k.exp(c), None, None, 1e-5),
        "batch_norm_grad": lambda: k.batch_norm_grad(x, x, c, k.exp(c), None, 1e-5),
        "cross_entropy": lambda: k.cross_entropy(a, b),
        "cross_entropy_grad": lambda: k.cross_entropy_grad(c[:1], a[:1], b[:1]),
        "leaky_relu": lambda: k.leaky_relu(a, 0.1),
        "leaky_relu_grad": lambda: k.leaky_relu_grad(a, a, 0.1),
        "prelu_grad": lambda: k.prelu_grad(x, x, k.reshape(c, (1, 4, 1, 1))),
        "activation": lambda: k.activation("gelu", a),
        "activation_grad": lambda: k.activation_grad("gelu", a, a),
        "pair_loss": lambda: k.pair_loss("huber", True, a, a, 1.0),
        "pair_loss_grad": lambda: k.pair_loss_grad("binary", a, a, a, (True, True)),
        "softmax_grad": lambda: k.softmax_grad(a, a, 1),
        "log_softmax_grad": lambda: k.log_softmax_grad(a, a, 1),
        "group_norm": lambda: k.group_norm(x, 2, c, c, 1e-5),
        "group_norm_grad": lambda: k.group_norm_grad(
            x, x, *k.group_norm(x, 2, c, c, 1e-5)[1:], c, 2, 1e-5
        ),
        "layer_norm": lambda: k.layer_norm(a, None, None, 1e-5),
        "layer_norm_grad": lambda: k.layer_norm_grad(
            a, a, *k.layer_norm(a, None, None, 1e-5)[1:], None, 1e-5
        ),
        "resample": lambda: k.resample(a, (LinearMap([[(0, 0.5), (1, 0.5)]], 6),)),
        "conv_relu": lambda: k.conv_relu(x, w, None, window, 1),
        "linear_relu": lambda: k.linear_relu(a, a, None),
        "conv_relu_pool": lambda: k.conv_relu_pool(x, w, None, window, 1, pool),
        "batch_norm_relu": lambda: k.batch_norm_relu(x, c, k.exp(c), None, None, 1e-5, x),
        "batch_norm_relu_grad": lambda: k.batch_norm_relu_grad(
            x, x, x, c, k.exp(c), None, 1e-5, True
        ),
        "sgd_step": lambda: k.sgd_step([a], [a], None, 0.1, 0, 0, 0, False, True),
        "adam_step": lambda: k.adam_step(
            [a], [a], [a], [k.exp(a)], 0.1, (0.9, 0.99), 1e-8, 0, False, 1
        ),
        "amsgrad_step": lambda: k.amsgrad_step(
            [a], [a], [a], [k.exp(a)], [k.exp(a)], 0.1, (0.9, 0.99), 1e-8, 0, False, 1
        ),
        "rmsprop_step": lambda: k.rmsprop_step(
            [a], [a], [k.exp(a)], [a], [a], 0.1, 0.9, 1e-8, 0, 0.9
        ),
        "adagrad_step": lambda: k.adagrad_step([a], [a], [k.exp(a)], 0.1, 1e-8, 0),
        "squared_norms": lambda: k.squared_norms([a, c]),
    }
    assert (set(calls) | BOOKKEEPING) - FUSED == primitives()
    silent = []
    for name, call in calls.items():
        with tg.cuda.report(mode="fast") as r:
            call()
        if not r.launches:
            silent.append(name)
    assert not silent


def test_gradients_without_a_graph_are_numpys() -> None:
    """The fused routes that a training takes: convolution, ReLU, pooling and dense layers."""
    from tinygrad_cnn import models

    found = []
    for name in ("numpy", "cudasim"):
        tg.manual_seed(0)
        with tg.use_backend(name):
            model = models.lenet5()
            tg.nn.functional.cross_entropy(
                model(tg.randn(2, 1, 32, 32)), tg.tensor([1, 7])
            ).backward()
            found.append([p.grad.numpy() for p in model.parameters()])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-6)


# -- the same numbers in every order, and nothing to find
# -------------------------------------------
def training_step(backend: CudaSimBackend) -> list[Any]:
    """Loss, first- and second-order gradients of a small network with ragged shapes, and one step
    of Adam.
    """
    import tinygrad_cnn.nn.functional as T

    rng = np.random.default_rng(3)
    x = tg.tensor(rng.standard_normal((3, 3, 11, 9)).astype(F), backend=backend)
    shapes = ((35, 3, 3, 3), (6, 35, 3, 2), (7, 54))
    params = [
        tg.tensor(0.2 * rng.standard_normal(s).astype(F), backend=backend, requires_grad=True)
        for s in shapes
    ]
    gamma, beta = (
        tg.tensor(v * np.ones(35, F), backend=backend, requires_grad=True) for v in (1, 0)
    )
    y = T.batch_norm(
        T.conv2d(x, params[0], stride=(2, 1), padding=1), None, None, gamma, beta, training=True
    )
    y = T.avg_pool2d(T.conv2d(T.max_pool2d(y.tanh(), 2, 1), params[1]), (1, 2))
    loss = T.cross_entropy(
        y.flatten(1) @ params[2].T, tg.tensor(np.array([1, 0, 6]), backend=backend)
    )
    params += [gamma, beta]
    first = tg.autograd.grad(loss, params, create_graph=True)
    norm = sum(((g * g).sum() for g in first), tg.tensor(F(0), backend=backend))
    second = tg.autograd.grad(norm, params)
    optimizer = tg.optim.Adam(params, 0.01, weight_decay=0.1)
    for p, g in zip(params, first, strict=True):
        p.grad = g.detach()
    optimizer.step()
    return [
        t.numpy().copy()
        for t in (
            loss.detach(),
            *(g.detach() for g in first),
            *second,
            *(p.detach() for p in params),
        )
    ]


@pytest.fixture(scope="module")
def reference() -> list[Any]:
    return training_step(CudaSimBackend(SimDevice()))


@pytest.mark.parametrize(
    "options", [{"descending": True}, {"block_seed": 5}, {"descending": True, "block_seed": 11}]
)
def test_any_order_of_threads_and_blocks_gives_the_same_bits(
    reference: list[Any], options: Any
) -> None:
    found = training_step(CudaSimBackend(SimDevice(**options)))
    assert all(np.array_equal(a, b) for a, b in zip(found, reference, strict=True))


def test_agrees_with_numpy(reference: list[Any]) -> None:
    wanted = training_step(load_backend("numpy"))  # type: ignore[arg-type]
    for a, b in zip(reference, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-5 * max(1, np.abs(b).max()))


def test_check_mode_finds_nothing_in_a_training_step() -> None:
    with tg.cuda.report(mode="check") as r:
        training_step(CudaSimBackend(SimDevice()))
    assert r.findings == [] and len(r.launches) > 100


def test_large_and_ragged_products_are_clean_and_right() -> None:
    k = CudaSimBackend(SimDevice(check=True))
    for m, n, inner in (
        (1, 1, 1),
        (33, 65, 9),
        (70, 257, 31),
        (260, 300, 17),
        (5, 6, 1100),
        (64, 128, 64),
    ):
        a, b = draw(m, inner), draw(inner, n)
        for x in (a, np.asfortranarray(a)):
            for y in (b, np.asfortranarray(b)):
                np.testing.assert_allclose(
                    k.matmul(k.from_numpy(x), k.from_numpy(y)), a @ b, rtol=1e-3, atol=1e-4
                )
    k.gemm = "matmul16"
    a, b = draw(33, 20), draw(20, 17)
    np.testing.assert_allclose(k.matmul(k.asarray(a), k.asarray(b)), a @ b, rtol=1e-4, atol=1e-5)


def test_options_by_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYGRAD_CNN_CUDASIM", "check,seed=4,descending")
    device = device_from_environment()
    assert device.check and device.descending and device.block_seed == 4
    monkeypatch.setenv("TINYGRAD_CNN_CUDASIM", "chekc")
    with pytest.raises(ValueError, match="chekc"):
        device_from_environment()


def test_backends_can_be_swapped_by_one_line() -> None:
    losses = []
    for name in ("numpy", "cudasim", "numpy"):
        tg.set_backend(name)
        x = tg.tensor(np.arange(12, dtype=F).reshape(3, 4), requires_grad=True)
        (x.softmax(1) * x).sum().backward()
        losses.append(x.grad.numpy().copy())
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5, atol=1e-6)
    assert np.array_equal(losses[0], losses[2])


# -- mutation: every barrier is needed, and its loss is seen
# ----------------------------------------
def barriers() -> list[tuple[str, int]]:
    """(file, number) of each __syncthreads() in the kernels."""
    files = sorted({name for e in catalogue() for name, _ in e.module.parts})
    return [
        (f, i)
        for f in files
        for i in range(len(re.findall(r"__syncthreads\(\)", host.kernel_text(f))))
    ]


def without(text: str, number: int) -> str:
    sites = [m.span() for m in re.finditer(r"__syncthreads\(\)", text)]
    start, end = sites[number]
    return text[:start] + "((void)0)" + text[end:]


def use_all_barriers(k: CudaSimBackend) -> None:
    """A launch of each kernel with a barrier, on sizes for which each barrier matters."""
    a = k.asarray(draw(40, 40))
    k.gemm = "matmul16"
    k.matmul(a, a)
    x, var = k.asarray(draw(4, 3, 40)), k.asarray(np.ones(3, F))
    k.batch_norm_stats(x)
    k.batch_norm_grad(x, x, var, var, None, 1e-5)
    from tinygrad_cnn.backends.cuda.products import TILES

    kernel = k.kernel(
        "matmul",
        ["tile.cu", "matmul.cu"],
        T="float",
        **TILES["small"],
        VA=1,
        VB=1,
        ALONG_M=0,
        ALONG_N=1,
    )
    c = k.new((2, 32, 32), F)
    k.launch(
        kernel, (1, 1, 1), 64, a, a, c, 32, 32, 40, 40, 40, 4, 4, 2, 1, 40
    )  # one block, two matrices


@pytest.fixture
def mutated(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, int], None]]:
    original = host.kernel_text.__wrapped__

    def mutate(file: str, number: int) -> None:
        monkeypatch.setattr(
            host,
            "kernel_text",
            lambda n: without(original(n), number) if n == file else original(n),
        )

    yield mutate


def test_barriers_are_where_they_should_be() -> None:
    assert len(barriers()) == 7
    with tg.cuda.report(mode="check") as r:
        use_all_barriers(CudaSimBackend(SimDevice()))
    assert r.findings == []


@pytest.mark.parametrize(("file", "number"), barriers())
def test_each_deleted_barrier_is_found(
    mutated: Callable[[str, int], None], file: str, number: int
) -> None:
    mutated(file, number)
    with tg.cuda.report(mode="check") as r:
        use_all_barriers(CudaSimBackend(SimDevice()))
    assert any(f.kind == "race" for f in r.findings)
