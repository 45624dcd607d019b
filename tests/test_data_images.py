"""ImageFolder, cifar10-jpeg and subsets by class. Pictures are made by Pillow on the spot."""

from __future__ import annotations

import io
import os
import random
import struct
import subprocess
import sys
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from tinygrad_cnn.data import (
    CIFAR10JPEG,
    ClassSubset,
    Compose,
    DataLoader,
    ImageFolder,
    MNISTMini,
    TensorDataset,
    ToFloat,
    class_subsets,
    image_files,
    load_dataset,
)
from tinygrad_cnn.data.image_files import decode_image

Image = pytest.importorskip("PIL.Image")
RNG = np.random.default_rng(11)


def encoded(pixels: np.ndarray, kind: str = "PNG", **options: object) -> bytes:
    """(H, W, 3) or (H, W) uint8 as the bytes of a file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def picture(height: int = 6, width: int = 8) -> np.ndarray:
    return RNG.integers(0, 256, (height, width, 3)).astype(np.uint8)


def lay_out(root: Path, files: dict[str, bytes], as_zip: bool) -> Path:
    """``files`` in a folder or a zip."""
    if not as_zip:
        for name, content in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content)
        return root
    path = root / "images.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


# ------------------------------------------------------------------------------------------------
# ImageFolder
# ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("as_zip", [False, True])
def test_classes_and_files_are_sorted(tmp_path, as_zip):
    one, two, three = picture(), picture(), picture()
    files = {
        "train/zebra/b.PNG": encoded(one),
        "train/zebra/a.png": encoded(two),
        "train/고양이/deep/er/x.png": encoded(three),
        "train/zebra/notes.txt": b"not a picture",
        "train/zebra/.hidden.png": b"",
        "train/.cache/x.png": b"",
        "train/top.png": encoded(one),
        "__MACOSX/train/zebra/._a.png": b"",
        "test/other/a.png": encoded(one),
    }
    folder = ImageFolder(lay_out(tmp_path, files, as_zip), inside="train")
    assert folder.classes == ("zebra", "고양이") and folder.class_to_idx == {
        "zebra": 0,
        "고양이": 1,
    }
    assert folder.samples == [("zebra/a.png", 0), ("zebra/b.PNG", 0), ("고양이/deep/er/x.png", 1)]
    assert folder.labels.tolist() == [0, 0, 1] and len(folder) == 3
    for (image, label), pixels in zip(folder, (two, one, three), strict=True):
        assert image.dtype == np.uint8 and isinstance(label, int)
        np.testing.assert_array_equal(image, pixels.transpose(2, 0, 1))
    images, labels = folder.get_batch(np.array([2, 0]))
    assert images.shape == (2, 3, 6, 8) and labels.tolist() == [1, 0]
    assert "3 images of 2 classes" in repr(folder)


def test_S4_5_read_decode_to_float_and_scale(tmp_path):
    pixels = np.repeat(np.repeat(picture(2, 2), 16, 0), 16, 1)
    files = {
        "cat/1.jpg": encoded(pixels, "JPEG", quality=95, subsampling=0),
        "dog/1.png": encoded(pixels),
    }
    loader = DataLoader(ImageFolder(lay_out(tmp_path, files, False)), 2, transform=ToFloat())
    images, labels = next(iter(loader))
    assert images.shape == (2, 3, 32, 32) and str(images.dtype) == "float32"
    assert labels.tolist() == [0, 1]
    np.testing.assert_allclose(images[1].numpy(), pixels.transpose(2, 0, 1) / 255, rtol=1e-6)
    assert np.abs(images[0].numpy() - images[1].numpy()).mean() < 0.02
    assert 0 <= images.min().item() and images.max().item() <= 1


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "1", "LA", "CMYK"])
def test_every_kind_becomes_rgb(kind, mode):
    source = Image.fromarray(np.full((5, 4, 3), (200, 100, 50), np.uint8)).convert(mode)
    buffer = io.BytesIO()
    try:
        source.save(buffer, kind)
    except OSError:
        pytest.skip(f"{kind} has no {mode}")
    found = decode_image(buffer.getvalue(), "x")
    assert found.shape == (3, 5, 4) and found.dtype == np.uint8 and found.flags.c_contiguous
    expected = np.asarray(Image.open(buffer).convert("RGB")).transpose(2, 0, 1)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("resize", "shape"), [(4, (3, 4, 4)), ((3, 9), (3, 3, 9))])
def test_resize(tmp_path, resize, shape):
    files = {f"a/{i}.png": encoded(np.full((5 + i, 7, 3), 9, np.uint8)) for i in range(3)}
    folder = ImageFolder(lay_out(tmp_path, files, False), resize=resize)
    images, _ = folder.get_batch(np.arange(3))
    assert images.shape[1:] == shape and (images == 9).all()
    ramp = np.repeat(np.arange(0, 240, 2, dtype=np.uint8)[None], 4, 0)
    halved = decode_image(encoded(ramp), "x", (2, 60))[0, 0]
    np.testing.assert_allclose(halved[2:-2], np.arange(0, 240, 4)[2:-2] + 1, atol=1)


def test_images_of_different_sizes_make_no_batch(tmp_path):
    files = {"a/1.png": encoded(picture(4, 4)), "a/2.png": encoded(picture(5, 4))}
    folder = ImageFolder(lay_out(tmp_path, files, False))
    with pytest.raises(
        ValueError, match=r"\(4, 4\) \(a/1.png\) and \(5, 4\) \(a/2.png\): give res"
    ):
        folder.get_batch(np.array([0, 1]))


@pytest.mark.parametrize("as_zip", [False, True])
@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"x.png": b""}, "a sub-folder for each class, found none"),
        ({"a/x.png": b"", "b/x.gif": b"", "c/y.txt": b""}, "files for every class, .* for b, c"),
    ],
)
def test_empty_classes(tmp_path, files, message, as_zip):
    path = lay_out(tmp_path, files, as_zip)
    with pytest.raises(ValueError, match=message) as caught:
        ImageFolder(path)
    assert str(caught.value).startswith(str(path))


def test_what_is_no_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected a folder or a zip, found nothing"):
        ImageFolder(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="expected a folder 'train' in it"):
        ImageFolder(tmp_path, inside="train")
    (tmp_path / "x.zip").write_bytes(b"PK\3\4 no zip")
    with pytest.raises(ValueError, match="x.zip: not a readable zip"):
        ImageFolder(tmp_path / "x.zip")
    with pytest.raises(ValueError, match="resize: expected at least 1, received 0"):
        ImageFolder(tmp_path, resize=0)


def test_pillow_is_missing(tmp_path):
    code = (
        "import sys; sys.modules['PIL'] = None\n"
        "from tinygrad_cnn.data import ImageFolder\n"
        f"ImageFolder({str(tmp_path)!r})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (
        'ImportError: decoding JPEG and PNG needs Pillow: pip install "tinygrad-cnn[images]"'
        in (done.stderr)
    )


@pytest.mark.parametrize("as_zip", [False, True])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a readable JPEG or PNG image"),
        (encoded(np.zeros((4, 4), np.uint8), "GIF"), "not a readable JPEG or PNG image"),
        (encoded(np.zeros((4, 4), np.uint8), "BMP"), "not a readable JPEG or PNG image"),
        (encoded(np.zeros((40, 40, 3), np.uint8))[:60], "not a readable JPEG or PNG image"),
        (encoded(RNG.integers(0, 9, (64, 64, 3)).astype("u1"), "JPEG")[:-300], "not a readable"),
        (encoded(np.zeros((4, 4), np.uint16)), "expected 8 bits a channel, received mode I;16"),
    ],
    ids=["empty", "gif", "bmp", "cut png", "cut jpeg", "16 bits"],
)
def test_damaged_files_are_named(tmp_path, content, message, as_zip):
    good = encoded(picture())
    path = lay_out(tmp_path, {"a/good.png": good, "a/그림.jpg": content}, as_zip)
    loader = DataLoader(ImageFolder(path), 2)
    with pytest.raises(ValueError, match=message) as caught:
        next(iter(loader))
    assert str(caught.value).startswith(f"{path}/a/그림.jpg: ")
    assert "samples 0, 1" in caught.value.__notes__[0]


def png_of_size(width: int, height: int) -> bytes:
    """A PNG that claims a size, with hardly any content."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("size", [(5000, 7000), (12_000, 12_000), (100_000, 100_000)])
