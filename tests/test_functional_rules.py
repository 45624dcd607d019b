"""Derivative rules of ``nn.functional``: against differences, and fused against plain ones."""

from __future__ import annotations

import inspect
from typing import Any

import functional_cases_more  # noqa: F401  (fills the table)
import numpy as np
import pytest
from functional_cases import CASES, is_variable
from tolerances import bound

import tinygrad_cnn as tg
from tinygrad_cnn.nn import functional as F
from tinygrad_cnn.ops.activation import (
    Activation,
    Elu,
    Gelu,
    GeluTanh,
    Hardsigmoid,
    Hardswish,
    Hardtanh,
    LeakyRelu,
    LogSigmoid,
    LogSoftmax,
    PRelu,
    Relu,
    Silu,
    Softmax,
    Softplus,
    Softsign,
)
from tinygrad_cnn.ops.conv import Conv
from tinygrad_cnn.ops.cross_entropy import BinaryCrossEntropy, CrossEntropy, Logistic
from tinygrad_cnn.ops.elementwise import Clamp
from tinygrad_cnn.ops.linear import Linear
from tinygrad_cnn.ops.loss import AbsoluteError, Divergence, Huber, PairLoss, SquaredError
from tinygrad_cnn.ops.normalization import BatchNorm, GroupNorm, LayerNorm
from tinygrad_cnn.ops.pool import MaxPool
from tinygrad_cnn.ops.reduce import Mean, Sum
from tinygrad_cnn.ops.unary import Absolute, Sigmoid, Tanh
from tinygrad_cnn.tensor import Op, Tensor

Array = Any

# At these inputs a central difference says nothing: ties, or numbers too large for its step.
ROUGH = {"max_pool2d-ties", "batch_norm-large-mean", "cross_entropy-large-logits"}
SMOOTH = [
    name
    for name, case in CASES.items()
    if name not in ROUGH
    and "far" not in name
    and "ignored" not in name
    and "embedding-padding" not in name  # its gradient leaves a row out on purpose
    and any(is_variable(a) and a.size for a in case.arrays(name))
]


def inputs(name: str, backend: str, dtype: str = "float64") -> list[Tensor]:
    made = []
    for a in CASES[name].arrays(name):
        b = a.astype(dtype) if a.dtype.kind == "f" else a
        t = tg.tensor(np.asarray(b), backend=backend)
        made.append(t.requires_grad_() if is_variable(a) else t)
    return made


def floats(outputs: Any) -> Any:
    """The differentiable outputs: not the positions of pooling."""
    return outputs[0] if isinstance(outputs, tuple) else outputs


@pytest.mark.parametrize("name", SMOOTH)
def test_first_and_second_derivative_against_differences(backend: str, name: str) -> None:
    xs = inputs(name, backend)

    def call(*values: Tensor) -> Any:
        return floats(CASES[name].call(F, *values))

    assert tg.gradcheck(call, xs)
    assert tg.gradgradcheck(call, xs)


def test_every_function_has_a_case() -> None:
    """What the table calls is what the module offers (random functions are in test_dropout.py)."""
    called: set[str] = set()

    class Recorder:
        def __getattr__(self, name: str) -> Any:
            called.add(name)
            return getattr(F, name)

    for name, case in CASES.items():
        case.call(
            Recorder(), *(tg.tensor(np.asarray(a), backend="numpy") for a in case.arrays(name))
        )
    assert set(F.__all__) - called == {n for n in F.__all__ if "dropout" in n}
    assert sorted(F.__all__) == F.__all__
    assert set(F.__all__) == {n for n, v in vars(F).items() if inspect.isfunction(v)}


