"""Modules that hold modules (Sequential, ModuleList, ModuleDict) or parameters (ParameterList,
ParameterDict).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from operator import index
from typing import Any, Generic, Self, TypeVar, overload

from ..tensor import Tensor
from .module import Module, Parameter, _indent

Value = TypeVar("Value")


class _Numbered(Module):
    """Children called "0", "1", …: what Sequential and ModuleList share."""

    def _list(self) -> list[Module]:
        return [child for child in self.__dict__.values() if isinstance(child, Module)]

    def _names(self) -> list[str]:
        return [name for name, child in self.__dict__.items() if isinstance(child, Module)]

    def _put(self, modules: Iterable[Module]) -> None:
        """Make ``modules`` the children, in this order."""
        wanted = list(modules)
        for i, module in enumerate(wanted):
            _check(module, f"{type(self).__name__}[{i}]")
        for name in self._names():
            object.__delattr__(self, name)
        for i, module in enumerate(wanted):
            setattr(self, str(i), module)

    def _name_at(self, place: Any) -> str:
        names, i = self._names(), index(place)
        if not -len(names) <= i < len(names):
            raise IndexError(f"{type(self).__name__} has {len(names)} modules, received index {i}")
        return names[i]

    def __len__(self) -> int:
        return len(self._list())

    def __iter__(self) -> Iterator[Module]:
        return iter(self._list())

    def __setitem__(self, place: int, module: Module) -> None:
        setattr(self, self._name_at(place), _check(module, type(self).__name__))

    def __delitem__(self, place: int | slice) -> None:
        kept = self._list()
        del kept[place]
        self._put(kept)

    def append(self, module: Module) -> Self:
        """Add a module at the end."""
        taken, number = set(self._names()), len(self)
        while str(number) in taken:  # a slice keeps the names it was cut from
            number += 1
        setattr(self, str(number), _check(module, f"{type(self).__name__}.append"))
        return self

    def extend(self, modules: Iterable[Module]) -> Self:
        """Add several modules at the end."""
        for module in list(modules):
            self.append(module)
        return self

    def insert(self, place: int, module: Module) -> Self:
        """Put a module before position ``place``."""
        modules = self._list()
        modules.insert(place, module)
        self._put(modules)
        return self

    def pop(self, place: int | slice = -1) -> Any:
        """Remove and return the module at ``place``."""
        found = self[place]  # type: ignore[index]
        del self[place]
        return found


class Sequential(_Numbered):
    """Modules called one after the other: Sequential(a, b)(x) = b(a(x)).

    Takes modules, or one dict of named modules. Indexing gives a module, slicing a Sequential.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__()
        if len(args) == 1 and isinstance(args[0], Mapping):
            for name, module in args[0].items():
                self.register_module(name, _check(module, f"Sequential[{name!r}]"))
        else:
            self._put(args)

    def forward(self, input: Any) -> Any:
        for child in self._list():
            input = child(input)
        return input

    @overload
    def __getitem__(self, place: int) -> Module: ...
    @overload
    def __getitem__(self, place: slice) -> Sequential: ...
    def __getitem__(self, place: int | slice) -> Module:
        if isinstance(place, slice):
            names = self._names()[place]
            return type(self)({name: self.__dict__[name] for name in names})
        return self.__dict__[self._name_at(place)]  # type: ignore[no-any-return]


class ModuleList(_Numbered):
    """A list of modules whose parameters are found. It has no forward: loop over it in yours."""

    def __init__(self, modules: Iterable[Module] | None = None) -> None:
        super().__init__()
        self._put(modules or ())

    @overload
    def __getitem__(self, place: int) -> Module: ...
    @overload
    def __getitem__(self, place: slice) -> ModuleList: ...
    def __getitem__(self, place: int | slice) -> Module:
        if isinstance(place, slice):
            return type(self)(self._list()[place])
        return self.__dict__[self._name_at(place)]  # type: ignore[no-any-return]

    def __add__(self, other: Iterable[Module]) -> ModuleList:
        return ModuleList([*self, *other])

    def __iadd__(self, other: Iterable[Module]) -> Self:
        return self.extend(other)

    def __repr__(self) -> str:
        """Runs of equal modules are shown once: ``(0-2): 3 x Linear(…)``."""
        lines, start = [], 0
        for text, run in groupby(map(repr, self)):
            count = len(list(run))
            name = f"{start}" if count == 1 else f"{start}-{start + count - 1}"
            lines.append(f"({name}): {f'{count} x ' if count > 1 else ''}{_indent(text)}")
            start += count
        return (
            f"{self._get_name()}(\n  " + "\n  ".join(lines) + "\n)"
            if lines
            else f"{self._get_name()}()"
        )


