"""The second half of the table of functional_cases.py: losses, layers without windows, images."""

from __future__ import annotations

from typing import Any

import numpy as np
from functional_cases import case, classes, distinct, fixed, ones_and_zeros, probabilities, uniform

# -- classification --------------------------------------------------------------------------------
SHAPES: dict[str, tuple[Any, ...]] = {
    "2d": (6, 5),
    "1d": (5,),
    "image": (2, 4, 3, 2),
    "sequence": (3, 4, 5),
}
for _reduction in ("mean", "sum", "none"):
    for _name, _shape in SHAPES.items():
        _k = _shape[0] if len(_shape) == 1 else _shape[1]
        _rest = () if len(_shape) == 1 else (_shape[0], *_shape[2:])
        _target = classes(_k, *_rest, seed=3)
        _ignoring = np.where(np.arange(_target.size).reshape(_rest) % 3 == 1, 2, _target)

        def _plain(F: Any, x: Any, t: Any, _r: str = _reduction) -> Any:
            return F.cross_entropy(x, t, reduction=_r)

        def _full(F: Any, x: Any, t: Any, w: Any, _r: str = _reduction) -> Any:
            return F.cross_entropy(x, t, w, ignore_index=2, reduction=_r, label_smoothing=0.2)

        def _soft(F: Any, x: Any, p: Any, w: Any, _r: str = _reduction) -> Any:
            return F.cross_entropy(x, p, w, reduction=_r, label_smoothing=0.1)

        def _soft_plain(F: Any, x: Any, p: Any, _r: str = _reduction) -> Any:
            return F.cross_entropy(x, p, reduction=_r)

        def _nll(F: Any, x: Any, t: Any, _r: str = _reduction) -> Any:
            return F.nll_loss(F.log_softmax(x, min(1, x.ndim - 1)), t, reduction=_r)

        def _nll_full(F: Any, x: Any, t: Any, w: Any, _r: str = _reduction) -> Any:
            return F.nll_loss(x, t, w, ignore_index=2, reduction=_r)

        _p = probabilities(*_shape, seed=4, axis=min(1, len(_shape) - 1))
        _id = f"{_name}-{_reduction}"
        case(f"cross_entropy-{_id}", _plain, _shape, _target)
        case(f"cross_entropy-{_id}-full", _full, _shape, _ignoring, fixed(uniform(_k, seed=5)))
        case(f"cross_entropy-{_id}-probabilities", _soft_plain, _shape, _p)
        case(
            f"cross_entropy-{_id}-probabilities-full", _soft, _shape, _p, fixed(uniform(_k, seed=6))
        )
        case(f"nll_loss-{_id}", _nll, _shape, _target)
        case(f"nll_loss-{_id}-full", _nll_full, _shape, _ignoring, fixed(uniform(_k, seed=5)))

case(
    "cross_entropy-smooth",
    lambda F, x, t: F.cross_entropy(x, t, label_smoothing=0.3),
    (6, 5),
    classes(5, 6),
)
case(
    "cross_entropy-ignoring",
    lambda F, x, t: F.cross_entropy(x, t),
    (4, 3),
    np.array([0, -100, 2, -100]),
)
case(
    "cross_entropy-all-ignored",
    lambda F, x, t: F.cross_entropy(x, t),
    (2, 3),
    np.array([-100, -100]),
    order=1,
)
case(
    "cross_entropy-nothing",
    lambda F, x, t: F.cross_entropy(x, t),
    (0, 3),
    np.zeros(0, np.int64),
    order=1,
)
case(
    "cross_entropy-nothing-sum",
    lambda F, x, t: F.cross_entropy(x, t, reduction="sum"),
    (0, 3),
    np.zeros(0, np.int64),
)
case(
    "cross_entropy-one-class", lambda F, x, t: F.cross_entropy(x, t), (3, 1), np.zeros(3, np.int64)
)
case(
    "cross_entropy-large-logits", lambda F, x, t: F.cross_entropy(x * 300, t), (4, 3), classes(3, 4)
)

for _reduction in ("mean", "sum", "none"):

    def _bce(F: Any, x: Any, t: Any, w: Any, _r: str = _reduction) -> Any:
        return F.binary_cross_entropy(x, t, w, reduction=_r)

    def _bce_logits(F: Any, x: Any, t: Any, w: Any, p: Any, _r: str = _reduction) -> Any:
        return F.binary_cross_entropy_with_logits(x, t, w, reduction=_r, pos_weight=p)

    case(
        f"binary_cross_entropy-{_reduction}",
        _bce,
        uniform(4, 3),
        ones_and_zeros(4, 3),
        fixed(uniform(4, 3, seed=2)),
        order=2,
    )
    case(
        f"binary_cross_entropy_with_logits-{_reduction}",
        _bce_logits,
        (4, 3),
        uniform(4, 3),
        fixed(uniform(3, seed=2)),
        fixed(uniform(3, seed=3) * 4),
        order=2,
    )

    for _name in ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"):

        def _regression(F: Any, x: Any, t: Any, _f: str = _name, _r: str = _reduction) -> Any:
            return getattr(F, _f)(x, t, reduction=_r)

        case(
            f"{_name}-{_reduction}",
            _regression,
            distinct(4, 5) * 0.7,
            distinct(4, 5, seed=1) + 0.03,
        )
        case(f"{_name}-{_reduction}-nothing", _regression, (0, 3), (0, 3), order=1)
        case(f"{_name}-{_reduction}-0d", _regression, (), (), order=1)