# -- a fused rule is the rule ----------------------------------------------------------------------
FUSED: dict[type[Op], list[str]] = {
    BatchNorm: [n for n in CASES if n.startswith("batch_norm")],
    GroupNorm: [n for n in CASES if n.startswith(("group_norm", "instance_norm"))],
    LayerNorm: [n for n in CASES if n.startswith("layer_norm")],
    Conv: [n for n in CASES if n.startswith("conv") and "transpose" not in n],
    CrossEntropy: ["cross_entropy-2d-mean", "cross_entropy-2d-none", "cross_entropy-large-logits"],
    Linear: [n for n in CASES if n.startswith("linear")],
    Mean: ["binary_cross_entropy-mean"],  # weighted, so not of the losses' own kernel
    Sum: ["binary_cross_entropy-sum"],
    MaxPool: [n for n in CASES if n.startswith("max_pool")],
    PRelu: [n for n in CASES if n.startswith("prelu")],
    LeakyRelu: [n for n in CASES if n.startswith("leaky_relu")],
    Absolute: [n for n in CASES if n.startswith("normalize-p1")],
    Softsign: [n for n in CASES if n.startswith("softsign")],
    Hardsigmoid: [n for n in CASES if n.startswith("hardsigmoid")],
    AbsoluteError: [n for n in CASES if n.startswith("l1_loss")],
    SquaredError: [n for n in CASES if n.startswith("mse_loss")],
    Divergence: [n for n in CASES if n.startswith("kl_div")],
    Logistic: [n for n in CASES if n.startswith("binary_cross_entropy_with_logits")],
    BinaryCrossEntropy: ["binary_cross_entropy-mean", "binary_cross_entropy-soft"],
    Huber: [n for n in CASES if n.startswith(("huber_loss", "smooth_l1_loss"))],
    Elu: [n for n in CASES if n.startswith(("elu", "selu", "celu"))],
    Softmax: [n for n in CASES if n.startswith("softmax")],
    LogSoftmax: [n for n in CASES if n.startswith("log_softmax")],
    Silu: [n for n in CASES if n.startswith("silu")],
    Gelu: [n for n in CASES if n.startswith("gelu") and "tanh" not in n],
    GeluTanh: [n for n in CASES if n.startswith("gelu") and "tanh" in n],
    Softplus: [n for n in CASES if n.startswith("softplus")],
    LogSigmoid: [n for n in CASES if n.startswith("logsigmoid")],
    Hardtanh: [n for n in CASES if n.startswith(("hardtanh", "relu6"))],
    Clamp: [n for n in CASES if n.startswith(("normalize", "cosine_similarity"))],
    Hardswish: [n for n in CASES if n.startswith("hardswish")],
    Sigmoid: [n for n in CASES if n.startswith("sigmoid")],
    Tanh: [n for n in CASES if n.startswith("tanh")],
    Relu: ["relu"],
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", [name for names in FUSED.values() for name in names])
def test_fused_rule_equals_composed_rule(backend: str, name: str, dtype: str) -> None:
    results = []
    for create_graph in (False, True):
        xs = inputs(name, backend, dtype)
        y = floats(CASES[name].call(F, *xs))
        seed = tg.tensor(
            np.random.default_rng(3).standard_normal(y.shape).astype(dtype), backend=backend
        )
        wanted = [x for x in xs if x.requires_grad]
        results.append(
            tg.autograd.grad(y, wanted, seed, create_graph=create_graph, allow_unused=True)
        )
    for fused, composed in zip(*results, strict=True):
        if fused is None:
            assert composed is None
            continue
        a, b = fused.numpy(), composed.detach().numpy()
        magnitude = np.abs(b).max(initial=1.0) * (1e4 if "large-mean" in name else 4)
        assert a.dtype == b.dtype == dtype
        np.testing.assert_allclose(
            a, b, rtol=0, atol=bound(dtype, max(a.size, 16), magnitude).max()
        )


def test_every_fused_rule_is_compared() -> None:
    """A class with a fused rule that is missing above would go untested."""

    def below(cls: type) -> set[type]:
        return {cls, *(deep for sub in cls.__subclasses__() for deep in below(sub))}

    fused = {
        cls
        for cls in below(Op) - {Activation, PairLoss}  # which have only subclasses
        if cls.fused_backward is not None
        and cls.__module__.startswith("tinygrad_cnn.ops.")
        and not cls.__module__.endswith(".fused")
    }
    assert fused == set(FUSED)


def test_saved_statistics_would_spoil_the_second_derivative(backend: str) -> None:
    """Why BatchNorm.backward computes the statistics anew: a version that does not is found."""

    class Remembering(BatchNorm):
        def backward(self, grad: Tensor, out: None) -> tuple[Tensor | None, ...]:
            x, *_ = self.inputs
            nd = x.ndim
            mean, var = (
                Tensor._wrap(a, x.backend).reshape(1, -1, *(1,) * (nd - 2))
                for a in (self.mean, self.var)
            )
            axes = (0, *range(2, nd))
            inverse = (var + self.eps).rsqrt()
            xhat = (x - mean) * inverse
            product = (grad * xhat).mean(axes, keepdim=True)
            return (grad - grad.mean(axes, keepdim=True) - xhat * product) * inverse, None, None

    x = tg.tensor(
        np.random.default_rng(0).standard_normal((3, 2, 4)), backend=backend
    ).requires_grad_()
    call = {
        kind: lambda x, kind=kind: kind(x, 1e-5)(x, None, None) for kind in (BatchNorm, Remembering)
    }
    assert tg.gradcheck(call[Remembering], x)
    assert tg.gradgradcheck(call[BatchNorm], x)
    with pytest.raises(AssertionError):
        tg.gradgradcheck(call[Remembering], x)
