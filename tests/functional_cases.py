"""Calls of ``nn.functional`` that mean the same in PyTorch: a table for test_functional.py.

A case is ``call(F, *tensors)`` for either library's F, and what the tensors hold: a shape (normal
numbers, differentiated), or an array (differentiated if it is of floats, unless ``Fixed``).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Array = Any


class Fixed(np.ndarray[Any, Any]):
    """An array that is a constant of its case."""


def fixed(array: Array) -> Array:
    return np.asarray(array).view(Fixed)


def is_variable(array: Array) -> bool:
    return array.dtype.kind == "f" and not isinstance(array, Fixed)


class Case(NamedTuple):
    call: Callable[..., Any]
    inputs: tuple[Any, ...]
    order: int = 3  # derivatives up to this order are compared
    rtol: float = 1e-9

    def arrays(self, name: str) -> list[Array]:
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        return [rng.standard_normal(i) if isinstance(i, tuple) else i for i in self.inputs]


CASES: dict[str, Case] = {}


def case(
    name: str, call: Callable[..., Any], *inputs: Any, order: int = 3, rtol: float = 1e-9
) -> None:
    assert name not in CASES, name
    CASES[name] = Case(call, inputs, order, rtol)


def distinct(*shape: int, seed: int = 0) -> Array:
    """Numbers that all differ by at least 0.1: no ties for a maximum to decide."""
    n = int(np.prod(shape))
    return (np.random.default_rng(seed).permutation(n) * 0.1 - n * 0.04).reshape(shape)


def probabilities(*shape: int, seed: int = 0, axis: int = 1) -> Array:
    e = np.exp(np.random.default_rng(seed).standard_normal(shape))
    return e / e.sum(axis=axis, keepdims=True)


def uniform(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).uniform(0.05, 0.95, shape)


def classes(k: int, *shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, k, shape)


def ones_and_zeros(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, 2, shape).astype(float)


# -- convolution -----------------------------------------------------------------------------------
CONVOLUTIONS: dict[str, tuple[Any, ...]] = {  # x, w, arguments
    "1d": ((2, 3, 9), (4, 3, 3), {}),
    "1d-everything": (
        (2, 4, 11),
        (6, 2, 3),
        {"stride": 2, "padding": 3, "dilation": 2, "groups": 2},
    ),
    "1d-same-even": ((1, 2, 7), (3, 2, 4), {"padding": "same"}),
    "1d-unbatched": ((3, 9), (4, 3, 3), {"padding": 1}),
    "2d": ((2, 3, 6, 7), (4, 3, 3, 2), {}),
    "2d-lenet": ((2, 1, 12, 12), (6, 1, 5, 5), {"padding": 2}),
    "2d-3x3": ((2, 5, 6, 5), (7, 5, 3, 3), {"padding": 1}),
    "2d-3x3-wide": ((1, 16, 6, 6), (32, 16, 3, 3), {"padding": 1}),
    "2d-stride": ((2, 3, 8, 7), (4, 3, 3, 3), {"stride": (2, 3), "padding": (1, 0)}),
    "2d-stride-skips-cells": ((1, 2, 9, 10), (3, 2, 2, 1), {"stride": (4, 3)}),
    "2d-one-by-one": ((2, 5, 4, 3), (3, 5, 1, 1), {}),
    "2d-one-by-one-stride": ((2, 5, 5, 4), (3, 5, 1, 1), {"stride": 2}),
    "2d-dilation": ((1, 2, 9, 8), (3, 2, 3, 2), {"dilation": (3, 2), "padding": (2, 1)}),
    "2d-groups": ((2, 6, 5, 4), (9, 2, 3, 3), {"groups": 3, "padding": 1}),
    "2d-depthwise": ((2, 5, 6, 5), (5, 1, 3, 3), {"groups": 5, "padding": 1}),
    "2d-depthwise-multiplier": ((1, 3, 6, 7), (6, 1, 3, 3), {"groups": 3, "stride": 2}),
    "2d-same": ((2, 3, 5, 6), (4, 3, 3, 4), {"padding": "same", "dilation": (1, 2)}),
    "2d-valid": ((2, 3, 5, 6), (4, 3, 2, 3), {"padding": "valid", "stride": 2}),
    "2d-large-padding": ((1, 1, 3, 3), (2, 1, 2, 2), {"padding": (4, 5), "stride": 2}),
    "2d-kernel-of-input-size": ((2, 3, 4, 5), (6, 3, 4, 5), {}),
    "2d-unbatched": ((3, 6, 5), (2, 3, 3, 3), {"stride": 2, "padding": 1}),
    "2d-empty-batch": ((0, 3, 5, 5), (4, 3, 3, 3), {"padding": 1}),
    "3d": ((2, 2, 4, 5, 3), (3, 2, 2, 3, 2), {}),
    "3d-everything": (
        (1, 4, 5, 6, 5),
        (4, 2, 2, 3, 2),
        {"stride": (2, 1, 3), "padding": (1, 2, 0), "dilation": (1, 2, 1), "groups": 2},
    ),
    "3d-same": ((1, 2, 4, 3, 5), (2, 2, 2, 3, 1), {"padding": "same"}),
    "3d-unbatched": ((2, 4, 3, 5), (2, 2, 2, 3, 1), {}),
}

for _name, (_x, _w, _kwargs) in CONVOLUTIONS.items():

    def _conv(F: Any, x: Any, w: Any, b: Any = None, _n: str = _name[:2], _k: Any = _kwargs) -> Any:
        return getattr(F, f"conv{_n}")(x, w, b, **_k)

    case(f"conv{_name}", _conv, _x, _w, _w[:1], order=2)
    if "everything" in _name or "3x3" in _name:
        case(f"conv{_name}-no-bias", _conv, _x, _w)

TRANSPOSED: dict[str, tuple[Any, ...]] = {
    "1d": ((2, 3, 5), (3, 4, 3), {"stride": 2}),
    "1d-unbatched": ((3, 5), (3, 4, 3), {"stride": 2, "output_padding": 1}),
    "2d": ((2, 3, 4, 5), (3, 2, 3, 2), {}),
    "2d-dcgan": ((2, 6, 4, 4), (6, 3, 4, 4), {"stride": 2, "padding": 1}),
    "2d-doubling": ((2, 3, 4, 3), (3, 2, 3, 3), {"stride": 2, "padding": 1, "output_padding": 1}),
    "2d-output-padding": ((1, 2, 3, 4), (2, 3, 2, 3), {"stride": (2, 3), "output_padding": (1, 2)}),
    "2d-groups": ((2, 6, 4, 3), (6, 2, 3, 3), {"groups": 3, "stride": (1, 2), "padding": (2, 1)}),
    "2d-dilation": ((1, 2, 4, 3), (2, 3, 3, 2), {"dilation": (2, 3), "stride": 2, "padding": 1}),
    "2d-output-padding-over-stride": (
        (2, 2, 3, 4),
        (2, 3, 2, 3),
        {"stride": (2, 1), "dilation": 4, "padding": (0, 1), "output_padding": (3, 2)},
    ),
    "2d-output-padding-in-padding": (
        (2, 2, 3, 4),
        (2, 3, 2, 3),
        {"dilation": 3, "padding": 3, "output_padding": (2, 1)},
    ),
    "2d-empty-batch": ((0, 3, 4, 4), (3, 2, 3, 3), {"stride": 2}),
    "3d": ((1, 2, 3, 2, 3), (2, 2, 2, 3, 2), {"stride": (1, 2, 2), "output_padding": (0, 1, 0)}),
    "3d-groups": (
        (1, 4, 2, 3, 2),
        (4, 1, 2, 2, 3),
        {"groups": 2, "padding": (1, 0, 1), "stride": 2},
    ),
}

for _name, (_x, _w, _kwargs) in TRANSPOSED.items():

    def _transposed(
        F: Any, x: Any, w: Any, b: Any = None, _n: str = _name[:2], _k: Any = _kwargs
    ) -> Any:
        return getattr(F, f"conv_transpose{_n}")(x, w, b, **_k)

    _out = (_w[1] * _kwargs.get("groups", 1),)
    case(f"conv_transpose{_name}", _transposed, _x, _w, _out, order=2)

# -- pooling ---------------------------------------------------------------------------------------
POOLS: dict[str, tuple[Any, ...]] = {  # x, arguments that max and average pooling share
    "1d": ((2, 3, 9), (2,), {}),
    "1d-overlap": ((2, 3, 10), (3, 2), {"padding": 1}),
    "1d-unbatched": ((3, 8), (3,), {}),
    "2d": ((2, 3, 6, 8), (2,), {}),
    "2d-leaves-cells": ((2, 2, 7, 9), (2,), {}),
    "2d-overlap": ((2, 2, 7, 8), (3, 2), {"padding": 1}),
    "2d-stride-over-kernel": ((1, 2, 9, 8), (2, (3, 4)), {}),
    "2d-ceil": ((2, 2, 7, 8), (3, 2), {"ceil_mode": True}),
    "2d-ceil-padding": ((1, 2, 6, 7), (3, 2), {"padding": 1, "ceil_mode": True}),
    "2d-ceil-drops-window": ((1, 1, 4, 5), (2, 3), {"padding": 1, "ceil_mode": True}),
    "2d-rectangle": ((2, 2, 6, 7), ((3, 2), (1, 2)), {"padding": (1, 0)}),
    "2d-whole": ((2, 3, 4, 5), ((4, 5),), {}),
    "2d-unbatched": ((3, 6, 5), (2,), {}),
    "2d-empty-batch": ((0, 3, 4, 4), (2,), {}),
    "3d": ((1, 2, 4, 5, 6), (2,), {}),
    "3d-overlap-ceil": ((1, 2, 5, 4, 6), ((3, 2, 3), 2), {"padding": (1, 0, 1), "ceil_mode": True}),
    "3d-unbatched": ((2, 4, 4, 4), (2, 1), {}),
}

for _name, (_shape, _args, _kwargs) in POOLS.items():

    def _max(F: Any, x: Any, _n: str = _name[:2], _a: Any = _args, _k: Any = _kwargs) -> Any:
        return getattr(F, f"max_pool{_n}")(x, *_a, return_indices=True, **_k)

    def _avg(F: Any, x: Any, _n: str = _name[:2], _a: Any = _args, _k: Any = _kwargs) -> Any:
        return getattr(F, f"avg_pool{_n}")(x, *_a, **_k)

    case(f"max_pool{_name}", _max, distinct(*_shape))
    case(f"avg_pool{_name}", _avg, _shape)

case("max_pool2d-no-indices", lambda F, x: F.max_pool2d(x, 2), distinct(2, 3, 6, 7))
case(
    "max_pool2d-dilation",
    lambda F, x: F.max_pool2d(x, (3, 2), 2, 1, (2, 3), False, True),
    distinct(1, 2, 9, 10),
)
case(
    "max_pool2d-ties",
    lambda F, x: F.max_pool2d(x, 3, 1, 1, return_indices=True),
    np.ones((1, 2, 4, 5)),
)
case(
    "max_pool1d-dilation",
    lambda F, x: F.max_pool1d(x, 3, 2, 1, 2, return_indices=True),
    distinct(2, 2, 11),
)
case(
    "max_pool2d-300-taps",
    lambda F, x: F.max_pool2d(x, (20, 15), (3, 2), return_indices=True),
    distinct(1, 1, 24, 20),
)
case("avg_pool1d-without-padding", lambda F, x: F.avg_pool1d(x, 3, 2, 1, True, False), (2, 3, 10))
case("avg_pool2d-without-padding", lambda F, x: F.avg_pool2d(x, 3, 2, 1, True, False), (2, 3, 8, 7))
case("avg_pool2d-divisor", lambda F, x: F.avg_pool2d(x, 3, 2, 1, divisor_override=5), (2, 3, 8, 7))
case(
    "avg_pool3d-without-padding",
    lambda F, x: F.avg_pool3d(x, 2, 2, 1, False, False),
    (1, 2, 4, 5, 3),
)
case("avg_pool3d-divisor", lambda F, x: F.avg_pool3d(x, 2, divisor_override=-3), (1, 2, 4, 5, 3))

ADAPTIVE: dict[str, tuple[Any, Any]] = {
    "1d": ((2, 3, 9), 3),
    "1d-uneven": ((2, 3, 9), 4),
    "1d-one": ((3, 7), 1),
    "1d-more": ((2, 2, 3), 5),
    "2d": ((2, 3, 6, 8), (3, 4)),
    "2d-uneven": ((2, 3, 7, 5), (3, 2)),
    "2d-one": ((2, 3, 5, 4), 1),
    "2d-none": ((2, 3, 5, 4), (None, 3)),
    "2d-vgg": ((1, 2, 10, 9), (7, 7)),
    "2d-unbatched": ((3, 5, 6), (2, 4)),
    "2d-empty-batch": ((0, 3, 5, 4), (2, 2)),
    "3d": ((1, 2, 4, 6, 2), (2, 3, 1)),
    "3d-uneven": ((1, 2, 5, 4, 3), (2, 3, 2)),
}

for _name, (_shape, _size) in ADAPTIVE.items():

    def _adaptive_avg(F: Any, x: Any, _n: str = _name[:2], _s: Any = _size) -> Any:
        return getattr(F, f"adaptive_avg_pool{_n}")(x, _s)

    def _adaptive_max(F: Any, x: Any, _n: str = _name[:2], _s: Any = _size) -> Any:
        return getattr(F, f"adaptive_max_pool{_n}")(x, _s, return_indices=True)

    case(f"adaptive_avg_pool{_name}", _adaptive_avg, _shape)
    case(f"adaptive_max_pool{_name}", _adaptive_max, distinct(*_shape))

# -- normalisation ---------------------------------------------------------------------------------
for _name, _shape in {
    "2d": (4, 3, 5, 4),
    "1d": (6, 4),
    "1d-length": (3, 4, 5),
    "3d": (2, 2, 3, 2, 3),
}.items():
    _c = (_shape[1],)
    _stats = (fixed(uniform(*_c, seed=1)), fixed(uniform(*_c, seed=2) + 0.5))
    case(
        f"batch_norm-{_name}",
        lambda F, x, w, b: F.batch_norm(x, None, None, w, b, True, 0.1, 1e-3),
        _shape,
        _c,
        _c,
        order=2,
    )
    case(
        f"batch_norm-{_name}-plain",
        lambda F, x: F.batch_norm(x, None, None, training=True),
        _shape,
        order=2,
    )
    case(
        f"batch_norm-{_name}-inference",
        lambda F, x, w, b, m, v: F.batch_norm(x, m, v, w, b),
        _shape,
        _c,
        _c,
        *_stats,
    )
case(
    "batch_norm-empty",
    lambda F, x, w, b: F.batch_norm(x, None, None, w, b, True),
    (0, 3, 4, 4),
    (3,),
    (3,),
)
case(
    "batch_norm-large-mean",
    lambda F, x: F.batch_norm(x + 1e4, None, None, training=True),
    (4, 2, 3, 3),
    order=1,
)
case("layer_norm", lambda F, x, w, b: F.layer_norm(x, (5,), w, b), (4, 3, 5), (5,), (5,), order=2)
case("layer_norm-rows", lambda F, x, w, b: F.layer_norm(x, (5,), w, b), (4, 5), (5,), (5,), order=2)
case(
    "layer_norm-two",
    lambda F, x, w, b: F.layer_norm(x, (3, 5), w, b),
    (4, 3, 5),
    (3, 5),
    (3, 5),
    order=2,
)
case("layer_norm-all", lambda F, x: F.layer_norm(x, (3, 5), eps=1e-2), (3, 5), order=2)
case("layer_norm-empty", lambda F, x: F.layer_norm(x, (5,)), (0, 5), order=2)
case("group_norm", lambda F, x, w, b: F.group_norm(x, 2, w, b), (3, 4, 3, 2), (4,), (4,), order=2)
case("group_norm-one", lambda F, x: F.group_norm(x, 1), (3, 4, 5), order=2)
case("group_norm-2d", lambda F, x: F.group_norm(x, 2), (3, 6), order=2)
case(
    "instance_norm",
    lambda F, x, w, b: F.instance_norm(x, None, None, w, b),
    (3, 4, 3, 2),
    (4,),
    (4,),
    order=2,
)
case("instance_norm-1d", lambda F, x: F.instance_norm(x, eps=1e-2), (3, 4, 6), order=2)
case(
    "instance_norm-given",
    lambda F, x, m, v: F.instance_norm(x, m, v, use_input_stats=False),
    (3, 4, 3, 2),
    fixed(uniform(4)),
    fixed(uniform(4, seed=1)),
)
case("local_response_norm", lambda F, x: F.local_response_norm(x, 3, 0.2, 0.6, 1.5), (2, 5, 3, 4))
case("local_response_norm-even", lambda F, x: F.local_response_norm(x, 4), (2, 3, 5))
case("normalize", lambda F, x: F.normalize(x), (4, 3, 2))
case("normalize-p3", lambda F, x: F.normalize(x, 3.0, -1), (4, 3))
case("normalize-p1", lambda F, x: F.normalize(x, 1.0, 0), (4, 3))
case("normalize-clamped", lambda F, x: F.normalize(x, eps=10.0), (4, 3))
case("cosine_similarity", lambda F, x, y: F.cosine_similarity(x, y), (4, 3), (4, 3), order=2)
case(
    "cosine_similarity-broadcast",
    lambda F, x, y: F.cosine_similarity(x, y, -1),
    (4, 1, 3),
    (5, 3),
    order=2,
)

# -- activation: the kinks are in test_functional.py -----------------------------------------------
ACTIVATIONS: dict[str, Callable[..., Any]] = {
    "relu": lambda F, x: F.relu(x),
    "relu6": lambda F, x: F.relu6(x),
    "leaky_relu": lambda F, x: F.leaky_relu(x, 0.2),
    "leaky_relu-default": lambda F, x: F.leaky_relu(x),
    "elu": lambda F, x: F.elu(x, 1.7),
    "selu": lambda F, x: F.selu(x),
    "celu": lambda F, x: F.celu(x, 1.3),
    "gelu": lambda F, x: F.gelu(x),
    "gelu-tanh": lambda F, x: F.gelu(x, approximate="tanh"),
    "silu": lambda F, x: F.silu(x),
    "mish": lambda F, x: F.mish(x),
    "softsign": lambda F, x: F.softsign(x),
    "softplus": lambda F, x: F.softplus(x),
    "softplus-steep": lambda F, x: F.softplus(x, 2.0, 3.0),
    "hardtanh": lambda F, x: F.hardtanh(x),
    "hardtanh-limits": lambda F, x: F.hardtanh(x, -2.0, 3.0),
    "hardsigmoid": lambda F, x: F.hardsigmoid(x),
    "hardswish": lambda F, x: F.hardswish(x),
    "logsigmoid": lambda F, x: F.logsigmoid(x),
    "sigmoid": lambda F, x: F.sigmoid(x),
    "tanh": lambda F, x: F.tanh(x),
}
# PyTorch computes these two with a float32 constant, and the last without a second derivative.
ROUNDED = {"celu": 1e-6, "hardsigmoid": 1e-7}
ORDERS = {"hardsigmoid": 1}
for _name, _call in ACTIVATIONS.items():
    _more: dict[str, Any] = {"order": ORDERS.get(_name, 3), "rtol": ROUNDED.get(_name, 1e-9)}
    case(_name, _call, distinct(5, 4, 3) + 0.013, **_more)
    case(f"{_name}-empty", _call, (0, 3), **_more)
    case(f"{_name}-0d", _call, np.array(-0.7), **_more)
case("prelu", lambda F, x, w: F.prelu(x, w), (3, 4, 5), (4,))
case("prelu-one", lambda F, x, w: F.prelu(x, w), (3, 4), (1,))
case("prelu-1d", lambda F, x, w: F.prelu(x, w), (5,), (1,))
for _name in ("softmax", "log_softmax"):
    for _axis, _shape in (
        (0, (5,)),
        (1, (4, 5)),
        (0, (4, 5)),
        (-1, (2, 3, 4)),
        (1, (2, 3, 2, 2)),
        (0, ()),
        (1, (0, 3)),
    ):

        def _soft(F: Any, x: Any, _f: str = _name, _d: int = _axis) -> Any:
            return getattr(F, _f)(x, _d)

        case(f"{_name}-{_axis}-{_shape}", _soft, _shape)
