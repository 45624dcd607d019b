"""Lecture notes S3 and S4, recomputed: LeNet, AlexNet and VGG in PyTorch; small data.

A test is named by its row in docs/lecture-notes.md; see ``test_lecture_notes``.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from lecture_rows import count, shapes, unfilled
from lecture_rows import on_each as on_each  # a fixture that every test here uses

import tinygrad_cnn as tg
from tinygrad_cnn import models, nn
from tinygrad_cnn.nn import functional as F


# -- S3: LeNet, AlexNet, VGG in PyTorch ----------------------------------------------------------
def test_S3_1_lenet_shapes_and_parameters() -> None:
    net = unfilled(models.lenet5)
    assert shapes(net, (1, 32, 32), "Conv2d", "MaxPool2d", "Linear") == [
        (6, 28, 28), (6, 14, 14), (16, 10, 10), (16, 5, 5), (120,), (84,), (10,)
    ]  # fmt: skip
    assert count(net) == 61_706 and count(unfilled(models.lenet5, num_classes=2)) == 61_026


def test_S3_2_table_columns() -> None:
    rows = tg.summary(unfilled(models.lenet5, num_classes=2), (1, 32, 32), show=False).rows
    table = [(r.kind, r.output_shape[0], r.kernel, r.stride, r.activation) for r in rows]
    assert table[0] == ("Conv2d", 6, (5, 5), (1, 1), "relu")
    assert table[2] == ("MaxPool2d", 6, (2, 2), (2, 2), "")
    assert table[-1] == ("Linear", 2, None, None, "")


def test_S3_3_pooling_divides_only_side_by_side() -> None:
    assert F.max_pool2d(tg.zeros(1, 1, 12, 12), 3).shape[2] == 12 // 3
    assert F.max_pool2d(tg.zeros(1, 1, 12, 12), 3, 2).shape[2] == 5 != 12 // 3


def test_S3_4_printed_model() -> None:
    with nn.init.skip():
        net = nn.Sequential(
            nn.Conv2d(3, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 5), nn.ReLU(),
            nn.MaxPool2d(2), nn.Flatten(), nn.Linear(89_888, 512), nn.ReLU(), nn.Linear(512, 2),
            nn.Softmax(dim=1),
        )  # fmt: skip
    text = repr(net)
    assert "(0): Conv2d(3, 16, kernel_size=(5, 5), stride=(1, 1))" in text
    assert "(2): MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)" in text
    assert "(7): Linear(in_features=89888, out_features=512, bias=True)" in text
    assert "(10): Softmax(dim=1)" in text
    assert shapes(net, (3, 224, 224), "Flatten") == [(32 * 53 * 53,)] == [(89_888,)]
    assert count(net) == 46_038_242


def test_S3_5_a_table_as_torchsummary_prints() -> None:
    net = models.lenet5()
    net.c1.requires_grad_(False)
    found = tg.summary(net, (1, 32, 32), show=False)
    assert (found.parameters, found.trainable, found.frozen) == (61_706, 61_550, 156)
    assert found.parameter_bytes == 4 * 61_706 and found.flops == 2 * 416_520
    text = str(found)
    assert "61,706: 61,550 trainable, 156 frozen" in text and "6×28×28" in text


def test_S3_7_two_groups_are_two_towers() -> None:
    conv = nn.Conv2d(6, 4, 3, padding=1, groups=2)
    assert conv.bias is not None
    x = tg.randn(2, 6, 5, 5)
    towers = [
        F.conv2d(x[:, 3 * i : 3 * i + 3], conv.weight[2 * i : 2 * i + 2],
                 conv.bias[2 * i : 2 * i + 2], padding=1)
        for i in (0, 1)
    ]  # fmt: skip
    assert tg.allclose(conv(x), tg.cat(towers, 1), rtol=1e-5, atol=1e-5)
    with nn.init.skip():
        net = models.alexnet(groups=2)
    groups = [m.groups for m in net.modules() if isinstance(m, nn.Conv2d)]
    assert groups == [1, 2, 1, 2, 2] and net.classifier[-1].out_features == 1000


def test_S3_8_alexnet_chain() -> None:
    found = shapes(unfilled(models.alexnet), (3, 227, 227), "Conv2d", "MaxPool2d", "Linear")
    assert found == [
        (96, 55, 55), (96, 27, 27), (256, 27, 27), (256, 13, 13), (384, 13, 13), (384, 13, 13),
        (256, 13, 13), (256, 6, 6), (4096,), (4096,), (1000,),
    ]  # fmt: skip


def test_S3_9_alexnet_parameters() -> None:
    """The slide has 66 M."""
    assert count(unfilled(models.alexnet)) == 62_378_344
    assert count(unfilled(models.alexnet, groups=2)) == 60_965_224


def test_S3_10_alexnet_first_layer_and_output() -> None:
    """A row of the slide's table has one channel; the first kernel is 11 × 11 × 3."""
    net = unfilled(models.alexnet)
    assert count(net.features[0]) == 34_944
    total = F.softmax(tg.randn(1, 1000), 1).sum().item()
    assert total == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("ceil_mode", [False, True])
