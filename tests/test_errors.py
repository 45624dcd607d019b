"""Bad input: every message says what was expected, what was received and what to do."""

from __future__ import annotations

import gzip
import inspect
import io
import re
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinygrad_cnn as tg
from tinygrad_cnn import nn
from tinygrad_cnn.backend import settings
from tinygrad_cnn.data import MNIST
from tinygrad_cnn.data.idx import idx_bytes, read_idx, write_idx
from tinygrad_cnn.nn import functional as F
from tinygrad_cnn.train import load_config


def image(*shape: int) -> tg.Tensor:
    return tg.ones(*shape, backend="numpy")


def says(kind: type[Exception], message: str, call: Callable[[], Any]) -> None:
    """``call()`` raises exactly this message."""
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == message


# -- shapes ------------------------------------------------------------------------------------
def test_wrong_channels() -> None:
    says(
        ValueError,
        "conv2d: weight expects 1 input channel but input has 3 "
        "(input (8, 3, 28, 28), weight (6, 1, 5, 5))",
        lambda: F.conv2d(image(8, 3, 28, 28), image(6, 1, 5, 5)),
    )


def test_wrong_rank() -> None:
    says(
        ValueError,
        "conv2d: expected input (N, C, H, W) or (C, H, W), received shape (28, 28)",
        lambda: F.conv2d(image(28, 28), image(6, 1, 5, 5)),
    )


def test_groups_that_do_not_divide() -> None:
    says(
        ValueError,
        "conv2d: weight expects 6 input channels but input has 3 "
        "(input (1, 3, 8, 8), weight (4, 3, 3, 3), groups 2)",
        lambda: F.conv2d(image(1, 3, 8, 8), image(4, 3, 3, 3), groups=2),
    )
    says(
        ValueError,
        "conv2d: groups must divide the output channels, received groups 2 and "
        "3 output channels (weight (3, 2, 3, 3))",
        lambda: F.conv2d(image(1, 4, 8, 8), image(3, 2, 3, 3), groups=2),
    )
    says(
        ValueError,
        "Conv2d: in_channels=3 must be divisible by groups=2",
        lambda: nn.Conv2d(3, 4, 3, groups=2),
    )


def test_output_size_below_one() -> None:
    says(
        ValueError,
        "conv2d: output size -2 on spatial axis 0: floor((n + before + after − d·(k−1) − 1)/s) + 1 "
        "= floor((8 + 0 + 0 − 1·(11−1) − 1)/1) + 1; it must be at least 1: "
        "make the input at least 11 or the kernel smaller",
        lambda: F.conv2d(image(1, 3, 8, 8), image(6, 3, 11, 11)),
    )
    with pytest.raises(ValueError, match="max_pool2d: output size 0 .* make the input at least 9"):
        F.max_pool2d(image(1, 3, 8, 8), 9)


def test_layer_path_stands_in_front() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(5, 4, 3))

        def forward(self, x: tg.Tensor) -> tg.Tensor:
            return self.features(x)  # type: ignore[no-any-return]

    with tg.use_backend("numpy"):
        net = Net()
    says(
        ValueError,
        "layer 'features.2' (Conv2d): conv2d: weight expects 5 input channels but input has 4 "
        "(input (2, 4, 6, 6), weight (4, 5, 3, 3))",
        lambda: net(image(2, 3, 8, 8)),
    )


# -- backends ----------------------------------------------------------------------------------
def test_mixed_backends() -> None:
    pytest.importorskip("numba")
    says(
        ValueError,
        "add: all tensors must have the same backend, received numpy tensor (2, 3) and "
        'numba tensor (3,); move one with .to("numpy")',
        lambda: image(2, 3) + tg.ones(3, backend="numba"),
    )


def test_unknown_backend() -> None:
    with pytest.raises(ValueError, match=r"unknown backend 'nunpy': expected one of numpy, numba"):
        tg.set_backend("nunpy")
    with pytest.raises(ValueError, match=r"did you mean 'numpy'\?$"):
        tg.ones(1, backend="nunpy")


# -- gradients ---------------------------------------------------------------------------------
def leaf() -> tg.Tensor:
    return tg.tensor([1.0, 2.0, 3.0], backend="numpy", requires_grad=True)


