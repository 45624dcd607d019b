"""Matrix products. ``MatMul`` is the only kernel; einsum and tensordot arrange their operands for
it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..backend import Array, Backend
from ..geometry import broadcast_shapes
from ..tensor import Op, Tensor
from .elementwise import mul
from .views import Permute, Reshape, broadcast_to


class MatMul(Op):
    """c = a·b over the last two dimensions, the others broadcast; ∂a = g·bᵀ, ∂b = aᵀ·g."""

    broadcasts = True

    def forward(self, kernels: Backend, a: Array, b: Array) -> Array:
        return kernels.matmul(a, b)

    def backward(self, grad: Tensor, out: None) -> tuple[Tensor | None, Tensor | None]:
        a, b = self.inputs
        return (
            MatMul()(grad, _mT(b)) if self.needs[0] else None,
            MatMul()(_mT(a), grad) if self.needs[1] else None,
        )


def _mT(x: Tensor) -> Tensor:
    return Permute((*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))(x)


def matmul(input: Tensor, other: Tensor) -> Tensor:
    """Matrix product (M, K) @ (K, N); vectors are rows on the left and columns on the right;
    further dimensions in front are batches and broadcast. Raises ValueError when K differs."""
    a, b = input, other
    if not (isinstance(a, Tensor) and isinstance(b, Tensor)):
        raise TypeError(
            f"matmul: expected two tensors, received {type(a).__name__} and {type(b).__name__}"
        )
    if a.dtype != b.dtype:
        raise TypeError(
            f"matmul: expected equal dtypes, received {a.dtype} and {b.dtype}; "
            "convert one with .to()"
        )
    if not a.ndim or not b.ndim:
        raise ValueError(
            f"matmul: 0-d tensors have no matrix product, received {a.shape} and {b.shape}"
        )
    left = Reshape((1, *a.shape))(a) if a.ndim == 1 else a
    right = Reshape((*b.shape, 1))(b) if b.ndim == 1 else b
    if left.shape[-1] != right.shape[-2]:
        raise ValueError(
            f"matmul: shapes {a.shape} and {b.shape} do not fit: "
            f"inner sizes {left.shape[-1]} and {right.shape[-2]}"
        )
    if left.ndim > 2 or right.ndim > 2:
        try:
            broadcast_shapes(left.shape[:-2], right.shape[:-2])
        except ValueError as error:
            raise ValueError(f"matmul: batch {error}") from None
    made = MatMul().on((left, right))
    if a.ndim == 1 or b.ndim == 1:
        shape = made.shape
        made = Reshape((*shape[:-2], *shape[-2 + (a.ndim == 1) : len(shape) - (b.ndim == 1)]))(made)
    return made


def _dims(name: str, n: int, *operands: Tensor) -> None:
    for x in operands:
        if x.ndim != n:
            raise ValueError(f"{name}: expected {n} dimensions, received shape {x.shape}")


def mm(input: Tensor, mat2: Tensor) -> Tensor:
    """(M, K) @ (K, N), matrices only."""
    _dims("mm", 2, input, mat2)
    return matmul(input, mat2)


def bmm(input: Tensor, mat2: Tensor) -> Tensor:
    """(B, M, K) @ (B, K, N), equal batches only."""
    _dims("bmm", 3, input, mat2)
    if input.shape[0] != mat2.shape[0]:
        raise ValueError(f"bmm: expected equal batches, received {input.shape} and {mat2.shape}")
    return matmul(input, mat2)


def dot(input: Tensor, tensor: Tensor) -> Tensor:
    """Σ inputᵢ·tensorᵢ of two vectors."""
    _dims("dot", 1, input, tensor)
    return matmul(input, tensor)


def outer(input: Tensor, vec2: Tensor) -> Tensor:
    """inputᵢ·vec2ⱼ as a matrix."""
    _dims("outer", 1, input, vec2)
    return mul(Reshape((*input.shape, 1))(input), vec2)


def tensordot(a: Tensor, b: Tensor, dims: int | Sequence[Sequence[int]] = 2) -> Tensor:
    """Contraction over ``dims`` pairs: the last of a with the first of b, or (dims of a, dims of
    b).
    """
    if isinstance(dims, int):
        if not 0 <= dims <= min(a.ndim, b.ndim):
            raise ValueError(
                f"tensordot: cannot contract {dims} dimensions of {a.shape} and {b.shape}"
            )
        left, right = list(range(a.ndim - dims, a.ndim)), list(range(dims))
    else:
        left, right = ([d % x.ndim for d in ds] for ds, x in zip(dims, (a, b), strict=True))
    if [a.shape[i] for i in left] != [b.shape[j] for j in right]:
        raise ValueError(
            f"tensordot: contracted sizes of {a.shape} and {b.shape} differ for dims {dims}"
        )
    letters = [chr(97 + i) for i in range(a.ndim)]
    other = [chr(97 + a.ndim + j) for j in range(b.ndim)]
    for i, j in zip(left, right, strict=True):
        other[j] = letters[i]
    kept = [c for c in letters + other if (c in letters) != (c in other)]
    return einsum(f"{''.join(letters)},{''.join(other)}->{''.join(kept)}", a, b)


def einsum(equation: str, *tensors: Any) -> Tensor:
    """Einstein summation: each letter is an index, letters missing after "->" are summed over.

    "..." stands for broadcast dimensions; a repeated letter in one operand takes the diagonal.
    Without "->" the result has the letters that occur once, in alphabetical order. Raises
    ValueError for a malformed equation or sizes that differ.
    """
    found = (
        list(tensors[0])
        if len(tensors) == 1 and isinstance(tensors[0], list | tuple)
        else list(tensors)
    )
    terms, result = _parse(equation, found)
    sizes: dict[str, int] = {}
    parts = []
    for x, term in zip(found, terms, strict=True):
        for letter, n in zip(term, x.shape, strict=True):
            if sizes.setdefault(letter, n) != n and 1 not in (n, sizes[letter]):
                raise ValueError(f"einsum: index {letter!r} has sizes {sizes[letter]} and {n}")
            sizes[letter] = max(sizes[letter], n) if n else n
        parts.append(_diagonals(x, term))
    total, letters = parts[0]
    for k, (x, term) in enumerate(parts[1:], 1):
        later = set(result).union(*(t for _, t in parts[k + 1 :]))
        total, letters = _contract(total, letters, x, term, later, sizes)
    total, letters = _sum_out(total, letters, set(result))
    return Permute(tuple(letters.index(c) for c in result))(total)


def _parse(equation: str, found: list[Tensor]) -> tuple[list[str], str]:
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(found):
        raise ValueError(f"einsum: {equation!r} names {len(terms)} operands, received {len(found)}")
    wide = [x.ndim - len(t.replace("...", "")) for t, x in zip(terms, found, strict=True)]
    for t, extra, x in zip(terms, wide, found, strict=True):
        if (
            extra < 0
            or (extra and "..." not in t)
            or not t.replace("...", "").isalpha()
            and t.replace("...", "")
        ):
            raise ValueError(
                f"einsum: {t!r} in {equation!r} does not fit an operand of shape {x.shape}"
            )
    dots = [
        chr(0x3B1 + i) for i in range(max(wide, default=0))
    ]  # Greek letters stand for the "..." dimensions
    full = [
        t.replace("...", "".join(dots[len(dots) - n :]) if n else "")
        for t, n in zip(terms, wide, strict=True)
    ]
    if arrow:
        result = right.replace("...", "".join(dots))
    else:
        every = "".join(full)
        result = "".join(dots) + "".join(
            sorted(c for c in set(every) if every.count(c) == 1 and c not in dots)
        )
    if len(set(result)) != len(result) or not set(result) <= set("".join(full)):
        raise ValueError(
            f"einsum: the result {right!r} of {equation!r} repeats an index or names an unknown one"
        )
    return full, result


def _diagonals(x: Tensor, term: str) -> tuple[Tensor, str]:
    from .index import diagonal

    for letter in dict.fromkeys(term):
        while term.count(letter) > 1:
            i, j = term.index(letter), term.rindex(letter)
            x = diagonal(x, 0, i, j)
            term = "".join(c for k, c in enumerate(term) if k not in (i, j)) + letter
    return x, term


def _sum_out(x: Tensor, term: str, keep: set[str]) -> tuple[Tensor, str]:
    axes = [i for i, c in enumerate(term) if c not in keep]
    return (x.sum(axes), "".join(c for c in term if c in keep)) if axes else (x, term)


def _contract(
    a: Tensor, s: str, b: Tensor, t: str, later: set[str], sizes: dict[str, int]
) -> tuple[Tensor, str]:
    """One batched matrix product of two operands: batch indices are kept in both, inner ones
    summed.
    """
    a, s = _sum_out(a, s, later | set(t))
    b, t = _sum_out(b, t, later | set(s))
    batch = [c for c in s if c in t and c in later]
    inner = [c for c in s if c in t and c not in later]
    rows, columns = [c for c in s if c not in t], [c for c in t if c not in s]

    def arranged(x: Tensor, term: str, first: list[str], second: list[str]) -> Tensor:
        order = batch + first + second
        x = Permute(tuple(term.index(c) for c in order))(x)
        x = broadcast_to(
            x, [sizes[c] if c in batch + inner else n for c, n in zip(order, x.shape, strict=True)]
        )
        own = dict(zip(order, x.shape, strict=True))
        found.update(own)
        return x.reshape([math.prod(own[c] for c in part) for part in (batch, first, second)])

    found: dict[str, int] = {}

    made = matmul(arranged(a, s, rows, inner), arranged(b, t, inner, columns))
    kept = batch + rows + columns
    return Reshape(tuple(found[c] for c in kept))(made), "".join(kept)


def trace(input: Tensor) -> Tensor:
    """The sum of a matrix's diagonal."""
    from .index import diagonal

    _dims("trace", 2, input)
    return diagonal(input).sum()
