"""Random transforms: their keys, the affine warp against SciPy, crops, flips, enlarged data."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_cnn as tg
from tinygrad_cnn.backend import load_backend
from tinygrad_cnn.data import (
    Compose,
    DataLoader,
    Enlarged,
    ExpandDims,
    ImageAugmentation,
    Keys,
    MNISTMini,
    RandomCrop,
    RandomHorizontalFlip,
    RandomTransform,
    Subset,
    TensorDataset,
    ToFloat,
    affine_matrices,
    affine_warp,
    multi_crop,
    warp,
)

RNG = np.random.default_rng(3)
NOTES = {
    "rotation_range": 20,
    "width_shift_range": 0.1,
    "height_shift_range": 0.1,
    "shear_range": 0.1,
    "zoom_range": 0.1,
    "horizontal_flip": True,
    "fill_mode": "nearest",
}  # the settings of the lecture notes
SCIPY_MODES = {
    "nearest": "nearest",
    "constant": "grid-constant",
    "reflect": "grid-mirror",
    "wrap": "grid-wrap",
}


def keys(count: int, seed: int = 0, epoch: int = 0) -> Keys:
    return Keys(seed, epoch, np.arange(count))


def random_matrices(count: int, spread: float = 0.4, shift: float = 9.0) -> np.ndarray:
    noise = RNG.normal(size=(count, 2, 3)) * [spread, spread, shift]
    return np.eye(2, 3) + noise


# ------------------------------------------------------------------------------------------------
# Keys
# ------------------------------------------------------------------------------------------------
def test_numbers_are_philox_words_of_the_sample():
    from oracles import philox_block

    found = Keys(0x1234567890ABCDEF, 7, np.array([5, 3 + (2 << 32)]), stream=9).uniform(6)
    for row, (sample, repetition) in enumerate([(5, 0), (3, 2)]):
        words: list[int] = []
        for block in range(2):
            counter = (block + (repetition << 16), sample, 7, 9)
            words += philox_block(counter, (0x90ABCDEF, 0x12345678))
        assert found[row].tolist() == [w / 2**32 for w in words[:6]]


def test_numbers_of_a_sample_depend_on_nothing_else():
    whole = keys(50, seed=4, epoch=2).uniform(10)
    some = Keys(4, 2, np.array([33, 7])).uniform(3)
    assert (some == whole[[33, 7], :3]).all()
    changed = [keys(50, 5, 2), keys(50, 4, 3), keys(50, 4, 2).child(0), keys(50, 4, 2).child(1)]
    all_of_them = [whole, *(k.uniform(10) for k in changed)]
    for a, b in itertools.combinations(all_of_them, 2):
        assert not np.isin(a, b).any()
    assert whole.min() >= 0 and whole.max() < 1
    with pytest.raises(ValueError, match="count of 0 to 262144"):
        keys(1).uniform(262145)


def test_uniform_is_uniform():
    from scipy.stats import kstest

    for k in (keys(4000), keys(4000).child(3), Keys(1, 5, np.arange(4000) << 32)):
        u = k.uniform(5)
        assert kstest(u.ravel(), "uniform").pvalue > 1e-3
        assert np.abs(np.corrcoef(u.T) - np.eye(5)).max() < 0.06


def test_without_keys_each_call_is_new_and_manual_seed_fixes_it():
    images, flip = RNG.random((40, 2, 5)), RandomHorizontalFlip()
    tg.manual_seed(1)
    first, second = flip(images), flip(images)
    tg.manual_seed(1)
    assert (flip(images) == first).all() and (first != second).any()
    chain = Compose(flip, RandomCrop(2))
    assert (chain(images) != chain(images)).any()


def test_compose_gives_each_random_transform_numbers_of_its_own():
    images = RNG.random((64, 2, 2))
    flip = RandomHorizontalFlip()
    twice = Compose(flip, flip)(images, keys(64))
    both = (twice == images).all((1, 2)).mean()
    assert 0.3 < both < 0.7  # 1, were the two draws the same
    plain = Compose(np.negative, np.negative, flip, flip)(images, keys(64))
    assert (plain == twice).all()
    assert Compose(ToFloat()).random is False and Compose(Compose(flip)).random is True
    nested = Compose(Compose(flip), flip)(images, keys(64))
    assert (nested != twice).any()


class Numbers(RandomTransform):
    """Shows the numbers drawn."""

    def apply(self, batch, keys):
        return keys.uniform(3)


def drawn(loader: DataLoader) -> dict[int, list[list[float]]]:
    """What each sample got, in the order of the loader."""
    found: dict[int, list[list[float]]] = {}
    for x, y in loader:
        for row, i in zip(x.tolist(), y.tolist(), strict=True):
            found.setdefault(i, []).append(row)
    return found


def indexed(count: int) -> TensorDataset:
    return TensorDataset(np.zeros((count, 1)), np.arange(count))


def test_a_sample_gets_the_same_numbers_in_any_batch_order_and_thread():
    first = drawn(DataLoader(indexed(20), 3, seed=5, transform=Numbers()))
    for settings in (
        {"batch_size": 20},
        {"batch_size": 7, "shuffle": True},
        {"batch_size": 1, "prefetch": 0},
        {"batch_size": 2, "sampler": [7, 3, 19]},
    ):
        other = drawn(DataLoader(indexed(20), seed=5, transform=Numbers(), **settings))
        assert other.items() <= first.items()
    for seed, epoch in ((6, 0), (5, 1)):
        loader = DataLoader(indexed(20), 3, seed=seed, transform=Numbers())
        loader.set_epoch(epoch)
        assert not any(drawn(loader)[i] == first[i] for i in first)


def test_a_resumed_loader_goes_on_with_the_same_images():
    def loader() -> DataLoader:
        return DataLoader(indexed(12), 4, shuffle=True, transform=Numbers())

    tg.manual_seed(8)
    whole = loader()
    expected = [x.tolist() for _ in range(2) for x, _ in whole]
    tg.manual_seed(8)
    killed, found = loader(), []
    for x, _ in killed:
        found.append(x.tolist())
        if len(found) == 2:
            state = killed.state_dict()
            break
    resumed = loader()
    resumed.load_state_dict(state)
    found += [x.tolist() for _ in range(2) for x, _ in resumed]
    assert found == expected


def test_a_random_target_and_a_batch_without_targets():
    loader = DataLoader(indexed(4), 4, seed=0, transform=Numbers(), target_transform=Numbers())
    x, y = next(iter(loader))
    assert x.shape == y.shape == (4, 3) and (x.numpy() != y.numpy()).all()
    alone = DataLoader([np.zeros(1)] * 4, 4, seed=0, transform=Numbers())
    assert (next(iter(alone)).numpy() == x.numpy()).all()


def test_the_loader_draws_a_seed_for_random_transforms():
    def found() -> dict[int, list[list[float]]]:
        return drawn(DataLoader(indexed(4), transform=Compose(Numbers())))

    tg.manual_seed(3)
    first, second = found(), found()
    tg.manual_seed(3)
    assert found() == first != second


def test_S4_9_never_the_same_sample_twice():
    loader = DataLoader(
        Subset(MNISTMini(), range(100)), 100, seed=0, transform=ImageAugmentation(**NOTES)
    )
    epochs = [next(iter(loader))[0].numpy() for _ in range(3)]
    for a, b in itertools.combinations(epochs, 2):
        assert (a != b).any((1, 2)).all()
    again = DataLoader(loader.dataset, 100, seed=0, transform=ImageAugmentation(**NOTES))
    assert (next(iter(again))[0].numpy() == epochs[0]).all()


# ------------------------------------------------------------------------------------------------
# The warp
# ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("fill_mode", warp.FILL_MODES)
@pytest.mark.parametrize("shape", [(4, 9, 9), (4, 2, 7, 12), (3, 1, 1, 5), (3, 6, 1)])
def test_S4_8_fill_modes_equal_scipy(fill_mode, shape):
    from scipy.ndimage import affine_transform

    images, matrices = RNG.normal(size=shape), random_matrices(shape[0])
    found = affine_warp(images, matrices, fill_mode, cval=0.7)
    assert found.dtype == np.float64 and found.shape == shape
    for image, matrix, result in zip(images, matrices, found, strict=True):
        planes = [(image, result)] if image.ndim == 2 else zip(image, result, strict=True)
        for plane, warped in planes:
            expected = affine_transform(
                plane, matrix[:, :2], matrix[:, 2], order=1, mode=SCIPY_MODES[fill_mode], cval=0.7
            )
            np.testing.assert_allclose(warped, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("fill_mode", warp.FILL_MODES)
@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "float64"])
def test_the_compiled_warp_has_the_bits_of_the_definition(fill_mode, dtype):
    try:
        compiled = load_backend("numba").affine_warp
    except ImportError as error:
        pytest.skip(str(error))
    mode = warp.FILL_MODES.index(fill_mode)
    for shape in ((20, 1, 28, 28), (9, 3, 5, 8), (3, 2, 1, 1)):
        images = (RNG.random(shape) * 255).astype(dtype)
        for matrices in (random_matrices(shape[0]), random_matrices(shape[0], 40.0, 1e6)):
            expected = warp.warp(images, matrices, mode, 9.0)
            found = compiled(images, matrices, mode, 9.0)
            assert found.dtype == expected.dtype == np.dtype(dtype)
            np.testing.assert_array_equal(found, expected)


def test_uint8_is_rounded_to_the_nearest_with_halves_up():
    images = np.array([[[0, 1, 2, 255, 255]]], np.uint8)
    half_a_pixel = np.array([[[1, 0, 0], [0, 1, 0.5]]])
    assert affine_warp(images, half_a_pixel).tolist() == [[[1, 2, 129, 255, 255]]]
    filled = affine_warp(images, half_a_pixel, "constant", cval=0)
    assert filled.tolist() == [[[1, 2, 129, 255, 128]]]


def test_the_warp_leaves_its_input_alone_and_takes_any_memory_order():
    images = RNG.random((6, 8, 3, 10)).transpose(0, 2, 1, 3)[::-1]
    before, matrices = images.copy(), random_matrices(6)
    found = affine_warp(images, matrices)
    assert (images == before).all()
    np.testing.assert_array_equal(found, affine_warp(before, matrices))
    assert affine_warp(images[:0], matrices[:0]).shape == (0, 3, 8, 10)
    same = affine_warp(before, np.tile(np.eye(2, 3), (6, 1, 1)), "constant", 5.0)
    assert (same == before).all() and same is not before


@pytest.mark.parametrize(
    ("images", "matrices", "arguments", "error", "message"),
    [
        (np.zeros((2, 3, 3), int), np.zeros((2, 2, 3)), {}, TypeError, "uint8 or floats, .* int64"),
        (np.zeros((3, 3)), np.zeros((3, 2, 3)), {}, ValueError, r"\(N, H, W\) or .* \(3, 3\)"),
        (np.zeros((2, 3, 3)), np.zeros((1, 2, 3)), {}, ValueError, r"\(2, 2, 3\), received \(1"),
        (np.zeros((1, 3, 3)), np.full((1, 2, 3), np.nan), {}, ValueError, "finite matrix entries"),
        (np.zeros((1, 3, 3)), np.full((1, 2, 3), 1e9), {}, ValueError, "below 1e.09"),
        (
            np.zeros((1, 3, 3)),
            np.zeros((1, 2, 3)),
            {"fill_mode": "mirror"},
            ValueError,
            "one of nearest, constant, reflect, wrap, received 'mirror'",
        ),
        (
            np.zeros((1, 3, 3), np.uint8),
            np.zeros((1, 2, 3)),
            {"cval": 256},
            ValueError,
            "a value that uint8 pixels have, received 256",
        ),
    ],
)
def test_the_warp_explains_bad_input(images, matrices, arguments, error, message):
    with pytest.raises(error, match=message):
        affine_warp(images, matrices, **arguments)


def test_the_warp_works_without_numba():
    code = (
        "import sys; sys.modules['numba'] = None\n"
        "import numpy as np\n"
        "from tinygrad_cnn.data import affine_warp, warp\n"
        "assert warp.fastest() is warp.warp\n"
        "print(affine_warp(np.arange(3.0)[None, None], np.array([[[1, 0, 0], [0, 1, 1]]])))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("[[[1. 2. 2.]]]\n", 0), done.stderr


def test_the_same_images_whatever_backend_is_in_use(backend):
    loader = DataLoader(
        Subset(MNISTMini(), range(30)),
        7,
        shuffle=True,
        seed=2,
        transform=ImageAugmentation(**NOTES),
    )
    with tg.use_backend(backend):
        total = [x.numpy().astype(np.int64).sum() for x, _ in loader]
    found = ImageAugmentation(**NOTES)(MNISTMini().images[:30], Keys(2, 0, np.arange(30)).child(0))
    assert sum(total) == found.astype(np.int64).sum()


# ------------------------------------------------------------------------------------------------
# Matrices
# ------------------------------------------------------------------------------------------------
def composed(size, theta, tr, tc, shear, zr, zc, flip) -> np.ndarray:
    """The product of the matrices one by one, as Keras's apply_affine_transform forms it."""
    t, s = math.radians(theta), math.radians(shear)
    rotation = [[math.cos(t), -math.sin(t), 0], [math.sin(t), math.cos(t), 0], [0, 0, 1]]
    shift = [[1, 0, tr], [0, 1, tc], [0, 0, 1]]
    slant = [[1, -math.sin(s), 0], [0, math.cos(s), 0], [0, 0, 1]]
    zoom = [[zr, 0, 0], [0, zc, 0], [0, 0, 1]]
    mirror = [[1, 0, 0], [0, -1 if flip else 1, 0], [0, 0, 1]]
    y, x = (size[0] - 1) / 2, (size[1] - 1) / 2
    product = np.array([[1, 0, y], [0, 1, x], [0, 0, 1]], float)
    for matrix in (rotation, shift, slant, zoom, mirror, [[1, 0, -y], [0, 1, -x], [0, 0, 1]]):
        product = product @ np.array(matrix, float)
    return product[:2]


