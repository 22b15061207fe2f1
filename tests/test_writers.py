"""What is made of a map."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from predicting import picture

from kdscfnet.errors import BadImageError, UserError
from kdscfnet.inference import outputs


@pytest.fixture
def image():
    return picture(60, 80)


@pytest.fixture
def saliency():
    """A bright disc, half salient at its edge."""
    y, x = np.mgrid[:60, :80]
    return np.clip(255 * (1.5 - np.hypot(y - 30, x - 40) / 15), 0, 255).astype(np.uint8)


def test_masks(saliency):
    for threshold in (0.0, 0.25, 0.5, 1.0):
        np.testing.assert_array_equal(
            outputs.make_mask(saliency, threshold), np.where(saliency >= threshold * 255, 255, 0)
        )
    adaptive = outputs.make_mask(saliency, "adaptive")
    np.testing.assert_array_equal(adaptive, np.where(saliency >= min(2 * saliency.mean(), 255), 255, 0))
    assert (
        outputs.make_mask(np.full((3, 3), 200, np.uint8), "adaptive").max() == 0
    )  # twice the mean is above every level
    assert outputs.make_mask(saliency).dtype == np.uint8


def test_thresholds():
    assert outputs.parse_threshold("0.25") == 0.25 and outputs.parse_threshold("adaptive") == "adaptive"
    for text in ("1.5", "-0.1", "half", "nan"):
        with pytest.raises(UserError, match="from 0 to 1, or adaptive"):
            outputs.parse_threshold(text)


def test_a_cutout_is_the_image_with_the_map_as_its_opacity(image, saliency):
    decoded = cv2.imdecode(
        np.frombuffer(outputs.encode(outputs.make_cutout(image, saliency), ".png"), np.uint8), cv2.IMREAD_UNCHANGED
    )
    np.testing.assert_array_equal(decoded[..., 2::-1], image)
    np.testing.assert_array_equal(decoded[..., 3], saliency)


def test_an_overlay_changes_what_is_salient_alone(image, saliency):
    overlay = outputs.make_overlay(image, saliency)
    outside = cv2.dilate((saliency > 0).astype(np.uint8), np.ones((5, 5))) == 0
    np.testing.assert_array_equal(overlay[outside], image[outside])
    inside = cv2.erode((saliency == 255).astype(np.uint8), np.ones((5, 5))) == 1
    assert np.abs(overlay[inside].astype(int) - image[inside]).mean() > 20
    assert (outputs.make_overlay(image, np.zeros_like(saliency)) == image).all()


def test_a_grid_has_four_pictures(image, saliency):
    grid = outputs.make_grid(image, saliency)
    assert grid.shape == (60, 4 * 80 + 3 * 6, 3)
    np.testing.assert_array_equal(grid[:, :80], image)
    np.testing.assert_array_equal(grid[:, 86:166, 0], saliency)
    wide = outputs.make_grid(picture(20, 200), np.zeros((20, 200), np.uint8))
    assert wide.shape == (4 * 20 + 3 * 6, 200, 3)
    assert outputs.make_grid(picture(1, 1), np.zeros((1, 1), np.uint8)).shape == (1, 22, 3)


def test_files_are_written_whole(tmp_path, image, saliency):
    paths = {kind: str(tmp_path / kind / ("a" + suffix)) for kind, suffix in outputs.SUFFIXES.items()}
    outputs.write(paths, image, saliency)
    np.testing.assert_array_equal(cv2.imread(paths["map"], cv2.IMREAD_UNCHANGED), saliency)
    np.testing.assert_array_equal(cv2.imread(paths["mask"], cv2.IMREAD_UNCHANGED), outputs.make_mask(saliency))
    assert cv2.imread(paths["overlay"]).shape == image.shape
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".")]


def test_what_a_jpeg_cannot_hold_is_told():
    with pytest.raises(BadImageError, match="more than a JPEG"):
        outputs.encode(np.zeros((2, 65501, 3), np.uint8), ".jpg")
