"""Operations on the bits of integers; of booleans they are the logical ones. No derivatives."""

from __future__ import annotations

from typing import Any

from ..dtypes import bool_
from ..tensor import Tensor
from .elementwise import Compare, Operand, logical_not, operands


def _whole(name: str, input: Operand, other: Operand, booleans: bool = True) -> Any:
    """Both operands with one dtype. Raises TypeError unless they are whole numbers."""
    made = operands(name, input, other)
    for v in made:
        kind = v.dtype.kind if isinstance(v, Tensor) else "f" if isinstance(v, float) else "i"
        if kind not in ("biu" if booleans else "iu"):
            found = v.dtype if isinstance(v, Tensor) else type(v).__name__
            wanted = "integers or booleans" if booleans else "integers"
            raise TypeError(
                f"{name}: expected {wanted}, received {found}; "
                + ("compare first, as in (x > 0)" if kind == "f" else "convert with .to(int32)")
            )
    return made


def _joined(verb: str, symbol: str, input: Operand, other: Operand) -> Tensor:
    made = _whole(f"bitwise_{verb} ({symbol})", input, other)
    booleans = any(isinstance(v, Tensor) and v.dtype == bool_ for v in made)
    return Compare(f"{'logical' if booleans else 'bitwise'}_{verb}")(*made)


def bitwise_and(input: Operand, other: Operand) -> Tensor:
    """The bits that both have: input & other. Raises TypeError for floats."""
    return _joined("and", "&", input, other)


def bitwise_or(input: Operand, other: Operand) -> Tensor:
    """The bits that at least one has: input | other. Raises TypeError for floats."""
    return _joined("or", "|", input, other)


def bitwise_xor(input: Operand, other: Operand) -> Tensor:
    """The bits that exactly one has: input ^ other. Raises TypeError for floats."""
    return _joined("xor", "^", input, other)


def bitwise_not(input: Tensor) -> Tensor:
    """All bits the other way round: ~input, which is −input − 1. Raises TypeError for floats."""
    _whole("bitwise_not (~)", input, input)
    ones = 255 if input.dtype.kind == "u" else -1
    return logical_not(input) if input.dtype == bool_ else bitwise_xor(input, ones)


def bitwise_left_shift(input: Operand, other: Operand) -> Tensor:
    """input · 2^other in the bits there are: input << other. Raises TypeError unless both are
    integers."""
    return Compare("left_shift")(*_whole("bitwise_left_shift (<<)", input, other, False))


def bitwise_right_shift(input: Operand, other: Operand) -> Tensor:
    """⌊input / 2^other⌋: input >> other. Raises TypeError unless both are integers."""
    return Compare("right_shift")(*_whole("bitwise_right_shift (>>)", input, other, False))