case(
    "binary_cross_entropy-soft",
    lambda F, x, t: F.binary_cross_entropy(x, t),
    uniform(4, 3),
    uniform(4, 3, seed=1),
    order=2,
)
case(
    "binary_cross_entropy_with_logits-plain",
    lambda F, x, t: F.binary_cross_entropy_with_logits(x, t),
    (4, 3),
    uniform(4, 3),
    order=2,
)
case(
    "binary_cross_entropy_with_logits-far",
    lambda F, x, t: F.binary_cross_entropy_with_logits(x * 200, t),
    (4, 3),
    ones_and_zeros(4, 3),
    order=2,
)
case(
    "smooth_l1_loss-beta",
    lambda F, x, t: F.smooth_l1_loss(x, t, beta=0.3),
    distinct(4, 5),
    distinct(4, 5, seed=1) + 0.03,
)
case("smooth_l1_loss-beta-0", lambda F, x, t: F.smooth_l1_loss(x, t, beta=0.0), (4, 5), (4, 5))
case(
    "huber_loss-delta",
    lambda F, x, t: F.huber_loss(x, t, delta=0.4),
    distinct(4, 5),
    distinct(4, 5, seed=1) + 0.03,
)

for _reduction in ("mean", "sum", "none", "batchmean"):

    def _kl(F: Any, x: Any, t: Any, _r: str = _reduction) -> Any:
        return F.kl_div(x, t, reduction=_r)

    def _kl_log(F: Any, x: Any, t: Any, _r: str = _reduction) -> Any:
        return F.kl_div(x, t, reduction=_r, log_target=True)

    case(f"kl_div-{_reduction}", _kl, (3, 4), probabilities(3, 4))
    case(f"kl_div-{_reduction}-log", _kl_log, (3, 4), np.log(probabilities(3, 4)))
case(
    "kl_div-zero",
    lambda F, x, t: F.kl_div(x, t, reduction="sum"),
    (2, 2),
    fixed([[0.0, 1.0], [0.5, 0.5]]),
)

# -- layers without windows ------------------------------------------------------------------------
case("linear", lambda F, x, w, b: F.linear(x, w, b), (4, 3), (5, 3), (5,))
case("linear-no-bias", lambda F, x, w: F.linear(x, w), (4, 3), (5, 3))
case("linear-vector", lambda F, x, w, b: F.linear(x, w, b), (3,), (5, 3), (5,))
case("linear-3d", lambda F, x, w, b: F.linear(x, w, b), (2, 4, 3), (5, 3), (5,))
case("linear-weight-vector", lambda F, x, w: F.linear(x, w), (4, 3), (3,))
case("linear-empty", lambda F, x, w, b: F.linear(x, w, b), (0, 3), (5, 3), (5,))
case("linear-no-features", lambda F, x, w, b: F.linear(x, w, b), (4, 0), (5, 0), (5,))
case("linear-large", lambda F, x, w, b: F.linear(x, w, b), (33, 70), (17, 70), (17,), order=2)
case("embedding", lambda F, w, i: F.embedding(i, w), (6, 3), classes(6, 4, 2))
case(
    "embedding-padding",
    lambda F, w, i: F.embedding(i, w, padding_idx=2),
    (4, 3),
    np.array([2, 1, 2, 0]),
)
case(
    "embedding-padding-negative",
    lambda F, w, i: F.embedding(i, w, padding_idx=-1),
    (4, 3),
    np.array([3, 1, 3]),
)
case(
    "embedding-nothing",
    lambda F, w, i: F.embedding(i, w),
    (4, 3),
    np.zeros((0, 2), np.int64),
    order=1,
)
case("one_hot", lambda F, i: F.one_hot(i), classes(4, 3, 2))
case("one_hot-more", lambda F, i: F.one_hot(i, 6), classes(4, 5))
case("one_hot-0d", lambda F, i: F.one_hot(i, 3), np.array(1))

# -- images ----------------------------------------------------------------------------------------
case("unfold", lambda F, x: F.unfold(x, 2), (2, 3, 4, 5))
case("unfold-everything", lambda F, x: F.unfold(x, (3, 2), (2, 1), (2, 1), (1, 2)), (2, 3, 7, 6))
case("unfold-unbatched", lambda F, x: F.unfold(x, 3, padding=1, stride=2), (2, 5, 5))
case("fold", lambda F, x: F.fold(x, (4, 5), 2), (2, 12, 12))
case("fold-everything", lambda F, x: F.fold(x, (7, 6), (3, 2), (2, 1), (2, 1), (1, 2)), (2, 18, 28))
case("fold-unbatched", lambda F, x: F.fold(x, (4, 4), 2, stride=2), (8, 4))
case("unfold-empty", lambda F, x: F.unfold(x, 2), (0, 3, 4, 5))

