"""Arithmetic, comparison and choice of two or three operands, with broadcasting and PyTorch's
dtypes.

Each class is one line of school mathematics: forward above its partial derivatives. Where operands
have different shapes, the engine sums the gradients back (``broadcasts``).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import dtypes
from ..backend import Array, Backend
from ..deferred import fuse
from ..dtypes import DType, bool_, result_type
from ..geometry import broadcast_shapes
from ..tensor import Op, Tensor, mode

Scalar = int | float | bool
Operand = Tensor | Scalar
_NUMBERS = (float, int)  # exactly: NumPy's float64 is a float that would widen the result


class Cast(Op):
    """Another dtype; the derivative is cast back."""

    saves_inputs = False

    def __init__(self, dtype: DType) -> None:
        self.dtype = dtype

    def forward(self, kernels: Backend, x: Array) -> Array:
        self.before = x.dtype
        return kernels.astype(x, self.dtype)

    def backward(self, grad: Tensor, out: None) -> Tensor:
        return cast(grad, self.before)


def cast(x: Tensor, dtype: DType) -> Tensor:
    """x with elements of ``dtype``; x itself when it already has it."""
    return x if x.dtype == dtype else Cast(dtype)(x)


def operands(name: str, *values: Any, to: DType | None = None) -> tuple[Any, ...]:
    """The operands with one common dtype; NumPy arrays become tensors, Python scalars stay scalars.

    Raises TypeError for anything else, ValueError for shapes that do not broadcast."""
    first = next((v for v in values if isinstance(v, Tensor)), None)
    made = list(values)
    for i, v in enumerate(values):
        if isinstance(v, np.generic):
            made[i] = v.item()  # NumPy's scalars count as Python's
        elif not isinstance(v, Tensor | int | float):
            if not hasattr(v, "__array__"):
                raise TypeError(f"{name}: expected tensors or numbers, received {type(v).__name__}")
            from ..construct import tensor

            made[i] = tensor(v, backend=None if first is None else first.backend)
    tensors = [v for v in made if isinstance(v, Tensor)]
    if not tensors:
        raise TypeError(f"{name}: at least one operand must be a tensor")
    dtype = to or result_type(*made)
    shape = tensors[0].array.shape
    for t in tensors[1:]:
        if t.array.shape != shape:
            try:
                broadcast_shapes(*(t.shape for t in tensors))
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
            break
    return tuple(
        cast(v, dtype) if isinstance(v, Tensor) else _fitting(v, dtype, tensors[0].backend)
        for v in made
    )


def _fitting(value: Scalar, dtype: DType, kernels: Backend) -> Any:
    """A Python scalar that NumPy accepts beside ``dtype``; unsigned bytes wrap around as in
    PyTorch.
    """
    if dtype == dtypes.uint8 and not 0 <= value <= 255:
        return int(value) % 256
    return value


def _binary(name: str, op: type[Op], a: Operand, b: Operand) -> Tensor:
    """Apply ``op``; the frequent cases (plain tensors of one dtype, a float tensor and a number)
    skip promotion, and leave it to the arrays to find shapes that do not broadcast.
    """
    if type(a) is Tensor:
        if type(b) is Tensor:
            if a.array.dtype is b.array.dtype:
                try:
                    return op().on((a, b))
                except ValueError:
                    operands(name, a, b)  # raises the error that names the shapes
                    raise
        elif type(b) in _NUMBERS and a.array.dtype.kind == "f":
            return op().on((a, b))
    if mode.around is not None and (made := fuse(op(), (a, b))) is not None:
        return made
    return op()(*operands(name, a, b))


class Add(Op):
    saves_inputs, broadcasts = False, True

    def forward(self, kernels: Backend, a: Array, b: Array) -> Array:
        return kernels.add(a, b)

    def backward(self, grad: Tensor, out: None) -> tuple[Tensor, Tensor]:
        return grad, grad


class Subtract(Op):
    saves_inputs, broadcasts = False, True

    def forward(self, kernels: Backend, a: Array, b: Array) -> Array:
        return kernels.subtract(a, b)

    def backward(self, grad: Tensor, out: None) -> tuple[Tensor, Tensor | None]:
        return grad, -grad if self.needs[1] else None


class Multiply(Op):
    broadcasts = True

    def forward(self, kernels: Backend, a: Array, b: Array) -> Array:
        return kernels.multiply(a, b)

    def backward(self, grad: Tensor, out: None) -> tuple[Tensor | None, Tensor | None]:
        a, b = self.inputs
        return grad * b if self.needs[0] else None, grad * a if self.needs[1] else None


class Divide(Op):
    broadcasts = True

    def forward(self, kernels: Backend, a: Array, b: Array) -> Array:
        return kernels.divide(a, b)

    def backward(self, grad: Tensor, out: None) -> tuple[Tensor | None, Tensor | None]:
        a, b = self.inputs
        return grad / b if self.needs[0] else None, -grad * (a / b) / b if self.needs[1] else None


class Power(Op):
    """aᵇ with ∂a = b·aᵇ⁻¹ (0 where b = 0) and ∂b = aᵇ·log a (0 where a = 0 and b ≥ 0)."""

    broadcasts = True

    def forward(self, kernels: Backend, a: Array, b: Array) -> Array:
        return kernels.power(a, b)

    def backward(self, grad: Tensor, out: None) -> tuple[Tensor | None, Tensor | None]:
        a, b = self.inputs
        da = db = None
        if self.needs[0]:
            if isinstance(b, Tensor):
                da = grad * (b * power(a, where((b == 0) & (a == 0), 1.0, b) - 1))
            else:
                da = grad * (b * power(a, b - 1)) if b else zeros_like(grad)
        if self.needs[1]:
            base = a if isinstance(a, Tensor) else full_like(grad, a)
            flat = (base == 0) & (b >= 0)
            safe = where(flat, 1.0, base)
            db = grad * where(flat, 0.0, power(safe, b) * safe.log())
        return da, db


class Maximum(Op):
    """The larger operand; at a tie each gets half of the gradient."""

    broadcasts = True

    def forward(self, kernels: Backend, a: Array, b: Array) -> Array:
        return kernels.maximum(a, b)

    def backward(self, grad: Tensor, out: None) -> tuple[Tensor, Tensor]:
        a, b = self.inputs
        return _share(grad, a < b, a == b), _share(grad, a > b, a == b)


class Minimum(Op):
    """The smaller operand; at a tie each gets half of the gradient."""

    broadcasts = True

    def forward(self, kernels: Backend, a: Array, b: Array) -> Array:
        return kernels.minimum(a, b)

    def backward(self, grad: Tensor, out: None) -> tuple[Tensor, Tensor]:
        a, b = self.inputs
        return _share(grad, a > b, a == b), _share(grad, a < b, a == b)


def _share(grad: Tensor, loses: Tensor, ties: Tensor) -> Tensor:
    return where(loses, 0.0, where(ties, grad * 0.5, grad))


class Remainder(Op):
    """a − b·floor(a/b): the sign of b, as Python's %."""

    broadcasts = True

    def forward(self, kernels: Backend, a: Array, b: Array) -> Array:
        return kernels.remainder(a, b)

    def backward(self, grad: Tensor, out: None) -> tuple[Tensor, Tensor | None]:
        a, b = self.inputs
        return grad, -grad * floor_divide(a, b) if self.needs[1] else None


