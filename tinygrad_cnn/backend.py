"""What a backend is, and which one is in use.

A backend is one object that owns arrays of one kind (NumPy's, CuPy's, …) and computes on them:
arrays in, arrays out, no Tensor and no calculus. The engine owns this interface and knows no
implementation; implementations are loaded by dotted name when they are first asked for.

Rules for every primitive: arguments have been validated by the op; inputs are never changed
(except by the in-place group); the dtype is kept unless the line says otherwise; inputs may be
non-contiguous; only the elementwise group broadcasts; an output never shares memory with another
live array, except where a line says "view". Shapes are logical NCHW / OIHW; how a backend lays
them out in memory is its own affair, so outputs may have any strides.

Choosing: ``tensor(..., backend=)``  >  ``with use_backend():``  >  ``set_backend()``  >
``TINYGRAD_CNN_BACKEND``  >  ``backend =`` in a config file  >  numba, or numpy where Numba is
missing.
"""

from __future__ import annotations

import difflib
import importlib
import os
import threading
import tomllib
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from .geometry import LinearMap, Pairs, Shape, Window

Array = Any  # whatever the backend stores: has .shape, .ndim, .size, .dtype, .strides, slicing
DType = Any  # a numpy.dtype
Gradients = tuple[Array | None, Array | None, Array | None]  # of input, weight and bias
Elementwise = Callable[
    ..., Array
]  # f(a[, b], out=None): broadcasts; scalars keep the array's dtype


