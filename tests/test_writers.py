"""What is made of a map."""

from __future__ import annotations

import json

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


def two_discs():
    """A map of 100×200: discs of radius 20 and 10, and a speck."""
    y, x = np.mgrid[:100, :200]
    saliency = np.where(np.hypot(y - 50, x - 50) <= 20, 230, 0) + np.where(np.hypot(y - 40, x - 150) <= 10, 180, 0)
    saliency[90, 5:9] = 255
    return saliency.astype(np.uint8)


def test_boxes_are_of_the_regions_that_stand_out():
    found = outputs.make_boxes(two_discs())
    assert [one["bbox"] for one in found["objects"]] == [[30, 30, 41, 41], [140, 30, 21, 21]]
    assert (found["width"], found["height"], found["threshold"]) == (200, 100, 0.5)
    assert found["bbox"] == [30, 30, 131, 41]
    assert [one["saliency"] for one in found["objects"]] == [round(230 / 255, 4), round(180 / 255, 4)]
    pixels = [(two_discs() == level).sum() for level in (230, 180)]
    assert [one["share"] for one in found["objects"]] == [round(number / 20000, 6) for number in pixels]
    assert found["share"] == pytest.approx(sum(pixels) / 20000)
    assert [one["bbox"] for one in outputs.make_boxes(two_discs(), 0.8)["objects"]] == [[30, 30, 41, 41]]
    nothing = outputs.make_boxes(np.zeros((10, 10), np.uint8))
    assert nothing["bbox"] is None and nothing["objects"] == [] and nothing["share"] == 0
    assert json.loads(outputs.encode(found, ".json").decode()) == found


def test_a_crop_is_the_box_and_a_margin():
    image = picture(100, 200)
    made = outputs.make_cutout(image, two_discs(), outputs.Settings(crop=True))
    rows, columns = slice(23, 78), slice(23, 168)  # a twentieth of 131 more on each side
    np.testing.assert_array_equal(made, np.dstack([image, two_discs()])[rows, columns])
    at_the_edge = np.zeros((100, 200), np.uint8)
    at_the_edge[60:, :150] = 255
    assert outputs.make_cutout(image, at_the_edge, outputs.Settings(crop=True)).shape == (48, 158, 4)
    empty = np.zeros((100, 200), np.uint8)
    results = outputs.render(["cutout"], image, empty, outputs.Settings(crop=True))
    assert results["cutout"].shape == (100, 200, 4)
    assert outputs.note_on(results, empty, outputs.Settings(crop=True)) == outputs.NOT_CROPPED
    assert outputs.note_on(results, empty, outputs.USUAL) is None


def test_a_picture_behind_fills_the_crop():
    image, behind = picture(100, 200), np.zeros((50, 50, 3), np.uint8)
    behind[:, :25] = 255
    made = outputs.make_cutout(image, two_discs(), outputs.Settings(background=behind, crop=True))
    assert made.shape == (55, 145, 3) and made[0, 0].tolist() == [255] * 3 and made[0, -1].tolist() == [0] * 3


@pytest.mark.parametrize("text, colour", [("white", (255, 255, 255)), ("#0a1B2c", (10, 27, 44)), ("#fff", (255,) * 3)])
def test_a_colour_behind(image, saliency, text, colour):
    assert outputs.parse_background(text) == colour
    made = outputs.make_cutout(image, saliency, outputs.Settings(background=colour))
    assert made.shape == (60, 80, 3) and made[0, 0].tolist() == list(colour)
    np.testing.assert_array_equal(made[saliency == 255], image[saliency == 255])


def test_what_is_no_background():
    for text in ("whit", "#12", "#11223344", "", "nowhere.png"):
        with pytest.raises(UserError, match="no colour .* not blur, and no file"):
            outputs.parse_background(text)
    with pytest.raises(BadImageError, match="download it first"):
        outputs.parse_background("https://example.com/a.jpg")


def test_results_depend_on_what_changes_them_alone():
    usual, behind = outputs.USUAL, picture(4, 4)
    assert {kind: usual.of(kind) for kind in outputs.KINDS} == dict(
        dict.fromkeys(outputs.KINDS, {}), mask={"threshold": 0.5}, box={"threshold": 0.5}
    )
    changed = [
        outputs.Settings(background="blur"),
        outputs.Settings(background=(1, 2, 3)),
        outputs.Settings(background=behind),
        outputs.Settings(background=behind + 1),
        outputs.Settings(crop=True),
        outputs.Settings(crop=True, threshold=0.6),
    ]
    assert len({json.dumps(one.of("cutout")) for one in [usual, *changed]}) == 7
    assert all(one.of(kind) == usual.of(kind) for one in changed[:5] for kind in outputs.KINDS if kind != "cutout")
    assert all(outputs.Settings(refine=True).of(kind)["refine"] for kind in outputs.KINDS)


def test_refining_is_for_every_kind(image, saliency):
    soft = cv2.GaussianBlur(saliency, (0, 0), 4)
    made = outputs.render(["map", "mask", "cutout"], image, soft, outputs.Settings(refine=True))
    refined = outputs.matting.refine(image, soft)
    assert (refined != soft).any()
    np.testing.assert_array_equal(made["map"], refined)
    np.testing.assert_array_equal(made["mask"], outputs.make_mask(refined))
    np.testing.assert_array_equal(made["cutout"][..., 3], refined)
