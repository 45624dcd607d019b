"""IDX files, the bundled data, and how data sets are found or downloaded."""

from __future__ import annotations

import gzip
import hashlib
import lzma
import os
import random
import stat
import struct
import threading
import tracemalloc
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tinygrad_cnn.data import (
    MNIST,
    FashionMNIST,
    MNISTMini,
    cache,
    datasets,
    load_dataset,
    read_idx,
    user_cache_dir,
    write_idx,
)

# ------------------------------------------------------------------------------------------------
# IDX
# ------------------------------------------------------------------------------------------------
TINY = bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6])  # written out by hand


def put(folder: Path, content: bytes, name: str = "x.idx") -> Path:
    (folder / name).write_bytes(content)
    return folder / name


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress])
def test_read_idx_by_content_whatever_the_name(tmp_path, pack):
    array = read_idx(put(tmp_path, pack(TINY), "손글씨.gz"))
    assert array.dtype == np.uint8 and array.tolist() == [[1, 2, 3], [4, 5, 6]]
    array[0, 0] = 9  # the caller's own, writable


@pytest.mark.parametrize(
    ("code", "form", "values"),
    [
        (0x09, "b", [-128, 127]),
        (0x0B, "h", [-2, 300]),
        (0x0C, "i", [-2, 1 << 30]),
        (0x0D, "f", [0.5, -2.0]),
        (0x0E, "d", [0.1, -2.0]),
    ],
)
def test_idx_types_are_big_endian_in_the_file_and_native_in_memory(tmp_path, code, form, values):
    content = struct.pack(f">BBBBI2{form}", 0, 0, code, 1, 2, *values)
    array = read_idx(put(tmp_path, content))
    assert array.tolist() == values and array.dtype.isnative
    write_idx(tmp_path / "again.idx", array)
    assert (tmp_path / "again.idx").read_bytes() == content


@pytest.mark.parametrize("suffix", ["", ".gz", ".xz"])
def test_write_idx_is_deterministic_and_leaves_nothing_else(tmp_path, suffix):
    array = np.arange(24, dtype=np.uint8).reshape(4, 3, 2)[::2].transpose(2, 0, 1)
    for name in ("a", "b"):
        write_idx(tmp_path / f"{name}{suffix}", array)
        np.testing.assert_array_equal(read_idx(tmp_path / f"{name}{suffix}"), array)
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()
    assert len(list(tmp_path.iterdir())) == 2


def test_write_idx_says_what_it_cannot_hold(tmp_path):
    with pytest.raises(
        ValueError, match="IDX cannot hold dtype int64: expected one of uint8, int8"
    ):
        write_idx(tmp_path / "x", np.zeros(3, np.int64))
    with pytest.raises(ValueError, match="1 to 32 dimensions, received 0"):
        write_idx(tmp_path / "x", np.zeros((), np.uint8))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected a 4-byte IDX magic number, received 0 bytes"),
        (b"\x89PNG\r\n", r"not an IDX file: .*type code \(08, .*received 89 50 4e 47"),
        (b"\0\0\x0a\1\0\0\0\0", "not an IDX file: .*received 00 00 0a 01"),
        (b"\0\0\x08\0", "expected 1 to 32 dimensions, received 0"),
        (b"\0\0\x08\xff", "expected 1 to 32 dimensions, received 255"),
        (TINY[:9], "truncated: expected 8 bytes of sizes, received 5"),
        (TINY[:-2], r"truncated: expected 6 bytes for uint8 .* \(2, 3\), received 4"),
        (TINY + b"\0", r"trailing bytes: expected 6 bytes for uint8 .* \(2, 3\), received more"),
        (b"\0\0\x0e\3" + b"\xff" * 12, r"at most 2,147,483,648 bytes, the header says \(4294"),
        (b"\0\0\x08\3\0\0\0\0" + b"\xff" * 8, "at most 2,147,483,648 bytes, the header says"),
        (gzip.compress(TINY)[:-4], "compressed data is truncated"),
        (gzip.compress(TINY)[:-9] + b"\0" * 9, "compressed data is damaged"),
        (lzma.compress(TINY)[:-20], "compressed data is truncated"),
        (b"\x1f\x8b\x08\0 not gzip", "compressed data is"),
    ],
)
def test_damaged_idx_names_the_file_what_was_expected_and_received(tmp_path, content, message):
    path = put(tmp_path, content, "t10k-images.gz")
    with pytest.raises(ValueError, match=message) as caught:
        read_idx(path)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress])
