"""Lecture notes S2, recomputed: theory, architectures, generative models.

A test is named by its row in docs/lecture-notes.md; see ``test_lecture_notes``.
"""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lecture_rows import BARS, count, load, out_size, shapes, unfilled
from lecture_rows import on_each as on_each  # a fixture that every test here uses

import tinygrad_cnn as tg
from tinygrad_cnn import models, nn
from tinygrad_cnn.data import MNISTMini, Subset
from tinygrad_cnn.geometry import Window
from tinygrad_cnn.nn import functional as F
from tinygrad_cnn.viz import kernels


def test_S2_1_kernels_by_hand_random_and_learned(
    backend: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = load("fixed_kernels")
    some = Subset(MNISTMini(train=False), range(40))
    monkeypatch.setattr(module, "load_dataset", lambda *_: some)
    hand = np.stack(list(module.kernels.KERNELS.values()))
    np.testing.assert_array_equal(module.network("by hand")[0].weight.numpy()[:, 0], hand)
    config = module.Settings(
        backend=backend, seeds=1, epochs=1, batch_size=20, steps=2, out=str(tmp_path)
    )
    before = tg.get_backend().name
    try:
        module.main(config)
    finally:
        tg.set_backend(before)
    rows = capsys.readouterr().out.splitlines()[-3:]
    assert [row.split("(")[1].split()[0] for row in rows] == ["4,420", "4,420", "4,510"]
    for name, learns in (("by-hand", False), ("random", False), ("learned", True)):
        saved = tg.load(tmp_path / f"{name}-0" / "checkpoint.safetensors")["model"]["0.weight"]
        tg.manual_seed(0)
        start = module.network(name.replace("-", " "))[0].weight.detach()
        assert tg.equal(saved, start) is not learns


def test_S2_4_convolution_is_a_sparse_matrix() -> None:
    conv = nn.Conv2d(1, 1, 3, bias=False)
    basis = tg.eye(36).reshape(36, 1, 6, 6)
    matrix = conv(basis).reshape(36, 16).t().detach().numpy()  # column i is the answer to cell i
    x = tg.arange(36, dtype=tg.float32).reshape(1, 1, 6, 6)
    np.testing.assert_allclose(matrix @ np.arange(36), conv(x).detach().numpy().ravel(), rtol=1e-5)
    assert (matrix == 0).mean() == 1 - 9 / 36
    assert len(np.unique(matrix[matrix != 0])) == 9  # 16·9 connections share 9 weights


def test_S2_5_kernels() -> None:
    found = kernels.KERNELS
    expected = {
        "identity": [[0, 0, 0], [0, 1, 0], [0, 0, 0]],
        "diagonal edge": [[1, 0, -1], [0, 0, 0], [-1, 0, 1]],
        "laplacian": [[0, 1, 0], [1, -4, 1], [0, 1, 0]],
        "outline": [[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]],
        "sharpen": [[0, -1, 0], [-1, 5, -1], [0, -1, 0]],
    }
    assert {name: found[name].tolist() for name in expected} == expected
    np.testing.assert_array_equal(found["box blur"], np.full((3, 3), 1 / 9, np.float32))
    np.testing.assert_array_equal(found["gaussian blur"] * 16, [[1, 2, 1], [2, 4, 2], [1, 2, 1]])
    for name in ("diagonal edge", "laplacian", "outline"):
        assert found[name].sum() == 0
    for name in ("identity", "sharpen", "box blur", "gaussian blur"):
        assert found[name].sum() == pytest.approx(1, abs=1e-6)
    x = tg.randn(1, 1, 6, 7)
    weight = kernels.filter_weight([kernels.identity], 1)
    assert tg.allclose(F.conv2d(x, weight, padding=1), x, atol=1e-6)


def test_S2_6_edge_kernels_answer_to_their_direction() -> None:
    pair = kernels.filter_weight([kernels.vertical_edge, kernels.horizontal_edge], 1)
    answers = F.conv2d(tg.tensor(BARS), pair).abs().amax((2, 3)).numpy()
    np.testing.assert_allclose(answers, [[3, 0], [0, 3]], atol=1e-5)


def test_S2_7_correlation_and_convolution() -> None:
    """Layers slide the kernel as it is; true convolution slides it turned around."""
    x, k = np.arange(6.0), np.array([1.0, 2.0, 4.0])
    y = F.conv1d(tg.tensor(x).reshape(1, 1, 6), tg.tensor(k).reshape(1, 1, 3)).numpy()[0, 0]
    np.testing.assert_allclose(y, np.correlate(x, k, "valid"), rtol=1e-12)
    np.testing.assert_allclose(y, np.convolve(x, k[::-1], "valid"), rtol=1e-12)


def test_S2_8_copy_padding() -> None:
    conv = nn.Conv2d(1, 1, 3, padding=1, padding_mode="replicate", bias=False)
    with tg.no_grad():
        conv.weight.fill_(1.0)
    x = tg.arange(4, dtype=tg.float32).reshape(1, 1, 2, 2)
    expected = [np.pad([[0, 1], [2, 3]], 1, "edge")[i : i + 3, j : j + 3].sum()
                for i in (0, 1) for j in (0, 1)]  # fmt: skip
    assert conv(x).reshape(4).tolist() == expected


def test_S2_9_a_kernel_of_three_weights() -> None:
    assert count(nn.Conv1d(1, 1, 3, bias=False)) == 3


@pytest.mark.parametrize("maps", [3, 64, 512])
def test_S2_10_a_map_a_kernel(maps: int) -> None:
    assert nn.Conv2d(1, maps, 3)(tg.zeros(1, 1, 5, 5)).shape == (1, maps, 3, 3)


def test_S2_11_3200_parameters() -> None:
    assert count(nn.Conv2d(1, 64, 7)) == (7 * 7 + 1) * 64 == 3200


def test_S2_12_equivariance() -> None:
    conv = nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular")
    x = tg.randn(1, 1, 8, 8)
    shifted = conv(tg.roll(x, (2, 3), (2, 3)))
    assert tg.allclose(shifted, tg.roll(conv(x), (2, 3), (2, 3)), atol=1e-5)
    strided = nn.Conv2d(1, 2, 3, stride=2, padding=1, padding_mode="circular")
    by_two = tg.roll(strided(x), 1, 2)
    assert tg.allclose(strided(tg.roll(x, 2, 2)), by_two, atol=1e-5)
    assert not tg.allclose(strided(tg.roll(x, 1, 2)), by_two, atol=1e-2)


def test_S2_14_stride_samples_the_dense_answer() -> None:
    x, w = tg.randn(1, 2, 11, 11), tg.randn(3, 2, 3, 3)
    dense = F.conv2d(x, w)[:, :, ::3, ::3]
    assert tg.allclose(F.conv2d(x, w, stride=3), dense, rtol=1e-4, atol=1e-5)


def test_S2_15_weighted_average_pooling_is_a_depthwise_convolution() -> None:
    x = tg.randn(2, 3, 6, 6)
    weight = tg.full((3, 1, 2, 2), 0.25)
    pooled = F.conv2d(x, weight, stride=2, groups=3)
    assert tg.allclose(pooled, F.avg_pool2d(x, 2), atol=1e-6)


def test_S2_16_examples() -> None:
    assert (out_size(5, 3, 1, 2), out_size(6, 3, 1, 2)) == (3, 3)


def test_S2_16_as_many_outputs_as_positions_of_the_window() -> None:
    for w, f, p, s in itertools.product(range(1, 8), range(1, 5), range(3), range(1, 4)):
        positions = len(range(0, w + 2 * p - f + 1, s))
        if positions:
            assert Window((f,), (s,), ((p, p),), (1,)).output((w,)) == (positions,)
            assert positions == (w - f + 2 * p) // s + 1


def test_S2_17_three_channels_make_nine() -> None:
    """The slide's matrices R, G, B and c1, c2, c3: 3 + 6 + 0."""
    patch = [[[0, 0, 0], [0, 1, 1], [0, 2, 1]],
             [[0, 0, 0], [0, 2, 2], [0, 1, 0]],
             [[0, 0, 0], [0, 0, 3], [0, 1, 0]]]  # fmt: skip
    kernel = [[[0, 0, 0], [0, 0, 1], [0, 1, 0]],
              [[0, 2, 0], [0, 2, 0], [0, 2, 0]],
              [[1, 0, 0], [0, 2, 0], [0, 0, 1]]]  # fmt: skip
    x, w = tg.tensor([patch], dtype=tg.float32), tg.tensor([kernel], dtype=tg.float32)
    assert F.conv2d(x, w).item() == 9
    one_by_one = F.conv2d(x, w.permute(1, 0, 2, 3), groups=3)
    assert one_by_one.reshape(3).tolist() == [3, 6, 0]


def test_S2_18_volumes() -> None:
    assert nn.Conv3d(3, 4, 3)(tg.zeros(1, 3, 5, 6, 7)).shape == (1, 4, 3, 4, 5)
    assert nn.MaxPool3d(2)(tg.zeros(1, 3, 4, 6, 8)).shape == (1, 3, 2, 3, 4)


def test_S2_18_derivatives_in_volumes() -> None:
    x = tg.randn(1, 2, 3, 4, 3, dtype=tg.float64, requires_grad=True)
    w = tg.randn(2, 2, 2, 2, 2, dtype=tg.float64, requires_grad=True)
    assert tg.gradcheck(lambda x, w: F.conv3d(x, w, padding=1), (x, w))
    assert tg.gradcheck(lambda x: F.max_pool3d(x, 2), (x,))
    assert tg.gradcheck(lambda x: F.avg_pool3d(x, 2, 1), (x,))


def test_S2_19_pooling_has_no_parameters() -> None:
    assert count(nn.MaxPool2d(2)) == count(nn.AvgPool2d(2)) == 0
    assert nn.MaxPool2d(2)(tg.zeros(1, 7, 4, 4)).shape[1] == 7


def test_S2_20_a_block_is_a_unit() -> None:
    def block(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))

    net = nn.Sequential(block(1, 4), block(4, 8))
    rows = [r for r in tg.summary(net, (1, 8, 8), show=False).rows if r.kind != "ReLU"]
    assert [(r.name, r.kind, r.output_shape, r.activation) for r in rows] == [
        ("0.0", "Conv2d", (4, 8, 8), "relu"), ("0.2", "MaxPool2d", (4, 4, 4), ""),
        ("1.0", "Conv2d", (8, 4, 4), "relu"), ("1.2", "MaxPool2d", (8, 2, 2), ""),
    ]  # fmt: skip


