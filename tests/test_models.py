"""The zoo: parameter counts, shape chains, names of the state, and what each model computes."""

from __future__ import annotations

import importlib.util
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinygrad_cnn as tg
from tinygrad_cnn import models, nn

TORCH = "PyTorch is not installed"


def unfilled(builder: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """The model without initial weights: no time, no memory."""
    with nn.init.skip():
        return builder(*args, **options)


def count(model: nn.Module) -> int:
    return sum(p.array.size for p in model.parameters())


def chain(model: nn.Module, shape: tuple[int, ...], kinds: tuple[str, ...]) -> list[Any]:
    """Output shapes of the layers of these kinds."""
    rows = tg.summary(model, shape, show=False).rows
    return [row.output_shape for row in rows if row.kind in kinds]


# -- parameters: the published numbers, or the formula beside them ----------------------------
COUNTS: list[tuple[Callable[..., Any], dict[str, Any], int]] = [
    (models.lenet5, {}, 61_706),
    (models.lenet5, {"num_classes": 2}, 61_026),
    (models.lenet5, {"image_size": 28}, 61_706),
    *((models.mnist_cnn, {"style": style, "batch_norm": bn}, 620_746 if bn else 619_786)
      for style in ("sequential", "functional", "subclass") for bn in (False, True)),
    (models.alexnet, {}, 62_378_344),
    (models.alexnet, {"groups": 2}, 60_965_224),
    (models.vgg11, {}, 132_863_336), (models.vgg11, {"batch_norm": True}, 132_868_840),
    (models.vgg13, {}, 133_047_848), (models.vgg13, {"batch_norm": True}, 133_053_736),
    (models.vgg16, {}, 138_357_544), (models.vgg16, {"batch_norm": True}, 138_365_992),
    (models.vgg19, {}, 143_667_240), (models.vgg19, {"batch_norm": True}, 143_678_248),
    (models.vgg16, {"include_top": False}, 14_714_688),
    (models.googlenet, {"aux_logits": False}, 6_998_552),
    (models.googlenet, {"aux_logits": False, "batch_norm": True}, 6_624_904),
    (models.googlenet, {"batch_norm": True}, 13_004_888),
    (models.resnet18, {}, 11_689_512), (models.resnet34, {}, 21_797_672),
    (models.resnet50, {}, 25_557_032),
    (models.nin, {}, 966_986),
    (models.mlp, {}, 784 * 256 + 256 + 2570),
]  # fmt: skip


@pytest.mark.parametrize(("builder", "options", "expected"), COUNTS)
def test_parameter_counts(builder: Any, options: dict[str, Any], expected: int) -> None:
    assert count(unfilled(builder, **options)) == expected


CIFAR = {
    20: models.resnet20, 32: models.resnet32, 44: models.resnet44, 56: models.resnet56,
    110: models.resnet110, 1202: models.resnet1202,
}  # fmt: skip


@pytest.mark.parametrize("depth", CIFAR)
def test_cifar_resnet_counts(depth: int) -> None:
    n = (depth - 2) // 6
    blocks = sum(
        (2 * n - 1) * 9 * c * c + 9 * c * (c if c == 16 else c // 2) + 2 * n * 2 * c
        for c in (16, 32, 64)
    )
    plain = 27 * 16 + 32 + blocks + 650
    assert count(unfilled(CIFAR[depth])) == plain
    assert count(unfilled(models.plain_net, depth)) == plain
    projections = 16 * 32 + 64 + 32 * 64 + 128
    assert count(unfilled(CIFAR[depth], shortcut="B")) == plain + projections


# -- shapes -----------------------------------------------------------------------------------
def test_shape_chains() -> None:
    conv_pool = ("Conv2d", "MaxPool2d")
    assert chain(unfilled(models.alexnet), (3, 227, 227), conv_pool) == [
        (96, 55, 55), (96, 27, 27), (256, 27, 27), (256, 13, 13), (384, 13, 13), (384, 13, 13),
        (256, 13, 13), (256, 6, 6),
    ]  # fmt: skip
    vgg = unfilled(models.vgg16)
    found = chain(vgg, (3, 224, 224), ("MaxPool2d",))
    assert found == [(c, n, n) for c, n in zip((64, 128, 256, 512, 512), (112, 56, 28, 14, 7),
                                               strict=True)]  # fmt: skip
    for depth, convolutions in ((11, 8), (13, 10), (16, 13), (19, 16)):
        net = unfilled(getattr(models, f"vgg{depth}"))
        kinds = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
        assert len(kinds) == convolutions and all(m.kernel_size == (3, 3) for m in kinds)
    images = (3, 224, 224)
    assert chain(unfilled(models.resnet34), images, ("Linear", "AdaptiveAvgPool2d")) == [
        (512, 1, 1), (1000,)
    ]  # fmt: skip
    assert chain(unfilled(models.resnet20), (3, 32, 32), ("Conv2d",))[::6] == [
        (16, 32, 32), (16, 32, 32), (32, 16, 16), (64, 8, 8)
    ]  # fmt: skip


def test_googlenet_has_nine_modules_and_22_layers() -> None:
    net = unfilled(models.googlenet, aux_logits=False)
    modules = [m for m in net.modules() if type(m).__name__ == "Inception"]
    assert len(modules) == 9
    assert count(net.fc) == 1_025_000
    rows = {r.name: r for r in tg.summary(net, (3, 224, 224), show=False).rows}
    assert rows["maxpool3"].output_shape == (480, 14, 14)
    assert rows["maxpool4"].output_shape == (832, 7, 7)
    assert rows["avgpool"].output_shape == (1024, 1, 1)


def test_googlenet_normalises_as_torchvision() -> None:
    net = unfilled(models.googlenet, batch_norm=True)
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 59 and {m.eps for m in norms} == {1e-3}


def test_auxiliary_heads_answer_in_training_only() -> None:
    net = unfilled(models.googlenet, 7)
    x = tg.zeros(1, 3, 64, 64)
    logits, aux2, aux1 = net(x)
    assert logits.shape == aux2.shape == aux1.shape == (1, 7)
    assert net.eval()(x).shape == (1, 7)
    assert unfilled(models.googlenet, 7, aux_logits=False)(x).shape == (1, 7)


def test_nin_ends_in_the_mean_of_a_map_a_class() -> None:
    net = unfilled(models.nin, 10)
    rows = tg.summary(net, (3, 32, 32), show=False).rows
    last = max(i for i, row in enumerate(rows) if row.kind == "Conv2d")
    assert rows[last].output_shape == (10, 8, 8)
    assert sum(row.parameters for row in rows[last + 1 :]) == 0


@pytest.mark.parametrize(("size", "channels"), [(64, 3), (28, 1), (32, 3)])
def test_dcgan(size: int, channels: int) -> None:
    tg.manual_seed(0)
    generator = models.dcgan_generator(size, channels, latent=8, width=4)
    discriminator = models.dcgan_discriminator(size, channels, width=4)
    images = generator(tg.randn(3, 8))
    assert images.shape == (3, channels, size, size)
    assert float(images.abs().max().item()) <= 1
    judged = discriminator(images)
    assert judged.shape == (3, 1)
    judged.sum().backward()
    assert all(p.grad is not None for p in generator.parameters())


def test_dcgan_starts_as_the_paper_says() -> None:
    tg.manual_seed(0)
    net = models.dcgan_generator(64)
    assert float(net[1].weight.std().item()) == pytest.approx(0.02, rel=0.01)
    assert float(net[2].weight.mean().item()) == pytest.approx(1.0, abs=0.005)
    plain = models.dcgan_discriminator(32, 1, width=4, batch_norm=False)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in plain.modules())
    with pytest.raises(ValueError, match=r"expected one of \(28, 32, 64\), received 30"):
        models.dcgan_generator(30)


def test_dense_gan() -> None:
    images = models.mlp_generator(latent=5, hidden=(6,))(tg.randn(2, 5))
    assert images.shape == (2, 1, 28, 28)
    assert models.mlp_discriminator(hidden=(6,))(images).shape == (2, 1)


def test_vae() -> None:
    tg.manual_seed(0)
    net = models.vae(latent=3, width=4)
    x = tg.rand(2, 1, 28, 28)
    logits, mean, log_variance = net(x)
    assert logits.shape == x.shape and mean.shape == log_variance.shape == (2, 3)
    assert not tg.equal(net(x)[0], logits)  # the noise is new
    net.eval()
    assert tg.equal(net(x)[0], net(x)[0])
    loss = net.loss(logits, x, mean, log_variance)
    z, t = logits.detach().numpy().astype(np.float64), x.detach().numpy()
    pixels = (np.maximum(z, 0) - z * t + np.log1p(np.exp(-np.abs(z)))).sum()
    m, v = (
        mean.detach().numpy().astype(np.float64),
        np.exp(log_variance.detach().numpy().astype(np.float64)),
    )
    expected = (pixels + 0.5 * (m**2 + v - 1 - np.log(v)).sum()) / 2
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    same = net.loss(logits, x, mean * 0, log_variance * 0)
    assert same.item() == pytest.approx(pixels / 2, rel=1e-5)  # N(0, 1) costs nothing


# -- what they compute ------------------------------------------------------------------------
@pytest.mark.parametrize("batch_norm", [False, True])
def test_three_styles_give_the_same_bits(backend: str, batch_norm: bool) -> None:
    tg.manual_seed(0)
    with tg.use_backend(backend):
        first, *others = (
            models.mnist_cnn(style=style, batch_norm=batch_norm)
            for style in ("sequential", "functional", "subclass")
        )
        x = tg.rand(4, 1, 28, 28)
        for train in (True, False):
            logits = []
            for model in (first, *others):
                with tg.no_grad():
                    for source, target in zip(first.parameters(), model.parameters(), strict=True):
                        target.copy_(source)
                tg.manual_seed(1)  # the same dropout
                logits.append(model.train(train)(x).detach().numpy())
            assert logits[0].shape == (4, 10) and np.abs(logits[0]).max() > 0
            np.testing.assert_array_equal(logits[1], logits[0])
            np.testing.assert_array_equal(logits[2], logits[0])


def test_features_and_classifier() -> None:
    x = tg.rand(2, 1, 28, 28)
    model = models.mnist_cnn().eval()
    features = model.features(x)
    assert features.shape == (2, 128, 4, 4)
    assert tg.equal(model.classifier(features), model(x))
    vgg = unfilled(models.vgg11, include_top=False, batch_norm=True)
    assert vgg(tg.zeros(1, 3, 64, 32)).shape == (1, 512, 2, 1)
    for builder in (models.alexnet, models.nin, models.vgg16):
        net = unfilled(builder)
        assert isinstance(net.features, nn.Sequential)
        assert isinstance(net.classifier, nn.Sequential)


def test_units() -> None:
    tg.manual_seed(0)
    conv = models.ConvBNReLU(2, 3, 3, stride=2, padding=1).eval()
    x = tg.randn(2, 2, 5, 5)
    expected = (conv.conv(x) / np.sqrt(1 + 1e-5)).relu()
    np.testing.assert_allclose(conv(x).detach().numpy(), expected.detach().numpy(), rtol=1e-6)
    assert conv.conv.bias is None and list(conv.state_dict())[0] == "conv.weight"
    dense = models.DenseBNReLU(3, 4)
    y = dense(tg.randn(64, 3))
    assert y.shape == (64, 4) and float(y.min().item()) == 0
    assert dense.bn.running_mean.abs().sum().item() > 0


def test_ensemble_is_the_sum() -> None:
    tg.manual_seed(0)
    members = [nn.Linear(3, 2) for _ in range(3)]
    ensemble = models.Ensemble(members)
    x = tg.randn(4, 3)
    np.testing.assert_array_equal(
        ensemble(x).detach().numpy(),
        (members[0](x) + members[1](x) + members[2](x)).detach().numpy(),
    )
    assert len(list(ensemble.parameters())) == 6
    with pytest.raises(ValueError, match="at least one model"):
        models.Ensemble([])


def test_shortcuts() -> None:
    """A block whose convolutions give zero is its shortcut."""
    x = tg.rand(1, 2, 5, 4)
    for shortcut in ("A", "B", "none"):
        block = models.resnet_cifar.Block(2, 4, 2, shortcut).eval()
        with tg.no_grad():
            block.bn2.weight.zero_()
        y = block(x).detach().numpy()
        if shortcut == "A":
            expected = np.zeros((1, 4, 3, 2), np.float32)
            expected[:, 1:3] = x.detach().numpy()[:, :, ::2, ::2]
            np.testing.assert_array_equal(y, expected)
        elif shortcut == "B":
            np.testing.assert_array_equal(y, block.shortcut(x).relu().detach().numpy())
        else:
            assert not y.any()
    with pytest.raises(ValueError, match=r"6n \+ 2, received 21"):
        models.plain_net(21)
    with pytest.raises(ValueError, match="expected one of .*, received 'C'"):
        models.resnet20(shortcut="C")


def test_very_deep_network_runs_backward() -> None:
    model = unfilled(models.resnet1202, in_channels=1)
    model(tg.ones(1, 1, 8, 8)).sum().backward()
    assert model.conv1.weight.grad is not None


def test_choice_of_style_and_size() -> None:
    with pytest.raises(ValueError, match="expected one of sequential, functional, subclass"):
        models.mnist_cnn(style="Sequential")
    with pytest.raises(ValueError, match="expected image_size 28 or 32, received 30"):
        models.lenet5(image_size=30)
    assert unfilled(models.lenet5, image_size=28)(tg.zeros(1, 1, 28, 28)).shape == (1, 10)


@pytest.mark.parametrize("name", sorted(models.BUILDERS))
def test_builders_are_named(name: str) -> None:
    options = {"depth": 8} if name == "plain_net" else {}
    assert isinstance(unfilled(models.build, name, **options), nn.Module)
    assert name in models.__all__


# -- initial values ---------------------------------------------------------------------------
def test_skip_draws_nothing_and_ends() -> None:
    tg.manual_seed(3)
    state = tg.get_rng_state()
    with nn.init.skip():
        model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
        nn.init.orthogonal_(model[0].weight)
        nn.init.trunc_normal_(model[0].weight)
        with nn.init.skip():
            pass
        assert not model[0].weight.detach().numpy().any()
    assert tg.get_rng_state() == state
    assert model[1].weight.tolist() == [1.0] * 4  # what is not random is set
    assert nn.Linear(3, 4).weight.detach().numpy().any()


def test_skip_ends_after_an_error() -> None:
    with pytest.raises(KeyError), nn.init.skip():
        raise KeyError
    assert nn.Linear(3, 4).weight.detach().numpy().any()


def test_residual_networks_start_with_the_published_spread() -> None:
    tg.manual_seed(0)
    weight = models.resnet20().layer3[1].conv1.weight
    assert float(weight.std().item()) == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)


