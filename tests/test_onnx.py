"""ONNX files we write: ONNX Runtime computes the same from them, and so do we."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_files import assert_close, numbers, ours, theirs

import tinygrad_cnn as tg
from tinygrad_cnn import models, nn, optim
from tinygrad_cnn.nn import functional as F

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
make = onnx.helper
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def on_numpy() -> Iterator[None]:
    """No kernels are compiled for these few numbers."""
    with tg.use_backend("numpy"):
        yield


def filled(model: nn.Module, scale: float = 1.0) -> nn.Module:
    """The model with random weights of a sensible size and statistics that are not 0 and 1.

    ``scale`` is that of batch norm, below 1 for residual networks whose outputs would overflow."""
    rng = np.random.default_rng(1)
    for path, t in model.state_dict().items():
        if t.ndim:
            fan_in = int(np.prod(t.shape[1:]))
            values = rng.standard_normal(t.shape, np.float32) * (2 / fan_in) ** 0.5 * 0.7
            if path.endswith("var") or t.ndim == 1 and path.endswith("weight"):
                factor = 1.0 if path.endswith("var") else scale
                values = factor * (1 + rng.random(t.shape, np.float32))
            elif t.ndim == 1:
                values = 0.1 * rng.standard_normal(t.shape, np.float32)
            t.backend.assign(t.array, values)
    return model.eval()


# -- models ----------------------------------------------------------------------------------------
SAMPLES: dict[str, tuple[int, ...]] = {
    "lenet5": (1, 32, 32), "mnist_cnn": (1, 28, 28), "alexnet": (3, 67, 67), "mlp": (1, 28, 28),
    "mlp_generator": (100,), "mlp_discriminator": (1, 28, 28), "dcgan_generator": (100,),
    "dcgan_discriminator": (3, 64, 64), "vae": (1, 28, 28), "nin": (3, 12, 12),
    "resnet18": (3, 16, 16), "resnet34": (3, 16, 16), "resnet50": (3, 16, 16),
    "plain_net": (3, 8, 8), "resnet20": (3, 8, 8),
    "resnet32": (3, 8, 8), "resnet44": (3, 8, 8), "resnet56": (3, 8, 8), "resnet110": (3, 8, 8),
    "resnet1202": (3, 8, 8),
}  # fmt: skip


def built(name: str, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """A model of the zoo; layers of the largest ones are made narrow, to save time."""
    monkeypatch.setattr(sys.modules["tinygrad_cnn.models.vgg"], "CHANNELS", (8, 16, 16, 16, 16))
    options = {"plain_net": {"depth": 20}, "dcgan_generator": {"width": 16},
               "dcgan_discriminator": {"width": 16}}.get(name, {})  # fmt: skip
    with nn.init.skip():
        model: Any = models.build(name, **options)
        if name == "alexnet":
            model.classifier = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(256, 9))
        if name.startswith("vgg"):
            model.classifier = nn.Sequential(nn.Linear(49 * 16, 9), nn.ReLU(), nn.Linear(9, 9))
    return filled(model, 0.05 if name == "resnet1202" else 0.5 if "resnet" in name else 1.0)


@pytest.mark.parametrize("name", models.BUILDERS)
def test_every_model_there_and_back(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, sample = built(name, monkeypatch), SAMPLES.get(name, (3, 32, 32))
    path = tmp_path / "model.onnx"
    tg.onnx.export(model, sample, path)
    x = numbers(2, *sample)
    expected = ours(model, x)
    assert_close(theirs(path, x), expected)
    again = tg.onnx.load(path)
    assert_close(ours(again, x), expected, 1e-6)
    learned = dict(model.named_parameters())
    assert {n for n, _ in again.named_parameters()} == {n for n in learned if "aux" not in n}
    state = model.state_dict()
    for key, t in again.state_dict().items():
        np.testing.assert_array_equal(t.numpy(), state[key].numpy())


# -- operations ------------------------------------------------------------------------------------
class Lambda(nn.Module):
    """A function as a model."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: tg.Tensor) -> Any:
        return self.function(*inputs)


