"""NumPy's names of two arguments, which PyTorch understands too."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

OURS = {"axis": "dim", "keepdims": "keepdim"}


def numpy_names(function: Callable[P, T]) -> Callable[P, T]:
    """``function`` that takes ``axis=`` for ``dim=`` and ``keepdims=`` for ``keepdim=``.

    Raises TypeError when one argument is given by both names."""

    @functools.wraps(function)
    def renamed(*args: P.args, **kwargs: P.kwargs) -> T:
        if kwargs:
            for theirs, ours in OURS.items():
                if theirs in kwargs:
                    if ours in kwargs:
                        raise TypeError(
                            f"{function.__name__}: {theirs} is another name of {ours}; give one"
                        )
                    kwargs[ours] = kwargs.pop(theirs)
        return function(*args, **kwargs)

    return renamed