class Backend(Protocol):
    """The primitives. A thing is one only when speed or numerics need it; ops compose the rest."""

    name: str

    # -- arrays -------------------------------------------------------------------------------
    def asarray(self, data: Any, dtype: DType | None = None) -> Array:
        """A new array of this backend from nested sequences, a NumPy array or a scalar (copies)."""

    def from_numpy(self, array: Any) -> Array:
        """From a NumPy array, sharing its memory where the backend can."""

    def to_numpy(self, a: Array) -> Any:
        """As a NumPy array, sharing memory where the backend can."""

    def owns(self, a: Array) -> bool:
        """Whether ``a`` is a whole writable buffer of its own (not a view, not broadcast)."""

    def empty(self, shape: Shape, dtype: DType) -> Array: ...
    def full(self, shape: Shape, value: float, dtype: DType) -> Array: ...
    def arange(self, start: float, stop: float, step: float, dtype: DType) -> Array: ...
    def astype(self, a: Array, dtype: DType) -> Array: ...
    def copy(self, a: Array) -> Array:
        """A new array with the values of ``a`` (same memory order)."""

    def assign(self, a: Array, value: Array | float) -> None:
        """In place: a[...] = value (broadcasting); ``a`` may be a view, ``value`` may overlap
        it.
        """

    def assign_at(self, a: Array, index: Any, value: Array | float) -> None:
        """In place: a[index] = value, index as in ``getitem``."""

    def synchronize(self) -> None:
        """Return when all work handed out so far is done."""

    def set_num_threads(self, n: int) -> None:
        """Use ``n`` ≥ 1 threads from now on (a backend without threads of its own ignores it)."""

    def get_num_threads(self) -> int: ...

    def on_compile(self, listener: Callable[[str, float | None], None]) -> Callable[[], None]:
        """Call ``listener(kernel, None)`` when a kernel starts being compiled and
        ``listener(kernel, seconds)`` when it is done; returns what ends that. Backends that never
        compile never call.
        """

    # -- random numbers: Philox 4x32-10, bit-equal on every backend --------------------------
    def random_bits(self, count: int, seed: int, offset: int) -> Array:
        """uint32 words offset·4 … offset·4+count of the stream ``seed`` (128-bit blocks are
        counted).
        """

    def random_uniform(self, shape: Shape, dtype: DType, seed: int, offset: int) -> Array:
        """Uniform on [0, 1): float32 uses one word an element, float64 two."""

    def random_normal(self, shape: Shape, dtype: DType, seed: int, offset: int) -> Array:
        """Standard normal: two words an element, by the inverse distribution function."""

    # -- elementwise: NumPy's names and meaning ----------------------------------------------
    add: Elementwise
    subtract: Elementwise
    multiply: Elementwise
    divide: Elementwise
    power: Elementwise
    maximum: Elementwise
    minimum: Elementwise
    remainder: Elementwise
    floor_divide: Elementwise
    negative: Elementwise
    absolute: Elementwise
    sign: Elementwise
    exp: Elementwise
    expm1: Elementwise
    log: Elementwise
    log1p: Elementwise
    sqrt: Elementwise
    sin: Elementwise
    cos: Elementwise
    arcsin: Elementwise
    arccos: Elementwise
    arctan: Elementwise
    tanh: Elementwise
    floor: Elementwise
    ceil: Elementwise
    rint: Elementwise

    def sigmoid(self, a: Array, out: Array | None = None) -> Array: ...
    def erf(self, a: Array, out: Array | None = None) -> Array: ...
    def relu(self, a: Array, out: Array | None = None) -> Array:
        """max(a, 0), NaN stays NaN."""

    def relu_grad(self, g: Array, y: Array, out: Array | None = None) -> Array:
        """g where y > 0, else 0."""

    equal: Elementwise
    not_equal: Elementwise
    less: Elementwise
    less_equal: Elementwise
    greater: Elementwise
    greater_equal: Elementwise
    logical_and: Elementwise
    logical_or: Elementwise
    logical_xor: Elementwise
    logical_not: Elementwise
    bitwise_and: Elementwise
    bitwise_or: Elementwise
    bitwise_xor: Elementwise
    left_shift: Elementwise
    right_shift: Elementwise
    isnan: Elementwise
    isinf: Elementwise
    isfinite: Elementwise

    def where(self, condition: Array, a: Array | float, b: Array | float) -> Array: ...

    # -- reductions over a tuple of axes; argmax and cumsum over one ---------------------------
    def sum(self, a: Array, axes: Shape, keepdims: bool) -> Array:
        """Integers and booleans are summed as int64; float16 is accumulated in float32."""

    def sum_of_squares(self, a: Array, axes: Shape, keepdims: bool) -> Array: ...
    def prod(self, a: Array, axes: Shape, keepdims: bool) -> Array: ...
    def max(self, a: Array, axes: Shape, keepdims: bool) -> Array: ...
    def min(self, a: Array, axes: Shape, keepdims: bool) -> Array: ...
    def any(self, a: Array, axes: Shape, keepdims: bool) -> Array: ...
    def all(self, a: Array, axes: Shape, keepdims: bool) -> Array: ...
    def argmax(self, a: Array, axis: int) -> Array:
        """int64 position of the first maximum (NaN counts as larger than all); the axis is
        dropped.
        """

    def argmin(self, a: Array, axis: int) -> Array: ...
    def argsort(self, a: Array, axis: int) -> Array:
        """Stable, ascending, int64."""

    def argtop(self, a: Array, k: int, axis: int, largest: bool) -> Array:
        """int64 positions of the k largest (smallest) along an axis, in order, the first of equal
        ones first; NaN counts as larger than all.
        """

    def cumsum(self, a: Array, axis: int) -> Array: ...

    # -- shape: views where possible -----------------------------------------------------------
    def reshape(self, a: Array, shape: Shape) -> Array: ...
    def transpose(self, a: Array, axes: Shape) -> Array: ...
    def broadcast_to(self, a: Array, shape: Shape) -> Array: ...
    def flip(self, a: Array, axes: Shape) -> Array: ...
    def pad(self, a: Array, padding: Pairs) -> Array:
        """With zeros; one (before, after) pair a dimension."""

    def concatenate(self, arrays: Sequence[Array], axis: int) -> Array: ...

    # -- indexing ------------------------------------------------------------------------------
    def getitem(self, a: Array, index: Any) -> Array:
        """a[index]; index is a tuple of integers, slices (any step), None, … and integer or boolean
        arrays of this backend. A view for basic indices."""

    def index_add(self, shape: Shape, index: Any, values: Array) -> Array:
        """zeros(shape); out[index] += values, repeated positions adding up: the adjoint of
        getitem.
        """

    def take_along_axis(self, a: Array, indices: Array, axis: int) -> Array:
        """out[.., j, ..] = a[.., indices[.., j, ..], ..]; other axes may be smaller than a's."""

    def add_along_axis(self, shape: Shape, indices: Array, values: Array, axis: int) -> Array:
        """zeros(shape); out[.., indices[.., j, ..], ..] += values[.., j, ..]: its adjoint."""

    # -- linear algebra and convolution (a closed family: each is the adjoint of the others) ----
    def matmul(self, a: Array, b: Array) -> Array:
        """(…, M, K) @ (…, K, N) with broadcast batch dimensions; ≥ 2 dimensions each."""

    def conv(self, x: Array, w: Array, bias: Array | None, window: Window, groups: int) -> Array:
        """y[n,o,p,q] = b[o] + Σ_{c,i,j} x[n, c, p·s+i·d−pad, q·s+j·d−pad] · w[o,c,i,j], 1–3 spatial
        axes.

        x (N, C, H, W), w (O, C/groups, I, J), y (N, O, P, Q); output o sees the input channels of
        its group.
        """

    def conv_input_grad(
        self, gy: Array, w: Array, shape: Shape, window: Window, groups: int
    ) -> Array:
        """The adjoint in x: gx[n,c,h,w] = Σ over the (o, p, i) with p·s+i·d−pad = h; ``shape`` is
        x's.
        """

    def conv_weight_grad(
        self, x: Array, gy: Array, shape: Shape, window: Window, groups: int
    ) -> Array:
        """The adjoint in w: gw[o,c,i,j] = Σ_{n,p,q} gy[n,o,p,q] · x[n, c, p·s+i·d−pad, …];
        ``shape`` is w's.
        """

    # -- pooling over the spatial axes of (N, C, …), 1–3 of them ---------------------------------
    def max_pool(self, x: Array, window: Window) -> tuple[Array, Array]:
        """(y, winner): winner[n,c,p,q] = i·J + j of the first maximum in the window (the last NaN,
        if any); padding never wins. Its dtype is uint8 up to 255 taps, else int32."""

    def max_pool_gather(self, x: Array, winner: Array, window: Window) -> Array:
        """y[n,c,p,q] = x at the winner of (p, q)."""

    def max_pool_scatter(self, gy: Array, winner: Array, shape: Shape, window: Window) -> Array:
        """Its adjoint: gy added to zeros(shape) at the winners."""

    def avg_pool(self, x: Array, window: Window, divisors: tuple[tuple[int, ...], ...]) -> Array:
        """Window sums divided by divisors[0][p]·divisors[1][q]…; padding counts as 0."""

    def avg_pool_scatter(
        self, gy: Array, shape: Shape, window: Window, divisors: tuple[tuple[int, ...], ...]
    ) -> Array:
        """Its adjoint."""

    # -- batch norm over all axes but 1 ----------------------------------------------------------
    def batch_norm_stats(self, x: Array) -> tuple[Array, Array]:
        """(mean, biased variance), each (C,), of x's dtype; computed without cancellation."""

    def batch_norm(
        self,
        x: Array,
        mean: Array,
        var: Array,
        weight: Array | None,
        bias: Array | None,
        eps: float,
    ) -> Array:
        """(x − mean) / sqrt(var + eps) · weight + bias along axis 1."""

    def batch_norm_grad(
        self, gy: Array, x: Array, mean: Array, var: Array, weight: Array | None, eps: float
    ) -> tuple[Array, Array, Array]:
        """(gx, gweight, gbias) in training mode, mean and variance depending on x:
        gx = w/σ · (gy − mean(gy) − x̂·mean(gy·x̂)),  gweight = Σ gy·x̂,  gbias = Σ gy."""

    # -- optional: ArrayBackend composes them from the above; a backend overrides what it makes
    # faster ----
    def linear(self, x: Array, w: Array, bias: Array | None) -> Array:
        """x (…, K) @ w (N, K)ᵀ + bias (N,)."""

    def linear_grad(
        self, gy: Array, x: Array, w: Array, needs: Sequence[bool], y: Array | None = None
    ) -> Gradients:
        """(gy·w, gyᵀ·x, Σ gy) of ``linear``; None for what ``needs`` leaves out. With the result
        ``y`` of ``linear_relu``, its gradients: gy counts where y > 0."""

    def conv_grad(
        self, gy: Array, x: Array, w: Array, window: Window, groups: int, needs: Sequence[bool]
    ) -> Gradients:
        """(conv_input_grad, conv_weight_grad, sums of gy over all but the channels); None for what
        ``needs`` leaves out."""

    def leaky_relu(self, x: Array, slope: Array | float) -> Array:
        """x where x > 0, else slope·x; an array of slopes is broadcast."""

    def leaky_relu_grad(self, g: Array, x: Array, slope: Array | float) -> Array:
        """g where x > 0, else slope·g."""

    def prelu_grad(self, g: Array, x: Array, slope: Array) -> tuple[Array, Array]:
        """(leaky_relu_grad, Σ g·x over the places of each slope where x is not positive)."""

    def activation(self, name: str, x: Array, *settings: float) -> Array:
        """f(x) for an activation function of ``tinygrad_cnn.ops.activation``: elu (alpha, scale,
        rate), silu, gelu, gelu_tanh, softplus (beta, threshold), log_sigmoid, hardtanh (low, high),
        hardswish, hardsigmoid, softsign."""

    def activation_grad(self, name: str, g: Array, x: Array, *settings: float) -> Array:
        """g·f′(x) for one of them; also "absolute", "clamp" (low, high: hardtanh with derivative 1
        at the limits), and "sigmoid" and "tanh" of the result y in place of x."""

    def pair_loss(self, name: str, total: bool, x: Array, t: Array, *settings: float) -> Array:
        """ℓ(x, t) of two arrays of one shape, or their sum: square (x − t)², absolute |x − t|,
        huber (delta), logistic (1 − t)·x − log σ(x), binary −t·log x − (1 − t)·log(1 − x) with
        logarithms cut at −100, divergence t·(log t − x)."""

    def pair_loss_grad(
        self, name: str, g: Array, x: Array, t: Array, needs: Sequence[bool], *settings: float
    ) -> tuple[Array | None, Array | None]:
        """(g·∂ℓ/∂x, g·∂ℓ/∂t); None for what ``needs`` leaves out."""

    def group_norm(
        self, x: Array, groups: int, weight: Array | None, bias: Array | None, eps: float
    ) -> tuple[Array, Array, Array]:
        """(y, mean (N, G), biased variance (N, G)): x (N, C, …) normalised over each of the groups
        of channels of a sample, then times weight[c] plus bias[c]."""

    def group_norm_grad(
        self, gy: Array, x: Array, mean: Array, var: Array, weight: Array | None, groups: int,
        eps: float,
    ) -> tuple[Array, Array, Array]:  # fmt: skip
        """(gx, gweight, gbias) of ``group_norm``."""

    def layer_norm(
        self, x: Array, weight: Array | None, bias: Array | None, eps: float
    ) -> tuple[Array, Array, Array]:
        """(y, mean (M,), biased variance (M,)): the rows of x (M, K) normalised, then times
        weight (K,) plus bias (K,)."""

    def layer_norm_grad(
        self, gy: Array, x: Array, mean: Array, var: Array, weight: Array | None, eps: float
    ) -> tuple[Array, Array, Array]:
        """(gx, gweight, gbias) of ``layer_norm``."""

    def resample(self, x: Array, maps: Sequence[LinearMap | None]) -> Array:
        """Each of the last axes mapped: y[…, p, …] = Σ weight·x[…, cell, …] over the pairs (cell,
        weight) of row p; None leaves an axis as it is."""

    def conv_relu(
        self, x: Array, w: Array, bias: Array | None, window: Window, groups: int
    ) -> Array:
        """max(conv(x, w) + bias, 0)."""

    def conv_relu_pool(
        self, x: Array, w: Array, bias: Array | None, window: Window, groups: int, pool: Window
    ) -> tuple[Array, Array]:
        """(relu(y), winner) of (y, winner) = max_pool(conv(x, w) + bias, pool)."""

    def conv_relu_pool_grad(
        self, gy: Array, y: Array, winner: Array, x: Array, w: Array, window: Window, groups: int,
        pool: Window, needs: Sequence[bool],
    ) -> Gradients:  # fmt: skip
        """``conv_grad`` of what reaches the convolution in ``conv_relu_pool`` with results (y,
        winner)."""

    def linear_relu(self, x: Array, w: Array, bias: Array | None) -> Array:
        """max(linear(x, w, bias), 0)."""

    def batch_norm_relu(
        self,
        x: Array,
        mean: Array,
        var: Array,
        weight: Array | None,
        bias: Array | None,
        eps: float,
        residual: Array | None,
    ) -> Array:
        """max(batch_norm(x) + residual, 0)."""

    def batch_norm_relu_grad(
        self,
        gy: Array,
        y: Array,
        x: Array,
        mean: Array,
        var: Array,
        weight: Array | None,
        eps: float,
        residual: bool,
    ) -> tuple[Array, Array, Array, Array | None]:
        """(gx, gweight, gbias, gresidual or None) of ``batch_norm_relu`` with result y."""

    def softmax(self, x: Array, axis: int) -> Array: ...
    def log_softmax(self, x: Array, axis: int) -> Array: ...
    def softmax_grad(self, g: Array, y: Array, axis: int) -> Array:
        """y·(g − Σ g·y) of the result y."""

    def log_softmax_grad(self, g: Array, y: Array, axis: int) -> Array:
        """g − eʸ·Σ g of the result y."""

    def cross_entropy(self, logits: Array, target: Array) -> tuple[Array, Array]:
        """(losses (N,), softmax probabilities (N, K)) of logits (N, K) and classes (N,) int64."""

    def cross_entropy_grad(self, g: Array, probabilities: Array, target: Array) -> Array:
        """g (N,): (p − onehot(target)) · g[:, None]."""

    # -- in place: optimiser steps on lists of parameters (all lists of equal length) -------------
    def sgd_step(
        self,
        params: Sequence[Array],
        grads: Sequence[Array],
        momenta: Sequence[Array] | None,
        lr: float,
        momentum: float,
        dampening: float,
        weight_decay: float,
        nesterov: bool,
        first: bool,
    ) -> None:
        """g += wd·p;  m = g if first else µ·m + (1−dampening)·g;  p −= lr·(g + µ·m if nesterov else
        m).
        """

    def adam_step(
        self,
        params: Sequence[Array],
        grads: Sequence[Array],
        m: Sequence[Array],
        v: Sequence[Array],
        lr: float,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
        decoupled: bool,
        step: int,
    ) -> None:
        """Adam with bias correction at step ≥ 1; ``decoupled`` decays p by lr·wd (AdamW) instead of
        g.
        """

    def amsgrad_step(
        self,
        params: Sequence[Array],
        grads: Sequence[Array],
        m: Sequence[Array],
        v: Sequence[Array],
        largest: Sequence[Array],
        lr: float,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
        decoupled: bool,
        step: int,
    ) -> None:
        """``adam_step`` that divides by the root of ``largest``, the largest v so far."""

    def rmsprop_step(
        self,
        params: Sequence[Array],
        grads: Sequence[Array],
        squares: Sequence[Array],
        means: Sequence[Array] | None,
        momenta: Sequence[Array] | None,
        lr: float,
        alpha: float,
        eps: float,
        weight_decay: float,
        momentum: float,
    ) -> None:
        """g += wd·p;  v = α·v + (1−α)·g²;  s = g / (sqrt(v) + eps);  p −= lr·s.

        With ``means`` a, a = α·a + (1−α)·g is kept as well, and v − a² stands below the root. With
        ``momenta`` b, b = µ·b + s takes the place of s."""

    def adagrad_step(
        self,
        params: Sequence[Array],
        grads: Sequence[Array],
        sums: Sequence[Array],
        rate: float,
        eps: float,
        weight_decay: float,
    ) -> None:
        """g += wd·p;  s += g²;  p −= rate·g / (sqrt(s) + eps)."""

    def squared_norms(self, arrays: Sequence[Array]) -> Array:
        """Σ x² over each of at least one array, as a vector with the dtype of the first."""