IMAGE, ROWS = (3, 7, 6), (5,)
OPERATIONS: dict[str, tuple[Callable[..., Any], tuple[int, ...]]] = {
    "activations": (
        lambda x: tg.cat([
            f(x) for f in (F.elu, F.selu, F.celu, F.silu, F.mish, F.gelu, F.softplus, F.softsign,
                           F.logsigmoid, F.relu6, F.hardtanh, F.hardswish, F.hardsigmoid, F.tanh)
        ]), IMAGE,
    ),
    "activations_with_settings": (
        lambda x: (F.elu(x, 0.5), F.celu(x, 2.0), F.softplus(x, 3.0), F.leaky_relu(x, 0.3),
                   F.gelu(x, "tanh"), F.softmax(x, 1), F.log_softmax(x, -1)), IMAGE,
    ),
    "arithmetic": (lambda x: (x * 2 - 1 / (x.abs() + 1)) ** 3 % 0.7 + (x // 0.3), IMAGE),
    "functions": (
        lambda x: x.exp() + (x.abs() + 1).log() + x.sin() * x.cos() + x.erf()
        + (x * x).sqrt() + x.floor() + x.ceil() + x.round() + x.sign() + tg.expm1(x)
        + tg.log1p(x.abs()) + x.tanh().asin() - x.tanh().acos() + x.atan(), IMAGE,
    ),
    "choice": (
        lambda x: tg.where((x > 0) & (x <= 1), x, -x).clamp(-0.5, 0.7).maximum(x * 0.1), IMAGE,
    ),
    "comparisons": (
        lambda x: tuple(c.float() for c in (x < 0, x >= 0.5, x == x, x != x, ~(x > 0), x.isnan(),
                                            x.isfinite(), (x > 0) ^ (x > 1))), IMAGE,
    ),
    "reductions": (
        lambda x: (x.sum(1), x.mean((2, 3)), x.mean((2, 3), keepdim=True), x.amax((1, 2)),
                   x.amin(3), x.prod(3), x.argmax(1), x.argmin(2, keepdim=True), x.max(1)[0],
                   x.var(1), x.std((2, 3)), x.norm(2, 1), x.logsumexp(1), x.cumsum(2)), IMAGE,
    ),
    "over_the_batch": (lambda x: x - x.mean(0) + x.sum(0, keepdim=True), ROWS),
    "views": (
        lambda x: (x.flatten(1), x.reshape(-1, 6), x.reshape(-1), x.permute(0, 2, 3, 1),
                   x.unsqueeze(2).squeeze(2), x.transpose(1, 3), x.flip((1, 3)),
                   x[:, 0], x[:, 1:, ::2, -3:], x[:, None, ..., -1], x[:, ::-1, 5:1:-2]), IMAGE,
    ),
    "joining": (
        lambda x: (tg.cat([x, x * 2], 1), tg.stack([x, -x], 2), tg.cat([x, x]),
                   *x.split([1, 2], 1), *x.chunk(2, 3), x.roll(2, 3), x.repeat(1, 2, 1, 3)), IMAGE,
    ),
    "expansion": (
        lambda x: (x.mean(1, keepdim=True).expand(-1, 4, -1, -1),
                   tg.ones(1, 3, 1, 1).expand(x.shape[0], 3, 7, 6) * x), IMAGE,
    ),
    "indexing": (
        lambda x: (x[:, [2, 0, 1, 1]],
                   x.gather(1, tg.tensor([[[[1]]]]).expand(x.shape[0], 1, 7, 6)),
                   tg.index_select(x, 2, tg.tensor([3, 0]))), IMAGE,
    ),
    "padding": (
        lambda x: (F.pad(x, (1, 2, 0, 3)), F.pad(x, (1, 1), value=2.5), F.pad(x, (-1, 2, 1, -2)),
                   F.pad(x, (2, 1, 1, 2), "reflect"), F.pad(x, (2, 1), "replicate"),
                   F.pad(x, (2, 1), "circular")), IMAGE,
    ),
    "pooling": (
        lambda x: (F.max_pool2d(x, 3, 2, ceil_mode=True), F.max_pool2d(x, 2, 1, 1, dilation=2),
                   F.max_pool2d(x, 3, 2, "same"), F.avg_pool2d(x, 3, 2, "same"),
                   F.avg_pool2d(x, 3, 2, 1), F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
                   F.avg_pool2d(x, 3, 2, 1, ceil_mode=True), F.avg_pool2d(x, 2, ceil_mode=True),
                   F.avg_pool2d(x, 2, divisor_override=3), F.max_pool2d(x, 2, 3, ceil_mode=True)),
        IMAGE,
    ),
    "adaptive_pooling": (
        lambda x: (F.adaptive_avg_pool2d(x, 1), F.adaptive_avg_pool2d(x, (7, 3)),
                   F.adaptive_avg_pool2d(x, (3, 4)), F.adaptive_max_pool2d(x, (7, 2))), IMAGE,
    ),
    "response": (
        lambda x: (F.local_response_norm(x, 3, 0.5, 0.6, 1.5), F.local_response_norm(x, 2, 0.3)),
        IMAGE,
    ),
    "statistics_of_the_input": (
        lambda x: (F.layer_norm(x, (7, 6)), F.group_norm(x, 3), F.instance_norm(x),
                   F.batch_norm(x, None, None, training=True), F.normalize(x)), IMAGE,
    ),
    "resizing": (
        lambda x: (F.interpolate(x, scale_factor=2), F.interpolate(x, (5, 9), mode="bilinear"),
                   F.interpolate(x, 4, mode="bilinear", align_corners=True),
                   F.interpolate(x, (7, 3), mode="area")), IMAGE,
    ),
    "products": (lambda x: (x @ x.transpose(2, 3), tg.einsum("nchw,ndhw->ncd", x, x)), IMAGE),
    "in_place": (
        lambda x: ((x * 1).relu_().add_(1).mul_(2), F.relu(F.relu(x + 1, inplace=True) - 2, True)),
        IMAGE,
    ),
    "the_input_itself": (lambda x: (x, x, x + 1), ROWS),
    "shuffling": (lambda x: F.pixel_shuffle(x.repeat(1, 4, 1, 1), 2), IMAGE),
}  # fmt: skip


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_there_and_back(name: str, tmp_path: Path) -> None:
    function, sample = OPERATIONS[name]
    model, path = Lambda(function), tmp_path / "model.onnx"
    tg.onnx.export(model, sample, path)
    for batch in (1, 4):
        x = numbers(batch, *sample, seed=batch)
        expected = ours(model, x)
        assert_close(theirs(path, x), expected)
        assert_close(ours(tg.onnx.load(path), x), expected, 1e-5)


LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "same": (lambda: nn.Conv2d(3, 4, (3, 4), 2, padding="same", dilation=1), IMAGE),
    "grouped": (lambda: nn.Conv2d(4, 6, 3, groups=2, dilation=2, padding=(1, 2)), (4, 7, 6)),
    "padding_mode": (lambda: nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), IMAGE),
    "one_axis": (lambda: nn.Sequential(nn.Conv1d(3, 4, 3), nn.MaxPool1d(2)), (3, 9)),
    "three_axes": (lambda: nn.Sequential(nn.Conv3d(2, 3, 2), nn.AvgPool3d(2)), (2, 5, 5, 5)),
    "transposed": (
        lambda: nn.ConvTranspose2d(4, 6, 3, 2, padding=1, output_padding=1, groups=2), (4, 5, 6),
    ),
    "transposed_wide": (lambda: nn.ConvTranspose2d(3, 2, 3, 2, dilation=3, output_padding=2),
                        (3, 4, 5)),
    "transposed_1d": (lambda: nn.ConvTranspose1d(3, 2, 4, 3, bias=False), (3, 5)),
    "dense_of_maps": (lambda: nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2, False)),
                      IMAGE),
    "norms": (
        lambda: nn.Sequential(nn.BatchNorm2d(3), nn.GroupNorm(3, 3), nn.LayerNorm((7, 6)),
                              nn.InstanceNorm2d(3, affine=True)), IMAGE,
    ),
    "plain_batch_norm": (lambda: nn.BatchNorm1d(5, affine=False), ROWS),
    "slopes": (lambda: nn.Sequential(nn.PReLU(3), nn.PReLU()), IMAGE),
    "in_place": (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Dropout(inplace=True),
                                       nn.Linear(80, 3), nn.ReLU(inplace=True)), IMAGE),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_layers_there_and_back(name: str, tmp_path: Path) -> None:
    build, sample = LAYERS[name]
    model, path = filled(build()), tmp_path / "model.onnx"
    tg.onnx.export(model, sample, path)
    x = numbers(3, *sample)
    expected = ours(model, x)
    assert_close(theirs(path, x), expected)
    again = tg.onnx.load(path)
    assert_close(ours(again, x), expected, 1e-5)
    assert set(again.state_dict()) == {
        key for key in model.state_dict() if not key.endswith("num_batches_tracked")
    }


