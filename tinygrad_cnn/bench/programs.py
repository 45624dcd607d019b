"""The workloads as programs, written once: what runs on PyTorch runs on this library as it is.

``Library`` is the difference that remains: the module, how an array becomes a tensor, and PyTorch's
memory layout and fused optimisers.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .workloads import NETWORKS, OPERATIONS, Layer, Operation, Shape, network

Program = dict[str, Callable[[], None]]  # by mode


class Library(NamedTuple):
    """``module``: tinygrad_cnn or torch."""

    module: Any
    tensor: Callable[[Any], Any]
    layout: Callable[[Any], Any] = lambda thing: thing
    optimiser_options: dict[str, Any] = {}  # noqa: RUF012  (never changed)


def make(library: Library, workload: str) -> Program:
    """The runs of one workload, each from start to end (a training step, an inference, …)."""
    if workload in OPERATIONS:
        return _operation(library, OPERATIONS[workload])
    if NETWORKS[workload.partition("@")[0]].critic:
        return _gan(library, workload)
    return _classifier(library, workload)


def _random(shape: Shape, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


# -- networks -------------------------------------------------------------------------------------


def _block(library: Library, c: int, o: int, stride: int, shortcut: str) -> Any:
    nn = library.module.nn
    F = nn.functional

    class Block(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(c, o, 3, stride, 1, bias=False)
            self.norm1 = nn.BatchNorm2d(o)
            self.conv2 = nn.Conv2d(o, o, 3, 1, 1, bias=False)
            self.norm2 = nn.BatchNorm2d(o)
            if shortcut == "project":
                self.project = nn.Conv2d(c, o, 1, stride, bias=False)
                self.norm3 = nn.BatchNorm2d(o)

        def forward(self, x: Any) -> Any:
            y = F.relu(self.norm1(self.conv1(x)), inplace=True)
            y = self.norm2(self.conv2(y))
            if shortcut == "project":
                x = self.norm3(self.project(x))
            elif shortcut == "pad":
                more = (o - c) // 2
                x = F.pad(x[:, :, ::stride, ::stride], (0, 0, 0, 0, more, more))
            return F.relu(y + x, inplace=True)

    return Block()


def _network(library: Library, layers: tuple[Layer, ...]) -> Any:
    nn = library.module.nn
    makers: dict[str, Callable[..., Any]] = {
        "conv": lambda c, o, k, s, p, bias: nn.Conv2d(c, o, k, s, p, bias=bias),
        "conv_transpose": lambda c, o, k, s, p: nn.ConvTranspose2d(c, o, k, s, p, bias=False),
        "linear": nn.Linear,
        "batch_norm": nn.BatchNorm2d,
        "relu": lambda: nn.ReLU(inplace=True),
        "leaky_relu": lambda slope: nn.LeakyReLU(slope, inplace=True),
        "tanh": nn.Tanh,
        "dropout": nn.Dropout,
        "max_pool": nn.MaxPool2d,
        "max_pool_ceil": lambda k: nn.MaxPool2d(k, ceil_mode=True),
        "mean_of_map": lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        "flatten": nn.Flatten,
        "unflatten": lambda *shape: nn.Unflatten(1, shape),
        "block": lambda *a: _block(library, *a),
    }
    return library.layout(nn.Sequential(*(makers[kind](*a) for kind, *a in layers)))


def _optimiser(library: Library, model: Any, choice: tuple[str, float, float]) -> Any:
    name, rate, decay = choice
    optim, more = library.module.optim, library.optimiser_options
    if name == "sgd":
        return optim.SGD(model.parameters(), lr=rate, momentum=decay, **more)
    return optim.Adam(model.parameters(), lr=rate, betas=(decay, 0.999), **more)


def _inference(library: Library, model: Any, x: Any) -> Callable[[], None]:
    frozen = copy.deepcopy(model).eval()

    def infer() -> None:
        with library.module.inference_mode():
            frozen(x)

    return infer


def _classifier(library: Library, workload: str) -> Program:
    net = network(workload)
    loss = library.module.nn.functional.cross_entropy
    x = library.layout(library.tensor(_random(net.shape)))
    y = library.tensor(np.arange(net.shape[0]) % 10)
    model = _network(library, net.layers)
    infer = _inference(library, model, x)
    optimiser = _optimiser(library, model, net.optimiser)

    def train() -> None:
        optimiser.zero_grad()
        loss(model(x), y).backward()
        optimiser.step()

    return {"train": train, "infer": infer}


def _gan(library: Library, workload: str) -> Program:
    net = network(workload)
    count = net.shape[0]
    real = library.layout(library.tensor(_random(net.shape)))
    z = library.tensor(_random((count, 100), 1))
    generator, critic = _network(library, net.layers), _network(library, net.critic)
    infer = _inference(library, generator, z)
    of_generator = _optimiser(library, generator, net.optimiser)
    of_critic = _optimiser(library, critic, net.optimiser)
    one, zero = library.module.ones(count, 1), library.module.zeros(count, 1)
    loss = library.module.nn.functional.binary_cross_entropy_with_logits

    def train() -> None:
        fake = generator(z)
        of_critic.zero_grad()
        (loss(critic(real), one) + loss(critic(fake.detach()), zero)).backward()
        of_critic.step()
        of_generator.zero_grad()
        loss(critic(fake), one).backward()
        of_generator.step()

    return {"train": train, "infer": infer}


# -- single operations ----------------------------------------------------------------------------


def _chain(x: Any, b: Any) -> Any:
    for _ in range(OPERATIONS["dispatch_chain"].repeat):
        x = x + b
    return x


def _function(library: Library, op: Operation) -> Callable[..., Any]:
    lib, F = library.module, library.module.nn.functional
    if op.kind == "batch_norm":
        channels = op.shapes[0][1]
        mean, var = lib.zeros(channels), lib.ones(channels)
        return lambda x, w, b: F.batch_norm(x, mean, var, w, b, True)
    if op.kind == "cross_entropy":
        rows, classes = op.shapes[0]
        target = library.tensor(np.arange(rows) % classes)
        return lambda x: F.cross_entropy(x, target)
    functions: dict[str, Callable[..., Any]] = {
        "conv": lambda x, w: F.conv2d(x, w, None, op.stride, op.padding),
        "matmul": lib.matmul,
        "max_pool": lambda x: F.max_pool2d(x, 2),
        "relu": F.relu,
        "add": lib.add,
        "chain": _chain,
    }
    return functions[op.kind]


def _operation(library: Library, op: Operation) -> Program:
    def leaf(shape: Shape, seed: int) -> Any:
        t = library.tensor(_random(shape, seed))
        return (library.layout(t) if len(shape) == 4 else t).requires_grad_()

    leaves = [leaf(shape, seed) for seed, shape in enumerate(op.shapes)]
    if op.kind in ("sgd", "adam"):
        return _step(library, op, leaves[0])
    if op.kind == "batch_norm":
        channels = op.shapes[0][1]
        leaves += [leaf((channels,), seed) for seed in (1, 2)]
    function = _function(library, op)
    y = function(*leaves)
    shape = tuple(y.shape)
    grad = library.tensor(_random(shape, 9)) if math.prod(shape) > 1 else library.module.ones(())
    grad = library.layout(grad) if len(shape) == 4 else grad
    runs = range(1 if op.kind == "chain" else op.repeat)

    def forward() -> None:
        for _ in runs:
            function(*leaves)

    def both() -> None:
        for _ in runs:
            for t in leaves:
                t.grad = None
            function(*leaves).backward(grad)

    return {"forward": forward, "both": both}


def _step(library: Library, op: Operation, parameter: Any) -> Program:
    class Holder:
        @staticmethod
        def parameters() -> list[Any]:
            return [parameter]

    optimiser = _optimiser(library, Holder, (op.kind, 1e-3, 0.9))
    parameter.grad = library.tensor(_random(op.shapes[0], 9))
    return {"step": optimiser.step}
