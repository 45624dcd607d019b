"""The engine: the walk, in-place writing, views, hooks, modes, memory; where it can be, side by
side with PyTorch.
"""

# ruff: noqa: E501  (a table is easier to read with one row a line)

from __future__ import annotations

import gc
import threading
import tracemalloc
import weakref
from typing import Any

import numpy as np
import pytest

import tinygrad_cnn as tg
from tinygrad_cnn.autograd import (
    Function,
    checkpoint,
    detect_anomaly,
    hessian,
    hvp,
    jacobian,
    jvp,
    vjp,
)

try:
    import torch
except ImportError:
    torch = None  # type: ignore[assignment]

needs_torch = pytest.mark.skipif(torch is None, reason="PyTorch is not installed")


@pytest.fixture(autouse=True)
def chosen(backend: str) -> Any:
    with tg.use_backend(backend):
        yield
    assert tg.is_grad_enabled()


def numbers(*shape: int, salt: int = 0) -> Any:
    return np.asarray(np.random.default_rng([salt, *shape]).standard_normal(shape))


def leaf(*shape: int, salt: int = 0) -> Any:
    return tg.tensor(numbers(*shape, salt=salt), requires_grad=True)


# -- programs that write in place: each is run by both engines ---------------------------------------
PROGRAMS = {
    "view of a copy": "y = x * 1; v = y[0]; v.mul_(2); out = (y * y).sum() + v.sum()",
    "base after view": "y = x * 1; v = y[0]; y.mul_(3); out = (v * v).sum()",
    "sibling views": "y = x * 1; a = y[0]; b = y[:, 1]; a.add_(b.sum()); out = (b * b).sum() + (a * y[1]).sum()",
    "view of a view": "y = x * 1; v = y[1:][:, 0]; v.mul_(w[:2, 0]); out = (y * y).sum()",
    "transposed view": "y = x * 1; v = y.permute(1, 0); v[1].add_(5); out = (y * y * v.permute(1, 0)).sum()",
    "reshaped view": "y = x * 1; v = y.reshape(-1); v[2:4].mul_(w[0, :2]); out = (y * y).sum()",
    "whole in place": "y = x * 2; y.add_(w); y.mul_(x); out = y.sum()",
    "two writes": "y = x * 1; y[0] = w[1]; y[1:] *= 2; y[:, 0] += y[:, 1]; out = (y * y).sum()",
    "buffer": "y = m.zeros(3, 4, dtype=m.float64); y[0] = x[0]; y[2, 1:] = w[0, 1:] * x[1, 1:]; out = (y * y).sum()",
    "view of buffer": "y = m.zeros(3, 4, dtype=m.float64); v = y[1]; y[1, 2] = x[0, 0] * 3; out = (v * v).sum()",
    "loop": "y = m.zeros(4, dtype=m.float64)\nfor i in range(3):\n    y[i] = (y.clone() * x[i]).sum() + w[i, 0] \nout = (y * y).sum()",
    "copy_": "y = x * 1; y[0].copy_(w[0] * 2); out = (y * y * x).sum()",
    "fill_": "y = x * 1; y[0].fill_(2.0); y[1].zero_(); out = (y * y * x).sum()",
    "masked": "y = x * 1; y[y > 0] = 0.5; y.masked_fill_(w > 0, 3.0); out = (y * x).sum()",
    "exp_": "y = x * 1; z = y.exp_(); out = (z * w).sum()",
    "sqrt_": "y = x * x; y.sqrt_(); y = y * 1; y.clamp_(0.1, 0.7); out = (y * w).sum()",
    "augmented": "y = x + 0; y += w; y -= 1; y *= x; y /= 2; y **= 2; out = y.sum()",
    "detach shares": "y = x * 1; d = y.detach(); out = (y * w + d * x).sum()",
    "no_grad leaf": "with m.no_grad():\n    x.mul_(2)\nout = (x * x).sum()",
    "no_grad view": "y = x * 1\nwith m.no_grad():\n    y[0].mul_(2)\nout = (y * x).sum()",
    "data": "x.data.mul_(2); out = (x * x).sum()",
    "use before write": "y = x * 1; z = y + w; y.mul_(2); out = (z * y).sum()",
    "expand": "y = x[:, :1].expand(3, 4); z = y * w; out = (z * z).sum()",
    "chunks": "a, b = (x * 1).chunk(2, 1); c = a * b; out = (c * c).sum()",
    "unsqueeze": "y = x * 1; y.unsqueeze(0)[0, 1].mul_(w[0]); out = (y * y).sum()",
    "flatten": "y = x * 1; y.flatten()[3:7].neg_(); out = (y * w).sum()",
    "diamond": "a = x * 2; b = a + a; c = b * b; out = (c + c + a).sum()",
    "relu_": "y = x * 1; y.relu_(); out = (y * w).sum()",
    "same twice": "out = m.cat([x, x]).sum() + m.stack([x, x, w]).sum() + (x @ x.permute(1, 0)).sum()",
    "setitem of itself": "y = x * 1; y[0] = y[1] + y[2]; out = (y * y).sum()",
    "scatter_add_": "y = x * 1; y.scatter_add_(1, m.tensor([[0, 0, 1, 3]]), w[:1] * x[:1]); out = (y * y).sum()",
}  # fmt: skip


