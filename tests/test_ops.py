"""Every operation against PyTorch, against NumPy, and against differences of its own values."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from op_cases import CASES, Case
from tolerances import assert_close

import tinygrad_cnn as tg

try:
    import torch
except ImportError:
    torch = None  # type: ignore[assignment]

needs_torch = pytest.mark.skipif(torch is None, reason="PyTorch is not installed")
Array = Any


def ids(case: Case) -> str:
    return case.id


def strange(a: Array) -> Array:
    """The same values in unusual memory: last axis reversed, axes in the other order, with gaps."""
    wide = np.empty((*(2 * k for k in reversed(a.shape)),), a.dtype)
    view = wide[tuple(slice(None, None, -2) if k else slice(0, 0) for k in wide.shape)]
    view = view.transpose() if a.ndim else wide
    view[...] = a
    return view


def leaf(backend: str, a: Array, odd: bool = False) -> Any:
    """A tensor of ``backend``, recording when it holds floats."""
    made = tg.from_numpy(strange(a), backend) if odd else tg.tensor(a, backend=backend)
    return made.requires_grad_() if a.dtype.kind == "f" else made


def torch_leaf(a: Array) -> Any:
    return torch.tensor(a, requires_grad=a.dtype.kind == "f")


def noise(shape: Any, salt: int) -> Array:
    return np.asarray(np.random.default_rng([salt, *shape]).standard_normal(shape))


def listed(out: Any) -> list[Any]:
    return list(out) if isinstance(out, tuple | list) else [out]


def orders(
    m: Any, make: Any, case: Case, most: int = 2
) -> tuple[list[Any], list[Array], list[Array]]:
    """(outputs, first derivatives along a random cotangent, derivatives of these along another)."""
    xs = [make(a) for a in case.inputs]
    outs = listed(case.call(m, *xs))
    wanted = [x for x in xs if x.requires_grad]
    if not most:
        return outs, [], []
    live = [y for y in outs if y.requires_grad]
    seeds = [make(noise(tuple(y.shape), k)) for k, y in enumerate(live)]
    first = derivatives(m, live, wanted, seeds, True)
    if most == 1:
        return outs, filled(first, wanted), []
    again = {k: g for k, g in enumerate(first) if g is not None and g.requires_grad}
    values = list(again.values())
    weights = [make(noise(tuple(g.shape), 50 + k)) for k, g in again.items()]
    second = derivatives(m, values, [*wanted, *seeds], weights, False)
    return outs, filled(first, wanted), filled(second, [*wanted, *seeds])


def derivatives(m: Any, ys: Any, xs: Any, vs: Any, create: bool) -> Any:
    if not ys or not xs:
        return (None,) * len(xs)
    return m.autograd.grad(ys, xs, vs, create_graph=create, allow_unused=True)


def plain(t: Any) -> Array:
    return np.asarray(t.detach().numpy(**({} if isinstance(t, tg.Tensor) else {"force": True})))


def filled(found: Any, xs: Any) -> list[Array]:
    return [
        np.zeros(tuple(x.shape)) if g is None else plain(g) for g, x in zip(found, xs, strict=True)
    ]


def near(found: Array, wanted: Array, dtype: str, size: int) -> None:
    """Equal up to rounding of sums over ``size`` numbers as large as the largest one."""
    wanted = np.asarray(wanted)
    if wanted.dtype.kind != "f":
        assert found.dtype == wanted.dtype
        np.testing.assert_array_equal(found, wanted)
        return
    finite = np.abs(wanted[np.isfinite(wanted)])
    scale = max(1.0, float(finite.max()) if finite.size else 1.0)
    assert_close(found, wanted, dtype, 4 * size, scale)


def volume(case: Case) -> int:
    return max(a.size for a in case.inputs) + 4


@needs_torch
@pytest.mark.torch
@pytest.mark.parametrize("odd", [False, True], ids=["plain", "strided"])
@pytest.mark.parametrize("case", [c for c in CASES if c.torch >= 0], ids=ids)
def test_values_and_two_derivatives_equal_pytorch(case: Case, odd: bool, backend: str) -> None:
    found = orders(tg, lambda a: leaf(backend, a, odd), case, case.torch)
    wanted = orders(torch, torch_leaf, case, case.torch)
    assert len(found[0]) == len(wanted[0])
    for f, w in zip(found[0], wanted[0], strict=True):
        near(plain(f), plain(w), "float64", volume(case))
    for order in (1, 2):
        for f, w in zip(found[order], wanted[order], strict=True):
            near(f, w, "float64", volume(case))


@pytest.mark.parametrize("case", [c for c in CASES if c.oracle], ids=ids)
def test_values_equal_numpy(case: Case, backend: str) -> None:
    assert case.oracle is not None
    found = case.call(tg, *(leaf(backend, a) for a in case.inputs))
    near(plain(found), np.asarray(case.oracle(*case.inputs)), "float64", volume(case))


SMOOTH = [c for c in CASES if c.smooth and all(a.size for a in c.inputs)]


@pytest.mark.parametrize("case", SMOOTH, ids=ids)
def test_derivatives_equal_differences(case: Case, backend: str) -> None:
    xs = [leaf(backend, a) for a in case.inputs]
    if not any(x.requires_grad for x in xs):
        pytest.skip("no derivative")

    def call(*xs: Any) -> Any:
        return case.call(tg, *xs)

    assert tg.gradcheck(call, xs)
    assert tg.gradgradcheck(call, xs)


@pytest.mark.parametrize("case", CASES, ids=ids)
def test_float32_is_float64_rounded(case: Case, backend: str) -> None:
    narrow = [a.astype("float32") if a.dtype.kind == "f" else a for a in case.inputs]
    wide = [a.astype("float64") if a.dtype.kind == "f" else a for a in narrow]
    found = listed(case.call(tg, *(leaf(backend, a) for a in narrow)))
    wanted = listed(case.call(tg, *(leaf(backend, a) for a in wide)))
    for f, w in zip(found, wanted, strict=True):
        near(plain(f), plain(w), "float32", volume(case))


def test_no_derivative_touches_arrays() -> None:
    """Rules are written in Tensor operations, so that they can be differentiated again.

    Allowed: making a constant (``full``, ``arange``), the arrays of whole-number positions, and the
    count of elements.
    """
    constants = {"full", "arange"}
    for path in sorted((Path(tg.__file__).parent / "ops").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name == "backward":
                sizes = {
                    id(part.value)
                    for part in ast.walk(node)
                    if isinstance(part, ast.Attribute) and part.attr == "size"
                }
                for part in ast.walk(node):
                    if isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name):
                        where = f"{path.name}:{part.lineno}: {ast.unparse(part)}"
                        assert part.value.id != "kernels" or part.attr in constants, where
                    if isinstance(part, ast.Attribute) and part.attr == "array":
                        where = f"{path.name}:{part.lineno}: {ast.unparse(part)}"
                        assert id(part) in sizes or ast.unparse(part.value) == "places", where


NOT_DIFFERENTIABLE = set(
    """
    all allclose any arange argmax argmin argsort argwhere as_tensor available_backends bernoulli
    bincount bitwise_and bitwise_left_shift bitwise_not bitwise_or bitwise_right_shift bitwise_xor
    count_nonzero empty empty_like eq equal eye floor_divide from_dlpack from_numpy full full_like
    ge get_backend get_num_threads get_rng_state gradcheck gradgradcheck gt is_fusion_enabled
    is_grad_enabled is_tensor isclose isfinite isin isinf isnan le linspace load load_backend
    logical_and logical_not logical_or logical_xor lt manual_seed memory_report ne nonzero normal
    numel ones ones_like promote_types rand rand_like randint randint_like randn randn_like randperm
    receptive_field result_type save set_backend set_conv_algorithm set_fusion set_num_threads
    set_rng_state summary tensor unique use_backend zeros zeros_like
    """.split()
)


def test_every_public_operation_has_a_case() -> None:
    functions = {k for k in tg.__all__ if inspect.isfunction(getattr(tg, k))}
    missing = functions - NOT_DIFFERENTIABLE - {c.name for c in CASES}
    assert not missing, f"add a row to op_cases.py for {sorted(missing)}"