def test_operators_are_the_expected_ones(tmp_path: Path) -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.LocalResponseNorm(3), nn.ReLU(),
        nn.ConvTranspose2d(4, 4, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2),
    )  # fmt: skip
    tg.onnx.export(model, (3, 8, 8), tmp_path / "m.onnx")
    proto = onnx.load(tmp_path / "m.onnx")
    assert [n.op_type for n in proto.graph.node] == [
        "Conv", "BatchNormalization", "LRN", "Relu", "ConvTranspose", "GlobalAveragePool",
        "Flatten", "Gemm",
    ]  # fmt: skip
    assert [o.version for o in proto.opset_import] == [tg.onnx.OPSET] == [17]
    assert {t.name for t in proto.graph.initializer} == {
        key for key in model.state_dict() if not key.endswith("num_batches_tracked")
    }
    (image,) = proto.graph.input
    assert [d.dim_param or d.dim_value for d in image.type.tensor_type.shape.dim] == [
        "batch", 3, 8, 8,
    ]  # fmt: skip


@pytest.mark.parametrize("opset", [13, 18, 22])
def test_versions_of_the_operators(opset: int, tmp_path: Path) -> None:
    model = filled(nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.ReLU6()))
    tg.onnx.export(model, IMAGE, tmp_path / "m.onnx", opset_version=opset)
    x = numbers(2, *IMAGE)
    assert_close(theirs(tmp_path / "m.onnx", x), ours(model, x))
    assert_close(ours(tg.onnx.load(tmp_path / "m.onnx"), x), ours(model, x))