def test_too_many_pixels_cost_no_memory(size):
    tracemalloc.start()
    with pytest.raises(
        ValueError, match="bomb.png: not a readable .* (at most 33,554,432|exceeds)"
    ):
        decode_image(png_of_size(*size), "bomb.png")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000


def test_a_zip_bomb_is_given_up_at_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(image_files, "MAX_BYTES", 1 << 20)
    path = lay_out(tmp_path, {"a/bomb.png": bytes(50 << 20), "a/ok.png": encoded(picture())}, True)
    assert path.stat().st_size < 100_000
    folder = ImageFolder(path)
    tracemalloc.start()
    with pytest.raises(ValueError, match="a/bomb.png: expected at most 1,048,576 bytes, .* more"):
        folder[0]
    assert tracemalloc.get_traced_memory()[1] < 8_000_000
    tracemalloc.stop()
    assert folder[1][0].shape == (3, 6, 8)
    (tmp_path / "plain" / "a").mkdir(parents=True)
    (tmp_path / "plain" / "a" / "x.png").write_bytes(bytes(2 << 20))
    with pytest.raises(ValueError, match="x.png: expected at most 1,048,576 bytes"):
        ImageFolder(tmp_path / "plain")[0]


def test_a_damaged_zip_entry_is_named(tmp_path):
    path = lay_out(tmp_path, {"a/x.png": encoded(picture(40, 40))}, True)
    content = bytearray(path.read_bytes())
    content[200] ^= 255
    path.write_bytes(content)
    with pytest.raises(ValueError, match="images.zip/a/x.png: not readable") as caught:
        ImageFolder(path)[0]
    assert str(caught.value).startswith(str(path))


