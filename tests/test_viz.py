"""Pictures: the numbers behind them, and that files of the right size with content appear.

Tests named after a row (S…) of the lecture notes check what that row asks for.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinygrad_cnn as tg
from tinygrad_cnn import models, nn, optim, viz
from tinygrad_cnn.data import load_dataset
from tinygrad_cnn.nn import functional as F
from tinygrad_cnn.viz import kernels
from tinygrad_cnn.viz.canvas import tiles

Array = np.ndarray[Any, np.dtype[Any]]
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def on_each(backend: str) -> Iterator[None]:
    tg.manual_seed(0)
    with tg.use_backend(backend):
        yield


def pixels(path: Path) -> Array:
    """The picture in a file, after checking that it shows anything at all."""
    from matplotlib.image import imread

    image = imread(path)
    assert image.ndim == 3 and image[..., :3].std() > 0.01
    return image


def digits(count: int) -> tuple[Array, Array]:
    """Normalised test images (N, 1, 28, 28) of all classes, and their labels."""
    data = load_dataset("mnist-mini", False)
    every = len(data) // count
    images = (data.images[::every] / 255 - 0.1307) / 0.3081
    return images[:count, None].astype(np.float32), data.labels[::every][:count]


BARS = np.zeros((2, 15, 15, 3), np.float32)  # a vertical bar, a horizontal one
BARS[0, :, 6:9] = BARS[1, 6:9] = 1


# -- kernels on photographs ------------------------------------------------------------------------
def test_S0_6_lines_over_two_photographs(tmp_path: Path) -> None:
    photos = {"vertical bar": BARS[0], "horizontal bar": BARS[1]}
    found = viz.line_answers(photos, tmp_path / "lines.png")
    peaks = [[float(m.max()) for m in found[name]] for name in photos]
    assert peaks == [[21.0, 9.0], [9.0, 21.0]]  # 7 or 3 cells of the line, 3 channels
    assert found["vertical bar"].shape == (2, 15, 15)  # stride 1, SAME
    pixels(tmp_path / "lines.png")


def slid(image: Array, kernel: Array) -> Array:
    """The answer of a kernel, SAME padding, cell by cell."""
    before = kernel.shape[0] // 2
    wide = np.pad(image, ((before, before), (before, before), (0, 0)))
    answer = np.zeros_like(image)
    for i in range(image.shape[0]):
        for j in range(image.shape[1]):
            for u in range(kernel.shape[0]):
                for v in range(kernel.shape[1]):
                    answer[i, j] += kernel[u, v] * wide[i + u, j + v]
    return answer


def test_S2_5_every_kernel_over_a_drawn_scene(tmp_path: Path) -> None:
    scenes = viz.drawn_scenes(12, 18)
    assert {scene.shape for scene in scenes.values()} == {(12, 18, 3)}
    found = viz.filtered_photographs(scenes, tmp_path / "kernels.png")
    for name, scene in scenes.items():
        assert 0 <= scene.min() and scene.max() <= 1 and scene.std() > 0.1
        for title, kernel in kernels.KERNELS.items():
            np.testing.assert_allclose(found[name][title], slid(scene, kernel), atol=1e-5)
        np.testing.assert_array_equal(found[name]["identity"], scene)
    assert pixels(tmp_path / "kernels.png").shape[1] == round(1.9 * 5 * 110)


def test_S2_6_edges_answer_to_their_direction() -> None:
    answers = [
        [np.abs(viz.apply_kernel(bar, k)[1:-1, 1:-1]).max() for bar in BARS]
        for k in (kernels.vertical_edge, kernels.horizontal_edge)
    ]
    np.testing.assert_allclose(answers, [[3, 0], [0, 3]], atol=1e-5)


# -- shifts ----------------------------------------------------------------------------------------
def shift_left(images: Array, pixels: int) -> Array:
    moved = np.full_like(images, images.min())
    moved[..., :-pixels] = images[..., pixels:]
    return moved


def test_S2_2_inputs_that_change_when_a_digit_moves() -> None:
    """The note's digit changes 77 inputs each way; as many cells lose ink as get it."""
    ink = load_dataset("mnist-mini", False).images[:100] > 127
    moved = shift_left(ink, 2)
    to_ink, to_paper = (moved & ~ink).sum((1, 2)), (ink & ~moved).sum((1, 2))
    np.testing.assert_array_equal(to_ink, to_paper)
    assert 30 < (to_ink + to_paper).mean() < 154 and (to_ink + to_paper).min() > 0


