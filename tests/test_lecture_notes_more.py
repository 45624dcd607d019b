"""More rows of the lecture notes, named as in ``test_lecture_notes``: layers' options, layouts,
steps of training."""

from __future__ import annotations

import importlib.util
import itertools
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import tinygrad_cnn as tg
from tinygrad_cnn import models, nn
from tinygrad_cnn.data import Compose, DataLoader, ExpandDims, MNISTMini, OneHot, ToFloat
from tinygrad_cnn.geometry import Window
from tinygrad_cnn.nn import functional as F

DEMOS = Path(__file__).resolve().parents[1] / "demos"


@pytest.fixture(autouse=True)
def on_each(backend: str) -> Any:
    """Every row holds on every backend."""
    tg.manual_seed(0)
    with tg.use_backend(backend):
        yield


# -- S0 ------------------------------------------------------------------------------------------
def test_S0_5_the_notes_layout_transposed() -> None:
    """The note has images [N, H, W, C] and weights [fh, fw, C, F]; here (N, C, H, W), (F, C, …)."""
    rng = np.random.default_rng(0)
    images, weight = rng.normal(size=(2, 6, 7, 3)), rng.normal(size=(3, 2, 3, 4))
    windows = np.lib.stride_tricks.sliding_window_view(images, (3, 2), (1, 2))
    expected = np.einsum("nijcuv,uvcf->nijf", windows, weight)
    x, w = tg.tensor(images).permute(0, 3, 1, 2), tg.tensor(weight).permute(3, 2, 0, 1)
    y = F.conv2d(x, w).permute(0, 2, 3, 1)
    np.testing.assert_allclose(y.numpy(), expected, rtol=1e-12, atol=1e-12)


def test_S0_11_average_pooling_beside_max_pooling() -> None:
    x = tg.tensor([[[[1.0, 2.0], [3.0, 10.0]]]])
    assert nn.AvgPool2d(2)(x).item() == 4 and nn.MaxPool2d(2)(x).item() == 10


def test_S0_14_convolution_is_a_product_of_fourier_transforms() -> None:
    """Correlation by the theorem: transform, multiply by the conjugate, sum channels, go back."""
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(2, 3, 9, 8)), rng.normal(size=(4, 3, 5, 3))
    size = (9, 8)  # no window leaves the image, so nothing wraps around
    spectra = np.einsum("ncij,ocij->noij", np.fft.rfft2(x), np.fft.rfft2(w, size).conj())
    expected = np.fft.irfft2(spectra, size)[:, :, : 9 - 5 + 1, : 8 - 3 + 1]
    y = F.conv2d(tg.tensor(x), tg.tensor(w)).numpy()
    np.testing.assert_allclose(y, expected, rtol=1e-9, atol=1e-12)


# -- S1 ------------------------------------------------------------------------------------------
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


def test_S1_6_relu_and_its_slope_at_zero() -> None:
    x = tg.tensor([-2.0, -0.0, 0.0, 3.0], requires_grad=True)
    y = x.relu()
    y.sum().backward()
    assert y.tolist() == [0, 0, 0, 3]
    assert x.grad is not None and x.grad.tolist() == [0, 0, 0, 1]


def test_S1_13_features_then_classifier() -> None:
    model = models.mnist_cnn().eval()
    x = tg.rand(2, 1, 28, 28)
    assert tg.equal(model.classifier(model.features(x)), model(x))
    kinds = {type(m).__name__ for m in model.features.modules()}
    assert {"Conv2d", "MaxPool2d"} <= kinds and "Linear" not in kinds


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


def test_S1_20_three_styles_one_result() -> None:
    x, logits = tg.rand(2, 1, 28, 28), []
    styles = [models.mnist_cnn(style=s).eval() for s in ("sequential", "functional", "subclass")]
    for model in styles:
        with tg.no_grad():
            for source, target in zip(styles[0].parameters(), model.parameters(), strict=True):
                target.copy_(source)
            logits.append(model(x).numpy())
    assert logits[0].tobytes() == logits[1].tobytes() == logits[2].tobytes()


# -- S2 ------------------------------------------------------------------------------------------
def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"notes_{name}", DEMOS / f"{name}.py")
    assert spec and spec.loader
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_S2_1_kernels_by_hand_random_and_learned(
    backend: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = load("fixed_kernels")
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


def test_S2_16_as_many_outputs_as_positions_of_the_window() -> None:
    for w, f, p, s in itertools.product(range(1, 8), range(1, 5), range(3), range(1, 4)):
        positions = len(range(0, w + 2 * p - f + 1, s))
        if positions:
            assert Window((f,), (s,), ((p, p),), (1,)).output((w,)) == (positions,)
            assert positions == (w - f + 2 * p) // s + 1


def test_S2_18_derivatives_in_volumes() -> None:
    x = tg.randn(1, 2, 3, 4, 3, dtype=tg.float64, requires_grad=True)
    w = tg.randn(2, 2, 2, 2, 2, dtype=tg.float64, requires_grad=True)
    assert tg.gradcheck(lambda x, w: F.conv3d(x, w, padding=1), (x, w))
    assert tg.gradcheck(lambda x: F.max_pool3d(x, 2), (x,))
    assert tg.gradcheck(lambda x: F.avg_pool3d(x, 2, 1), (x,))


def test_S2_20_a_block_is_a_unit() -> None:
    def block(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))

    net = nn.Sequential(block(1, 4), block(4, 8))
    rows = [r for r in tg.summary(net, (1, 8, 8), show=False).rows if r.kind != "ReLU"]
    assert [(r.name, r.kind, r.output_shape, r.activation) for r in rows] == [
        ("0.0", "Conv2d", (4, 8, 8), "relu"), ("0.2", "MaxPool2d", (4, 4, 4), ""),
        ("1.0", "Conv2d", (8, 4, 4), "relu"), ("1.2", "MaxPool2d", (8, 2, 2), ""),
    ]  # fmt: skip


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


# -- S3 ------------------------------------------------------------------------------------------
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


# -- S4 ------------------------------------------------------------------------------------------
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
