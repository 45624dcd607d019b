"""What a tensor is besides calculus: creation, dtypes, conversion, printing, random numbers."""

# ruff: noqa: B023, E501  (closures that run at once; tables with one row a line)

from __future__ import annotations

import copy
import itertools
import operator
import pickle
from typing import Any

import numpy as np
import pytest

import tinygrad_cnn as tg

try:
    import torch
except ImportError:
    torch = None  # type: ignore[assignment]

needs_torch = pytest.mark.skipif(torch is None, reason="PyTorch is not installed")
DTYPES = ("float16", "float32", "float64", "int32", "int64", "uint8", "bool")


@pytest.fixture(autouse=True)
def chosen(backend: str) -> Any:
    with tg.use_backend(backend):
        yield


# -- dtypes ------------------------------------------------------------------------------------------
def small(m: Any, dtype: str, dims: int) -> Any:
    values: Any = [True, True, True] if dtype == "bool" else [1, 2, 3]
    return m.tensor(
        values if dims else values[1],
        dtype=getattr(m, dtype),
    )


def outcome(f: Any) -> Any:
    """(dtype, values), or the fact that it is an error."""
    try:
        made = f()
    except (TypeError, ValueError, RuntimeError, NotImplementedError, ZeroDivisionError):
        return "error"
    return str(made.dtype).replace("torch.", ""), made.tolist()


def agree(found: Any, wanted: Any, what: str) -> None:
    if "error" in (found, wanted):
        assert found == wanted, f"{what}: received {found}, PyTorch {wanted}"
        return
    assert found[0] == wanted[0], f"{what}: received {found}, PyTorch {wanted}"
    tolerance = 2e-3 if found[0] == "float16" else 1e-6
    np.testing.assert_allclose(found[1], wanted[1], rtol=tolerance, err_msg=what)


OPERATORS = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv,
    "//": operator.floordiv, "%": operator.mod, "**": operator.pow, "<": operator.lt,
    "==": operator.eq, ">=": operator.ge,
}  # fmt: skip


@needs_torch
@pytest.mark.torch
@pytest.mark.parametrize("symbol", OPERATORS)
def test_promotion_is_pytorchs(symbol: str) -> None:
    f = OPERATORS[symbol]
    for a, b in itertools.product(DTYPES, DTYPES):
        for i, j in itertools.product((0, 1), (0, 1)):
            found, wanted = (
                outcome(lambda m=m: f(small(m, a, i), small(m, b, j))) for m in (tg, torch)
            )
            agree(found, wanted, f"{a}[{i}] {symbol} {b}[{j}]")
    for a, i, s in itertools.product(
        DTYPES, (0, 1), (True, 2, 2.5, np.float32(2.5), np.float64(3))
    ):
        if a == "bool" and s is True:
            continue  # PyTorch's answer to True ** True depends on the kind of the second True
        for left in (True, False):
            found, wanted = (
                outcome(lambda m=m: f(small(m, a, i), s) if left else f(s, small(m, a, i)))
                for m in (tg, torch)
            )
            if isinstance(s, np.generic) and not left:
                continue  # NumPy asks PyTorch's tensor for an array; ours answers itself
            agree(found, wanted, f"{a}[{i}] {symbol} {s!r} {left}")


@needs_torch
@pytest.mark.torch
def test_promotion_of_choices_is_pytorchs() -> None:
    for name, a, b in itertools.product(("maximum", "minimum", "where"), DTYPES, DTYPES):
        for i, j in itertools.product((0, 1), (0, 1)):

            def call(m: Any) -> Any:
                x, y = small(m, a, i), small(m, b, j)
                if name == "where":
                    return m.where(m.tensor([True, False, True]), x, y)
                return getattr(m, name)(x, y)

            agree(
                outcome(lambda: call(tg)), outcome(lambda: call(torch)), f"{name} {a}[{i}] {b}[{j}]"
            )


NUMERIC = (
    "neg exp expm1 log log1p sqrt rsqrt square reciprocal sin cos tanh sigmoid erf sign sum mean prod "
    "amax amin max min any all logical_not isnan isinf isfinite var std norm count_nonzero log2 log10 "
    "tan trunc nan_to_num unique bincount bernoulli asin acos atan bitwise_not"
).split()


@needs_torch
@pytest.mark.torch
@pytest.mark.parametrize("name", NUMERIC)
def test_result_dtypes_are_pytorchs(name: str) -> None:
    for dtype in DTYPES:
        found, wanted = (
            outcome(lambda m=m: getattr(m, name)(small(m, dtype, 1))) for m in (tg, torch)
        )
        agree(found, wanted, f"{name} {dtype}")


