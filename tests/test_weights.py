"""Weights from other programs: PyTorch's two formats, NumPy's, damaged files and attacks."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinygrad_cnn as tg

TORCH = "PyTorch is not installed"
RAN = Path("ran")  # what every attack below tries to create in the working folder


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


# -- written without PyTorch: the formats by hand --------------------------------------------------
class Named:
    """Pickles as a reference to a name."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name

    def __reduce__(self) -> Any:
        raise AssertionError("only Pickler writes these")


class Call:
    """Pickles as the call of a name."""

    def __init__(self, name: Named, *args: Any) -> None:
        self.name, self.args = name, args


class Stored:
    """Pickles as a persistent id."""

    def __init__(self, *identity: Any) -> None:
        self.identity = identity


class Pickler(pickle._Pickler):  # type: ignore[name-defined]
    """Python's own pickler in Python, which lets names be written that do not exist here."""

    def persistent_id(self, obj: Any) -> Any:
        return obj.identity if isinstance(obj, Stored) else None

    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        if isinstance(obj, Named):
            self.write(f"c{obj.module}\n{obj.name}\n".encode())
        elif isinstance(obj, Call):
            self.save(obj.name)
            self.save(obj.args)
            self.write(b"R")
        else:
            super().save(obj, save_persistent_id)


def pickled(obj: Any) -> bytes:
    file = io.BytesIO()
    Pickler(file, 2).dump(obj)
    return file.getvalue()


FLOAT = Named("torch", "FloatStorage")
REBUILD = Named("torch._utils", "_rebuild_tensor_v2")


def tensor(
    size: Any, stride: Any, offset: Any = 0, count: Any = 6, key: Any = "0", kind: Named = FLOAT
) -> Call:
    storage = Stored("storage", kind, key, "cpu", count)
    return Call(REBUILD, storage, offset, size, stride, False, OrderedDict())


def write_zip(content: bytes, **records: bytes) -> Path:
    path = Path("w.pth")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("w/data.pkl", content)
        for name, data in records.items():
            archive.writestr(f"w/data/{name.removeprefix('_')}", data)
    return path


SIX = np.arange(6, dtype="<f4").tobytes()


def legacy(content: bytes, keys: Any = ("0",), storages: bytes = b"\6" + bytes(7) + SIX) -> Path:
    path = Path("w.th")
    head = [pickled(0x1950A86A20F9469CFC6C), pickled(1001), pickled({"little_endian": True})]
    path.write_bytes(b"".join([*head, content, pickled(list(keys)), storages]))
    return path


def legacy_tensor(size: Any, stride: Any) -> Call:
    storage = Stored("storage", FLOAT, "0", "cpu", 6, None)
    return Call(REBUILD, storage, 0, size, stride, False, OrderedDict())


def test_formats_by_hand() -> None:
    for path in (
        write_zip(pickled({"w": tensor((2, 3), (3, 1))}), _0=SIX),
        legacy(pickled({"w": legacy_tensor((2, 3), (3, 1))})),
    ):
        found = tg.load(path)
        assert found["w"].tolist() == [[0, 1, 2], [3, 4, 5]] and found["w"].dtype == tg.float32


