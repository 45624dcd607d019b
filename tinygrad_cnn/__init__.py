"""Convolutional networks from scratch, with derivatives of every order.

>>> import tinygrad_cnn as tg
>>> x = tg.tensor([1.0, 2.0, 3.0], requires_grad=True, backend="numpy")
>>> (x ** 2).sum().backward()
>>> x.grad.tolist()
[2.0, 4.0, 6.0]
"""

import importlib as _importlib
import typing as _typing
import warnings as _warnings
from math import inf, nan, pi

from . import ops  # isort: skip  (first: tensors and operations refer to each other)
from . import autograd, cuda, io, nn, optim
from .algorithms import set_conv_algorithm
from .autograd import enable_grad, inference_mode, is_grad_enabled, no_grad, set_grad_enabled
from .backend import available_backends, get_backend, load_backend, set_backend, use_backend
from .construct import as_tensor, from_dlpack, from_numpy, tensor
from .deferred import is_fusion_enabled, set_fusion
from .dtypes import bool_ as bool
from .dtypes import (
    float16,
    float32,
    float64,
    int32,
    int64,
    promote_types,
    result_type,
    uint8,
)
from .dtypes import float16 as half
from .dtypes import float32 as float
from .dtypes import float64 as double
from .dtypes import int32 as int
from .dtypes import int64 as long
from .gradcheck import gradcheck, gradgradcheck
from .io import load, save
from .memory import MemoryReport, memory_report
from .ops import (
    abs,
    acos,
    add,
    addcdiv,
    addcmul,
    all,
    allclose,
    amax,
    amin,
    any,
    arange,
    argmax,
    argmin,
    argsort,
    argwhere,
    asin,
    atan,
    bernoulli,
    bincount,
    bitwise_and,
    bitwise_left_shift,
    bitwise_not,
    bitwise_or,
    bitwise_right_shift,
    bitwise_xor,
    bmm,
    broadcast_to,
    cat,
    ceil,
    chunk,
    clamp,
    clip,
    clone,
    concat,
    concatenate,
    contiguous,
    cos,
    count_nonzero,
    cumprod,
    cumsum,
    diag,
    diagonal,
    div,
    dot,
    einsum,
    empty,
    empty_like,
    eq,
    equal,
    erf,
    exp,
    expand,
    expm1,
    eye,
    flatten,
    flip,
    floor,
    floor_divide,
    full,
    full_like,
    gather,
    ge,
    gt,
    hstack,
    index_select,
    is_tensor,
    isclose,
    isfinite,
    isin,
    isinf,
    isnan,
    le,
    lerp,
    linspace,
    log,
    log1p,
    log2,
    log10,
    log_softmax,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    logsumexp,
    lt,
    masked_fill,
    masked_select,
    matmul,
    max,
    maximum,
    mean,
    median,
    meshgrid,
    min,
    minimum,
    mm,
    movedim,
    mul,
    mv,
    nan_to_num,
    narrow,
    ne,
    neg,
    nonzero,
    norm,
    normal,
    numel,
    ones,
    ones_like,
    outer,
    permute,
    prod,
    rand_like,
    randint_like,
    randn_like,
    ravel,
    reciprocal,
    relu,
    remainder,
    repeat,
    repeat_interleave,
    reshape,
    roll,
    round,
    rsqrt,
    scatter,
    scatter_add,
    sigmoid,
    sign,
    sin,
    softmax,
    sort,
    split,
    sqrt,
    square,
    squeeze,
    stack,
    std,
    std_mean,
    sub,
    sum,
    swapaxes,
    t,
    tan,
    tanh,
    tensordot,
    tile,
    topk,
    trace,
    transpose,
    tril,
    triu,
    trunc,
    unbind,
    unflatten,
    unique,
    unsqueeze,
    var,
    var_mean,
    vstack,
    where,
    zeros,
    zeros_like,
)
from .ops import power as pow
from .random import (
    Generator,
    get_rng_state,
    manual_seed,
    rand,
    randint,
    randn,
    randperm,
    set_rng_state,
)
from .receptive_field import receptive_field
from .summary import summary
from .tensor import Tensor
from .threads import get_num_threads, set_num_threads