def test_several_inputs_with_names_and_a_fixed_batch(tmp_path: Path) -> None:
    model = Lambda(lambda x, k: (x * x.shape[0] + k.float(), x.mean()))
    x, k = numbers(2, 3), np.arange(6).reshape(2, 3)
    path = tmp_path / "m.onnx"
    args = (tg.tensor(x), tg.tensor(k))
    with pytest.raises(ValueError, match="a number in Multiply depends on .* the batch size"):
        tg.onnx.export(model, args, path)
    assert not path.exists()
    names = {"input_names": ["x", "k"], "output_names": ["sum", "mean"]}
    tg.onnx.export(model, args, path, dynamic_batch=False, **names)
    assert_close(theirs(path, x, k), ours(model, x, k))
    again = tg.onnx.load(path)
    assert (again.input_names, again.output_names) == (["x", "k"], ["sum", "mean"])
    assert_close(ours(again, x, k), ours(model, x, k))
    with pytest.raises(ValueError, match="expected 2 input_names"):
        tg.onnx.export(model, args, path, dynamic_batch=False, input_names=["x"])
    with pytest.raises(TypeError, match="expected 2 inputs \\(x, k\\), received 1"):
        again(args[0])
    with pytest.raises(ValueError, match=re.escape("input 'x': expected shape (N, 3), received")):
        again(tg.ones(2, 4), args[1])


def test_export_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout())
    before = {key: t.numpy().copy() for key, t in model.state_dict().items()}
    state = tg.get_rng_state()
    tg.onnx.export(model, (3, 8, 8), tmp_path / "m.onnx")
    assert tg.get_rng_state() == state and all(m.training for m in model.modules())
    for key, t in model.state_dict().items():
        np.testing.assert_array_equal(t.numpy(), before[key])


