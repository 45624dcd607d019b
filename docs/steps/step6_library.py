"""Step 6: what the library runs: Winograd a block of tiles at a time.

The transforms are vector code, and the 36 products run on a block of tiles whose transformed inputs
and outputs stay in the second-level cache (backends/numba_kernels/winograd.py).
``set_conv_algorithm("direct")`` runs the generated tiles of step 4 instead.
"""

from importlib import import_module

from common import report, w, x

import tinygrad_cnn as tg

dispatch = import_module("tinygrad_cnn.backends.numba_kernels.dispatch")
images, weights = tg.tensor(x), tg.tensor(w)


def convolve():  # type: ignore[no-untyped-def]
    with tg.no_grad():
        return tg.nn.functional.conv2d(images, weights, padding=1).array


dispatch.set_conv_algorithm("direct")
report("6  the library, direct", convolve)
dispatch.set_conv_algorithm("auto")
report("6  the library, Winograd", convolve, bound=1e-4)
