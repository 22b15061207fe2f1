"""The measures of one saliency map against one mask, exactly and fast.

All of them but the weighted F-measure depend only on how often each grey level falls on foreground and on background in
the four quadrants around the foreground's centre. `count_levels` counts that once, in integers; the rest are sums over
256 levels. The numbers are those of pysodmetrics 1.4.2, edge cases included (tests/test_measures.py compares to 1e-9),
and the MAE is the authors'.

Words used here:
    levels      uint8 H×W, the saliency map as it is stored
    foreground  bool or uint8 0/1 H×W, the mask after its cut
    saliency    float64 [256], what each level becomes when the map is stretched to [0, 1]
    counts      int64 4×2×256: pixels by quadrant, background or foreground, level
"""

from __future__ import annotations

import cv2
import numpy as np
from scipy.ndimage import distance_transform_edt

from kdscfnet.threads import Scratch

EPS = np.spacing(1)  # as in pysodmetrics and the authors' MATLAB sources
BETA_SQUARED = 0.3  # of the F-measure; the weighted F-measure has 1
_EXACT = 1 << 24  # OpenCV hands counts out as float32, which holds integers up to here
_LEVELS = np.arange(256) / 255


def stretched(lowest, highest):
    """float64 [256]: each grey level divided by 255, then stretched so that `lowest` becomes 0 and `highest` 1.

    A constant map cannot be stretched: its value stays level / 255, as in pysodmetrics.
    """
    low, high = _LEVELS[lowest], _LEVELS[highest]
    return (_LEVELS - low) / (high - low) if highest > lowest else _LEVELS


