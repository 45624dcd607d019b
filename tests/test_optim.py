"""Optimisers and schedules: sequences equal to PyTorch's, saved state, bad arguments."""

from __future__ import annotations

import copy
import json
import math
import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinygrad_cnn as tg
from tinygrad_cnn import optim

Make = Callable[..., Any]
STEPS = 50
SHAPES = ((3, 2), (4,), ())

# every combination that changes the update rule
OPTIONS: list[tuple[str, dict[str, Any]]] = [
    *(
        ("SGD", {"lr": 0.1, **momentum, "weight_decay": decay, "maximize": maximize})
        for momentum in (
            {},
            {"momentum": 0.9},
            {"momentum": 0.9, "dampening": 0.3},
            {"momentum": 0.9, "nesterov": True},
        )
        for decay in (0.0, 0.02)
        for maximize in (False, True)
    ),
    *(
        (name, {"lr": 0.05, "betas": (0.8, 0.99), "eps": 1e-6, **extra})
        for name in ("Adam", "AdamW")
        for extra in (
            {},
            {"weight_decay": 0.1},
            {"amsgrad": True, "weight_decay": 0.1},
            {"weight_decay": 0.0, "maximize": True},
        )
    ),
    *(
        (
            "RMSprop",
            {"lr": 0.02, "alpha": 0.9, "momentum": mu, "centered": centered, "weight_decay": decay},
        )
        for mu in (0.0, 0.8)
        for centered in (False, True)
        for decay in (0.0, 0.1)
    ),
    ("RMSprop", {"maximize": True}),
    *(
        ("Adagrad", {"lr": 0.1, "lr_decay": decay, "weight_decay": wd, **extra})
        for decay in (0.0, 0.2)
        for wd in (0.0, 0.1)
        for extra in ({}, {"initial_accumulator_value": 0.5, "eps": 1e-3, "maximize": True})
    ),
    ("SGD", {}),
    ("Adam", {}),
    ("AdamW", {}),
    ("RMSprop", {}),
    ("Adagrad", {}),
]


def start() -> list[np.ndarray[Any, Any]]:
    rng = np.random.default_rng(3)
    return [np.asarray(rng.standard_normal(shape)) for shape in SHAPES]


def gradient(step: int, i: int) -> np.ndarray[Any, Any]:
    return np.asarray(np.random.default_rng(100 * step + i).standard_normal(SHAPES[i]))


def has_gradient(step: int, i: int) -> bool:
    """The second parameter has none in some steps, the first one included."""
    return i != 1 or step % 7 != 0


def parameters(backend: str) -> list[tg.Tensor]:
    return [tg.tensor(a, backend=backend, requires_grad=True) for a in start()]


def set_gradients(params: list[tg.Tensor], step: int) -> None:
    for i, p in enumerate(params):
        wanted = has_gradient(step, i)
        p.grad = tg.tensor(gradient(step, i), backend=p.backend.name) if wanted else None


@pytest.mark.torch
@pytest.mark.parametrize(("name", "options"), OPTIONS, ids=lambda v: str(v).replace(" ", ""))
def test_fifty_steps_equal_pytorch(name: str, options: dict[str, Any], backend: str) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    params = parameters(backend)
    theirs = [torch.tensor(a, requires_grad=True) for a in start()]
    groups = [{"params": params[:1]}, {"params": params[1:], "lr": 0.03}]
    their_groups = [{"params": theirs[:1]}, {"params": theirs[1:], "lr": 0.03}]
    ours = getattr(optim, name)(groups, **options)
    reference = getattr(torch.optim, name)(their_groups, **options)
    for step in range(STEPS):
        set_gradients(params, step)
        for i, p in enumerate(theirs):
            p.grad = torch.tensor(gradient(step, i)) if has_gradient(step, i) else None
        ours.step()
        reference.step()
        for p, q in zip(params, theirs, strict=True):
            np.testing.assert_allclose(
                p.detach().numpy(), q.detach().numpy(), rtol=1e-12, atol=1e-13
            )


