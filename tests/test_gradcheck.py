"""The check itself: planted wrong rules must be caught, right ones must pass."""

from __future__ import annotations

from typing import Any

import pytest

import tinygrad_cnn as tg
from tinygrad_cnn.autograd import Function


def cube(first: float, second: float) -> Any:
    """x³ whose first derivative is wrong by one factor and whose second by another."""

    class Slope(Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return 3 * x * x * first

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return 6 * ctx.saved_tensors[0] * g * first * second

    class Cube(Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return x * x * x

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return Slope.apply(ctx.saved_tensors[0]) * g

    return Cube.apply


def leaf(backend: str) -> Any:
    return tg.tensor(
        [[0.3, -1.2], [2.0, 0.7]], dtype="float64", backend=backend, requires_grad=True
    )


def test_right_rules_pass(backend: str) -> None:
    assert tg.gradcheck(cube(1, 1), leaf(backend))
    assert tg.gradgradcheck(cube(1, 1), leaf(backend))


@pytest.mark.parametrize("factor", [2.001, 1.001, -1.0, 0.0])
def test_wrong_first_order_is_caught(factor: float, backend: str) -> None:
    x = leaf(backend)
    with pytest.raises(AssertionError, match=r"input 1 \(2, 2\): expected .* found .*relative"):
        tg.gradcheck(lambda a, b: a + cube(factor, 1)(b), [x, leaf(backend)])
    assert not tg.gradcheck(cube(factor, 1), x, raise_exception=False)


def test_wrong_second_order_alone_is_caught(backend: str) -> None:
    x = leaf(backend)
    assert tg.gradcheck(cube(1, 1.001), x)
    with pytest.raises(AssertionError, match=r"input 0 \(2, 2\)"):
        tg.gradgradcheck(cube(1, 1.001), x)
    assert not tg.gradgradcheck(cube(1, 1.001), x, raise_exception=False)


def test_a_missing_path_is_caught(backend: str) -> None:
    x = leaf(backend)
    assert not tg.gradcheck(lambda x: x * x.detach(), x, raise_exception=False)


def test_what_cannot_be_checked_is_an_error(backend: str) -> None:
    with pytest.raises(ValueError, match="input 0 is float32"):
        tg.gradcheck(lambda x: x, tg.ones(2, requires_grad=True, backend=backend))
    with pytest.raises(ValueError, match="no input requires"):
        tg.gradcheck(lambda x: x, tg.ones(2, backend=backend))


def test_several_inputs_and_outputs(backend: str) -> None:
    a, b = leaf(backend), leaf(backend)

    def f(a: Any, n: Any, b: Any) -> Any:
        return a * b * n, (a > 0), a.sum()

    n = tg.tensor([2, 3], backend=backend)
    assert tg.gradcheck(f, [a, n, b]) and tg.gradgradcheck(f, [a, n, b])
