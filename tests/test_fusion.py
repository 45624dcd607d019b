"""Fused operations equal their parts: values, first and second derivatives, hooks, memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tolerances import assert_close

import tinygrad_cnn as tg
from tinygrad_cnn import nn
from tinygrad_cnn.deferred import Deferred, set_fusion
from tinygrad_cnn.nn import functional as F
from tinygrad_cnn.tensor import Op

Case = tuple[str, Any, tuple[int, ...]]


class Residual(nn.Module):
    """Batch norm + shortcut + ReLU, in the forms that people write."""

    def __init__(self, inplace: bool, project: bool) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.conv2, self.bn2 = nn.Conv2d(4, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3)
        self.project = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)) if project else None
        self.inplace = inplace

    def forward(self, x: tg.Tensor) -> tg.Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=self.inplace)
        y = self.bn2(self.conv2(y))
        return F.relu(y + (x if self.project is None else self.project(x)), inplace=self.inplace)


CASES: list[Case] = [
    ("conv_relu", lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), (2, 3, 6, 5)),
    ("conv_relu_inplace", lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(True)), (2, 3, 6, 5)),
    (
        "conv_relu_no_bias",
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.ReLU()),
        (2, 3, 6, 5),
    ),
    (
        "conv_relu_pool",
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2)),
        (2, 3, 7, 6),
    ),
    (
        "conv_relu_pool_of_many_channels",
        lambda: nn.Sequential(nn.Conv2d(16, 20, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2)),
        (2, 16, 17, 12),
    ),
    (
        "conv_relu_pool_overlapping",
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.ReLU(True), nn.MaxPool2d(3, 2, 1)),
        (2, 3, 8, 9),
    ),
    ("conv1d", lambda: nn.Sequential(nn.Conv1d(2, 3, 3), nn.ReLU(), nn.MaxPool1d(2)), (2, 2, 9)),
    ("linear_relu", lambda: nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)), (3, 5)),
    ("bn_relu", lambda: nn.Sequential(nn.BatchNorm2d(3), nn.ReLU()), (3, 3, 4, 5)),
    ("bn_relu_1d", lambda: nn.Sequential(nn.BatchNorm1d(5, affine=False), nn.ReLU(True)), (6, 5)),
    ("bn_eval", lambda: nn.Sequential(nn.BatchNorm2d(3), nn.ReLU()).eval(), (3, 3, 4, 5)),
    ("residual", lambda: Residual(False, False), (3, 3, 5, 4)),
    ("residual_inplace", lambda: Residual(True, False), (3, 3, 5, 4)),
    ("residual_project", lambda: Residual(True, True), (3, 3, 5, 4)),
    ("residual_eval", lambda: Residual(True, True).eval(), (3, 3, 5, 4)),
]


@pytest.fixture(autouse=True)
def restore() -> Iterator[None]:
    yield
    set_fusion(True)


def _derivatives(
    make: Any, shape: tuple[int, ...], backend: str, fused: bool, dtype: str
) -> list[Any]:
    """Output, first derivatives of x and all parameters, and second ones of a gradient penalty."""
    set_fusion(fused)
    tg.manual_seed(1)
    with tg.use_backend(backend):
        model = make().to(dtype)
        x = tg.randn(shape, dtype=dtype, requires_grad=True)
        leaves = [x, *model.parameters()]
        y = model(x)
        weights = tg.randn_like(y)
        first = tg.autograd.grad(y, leaves, weights, retain_graph=True)
        again = tg.autograd.grad(y, leaves, weights, create_graph=True)
        penalty = sum((g * g).sum() for g in again)
        second = tg.autograd.grad(penalty, leaves, allow_unused=True)
        state = [v for k, v in model.state_dict().items() if "running" in k]
    found = [y, *first, *again, *(s for s in second if s is not None), *state]
    return [t.detach().numpy() for t in found]


@pytest.mark.parametrize("name, make, shape", CASES, ids=[c[0] for c in CASES])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_fused_equals_parts(
    name: str, make: Any, shape: tuple[int, ...], dtype: str, backend: str
) -> None:
    fused = _derivatives(make, shape, backend, True, dtype)
    parts = _derivatives(make, shape, backend, False, dtype)
    assert len(fused) == len(parts)
    for a, b in zip(fused, parts, strict=True):
        assert a.dtype == b.dtype
        assert_close(a, b, a.dtype, 300, np.abs(b).max(initial=1.0))


def _names(t: tg.Tensor) -> list[str]:
    names, op = [], t.grad_fn
    while isinstance(op, Op):
        names.append(op.name)
        op = op.edges[0]
    return names


def test_the_rules_apply(backend: str) -> None:
    with tg.use_backend(backend):
        model = nn.Sequential(
            nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.BatchNorm2d(2), nn.ReLU(True),
            nn.Flatten(), nn.Linear(8, 3), nn.ReLU(), nn.Linear(3, 2),
        )  # fmt: skip
        x = tg.randn(2, 1, 6, 6)
        assert _names(model(x)) == [
            "Linear",
            "LinearRelu",
            "Reshape",
            "BatchNormRelu",
            "ConvReluMaxPool",
        ]
        assert "BatchNormAddRelu" in _names(Residual(True, False)(tg.randn(2, 3, 4, 4)).sum())
        set_fusion(False)
        assert "ConvReluMaxPool" not in _names(model(x))
        set_fusion(True)
        assert _names(F.relu(F.linear(x, tg.randn(3, 6, requires_grad=True)))) == ["Relu", "Linear"]


def test_no_deferred_value_leaves_a_module() -> None:
    class Keeps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 3)
            self.kept: list[tg.Tensor] = []

        def forward(self, x: tg.Tensor) -> tg.Tensor:
            y = self.linear(x)
            self.kept.append(y)
            return F.relu(y)

    model = Keeps()
    x = tg.randn(2, 3)
    y = model(x)
    (between,) = model.kept
    assert type(y) is tg.Tensor and type(between) is tg.Tensor
    assert np.array_equal(y.detach().numpy(), np.maximum(between.detach().numpy(), 0))
    (y.sum() + (between * 2).sum()).backward()  # both paths reach the weights
    wanted = 2.0 * 6 + float((between.detach() > 0).sum())
    assert float(model.linear.bias.grad.sum()) == wanted


def test_hooks_on_a_value_in_between_see_its_gradient(backend: str) -> None:
    class Watched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 3)
            self.seen: dict[str, tg.Tensor] = {}

        def forward(self, x: tg.Tensor) -> tg.Tensor:
            y = self.conv(x)
            z = F.relu(y)
            out = F.max_pool2d(z, 2)
            y.register_hook(lambda g: self.seen.update(y=g))
            z.register_hook(lambda g: self.seen.update(z=g))
            y.retain_grad()
            self.y = y
            return out

    found = []
    with tg.use_backend(backend):
        x = tg.randn(2, 1, 6, 6)
        weight = tg.randn(2, 2, 2, 2)
        tg.manual_seed(3)
        model = Watched()
        for fused in (True, False):
            set_fusion(fused)
            model.zero_grad()
            (model(x) * weight).sum().backward()
            found.append([model.seen["y"], model.seen["z"], model.y.grad, model.conv.weight.grad])
            model.seen = {}
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5, atol=1e-6)


def test_in_place_changes_do_not_reach_back(backend: str) -> None:
    class Overwrites(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 3)

        def forward(self, x: tg.Tensor) -> tg.Tensor:
            y = self.linear(x)
            with tg.no_grad():
                x.zero_()
            return y

    with tg.use_backend(backend):
        model = Overwrites()
        x = tg.ones(2, 3)
        wanted = (model.linear.weight.sum(1) + model.linear.bias).detach().numpy()
        with tg.no_grad():
            np.testing.assert_allclose(model(x).numpy()[0], wanted, rtol=1e-5)
        assert float(x.sum()) == 0


def test_an_error_inside_leaves_nothing_waiting() -> None:
    class Fails(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 3)

        def forward(self, x: tg.Tensor) -> tg.Tensor:
            self.kept = self.linear(x)
            raise ValueError("stop")

    model = Fails()
    with pytest.raises(ValueError, match="stop"):
        model(tg.randn(2, 3))
    assert type(model.kept) is Deferred and model.kept.sum().item() is not None
    assert nn.Sequential(nn.Linear(3, 3), nn.ReLU())(tg.randn(2, 3)).shape == (2, 3)


def test_inference_fuses_too(backend: str) -> None:
    with tg.use_backend(backend), tg.inference_mode():
        model = nn.Sequential(Residual(True, True), nn.ReLU()).eval()
        x = tg.randn(2, 3, 5, 5)
        a = model(x).numpy()
        set_fusion(False)
        np.testing.assert_allclose(a, model(x).numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("create_graph", [False, True])
def test_gradients_of_values_that_a_module_keeps(backend: str, create_graph: bool) -> None:
    """A value that was fused away is still one that a gradient can be asked for."""

    class Keeps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)
            self.linear = nn.Linear(8, 3)
            self.kept: list[tg.Tensor] = []

        def forward(self, x: tg.Tensor) -> tg.Tensor:
            a = self.conv(x)
            b = F.relu(a)
            c = F.max_pool2d(b, 2)
            d = self.norm(c)
            e = d + c
            f = F.relu(e)
            g = self.linear(f.flatten(1))
            self.kept = [a, b, c, d, e, f, g]
            return F.relu(g)

    found = []
    for fused in (True, False):
        set_fusion(fused)
        tg.manual_seed(0)
        with tg.use_backend(backend):
            model = Keeps().double()
            y = model(tg.randn(2, 1, 6, 6, dtype="float64", requires_grad=True))
            wanted = [*model.kept, model.conv.weight]
            each = [tg.autograd.grad(y.sum(), t, retain_graph=True)[0] for t in wanted]
            both = tg.autograd.grad((y * y).sum(), wanted, create_graph=create_graph)
            found.append([t.detach().numpy() for t in (*each, *both)])
            if create_graph:
                square = sum((g * g).sum() for g in both)
                found[-1].append(tg.autograd.grad(square, model.conv.weight)[0].numpy())
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("first", [True, False])
def test_a_part_under_no_grad_is_not_recorded(first: bool, backend: str) -> None:
    """Whether recorded or not is decided where each part is written, not where the fused one
    runs."""

    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 3)

        def forward(self, x: tg.Tensor) -> tg.Tensor:
            with tg.set_grad_enabled(not first):
                y = self.conv(x)
            with tg.set_grad_enabled(first):
                return F.relu(y)

    with tg.use_backend(backend):
        assert not Half()(tg.ones(1, 1, 4, 4)).requires_grad


def test_memory_shared_inside_a_module_is_read_before_it_can_be_written(backend: str) -> None:
    class Emptying(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 2)

        def forward(self, x: tg.Tensor) -> tg.Tensor:
            y = self.fc(x)
            x.numpy()[...] = 0
            return F.relu(y)

    with tg.use_backend(backend):
        model, x = Emptying(), tg.ones(4, 3)
        expected = model.fc(x).relu().detach().numpy().copy()
        np.testing.assert_array_equal(model(x).detach().numpy(), expected)