def arrays(*values: float) -> list[np.ndarray]:
    return [np.array([v]) for v in values]


ANGLE, PIXELS, ZOOM = st.floats(-180, 180), st.floats(-50, 50), st.floats(0.1, 3)


CHANGES = st.tuples(ANGLE, PIXELS, PIXELS, ANGLE, ZOOM, ZOOM, st.booleans())


@given(st.tuples(st.integers(1, 40), st.integers(1, 40)), CHANGES)
def test_S4_8_matrices_are_the_product_of_the_single_ones(size, changes):
    found = affine_matrices(size, *arrays(*changes))
    np.testing.assert_allclose(found[0], composed(size, *changes), rtol=0, atol=1e-10)


GRID = np.zeros((1, 5, 5))
GRID[0, 1, 3] = 1.0  # above and to the right of the middle


@pytest.mark.parametrize(
    ("changes", "row", "column"),
    [
        ((0, 0, 0, 0, 1, 1, False), 1, 3),
        ((90, 0, 0, 0, 1, 1, False), 3, 3),  # a quarter clockwise
        ((-90, 0, 0, 0, 1, 1, False), 1, 1),
        ((180, 0, 0, 0, 1, 1, False), 3, 1),
        ((0, 1, 0, 0, 1, 1, False), 0, 3),  # up
        ((0, 0, 2, 0, 1, 1, False), 1, 1),  # to the left
        ((0, 0, 0, 0, 1, 1, True), 1, 1),
        ((90, 0, 0, 0, 1, 1, True), 3, 1),  # turned first, then mirrored
        ((0, 0, 0, 0, 0.5, 1, False), 0, 3),  # twice as high
        ((0, 0, 0, 0, 1, 0.5, False), 1, 4),  # twice as wide
    ],
)
def test_S4_8_each_change_on_a_grid_image(changes, row, column):
    warped = affine_warp(GRID, affine_matrices((5, 5), *arrays(*changes)), "constant")[0]
    assert np.unravel_index(warped.argmax(), warped.shape) == (row, column)
    assert warped[row, column] == pytest.approx(1, abs=1e-12)


