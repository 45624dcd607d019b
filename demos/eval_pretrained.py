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
from pathlib import Path

import tinygrad_cnn as tg
from tinygrad_cnn.data import CIFAR10JPEG, Compose, DataLoader, Normalize, ToFloat

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def main(folder: Path, batch_size: int) -> float:
    saved = tg.load(folder / "pretrained" / "resnet20-12fca82f.th")["state_dict"]
    with tg.nn.init.skip():
        model = tg.models.resnet20().eval()
    model.load_state_dict({name.removeprefix("module."): t for name, t in saved.items()})

    test = CIFAR10JPEG(train=False, root=folder)
    batches = DataLoader(test, batch_size, transform=Compose(ToFloat(), Normalize(MEAN, STD)))
    right, count = 0, len(test)
    begin = time.perf_counter()
    with tg.inference_mode():
        for x, y in batches:
            right += int((model(x).argmax(1) == y).sum())
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
    try:
        main(Path(args.data), args.batch_size)
    except (OSError, ImportError) as error:
        parser.error(str(error))
