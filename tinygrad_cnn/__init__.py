"""Convolutional networks from scratch, with derivatives of every order.

>>> import tinygrad_cnn as tg
>>> x = tg.tensor([1.0, 2.0, 3.0], requires_grad=True, backend="numpy")
>>> (x ** 2).sum().backward()
>>> x.grad.tolist()
[2.0, 4.0, 6.0]
"""

from . import ops as ops  # isort: skip  (first: tensors and operations refer to each other)
from . import autograd
from .autograd import enable_grad, inference_mode, is_grad_enabled, no_grad, set_grad_enabled
from .backend import available_backends, get_backend, set_backend, use_backend
from .dtypes import (
    bool_,
    float16,
    float32,
    float64,
    int32,
    int64,
    promote_types,
    result_type,
    uint8,
)
from .gradcheck import gradcheck, gradgradcheck
from .ops import *  # noqa: F403  (ops.__all__ is the list of public operations)
from .ops import __all__ as _operations
from .ops import power as pow
from .random import Generator, get_rng_state, manual_seed, rand, randint, randn, randperm, set_rng_state
from .tensor import Tensor, as_tensor, from_numpy, tensor
from .threads import get_num_threads, set_num_threads

__version__ = "0.1.0"