def test_S4_8_shear_slants_columns_counter_clockwise():
    upright = np.zeros((1, 9, 9))
    upright[0, 4] = 1.0  # a line across the middle: its right end rises, its left end falls
    matrices = affine_matrices((9, 9), *arrays(0, 0, 0, 45, 1, 1, False))
    warped = affine_warp(upright, matrices, "constant")[0]
    rows = (warped * np.arange(9)[:, None]).sum(0) / warped.sum(0)
    np.testing.assert_allclose(rows, 4 + math.sin(math.radians(45)) * (np.arange(9) - 4), atol=1e-9)


def test_S4_8_the_notes_settings_stay_in_their_ranges():
    augmentation = ImageAugmentation(**NOTES)
    matrices = augmentation.matrices((28, 20), keys(4000))
    linear = matrices[:, :, :2].copy()
    flips = np.linalg.det(linear) < 0
    assert 0.45 < flips.mean() < 0.55
    linear[flips, :, 1] *= -1
    angle = np.degrees(np.arctan2(linear[:, 1, 0], linear[:, 0, 0]))
    assert 19.9 < angle.max() <= 20 and -20 <= angle.min() < -19.9
    both = np.degrees(np.arctan2(-linear[:, 0, 1], linear[:, 1, 1]))
    assert 0.099 < np.abs(both - angle).max() <= 0.1 + 1e-12
    zooms = np.linalg.norm(linear, axis=1).T
    for zoom in zooms:
        assert 0.9 <= zoom.min() < 0.901 and 1.099 < zoom.max() <= 1.1 + 1e-12
    middle = np.array([27, 19]) / 2
    shift = matrices @ [*middle, 1] - middle
    turn = np.radians(angle)
    rows = np.cos(turn) * shift[:, 0] + np.sin(turn) * shift[:, 1]
    columns = np.cos(turn) * shift[:, 1] - np.sin(turn) * shift[:, 0]
    assert 2.79 < np.abs(rows).max() <= 2.8 + 1e-12  # a tenth of 28
    assert 1.99 < np.abs(columns).max() <= 2 + 1e-12
    drawn = np.array([flips, angle, both - angle, *zooms, rows, columns])
    assert np.abs(np.corrcoef(drawn) - np.eye(7)).max() < 0.06  # each drawn on its own


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (3, {-2.0, -1.0, 0.0, 1.0, 2.0}),  # Keras: an int is whole pixels between -3 and 3
        ([-2, 0, 2], {-2.0, 0.0, 2.0}),
        (0, {0.0}),
    ],
)
def test_whole_pixel_shifts(value, expected):
    shifts = ImageAugmentation(width_shift_range=value).matrices((28, 28), keys(500))
    assert set(np.round(shifts[:, 1, 2], 9)) == expected
    assert not shifts[:, 0, 2].any()


