"""The affine map of fully connected layers, and table look-up."""

from __future__ import annotations

from ..backend import Array, Backend
from ..geometry import Shape
from ..tensor import Op, Tensor
from .checks import same_dtype, tensor_of_floats
from .elementwise import where
from .linalg import matmul
from .views import Take


class Linear(Op):
    """y[…,n] = Σ_k x[…,k]·w[n,k] + b[n];  gx = gy·w,  gw = gyᵀ·x,  gb = Σ gy."""

    deferrable = True

    def output_shape(self, x: Tensor, w: Tensor, bias: Tensor | None) -> Shape:
        return (*x.shape[:-1], w.shape[0])

    def forward(self, kernels: Backend, x: Array, w: Array, bias: Array | None) -> Array:
        return kernels.linear(x, w, bias)

    def backward(self, grad: Tensor, out: None) -> tuple[Tensor | None, ...]:
        x, w, _ = self.inputs
        rows = grad.array.size // w.shape[0]
        flat = grad if grad.ndim == 2 else grad.reshape(rows, w.shape[0])
        gx = gw = gb = None
        if self.needs[0]:
            gx = matmul(flat, w)
            gx = gx if x.ndim == 2 else gx.reshape(x.shape)
        if self.needs[1]:
            gw = matmul(flat.t(), x if x.ndim == 2 else x.reshape(rows, w.shape[1]))
        if self.needs[2]:
            gb = flat.sum(0)
        return gx, gw, gb

    def fused_backward(
        self, kernels: Backend, grad: Array, out: None, x: Array, w: Array, bias: Array | None
    ) -> tuple[Array | None, ...]:
        return kernels.linear_grad(grad, x, w, self.needs)


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """y[…,n] = Σ_k x[…,k]·w[n,k] + b[n].

    input (…, K), weight (N, K) or (K,), bias (N,) or 0-d; result (…, N), or (…) for a weight
    vector. Raises ValueError when the sizes differ, TypeError when the dtypes do. Derivative:
    matrix products.

    >>> import tinygrad_cnn as tg
    >>> linear(tg.ones(2, 3, backend="numpy"), tg.ones(1, 3, backend="numpy")).tolist()
    [[3.0], [3.0]]
    """
    tensor_of_floats("linear", input)
    same_dtype("linear", input, "weight", weight)
    shape, given = weight.shape, input.shape
    if len(shape) not in (1, 2):
        raise ValueError(f"linear: weight must be (N, K) or (K,), received shape {shape}")
    if not given or given[-1] != shape[-1]:
        raise ValueError(
            f"linear: weight expects {shape[-1]} input features but input has "
            f"{given[-1] if given else 'none'} (input {given}, weight {shape})"
        )
    if bias is not None:
        same_dtype("linear", input, "bias", bias)
        if bias.shape != shape[:-1]:
            raise ValueError(f"linear: bias must have shape {shape[:-1]}, received {bias.shape}")
    if len(shape) == 2 and shape[0]:
        return Linear().on((input, weight, bias))
    y = matmul(input, weight.t())
    return y if bias is None else y + bias


def embedding(input: Tensor, weight: Tensor, padding_idx: int | None = None) -> Tensor:
    """Rows of a table:  y[…,k] = weight[input[…], k].

    input: integers of any shape, weight (V, K); result (*input.shape, K). Row ``padding_idx`` gets
    no gradient. Raises TypeError for non-integers, IndexError outside 0 … V−1. Derivative:
    gradients added up by row.
    """
    if not isinstance(input, Tensor) or input.dtype.kind not in "iu":
        found = input.dtype if isinstance(input, Tensor) else type(input).__name__
        raise TypeError(f"embedding: input must be an integer tensor, received {found}")
    tensor_of_floats("embedding", weight, "weight")
    if weight.ndim != 2:
        raise ValueError(f"embedding: weight must be (V, K), received shape {weight.shape}")
    if input.backend is not weight.backend:
        raise ValueError(
            f"embedding: input is on {input.backend.name}, weight on {weight.backend.name}; "
            f'use input.to("{weight.backend.name}")'
        )
    size = weight.shape[0]
    if input.array.size and not 0 <= int(input.array.min()) <= int(input.array.max()) < size:
        raise IndexError(
            f"embedding: indices must lie in 0 … {size - 1}, received {int(input.array.min())} … "
            f"{int(input.array.max())}"
        )
    rows = Take((input.backend.astype(input.array, "int64"),))(weight)
    if padding_idx is None:
        return rows
    if not -size <= padding_idx < size:
        raise ValueError(
            f"embedding: padding_idx must lie in {-size} … {size - 1}, received {padding_idx}"
        )
    padding = (input == padding_idx % size).unsqueeze(-1)
    return where(padding, rows.detach(), rows)


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """1 at the class, 0 elsewhere:  y[…,k] = (tensor[…] == k), int64.

    Shape (*tensor.shape, num_classes); ``num_classes`` −1 means the largest class + 1. Raises
    TypeError for non-integers, ValueError outside 0 … num_classes − 1."""
    if not isinstance(tensor, Tensor) or tensor.dtype.kind not in "iu":
        found = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
        raise TypeError(f"one_hot: expected an integer tensor, received {found}")
    if tensor.array.size == 0 and num_classes < 1:
        raise ValueError("one_hot: num_classes must be given for an empty tensor")
    low, high = (int(tensor.array.min()), int(tensor.array.max())) if tensor.array.size else (0, 0)
    classes = high + 1 if num_classes == -1 else num_classes
    if low < 0 or high >= classes:
        raise ValueError(f"one_hot: classes must lie in 0 … {classes - 1}, received {low} … {high}")
    kernels = tensor.backend
    each = Tensor._wrap(kernels.arange(0, classes, 1, "int64"), kernels)
    return (tensor.unsqueeze(-1) == each).long()
