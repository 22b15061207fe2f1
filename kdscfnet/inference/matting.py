"""From a saliency map to a picture: edges that follow the photograph's, foreground colours, and what goes behind.

Everything here is OpenCV and numpy: closed-form matting (pymatting) brings 300 MB of packages. Work on the whole
photograph goes channel by channel or in bands of rows; the rest is done at a size of WORK.
"""

from __future__ import annotations

import cv2
import numpy as np

WORK = 1024  # pixels of the longer side at which the filter's coefficients and far colours are computed
_RADIUS = 1 / 64  # of the guided filter, in longer sides: some six pixels of the network's map
_VARIANCE = 1e-4  # of the photograph's levels (0 to 1): weaker edges are smoothed over
_UNSURE = 0.2  # levels below it are background, above 1 − it foreground, before and after the filter
_NEAR = 6  # pixels over which foreground and background colours are compared last (Forte & Pitié)
_FAR = 90  # and first
_ROWS = 256
_BLUR = 1 / 50  # standard deviation of the blurred background, in longer sides
_SURE = 4  # power of the opacity by which colours are weighted: the paper's 1 leaves three times as much of the fringe
_TINY = 1e-6


def refine(image, saliency):
    """A saliency map whose edges follow those of the photograph: uint8 H×W.

    Args:
        image: uint8 H×W×3 RGB.
        saliency: uint8 H×W, soft at its edges, as the network makes it.

    The fast guided filter with a colour guide (He, Sun & Tang, 2013; He & Sun, 2015), between two steeper ramps.
    """
    height, width = saliency.shape
    guide, soft = _small(image).astype(np.float32) / 255, _steeper(_small(saliency).astype(np.float32) / 255)
    radius = max(2, int(round(max(soft.shape) * _RADIUS)))

    def mean(array):
        return cv2.blur(array, (2 * radius + 1,) * 2, borderType=cv2.BORDER_REFLECT)

    guide_mean, soft_mean = mean(guide), mean(soft)
    covariance = mean(guide * soft[..., None]) - guide_mean * soft_mean[..., None]
    variance = (mean(_squares(guide)) - _squares(guide_mean)).reshape(*soft.shape, 3, 3)
    variance += np.float32(_VARIANCE) * np.eye(3, dtype=np.float32)
    slope = np.linalg.solve(variance, covariance[..., None])[..., 0]
    offset = mean(soft_mean - (slope * guide_mean).sum(axis=2))
    slope = mean(slope)
    refined = _large(offset, (width, height))
    for channel in range(3):
        part = _large(np.ascontiguousarray(slope[..., channel]), (width, height))
        part *= image[..., channel]
        part *= np.float32(1 / 255)
        refined += part
    refined = _steeper(refined)
    refined *= np.float32(255)
    return np.rint(refined, out=refined).astype(np.uint8)


def _squares(colours):
    """The products of all pairs of channels: H×W×3 → H×W×9."""
    return (colours[..., :, None] * colours[..., None, :]).reshape(*colours.shape[:2], 9)


def _steeper(soft):
    """float32 in place: the ramp from _UNSURE to 1 − _UNSURE, stretched to 0 to 1."""
    soft -= np.float32(_UNSURE)
    soft *= np.float32(1 / (1 - 2 * _UNSURE))
    return np.clip(soft, 0, 1, out=soft)


def foreground_colours(image, opacity):
    """The colours of what stands out, without those behind it that shine through its edges: uint8 H×W×3.

    Args:
        image: uint8 H×W×3 RGB, taken for opacity · foreground + (1 − opacity) · background.
        opacity: uint8 H×W.

    Where the opacity is 255 they are the image's; far from everything that stands out they are black. Blur-fusion
    foreground estimation, twice (Forte & Pitié, 2021), the first time at a size of WORK.
    """
    height, width = opacity.shape
    small, alpha = _small(image).astype(np.float32), _small(opacity).astype(np.float32) / 255
    window = max(3, int(round(max(alpha.shape) * _FAR / WORK)))
    far = _fuse(small, small, small, alpha, window)
    fore, back = (_large(np.rint(part).astype(np.uint8), (width, height)) for part in far)
    result = np.zeros_like(image)
    for start in range(0, height, _ROWS):
        rows = slice(start, start + _ROWS)
        if not opacity[rows].any():
            continue
        first = max(0, start - _NEAR)
        around = slice(first, start + _ROWS + _NEAR)
        alpha = opacity[around].astype(np.float32) / 255
        band, _ = _fuse(*(array[around].astype(np.float32) for array in (image, fore, back)), alpha, _NEAR)
        result[rows] = np.rint(band)[start - first : start - first + _ROWS].astype(np.uint8)
    return result


def _fuse(image, fore, back, alpha, window):
    """One pass: (foreground, background), float32 H×W×3, 0 to 255, of estimates of both."""

    def mean_of(colours, weight):
        weight = weight[..., None] ** _SURE
        return cv2.blur(colours * weight, (window,) * 2) / (cv2.blur(weight, (window,) * 2)[..., None] + _TINY)

    fore, back = mean_of(fore, alpha), mean_of(back, 1 - alpha)
    alpha = alpha[..., None]
    fore += alpha * (image - alpha * fore - (1 - alpha) * back)
    return np.clip(fore, 0, 255, out=fore), np.clip(back, 0, 255, out=back)


def blurred_background(image, opacity):
    """What is behind, out of focus: uint8 H×W×3. What stands out takes no part, so its colours leave no halo.

    Args:
        image: uint8 H×W×3 RGB.
        opacity: uint8 H×W.
    """
    height, width = opacity.shape
    picture = _small(image, WORK // 2).astype(np.float32)
    weight = np.clip(1 - _small(opacity, WORK // 2).astype(np.float32) / 127, 0, 1)[..., None]
    if not weight.any():
        weight[:] = 1
    result = (picture * weight).sum((0, 1)) / weight.sum()
    for scale in (8, 1):  # wide first: it fills what is hidden
        sigma = max(weight.shape) * _BLUR * scale
        share = cv2.GaussianBlur(weight, (0, 0), sigma)[..., None]
        result = (cv2.GaussianBlur(picture * weight, (0, 0), sigma) + 0.01 * result) / (share + 0.01)
    return _large(np.rint(np.clip(result, 0, 255)).astype(np.uint8), (width, height))


def cover(picture, width, height):
    """The middle of a picture, in the size asked for: uint8 height×width×3."""
    there = picture.shape[1], picture.shape[0]
    scale = max(width / there[0], height / there[1])
    kept = [min(have, max(1, int(round(want / scale)))) for have, want in zip(there, (width, height))]
    left, top = ((have - keep) // 2 for have, keep in zip(there, kept))
    part = picture[top : top + kept[1], left : left + kept[0]]
    return cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)


def _small(array, side=WORK):
    scale = min(1, side / max(array.shape[:2]))
    size = tuple(max(1, int(round(length * scale))) for length in array.shape[1::-1])
    return cv2.resize(array, size, interpolation=cv2.INTER_AREA)


def _large(array, size):
    return cv2.resize(array, size, interpolation=cv2.INTER_LINEAR)
