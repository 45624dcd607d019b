"""One row a public operation: how to call it, and on which inputs.

``call(m, *xs)`` is written once and run with ``m`` being tinygrad_cnn or PyTorch, whose names and
arguments agree. ``oracle`` is the same mathematics in NumPy, for machines without PyTorch.
"""

# ruff: noqa: E501  (a table is easier to read with one row a line)

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Array = Any


class Case(NamedTuple):
    """``smooth``: derivatives may be compared with differences at these inputs.

    PyTorch's second derivative is NaN at some points where the first is defined to be 0 (the norm
    of zeros, 0ˣ); ours is 0 there.
    """

    name: str
    call: Callable[..., Any]
    inputs: tuple[Array, ...]
    oracle: Callable[..., Any] | None = None
    smooth: bool = True
    label: str = ""
    torch: int = 2  # the orders to compare with PyTorch; -1 where it cannot do it at all

    @property
    def id(self) -> str:
        return f"{self.name}-{self.label}" if self.label else self.name


def _rng(shape: tuple[int, ...], salt: int) -> np.random.Generator:
    return np.random.default_rng([len(shape), salt, *shape])


def n(*shape: int, salt: int = 0) -> Array:
    """Normal numbers: no ties, no zeros."""
    return _rng(shape, salt).standard_normal(shape)


def pos(*shape: int, salt: int = 1) -> Array:
    """Between 0.5 and 2.5."""
    return _rng(shape, salt).uniform(0.5, 2.5, shape)


def away(*shape: int, salt: int = 2) -> Array:
    """Of both signs, not near 0."""
    return pos(*shape, salt=salt) * np.where(n(*shape, salt=salt + 1) > 0, 1.0, -1.0)


def inner(*shape: int, salt: int = 5) -> Array:
    """Between −0.9 and 0.9."""
    return _rng(shape, salt).uniform(-0.9, 0.9, shape)


def ints(high: int, *shape: int, salt: int = 3) -> Array:
    return _rng(shape, salt).integers(0, high, shape)


def ties(*shape: int) -> Array:
    """Small whole numbers, many of them equal."""
    return ints(3, *shape).astype(np.float64) - 1


def mask(*shape: int) -> Array:
    return ints(2, *shape, salt=9).astype(bool)


def _unary() -> list[Case]:
    rows: list[Case] = []
    table: dict[str, tuple[Callable[..., Array], Any]] = {
        "abs": (away, np.abs), "neg": (n, np.negative), "exp": (n, np.exp),
        "expm1": (n, np.expm1), "log": (pos, np.log), "log1p": (pos, np.log1p),
        "sqrt": (pos, np.sqrt), "rsqrt": (pos, lambda x: 1 / np.sqrt(x)),
        "square": (n, np.square), "reciprocal": (away, lambda x: 1 / x), "sin": (n, np.sin),
        "cos": (n, np.cos), "tanh": (n, np.tanh), "sigmoid": (n, lambda x: 1 / (1 + np.exp(-x))),
        "erf": (n, None), "sign": (away, np.sign), "floor": (away, np.floor),
        "ceil": (away, np.ceil), "round": (away, np.round), "clone": (n, np.array),
        "log2": (pos, np.log2), "log10": (pos, np.log10), "tan": (n, np.tan),
        "trunc": (away, np.trunc), "asin": (inner, np.arcsin), "acos": (inner, np.arccos),
        "atan": (n, np.arctan),
    }  # fmt: skip
    for name, (build, oracle) in table.items():

        def call(m: Any, x: Any, name: str = name) -> Any:
            return getattr(m, name)(x)

        for shape in ((3, 5), (), (0, 2), (2, 3, 4)):
            rows.append(Case(name, call, (build(*shape),), oracle, True, str(shape)))
    return rows