# -- weights of others -----------------------------------------------------------------------------
def pretrained() -> Path:
    """The public ResNet-20 for CIFAR-10, in the folder that TINYGRAD_CNN_DATA names."""
    folder = os.environ.get("TINYGRAD_CNN_DATA", "")
    path = Path(folder) / "pretrained" / "resnet20-12fca82f.th"
    if not folder or not path.is_file():
        pytest.skip("no pretrained/resnet20-12fca82f.th in the folder TINYGRAD_CNN_DATA")
    return path


def test_published_checkpoint_fits() -> None:
    found = tg.load(pretrained())
    assert found["best_prec1"] == pytest.approx(91.78)
    state = {k.removeprefix("module."): v for k, v in found["state_dict"].items()}
    model = models.resnet20()
    assert model.load_state_dict(state) == ([], [])
    own = {k for k in model.state_dict() if not k.endswith("num_batches_tracked")}
    assert own == set(state)


@pytest.mark.torch
def test_published_checkpoint_predicts_as_in_torch() -> None:
    torch = pytest.importorskip("torch", reason=TORCH)
    path = pretrained()
    saved = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    model = models.resnet20().eval()
    model.load_state_dict(
        {k.removeprefix("module."): v for k, v in tg.load(path)["state_dict"].items()}
    )
    x = images(200)
    with tg.inference_mode():
        ours = model(tg.tensor(x)).numpy()
    theirs = torch_resnet20(torch, saved, torch.tensor(x)).numpy()
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-4 * np.abs(theirs).max())
    np.testing.assert_array_equal(ours.argmax(1), theirs.argmax(1))


