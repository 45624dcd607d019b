"""The choice between fast and exact convolution."""

from __future__ import annotations

from .backend import get_backend


def set_conv_algorithm(name: str) -> None:
    """ "auto" (the default) takes the fastest convolution for each shape, "direct" never
    Winograd's.

    Winograd's transforms cost accuracy: errors of about 1e-5 of the largest output in float32, ten
    times those of the direct sum. Backends that know only the direct sum ignore the choice. Raises
    ValueError for another name.
    """
    if name not in ("auto", "direct"):
        raise ValueError(f'set_conv_algorithm: expected "auto" or "direct", received {name!r}')
    choose = getattr(get_backend(), "set_conv_algorithm", None)
    if choose is not None:
        choose(name)
