"""Edges that follow the photograph, colours without the old background, and what goes behind."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from predicting import picture

from kdscfnet.inference import matting
from kdscfnet.inference.outputs import Settings, make_cutout

RED, GREEN = np.array([200.0, 30, 20]), np.array([20.0, 180, 40])


def scene(height=240, width=320, soft=0.0):
    """(image, opacity 0 to 1): a red disc before green, both with grain; `soft` blurs the disc's edge."""
    y, x = np.mgrid[:height, :width]
    opacity = (np.hypot(y - height / 2, x - width / 2) < height / 4).astype(np.float32)
    if soft:
        opacity = cv2.GaussianBlur(opacity, (0, 0), soft)
    grain = np.random.RandomState(0).normal(0, 4, (height, width, 3))
    image = opacity[..., None] * RED + (1 - opacity[..., None]) * GREEN + grain
    return np.clip(np.rint(image), 0, 255).astype(np.uint8), opacity


def levels(opacity):
    return np.rint(opacity * 255).astype(np.uint8)


@pytest.mark.parametrize("height, width", [(240, 320), (1500, 2000)])
def test_refined_edges_are_those_of_the_photograph(height, width):
    image, truth = scene(height, width)
    saliency = levels(cv2.GaussianBlur(truth, (0, 0), height / 60))
    before, after = (np.abs(one / 255 - truth).mean() for one in (saliency, matting.refine(image, saliency)))
    assert after < before / 3


@pytest.mark.parametrize("level", [0, 255])
def test_refining_leaves_what_is_sure(level):
    saliency = np.full((60, 80), level, np.uint8)
    for image in (picture(60, 80), np.zeros((60, 80, 3), np.uint8)):
        np.testing.assert_array_equal(matting.refine(image, saliency), saliency)


def test_colours_of_soft_edges_are_the_foregrounds():
    image, opacity = scene(soft=4)
    colours = matting.foreground_colours(image, levels(opacity)).astype(int)
    edge = (opacity > 0.2) & (opacity < 0.8)
    assert np.abs(image[edge] - RED).mean() > 40  # green shines through
    assert np.abs(colours[edge] - RED).mean() < 10
    np.testing.assert_array_equal(colours[levels(opacity) == 255], image[levels(opacity) == 255])
    assert colours[0, 0].tolist() == [0, 0, 0]


def test_nothing_green_stays_before_another_background():
    image, opacity = scene(soft=4)
    made = make_cutout(image, levels(opacity), Settings(background=(255, 255, 255)))
    naive = image * opacity[..., None] + 255 * (1 - opacity[..., None])
    ideal = RED * opacity[..., None] + 255 * (1 - opacity[..., None])
    edge = (opacity > 0.1) & (opacity < 0.9)
    assert np.abs(made - ideal)[edge].mean() < np.abs(naive - ideal)[edge].mean() / 3
    np.testing.assert_array_equal(made[opacity == 0], 255)


def test_bands_join(monkeypatch):
    image, opacity = scene(soft=6)
    whole = matting.foreground_colours(image, levels(opacity))
    monkeypatch.setattr(matting, "_ROWS", 17)
    assert np.abs(matting.foreground_colours(image, levels(opacity)).astype(int) - whole).max() <= 1


def test_a_blurred_background_holds_nothing_of_what_stands_out():
    image, opacity = scene(soft=2)
    behind = matting.blurred_background(image, levels(opacity))
    assert behind.shape == image.shape and np.abs(behind - GREEN).max() < 20  # of 180, which a mere blur reaches
    assert np.abs(cv2.GaussianBlur(image, (0, 0), 320 / 50) - GREEN).max() > 150
    stripes = np.zeros((240, 320, 3), np.uint8)
    stripes[:, ::2] = 200
    assert np.ptp(matting.blurred_background(stripes, np.zeros((240, 320), np.uint8))) < 12  # out of focus
    everything = matting.blurred_background(image, np.full((240, 320), 255, np.uint8))
    assert everything.std() > 1  # the photograph itself, where nothing else is there


@pytest.mark.parametrize("height, width", [(30, 40), (10, 90), (90, 10), (200, 200), (1, 1)])
def test_a_picture_covers_the_middle(height, width):
    quarters = np.zeros((60, 60, 3), np.uint8)
    quarters[:30, :, 0] = 200
    quarters[:, :30, 1] = 200
    made = matting.cover(quarters, width, height)
    assert made.shape == (height, width, 3)
    if min(height, width) >= 10:  # each quarter is in its corner still
        corners = [made[y, x] // 100 for y in (0, -1) for x in (0, -1)]
        assert [tuple(corner) for corner in corners] == [(2, 2, 0), (2, 0, 0), (0, 2, 0), (0, 0, 0)]


@pytest.mark.parametrize("height, width", [(1, 1), (1, 50), (3, 2), (2, 700), (1300, 1)])
def test_any_size_will_do(height, width):
    image, saliency = picture(height, width), picture(height, width, 1)[..., 0].copy()
    assert matting.refine(image, saliency).shape == (height, width)
    for function in (matting.foreground_colours, matting.blurred_background):
        assert function(image, saliency).shape == (height, width, 3)
        assert function(image, saliency).dtype == np.uint8