def test_S2_21_lenet_makes_120_features() -> None:
    net = unfilled(models.lenet5, image_size=28)
    assert net[:9](tg.zeros(2, 1, 28, 28)).shape == (2, 120)


def test_S2_22_any_image_size() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(36, 2))
    assert net(tg.zeros(1, 1, 28, 28)).shape == net(tg.zeros(1, 1, 40, 56)).shape == (1, 2)


def test_S2_24_alexnet_nodes() -> None:
    """The slide lists 64,896 once; two layers have that many."""
    net = unfilled(models.alexnet)
    nodes = [math.prod(s) for s in shapes(net, (3, 227, 227), "Conv2d", "Linear")]
    assert nodes == [290_400, 186_624, 64_896, 64_896, 43_264, 4096, 4096, 1000]


def test_S2_25_alexnet_parameters() -> None:
    """The slide has 2 M in convolutions, 65 M in dense layers, 30 times as many."""
    for groups, convolutions in ((2, 2_334_080), (1, 3_747_200)):
        net = unfilled(models.alexnet, groups=groups)
        assert (count(net.features), count(net.classifier)) == (convolutions, 58_631_144)
        assert round(count(net.classifier) / count(net.features)) == (25 if groups == 2 else 16)


def test_S2_26_local_response_norm() -> None:
    x = tg.rand(1, 6, 2, 2)
    y = nn.LocalResponseNorm(5, alpha=5e-4, k=2.0)(x).numpy()[0, :, 0, 0]
    a = x.numpy()[0, :, 0, 0].astype(np.float64)
    sums = [(a[max(c - 2, 0) : c + 3] ** 2).sum() for c in range(6)]
    np.testing.assert_allclose(y, a / (2 + 1e-4 * np.array(sums)) ** 0.75, rtol=1e-5)


