"""Files of ``torch.save``, in the zip format and the older one, read without PyTorch.

zip (since PyTorch 1.6): an uncompressed archive with ``NAME/data.pkl``, a pickle in which a tensor
is (storage, offset, size, stride), and one record ``NAME/data/KEY`` a storage.

legacy: three pickles (a magic number, a version, facts on the machine), the object's pickle, a
pickle with the list of storage keys, and then for each key an int64 count and the elements.

The pickles are interpreted by ``pickle_values``: nothing in the file is ever run. Source for the
formats: the module torch.serialization of PyTorch.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..backend import BackendLike
from ..construct import tensor
from ..dtypes import SUPPORTED
from ..tensor import Tensor
from .npz import DAMAGE
from .pickle_values import Calls, Name, read_pickle

Array = np.ndarray[Any, np.dtype[Any]]

MAGIC = 0x1950A86A20F9469CFC6C
VERSION = 1001
# Tensors may be larger than their storage (an expanded one repeats its elements), but not without
# limit: all of them together take at most this many bytes beyond four times the file.
SPARE = 64 << 20
MAX_NDIM = 32

STORAGES = {  # type of storage → how its elements are stored
    "DoubleStorage": "f8", "FloatStorage": "f4", "HalfStorage": "f2", "BFloat16Storage": "u2",
    "LongStorage": "i8", "IntStorage": "i4", "ShortStorage": "i2", "CharStorage": "i1",
    "ByteStorage": "u1", "BoolStorage": "u1",
}  # fmt: skip
_NAMES = frozenset(Name("torch", name) for name in STORAGES)


class Storage(NamedTuple):
    """The elements that tensors are cut from; ``values`` is None until they have been read."""

    kind: str
    key: str
    size: int
    values: Array | None


def read_pytorch(path: Path, backend: BackendLike = None) -> Any:
    """What ``torch.save`` wrote: dicts, lists, tuples and plain values as they are, tensors ours.

    Each tensor has memory of its own, also where PyTorch's shared it. int8 and int16 become int32,
    bfloat16 float32, a Parameter its tensor. Raises ValueError for a damaged file, and for one that
    holds anything besides tensors and plain values, such as a whole pickled model.
    """
    try:
        with path.open("rb") as file:
            is_zip = file.read(2) == b"PK"
        return (_read_zip if is_zip else _read_legacy)(path, backend)
    except DAMAGE as error:
        raise ValueError(f"{path}: cannot be read as a PyTorch file: {error}") from error


# -- the two containers ----------------------------------------------------------------------------
def _read_zip(path: Path, backend: BackendLike) -> Any:
    with zipfile.ZipFile(path) as archive:
        records = _records(archive, path.stat().st_size)
        roots = [n.removesuffix("data.pkl") for n in records if n.endswith("/data.pkl")]
        if len(roots) != 1:
            raise ValueError(f"expected one record data.pkl, found {len(roots)}")
        (root,) = roots
        if f"{root}constants.pkl" in records:
            raise ValueError(
                "it is a TorchScript archive, which contains code; save model.state_dict() instead"
            )
        order = "<"
        if f"{root}byteorder" in records and archive.read(f"{root}byteorder") == b"big":
            order = ">"
        read: dict[str, Array] = {}

        def values(kind: str, key: str, count: int) -> Array:
            if key not in read:
                if f"{root}data/{key}" not in records:
                    raise ValueError(f"storage {key!r} is missing")
                read[key] = _elements(archive.read(f"{root}data/{key}"), kind, count, order)
            return read[key]

        pickled = io.BytesIO(archive.read(f"{root}data.pkl"))
        maker = _Maker(values, path.stat().st_size, backend)
        return read_pickle(pickled, maker.calls(), maker.storage, _NAMES)


def _records(archive: zipfile.ZipFile, size: int) -> Mapping[str, zipfile.ZipInfo]:
    """The archive's records by name, after checking that they cannot be larger than the file."""
    found = {info.filename: info for info in archive.infolist()}
    if len(found) != len(archive.infolist()):
        raise ValueError("two records have the same name")
    if any(info.compress_type != zipfile.ZIP_STORED for info in found.values()):
        raise ValueError("a record is compressed, which PyTorch never does")
    if sum(info.file_size for info in found.values()) > size:
        raise ValueError("its records claim more bytes than the file has")
    return found