def run(m: Any, text: str, **options: Any) -> list[Any]:
    made = [m.tensor(numbers(3, 4, salt=k), dtype=m.float64, **options) for k in range(2)]
    for t in made:
        t.requires_grad_()
    scope: dict[str, Any] = {"m": m, "x": made[0], "w": made[1]}
    exec(text, scope)
    out = scope["out"]
    first = m.autograd.grad(out, made, create_graph=True, allow_unused=True)
    total = sum((g * g).sum() for g in first if g is not None)
    second = m.autograd.grad(total, made, allow_unused=True) if total.requires_grad else ()
    answers = [out, *first, *second]
    return [np.zeros((3, 4)) if t is None else np.asarray(t.detach().numpy()) for t in answers]


@needs_torch
@pytest.mark.torch
@pytest.mark.parametrize("text", PROGRAMS.values(), ids=PROGRAMS.keys())
def test_writing_in_place_is_differentiated_as_by_pytorch(text: str) -> None:
    found, wanted = run(tg, text), run(torch, text)
    for f, w in zip(found[:3], wanted[:3], strict=True):
        np.testing.assert_allclose(f, w, rtol=1e-12, atol=1e-12)
    if len(found) == len(wanted):
        for f, w in zip(found[3:], wanted[3:], strict=True):
            np.testing.assert_allclose(f, w, rtol=1e-12, atol=1e-12)
    else:  # one engine knows that the gradient is constant
        for f in (found if len(found) > 3 else wanted)[3:]:
            np.testing.assert_array_equal(f, 0)


def test_view_writes_reach_a_base_in_another_memory_order() -> None:
    """``reshape`` of a transposed tensor is a view here although it would be a copy elsewhere."""
    x = leaf(3, 4)
    y = (x * 1).t().contiguous().t()  # column-major
    flat = y.t().reshape(-1)
    flat[1:3].mul_(5)
    (g,) = tg.autograd.grad((y * y).sum(), x)
    scale = np.ones((4, 3))
    scale.reshape(-1)[1:3] = 25
    np.testing.assert_allclose(g.numpy(), 2 * x.detach().numpy() * scale.T)


