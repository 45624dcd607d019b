"""``nn.functional`` against PyTorch: values, derivatives of the first three orders, dtypes, memory
orders."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import functional_cases_more  # noqa: F401  (fills the table)
import numpy as np
import pytest
from functional_cases import ACTIVATIONS, CASES, Case, is_variable

import tinygrad_cnn as tg
from tinygrad_cnn.nn import functional as F

torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
TF = torch.nn.functional
pytestmark = pytest.mark.torch

Array = Any


def ours(array: Array, backend: str) -> Any:
    t = tg.tensor(np.asarray(array), backend=backend)
    return t.requires_grad_() if is_variable(array) else t


def theirs(array: Array) -> Any:
    return torch.tensor(np.asarray(array), requires_grad=is_variable(array))


def numbers(t: Any) -> Array:
    return np.asarray(
        t.detach().numpy(force=True) if isinstance(t, torch.Tensor) else t.detach().numpy()
    )


def listed(outputs: Any) -> list[Any]:
    return list(outputs) if isinstance(outputs, tuple) else [outputs]


def derivatives(
    call: Callable[..., Any],
    inputs: list[Any],
    make: Callable[[Array], Any],
    grad: Callable[..., Any],
    order: int,
) -> list[tuple[str, Array]]:
    """Every output; then, order by order, the gradients of a random combination of the last
    results.

    The combination's coefficients are differentiated too: that is where a rule that is wrong only
    as a function of its incoming gradient shows.
    """
    results = listed(call(*inputs))
    found = [(f"output {i}", numbers(y)) for i, y in enumerate(results)]
    variables = [x for x in inputs if x.requires_grad]
    rng = np.random.default_rng(7)
    for n in range(1, order + 1 if variables else 1):
        seeds = [make(rng.standard_normal(tuple(y.shape))) for y in results]
        live = [i for i, y in enumerate(results) if y is not None and y.requires_grad]
        gradients = [None] * len(variables)
        if live:
            gradients = grad([results[i] for i in live], variables, [seeds[i] for i in live])
        shapes = [tuple(x.shape) for x in variables]
        for i, (shape, g) in enumerate(zip(shapes, gradients, strict=True)):
            found.append((f"order {n}, variable {i}", np.zeros(shape) if g is None else numbers(g)))
        results = [
            make(np.zeros(s)) if g is None else g for s, g in zip(shapes, gradients, strict=True)
        ]
        variables = variables + seeds
    return found


def our_grad(results: list[Any], variables: list[Any], seeds: list[Any]) -> Any:
    return tg.autograd.grad(results, variables, seeds, create_graph=True, allow_unused=True)


def their_grad(results: list[Any], variables: list[Any], seeds: list[Any]) -> Any:
    return torch.autograd.grad(results, variables, seeds, create_graph=True, allow_unused=True)


def expected(call: Callable[..., Any], arrays: list[Array], order: int) -> list[tuple[str, Array]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's advice about its own settings
        return derivatives(
            lambda *xs: call(TF, *xs), [theirs(a) for a in arrays], theirs, their_grad, order
        )


def compare(
    found: list[tuple[str, Array]], wanted: list[tuple[str, Array]], rtol: float, atol: float
) -> None:
    assert [name for name, _ in found] == [name for name, _ in wanted]
    for (name, a), (_, b) in zip(found, wanted, strict=True):
        assert a.shape == b.shape, name
        if b.dtype.kind != "f":
            assert a.dtype == b.dtype, name
        scale = np.abs(b[np.isfinite(b)]).max(initial=1.0)
        np.testing.assert_allclose(a, b, rtol, atol * scale, err_msg=name)


@pytest.mark.parametrize("name", CASES)
def test_values_and_derivatives(backend: str, name: str) -> None:
    case: Case = CASES[name]
    arrays = case.arrays(name)
    found = derivatives(
        lambda *xs: case.call(F, *xs), [ours(a, backend) for a in arrays],
        lambda a: ours(a, backend), our_grad, case.order,
    )  # fmt: skip
    compare(found, expected(case.call, arrays, case.order), case.rtol, atol=1e-11)


@pytest.mark.parametrize("name", CASES)
def test_float32_without_a_graph_of_the_gradient(backend: str, name: str) -> None:
    """The fused rules, in the dtype of training, against float64: ``backward()`` as users call
    it."""
    case = CASES[name]
    arrays = [a.astype(np.float32) if a.dtype.kind == "f" else a for a in case.arrays(name)]
    exact = [a.astype(np.float64) if a.dtype.kind == "f" else a for a in arrays]
    xs = [ours(a, backend) for a in arrays]
    outputs = listed(case.call(F, *xs))
    rng = np.random.default_rng(7)
    results = [y for y in outputs if y.requires_grad]
    seeds = [rng.standard_normal(y.shape).astype(np.float32) for y in results]
    assert all(y.dtype == tg.float32 for y in results)
    found = [(f"output {i}", numbers(y)) for i, y in enumerate(outputs)]
    if results:
        tg.autograd.backward(results, [tg.tensor(s, backend=backend) for s in seeds])
    found += [
        (f"order 1, variable {i}", np.zeros(x.shape) if x.grad is None else numbers(x.grad))
        for i, x in enumerate(x for x in xs if x.requires_grad)
        if results
    ]
    magnitude = 1e-3 if "large" in name or "far" in name else 3e-5
    compare(found, expected(case.call, exact, 1), rtol=magnitude, atol=magnitude)


@pytest.mark.parametrize("name", CASES)
def test_any_memory_order(backend: str, name: str) -> None:
    """Arrays in reversed memory order with gaps give what contiguous ones give."""
    case = CASES[name]
    arrays = case.arrays(name)
    strided = []
    for a in arrays:
        wide = np.zeros(tuple(2 * n for n in reversed(a.shape)), a.dtype)
        view = wide[(slice(None, None, 2),) * a.ndim + (...,)].T
        view[...] = a
        t = tg.from_numpy(view, backend=backend)
        strided.append(t.requires_grad_() if is_variable(a) else t)
    straight = [ours(a, backend) for a in arrays]
    results = []
    for xs in (straight, strided):
        results.append(
            derivatives(lambda *v: case.call(F, *v), xs, lambda a: ours(a, backend), our_grad, 1)
        )
    compare(results[1], results[0], rtol=1e-12, atol=1e-12)


# -- kinks
# ------------------------------------------------------------------------------------------
KINKS = np.array(
    [0.0, -0.0, 1.0, -1.0, 6.0, -6.0, 3.0, -3.0, 2.0, -2.0, 1.5, 20.0, 40.0, -40.0, -800.0]
)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_at_its_kinks_and_far_out(backend: str, name: str) -> None:
    found = derivatives(
        lambda x: ACTIVATIONS[name](F, x), [ours(KINKS, backend)],
        lambda a: ours(a, backend), our_grad, min(CASES[name].order, 2),
    )  # fmt: skip
    wanted = expected(ACTIVATIONS[name], [KINKS], min(CASES[name].order, 2))
    compare(found, wanted, CASES[name].rtol, atol=1e-12)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_far_out_is_finite_to_the_third_order(backend: str, name: str) -> None:
    x = ours(np.array([800.0, -800.0, 1e5, -1e5]), backend)
    found = derivatives(
        lambda x: ACTIVATIONS[name](F, x), [x], lambda a: ours(a, backend), our_grad, 3
    )
    assert all(np.isfinite(values).all() for _, values in found)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_of_nan_and_infinity(backend: str, name: str) -> None:
    x = np.array([np.nan, np.inf, -np.inf])
    with np.errstate(invalid="ignore"):  # ∞ · 0
        found = numbers(ACTIVATIONS[name](F, tg.tensor(x, backend=backend)))
    np.testing.assert_allclose(found, numbers(ACTIVATIONS[name](TF, torch.tensor(x))))


TIES = np.array([0.0, 1.0, -1.0, 0.5, -0.5, 2.0])
AT_TIES: dict[str, Callable[..., Any]] = {  # (PyTorch's two derivatives of prelu disagree at 0)
    "l1_loss": lambda F, d: F.l1_loss(d, d.detach() * 0, reduction="sum"),
    "smooth_l1_loss": lambda F, d: F.smooth_l1_loss(d, d.detach() * 0, reduction="sum"),
    "smooth_l1_loss-half": lambda F, d: F.smooth_l1_loss(d, d.detach() * 0, reduction="sum",
    beta=0.5), "huber_loss": lambda F, d: F.huber_loss(d, d.detach() * 0, reduction="sum"),
    "softsign": lambda F, d: F.softsign(d),
}  # fmt: skip


@pytest.mark.parametrize("name", AT_TIES)
def test_loss_at_its_kinks(backend: str, name: str) -> None:
    found = derivatives(
        lambda x: AT_TIES[name](F, x),
        [ours(TIES, backend)],
        lambda a: ours(a, backend),
        our_grad,
        2,
    )
    compare(found, expected(AT_TIES[name], [TIES], 2), rtol=1e-12, atol=1e-12)


def test_binary_cross_entropy_at_certainty(backend: str) -> None:
    x, t = np.array([0.0, 1.0, 0.0, 1.0]), np.array([0.0, 1.0, 1.0, 0.0])

    def call(library: Any, p: Any, target: Any) -> Any:
        return library.binary_cross_entropy(p, target.detach(), reduction="none")

    found = derivatives(
        lambda *xs: call(F, *xs),
        [ours(x, backend), ours(t, backend)],
        lambda a: ours(a, backend),
        our_grad,
        1,
    )
    compare(found, expected(call, [x, t], 1), rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0])
def test_normalize_of_zeros(backend: str, p: float) -> None:
    """0 / eps; the norm's derivative at 0 is 0, to every order (PyTorch's second is NaN)."""
    found = derivatives(
        lambda x: F.normalize(x, p), [ours(np.zeros((2, 3)), backend)],
        lambda a: ours(a, backend), our_grad, 2,
    )  # fmt: skip
    wanted = expected(lambda library, x: library.normalize(x, p), [np.zeros((2, 3))], 1)
    compare(found[: len(wanted)], wanted, rtol=1e-12, atol=1e-12)
    assert all(np.isfinite(values).all() for _, values in found)


def test_prelu_at_zero(backend: str) -> None:
    found = derivatives(
        F.prelu,
        [ours(TIES, backend), ours(np.array([0.3]), backend)],
        lambda a: ours(a, backend),
        our_grad,
        1,
    )
    wanted = expected(lambda library, x, w: library.prelu(x, w), [TIES, np.array([0.3])], 1)
    compare(found, wanted, rtol=1e-12, atol=1e-12)


def test_max_pool_of_nan(backend: str) -> None:
    x = np.arange(16.0).reshape(1, 1, 4, 4)
    x[0, 0, 0, 1] = x[0, 0, 2, 2] = x[0, 0, 3, 3] = np.nan
    y, where = F.max_pool2d(tg.tensor(x, backend=backend), 2, return_indices=True)
    wanted, positions = TF.max_pool2d(torch.tensor(x), 2, return_indices=True)
    np.testing.assert_array_equal(numbers(y), numbers(wanted))
    np.testing.assert_array_equal(numbers(where), numbers(positions))


# -- what has no counterpart with the same arguments
# ---------------------------------------------------
@pytest.mark.parametrize("size", [(5, 6), (28, 27), (7, 7), (1, 2)])
@pytest.mark.parametrize("stride", [1, 2, 3, (2, 1)])
@pytest.mark.parametrize("kernel", [(3, 3), (2, 5), (1, 4)])
def test_same_padding_with_stride(backend: str, size: Any, stride: Any, kernel: Any) -> None:
    """ceil(n/s) outputs and the odd cell of padding at the end, in "same" of any case and as
    pairs."""
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 2, *size)), rng.standard_normal((3, 2, *kernel))
    strides = (stride, stride) if isinstance(stride, int) else stride
    pairs = []
    for n, k, s in zip(size, kernel, strides, strict=True):
        total = max((-(-n // s) - 1) * s + k - n, 0)
        pairs.append((total // 2, total - total // 2))
    padded = TF.pad(torch.tensor(x), (*pairs[1], *pairs[0]))
    wanted = numbers(TF.conv2d(padded, torch.tensor(w), stride=stride))
    assert wanted.shape[2:] == tuple(-(-n // s) for n, s in zip(size, strides, strict=True))
    a, b = tg.tensor(x, backend=backend), tg.tensor(w, backend=backend)
    for padding in ("same", "SAME", "Same", pairs):
        np.testing.assert_allclose(
            numbers(F.conv2d(a, b, None, stride, padding)), wanted, 1e-10, 1e-10
        )
    low = TF.pad(torch.tensor(x), (*pairs[1], *pairs[0]), value=-np.inf)
    np.testing.assert_array_equal(
        numbers(F.max_pool2d(a, kernel, stride, "same")),
        numbers(TF.max_pool2d(low, kernel, stride)),
    )
    count = TF.avg_pool2d(TF.pad(torch.ones(1, 1, *size), (*pairs[1], *pairs[0])), kernel, stride)
    mean = TF.avg_pool2d(padded, kernel, stride)
    np.testing.assert_allclose(
        numbers(F.avg_pool2d(a, kernel, stride, "same")), numbers(mean), 1e-10, 1e-10
    )
    np.testing.assert_allclose(
        numbers(F.avg_pool2d(a, kernel, stride, "same", count_include_pad=False)),
        numbers(mean / count.double()), 1e-6, 1e-10,
    )  # fmt: skip


@pytest.mark.parametrize("function", ["batch_norm", "instance_norm"])
def test_running_statistics(backend: str, function: str) -> None:
    rng = np.random.default_rng(0)
    results = []
    for library, make in ((F, lambda a: tg.tensor(a, backend=backend)), (TF, torch.tensor)):
        rng = np.random.default_rng(0)
        mean, var = make(rng.standard_normal(3)), make(rng.uniform(0.5, 2, 3))
        for momentum in (0.1, 0.5, 1.0):
            x = make(rng.standard_normal((4, 3, 2, 5)))
            if function == "batch_norm":
                y = library.batch_norm(x, mean, var, training=True, momentum=momentum)
            else:
                y = library.instance_norm(x, mean, var, momentum=momentum)
        results.append([numbers(v) for v in (mean, var, y)])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, 1e-12, 1e-12)


INPLACE = [
    "relu",
    "relu6",
    "leaky_relu",
    "elu",
    "selu",
    "celu",
    "silu",
    "mish",
    "hardtanh",
    "hardsigmoid",
    "hardswish",
]


@pytest.mark.parametrize("name", INPLACE)
def test_inplace(backend: str, name: str) -> None:
    x = np.linspace(-4, 7, 12)
    found, wanted = [], []
    for library, make, grad, into in (
        (F, lambda a: ours(a, backend), our_grad, found),
        (TF, theirs, their_grad, wanted),
    ):
        leaf = make(x)
        h = leaf * 1.5
        y = getattr(library, name)(h, inplace=True)
        assert y is h
        into += [numbers(y), *(numbers(g) for g in grad([(y * y).sum()], [leaf], None))]
    np.testing.assert_allclose(found, wanted, max(CASES[name].rtol, 1e-12), 1e-12)


@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "huber_loss"])
def test_shapes_that_broadcast_are_warned_about(backend: str, name: str) -> None:
    x, t = np.arange(6.0).reshape(3, 2), np.array([1.0, -2.0])
    with pytest.warns(UserWarning, match="different shapes"):
        found = getattr(F, name)(tg.tensor(x, backend=backend), tg.tensor(t, backend=backend))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = getattr(TF, name)(torch.tensor(x), torch.tensor(t))
    np.testing.assert_allclose(found.item(), wanted.item(), 1e-12)


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8])
def test_classes_of_other_integer_types(backend: str, dtype: Any) -> None:
    logits, target = np.random.default_rng(0).standard_normal((5, 4)), np.array([3, 0, 1, 1, 2])
    found = F.cross_entropy(
        tg.tensor(logits, backend=backend), tg.tensor(target.astype(dtype), backend=backend)
    )
    wanted = TF.cross_entropy(torch.tensor(logits), torch.tensor(target))
    np.testing.assert_allclose(found.item(), wanted.item(), 1e-12)


def test_mean_cross_entropy_of_float16_whose_sum_overflows(backend: str) -> None:
    """5000 losses of 20: their sum is above 65504, the largest number of float16."""
    logits = tg.tensor(np.tile([0.0, 20.0], (5000, 1)).astype(np.float16), backend=backend)
    target = tg.zeros(5000, dtype=tg.int64, backend=backend)
    assert F.cross_entropy(logits, target).item() == 20