def _binary() -> list[Case]:
    rows: list[Case] = []
    table: dict[str, tuple[Callable[..., Array], Callable[..., Array], Any]] = {
        "add": (n, n, np.add), "sub": (n, n, np.subtract), "mul": (n, n, np.multiply),
        "div": (n, away, np.divide), "pow": (pos, n, np.power),
        "maximum": (n, n, np.maximum), "minimum": (n, n, np.minimum),
        "remainder": (n, away, np.remainder),
    }  # fmt: skip
    shapes: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = (
        ((3, 4), (3, 4)), ((3, 1), (4,)), ((), (2, 3)), ((2, 3), ()), ((), ()),
        ((2, 1, 3), (1, 4, 1)), ((0, 3), (3,)), ((1, 1), (1,)), ((5,), (2, 1, 1)),
    )  # fmt: skip
    for name, (left, right, oracle) in table.items():

        def call(m: Any, a: Any, b: Any, name: str = name) -> Any:
            return getattr(m, name)(a, b)

        for a, b in shapes:
            rows.append(
                Case(name, call, (left(*a, salt=5), right(*b, salt=8)), oracle, True, f"{a}{b}")
            )
    x, p = n(3, 4), pos(3, 4)
    rows += [
        Case("add", lambda m, a, b: m.add(a, b, alpha=2.5), (x, n(4)), None, True, "alpha"),
        Case("sub", lambda m, a, b: m.sub(a, b, alpha=-2), (x, n(4)), None, True, "alpha"),
        Case("add", lambda m, a: 2 + a + 1.5, (x,), lambda a: a + 3.5, True, "scalar"),
        Case("sub", lambda m, a: 2 - (a - 1.5), (x,), lambda a: 3.5 - a, True, "scalar"),
        Case("mul", lambda m, a: 2 * a * -1.5, (x,), lambda a: -3 * a, True, "scalar"),
        Case("div", lambda m, a: 2 / a / 3, (p,), lambda a: 2 / 3 / a, True, "scalar"),
        Case("add", lambda m, a: a + a * a + a, (x,), lambda a: 2 * a + a * a, True, "self"),
        Case("remainder", lambda m, a: a % 0.7, (x,), None, True, "scalar"),
        Case("remainder", lambda m, a: 0.7 % a, (p,), None, True, "reflected", 0),
        Case("maximum", lambda m, a, b: m.maximum(a, b), (ties(4, 5), ties(5)), None, False, "ties"),
        Case("minimum", lambda m, a, b: m.minimum(a, b), (ties(4, 5), ties(5)), None, False, "ties"),
        Case("where", lambda m, c, a, b: m.where(c, a, b), (mask(3, 1), n(4), n(3, 4)), np.where),
        Case("where", lambda m, c, a: m.where(c, a, -1.5), (mask(3, 4), n(4)), None, True, "scalar"),
        Case("where", lambda m, c, a: m.where(c, 2, a), (mask(2, 3, 4), n()), None, True, "0d"),
        Case("masked_fill", lambda m, a, c: m.masked_fill(a, c, 2.5), (x, mask(3, 4)),
             lambda a, c: np.where(c, 2.5, a)),
        Case("masked_fill", lambda m, a, c, v: m.masked_fill(a, c, v), (x, mask(4), n()), None, True, "tensor"),
        Case("masked_select", lambda m, a, c: m.masked_select(a, c), (x, mask(3, 4)),
             lambda a, c: a[np.broadcast_to(c, a.shape)]),
        Case("clamp", lambda m, a: m.clamp(a, -0.5, 0.5), (x,), lambda a: np.clip(a, -0.5, 0.5)),
        Case("clip", lambda m, a: a.clip(-0.5, 0.5), (x,), lambda a: np.clip(a, -0.5, 0.5)),
        Case("lerp", lambda m, a, b: m.lerp(a, b, 0.3), (x, n(4)), lambda a, b: 0.7 * a + 0.3 * b),
        Case("lerp", lambda m, a, b, w: a.lerp(b, w), (x, n(4), n(3, 1)), None, True, "tensor"),
        Case("addcmul", lambda m, a, b, c: m.addcmul(a, b, c, value=-0.5), (x, n(4), n(3, 1)),
             lambda a, b, c: a - 0.5 * b * c),
        Case("addcdiv", lambda m, a, b, c: m.addcdiv(a, b, c, value=2), (x, n(4), p),
             lambda a, b, c: a + 2 * b / c),
        Case("nan_to_num", lambda m, a, k: m.nan_to_num(m.where(k, a, float("nan")), 2.5), (x, mask(3, 4)),
             lambda a, k: np.where(k, a, 2.5)),
        Case("nan_to_num", lambda m, a, k: m.nan_to_num(m.where(k, a, float("inf")), 0.0, 3.0), (x, mask(3, 4)),
             None, True, "inf"),
        Case("clamp", lambda m, a: m.clamp(a, min=0.1), (x,), None, True, "min"),
        Case("clamp", lambda m, a: m.clamp(a, max=0.1), (x,), None, True, "max"),
        Case("clamp", lambda m, a: m.clamp(a, -1, 1), (ties(4, 5),), None, False, "limits"),
        Case("clamp", lambda m, a: m.clamp(a, 1.0, -1.0), (x,), None, True, "crossed"),
        Case("clamp", lambda m, a, lo, hi: m.clamp(a, lo, hi), (x, -pos(4), pos(3, 1)), None, True, "tensors"),
    ]  # fmt: skip
    for e in (0, 1, 2, 3, -1, -2, 0.5, 1.5, -0.5):
        rows.append(Case("pow", lambda m, a, e=e: a**e, (p,), lambda a, e=e: a**e, True, f"x**{e}"))
    for e in (0, 1, 2, 3, -3):
        rows.append(
            Case("pow", lambda m, a, e=e: m.pow(a, e), (away(3, 4),), None, True, f"neg{e}")
        )
    for e in (0, 1, 2, 3):
        rows.append(Case("pow", lambda m, a, e=e: a**e, (ties(3, 4),), None, False, f"zero{e}"))
    rows += [
        Case("pow", lambda m, b: 2.0**b, (x,), lambda b: 2.0**b, True, "2**x"),
        Case("pow", lambda m, b: 0.0**b, (p,), None, False, "0**x", 1),
        Case("pow", lambda m, a: m.pow(a, m.full_like(a, 3)), (away(5),), None, True, "negative"),
    ]
    return rows


