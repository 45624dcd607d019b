"""What elementwise loops compute for one element: functions of one or two numbers.

They are compiled into the loops of ``loops.py``, which LLVM then turns into vector code. Numbers
are typed, so that float32 stays float32; comparisons and tests give booleans, whose memory is one
byte of 0 or 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from .access import get8, get32, get64, geti64, put8, put32, put64
from .polynomials import erf32, exp32, log32, sigmoid32, tanh32
from .runtime import device


class Kind(NamedTuple):
    """How numbers of a dtype are read and written, and how many bytes they have."""

    get: Any
    put: Any
    size: int


KINDS = {
    "float32": Kind(get32, put32, 4), "float64": Kind(get64, put64, 8),
    "int64": Kind(geti64, None, 8), "bool": Kind(get8, put8, 1), "uint8": Kind(get8, None, 1),
}  # fmt: skip
NAMES = {np.dtype(name): name for name in KINDS}
BOOL = np.dtype(bool)

COMPARISONS: dict[str, Callable[..., Any]] = {
    "equal": lambda a, b: a == b,
    "not_equal": lambda a, b: a != b,
    "less": lambda a, b: a < b,
    "less_equal": lambda a, b: a <= b,
    "greater": lambda a, b: a > b,
    "greater_equal": lambda a, b: a >= b,
}
TRUTHS: dict[str, Callable[..., Any]] = {  # of booleans; a byte that is not 0 counts as true
    "logical_and": lambda a, b: (a != 0) & (b != 0),
    "logical_or": lambda a, b: (a != 0) | (b != 0),
    "logical_xor": lambda a, b: (a != 0) ^ (b != 0),
    "logical_not": lambda a: a == 0,
}
TRUTHS |= {name: TRUTHS[name.replace("bitwise", "logical")] for name in (
    "bitwise_and", "bitwise_or", "bitwise_xor")}  # fmt: skip
# Powers that are products, quotients and roots: within four units in the last place.
POWERS = {
    3: "power3", 4: "power4", -1: "power-1", -2: "power-2", -3: "power-3",
    0.5: "sqrt", 1.5: "power1.5", -0.5: "power-0.5",
}  # fmt: skip
POLYNOMIALS = {"exp": exp32, "log": log32, "tanh": tanh32, "sigmoid": sigmoid32, "erf": erf32}

_TESTS = {"isnan", "isinf", "isfinite"}
_ARITHMETIC = {"add", "subtract", "multiply", "divide", "maximum", "minimum"}
_EXACT = {
    "relu_grad", "leaky", "relu", "negative", "absolute", "sign", "sqrt", *POWERS.values(), *_TESTS,
    *_ARITHMETIC,
}  # fmt: skip
# What NumPy does at the speed of memory, too (not the maximum with a number, nor square roots).
PLAIN = {
    *COMPARISONS, *TRUTHS, *_TESTS, "add", "subtract", "multiply", "divide", "negative", "absolute",
}  # fmt: skip
_OF = {
    "float32": {*_EXACT, *COMPARISONS, *POLYNOMIALS}, "float64": {*_EXACT, *COMPARISONS},
    "int64": set(COMPARISONS), "bool": set(TRUTHS), "uint8": set(),
}  # fmt: skip


def conversion(dtype: Any) -> str:
    """The name of the conversion to a dtype."""
    return f"to_{dtype}"


_CONVERSIONS = {conversion(name): np.dtype(name) for name in ("float32", "float64")}


def has(name: str, dtype: Any) -> bool:
    """Whether there is a function ``name`` of this dtype's numbers."""
    return dtype in NAMES and (name in _OF[NAMES[dtype]] or name in _CONVERSIONS)


def result_of(name: str, dtype: Any) -> Any:
    """The dtype of the function's values."""
    if name in _CONVERSIONS:
        return _CONVERSIONS[name]
    return BOOL if name in COMPARISONS or name in _TESTS else dtype


@cache
def element(name: str, kind: str) -> Any:
    """The compiled-in function ``name`` of one element."""
    if name in POLYNOMIALS:
        return POLYNOMIALS[name]
    if name in COMPARISONS or name in TRUTHS:
        return device((COMPARISONS | TRUTHS)[name], inline=True)
    if name in _CONVERSIONS:
        target = _CONVERSIONS[name].type
        return device(lambda a: target(a), inline=True)
    zero, one, infinity = (np.dtype(kind).type(value) for value in (0, 1, math.inf))
    table: dict[str, Callable[..., Any]] = {
        "add": lambda a, b: a + b,
        "subtract": lambda a, b: a - b,
        "multiply": lambda a, b: a * b,
        "divide": lambda a, b: a / b,
        "maximum": lambda a, b: a if a > b or a != a else b,
        "minimum": lambda a, b: a if a < b or a != a else b,
        "relu_grad": lambda g, y: g if y > zero else zero,
        "leaky": lambda a, slope: a if a > zero else slope * a,
        "relu": lambda a: zero if a < zero else a,
        "negative": lambda a: -a,
        "absolute": lambda a: abs(a),
        "sign": lambda a: one if a > zero else (-one if a < zero else (zero if a == zero else a)),
        "sqrt": lambda a: math.sqrt(a),
        "isnan": lambda a: a != a,
        "isinf": lambda a: abs(a) == infinity,
        "isfinite": lambda a: abs(a) < infinity,
        "power3": lambda a: a * a * a,
        "power4": lambda a: (a * a) * (a * a),
        "power-1": lambda a: one / a,
        "power-2": lambda a: (one / a) * (one / a),  # 1/(a·a) would lose what a·a cannot hold
        "power-3": lambda a: (one / a) * (one / a) * (one / a),
        "power1.5": lambda a: -a if a == -infinity else a * math.sqrt(a),
        "power-0.5": lambda a: zero if a == -infinity else one / math.sqrt(a + zero),  # −0 as 0
    }
    return device(table[name], inline=True)