class FloorDivide(Op):
    """floor(a / b), constant almost everywhere."""

    broadcasts = True

    def forward(self, kernels: Backend, a: Array, b: Array) -> Array:
        return kernels.floor_divide(a, b)

    def backward(self, grad: Tensor, out: None) -> tuple[Tensor, Tensor]:
        return zeros_like(grad), zeros_like(grad)


class Where(Op):
    """a where the condition holds, else b; the condition is a constant of the operation."""

    saves_inputs, broadcasts = False, True

    def __init__(self, condition: Tensor) -> None:
        self.condition, self.constants = condition, (condition,)

    def forward(self, kernels: Backend, a: Array, b: Array) -> Array:
        return kernels.where(self.condition.array, a, b)

    def backward(self, grad: Tensor, out: None) -> tuple[Tensor | None, Tensor | None]:
        return (
            where(self.condition, grad, 0.0) if self.needs[0] else None,
            where(self.condition, 0.0, grad) if self.needs[1] else None,
        )


class Clamp(Op):
    """min(max(x, low), high) for numbers; the derivative is 1 from limit to limit, else 0."""

    def __init__(self, low: float, high: float) -> None:
        self.settings = low, high

    def forward(self, kernels: Backend, x: Array) -> Array:
        return kernels.activation("hardtanh", x, *self.settings)

    def backward(self, grad: Tensor, out: None) -> Tensor:
        (x,) = self.inputs
        low, high = self.settings
        return where((x >= low) & (x <= high), grad, 0.0)

    def fused_backward(self, kernels: Backend, grad: Array, out: None, x: Array) -> Array:
        return kernels.activation_grad("clamp", grad, x, *self.settings)


