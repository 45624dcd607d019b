"""What PyTorch users write without thinking about it works here in the same words."""

from __future__ import annotations

import numpy as np
import pytest

import tinygrad_cnn as tg
from tinygrad_cnn import nn
from tinygrad_cnn.nn import functional as F


@pytest.fixture(autouse=True)
def _on(backend: str) -> object:
    with tg.use_backend(backend):
        yield


def test_functions_take_pytorchs_argument_names() -> None:
    x = tg.arange(end=12).float().reshape(3, 4)
    assert tg.permute(x, dims=(1, 0)).shape == x.permute(1, 0).shape == x.permute([1, 0]).shape
    assert tg.reshape(x, shape=(2, -1)).shape == tg.reshape(x, [2, 6]).shape == (2, 6)
    assert tg.tile(x, dims=(2, 1)).shape == x.tile(2, 1).shape == (6, 4)
    assert [p.shape for p in tg.split(tensor=x, split_size_or_sections=2)] == [(2, 4), (1, 4)]
    assert tg.dot(input=x[0], tensor=x[0]).item() == 14
    for make in (tg.zeros, tg.ones, tg.empty, tg.rand, tg.randn):
        assert make(size=(2, 3)).shape == make(2, 3).shape == make((2, 3)).shape == (2, 3)
    assert tg.randint(high=10, size=(3,)).shape == tg.randint(10, (3,)).shape == (3,)


def test_dtypes_have_pytorchs_short_names() -> None:
    names = {"bool": "bool", "half": "float16", "float": "float32", "double": "float64",
             "int": "int32", "long": "int64"}  # fmt: skip
    for short, full in names.items():
        assert tg.tensor([1, 0], dtype=getattr(tg, short)).dtype == full
        assert tg.zeros(2).type(getattr(tg, short)).dtype == full
    assert (tg.ones(2) > 0).dtype == tg.bool


def test_a_number_is_formatted_as_one() -> None:
    assert f"{tg.tensor(0.12345):.3f} {tg.tensor(7):03d}" == "0.123 007"
    assert f"{tg.tensor(2.0)}" == "2.0" and f"{tg.ones(2)}" == str(tg.ones(2))
    with pytest.raises(TypeError, match="format"):
        f"{tg.ones(2):.3f}"


def test_where_the_elements_are() -> None:
    x = tg.tensor([[0.0, 3.0], [float("nan"), 0.0]])
    assert x.nonzero().tolist() == [[0, 1], [1, 0]]
    assert tg.nonzero(tg.tensor(2)).shape == (1, 0) and tg.nonzero(tg.tensor(0)).shape == (0, 0)
    assert tg.nonzero(tg.zeros(0, 3)).shape == (0, 2)
    assert tg.masked_select(x, tg.tensor([False, True])).tolist() == [3, 0]
    assert x.masked_select(x == 3).tolist() == [3]
    with pytest.raises(TypeError, match="boolean"):
        tg.masked_select(x, x)
    assert tg.is_tensor(x) and not tg.is_tensor(x.numpy()) and tg.numel(x) == 4
    assert x.is_contiguous() and not x.T.is_contiguous()
    assert x.new_full((2,), 5).tolist() == [5, 5]


def test_weights_are_drawn_in_place() -> None:
    layer = nn.Conv2d(3, 64, 3)
    tg.manual_seed(1)
    layer.weight.data.normal_(1.0, 0.02)
    assert abs(layer.weight.mean().item() - 1) < 0.01
    assert 0.015 < layer.weight.std().item() < 0.025
    with pytest.raises(RuntimeError, match="no_grad"):
        layer.weight.normal_()
    with tg.no_grad():
        layer.weight.uniform_(-2, -1)
    assert -2 <= layer.weight.min().item() < layer.weight.max().item() < -1
    drawn = tg.randint_like(layer.weight, 3, 5)
    assert drawn.dtype == "float32" and set(drawn.reshape(-1).tolist()) == {3, 4}


def test_a_single_number_has_one_dimension_when_asked() -> None:
    x = tg.tensor(3.0, requires_grad=True)
    values, indices = x.topk(1)
    assert (values.item(), indices.item(), values.shape) == (3, 0, ())
    assert x.movedim(0, -1).shape == ()
    (x.topk(1)[0] * x.movedim(0, 0)).backward()
    assert x.grad is not None and x.grad.item() == 6


def test_retained_gradient_is_that_of_the_newest_value() -> None:
    x = tg.tensor([-1.0, 2.0], requires_grad=True)
    y = x * 3
    y.retain_grad()
    y.relu_()
    (y * tg.tensor([5.0, 7.0])).sum().backward()
    assert y.grad is not None and y.grad.tolist() == [5, 7]
    assert x.grad is not None and x.grad.tolist() == [0, 21]


def test_retained_gradient_after_a_fused_activation_in_place() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 1)

        def forward(self, x: tg.Tensor) -> tg.Tensor:
            y = self.y = self.conv(x)
            if y.requires_grad:
                y.retain_grad()
            return F.relu(y, inplace=True)

    net = Net()
    w = tg.randn(1, 2, 3, 3)
    (net(tg.randn(1, 1, 3, 3)) * w).sum().backward()
    assert net.y.grad is not None
    np.testing.assert_array_equal(net.y.grad.numpy(), w.numpy())


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # pytest drops our own filter
def test_derivatives_where_the_input_is_not_finite() -> None:
    x = tg.tensor([float("nan"), float("inf"), -float("inf"), 0.5], requires_grad=True)
    nan = float("nan")
    wanted = {
        F.elu: [nan, 1, 0, 1], F.celu: [nan, 1, 0, 1], F.softplus: [nan, 1, 0, 0.62245935],
        F.hardtanh: [0, 0, 0, 1], F.relu6: [0, 0, 0, 1], F.hardsigmoid: [0, 0, 0, 1 / 6],
    }  # fmt: skip
    for function, slopes in wanted.items():
        (g,) = tg.autograd.grad(function(x).sum(), x)
        np.testing.assert_allclose(g.numpy(), slopes, rtol=1e-6, err_msg=function.__name__)
    for loss in (F.huber_loss, F.smooth_l1_loss):
        (g,) = tg.autograd.grad(loss(x[1:], tg.zeros(3), reduction="sum"), x)
        np.testing.assert_allclose(g.numpy(), [0, 1, -1, 0.5], rtol=1e-6)
