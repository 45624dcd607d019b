"""The classic kernels of image processing, and two lines of 7 × 7, over photographs.

python demos/kernels_on_photos.py                          # pictures that are at hand
python demos/kernels_on_photos.py one.jpg another.png      # your own (needs Pillow)

Without files it takes the photographs of a temple and a flower that scikit-learn ships, and where
that is not installed two pictures drawn by formulas. Every kernel runs on each of --backends, and
the largest difference between them is printed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import tinygrad_cnn as tg
from tinygrad_cnn import viz
from tinygrad_cnn.viz import kernels

Array = np.ndarray


def photographs(files: list[str]) -> dict[str, Array]:
    """Images (H, W, 3) with values in [0, 1] by name."""
    if files:
        from PIL import Image

        return {
            Path(file).stem: np.asarray(Image.open(file).convert("RGB"), np.float32) / 255
            for file in files
        }
    try:
        from sklearn.datasets import load_sample_image
    except ImportError:
        print("no files given and scikit-learn is not installed: two drawn pictures instead")
        return viz.drawn_scenes()
    names = ("china", "flower")
    return {name: load_sample_image(f"{name}.jpg").astype(np.float32) / 255 for name in names}


def compare(photos: dict[str, Array], backends: list[str]) -> float:
    """The largest difference of any kernel's answer on any photograph from the first backend's."""
    largest = 0.0
    for photo in photos.values():
        for kernel in kernels.KERNELS.values():
            first, *others = (viz.apply_kernel(photo, kernel, name) for name in backends)
            largest = max([largest, *(float(np.abs(first - other).max()) for other in others)])
    return largest


def main(files: list[str], out: Path, backends: list[str], kind: str, dpi: int) -> None:
    photos = photographs(files)
    with tg.use_backend(backends[0]):
        answers = viz.filtered_photographs(photos, out / f"kernels.{kind}", dpi=dpi)
        lines = viz.line_answers(photos, out / f"lines.{kind}", dpi=dpi)
    print(f"{'mean |answer|':20s}" + "".join(f"{name:>12s}" for name in photos))
    for title, kernel in kernels.KERNELS.items():
        row = "".join(f"{np.abs(answers[name][title]).mean():12.3f}" for name in photos)
        print(f"{title:20s}{row}   the kernel sums to {abs(float(kernel.sum())):.0f}")
    print("mean step of the lines' maps")
    for name, maps in lines.items():
        for title, one in zip(("vertical", "horizontal"), maps, strict=True):
            right, down = (np.abs(np.diff(one, axis=axis)).mean() for axis in (1, 0))
            print(f"{name}, {title} line: {right:.3f} to the right, {down:.3f} down")
    difference = compare(photos, backends)
    print(f"largest difference between {' and '.join(backends)}: {difference:.1e}")
    print(f"wrote kernels.{kind} and lines.{kind} into {out}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="*", metavar="FILE", help="photographs, JPEG or PNG")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/kernels"), help="folder for the two pictures"
    )
    parser.add_argument(
        "--backends", nargs="+", default=["numpy", "numba"], metavar="NAME",
        help="backends to run and compare (default: numpy numba)",
    )  # fmt: skip
    parser.add_argument("--kind", choices=("png", "jpg"), default="png", help="of the pictures")
    parser.add_argument("--dpi", type=int, default=110, help="resolution (default: 110)")
    args = parser.parse_args()
    missing = [file for file in args.files if not Path(file).is_file()]
    if missing:
        parser.error(f"no such file: {', '.join(missing)}")
    main(args.files, args.out, args.backends, args.kind, args.dpi)
