"""Train LeNet-5 on two backends side by side and show that their losses agree.

python demos/compare_backends.py --backends numpy numba --steps 100

Both start from the same bits (weights, order of images) and take the same steps, so their losses
differ only by how each one rounds float32 sums: by less than BOUND, relative to the loss. One thing
can multiply that: an input of ReLU so near 0, or two pixels of a pooling window so near each other,
that rounding decides which side wins. Then the gradients differ by a jump and the two part for
good. When they have parted by more than BOUND, the second model gets the first one's weights again
("rejoined"). Rounding decides so seldom; a wrong kernel would do it at every other step. So the
exit status is 1 when they rejoin more than once in ten steps, or part by more than JUMP in one.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import tinygrad_cnn as tg
from tinygrad_cnn import models, optim
from tinygrad_cnn.nn import functional as F
from tinygrad_cnn.train import RequestError, TrainConfig, at_least, image_loaders
from tinygrad_cnn.viz import compare_curves

BOUND = 1e-5  # 84 units of float32 round-off (2^-23); without a parting 3e-6 was seen in 100 steps
JUMP = 1e-2


class Trainer:
    """A model and its optimiser on one backend, with the time each of their steps took."""

    def __init__(self, backend: str, config: TrainConfig) -> None:
        self.backend = backend
        self.compiling, self.training, self.losses = 0.0, 0.0, list[float]()
        with tg.use_backend(backend) as kernels:
            kernels.on_compile(self._compiled)
            tg.manual_seed(config.seed)
            self.model = models.build(config.model)
        self.optimizer = optim.SGD(
            self.model.parameters(), config.lr, config.momentum, weight_decay=config.weight_decay
        )

    def _compiled(self, kernel: str, seconds: float | None) -> None:
        self.compiling += seconds or 0.0

    def step(self, images: Any, labels: Any) -> None:
        began, compiled = time.perf_counter(), self.compiling
        with tg.use_backend(self.backend) as kernels:
            loss = F.cross_entropy(self.model(tg.tensor(images)), tg.tensor(labels))
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.losses.append(loss.item())
            kernels.synchronize()
        self.training += time.perf_counter() - began - (self.compiling - compiled)

    def rejoin(self, other: Trainer) -> None:
        """Continue from the other one's weights and momenta."""
        self.model.load_state_dict(other.model.state_dict())
        self.optimizer.load_state_dict(other.optimizer.state_dict())


def compare(names: list[str], steps: int, config: TrainConfig, picture: Path) -> bool:
    """Whether the two backends agree; prints the comparison and draws it."""
    tg.set_backend("numpy")  # batches are made as NumPy arrays and copied to both
    loader, _ = image_loaders(config)
    one, two = (Trainer(name, config) for name in names)
    differences, rejoined = list[float](), list[int]()
    print(f"{'step':>5}  {names[0]:>12}  {names[1]:>12}  relative difference")
    while len(differences) < steps:
        for x, y in loader:
            for trainer in (one, two):
                trainer.step(x.numpy(), y.numpy())
            a, b = one.losses[-1], two.losses[-1]
            differences.append(abs(a - b) / max(abs(a), abs(b)))
            number, apart = len(differences), not differences[-1] <= BOUND  # also when it is NaN
            if apart:
                two.rejoin(one)
                rejoined.append(number)
            if number % 10 == 0 or number == 1 or apart:
                note = "  rejoined" if apart else ""
                print(f"{number:>5}  {a:>12.7f}  {b:>12.7f}  {differences[-1]:.1e}{note}")
            if number == steps:
                break
    largest = max(differences)
    agree = largest <= JUMP and len(rejoined) <= steps // 10
    for trainer in (one, two):
        print(
            f"{trainer.backend}: {trainer.training:.2f} s for {steps} steps "
            f"({1000 * trainer.training / steps:.1f} ms each), compiling {trainer.compiling:.2f} s"
        )
    compare_curves({t.backend: t.losses for t in (one, two)}, differences, BOUND, picture)
    print(f"wrote {picture}")
    print(
        f"largest relative difference {largest:.1e} (bound {BOUND:.0e}), "
        f"rejoined {len(rejoined)} times in {steps} steps (bound {steps // 10}): "
        f"the backends {'agree' if agree else 'DIFFER'}"
    )
    return agree


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backends", nargs=2, default=["numpy", "numba"], metavar="NAME")
    parser.add_argument("--steps", type=at_least(1), default=100, metavar="N", help="default: 100")
    parser.add_argument("--batch-size", type=int, default=64, metavar="N", help="default: 64")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default: 0")
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="default: all")
    parser.add_argument("--out", default="runs/compare_backends.png", metavar="PNG")
    given = parser.parse_args()
    try:
        config = TrainConfig(batch_size=given.batch_size, seed=given.seed, steps=given.steps)
        for name in given.backends:
            tg.set_backend(name)
            if given.threads:
                tg.set_num_threads(given.threads)
    except (RequestError, ValueError, ImportError) as error:
        parser.error(str(error))
    picture = Path(given.out)
    picture.parent.mkdir(parents=True, exist_ok=True)
    return 0 if compare(given.backends, given.steps, config, picture) else 1


if __name__ == "__main__":
    raise SystemExit(main())