def test_S3_12_average_pooling_example(ceil_mode: bool) -> None:
    """The note has 5×5 → 3×3 and 7×7 → 4×4."""
    pool = nn.AvgPool2d((3, 2), stride=(2, 1), ceil_mode=ceil_mode)
    assert pool(tg.zeros(1, 1, 5, 5)).shape[2:] == (2, 4)
    assert pool(tg.zeros(1, 1, 7, 7)).shape[2:] == (3, 6)


def test_S3_13_adaptive_pooling_windows() -> None:
    x = tg.arange(7, dtype=tg.float32).reshape(1, 1, 7)
    edges = [(math.floor(i * 7 / 3), math.ceil((i + 1) * 7 / 3)) for i in range(3)]
    expected = [np.arange(a, b).mean() for a, b in edges]
    np.testing.assert_allclose(F.adaptive_avg_pool1d(x, 3).numpy()[0, 0], expected, rtol=1e-6)


def test_S3_14_vgg_blocks() -> None:
    net = unfilled(models.vgg16)
    assert shapes(net, (3, 224, 224), "Conv2d")[0] == (64, 224, 224)
    rows = tg.summary(net, (3, 224, 224), show=False).rows
    weighted = [r for r in rows if r.parameters]
    assert [r.activation for r in weighted] == ["relu"] * 15 + [""]
    assert {r.kernel for r in rows if r.kind == "Conv2d"} == {(3, 3)}
    assert {(r.kernel, r.stride) for r in rows if r.kind == "MaxPool2d"} == {((2, 2), (2, 2))}


def test_S3_15_vgg_parameters() -> None:
    """The note gives VGG-16 the 133 M of VGG-11."""
    assert count(unfilled(models.vgg16)) == 138_357_544
    assert count(unfilled(models.vgg11)) == 132_863_336
    assert count(unfilled(models.vgg19)) == 143_667_240


# -- S4: small data ------------------------------------------------------------------------------
def test_S4_1_dense_layers_see_everything() -> None:
    """One output of a convolution depends on its window, one of a dense layer on every input."""
    x = tg.randn(1, 1, 6, 6, requires_grad=True)
    local, everywhere = nn.Conv2d(1, 1, 3), nn.Linear(36, 1)
    seen = []
    for y in (local(x)[0, 0, 1, 2], everywhere(x.flatten(1))[0, 0]):
        (slope,) = tg.autograd.grad(y, x)
        seen.append(slope.numpy()[0, 0] != 0)
    assert seen[0].sum() == 9 and seen[0][1:4, 2:5].all() and seen[1].all()


def test_S4_2_output_depth_and_window() -> None:
    """Keras's Conv2D(depth, (height, width)) after the number of input channels."""
    conv = nn.Conv2d(3, 32, (3, 5))
    assert conv.weight.shape == (32, 3, 3, 5)
    assert conv(tg.zeros(1, 3, 10, 10)).shape == (1, 32, 8, 6)


def test_S4_3_border_effect_and_stride() -> None:
    x = tg.zeros(1, 1, 28, 28)
    sizes = [nn.Conv2d(1, 1, 3, **o)(x).shape[-1]
             for o in ({}, {"padding": "same"}, {"padding": "same", "stride": 2})]  # fmt: skip
    assert sizes == [26, 28, 14]


def test_S4_4_without_pooling() -> None:
    net = nn.Sequential(nn.Conv2d(1, 32, 3), nn.Conv2d(32, 64, 3), nn.Conv2d(64, 64, 3))
    (last,) = shapes(net, (1, 28, 28), "Conv2d")[-1:]
    assert last == (64, 22, 22) and math.prod(last) == 30_976


def test_S4_9_dropout_scales() -> None:
    drop = nn.Dropout(0.4)
    values = set(np.unique(drop(tg.ones(1000)).numpy()).tolist())
    assert values == {0.0, float(np.float32(1 / 0.6))}
    assert drop.eval()(tg.ones(4)).tolist() == [1.0] * 4


def test_S4_10_convolutional_base() -> None:
    base = unfilled(models.vgg16, include_top=False)
    assert count(base) == 14_714_688
    assert shapes(base, (3, 150, 150), "MaxPool2d")[-1] == (512, 4, 4)


def test_S4_12_frozen_parameters_get_no_gradient() -> None:
    base = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).requires_grad_(False).eval()
    before = {name: t.numpy().copy() for name, t in base.state_dict().items()}
    head = nn.Linear(2 * 9, 2)
    head(base(tg.randn(3, 1, 5, 5)).flatten(1)).sum().backward()
    assert all(p.grad is None for p in base.parameters()) and head.weight.grad is not None
    for name, t in base.state_dict().items():
        np.testing.assert_array_equal(t.numpy(), before[name])