def mutated(choose: random.Random, whole: bytes) -> bytes:
    """``whole`` with a few bytes changed, cut off, put in or taken out."""
    content = bytearray(whole)
    for _ in range(choose.randint(1, 4)):
        at = choose.randrange(len(content))
        match choose.choice(["flip", "set", "cut", "insert", "remove"]):
            case "flip":
                content[at] ^= 1 << choose.randrange(8)
            case "set":
                content[at : at + 4] = choose.choice(
                    [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff"]
                )
            case "cut":
                del content[max(at, 1) :]
            case "insert":
                content[at:at] = choose.randbytes(choose.randint(1, 8))
            case "remove" if len(content) > 40:
                del content[at : at + choose.randint(1, 30)]
    return bytes(content)


def with_checksums(png: bytes) -> bytes:
    """The PNG with right checksums, so that damage gets beyond them."""
    made, at = bytearray(png[:8]), 8
    while at + 12 <= len(png):
        end = at + 8 + int.from_bytes(png[at : at + 4], "big")
        made += png[at:end] + struct.pack(">I", zlib.crc32(png[at + 4 : end]))
        at = end + 4
    return bytes(made) + png[at:]


def fuzz(seed: int, count: int, folder: Path) -> dict[str, int]:
    """Decode damaged files: images or ValueErrors with the name, nothing else. Counts of both."""
    choose = random.Random(seed)
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 10, 3)).astype(np.uint8)
    wholes = [
        encoded(pixels),
        encoded(pixels[..., 0]),
        encoded(pixels, "JPEG"),
        encoded(pixels, "JPEG", progressive=True),
    ]
    zipped = lay_out(folder, {f"a/{i}.png": whole for i, whole in enumerate(wholes)}, True)
    archive, outcomes = zipped.read_bytes(), {"read": 0, "refused": 0}
    for k in range(count):
        try:
            if k % 5 == 4:
                zipped.write_bytes(mutated(choose, archive))
                images = [image for image, _ in ImageFolder(zipped)]
            else:
                damaged = mutated(choose, wholes[k % 4])
                if k % 4 < 2 and choose.random() < 0.7:
                    damaged = with_checksums(damaged)
                images = [decode_image(damaged, "the file")]
            assert all(i.ndim == 3 and len(i) == 3 and i.dtype == np.uint8 for i in images)
            outcomes["read"] += 1
        except ValueError as error:
            assert str(error).startswith(("the file: ", str(zipped))), error
            outcomes["refused"] += 1
    return outcomes