def _reductions() -> list[Case]:
    rows: list[Case] = []
    x = n(2, 3, 4)
    dims: tuple[Any, ...] = (None, 0, -1, 1, (0, 2), (-1, 0, 1))
    for name, oracle in {"sum": np.sum, "mean": np.mean, "amax": np.max, "amin": np.min}.items():
        for dim in dims:
            for keep in (False, True):

                def call(
                    m: Any, a: Any, name: str = name, dim: Any = dim, keep: bool = keep
                ) -> Any:
                    if dim is None and keep:
                        return getattr(m, name)(a, dim=(0, 1, 2), keepdim=True)
                    return getattr(m, name)(a) if dim is None else getattr(m, name)(a, dim, keep)

                def check(a: Array, f: Any = oracle, dim: Any = dim, keep: bool = keep) -> Any:
                    return f(a, axis=dim, keepdims=keep)

                rows.append(Case(name, call, (x,), check, True, f"{dim}{keep}"))
        rows.append(
            Case(name, lambda m, a, name=name: getattr(m, name)(a), (n(),), None, True, "0d")
        )
    for name in ("amax", "amin"):
        for dim in (0, (0, 1), ()):
            rows.append(
                Case(name, lambda m, a, name=name, dim=dim: getattr(m, name)(a, dim), (ties(4, 5),),
                     None, False, f"ties{dim}")
            )  # fmt: skip
    for name in ("max", "min"):
        rows += [
            Case(name, lambda m, a, f=name: getattr(m, f)(a), (x,), None, True, "all"),
            Case(name, lambda m, a, f=name: getattr(m, f)(a), (ties(4, 5),), None, False, "ties"),
            Case(name, lambda m, a, f=name: tuple(getattr(m, f)(a, 1)), (x,), None, True, "dim"),
            Case(name, lambda m, a, f=name: tuple(getattr(m, f)(a, -1, True)), (x,), None, True, "keep"),
            Case(name, lambda m, a, f=name: tuple(getattr(m, f)(a, 0)), (n(),), None, True, "0d"),
            Case(name, lambda m, a, b, f=name: getattr(m, f)(a, b), (x, n(4)), None, True, "two"),
        ]  # fmt: skip
    zeros1, zeros2 = away(3, 4), away(3, 4)
    zeros1[0, 1] = 0
    zeros2[1, 1] = zeros2[2, 1] = zeros2[0, 0] = 0
    for label, a in {"none": away(3, 4), "one": zeros1, "two": zeros2, "empty": n(0, 4)}.items():
        rows += [
            Case("prod", lambda m, a: m.prod(a), (a,), np.prod, True, f"all-{label}"),
            Case("prod", lambda m, a: m.prod(a, 0), (a,), lambda a: a.prod(0), True, f"0-{label}"),
            Case("prod", lambda m, a: m.prod(a, -1, True), (a,), None, True, f"keep-{label}"),
        ]
    for name in ("var", "std"):
        for options in (
            {}, {"dim": 1}, {"dim": (0, 2), "keepdim": True}, {"unbiased": False},
            {"dim": 1, "correction": 0}, {"dim": (1, 2), "correction": 2}, {"dim": 2, "unbiased": True},
        ):  # fmt: skip
            rows.append(
                Case(name, lambda m, a, f=name, o=options: getattr(m, f)(a, **o), (x,), None, True, str(options))
            )  # fmt: skip
    same = np.array([[1.5, 1.5, 1.5], [1.0, 2.0, 4.0]])
    rows += [
        Case("var_mean", lambda m, a: m.var_mean(a, (0, 2), keepdim=True), (x,)),
        Case("std_mean", lambda m, a: m.std_mean(a, 1, unbiased=False), (x,)),
        Case("std", lambda m, a: m.std(a, 1), (same,), None, False, "zero variance", 1),
        Case("var", lambda m, a: m.var(a, 1), (same,), None, True, "zero variance"),
        Case("logsumexp", lambda m, a: m.logsumexp(a, 1), (x,), lambda a: np.log(np.exp(a).sum(1))),
        Case("logsumexp", lambda m, a: m.logsumexp(a, (0, 2), True), (x,), None, True, "dims"),
        Case("logsumexp", lambda m, a: m.logsumexp(a * 1e3, 1), (x,), None, False, "large"),
        Case("cumsum", lambda m, a: m.cumsum(a, 1), (x,), lambda a: np.cumsum(a, 1)),
        Case("cumsum", lambda m, a: m.cumsum(a, -1), (n(2, 0),), None, True, "empty"),
        Case("cumsum", lambda m, a: m.cumsum(a, 0), (n(),), None, True, "0d"),
        Case("cumprod", lambda m, a: m.cumprod(a, 1), (x,), lambda a: np.cumprod(a, 1)),
        Case("cumprod", lambda m, a: m.cumprod(a, -1), (zeros2,), None, True, "zeros"),
        Case("cumprod", lambda m, a: m.cumprod(a, 0), (n(),), None, True, "0d"),
        Case("cumprod", lambda m, a: m.cumprod(a, 1), (n(2, 0),), None, True, "empty"),
        Case("sort", lambda m, a: tuple(m.sort(a, 1)), (x,)),
        Case("sort", lambda m, a: tuple(m.sort(a, 0, True)), (x,), None, True, "descending"),
        Case("topk", lambda m, a: tuple(m.topk(a, 2, 1)), (x,)),
        Case("topk", lambda m, a: tuple(m.topk(a, 3, -1, False)), (x,), None, True, "smallest"),
        Case("median", lambda m, a: m.median(a), (n(3, 5),)),
        Case("flip", lambda m, a: m.flip(a, (0, 2)), (x,), lambda a: np.flip(a, (0, 2))),
        Case("flip", lambda m, a: m.flip(a, (-1,)), (x,), None, True, "last"),
    ]
    for p in (2, 1, 3, 1.5, 0.5, float("inf"), -float("inf"), "fro"):
        rows += [
            Case("norm", lambda m, a, p=p: m.norm(a, p), (x,), None, True, f"{p}"),
            Case("norm", lambda m, a, p=p: m.norm(a, p, 1, True), (x,), None, True, f"{p}-dim"),
        ]
    rows += [
        Case("norm", lambda m, a: m.norm(a, 2, 1), (np.zeros((2, 3)),), None, False, "zeros-2", 1),
        Case("norm", lambda m, a: m.norm(a, 1, 1), (ties(2, 3),), None, False, "ties-1"),
        Case("norm", lambda m, a: m.norm(a, 3, 0), (ties(4, 3),), None, False, "ties-3"),
    ]
    return rows


