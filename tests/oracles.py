"""What the primitives compute, as plain loops in float64 written straight from the formulas.

Slow, obvious and independent of every backend: nothing here calls one, and none of the tricks of a
backend (columns, slices, fused sums) appears. Arrays come and go as NumPy arrays.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from tinygrad_cnn.geometry import Window

Array = Any
Index = tuple[int, ...]


def indices(shape: Any) -> Iterator[Index]:
    return itertools.product(*(range(n) for n in shape))


def output_shape(sizes: Any, window: Window) -> Index:
    """Counts the positions p at which a whole kernel fits into the padded input."""
    found = []
    for n, k, s, (before, after), d in zip(sizes, *window, strict=True):
        last_start = n + after - 1 - d * (k - 1)  # where the kernel's last tap reaches the end
        found.append(sum(1 for p in range(n + before + after) if p * s - before <= last_start))
    return tuple(found)


def cell(p: Index, k: Index, sizes: Any, window: Window) -> Index | None:
    """The input cell that kernel position k sees from output position p, None in the padding."""
    h = tuple(
        p_ * s + k_ * d - before
        for p_, k_, s, (before, _), d in zip(
            p, k, window.stride, window.padding, window.dilation, strict=True
        )
    )
    inside = all(0 <= h_ < n for h_, n in zip(h, sizes, strict=True))
    return h if inside else None


def products(
    x_shape: Index, w_shape: Index, y_spatial: Index, window: Window, groups: int
) -> Iterator[tuple[Index, Index, Index]]:
    """Index of y, of x and of w for each product x·w that convolution adds to an element of y."""
    out_per_group, in_per_group = w_shape[0] // groups, w_shape[1]
    for p, k in itertools.product(indices(y_spatial), indices(w_shape[2:])):
        h = cell(p, k, x_shape[2:], window)
        if h is None:
            continue
        for n, o, c in indices((x_shape[0], w_shape[0], in_per_group)):
            channel = (o // out_per_group) * in_per_group + c
            yield (n, o, *p), (n, channel, *h), (o, c, *k)


def conv(x: Array, w: Array, bias: Array | None, window: Window, groups: int) -> Array:
    spatial = output_shape(x.shape[2:], window)
    y = np.zeros((x.shape[0], w.shape[0], *spatial))
    for at_y, at_x, at_w in products(x.shape, w.shape, spatial, window, groups):
        y[at_y] += float(x[at_x]) * float(w[at_w])
    if bias is not None:
        for at in indices(y.shape):
            y[at] += float(bias[at[1]])
    return y


def conv_input_grad(gy: Array, w: Array, shape: Index, window: Window, groups: int) -> Array:
    gx = np.zeros(shape)
    for at_y, at_x, at_w in products(shape, w.shape, gy.shape[2:], window, groups):
        gx[at_x] += float(gy[at_y]) * float(w[at_w])
    return gx


def conv_weight_grad(x: Array, gy: Array, shape: Index, window: Window, groups: int) -> Array:
    gw = np.zeros(shape)
    for at_y, at_x, at_w in products(x.shape, shape, gy.shape[2:], window, groups):
        gw[at_w] += float(gy[at_y]) * float(x[at_x])
    return gw


def max_pool(x: Array, window: Window) -> tuple[Array, Array]:
    spatial = output_shape(x.shape[2:], window)
    y = np.zeros((*x.shape[:2], *spatial), x.dtype)
    winner = np.zeros(y.shape, np.int64)
    for at in indices(y.shape):
        best = None
        for t, k in enumerate(indices(window.kernel)):
            h = cell(at[2:], k, x.shape[2:], window)
            if h is None:
                continue
            value = x[(*at[:2], *h)]
            if best is None or value > best or math.isnan(value):
                best, y[at], winner[at] = value, value, t
    return y, winner


def max_pool_gather(x: Array, winner: Array, window: Window) -> Array:
    y = np.zeros(winner.shape)
    kernel_positions = list(indices(window.kernel))
    for at in indices(winner.shape):
        h = cell(at[2:], kernel_positions[winner[at]], x.shape[2:], window)
        assert h is not None
        y[at] = x[(*at[:2], *h)]
    return y


def max_pool_scatter(gy: Array, winner: Array, shape: Index, window: Window) -> Array:
    gx = np.zeros(shape)
    kernel_positions = list(indices(window.kernel))
    for at in indices(gy.shape):
        h = cell(at[2:], kernel_positions[winner[at]], shape[2:], window)
        assert h is not None
        gx[(*at[:2], *h)] += float(gy[at])
    return gx


def _shares(
    shape: Index, spatial: Index, window: Window, divisors: Any
) -> Iterator[tuple[Index, Index, float]]:
    """Index of y, index of x and the fraction of x that average pooling gives to y."""
    for p, k in itertools.product(indices(spatial), indices(window.kernel)):
        h = cell(p, k, shape[2:], window)
        if h is None:
            continue
        share = 1.0 / math.prod(axis[p_] for axis, p_ in zip(divisors, p, strict=True))
        for n, c in indices(shape[:2]):
            yield (n, c, *p), (n, c, *h), share


def avg_pool(x: Array, window: Window, divisors: Any) -> Array:
    spatial = output_shape(x.shape[2:], window)
    y = np.zeros((*x.shape[:2], *spatial))
    for at_y, at_x, share in _shares(x.shape, spatial, window, divisors):
        y[at_y] += float(x[at_x]) * share
    return y


def avg_pool_scatter(gy: Array, shape: Index, window: Window, divisors: Any) -> Array:
    gx = np.zeros(shape)
    for at_y, at_x, share in _shares(shape, gy.shape[2:], window, divisors):
        gx[at_x] += float(gy[at_y]) * share
    return gx


def batch_norm_stats(x: Array) -> tuple[Array, Array]:
    means, variances = [], []
    for c in range(x.shape[1]):
        values = [float(v) for v in x[:, c].ravel()]
        mean = math.fsum(values) / len(values)
        means.append(mean)
        variances.append(math.fsum((v - mean) ** 2 for v in values) / len(values))
    return np.array(means), np.array(variances)


def batch_norm(
    x: Array, mean: Array, var: Array, weight: Array | None, bias: Array | None, eps: float
) -> Array:
    y = np.zeros(x.shape)
    for at in indices(x.shape):
        c = at[1]
        y[at] = (float(x[at]) - float(mean[c])) / math.sqrt(float(var[c]) + eps)
        y[at] = y[at] * (1.0 if weight is None else float(weight[c]))
        y[at] += 0.0 if bias is None else float(bias[c])
    return y


def batch_norm_grad(
    gy: Array, x: Array, mean: Array, var: Array, weight: Array | None, eps: float
) -> tuple[Array, Array, Array]:
    """gx_k = Σ_l gy_l ∂y_l/∂x_k over the m elements of a channel, with the whole Jacobian
    ∂y_l/∂x_k = weight · ((δ_lk − 1/m)/σ − (x_l − μ)(x_k − μ)/(m·σ³))."""
    channel_axis_last = np.moveaxis(np.asarray(x, np.float64), 1, -1).reshape(-1, x.shape[1])
    g_rows = np.moveaxis(np.asarray(gy, np.float64), 1, -1).reshape(-1, x.shape[1])
    m, channels = channel_axis_last.shape
    gx, gw, gb = np.zeros((m, channels)), np.zeros(channels), np.zeros(channels)
    for c in range(channels):
        d = [v - float(mean[c]) for v in channel_axis_last[:, c]]
        g, sigma = g_rows[:, c], math.sqrt(float(var[c]) + eps)
        scale = 1.0 if weight is None else float(weight[c])
        for k in range(m):
            gx[k, c] = scale * math.fsum(
                g[i] * (((i == k) - 1 / m) / sigma - d[i] * d[k] / (m * sigma**3)) for i in range(m)
            )
        gw[c] = math.fsum(g[i] * d[i] / sigma for i in range(m))
        gb[c] = math.fsum(g)
    moved = gx.reshape(x.shape[0], *x.shape[2:], channels)
    return np.moveaxis(moved, -1, 1), gw, gb


def matmul(a: Array, b: Array) -> Array:
    """(…, M, K) @ (…, K, N) with broadcast batch dimensions."""
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a = np.broadcast_to(a, (*batch, *a.shape[-2:]))
    b = np.broadcast_to(b, (*batch, *b.shape[-2:]))
    y = np.zeros((*batch, a.shape[-2], b.shape[-1]))
    for at in indices(y.shape):
        *lead, row, column = at
        y[at] = math.fsum(
            float(a[(*lead, row, k)]) * float(b[(*lead, k, column)]) for k in range(a.shape[-1])
        )
    return y


def softmax(x: Array) -> Array:
    """Over the last axis."""
    y = np.zeros(x.shape)
    for at in indices(x.shape[:-1]):
        top = max(float(v) for v in x[at])
        e = [math.exp(float(v) - top) for v in x[at]]
        y[at] = [v / math.fsum(e) for v in e]
    return y


def log_softmax(x: Array) -> Array:
    """Over the last axis."""
    y = np.zeros(x.shape)
    for at in indices(x.shape[:-1]):
        top = max(float(v) for v in x[at])
        norm = top + math.log(math.fsum(math.exp(float(v) - top) for v in x[at]))
        y[at] = [float(v) - norm for v in x[at]]
    return y


def index_add(shape: Index, index: Any, values: Array) -> Array:
    """Positions are numbered and selected by NumPy's own indexing; the adding is a loop."""
    positions = np.arange(math.prod(shape)).reshape(shape)[index]
    out = np.zeros(math.prod(shape))
    for at in indices(positions.shape):
        out[positions[at]] += float(values[at])
    return out.reshape(shape)