def test_memory_follows_the_bytes_that_arrive_not_the_claims(tmp_path, pack):
    bomb = put(tmp_path, pack(TINY + bytes(100_000_000)), "bomb")
    claim = put(tmp_path, pack(b"\0\0\x08\1\x7f\xff\xff\xff" + bytes(1000)), "claim")
    for path, message in ((bomb, "trailing bytes"), (claim, "truncated")):
        tracemalloc.start()
        with pytest.raises(ValueError, match=message):
            read_idx(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 20_000_000, path


def accepts_or_explains(path: Path) -> None:
    try:
        assert isinstance(read_idx(path), np.ndarray)
    except ValueError as error:
        assert str(path) in str(error)


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=64),
    st.sampled_from([b"", b"\0\0\x08", b"\0\0\x0d\2", b"\x1f\x8b\x08\0", b"\xfd7zXZ\0"]),
    st.sampled_from([bytes, gzip.compress, lzma.compress]),
)
@example(b"\4" + bytes(4) + b"\xff" * 12, b"\0\0\x08", bytes)
def test_no_bytes_crash_the_reader(tmp_path_factory, tail, head, pack):
    accepts_or_explains(put(tmp_path_factory.getbasetemp(), pack(head + tail)))


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress])
def test_no_mutation_crashes_the_reader(tmp_path, pack):
    choose = random.Random(7)
    whole = pack(TINY[:4] + struct.pack(">2I", 30, 20) + bytes(i % 251 for i in range(600)))
    for _ in range(300):
        content = bytearray(whole)
        for _ in range(choose.randint(1, 3)):
            at = choose.randrange(len(content))
            kind = choose.choice(["flip", "cut", "insert", "remove"])
            if kind == "flip":
                content[at] ^= 1 << choose.randrange(8)
            elif kind == "cut" and at:
                del content[at:]
            elif kind == "insert":
                content[at:at] = choose.randbytes(choose.randint(1, 5))
            elif len(content) > 9:
                del content[at : at + 4]
        accepts_or_explains(put(tmp_path, bytes(content)))


# ------------------------------------------------------------------------------------------------
# The bundled data
# ------------------------------------------------------------------------------------------------
BUNDLED = Path(datasets.__file__).parent / "mnist_mini"


def test_bundled_files_are_the_documented_ones():
    readme, total = (BUNDLED / "README.md").read_text(encoding="utf-8"), 0
    files = sorted(BUNDLED.glob("*.xz"))
    assert len(files) == 4
    for file in files:
        content = file.read_bytes()
        row = f"| `{file.name}` | {len(content):,} | `{hashlib.sha256(content).hexdigest()}` |"
        assert row in readme
        total += len(content)
    assert total <= 2_000_000
    assert "CC BY-SA 3.0" in readme


@pytest.mark.parametrize(("train", "count"), [(True, 1000), (False, 200)])
def test_mnist_mini_is_balanced(train, count):
    mini = MNISTMini(train)
    assert mini.images.shape == (10 * count, 28, 28) and mini.images.dtype == np.uint8
    assert mini.labels.dtype == np.int64 and np.bincount(mini.labels).tolist() == [count] * 10
    image, label = mini[3]
    assert image.shape == (28, 28) and label == mini.labels[3] and isinstance(label, int)


@pytest.mark.parametrize(("train", "count"), [(True, 1000), (False, 200)])
def test_mnist_mini_is_the_part_of_mnist_it_says(train, count):
    try:
        full = MNIST(train, download=False)
    except FileNotFoundError:
        pytest.skip("MNIST is not on this machine (set TINYGRAD_CNN_DATA)")
    seen = dict.fromkeys(range(10), 0)
    keep = []
    for i, label in enumerate(full.labels.tolist()):
        seen[label] += 1
        if seen[label] <= count:
            keep.append(i)
    np.testing.assert_array_equal(MNISTMini(train).images, full.images[keep])
    np.testing.assert_array_equal(MNISTMini(train).labels, full.labels[keep])


