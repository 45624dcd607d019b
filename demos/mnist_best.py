"""The best recipe for handwritten digits: augmentation, batch norm, learning-rate decay, ensemble.

python demos/mnist_best.py                           # the bundled 10,000 images, offline
python demos/mnist_best.py --config demos/configs/mnist_best.toml --data FOLDER    # all of MNIST

The convolutional network 32-64-128 with batch norm (620,746 parameters). Every image is turned by
up to 15 degrees and shifted by up to 2 pixels, differently in every epoch. The members differ in
their seed alone; the ensemble adds their outputs.
"""

from __future__ import annotations

from dataclasses import dataclass

from tinygrad_cnn import nn, optim
from tinygrad_cnn.data import (
    Compose,
    DataLoader,
    ExpandDims,
    ImageAugmentation,
    ToFloat,
    load_dataset,
)
from tinygrad_cnn.models import Ensemble, mnist_cnn
from tinygrad_cnn.nn import functional as F
from tinygrad_cnn.train import Run, TrainConfig, predict, prepare, script, setting, subrun
from tinygrad_cnn.viz import learning_curves

AUGMENTATION = ImageAugmentation(
    rotation_range=15, width_shift_range=2.0, height_shift_range=2.0, fill_mode="constant"
)


@dataclass(frozen=True)
class Settings(TrainConfig):
    out: str = setting("runs/mnist_best", "folder for metrics, checkpoints and learning curves")
    epochs: int = setting(7, "passes over the training images, for each member")
    batch_size: int = setting(100, "images a step")
    lr: float = setting(3e-3, "highest learning rate; it rises once and falls to 0")
    momentum: float = setting(0.9, "β₁ of Adam", below=1)
    weight_decay: float = setting(0.0, "times the weights, added to their gradients")
    members: int = setting(3, "networks, with seeds counted from --seed", at_least=1)


def loader(config: Settings, train: bool) -> DataLoader:
    """Batches of grey values 0 to 1 (N, 1, 28, 28) and labels (N,)."""
    digits = load_dataset(config.dataset, train, config.data or None)
    if not train:
        return DataLoader(digits, 500, transform=Compose(ToFloat(), ExpandDims(1)))
    return DataLoader(
        digits,
        config.batch_size,
        shuffle=True,
        seed=config.seed,
        transform=Compose(AUGMENTATION, ToFloat(), ExpandDims(1)),
    )


def accuracy(model: nn.Module, test: DataLoader) -> float:
    return float((predict(model, test).numpy() == test.dataset.labels).mean())


def train_member(config: Settings) -> nn.Module:
    prepare(config)
    train, test = loader(config, train=True), loader(config, train=False)
    model = mnist_cnn(batch_norm=True)
    betas = (config.momentum, 0.999)
    optimizer = optim.Adam(model.parameters(), config.lr, betas, weight_decay=config.weight_decay)
    scheduler = optim.lr_scheduler.OneCycleLR(
        optimizer, config.lr, total_steps=config.epochs * len(train), cycle_momentum=False
    )
    with Run(config, model=model, optimizer=optimizer, scheduler=scheduler, loader=train) as run:
        for _ in run.epochs():
            model.train()
            for x, y in run.batches():
                logits = model(x)
                loss = F.cross_entropy(logits, y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                scheduler.step()
                run.record(loss, logits, y)
            run.end_epoch(test_accuracy=accuracy(model, test))
    learning_curves(run.history(), run.folder / "curves.png")
    return model


def main(config: Settings) -> float:
    models = []
    for seed in range(config.seed, config.seed + config.members):
        models.append(train_member(subrun(config, f"seed{seed}", seed=seed, members=1)))

    test = loader(config, train=False)
    for seed, model in enumerate(models, config.seed):
        print(f"seed {seed}  test accuracy {accuracy(model, test):.4f}")
    print(f"the {len(models)} together:", end=" ")
    return accuracy(Ensemble(models), test)


if __name__ == "__main__":
    script(main, __doc__, Settings)