def test_S2_27_vgg_layers() -> None:
    for depth, convolutions in ((11, 8), (13, 10), (16, 13), (19, 16)):
        net = unfilled(getattr(models, f"vgg{depth}"))
        kinds = [type(m) for m in net.modules()]
        assert (kinds.count(nn.Conv2d), kinds.count(nn.Linear)) == (convolutions, 3)


def test_S2_28_one_by_one_is_a_matrix_product() -> None:
    x, w = tg.randn(1, 8, 5, 6), tg.randn(4, 8, 1, 1)
    y = F.conv2d(x, w)
    expected = np.einsum("oc,nchw->nohw", w.numpy()[:, :, 0, 0], x.numpy())
    assert y.shape == (1, 4, 5, 6)
    np.testing.assert_allclose(y.numpy(), expected, rtol=1e-4, atol=1e-5)


def test_S2_29_share_of_dense_layers_in_vgg() -> None:
    """The slide has 122 M and 85 %."""
    for depth, share in ((16, 89), (19, 86)):
        net = unfilled(getattr(models, f"vgg{depth}"))
        assert count(net.classifier) == 123_642_856
        assert round(100 * count(net.classifier) / count(net)) == share
    assert count(unfilled(models.nin).classifier) == 0


def test_S2_30_googlenet() -> None:
    net = unfilled(models.googlenet, aux_logits=False)
    assert sum(type(m).__name__ == "Inception" for m in net.modules()) == 9
    assert count(net.fc) == 1_025_000
    vgg = unfilled(models.vgg16)
    assert round(100 * count(net.fc) / count(vgg.classifier), 2) == 0.83
    assert count(net) == 6_998_552


