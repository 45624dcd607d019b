"""What is timed: networks and single operations as data, and what each costs.

A network is a list of layers, each a name and its numbers:
    ("conv", C, O, kernel, stride, padding, bias)
    ("conv_transpose", C, O, kernel, stride, padding)
    ("linear", K, N)   ("batch_norm", C)   ("relu",)   ("leaky_relu", slope)   ("tanh",)
    ("dropout", p)   ("max_pool", 2)   ("max_pool_ceil", 2)   ("mean_of_map",)   ("flatten",)
    ("unflatten", C, H, W)
    ("block", C, O, stride, shortcut)   a residual block; its shortcut is "identity", "pad" (with
                                        zero channels) or "project" (1×1 convolution)
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

Layer = tuple[Any, ...]
Shape = tuple[int, ...]

RELU: Layer = ("relu",)


class Network(NamedTuple):
    """A network, the shape of its batch, and the name, rate and first decay of its optimiser."""

    layers: tuple[Layer, ...]
    shape: Shape
    optimiser: tuple[str, float, float]
    critic: tuple[Layer, ...] = ()  # of a GAN; then ``layers`` turn 100 numbers into an image


class Operation(NamedTuple):
    """One operation: its kind, its operands' shapes, and a convolution's stride and padding."""

    kind: str
    shapes: tuple[Shape, ...]
    stride: int = 1
    padding: int = 0
    repeat: int = 1  # runs in one timed call; times are of one run


class Cost(NamedTuple):
    """Floating-point operations (a multiply-add is two) and bytes of float32 read and written."""

    flops: float
    bytes: float


def _conv(c: int, o: int, k: int, stride: int = 1, padding: int = 0, bias: bool = False) -> Layer:
    return ("conv", c, o, k, stride, padding, bias)


def _stages(widths: tuple[int, ...], depth: int, shortcut: str) -> list[Layer]:
    """Residual blocks: ``depth`` a width; each width after the first halves the map."""
    blocks: list[Layer] = []
    c = widths[0]
    for stage, o in enumerate(widths):
        for index in range(depth):
            stride = 2 if stage and not index else 1
            same = stride == 1 and c == o
            blocks.append(("block", c, o, stride, "identity" if same else shortcut))
            c = o
    return blocks


_LENET = (
    _conv(1, 6, 5, bias=True), RELU, ("max_pool", 2),
    _conv(6, 16, 5, bias=True), RELU, ("max_pool", 2), ("flatten",),
    ("linear", 400, 120), RELU, ("linear", 120, 84), RELU, ("linear", 84, 10),
)  # fmt: skip
_MNIST_CNN = (
    _conv(1, 32, 3, 1, 1, True), RELU, ("max_pool", 2),
    _conv(32, 64, 3, 1, 1, True), RELU, ("max_pool", 2),
    _conv(64, 128, 3, 1, 1, True), RELU, ("max_pool_ceil", 2), ("flatten",),
    ("linear", 2048, 256), RELU, ("dropout", 0.4), ("linear", 256, 10),
)  # fmt: skip


def _resnet(widths: tuple[int, ...], depth: int, shortcut: str) -> tuple[Layer, ...]:
    first = (_conv(3, widths[0], 3, 1, 1), ("batch_norm", widths[0]), RELU)
    last = (("mean_of_map",), ("linear", widths[-1], 10))
    return (*first, *_stages(widths, depth, shortcut), *last)


_GENERATOR = (
    ("linear", 100, 4096), ("unflatten", 256, 4, 4), ("batch_norm", 256), RELU,
    ("conv_transpose", 256, 128, 4, 2, 1), ("batch_norm", 128), RELU,
    ("conv_transpose", 128, 64, 4, 2, 1), ("batch_norm", 64), RELU,
    ("conv_transpose", 64, 1, 4, 2, 1), ("tanh",),
)  # fmt: skip
_CRITIC = (
    _conv(1, 64, 4, 2, 1), ("leaky_relu", 0.2),
    _conv(64, 128, 4, 2, 1), ("batch_norm", 128), ("leaky_relu", 0.2),
    _conv(128, 256, 4, 2, 1), ("batch_norm", 256), ("leaky_relu", 0.2),
    ("flatten",), ("linear", 4096, 1),
)  # fmt: skip

_SGD, _ADAM = ("sgd", 0.01, 0.9), ("adam", 1e-3, 0.9)
NETWORKS = {
    "lenet": Network(_LENET, (64, 1, 32, 32), _SGD),
    "lenet256": Network(_LENET, (256, 1, 32, 32), _SGD),
    "mnist_cnn": Network(_MNIST_CNN, (100, 1, 28, 28), _ADAM),
    "resnet20": Network(_resnet((16, 32, 64), 3, "pad"), (128, 3, 32, 32), _SGD),
    "resnet18": Network(_resnet((64, 128, 256, 512), 2, "project"), (32, 3, 32, 32), _SGD),
    "dcgan": Network(_GENERATOR, (64, 1, 32, 32), ("adam", 2e-4, 0.5), _CRITIC),
}
OPERATIONS = {
    "conv3x3_56": Operation("conv", ((32, 64, 56, 56), (64, 64, 3, 3)), padding=1),
    "conv3x3_28_s2": Operation("conv", ((32, 64, 28, 28), (128, 64, 3, 3)), 2, 1),
    "conv3x3_32_16": Operation("conv", ((128, 16, 32, 32), (16, 16, 3, 3)), padding=1),
    "conv1x1_14": Operation("conv", ((32, 256, 14, 14), (256, 256, 1, 1))),
    "conv5x5_lenet1": Operation("conv", ((256, 1, 32, 32), (6, 1, 5, 5))),
    "conv5x5_lenet2": Operation("conv", ((256, 6, 14, 14), (16, 6, 5, 5))),
    "conv11x11_alexnet": Operation("conv", ((16, 3, 227, 227), (96, 3, 11, 11)), 4),
    "matmul_1024": Operation("matmul", ((1024, 1024), (1024, 1024))),
    "matmul_4096": Operation("matmul", ((4096, 512), (512, 512))),
    "matmul_skinny": Operation("matmul", ((64, 4096), (4096, 64))),
    "matmul_batched": Operation("matmul", ((32, 128, 128), (32, 128, 128))),
    "maxpool2": Operation("max_pool", ((64, 64, 56, 56),)),
    "batchnorm": Operation("batch_norm", ((64, 64, 56, 56),)),
    "relu_10m": Operation("relu", ((10_000_000,),)),
    "softmax_ce": Operation("cross_entropy", ((65536, 10),)),
    "add_bcast": Operation("add", ((64, 64, 56, 56), (1, 64, 1, 1))),
    "sgd_32mb": Operation("sgd", ((8, 1024, 1024),)),
    "adam_32mb": Operation("adam", ((8, 1024, 1024),)),
    "dispatch": Operation("add", ((4,), (4,)), repeat=200),
    "dispatch_chain": Operation("chain", ((4,), (4,)), repeat=200),
}

# For operations that memory bounds: tensors of the first operand's size that must be read or
# written at least, and operations an element; forward, then forward and backward. Batch norm reads
# twice (its statistics come first); a pooled tensor of a quarter of the size counts 1/4. The
# gradient of an addition is written too: x.grad is a tensor of its own, not the one that was given.
_TRAFFIC = {
    "max_pool": ((1.25, 0.75), (2.5, 1)),
    "batch_norm": ((3, 6), (8, 14)),
    "relu": ((2, 1), (5, 2)),
    "cross_entropy": ((1, 4), (3, 6)),
    "add": ((2, 1), (4, 2)),
    "sgd": ((5, 4), (5, 4)),
    "adam": ((7, 12), (7, 12)),
}


def modes(name: str) -> tuple[str, str] | tuple[str]:
    """How a workload is timed: what its program offers."""
    if name.partition("@")[0] in NETWORKS:
        return "train", "infer"
    return ("step",) if OPERATIONS[name].kind in ("sgd", "adam") else ("forward", "both")


def network(name: str) -> Network:
    """The network called ``name``, as in "lenet" or, with another batch size, "lenet@512"."""
    base, _, batch = name.partition("@")
    found = NETWORKS[base]
    return found._replace(shape=(int(batch), *found.shape[1:])) if batch else found


def cost(name: str, mode: str) -> Cost | None:
    """What one run does at least; None for operations that are all overhead.

    The bytes of a network are those of its layers each on its own: inputs read, outputs written,
    and three times that for a training step.
    """
    if name in OPERATIONS:
        return _operation_cost(OPERATIONS[name], mode)
    net = network(name)
    if net.critic:
        images = net.shape[0]
        g, g_first, g_bytes = _forward(net.layers, (images, 100))
        d, d_first, d_bytes = _forward(net.critic, net.shape)
        if mode == "infer":
            return Cost(g, g_bytes)
        # The critic runs on three batches, forward and back; two of them need no gradient of the
        # images.
        return Cost(3 * g - g_first + 9 * d - 2 * d_first, 3 * g_bytes + 9 * d_bytes)
    flops, first, moved = _forward(net.layers, net.shape)
    return Cost(flops, moved) if mode == "infer" else Cost(3 * flops - first, 3 * moved)


def _operation_cost(op: Operation, mode: str) -> Cost | None:
    size = math.prod(op.shapes[0])
    times = 3 if mode == "both" else 1
    if op.kind == "conv":
        (n, c, h, w), (o, _, k, _) = op.shapes
        pixels = n * _out(h, k, op.stride, op.padding) * _out(w, k, op.stride, op.padding)
        elements = size + math.prod(op.shapes[1]) + pixels * o
        return Cost(times * 2 * pixels * o * c * k * k, times * 4 * elements)
    if op.kind == "matmul":
        (*batch, m, k), n = op.shapes[0], op.shapes[1][-1]
        groups = math.prod(batch)
        return Cost(times * 2 * groups * m * k * n, times * 4 * groups * (m * k + k * n + m * n))
    if op.repeat > 1:
        return None
    tensors, work = _TRAFFIC[op.kind][mode == "both"]
    return Cost(work * size, 4 * tensors * size)


def _out(size: int, k: int, stride: int, padding: int) -> int:
    return (size + 2 * padding - k) // stride + 1


def _forward(layers: tuple[Layer, ...], shape: Shape) -> tuple[float, float, float]:
    """Operations of a forward pass, those of its first layer that has any, and bytes."""
    total = first = moved = 0.0
    for layer in layers:
        before = math.prod(shape)
        flops, shape, parameters = _layer(layer, shape)
        if layer[0] == "block":
            flops, _, inner = _forward(_block(layer), (shape[0], layer[1], *_before(layer, shape)))
            moved += inner + 4 * 3 * math.prod(shape)
        elif layer[0] not in ("flatten", "unflatten"):
            moved += 4 * (before + math.prod(shape) + parameters)
        total, first = total + flops, first or flops
    return total, first, moved


def _before(layer: Layer, shape: Shape) -> Shape:
    """The map that a block which made ``shape`` was given."""
    return tuple(size * layer[3] for size in shape[2:])


def _block(layer: Layer) -> tuple[Layer, ...]:
    """The layers of a residual block, one after the other."""
    _, c, o, stride, shortcut = layer
    main = (_conv(c, o, 3, stride, 1), ("batch_norm", o), RELU, _conv(o, o, 3, 1, 1))
    extra = (("project", c, o),) if shortcut == "project" else ()
    return (*main, ("batch_norm", o), *extra)


def _layer(layer: Layer, shape: Shape) -> tuple[float, Shape, int]:
    """(floating-point operations of its products, shape of its output, parameters)."""
    kind, *a = layer
    n = shape[0]
    if kind == "conv":
        c, o, k, stride, padding, bias = a
        shape = (n, o, *(_out(size, k, stride, padding) for size in shape[2:]))
        return 2 * math.prod(shape) * c * k * k, shape, o * c * k * k + bias * o
    if kind == "conv_transpose":
        c, o, k, stride, _ = a
        work = 2 * math.prod(shape) * o * k * k
        return work, (n, o, *(size * stride for size in shape[2:])), c * o * k * k
    if kind == "linear":
        return 2 * n * a[0] * a[1], (n, a[1]), a[0] * a[1] + a[1]
    if kind == "project":
        return 2 * math.prod(shape) * a[0], shape, a[0] * a[1]
    if kind == "block":
        return 0, (n, a[1], *(size // a[2] for size in shape[2:])), 0
    if kind in ("max_pool", "max_pool_ceil"):
        up = kind == "max_pool_ceil"
        return 0, (*shape[:2], *((size + up) // 2 for size in shape[2:])), 0
    if kind == "mean_of_map":
        return 0, shape[:2], 0
    if kind == "flatten":
        return 0, (n, math.prod(shape[1:])), 0
    return 0, (n, *a) if kind == "unflatten" else shape, 0
