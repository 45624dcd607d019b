"""Optimizer: parameters in groups, their hyperparameters and their state."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ..autograd import enable_grad
from ..backend import Array, Backend
from ..tensor import Tensor

Group = dict[str, Any]  # "params": list of tensors; the rest are hyperparameters


class Bucket(NamedTuple):
    """Parameters of one group that one kernel call can update: same backend, dtype and step."""

    kernels: Backend
    step: int  # number of this update; without counting, 0 for the first and 1 for all others
    params: list[Tensor]
    arrays: list[Array]
    grads: list[Array]
    states: list[dict[str, Any]]

    def state(self, name: str) -> list[Array]:
        """The arrays called ``name`` in the states."""
        return [s[name].array for s in self.states]


class Optimizer:
    """Base class: a subclass says in ``update`` how one bucket of parameters changes.

    ``params`` is a list of tensors, or of dicts {"params": tensors, hyperparameter: value, …}; what
    a group does not say comes from ``defaults``. The layout of ``state_dict()`` is PyTorch's.

    Raises ValueError for no parameters, a parameter listed twice, a non-leaf or an impossible
    hyperparameter; TypeError for something that is not a tensor.
    """

    counts: ClassVar[bool] = True  # whether updates depend on how many there were

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        self.defaults = defaults
        self.state: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
        self.param_groups: list[Group] = []
        self.steps_taken = 0
        if isinstance(params, Tensor | Mapping | str):
            raise TypeError(
                f"{type(self).__name__}: expected a list of parameters or of groups, "
                f"received {type(params).__name__}; pass model.parameters() or [tensor]"
            )
        given = list(params)
        if not given:
            raise ValueError(f"{type(self).__name__}: the list of parameters is empty")
        for group in given if isinstance(given[0], dict) else [{"params": given}]:
            self.add_param_group(group)

    def add_param_group(self, param_group: Group) -> None:
        """Add parameters with hyperparameters of their own."""
        name = type(self).__name__
        if not isinstance(param_group, dict) or "params" not in param_group:
            raise TypeError(
                f'{name}: a group is a dict with the key "params", received {param_group!r}'
            )
        params = param_group["params"]
        params = [params] if isinstance(params, Tensor) else list(params)
        known = {id(p) for g in self.param_groups for p in g["params"]}
        for i, p in enumerate(params):
            if not isinstance(p, Tensor):
                raise TypeError(
                    f"{name}: parameter {i}: expected a tensor, received {type(p).__name__}"
                )
            if not p.is_leaf:
                raise ValueError(
                    f"{name}: parameter {i} {p.shape} was computed ({p.grad_fn!r}); "
                    "only leaves can be optimised: use .detach().requires_grad_()"
                )
            if id(p) in known:
                raise ValueError(f"{name}: parameter {i} {p.shape} is listed twice")
            known.add(id(p))
        group = {"params": params, **{k: v for k, v in param_group.items() if k != "params"}}
        for key, value in self.defaults.items():
            group.setdefault(key, value)
        self.check(group)
        self.param_groups.append(group)

    def check(self, group: Group) -> None:
        """Raise ValueError when a hyperparameter is out of range."""
        for key in (
            "lr",
            "eps",
            "weight_decay",
            "momentum",
            "lr_decay",
            "initial_accumulator_value",
            "alpha",
        ):
            if key in group and not group[key] >= 0:
                raise ValueError(
                    f"{type(self).__name__}: {key} must not be negative, received {group[key]}"
                )
        for i, beta in enumerate(group.get("betas", ())):
            if not 0 <= beta < 1:
                raise ValueError(
                    f"{type(self).__name__}: betas[{i}] must lie in [0, 1), received {beta}"
                )

    # -- one step ----------------------------------------------------------------------------------
    def update(self, group: Group, bucket: Bucket) -> None:
        """Change ``bucket.arrays`` in place; subclasses define it."""
        raise NotImplementedError(f"{type(self).__name__} must define update(group, bucket)")

    def state_names(self, group: Group) -> tuple[str, ...]:
        """The tensors of its own shape that each parameter carries from step to step."""
        return ()

    def new_state(self, group: Group, p: Tensor) -> dict[str, Any]:
        """The state before the first update: zeros."""
        return {name: filled_like(p) for name in self.state_names(group)}

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient.

        ``closure`` computes the loss again (with gradients) before the update; its value is
        returned.
        """
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        for group in self.param_groups:
            for bucket in self._buckets(group):
                self.update(group, bucket)
                for p in bucket.params:
                    p._version_list()[0] += 1
        self.steps_taken += 1
        return loss

    def _buckets(self, group: Group) -> Iterator[Bucket]:
        """The parameters that have gradients, together where one kernel call can update them."""
        found: dict[Any, Bucket] = {}
        state_of, counts, stateful = self.state, self.counts, bool(self.state_names(group))
        for p in group["params"]:
            grad = p.grad
            if grad is None:
                continue
            state = state_of[p]
            step = 1 if state else 0
            if stateful and not state:
                state.update(self.new_state(group, p))
            if counts:
                state["step"] = step = state.get("step", 0) + 1
            array = p.array
            key = (p.backend, array.dtype, step)
            bucket = found.get(key)
            if bucket is None:
                found[key] = bucket = Bucket(p.backend, step, [], [], [], [])
            bucket.params.append(p)
            bucket.arrays.append(array)
            bucket.grads.append(grad.array)
            bucket.states.append(state)
        for bucket in found.values():
            if group.get("maximize"):
                bucket.grads[:] = [_negative(bucket.kernels, g) for g in bucket.grads]
            yield bucket

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients, or fill them with zeros."""
        for group in self.param_groups:
            for p in group["params"]:
                if set_to_none or p.grad is None:
                    p.grad = None
                else:
                    p.grad = p.grad.detach()
                    p.backend.assign(p.grad.array, 0.0)

    # -- saved state -------------------------------------------------------------------------------
    def state_dict(self) -> dict[str, Any]:
        """{"state": {index: {name: tensor or number}}, "param_groups": [{…, "params": [indices]}]}.

        Parameters are numbered in the order of the groups. Tensors are shared, not copied.
        """
        number = {p: i for i, p in enumerate(self._params())}
        groups = []
        for group in self.param_groups:
            options = {k: v for k, v in group.items() if k != "params"}
            groups.append({**options, "params": [number[p] for p in group["params"]]})
        state = {number[p]: dict(s) for p, s in self.state.items() if s and p in number}
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over state and hyperparameters; tensors get their parameter's dtype and backend.

        Raises ValueError, having changed nothing, when the groups or the shapes are different.
        """
        name, groups = type(self).__name__, state_dict["param_groups"]
        sizes = [len(g["params"]) for g in self.param_groups]
        if [len(g["params"]) for g in groups] != sizes:
            raise ValueError(
                f"{name}: expected groups of {sizes} parameters, "
                f"received {[len(g['params']) for g in groups]}"
            )
        state: dict[Tensor, dict[str, Any]] = {}
        for group, saved in zip(self.param_groups, groups, strict=True):
            absent = [key for key in self.defaults if key not in saved]
            if absent:
                raise ValueError(
                    f"{name}: the saved groups lack {', '.join(absent)}: another optimiser's state?"
                )
            for number, p in zip(saved["params"], group["params"], strict=True):
                if number in state_dict["state"]:
                    state[p] = self._loaded(
                        saved, p, state_dict["state"][number], f"{name}: state {number}"
                    )
        for group, saved in zip(self.param_groups, groups, strict=True):
            group.update({k: v for k, v in saved.items() if k != "params"})
        self.state.clear()
        self.state.update(state)

    def _loaded(
        self, group: Group, p: Tensor, saved: Mapping[str, Any], where: str
    ) -> dict[str, Any]:
        found = {k: _like(p, v, f"{where}.{k}") for k, v in saved.items() if v is not None}
        names = {*self.state_names(group), *(["step"] if self.counts else [])}
        if found and set(found) != names:
            raise ValueError(f"{where}: expected {sorted(names)}, received {sorted(found)}")
        return found

    def _params(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    def __repr__(self) -> str:
        lines = []
        for i, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {i}")
            lines += [f"    {key}: {group[key]}" for key in sorted(group) if key != "params"]
        return f"{type(self).__name__} (\n" + "\n".join(lines) + "\n)"


def filled_like(p: Tensor, value: float = 0.0) -> Tensor:
    """State of a parameter's shape, dtype and backend."""
    return Tensor._wrap(p.backend.full(p.shape, value, p.dtype), p.backend)


def _negative(k: Backend, g: Array) -> Array:
    return k.negative(g, out=k.empty(g.shape, g.dtype))  # 0-d stays an array


def _like(p: Tensor, value: Any, where: str) -> Any:
    """A saved value as a new tensor beside ``p``; numbers and counts as Python numbers."""
    if not hasattr(value, "shape"):
        return value
    if isinstance(value, Tensor):
        value = value.backend.to_numpy(value.array)
    array = np.asarray(value)
    if where.endswith(".step"):  # PyTorch counts in a tensor
        return int(array)
    if array.shape != p.shape:
        raise ValueError(f"{where}: expected shape {p.shape}, received {array.shape}")
    return Tensor._wrap(p.backend.asarray(array, p.dtype), p.backend)
