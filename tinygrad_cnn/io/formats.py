"""Which reader a file needs: its first bytes say, never its name."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..backend import BackendLike
from .npz import DAMAGE, read_npy, read_npz
from .pytorch import read_pytorch

Reader = Callable[[Path, BackendLike], Any]


def foreign_reader(path: Path) -> Reader | None:
    """The reader for a file of NumPy or PyTorch; None for safetensors and all that is unknown."""
    with path.open("rb") as file:
        head = file.read(16)
    if head[8:9] == b"{":  # safetensors: eight bytes of length, then JSON
        return None
    if head.startswith(b"\x93NUMPY"):
        return read_npy
    if head.startswith(b"PK"):
        return read_npz if _holds_arrays(path) else read_pytorch
    if head[:1] == b"\x80" and head[2:3] not in (b"", b"\0"):  # a pickle, no length of 640 bytes
        return read_pytorch
    return None


def _holds_arrays(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except DAMAGE:
        return False
    return all(name.endswith(".npy") for name in names)
