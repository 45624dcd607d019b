"""Models as plain functions that build them."""

from __future__ import annotations

import difflib
from typing import Any

from ..nn import Module
from .lenet import lenet5

__all__ = ["build", "lenet5"]

BUILDERS = {"lenet5": lenet5}


def build(name: str, **options: Any) -> Module:
    """The model of this name. Raises ValueError for an unknown one, naming the nearest."""
    if name not in BUILDERS:
        near = difflib.get_close_matches(name, BUILDERS, 1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(BUILDERS)}"
        raise ValueError(f"unknown model {name!r}{hint}")
    return BUILDERS[name](**options)
