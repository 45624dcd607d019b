"""Parameter and Module: the state of a network and the tree it forms.

A module is an ordinary object. Its parameters are the attributes that are ``Parameter`` objects,
its children the attributes that are modules, its buffers the attributes named by
``register_buffer``; the order is that of first assignment. Nothing is kept twice, so reading
``self.weight`` costs what reading an attribute costs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Self

import numpy as np

from .. import dtypes
from ..backend import Backend, load_backend
from ..construct import tensor
from ..deferred import fusing
from ..tensor import RemovableHandle, Tensor, mode
from . import calls
from .calls import Hooks, Symbolic


class Parameter(Tensor):
    """A tensor that a module learns: it requires gradients and is found by ``Module.parameters()``.

    Shares the memory of ``data`` when that is a tensor.
    """

    def __init__(self, data: Any, requires_grad: bool = True) -> None:
        source = data if isinstance(data, Tensor) else tensor(data)
        self.array, self.backend = source.array, source.backend
        self.grad_fn = self._version = self._base = None  # found at once here, see Tensor._wrap
        self.requires_grad_(requires_grad)


class IncompatibleKeys(NamedTuple):
    """What ``load_state_dict(strict=False)`` could not match."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class Module:
    """Base class of layers and networks: assign parameters and modules, define ``forward``.

    >>> from tinygrad_cnn import nn
    >>> class Twice(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.fc = nn.Linear(4, 4)
    ...     def forward(self, x):
    ...         return self.fc(self.fc(x))
    >>> [name for name, _ in Twice().named_parameters()]
    ['fc.weight', 'fc.bias']
    """

    training: bool = True
    _buffers: Mapping[str, bool] = {}  # name -> is it part of state_dict()
    _hooks: Hooks | None = None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the output; every subclass defines it."""
        raise NotImplementedError(f"{type(self).__name__} must define forward()")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """``forward`` with the hooks around it. An error that leaves it names the layer's path."""
        try:
            if self._hooks is None and mode.anomaly is None:
                if args and isinstance(args[0], Symbolic):
                    return args[0].connect(self, args, kwargs)
                if mode.around is not None:
                    return self.forward(*args, **kwargs)
                return fusing(self.forward, args, kwargs)
            return calls.observed(self, args, kwargs)
        except (ValueError, TypeError, IndexError, RuntimeError) as error:
            calls.name_layer(self, error)
            raise

    # -- registration ----------------------------------------------------------------------------
    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(self.__dict__.get(name), Parameter):
            if value is not None and not isinstance(value, Parameter):
                raise TypeError(
                    f"{type(self).__name__}.{name} is a parameter: expected an nn.Parameter or "
                    f"None, received {type(value).__name__}; to change its values write into it "
                    "under no_grad()"
                )
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        object.__delattr__(self, name)
        if name in self._buffers:
            self._buffers = {n: keep for n, keep in self._buffers.items() if n != name}

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Make ``param`` (or None: absent) the parameter called ``name``."""
        self._check_name(name)
        if param is not None and not isinstance(param, Parameter):
            raise TypeError(
                f"parameter {name!r}: expected nn.Parameter or None, "
                f"received {type(param).__name__}"
            )
        setattr(self, name, param)

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Make ``tensor`` part of the state that is not learned; ``persistent``: also saved."""
        self._check_name(name)
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(
                f"buffer {name!r}: expected a tensor or None, received {type(tensor).__name__}"
            )
        setattr(self, name, tensor)
        self._buffers = {**self._buffers, name: persistent}

    def register_module(self, name: str, module: Module | None) -> None:
        """Make ``module`` the child called ``name``."""
        self._check_name(name)
        if module is not None and not isinstance(module, Module):
            raise TypeError(
                f"module {name!r}: expected a Module or None, received {type(module).__name__}"
            )
        setattr(self, name, module)

    add_module = register_module

    def _check_name(self, name: str) -> None:
        if not isinstance(name, str) or not name or "." in name:
            raise ValueError(f"expected a name without dots, received {name!r}")
        if (
            hasattr(self, name)
            and name not in self._buffers
            and not isinstance(getattr(self, name), Parameter | Module | None)
        ):
            raise ValueError(f"{type(self).__name__} already has an attribute {name!r}")

    # -- the tree --------------------------------------------------------------------------------
    def named_children(self) -> Iterator[tuple[str, Module]]:
        """(name, module) of the direct children, each once."""
        seen = set()
        for name, value in list(self.__dict__.items()):
            if isinstance(value, Module) and value not in seen:
                seen.add(value)
                yield name, value

    def children(self) -> Iterator[Module]:
        """The direct children."""
        return (child for _, child in self.named_children())

    def named_modules(
        self, memo: set[Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """(path, module) of this module (path "") and all below it, parents first."""
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        for name, value in list(self.__dict__.items()):
            if isinstance(value, Module):
                yield from value.named_modules(memo, _join(prefix, name), remove_duplicate)

    def modules(self) -> Iterator[Module]:
        """This module and all below it."""
        return (module for _, module in self.named_modules())

    def _named_members(
        self,
        of: Callable[[Module], list[tuple[str, Tensor]]],
        prefix: str,
        recurse: bool,
        unique: bool,
    ) -> Iterator[tuple[str, Tensor]]:
        seen: set[int] = set()
        owners = (
            self.named_modules(prefix=prefix, remove_duplicate=unique)
            if recurse
            else [(prefix, self)]
        )
        for path, module in owners:
            for name, value in of(module):
                if not unique or id(value) not in seen:
                    seen.add(id(value))
                    yield _join(path, name), value

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """(path, parameter), a shared one only at its first path."""
        found = self._named_members(_parameters, prefix, recurse, remove_duplicate)
        return found  # type: ignore[return-value]

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """All parameters, each once: what an optimiser is given."""
        return (p for _, p in self.named_parameters(recurse=recurse))

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """(path, buffer), a shared one only at its first path."""
        return self._named_members(_buffers, prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """All buffers, each once."""
        return (b for _, b in self.named_buffers(recurse=recurse))

    def get_submodule(self, target: str) -> Module:
        """The module at a path such as ``"features.3"``. Raises AttributeError where it ends."""
        found: Module = self
        for name in target.split(".") if target else []:
            child = found.__dict__.get(name)
            if not isinstance(child, Module):
                names = ", ".join(n for n, _ in found.named_children()) or "none"
                raise AttributeError(
                    f"{target!r}: {type(found).__name__} has no child {name!r}; "
                    f"its children: {names}"
                )
            found = child
        return found

    def get_parameter(self, target: str) -> Parameter:
        """The parameter at a path such as ``"fc.weight"``. Raises AttributeError where none is."""
        path, _, name = target.rpartition(".")
        found = self.get_submodule(path).__dict__.get(name)
        if not isinstance(found, Parameter):
            raise AttributeError(f"{target!r} is not a parameter of {type(self).__name__}")
        return found

    def apply(self, fn: Callable[[Module], Any]) -> Self:
        """Call ``fn`` on every module, children first; returns self."""
        for child in self.children():
            child.apply(fn)
        fn(self)
        return self

    # -- modes and moves ---------------------------------------------------------------------------
    def train(self, mode: bool = True) -> Self:
        """Set training mode (dropout drops, batch norm uses the batch) here and below."""
        for module in self.modules():
            module.training = bool(mode)
        return self

    def eval(self) -> Self:
        """Set evaluation mode; the same as ``train(False)``."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Freeze (False) or unfreeze all parameters."""
        for p in self.parameters():
            p.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters (or fill them with zeros)."""
        for p in self.parameters():
            calls.zero_grad(p, set_to_none)

    def to(self, *args: Any, dtype: Any = None, backend: str | None = None) -> Self:
        """Convert floating-point state to a dtype and/or move all state to a backend, in place.

        ``to("numpy")``, ``to(tg.float64)``, ``to("numba", dtype="float32")``. The parameters stay
        the same objects, but give an optimiser that already ran a new start: its own state is not
        moved.
        """
        for value in args:
            try:
                dtype = dtypes.as_dtype(value)
            except TypeError:
                if not isinstance(value, str):
                    raise
                backend = value
        wanted = None if dtype is None else dtypes.as_dtype(dtype)
        if wanted is not None and not dtypes.is_floating(wanted):
            raise TypeError(f"Module.to: expected a floating-point dtype, received {wanted}")
        target = None if backend is None else load_backend(backend)
        for module in self.modules():
            for _, t in _parameters(module) + _buffers(module):
                _move(t, wanted, target)
                if t.grad is not None:
                    _move(t.grad, wanted, target)
        return self

    def float(self) -> Self:
        """All floating-point state as float32."""
        return self.to(dtypes.float32)

    def double(self) -> Self:
        """All floating-point state as float64."""
        return self.to(dtypes.float64)

    def half(self) -> Self:
        """All floating-point state as float16."""
        return self.to(dtypes.float16)

    # -- saved state -----------------------------------------------------------------------------
    def state_dict(self, *, prefix: str = "", keep_vars: bool = False) -> dict[str, Tensor]:
        """All parameters and persistent buffers by path; they share memory with the module.

        A shared parameter is listed under each of its paths. ``keep_vars`` returns the parameters
        themselves instead of detached tensors.
        """
        found = self._state(prefix)
        return found if keep_vars else {name: t.detach() for name, t in found.items()}

    def _state(self, prefix: str = "") -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for path, module in self.named_modules(
            prefix=prefix.removesuffix("."), remove_duplicate=False
        ):
            kept = [(n, b) for n, b in _buffers(module) if module._buffers[n]]
            found.update((_join(path, name), t) for name, t in _parameters(module) + kept)
        return found

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True
    ) -> IncompatibleKeys:
        """Copy values into the parameters and buffers of the same paths.

        The parameters keep their dtype and backend. Values are tensors, NumPy arrays or anything
        NumPy can read. All keys and shapes are checked first: raises RuntimeError listing every
        difference, and then nothing has been loaded. With ``strict=False`` missing and unexpected
        keys are returned instead; shapes must still agree. The counters ``num_batches_tracked``
        may be missing, as they are in files from before PyTorch 0.4.1, and then keep their values.
        """
        own = self._state()
        missing = [
            name
            for name in own
            if name not in state_dict and name.rpartition(".")[2] != "num_batches_tracked"
        ]
        unexpected = [name for name in state_dict if name not in own]
        problems = []
        if strict and missing:
            problems.append("missing keys: " + ", ".join(map(repr, missing)))
        if strict and unexpected:
            problems.append("unexpected keys: " + ", ".join(map(repr, unexpected)))
        values = {name: _host(state_dict[name]) for name in own if name in state_dict}
        for name, value in values.items():
            if value.shape != own[name].shape:
                problems.append(
                    f"{name!r}: expected shape {own[name].shape}, received {value.shape}"
                )
        if problems:
            raise RuntimeError(
                f"load_state_dict: the state does not fit {type(self).__name__}:\n  "
                + "\n  ".join(problems)
            )
        for name, value in values.items():
            t = own[name]
            t.backend.assign(t.array, t.backend.asarray(value, t.dtype))
            t._version_list()[0] += 1
        return IncompatibleKeys(missing, unexpected)

    # -- hooks -----------------------------------------------------------------------------------
    def _hook_table(self) -> Hooks:
        if self._hooks is None:
            self._hooks = Hooks()
        return self._hooks

    def register_forward_pre_hook(self, hook: Callable[[Any, Any], Any]) -> RemovableHandle:
        """``hook(module, args)`` before ``forward``; what it returns replaces the arguments."""
        return RemovableHandle(self._hook_table().before, hook)

    def register_forward_hook(self, hook: Callable[[Any, Any, Any], Any]) -> RemovableHandle:
        """``hook(module, args, output)`` after ``forward``; what it returns replaces the output."""
        return RemovableHandle(self._hook_table().after, hook)

    def register_full_backward_hook(self, hook: Callable[[Any, Any, Any], Any]) -> RemovableHandle:
        """``hook(module, grad_input, grad_output)`` once the gradients of the inputs are known.

        Both are tuples, with None for what has no gradient; a returned tuple replaces
        ``grad_input``.
        """
        return RemovableHandle(self._hook_table().backward, hook)

    # -- text ------------------------------------------------------------------------------------
    def extra_repr(self) -> str:
        """The arguments shown by ``repr``; layers define it."""
        return ""

    def _get_name(self) -> str:
        return type(self).__name__

    def __repr__(self) -> str:
        extra = self.extra_repr()
        lines = [f"({name}): {_indent(repr(child))}" for name, child in self._shown_children()]
        if not lines:
            return f"{self._get_name()}({extra})"
        body = "\n  ".join([*extra.split("\n"), *lines] if extra else lines)
        return f"{self._get_name()}(\n  {body}\n)"

    def _shown_children(self) -> Iterator[tuple[str, Module]]:
        return ((n, v) for n, v in self.__dict__.items() if isinstance(v, Module))


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _indent(text: str) -> str:
    return text.replace("\n", "\n  ")


def _parameters(module: Module) -> list[tuple[str, Tensor]]:
    return [(n, v) for n, v in module.__dict__.items() if isinstance(v, Parameter)]


def _buffers(module: Module) -> list[tuple[str, Tensor]]:
    return [(n, t) for n in module._buffers if (t := module.__dict__.get(n)) is not None]


def _move(t: Tensor, dtype: dtypes.DType | None, backend: Backend | None) -> None:
    if backend is not None and t.backend is not backend:
        t.array, t.backend = backend.asarray(t.backend.to_numpy(t.array)), backend
        t._version_list()[0] += 1
    if dtype is not None and dtypes.is_floating(t.dtype) and t.dtype != dtype:
        t.array = t.backend.astype(t.array, dtype)
        t._version_list()[0] += 1


def _host(value: Any) -> np.ndarray[Any, Any]:
    """A value of a state dict as a NumPy array."""
    if isinstance(value, Tensor):
        return value.backend.to_numpy(value.array)  # type: ignore[no-any-return]
    return np.asarray(value)
