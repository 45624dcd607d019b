"""Reading CUDA C text: which kernels a source holds, their arguments, and its shared memory.

Only as much of the language is understood as kernels for this project use: ``extern "C"`` kernels
whose parameters are numbers and pointers to them, with type names that ``-D`` or ``#define`` may
rename. The simulator compares what is read here with what the compiler saw.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

# Type letters as in Python's struct module: the simulator's compiled signatures use the same.
CODES = {
    "bool": "?", "char": "b", "signed char": "b", "unsigned char": "B", "short": "h",
    "unsigned short": "H", "int": "i", "unsigned": "I", "unsigned int": "I", "long long": "q",
    "long": "q", "unsigned long long": "Q", "unsigned long": "Q", "size_t": "Q",
    "float": "f", "double": "d", "int8_t": "b", "uint8_t": "B", "int32_t": "i", "uint32_t": "I",
    "int64_t": "q", "uint64_t": "Q",
}  # fmt: skip
DTYPES = {code: np.dtype(code) for code in "?bBhHiIqQfd"}

_KERNEL = re.compile(
    r'extern\s+"C"\s+__global__\s+void\s+(?:__launch_bounds__\s*\(([^{;]*?)\)\s*)?(\w+)\s*\(([^)]*)\)'
)
_SHARED = re.compile(
    r"(extern\s+)?__shared__\s+((?:volatile\s+)?(?:unsigned\s+|long\s+)*\w+)\s+([^;]*);"
)


class Parameter(NamedTuple):
    """One kernel parameter: ``how`` is v (value), p (pointer) or c (pointer to const)."""

    name: str
    how: str
    code: str  # a letter of CODES' values, or x for any other type


class Signature(NamedTuple):
    kernel: str
    parameters: tuple[Parameter, ...]

    def letters(self) -> str:
        """Two letters a parameter, such as "cfpfvi"."""
        return "".join(p.how + p.code for p in self.parameters)


def blank_comments(text: str) -> str:
    """``text`` with comments replaced by spaces; newlines and strings stay."""

    def blank(found: re.Match[str]) -> str:
        part = found.group()
        return part if part[0] in "\"'" else re.sub(r"[^\n]", " ", part)

    return re.sub(
        r"//[^\n]*|/\*.*?\*/|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", blank, text, flags=re.S
    )


def signatures(text: str, defines: Mapping[str, object] | None = None) -> dict[str, Signature]:
    """The ``extern "C"`` kernels of a source by name. Raises ValueError if there is none."""
    text = blank_comments(text)
    names = dict(re.findall(r"^[ \t]*#[ \t]*define[ \t]+(\w+)[ \t]+([\w ]+?)[ \t]*$", text, re.M))
    names |= {k: str(v) for k, v in (defines or {}).items()}
    names |= {alias: kind for kind, alias in re.findall(r"typedef\s+([\w ]+?)\s+(\w+)\s*;", text)}
    found = {}
    for _, kernel, inside in _KERNEL.findall(text):
        parts = [p for p in (part.strip() for part in inside.split(",")) if p and p != "void"]
        found[kernel] = Signature(kernel, tuple(_parameter(p, names) for p in parts))
    if not found:
        raise ValueError(
            'no kernel found: expected extern "C" __global__ void name(...) in the source'
        )
    return found


def _parameter(text: str, names: Mapping[str, str]) -> Parameter:
    """One parameter declaration, type names resolved through ``names``."""
    words = re.sub(r"\b(__restrict__|__restrict|volatile)\b", " ", text)
    name = re.search(r"(\w+)\s*(?:\[\s*\])?$", words)
    kind = words[: name.start()] if name else words
    pointer = "*" in kind or words.rstrip().endswith("]")
    constant = bool(re.search(r"\bconst\b", kind.split("*")[0]))
    base = " ".join(re.sub(r"\bconst\b|\*", " ", kind).split())
    for _ in range(8):  # a name may stand for a name
        if base not in names or base in CODES:
            break
        base = names[base].strip()
    code = CODES.get(base, "x")
    return Parameter(
        name.group(1) if name else "?", "v" if not pointer else "c" if constant else "p", code
    )


def kernel_lines(text: str) -> dict[str, int]:
    """The line on which each kernel's declaration starts."""
    plain = blank_comments(text)
    return {m.group(2): plain.count("\n", 0, m.start()) + 1 for m in _KERNEL.finditer(plain)}


