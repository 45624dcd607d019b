"""Two or three operations in one pass over memory: what may be fused, and what that means.

Each class names its parts. Its ``backward`` is the chain rule through their rules, so derivatives
of every order are those of the parts; first derivatives take a kernel where there is one. A hook on
the value between two parts gets that value's gradient on the way.
"""

from __future__ import annotations

from typing import Any, cast

from ..backend import Array, Backend
from ..deferred import RULES, Deferred, take_over
from ..geometry import Shape
from ..tensor import Op, Tensor
from .activation import Relu, ReluGrad
from .conv import Conv
from .elementwise import Add
from .linear import Linear
from .normalization import BatchNorm, BatchNormInference
from .pool import MaxPool


class Fused(Op):
    """``last`` after ``first``; the inputs are those of ``first``, then what ``last`` takes
    besides.
    """

    def __init__(self, first: Op, last: Op) -> None:
        self.first, self.last = first, last

    @property
    def name(self) -> str:
        return self.first.name + self.last.name

    def output_shape(self, *inputs: Any) -> Shape:
        return self.first.output_shape(*inputs)

    @property
    def parts(self) -> tuple[Op, ...]:
        return (*self.first.parts, self.first)

    def watched(self) -> bool:
        """Whether somebody wants to see the gradient between the parts."""
        return bool(self.first.hooks or self.first.kept or self.first.watched())

    def backward(self, grad: Tensor, out: Any) -> tuple[Tensor | None, ...]:
        parts = self.last.backward(grad, out)
        inner, *rest = parts if isinstance(parts, tuple) else (parts,)
        return (*self._first_backward(inner), *rest)

    def _first_backward(self, grad: Tensor) -> tuple[Tensor | None, ...]:
        from ..autograd import observe

        self.first.needs = self.needs
        made: tuple[Tensor | None, ...] = self.first.backward(observe(self.first, grad), None)
        return made


class ThenRelu(Fused):
    """relu(first(x, …)), whose output is the mask of its gradient."""

    saves_output = True

    def fused_backward(
        self, kernels: Backend, grad: Array, out: Array, *arrays: Any
    ) -> tuple[Array | None, ...]:
        first: Any = self.first
        first.needs = self.needs
        made: tuple[Array | None, ...] = first.fused_backward(
            kernels, kernels.relu_grad(grad, out), None, *arrays
        )
        return made


class ConvRelu(ThenRelu):
    """max(conv(x, w) + b, 0): the bias and the ReLU while the sums are still in registers."""

    deferrable = True

    def forward(self, kernels: Backend, x: Array, w: Array, bias: Array | None = None) -> Array:
        conv: Any = self.first
        return kernels.conv_relu(x, w, bias, conv.window, conv.groups)


class ConvReluPool(Fused):
    """max_pool(relu(conv(x, w) + b)) = relu(max_pool(conv(x, w) + b)), as both are monotone: the
    large map is pooled at once, and the ReLU and its mask work on the small one."""

    saves_output = True

    def forward(self, kernels: Backend, x: Array, w: Array, bias: Array | None = None) -> Array:
        conv, pool = self.conv, cast(Any, self.last)
        y, pool.winner = kernels.conv_relu_pool(x, w, bias, conv.window, conv.groups, pool.window)
        pool.shape = conv.output_shape(*(x, w))
        return y

    @property
    def conv(self) -> Any:
        return self.first.first  # type: ignore[attr-defined]

    def backward(self, grad: Tensor, out: Tensor) -> tuple[Tensor | None, ...]:
        if self.watched():
            return self._through_the_parts(grad)
        g = self.last.backward(ReluGrad()(grad, out.detach()), None)
        self.conv.needs = self.needs
        made: tuple[Tensor | None, ...] = self.conv.backward(g, None)
        return made

    def fused_backward(
        self, kernels: Backend, grad: Array, out: Array, x: Array, w: Array, *bias: Array
    ) -> tuple[Array | None, ...]:
        conv, pool = self.conv, cast(Any, self.last)
        needs = self.needs if bias else [*self.needs, False]
        return kernels.conv_relu_pool_grad(
            grad, out, pool.winner, x, w, conv.window, conv.groups, pool.window, needs
        )[: 2 + len(bias)]

    def _through_the_parts(self, grad: Tensor) -> tuple[Tensor | None, ...]:
        """The same with both values in between recomputed, for those who watch their gradients."""
        from ..autograd import observe

        relu, pool = cast(Any, self.first), cast(Any, self.last)
        kernels = grad.backend
        y = kernels.conv_relu(*self._arrays(), self.conv.window, self.conv.groups)
        _, pool.winner = kernels.max_pool(y, pool.window)  # where all are 0, the first has won
        between = observe(relu, pool.backward(grad, None))
        masked = ReluGrad()(between, Tensor._wrap(y, kernels))
        self.conv.needs = self.needs
        made: tuple[Tensor | None, ...] = self.conv.backward(observe(self.conv, masked), None)
        return made

    def _arrays(self) -> tuple[Array, Array, Array | None]:
        x, w, *bias = (t.array for t in self.inputs)
        return x, w, bias[0] if bias else None