# -- what cannot be written ------------------------------------------------------------------------
REFUSED: dict[str, tuple[Callable[..., Any], str]] = {
    "random": (lambda x: x + tg.randn(3, 7, 6), "Add takes a tensor that is new in each run"),
    "outside": (
        lambda x: x * tg.tensor(x.detach().numpy()[:1]), "Multiply takes a tensor that is new",
    ),
    "choice": (
        lambda x: x.relu() if bool(x.sum() > -0.5) == bool(x.shape[0] == 1) else x * 2,
        "did other operations",
    ),
    "batch": (lambda x: x[: x.shape[0] - 1], "a number in Select depends"),
    "unknown": (
        lambda x: F.unfold(x, 2).sum() + F.fold(F.unfold(x, 2), (7, 6), 2).sum(),
        "ONNX has no operator for Fold, Unfold;",
    ),
    "sorting": (lambda x: x.argsort(1), "have no ONNX operator"),
    "bits": (lambda x: x.long() & 6, "export: bitwise_and of integers is not supported"),
    "shift": (lambda x: x.long() << 1, "export: left_shift of integers is not supported"),
    "mask": (lambda x: x[:, tg.tensor([True, False, True])], "by a mask has no ONNX operator"),
    "no tensor": (lambda x: 3, "must return tensors, received int"),
}  # fmt: skip


def written_view(x: tg.Tensor) -> tg.Tensor:
    y = x * 1
    y[:, 0] = 0.0
    return y


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_graph_cannot_say_is_an_error(name: str, tmp_path: Path) -> None:
    function, message = REFUSED[name]
    with pytest.raises((ValueError, TypeError), match=message):
        tg.onnx.export(Lambda(function), IMAGE, tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def test_writing_into_a_view_is_an_error_and_not_a_wrong_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="shares its memory with another was written in place"):
        tg.onnx.export(Lambda(written_view), IMAGE, tmp_path / "m.onnx")


def test_wrong_arguments_of_export(tmp_path: Path) -> None:
    model, path = nn.Linear(3, 2), tmp_path / "m.onnx"
    with pytest.raises(ValueError, match="opset_version must lie in 13 … 22, received 9"):
        tg.onnx.export(model, (3,), path, opset_version=9)
    with pytest.raises(TypeError, match="args must be a tensor, a tuple of tensors, or the shape"):
        tg.onnx.export(model, "image", path)
    with pytest.raises(ValueError, match=re.escape("state must differ: ['weight']")):
        tg.onnx.export(model, (3,), path, input_names=["weight"])


# -- training what was loaded ----------------------------------------------------------------------
def test_a_loaded_model_trains_as_the_original_does(tmp_path: Path) -> None:
    model = filled(nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(80, 2)
    ))  # fmt: skip
    tg.onnx.export(model, IMAGE, tmp_path / "m.onnx")
    again = tg.onnx.load(tmp_path / "m.onnx")
    assert not again.training
    x, labels = tg.tensor(numbers(6, *IMAGE)), tg.tensor([0, 1, 0, 1, 1, 0])
    losses = []
    for network in (model.train(), again.train()):
        optimizer = optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
        for _ in range(5):
            loss = F.cross_entropy(network(x), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    np.testing.assert_allclose(losses[5:], losses[:5], rtol=1e-5)
    assert losses[4] < losses[0]
    model.load_state_dict(again.state_dict())  # the keys fit
    for key in ("1.running_mean", "1.running_var"):
        np.testing.assert_array_equal(
            model.state_dict()[key].numpy(), again.state_dict()[key].numpy()
        )


def test_a_loaded_model_moves_between_backends_and_dtypes(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU6())
    tg.onnx.export(model, (4,), tmp_path / "m.onnx")
    again = tg.onnx.load(tmp_path / "m.onnx", backend="numpy").double()
    assert again(tg.ones(2, 4, dtype=tg.float64)).dtype == tg.float64


# -- without the package, and the documentation ----------------------------------------------------
def test_without_the_package_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=re.escape("pip install 'tinygrad_cnn[onnx]'")):
        tg.onnx.export(nn.Linear(2, 2), (2,), tmp_path / "m.onnx")
    with pytest.raises(ImportError, match="extra 'onnx'"):
        tg.onnx.load(tmp_path / "m.onnx")


def test_the_page_about_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "onnx.md").read_text(encoding="utf-8")
    code, printed = (
        re.findall(rf"^```{kind}\n(.*?)^```", page, re.M | re.S) for kind in ("python", "text")
    )
    exec("\n".join(code), {"__name__": "page"})
    assert capsys.readouterr().out == "".join(printed)
