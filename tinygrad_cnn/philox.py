"""Philox 4x32-10: the rounds of the one random number generator, for any array module.

Backends make draws of it (backends/philox.py); loaders key it by sample (data/keys.py). Source:
Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

from typing import Any

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)  # golden ratio and sqrt(3) − 1, as fractions of 2^32
_LOW = 0xFFFFFFFF


def philox(xp: Any, counter: tuple[Any, Any, Any, Any], key: tuple[int, int]) -> list[Any]:
    """The four output words of each counter under ``key``; uint64 arrays holding 32-bit values.

    One of ten rounds on (c0, c1, c2, c3) with key (k0, k1), hi and lo being halves of a product:
    (hi(M1·c2) ^ c1 ^ k0,  lo(M1·c2),  hi(M0·c0) ^ c3 ^ k1,  lo(M0·c0)).
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    thirty_two, low = xp.uint64(32), xp.uint64(_LOW)
    m0, m1 = (xp.uint64(m) for m in MULTIPLIERS)
    for _ in range(10):
        product0, product1 = c0 * m0, c2 * m1
        c0, c1 = (product1 >> thirty_two) ^ c1 ^ xp.uint64(k0), product1 & low
        c2, c3 = (product0 >> thirty_two) ^ c3 ^ xp.uint64(k1), product0 & low
        k0, k1 = (k0 + KEY_STEPS[0]) & _LOW, (k1 + KEY_STEPS[1]) & _LOW
    return [c0, c1, c2, c3]