ERRORS: dict[str, tuple[str, type[Exception], str]] = {
    "leaf": ("x.mul_(2)", RuntimeError, "leaf that requires gradients"),
    "view of leaf": ("x[0].mul_(2)", RuntimeError, "view of a leaf"),
    "setitem of leaf": ("x[0] = 1", RuntimeError, "leaf"),
    "saved input": ("y = x * 1; z = y * y; y.add_(1); z.sum().backward()", RuntimeError, "Multiply saved its input"),
    "saved output": ("y = x.exp(); y.add_(1); y.sum().backward()", RuntimeError, "Exp saved its output"),
    "saved through view": ("y = x * 1; z = y * y; y[0].add_(1); z.sum().backward()", RuntimeError, "changed in place"),
    "saved, written through detach": ("y = x * 1; z = y * y; y.detach().add_(1); z.sum().backward()", RuntimeError, "changed in place"),
    "non-scalar": ("(x * 2).backward()", RuntimeError, "needs a scalar"),
    "twice": ("y = (x * x).sum(); y.backward(); y.backward()", RuntimeError, "retain_graph=True"),
    "no graph": ("x.detach().sum().backward()", RuntimeError, "no graph"),
    "unused": ("m.autograd.grad((x * 2).sum(), w)", RuntimeError, "was not used"),
    "gradient shape": ("(x * 2).backward(m.ones(4, dtype=m.float64))", ValueError, "expected shape"),
    "integers": ("m.tensor([1]).requires_grad_()", RuntimeError, "floating point"),
    "numpy": ("x.numpy()", RuntimeError, "detach"),
    "item": ("x.item()", ValueError, "one element"),
    "truth": ("bool(x)", ValueError, "ambiguous"),
    "shape in place": ("y = x[0] * 1; y.add_(x)", ValueError, "shape"),
    "dtype in place": ("m.tensor([1, 2]).mul_(1.5)", TypeError, "cannot be stored"),
    "deepcopy": ("import copy; copy.deepcopy(x * 2)", RuntimeError, "leaf"),
    "grad of plain": ("m.autograd.grad((x * 2).sum(), m.ones(2))", RuntimeError, "does not require"),
    "hook shape": ("x.register_hook(lambda g: g[0]); x.sum().backward()", ValueError, "hook must return"),
}  # fmt: skip