@pytest.mark.filterwarnings("ignore")
def test_no_damage_crashes_the_reader(tmp_path):
    outcomes = fuzz(1, 1500, tmp_path)
    assert min(outcomes.values()) > 50  # both happen, so the damage is neither trivial nor total


# ------------------------------------------------------------------------------------------------
# cifar10-jpeg
# ------------------------------------------------------------------------------------------------
@pytest.fixture
def tiny_cifar(tmp_path, monkeypatch) -> Path:
    """A data folder with two training images and one test image of each class."""
    monkeypatch.setenv("TINYGRAD_CNN_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TINYGRAD_CNN_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    files = {}
    for k, name in enumerate(CIFAR10JPEG.classes):
        for i in range(2):
            grey = np.full((32, 32, 3), 20 * k + 5 * i, np.uint8)
            files[f"train/{name}/{i:04}.jpg"] = encoded(grey, "JPEG")
            if not i:
                files[f"test/{name}/{i:04}.jpg"] = encoded(grey, "JPEG")
    root = tmp_path / "data"
    (root / "cifar10-jpeg").mkdir(parents=True)
    lay_out(root, files, True).rename(root / "cifar10-jpeg" / "cifar10-jpeg.zip")
    return root


def test_cifar10_jpeg(tiny_cifar):
    train, test = (load_dataset("cifar10-jpeg", t, tiny_cifar) for t in (True, False))
    assert train.images.shape == (20, 3, 32, 32) and test.images.shape == (10, 3, 32, 32)
    assert train.labels.tolist() == [k for k in range(10) for _ in range(2)]
    np.testing.assert_array_equal(
        train.images[:, :, 7, 7], [[20 * k + 5 * i] * 3 for k in range(10) for i in range(2)]
    )
    assert "cifar10-jpeg.zip" in repr(test)
    images, labels = next(iter(DataLoader(test, 4, transform=Compose(ToFloat()))))
    assert images.shape == (4, 3, 32, 32) and labels.tolist() == [0, 1, 2, 3]


def test_cifar10_jpeg_is_decoded_once_a_zip(tiny_cifar, tmp_path, monkeypatch):
    first = CIFAR10JPEG(True, tiny_cifar)
    kept = tmp_path / "cache" / "data" / "cifar10-jpeg"
    (file,) = kept.iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(image_files, "pillow", None)  # decoding would fail
        patch.setitem(sys.modules, "PIL", None)
        again = CIFAR10JPEG(True, tiny_cifar)
    np.testing.assert_array_equal(again.images, first.images)
    np.testing.assert_array_equal(again.labels, first.labels)

    path = tiny_cifar / "cifar10-jpeg" / "cifar10-jpeg.zip"
    with zipfile.ZipFile(path, "a") as archive:
        grey = np.full((32, 32, 3), 99, np.uint8)
        archive.writestr("train/cat/9999.jpg", encoded(grey, "JPEG"))
    changed = CIFAR10JPEG(True, tiny_cifar)  # another zip: the cache is not its
    assert len(changed) == 21 and (changed.images[8] == 99).all()

    for damage in (b"", b"\x93NUMPY no array", file.read_bytes()[:-5], b"PK\3\4"):
        for one in kept.iterdir():
            one.write_bytes(damage)
        assert len(CIFAR10JPEG(True, tiny_cifar)) == 21


def test_a_cache_that_cannot_be_written_costs_a_warning(tiny_cifar, tmp_path, monkeypatch):
    (tmp_path / "a file").write_bytes(b"")
    monkeypatch.setenv("TINYGRAD_CNN_CACHE", str(tmp_path / "a file"))
    with pytest.warns(RuntimeWarning, match="cannot keep the decoded images .* TINYGRAD_CNN_CACHE"):
        assert len(CIFAR10JPEG(False, tiny_cifar)) == 10


def test_cifar10_jpeg_is_missing_or_another_set(tiny_cifar, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="looked for .*empty/cifar10-jpeg/cifar10-jpeg.zip"):
        CIFAR10JPEG(root=tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match="no data folder was given.*TINYGRAD_CNN_DATA"):
        CIFAR10JPEG()
    path = tiny_cifar / "cifar10-jpeg" / "cifar10-jpeg.zip"
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("train/cat/x.png", encoded(picture()))
    with pytest.raises(ValueError, match=r"train/cat/x.png: expected 32 × 32, received \(6, 8\)"):
        CIFAR10JPEG(root=tiny_cifar)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("train/lynx/x.png", encoded(picture()))
    with pytest.raises(ValueError, match="expected the classes airplane, .* received .*lynx"):
        CIFAR10JPEG(root=tiny_cifar)


@pytest.mark.skipif("TINYGRAD_CNN_DATA" not in os.environ, reason="TINYGRAD_CNN_DATA is not set")
def test_cifar10_jpeg_of_this_machine():
    test = CIFAR10JPEG(train=False)
    assert np.bincount(test.labels).tolist() == [1000] * 10
    with zipfile.ZipFile(test.source) as archive:
        for i, name in ((0, "test/airplane/0000.jpg"), (9999, "test/truck/0999.jpg")):
            expected = np.asarray(Image.open(archive.open(name))).transpose(2, 0, 1)
            np.testing.assert_array_equal(test.images[i], expected)


# ------------------------------------------------------------------------------------------------
# Subsets by class
# ------------------------------------------------------------------------------------------------
def test_class_subset_renumbers_its_classes():
    mini = MNISTMini(train=False)
    some = ClassSubset(mini, ("7", "2"))
    assert some.classes == ("7", "2") and len(some) == 400
    np.testing.assert_array_equal(mini.labels[some.indices], np.where(some.labels, 2, 7))
    images, labels = some.get_batch(np.array([5, 399]))
    for k, i in enumerate((5, 399)):
        image, label = some[i]
        assert (image == images[k]).all() and label == labels[k] == some.labels[i]
        assert (image == mini.images[some.indices[i]]).all()


def test_cats_and_dogs_two_thousand_and_one_thousand():
    labels = np.arange(50_000) % 10
    cifar = TensorDataset(np.arange(50_000), labels)
    cifar.classes, cifar.labels = CIFAR10JPEG.classes, labels  # type: ignore[attr-defined]
    train, validation = class_subsets(cifar, ("cat", "dog"), (2000, 1000), seed=1)
    for part, size in ((train, 1000), (validation, 500)):
        assert np.bincount(part.labels).tolist() == [size, size]
        assert (labels[part.indices] == np.where(part.labels, 5, 3)).all()
        (x, y) = next(iter(DataLoader(part, 40, shuffle=True, seed=0)))
        assert (labels[x.numpy()] == np.where(y.numpy(), 5, 3)).all()
    assert not set(train.indices) & set(validation.indices)
    again, other = (
        class_subsets(cifar, ("cat", "dog"), (2000, 1000), seed=s)[0].indices for s in (1, 2)
    )
    assert (again == train.indices).all() and (other != train.indices).any()
    (eight,) = class_subsets(cifar, [c for c in cifar.classes if c not in ("cat", "dog")], [40_000])
    assert np.bincount(eight.labels).tolist() == [5000] * 8


def test_class_subsets_explain_bad_input():
    mini = MNISTMini(train=False)
    for classes in (("cat",), ("1", "1"), ()):
        with pytest.raises(ValueError, match="expects different classes out of 0, 1, 2"):
            ClassSubset(mini, classes)
    with pytest.raises(ValueError, match="indices of samples of 1, 2"):
        ClassSubset(mini, ("1", "2"), np.flatnonzero(mini.labels == 3))
    with pytest.raises(ValueError, match=r"sizes that 2 classes share equally, received \[3\]"):
        class_subsets(mini, ("1", "2"), [3])
    with pytest.raises(ValueError, match="expects 201 samples of 1, there are 200"):
        class_subsets(mini, ("1", "2"), [400, 2])
