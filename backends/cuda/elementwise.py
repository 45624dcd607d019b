"""Elementwise operations: one kernel text (map.cu), the formulas, and NumPy's rules of types and
shapes.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from .device import Array
from .host import Host, Shape, c_type

# C formulas in a and b. Where a pair is given: for floating-point types, for all others.
FORMULAS: dict[str, str | tuple[str, str]] = {
    "negative": "-a",
    "absolute": ("fabs(a)", "a < 0 ? -a : a"),
    "sign": "a > 0 ? 1 : a < 0 ? -1 : a",
    "exp": "exp(a)",
    "expm1": "expm1(a)",
    "log": "log(a)",
    "log1p": "log1p(a)",
    "sqrt": "sqrt(a)",
    "sin": "sin(a)",
    "cos": "cos(a)",
    "arcsin": "asin(a)",
    "arccos": "acos(a)",
    "arctan": "atan(a)",
    "tanh": "tanh(a)",
    "floor": ("floor(a)", "a"),
    "ceil": ("ceil(a)", "a"),
    "rint": ("rint(a)", "a"),
    "isnan": "a != a",
    "isinf": ("isinf(a)", "false"),
    "isfinite": ("isfinite(a)", "true"),
    "logical_not": "!a",
    "erf": "erf(a)",
    "relu": "a > 0 || a != a ? a : 0",
    "sigmoid": "a < 0 ? exp(a) / (1 + exp(a)) : 1 / (1 + exp(-a))",
    "add": "a + b",
    "subtract": "a - b",
    "multiply": "a * b",
    "divide": "a / b",
    "power": ("pow(a, b)", "integer_power(a, b)"),
    "maximum": "a > b || a != a ? a : b",
    "minimum": "a < b || a != a ? a : b",
    "remainder": "modulo(a, b)",
    "floor_divide": "floor_quotient(a, b)",
    "equal": "a == b",
    "not_equal": "a != b",
    "less": "a < b",
    "less_equal": "a <= b",
    "greater": "a > b",
    "greater_equal": "a >= b",
    "logical_and": "a && b",
    "logical_or": "a || b",
    "logical_xor": "!a != !b",
    "bitwise_and": "a & b",
    "bitwise_or": "a | b",
    "bitwise_xor": "a ^ b",
    "left_shift": "(unsigned long long)b < 8 * sizeof(a) ? (T)((unsigned long long)a << b) : 0",
    "right_shift": "(unsigned long long)b < 8 * sizeof(a) ? a >> b : a < 0 ? -1 : 0",
    "relu_grad": "b > 0 ? a : 0",
    "add_relu": "a + b < 0 ? 0 : a + b",
    "leaky": "a > 0 ? a : b * a",
    "leaky_slope": "a > 0 ? 1 : b",
}
UNARY = tuple(FORMULAS)[: tuple(FORMULAS).index("add")]
BINARY = tuple(FORMULAS)[len(UNARY) :]
# Operations that NumPy lacks follow the type rules of one that it has.
LIKE = {
    "erf": "exp",
    "sigmoid": "exp",
    "relu": "negative",
    "relu_grad": "multiply",
    "add_relu": "add",
    "leaky": "multiply",
    "leaky_slope": "multiply",
}
DIMENSIONS = 6


@functools.lru_cache(4096)
def loop_dtypes(name: str, *operands: Any) -> tuple[np.dtype[Any], np.dtype[Any]]:
    """(type the operands are converted to, type of the result), by NumPy's promotion; an operand is
    a dtype, or int or float for a Python number."""
    ufunc = getattr(np, LIKE.get(name, name))
    *inputs, result = ufunc.resolve_dtypes((*operands, None))
    return np.dtype(np.result_type(*inputs)), np.dtype(result)


def coalesce(shape: Shape, strides: list[Shape]) -> tuple[list[int], list[list[int]]]:
    """Fewest dimensions that describe the same elements in the same order: size-1 ones go, and a
    dimension joins its inner neighbour if every operand steps over it evenly."""
    sizes: list[int] = []
    steps: list[list[int]] = [[] for _ in strides]
    for d, n in enumerate(shape):
        if n == 1:
            continue
        if sizes and all(s[-1] == o[d] * n for s, o in zip(steps, strides, strict=True)):
            sizes[-1] *= n
            for s, o in zip(steps, strides, strict=True):
                s[-1] = o[d]
        else:
            sizes.append(n)
            for s, o in zip(steps, strides, strict=True):
                s.append(o[d])
    return sizes, steps


class Elementwise(Host):
    """The elementwise group, ``where``, and copying."""

    def __init__(self, device: Any) -> None:
        super().__init__(device)
        for name in UNARY:
            setattr(self, name, functools.partial(self._unary, name))
        for name in BINARY:
            setattr(self, name, functools.partial(self._binary, name))

    def _unary(self, name: str, a: Any, out: Array | None = None) -> Array:
        a = a if self.is_array(a) else self._number_array(a)
        operand, result = loop_dtypes(name, a.dtype)
        return self._map(name, operand, result, a.shape, a, None, out)

    def _binary(self, name: str, a: Any, b: Any, out: Array | None = None) -> Array:
        operand, result = loop_dtypes(name, *(self._type_of(v) for v in (a, b)))
        shape = np.broadcast_shapes(*(v.shape if self.is_array(v) else () for v in (a, b)))
        return self._map(name, operand, result, shape, a, b, out)

    def _type_of(self, v: Any) -> Any:
        if hasattr(v, "dtype"):
            return v.dtype
        return np.dtype(bool) if isinstance(v, bool) else int if isinstance(v, int) else float

    def _number_array(self, v: Any) -> Array:
        return self.device.upload(np.asarray(v))

    def _map(
        self, name: str, operand: Any, result: Any, shape: Shape, a: Any, b: Any, out: Array | None
    ) -> Array:
        """out = formula(a, b) with the operands converted first; float16 is computed in float32."""
        wide = np.dtype(np.float32) if operand == np.float16 else operand
        made = np.dtype(np.float32) if result == np.float16 else result
        if self.is_array(a) and a.dtype != wide:
            a = self.cast(a, wide)
        if self.is_array(b) and b.dtype != wide:
            b = self.cast(b, wide)
        target = (
            out
            if out is not None and out.dtype == made and self._safe(out, a, b)
            else self.new(shape, made)
        )
        self._run_map(name, wide, made, a, b, target)
        if out is not None:
            if target is not out:
                self.copy_into(out, target)
            return out
        return target if made == result else self.cast(target, result)

    def _safe(self, out: Array, *operands: Any) -> bool:
        """May elements be written one by one? Not if an operand is another view of them."""
        return all(
            not self.is_array(v)
            or (
                v.shape == out.shape
                and v.strides == out.strides
                and self.device.pointer(v) == self.device.pointer(out)
            )
            or not self.xp.may_share_memory(v, out)
            for v in operands
        )

    def _run_map(self, name: str, operand: Any, result: Any, a: Any, b: Any, out: Array) -> None:
        formula = FORMULAS.get(name, "a")
        real = operand.kind == "f"
        if isinstance(formula, tuple):
            formula = formula[0] if real else formula[1]
        names: dict[str, Any] = {
            "T": c_type(operand),
            "R": c_type(result),
            "F": formula,
            "REAL": int(real),
        }
        if out.size >= 2**31:
            names["INDEX"] = "long long"
        number = operand.type
        arrays = [v if self.is_array(v) else None for v in (a, b)]
        numbers = [number(0) if v is None or self.is_array(v) else number(v) for v in (a, b)]
        pairs = [arrays[0], numbers[0], arrays[1], numbers[1]]
        dense = [v for v in (*arrays, out) if v is not None]
        if all(v.flags.c_contiguous and v.shape == out.shape for v in dense):
            aligned = all(self.device.pointer(v) % min(16, 4 * v.itemsize) == 0 for v in dense)
            vector = aligned and out.size >= 4
            kernel = self.kernel("map_flat", ["map.cu"], **names)
            threads = out.size // 4 + 3 if vector else out.size
            self.each(kernel, out.size, *pairs, out, out.size, int(vector), threads=threads)
        else:
            self._strided(names, pairs, out)

    def _strided(self, names: dict[str, Any], pairs: list[Any], out: Array) -> None:
        if not out.size:
            return
        wide = [
            v if v is None else self.xp.broadcast_to(v, out.shape) for v in (pairs[0], pairs[2])
        ]
        item = [out.itemsize if v is None else v.itemsize for v in (*wide, out)]
        strides = [
            tuple(0 for _ in out.shape) if v is None else tuple(s // size for s in v.strides)
            for v, size in zip((*wide, out), item, strict=True)
        ]
        sizes, steps = coalesce(out.shape, strides)
        if (
            len(sizes) > DIMENSIONS
        ):  # more dimensions than the kernel takes: one launch for each index of the first
            for i in range(out.shape[0]):
                part = [v if v is None else v[i] for v in wide]
                self._strided(names, [part[0], pairs[1], part[1], pairs[3]], out[i])
            return
        lead = DIMENSIONS - len(sizes)
        sizes = [1] * lead + sizes
        flat = [s for step in steps for s in ([0] * lead + step)]
        kernel = self.kernel("map_strided", ["map.cu"], **names)
        self.each(
            kernel, out.size, wide[0], pairs[1], wide[1], pairs[3], out, out.size, *sizes[1:], *flat
        )

    def _copy(self, out: Array, a: Array) -> None:
        if out.size:
            self._run_map("copy", a.dtype, out.dtype, a, None, out)

    def leaky_relu(self, x: Array, slope: float) -> Array:
        return self._binary("leaky", x, slope)

    def leaky_relu_grad(self, g: Array, x: Array, slope: float) -> Array:
        factor = self._binary("leaky_slope", x, slope)
        return self._binary("multiply", g, factor, out=factor)

    def where(self, condition: Array, a: Any, b: Any) -> Array:
        types = [v.dtype if hasattr(v, "dtype") else v for v in (a, b)]
        dtype = np.result_type(*types)
        shape = np.broadcast_shapes(*(v.shape for v in (condition, a, b) if self.is_array(v)))
        wide = np.dtype(np.float32) if dtype == np.float16 else dtype

        def spread(v: Any, kind: Any) -> Any:
            return self.dense(self.xp.broadcast_to(v, shape), kind) if self.is_array(v) else None

        numbers = [wide.type(0) if self.is_array(v) else wide.type(v) for v in (a, b)]
        out = self.new(shape, wide)
        kernel = self.kernel("where", ["where.cu"], T=c_type(wide))
        self.each(
            kernel,
            out.size,
            spread(condition, np.bool_),
            spread(a, wide),
            numbers[0],
            spread(b, wide),
            numbers[1],
            out,
            out.size,
        )
        return out if wide == dtype else self.cast(out, dtype)