def test_S2_31_a_chain_of_1202_residual_additions() -> None:
    x = tg.ones(1, requires_grad=True)
    y = x
    for _ in range(1202):
        y = y + (y * 0.0).relu()
    y.backward()
    assert x.grad is not None and x.grad.item() == 1.0  # the 1 of 1 + ∂F


def test_S2_32_resnet34() -> None:
    assert count(unfilled(models.resnet34)) == 21_797_672


def test_S2_33_sampling_by_the_distribution_function() -> None:
    points, chances = [(0, 0), (0, 1), (1, 0), (1, 1)], tg.tensor([0.2, 0.3, 0.1, 0.4])
    steps = chances.cumsum(0).numpy()
    assert [points[int((steps < draw).sum())] for draw in (0.34, 0.83)] == [(0, 1), (1, 1)]


def test_S2_33_tables_of_ten_points() -> None:
    """P(x), P(y), P(x, y), P(x|y) and P(y|x) of the slide's example, counted by tensors."""
    x = tg.tensor([0, 0, 1, 1, 1, 2, 3, 3, 3, 3])  # (0,0), (0,1), (1,0), (1,1)
    y = tg.tensor([1, 1, 1, 0, 1, 0, 0, 0, 0, 1])
    joint = F.one_hot(x, 4).float().T @ F.one_hot(y, 2).float() / 10
    p_x, p_y = joint.sum(1, keepdim=True), joint.sum(0, keepdim=True)

    def rounded(t: tg.Tensor) -> list[Any]:
        return np.round(t.numpy().astype(np.float64), 2).tolist()

    assert rounded(p_x) == [[0.2], [0.3], [0.1], [0.4]]
    assert rounded(joint) == [[0.0, 0.2], [0.1, 0.2], [0.1, 0.0], [0.3, 0.1]]
    assert rounded(joint / p_y) == [[0.0, 0.4], [0.2, 0.4], [0.2, 0.0], [0.6, 0.2]]
    assert rounded(joint / p_x) == [[0.0, 1.0], [0.33, 0.67], [1.0, 0.0], [0.75, 0.25]]


def test_S2_36_gan_losses() -> None:
    real, fake = tg.tensor([0.999]), tg.tensor([0.001])
    gain = -(F.binary_cross_entropy(real, tg.ones(1)) + F.binary_cross_entropy(fake, tg.zeros(1)))
    assert gain.item() == pytest.approx(-0.0020010, abs=1e-7)


def test_S2_39_dcgan() -> None:
    images = models.dcgan_generator(64, width=2, latent=4).eval()(tg.randn(2, 4))
    assert images.shape == (2, 3, 64, 64)
    x, w, y = tg.randn(1, 2, 5, 5), tg.randn(3, 2, 3, 3), tg.randn(1, 3, 3, 3)
    left = (F.conv2d(x, w, stride=2, padding=1) * y).sum().item()
    right = (x * F.conv_transpose2d(y, w, stride=2, padding=1)).sum().item()
    assert left == pytest.approx(right, rel=1e-4)