def _products() -> list[Case]:
    rows: list[Case] = []
    shapes: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = (
        ((3, 4), (4, 5)), ((4,), (4,)), ((4,), (4, 5)), ((3, 4), (4,)), ((2, 3, 4), (4, 5)),
        ((3, 4), (2, 4, 5)), ((2, 1, 3, 4), (5, 4, 2)), ((2, 3, 4), (4,)), ((4,), (2, 4, 3)),
        ((3, 0), (0, 5)), ((0, 4), (4, 5)), ((1, 1), (1, 1)), ((2, 0, 3), (3, 2)),
    )  # fmt: skip
    for a, b in shapes:
        rows.append(
            Case(
                "matmul", lambda m, a, b: a @ b, (n(*a), n(*b, salt=4)), np.matmul, True, f"{a}{b}"
            )
        )
    rows += [
        Case("mm", lambda m, a, b: m.mm(a, b), (n(3, 4), n(4, 2)), np.matmul),
        Case("bmm", lambda m, a, b: m.bmm(a, b), (n(2, 3, 4), n(2, 4, 5)), np.matmul),
        Case("mv", lambda m, a, b: m.mv(a, b), (n(3, 4), n(4)), np.matmul),
        Case("dot", lambda m, a, b: m.dot(a, b), (n(7), n(7, salt=4)), np.dot),
        Case("outer", lambda m, a, b: m.outer(a, b), (n(3), n(4)), np.outer),
        Case("trace", lambda m, a: m.trace(a), (n(3, 4),), np.trace),
        Case("tensordot", lambda m, a, b: m.tensordot(a, b, 2), (n(2, 3, 4), n(3, 4, 5)), np.tensordot),
        Case("tensordot", lambda m, a, b: m.tensordot(a, b, 0), (n(2, 3), n(4)), None, True, "0"),
        Case("tensordot", lambda m, a, b: m.tensordot(a, b, ([2, 0], [1, 2])), (n(2, 3, 4), n(5, 4, 2)),
             None, True, "lists"),
    ]  # fmt: skip
    equations: dict[str, tuple[tuple[int, ...], ...]] = {
        "ij,jk->ik": ((2, 3), (3, 4)), "ij,jk": ((2, 3), (3, 4)), "ij->ji": ((2, 3),),
        "ij->": ((2, 3),), "ij->j": ((2, 3),), "ii->i": ((3, 3),), "ii": ((3, 3),),
        "iij->j": ((3, 3, 2),), "i,j->ij": ((2,), (3,)), "i,i": ((3,), (3,)),
        "bij,bjk->bik": ((2, 3, 4), (2, 4, 5)), "bij,bij->b": ((2, 3, 4), (2, 3, 4)),
        "...ij,...jk->...ik": ((2, 1, 3, 4), (5, 4, 2)), "...i,i->...": ((2, 3, 4), (4,)),
        "i...->...i": ((2, 3, 4),), "...": ((2, 3),), "ij,kl->": ((2, 3), (4, 5)),
        "ij,jk,kl->il": ((2, 3), (3, 4), (4, 5)), "i,ij,j->": ((2,), (2, 3), (3,)),
        "bhqd,bhkd->bhqk": ((2, 3, 4, 5), (2, 3, 6, 5)), "ab,b,ab->a": ((2, 3), (3,), (2, 3)),
        "ij,ij->ij": ((1, 3), (2, 1)), "ai,ij,aj->ij": ((1, 3), (3, 4), (5, 4)),
        "ii,ij->ij": ((3, 3), (3, 2)), "iji->j": ((3, 2, 3),), "Ab,bC": ((2, 3), (3, 4)),
        "i,j,k->kji": ((2,), (3,), (4,)), "ij,jk->ik ": ((2, 0), (0, 3)), "iii->i": ((2, 2, 2),),
        "nchw,oc->nohw": ((2, 3, 4, 5), (6, 3)), "...ij->...": ((2, 3, 4),), "a...b,b...->a...": ((2, 3, 4), (4, 3)),
    }  # fmt: skip
    for equation, sizes in equations.items():
        xs = tuple(n(*s, salt=k) for k, s in enumerate(sizes))
        clean = equation not in ("ij,ij->ij", "ai,ij,aj->ij")  # NumPy does not broadcast letters
        rows.append(
            Case(
                "einsum", lambda m, *xs, e=equation: m.einsum(e, *xs), xs,
                (lambda *xs, e=equation: np.einsum(e.strip(), *xs)) if clean else None, True, equation,
            )
        )  # fmt: skip
    return rows


