"""Step 7: convolution, ReLU and pooling in one pass.

The convolution's output is four times as large as what is left of it after pooling. Fused, a piece
of it is rectified and pooled while it is still in the cache, and only the pooled quarter goes to
memory. That matters where a convolution does little for each output: in first layers, here 5×5 on
one channel. The program is the same; ``tg.set_fusion(False)`` runs each operation by itself.
"""

import numpy as np
from common import SMALL, line

import tinygrad_cnn as tg

N, H, CHANNELS = (4, 12, 8) if SMALL else (256, 32, 32)
FLOPS = 2 * N * (H - 4) ** 2 * CHANNELS * 25
tg.manual_seed(0)
model = tg.nn.Sequential(tg.nn.Conv2d(1, CHANNELS, 5), tg.nn.ReLU(), tg.nn.MaxPool2d(2))
images = tg.randn(N, 1, H, H)


def run():  # type: ignore[no-untyped-def]
    with tg.no_grad():
        return model(images)


results = {}
for fused in (False, True):
    tg.set_fusion(fused)
    results[fused] = run().numpy()
    passes = "one pass" if fused else "three passes"
    print(line(f"7  conv + ReLU + pool in {passes}", run, FLOPS))
np.testing.assert_allclose(results[True], results[False], rtol=0, atol=1e-5)
