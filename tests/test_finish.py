"""From logits to an 8-bit map: sigmoid, bilinear resize with align_corners=True, × 255, rounded."""

from __future__ import annotations

import numpy as np
import pytest

from kdscfnet.processing import sigmoid, to_map


def reference(logits, height, width):
    """The same in float64, point by point."""
    saliency = 1 / (1 + np.exp(-logits.astype(np.float64)))

    def positions(source, target):
        x = np.arange(target) * (source - 1) / (target - 1) if target > 1 else np.zeros(1)
        low = np.minimum(np.floor(x).astype(int), source - 1)
        return low, np.minimum(low + 1, source - 1), x - low

    top, bottom, v = positions(saliency.shape[0], height)
    left, right, u = positions(saliency.shape[1], width)
    rows = saliency[top] * (1 - v)[:, None] + saliency[bottom] * v[:, None]
    return (rows[:, left] * (1 - u) + rows[:, right] * u) * 255


SIZES = [(1, 1), (1, 7), (7, 1), (3, 2000), (2, 2), (352, 352), (353, 351), (300, 400), (1200, 50), (40, 1500)]


@pytest.mark.parametrize("height, width", SIZES)
@pytest.mark.parametrize("source", [(352, 352), (5, 9), (1, 1), (2, 1)])
def test_a_map_is_the_exact_one_rounded(height, width, source):
    logits = (np.random.RandomState(height).standard_normal(source) * 6).astype(np.float32)
    exact = reference(logits, height, width)
    made = to_map(logits, height, width)
    assert made.shape == (height, width) and made.dtype == np.uint8
    # half a level of rounding, and what float32 adds
    assert np.abs(made - exact).max() <= 0.5 + 1e-3


def test_it_equals_paddle():
    import cv2
    import paddle
    import paddle.nn.functional as F

    logits = (np.random.RandomState(0).standard_normal((352, 352)) * 6).astype(np.float32)
    for size in [(300, 400), (1, 5), (700, 31)]:
        resized = F.interpolate(
            F.sigmoid(paddle.to_tensor(logits[None, None])), size=size, mode="bilinear", align_corners=True
        )
        floats = resized.numpy()[0, 0] * 255
        written = cv2.imdecode(
            cv2.imencode(".png", floats)[1], cv2.IMREAD_UNCHANGED
        )  # OpenCV rounds, as for the authors
        assert np.abs(to_map(logits, *size).astype(int) - written).max() <= 1
        assert (to_map(logits, *size) != written).mean() < 1e-3


def test_the_sigmoid_does_not_overflow():
    with np.errstate(all="raise", under="ignore"):
        made = sigmoid(np.array([-1e30, -90, 0, 90, 1e30], np.float32))
    np.testing.assert_allclose(made, [0, 0, 0.5, 1, 1], atol=1e-7)


def test_corners_keep_their_values():
    logits = (np.random.RandomState(1).standard_normal((20, 30)) * 3).astype(np.float32)
    made = to_map(logits, 77, 55)
    expected = np.rint(sigmoid(logits) * 255)
    assert made[0, 0] == expected[0, 0] and made[-1, -1] == expected[-1, -1]
    assert made[0, -1] == expected[0, -1] and made[-1, 0] == expected[-1, 0]


def test_a_large_map_is_made_in_parts_that_join():
    logits = (np.random.RandomState(2).standard_normal((16, 16)) * 4).astype(np.float32)
    assert np.abs(to_map(logits, 1500, 1100) - reference(logits, 1500, 1100)).max() <= 0.5 + 1e-3