def _views() -> list[Case]:
    x = n(2, 3, 4)
    index = ints(3, 2, 5, 4)
    pick = np.array([2, 0, 0, 1])
    once = n(2, 3, 4, salt=6).argsort(1)[:, :2]  # no position twice
    return [
        Case("reshape", lambda m, a: m.reshape(a, (4, 6)), (x,), lambda a: a.reshape(4, 6)),
        Case("reshape", lambda m, a: a.reshape(-1, 2), (x,), None, True, "-1"),
        Case("reshape", lambda m, a: m.reshape(a, ()), (n(1, 1),), None, True, "0d"),
        Case("reshape", lambda m, a: a.view(3, 0), (n(0, 2),), None, True, "empty"),
        Case("reshape", lambda m, a: a.permute(2, 0, 1).reshape(8, 3), (x,), None, True, "permuted"),
        Case("flatten", lambda m, a: m.flatten(a, 1), (x,), lambda a: a.reshape(2, 12)),
        Case("flatten", lambda m, a: m.flatten(a), (n(),), None, True, "0d"),
        Case("unflatten", lambda m, a: m.unflatten(a, 2, (2, -1)), (x,), lambda a: a.reshape(2, 3, 2, 2)),
        Case("squeeze", lambda m, a: m.squeeze(a), (n(2, 1, 3, 1),), np.squeeze),
        Case("squeeze", lambda m, a: m.squeeze(a, (1, 2)), (n(2, 1, 3, 1),), None, True, "dims"),
        Case("unsqueeze", lambda m, a: m.unsqueeze(a, -2), (x,), lambda a: a[:, :, None]),
        Case("transpose", lambda m, a: m.transpose(a, 0, -1), (x,), lambda a: a.swapaxes(0, -1)),
        Case("swapaxes", lambda m, a: m.swapaxes(a, 0, -1), (x,), lambda a: a.swapaxes(0, -1)),
        Case("ravel", lambda m, a: m.ravel(a), (x,), np.ravel),
        Case("narrow", lambda m, a: m.narrow(a, 1, 1, 2), (x,), lambda a: a[:, 1:3]),
        Case("narrow", lambda m, a: a.narrow(-1, -3, 0), (x,), None, True, "empty"),
        Case("diag", lambda m, a: m.diag(a, 1), (n(3, 4),), lambda a: np.diag(a, 1)),
        Case("diag", lambda m, a: m.diag(a, -2), (n(3),), lambda a: np.diag(a, -2), True, "below"),
        Case("diag", lambda m, a: m.diag(a, 1), (n(3),), lambda a: np.diag(a, 1), True, "above"),
        Case("t", lambda m, a: m.t(a), (n(2, 3),), np.transpose),
        Case("t", lambda m, a: m.t(a), (n(3),), None, True, "1d"),
        Case("permute", lambda m, a: m.permute(a, (2, 0, 1)), (x,), lambda a: a.transpose(2, 0, 1)),
        Case("movedim", lambda m, a: m.movedim(a, (0, 2), (1, 0)), (x,), lambda a: np.moveaxis(a, (0, 2), (1, 0))),
        Case("expand", lambda m, a: a.expand(5, -1, 4), (n(3, 1),)),
        Case("broadcast_to", lambda m, a: m.broadcast_to(a, (2, 3, 4)), (n(3, 1),),
             lambda a: np.broadcast_to(a, (2, 3, 4))),
        Case("broadcast_to", lambda m, a: m.broadcast_to(a, (2, 0)), (n(1),), None, True, "empty"),
        Case("contiguous", lambda m, a: a.permute(2, 1, 0).contiguous(), (x,), np.transpose),
        Case("repeat", lambda m, a: a.repeat(2, 1, 3), (n(2, 3),), lambda a: np.tile(a, (2, 1, 3))),
        Case("tile", lambda m, a: m.tile(a, (2,)), (n(2, 3),), lambda a: np.tile(a, 2)),
        Case("repeat_interleave", lambda m, a: m.repeat_interleave(a, 3, 1), (n(2, 3),), lambda a: a.repeat(3, 1)),
        Case("repeat_interleave", lambda m, a: m.repeat_interleave(a, 2), (n(2, 3),), lambda a: a.repeat(2), True, "flat"),
        Case("repeat_interleave", lambda m, a, k: m.repeat_interleave(a, k, 1), (n(2, 4), np.array([2, 0, 1, 0])), lambda a, k: a.repeat(k, 1), True, "counts"),
        Case("repeat_interleave", lambda m, a, k: m.repeat_interleave(a, k), (n(2, 2), np.array([0, 3, 1, 2])), lambda a, k: a.repeat(k), True, "flat counts"),
        Case("cat", lambda m, a, b: m.cat([a, b, a], 1), (n(2, 3), n(2, 1)),
             lambda a, b: np.concatenate([a, b, a], 1)),
        Case("cat", lambda m, a, b: m.cat((a, b)), (n(0), n(2, 3)), None, True, "empty"),
        Case("concat", lambda m, a, b: m.concat([a, b], 1), (n(2, 3), n(2, 1)), lambda a, b: np.concatenate([a, b], 1)),
        Case("concatenate", lambda m, a, b: m.concatenate([a, b]), (n(2, 3), n(1, 3)), lambda a, b: np.concatenate([a, b])),
        Case("hstack", lambda m, a, b: m.hstack([a, b]), (n(2, 3), n(2, 1)), lambda a, b: np.hstack([a, b])),
        Case("hstack", lambda m, a, b: m.hstack([a, b]), (n(), n(3)), lambda a, b: np.hstack([a, b]), True, "vectors"),
        Case("vstack", lambda m, a, b: m.vstack([a, b]), (n(2, 3), n(3)), lambda a, b: np.vstack([a, b])),
        Case("vstack", lambda m, a, b: m.vstack([a, b]), (n(), n(1)), lambda a, b: np.vstack([a, b]), True, "numbers"),
        Case("stack", lambda m, a, b: m.stack([a, b], -1), (n(2, 3), n(2, 3, salt=4)),
             lambda a, b: np.stack([a, b], -1)),
        Case("split", lambda m, a: tuple(m.split(a, 2, 1)), (n(2, 5),)),
        Case("split", lambda m, a: tuple(m.split(a, [1, 0, 4], 1)), (n(2, 5),), None, True, "sizes"),
        Case("chunk", lambda m, a: tuple(m.chunk(a, 3, 1)), (n(2, 5),)),
        Case("chunk", lambda m, a: tuple(m.chunk(a, 4, 0)), (n(6),), None, True, "fewer"),
        Case("unbind", lambda m, a: tuple(m.unbind(a, 1)), (n(2, 3),)),
        Case("roll", lambda m, a: m.roll(a, 2, 1), (n(2, 5),), lambda a: np.roll(a, 2, 1)),
        Case("roll", lambda m, a: m.roll(a, (-1, 7), (0, 1)), (n(2, 5),), lambda a: np.roll(a, (-1, 7), (0, 1)), True, "two"),
        Case("roll", lambda m, a: m.roll(a, 3), (n(2, 5),), lambda a: np.roll(a, 3), True, "flat"),
        Case("index_select", lambda m, a, i: m.index_select(a, 1, i), (x, pick), lambda a, i: a[:, i]),
        Case("gather", lambda m, a, i: m.gather(a, 1, i), (x, index), lambda a, i: np.take_along_axis(a, i, 1)),
        Case("gather", lambda m, a, i: m.gather(a, 0, i), (n(4, 3), ints(4, 2, 2)), None, True, "smaller"),
        Case("scatter", lambda m, a, i, s: m.scatter(a, 1, i, s), (x, once, n(2, 2, 4))),
        Case("scatter", lambda m, a, i: m.scatter(a, 0, i, 2.5), (n(4, 3), ints(4, 2, 2)), None, True, "number"),
        Case("scatter", lambda m, a, i: a.scatter(-1, i, value=2.5), (n(4, 3), ints(3, 0, 2)), None, True, "empty"),
        Case("scatter", lambda m, i, s: m.zeros_like(s).scatter_(1, i, s) * s, (np.array([[2, 0, 1]]), n(1, 3)), None, True, "in place"),
        Case("scatter_add", lambda m, a, i, s: m.scatter_add(a, 1, i, s), (x, index, n(2, 5, 4))),
        Case("scatter_add", lambda m, a, i, s: m.scatter_add(a, 0, i, s), (n(4, 3), ints(4, 2, 2), n(3, 3)),
             None, True, "larger src", 0),
        Case("diagonal", lambda m, a: m.diagonal(a, 1, 0, 2), (x,), lambda a: np.diagonal(a, 1, 0, 2)),
        Case("diagonal", lambda m, a: m.diagonal(a, -1), (n(3, 3),), lambda a: np.diagonal(a, -1), True, "below"),
        Case("tril", lambda m, a: m.tril(a, -1), (x,), lambda a: np.tril(a, -1)),
        Case("triu", lambda m, a: m.triu(a, 1), (n(4, 3),), lambda a: np.triu(a, 1)),
        Case("meshgrid", lambda m, a, b: tuple(m.meshgrid(a, b, indexing="ij")), (n(2), n(3))),
    ]  # fmt: skip