class Compare(Op):
    """A comparison or a logical operation by the backend's name for it; its result has no
    gradient.
    """

    def __init__(self, primitive: str) -> None:
        self.primitive = primitive

    def forward(self, kernels: Backend, *arrays: Array) -> Array:
        return getattr(kernels, self.primitive)(*arrays)


def zeros_like(x: Tensor) -> Tensor:
    return full_like(x, 0.0)


def full_like(x: Tensor, value: float) -> Tensor:
    return Tensor._wrap(x.backend.full(x.shape, value, x.dtype), x.backend)


# -- public functions ------------------------------------------------------------------------------
def add(input: Operand, other: Operand, *, alpha: Scalar = 1) -> Tensor:
    """input + alpha·other, broadcast. ∂input = 1, ∂other = alpha."""
    if alpha != 1:
        other = mul(other, alpha) if isinstance(other, Tensor) else other * alpha
    return _binary("add", Add, input, other)


def sub(input: Operand, other: Operand, *, alpha: Scalar = 1) -> Tensor:
    """input − alpha·other, broadcast."""
    if alpha != 1:
        other = mul(other, alpha) if isinstance(other, Tensor) else other * alpha
    if any(
        isinstance(v, bool) or (isinstance(v, Tensor) and v.dtype == bool_) for v in (input, other)
    ):
        raise TypeError(
            "sub: subtracting booleans is not defined; use logical_xor or convert with .to(int32)"
        )
    return _binary("sub", Subtract, input, other)


def mul(input: Operand, other: Operand) -> Tensor:
    """input · other, element by element, broadcast."""
    return _binary("mul", Multiply, input, other)


def div(input: Operand, other: Operand, *, rounding_mode: str | None = None) -> Tensor:
    """input / other; integers give float32. ``rounding_mode`` None, "floor" or "trunc"."""
    if rounding_mode == "floor":
        return floor_divide(input, other)
    if rounding_mode == "trunc":
        quotient = floor_divide(input, other)
        exact = mul(quotient, other)
        return where((quotient < 0) & (exact != input), quotient + 1, quotient)
    if rounding_mode is not None:
        raise ValueError(
            f'div: rounding_mode must be None, "floor" or "trunc", received {rounding_mode!r}'
        )
    if (
        isinstance(input, Tensor)
        and isinstance(other, Tensor)
        and input.array.dtype is other.array.dtype
    ):
        if input.array.dtype.kind == "f" and input.array.shape == other.array.shape:
            return Divide()(input, other)
    dtype = result_type(
        *(
            v if isinstance(v, Tensor | int | float | np.generic) else Tensor(v)
            for v in (input, other)
        )
    )
    return Divide()(
        *operands("div", input, other, to=dtype if dtype.kind == "f" else dtypes.float32)
    )