class _Named(Module, Generic[Value]):
    """Modules or parameters by name: what ModuleDict and ParameterDict share."""

    def _dict(self) -> dict[str, Value]:
        raise NotImplementedError

    def __getitem__(self, key: str) -> Value:
        return self._dict()[key]

    def __setitem__(self, key: str, value: Any) -> None:
        raise NotImplementedError

    def __delitem__(self, key: str) -> None:
        self.pop(key)

    def __len__(self) -> int:
        return len(self._dict())

    def __iter__(self) -> Iterator[str]:
        return iter(self._dict())

    def __contains__(self, key: str) -> bool:
        return key in self._dict()

    def keys(self) -> Iterable[str]:
        """The names."""
        return self._dict().keys()

    def values(self) -> Iterable[Value]:
        """What the names stand for."""
        return self._dict().values()

    def items(self) -> Iterable[tuple[str, Value]]:
        """(name, value) pairs."""
        return self._dict().items()

    def pop(self, key: str) -> Value:
        """Remove and return what is called ``key``."""
        found = self[key]
        delattr(self, key)
        return found

    def clear(self) -> None:
        """Remove everything."""
        for key in self._dict():
            delattr(self, key)

    def update(self, pairs: Mapping[str, Any] | Iterable[tuple[str, Any]], /) -> None:
        """Add or replace, from a mapping or from (name, value) pairs."""
        for key, value in pairs.items() if isinstance(pairs, Mapping) else pairs:
            self[key] = value


class ModuleDict(_Named[Module]):
    """A dict of modules whose parameters are found. It has no forward: use its items in yours."""

    def __init__(
        self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] | None = None
    ) -> None:
        super().__init__()
        self.update(modules or {})

    def _dict(self) -> dict[str, Module]:
        return {name: child for name, child in self.__dict__.items() if isinstance(child, Module)}

    def __setitem__(self, key: str, module: Module) -> None:
        self.register_module(key, _check(module, f"ModuleDict[{key!r}]"))


class _Parameters(Module):
    """Parameters by name: what ParameterList and ParameterDict share."""

    def _dict(self) -> dict[str, Parameter]:
        return {name: p for name, p in self.__dict__.items() if isinstance(p, Parameter)}

    def _put(self, name: str, value: Any) -> None:
        """Make ``value``, or a parameter made of it, the parameter called ``name``."""
        if not isinstance(value, Tensor):
            raise TypeError(
                f"{type(self).__name__}[{name!r}]: expected a Parameter or a tensor, "
                f"received {type(value).__name__}"
            )
        self.register_parameter(name, value if isinstance(value, Parameter) else Parameter(value))

    def __len__(self) -> int:
        return len(self._dict())

    def extra_repr(self) -> str:
        return ", ".join(f"{name}: {p.dtype} {p.shape}" for name, p in self._dict().items())


class ParameterList(_Parameters):
    """A list of parameters, found by ``parameters()``; other tensors become parameters."""

    def __init__(self, values: Iterable[Tensor] | None = None) -> None:
        super().__init__()
        self.extend(values or ())

    def __iter__(self) -> Iterator[Parameter]:
        return iter(self._dict().values())

    @overload
    def __getitem__(self, place: int) -> Parameter: ...
    @overload
    def __getitem__(self, place: slice) -> ParameterList: ...
    def __getitem__(self, place: int | slice) -> Parameter | ParameterList:
        found = list(self)
        return ParameterList(found[place]) if isinstance(place, slice) else found[place]

    def __setitem__(self, place: int, value: Tensor) -> None:
        self._put(str(range(len(self))[place]), value)

    def append(self, value: Tensor) -> Self:
        """Add a parameter at the end."""
        self._put(str(len(self)), value)
        return self

    def extend(self, values: Iterable[Tensor]) -> Self:
        """Add several parameters at the end."""
        for value in list(values):
            self.append(value)
        return self

    def __iadd__(self, values: Iterable[Tensor]) -> Self:
        return self.extend(values)


class ParameterDict(_Parameters, _Named[Parameter]):
    """A dict of parameters, found by ``parameters()``; other tensors become parameters."""

    def __init__(
        self, parameters: Mapping[str, Tensor] | Iterable[tuple[str, Tensor]] | None = None
    ) -> None:
        super().__init__()
        self.update(parameters or {})

    def __setitem__(self, key: str, value: Tensor) -> None:
        self._put(key, value)


def _check(module: Any, where: str) -> Module:
    if not isinstance(module, Module):
        what = module.__name__ if isinstance(module, type) else type(module).__name__
        hint = f"; did you mean {what}()?" if isinstance(module, type) else ""
        raise TypeError(f"{where}: expected a Module, received {what}{hint}")
    return module