def _read_legacy(path: Path, backend: BackendLike) -> Any:
    content = path.read_bytes()
    file = io.BytesIO(content)
    facts = [read_pickle(file, {}, _no_storage, frozenset()) for _ in range(3)]
    if facts[:2] != [MAGIC, VERSION] or not isinstance(facts[2], dict):
        raise ValueError("its magic number or version is not that of torch.save")
    order = "<" if facts[2].get("little_endian", True) else ">"
    start = file.tell()
    # The storages come after the object, and how long they are stands in the object: a first pass
    # finds out, a second one makes the tensors.
    survey = _Maker(None, len(content), backend)
    read_pickle(file, survey.calls(), survey.storage, _NAMES)
    keys = read_pickle(file, {}, _no_storage, frozenset())
    if type(keys) is not list or not all(type(key) is str for key in keys):
        raise ValueError("expected a list of the storages' keys")
    if sorted(keys) != sorted(survey.storages):
        raise ValueError("its list of storages does not fit its tensors")
    read: dict[str, Array] = {}
    for key in keys:
        storage = survey.storages[key]
        count = int.from_bytes(file.read(8), "little" if order == "<" else "big")
        if count != storage.size:
            raise ValueError(f"storage {key!r}: expected {storage.size} elements, found {count}")
        width = np.dtype(STORAGES[storage.kind]).itemsize
        if count * width > len(content) - file.tell():
            raise ValueError(f"storage {key!r} is cut off")
        read[key] = _elements(file.read(count * width), storage.kind, count, order)
    file.seek(start)
    maker = _Maker(lambda kind, key, count: read[key], len(content), backend)
    return read_pickle(file, maker.calls(), maker.storage, _NAMES)


def _no_storage(_: Any) -> Any:
    raise ValueError("a storage where a plain value is expected")


def _elements(content: bytes, kind: str, count: int, order: str) -> Array:
    """The elements of a storage in a dtype that tensors can have."""
    raw = np.frombuffer(content, np.dtype(order + STORAGES[kind]))
    if len(raw) != count:
        raise ValueError(f"a {kind} of {count} elements has {len(raw)}")
    if kind == "BFloat16Storage":  # the upper half of a float32
        return (raw.astype(np.uint32) << 16).view(np.float32)
    if kind == "BoolStorage":
        return raw.astype(np.bool_)
    native: Array = raw.astype(raw.dtype.newbyteorder("="), copy=False)
    return native if native.dtype in SUPPORTED else native.astype(np.int32)


# -- the object ------------------------------------------------------------------------------------
class _Maker:
    """Makes storages and tensors as the pickle says; without ``values`` it only takes notes."""

    def __init__(
        self,
        values: Callable[[str, str, int], Array] | None,
        file_size: int,
        backend: BackendLike,
    ) -> None:
        self.values, self.backend = values, backend
        self.budget = 4 * file_size + SPARE
        self.storages: dict[str, Storage] = {}

    def calls(self) -> Calls:
        """What happens where the file names a function."""
        return {
            Name("torch._utils", "_rebuild_tensor_v2"): self.tensor,
            Name("torch._utils", "_rebuild_tensor"): self.tensor,
            Name("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
            Name("collections", "OrderedDict"): _ordered_dict,
            Name("torch", "Size"): lambda sizes: tuple(sizes),
            Name("torch", "device"): _device,
        }

    def storage(self, identity: Any) -> Storage:
        """The storage of a persistent id ("storage", type, key, location, count[, view])."""
        if type(identity) is not tuple or len(identity) not in (5, 6) or identity[0] != "storage":
            raise ValueError("expected the description of a storage")
        _, kind, key, _, count, *view = identity
        if not isinstance(kind, Name) or not isinstance(key, str) or not _is_size(count):
            raise ValueError("expected a storage's type, key and number of elements")
        if any(view):
            raise ValueError("it has storages that are views of others; save it with PyTorch ≥ 1.6")
        made = Storage(kind.attribute, key, count, None)
        known = self.storages.setdefault(key, made)
        if known[:3] != made[:3]:
            raise ValueError(f"storage {key!r} is described in two ways")
        if self.values is not None and known.values is None:
            known = self.storages[key] = known._replace(
                values=self.values(kind.attribute, key, count)
            )
        return known

    def tensor(self, storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor | None:
        """The tensor of these elements: offset and strides count elements of the storage."""
        if not isinstance(storage, Storage) or not _is_size(offset):
            raise ValueError("a tensor's storage or offset is not one")
        for values in (size, stride):
            if type(values) is not tuple or not all(map(_is_size, values)):
                raise ValueError("a tensor's sizes or strides are not counts")
        if len(size) != len(stride) or len(size) > MAX_NDIM:
            raise ValueError(f"a tensor has {len(size)} sizes and {len(stride)} strides")
        count = math.prod(size)
        last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
        if count and last >= storage.size:
            raise ValueError(
                f"a tensor of shape {size}, strides {stride} and offset {offset} reaches beyond "
                f"the {storage.size} elements of its storage"
            )
        if storage.values is None:
            return None
        values = storage.values
        self.budget -= count * values.itemsize
        if self.budget < 0:
            raise ValueError("its tensors repeat few elements so often that they would fill memory")
        if not count:
            return tensor(np.empty(size, values.dtype), backend=self.backend)
        steps = tuple(s * values.itemsize for s in stride)
        view = np.ndarray(size, values.dtype, values, offset * values.itemsize, steps)
        return tensor(np.array(view, order="C"), backend=self.backend)


def _ordered_dict(*items: Any) -> dict[Any, Any]:
    if items not in ((), ([],), ((),)):
        raise ValueError("an OrderedDict that is made from a list")
    return {}


def _device(*parts: Any) -> str:
    if not all(type(part) in (str, int) for part in parts):
        raise ValueError("a device that is not named by text and numbers")
    return ":".join(map(str, parts))


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**62
