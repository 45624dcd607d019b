"""Step 7: convolution, ReLU and pooling in one pass.

The convolution's output is four times as large as what is left of it after pooling. Fused, a piece
of it is rectified and pooled while it is still in the cache, and only the pooled quarter goes to
memory. The program is the same; ``tg.set_fusion(False)`` runs each operation by itself.
"""

import numpy as np
from common import line, w, x

import tinygrad_cnn as tg

model = tg.nn.Sequential(
    tg.nn.Conv2d(w.shape[1], w.shape[0], 3, padding=1), tg.nn.ReLU(), tg.nn.MaxPool2d(2)
).eval()
model[0].weight.data = tg.tensor(w)
images = tg.tensor(x)


def run():  # type: ignore[no-untyped-def]
    with tg.no_grad():
        return model(images).numpy()


results = {}
for fused in (False, True):
    tg.set_fusion(fused)
    results[fused] = run()
    passes = "one pass" if fused else "three passes"
    print(line(f"7  conv + ReLU + pool in {passes}", run))
np.testing.assert_allclose(results[True], results[False], rtol=0, atol=1e-5)
