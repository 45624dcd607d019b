"""How far a computed number may lie from the exact one: one table by dtype, one formula.

A sum of L rounded products is off by at most (L + 2)·u·Σ|terms| in any order of summation, u being
the unit round-off of the accumulator, and by u of the storage dtype once more when it is stored.
SLACK covers the few extra roundings of transformed algorithms.
"""

from __future__ import annotations

from typing import Any

import numpy as np

STORED = {"float16": 2.0**-11, "float32": 2.0**-24, "float64": 2.0**-53}
ACCUMULATED = {"float16": 2.0**-24, "float32": 2.0**-24, "float64": 2.0**-53}
SLACK = 4.0


def bound(dtype: Any, length: int, magnitude: Any) -> Any:
    """Largest allowed error of a sum of ``length`` terms, ``magnitude`` being Σ|terms|."""
    name = np.dtype(dtype).name
    unit = STORED[name] + (length + 2) * ACCUMULATED[name]
    return SLACK * unit * np.asarray(magnitude, np.float64) + float(np.finfo(name).tiny)


def assert_close(
    found: Any, wanted: Any, dtype: Any, length: int = 1, magnitude: Any = None
) -> None:
    """``found`` has the dtype and the shape of ``wanted`` and lies within ``bound`` of it.

    ``magnitude`` is Σ|terms| of each element; by default |wanted|, for sums without cancellation.
    NaN and infinities must agree exactly.
    """
    found, wanted = np.asarray(found), np.asarray(wanted, np.float64)
    assert found.dtype == np.dtype(dtype), f"expected {np.dtype(dtype)}, received {found.dtype}"
    assert found.shape == wanted.shape, f"expected shape {wanted.shape}, received {found.shape}"
    finite = np.isfinite(wanted)
    np.testing.assert_array_equal(found[~finite], wanted[~finite])
    allowed = bound(dtype, length, np.abs(wanted) if magnitude is None else magnitude)
    allowed = np.broadcast_to(allowed, wanted.shape)[finite]
    error = np.abs(found.astype(np.float64)[finite] - wanted[finite])
    if not (error <= allowed).all():  # written so that a NaN fails
        worst = int(np.argmax(np.where(np.isnan(error), np.inf, error / allowed)))
        raise AssertionError(
            f"element {worst}: expected {wanted[finite][worst]!r}, received "
            f"{found[finite][worst]!r}; error {error[worst]:.3g}, allowed {allowed[worst]:.3g}"
        )