def _indexing() -> list[Case]:
    """``label`` is the index itself, the tensor of shape (3, 4, 5) being x."""
    texts = (
        "x[1]", "x[-1]", "x[1, 2, 3]", "x[:]", "x[1:, ::2]", "x[..., 1]", "x[1, ..., 2]", "x[None]",
        "x[:, None, 1]", "x[..., None]", "x[2:1]", "x[:, 1:3, -2:]", "x[[0, 2]]", "x[[0, 2, 0, 0]]",
        "x[[0, 1], [2, 3]]", "x[:, [1, 1, 3]]", "x[0, :, [1, 2]]", "x[[0, 1], :, [1, 2]]",
        "x[:, [0, 1], [2, 3]]", "x[[[0], [1]], [1, 2]]", "x[[0, 1], None, [1, 2]]",
        "x[None, [0, 1], 1]", "x[1, [0, 1], None]", "x[..., [0, 1]]", "x[[0, -1], 1:3]", "x[[1], ..., [2]]",
        "x[:, 1, [0, 2]]", "x[0, [0, 1], :2]", "x[:, None, [0, 1], None]", "x[1:2, [0, 3], 1]",
    )  # fmt: skip
    scope: dict[str, Any] = {}
    rows = []
    for text in texts:
        call = eval(f"lambda m, x: {text}", scope)
        rows.append(Case("getitem", call, (n(3, 4, 5),), None, True, text))
    x, flags = n(3, 4, 5), mask(3, 4)
    rows += [
        Case("getitem", lambda m, x: x[::-1, 1:, ::-2] * 1, (x,), lambda x: x[::-1, 1:, ::-2], True, "negative", -1),
        Case("getitem", lambda m, x, k: x[k], (x, flags), lambda x, k: x[k], True, "mask"),
        Case("getitem", lambda m, x, k: x[:, k], (x, mask(4, 5)), lambda x, k: x[:, k], True, "mask2"),
        Case("getitem", lambda m, x, k: x[k, 1:], (x, mask(3)), lambda x, k: x[k, 1:], True, "mask1"),
        Case("getitem", lambda m, x, k: x[k], (x, np.zeros((3, 4), bool)), lambda x, k: x[k], True, "none"),
        Case("getitem", lambda m, x, i, j: x[i, 1:, j], (x, np.array([0, 2]), np.array([[1, 4], [0, 0], [3, 3]])),
             lambda x, i, j: x[i, 1:, j], True, "arrays"),
    ]  # fmt: skip
    writes = {
        "z[:, [1, 2], 3] = v": (2,), "z[0, :, [1, 2]] = v": (4, 1), "z[...] = v": (4, 1), "z[:2] += v": (5,),
        "z[1] *= v": (4, 5), "z[[0, 2], 1] = v": (1, 1, 5), "z[1, 2, 3] = v": (), "z[None, 0] = v": (1, 1, 4, 5),
    }  # fmt: skip
    for text, shape in writes.items():
        space: dict[str, Any] = {}
        exec(f"def call(m, x, v):\n    z = x * 2\n    {text}\n    return z", space)
        rows.append(Case("setitem", space["call"], (x, n(*shape, salt=7)), None, True, text))
    space = {}
    exec("def call(m, x, k, v):\n    z = x * 2\n    z[k] = v\n    return z * z", space)
    rows.append(Case("setitem", space["call"], (x, flags, n(5)), None, True, "mask"))
    exec("def call2(m, x, k):\n    z = x * 2\n    z[k] = 1.5\n    return z * z", space)
    rows.append(Case("setitem", space["call2"], (x, flags), None, True, "mask number"))
    return rows


def _network() -> list[Case]:
    """The few that are also public without ``nn.functional``, which has a table of its own."""
    x = away(2, 3, 4)
    return [
        Case("relu", lambda m, a: m.relu(a), (x,), lambda a: np.maximum(a, 0)),
        Case("relu", lambda m, a: m.relu(a), (ties(4, 5),), None, False, "zeros"),
        Case("softmax", lambda m, a: m.softmax(a, 1), (x,)),
        Case("log_softmax", lambda m, a: m.log_softmax(a, -1), (x,)),
    ]


CASES = [*_unary(), *_binary(), *_reductions(), *_products(), *_views(), *_indexing(), *_network()]
