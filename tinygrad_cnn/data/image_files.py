"""Images in files: JPEG and PNG, decoded by Pillow, from a folder or a zip.

Files come from anywhere, so what they claim is checked before it costs memory: bytes of a file and
pixels of an image have a limit, and only these two formats are ever tried.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from .idx import Array

SUFFIXES = (".jpg", ".jpeg", ".png")
MAX_BYTES = 64 << 20  # of one file
MAX_PIXELS = 1 << 25  # of one image: 33 megapixels, 100 MB as RGB


def pillow() -> Any:
    """Pillow's Image module; ImportError saying what to install if it is missing."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(
            'decoding JPEG and PNG needs Pillow: pip install "tinygrad-cnn[images]"'
        ) from error
    return Image


def decode_image(data: bytes, name: str, size: tuple[int, int] | None = None) -> Array:
    """The JPEG or PNG in ``data`` as uint8 (3, H, W), red first; grey and palette images too.

    ``size`` (H, W) resamples it (bilinear, averaging where it shrinks). ``name`` stands for it in
    messages. Raises ValueError if it is damaged, has over 8 bits a channel or too many pixels.
    """
    Image = pillow()
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise ValueError(f"expected at most {MAX_PIXELS:,} pixels, it has {image.size}")
            if image.mode.startswith(("I", "F")):
                raise ValueError(f"expected 8 bits a channel, received mode {image.mode}")
            picture = image.convert("RGB")
        if size is not None and picture.size != size[::-1]:
            picture = picture.resize(size[::-1], Image.Resampling.BILINEAR)
        return np.ascontiguousarray(np.asarray(picture).transpose(2, 0, 1))
    except Exception as error:  # damage shows as any of a dozen kinds, from EOFError to SyntaxError
        reason = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise ValueError(f"{name}: not a readable JPEG or PNG image ({reason})") from error


class Files(Protocol):
    """Image files by name, "/" between the parts."""

    def names(self) -> list[str]: ...
    def folders(self) -> set[str]:
        """The folders at the top, also those without an image."""

    def read(self, name: str) -> bytes: ...


class FolderFiles:
    """The files below a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self) -> list[str]:
        found = (path for path in self.root.rglob("*") if path.is_file())
        names = (path.relative_to(self.root).as_posix() for path in found)
        return [name for name in names if is_image(name)]

    def folders(self) -> set[str]:
        return {p.name for p in self.root.iterdir() if p.is_dir() and not is_hidden(p.name)}

    def read(self, name: str) -> bytes:
        with open(self.root / name, "rb") as file:
            return limited(file.read(MAX_BYTES + 1), f"{self.root / name}")


class ZipFiles:
    """The files in a zip below ``inside``. Raises ValueError if it is none."""

    def __init__(self, path: Path, inside: str = "") -> None:
        self.path, self.prefix = path, f"{inside.strip('/')}/" if inside.strip("/") else ""
        try:
            self.archive = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise ValueError(f"{path}: not a readable zip ({error})") from error

    def names(self) -> list[str]:
        return [name for name in self._below() if is_image(name)]

    def folders(self) -> set[str]:
        parts = (name.split("/", 1) for name in self._below() if "/" in name)
        return {first for first, _ in parts if not is_hidden(first)}

    def _below(self) -> list[str]:
        names, start = self.archive.namelist(), len(self.prefix)
        return [name[start:] for name in names if name.startswith(self.prefix)]

    def read(self, name: str) -> bytes:
        full = f"{self.path}/{self.prefix}{name}"
        try:
            with self.archive.open(self.prefix + name) as file:
                return limited(file.read(MAX_BYTES + 1), full)
        except ValueError:
            raise
        except Exception as error:  # a bad checksum, encryption, an unknown compression, …
            raise ValueError(f"{full}: not readable ({type(error).__name__}: {error})") from error


def limited(data: bytes, name: str) -> bytes:
    """``data``; ValueError if there is more than the limit."""
    if len(data) > MAX_BYTES:
        raise ValueError(f"{name}: expected at most {MAX_BYTES:,} bytes, received more")
    return data


def is_image(name: str) -> bool:
    """Whether a path ends in a known suffix and is not hidden."""
    return name.lower().endswith(SUFFIXES) and not is_hidden(name)


def is_hidden(name: str) -> bool:
    """Whether a part of a path is hidden, or one that macOS adds to its zips."""
    return any(part.startswith((".", "__MACOSX")) for part in name.split("/"))


def open_files(path: Path, inside: str = "") -> Files:
    """The files of a folder or zip, below ``inside``. Raises FileNotFoundError, or ValueError."""
    if path.is_dir():
        if not (path / inside).is_dir():
            raise FileNotFoundError(f"{path}: expected a folder {inside!r} in it")
        return FolderFiles(path / inside)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a folder or a zip, found nothing")
    return ZipFiles(path, inside)