@pytest.mark.torch
@pytest.mark.parametrize(("name", "options"), [o for o in OPTIONS if o[1]][::3])
def test_state_dict_has_the_form_of_pytorch(name: str, options: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    params = parameters("numpy")
    theirs = [torch.tensor(a, requires_grad=True) for a in start()]
    ours, reference = (
        getattr(optim, name)(params, **options),
        getattr(torch.optim, name)(theirs, **options),
    )
    for step in range(1, 4):
        set_gradients(params, step)
        for i, p in enumerate(theirs):
            p.grad = torch.tensor(gradient(step, i))
        ours.step()
        reference.step()
    mine, its = ours.state_dict(), reference.state_dict()
    assert list(mine) == list(its)
    names = {i: {n for n, t in s.items() if t is not None} for i, s in its["state"].items()}
    assert {i: set(s) for i, s in mine["state"].items()} == {i: s for i, s in names.items() if s}
    for group, other in zip(mine["param_groups"], its["param_groups"], strict=True):
        assert group["params"] == other["params"]
        assert {k: other[k] for k in group} == group
    # and PyTorch's state continues here
    fresh = getattr(optim, name)(parameters("numpy"), **options)
    fresh.load_state_dict(its)
    for p, q in zip(fresh.param_groups[0]["params"], params, strict=True):
        p.data = q.data
    last = [fresh.param_groups[0]["params"], params]
    for tensors, optimizer in zip(last, (fresh, ours), strict=True):
        set_gradients(tensors, 5)
        optimizer.step()
    for p, q in zip(*last, strict=True):
        np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "RMSprop", "Adagrad"])
def test_a_resumed_run_continues_bit_for_bit(name: str, backend: str) -> None:
    options = {"momentum": 0.9} if name == "SGD" else {}
    params = parameters(backend)
    optimizer = getattr(optim, name)(params, **options)
    for step in range(1, 5):
        set_gradients(params, step)
        optimizer.step()
    saved = copy.deepcopy(optimizer.state_dict())
    copies = [tg.tensor(p, backend=backend, requires_grad=True) for p in params]
    resumed = getattr(optim, name)(copies, lr=99.0, **options)
    resumed.load_state_dict(saved)
    for step in range(5, 9):
        for tensors, which in ((params, optimizer), (copies, resumed)):
            set_gradients(tensors, step)
            which.step()
    for p, q in zip(params, copies, strict=True):
        np.testing.assert_array_equal(p.detach().numpy(), q.detach().numpy())


def test_parameters_stay_in_place_and_their_version_moves(backend: str) -> None:
    (p, *_) = params = parameters(backend)
    array, version = p.array, p.version
    optimizer = optim.SGD(params, lr=0.1, momentum=0.9)
    set_gradients(params, 1)
    optimizer.step()
    buffer = optimizer.state[p]["momentum_buffer"].array
    set_gradients(params, 2)
    optimizer.step()
    assert p.array is array
    assert optimizer.state[p]["momentum_buffer"].array is buffer
    assert p.version == version + 2


def test_a_graph_made_before_the_step_cannot_be_used_after_it(backend: str) -> None:
    p = tg.tensor([2.0], backend=backend, requires_grad=True)
    loss = (p * p).sum()
    p.grad = tg.ones(1, backend=backend)
    optim.SGD([p], lr=0.1).step()
    with pytest.raises(RuntimeError, match="changed in place"):
        loss.backward()


def test_mixed_dtypes_and_backends_in_one_group() -> None:
    a = tg.tensor([1.0], backend="numpy", requires_grad=True)
    b = tg.tensor([1.0], backend="numpy", dtype="float64", requires_grad=True)
    c = tg.tensor([1.0], backend="numba", requires_grad=True)
    for p in (a, b, c):
        p.grad = tg.ones(1, dtype=p.dtype, backend=p.backend.name)
    optim.Adam([a, b, c], lr=0.25).step()
    assert [p.tolist() for p in (a, b, c)] == [[pytest.approx(0.75)]] * 3


def test_closure_is_called_with_recording_on() -> None:
    p = tg.tensor([3.0], requires_grad=True)
    optimizer = optim.SGD([p], lr=0.5)

    def closure() -> tg.Tensor:
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    with tg.no_grad():
        loss = optimizer.step(closure)
    assert loss.item() == 9.0
    assert p.tolist() == [0.0]


