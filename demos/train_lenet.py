"""Train LeNet-5 on handwritten digits: model, data, loop and evaluation on one page.

python demos/train_lenet.py                          # the bundled 10,000 images, offline
python demos/train_lenet.py --dataset mnist --data FOLDER --epochs 15
python demos/train_lenet.py --backend numpy          # the same numbers, slower
"""

from __future__ import annotations

import numpy as np  # 0. imports

import tinygrad_cnn as tg
from tinygrad_cnn import nn, optim
from tinygrad_cnn.data import Compose, DataLoader, ExpandDims, Normalize, Pad, ToFloat, load_dataset
from tinygrad_cnn.nn import functional as F
from tinygrad_cnn.train import Run, TrainConfig, pictures, prepare, script


class LeNet5(nn.Module):
    """Convolutions c1 and c3, each with ReLU and pooling, then a classifier of three layers."""

    def __init__(self) -> None:
        super().__init__()
        self.c1 = nn.Conv2d(1, 6, kernel_size=5)  # (N, 1, 32, 32) -> (N, 6, 28, 28)
        self.c3 = nn.Conv2d(6, 16, kernel_size=5)  # (N, 6, 14, 14) -> (N, 16, 10, 10)
        self.c5 = nn.Linear(16 * 5 * 5, 120)
        self.f6 = nn.Linear(120, 84)
        self.output = nn.Linear(84, 10)

    def forward(self, x: tg.Tensor) -> tg.Tensor:
        x = F.max_pool2d(F.relu(self.c1(x)), 2)
        x = F.max_pool2d(F.relu(self.c3(x)), 2).flatten(1)
        return self.output(F.relu(self.f6(F.relu(self.c5(x)))))


def predict(model: nn.Module, loader: DataLoader) -> np.ndarray:
    """The most likely class of every image."""
    model.eval()
    with tg.inference_mode():
        return np.concatenate([model(x).argmax(1).numpy() for x, _ in loader])


def main(config: TrainConfig) -> float:
    prepare(config)  # 1. settings: backend, threads, seed, rates
    images = Compose(ToFloat(), Normalize(0.1307, 0.3081), Pad(2), ExpandDims(1))  # 2. data
    digits = [load_dataset(config.dataset, train, config.data or None) for train in (True, False)]
    train = DataLoader(
        digits[0], config.batch_size, shuffle=True, seed=config.seed, transform=images
    )
    test = DataLoader(digits[1], 500, transform=images)

    model = LeNet5()  # 3. model
    optimizer = optim.SGD(
        model.parameters(), config.lr, config.momentum, weight_decay=config.weight_decay
    )
    scheduler = optim.lr_scheduler.CosineAnnealingLR(optimizer, config.epochs)

    with Run(config, model=model, optimizer=optimizer, scheduler=scheduler, loader=train) as run:
        for _ in run.epochs():
            model.train()
            for x, y in run.batches():
                logits = model(x)
                loss = F.cross_entropy(logits, y)  # 4. loss
                optimizer.zero_grad()
                loss.backward()  # 5. gradient
                optimizer.step()  # 6. optimiser
                run.record(loss, logits, y)  # 7. metrics: loss and accuracy of the epoch
            scheduler.step()
            # 8. checkpoint, saved as the epoch ends; 9. validation
            run.end_epoch(test_accuracy=float((predict(model, test) == digits[1].labels).mean()))

    predicted = predict(model, test)
    pictures(config.out, digits[1], predicted)
    return float((predicted == digits[1].labels).mean())


if __name__ == "__main__":
    script(main, __doc__)  # options in, "test accuracy: 0.9…" out
