"""CIFAR-10 as JPEG files in a zip; decoded once, then read from the cache."""

from __future__ import annotations

import hashlib
import io
import logging
import warnings
from pathlib import Path

import numpy as np

from .cache import user_cache_dir
from .idx import Array, write_atomically
from .image_dataset import ImageDataset, PathLike, data_folder
from .image_folder import ImageFolder

FILE = "cifar10-jpeg.zip"
_log = logging.getLogger(__name__)


class CIFAR10JPEG(ImageDataset):
    """CIFAR-10 stored as JPEG: 50,000 training and 10,000 test images, uint8 (N, 3, 32, 32).

    The images lie in the order of their names, class by class: shuffle them for training. Figures
    on them are not CIFAR-10 figures, because JPEG loses detail.

    ``root`` (else TINYGRAD_CNN_DATA, else ``data =`` in the settings) is a folder with
    cifar10-jpeg/cifar10-jpeg.zip, which holds train/<class>/….jpg and test/<class>/….jpg. The first
    use decodes it, which needs Pillow and takes some seconds; the arrays are kept in the user's
    cache under the zip's hash. Raises FileNotFoundError if there is no zip (it is not downloaded),
    ImportError without Pillow and ValueError if the zip is damaged.
    """

    name = "cifar10-jpeg"
    classes = (
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    )

    def __init__(self, train: bool = True, root: PathLike | None = None) -> None:
        path = _find(data_folder(root))
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        split = "train" if train else "test"
        cached = user_cache_dir() / "data" / self.name / f"{split}-{digest[:32]}.npy"
        rows = _load(cached)
        if rows is None:
            rows = _decode(path, split, self.classes)
            _keep(cached, rows)
        images, labels = rows[:, :-1].reshape(-1, 3, 32, 32), rows[:, -1]
        super().__init__(images, labels, train, str(path))


def _find(folder: Path | None) -> Path:
    """The zip in the data folder."""
    tried = [folder / "cifar10-jpeg" / FILE, folder / FILE] if folder else []
    for path in tried:
        if path.is_file():
            return path
    looked = " and ".join(map(str, tried)) or "nowhere, as no data folder was given"
    raise FileNotFoundError(
        f"cifar10-jpeg was not found (looked for {looked}). Make a zip of CIFAR-10's images as "
        f"train/<class>/….jpg and test/<class>/….jpg, put it at cifar10-jpeg/{FILE}, and name the "
        "folder around it with root=, --data or TINYGRAD_CNN_DATA"
    )


def _decode(path: Path, split: str, classes: tuple[str, ...]) -> Array:
    """uint8 (N, 3073): a row is the pixels of an image and its class."""
    _log.info("decoding %s of %s", split, path)
    folder = ImageFolder(path, inside=split)
    if folder.classes != classes:
        raise ValueError(
            f"{folder.where}: expected the classes {', '.join(classes)}, "
            f"received {', '.join(folder.classes)}"
        )
    rows = np.empty((len(folder), 3 * 32 * 32 + 1), np.uint8)
    for i in range(len(folder)):
        image, rows[i, -1] = folder[i]
        if image.shape != (3, 32, 32):
            name = folder.samples[i][0]
            raise ValueError(f"{folder.where}/{name}: expected 32 × 32, received {image.shape[1:]}")
        rows[i, :-1] = image.reshape(-1)
    return rows


def _load(path: Path) -> Array | None:
    """The array in the cache; None (decode again) if it is missing or not what was written."""
    try:
        with open(path, "rb") as file:
            rows: Array = np.lib.format.read_array(file, allow_pickle=False)
    except Exception:  # missing, or damaged in whatever way
        return None
    return rows if rows.dtype == np.uint8 and rows.shape[1:] == (3073,) else None


def _keep(path: Path, rows: Array) -> None:
    buffer = io.BytesIO()
    np.save(buffer, rows)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, buffer.getbuffer())
    except OSError as error:
        warnings.warn(
            f"cannot keep the decoded images at {path} ({error}), so decoding will be repeated "
            "next time: set TINYGRAD_CNN_CACHE to a folder that can be written",
            RuntimeWarning,
            stacklevel=2,
        )
