"""From the network's finest logits to an 8-bit saliency map of the image's own size."""

from __future__ import annotations

import collections
import threading

import cv2
import numpy as np

_BLOCK = 1 << 17  # pixels of the result that are worked on at a time, so that they stay in the cache
_KEPT = 1 << 20  # pixels: larger arrays are given back after each map


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


def _positions(source, target):
    """align_corners=True: where the `target` pixels of the result lie between the `source` pixels of the map.

    Returns (index of the pixel before, weight of the one after).
    """
    key = (source, target)
    with _LOCK:
        if key in _CACHE:
            _CACHE.move_to_end(key)
            return _CACHE[key]
    position = np.arange(target) * ((source - 1) / (target - 1) if target > 1 else 0.0)
    index = np.minimum(position.astype(np.intp), max(source - 2, 0))
    found = index, (position - index).astype(np.float32)
    with _LOCK:
        _CACHE[key] = found
        if len(_CACHE) > 64:
            _CACHE.popitem(last=False)
    return found


class _Scratch(threading.local):
    """Arrays that a thread uses again for its next map. Fresh memory costs more than the arithmetic in it."""

    def __call__(self, name, shape):
        size = shape[0] * shape[1]
        kept = self.__dict__.get(name)
        if kept is None or kept.size < size:
            kept = np.empty(size, np.float32)
            if size <= _KEPT:
                setattr(self, name, kept)
        return kept[:size].reshape(shape)


_scratch = _Scratch()
_CACHE = collections.OrderedDict()
_LOCK = threading.Lock()