if _typing.TYPE_CHECKING:
    from . import data, models, train, viz
    from .io import onnx

_LATER = {
    "data": ".data", "models": ".models", "onnx": ".io.onnx", "train": ".train", "viz": ".viz",
}  # fmt: skip


def __getattr__(name: str) -> _typing.Any:
    """Import what not every program needs when it is first asked for: ``tg.models`` and others."""
    if name in _LATER:
        return _importlib.import_module(_LATER[name], __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


# log 0, 0/0, ∞ − ∞ and overflow give ±∞ and NaN in silence, as in PyTorch. A filter costs nothing
# until NumPy has something to say; np.errstate around every operation would cost each of them.
_warnings.filterwarnings(
    "ignore", r"(divide by zero|overflow|underflow|invalid value) encountered", RuntimeWarning,
    r"tinygrad_cnn\.",
)  # fmt: skip

__version__ = "0.1.0"
__all__ = [
    "abs", "acos", "add", "addcdiv", "addcmul", "all", "allclose", "amax", "amin", "any", "arange",
    "argmax", "argmin", "argsort", "argwhere", "as_tensor", "asin", "atan", "autograd",
    "available_backends", "bernoulli", "bincount", "bitwise_and", "bitwise_left_shift",
    "bitwise_not", "bitwise_or", "bitwise_right_shift", "bitwise_xor", "bmm", "bool",
    "broadcast_to", "cat", "ceil", "chunk", "clamp", "clip", "clone", "concat", "concatenate",
    "contiguous", "cos", "count_nonzero", "cuda", "cumprod", "cumsum", "data", "diag", "diagonal",
    "div", "dot", "double", "einsum", "empty", "empty_like", "enable_grad", "eq", "equal", "erf",
    "exp", "expand", "expm1", "eye", "flatten", "flip", "float", "float16", "float32", "float64",
    "floor", "floor_divide", "from_dlpack", "from_numpy", "full", "full_like", "gather", "ge",
    "Generator", "get_backend", "get_num_threads", "get_rng_state", "gradcheck", "gradgradcheck",
    "gt", "half", "hstack", "index_select", "inf", "inference_mode", "int", "int32", "int64", "io",
    "is_fusion_enabled", "is_grad_enabled", "is_tensor", "isclose", "isfinite", "isin", "isinf",
    "isnan", "le", "lerp", "linspace", "load", "load_backend", "log", "log10", "log1p", "log2",
    "log_softmax", "logical_and", "logical_not", "logical_or", "logical_xor", "logsumexp", "long",
    "lt", "manual_seed", "masked_fill", "masked_select", "matmul", "max", "maximum", "mean",
    "median", "memory_report", "MemoryReport", "meshgrid", "min", "minimum", "mm", "models",
    "movedim", "mul", "mv", "nan", "nan_to_num", "narrow", "ne", "neg", "nn", "no_grad", "nonzero",
    "norm", "normal", "numel", "ones", "ones_like", "onnx", "ops", "optim", "outer", "permute",
    "pi", "pow", "prod", "promote_types", "rand", "rand_like", "randint", "randint_like", "randn",
    "randn_like", "randperm", "ravel", "receptive_field", "reciprocal", "relu", "remainder",
    "repeat", "repeat_interleave", "reshape", "result_type", "roll", "round", "rsqrt", "save",
    "scatter", "scatter_add", "set_backend", "set_conv_algorithm", "set_fusion", "set_grad_enabled",
    "set_num_threads", "set_rng_state", "sigmoid", "sign", "sin", "softmax", "sort", "split",
    "sqrt", "square", "squeeze", "stack", "std", "std_mean", "sub", "sum", "summary", "swapaxes",
    "t", "tan", "tanh", "Tensor", "tensor", "tensordot", "tile", "topk", "trace", "train",
    "transpose", "tril", "triu", "trunc", "uint8", "unbind", "unflatten", "unique", "unsqueeze",
    "use_backend", "var", "var_mean", "viz", "vstack", "where", "zeros", "zeros_like",
]  # fmt: skip
