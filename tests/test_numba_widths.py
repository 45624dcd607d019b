"""The same kernels with the vectors of other processors, down to one lane: plain loops.

What a kernel does beside its vectors (tails, padded channels, transposed squares, tile sizes)
differs from width to width, so a few tests of each family run again in a process of its own.
TINYGRAD_CNN_SIMD=1 python -m pytest tests/test_numba_conv.py runs all of them that way.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("numba")
simd = pytest.importorskip("tinygrad_cnn.backends.numba_kernels.simd")

FAMILIES = [
    f"test_numba_{test}"
    for test in (
        "conv.py::test_vector_operations",
        "conv.py::test_panels_cover_the_columns_once",
        "conv.py::test_channels_last_copies",
        "conv.py::test_direct_convolution[1]",
        "conv.py::test_direct_convolution[2]",
        "conv.py::test_depthwise_convolution[0-17]",
        "conv.py::test_depthwise_convolution_by_lines[0-17]",
        "conv.py::test_depthwise_convolution_by_lines[5-17]",
        "conv.py::test_product_and_scatter[1]",
        "conv.py::test_gradients_of_convolution_relu_pooling[29]",
        "conv.py::test_winograd_convolution[1]",
        "conv.py::test_matrix_product[1]",
        "runtime.py::test_images_on_awkward_memory[0]",
        "runtime.py::test_images_on_awkward_memory[1]",
        "runtime.py::test_polynomials_stay_within_their_error",
    )
]


@pytest.mark.slow
@pytest.mark.parametrize("lanes", sorted({1, 4, 8, 16} - {simd.WIDTH}))
def test_other_vector_widths(lanes: int, pytestconfig: pytest.Config) -> None:
    """Machine code is kept with pytest's cache: half a minute the first time, six seconds later."""
    assert pytestconfig.cache is not None
    environment = os.environ | {
        "TINYGRAD_CNN_SIMD": str(lanes),
        "TINYGRAD_CNN_CACHE": str(pytestconfig.cache.mkdir(f"kernels_{lanes}")),
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *FAMILIES]
    folder = Path(__file__).parent
    run = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-2000:]
    assert "skipped" not in run.stdout


def test_an_unknown_width_is_refused() -> None:
    environment = os.environ | {"TINYGRAD_CNN_SIMD": "5"}
    command = [sys.executable, "-c", "import tinygrad_cnn.backends.numba_kernels.simd"]
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert "expected 1, 4, 8 or 16 lanes, received '5'" in run.stderr
