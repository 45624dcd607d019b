"""The table of a model and its receptive fields, against counts by hand and gradient probes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tinygrad_cnn as tg
from tinygrad_cnn import models, nn
from tinygrad_cnn.cli import main
from tinygrad_cnn.receptive_field import Field


def rows(model: nn.Module, shape: Any) -> dict[str, Any]:
    return {row.name: row for row in tg.summary(model, shape, show=False).rows}


# -- the table --------------------------------------------------------------------------------
def test_lenet_by_hand(capsys: pytest.CaptureFixture[str]) -> None:
    found = tg.summary(models.lenet5(), (1, 32, 32))
    table = {r.name: (r.kind, r.output_shape, r.parameters, r.kernel, r.stride, r.activation)
             for r in found.rows}  # fmt: skip
    assert table["c1"] == ("Conv2d", (6, 28, 28), 156, (5, 5), (1, 1), "relu")
    assert table["s2"] == ("MaxPool2d", (6, 14, 14), 0, (2, 2), (2, 2), "")
    assert table["c5"] == ("Linear", (120,), 48_120, None, None, "relu")
    assert table["output"] == ("Linear", (10,), 850, None, None, "")
    macs = 28 * 28 * 6 * 25 + 100 * 16 * 6 * 25 + 400 * 120 + 120 * 84 + 84 * 10
    assert found.flops == 2 * macs == sum(r.flops for r in found.rows)
    assert (found.parameters, found.trainable, found.frozen) == (61_706, 61_706, 0)
    assert found.input_bytes == 4 * 1024 and found.parameter_bytes == 4 * 61_706
    cells = 2 * (6 * 784 + 1600) + 6 * 196 + 2 * 400 + 2 * 120 + 2 * 84 + 10
    assert found.activation_bytes == 4 * cells
    printed = capsys.readouterr().out
    assert printed == f"{found}\n"
    assert "c1       Conv2d     6×28×28          156  5×5     1×1     relu" in printed
    assert "parameters  61,706: 61,706 trainable, 0 frozen" in printed


class Shared(nn.Module):
    """A layer called twice, a parameter of its own, a layer that is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(tg.ones(3))
        self.fc = nn.Linear(3, 3)
        self.unused = nn.Linear(3, 7)

    def forward(self, x: tg.Tensor) -> tg.Tensor:
        return self.fc(self.fc(x)).tanh() * self.scale  # type: ignore[no-any-return]


def test_shared_bare_and_unused_parameters() -> None:
    model = Shared()
    model.fc.bias.requires_grad_(False)
    found = tg.summary(model, (3,), show=False)
    table = [(r.name, r.kind, r.parameters, r.trainable, r.flops) for r in found.rows]
    assert table == [
        ("fc", "Linear", 12, 9, 18),
        ("fc", "Linear (shared)", 0, 0, 18),
        ("", "Shared", 3, 3, 0),
        ("unused", "Linear (not called)", 28, 28, 0),
    ]
    assert found.rows[1].activation == "tanh"
    assert (found.parameters, found.trainable, found.frozen, found.flops) == (43, 40, 3, 36)


def test_state_is_left_alone() -> None:
    model = models.mnist_cnn(batch_norm=True)
    before = {name: t.numpy().copy() for name, t in model.state_dict().items()}
    modes = [m.training for m in model.modules()]
    found = tg.summary(model, (1, 28, 28), show=False)
    assert [m.training for m in model.modules()] == modes
    assert all(m._hooks is None or not m._hooks.after for m in model.modules())
    for name, t in model.state_dict().items():
        np.testing.assert_array_equal(t.numpy(), before[name])
    assert found.parameters + found.buffers == 621_706  # as Keras counts


def test_state_is_left_alone_by_a_failure() -> None:
    model = models.lenet5()
    with pytest.raises(ValueError, match="c1"):
        tg.summary(model, (3, 32, 32))
    assert model.training and not model.c1._hooks.after  # type: ignore[union-attr]


def test_flops_of_groups_strides_and_transposes() -> None:
    conv = tg.summary(nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=2), (4, 9, 9), show=False)
    assert conv.flops == 2 * 25 * 8 * 2 * 9
    grown = tg.summary(nn.ConvTranspose2d(4, 8, 3, stride=2), (4, 5, 5), show=False)
    assert grown.rows[0].output_shape == (8, 11, 11)
    assert grown.flops == 2 * 25 * 4 * 8 * 9  # each input cell meets each weight of its channel
    one = nn.Conv1d(1, 1, 3, bias=False)
    assert tg.summary(one, (1, 8), show=False).parameters == 3