def test_two_pixels_and_fifteen_degrees():
    augmentation = ImageAugmentation(
        rotation_range=15, width_shift_range=2.0, height_shift_range=[-2, -1, 0, 1, 2]
    )
    matrices = ImageAugmentation(width_shift_range=2.0).matrices((28, 28), keys(3000))
    assert 1.99 < np.abs(matrices[:, 1, 2]).max() <= 2
    warped = augmentation(MNISTMini().images[:50])
    assert warped.shape == (50, 28, 28) and warped.dtype == np.uint8
    assert "rotation_range=15" in repr(augmentation)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rotation_range": -1}, "rotation_range: expected a number of at least 0"),
        ({"shear_range": math.inf}, "shear_range: expected a number"),
        ({"rotation_range": True}, "rotation_range: expected a number"),
        ({"width_shift_range": 1}, r"width_shift_range: an int s .* expected 1.0 .* \[-1, 0, 1\]"),
        ({"height_shift_range": []}, "height_shift_range: expected finite numbers of pixels"),
        ({"zoom_range": 1.0}, "zoom_range: expected a number from 0 to below 1, or"),
        ({"zoom_range": (1.2, 0.8)}, r"\(lowest, highest\) above 0, received \(1.2, 0.8\)"),
        ({"fill_mode": "mirror"}, "fill_mode: expected one of nearest"),
    ],
)
def test_the_augmentation_explains_bad_ranges(arguments, message):
    with pytest.raises(ValueError, match=message):
        ImageAugmentation(**arguments)


