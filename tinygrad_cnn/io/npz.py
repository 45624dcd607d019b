"""Arrays that NumPy saved: ``.npy`` and ``.npz``, never unpickled, never larger than announced."""

from __future__ import annotations

import math
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..backend import BackendLike
from ..construct import tensor
from ..dtypes import SUPPORTED
from ..tensor import Tensor

# A compressed archive may grow when it is read, but not without limit: all arrays together take
# at most this many bytes beyond twenty times the file.
SPARE = 256 << 20

# What reading a damaged or lying file can raise; zipfile seeks to any place that the file names.
DAMAGE = (
    ValueError, OSError, EOFError, RuntimeError, OverflowError, SyntaxError, tokenize.TokenError,
    struct.error, zlib.error, zipfile.BadZipFile,
)  # fmt: skip


def read_npz(path: Path, backend: BackendLike = None) -> dict[str, Tensor]:
    """The arrays of an ``.npz`` archive by name. int8 and int16 become int32.

    Raises ValueError for a damaged archive, arrays of Python objects, or one that would fill
    memory.
    """
    limit = 20 * path.stat().st_size + SPARE
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if sum(entry.file_size for entry in entries) > limit:
                raise ValueError("it would grow more than twentyfold when it is read")
            found = {}
            for entry in entries:
                with archive.open(entry) as file:
                    name = entry.filename.removesuffix(".npy")
                    found[name] = _read_array(file, entry.file_size, backend)
            return found
    except DAMAGE as error:
        raise ValueError(f"{path}: cannot be read as an .npz archive: {error}") from error


def read_npy(path: Path, backend: BackendLike = None) -> Tensor:
    """The array of an ``.npy`` file. Raises ValueError as ``read_npz``."""
    try:
        with path.open("rb") as file:
            return _read_array(file, path.stat().st_size, backend)
    except DAMAGE as error:
        raise ValueError(f"{path}: cannot be read as an .npy file: {error}") from error


def _read_array(file: IO[bytes], size: int, backend: BackendLike) -> Tensor:
    """The array that starts here and ends after ``size`` bytes."""
    version = np.lib.format.read_magic(file)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise ValueError(f"expected version 1.0 or 2.0 of the .npy format, received {version}")
    shape, fortran, dtype = readers[version](file)
    if dtype.hasobject or dtype.names or dtype.kind not in "fiub":
        raise ValueError(f"expected an array of numbers, received {dtype}")
    count = math.prod(shape)
    if count * dtype.itemsize > size:
        raise ValueError(f"shape {shape} of {dtype} needs more bytes than there are")
    content = file.read(count * dtype.itemsize)
    if len(content) != count * dtype.itemsize:
        raise ValueError(f"expected {count * dtype.itemsize} bytes, found {len(content)}")
    values = np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")
    native: np.ndarray[Any, Any] = values.astype(dtype.newbyteorder("="))
    if native.dtype not in SUPPORTED and native.dtype in (np.int8, np.int16):
        native = native.astype(np.int32)
    return tensor(np.ascontiguousarray(native).reshape(shape), backend=backend)
