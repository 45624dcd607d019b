"""Two classes, few images: from scratch, augmented, and five steps with a base trained on others.

python demos/cats_dogs.py           # 4 against 9; the base knows the other eight digits. Offline
python demos/cats_dogs.py --config demos/configs/cats_dogs.toml --data FOLDER    # cats against dogs

The base is a narrow VGG trained once on the other eight classes. Then the two classes are told
apart by

  scratch    the same network from random weights
  augmented  the same, with every image changed at random every time it is seen
  features   a head on what the base says about the images, computed once and kept as .npy
  frozen     base and head as one network, the base frozen, with augmentation
  tuned      the five steps of fine-tuning: add a head, freeze the base, train the head (that was
             "frozen"), unfreeze the layers from --unfreeze on, train them and the head together

A trained network is judged by its accuracy and by how the losses of the single images are
distributed: their mean does not tell how many images are wrong.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import tinygrad_cnn as tg
from tinygrad_cnn import nn, optim
from tinygrad_cnn.data import (
    ClassSubset,
    Compose,
    DataLoader,
    ExpandDims,
    ImageAugmentation,
    Normalize,
    Pad,
    ToFloat,
    class_subsets,
    load_dataset,
)
from tinygrad_cnn.models import ConvBNReLU
from tinygrad_cnn.nn import functional as F
from tinygrad_cnn.train import (
    Accuracy,
    ClassifierConfig,
    LossDistribution,
    RequestError,
    Schedule,
    Trainer,
    evaluating,
    extract_features,
    freeze,
    prepare,
    read_history,
    script,
    setting,
    standard_callbacks,
    subrun,
    unfreeze,
)
from tinygrad_cnn.viz import compare_trainings

BLOCKS = {"block1": 16, "block2": 32, "block3": 64, "block4": 128}  # a quarter of VGG's channels


@dataclass(frozen=True)
class Settings(ClassifierConfig):
    out: str = setting("runs/cats_dogs", "folder for the base, metrics, features and the picture")
    classes: tuple[str, ...] = setting(("4", "9"), "the two classes; the base learns all others")
    images: int = setting(100, "training images, half of them of each class", at_least=2)
    validation: int = setting(200, "validation images, likewise", at_least=2)
    batch_size: int = setting(50, "images a step")
    base_epochs: int = setting(
        1, "passes of the base over the images of the other classes", at_least=1
    )
    epochs: int = setting(8, "passes over the training images from scratch and augmented")
    head_epochs: int = setting(
        8, "the same with a frozen base; on features three times as many", at_least=1
    )
    tune_epochs: int = setting(4, "the same for the layers that are unfrozen", at_least=1)
    lr: float = setting(3e-3, "highest learning rate of Adam; it rises once and falls to 0")
    tune_lr: float = setting(
        3e-4, "the same in fine-tuning: pretrained layers change little", above=0
    )
    unfreeze: tuple[str, ...] = setting(("block4",), "fine-tune from this layer on; all in turn")
    momentum: float = setting(0.9, "β₁ of Adam", below=1)
    weight_decay: float = setting(0.0, "times the weights, added to their gradients")
    augment: dict[str, Any] = setting(
        {"rotation_range": 10, "width_shift_range": 0.1, "height_shift_range": 0.1},
        "random changes of the training images",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.unfreeze:
            if name.split(".")[0] not in BLOCKS:
                raise RequestError(f"unfreeze: expected one of {', '.join(BLOCKS)}, not {name!r}")


# -- the network ----------------------------------------------------------------------------------
def convolutional_base(channels: int) -> nn.Sequential:
    """(N, C, 32, 32) → (N, 128, 2, 2): two 3 × 3 convolutions a block, then 2 × 2 pooling."""
    blocks = {}
    for name, width in BLOCKS.items():
        blocks[name] = nn.Sequential(
            ConvBNReLU(channels, width, 3, padding=1),
            ConvBNReLU(width, width, 3, padding=1),
            nn.MaxPool2d(2),
        )
        channels = width
    return nn.Sequential(blocks)


def dense_head(classes: int) -> nn.Sequential:
    """(N, 128, 2, 2) → (N, classes), with dropout."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(512, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, classes)
    )


def network(channels: int, classes: int) -> nn.Sequential:
    """Base and head with random weights: those of ``--seed``, each time this is called."""
    return nn.Sequential({"base": convolutional_base(channels), "head": dense_head(classes)})