def histogram(levels, mask=None):
    """int64 [256]: the pixels of uint8 H×W `levels` by level, where uint8 H×W `mask` is not 0."""
    rows = max(1, _EXACT // max(1, levels.shape[1]))
    counts = np.zeros(256, np.int64)
    for top in range(0, levels.shape[0], rows):
        part = None if mask is None else mask[top : top + rows]
        counts += cv2.calcHist([levels[top : top + rows]], [0], part, [256], [0, 256]).ravel().astype(np.int64)
    return counts


def centre_of(foreground):
    """(row, column) just behind the foreground's centre of mass; the whole height and width for a mask of one value."""
    moments = cv2.moments(foreground.view(np.uint8), binaryImage=True)
    area = moments["m00"]
    if area in (0, foreground.size):
        return foreground.shape
    return int(np.round(moments["m01"] / area)) + 1, int(np.round(moments["m10"] / area)) + 1


def count_levels(levels, foreground, centre=None):
    """int64 4×2×256: pixels by quadrant (left top, right top, left bottom, right bottom), background/foreground, level.

    The quadrants meet at `centre`; without one all pixels are in the first.
    """
    foreground = foreground.view(np.uint8)
    counts = np.zeros((4, 2, 256), np.int64)
    for quadrant, (rows, columns) in enumerate(_spans(*centre or foreground.shape)):
        part = levels[rows, columns]
        if part.size:
            counts[quadrant, 1] = histogram(part, foreground[rows, columns])
            counts[quadrant, 0] = histogram(part) - counts[quadrant, 1]
    return counts


def _spans(row, column):
    top, bottom, left, right = slice(0, row), slice(row, None), slice(0, column), slice(column, None)
    return (top, left), (top, right), (bottom, left), (bottom, right)


def mean_absolute_error(counts, saliency):
    """mean |map − mask| over the pixels. `counts`: int64 2×256. `saliency`: float64 [256]."""
    return float((counts[0] @ saliency + counts[1] @ (1 - saliency)) / counts.sum())


def _chosen(counts, saliency):
    """Pixels at or above each of the 256 thresholds, 255 first, and at the adaptive one (twice the mean).

    The adaptive threshold is 1 at most. counts: int64 2×256. Returns int64 2×257: (background, foreground).
    """
    # Truncation, not rounding, and the stretched map brought back to 256 levels: as pysodmetrics does it.
    bins = (saliency * 255).astype(np.uint8)
    regrouped = np.zeros((2, 256), np.int64)
    np.add.at(regrouped, (slice(None), bins), counts)
    adaptive = min(2 * float(counts.sum(axis=0) @ saliency) / float(counts.sum()), 1)
    at_adaptive = counts[:, saliency >= adaptive].sum(axis=1, keepdims=True)
    return np.concatenate([np.cumsum(regrouped[:, ::-1], axis=1), at_adaptive], axis=1)


def f_measure(counts, saliency):
    """F-measure with β² = 0.3 (Achanta et al., CVPR 2009).

    Returns (precision, recall, F), each float64 [256] by threshold, 255 first; and F at the adaptive threshold.
    """
    background, foreground = _chosen(counts, saliency)
    precision = foreground / np.maximum(background + foreground, 1)
    recall = foreground / max(counts[1].sum(), 1)
    numerator = (1 + BETA_SQUARED) * precision * recall
    score = numerator / np.where(numerator == 0, 1, BETA_SQUARED * precision + recall)
    return precision[:-1], recall[:-1], score[:-1], float(score[-1])


def e_measure(counts, saliency):
    """E-measure (Fan et al., IJCAI 2018). Returns float64 [256] by threshold, 255 first; and that at the adaptive one.

    It divides by pixels − 1, as the published code does, and so can exceed 1.
    """
    background, foreground = _chosen(counts, saliency)
    curve = _e_of(background[:-1], foreground[:-1], counts)
    return curve, float(_e_of(background[-1], foreground[-1], counts))


def _e_of(background, foreground, counts):
    size, total = counts.sum(), counts[1].sum()
    chosen = background + foreground
    if total == 0:
        aligned = size - chosen
    elif total == size:
        aligned = chosen
    else:
        map_mean, mask_mean = chosen / size, total / size
        parts = (
            (foreground, 1 - map_mean, 1 - mask_mean),
            (background, 1 - map_mean, -mask_mean),
            (total - foreground, -map_mean, 1 - mask_mean),
            (size - chosen - (total - foreground), -map_mean, -mask_mean),
        )
        aligned = 0
        for pixels, of_map, of_mask in parts:
            alignment = 2 * of_map * of_mask / (of_map**2 + of_mask**2 + EPS)
            aligned = aligned + pixels * (alignment + 1) ** 2 / 4
    return aligned / (size - 1 + EPS)


def s_measure(counts, saliency, levels, foreground, centre):
    """S-measure with α = 0.5 (Fan et al., ICCV 2017), a float. counts: of `count_levels`, around `centre`.

    Where a part is undefined (a foreground of one pixel, an empty quadrant) the result is 0, as in pysodmetrics.
    """
    whole = counts.sum(axis=0)
    size, total = whole.sum(), whole[1].sum()
    if total == 0:
        return float(1 - whole[0] @ saliency / size)
    if total == size:
        return float(whole[1] @ saliency / size)
    share = total / size
    with np.errstate(invalid="ignore", divide="ignore"):
        objects = share * _object(whole[1], saliency) + (1 - share) * _object(whole[0], 1 - saliency)
        regions, left = 0.0, 1.0
        for quadrant, span in enumerate(_spans(*centre)):
            weight = counts[quadrant].sum() / size if quadrant < 3 else left
            left -= weight
            regions += weight * _ssim(counts[quadrant], saliency, levels[span], foreground[span])
        score = 0.5 * objects + 0.5 * regions
    return float(score) if score > 0 else 0.0


def _object(counts, saliency):
    pixels = counts.sum()
    mean = counts @ saliency / pixels
    deviation = np.sqrt(counts @ (saliency - mean) ** 2 / (pixels - 1))
    return 2 * mean / (mean**2 + 1 + deviation + EPS)


def _ssim(counts, saliency, levels, foreground):
    """Structural similarity of one quadrant. `counts`: int64 2×256."""
    background, object_ = counts
    pixels, total = counts.sum(), object_.sum()
    present = np.flatnonzero(background + object_)
    if pixels > 1 and len(present) == 1 and total in (0, pixels) and saliency[present[0]] not in (0.0, 1.0):
        # Nothing varies here, and the score is 1 or 0 by the rounding of the mean: take the mean as pysodmetrics does.
        x, y = np.mean(saliency[levels]), np.mean(foreground)
        variance = np.sum((saliency[levels] - x) ** 2) / (levels.size - 1)
        return 1.0 if (x**2 + y**2) * variance == 0 else 0.0
    x, y = (background + object_) @ saliency / pixels, total / pixels
    variance_x = (background + object_) @ (saliency - x) ** 2 / (pixels - 1)
    variance_y = (total * (1 - y) ** 2 + (pixels - total) * y**2) / (pixels - 1)
    covariance = (object_ @ (saliency - x) * (1 - y) - background @ (saliency - x) * y) / (pixels - 1)
    alpha = 4 * x * y * covariance
    beta = (x**2 + y**2) * (variance_x + variance_y)
    if alpha != 0:
        return alpha / (beta + EPS)
    return 1.0 if beta == 0 else 0.0


# ---- the weighted F-measure

_KERNEL = np.exp(-(np.arange(-3.0, 4.0) ** 2) / (2 * 5**2))  # the 7×7 Gaussian, σ = 5, is the product of two of these
_KERNEL /= _KERNEL.sum()
_FAR = 265**2  # squared distance in pixels: 0.5^(265 / 5) is 2^-53, nothing beside 2
# float64: how much an error on the background weighs, by its squared distance from the foreground
_IMPORTANCE = 2 - np.exp(np.log(0.5) / 5 * np.sqrt(np.arange(_FAR + 1)))
_workspace = Scratch(most=1 << 26)  # new arrays of these sizes would cost as much as the work: page faults


def weighted_f_measure(levels, saliency, foreground):
    """Weighted F-measure with β² = 1 (Margolin et al., CVPR 2014), a float.

    Errors near the edge inside the foreground are forgiven where their surroundings are right; errors on the background
    weigh the more the farther they are from the foreground.
    """
    mask = foreground.view(np.uint8)
    with_foreground = [np.flatnonzero(foreground.any(axis=axis)) for axis in (1, 0)]  # cv2.boundingRect misses pixels
    if not len(with_foreground[0]):
        return 0.0
    shape = rows_total, columns_total = mask.shape
    background = _workspace("background", shape, np.uint8)
    np.subtract(1, mask, out=background)
    nearest = _workspace("nearest", (2,) + shape, np.int32)
    distance_transform_edt(background, return_distances=False, return_indices=True, indices=nearest)

    # |map − mask|: one table for each value of the mask
    error = cv2.LUT(levels, saliency, _workspace("error", shape, np.float64))
    np.subtract(error, mask, out=error)
    np.abs(error, out=error)

    # Foreground: a background pixel takes the error of the foreground pixel nearest to it, then all are smoothed; the
    # smaller of that and the own error counts. Three pixels around the foreground are all that the smoothing sees.
    rows, columns = (slice(max(0, found[0] - 3), found[-1] + 4) for found in with_foreground)
    near_rows, near_columns = nearest[:, rows, columns]
    index = _workspace("index", near_rows.shape, np.intp)
    np.multiply(near_rows, columns_total, out=index, casting="unsafe")
    np.add(index, near_columns, out=index)
    spread = _workspace("spread", index.shape, np.float64)
    np.take(error.ravel(), index, out=spread, mode="clip")
    smooth = _workspace("smooth", index.shape, np.float64)
    cv2.sepFilter2D(spread, cv2.CV_64F, _KERNEL, _KERNEL, dst=smooth, borderType=cv2.BORDER_CONSTANT)
    np.minimum(smooth, error[rows, columns], out=smooth)
    np.multiply(smooth, mask[rows, columns], out=smooth)
    pixels = np.count_nonzero(mask)
    lost = float(smooth.sum())

    # Background: every error by its importance. The foreground is at distance 0, where the importance is 1.
    np.subtract(nearest[0], np.arange(rows_total, dtype=np.int32)[:, None], out=nearest[0])
    np.subtract(nearest[1], np.arange(columns_total, dtype=np.int32), out=nearest[1])
    np.multiply(nearest, nearest, out=nearest)
    squared = np.add(nearest[0], nearest[1], out=nearest[0])
    np.minimum(squared, _FAR, out=squared)
    np.multiply(error, background, out=error)
    weight = np.take(_IMPORTANCE, squared, out=_workspace("weight", shape, np.float64), mode="clip")
    false_positive = float(np.einsum("ij,ij->", error, weight))

    true_positive = pixels - lost
    recall = 1 - lost / pixels
    precision = true_positive / (true_positive + false_positive + EPS)
    return float(2 * recall * precision / (recall + precision + EPS))
