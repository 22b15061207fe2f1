"""Augmentation follows training.md: these fail for another probability, range or order."""

from __future__ import annotations

import collections

import cv2
import numpy as np
import pytest

from kdscfnet.data.augment import Augmentation, Draw, apply_to_image, apply_to_mask, draw
from kdscfnet.processing import MEAN, STD, prepare_image

HEIGHT, WIDTH, N = 200, 304, 20_000


@pytest.fixture(scope="module")
def draws():
    rng = np.random.default_rng(0)
    return [draw(rng, HEIGHT, WIDTH) for _ in range(N)]


def near(count, probability, n=N):
    """Within five standard deviations of the binomial."""
    return abs(count - n * probability) < 5 * np.sqrt(n * probability * (1 - probability))


def uniform(values, low, high):
    """Kolmogorov's distance to the uniform distribution on [low, high), at a level of about 1e-6."""
    values = np.sort(values)
    ideal = (values - low) / (high - low)
    distance = np.abs(ideal - (np.arange(len(values)) + 0.5) / len(values)).max()
    return values[0] >= low and values[-1] < high and distance < 2.7 / np.sqrt(len(values))


def test_blur(draws):
    kernels = collections.Counter(d.blur_kernel for d in draws)
    blurred = N - kernels.pop(0)
    assert near(blurred, 1 / 10)
    # 3…9, even numbers go up by one: 3; 4, 5; 6, 7; 8, 9
    assert set(kernels) == {3, 5, 7, 9}
    for kernel, share in ((3, 1 / 7), (5, 2 / 7), (7, 2 / 7), (9, 2 / 7)):
        assert near(kernels[kernel], share, blurred), kernel


def test_brightness_and_contrast(draws):
    assert uniform([d.contrast for d in draws], 0.5, 1.5)
    counts = collections.Counter(d.brightness for d in draws)
    assert set(counts) == set(range(-15, 15))
    assert all(near(count, 1 / 30) for count in counts.values())


