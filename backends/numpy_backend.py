"""The reference backend: readable NumPy kernels that say what every other backend must compute.

Convolution and pooling of any number of spatial axes rest on one idea. On each axis, kernel
position i sees the input cell  h = p·s + i·d − before  from output position p. As p runs over the
outputs for which that cell exists, h is an arithmetic progression: a slice. So each kernel position
pairs a block of outputs with a strided slice of inputs, padding is never stored, and an adjoint is
the same loop with the two sides exchanged.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from tinygrad_cnn.backend import Array, Backend
from tinygrad_cnn.geometry import Shape, Window

from .array_backend import ArrayBackend

# What meets infinities, NaN or a narrower dtype in ordinary use. Additions and products stay bare
# ufuncs, for speed: they signal only when training has already diverged.
SIGNALLING = frozenset(
    "divide power remainder floor_divide exp expm1 log log1p sqrt sin cos arcsin arccos tanh "
    "sigmoid erf astype sum prod cumsum matmul linear softmax log_softmax cross_entropy conv "
    "conv_input_grad conv_weight_grad avg_pool avg_pool_scatter batch_norm_stats batch_norm "
    "batch_norm_grad sgd_step adam_step amsgrad_step rmsprop_step adagrad_step squared_norms "
    "activation activation_grad resample pair_loss pair_loss_grad prelu_grad sum_of_squares".split()
)
_silent = np.errstate(all="ignore")  # log 0 is −inf here, without a warning, as in PyTorch

Slices = tuple[Any, ...]  # Ellipsis and one slice a spatial axis


def taps(window: Window, sizes: Shape, outputs: Shape) -> Iterator[tuple[int, Slices, Slices]]:
    """(t, outputs, inputs) for every kernel position t = i·J + j that sees any input cell.

    ``y[outputs]`` and ``x[inputs]`` have equal spatial shapes: the outputs for which position t
    falls on an input cell, and those cells. Within one t every cell occurs once.
    """
    axes = []
    for n, q, k, s, (before, _), d in zip(sizes, outputs, *window, strict=True):
        axis = []
        for i in range(k):
            h = i * d - before  # the cell that output 0 sees
            first, last = max(0, -(h // s)), min(q, -((h - n) // s))  # 0 ≤ p·s + h < n
            axis.append(
                (slice(first, last), slice(first * s + h, (last - 1) * s + h + 1, s), last > first)
            )
        axes.append(axis)
    for t, position in enumerate(itertools.product(*axes)):
        if all(seen for _, _, seen in position):
            yield t, (..., *(o for o, _, _ in position)), (..., *(i for _, i, _ in position))


def widen(a: Array) -> Array:
    """float16 is stored only: arithmetic on it is done in float32."""
    return a.astype(np.float32) if a.dtype == np.float16 else a


def channels(v: Array, ndim: int) -> Array:
    """v (C,) shaped to broadcast along axis 1 of ``ndim`` dimensions."""
    return v.reshape((1, -1) + (1,) * (ndim - 2))


def columns(x: Array, window: Window, outputs: Shape) -> Array:
    """cols[n, c, t, p, q] = x[n, c, p·s+i·d−pad, q·s+j·d−pad], 0 in the padding; t = i·J + j."""
    cols = np.zeros((*x.shape[:2], window.taps(), *outputs), x.dtype)
    for t, o, i in taps(window, x.shape[2:], outputs):
        cols[:, :, t][o] = x[i]
    return cols


def divisor_array(divisors: tuple[tuple[int, ...], ...], dtype: np.dtype[Any]) -> Array:
    """divisors[0][p]·divisors[1][q]… as an array (P, Q, …)."""
    return math.prod(
        np.ix_(*(np.array(axis, dtype) for axis in divisors)), start=np.ones((), dtype)
    )


class NumpyBackend(ArrayBackend):
    """NumPy on the CPU; slow, short and right."""

    name = "numpy"

    def __init__(self) -> None:
        super().__init__(np)
        for name in SIGNALLING & vars(self).keys():
            setattr(self, name, _silent(getattr(self, name)))

    def to_numpy(self, a: Array) -> Any:
        return np.asarray(a)

    def owns(self, a: Array) -> bool:
        return super().owns(a) and bool(a.flags.writeable)

    def synchronize(self) -> None:
        """NumPy has always finished when a call returns."""

    def broadcast_to(self, a: Array, shape: Shape) -> Array:
        """np.broadcast_to; one number, as the gradient of a loss is, five times as fast."""
        if a.size != 1 or a.ndim > len(shape):
            return np.broadcast_to(a, shape)
        repeated: Array = np.ndarray(shape, a.dtype, a, 0, (0,) * len(shape))
        repeated.flags.writeable = False
        return repeated

    def matmul(self, a: Array, b: Array) -> Array:
        """y[.., m, n] = Σ_k a[.., m, k]·b[.., k, n]; float16 is accumulated in float32."""
        return np.matmul(widen(a), widen(b)).astype(a.dtype, copy=False)

    # -- convolution: a matrix product over columns, one a group ---------------------------------
    def conv(self, x: Array, w: Array, bias: Array | None, window: Window, groups: int) -> Array:
        """y[n, o, p, q] = b[o] + Σ_{c,i,j} x[n, c, p·s+i·d−pad, q·s+j·d−pad] · w[o, c, i, j]."""
        n, o, outputs = len(x), len(w), window.output(x.shape[2:])
        inner, cells = math.prod(w.shape[1:]), math.prod(outputs)
        kernel = widen(w).reshape(groups, o // groups, inner)
        cols = columns(widen(x), window, outputs).reshape(n, groups, inner, cells)
        y = np.empty((n, o, *outputs), cols.dtype)
        np.matmul(kernel, cols, out=y.reshape(n, groups, o // groups, cells))
        if bias is not None:
            y += channels(bias, y.ndim)
        return y.astype(x.dtype, copy=False)

    def conv_input_grad(
        self, gy: Array, w: Array, shape: Shape, window: Window, groups: int
    ) -> Array:
        """gx[n, c, h, w] = Σ gy[n, o, p, q] · w[o, c, i, j] over p·s+i·d−pad = h, q·s+j·d−pad = w.

        Cells that no output sees get 0.
        """
        n, o, cells = len(gy), len(w), math.prod(gy.shape[2:])
        kernel = widen(w).reshape(groups, o // groups, math.prod(w.shape[1:])).transpose(0, 2, 1)
        cols = np.matmul(kernel, widen(gy).reshape(n, groups, o // groups, cells))
        cols = cols.reshape(*shape[:2], window.taps(), *gy.shape[2:])
        gx = np.zeros(shape, cols.dtype)
        for t, out, cell in taps(window, shape[2:], gy.shape[2:]):
            gx[cell] += cols[:, :, t][out]
        return gx.astype(gy.dtype, copy=False)

    def conv_weight_grad(
        self, x: Array, gy: Array, shape: Shape, window: Window, groups: int
    ) -> Array:
        """gw[o, c, i, j] = Σ_{n,p,q} gy[n, o, p, q] · x[n, c, p·s+i·d−pad, q·s+j·d−pad]."""
        n, o, outputs = len(x), shape[0], gy.shape[2:]
        inner, cells = math.prod(shape[1:]), math.prod(outputs)
        cols = columns(widen(x), window, outputs).reshape(n, groups, inner, cells)
        rows = widen(gy).reshape(n, groups, o // groups, cells)
        gw = np.empty(shape, cols.dtype)
        products = np.matmul(rows, cols.transpose(0, 1, 3, 2))
        np.sum(products, axis=0, out=gw.reshape(products.shape[1:]))
        return gw.astype(x.dtype, copy=False)

    # -- max pooling ------------------------------------------------------------------------------
    def max_pool(self, x: Array, window: Window) -> tuple[Array, Array]:
        """y[n, c, p, q] = max_{i,j} x[n, c, p·s+i·d−pad, q·s+j·d−pad], and the winning i·J + j.

        The first maximum in the order of i·J + j wins, the last NaN over everything. Padding never
        wins: winners start at the first kernel position that lies on an input cell.
        """
        outputs = window.output(x.shape[2:])
        floating = x.dtype.kind == "f"
        least = -np.inf if floating else np.iinfo(x.dtype).min
        y = np.full((*x.shape[:2], *outputs), least, x.dtype)
        winner = np.zeros(y.shape, np.uint8 if window.taps() <= 255 else np.int32)
        met = np.zeros(outputs, bool)
        for t, o, i in taps(window, x.shape[2:], outputs):
            value = x[i]
            better = (value > y[o]) | (value != value) | ~met[o]
            np.copyto(y[o], value, where=better)
            np.copyto(winner[o], t, where=better, casting="unsafe")
            met[o] = True
        return y, winner

    def max_pool_gather(self, x: Array, winner: Array, window: Window) -> Array:
        """y[n, c, p, q] = x[n, c, p·s+i·d−pad, q·s+j·d−pad] with i·J + j = winner[n, c, p, q]."""
        y = np.zeros(winner.shape, x.dtype)
        for t, o, i in taps(window, x.shape[2:], winner.shape[2:]):
            np.copyto(y[o], x[i], where=winner[o] == t)
        return y

    def max_pool_scatter(self, gy: Array, winner: Array, shape: Shape, window: Window) -> Array:
        """gx[n, c, h, w] = Σ gy[n, c, p, q] over the windows (p, q) won by cell (h, w)."""
        gx = np.zeros(shape, widen(gy).dtype)
        for t, o, i in taps(window, shape[2:], gy.shape[2:]):
            gx[i] += np.where(winner[o] == t, gy[o], 0)
        return gx.astype(gy.dtype, copy=False)

    # -- average pooling --------------------------------------------------------------------------
    def avg_pool(self, x: Array, window: Window, divisors: tuple[tuple[int, ...], ...]) -> Array:
        """y[n, c, p, q] = Σ_{i,j} x[n, c, p·s+i·d−pad, q·s+j·d−pad] / divisor[p, q], with
        divisor[p, q] = divisors[0][p]·divisors[1][q]."""
        outputs = window.output(x.shape[2:])
        y = np.zeros((*x.shape[:2], *outputs), widen(x).dtype)
        for _, o, i in taps(window, x.shape[2:], outputs):
            y[o] += x[i]
        y /= divisor_array(divisors, y.dtype)
        return y.astype(x.dtype, copy=False)

    def avg_pool_scatter(
        self, gy: Array, shape: Shape, window: Window, divisors: tuple[tuple[int, ...], ...]
    ) -> Array:
        """gx[n, c, h, w] = Σ gy[n, c, p, q] / divisor[p, q] over the windows that see (h, w)."""
        share = widen(gy)
        share = share / divisor_array(divisors, share.dtype)
        gx = np.zeros(shape, share.dtype)
        for _, o, i in taps(window, shape[2:], gy.shape[2:]):
            gx[i] += share[o]
        return gx.astype(gy.dtype, copy=False)

    # -- batch norm: statistics and sums are float64 whatever x is --------------------------------
    def batch_norm_stats(self, x: Array) -> tuple[Array, Array]:
        """mean[c] = Σ x[n, c, ..] / m,  var[c] = Σ (x[n, c, ..] − mean[c])² / m,  m = N·H·W.

        Two passes: the mean first, so that a large mean costs the variance nothing.
        """
        mean = self._channel_mean(x)
        var = self._channel_mean((x - channels(mean, x.ndim)) ** 2)
        return mean.astype(x.dtype), var.astype(x.dtype)

    def batch_norm(
        self,
        x: Array,
        mean: Array,
        var: Array,
        weight: Array | None,
        bias: Array | None,
        eps: float,
    ) -> Array:
        """y = (x − mean[c]) · weight[c] / sqrt(var[c] + eps) + bias[c]."""
        scale = 1 / np.sqrt(var.astype(np.float64) + eps)
        if weight is not None:
            scale = scale * weight
        y = (widen(x) - channels(widen(mean), x.ndim)) * channels(scale, x.ndim).astype(
            widen(x).dtype
        )
        if bias is not None:
            y += channels(bias, x.ndim)
        return y.astype(x.dtype, copy=False)

    def batch_norm_grad(
        self, gy: Array, x: Array, mean: Array, var: Array, weight: Array | None, eps: float
    ) -> tuple[Array, Array, Array]:
        """With x̂ = (x − mean)/σ, σ = sqrt(var + eps), means and sums over N, H, W of each channel:
        gx = weight/σ · (gy − mean(gy) − x̂·mean(gy·x̂)),  gweight = Σ gy·x̂,  gbias = Σ gy.
        """
        wide, nd = widen(x).dtype, x.ndim
        inverse = 1 / np.sqrt(var.astype(np.float64) + eps)
        scale = inverse if weight is None else inverse * weight
        xhat = (widen(x) - channels(widen(mean), nd)) * channels(inverse, nd).astype(wide)
        g = widen(gy)
        mean_g, mean_gx = self._channel_mean(g), self._channel_mean(g * xhat)
        centred = g - channels(mean_g, nd).astype(wide) - xhat * channels(mean_gx, nd).astype(wide)
        gx = centred * channels(scale, nd).astype(wide)
        count = x.size // x.shape[1]
        return tuple(a.astype(x.dtype, copy=False) for a in (gx, mean_gx * count, mean_g * count))

    def _channel_mean(self, a: Array) -> Array:
        """Mean over all axes but 1, float64; 0 for an empty batch."""
        axes = (0, *range(2, a.ndim))
        return a.sum(axis=axes, dtype=np.float64) / max(a.size // a.shape[1], 1)


if TYPE_CHECKING:
    _contract: type[Backend] = NumpyBackend  # the type checker compares every signature


# Here and not in each object: the compiled loops that replace some of these have nothing to say,
# and errstate takes as long as a small one. Where they leave a small sum or product to NumPy, it is
# a bare ufunc as above, and only the package's filter of warnings is between it and the user.
for _name in SIGNALLING:
    if hasattr(NumpyBackend, _name):
        setattr(NumpyBackend, _name, _silent(getattr(NumpyBackend, _name)))
