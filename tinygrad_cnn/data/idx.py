"""IDX files, the format MNIST is published in: read with every byte checked, and written.

A file is ``0 0 code ndim``, then ``ndim`` sizes, then the values, all big-endian; it may be plain
or compressed with gzip or xz. Which one it is shows in its first bytes, never in its name.
Source: http://yann.lecun.com/exdb/mnist, "the IDX file format".
"""

from __future__ import annotations

import gzip
import lzma
import math
import os
import secrets
import struct
import zlib
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

CODES: dict[int, str] = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
MAX_NDIM = 32  # what every NumPy version can hold
MAX_BYTES = 1 << 31  # a file declaring more is damaged or hostile: MNIST is 47 MB
_CHUNK = 1 << 20  # memory grows with the bytes that arrive, not with the size the header claims


def read_idx(path: str | os.PathLike[str]) -> Array:
    """The array in the IDX file ``path`` (plain, gzip or xz), writable and in native byte order.

    Raises OSError if the file cannot be opened, and ValueError naming the file, what was expected
    and what was received if its content is not exactly one IDX array.
    """
    with open(path, "rb") as file:
        return parse_idx(file, os.fspath(path))


def parse_idx(file: IO[bytes], name: str) -> Array:
    """As ``read_idx``, from an open seekable binary file; ``name`` stands for it in messages."""
    try:
        return _parse(_decompressed(file), name)
    except EOFError as error:
        raise ValueError(f"{name}: compressed data is truncated ({error})") from error
    except (gzip.BadGzipFile, zlib.error, lzma.LZMAError, MemoryError) as error:
        raise ValueError(f"{name}: compressed data is damaged ({error})") from error


def idx_bytes(array: Array) -> bytes:
    """The uncompressed IDX file that holds ``array``; ValueError for a dtype IDX does not have."""
    code = next((c for c, d in CODES.items() if np.dtype(d) == array.dtype.newbyteorder(">")), None)
    if code is None:
        known = ", ".join(np.dtype(d).newbyteorder("=").name for d in CODES.values())
        raise ValueError(f"IDX cannot hold dtype {array.dtype}: expected one of {known}")
    if not 1 <= array.ndim <= MAX_NDIM:
        raise ValueError(f"IDX expects 1 to {MAX_NDIM} dimensions, received {array.ndim}")
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape)
    return header + array.astype(CODES[code]).tobytes()


def write_idx(path: str | os.PathLike[str], array: Array) -> None:
    """Write ``array`` as IDX, whole or not at all; compressed if the name ends in .gz or .xz.

    The same array always gives the same bytes (no time stamp is stored).
    """
    data, suffix = idx_bytes(array), Path(path).suffix
    if suffix == ".gz":
        data = gzip.compress(data, 9, mtime=0)
    elif suffix == ".xz":
        data = lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)
    write_atomically(path, data)


def write_atomically(path: str | os.PathLike[str], data: bytes | memoryview) -> None:
    """Put ``data`` at ``path`` so that no reader, ever, sees a part of it."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _decompressed(file: IO[bytes]) -> IO[bytes]:
    start = file.read(6)
    file.seek(0)
    if start[:2] == b"\x1f\x8b":
        return cast(IO[bytes], gzip.GzipFile(fileobj=file))
    if start == b"\xfd7zXZ\x00":
        return cast(IO[bytes], lzma.LZMAFile(file))
    return file


def _parse(stream: IO[bytes], name: str) -> Array:
    magic = stream.read(4)
    if len(magic) < 4:
        raise ValueError(f"{name}: expected a 4-byte IDX magic number, received {len(magic)} bytes")
    zero, code, ndim = magic[:2], magic[2], magic[3]
    if zero != b"\0\0" or code not in CODES:
        kinds = ", ".join(f"{c:02x}" for c in CODES)
        raise ValueError(
            f"{name}: not an IDX file: expected the magic number 00 00 and a type code ({kinds}), "
            f"received {magic.hex(' ')}"
        )
    if not 1 <= ndim <= MAX_NDIM:
        raise ValueError(f"{name}: expected 1 to {MAX_NDIM} dimensions, received {ndim}")
    header = stream.read(4 * ndim)
    if len(header) < 4 * ndim:
        raise ValueError(
            f"{name}: truncated: expected {4 * ndim} bytes of sizes, received {len(header)}"
        )
    shape, dtype = struct.unpack(f">{ndim}I", header), np.dtype(CODES[code])
    # zeros count as 1 here because NumPy bounds the other sizes of an empty array too
    if math.prod(max(size, 1) for size in shape) * dtype.itemsize > MAX_BYTES:
        raise ValueError(f"{name}: expected at most {MAX_BYTES:,} bytes, the header says {shape}")
    expected = math.prod(shape) * dtype.itemsize
    data = bytearray()
    while len(data) <= expected:  # one byte more than declared is asked for, to see trailing bytes
        chunk = stream.read(min(_CHUNK, expected + 1 - len(data)))
        if not chunk:
            break
        data += chunk
    if len(data) != expected:
        problem = "truncated" if len(data) < expected else "trailing bytes"
        received = f"{len(data):,}" if len(data) < expected else "more"
        kind = dtype.newbyteorder("=").name
        raise ValueError(
            f"{name}: {problem}: expected {expected:,} bytes for {kind} values of shape {shape}, "
            f"received {received}"
        )
    return np.frombuffer(data, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)