def test_numbers_never_widen() -> None:
    assert (tg.ones(2) * np.float64(2)).dtype == tg.float32
    assert (np.float64(2) * tg.ones(2)).dtype == tg.float32
    assert (tg.tensor([1]) + np.float32(1.5)).dtype == tg.float32
    assert (tg.ones(2, dtype="float16") + 1.5).dtype == tg.float16
    with pytest.raises(TypeError, match="floating"):
        tg.mean(tg.tensor([1, 2]))
    assert tg.mean(tg.full((100,), 60000.0, dtype="float16")).item() == 60000


# -- corners -----------------------------------------------------------------------------------------
inf, nan = float("inf"), float("nan")


@needs_torch
@pytest.mark.torch
@pytest.mark.parametrize(
    "text",
    [
        "m.logsumexp(m.tensor([[-inf, -inf], [-inf, 1.0], [inf, 1.0], [1e4, 1e4]]), 1)",
        "m.tensor([0.0, 0.0, -2.0, -8.0]) ** m.tensor([0.0, 2.0, 3.0, 1.5])",
        "m.maximum(m.tensor([nan, 1.0]), m.tensor([1.0, nan]))",
        "m.amax(m.tensor([1.0, nan, 3.0]))", "m.argmax(m.tensor([1, 3, 3]))",
        "m.argmin(m.tensor([[2, 1], [1, 1]]), 1)", "m.argmax(m.tensor([1.0, nan, 3.0]))",
        "m.sum(m.ones(0, 3), 0)", "m.mean(m.ones(0))", "m.prod(m.ones(0))",
        "m.sort(m.tensor([2.0, nan, 1.0, 3.0]), descending=True)[1]",
        "m.sort(m.tensor([2, 1, 2, 1, 3]), descending=True, stable=True)[1]",
        "m.sort(m.tensor([2, 1, 2, 1], dtype=m.uint8), descending=True, stable=True)[0]",
        "m.clamp(m.tensor([nan, 5.0, -5.0]), -1, 1)", "m.round(m.tensor([0.5, 1.5, 2.5, -0.5]))",
        "m.tensor([7, -7, 7, -7]) // m.tensor([2, 2, -2, -2])", "m.tensor([5.5, -5.5]) % -2",
        "m.div(m.tensor([7.0, -7.0]), 2, rounding_mode='trunc')",
        "m.div(m.tensor([7, -7]), 2, rounding_mode='floor')", "m.cumsum(m.tensor([True, True]), 0)",
        "m.sigmoid(m.tensor([-1000.0, 0.0, 1000.0]))", "m.log(m.tensor([0.0, -1.0, inf]))",
        "m.arange(5)", "m.arange(1, 2, 0.25)", "m.arange(5, 0, -2)", "m.linspace(0, 1, 5)", "m.eye(2, 3)",
        "m.full((2,), 3)", "m.full((2,), True)", "m.tensor([])", "m.tensor([1, 2.5])", "m.tensor(True)",
        "m.tensor([[]])", "m.where(m.tensor([True, False]), 1, 2)", "m.tensor([1.0, 2.0]) == 1",
        "m.unique(m.tensor([[3, 1], [3, 2]]), return_inverse=True, return_counts=True)[1]",
        "m.unique(m.tensor([2.5, nan, -1.0, 2.5, nan]), return_counts=True)[1]", "m.unique(m.ones(0))",
        "m.unique(m.tensor([True, False, True]), return_inverse=True)[1]",
        "m.unique(m.tensor(3), return_inverse=True)[1]", "m.unique(m.ones(0), return_counts=True)[1]",
        "m.bincount(m.tensor([1, 3, 1]))", "m.bincount(m.tensor([1, 0]), minlength=4)",
        "m.bincount(m.tensor([1, 0, 1]), m.tensor([0.5, 1.0, 2.0]))", "m.bincount(m.tensor([1, 1]), m.tensor([2, 3]))",
        "m.bincount(m.ones(0).long())", "m.isclose(m.tensor([1.0, nan, 1.0, inf]), m.tensor([1.000001, nan, inf, 1.0]))",
        "m.isclose(m.tensor([1.0, nan]), m.tensor([1.1, nan]), equal_nan=True)",
        "m.trunc(m.tensor([-1.5, 1.5, nan, -inf]))", "m.nan_to_num(m.tensor([nan, inf, -inf, 2.0]))",
        "m.nan_to_num(m.tensor([nan, inf, -inf]), 1.0, 2.0, 3.0)", "m.log10(m.tensor([0, 1, 1000]))",
        "m.cumprod(m.tensor([2, 3]), 0)", "m.cumprod(m.tensor([2, 3]).int(), 0)",
        "m.cumprod(m.tensor([True, False]), 0)", "m.diag(m.tensor([True, False]), 1)",
        "m.zeros(2, 3).scatter_(1, m.tensor([[0], [2]]), 1.0)",
        "m.scatter(m.zeros(2, 2).long(), 0, m.tensor([[1, 0]]), m.tensor([[5, 6], [7, 8]]))",
        "m.scatter(m.tensor(1.0), 0, m.tensor(0), m.tensor(2.0))", "m.diag(m.tensor([1, 2]), -1)",
        "m.ones(2).mul_(2).addcmul_(m.ones(2), m.ones(2), value=3).addcdiv_(m.ones(2), m.tensor([2.0, 4.0]))",
        "m.ones(2).lerp_(m.zeros(2), 0.25)", "m.tensor([1.2, 5.0]).ceil_().clip_(3, 4)", "m.ones(2).new_tensor([1, 2])",
        "m.ones(2, 3).byte()", "m.tensor([1.5]).cpu()", "m.tensor([m.pi, m.inf, m.nan])",
        "m.asin(m.tensor([-1.0, 1.0, 2.0]))", "m.acos(m.tensor([-1, 0, 1]))", "m.atan(m.tensor([inf, -inf, nan]))",
        "m.tensor([0, 5, 255]).byte() & 7", "m.tensor([-3, 7]) | m.tensor([1, 8]).int()", "m.tensor([-3, 7]) ^ m.tensor(True)",
        "~m.tensor([0, 1, 255]).byte()", "~m.tensor([-3, 7]).int()", "~m.tensor([True, False])", "6 & m.tensor([3, 4])",
        "m.tensor([True, False]) | m.tensor([False, False])", "m.tensor([True, False]) ^ 1", "m.tensor([True]) << 3",
        "m.tensor([-3, 7]) << m.tensor([[1], [2]])", "m.tensor([-9, 9]).int() >> 2", "1 << m.tensor([0, 3])",
        "m.tensor([200]).byte() << 1", "m.bitwise_right_shift(m.tensor([200]).byte(), 7)", "m.bitwise_not(m.tensor([]).long())",
        "m.tensor([[0, 2], [3, 0]]).argwhere()", "m.isin(m.tensor([[1, 2], [3, 4]]), m.tensor([4, 1, 9]))",
        "m.isin(m.tensor([1.0, nan]), m.tensor([nan, 1.0]))", "m.isin(m.tensor([1, 2]), 2, invert=True)", "m.isin(2, m.tensor([1, 2]))",
        "m.isin(m.tensor([1, 2]), m.tensor([]).long())", "m.tensor([3, 4]).repeat_interleave(m.tensor([0, 0]))",
        "m.ones(2, 3).repeat_interleave(m.tensor([2]), 0)", "m.std_mean(m.tensor([1.0, 2.0, 4.0]), unbiased=False)[0]",
        "m.topk(m.tensor([1, 4, 2]), 2)[1]", "m.std(m.tensor([[2.0, 2.0], [1.0, 3.0]]), 1)",
    ],
)  # fmt: skip
def test_corners_equal_pytorch(text: str) -> None:
    found, wanted = (eval(text, {"m": m, "inf": inf, "nan": nan}) for m in (tg, torch))
    assert str(found.dtype) == str(wanted.dtype).replace("torch.", "")
    np.testing.assert_allclose(found.numpy(), wanted.numpy(), rtol=1e-6)


