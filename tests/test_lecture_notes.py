"""The numbers of five lecture notes on convolutional networks, recomputed: one test a claim.

A test is named by its row in docs/lecture-notes.md: S0 and S4 summarise chapters 14 of "Hands-on
machine learning" and 5 of "Deep learning with Python", S1 a course with five MNIST programs, S2 and
S3 are slide decks. Where a note's number is wrong, the test has the right one and says what the
note has. Here are S0 and S1; ``test_lecture_slides`` has S2, ``test_lecture_networks`` S3 and S4.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from lecture_rows import BARS, count, out_size, shapes, unfilled
from lecture_rows import on_each as on_each  # a fixture that every test here uses

import tinygrad_cnn as tg
from tinygrad_cnn import models, nn
from tinygrad_cnn.data import Compose, DataLoader, ExpandDims, MNISTMini, OneHot, ToFloat
from tinygrad_cnn.geometry import conv_window, same_padding
from tinygrad_cnn.nn import functional as F
from tinygrad_cnn.viz import kernels


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


def test_S0_5_the_notes_layout_transposed() -> None:
    """The note has images [N, H, W, C] and weights [fh, fw, C, F]; here (N, C, H, W), (F, C, …)."""
    rng = np.random.default_rng(0)
    images, weight = rng.normal(size=(2, 6, 7, 3)), rng.normal(size=(3, 2, 3, 4))
    windows = np.lib.stride_tricks.sliding_window_view(images, (3, 2), (1, 2))
    expected = np.einsum("nijcuv,uvcf->nijf", windows, weight)
    x, w = tg.tensor(images).permute(0, 3, 1, 2), tg.tensor(weight).permute(3, 2, 0, 1)
    y = F.conv2d(x, w).permute(0, 2, 3, 1)
    np.testing.assert_allclose(y.numpy(), expected, rtol=1e-12, atol=1e-12)


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


def test_S0_11_average_pooling_beside_max_pooling() -> None:
    x = tg.tensor([[[[1.0, 2.0], [3.0, 10.0]]]])
    assert nn.AvgPool2d(2)(x).item() == 4 and nn.MaxPool2d(2)(x).item() == 10


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


def test_S0_14_convolution_is_a_product_of_fourier_transforms() -> None:
    """Correlation by the theorem: transform, multiply by the conjugate, sum channels, go back."""
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(2, 3, 9, 8)), rng.normal(size=(4, 3, 5, 3))
    size = (9, 8)  # no window leaves the image, so nothing wraps around
    spectra = np.einsum("ncij,ocij->noij", np.fft.rfft2(x), np.fft.rfft2(w, size).conj())
    expected = np.fft.irfft2(spectra, size)[:, :, : 9 - 5 + 1, : 8 - 3 + 1]
    y = F.conv2d(tg.tensor(x), tg.tensor(w)).numpy()
    np.testing.assert_allclose(y, expected, rtol=1e-9, atol=1e-12)


# -- S1: five MNIST programs ---------------------------------------------------------------------
def toy() -> Any:
    return tg.arange(1, 10, dtype=tg.float32).reshape(1, 1, 3, 3)


def test_S1_1_a_filter_of_75_numbers() -> None:
    conv = nn.Conv2d(3, 6, 5)
    assert conv.weight[0].array.size == 75 and count(conv) == 6 * 76
    assert conv(tg.zeros(1, 3, 32, 32)).shape == (1, 6, 28, 28)


def test_S1_2_channels_must_agree() -> None:
    with pytest.raises(ValueError, match=r"conv2d: weight expects 1 input channel but input has 3"):
        nn.Conv2d(1, 6, 5)(tg.zeros(8, 3, 28, 28))


def test_S1_3_one_definition_for_1_2_and_3_dimensions() -> None:
    """A direction in which nothing slides can be left out."""
    x, w, b = tg.randn(2, 3, 9), tg.randn(4, 3, 3), tg.randn(4)
    line = F.conv1d(x, w, b, stride=2, padding=1)
    plane = F.conv2d(x[:, :, None], w[:, :, None], b, stride=(1, 2), padding=(0, 1))
    volume = F.conv3d(
        x[:, :, None, None], w[:, :, None, None], b, stride=(1, 1, 2), padding=(0, 0, 1)
    )
    assert plane.shape == (2, 4, 1, 5) and volume.shape == (2, 4, 1, 1, 5)
    assert tg.allclose(plane[:, :, 0], line, rtol=1e-5, atol=1e-5)
    assert tg.allclose(volume[:, :, 0, 0], line, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({}, (2, 8, 26, 26)),
        ({"out_channels": 5}, (2, 5, 26, 26)),  # filters
        ({"kernel_size": 5}, (2, 8, 24, 24)),
        ({"stride": 2}, (2, 8, 13, 13)),
        ({"padding": "same"}, (2, 8, 28, 28)),
        ({"padding": "same", "stride": 2}, (2, 8, 14, 14)),
    ],
)
def test_S1_4_options_that_change_the_shape(
    options: dict[str, Any], shape: tuple[int, ...]
) -> None:
    layer = nn.Conv2d(**{"in_channels": 1, "out_channels": 8, "kernel_size": 3, **options})
    assert layer(tg.zeros(2, 1, 28, 28)).shape == shape


def test_S1_4_bias_initializers_and_activation() -> None:
    x = tg.ones(1, 2, 3, 3)
    layer, bare = nn.Conv2d(2, 1, 3), nn.Conv2d(2, 1, 3, bias=False)
    for conv in (layer, bare):
        nn.init.constant_(conv.weight, -0.5)
    assert layer.bias is not None and bare.bias is None
    nn.init.constant_(layer.bias, 4.0)
    assert (layer(x).item(), bare(x).item()) == (4 - 9.0, -9.0)
    assert nn.Sequential(layer, nn.ReLU())(x).item() == 0


def test_S1_4_l2_regularizer_is_weight_decay() -> None:
    """λ‖w‖² added to the loss has the gradient 2λw, which weight_decay = 2λ adds by itself."""
    x, penalty = tg.randn(4, 1, 6, 6), 0.03
    written, built_in = nn.Conv2d(1, 2, 3, bias=False), nn.Conv2d(1, 2, 3, bias=False)
    built_in.load_state_dict(written.state_dict())
    before = written.weight.detach().numpy().copy()
    first = tg.optim.SGD(written.parameters(), lr=0.1)
    second = tg.optim.SGD(built_in.parameters(), lr=0.1, weight_decay=2 * penalty)
    loss = (written(x) ** 2).mean() + penalty * (written.weight**2).sum()
    loss.backward()
    (built_in(x) ** 2).mean().backward()
    first.step(), second.step()
    assert tg.allclose(written.weight, built_in.weight, atol=1e-6)
    assert np.abs(written.weight.detach().numpy() - before).min() > 0


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


def test_S1_6_relu_and_its_slope_at_zero() -> None:
    x = tg.tensor([-2.0, -0.0, 0.0, 3.0], requires_grad=True)
    y = x.relu()
    y.sum().backward()
    assert y.tolist() == [0, 0, 0, 3]
    assert x.grad is not None and x.grad.tolist() == [0, 0, 0, 1]


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


def test_S1_13_features_then_classifier() -> None:
    model = models.mnist_cnn().eval()
    x = tg.rand(2, 1, 28, 28)
    assert tg.equal(model.classifier(model.features(x)), model(x))
    kinds = {type(m).__name__ for m in model.features.modules()}
    assert {"Conv2d", "MaxPool2d"} <= kinds and "Linear" not in kinds


def test_S1_14_mnist_cnn() -> None:
    model = unfilled(models.mnist_cnn)
    assert count(model) == 619_786
    assert shapes(model, (1, 28, 28), "MaxPool2d") == [(32, 14, 14), (64, 7, 7), (128, 4, 4)]
    assert [m.p for m in model.modules() if isinstance(m, nn.Dropout)] == [0.4]


def test_S1_15_pipeline_and_one_hot_labels() -> None:
    data, images = MNISTMini(train=False), Compose(ToFloat(), ExpandDims(1))
    x, labels = next(iter(DataLoader(data, 100, transform=images)))
    _, hot = next(iter(DataLoader(data, 100, transform=images, target_transform=OneHot(10))))
    assert (x.shape, labels.shape, hot.shape) == ((100, 1, 28, 28), (100,), (100, 10))
    np.testing.assert_allclose(x.numpy()[:, 0], data.images[:100] / 255, rtol=1e-6)
    np.testing.assert_array_equal(hot.numpy().argmax(1), labels.numpy())
    logits = tg.randn(100, 10, dtype=tg.float64)
    one, other = F.cross_entropy(logits, labels), F.cross_entropy(logits, hot.to("float64"))
    assert one.item() == pytest.approx(other.item(), rel=1e-7)


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


def test_S1_20_three_styles_one_result() -> None:
    x, logits = tg.rand(2, 1, 28, 28), []
    styles = [models.mnist_cnn(style=s).eval() for s in ("sequential", "functional", "subclass")]
    for model in styles:
        with tg.no_grad():
            for source, target in zip(styles[0].parameters(), model.parameters(), strict=True):
                target.copy_(source)
            logits.append(model(x).numpy())
    assert logits[0].tobytes() == logits[1].tobytes() == logits[2].tobytes()


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