def test_several_inputs_and_outputs() -> None:
    a, b = nn.Input(3), nn.Input((2, 4))
    flat = nn.Flatten()(b)
    model = nn.Model([a, b], [nn.Linear(3, 2)(a), nn.Linear(8, 2)(flat)])
    found = tg.summary(model, [(3,), (2, 4)], show=False)
    assert [r.name for r in found.rows] == ["flatten", "linear", "linear_1"]
    assert found.flops == 2 * (6 + 16)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [(["lenet5", "1x32x32"], "61,706"), (["resnet20", "3x32x32"], "269,722")],
)
def test_command(arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["summary", *arguments]) == 0
    assert text in capsys.readouterr().out


def test_command_errors(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["summary", "lenet", "1x32x32"]) == 2
    assert "did you mean 'lenet5'?" in capsys.readouterr().err
    assert main(["summary", "lenet5", "1x32xx"]) == 2
    assert "expected a shape such as 3x224x224" in capsys.readouterr().err


# -- receptive fields -------------------------------------------------------------------------
class Branches(nn.Module):
    """Two paths of different fields that meet, a strided slice, and padding of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(1, 1, 3, padding=1)
        self.b = nn.Conv2d(1, 1, 5, padding=2)
        self.pad = nn.ZeroPad2d((1, 0, 2, 0))
        self.last = nn.Conv2d(2, 1, 2, dilation=2)

    def forward(self, x: tg.Tensor) -> tg.Tensor:
        joined = tg.cat([self.a(x) + x, self.b(x)], 1)
        return self.last(self.pad(joined[:, :, 1::2, ::2].abs()))  # type: ignore[no-any-return]


PROBED = {
    "convolutions": lambda: nn.Sequential(
        nn.Conv2d(1, 2, 5, padding=2), nn.AvgPool2d(2), nn.Conv2d(2, 1, 3, 2, dilation=2)
    ),
    "asymmetric": lambda: nn.Sequential(
        nn.Conv2d(1, 1, (3, 2), stride=(2, 1), padding="same"), nn.AvgPool2d((1, 3), (1, 2))
    ),
    "residual": lambda: nn.Sequential(models.resnet20().layer1[0]),
    "branches": Branches,
}


@pytest.mark.parametrize("name", PROBED)
def test_gradient_is_non_zero_exactly_inside(name: str) -> None:
    """With positive weights and inputs, d out[p, q] / d x is positive where out sees x.

    Winograd's transforms leave round-off where the exact derivative is zero: the reference backend
    computes by the definition.
    """
    with tg.use_backend("numpy"):
        probe(name)


def probe(name: str) -> None:
    model = PROBED[name]().eval()
    channels = next(m for m in model.modules() if isinstance(m, nn.Conv2d)).in_channels
    with tg.no_grad():
        for p in model.parameters():
            p.copy_(p.abs() + 0.1)
    shape = (channels, 20, 22)
    field = list(tg.receptive_field(model, shape).values())[-1]
    x = tg.ones(1, *shape, requires_grad=True)
    y = model(x)
    for p in (0, 1, y.shape[2] // 2, y.shape[2] - 1):
        for q in (0, y.shape[3] // 2, y.shape[3] - 1):
            (g,) = tg.autograd.grad(y[0, 0, p, q], [x], retain_graph=True)
            seen = np.abs(g.numpy()[0]).sum(0) > 0
            box = [
                (max(o + i * s, 0), min(o + i * s + r, n))
                for i, r, s, o, n in zip((p, q), *field, shape[1:], strict=True)
            ]
            cells = np.argwhere(seen)
            first, last = cells.min(0).tolist(), cells.max(0).tolist()
            inside = seen[box[0][0] : box[0][1], box[1][0] : box[1][1]]
            assert inside.sum() == seen.sum(), (p, q, field)  # nothing outside
            if name == "branches":  # at the edge a slice or padding can hide a row of the box
                continue
            assert [(a, b + 1) for a, b in zip(first, last, strict=True)] == box, (p, q, field)


def test_fields_by_hand() -> None:
    field = tg.receptive_field(models.vgg16(include_top=False), (3, 32, 32))
    assert field["features.30"].size == (212, 212)  # five blocks of 3 × 3 and 2 × 2 pooling
    assert field["features.30"].stride == (32, 32)
    net = tg.receptive_field(models.lenet5(), (1, 32, 32))
    assert net["s4"] == Field((16, 16), (4, 4), (0, 0))
    assert net["output"] == Field((32, 32), (0, 0), (0, 0))


def test_unknown_fields_are_left_out() -> None:
    assert tg.receptive_field(nn.ConvTranspose2d(1, 1, 4, 2), (1, 4, 4)) == {}


def test_local_response_norm_keeps_the_field() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.LocalResponseNorm(3), nn.MaxPool2d(2))
    assert tg.receptive_field(model, (3, 9, 9))["2"] == Field((4, 4), (2, 2), (0, 0))
