"""The values in a pickle, read without running it.

A pickle is a program for a stack machine, and Python's own reader calls whatever functions it
names. This one interprets the instructions that build plain values (numbers, text, lists, tuples,
dicts) and hands everything else — names of functions, calls of them, references to outside data —
to a table given by the caller, in which names are only text. Nothing is imported, no function named
in the file is called, and an instruction or a name outside the tables is an error. That is safer
than a subclass of ``pickle.Unpickler`` with an allow-list, which still calls the allowed objects
and their ``__setstate__`` with arguments from the file.
"""

from __future__ import annotations

import pickletools
import warnings
from collections.abc import Callable, Mapping
from typing import IO, Any, NamedTuple

_MARK = object()
_KEYS = (str, int, float, bool, type(None))  # hashing these takes no more time than reading them

_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_LITERALS = frozenset(
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING "
    "UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8".split()
)
_IGNORED = frozenset({"PROTO", "FRAME"})


class Name(NamedTuple):
    """A function or class that the file names; only its name is ever looked at."""

    module: str
    attribute: str

    def __str__(self) -> str:
        return f"{self.module}.{self.attribute}"


class UnsafePickle(ValueError):
    """The pickle asks for something outside the tables."""


Calls = Mapping[Name, Callable[..., Any]]


def read_pickle(
    file: IO[bytes], calls: Calls, outside: Callable[[Any], Any], names: frozenset[Name]
) -> Any:
    """The value of the pickle that starts at the file's position, which moves to its end.

    ``calls`` maps the names that the file may call to what we do instead; ``names`` are others that
    may occur as values; ``outside`` gives the value of a persistent id. Raises ValueError for a
    damaged pickle, and UnsafePickle, naming it, for anything not in the tables.
    """
    try:
        with warnings.catch_warnings():  # pickletools warns of odd escapes in old text arguments
            warnings.simplefilter("ignore", DeprecationWarning)
            return _Machine(calls, outside, names).run(file)
    except (IndexError, KeyError, TypeError, UnicodeDecodeError, OverflowError) as error:
        raise ValueError(f"damaged pickle: {error!r}") from error


class _Machine:
    """The stack, the memo, and one method for each group of instructions."""

    def __init__(self, calls: Calls, outside: Callable[[Any], Any], names: frozenset[Name]) -> None:
        self.calls, self.outside, self.names = calls, outside, names
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, file: IO[bytes]) -> Any:
        for opcode, argument, position in pickletools.genops(file):
            name = opcode.name
            if name == "STOP":
                break
            if name in _IGNORED:
                continue
            if name in _LITERALS:
                self.stack.append(argument)
            elif name in _CONSTANTS:
                self.stack.append(_CONSTANTS[name])
            else:
                method = getattr(self, f"do_{name.lower()}", None)
                if method is None:
                    raise UnsafePickle(f"instruction {name} at byte {position} is not allowed")
                method(argument)
        if len(self.stack) != 1:
            raise ValueError(f"damaged pickle: {len(self.stack)} values are left on its stack")
        return self._pop()

    def _pop(self) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise ValueError("damaged pickle: a mark where a value is expected")
        if isinstance(value, Name) and value not in self.names:
            raise UnsafePickle(f"{value} is not allowed")
        return value

    def _since_mark(self) -> list[Any]:
        found: list[Any] = []
        while self.stack[-1] is not _MARK:
            found.append(self._pop())
        self.stack.pop()
        return found[::-1]

    def _top(self, kind: type[Any]) -> Any:
        if type(self.stack[-1]) is not kind:
            what = type(self.stack[-1]).__name__
            raise ValueError(f"damaged pickle: expected a {kind.__name__}, received {what}")
        return self.stack[-1]

    # -- memo ------------------------------------------------------------------------------------
    def do_memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def do_put(self, index: int) -> None:
        self.memo[int(index)] = self.stack[-1]

    do_binput = do_long_binput = do_put

    def do_get(self, index: int) -> None:
        self.stack.append(self.memo[int(index)])

    do_binget = do_long_binget = do_get

    # -- containers ------------------------------------------------------------------------------
    def do_mark(self, _: Any) -> None:
        self.stack.append(_MARK)

    def do_empty_list(self, _: Any) -> None:
        self.stack.append([])

    def do_empty_dict(self, _: Any) -> None:
        self.stack.append({})

    def do_empty_tuple(self, _: Any) -> None:
        self.stack.append(())

    def do_tuple(self, _: Any) -> None:
        self.stack.append(tuple(self._since_mark()))

    def do_list(self, _: Any) -> None:
        self.stack.append(self._since_mark())

    def do_dict(self, _: Any) -> None:
        items = self._since_mark()
        self.stack.append({})
        self._set(items)

    def _tuple_of(self, count: int) -> None:
        values = [self._pop() for _ in range(count)]
        self.stack.append(tuple(values[::-1]))

    def do_tuple1(self, _: Any) -> None:
        self._tuple_of(1)

    def do_tuple2(self, _: Any) -> None:
        self._tuple_of(2)

    def do_tuple3(self, _: Any) -> None:
        self._tuple_of(3)

    def do_append(self, _: Any) -> None:
        value = self._pop()
        self._top(list).append(value)

    def do_appends(self, _: Any) -> None:
        values = self._since_mark()
        self._top(list).extend(values)

    def do_setitem(self, _: Any) -> None:
        value, key = self._pop(), self._pop()
        self._set([key, value])

    def do_setitems(self, _: Any) -> None:
        self._set(self._since_mark())

    def _set(self, items: list[Any]) -> None:
        target = self._top(dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, _KEYS):
                raise ValueError(f"a dict's key is a {type(key).__name__}, not a plain value")
            target[key] = value

    # -- names, calls, outside data ----------------------------------------------------------------
    def do_global(self, argument: str) -> None:
        module, _, attribute = argument.partition(" ")
        self._name(module, attribute)

    def do_stack_global(self, _: Any) -> None:
        attribute, module = self.stack.pop(), self.stack.pop()
        self._name(module, attribute)

    def _name(self, module: Any, attribute: Any) -> None:
        if type(module) is not str or type(attribute) is not str:
            raise ValueError("damaged pickle: a name that is not text")
        name = Name(module, attribute)
        if name not in self.calls and name not in self.names:
            raise UnsafePickle(f"it refers to {name}, which is neither data nor a tensor")
        self.stack.append(name)

    def do_reduce(self, _: Any) -> None:
        arguments, name = self._pop(), self.stack.pop()
        if not isinstance(name, Name) or name not in self.calls or type(arguments) is not tuple:
            # Never the text of a value: nested lists that repeat each other have one of any length.
            what = name if isinstance(name, Name) else f"a {type(name).__name__}"
            raise UnsafePickle(f"it calls {what}, which is not allowed")
        self.stack.append(self.calls[name](*arguments))

    def do_build(self, _: Any) -> None:
        """Attributes of an OrderedDict, such as the versions in a state dict, are left out."""
        self._pop()
        self._top(dict)

    def do_binpersid(self, _: Any) -> None:
        self.stack.append(self.outside(self._pop()))