@pytest.mark.parametrize("text, kind, message", ERRORS.values(), ids=ERRORS.keys())
def test_errors_say_what_to_do(text: str, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        exec(text, {"m": tg, "x": leaf(3, 4), "w": leaf(3, 4, salt=1)})


# -- .grad -------------------------------------------------------------------------------------------
def test_gradients_add_up_and_share_memory_with_nothing() -> None:
    a, b = leaf(3), leaf(3, salt=1)
    seed = tg.ones(3, dtype=tg.float64)
    (a + b).backward(seed)
    a.grad.add_(5)
    assert b.grad.tolist() == [1, 1, 1] and seed.tolist() == [1, 1, 1]
    (a + b).backward(seed)
    assert a.grad.tolist() == [7, 7, 7] and b.grad.tolist() == [2, 2, 2]
    c = leaf(2, 2)
    c.sum().backward()
    c.grad.add_(1)  # the gradient of a sum is one number repeated: it must have become writable
    assert c.grad.tolist() == [[2, 2], [2, 2]]
    d, seen = leaf(3), []
    d.register_hook(lambda g: seen.append(g))
    (d * 1).backward(seed)
    d.grad.add_(1)
    assert seen[0].tolist() == [1, 1, 1]


def test_the_gradient_passed_in_is_not_kept() -> None:
    x = leaf(3)
    seed = tg.ones(3, dtype=tg.float64)
    x.backward(seed)
    x.grad.add_(1)
    assert seed.tolist() == [1, 1, 1]


def test_diamonds() -> None:
    a = tg.tensor(3.0, requires_grad=True)
    b = a + a
    (b + b).backward()
    assert a.grad.item() == 4


def test_inputs_limit_where_gradients_are_written() -> None:
    a, b = leaf(2), leaf(2, salt=1)
    h = a * b
    (h * h).sum().backward(inputs=[a, h])
    assert b.grad is None and a.grad is not None and h.grad is not None


def test_retain_grad_and_retain_graph() -> None:
    x = leaf(3)
    h = x * 2
    h.retain_grad()
    y = (h * h).sum()
    y.backward(retain_graph=True)
    np.testing.assert_allclose(h.grad.numpy(), 2 * h.detach().numpy())
    y.backward()
    np.testing.assert_allclose(h.grad.numpy(), 4 * h.detach().numpy())
    np.testing.assert_allclose(x.grad.numpy(), 16 * x.detach().numpy())


def test_grad_leaves_earlier_graph_usable() -> None:
    """Only operations whose rules ran are freed."""
    x = leaf(3)
    h = x * 3
    (dh,) = tg.autograd.grad((h * h).sum(), h)
    np.testing.assert_allclose(dh.numpy(), 2 * h.detach().numpy())
    h.sum().backward()
    assert x.grad.tolist() == [3, 3, 3]
    assert x.grad_fn is None and h.grad is None


def test_grad_computes_only_what_is_asked() -> None:
    ran = []

    class Watch(Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x * 1

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            ran.append(1)
            return g

    a, b = leaf(2), leaf(2)
    (g,) = tg.autograd.grad((Watch.apply(a) * b).sum(), b)
    assert not ran and g.shape == (2,)


def test_third_derivative_and_unused() -> None:
    x, z = tg.tensor(2.0, dtype="float64", requires_grad=True), leaf(2)
    y = x**4 + x.sin()
    for wanted in (4 * 8 + np.cos(2), 12 * 4 - np.sin(2), 24 * 2 - np.cos(2)):
        (y,) = tg.autograd.grad(y, x, create_graph=True)
        assert y.item() == pytest.approx(wanted)
    assert tg.autograd.grad(x * 2, [x, z], allow_unused=True)[1] is None
    assert tg.autograd.grad(x, x)[0].item() == 1


# -- hooks -------------------------------------------------------------------------------------------
def test_hooks_see_replace_and_leave() -> None:
    x = leaf(3)
    h = x * 2
    seen: list[Any] = []
    first = h.register_hook(lambda g: seen.append(g.tolist()))
    h.register_hook(lambda g: g * 10)
    last = x.register_hook(lambda g: g + 1)
    h.sum().backward(retain_graph=True)
    assert seen == [[1, 1, 1]] and x.grad.tolist() == [21, 21, 21]
    first.remove()
    last.remove()
    x.grad = None
    h.sum().backward()
    assert len(seen) == 1 and x.grad.tolist() == [20, 20, 20]


# -- modes -------------------------------------------------------------------------------------------
def test_modes_nest_decorate_and_return() -> None:
    on = tg.is_grad_enabled
    with tg.no_grad():
        assert not on()
        with tg.enable_grad():
            assert on() and (leaf(2) * 2).requires_grad
        assert not on() and not (leaf(2) * 2).requires_grad
    with tg.inference_mode():
        assert not on()
    for decorated in (tg.no_grad(on), tg.no_grad()(on), tg.set_grad_enabled(False)(on)):
        assert decorated() is False and on()
    with tg.no_grad():
        tg.no_grad()(on)()
        assert not on()

    @tg.no_grad()
    def steps() -> Any:
        yield on()
        yield on()

    assert [(s, on()) for s in steps()] == [(False, True)] * 2
    tg.set_grad_enabled(False)
    assert not on()
    tg.set_grad_enabled(True)
    with pytest.raises(KeyError), tg.no_grad():
        raise KeyError
    assert on()


def test_modes_belong_to_the_thread() -> None:
    seen = []
    with tg.no_grad():
        t = threading.Thread(target=lambda: seen.append(tg.is_grad_enabled()))
        t.start()
        t.join()
    assert seen == [True]


def test_threads_run_backward_on_their_own_graphs(backend: str) -> None:
    found: list[Any] = [None] * 4

    def work(k: int) -> None:
        with tg.use_backend(backend):
            total = 0.0
            for _ in range(20):
                x = leaf(8, 8, salt=k)
                ((x @ x).tanh() * x.exp()).sum().backward()
                total += float(x.grad.sum().item())
            found[k] = total

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    parallel = list(found)
    for k in range(4):
        work(k)
    assert parallel == found


# -- memory ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("backward", [True, False])
def test_a_chain_of_100000_operations(backward: bool) -> None:
    x = tg.tensor(1.0, requires_grad=True)
    y = x
    for _ in range(100_000):
        y = y + 1.0
    if backward:
        y.backward()
        assert x.grad.item() == 1
    del y  # frees the chain without recursion


def test_graphs_are_freed_without_the_collector() -> None:
    gc.collect()
    gc.disable()
    try:
        for step in (True, False):
            x = leaf(4, 4)
            h = (x @ x).exp()
            y = h[0]
            z = (y * y).sum()
            refs = [weakref.ref(t) for t in (h, y, z)] + [weakref.ref(t.grad_fn) for t in (h, y, z)]
            if step:
                z.backward()
            del h, y, z
            assert [r() for r in refs] == [None] * 6
        x = leaf(4)
        y = x * 1
        y[0].mul_(3)
        y[1:] = y[:-1] + 2
        z = (y * y).sum()
        ref, fn = weakref.ref(y), weakref.ref(y.grad_fn)
        z.backward()
        del y, z
        assert ref() is None and fn() is None
    finally:
        gc.enable()


def test_backward_frees_saved_values_although_the_output_lives() -> None:
    x = leaf(4)
    h = x.exp()
    saved = weakref.ref(h)
    y = (h * h).sum()
    del h
    assert saved() is not None
    y.backward()
    assert saved() is None


def test_200_training_steps_take_no_more_memory() -> None:
    """A small LeNet: convolution, pooling, linear, cross-entropy and an optimiser step."""
    tg.manual_seed(0)
    net = tg.nn.Sequential(
        tg.nn.Conv2d(1, 3, 3),
        tg.nn.ReLU(),
        tg.nn.MaxPool2d(2),
        tg.nn.Flatten(),
        tg.nn.Linear(27, 5),
    )
    optimizer = tg.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    x, target = tg.randn(4, 1, 8, 8), tg.tensor([0, 1, 2, 3])

    def steps(count: int) -> None:
        for _ in range(count):
            optimizer.zero_grad()
            tg.nn.functional.cross_entropy(net(x), target).backward()
            optimizer.step()

    gc.disable()
    try:
        tracemalloc.start()
        steps(20)
        gc.collect()
        before, objects = tracemalloc.get_traced_memory()[0], len(gc.get_objects())
        steps(200)
        assert gc.collect() == 0, "reference cycles"
        grown = tracemalloc.get_traced_memory()[0] - before
        assert grown < 20_000, f"{grown} bytes more after 200 steps"
        assert len(gc.get_objects()) - objects < 50
    finally:
        tracemalloc.stop()
        gc.enable()


# -- users' functions --------------------------------------------------------------------------------
class Exp(Function):
    """Saves its output, so that a second derivative needs the output to be tied to the graph."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        y = x.exp()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        (y,) = ctx.saved_tensors
        return g * y


class Two(Function):
    """(a·b·k, a + b, which is not differentiable), and a number that is no tensor."""

    @staticmethod
    def forward(ctx: Any, a: Any, k: float, b: Any) -> Any:
        ctx.save_for_backward(a, b)
        ctx.k = k
        total = a + b
        ctx.mark_non_differentiable(total)
        return a * b * k, a - b, total

    @staticmethod
    def backward(ctx: Any, g: Any, h: Any, none: Any) -> Any:
        assert none is None
        a, b = ctx.saved_tensors
        ga = g * b * ctx.k + h if ctx.needs_input_grad[0] else None
        return ga, None, g * a * ctx.k - h if ctx.needs_input_grad[2] else None


def test_function_that_saves_its_output() -> None:
    x = leaf(3)
    assert tg.gradcheck(Exp.apply, x) and tg.gradgradcheck(Exp.apply, x)


def test_function_with_several_outputs() -> None:
    a, b = leaf(2, 3), leaf(2, 3, salt=1)
    y, z, total = Two.apply(a, 2.5, b)
    assert y.requires_grad and z.requires_grad and not total.requires_grad
    assert tg.gradcheck(lambda a, b: Two.apply(a, 2.5, b)[:2], [a, b])
    assert tg.gradgradcheck(lambda a, b: Two.apply(a, 2.5, b)[:2], [a, b])
    assert not Two.apply(a.detach(), 1.0, b.detach())[0].requires_grad
    (g,) = tg.autograd.grad(Two.apply(a, 2.0, b.detach())[0].sum(), a)
    np.testing.assert_allclose(g.numpy(), 2 * b.detach().numpy())


def test_function_errors() -> None:
    class Wrong(Function):
        @staticmethod
        def forward(ctx: Any, a: Any, b: Any) -> Any:
            ctx.save_for_backward(a)
            return a * b

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g

    with pytest.raises(ValueError, match="must return 2 gradients"):
        Wrong.apply(leaf(2), leaf(2)).sum().backward()

    class Keeps(Function):
        @staticmethod
        def forward(ctx: Any, a: Any) -> Any:
            ctx.save_for_backward(a)
            return a * 1

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g * ctx.saved_tensors[0]

    h = leaf(2) * 1
    y = Keeps.apply(h)
    h.add_(1)
    with pytest.raises(RuntimeError, match="saved tensor 0 .* changed in place"):
        y.sum().backward()
    y = Keeps.apply(leaf(2)).sum()
    y.backward()
    with pytest.raises(RuntimeError, match="retain_graph"):
        y.backward()


# -- products with derivatives -----------------------------------------------------------------------
def pair(m: Any) -> Any:
    def f(a: Any, b: Any) -> Any:
        return m.sin(a).reshape(-1)[:3] * b, (a * a).sum() * b.sum()

    return f


def flat(found: Any) -> list[Any]:
    if isinstance(found, tuple | list):
        return [x for part in found for x in flat(part)]
    return [np.asarray(found.detach().numpy())]


@needs_torch
@pytest.mark.torch
def test_products_equal_pytorch() -> None:
    a, b, u, v = (numbers(*s, salt=k) for k, s in enumerate([(2, 3), (3,), (3,), ()]))

    def answers(m: Any, f: Any) -> list[Any]:
        x, y, s, t = (m.tensor(k) for k in (a, b, u, v))
        one = lambda x: (m.exp(x) * x).sum()  # noqa: E731
        two = lambda x, y: (m.exp(x)[0] * y * y).sum() + (x * x).sum()  # noqa: E731
        return flat([
            f.vjp(pair(m), (x, y), (s, t)), f.jvp(pair(m), (x, y), (x * 2, y + 1)),
            f.jacobian(pair(m), (x, y)), f.hessian(one, x), f.hessian(two, (x, y)),
            f.hvp(one, x, x * 3), f.hvp(two, (x, y), (x, y)), f.jacobian(lambda x: x * 2, x),
        ])  # fmt: skip

    for found, wanted in zip(
        answers(tg, tg.autograd), answers(torch, torch.autograd.functional), strict=True
    ):
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)


def test_products_by_hand() -> None:
    x = tg.tensor([1.0, 2.0, 3.0], dtype="float64")
    cube = lambda x: (x**3).sum()  # noqa: E731
    np.testing.assert_allclose(hessian(cube, x).numpy(), np.diag([6, 12, 18]))
    np.testing.assert_allclose(hvp(cube, x, x)[1].tolist(), [6, 24, 54])
    np.testing.assert_allclose(jacobian(lambda x: x * x, x).numpy(), np.diag([2, 4, 6]))
    np.testing.assert_allclose(jvp(lambda x: x * x, x, x)[1].tolist(), [2, 8, 18])
    np.testing.assert_allclose(vjp(lambda x: x * x, x, x)[1].tolist(), [2, 8, 18])
    y = x.clone().requires_grad_()
    (g,) = tg.autograd.grad(hvp(cube, y, x, create_graph=True)[1].sum(), y)
    np.testing.assert_allclose(g.tolist(), [6, 12, 18])
    with pytest.raises(ValueError, match="one number"):
        hessian(lambda x: x * 2, x)
    with pytest.raises(ValueError, match="may be left out"):
        vjp(lambda x: x * 2, x)


# -- checkpoint --------------------------------------------------------------------------------------
def test_checkpoint_changes_nothing_but_memory() -> None:
    w = leaf(4, 4, salt=1)

    def segment(h: Any) -> Any:
        return (h @ w).tanh() @ w

    def loss(x: Any, saves: bool) -> Any:
        h = x * 2
        for _ in range(3):
            h = checkpoint(segment, h) if saves else segment(h)
        return (h * h).sum()

    x = leaf(2, 4)
    plain = tg.autograd.grad(loss(x, False), [x, w])
    saving = tg.autograd.grad(loss(x, True), [x, w])
    for p, s in zip(plain, saving, strict=True):
        np.testing.assert_allclose(s.numpy(), p.numpy(), rtol=1e-12)
    loss(x, True).backward()
    np.testing.assert_allclose(w.grad.numpy(), plain[1].numpy(), rtol=1e-12)
    assert tg.gradgradcheck(lambda x: loss(x, True), x)
    second = []
    for saves in (False, True):
        (g,) = tg.autograd.grad(loss(x, saves), w, create_graph=True)
        second.append(tg.autograd.grad((g * g).sum(), [x, w]))
    for p, s in zip(*second, strict=True):
        np.testing.assert_allclose(s.numpy(), p.numpy(), rtol=1e-10)


def test_checkpoint_repeats_dropout_and_leaves_the_stream_alone() -> None:
    x = leaf(50)

    def drop(x: Any) -> Any:
        return tg.nn.functional.dropout(x, 0.5, True)

    tg.manual_seed(3)
    y = checkpoint(drop, x)
    state = tg.get_rng_state()
    y.sum().backward()
    assert tg.get_rng_state() == state
    np.testing.assert_array_equal(x.grad.numpy() != 0, y.detach().numpy() != 0)


def test_checkpoint_keeps_no_values_inside() -> None:
    inside: list[Any] = []

    def segment(x: Any) -> Any:
        h = x.exp()
        inside.append(weakref.ref(h))
        return (h * h).sin()

    x = leaf(3)
    y = checkpoint(segment, x)
    assert inside[0]() is None
    y.sum().backward()
    assert len(inside) == 2 and inside[1]() is None
    assert not checkpoint(segment, x.detach()).requires_grad
    with pytest.raises(TypeError, match="one tensor"):
        checkpoint(lambda x: (x, x), x)


# -- anomaly -----------------------------------------------------------------------------------------
def test_anomaly_names_operation_layer_and_both_lines() -> None:
    class Log(tg.nn.Module):
        def forward(self, x: Any) -> Any:
            return x.log()

    net = tg.nn.Sequential(tg.nn.Sequential(tg.nn.ReLU(), Log()))
    x = tg.tensor([1.0, -2.0], requires_grad=True)
    with detect_anomaly(), pytest.raises(RuntimeError) as caught:
        net(x).sqrt().sum().backward()
    message = str(caught.value)
    assert "Sqrt" in message and "infinity first appeared in the forward pass in Log" in message
    assert "'0.1'" in message and message.count("test_autograd.py:") == 2
    with detect_anomaly():
        (x * 2).sum().backward()
    np.testing.assert_allclose(x.grad.tolist(), [2, 2])


def test_grad_of_two_tensors_on_one_path() -> None:
    x = tg.tensor(2.0, requires_grad=True)
    a = x * 2
    b = a * 3
    y = b * b
    assert [g.item() for g in tg.autograd.grad(y, [a, b, x])] == [72.0, 24.0, 144.0]
