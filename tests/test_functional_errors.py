"""Bad arguments of ``nn.functional``: what was expected, what was received, in the message."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import tinygrad_cnn as tg
from tinygrad_cnn.nn import functional as F


def z(*shape: int, dtype: str = "float32", backend: str = "numpy") -> Any:
    return tg.zeros(*shape, dtype=dtype, backend=backend)


def k(*values: int) -> Any:
    return tg.tensor(list(values), dtype="int64", backend="numpy")


ERRORS: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "isin list": (
        lambda: tg.isin(k(1, 2), [1]), TypeError,
        "isin: test_elements must be a tensor or a number, received list",
    ),
    "repeat_interleave list": (
        lambda: tg.repeat_interleave(k(1, 2), [1, 2]), TypeError,
        "repeat_interleave: repeats must be a number or a tensor of integers, received list",
    ),
    "conv2d channels": (
        lambda: F.conv2d(z(8, 3, 28, 28), z(6, 1, 5, 5)), ValueError,
        "conv2d: weight expects 1 input channel but input has 3 "
        "(input (8, 3, 28, 28), weight (6, 1, 5, 5))",
    ),
    "conv2d channels of groups": (
        lambda: F.conv2d(z(8, 3, 9, 9), z(6, 2, 5, 5), groups=2), ValueError,
        "conv2d: weight expects 4 input channels but input has 3 "
        "(input (8, 3, 9, 9), weight (6, 2, 5, 5), groups 2)",
    ),
    "conv2d rank": (
        lambda: F.conv2d(z(28, 28), z(6, 1, 5, 5)), ValueError,
        "conv2d: expected input (N, C, H, W) or (C, H, W), received shape (28, 28)",
    ),
    "conv1d weight rank": (
        lambda: F.conv1d(z(1, 3, 8), z(6, 3, 5, 5)), ValueError,
        "conv1d: weight must have 3 dimensions, received (6, 3, 5, 5)",
    ),
    "conv2d groups": (
        lambda: F.conv2d(z(1, 4, 8, 8), z(3, 2, 3, 3), groups=2), ValueError,
        "conv2d: groups must divide the output channels, received groups 2 and 3 output channels",
    ),
    "conv2d zero groups": (
        lambda: F.conv2d(z(1, 4, 8, 8), z(3, 2, 3, 3), groups=0), ValueError,
        "conv2d: groups must be a positive integer, received 0",
    ),
    "conv2d bias": (
        lambda: F.conv2d(z(1, 1, 8, 8), z(3, 1, 3, 3), z(1)), ValueError,
        "conv2d: bias must have shape (3,), one number an output channel, received (1,)",
    ),
    "conv2d size": (
        lambda: F.conv2d(z(1, 1, 3, 8), z(3, 1, 5, 3)), ValueError,
        "conv2d: output size -1 on spatial axis 0: floor((n + before + after − d·(k−1) − 1)/s) + 1 "
        "= floor((3 + 0 + 0 − 1·(5−1) − 1)/1) + 1; it must be at least 1",
    ),
    "conv2d dtype": (
        lambda: F.conv2d(z(1, 1, 8, 8), z(3, 1, 3, 3, dtype="float64")), TypeError,
        "conv2d: weight must have the input's dtype float32, received float64",
    ),
    "conv2d integers": (
        lambda: F.conv2d(z(1, 1, 8, 8, dtype="int64"), z(3, 1, 3, 3)), TypeError,
        "conv2d: input must be a floating point tensor, received int64",
    ),
    "conv2d array": (
        lambda: F.conv2d([[1.0]], z(3, 1, 3, 3)), TypeError,  # type: ignore[arg-type]
        "conv2d: input must be a tensor, received list",
    ),
    "conv2d padding": (
        lambda: F.conv2d(z(1, 1, 8, 8), z(3, 1, 3, 3), padding="full"), ValueError,
        'conv2d: padding must be "same", "valid" or integers, received \'full\'',
    ),
    "conv2d stride": (
        lambda: F.conv2d(z(1, 1, 8, 8), z(3, 1, 3, 3), stride=0), ValueError,
        "conv2d: stride: expected values of at least 1, received 0",
    ),
    "conv2d empty weight": (
        lambda: F.conv2d(z(1, 1, 8, 8), z(0, 1, 3, 3)), ValueError,
        "conv2d: weight must not be empty, received (0, 1, 3, 3)",
    ),
    "conv_transpose2d channels": (
        lambda: F.conv_transpose2d(z(1, 3, 4, 4), z(2, 5, 3, 3)), ValueError,
        "conv_transpose2d: weight (C, O/groups, …) expects 2 input channels but input has 3",
    ),
    "conv_transpose2d groups": (
        lambda: F.conv_transpose2d(z(1, 3, 4, 4), z(3, 5, 3, 3), groups=2), ValueError,
        "conv_transpose2d: groups must divide the input channels, received groups 2",
    ),
    "conv_transpose2d output_padding": (
        lambda: F.conv_transpose2d(z(1, 3, 4, 4), z(3, 5, 3, 3), stride=2, output_padding=2),
        ValueError, "conv_transpose2d: output_padding must be smaller than stride or dilation",
    ),
    "conv_transpose1d size": (
        lambda: F.conv_transpose1d(z(1, 1, 1), z(1, 1, 2), padding=1), ValueError,
        "conv_transpose1d: output sizes (n−1)·s − 2·pad + d·(k−1) + output_padding + 1 = (0,) "
        "must be",
    ),
    "max_pool2d padding": (
        lambda: F.max_pool2d(z(1, 1, 8, 8), 2, padding=2), ValueError,
        "max_pool2d: padding must be at most half the kernel (2, 2), received 2",
    ),
    "max_pool2d size": (
        lambda: F.max_pool2d(z(1, 1, 1, 8), 2), ValueError,
        "max_pool2d: output size 0 on spatial axis 0",
    ),
    "avg_pool3d rank": (
        lambda: F.avg_pool3d(z(1, 8, 8), 2), ValueError,
        "avg_pool3d: expected input (N, C, D, H, W) or (C, D, H, W), received shape (1, 8, 8)",
    ),
    "avg_pool2d divisor": (
        lambda: F.avg_pool2d(z(1, 1, 4, 4), 2, divisor_override=0), ValueError,
        "avg_pool2d: divisor_override must not be 0",
    ),
    "adaptive_avg_pool2d size": (
        lambda: F.adaptive_avg_pool2d(z(1, 1, 4, 4), (1, 2, 3)), ValueError,
        "adaptive_avg_pool2d: output_size must be one integer ≥ 0 or 2 (None keeps a size)",
    ),
    "batch_norm weight": (
        lambda: F.batch_norm(z(4, 3, 2, 2), None, None, z(4), training=True), ValueError,
        "batch_norm: weight must have shape (3,), one number a channel of input (4, 3, 2, 2)",
    ),
    "batch_norm one value": (
        lambda: F.batch_norm(z(1, 3), None, None, training=True), ValueError,
        "batch_norm: training needs more than 1 value a channel, received input (1, 3)",
    ),
    "batch_norm statistics": (
        lambda: F.batch_norm(z(4, 3), None, None), ValueError,
        "batch_norm: without training, running_mean and running_var must be given",
    ),
    "batch_norm rank": (
        lambda: F.batch_norm(z(3), None, None, training=True), ValueError,
        "batch_norm: expected input (N, C, …), received shape (3,)",
    ),
    "layer_norm shape": (
        lambda: F.layer_norm(z(4, 3), (4,)), ValueError,
        "layer_norm: expected input (…, 4,), received shape (4, 3)",
    ),
    "group_norm groups": (
        lambda: F.group_norm(z(4, 3, 2), 2), ValueError,
        "group_norm: num_groups must divide the channels, received 2 and input (4, 3, 2)",
    ),
    "instance_norm cells": (
        lambda: F.instance_norm(z(4, 3, 1)), ValueError,
        "instance_norm: needs more than 1 spatial cell, received input (4, 3, 1)",
    ),
    "local_response_norm": (
        lambda: F.local_response_norm(z(4, 3), 2), ValueError,
        "local_response_norm: expected input (N, C, …) of at least 3 dimensions",
    ),
    "prelu": (
        lambda: F.prelu(z(4, 3), z(2)), ValueError,
        "prelu: weight must have 1 element or 3, one a channel of input (4, 3), received shape "
        "(2,)",
    ),
    "gelu": (
        lambda: F.gelu(z(3), "sigmoid"), ValueError,
        "gelu: approximate must be \"none\" or \"tanh\", received 'sigmoid'",
    ),
    "softmax dim": (
        lambda: F.softmax(z(3, 2), 2), IndexError, "softmax: dim must lie in [-2, 1], received 2",
    ),
    "cross_entropy class": (
        lambda: F.cross_entropy(z(2, 3), k(0, 3)), IndexError,
        "cross_entropy: targets must be classes 0 … 2 or ignore_index -100, received values from "
        "0 to 3",
    ),
    "cross_entropy negative class": (
        lambda: F.cross_entropy(z(2, 3), k(-1, 2)), IndexError,
        "cross_entropy: targets must be classes 0 … 2 or ignore_index -100, received values from "
        "-1 to 2",
    ),
    "cross_entropy shape": (
        lambda: F.cross_entropy(z(2, 3), k(0, 1, 2)), ValueError,
        "cross_entropy: target must have shape (2,), one class for each place of input (2, 3), "
        "received (3,)",
    ),
    "cross_entropy dtype": (
        lambda: F.cross_entropy(z(2, 3), z(2, dtype="bool")), TypeError,
        "cross_entropy: target must be an int64 tensor of classes, received bool",
    ),
    "cross_entropy probabilities": (
        lambda: F.cross_entropy(z(2, 3), z(2)), ValueError,
        "cross_entropy: class probabilities must have the input's shape (2, 3), received (2,)",
    ),
    "cross_entropy reduction": (
        lambda: F.cross_entropy(z(2, 3), k(0, 1), reduction="avg"), ValueError,
        "cross_entropy: reduction must be one of ('none', 'mean', 'sum'), received 'avg'",
    ),
    "cross_entropy smoothing": (
        lambda: F.cross_entropy(z(2, 3), k(0, 1), label_smoothing=1.5), ValueError,
        "cross_entropy: label_smoothing must lie in [0, 1], received 1.5",
    ),
    "nll_loss weight": (
        lambda: F.nll_loss(z(2, 3), k(0, 1), z(2)), ValueError,
        "nll_loss: weight must have shape (3,), one number a class, received (2,)",
    ),
    "binary_cross_entropy": (
        lambda: F.binary_cross_entropy(z(2) + 2, z(2)), ValueError,
        "binary_cross_entropy: input must be probabilities in [0, 1], received 2 … 2; apply "
        "sigmoid",
    ),
    "binary_cross_entropy shape": (
        lambda: F.binary_cross_entropy(z(2, 1), z(2)), ValueError,
        "binary_cross_entropy: target must have the input's shape (2, 1), received (2,)",
    ),
    "huber_loss": (
        lambda: F.huber_loss(z(2), z(2), delta=0), ValueError,
        "huber_loss: delta must be positive, received 0",
    ),
    "linear": (
        lambda: F.linear(z(4, 3), z(5, 2)), ValueError,
        "linear: weight expects 2 input features but input has 3 (input (4, 3), weight (5, 2))",
    ),
    "linear bias": (
        lambda: F.linear(z(4, 3), z(5, 3), z(4)), ValueError,
        "linear: bias must have shape (5,), received (4,)",
    ),
    "linear dtype": (
        lambda: F.linear(z(4, 3), z(5, 3, dtype="float64")), TypeError,
        "linear: weight must have the input's dtype float32, received float64",
    ),
    "embedding range": (
        lambda: F.embedding(k(0, 4), z(4, 2)), IndexError,
        "embedding: indices must lie in 0 … 3, received 0 … 4",
    ),
    "embedding dtype": (
        lambda: F.embedding(z(2), z(4, 2)), TypeError,
        "embedding: input must be an integer tensor, received float32",
    ),
    "one_hot": (
        lambda: F.one_hot(k(0, 4), 3), ValueError,
        "one_hot: classes must lie in 0 … 2, received 0 … 4",
    ),
    "dropout": (
        lambda: F.dropout(z(2), 1.5), ValueError, "dropout: p must lie in [0, 1], received 1.5",
    ),
    "pad reflect": (
        lambda: F.pad(z(1, 3), (3, 0), "reflect"), ValueError,
        "pad: mode 'reflect' can add at most 2 cells to dimension 1 of shape (1, 3), received "
        "(3, 0)",
    ),
    "pad odd": (
        lambda: F.pad(z(1, 3), (1, 0, 2)), ValueError,
        "pad: expected (before, after) for at most 2 dimensions, received (1, 0, 2)",
    ),
    "pad mode": (
        lambda: F.pad(z(1, 3), (1, 0), "edge"), ValueError,
        "pad: mode must be one of ('constant', 'reflect', 'replicate', 'circular'), received "
        "'edge'",
    ),
    "pad away": (
        lambda: F.pad(z(1, 3), (-2, -2)), ValueError,
        "pad: (-2, -2) leaves nothing of dimension 1 of shape (1, 3)",
    ),
    "fold": (
        lambda: F.fold(z(1, 8, 5), (4, 4), 2, stride=2), ValueError,
        "fold: expected a multiple of 4 rows and 4 columns (2 × 2 blocks), received input (1, 8, "
        "5)",
    ),
    "pixel_shuffle": (
        lambda: F.pixel_shuffle(z(1, 6, 2, 2), 2), ValueError,
        "pixel_shuffle: expected input (…, C·2², H, W) for upscale_factor 2, received (1, 6, 2, 2)",
    ),
    "interpolate size": (
        lambda: F.interpolate(z(1, 1, 4), 2, 2.0), ValueError,
        "interpolate: exactly one of size and scale_factor must be given, received 2 and 2.0",
    ),
    "interpolate mode": (
        lambda: F.interpolate(z(1, 1, 4), 2, mode="bilinear"), ValueError,
        "interpolate: mode 'bilinear' does not fit 1 spatial dimensions; expected one of "
        "('nearest', 'nearest-exact', 'linear', 'area')",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_message(name: str) -> None:
    call, kind, message = ERRORS[name]
    with pytest.raises(kind) as caught:
        call()
    assert message in str(caught.value)


def test_backends_do_not_mix() -> None:
    pytest.importorskip("numba", reason="needs two backends")
    x, w = z(1, 1, 4, 4), z(1, 1, 3, 3, backend="numba")
    with pytest.raises(
        ValueError, match=r'conv: all tensors .* numpy .* and numba .*\.to\("numpy"\)'
    ):
        F.conv2d(x, w)
    with pytest.raises(ValueError, match="numpy.*numba"):
        F.cross_entropy(z(2, 3, backend="numba"), k(0, 1))
    with pytest.raises(ValueError, match=r'use input.to\("numba"\)'):
        F.embedding(k(0, 1), z(4, 2, backend="numba"))
