"""Accuracy of the published PyTorch ResNet-20 for CIFAR-10, run by this library.

    python demos/eval_pretrained.py --data FOLDER

FOLDER holds pretrained/resnet20-12fca82f.th (github.com/akamaster/pytorch_resnet_cifar10) and
cifar10-jpeg/cifar10-jpeg.zip with test/<class>/<number>.jpg. Decoding JPEG needs Pillow:
pip install "tinygrad-cnn[images]". PyTorch gets 8,103 of the 10,000 JPEG images right.
"""

from __future__ import annotations

import argparse
import os
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

import tinygrad_cnn as tg

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
MEAN = np.array((0.485, 0.456, 0.406), np.float32)
STD = np.array((0.229, 0.224, 0.225), np.float32)


def batches(path: Path, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Normalised images (N, 3, 32, 32) and labels (N,) of the test folder in the archive."""
    with zipfile.ZipFile(path) as archive:
        names = sorted(name for name in archive.namelist() if name.startswith("test/"))
        for start in range(0, len(names), size):
            part = names[start : start + size]
            pixels = np.stack([np.asarray(Image.open(archive.open(n)), np.float32) for n in part])
            labels = np.array([CLASSES.index(name.split("/")[1]) for name in part])
            yield ((pixels / 255 - MEAN) / STD).transpose(0, 3, 1, 2), labels


def main(folder: Path, batch_size: int) -> float:
    saved = tg.load(folder / "pretrained" / "resnet20-12fca82f.th")["state_dict"]
    with tg.nn.init.skip():
        model = tg.models.resnet20().eval()
    model.load_state_dict({name.removeprefix("module."): t for name, t in saved.items()})

    right = count = 0
    begin = time.perf_counter()
    with tg.inference_mode():
        for x, y in batches(folder / "cifar10-jpeg" / "cifar10-jpeg.zip", batch_size):
            right += int((model(tg.tensor(x)).argmax(1).numpy() == y).sum())
            count += len(y)
    seconds = time.perf_counter() - begin
    print(f"test accuracy: {right / count:.4f} ({right:,} of {count:,} images, {seconds:.1f} s)")
    return right / count


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=os.environ.get("TINYGRAD_CNN_DATA", "data"),
        help="folder of the weights and images (default: TINYGRAD_CNN_DATA, else data)",
    )
    parser.add_argument("--batch-size", type=int, default=250, help="images a step (default: 250)")
    parser.add_argument("--backend", help="default: the backend new tensors get")
    args = parser.parse_args()
    if args.backend:
        tg.set_backend(args.backend)
    main(Path(args.data), args.batch_size)
