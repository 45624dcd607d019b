"""``tinygrad-cnn warmup``: run the primitives of a backend once, on the shapes networks use.

A backend compiles a kernel when it first needs it, and which ones it needs depends on shapes.
Running them is the one way of compiling ahead that cannot miss one; results are thrown away.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from . import backend as registry
from .backend import Array, Backend
from .geometry import Window, conv_window, pool_divisors, pool_window

FLOAT = np.dtype("float32")

# (N, C, H, W) -> O, kernel, stride, padding, groups: the layers of LeNet-5, small classifiers,
# ResNet for 32 × 32 images, AlexNet's first, wide layers on small maps, depthwise convolution.
CONVOLUTIONS = (
    ((64, 1, 28, 28), 6, 5, 1, 2, 1),
    ((64, 6, 14, 14), 16, 5, 1, 0, 1),
    ((64, 1, 28, 28), 32, 3, 1, 1, 1),
    ((64, 32, 14, 14), 64, 3, 1, 1, 1),
    ((64, 64, 7, 7), 128, 3, 1, 1, 1),
    ((32, 3, 32, 32), 16, 3, 1, 1, 1),
    ((32, 16, 32, 32), 16, 3, 1, 1, 1),
    ((32, 16, 32, 32), 32, 3, 2, 1, 1),
    ((32, 16, 32, 32), 32, 1, 2, 0, 1),
    ((32, 32, 16, 16), 32, 3, 1, 1, 1),
    ((32, 32, 16, 16), 64, 3, 2, 1, 1),
    ((32, 64, 8, 8), 64, 3, 1, 1, 1),
    ((2, 3, 227, 227), 96, 11, 4, 0, 1),
    ((8, 256, 14, 14), 256, 1, 1, 0, 1),
    ((8, 512, 4, 4), 512, 3, 1, 1, 1),
    ((8, 32, 28, 28), 32, 3, 1, 1, 32),
)


def run(name: str | None) -> int:
    """Compile for backend ``name`` (by default that of new tensors); one printed line a group."""
    kernels = registry.load_backend(name) if name else registry.get_backend()
    began = time.perf_counter()
    total = 0
    for title, exercise in GROUPS:
        start = time.perf_counter()
        with _compiled(kernels) as names:
            exercise(kernels)
            kernels.synchronize()
        total += len(names)
        made = f"{len(names):3d} compiled" if names else "ready"
        print(f"{title:<24}{made:>14}{time.perf_counter() - start:8.1f} s", flush=True)
    print(f"{'all':<24}{f'{total:3d} compiled':>14}{time.perf_counter() - began:8.1f} s")
    return 0


@contextmanager
def _compiled(kernels: Backend) -> Iterator[list[str]]:
    """The names of the kernels compiled (not loaded from the cache) inside the ``with``."""
    names: list[str] = []
    stop = kernels.on_compile(lambda name, took: None if took is None else names.append(name))
    try:
        yield names
    finally:
        stop()


def _ones(kernels: Backend, *shape: int) -> Array:
    return kernels.full(shape, 1.0, FLOAT)


def _elementwise(kernels: Backend) -> None:
    images = _ones(kernels, 16, 32, 32, 32)
    channels, row = _ones(kernels, 32, 1, 1), _ones(kernels, 32)
    for name in "add subtract multiply divide maximum minimum power relu_grad".split():
        function = getattr(kernels, name)
        function(images, images)
        if name != "relu_grad":
            for small in (channels, row, 2.0):
                function(images, small)
                function(small, images)
    for name in "negative absolute sqrt exp log tanh sigmoid erf relu".split():
        getattr(kernels, name)(images)
    condition = kernels.greater(images, 0.5)
    for a, b in ((images, images), (images, 0.0), (0.0, images), (1.0, 0.0)):
        kernels.where(condition, a, b)
    for axes in ((0, 2, 3), (0, 1, 2, 3), (1,)):
        kernels.sum(images, axes, False)
    kernels.copy(kernels.transpose(images, (0, 2, 3, 1)))


def _convolution(kernels: Backend) -> None:
    for shape, outputs, kernel, stride, padding, groups in CONVOLUTIONS:
        window = conv_window(shape[2:], (kernel, kernel), stride, padding, 1, "warmup")
        x = _ones(kernels, *shape)
        w = _ones(kernels, outputs, shape[1] // groups, kernel, kernel)
        y = kernels.conv(x, w, _ones(kernels, outputs), window, groups)
        kernels.conv_input_grad(y, w, shape, window, groups)
        kernels.conv_weight_grad(x, y, w.shape, window, groups)


def _matmul(kernels: Backend) -> None:
    for m, k, n in ((64, 400, 120), (64, 120, 84), (64, 84, 10), (256, 256, 256), (64, 1152, 10)):
        x, w = _ones(kernels, m, k), _ones(kernels, n, k)
        y = kernels.linear(x, w, _ones(kernels, n))
        kernels.matmul(y, w)  # the gradient of x
        kernels.matmul(kernels.transpose(y, (1, 0)), x)  # and of w
    kernels.matmul(_ones(kernels, 32, 64, 64), _ones(kernels, 32, 64, 64))


def _windows(sizes: tuple[int, ...]) -> Iterator[Window]:
    yield pool_window(sizes, 2, 2, 0, 1, False, "warmup")
    yield pool_window(sizes, 3, 2, 1, 1, False, "warmup")


def _pooling(kernels: Backend) -> None:
    # Of a convolution's output, whose memory order is the backend's own.
    shape = (32, 16, 28, 28)
    same = conv_window(shape[2:], (3, 3), 1, 1, 1, "warmup")
    w = _ones(kernels, shape[1], shape[1], 3, 3)
    x = kernels.conv(_ones(kernels, *shape), w, None, same, 1)
    for window in _windows(shape[2:]):
        y, winner = kernels.max_pool(x, window)
        kernels.max_pool_gather(x, winner, window)
        kernels.max_pool_scatter(y, winner, shape, window)
        divisors = pool_divisors(shape[2:], window, (0, 0), True)
        y = kernels.avg_pool(x, window, divisors)
        kernels.avg_pool_scatter(y, shape, window, divisors)


def _batch_norm(kernels: Backend) -> None:
    for shape in ((32, 16, 28, 28), (64, 128)):
        x, channels = _ones(kernels, *shape), _ones(kernels, shape[1])
        mean, var = kernels.batch_norm_stats(x)
        y = kernels.batch_norm(x, mean, var, channels, channels, 1e-5)
        kernels.batch_norm_grad(y, x, mean, var, channels, 1e-5)


def _losses(kernels: Backend) -> None:
    logits, target = _ones(kernels, 256, 10), kernels.full((256,), 1, np.dtype("int64"))
    kernels.softmax(logits, 1)
    kernels.log_softmax(logits, 1)
    losses, probabilities = kernels.cross_entropy(logits, target)
    kernels.cross_entropy_grad(losses, probabilities, target)
    one = kernels.broadcast_to(kernels.full((), 1.0, FLOAT), logits.shape)
    for name in ("square", "logistic"):
        kernels.pair_loss(name, True, logits, logits)
        kernels.pair_loss_grad(name, one, logits, logits, (True, False))


def _optimisers(kernels: Backend) -> None:
    p, g, m, v = ([_ones(kernels, 256, 256)] for _ in range(4))
    kernels.sgd_step(p, g, None, 0.1, 0.0, 0.0, 0.0, False, True)
    kernels.sgd_step(p, g, m, 0.1, 0.9, 0.0, 1e-4, False, False)
    for decoupled in (False, True):
        kernels.adam_step(p, g, m, v, 1e-3, (0.9, 0.999), 1e-8, 1e-2, decoupled, 1)
    kernels.rmsprop_step(p, g, v, None, None, 1e-3, 0.99, 1e-8, 0.0, 0.0)
    kernels.squared_norms(g)


def _random(kernels: Backend) -> None:
    kernels.random_bits(4096, 0, 0)
    kernels.random_uniform((256, 256), FLOAT, 0, 0)
    kernels.random_normal((256, 256), FLOAT, 0, 0)


def _augmentation(kernels: Backend) -> None:
    """Not of the contract: a backend may have a faster warp than data/warp.py."""
    if warp := getattr(kernels, "affine_warp", None):
        for dtype in (np.uint8, FLOAT):
            warp(np.ones((2, 1, 28, 28), dtype), np.tile(np.eye(2, 3), (2, 1, 1)), 0, 0.0)


GROUPS: tuple[tuple[str, Callable[[Backend], None]], ...] = (
    ("elementwise", _elementwise),
    ("convolution", _convolution),
    ("matrix product", _matmul),
    ("pooling", _pooling),
    ("batch norm", _batch_norm),
    ("softmax and losses", _losses),
    ("optimiser steps", _optimisers),
    ("random numbers", _random),
    ("augmentation", _augmentation),
)