class LinearRelu(ThenRelu):
    """max(x·wᵀ + b, 0)."""

    def forward(self, kernels: Backend, x: Array, w: Array, bias: Array | None) -> Array:
        return kernels.linear_relu(x, w, bias)

    def fused_backward(
        self, kernels: Backend, grad: Array, out: Array, *arrays: Any
    ) -> tuple[Array | None, ...]:
        x, w, _ = arrays
        return kernels.linear_grad(grad, x, w, self.needs, out)


class BatchNormAdd(Fused):
    """batch_norm(x) + residual, waiting for the ReLU that usually follows."""

    deferrable = True

    def forward(self, kernels: Backend, *arrays: Any) -> Array:
        *first, residual = arrays
        return kernels.add(self.first.forward(kernels, *first), residual)


class BatchNormRelu(Fused):
    """max(batch_norm(x) [+ residual], 0) with the statistics of the batch, in one pass."""

    saves_output = True

    @property
    def norm(self) -> Any:
        return self.first.first if isinstance(self.first, BatchNormAdd) else self.first

    def forward(
        self, kernels: Backend, x: Array, w: Array | None, b: Array | None, residual: Array = None
    ) -> Array:
        norm = self.norm
        return kernels.batch_norm_relu(x, norm.mean, norm.var, w, b, norm.eps, residual)

    def fused_backward(
        self,
        kernels: Backend,
        grad: Array,
        out: Array,
        x: Array,
        w: Array | None,
        b: Any,
        *residual: Array,
    ) -> tuple[Array | None, ...]:
        norm = self.norm
        made = kernels.batch_norm_relu_grad(
            grad, out, x, norm.mean, norm.var, w, norm.eps, bool(residual)
        )
        return made if residual else made[:3]


class BatchNormInferenceRelu(Fused):
    """max(batch_norm(x) [+ residual], 0) with given statistics, in one pass."""

    saves_output = True

    def forward(
        self, kernels: Backend, x: Array, mean: Array, var: Array, w: Array | None, b: Array | None,
        residual: Array = None,
    ) -> Array:  # fmt: skip
        norm: Any = self.first.first if isinstance(self.first, BatchNormAdd) else self.first
        return kernels.batch_norm_relu(x, mean, var, w, b, norm.eps, residual)


# -- the rules: which operation may take over which waiting one ------------------------------------
def _relu(fused: type[Fused]) -> Any:
    return lambda op, t, inputs: take_over(fused(t.op, op), t)


def _pool(op: Op, t: Deferred, inputs: tuple[Any, ...]) -> Tensor:
    return take_over(ConvReluPool(t.op, op), t)


def _residual(op: Op, t: Deferred, inputs: tuple[Any, ...]) -> Tensor | None:
    """batch_norm(x) + other, when ``other`` is a tensor of the same shape."""
    other = inputs[1] if inputs[0] is t else inputs[0]
    if not isinstance(other, Tensor) or other is t or other.shape != t.shape:
        return None
    return BatchNormAdd(t.op, op)(*t.operands, other) if other.dtype == t.dtype else None


def _relu_of_sum(op: Op, t: Deferred, inputs: tuple[Any, ...]) -> Tensor:
    inference = isinstance(t.op.first, BatchNormInference)  # type: ignore[attr-defined]
    return take_over((BatchNormInferenceRelu if inference else BatchNormRelu)(t.op, op), t)


RULES.update({
    (Relu, Conv): _relu(ConvRelu),
    (MaxPool, ConvRelu): _pool,
    (Relu, Linear): _relu(LinearRelu),
    (Relu, BatchNorm): _relu(BatchNormRelu),
    (Relu, BatchNormInference): _relu(BatchNormInferenceRelu),
    (Add, BatchNorm): _residual,
    (Add, BatchNormInference): _residual,
    (Relu, BatchNormAdd): _relu_of_sum,
})  # fmt: skip
