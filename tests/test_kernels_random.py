"""Philox and the draws made from it: known answers, definitions, moments, equal bits everywhere."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_cnn.backend import Backend, load_backend
from tinygrad_cnn.backends import philox

# Salmon et al. 2011, the known answers published with their reference implementation.
ONES = 0xFFFFFFFF
KNOWN_ANSWERS = (
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((ONES,) * 4, (ONES,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0),
     (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
)  # fmt: skip


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN_ANSWERS)
def test_known_answers(
    counter: tuple[int, int, int, int], key: tuple[int, int], words: tuple[int, ...]
) -> None:
    assert oracles.philox_block(counter, key) == words
    c0, c1, c2, c3 = (np.array([c], "uint64") for c in counter)
    assert tuple(int(w[0]) for w in philox.philox(np, (c0, c1, c2, c3), key)) == words


def words_of(seed: int, offset: int, count: int) -> list[int]:
    """The stream by its definition: block b has the 64-bit counter offset + b and the key seed."""
    words: list[int] = []
    for b in range(-(-count // 4)):
        counter = (offset + b) % 2**64
        words += oracles.philox_block(
            (counter % 2**32, counter >> 32, 0, 0), (seed % 2**32, (seed >> 32) % 2**32)
        )
    return words[:count]


@given(
    seed=st.integers(0, 2**64 - 1),
    offset=st.one_of(st.integers(0, 2**64 - 1), st.integers(2**32 - 3, 2**32), st.just(2**64 - 1)),
    count=st.integers(0, 30),
)
def test_bits_follow_the_definition(backend: str, seed: int, offset: int, count: int) -> None:
    kernels = load_backend(backend)
    found = kernels.to_numpy(kernels.random_bits(count, seed, offset))
    assert found.dtype == np.uint32
    assert found.tolist() == words_of(seed, offset, count)


def test_draws_are_cut_from_one_stream(kernels: Backend) -> None:
    """Starting later, or asking for more, gives the same words; large counts take the same path."""
    whole = kernels.to_numpy(kernels.random_bits(200_003, 7, 5))
    later = kernels.to_numpy(kernels.random_bits(1001, 7, 5 + 40_000))
    np.testing.assert_array_equal(later, whole[160_000 : 160_000 + 1001])
    assert whole[-3:].tolist() == words_of(7, 5, 200_003)[-3:]


@pytest.mark.parametrize("shape", ((), (1,), (3, 5), (0, 4), (70_001,)))
def test_uniform_by_definition(kernels: Backend, shape: tuple[int, ...]) -> None:
    seed, offset, count = 2**63 + 11, 3, math.prod(shape)
    words = words_of(seed, offset, 2 * min(count, 500))
    for dtype, rule in (
        ("float32", lambda e: (words[e] >> 8) * 2.0**-24),
        ("float16", lambda e: (words[e] >> 21) * 2.0**-11),
        ("float64", lambda e: ((words[2 * e] << 32 | words[2 * e + 1]) >> 11) * 2.0**-53),
    ):
        found = kernels.to_numpy(kernels.random_uniform(shape, np.dtype(dtype), seed, offset))
        assert found.dtype == dtype
        assert found.shape == shape
        assert found.ravel()[:500].tolist() == [rule(e) for e in range(min(count, 500))]


def test_normal_by_definition(kernels: Backend) -> None:
    """Φ⁻¹ of the 53-bit fraction that two words make, by the standard library's quantile."""
    seed, offset, count = 123, 9, 20_000
    found = kernels.to_numpy(kernels.random_normal((count,), np.dtype("float64"), seed, offset))
    words = words_of(seed, offset, 2 * count)
    quantile = NormalDist().inv_cdf
    for e in range(count):
        k = (words[2 * e] << 32 | words[2 * e + 1]) >> 11
        upper = k >= 2**52
        z = quantile(((2**53 - 1 - k if upper else k) + 0.5) * 2.0**-53)
        assert math.isclose(found[e], -z if upper else z, rel_tol=1e-14, abs_tol=1e-15)


