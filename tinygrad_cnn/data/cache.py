"""Where downloads are kept, and how they get there: several mirrors, a hash, one atomic rename."""

from __future__ import annotations

import hashlib
import http.client
import io
import logging
import os
import sys
import tempfile
import time
import urllib.request
import warnings
from collections.abc import Sequence
from pathlib import Path

from .idx import Array, idx_bytes, parse_idx, write_atomically

MAX_DOWNLOAD = 64 << 20  # bytes; the largest file (Fashion-MNIST's training images) has 26 MB
_log = logging.getLogger(__name__)


def user_cache_dir() -> Path:
    """The folder for files that can be made or downloaded again (it need not exist yet).

    ``TINYGRAD_CNN_CACHE`` if set, else the platform's place: ``%LOCALAPPDATA%`` on Windows,
    ``~/Library/Caches`` on macOS, ``$XDG_CACHE_HOME`` or ``~/.cache`` elsewhere; for a user without
    a home folder, one of their own below the folder for temporary files.
    """
    chosen = os.environ.get("TINYGRAD_CNN_CACHE")
    if chosen:
        return Path(chosen)
    variable = "LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME"
    base = os.environ.get(variable)
    if base and sys.platform != "darwin":
        return Path(base) / "tinygrad_cnn"
    try:
        home = Path.home()
    except RuntimeError:  # no HOME, and the user has no entry in the password database
        user = os.getuid() if hasattr(os, "getuid") else "user"
        return Path(tempfile.gettempdir()) / f"tinygrad_cnn-{user}"
    parts = {"win32": "AppData/Local", "darwin": "Library/Caches"}
    return home / parts.get(sys.platform, ".cache") / "tinygrad_cnn"


def sha256(array: Array) -> str:
    """The SHA-256 of the uncompressed IDX file that holds ``array``, however it was compressed."""
    return hashlib.sha256(idx_bytes(array)).hexdigest()


def download_idx(path: Path, mirrors: Sequence[str], expected: str, timeout: float = 20.0) -> Array:
    """The array of the IDX file ``path.name``, from the first mirror that has it whole.

    ``mirrors`` are URL prefixes, ``expected`` is the SHA-256 of the uncompressed file. The download
    is kept at ``path``; if that folder cannot be written, one warning says so and the array is
    returned all the same. Raises OSError with one line a mirror when none could serve it.
    """
    problems = []
    for mirror in mirrors:
        url = mirror + path.name
        _log.info("downloading %s", url)
        try:
            data = _get(url, timeout)
            array = parse_idx(io.BytesIO(data), url)
            received = sha256(array)
            if received != expected:
                raise ValueError(f"{url}: expected SHA-256 {expected}, received {received}")
        except (OSError, ValueError, http.client.HTTPException) as error:
            text = str(error) or type(error).__name__
            problems.append(text if url in text else f"{url}: {text}")
            continue
        _keep(path, data)
        return array
    raise OSError("\n".join(problems))


def _keep(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, data)
    except OSError as error:
        warnings.warn(
            f"cannot keep the download at {path} ({error}), so it will be repeated next time: "
            "set TINYGRAD_CNN_CACHE to a folder that can be written",
            RuntimeWarning,
            stacklevel=2,
        )


def _get(url: str, timeout: float) -> bytes:
    """The body behind ``url``; ``timeout`` bounds each wait, 30 times that the whole download."""
    deadline = time.monotonic() + 30 * timeout
    data = bytearray()
    with urllib.request.urlopen(url, timeout=timeout) as response:
        length = response.headers.get("Content-Length")
        while chunk := response.read(1 << 16):
            data += chunk
            if len(data) > MAX_DOWNLOAD:
                raise ValueError(f"{url}: expected at most {MAX_DOWNLOAD:,} bytes, received more")
            if time.monotonic() > deadline:
                raise TimeoutError(f"{url}: not finished after {30 * timeout:.0f} s")
    if length is not None and len(data) < int(length):
        raise ValueError(
            f"{url}: truncated: expected {int(length):,} bytes, received {len(data):,}"
        )
    return bytes(data)