def images(count: int) -> np.ndarray[Any, Any]:
    """``count`` test images of cifar10-jpeg, normalised as that network wants; else noise."""
    path = Path(os.environ["TINYGRAD_CNN_DATA"]) / "cifar10-jpeg" / "cifar10-jpeg.zip"
    if not path.is_file() or importlib.util.find_spec("PIL") is None:
        return np.random.default_rng(0).normal(size=(count, 3, 32, 32)).astype(np.float32)
    from PIL import Image

    with zipfile.ZipFile(path) as archive:
        names = sorted(n for n in archive.namelist() if n.startswith("test/"))[:: 10_000 // count]
        pixels = np.stack([np.asarray(Image.open(archive.open(n))) for n in names]) / 255.0
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    return ((pixels - mean) / std).transpose(0, 3, 1, 2).astype(np.float32)


def torch_resnet20(torch: Any, state: dict[str, Any], x: Any) -> Any:
    """The same network, written out in PyTorch's functions."""
    f = torch.nn.functional

    def norm(y: Any, name: str) -> Any:
        s = [state[f"module.{name}.{k}"] for k in ("running_mean", "running_var", "weight", "bias")]
        return f.batch_norm(y, *s)

    def conv(y: Any, name: str, stride: int = 1) -> Any:
        return f.conv2d(y, state[f"module.{name}.weight"], stride=stride, padding=1)

    y = norm(conv(x, "conv1"), "bn1").relu()
    for layer in (1, 2, 3):
        for block in range(3):
            name, stride = f"layer{layer}.{block}", 2 if layer > 1 and block == 0 else 1
            z = norm(conv(y, f"{name}.conv1", stride), f"{name}.bn1").relu()
            z = norm(conv(z, f"{name}.conv2"), f"{name}.bn2")
            if stride == 2:
                extra = y.shape[1] // 2
                y = f.pad(y[:, :, ::2, ::2], (0, 0, 0, 0, extra, extra))
            y = (z + y).relu()
    return f.linear(y.mean((2, 3)), state["module.linear.weight"], state["module.linear.bias"])


def test_a_missing_counter_of_batches_is_no_error() -> None:
    model = nn.BatchNorm2d(2)
    state = dict(model.state_dict())
    del state["num_batches_tracked"]
    assert model.load_state_dict(state) == ([], [])
    del state["running_var"]
    with pytest.raises(RuntimeError, match="missing keys: 'running_var'"):
        model.load_state_dict(state)


# -- names of the state -----------------------------------------------------------------------
def test_keys_are_those_of_published_weights() -> None:
    """Keys and shapes as in torchvision's files, spelled out for one of each kind of entry."""
    expected: dict[Callable[..., Any], dict[str, tuple[int, ...]]] = {
        models.vgg16: {
            "features.0.weight": (64, 3, 3, 3), "features.28.bias": (512,),
            "classifier.0.weight": (4096, 25088), "classifier.3.weight": (4096, 4096),
            "classifier.6.bias": (1000,),
        },
        models.resnet18: {
            "conv1.weight": (64, 3, 7, 7), "bn1.running_mean": (64,), "fc.weight": (1000, 512),
            "layer1.0.conv2.weight": (64, 64, 3, 3),
            "layer2.0.downsample.0.weight": (128, 64, 1, 1),
            "layer2.0.downsample.1.num_batches_tracked": (), "layer4.1.bn2.weight": (512,),
        },
        models.resnet50: {
            "layer1.0.downsample.0.weight": (256, 64, 1, 1),
            "layer3.5.conv3.weight": (1024, 256, 1, 1), "layer4.0.conv2.weight": (512, 512, 3, 3),
        },
        lambda: models.googlenet(batch_norm=True): {
            "conv1.conv.weight": (64, 3, 7, 7), "conv1.bn.weight": (64,),
            "inception3a.branch1.conv.weight": (64, 192, 1, 1),
            "inception4e.branch3.1.conv.weight": (128, 32, 3, 3),
            "inception5b.branch4.1.bn.running_var": (128,),
            "aux1.conv.conv.weight": (128, 512, 1, 1), "fc.bias": (1000,),
        },
    }  # fmt: skip
    for builder, entries in expected.items():
        state = {name: t.shape for name, t in unfilled(builder).state_dict().items()}
        assert {name: state.get(name) for name in entries} == entries
    lengths = [len(unfilled(b).state_dict()) for b in (models.resnet18, models.resnet50)]
    assert lengths == [122, 320]