@pytest.mark.parametrize("to_none", [True, False])
def test_zero_grad(to_none: bool) -> None:
    p = tg.tensor([3.0], requires_grad=True)
    p.grad = tg.tensor([5.0])
    optim.SGD([p]).zero_grad(set_to_none=to_none)
    assert (None if p.grad is None else p.grad.tolist()) == (None if to_none else [0.0])


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda p: optim.SGD([]), ValueError, "SGD: the list of parameters is empty"),
        (
            lambda p: optim.SGD(p),
            TypeError,
            "SGD: expected a list of parameters or of groups, received Tensor",
        ),
        (
            lambda p: optim.SGD([3.0]),
            TypeError,
            "SGD: parameter 0: expected a tensor, received float",
        ),
        (lambda p: optim.SGD([p, p * 2]), ValueError, "SGD: parameter 1 (2,) was computed (<Mul"),
        (lambda p: optim.SGD([p, p]), ValueError, "SGD: parameter 1 (2,) is listed twice"),
        (lambda p: optim.SGD([p], lr=-1), ValueError, "SGD: lr must not be negative, received -1"),
        (
            lambda p: optim.SGD([{"params": [p], "lr": -2}]),
            ValueError,
            "lr must not be negative, received -2",
        ),
        (
            lambda p: optim.SGD([p], lr=math.nan),
            ValueError,
            "lr must not be negative, received nan",
        ),
        (
            lambda p: optim.SGD([p], nesterov=True),
            ValueError,
            "SGD: nesterov needs momentum > 0 and dampening 0",
        ),
        (
            lambda p: optim.Adam([p], betas=(0.9, 1.0)),
            ValueError,
            "Adam: betas[1] must lie in [0, 1), received 1.0",
        ),
        (lambda p: optim.Adam([p], eps=-1e-3), ValueError, "Adam: eps must not be negative"),
        (lambda p: optim.RMSprop([p], alpha=-1), ValueError, "RMSprop: alpha must not be negative"),
        (
            lambda p: optim.SGD([p]).add_param_group({"lr": 1}),
            TypeError,
            'a group is a dict with the key "params"',
        ),
    ],
)
def test_bad_arguments(make: Make, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        make(tg.ones(2, requires_grad=True))


def test_state_of_another_optimiser_or_model_is_refused_whole() -> None:
    def optimizer(kind: type[optim.Optimizer], *shapes: int) -> optim.Optimizer:
        params = [tg.ones(s, requires_grad=True) for s in shapes]
        for p in params:
            p.grad = tg.ones(p.shape)
        made = kind(params, lr=0.125)  # type: ignore[call-arg]
        made.step()
        return made

    adam = optimizer(optim.Adam, 2, 3)
    before = copy.deepcopy(adam.state_dict())
    for other, message in (
        (optimizer(optim.Adam, 2), r"expected groups of \[2\] parameters, received \[1\]"),
        (optimizer(optim.Adam, 2, 4), r"state 1.exp_avg: expected shape \(3,\), received \(4,\)"),
        (optimizer(optim.RMSprop, 2, 3), "the saved groups lack betas, amsgrad"),
    ):
        other.param_groups[0]["lr"] = 7.0
        with pytest.raises(ValueError, match=message):
            adam.load_state_dict(other.state_dict())
    after = adam.state_dict()
    assert after["param_groups"] == before["param_groups"]
    for i, state in before["state"].items():
        for name, value in state.items():
            np.testing.assert_array_equal(after["state"][i][name], value)


def test_repr_lists_the_groups() -> None:
    assert repr(optim.SGD([tg.ones(1, requires_grad=True)], lr=0.5)) == (
        "SGD (\nParameter Group 0\n    dampening: 0.0\n    lr: 0.5\n    maximize: False\n"
        "    momentum: 0.0\n    nesterov: False\n    weight_decay: 0.0\n)"
    )


# -- schedules -------------------------------------------------------------------------------------
def two_groups(module: Any, make: Make) -> Any:
    one, two = make(), make()
    return module.SGD([{"params": [one]}, {"params": [two], "lr": 0.01}], lr=0.4, momentum=0.9)


SCHEDULES: dict[str, Callable[[Any, Any], Any]] = {
    "step": lambda m, o: m.StepLR(o, 7, 0.3),
    "multistep": lambda m, o: m.MultiStepLR(o, [4, 20, 20, 31], 0.5),
    "exponential": lambda m, o: m.ExponentialLR(o, 0.93),
    "constant": lambda m, o: m.ConstantLR(o, 0.25, 9),
    "linear": lambda m, o: m.LinearLR(o, 0.2, 0.7, 11),
    "polynomial": lambda m, o: m.PolynomialLR(o, 17, 2.0),
    "lambda": lambda m, o: m.LambdaLR(o, lambda t: 1 / (1 + t)),
    "lambdas": lambda m, o: m.LambdaLR(o, [lambda t: 0.9**t, lambda t: 1 + t]),
    "cosine": lambda m, o: m.CosineAnnealingLR(o, 10, 0.003),
    "cosine to zero": lambda m, o: m.CosineAnnealingLR(o, 7),
    "onecycle": lambda m, o: m.OneCycleLR(o, 0.8, total_steps=60),
    "onecycle linear": lambda m, o: m.OneCycleLR(
        o, [0.8, 0.3], epochs=6, steps_per_epoch=10, anneal_strategy="linear", pct_start=0.4
    ),
    "onecycle three": lambda m, o: m.OneCycleLR(
        o, 0.8, total_steps=52, three_phase=True, cycle_momentum=False, div_factor=10
    ),
    "sequential": lambda m, o: m.SequentialLR(
        o, [m.LinearLR(o, 0.1, 1.0, 5), m.CosineAnnealingLR(o, 20), m.StepLR(o, 3)], [5, 25]
    ),
    "sequential exponential": lambda m, o: m.SequentialLR(
        o, [m.ConstantLR(o, 0.1, 4), m.ExponentialLR(o, 0.9)], [4]
    ),
}  # fmt: skip


@pytest.mark.torch
@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_equal_pytorch(name: str) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    ours = two_groups(optim, lambda: tg.ones(1, requires_grad=True))
    theirs = two_groups(torch.optim, lambda: torch.ones(1, requires_grad=True))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SequentialLR of PyTorch deprecates its own argument
        reference = SCHEDULES[name](torch.optim.lr_scheduler, theirs)
    schedule = SCHEDULES[name](optim.lr_scheduler, ours)
    for _ in range(STEPS):
        for key in ("lr", "momentum"):
            wanted = [g[key] for g in theirs.param_groups]
            assert [g[key] for g in ours.param_groups] == pytest.approx(
                wanted, rel=1e-12, abs=1e-15
            )
        assert schedule.get_last_lr() == pytest.approx(
            reference.get_last_lr(), rel=1e-12, abs=1e-15
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs.step()
            reference.step()
        ours.step()
        schedule.step()


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_continues_from_its_state(name: str) -> None:
    def made() -> tuple[Any, Any]:
        optimizer = two_groups(optim, lambda: tg.ones(1, requires_grad=True))
        return optimizer, SCHEDULES[name](optim.lr_scheduler, optimizer)

    optimizer, schedule = made()
    resumed_optimizer, resumed = made()
    for _ in range(12):
        optimizer.step()
        schedule.step()
    state = json.loads(json.dumps(schedule.state_dict()))  # plain data
    resumed.load_state_dict(state)
    resumed_optimizer.load_state_dict(optimizer.state_dict())
    for _ in range(20):
        schedule.step()
        resumed.step()
        assert schedule.get_last_lr() == resumed.get_last_lr()


@pytest.mark.torch
@pytest.mark.parametrize(
    "options",
    [
        {"factor": 0.5, "patience": 2},
        {"factor": 0.5, "patience": 1, "mode": "max", "cooldown": 2},
        {"patience": 0, "threshold": 0.05, "threshold_mode": "abs", "min_lr": [0.02, 0.001]},
        {"patience": 0, "threshold": 0.05, "threshold_mode": "abs", "mode": "max", "eps": 1e-3},
    ],
)
def test_reduce_on_plateau_equals_pytorch(options: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    ours = two_groups(optim, lambda: tg.ones(1, requires_grad=True))
    theirs = two_groups(torch.optim, lambda: torch.ones(1, requires_grad=True))
    schedule = optim.ReduceLROnPlateau(ours, **options)
    reference = torch.optim.lr_scheduler.ReduceLROnPlateau(theirs, **options)
    metrics = np.random.default_rng(0).uniform(0.5, 1.5, STEPS) + 3 / (1 + np.arange(STEPS))
    seen = set()
    for metric in metrics:
        schedule.step(tg.tensor(metric))
        reference.step(float(metric))
        assert schedule.get_last_lr() == pytest.approx(reference.get_last_lr(), rel=1e-12)
        seen.add(schedule.get_last_lr()[0])
    assert len(seen) > 2  # it did reduce


def test_schedules_that_multiply_can_be_combined() -> None:
    optimizer = optim.SGD([tg.ones(1, requires_grad=True)], lr=1.0)
    schedules = [optim.ExponentialLR(optimizer, 0.5), optim.StepLR(optimizer, 2, 0.1)]
    rates = []
    for _ in range(4):
        optimizer.step()
        for schedule in schedules:
            schedule.step()
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([0.5, 0.025, 0.0125, 0.000625])


def test_stepping_the_schedule_first_warns() -> None:
    optimizer = optim.SGD([tg.ones(1, requires_grad=True)])
    schedule = optim.StepLR(optimizer, 1)
    with pytest.warns(UserWarning, match="before the first optimizer.step"):
        schedule.step()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda o: optim.StepLR("sgd", 1),
            TypeError,
            "StepLR: expected an optimiser, received str",
        ),
        (
            lambda o: optim.StepLR(o, 1, last_epoch=3),
            ValueError,
            'group 0 needs its first rate as "initial_lr"',
        ),
        (lambda o: optim.LinearLR(o, 0.0), ValueError, "LinearLR: expected 0 < start_factor ≤ 1"),
        (
            lambda o: optim.ConstantLR(o, 2.0),
            ValueError,
            "ConstantLR: expected 0 ≤ factor ≤ 1, received 2.0",
        ),
        (
            lambda o: optim.LambdaLR(o, [abs, abs]),
            ValueError,
            "LambdaLR: expected 1 functions, received 2",
        ),
        (
            lambda o: optim.OneCycleLR(o, 1.0),
            ValueError,
            "expected total_steps, or epochs and steps_per_epoch",
        ),
        (
            lambda o: optim.OneCycleLR(o, 1.0, 5, anneal_strategy="x"),
            ValueError,
            'anneal_strategy is "cos" or "linear"',
        ),
        (
            lambda o: optim.SequentialLR(o, [optim.StepLR(o, 1)], [3]),
            ValueError,
            "expected 0 milestones for 1",
        ),
        (
            lambda o: optim.SequentialLR(o, [optim.ReduceLROnPlateau(o)], []),
            TypeError,
            "steps without a metric",
        ),
        (lambda o: optim.ReduceLROnPlateau(o, "low"), ValueError, 'mode is "min" or "max"'),
        (
            lambda o: optim.ReduceLROnPlateau(o, factor=1.0),
            ValueError,
            "expected factor < 1, received 1.0",
        ),
    ],
)
def test_bad_schedules(make: Make, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        make(optim.SGD([tg.ones(1, requires_grad=True)]))


def test_one_cycle_needs_momentum_and_ends() -> None:
    p = tg.ones(1, requires_grad=True)
    with pytest.raises(ValueError, match="has no momentum: pass cycle_momentum=False"):
        optim.OneCycleLR(optim.Adagrad([p]), 1.0, total_steps=3)
    optimizer = optim.Adam([p])
    schedule = optim.OneCycleLR(optimizer, 1.0, total_steps=10)
    assert optimizer.param_groups[0]["betas"] == (0.95, 0.999)
    optimizer.step()
    with pytest.raises(ValueError, match="step 11 is beyond total_steps=10"):
        for _ in range(11):
            schedule.step()