def floor_divide(input: Operand, other: Operand) -> Tensor:
    """floor(input / other). Raises TypeError for booleans, ZeroDivisionError for integers by 0."""
    _divisible("floor_divide", input, other)
    return _binary("floor_divide", FloorDivide, input, other)


def remainder(input: Operand, other: Operand) -> Tensor:
    """input − other·floor(input / other). Raises TypeError for booleans, ZeroDivisionError for
    integers by 0.
    """
    _divisible("remainder", input, other)
    return _binary("remainder", Remainder, input, other)


def _divisible(name: str, a: Operand, b: Operand) -> None:
    kinds = [v.dtype.kind for v in (a, b) if isinstance(v, Tensor)]
    if "f" in kinds or any(isinstance(v, float) for v in (a, b)):
        return
    if all(isinstance(v, bool) or (isinstance(v, Tensor) and v.dtype == bool_) for v in (a, b)):
        raise TypeError(f"{name}: not defined for booleans; convert with .to(int64)")
    if bool((b == 0).any()) if isinstance(b, Tensor) else b == 0:
        raise ZeroDivisionError(f"{name}: integers divided by 0; convert to a float dtype for ∞")


def power(input: Operand, exponent: Operand) -> Tensor:
    """input ** exponent, broadcast; derivatives as in ``Power``."""
    if (
        isinstance(input, Tensor)
        and isinstance(exponent, int | float)
        and not isinstance(exponent, bool)
        and input.dtype != bool_
    ):
        if exponent == 1:
            return mul(input, 1)
        if exponent == 2:
            return mul(input, input)
        if exponent < 0 and input.dtype.kind in "iub" and isinstance(exponent, int):
            raise ValueError(
                "pow: integers to negative integer powers are not defined; convert to a float dtype"
            )
    if all(
        isinstance(v, bool) or (isinstance(v, Tensor) and v.dtype == bool_)
        for v in (input, exponent)
    ):
        raise TypeError("pow: not defined for booleans; convert with .to(int64)")
    return _binary("pow", Power, input, exponent)


def maximum(input: Operand, other: Operand) -> Tensor:
    """The larger of two, NaN if either is; a tie shares the gradient in halves."""
    return _binary("maximum", Maximum, input, other)


def minimum(input: Operand, other: Operand) -> Tensor:
    """The smaller of two, NaN if either is; a tie shares the gradient in halves."""
    return _binary("minimum", Minimum, input, other)


def where(condition: Tensor, input: Operand, other: Operand) -> Tensor:
    """input where ``condition`` holds, else other; all three broadcast. Raises TypeError unless
    boolean.
    """
    if not isinstance(condition, Tensor) or condition.dtype != bool_:
        raise TypeError(
            "where: condition must be a boolean tensor, "
            f"received {getattr(condition, 'dtype', condition)}"
        )
    if not isinstance(input, Tensor) and not isinstance(other, Tensor):
        from ..construct import tensor

        input = tensor(input, backend=condition.backend)
    a, b = operands("where", input, other)
    for t in (a, b):
        if isinstance(t, Tensor):
            broadcast_shapes(condition.shape, t.shape)
            if t.backend is not condition.backend:
                raise ValueError(
                    f"where: condition is on {condition.backend.name}, "
                    f"the values on {t.backend.name}; "
                    f'use .to("{t.backend.name}")'
                )
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return Where(condition)(a, b)
    dtype = a.dtype if isinstance(a, Tensor) else b.dtype
    kernels = condition.backend
    a, b = (
        v if isinstance(v, Tensor) else Tensor._wrap(kernels.full((), v, dtype), kernels)
        for v in (a, b)
    )
    return Where(condition)(a, b)


def masked_fill(input: Tensor, mask: Tensor, value: Operand) -> Tensor:
    """``value`` where ``mask`` holds, else input; the dtype stays input's."""
    if isinstance(value, Tensor) and value.ndim:
        raise ValueError(
            f"masked_fill: value must be a number or a 0-d tensor, received shape {value.shape}"
        )
    if not isinstance(value, Tensor):
        value = Tensor._wrap(input.backend.full((), value, input.dtype), input.backend)
    return where(mask, cast(value, input.dtype), input)