# ------------------------------------------------------------------------------------------------
# Crops, flips, enlarged data
# ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("lead", [(), (3,)])
def test_random_crops_are_parts_of_the_padded_image(lead):
    images = RNG.integers(1, 255, (60, *lead, 6, 9)).astype(np.uint8)
    crop = RandomCrop((4, 8), padding=1, fill=255)
    cut = crop(images, keys(60))
    assert cut.shape == (60, *lead, 4, 8) and cut.dtype == np.uint8
    around = np.pad(images, [(0, 0)] * (images.ndim - 2) + [(1, 1)] * 2, constant_values=255)
    places = set()
    for image, part in zip(around, cut, strict=True):
        fits = [
            (i, j)
            for i in range(5)
            for j in range(4)
            if (image[..., i : i + 4, j : j + 8] == part).all()
        ]
        assert len(fits) == 1
        places.update(fits)
    assert len(places) == 20 - 1 or len(places) == 20  # 60 draws of 20 places


def test_S2_26_variants_of_256_to_224():
    # The AlexNet paper counts 32 · 32 places and two mirror images: 2,048. There are 33 · 33.
    image = np.arange(256 * 256, dtype=np.float32).reshape(1, 256, 256)
    first, last = np.inf, 0.0
    for k in range(4):
        corner = RandomCrop(224)(np.repeat(image, 200, axis=0), Keys(0, k, np.arange(200)))[:, 0, 0]
        first, last = min(first, corner.min()), max(last, corner.max())
        rows, columns = np.divmod(corner, 256)
        assert rows.max() <= 32 and columns.max() <= 32
    assert first // 256 == 0 and last // 256 == 32
    assert 33 * 33 * 2 == 2178 and "2,178" in (RandomCrop.__doc__ or "")


