"""What can be made of a saliency map: the map, a mask, a cut-out, an overlay, a grid."""

from __future__ import annotations

import os

import cv2
import numpy as np

from kdscfnet.errors import BadImageError, UserError
from kdscfnet.files import write_bytes
from kdscfnet.images import encode_png

# kind -> suffix. What is to be looked at is a JPEG, what is to be worked with is exact.
SUFFIXES = {"map": ".png", "mask": ".png", "cutout": ".png", "overlay": ".jpg", "grid": ".jpg"}
KINDS = tuple(SUFFIXES)
NEEDS_IMAGE = ("cutout", "overlay", "grid")

# what a picture can be written as; a JPEG has no transparency and is not exact
WRITTEN = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
_NOT = dict.fromkeys(("map", "mask"), (".jpg", ".jpeg"))
_NOT["cutout"] = (".jpg", ".jpeg", ".bmp")

_TINT = np.array([255, 45, 85], np.float32)  # RGB
_STRENGTH = 0.55
_OUTLINE = (255, 255, 255)
_GAP = 6  # pixels between the pictures of a grid
_BAND = 1 << 18  # pixels
_JPEG_QUALITY = 92
_JPEG_SIDE = 65500  # pixels, of libjpeg
_WEBP_SIDE = 16383
_NAMES = {".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WebP"}


def suffix_of(path, kind):
    """The suffix of the file `path` for a result of `kind`. Raises UserError where it cannot be written so."""
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in WRITTEN or suffix in _NOT.get(kind, ()):
        raise UserError("a %s is written as %s: name it so, or name a folder for -o" % (kind, SUFFIXES[kind]))
    return suffix


def parse_threshold(text):
    """ "adaptive", or a number from 0 to 1."""
    if text == "adaptive":
        return text
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise UserError("the threshold is %r: a number from 0 to 1, or adaptive" % text)
    return value


def make_mask(saliency, threshold=0.5):
    """A binary mask, uint8 H×W, 0 and 255.

    Args:
        saliency: uint8 H×W.
        threshold: 0 to 1, of full saliency; or "adaptive": twice the map's mean, at most 1 (Achanta et al., 2009).
    """
    if threshold == "adaptive":
        threshold = min(2 * float(saliency.mean()) / 255, 1.0)
    # the same comparison for a look-up table of 256 levels as for every pixel
    return cv2.LUT(saliency, np.where(np.arange(256) >= threshold * 255, 255, 0).astype(np.uint8))


def make_cutout(image, saliency):
    """RGBA, uint8 H×W×4: the image, as opaque as it is salient."""
    return np.dstack([image, saliency])


def make_overlay(image, saliency):
    """uint8 H×W×3: the image, tinted where it is salient, with the outline of the mask at one half."""
    tinted = _mix(image, np.broadcast_to(_TINT, image.shape), saliency, _STRENGTH)
    contours = cv2.findContours(make_mask(saliency), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)[-2]
    width = max(1, int(round(min(image.shape[:2]) / 250)))
    cv2.drawContours(tinted, contours, -1, _OUTLINE, width, cv2.LINE_AA)
    return tinted


def _mix(below, above, opacity, strength=1.0):
    """below + (above − below) · opacity / 255 · strength, uint8; in bands of rows, which spares memory."""
    mixed = np.empty(below.shape, np.uint8)
    step = max(1, _BAND // below.shape[1])
    for start in range(0, len(below), step):
        rows = slice(start, start + step)
        first = below[rows].astype(np.float32)
        part = above[rows] - first
        part *= opacity[rows].astype(np.float32)[..., None] * np.float32(strength / 255)
        part += first
        mixed[rows] = np.rint(part, out=part)
    return mixed


def make_grid(image, saliency):
    """uint8: image, map, overlay and cut-out on a chequerboard, side by side; below one another where they are wide."""
    height, width = saliency.shape
    side = max(4, min(height, width) // 24)
    rows, columns = np.indices((height, width), sparse=True)
    board = np.where((rows // side + columns // side) % 2, np.uint8(204), np.uint8(255))[..., None]
    cutout = _mix(np.broadcast_to(board, image.shape), image, saliency)
    pictures = [image, cv2.cvtColor(saliency, cv2.COLOR_GRAY2RGB), make_overlay(image, saliency), cutout]
    axis = 0 if width > 2 * height else 1
    gap = np.full((_GAP, width, 3) if axis == 0 else (height, _GAP, 3), 255, np.uint8)
    parts = [pictures[0]]
    for picture in pictures[1:]:
        parts += [gap, picture]
    return np.concatenate(parts, axis=axis)


def render(kind, image, saliency, threshold=0.5):
    """The picture of one kind: uint8 H×W, H×W×3 (RGB) or H×W×4 (RGBA)."""
    if kind == "map":
        return saliency
    if kind == "mask":
        return make_mask(saliency, threshold)
    return {"cutout": make_cutout, "overlay": make_overlay, "grid": make_grid}[kind](image, saliency)


def encode(picture, suffix):
    """The bytes of a picture as a file of one of the suffixes WRITTEN; all but JPEG are exact."""
    suffix = suffix.lower()
    if suffix == ".png":
        return encode_png(picture)
    if suffix in (".jpg", ".jpeg"):
        if picture.ndim == 2:
            picture = cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB)
        limit, options = _JPEG_SIDE, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    elif suffix == ".webp":
        limit, options = _WEBP_SIDE, [cv2.IMWRITE_WEBP_QUALITY, 101]  # beyond 100: lossless
    else:
        limit, options = None, []
    height, width = picture.shape[:2]
    if limit and max(height, width) > limit:
        raise BadImageError("", "%d×%d pixels are more than a %s file can hold" % (width, height, _NAMES[suffix]))
    if picture.ndim == 3:
        picture = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR if picture.shape[2] == 3 else cv2.COLOR_RGBA2BGRA)
    done, data = cv2.imencode(suffix, picture, options)
    if not done:
        raise ValueError("OpenCV could not encode a picture of %d×%d as %s" % (width, height, suffix))
    return data.tobytes()


def write(outputs, image, saliency, threshold=0.5):
    """Write the results of one image. `outputs`: {kind: path}. Each file is whole or not there."""
    for kind, path in outputs.items():
        picture = render(kind, image, saliency, threshold)
        write_bytes(path, encode(picture, os.path.splitext(path)[1]), sync=False)