BackendLike = str | Backend | None  # a name, a backend, or the current one

# ---------------------------------------------------------------------------------------------
# Registry and choice
# ---------------------------------------------------------------------------------------------
_FACTORIES: dict[str, str] = {
    "numpy": "tinygrad_cnn.backends.numpy_backend:NumpyBackend",
    "numba": "tinygrad_cnn.backends.numba_backend:NumbaBackend",
    "cudasim": "tinygrad_cnn.backends.cudasim_backend:CudaSimBackend",
    "cupy": "tinygrad_cnn.backends.cupy_backend:CupyBackend",
}
_loaded: dict[str, Backend] = {}
_lock = threading.RLock()


class _Choice(threading.local):
    """What ``use_backend`` chose in this thread; ``set_backend`` is for the whole process."""

    stack: tuple[Backend, ...] = ()


_choice = _Choice()
_process_backend: Backend | None = None


def _entry_points() -> dict[str, str]:
    import importlib.metadata  # slow, and seldom needed

    return {e.name: e.value for e in importlib.metadata.entry_points(group="tinygrad_cnn.backends")}


def backend_names() -> list[str]:
    """Names of all registered backends, usable here or not."""
    return [*_FACTORIES, *(n for n in _entry_points() if n not in _FACTORIES)]


def load_backend(name: str) -> Backend:
    """The one backend object of this name. Raises ValueError for an unknown name, and ImportError
    (with what to install) when it cannot run on this machine."""
    backend = _loaded.get(name)
    if backend is not None:
        return backend
    target = _FACTORIES.get(name) or _entry_points().get(name)
    if target is None:
        near = difflib.get_close_matches(name, backend_names(), 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        if name in ("cpu", "cuda", "gpu"):
            hint = "; here a backend is what a device is elsewhere: numba on the CPU, cupy on a GPU"
        raise ValueError(
            f"unknown backend {name!r}: expected one of {', '.join(backend_names())}{hint}"
        )
    with _lock:
        if name not in _loaded:
            module, _, factory = target.partition(":")
            _loaded[name] = getattr(importlib.import_module(module), factory)()
        return _loaded[name]


def pick_backend(backend: BackendLike) -> Backend:
    """The backend that a ``backend=`` argument means; None is the current one."""
    if backend is None:
        return get_backend()
    return load_backend(backend) if isinstance(backend, str) else backend


def available_backends() -> dict[str, str]:
    """Every registered backend: "" when it works here, else the one-line reason why not."""
    found = {}
    for name in backend_names():
        try:
            load_backend(name)
            found[name] = ""
        except Exception as error:  # a broken driver or package must not hide the other backends
            found[name] = (
                f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            )
    return found


def get_backend() -> Backend:
    """The backend that new tensors get in this thread, by the order of choice above."""
    if _choice.stack:
        return _choice.stack[-1]
    return _process_backend or set_backend(_default_name())


def set_backend(name: str) -> Backend:
    """Make ``name`` the backend of new tensors in the whole process; returns it."""
    global _process_backend
    _process_backend = load_backend(name)
    return _process_backend


@contextmanager
def use_backend(name: str) -> Iterator[Backend]:
    """``with use_backend("numpy"):`` new tensors of this thread get that backend."""
    before, backend = _choice.stack, load_backend(name)
    _choice.stack = (*before, backend)
    try:
        yield backend
    finally:
        _choice.stack = before


def _default_name() -> str:
    wanted = os.environ.get("TINYGRAD_CNN_BACKEND") or settings().get("backend")
    if wanted:
        return str(wanted)
    try:
        load_backend("numba")
        return "numba"
    except ImportError as error:
        if not _is_about_numba(error):
            raise  # a fault of ours, which "pip install numba" would not mend
        warnings.warn(
            f"Numba cannot be imported ({error}); using the slow numpy backend. "
            'Install it with "pip install numba", '
            "or set TINYGRAD_CNN_BACKEND=numpy to silence this.",
            RuntimeWarning,
            stacklevel=4,
        )
        return "numpy"


def _is_about_numba(error: ImportError) -> bool:
    """Whether Numba, or the llvmlite or NumPy under it, could not be imported."""
    at, inside = error.__traceback__, ""
    while at is not None:
        inside, at = at.tb_frame.f_globals.get("__name__") or "", at.tb_next
    packages = {name.partition(".")[0] for name in (error.name or "", inside)}
    return not packages.isdisjoint({"numba", "llvmlite"})


SETTINGS = {"backend": str, "threads": int, "data": str}


def settings() -> dict[str, Any]:
    """The user's settings: the TOML file named by TINYGRAD_CNN_CONFIG, else ``tinygrad_cnn.toml``
    in the working folder.

    Keys: ``backend`` (name), ``threads`` (count), ``data`` (folder of data sets). Raises ValueError
    on anything else.
    """
    named = os.environ.get("TINYGRAD_CNN_CONFIG")
    path = Path(named or "tinygrad_cnn.toml")
    if not path.is_file():
        if named:
            raise ValueError(f"TINYGRAD_CNN_CONFIG names {named!r}, which is not a file")
        return {}
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not valid TOML: {error}") from error
    check_keys(found, SETTINGS, str(path))
    return found


def check_keys(found: dict[str, Any], known: dict[str, type], where: str) -> None:
    """Raise ValueError on an unknown key (with the nearest known one) or a value of the wrong
    type.
    """
    for key, value in found.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = (
                f"; did you mean {near[0]!r}?"
                if near
                else f"; known keys: {', '.join(sorted(known))}"
            )
            raise ValueError(f"{where}: unknown key {key!r}{hint}")
        wanted = (int, float) if known[key] is float else known[key]
        if not isinstance(value, wanted) or (isinstance(value, bool) and known[key] is not bool):
            raise ValueError(f"{where}: {key} expects {known[key].__name__}, received {value!r}")