def test_backward_on_a_non_scalar() -> None:
    says(
        RuntimeError,
        "backward needs a scalar, output 0 has shape (3,): reduce it with .sum() or .mean(), "
        "or pass a gradient of shape (3,)",
        lambda: leaf().exp().backward(),
    )


def test_backward_twice() -> None:
    y = leaf().exp().sum()
    y.backward()
    says(
        RuntimeError,
        "backward through Sum a second time: its graph was freed after the first; "
        "call backward(retain_graph=True) the first time to keep it",
        y.backward,
    )


def test_backward_without_a_graph() -> None:
    with pytest.raises(RuntimeError, match="has no graph: none of the tensors .* requires grad"):
        image().backward()


def test_modified_saved_tensor() -> None:
    x = leaf()
    doubled = x * 2
    y = (doubled * x).sum()
    doubled.add_(1)
    with pytest.raises(RuntimeError) as caught:
        y.backward()
    shown = str(caught.value)
    assert re.match(r"Multiply saved its input( 0)? \(3,\) for backward, but it was changed", shown)
    assert "detect_anomaly() adds the line that made it" in shown
    assert shown.endswith("Use the out-of-place operation, or .clone() before the change")


def test_modified_saved_tensor_names_its_line_under_detect_anomaly() -> None:
    with tg.autograd.detect_anomaly():
        x = leaf()
        line = here()
        y = x.exp()
        y.add_(1)
        with pytest.raises(RuntimeError, match=rf"\(made at Exp at .*errors.py:{line + 1}\)"):
            y.sum().backward()


class Centred(nn.Module):
    """log(x − 1): not a number below 1."""

    def forward(self, x: tg.Tensor) -> tg.Tensor:
        global log_line
        log_line = here() + 1
        return (x - 1).log()


log_line = 0


def here() -> int:
    frame = inspect.currentframe()
    assert frame is not None and frame.f_back is not None
    return frame.f_back.f_lineno


def test_nan_is_traced_to_op_layer_and_both_lines() -> None:
    with tg.use_backend("numpy"), tg.autograd.detect_anomaly():
        model = nn.Sequential(nn.Flatten(), nn.Sequential(Centred()))
        x = tg.zeros(1, 2, requires_grad=True)
        logs = model(x)
        line = here() + 1
        roots = logs.sqrt()
        with pytest.raises(RuntimeError) as caught:
            roots.sum().backward()
    shown = re.sub(r"at \S*test_errors.py", "at test_errors.py", str(caught.value))
    assert shown == (
        f"the backward of Sqrt at test_errors.py:{line} gave NaN in the gradient of its input 0; "
        f"NaN first appeared in the forward pass in Log in layer '1.0' at test_errors.py:{log_line}"
    )