def test_S0_10_pooling_makes_the_logits_change_less() -> None:
    """A shift of one pixel, beside how much the logits of different digits differ.

    The same weights with max pooling, average pooling, and every second cell instead of pooling.
    """
    x, _ = digits(50)
    lenet = models.lenet5(image_size=28)
    halve: dict[str, Callable[[tg.Tensor], tg.Tensor]] = {
        "max": lambda t: F.max_pool2d(t, 2),
        "average": lambda t: F.avg_pool2d(t, 2),
        "none": lambda t: t[:, :, ::2, ::2],
    }

    def change(pool: Callable[[tg.Tensor], tg.Tensor]) -> float:
        def logits(images: Array) -> Array:
            with tg.no_grad():
                h = pool(F.relu(lenet.c1(tg.tensor(images))))
                return lenet[6:](pool(F.relu(lenet.c3(h)))).numpy()

        before = logits(x)
        moved = np.linalg.norm(logits(shift_left(x, 1)) - before, axis=1).mean()
        return float(moved / np.linalg.norm(before - before.mean(0), axis=1).mean())

    found = {name: change(pool) for name, pool in halve.items()}
    assert found["max"] < 0.95 * found["none"]
    assert found["average"] < 0.95 * found["none"]


# -- weights ---------------------------------------------------------------------------------------
def test_S2_4_a_convolution_is_a_toeplitz_matrix(tmp_path: Path) -> None:
    conv = nn.Conv2d(2, 3, 3, padding=1, stride=2)
    with tg.no_grad():  # whole numbers: sums are exact in any order
        for p in conv.parameters():
            p.copy_((10 * tg.randn(*p.shape)).round() + 0.5 * (p == 0))
    found = viz.conv_matrix(conv, (2, 6, 7), tmp_path / "matrix.png")
    x = tg.randint(-9, 10, (1, 2, 6, 7)).to(tg.float32)
    with tg.no_grad():
        wanted = (conv(x) - conv.bias.reshape(1, 3, 1, 1)).reshape(-1).numpy()
    np.testing.assert_array_equal(found.matrix @ x.reshape(-1).numpy(), wanted)
    assert found.matrix.shape == (3 * 3 * 4, 2 * 6 * 7) and found.weights == 54
    pixels(tmp_path / "matrix.png")


def test_S2_4_share_of_zeros() -> None:
    one = viz.conv_matrix(nn.Conv2d(1, 1, 3, bias=False), (1, 8, 8))
    assert one.zeros == 1 - 9 / 64  # each of 36 outputs sees 9 of 64 inputs
    assert len(np.unique(one.matrix[one.matrix != 0])) == 9


def test_S3_11_grey_and_colour_filters(tmp_path: Path) -> None:
    weight = np.zeros((4, 3, 3, 3))
    weight[0] = np.arange(9).reshape(3, 3)  # the same in all channels
    weight[1, 0], weight[1, 1] = 1, -1  # red against green
    weight[2, 0] = 1  # red alone: a third of it is brightness
    np.testing.assert_allclose(viz.colourfulness(weight), [0, 1, 2 / 3, 0], atol=1e-12)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    with tg.no_grad():
        net[0].weight.copy_(tg.tensor(weight, dtype=tg.float32))
    found = viz.filters(net, tmp_path / "filters.png")
    np.testing.assert_allclose(found, [0, 1, 2 / 3, 0], atol=1e-6)
    pixels(tmp_path / "filters.png")
    with pytest.raises(ValueError, match="Conv2d"):
        viz.filters(nn.Linear(2, 2), tmp_path / "none.png")