# ------------------------------------------------------------------------------------------------
# Finding and downloading, on a small stand-in for MNIST
# ------------------------------------------------------------------------------------------------
@pytest.fixture
def files(tmp_path, monkeypatch) -> dict[str, bytes]:
    """A tiny MNIST: gzip files by name; its hashes are the expected ones, nothing else is found."""
    rng = np.random.default_rng(1)
    content, hashes = {}, {}
    for split, count in (("train", 20), ("t10k", 10)):
        images = rng.integers(0, 256, (count, 28, 28)).astype(np.uint8)
        raw = {
            f"{split}-images-idx3-ubyte": struct.pack(">4I", 0x803, count, 28, 28)
            + images.tobytes(),
            f"{split}-labels-idx1-ubyte": struct.pack(">2I", 0x801, count)
            + bytes(i % 10 for i in range(count)),
        }
        for stem, data in raw.items():
            content[f"{stem}.gz"] = gzip.compress(data)
            hashes[stem] = hashlib.sha256(data).hexdigest()
    monkeypatch.setattr(MNIST, "hashes", hashes)
    monkeypatch.setattr(MNIST, "mirrors", ())
    monkeypatch.setenv("TINYGRAD_CNN_CACHE", str(tmp_path / "캐시"))
    for name in ("TINYGRAD_CNN_DATA", "TINYGRAD_CNN_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.chdir(tmp_path)
    return content


def lay_out(folder: Path, files: dict[str, bytes], plain: bool = False) -> Path:
    folder.mkdir(parents=True)
    for name, content in files.items():
        if plain:
            put(folder, gzip.decompress(content), name.removesuffix(".gz"))
        else:
            put(folder, content, name)
    return folder


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("below", ["mnist", "MNIST/raw", "MNIST", "."])
def test_layouts_of_a_data_folder(tmp_path, files, below, plain):
    root = tmp_path / "자료 폴더"
    lay_out(root / below, files, plain)
    before = sorted(root.rglob("*"))
    train, test = MNIST(root=root), load_dataset("mnist", train=False, root=str(root))
    assert (len(train), len(test)) == (20, 10)
    assert train.labels.tolist() == [i % 10 for i in range(20)]
    assert str(root) in train.source and "20 images" in repr(train)
    assert sorted(root.rglob("*")) == before and not (tmp_path / "캐시").exists()


def test_order_of_search(tmp_path, files, monkeypatch):
    def tagged(name: str) -> Path:
        return lay_out(tmp_path / name / "mnist", files).parent

    lay_out(tmp_path / "캐시" / "data" / "mnist", files)
    assert "캐시" in MNIST().source
    tagged("set")
    put(tmp_path, b'data = "set"', "tinygrad_cnn.toml")
    assert MNIST().source == os.path.join("set", "mnist")
    monkeypatch.setenv("TINYGRAD_CNN_DATA", str(tagged("env")))
    assert "env" in MNIST().source
    assert "argument" in MNIST(root=tagged("argument")).source
    (tmp_path / "empty").mkdir()
    assert "캐시" in MNIST(root=tmp_path / "empty").source


def test_a_data_folder_that_is_not_there_or_not_complete(tmp_path, files, monkeypatch):
    with pytest.raises(
        FileNotFoundError, match="root: expected a folder, received '/nowhere/at all'"
    ):
        MNIST(root="/nowhere/at all")
    monkeypatch.setenv("TINYGRAD_CNN_DATA", "/nowhere")
    with pytest.raises(FileNotFoundError, match="TINYGRAD_CNN_DATA: expected a folder"):
        MNIST()
    root = lay_out(tmp_path / "d" / "mnist", files).parent
    (root / "mnist" / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(FileNotFoundError, match="mnist has no train-labels-idx1-ubyte"):
        MNIST(root=root)
    assert len(MNIST(False, root=root)) == 10


def test_mnist_lying_in_the_data_folder_is_not_taken_for_fashion(tmp_path, files):
    root = lay_out(tmp_path / "flat", files)
    with pytest.raises(FileNotFoundError, match="fashion-mnist was not found"):
        FashionMNIST(root=root, download=False)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("train-images-idx3-ubyte", lambda a: a[:19], "one label for each of 19 images, .*20"),
        (
            "train-images-idx3-ubyte",
            lambda a: a[0],
            r"uint8 images \(N, H, W\) or .*, received uint8 \(28",
        ),
        ("train-labels-idx1-ubyte", lambda a: a + 1, "integer labels from 0 to 9"),
    ],
)
def test_files_that_do_not_fit_together(tmp_path, files, name, change, message):
    root = lay_out(tmp_path / "d", files)
    write_idx(root / f"{name}.gz", change(read_idx(root / f"{name}.gz")))
    with pytest.raises(ValueError, match=message):
        MNIST(root=root)


def test_truncated_file_in_the_data_folder(tmp_path, files):
    root = lay_out(tmp_path / "d", files, plain=True)
    path = root / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="truncated: expected 15,680 bytes .* received 15,580"):
        MNIST(root=root)


def test_unknown_data_set():
    with pytest.raises(
        ValueError, match="unknown data set 'minst': expected one of mnist-mini, mnist"
    ):
        load_dataset("minst")