def test_crop_removes_up_to_an_eighth_at_a_random_place(draws):
    for side, length, start in ((HEIGHT, "height", "top"), (WIDTH, "width", "left")):
        removed = collections.Counter(side - getattr(d, length) for d in draws)
        assert set(removed) == set(range(side // 8))
        assert all(near(count, 1 / (side // 8)) for count in removed.values())
        for cut in (1, side // 8 - 1):
            starts = collections.Counter(getattr(d, start) for d in draws if side - getattr(d, length) == cut)
            total = sum(starts.values())
            assert set(starts) == set(range(cut + 1))
            assert all(near(count, 1 / (cut + 1), total) for count in starts.values())


def test_flips(draws):
    both = collections.Counter((d.flip_horizontal, d.flip_vertical) for d in draws)
    for (horizontal, vertical), count in both.items():
        assert near(count, 0.5 * (0.2 if vertical else 0.8)), (horizontal, vertical)


def test_tiny_images_are_not_cropped_away():
    rng = np.random.default_rng(0)
    for height, width in ((1, 1), (7, 9), (8, 8)):
        drawn = [draw(rng, height, width) for _ in range(50)]
        assert all(d.height == height for d in drawn) and all(d.width == width for d in drawn)


def reference(image, mask, drawn, size):
    """The authors' order of operations, one after the other, in float64."""
    if drawn.blur_kernel:
        image = cv2.GaussianBlur(image, (drawn.blur_kernel, drawn.blur_kernel), 0)
    image = np.clip(drawn.contrast * image.astype(np.float64) + drawn.brightness, 0, 255)
    image = (image - MEAN) / STD
    mask = mask.astype(np.float64)
    mask = (mask.mean(axis=2) if mask.ndim == 3 else mask) / 255
    rows, columns = slice(drawn.top, drawn.top + drawn.height), slice(drawn.left, drawn.left + drawn.width)
    image, mask = image[rows, columns], mask[rows, columns]
    if drawn.flip_horizontal:
        image, mask = image[:, ::-1], mask[:, ::-1]
    if drawn.flip_vertical:
        image, mask = image[::-1], mask[::-1]
    size = (size[1], size[0])
    return cv2.resize(image, size, interpolation=cv2.INTER_LINEAR), cv2.resize(
        mask, size, interpolation=cv2.INTER_LINEAR
    )


@pytest.mark.parametrize("coloured", [False, True])
def test_one_pass_equals_the_steps_one_after_the_other(coloured):
    rng = np.random.default_rng(3)
    image = cv2.resize(rng.integers(0, 256, (13, 17, 3), dtype=np.uint8), (90, 66), interpolation=cv2.INTER_CUBIC)
    mask = rng.integers(0, 256, (66, 90, 3) if coloured else (66, 90), dtype=np.uint8)
    seen = set()
    for _ in range(120):
        drawn = draw(rng, 66, 90, Augmentation(blur_probability=0.5))
        seen.add((bool(drawn.blur_kernel), drawn.flip_horizontal, drawn.flip_vertical))
        for size in ((96, 96), (64, 32)):
            expected_image, expected_mask = reference(image, mask, drawn, size)
            ours = apply_to_image(image, drawn, size)
            target = apply_to_mask(mask, drawn, size, image.shape[:2])
            assert ours.dtype == target.dtype == np.float32
            assert ours.shape == (3,) + size and target.shape == (1,) + size
            assert np.abs(ours.transpose(1, 2, 0) - expected_image).max() < 1e-4
            assert np.abs(target[0] - expected_mask).max() < 1e-5
    assert len(seen) == 8


def test_image_and_mask_move_together():
    """The mask is the image's red channel: after any augmentation that only moves pixels they still agree."""
    rng = np.random.default_rng(5)
    image = cv2.GaussianBlur(rng.integers(0, 256, (80, 120, 3), dtype=np.uint8), (9, 9), 0)
    for _ in range(50):
        d = draw(rng, 80, 120)
        drawn = Draw(0, 1.0, 0, d.top, d.left, d.height, d.width, d.flip_horizontal, d.flip_vertical)
        red = apply_to_image(image, drawn, (64, 64))[0] * STD[0] + MEAN[0]
        mask = apply_to_mask(np.ascontiguousarray(image[..., 0]), drawn, (64, 64), (80, 120))[0] * 255
        assert np.abs(red - mask).max() < 1e-2


def test_smaller_teacher_map_is_cropped_with_the_image():
    """A smooth map at half size must come out as the full-size one does, to within its smoothness."""
    rng = np.random.default_rng(6)
    y, x = np.mgrid[0:160, 0:240]
    full = (127.5 + 127 * np.sin(x / 23.0) * np.cos(y / 19.0)).astype(np.uint8)
    half = cv2.resize(full, (120, 80), interpolation=cv2.INTER_AREA)
    for _ in range(50):
        drawn = draw(rng, 160, 240)
        big = apply_to_mask(full, drawn, (96, 96), (160, 240))
        small = apply_to_mask(half, drawn, (96, 96), (160, 240))
        assert np.abs(big - small).max() < 0.06 and np.abs(big - small).mean() < 0.01


def test_prepare_image_equals_the_recorded(shared, golden):
    from kdscfnet.images import read_image, read_mask, rounded_mean

    recorded = np.load(golden / "preprocess.npz")
    for name in ("0001", "0050", "0100"):
        image = read_image(shared / "data" / "ECSSD" / "image" / (name + ".jpg"))
        prepared = prepare_image(image, 352)
        mean, std, mask, height, width = recorded[name + "|stats"]
        assert np.abs(prepared[:, ::16, ::16] - recorded[name + "|image"]).max() <= 1e-4
        assert abs(prepared.mean() - mean) <= 1e-4 and abs(prepared.std() - std) <= 1e-4
        assert image.shape[:2] == (height, width)
        levels = rounded_mean(read_mask(shared / "data" / "ECSSD" / "mask" / (name + ".png")))
        assert abs(levels.mean() / 255 - mask) <= 1e-4


def no_augmentation(height, width):
    """The Draw that changes nothing."""
    return Draw(0, 1.0, 0, 0, 0, height, width, False, False)


def test_no_augmentation_is_test_time_preparation():
    image = np.random.default_rng(1).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    assert (
        np.abs(apply_to_image(image, no_augmentation(40, 60), (64, 96)) - prepare_image(image, (64, 96))).max() < 1e-5
    )
    normalized = (image.astype(np.float32) - MEAN) / STD
    assert np.abs(prepare_image(image, (40, 60)).transpose(1, 2, 0) - normalized).max() < 1e-5