def test_strided_overlapping_and_empty_tensors() -> None:
    views = {
        "t": tensor((3, 2), (1, 3)), "window": tensor((2, 3), (1, 1), 1),
        "one": tensor((), (), 5), "none": tensor((0, 3), (3, 1), 99),
    }  # fmt: skip
    found = tg.load(write_zip(pickled(views), _0=SIX))
    assert found["t"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert found["window"].tolist() == [[1, 2, 3], [2, 3, 4]]
    assert found["one"].item() == 5 and found["none"].shape == (0, 3)
    with tg.no_grad():
        found["window"].add_(10)  # memory of its own
    assert found["t"].tolist() == [[0, 3], [1, 4], [2, 5]]


# -- files that try to do something ----------------------------------------------------------------
class Shell:
    def __reduce__(self) -> Any:
        return os.system, ("touch ran",)


def attacks() -> dict[str, bytes]:
    touch = "touch ran"
    evil = Call(Named("builtins", "eval"), "__import__('os').system('touch ran')")
    return {
        "reduce": pickle.dumps(Shell(), 2),
        "reduce, protocol 4": pickle.dumps(Shell(), 4),
        "eval in a tensor": pickled({"w": Call(REBUILD, evil, 0, (1,), (1,), False, None)}),
        "inst": b"(S'touch ran'\nios\nsystem\n.",
        "obj": b"(cos\nsystem\nS'touch ran'\no.",
        "newobj": b"\x80\x02cos\nsystem\nX\x09\x00\x00\x00touch ran\x85\x81.",
        "build": b"\x80\x02ccollections\nOrderedDict\n)R}X\x09\x00\x00\x00__class__K\x01sbcos\n"
        b"system\nX\x09\x00\x00\x00touch ran\x85R.",
        "extension": b"\x80\x02\x82\x01.",
        "name as value": b"\x80\x02cos\nsystem\n.",
        "call of a value": b"\x80\x02X\x09\x00\x00\x00touch ran)R.",
        "model": pickled(Call(Named("__main__", "Net"), touch)),
        "getattr": pickled(Call(Named("builtins", "getattr"), Named("os", "system"), touch)),
        "loader": pickled(Call(Named("torch.storage", "_load_from_bytes"), b"x")),
        "attribute path": b"\x80\x04\x8c\x05torch\x8c\x0cos.path.join\x93.",
    }


@pytest.mark.parametrize("name", attacks())
def test_nothing_in_a_file_runs(name: str) -> None:
    for path in (write_zip(attacks()[name], _0=SIX), legacy(attacks()[name])):
        with pytest.raises(ValueError, match=f"{path}: cannot be read as a PyTorch file"):
            tg.load(path)
        assert not RAN.exists()


def test_the_attack_is_real() -> None:
    """Python's own reader would have run it."""
    pickle.loads(attacks()["reduce"])
    assert RAN.exists()


BAD_TENSORS = {
    "beyond its end": (tensor((7,), (1,)), "reaches beyond the 6 elements"),
    "offset beyond": (tensor((2,), (1,), 5), "reaches beyond"),
    "stride beyond": (tensor((2, 3), (4, 1)), "reaches beyond"),
    "negative stride": (tensor((2,), (-1,)), "not counts"),
    "negative size": (tensor((-1,), (1,)), "not counts"),
    "negative offset": (tensor((2,), (1,), -3), "offset"),
    "no tuple": (tensor([2], (1,)), "not counts"),
    "float": (tensor((2.0,), (1,)), "not counts"),
    "bool": (tensor((True,), (1,)), "not counts"),
    "ranks": (tensor((2,), (1, 1)), "1 sizes and 2 strides"),
    "too many": (tensor((1,) * 40, (0,) * 40), "40 sizes"),
    "count": (tensor((6,), (1,), count=7), "has 6"),
    "huge count": (tensor((1,), (1,), count=2**61), "has 6"),
    "missing": (tensor((1,), (1,), key="1"), "storage '1' is missing"),
    "number as key": (tensor((1,), (1,), key=0), "type, key"),
    "unknown type": (tensor((1,), (1,), kind=Named("torch", "UntypedStorage")), "Untyped"),
    "memory": (tensor((10**6, 10**6), (0, 0)), "fill memory"),
    "overflow": (tensor((2**61, 2**61), (2**61, 2**61)), "reaches beyond"),
    "two descriptions": (
        [tensor((1,), (1,)), tensor((1,), (1,), kind=Named("torch", "IntStorage"))],
        "two ways",
    ),
    "no storage": (Call(REBUILD, 5, 0, (1,), (1,), False, None), "storage or offset"),
    "few arguments": (Call(REBUILD), "damaged pickle"),
    "cyclic key": (Stored("storage", FLOAT, "0"), "description of a storage"),
}


@pytest.mark.parametrize("name", BAD_TENSORS)
def test_tensors_outside_their_storage(name: str) -> None:
    tensors, message = BAD_TENSORS[name]
    with pytest.raises(ValueError, match=message):
        tg.load(write_zip(pickled(tensors), _0=SIX))


def test_many_small_bombs_share_one_limit() -> None:
    bombs = [tensor((2**20, 6), (0, 1)) for _ in range(4)]  # 24 MiB each
    with pytest.raises(ValueError, match="fill memory"):
        tg.load(write_zip(pickled(bombs), _0=SIX))


def test_lists_that_grow_without_end_are_not_walked() -> None:
    """A tuple of 60 levels, each holding the one below twice, has 2⁶⁰ leaves."""
    levels = b"".join(b"h%c\x86q%c" % (i, i + 1) for i in range(60))
    billion = b"\x80\x02]q\x00" + levels
    assert len(tg.load(write_zip(billion + b"."))) == 2
    for end in (b"NR.", b"Q.", b"}h\x05K\x01s."):  # in a call, as an id, in a dict
        with pytest.raises(ValueError, match=r"w\.pth"):
            tg.load(write_zip(billion + end))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "pickle"),
        (b"\x80\x02", "pickle"),
        (b"\x80\x02h\x05.", "damaged pickle"),
        (b"\x80\x02.", "damaged pickle|stack"),
        (b"\x80\x02(.", "mark"),
        (b"\x80\x02K\x01K\x02.", "2 values are left"),
        (b"\x80\x02}K\x01(K\x02K\x03es.", "damaged|expected"),
        (b"\x80\x02}]K\x01s.", "a dict's key is a list"),
        (b"\x80\x02\x8e" + b"\xff" * 8 + b"x.", "pickle|bytes"),
        (b"\x80\x02\x8b\xff\xff\xff\x7f.", "pickle|long4|bytes"),
    ],
)  # fmt: skip
def test_damaged_pickles(content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tg.load(write_zip(content))


# -- damaged containers ----------------------------------------------------------------------------
def test_truncated_files() -> None:
    whole = write_zip(pickled({"w": tensor((2, 3), (3, 1))}), _0=SIX).read_bytes()
    for end in range(0, len(whole) - 1, 7):
        Path("cut").write_bytes(whole[:end])
        with pytest.raises(ValueError, match="cut: "):
            tg.load("cut")
    whole = legacy(pickled({"w": legacy_tensor((2, 3), (3, 1))})).read_bytes()
    for end in range(0, len(whole) - 1, 7):
        Path("cut").write_bytes(whole[:end])
        with pytest.raises(ValueError, match="cut: "):
            tg.load("cut")


def test_changed_bytes_never_do_worse_than_ValueError() -> None:
    paths = (
        write_zip(pickled({"w": tensor((2, 3), (3, 1))}), _0=SIX),
        legacy(pickled({"w": legacy_tensor((2, 3), (3, 1))})),
    )
    rng = np.random.default_rng(0)
    for path in paths:
        whole = path.read_bytes()
        for _ in range(300):
            changed = bytearray(whole)
            for place in rng.integers(0, len(whole), 3):
                changed[place] = rng.integers(0, 256)
            Path("changed").write_bytes(changed)
            try:
                tg.load("changed")
            except ValueError:
                pass
    assert not RAN.exists()


def test_zip_archives_that_lie() -> None:
    with zipfile.ZipFile("a", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", pickled(bytes(10**6)))
    with pytest.raises(ValueError, match="compressed"):
        tg.load("a")
    with zipfile.ZipFile("b", "w") as archive:
        archive.writestr("b/data.pkl", pickled(1))
        archive.writestr("b/constants.pkl", pickled(()))
    with pytest.raises(ValueError, match="TorchScript"):
        tg.load("b")
    with zipfile.ZipFile("c", "w") as archive:
        archive.writestr("readme", "no weights")
    with pytest.raises(ValueError, match="expected one record data.pkl, found 0"):
        tg.load("c")


@pytest.mark.parametrize(
    ("keys", "storages", "message"),
    [
        (("1",), b"\6" + bytes(7) + SIX, "does not fit"),
        ((0,), b"\6" + bytes(7) + SIX, "list of the storages' keys"),
        (("0", "0"), b"\6" + bytes(7) + SIX, "does not fit"),
        (("0",), b"\7" + bytes(7) + SIX, "expected 6 elements, found 7"),
        (("0",), b"\6" + bytes(7) + SIX[:-1], "cut off"),
        (("0",), b"", "found 0"),
    ],
)
def test_legacy_storages(keys: Any, storages: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tg.load(legacy(pickled(legacy_tensor((6,), (1,))), keys, storages))


# -- NumPy's files ---------------------------------------------------------------------------------
def test_npz_and_npy() -> None:
    arrays = {
        "conv.weight": np.random.default_rng(0).normal(size=(2, 3)),
        "big": np.arange(3, dtype=">f4"), "n": np.int64(3),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "short": np.array([-1, 2], np.int16), "mask": np.array([True, False]),
        "empty": np.zeros((0, 2), np.float32),
    }  # fmt: skip
    for writer in (np.savez, np.savez_compressed):
        writer("w.npz", **arrays)
        found = tg.load("w.npz")
        assert list(found) == list(arrays)
        for name, values in arrays.items():
            np.testing.assert_array_equal(found[name].numpy(), values)
        assert found["short"].dtype == tg.int32 and found["big"].dtype == tg.float32
    np.save("w.npy", arrays["fortran"])
    assert tg.load("w.npy").tolist() == arrays["fortran"].tolist()


@pytest.mark.parametrize("header", [b"{'shape': (2, ", b"{'shape': (2)\x00", b"  {\n 1\n  2"])
def test_damaged_npy_header(header: bytes) -> None:
    header = header.ljust(117) + b"\n"
    Path("w.npy").write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
    with pytest.raises(ValueError, match=r"w.npy: cannot be read as an .npy file"):
        tg.load("w.npy")


def test_npz_attacks() -> None:
    np.savez("w.npz", w=np.array([Shell()], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="array of numbers, received object"):
        tg.load("w.npz")
    assert not RAN.exists()
    np.savez_compressed("w.npz", w=np.zeros(300 << 17))  # 300 MiB of zeros
    assert Path("w.npz").stat().st_size < 1 << 20
    with pytest.raises(ValueError, match="grow more than twentyfold"):
        tg.load("w.npz")
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }"
    header = header.ljust(117) + b"\n"
    content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(8)
    Path("w.npy").write_bytes(content)
    with pytest.raises(ValueError, match="needs more bytes than there are"):
        tg.load("w.npy")
    np.savez("w.npz", c=np.zeros(3, complex))
    with pytest.raises(ValueError, match="array of numbers, received complex128"):
        tg.load("w.npz")


def test_other_formats_are_named() -> None:
    Path("w.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(ValueError, match=r"other known formats are \.npz, \.npy and PyTorch's"):
        tg.load("w.h5")


# -- against PyTorch -------------------------------------------------------------------------------
@pytest.mark.torch
@pytest.mark.parametrize("zipped", [True, False])
def test_reads_what_torch_writes(zipped: bool) -> None:
    torch = pytest.importorskip("torch", reason=TORCH)
    x = torch.arange(24.0).reshape(4, 6)
    tensors = {
        "view": x[::2, 1:4], "transposed": x.t(), "scalar": torch.tensor(3.5), "half": x.half(),
        "double": x.double(), "long": torch.tensor([2**40]), "bool": x > 3, "uint8": x.byte(),
        "int": x.int(), "empty": torch.zeros(0, 3), "expanded": torch.ones(1).expand(5, 4),
        "parameter": torch.nn.Parameter(x), "base": x,
        "int8": torch.tensor([-1], dtype=torch.int8), "int16": torch.tensor([-300]).short(),
        "bfloat16": (x / 7).bfloat16(),
    }  # fmt: skip
    plain = {"list": [1, 2.5, None, True, "텍스트", (1, (2, 3))], "big": 2**70, 0: -1}
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    state = OrderedDict(net.state_dict())
    torch.save({**tensors, **plain, "state_dict": net.state_dict(), "size": x.shape},
               "w.pt", _use_new_zipfile_serialization=zipped)  # fmt: skip
    found = tg.load("w.pt")
    for name, values in tensors.items():
        expected = (values.float() if name == "bfloat16" else values).detach().numpy()
        assert found[name].shape == expected.shape
        np.testing.assert_array_equal(found[name].numpy(), expected)
        same = name not in ("int8", "int16")
        assert found[name].dtype == (expected.dtype if same else np.int32)
    assert {name: found[name] for name in plain} == plain and found["size"] == (4, 6)
    assert list(found["state_dict"]) == list(state)
    for name, values in state.items():
        np.testing.assert_array_equal(found["state_dict"][name].numpy(), values.numpy())


@pytest.mark.torch
@pytest.mark.parametrize("zipped", [True, False])
def test_refuses_a_whole_pickled_model(zipped: bool) -> None:
    torch = pytest.importorskip("torch", reason=TORCH)
    torch.save(torch.nn.Linear(2, 3), "w.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match="refers to torch.nn.modules.linear.Linear"):
        tg.load("w.pt")


@pytest.mark.torch
def test_training_state_of_torch() -> None:
    torch = pytest.importorskip("torch", reason=TORCH)
    net = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.ones(4, 3)).sum().backward()
    optimizer.step()
    torch.save({"optimizer": optimizer.state_dict(), "epoch": 3}, "w.pt")
    found, wanted = tg.load("w.pt"), optimizer.state_dict()
    assert found["epoch"] == 3
    assert found["optimizer"]["param_groups"] == wanted["param_groups"]
    moments = found["optimizer"]["state"][0]["exp_avg"].numpy()
    np.testing.assert_array_equal(moments, wanted["state"][0]["exp_avg"].numpy())