def clamp(input: Tensor, min: Operand | None = None, max: Operand | None = None) -> Tensor:
    """min(max(input, min), max); the gradient passes where min ≤ input ≤ max, both ends
    included.
    """
    if min is None and max is None:
        raise ValueError("clamp: at least one of min and max must be given")
    x = input
    if x.dtype.kind != "f" and any(isinstance(v, float) for v in (min, max)):
        x = cast(x, dtypes.float32)
    if x.dtype.kind == "f" and all(v is None or type(v) in _NUMBERS for v in (min, max)):
        low: Any = -math.inf if min is None else min
        high: Any = math.inf if max is None else max
        if low == low and high == high:
            return Clamp(low, high)(x)
    if min is not None:
        x = where(x < min, min, x)
    if max is not None:
        x = where(x > max, max, x)
    return x if x is not input else mul(x, 1)


clip = clamp


def _compare(name: str, primitive: str, a: Operand, b: Operand) -> Tensor:
    if isinstance(a, Tensor) and isinstance(b, int | float):
        b = b.item() if isinstance(b, np.generic) else b
        return Compare(primitive)(a, b)
    return Compare(primitive)(*operands(name, a, b))


def eq(input: Operand, other: Operand) -> Tensor:
    """input == other, element by element."""
    return _compare("eq", "equal", input, other)


def ne(input: Operand, other: Operand) -> Tensor:
    """input != other, element by element."""
    return _compare("ne", "not_equal", input, other)


def lt(input: Operand, other: Operand) -> Tensor:
    """input < other, element by element."""
    return _compare("lt", "less", input, other)


def le(input: Operand, other: Operand) -> Tensor:
    """input <= other, element by element."""
    return _compare("le", "less_equal", input, other)


def gt(input: Operand, other: Operand) -> Tensor:
    """input > other, element by element."""
    return _compare("gt", "greater", input, other)


def ge(input: Operand, other: Operand) -> Tensor:
    """input >= other, element by element."""
    return _compare("ge", "greater_equal", input, other)


def logical_and(input: Tensor, other: Operand) -> Tensor:
    """Both are non-zero."""
    return Compare("logical_and")(*operands("logical_and", input, other))


def logical_or(input: Tensor, other: Operand) -> Tensor:
    """At least one is non-zero."""
    return Compare("logical_or")(*operands("logical_or", input, other))


def logical_xor(input: Tensor, other: Operand) -> Tensor:
    """Exactly one is non-zero."""
    return Compare("logical_xor")(*operands("logical_xor", input, other))


def logical_not(input: Tensor) -> Tensor:
    """The element is zero."""
    return Compare("logical_not")(input)


def isnan(input: Tensor) -> Tensor:
    """Where the element is not a number."""
    return Compare("isnan")(input)


def isinf(input: Tensor) -> Tensor:
    """Where the element is +∞ or −∞."""
    return Compare("isinf")(input)


def isfinite(input: Tensor) -> Tensor:
    """Where the element is neither infinite nor NaN."""
    return Compare("isfinite")(input)


def isclose(
    input: Tensor, other: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> Tensor:
    """Where |input − other| ≤ atol + rtol·|other| < ∞, or both are equal (or NaN: equal_nan)."""
    a, b = operands("isclose", input, other)
    allowed = b.abs() * rtol + atol
    near: Tensor = ((a - b).abs() <= allowed) & (allowed < math.inf) | (a == b)
    return near | (isnan(a) & isnan(b)) if equal_nan else near


def allclose(
    input: Tensor, other: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> bool:
    """Whether |input − other| ≤ atol + rtol·|other| everywhere; see ``isclose``."""
    return bool(isclose(input, other, rtol, atol, equal_nan).all())


def equal(input: Tensor, other: Tensor) -> bool:
    """Whether both have the same shape and the same elements."""
    return input.shape == other.shape and bool(eq(input, other).all())