PADS: dict[str, tuple[Any, ...]] = {
    "constant-1d": ((5,), (2, 1)),
    "constant-4d": ((2, 3, 4, 5), (1, 2, 0, 3)),
    "constant-all": ((2, 3, 2), (1, 0, 2, 1, 0, 1)),
    "constant-negative": ((3, 6, 5), (-1, 2, -2, -1)),
    "reflect-2d": ((3, 5), (2, 3)),
    "reflect-3d": ((2, 3, 5), (4, 1)),
    "reflect-4d": ((2, 2, 4, 5), (1, 2, 3, 0)),
    "reflect-5d": ((1, 2, 3, 4, 5), (1, 2, 3, 0, 2, 1)),
    "replicate-2d": ((3, 5), (2, 3)),
    "replicate-3d": ((2, 3, 5), (7, 1)),
    "replicate-4d": ((2, 2, 4, 5), (1, 2, 3, 0)),
    "replicate-5d": ((1, 2, 3, 4, 5), (1, 2, 3, 0, 2, 1)),
    "replicate-negative": ((2, 2, 4, 5), (-1, 2, 1, -2)),
    "circular-2d": ((3, 5), (2, 3)),
    "circular-3d": ((2, 3, 5), (5, 1)),
    "circular-4d": ((2, 2, 4, 5), (1, 2, 3, 0)),
    "circular-5d": ((1, 2, 3, 4, 5), (1, 2, 3, 0, 2, 1)),
    "circular-negative": ((2, 2, 4, 5), (-1, 2, 1, -2)),
    "constant-nothing": ((0, 3), (1, 1)),
    "reflect-empty-batch": ((0, 2, 3, 3), (1, 2, 1, 0)),
    "circular-empty-batch": ((0, 2, 3, 3), (1, 2, 1, 0)),
}
for _name, (_shape, _widths) in PADS.items():

    def _pad(F: Any, x: Any, _w: Any = _widths, _m: str = _name.split("-")[0]) -> Any:
        return F.pad(x, _w, _m)

    case(f"pad-{_name}", _pad, _shape)
case("pad-value", lambda F, x: F.pad(x, (1, 2), value=3.5), (2, 3))
case("pad-value-negative", lambda F, x: F.pad(x, (1, -2, -1, 1), value=-2.0), (4, 5))

RESIZED: dict[str, tuple[Any, ...]] = {
    "nearest-1d": ((2, 3, 5), {"size": 8}),
    "nearest-2d": ((2, 3, 4, 5), {"scale_factor": 2}),
    "nearest-2d-down": ((2, 3, 7, 6), {"size": (3, 4)}),
    "nearest-2d-factor": ((1, 2, 5, 7), {"scale_factor": (1.7, 0.6)}),
    "nearest-3d": ((1, 2, 3, 4, 2), {"size": (5, 3, 4)}),
    "nearest-exact-2d": ((1, 2, 5, 7), {"size": (8, 4), "mode": "nearest-exact"}),
    "linear": ((2, 3, 5), {"size": 8, "mode": "linear"}),
    "linear-corners": ((2, 3, 5), {"size": 8, "mode": "linear", "align_corners": True}),
    "bilinear": ((2, 3, 4, 5), {"scale_factor": 2, "mode": "bilinear"}),
    "bilinear-down": ((2, 3, 7, 6), {"size": (3, 4), "mode": "bilinear"}),
    "bilinear-corners": ((2, 3, 4, 5), {"size": (7, 3), "mode": "bilinear", "align_corners": True}),
    "bilinear-to-one": ((2, 3, 4, 5), {"size": (1, 1), "mode": "bilinear", "align_corners": True}),
    "bilinear-factor": ((1, 2, 5, 7), {"scale_factor": (1.7, 0.6), "mode": "bilinear"}),
    "bilinear-recompute": (
        (1, 2, 5, 7),
        {"scale_factor": (1.7, 0.6), "mode": "bilinear", "recompute_scale_factor": True},
    ),
    "trilinear": ((1, 2, 3, 4, 2), {"size": (5, 3, 4), "mode": "trilinear"}),
    "bilinear-factor-of-nothing": ((1, 2, 3, 4), {"scale_factor": 1.2, "mode": "bilinear"}),
    "area": ((1, 2, 5, 7), {"size": (2, 3), "mode": "area"}),
    "bilinear-empty": ((0, 2, 3, 3), {"size": (2, 5), "mode": "bilinear"}),
}
for _name, (_shape, _kwargs) in RESIZED.items():

    def _resize(F: Any, x: Any, _k: Any = _kwargs) -> Any:
        return F.interpolate(x, **_k)

    case(f"interpolate-{_name}", _resize, _shape)
case("pixel_shuffle", lambda F, x: F.pixel_shuffle(x, 2), (2, 12, 3, 4))
case("pixel_shuffle-unbatched", lambda F, x: F.pixel_shuffle(x, 3), (9, 2, 2))
case("pixel_unshuffle", lambda F, x: F.pixel_unshuffle(x, 2), (2, 3, 4, 6))
