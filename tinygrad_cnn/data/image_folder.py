"""ImageFolder: a folder (or zip) with one sub-folder of JPEG or PNG files for each class."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .idx import Array
from .image_dataset import PathLike
from .image_files import SUFFIXES, decode_image, open_files, pillow


class ImageFolder:
    """Images of ``path``/<class>/….jpg or .png, read and decoded when asked for.

    Sample i is (uint8 (3, H, W), class). ``classes`` are the sub-folders in alphabetical order,
    ``class_to_idx`` their numbers, ``samples`` the files (name, class) in alphabetical order,
    ``labels`` (N,) the classes. ``path`` may be a zip, and ``inside`` a folder in it, say "train".
    ``resize`` (one number, or (height, width)) makes all images equal in size, which batches need.

    Raises ImportError if Pillow is missing, FileNotFoundError if there is no such folder, and
    ValueError for no class, an empty one, or, when it is read, a file that is not a whole image.
    """

    def __init__(
        self, path: PathLike, *, inside: str = "", resize: int | tuple[int, int] | None = None
    ) -> None:
        pillow()
        self.path = Path(path).expanduser()
        self.where = "/".join(filter(None, [str(self.path), inside.strip("/")]))
        self.resize = (resize, resize) if isinstance(resize, int) else resize
        if self.resize and min(self.resize) < 1:
            raise ValueError(f"resize: expected at least 1, received {resize}")
        self._files = open_files(self.path, inside)
        names = sorted(name for name in self._files.names() if "/" in name)
        self.classes = tuple(sorted(self._files.folders()))
        self.class_to_idx = {name: i for i, name in enumerate(self.classes)}
        self.samples = [(name, self.class_to_idx[name.split("/", 1)[0]]) for name in names]
        self.labels = np.array([label for _, label in self.samples], np.int64)
        self._check_classes()

    def _check_classes(self) -> None:
        if not self.classes:
            raise ValueError(f"{self.where}: expected a sub-folder for each class, found none")
        counts = np.bincount(self.labels, minlength=len(self.classes))
        empty = [name for name, count in zip(self.classes, counts, strict=True) if not count]
        if empty:
            raise ValueError(
                f"{self.where}: expected {', '.join(SUFFIXES)} files for every class, "
                f"found none for {', '.join(empty)}"
            )

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Array, int]:
        name, label = self.samples[index]
        full = f"{self.where}/{name}"
        return decode_image(self._files.read(name), full, self.resize), label

    def get_batch(self, indices: Array) -> tuple[Array, ...]:
        images = [self[int(i)][0] for i in indices]
        for i, image in zip(indices, images, strict=True):
            if image.shape != images[0].shape:
                first, other = self.samples[indices[0]][0], self.samples[i][0]
                raise ValueError(
                    f"{self.where}: a batch expects images of one size, received "
                    f"{images[0].shape[1:]} ({first}) and {image.shape[1:]} ({other}): give resize="
                )
        return np.stack(images), self.labels[indices]

    def __repr__(self) -> str:
        return f"ImageFolder({self.where}, {len(self):,} images of {len(self.classes)} classes)"