def rewrite_shared(text: str, first_id: int = 0) -> str:
    """``text`` with ``__shared__`` declarations turned into references into the simulator's arena.

    ``__shared__ float a[8][9];`` becomes a typedef and a reference to that type, so array bounds
    stay known to the compiler; ``extern __shared__ float s[];`` becomes a pointer. Lines are kept.
    """
    plain, out, end, number = blank_comments(text), [], 0, first_id
    for found in _SHARED.finditer(plain):
        external, kind, declarators = found.group(1), found.group(2), found.group(3)
        parts = []
        for declarator in declarators.split(","):
            match = re.match(r"\s*(\w+)\s*((?:\[[^\]]*\]\s*)*)$", declarator, re.S)
            if not match:
                raise ValueError(f"cannot read the __shared__ declaration {found.group()!r}")
            name, sizes = match.group(1), "".join(match.group(2).split())
            if external:
                parts.append(f"{kind}* {name} = ({kind}*)cusim_dynamic_shared();")
            else:
                parts.append(
                    f"typedef {kind} cusim_t_{name}{sizes}; cusim_t_{name}& {name} = "
                    f"*(cusim_t_{name}*)"
                    f'cusim_shared({number}, sizeof(cusim_t_{name}), alignof({kind}), "{name}");'
                )
                number += 1
        newlines = "\n" * found.group().count("\n")
        out += [text[end : found.start()], " ".join(parts), newlines]
        end = found.end()
    return "".join([*out, text[end:]])


class SharedArray(NamedTuple):
    """A static shared array: the letter of its type and its sizes, () where they cannot be read."""

    name: str
    code: str
    shape: tuple[int, ...]


def shared_declarations(
    text: str, defines: Mapping[str, object] | None = None
) -> list[SharedArray]:
    """The static shared arrays of a source in order, as ``rewrite_shared`` numbers them."""
    plain = blank_comments(text)
    names = dict(re.findall(r"^[ \t]*#[ \t]*define[ \t]+(\w+)[ \t]+(.+?)[ \t]*$", plain, re.M))
    names |= {k: str(v) for k, v in (defines or {}).items()}
    found = []
    for external, kind, declarators in _SHARED.findall(plain):
        for declarator in [] if external else declarators.split(","):
            sizes = [_integer(size, names) for size in re.findall(r"\[([^\]]*)\]", declarator)]
            base = kind.replace("volatile", "").strip()
            shape = tuple(v for v in sizes if v is not None)
            found.append(
                SharedArray(
                    re.findall(r"\w+", declarator)[0],
                    CODES.get(names.get(base, base), "x"),
                    shape if len(shape) == len(sizes) else (),
                )
            )
    return found


def _integer(expression: str, names: Mapping[str, str]) -> int | None:
    """The value of an expression of integers, names and + − * / ( ), or None."""
    for _ in range(8):  # a name may stand for an expression with names
        expression = re.sub(r"[A-Za-z_]\w*", lambda m: f"({names.get(m.group(), '?')})", expression)
    try:
        return _value(ast.parse(expression.strip(), mode="eval").body)
    except (SyntaxError, KeyError, AttributeError, ZeroDivisionError):
        return None


_OPERATORS: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.floordiv,
}


def _value(node: ast.expr) -> int:
    if isinstance(node, ast.BinOp):
        return int(_OPERATORS[type(node.op)](_value(node.left), _value(node.right)))
    return int(node.value)  # type: ignore[attr-defined]