# -- maps ------------------------------------------------------------------------------------------
def test_S4_16_a_picture_and_the_dead_share_for_every_layer(tmp_path: Path) -> None:
    lenet = models.lenet5(image_size=28).train()
    x, _ = digits(10)
    rows = viz.activations(lenet, x, tmp_path)
    with tg.no_grad():
        h, wanted = tg.tensor(x), []
        for layer in lenet[:6]:
            h = layer(h)
            if not isinstance(layer, nn.Conv2d):  # what ReLU makes of it, and the pooled
                wanted.append(h.numpy())
    assert [row.name for row in rows] == ["c1", "s2", "c3", "s4"]
    for row, maps in zip(rows, wanted, strict=True):
        np.testing.assert_allclose(row.maps, maps, atol=1e-5)
        dead = np.array([[maps[n, k].max() <= 0 for k in range(maps.shape[1])] for n in range(10)])
        assert row.dead == pytest.approx(dead.mean())
        assert row.never == pytest.approx(dead.all(0).mean())
        assert row.positive == pytest.approx((maps > 0).mean())
        pixels(row.path)
    assert lenet.training and lenet.c1.training  # as before
    assert lenet.c1._hooks is None or not lenet.c1._hooks.after


def test_S4_16_planted_dead_maps_are_counted(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    with tg.no_grad():
        net[1].weight.fill_(0.0)
        net[1].bias.copy_(tg.tensor([1.0, -1.0, -1.0, -1.0]))
    (row,) = viz.activations(net, np.ones((2, 1, 8, 8), np.float32), tmp_path)
    assert (row.dead, row.never, row.positive) == (0.75, 0.75, 0.25)
    with pytest.raises(ValueError, match="convolution or pooling"):
        viz.activations(nn.Linear(2, 2), np.ones((1, 2), np.float32), tmp_path)


@pytest.mark.parametrize(("layer", "channel"), [("c1", 1), ("c3", 5), ("output", 3)])
def test_S4_17_the_activation_rises_at_every_logged_step(layer: str, channel: int) -> None:
    lenet = models.lenet5(image_size=28)
    options: Any = {"steps": 12, "log_every": 3, "limits": (-0.5, 2.0), "seed": 1}
    found = viz.filter_pattern(lenet, layer, channel, (1, 28, 28), **options)
    assert len(found.activations) > 2 and np.all(np.diff(found.activations) > 0)
    assert found.image.shape == (1, 28, 28)
    assert found.image.min() >= -0.5 and found.image.max() <= 2.0
    seen = []
    lenet.get_submodule(layer).register_forward_hook(lambda m, a, y: seen.append(y))
    lenet(tg.tensor(found.image[None]))
    assert seen[0][0, channel].mean().item() == pytest.approx(found.activations[-1], rel=1e-4)
    again = viz.filter_pattern(lenet, lenet.get_submodule(layer), channel, (1, 28, 28), **options)
    np.testing.assert_array_equal(again.image, found.image)
    with pytest.raises(ValueError, match="channel from 0 to"):
        viz.filter_pattern(lenet, layer, 99, (1, 28, 28))


def test_a_filter_of_one_pixel_finds_the_brightest_image() -> None:
    net = nn.Sequential(nn.Conv2d(1, 1, 1))
    with tg.no_grad():
        net[0].weight.fill_(-2.0)
    found = viz.filter_pattern(net, "0", 0, (1, 4, 4), limits=(0.0, 1.0))
    np.testing.assert_allclose(found.image, 0, atol=1e-6)  # −2·x is largest at 0


# -- what decides ----------------------------------------------------------------------------------
def pooled_net() -> nn.Sequential:
    """A network that ends in a global average and a dense layer."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3, padding=1),
        nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5),
    )  # fmt: skip


@pytest.mark.parametrize("class_index", [0, 3, None])
def test_S4_18_grad_cam_is_cam_for_a_global_average(class_index: int | None) -> None:
    net, x = pooled_net(), np.random.default_rng(0).normal(size=(3, 1, 10, 12)).astype(np.float32)
    with tg.no_grad():
        net[7].weight.copy_(tg.randn(5, 8))
        maps = net[:5](tg.tensor(x)).numpy().astype(np.float64)
        chosen = net(tg.tensor(x)).numpy().argmax(1) if class_index is None else [class_index] * 3
        weight = net[7].weight.detach().numpy().astype(np.float64)
    cam = np.zeros((3, 5, 6))
    for n in range(3):
        for k in range(8):
            cam[n] += weight[chosen[n], k] * maps[n, k]
    cam = np.maximum(cam, 0)
    peak = cam.max((1, 2), keepdims=True)
    assert (peak > 0).any()
    cam /= np.where(peak > 0, peak, 1)
    found = viz.grad_cam(net, x, class_index, upsample=False)
    assert np.abs(found - cam).max() <= 1e-6
    full = viz.grad_cam(net, x, class_index)
    assert full.shape == (3, 10, 12) and full.min() >= 0 and full.max() <= 1
    assert all(p.grad is None for p in net.parameters())


def test_S4_18_heat_lies_on_the_digit() -> None:
    """LeNet-5 after 50 steps: the ink and two pixels around it hold nearly all heat of c1."""
    data = load_dataset("mnist-mini", True)
    lenet = models.lenet5(image_size=28)
    optimizer = optim.Adam(lenet.parameters(), lr=2e-3)
    order = np.random.default_rng(0).permutation(len(data))
    for k in range(50):
        rows = order[16 * k : 16 * k + 16]
        x = ((data.images[rows] / 255 - 0.1307) / 0.3081)[:, None].astype(np.float32)
        loss = F.cross_entropy(lenet(tg.tensor(x)), tg.tensor(data.labels[rows]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    x, labels = digits(100)
    heat = viz.grad_cam(lenet, x, list(labels), "relu1")
    ink = F.max_pool2d(tg.tensor((x > 0).astype(np.float32)), 5, 1, padding=2).numpy()[:, 0]
    assert ink.mean() < 0.5
    assert (heat * ink).sum() / heat.sum() > 0.8


def test_saliency_is_the_slope_of_the_score() -> None:
    net = pooled_net().double()
    x = np.random.default_rng(1).normal(size=(2, 1, 6, 6))
    found = viz.saliency(net, x, [4, 1])
    step = 1e-6
    for n, i, j, k in ((0, 2, 3, 4), (1, 5, 0, 1), (1, 3, 3, 1)):
        ends = []
        for sign in (1, -1):
            moved = x.copy()
            moved[n, 0, i, j] += sign * step
            ends.append(net(tg.tensor(moved))[n, k].item())
        assert found[n, i, j] == pytest.approx(abs(ends[0] - ends[1]) / (2 * step), rel=1e-5)


@pytest.mark.torch
@pytest.mark.parametrize("layer", ["0", "3", "4"])
def test_S4_18_grad_cam_and_saliency_as_pytorch(layer: str) -> None:
    """Flattened maps and two dense layers: α differs from any weight."""
    torch = pytest.importorskip("torch")
    ours = nn.Sequential(*pooled_net()[:5], nn.Flatten(), nn.Linear(8 * 25, 7), nn.ReLU(),
                         nn.Linear(7, 5)).double()  # fmt: skip
    t = torch.nn
    theirs = t.Sequential(
        t.Conv2d(1, 6, 3, padding=1), t.ReLU(), t.MaxPool2d(2), t.Conv2d(6, 8, 3, padding=1),
        t.ReLU(), t.Flatten(), t.Linear(8 * 25, 7), t.ReLU(), t.Linear(7, 5),
    ).double()  # fmt: skip
    theirs.load_state_dict({k: torch.tensor(v.numpy()) for k, v in ours.state_dict().items()})
    x = np.random.default_rng(2).normal(size=(2, 1, 10, 10))
    images = torch.tensor(x, requires_grad=True)
    kept = {}
    theirs[int(layer)].register_forward_hook(lambda m, a, y: kept.__setitem__("maps", y))
    score = theirs(images)[:, 2].sum()
    slope, pixel = torch.autograd.grad(score, [kept["maps"], images])
    heat = (slope.mean((2, 3), keepdim=True) * kept["maps"]).sum(1, keepdim=True).relu()
    heat = heat / heat.amax((2, 3), keepdim=True).clamp(min=1e-300)
    heat = torch.nn.functional.interpolate(heat, size=(10, 10), mode="bilinear")[:, 0]
    found = viz.grad_cam(ours, x, 2, layer)
    np.testing.assert_allclose(found, heat.detach().numpy(), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(
        viz.saliency(ours, x, 2), pixel.abs().amax(1).numpy(), rtol=1e-9, atol=1e-15
    )


def test_default_layer_of_grad_cam_is_the_last_with_maps() -> None:
    x = tg.randn(1, 3, 32, 32)
    assert viz.grad_cam(models.resnet20(), x, upsample=False).shape == (1, 8, 8)
    assert viz.grad_cam(models.mnist_cnn(), x[:, :1, :28, :28], upsample=False).shape == (1, 7, 7)


def test_heat_sheet(tmp_path: Path) -> None:
    images, heat = np.random.default_rng(0).random((2, 3, 8, 8))
    path = viz.heat_sheet(images, [("a", heat), ("b", 0 * heat)], tmp_path / "h.png", list("xyz"))
    assert pixels(path).shape[:2] == (int(1.55 * 3 * 110), int(1.5 * 3 * 110))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda net, x: viz.grad_cam(net, x, 5), "each from 0 to 4"),
        (lambda net, x: viz.grad_cam(net, x, [1]), "one class or 2"),
        (lambda net, x: viz.grad_cam(net, x, 0, "7"), "gives maps"),
        (lambda net, x: viz.grad_cam(net, x, 0, nn.ReLU()), "no call of it"),
        (lambda net, x: viz.saliency(net[:3], x, 0), "scores"),
        (lambda net, x: viz.grad_cam(nn.Flatten(), x, 0), "name one"),
    ],
)
def test_errors_of_heat_maps(call: Callable[..., Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(pooled_net(), np.ones((2, 1, 8, 8), np.float32))


# -- gradients by depth ----------------------------------------------------------------------------
def test_gradient_norms_of_a_chain() -> None:
    """y = w₃ w₂ w₁ x: each weight's gradient is the product of the others and x."""
    net = nn.Sequential(*(nn.Linear(1, 1, bias=False) for _ in range(3)))
    with tg.no_grad():
        for layer, value in zip(net, (2.0, 3.0, 5.0), strict=True):
            layer.weight.fill_(value)
    x, first = tg.tensor([[7.0]]), lambda y, target: (y - target).sum()
    assert viz.gradient_norms(net, x, 0.0, first) == {"0": 105.0, "1": 70.0, "2": 42.0}
    assert viz.gradient_norms(net, x, 0.0, first, of="output") == {"0": 15.0, "1": 5.0, "2": 1.0}
    assert all(p.grad is None for p in net.parameters())
    with pytest.raises(ValueError, match="weight"):
        viz.gradient_norms(net, x, 0.0, first, of="bias")


def test_S2_31_the_gradient_passes_residual_blocks(tmp_path: Path) -> None:
    """Without batch norm, 20 layers: what of the gradient is left at the first layer."""
    sys.path.insert(0, str(ROOT / "demos"))
    try:
        from gradient_depth import build  # type: ignore[import-not-found]
    finally:
        sys.path.pop(0)
    x = tg.randn(1, 3, 8, 8, dtype=tg.float64)
    left, curves = {}, {}
    for residual in (False, True):
        norms = viz.gradient_norms(build(20, residual, False), x, tg.tensor([1]), of="output")
        ends = norms["conv1"], norms["layer3.2.conv2"]
        left[residual], curves[str(residual)] = ends[0] / ends[1], list(norms.values())
    assert left[False] < 1e-4 and left[True] > 0.1
    pixels(viz.gradient_curves({"a": curves, "b": curves}, tmp_path / "g.png"))


# -- the plane -------------------------------------------------------------------------------------
def test_S2_40_boundaries_and_flat_pieces(tmp_path: Path) -> None:
    """Units that bend along x = 0 and y = 0 make four pieces; the sign of x is the class."""
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    with tg.no_grad():
        net[0].weight.copy_(tg.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]]))
        net[0].bias.fill_(0.0)
        net[2].weight.copy_(tg.tensor([[0.0, 0.0, 0.0], [1.0, -1.0, 0.0]]))
        net[2].bias.fill_(0.0)
    points = np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]], np.float32)
    labels = np.array([0, 0, 1, 0])
    line = nn.Linear(2, 2)
    found = viz.decision_boundaries(
        {"bent": net, "line": line}, points, labels, tmp_path / "plane.png", cells=40
    )
    assert found["bent"].pieces == 4 and found["line"].pieces == 1
    assert found["bent"].accuracy == 0.75
    np.testing.assert_array_equal(found["bent"].classes, np.repeat([[0, 1]], 20, 1).repeat(40, 0))
    pixels(tmp_path / "plane.png")