# -- the images -----------------------------------------------------------------------------------
class Images:
    """The data set cut into parts; ``loader(part)`` gives batches (N, C, 32, 32) and labels."""

    def __init__(self, config: Settings) -> None:
        self.config = config
        whole, test = (load_dataset(config.dataset, t, config.data or None) for t in (True, False))
        others = [name for name in whole.classes if name not in config.classes]
        try:
            self.others, self.others_test = ClassSubset(whole, others), ClassSubset(test, others)
            self.train, self.validation = class_subsets(
                whole, config.classes, (config.images, config.validation), config.seed
            )
            self.test = ClassSubset(test, config.classes)
        except ValueError as error:
            raise RequestError(str(error)) from error
        grey = whole.images.ndim == 3
        self.channels = 1 if grey else 3
        margin = [Pad(2), ExpandDims(1)] if grey else []  # 28 × 28 → 32 × 32
        self.plain = Compose(ToFloat(), Normalize(0.5, 0.25), *margin)

    def loader(self, part: ClassSubset, training: bool = False, augment: bool = False) -> Any:
        transform = self.plain
        if augment:
            transform = Compose(ImageAugmentation(**self.config.augment), self.plain)
        size = self.config.batch_size if training else 250
        return DataLoader(part, size, shuffle=training, seed=self.config.seed, transform=transform)


# -- training and measuring -----------------------------------------------------------------------
def fit(
    config: Settings, name: str, model: nn.Module, train: DataLoader, epochs: int, lr: float,
    validation: Iterable[Any] | None = None,
) -> Path:  # fmt: skip
    """Train what is not frozen of ``model``; its run is the folder ``name``, which is returned."""
    config = subrun(config, name, epochs=epochs, lr=lr)
    learning = [p for p in model.parameters() if p.requires_grad]
    print(f"\n{name}: {sum(p.numel() for p in learning):,} parameters learn")
    betas = (config.momentum, 0.999)
    optimizer = optim.Adam(learning, lr, betas, weight_decay=config.weight_decay)
    cycle = optim.lr_scheduler.OneCycleLR(
        optimizer, lr, total_steps=epochs * len(train), cycle_momentum=False
    )
    trainer = Trainer(
        model, optimizer, F.cross_entropy, metrics=[Accuracy()],
        callbacks=[*standard_callbacks(config), Schedule(cycle, "batch")],
    )  # fmt: skip
    sets = {} if validation is None else {"validation": validation}
    trainer.fit(train, epochs=epochs, validation=sets, resume=config.resume)
    return Path(config.out)


def measure(model: nn.Module, loader: DataLoader) -> dict[str, float]:
    """Accuracy, and the mean, median and 99th percentile of the images' losses."""
    accuracy, losses = Accuracy(), LossDistribution(quantiles=(0.5, 0.99))
    with evaluating(model):
        for x, y in loader:
            scores = model(x)
            accuracy.update(scores, y)
            losses.update(scores, y)
    return {**accuracy.values(), **losses.values()}


class Table:
    """Collects a row a training: accuracies on unchanged images, and losses of the test images."""

    def __init__(self, images: Images) -> None:
        self.images, self.rows, self.histories = images, [], {}

    def add(self, name: str, model: nn.Module, folder: Path) -> None:
        parts = self.images.train, self.images.validation, self.images.test
        found = [measure(model, self.images.loader(part)) for part in parts]
        learning = sum(p.numel() for p in model.parameters() if p.requires_grad)
        self.histories[name] = read_history(folder / "metrics.jsonl")
        rates = [x["images_per_second"] for x in self.histories[name] if "train_loss" in x]
        seconds = len(self.images.train) * len(rates) / np.median(rates)
        right = "".join(f"{100 * x['accuracy']:10.2f}" for x in found)
        losses = "".join(f"{found[2][key]:9.3f}" for key in ("loss_mean", "loss_q50", "loss_q99"))
        self.rows.append(f"{name:14}{learning:>9,}{seconds:9.1f}{right}{losses}")
        print(self.rows[-1])

    def __str__(self) -> str:
        heads = ("train %", "valid. %", "test %")
        return "\n".join(
            [
                f"{'':14}{'learning':>9}{'seconds':>9}{''.join(f'{h:>10}' for h in heads)}"
                f"{'mean':>9}{'median':>9}{'99 %':>9}  (losses of test images)",
                *self.rows,
            ]
        )