def test_random_flip():
    images = RNG.random((400, 3, 2, 5))
    flipped = RandomHorizontalFlip(0.25)(images, keys(400))
    mirrored = (flipped == images[..., ::-1]).all((1, 2, 3))
    assert (flipped[~mirrored] == images[~mirrored]).all() and 0.18 < mirrored.mean() < 0.32
    assert (RandomHorizontalFlip(1.0)(images) == images[..., ::-1]).all()
    assert (RandomHorizontalFlip(0.0)(images) == images).all()


def test_S2_26_multi_crop():
    images = RNG.random((2, 3, 256, 256)).astype(np.float32)
    crops = multi_crop(images, 224)
    assert crops.shape == (10, 2, 3, 224, 224)
    corners = [(0, 0), (0, 32), (32, 0), (32, 32), (16, 16)]
    for k, (i, j) in enumerate(corners):
        part = images[..., i : i + 224, j : j + 224]
        assert (crops[k] == part).all() and (crops[k + 5] == part[..., ::-1]).all()
    assert (multi_crop(images, (224, 200), flip=False)).shape == (5, 2, 3, 224, 200)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: RandomCrop(8)(np.zeros((1, 6, 9))), r"at most \(6, 9\) as the images, .*\(8, 8\)"),
        (lambda: RandomCrop(0), "at least 1, received 0"),
        (lambda: RandomCrop(2, padding=-1), "padding of at least 0, received -1"),
        (lambda: RandomHorizontalFlip(1.5), "p from 0 to 1, received 1.5"),
        (lambda: multi_crop(np.zeros((1, 6, 9)), 7), r"at most \(6, 9\)"),
        (lambda: Enlarged(indexed(3), ToFloat(), -1), "copies of at least 0, received -1"),
    ],
)
def test_crops_and_flips_explain_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_S1_23_five_times_the_data():
    mini = MNISTMini()
    enlarged = Enlarged(mini, ImageAugmentation(rotation_range=15, width_shift_range=2.0), copies=4)
    assert len(enlarged) == 5 * len(mini)
    full = TensorDataset(np.zeros((60_000, 1, 1), np.uint8), np.zeros(60_000))
    assert len(Enlarged(full, ImageAugmentation())) == 300_000
    indices = np.array([3, 10_003, 20_003, 3 + 40_000, 9_999, 49_999])
    images, labels = enlarged.get_batch(indices)
    assert labels.tolist() == mini.labels[indices % 10_000].tolist()
    assert (images[0] == mini.images[3]).all()
    for a, b in itertools.combinations(images[:4], 2):
        assert (a != b).any()
    again = Enlarged(mini, enlarged.transform).get_batch(indices[::-1])[0]
    assert (again[::-1] == images).all()  # whatever the batch, in another object as well
    other = Enlarged(mini, enlarged.transform, seed=1).get_batch(indices)[0]
    assert (other[0] == images[0]).all() and (other[1:4] != images[1:4]).any((1, 2)).all()
    image, label = enlarged[-1]
    assert (image == images[-1]).all() and label == labels[-1]
    with pytest.raises(IndexError, match="50000 samples, received index 50000"):
        enlarged[50_000]


def test_enlarging_a_data_set_without_the_fast_path():
    plain = [(np.full((2, 3), i, np.uint8), i) for i in range(4)]
    images, labels = Enlarged(plain, RandomHorizontalFlip(), copies=1).get_batch(np.arange(8))
    assert labels.tolist() == [0, 1, 2, 3] * 2 and images.shape == (8, 2, 3)
    loader = DataLoader(
        Enlarged(plain, RandomHorizontalFlip()), 20, transform=Compose(ToFloat(), ExpandDims(1))
    )
    assert next(iter(loader))[0].shape == (20, 1, 2, 3)