# -- files -------------------------------------------------------------------------------------
def test_unknown_key_in_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('bakend = "numpy"\n')
    monkeypatch.setenv("TINYGRAD_CNN_CONFIG", str(file))
    says(ValueError, f"{file}: unknown key 'bakend'; did you mean 'backend'?", settings)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch = 3", "unknown key 'epoch'; did you mean 'epochs'?"),
        ('epochs = "3"', "epochs expects int, received '3'"),
        ("epochs = 2.5", "epochs expects int, received 2.5"),
        ("epochs = true", "epochs expects int, received True"),
        ("lr = 'fast'", "lr expects float, received 'fast'"),
        ("resume = 1", "resume expects bool, received 1"),
        ("[model]\nname = 'lenet5'", "model expects str, received {'name': 'lenet5'}"),
    ],
)
def test_wrong_key_or_type_in_a_training_config(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "lenet.toml"
    file.write_text(text)
    says(ValueError, f"{file}: {message}", lambda: load_config(file))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs = 0", "epochs: expected a number of at least 1, received 0"),
        ("lr = 0", "lr: expected a number above 0, received 0"),
        ("lr = nan", "lr: expected a number above 0, received nan"),
        ("momentum = -1", "momentum: expected a number of at least 0, received -1"),
        ("weight_decay = inf", "weight_decay: expected a number of at least 0, received inf"),
        (
            'dataset = "mnist_mini"',
            "dataset: expected one of mnist-mini, mnist, fashion-mnist, cifar10-jpeg, received "
            "'mnist_mini'; did you mean 'mnist-mini'?",
        ),
        (
            'model = "lenet"',
            "model: expected one of lenet5, received 'lenet'; did you mean 'lenet5'?",
        ),
    ],
)
def test_senseless_value_in_a_training_config(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "lenet.toml"
    file.write_text(text)
    with pytest.raises(ValueError) as caught:
        load_config(file)
    # other models may have been added since
    assert re.sub(r"lenet5, [^;]*, received", "lenet5, received", str(caught.value)) == message


def test_broken_and_missing_config(tmp_path: Path) -> None:
    broken = tmp_path / "broken.toml"
    broken.write_text("epochs = = 3")
    with pytest.raises(ValueError, match=r"broken.toml: not valid TOML: Invalid value .*line 1"):
        load_config(broken)
    missing = tmp_path / "missing.toml"
    says(FileNotFoundError, f"config file {missing} does not exist", lambda: load_config(missing))


def test_truncated_idx(tmp_path: Path) -> None:
    path = tmp_path / "images.idx"
    write_idx(path, np.zeros((10, 28, 28), np.uint8))
    path.write_bytes(path.read_bytes()[:5000])
    says(
        ValueError,
        f"{path}: truncated: expected 7,840 bytes for uint8 values of shape (10, 28, 28), "
        "received 4,984",
        lambda: read_idx(path),
    )


def test_wrong_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served = gzip.compress(idx_bytes(np.zeros((10, 28, 28), np.uint8)), mtime=0)

    class Response(io.BytesIO):
        headers = {"Content-Length": str(len(served))}

    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: Response(served))
    monkeypatch.setenv("TINYGRAD_CNN_CACHE", str(tmp_path))
    monkeypatch.delenv("TINYGRAD_CNN_DATA", raising=False)
    with pytest.raises(FileNotFoundError) as caught:
        MNIST()
    shown = str(caught.value)
    expected = MNIST.hashes["train-images-idx3-ubyte"]
    for mirror in MNIST.mirrors:
        url = f"{mirror}train-images-idx3-ubyte.gz"
        assert f"{url}: expected SHA-256 {expected}, received " in shown
    assert "--data or TINYGRAD_CNN_DATA; or use mnist-mini, which is bundled." in shown
    assert list(tmp_path.rglob("*ubyte*")) == []


def test_state_of_another_model() -> None:
    with tg.use_backend("numpy"):
        small = nn.Sequential(nn.Linear(2, 3))
        large = nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 1))
    before = small[0].weight.tolist()
    says(
        RuntimeError,
        "load_state_dict: the state does not fit Sequential:\n"
        "  unexpected keys: '1.weight', '1.bias'\n"
        "  '0.weight': expected shape (3, 2), received (4, 2)\n"
        "  '0.bias': expected shape (3,), received (4,)",
        lambda: small.load_state_dict(large.state_dict()),
    )
    assert small[0].weight.tolist() == before


def test_arguments_of_the_wrong_kind() -> None:
    x = tg.ones(4, 3, backend="numpy")
    says(TypeError, "dim must be an integer, received 'rows'", lambda: x.sum("rows"))
    says(TypeError, "dim must be an integer, received 1.5", lambda: x.mean(1.5))
    shape = "expected a shape of integers of at least 0, received "
    says(ValueError, shape + "-1", lambda: tg.zeros(-1))
    says(ValueError, shape + "2.5", lambda: tg.randn(2.5))
    says(ValueError, shape + "(2, 'a')", lambda: tg.ones(2, "a"))
    says(ValueError, shape + "[2, -3]", lambda: tg.full([2, -3], 1.0))
    says(TypeError, "full: fill_value must be a number, received 'a'", lambda: tg.full((2,), "a"))
    says(ValueError, "randperm: expected n of at least 0, received -1", lambda: tg.randperm(-1))
    says(ValueError, "norm: p must be a number or \"fro\", received 'nuc'", lambda: x.norm("nuc"))
    says(IndexError, "index 9 is out of range for dimension 0 of shape (4, 3)", lambda: x[[1, 9]])
    assert tg.full((2,), tg.tensor(3.0)).tolist() == [3, 3]