def test_normal_in_the_far_tails() -> None:
    """Probabilities down to the smallest that can be drawn, 2⁻⁵⁴, take all three formulas."""
    p = np.concatenate([2.0 ** -np.arange(1.5, 54.25, 0.25), [2.0**-54, 0.075, 0.0750001, 0.4999]])
    found = philox._normal_quantile(np, p)
    wanted = [NormalDist().inv_cdf(v) for v in p]
    np.testing.assert_allclose(found, wanted, rtol=2e-15, atol=1e-16)


@pytest.mark.parametrize("dtype", ("float16", "float32", "float64"))
def test_moments(kernels: Backend, dtype: str) -> None:
    n = 200_000
    u = kernels.to_numpy(kernels.random_uniform((n,), np.dtype(dtype), 1, 0)).astype(float)
    z = kernels.to_numpy(kernels.random_normal((n,), np.dtype(dtype), 2, 0)).astype(float)
    assert 0 <= u.min() and u.max() < 1
    sigmas = 5 / math.sqrt(n)
    grid = 2.0**-11 if dtype == "float16" else 0.0  # a float16 is cut, by half a step on average
    assert abs(u.mean() + grid / 2 - 0.5) < sigmas * math.sqrt(1 / 12)
    assert abs(u.var() - 1 / 12) < sigmas * math.sqrt(1 / 180) + grid**2
    assert abs(z.mean()) < sigmas
    assert abs(z.var() - 1) < sigmas * math.sqrt(2)
    assert abs((z**3).mean()) < sigmas * math.sqrt(15)
    assert abs((z**4).mean() - 3) < sigmas * math.sqrt(96)
    assert abs((u[:-1] * u[1:]).mean() - u.mean() ** 2) < sigmas * math.sqrt(7 / 144)


@pytest.mark.parametrize("dtype", ("float16", "float32", "float64"))
@pytest.mark.parametrize("count", (1, 7, 100_003))
def test_same_bits_as_the_reference(kernels: Backend, dtype: str, count: int) -> None:
    reference = load_backend("numpy")
    for draw in ("random_uniform", "random_normal"):
        found = kernels.to_numpy(getattr(kernels, draw)((count,), np.dtype(dtype), 2**40 + 3, 17))
        wanted = getattr(reference, draw)((count,), np.dtype(dtype), 2**40 + 3, 17)
        assert found.tobytes() == wanted.tobytes()


def test_compiled_tails() -> None:
    """All three formulas, down to probabilities that no test draws; the same bits."""
    draws = pytest.importorskip("tinygrad_cnn.backends.numba_kernels.draws")
    p = np.concatenate([2.0 ** -np.arange(1.5, 54.25, 0.25), [2.0**-54, 0.075, 0.0750001, 0.4999]])
    fractions = np.where(np.arange(p.size) % 2, p, -p)
    tails, places = np.zeros(p.size), np.zeros(p.size, np.int64)
    found = draws._tails(*(a.ctypes.data for a in (fractions, tails, places)), p.size)
    assert found == np.count_nonzero(p - 0.5 < -0.425)
    wanted = philox._normal_quantile(np, p[places[:found]])
    assert tails[:found].tobytes() == wanted.tobytes()


@pytest.mark.parametrize("threads", (1, 2, 4))
def test_draws_do_not_depend_on_the_threads(threads: int) -> None:
    pytest.importorskip("numba")
    kernels, reference = load_backend("numba"), load_backend("numpy")
    before = kernels.get_num_threads()
    kernels.set_num_threads(threads)
    try:
        for dtype in ("float32", "float64"):
            for draw in ("random_uniform", "random_normal"):
                arguments = (3, 9001), np.dtype(dtype), 2**64 - 5, 2**64 - 9
                found = getattr(kernels, draw)(*arguments)
                assert found.tobytes() == getattr(reference, draw)(*arguments).tobytes()
    finally:
        kernels.set_num_threads(before)