def take_along_axis(a: Array, index: Array, axis: int) -> Array:
    out = np.zeros(index.shape, a.dtype)
    for at in indices(index.shape):
        out[at] = a[(*at[:axis], index[at], *at[axis + 1 :])]
    return out


def add_along_axis(shape: Index, index: Array, values: Array, axis: int) -> Array:
    out = np.zeros(shape)
    for at in indices(index.shape):
        out[(*at[:axis], index[at], *at[axis + 1 :])] += float(values[at])
    return out


def sgd(p: float, g: float, m: float, *, lr: float, momentum: float, dampening: float,
        weight_decay: float, nesterov: bool, first: bool) -> tuple[float, float]:  # fmt: skip
    """New (parameter, momentum) of one number."""
    g += weight_decay * p
    m = g if first else momentum * m + (1 - dampening) * g
    return p - lr * (g + momentum * m if nesterov else m), m


def adam(p: float, g: float, m: float, v: float, *, lr: float, betas: tuple[float, float],
         eps: float, weight_decay: float, decoupled: bool, step: int,
         ) -> tuple[float, float, float]:  # fmt: skip
    """New (parameter, first moment, second moment) of one number."""
    if decoupled:
        p -= lr * weight_decay * p
    else:
        g += weight_decay * p
    m = betas[0] * m + (1 - betas[0]) * g
    v = betas[1] * v + (1 - betas[1]) * g * g
    m_hat, v_hat = m / (1 - betas[0] ** step), v / (1 - betas[1] ** step)
    return p - lr * m_hat / (math.sqrt(v_hat) + eps), m, v


def philox_block(counter: Index, key: Index) -> Index:
    """Philox 4x32-10 of one counter, in Python integers."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        high0, low0 = divmod(0xD2511F53 * c0, 2**32)
        high1, low1 = divmod(0xCD9E8D57 * c2, 2**32)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return c0, c1, c2, c3
