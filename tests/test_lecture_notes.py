"""The numbers of five lecture notes on convolutional networks, recomputed: one test a row.

A test is named by its row: S0 and S4 summarise chapters 14 of "Hands-on machine learning" and 5 of
"Deep learning with Python", S1 a course with five MNIST programs, S2 and S3 are slide decks. Where
a note's number is wrong, the test has the right one and says what the note has.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import tinygrad_cnn as tg
from tinygrad_cnn import models, nn
from tinygrad_cnn.geometry import Window, conv_window, same_padding
from tinygrad_cnn.nn import functional as F
from tinygrad_cnn.viz import kernels


@pytest.fixture(autouse=True)
def on_each(backend: str) -> Any:
    """Every row holds on every backend."""
    tg.manual_seed(0)
    with tg.use_backend(backend):
        yield


def count(model: nn.Module) -> int:
    return sum(p.array.size for p in model.parameters())


def unfilled(builder: Any, *args: Any, **options: Any) -> Any:
    with nn.init.skip():
        return builder(*args, **options)


def shapes(model: nn.Module, shape: tuple[int, ...], *kinds: str) -> list[Any]:
    rows = tg.summary(model, shape, show=False).rows
    return [row.output_shape for row in rows if row.kind in kinds]


def out_size(n: int, f: int, p: int, s: int) -> int:
    return Window((f,), (s,), ((p, p),), (1,)).output((n,))[0]


BARS = np.zeros((2, 1, 15, 15), np.float32)  # a vertical bar, a horizontal one
BARS[0, 0, :, 6:9] = BARS[1, 0, 6:9, :] = 1


# -- S0: convolution, padding, pooling -----------------------------------------------------------
def test_S0_1_receptive_fields_grow() -> None:
    net = nn.Sequential(nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, 3), nn.MaxPool2d(2), nn.Conv2d(1, 1, 3))
    fields = tg.receptive_field(net, (1, 16, 16))
    assert [fields[str(i)].size[0] for i in range(4)] == [3, 5, 6, 10]


@pytest.mark.parametrize(("n", "s"), [(28, 1), (28, 2), (7, 2), (5, 3)])
def test_S0_3_same_padding_keeps_ceil_n_over_s(n: int, s: int) -> None:
    x, w = tg.ones(1, 1, n, n), tg.ones(1, 1, 3, 3)
    for word in ("SAME", "same"):
        assert F.conv2d(x, w, stride=s, padding=word).shape[2:] == (-(-n // s),) * 2
    assert F.conv2d(x, w, padding="VALID").shape[2:] == (n - 2, n - 2)


def test_S0_4_the_formula_as_loops() -> None:
    rng = np.random.default_rng(0)
    x, w, b = rng.normal(size=(1, 2, 6, 5)), rng.normal(size=(3, 2, 3, 2)), rng.normal(size=3)
    z = np.zeros((1, 3, 2, 4))
    for k in range(3):
        for i in range(2):
            for j in range(4):
                z[0, k, i, j] = b[k]
                for u in range(3):
                    for v in range(2):
                        for c in range(2):
                            z[0, k, i, j] += x[0, c, i * 2 + u, j + v] * w[k, c, u, v]
    y = F.conv2d(tg.tensor(x), tg.tensor(w), tg.tensor(b), stride=(2, 1)).numpy()
    np.testing.assert_allclose(y, z, rtol=1e-12, atol=1e-12)


def test_S0_6_line_filters() -> None:
    lines = [kernels.line_filter(7, True), kernels.line_filter(7, False)]
    answers = F.conv2d(tg.tensor(BARS), kernels.filter_weight(lines, 1), padding="same")
    assert answers.shape == (2, 2, 15, 15)
    peak = answers.amax((2, 3)).tolist()
    assert peak == [[7.0, 3.0], [3.0, 7.0]]


def test_S0_7_parameters_of_a_first_layer() -> None:
    assert count(nn.Conv2d(3, 32, 3, padding="same")) == 896


def test_S0_8_parameters_do_not_depend_on_the_image() -> None:
    conv = nn.Conv2d(3, 5, (3, 2))
    assert count(conv) == 3 * 2 * 3 * 5 + 5
    assert conv(tg.zeros(1, 3, 9, 9)).shape != conv(tg.zeros(1, 3, 7, 8)).shape


def test_S0_9_pooling_defaults() -> None:
    assert nn.MaxPool2d((2, 2))(tg.zeros(1, 1, 7, 8)).shape == (1, 1, 3, 4)


def test_S0_12_global_average_pooling() -> None:
    x = tg.randn(2, 3, 4, 5, requires_grad=True)
    y = nn.AdaptiveAvgPool2d(1)(x)
    np.testing.assert_allclose(
        y.detach().numpy()[..., 0, 0], x.detach().numpy().mean((2, 3)), rtol=1e-5, atol=1e-6
    )
    y.sum().backward()
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.numpy(), 1 / 20, rtol=1e-6)


@pytest.mark.parametrize(
    ("n", "f", "p", "s"), [(7, 3, 0, 1), (7, 3, 0, 2), (7, 3, 0, 3), (8, 3, 1, 2)]
)
def test_S0_13_output_size(n: int, f: int, p: int, s: int) -> None:
    wanted = math.floor((n - f + 2 * p) / s) + 1
    assert out_size(n, f, p, s) == wanted
    x = tg.zeros(1, 1, n, n)
    assert F.conv2d(x, tg.zeros(1, 1, f, f), stride=s, padding=p).shape[2] == wanted
    assert F.max_pool2d(x, f, s, p).shape[2] == wanted


# -- S1: five MNIST programs ---------------------------------------------------------------------
def test_S1_1_a_filter_of_75_numbers() -> None:
    conv = nn.Conv2d(3, 6, 5)
    assert conv.weight[0].array.size == 75 and count(conv) == 6 * 76
    assert conv(tg.zeros(1, 3, 32, 32)).shape == (1, 6, 28, 28)


def test_S1_2_channels_must_agree() -> None:
    with pytest.raises(ValueError, match=r"conv2d: weight expects 1 input channel but input has 3"):
        nn.Conv2d(1, 6, 5)(tg.zeros(8, 3, 28, 28))


@pytest.mark.parametrize(
    ("i", "f", "s", "pair"),
    [(28, 3, 1, (1, 1)), (28, 3, 2, (0, 1)), (14, 2, 2, (0, 0)), (7, 2, 2, (0, 1)),
     (5, 4, 1, (1, 2)), (10, 3, 4, (0, 1)), (9, 3, 4, (1, 1)), (6, 1, 2, (0, 0))],
)  # fmt: skip
def test_S1_5_same_padding_table(i: int, f: int, s: int, pair: tuple[int, int]) -> None:
    p = max((math.ceil(i / s) - 1) * s + f - i, 0)
    assert pair == (math.floor(p / 2), math.ceil(p / 2))
    assert same_padding((i,), (f,), (s,), (1,)) == (pair,)
    assert conv_window((i,), (f,), s, "same", 1, "conv").padding == (pair,)


def toy() -> Any:
    return tg.arange(1, 10, dtype=tg.float32).reshape(1, 1, 3, 3)


def test_S1_7_toy_image_valid() -> None:
    y = F.conv2d(toy(), tg.ones(1, 1, 2, 2))
    assert y.tolist() == [[[[12, 16], [24, 28]]]]


def test_S1_8_toy_image_same() -> None:
    y = F.conv2d(toy(), tg.ones(1, 1, 2, 2), padding="same")
    assert y.tolist() == [[[[12, 16, 9], [24, 28, 15], [15, 17, 9]]]]


def test_S1_9_three_filters() -> None:
    weight = tg.tensor([1.0, 10.0, -1.0]).reshape(3, 1, 1, 1) * tg.ones(3, 1, 2, 2)
    y = F.conv2d(toy(), weight, padding="same").numpy()
    one = np.array([[12, 16, 9], [24, 28, 15], [15, 17, 9]])
    np.testing.assert_array_equal(y[0], np.stack([one, 10 * one, -one]))


def test_S1_10_pooling_tables() -> None:
    x = tg.arange(16, dtype=tg.float32).reshape(1, 1, 4, 4)
    assert F.max_pool2d(x, 2).tolist() == [[[[5, 7], [13, 15]]]]
    assert F.avg_pool2d(x, 2).tolist() == [[[[2.5, 4.5], [10.5, 12.5]]]]


def test_S1_11_pooling_with_same() -> None:
    x = tg.tensor([[[[4.0, 3.0], [2.0, 1.0]]]])
    assert F.max_pool2d(x, 2, 1).tolist() == [[[[4]]]]
    padded = F.pad(x, (0, 1, 0, 1), value=-math.inf)  # SAME: the odd cell at the end
    assert F.max_pool2d(padded, 2, 1).tolist() == [[[[4, 3], [2, 1]]]]


def test_S1_12_stride_two() -> None:
    y = nn.Conv2d(1, 5, 3, stride=2, padding="same")(tg.zeros(1, 1, 28, 28))
    assert y.shape == (1, 5, 14, 14) and nn.MaxPool2d(2)(y).shape == (1, 5, 7, 7)


def test_S1_14_mnist_cnn() -> None:
    model = unfilled(models.mnist_cnn)
    assert count(model) == 619_786
    assert shapes(model, (1, 28, 28), "MaxPool2d") == [(32, 14, 14), (64, 7, 7), (128, 4, 4)]
    assert [m.p for m in model.modules() if isinstance(m, nn.Dropout)] == [0.4]


def test_S1_18_shared_layers_count_once() -> None:
    x = nn.Input(4)
    layer = nn.Linear(4, 4)
    model = nn.Model(x, [layer(layer(x)), layer(x) + x])
    assert count(model) == 20 and len(model(tg.zeros(2, 4))) == 2


def test_S1_19_residual_block_has_one_addition() -> None:
    x = nn.Input((2, 5, 5))
    block = nn.Model(x, nn.Conv2d(2, 2, 3, padding=1)(x) + x)
    names = [name for name, _ in block.named_children()]
    assert names == ["conv2d", "add"]
    tg.gradcheck(block.double(), [tg.randn(1, 2, 5, 5, dtype=tg.float64, requires_grad=True)])


def test_S1_21_ensemble() -> None:
    members = [nn.Linear(3, 2) for _ in range(3)]
    x = tg.randn(4, 3)
    total = members[0](x) + members[1](x) + members[2](x)
    assert tg.equal(models.Ensemble(members)(x), total)


def test_S1_24_batch_norm_variant() -> None:
    found = tg.summary(unfilled(models.mnist_cnn, batch_norm=True), (1, 28, 28), show=False)
    assert found.trainable == 620_746
    assert found.parameters + found.buffers == 621_706  # Keras counts running statistics too


def test_S1_25_learning_rate_halves_every_five_epochs() -> None:
    optimizer = tg.optim.SGD([nn.Parameter(tg.zeros(1))], lr=0.001)
    scheduler = tg.optim.lr_scheduler.StepLR(optimizer, 5, 0.5)
    rates = []
    for _ in range(15):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates == [0.001] * 5 + [0.0005] * 5 + [0.00025] * 5


# -- S2: theory and architectures ----------------------------------------------------------------
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


def test_S2_18_volumes() -> None:
    assert nn.Conv3d(3, 4, 3)(tg.zeros(1, 3, 5, 6, 7)).shape == (1, 4, 3, 4, 5)
    assert nn.MaxPool3d(2)(tg.zeros(1, 3, 4, 6, 8)).shape == (1, 3, 2, 3, 4)


def test_S2_19_pooling_has_no_parameters() -> None:
    assert count(nn.MaxPool2d(2)) == count(nn.AvgPool2d(2)) == 0
    assert nn.MaxPool2d(2)(tg.zeros(1, 7, 4, 4)).shape[1] == 7


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