# -- generated images ------------------------------------------------------------------------------
def test_a_sheet_of_samples_has_every_pixel(tmp_path: Path) -> None:
    images = np.random.default_rng(0).uniform(-1, 1, (5, 3, 6, 7))
    image = pixels(viz.sample_sheet(tg.tensor(images), tmp_path / "s.png", 3))[..., :3]
    assert image.shape == (2 * 7 + 1, 3 * 8 + 1, 3)
    last = images[4].transpose(1, 2, 0) / 2 + 0.5  # second row, second column
    np.testing.assert_allclose(image[8:14, 9:16], last, atol=0.51 / 255)
    with pytest.raises(ValueError, match="1 or 3 channels"):
        viz.sample_sheet(np.zeros((2, 4, 5, 5)), tmp_path / "no.png")


def test_tiles_leave_what_is_empty() -> None:
    sheet = tiles(np.ones((3, 2, 2)), 2, gap=1, fill=0.5)
    assert sheet.shape == (7, 7) and sheet[4:6, 4:6].tolist() == [[0.5] * 2] * 2
    assert sheet.sum() == 12 + 0.5 * (49 - 12)


def test_interpolation_of_latent_vectors() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 3, 50))
    b *= np.linalg.norm(a, axis=1, keepdims=True) / np.linalg.norm(b, axis=1, keepdims=True)
    way = viz.interpolate(a, b, 5)
    np.testing.assert_allclose(way[:, [0, -1]], np.stack([a, b], 1), atol=1e-12)
    lengths = np.linalg.norm(way, axis=2)
    np.testing.assert_allclose(lengths, lengths[:, :1].repeat(5, 1))  # on the sphere all the way
    steps = np.sum(way[:, 1:] * way[:, :-1], 2) / lengths[:, 1:] ** 2
    np.testing.assert_allclose(steps, steps[:, :1].repeat(4, 1))  # by equal angles
    straight = viz.interpolate(a, b, 3, spherical=False)
    np.testing.assert_allclose(straight[:, 1], (a + b) / 2)
    np.testing.assert_allclose(viz.interpolate(a, a, 3), a[:, None].repeat(3, 1))