class Changes:
    """Notes after each step of fine-tuning which parameters and statistics it has changed."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.steps = model, []
        self.before = self.now()

    def now(self) -> dict[str, np.ndarray]:
        return {name: value.numpy().copy() for name, value in self.model.state_dict().items()}

    def after(self, step: str) -> None:
        now = self.now()
        names = [name for name in now if not np.array_equal(now[name], self.before[name])]
        layers = dict.fromkeys(".".join(name.split(".")[:2]) for name in names)
        print(f"step {step}: changed {', '.join(layers) or 'nothing'}")
        self.before = now
        self.steps.append(names)


# -- the recipe -----------------------------------------------------------------------------------
def pretrained_base(config: Settings, images: Images) -> dict[str, tg.Tensor]:
    """The weights of a base that has learnt the other classes; also in ``base.safetensors``."""
    prepare(config)
    model = network(images.channels, len(images.others.classes))
    train = images.loader(images.others, training=True, augment=True)
    fit(config, "base", model, train, config.base_epochs, config.lr)
    right = measure(model, images.loader(images.others_test))["accuracy"]
    print(f"the base tells {len(images.others.classes)} other classes apart: {right:.4f}")
    weights: dict[str, tg.Tensor] = model.base.state_dict()
    tg.save(weights, Path(config.out, "base.safetensors"))
    return weights


def from_scratch(config: Settings, images: Images, table: Table) -> None:
    for name, augment in (("scratch", False), ("augmented", True)):
        prepare(config)
        model = network(images.channels, 2)
        train = images.loader(images.train, training=True, augment=augment)
        validation = images.loader(images.validation)
        folder = fit(config, name, model, train, config.epochs, config.lr, validation)
        table.add(name, model, folder)


def on_features(config: Settings, images: Images, table: Table, base: dict[str, Any]) -> None:
    """Feature extraction A: the base runs once, a head learns from what it has said."""
    prepare(config)
    model = network(images.channels, 2)
    model.base.load_state_dict(base)
    freeze(model.base)
    begun, folder = time.perf_counter(), Path(config.out, "features")
    train, validation = (
        extract_features(model.base, images.loader(part), folder / name)
        for name, part in (("train", images.train), ("validation", images.validation))
    )
    seconds = time.perf_counter() - begun
    print(f"\nfeatures of {len(train) + len(validation):,} images: {seconds:.1f} s")
    loader = DataLoader(train, config.batch_size, shuffle=True, seed=config.seed)
    epochs = 3 * config.head_epochs
    fit(config, "features", model.head, loader, epochs, config.lr, DataLoader(validation, 250))
    table.add("features", model, folder)


def fine_tuned(
    config: Settings, images: Images, table: Table, base: dict[str, Any]
) -> dict[str, Changes]:
    """Feature extraction B, which is the first three steps of fine-tuning, and the other two from
    each of the layers in ``config.unfreeze`` on. Returns what each step has changed."""
    prepare(config)
    train = images.loader(images.train, training=True, augment=True)
    validation = images.loader(images.validation)

    model = network(images.channels, 2)
    model.base.load_state_dict(base)
    changes = Changes(model)
    changes.after("1, add a head")
    freeze(model.base)
    changes.after("2, freeze the base")
    folder = fit(config, "frozen", model, train, config.head_epochs, config.lr, validation)
    changes.after("3, train the head")
    table.add("frozen", model, folder)
    weights = {name: value.clone() for name, value in model.state_dict().items()}

    noted = {}
    for layer in config.unfreeze:
        prepare(config)
        model.load_state_dict(weights)
        freeze(model.base)
        noted[layer] = Changes(model)
        noted[layer].steps = list(changes.steps)
        unfreeze(model.base, layer)
        noted[layer].after(f"4, unfreeze from {layer} on")
        name = f"tuned-{layer}"
        folder = fit(config, name, model, train, config.tune_epochs, config.tune_lr, validation)
        noted[layer].after("5, train together")
        table.add(name, model, folder)
    return noted


def main(config: Settings) -> None:
    images = Images(config)
    table = Table(images)
    base = pretrained_base(config, images)
    from_scratch(config, images, table)
    on_features(config, images, table, base)
    fine_tuned(config, images, table, base)
    print(f"\n{table}")
    Path(config.out, "table.txt").write_text(f"{table}\n", encoding="utf-8")
    print(f"wrote {compare_trainings(table.histories, Path(config.out, 'curves.png'))}")


if __name__ == "__main__":
    script(main, __doc__, Settings)
