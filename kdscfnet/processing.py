"""The two ends of the network: from an image to its input, and from its finest logits to an 8-bit saliency map."""

from __future__ import annotations

import functools

import cv2
import numpy as np

from kdscfnet.threads import Scratch

# RGB, in grey levels. The authors' numbers.
MEAN = np.array([124.55, 118.90, 102.94], np.float32)
STD = np.array([56.77, 55.97, 57.50], np.float32)

# float32 256×3: what each grey level of each channel becomes
_NORMALIZED = (np.arange(256, dtype=np.float32)[:, None] - MEAN) / STD

_BLOCK = 1 << 17  # pixels of the result that are worked on at a time, so that they stay in the cache


def prepare_image(image, size, out=None):
    """The network's input at test time: normalise, then resize, bilinear.

    Args:
        image: uint8 H×W×3 RGB.
        size: an integer (square) or (height, width).
        out: a float32 3×h×w array to write to, or None.

    Returns float32 3×h×w. Source: evaluation.md; equal to the authors' to 1e-4 (they compute in another float type).
    """
    height, width = (size, size) if isinstance(size, int) else size
    if out is None:
        out = np.empty((3, height, width), np.float32)
    # Channel by channel, with a table for the normalisation: the same numbers (within 1e-6) as normalising and
    # resizing the whole image, in a twentieth of the time.
    for channel in range(3):
        normalized = cv2.LUT(cv2.extractChannel(image, channel), np.ascontiguousarray(_NORMALIZED[:, channel]))
        cv2.resize(normalized, (width, height), dst=out[channel], interpolation=cv2.INTER_LINEAR)
    return out


def sigmoid(logits, out=None):
    """float32 → float32 of the same shape in [0, 1]; 1 / (1 + exp(−x)) without overflow."""
    saliency = np.multiply(logits, np.float32(0.5), out=out)
    np.tanh(saliency, out=saliency)
    saliency *= np.float32(0.5)
    saliency += np.float32(0.5)
    return saliency


def to_map(logits, height, width):
    """A saliency map as the authors write it.

    Args:
        logits: float32 h×w, the network's finest output.
        height, width: the image's size.

    Returns uint8 height×width: sigmoid, bilinear resize with align_corners=True, × 255, rounded to the nearest integer,
    halves to even, as OpenCV does when it writes a float image. Source: evaluation.md.
    """
    h, w = logits.shape
    # Columns first, on the transposed map: then both interpolations mix whole rows.
    columns, left = _positions(w, width)
    rows, top = _positions(h, height)
    saliency = sigmoid(logits, _scratch("saliency", (h, w)))
    by_column = _scratch("by column", (width, h))
    _mix_rows(cv2.transpose(saliency, _scratch("transposed", (w, h))).reshape(w, h), columns, left, by_column)
    wide = cv2.transpose(by_column, _scratch("wide", (h, width))).reshape(h, width)
    result = np.empty((height, width), np.uint8)
    step = max(1, _BLOCK // width)
    for start in range(0, height, step):
        stop = min(start + step, height)
        part = _scratch("part", (stop - start, width))
        _mix_rows(wide, rows[start:stop], top[start:stop], part)
        # rounds to the nearest, halves to even, and saturates
        cv2.convertScaleAbs(part, result[start:stop], alpha=255)
    return result


def _mix_rows(source, index, weight, out):
    """out[i] = source[index[i]] · (1 − weight[i]) + source[index[i] + 1] · weight[i]"""
    first = np.take(source, index, axis=0, out=_scratch("first", out.shape), mode="clip")
    np.take(source, np.minimum(index + 1, len(source) - 1), axis=0, out=out, mode="clip")
    out -= first
    out *= weight[:, None]
    out += first


@functools.lru_cache(maxsize=64)
def _positions(source, target):
    """align_corners=True: where the `target` pixels of the result lie between the `source` pixels of the map.

    Returns (index of the pixel before, weight of the one after).
    """
    position = np.arange(target) * ((source - 1) / (target - 1) if target > 1 else 0.0)
    index = np.minimum(position.astype(np.intp), max(source - 2, 0))
    return index, (position - index).astype(np.float32)


_scratch = Scratch()