class Server:
    """Serves ``answers[path] = (status, body, declared length)`` on this machine."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, bytes, int | None]] = {}
        self.requests: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests.append(self.path)
                status, body, length = outer.answers.get(self.path, (403, b"", 0))
                self.send_response(status)
                if length is not None:
                    self.send_header("Content-Length", str(length))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def offer(self, mirror: str, files: dict[str, bytes], cut: int = 0, length: bool = True) -> str:
        for name, content in files.items():
            body = content[: len(content) - cut]
            self.answers[f"/{mirror}/{name}"] = (200, body, len(content) if length else None)
        return f"{self.url}/{mirror}/"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


def test_download_goes_on_to_a_mirror_that_works_and_is_kept(tmp_path, files, server, monkeypatch):
    good = server.offer("good", files)
    dead = "http://127.0.0.1:1/"  # nothing listens there
    monkeypatch.setattr(MNIST, "mirrors", (dead, f"{server.url}/forbidden/", good))
    train = MNIST()
    assert len(train) == 20
    kept = tmp_path / "캐시" / "data" / "mnist"
    assert sorted(p.name for p in kept.iterdir()) == [
        "train-images-idx3-ubyte.gz",
        "train-labels-idx1-ubyte.gz",
    ]
    mode = (kept / "train-images-idx3-ubyte.gz").stat().st_mode
    assert os.name == "nt" or mode & stat.S_IRUSR
    requests = len(server.requests)
    np.testing.assert_array_equal(MNIST(download=False).images, train.images)
    assert len(server.requests) == requests


@pytest.mark.parametrize(
    ("length", "message"),
    [(True, "gz: truncated: expected [0-9,]+ bytes, received"), (False, "data is truncated")],
)
def test_truncated_download_is_refused(tmp_path, files, server, monkeypatch, length, message):
    monkeypatch.setattr(MNIST, "mirrors", (server.offer("cut", files, cut=30, length=length),))
    with pytest.raises(FileNotFoundError, match=message):
        MNIST()
    assert not list(tmp_path.rglob("*.gz*"))


def test_wrong_hash_is_refused(tmp_path, files, server, monkeypatch):
    other = {name: gzip.compress(gzip.decompress(c)[:-1] + b"\7") for name, c in files.items()}
    monkeypatch.setattr(MNIST, "mirrors", (server.offer("other", other),))
    expected = MNIST.hashes["train-images-idx3-ubyte"]
    with pytest.raises(
        FileNotFoundError, match=f"expected SHA-256 {expected}, received [0-9a-f]{{64}}"
    ):
        MNIST()
    assert not list(tmp_path.rglob("*.gz*"))


def test_a_second_attempt_keeps_what_the_first_one_got(files, server, monkeypatch):
    monkeypatch.setattr(MNIST, "mirrors", (server.offer("m", files),))
    labels = "/m/train-labels-idx1-ubyte.gz"
    good = server.answers.pop(labels)
    with pytest.raises(FileNotFoundError, match="403"):
        MNIST()
    server.answers[labels] = good
    assert len(MNIST()) == 20
    assert server.requests.count("/m/train-images-idx3-ubyte.gz") == 1


def test_oversized_and_endless_downloads_are_given_up(files, server, monkeypatch):
    monkeypatch.setattr(MNIST, "mirrors", (server.offer("m", files),))
    monkeypatch.setattr(cache, "MAX_DOWNLOAD", 1000)
    with pytest.raises(FileNotFoundError, match="expected at most 1,000 bytes, received more"):
        MNIST()


def test_one_message_says_what_where_and_how_to_help(tmp_path, files, server, monkeypatch):
    monkeypatch.setattr(MNIST, "mirrors", (f"{server.url}/a/", f"{server.url}/b/"))
    (tmp_path / "given").mkdir()
    with pytest.raises(FileNotFoundError) as caught:
        MNIST(root=tmp_path / "given")
    message = str(caught.value)
    for part in (
        "train-images-idx3-ubyte[.gz]",
        str(tmp_path / "given"),
        str(tmp_path / "캐시"),
        f"{server.url}/a/train-images-idx3-ubyte.gz: HTTP Error 403",
        f"{server.url}/b/train-images-idx3-ubyte.gz: HTTP Error 403",
        "TINYGRAD_CNN_DATA",
        "mnist-mini",
    ):
        assert part in message
    with pytest.raises(FileNotFoundError, match="not tried, because download=False"):
        MNIST(download=False)


def test_a_cache_that_cannot_be_written_costs_a_warning(tmp_path, files, server, monkeypatch):
    monkeypatch.setattr(MNIST, "mirrors", (server.offer("m", files),))
    monkeypatch.setenv("TINYGRAD_CNN_CACHE", str(put(tmp_path, b"", "a file")))
    with pytest.warns(RuntimeWarning, match="cannot keep the download .*TINYGRAD_CNN_CACHE"):
        assert len(MNIST()) == 20


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("TINYGRAD_CNN_CACHE", str(tmp_path))
    assert user_cache_dir() == tmp_path
    monkeypatch.delenv("TINYGRAD_CNN_CACHE")
    monkeypatch.setattr(cache.sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert user_cache_dir() == tmp_path / "xdg" / "tinygrad_cnn"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_cache_dir() == tmp_path / ".cache" / "tinygrad_cnn"
    monkeypatch.setattr(cache.sys, "platform", "darwin")
    assert user_cache_dir() == tmp_path / "Library" / "Caches" / "tinygrad_cnn"

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(cache.Path, "home", homeless)
    assert user_cache_dir().name.startswith("tinygrad_cnn-")