def test_interpolation_sheet_begins_and_ends_with_the_samples(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(4, 9), nn.Tanh(), nn.Unflatten(1, (1, 3, 3)))
    path = viz.interpolation_sheet(net, 4, tmp_path / "i.png", rows=2, steps=5, seed=3)
    image = pixels(path)[..., 0]
    assert image.shape == (2 * 4 + 1, 5 * 4 + 1)
    ends = tg.randn(2, 2, 4, generator=tg.Generator(3))
    for end, left in ((0, 1), (1, 17)):
        wanted = net(ends[end])[1, 0].detach().numpy() / 2 + 0.5
        np.testing.assert_allclose(image[5:8, left : left + 3], wanted, atol=0.51 / 255)


# -- curves and counts -----------------------------------------------------------------------------
def test_learning_curves_have_a_panel_a_metric(tmp_path: Path) -> None:
    history: list[dict[str, Any]] = [{"step": 1, "loss": 2.0}, {"step": 11, "loss": 1.0}]
    for k in (1, 2):
        history.append({"step": 10 * k, "train_loss": 1 / k, "validation_loss": 1.5 / k,
                        "train_accuracy": 0.4 * k, "validation_top5_accuracy": 0.5})  # fmt: skip
    width = pixels(viz.learning_curves(history, tmp_path / "c.png")).shape[1]
    assert width == 3 * round(4.5 * 110)  # loss, accuracy, top5_accuracy
    assert pixels(viz.learning_curves([], tmp_path / "new.png")).shape[1] == width // 3


def test_confusion_matrix(tmp_path: Path) -> None:
    counts = np.array([[5, 1], [0, 7]])
    pixels(viz.confusion_matrix(counts, ["cat", "dog"], tmp_path / "new" / "m.png"))
    with pytest.raises(ValueError, match=r"expected counts of shape \(3, 3\).*received \(2, 2\)"):
        viz.confusion_matrix(counts, list("abc"), tmp_path / "m.png")
    assert counts.tolist() == [[5, 1], [0, 7]]