@pytest.mark.parametrize(
    "text, kind, message",
    [
        ("tg.tensor([[1], [1, 2]])", ValueError, "different lengths"),
        ("tg.tensor('a')", TypeError, "numbers"), ("tg.tensor(1j)", TypeError, "numbers"),
        ("tg.tensor(np.zeros(2, 'int8'))", TypeError, "convert with .astype"),
        ("tg.ones(2) + tg.ones(3)", ValueError, r"\(2,\) and \(3,\)"),
        ("tg.ones(2) + 'a'", TypeError, "tensors or numbers"),
        ("tg.ones(2, 3) @ tg.ones(2, 3)", ValueError, "inner sizes 3 and 2"),
        ("tg.ones(2).reshape(3)", ValueError, "do not fit"),
        ("tg.ones(2)[2]", IndexError, "out of range"), ("tg.ones(2)[0, 0]", IndexError, "too many"),
        ("tg.ones(2)[[0, 5]]", IndexError, "out of range"), ("tg.ones(2).sum(1)", IndexError, "dim"),
        ("tg.amax(tg.ones(0))", ValueError, "no elements"), ("tg.ones(2) & tg.ones(2)", TypeError, "boolean"),
        ("tg.cat([tg.ones(2, 3), tg.ones(2, 2)])", ValueError, "differ"),
        ("tg.einsum('ij,jk->ik', tg.ones(2, 3), tg.ones(2, 3))", ValueError, "sizes"),
        ("tg.zeros(2).scatter(0, tg.tensor([2]), 1.0)", IndexError, "out of range"),
        ("tg.zeros(2).scatter(0, tg.tensor([1]), tg.tensor([1]))", TypeError, r"input's dtype float32, received int64"),
        ("tg.zeros(2).scatter(0, tg.tensor([1]))", ValueError, "either src or value"),
        ("tg.zeros(2).scatter(0, tg.tensor([0, 1]), tg.ones(1))", ValueError, r"\(2,\) does not fit src \(1,\)"),
        ("tg.ones(2, 3).narrow(1, 2, 2)", ValueError, "2 slices from 2 do not fit dimension 1 of 3"),
        ("tg.ones(2, 2, 2).diag()", ValueError, "a vector or a matrix"), ("tg.ones(2).mv(tg.ones(2))", ValueError, "2 dimensions"),
        ("tg.bincount(tg.ones(2))", TypeError, "integer"), ("tg.bincount(tg.tensor([-1]))", ValueError, "negative"),
        ("tg.bincount(tg.tensor([1]), tg.ones(2))", ValueError, r"weights \(2,\)"),
        ("~tg.ones(2)", TypeError, r"bitwise_not \(~\): expected integers or booleans, received float32"),
        ("tg.tensor([1]) & 1.5", TypeError, "compare first"), ("tg.ones(2) << 1", TypeError, "expected integers, received float32"),
        ("tg.tensor([True]) >> tg.tensor([True])", TypeError, "expected integers, received bool; convert"),
        ("tg.ones(3).repeat_interleave(tg.tensor([1, 2]))", ValueError, r"expected 3 repeats .* received \[1, 2\]"),
        ("tg.ones(2).repeat_interleave(tg.tensor([1, -2]))", ValueError, "at least 0"),
        ("tg.ones(2).repeat_interleave(tg.ones(2))", TypeError, "integer repeats, received float32"),
        ("tg.ones(2).to('cuda')", ValueError, "here a backend is what a device is elsewhere"),
        ("tg.bernoulli(tg.tensor([1.5]))", ValueError, "from 0 to 1"), ("tg.ones(2).sum(0, axis=0)", TypeError, "dim"),
        ("tg.ones(2).sum(dim=0, axis=0)", TypeError, "axis is another name of dim"),
        ("tg.tensor([1]) // 0", ZeroDivisionError, "float"), ("iter(tg.ones(()))", TypeError, "0-d"),
        ("tg.randint(3, 3, (2,))", ValueError, "low < high"), ("tg.ones(2).to('nope')", ValueError, "nope"),
    ],
)  # fmt: skip
def test_errors_name_what_was_received(text: str, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        eval(text, {"tg": tg, "np": np})


AXES = {
    "sum": True, "mean": True, "prod": True, "amax": True, "amin": True, "max": True, "min": True, "any": True,
    "all": True, "argmax": True, "argmin": True, "logsumexp": True, "var": True, "std": True, "norm": True,
    "cumsum": False, "cumprod": False, "sort": False, "argsort": False, "softmax": False, "log_softmax": False,
    "count_nonzero": False, "squeeze": False, "unsqueeze": False,
}  # fmt: skip


@pytest.mark.parametrize("name", AXES)
def test_axis_and_keepdims_are_other_names(name: str) -> None:
    x = tg.tensor([[3.0, 1.0, 2.0]])
    numpys, ours = ({"axis": 0}, {"dim": 0})
    if AXES[name]:
        numpys, ours = numpys | {"keepdims": True}, ours | {"keepdim": True}
    for call in (getattr(tg, name), lambda x, **kw: getattr(x, name)(**kw)):
        found, wanted = call(x, **numpys), call(x, **ours)
        found, wanted = (y if isinstance(y, tuple) else (y,) for y in (found, wanted))
        for f, w in zip(found, wanted, strict=True):
            assert f.shape == w.shape
            np.testing.assert_array_equal(f.numpy(), w.numpy())


def test_axis_joins_and_selects() -> None:
    x = tg.tensor([[3.0, 1.0, 2.0]])
    assert tg.cat([x, x], axis=1).shape == (1, 6) and tg.stack([x, x], axis=2).shape == (1, 3, 2)
    assert tg.topk(x, 2, axis=1).values.tolist() == x.topk(2, axis=1).values.tolist() == [[3, 2]]


def test_a_written_place_keeps_its_own_gradient() -> None:
    x = tg.zeros(3, requires_grad=True)
    new = tg.tensor([2.0], requires_grad=True)
    y = x.scatter(0, tg.tensor([1]), new)
    assert x.tolist() == [0, 0, 0] and y.tolist() == [0, 2, 0]  # the input is not written
    (y * tg.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [1, 0, 3]
    assert new.grad is not None and new.grad.tolist() == [2]


def test_bernoulli_draws_by_probability() -> None:
    tg.manual_seed(0)
    p = tg.tensor([0.0, 0.25, 1.0], dtype="float64").repeat(4000, 1)
    drawn = p.bernoulli()
    assert drawn.dtype == p.dtype and tg.unique(drawn).tolist() == [0, 1]
    low, middle, high = drawn.mean(0).tolist()
    assert (low, high) == (0, 1) and abs(middle - 0.25) < 0.03
    assert not tg.bernoulli(p.requires_grad_()).requires_grad


def test_normal_has_the_given_moments() -> None:
    tg.manual_seed(0)
    x = tg.normal(3.0, 0.5, (100, 100))
    assert x.dtype == tg.float32 and abs(x.mean().item() - 3) < 0.02
    assert abs(x.std().item() - 0.5) < 0.02
    rows = tg.normal(tg.tensor([[0.0], [100.0]]), tg.tensor([1.0, 2.0, 3.0], requires_grad=True))
    assert rows.shape == (2, 3) and not rows.requires_grad and rows[1].min().item() > 50
    for wrong in ((0.0, 1.0), (tg.zeros(2), 1.0, (2,))):
        with pytest.raises(TypeError, match="two numbers and a size, or at least one tensor"):
            tg.normal(*wrong)


def test_cpu_and_sizes(backend: str) -> None:
    x = tg.ones(2, 3, requires_grad=True)
    assert (x * 1).detach().cpu().numpy().sum() == 6
    assert (x.cpu() is x) == isinstance(x.array, np.ndarray)
    assert x.nbytes == 24 and x.nelement() == 6 and x.ndimension() == 2
    empty = x.new_empty(4, 2)
    assert (empty.shape, empty.dtype, empty.backend) == ((4, 2), x.dtype, x.backend)


def test_backends_do_not_mix(backend: str) -> None:
    if backend == "numpy":
        pytest.skip("needs another backend")
    with pytest.raises(ValueError, match=r'add: .*\.to\("numpy"\)'):
        tg.ones(2, backend="numpy") + tg.ones(2)
    x = tg.ones(2, requires_grad=True)
    (x.to("numpy") * 3).sum().backward()
    assert x.grad.tolist() == [3, 3] and x.grad.backend.name == backend


# -- other libraries ---------------------------------------------------------------------------------
def test_numpy_reads_and_mixes() -> None:
    t = tg.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert np.asarray(t).dtype == np.float32 and np.asarray(t, "float64").dtype == np.float64
    a = np.ones((2, 2), "float32")
    for mixed in (a + t, t + a, a * t, a @ np.asarray(t)):
        assert np.asarray(mixed).shape == (2, 2)
    assert isinstance(a + t, tg.Tensor) and (a - t).tolist() == [[0, -1], [-2, -3]]
    t.numpy()[0, 0] = 9
    assert t[0, 0].item() == 9
    b = np.zeros(3)
    shared = tg.from_numpy(b)
    shared.add_(1)
    assert b.tolist() == [1, 1, 1] and tg.as_tensor(b).dtype == tg.float64
    assert tg.tensor(b) is not shared and list(t[0]) and 9 in t and len(t) == 2
    assert (t == None) is False  # noqa: E711
    assert float(t[1, 1]) == 4 and int(t[1, 0]) == 3 and [10, 20, 30][tg.tensor(1)] == 20


def test_dlpack_both_ways() -> None:
    t = tg.arange(6).reshape(2, 3)
    assert np.from_dlpack(t).tolist() == t.tolist()
    if torch is not None:
        other = torch.from_dlpack(t)
        other[0, 0] = 7
        assert t[0, 0].item() == 7
        assert tg.from_numpy(np.from_dlpack(torch.ones(2))).tolist() == [1, 1]


def test_copies_and_pickles() -> None:
    t = tg.tensor([1.0, 2.0], requires_grad=True)
    (t * t).sum().backward()
    for made in (copy.deepcopy(t), pickle.loads(pickle.dumps(t)), copy.copy(t)):
        assert made.tolist() == [1, 2] and made.requires_grad and made.backend is t.backend
        with tg.no_grad():
            made.add_(1)
        assert t.tolist() == [1, 2]
    assert copy.deepcopy(t).grad.tolist() == [2, 4]
    twice = copy.deepcopy([t, t])
    assert twice[0] is twice[1]


def test_repr_says_what_matters(backend: str) -> None:
    x = tg.tensor([1.0, 2.5], requires_grad=True)
    assert repr(x) == f"tensor([1. , 2.5], backend={backend}, requires_grad=True)"
    assert repr(x * 2) == f"tensor([2., 5.], backend={backend}, grad_fn=<Multiply>)"
    assert repr(tg.tensor([[1], [2]])) == f"tensor([[1],\n        [2]], backend={backend})"
    assert (
        repr(tg.ones(2, dtype="float64")) == f"tensor([1., 1.], dtype=float64, backend={backend})"
    )
    assert repr(tg.ones(0, 3)) == f"tensor([], shape=(0, 3), dtype=float32, backend={backend})"
    assert "..." in repr(tg.zeros(2000))


def test_detach_and_data_share_memory() -> None:
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    x.detach().add_(1)
    assert x.tolist() == [2, 3]
    x.data.add_(1)
    assert x.tolist() == [3, 4]
    x.data[0] = 9
    assert x.tolist() == [9, 4]
    with pytest.raises(TypeError, match="expected a float32"):
        x.data = tg.ones(2, dtype="float64")


# -- random numbers ----------------------------------------------------------------------------------
def draws(backend: str) -> list[list[Any]]:
    with tg.use_backend(backend):
        tg.manual_seed(42)
        return [
            t.reshape(-1).tolist()
            for t in (
                tg.rand(5), tg.randn(2, 3), tg.randint(-3, 10, (6,)), tg.randperm(7),
                tg.rand(3, dtype="float64"), tg.randn(3, dtype="float64"), tg.rand_like(tg.ones(2)),
                tg.nn.functional.dropout(tg.ones(20), 0.5, True),
            )
        ]  # fmt: skip


def test_the_seed_fixes_every_bit_on_every_backend(backend: str) -> None:
    assert draws(backend) == draws(backend) == draws("numpy")
    tg.manual_seed(43)
    assert tg.rand(5).tolist() != draws(backend)[0]


def test_states_can_be_restored() -> None:
    tg.manual_seed(1)
    tg.rand(3)
    state = tg.get_rng_state()
    first = tg.randn(4).tolist()
    assert tg.randn(4).tolist() != first
    tg.set_rng_state(state)
    assert tg.randn(4).tolist() == first
    mine = tg.Generator(5)
    a = tg.rand(3, generator=mine).tolist()
    assert tg.rand(3, generator=mine.manual_seed(5)).tolist() == a and mine.initial_seed() == 5


def test_ranges_and_moments() -> None:
    tg.manual_seed(0)
    u, z, k = tg.rand(20000).numpy(), tg.randn(20000).numpy(), tg.randint(-2, 3, (20000,)).numpy()
    assert u.min() >= 0 and u.max() < 1 and abs(u.mean() - 0.5) < 0.01
    assert abs(z.mean()) < 0.03 and abs(z.std() - 1) < 0.02
    assert set(k.tolist()) == {-2, -1, 0, 1, 2} and abs((k == 0).mean() - 0.2) < 0.015
    assert sorted(tg.randperm(50).tolist()) == list(range(50)) and tg.randperm(0).shape == (0,)


def test_device_is_where_the_elements_lie() -> None:
    assert tg.ones(2, backend="numpy").device == tg.ones(2).device == "cpu"
