"""The data sets by name. MNIST, Fashion-MNIST: found on this machine first, else downloaded.

Order: the folder given (``root=``, else ``TINYGRAD_CNN_DATA``, else ``data =`` in the config file),
the user's cache, the public mirrors. A given folder is only ever read.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any, ClassVar

from .cache import download_idx, sha256, user_cache_dir
from .cifar import CIFAR10JPEG
from .idx import Array, parse_idx, read_idx
from .image_dataset import ImageDataset, PathLike, data_folder

_MNIST_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
_FASHION_SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}


class _Published(ImageDataset):
    """A data set of four IDX files that are published on mirrors."""

    folders: ClassVar[tuple[str, ...]]  # accepted below a data folder; the first is ours
    mirrors: ClassVar[tuple[str, ...]]
    hashes: ClassVar[dict[str, str]]

    def __init__(
        self, train: bool = True, root: PathLike | None = None, download: bool = True
    ) -> None:
        stems = [f"{'train' if train else 't10k'}-{kind}-ubyte" for kind in _KINDS]
        given, cache = data_folder(root), user_cache_dir() / "data" / self.folders[0]
        found = self._find(given, stems) if given else None
        if found is not None:
            images, labels = (read_idx(path) for path in found)
            super().__init__(images, labels, train, str(found[0].parent))
            return
        try:
            images, labels = (self._cached(cache, stem, download) for stem in stems)
        except OSError as error:
            raise FileNotFoundError(self._missing(stems, given, cache, str(error))) from None
        super().__init__(images, labels, train, str(cache))

    def _cached(self, cache: Path, stem: str, download: bool) -> Array:
        path = _one_of(cache, stem)
        if path is not None:
            return read_idx(path)
        if not download:
            raise OSError("not tried, because download=False")
        return download_idx(cache / f"{stem}.gz", self.mirrors, self.hashes[stem])

    def _find(self, root: Path, stems: list[str]) -> list[Path] | None:
        """The files of images and labels below ``root``, or None if they are not there."""
        for folder in (*(root / name for name in self.folders), root):
            paths = [_one_of(folder, stem) for stem in stems]
            if None not in paths and (folder != root or not self._is_another(paths[1], stems[1])):
                return [path for path in paths if path is not None]
            if any(paths) and folder != root:
                lacking = stems[paths.index(None)]
                raise FileNotFoundError(f"{self.name}: {folder} has no {lacking}[.gz]: add it")
        return None

    def _is_another(self, labels: Path | None, stem: str) -> bool:
        """Files lying in the data folder itself have the same names for every data set."""
        others = {d.hashes[stem] for d in (MNIST, FashionMNIST)} - {self.hashes[stem]}
        return labels is not None and sha256(read_idx(labels)) in others

    def _missing(self, stems: list[str], given: Path | None, cache: Path, failed: str) -> str:
        here = f"{', '.join(f'{name}/' for name in self.folders)} or the folder itself"
        lines = [
            f"{self.name} was not found.",
            f"Looked for {' and '.join(f'{stem}[.gz]' for stem in stems)} ({here}) in:",
            f"  {given} (the data folder)" if given else "  (no data folder was given)",
            f"  {cache} (the cache)",
            "Download:",
            *(f"  {line}" for line in failed.splitlines()),
            f"Put the files into a folder {self.folders[0]}/ and name the folder around it with "
            "root=, --data or TINYGRAD_CNN_DATA; or use mnist-mini, which is bundled.",
        ]
        return "\n".join(lines)


class MNIST(_Published):
    """Handwritten digits: 60,000 training and 10,000 test images, 28 × 28.

    ``root`` is the data folder (see the module's first lines for the order of search) and
    ``download=False`` keeps off the network. Raises FileNotFoundError, saying what was looked for
    and where, if the files cannot be had, and ValueError if they are damaged.
    """

    name = "mnist"
    classes = tuple("0123456789")
    folders = ("mnist", "MNIST/raw", "MNIST")
    hashes = _MNIST_SHA256
    mirrors = (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    )


class FashionMNIST(_Published):
    """Zalando's articles of clothing, with MNIST's sizes and splits; arguments as ``MNIST``."""

    name = "fashion-mnist"
    classes = (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    )
    folders = ("fashion-mnist", "FashionMNIST/raw", "FashionMNIST")
    hashes = _FASHION_SHA256
    mirrors = (
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    )


class MNISTMini(ImageDataset):
    """The bundled part of MNIST: 1,000 training and 200 test images of each digit.

    ``mnist_mini/README.md`` says how they were chosen and under which licence they stand.
    """

    name = "mnist-mini"
    classes = MNIST.classes

    def __init__(self, train: bool = True) -> None:
        folder = resources.files(__package__).joinpath("mnist_mini")
        arrays = []
        for kind in _KINDS:
            file_name = f"{'train' if train else 't10k'}-{kind}-ubyte.xz"
            with folder.joinpath(file_name).open("rb") as file:
                arrays.append(parse_idx(file, file_name))
        super().__init__(arrays[0], arrays[1], train, "the package")


_KINDS = ("images-idx3", "labels-idx1")
DATASETS: dict[str, type[ImageDataset]] = {
    d.name: d for d in (MNISTMini, MNIST, FashionMNIST, CIFAR10JPEG)
}


def load_dataset(
    name: str, train: bool = True, root: PathLike | None = None, download: bool = True
) -> ImageDataset:
    """The data set called ``name``: one of ``DATASETS``, else ValueError."""
    if name == MNISTMini.name:
        return MNISTMini(train)
    if name == CIFAR10JPEG.name:
        return CIFAR10JPEG(train, root)
    kind: Any = DATASETS.get(name)
    if kind is None:
        raise ValueError(f"unknown data set {name!r}: expected one of {', '.join(DATASETS)}")
    found: ImageDataset = kind(train, root, download)
    return found


def _one_of(folder: Path, stem: str) -> Path | None:
    names = (stem, f"{stem}.gz", f"{stem}.xz")
    return next((folder / name for name in names if (folder / name).is_file()), None)
