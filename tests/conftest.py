"""Which backends the suite runs on, and how hard Hypothesis searches.

A file asks for one backend with ``pytestmark = pytest.mark.usefixtures("numpy_backend")``.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tinygrad_cnn.backend import (
    Backend,
    available_backends,
    get_backend,
    load_backend,
    set_backend,
)

DEFAULT_BACKENDS = ("numpy", "numba")

settings.register_profile("dev", max_examples=20, deadline=None)
settings.register_profile("ci", max_examples=50, deadline=None, derandomize=True)
settings.register_profile("intense", max_examples=1000, deadline=None)
settings.load_profile("dev")  # another one: pytest --hypothesis-profile NAME


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--backend",
        action="append",
        metavar="NAME",
        help=f"run the shared tests on this backend; repeatable (default: {DEFAULT_BACKENDS})",
    )


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests marked ``gpu`` are skipped, with the reason, where the cupy backend does not work."""
    if item.get_closest_marker("gpu") and (reason := available_backends()["cupy"]):
        pytest.skip(reason)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "backend" in metafunc.fixturenames:
        names = metafunc.config.getoption("--backend") or DEFAULT_BACKENDS
        metafunc.parametrize("backend", names, indirect=True)


@pytest.fixture(scope="session")
def backend(request: pytest.FixtureRequest) -> str:
    """Name of a backend that works here: one asked for by name must, a default may be missing."""
    name: str = request.param
    if request.config.getoption("--backend"):
        load_backend(name)
        return name
    try:
        load_backend(name)
    except ImportError as error:
        pytest.skip(f"backend {name}: {error}")
    return name


@pytest.fixture(scope="session")
def kernels(backend: str) -> Backend:
    """The loaded backend object."""
    return load_backend(backend)


@pytest.fixture
def same_backend_afterwards() -> Iterator[None]:
    """What a test sets as the current backend is that of this test only."""
    before = get_backend().name
    yield
    set_backend(before)


@pytest.fixture
def numpy_backend(same_backend_afterwards: None) -> None:
    """The test computes with NumPy, which compiles nothing."""
    set_backend("numpy")
