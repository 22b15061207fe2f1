"""What can be made of a saliency map: the map, a mask, a cut-out, an overlay, a grid, boxes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from kdscfnet import images
from kdscfnet.errors import UserError
from kdscfnet.files import write_bytes
from kdscfnet.inference import matting
from kdscfnet.text import is_address

# kind -> suffix. What is to be looked at is a JPEG, what is to be worked with is exact.
SUFFIXES = {"map": ".png", "mask": ".png", "cutout": ".png", "overlay": ".jpg", "grid": ".jpg", "box": ".json"}
KINDS = tuple(SUFFIXES)
NEEDS_IMAGE = ("cutout", "overlay", "grid")

# what a picture can be written as; a JPEG has no transparency and is not exact
WRITTEN = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
_NOT = dict.fromkeys(("map", "mask"), (".jpg", ".jpeg"))
_NOT["cutout"] = (".jpg", ".jpeg", ".bmp")  # where it is transparent

NOT_CROPPED = "nothing stands out, so it is not cropped"
_SPECK = 1 / 2000  # of the photograph: smaller regions are no objects
_MARGIN = 1 / 20  # of the box's longer side, around what is cropped

_TINT = np.array([255, 45, 85], np.float32)  # RGB
_STRENGTH = 0.55
_OUTLINE = (255, 255, 255)
_GAP = 6  # pixels between the pictures of a grid
_BAND = 1 << 18  # pixels


@dataclass(frozen=True, eq=False)
class Settings:
    """How results are made of a map.

    Args:
        threshold: of masks, boxes and the crop: 0 to 1, or "adaptive" (see make_mask).
        background: of cut-outs: None (they are transparent), "blur", a colour (R, G, B), or a picture, uint8 H×W×3.
        crop: cut-outs show the box of what stands out, with a margin, not the whole photograph.
        refine: the map's edges follow those of the photograph first (matting.refine).
    """

    threshold: Any = 0.5
    background: Any = None
    crop: bool = False
    refine: bool = False

    def of(self, kind):
        """What results of one kind depend on, as JSON values; what is off is left out."""
        made = {"refine": True} if self.refine else {}
        crop = self.crop and kind == "cutout"
        if crop or kind in ("mask", "box"):
            made["threshold"] = self.threshold
        if crop:
            made["crop"] = True
        if kind == "cutout" and self.background is not None:
            is_file = isinstance(self.background, np.ndarray)
            made["background"] = hashlib.sha256(self.background).hexdigest() if is_file else self.background
        return made


USUAL = Settings()


def suffix_of(path, kind, opaque=False):
    """The suffix of the file `path` for a result of `kind`; `opaque`: of a cut-out with a background.

    Raises UserError where it cannot be written so.
    """
    suffix = os.path.splitext(path)[1].lower()
    never = () if opaque and kind == "cutout" else _NOT.get(kind, ())
    usual = SUFFIXES[kind]
    possible = [usual] if kind == "box" else [usual, *(one for one in WRITTEN if one != usual and one not in never)]
    if suffix not in possible:
        names = kind, " or ".join(possible)
        raise UserError("a %s is written as %s: name it so, or name a folder for -o" % names)
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


def parse_background(text):
    """What a user names: "blur", a colour (R, G, B) (as it is), or the picture of a file, uint8 H×W×3."""
    if isinstance(text, tuple):
        if len(text) != 3 or not all(isinstance(level, int) and 0 <= level <= 255 for level in text):
            raise UserError("the background is %r: a colour has three whole numbers from 0 to 255" % (text,))
        return text
    if text == "blur":
        return text
    from PIL import ImageColor

    with contextlib.suppress(ValueError):
        colour = ImageColor.getrgb(text)
        if len(colour) == 3:
            return colour
    if os.path.exists(text) or is_address(text):
        return images.read_image(text)
    raise UserError("the background %r is no colour (white, #rrggbb), not blur, and no file" % text)


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


def make_cutout(image, saliency, settings=USUAL):
    """The image, as opaque as it is salient: RGBA, uint8 H×W×4; before a background: RGB, uint8 H×W×3.

    Colours are the image's, but for `settings` that refine or put something behind: then foreground colours are
    estimated at soft edges (matting.foreground_colours), so that nothing of the old background is carried along.
    """
    height, width = saliency.shape
    part = (crop_of(saliency, settings.threshold) if settings.crop else None) or (slice(height), slice(width))
    estimated = settings.refine or settings.background is not None
    colours = (matting.foreground_colours(image, saliency) if estimated else image)[part]
    opacity = saliency[part]
    if settings.background is None:
        return np.dstack([colours, opacity])
    if isinstance(settings.background, np.ndarray):
        behind = matting.cover(settings.background, opacity.shape[1], opacity.shape[0])
    elif settings.background == "blur":
        behind = matting.blurred_background(image, saliency)[part]
    else:
        behind = np.broadcast_to(np.array(settings.background, np.uint8), colours.shape)
    return _mix(behind, colours, opacity)


def make_boxes(saliency, threshold=0.5):
    """What stands out, as JSON values: connected regions of the mask at `threshold`, the largest first.

    Lengths are pixels of the photograph. bbox: [left, top, width, height], as COCO has it; of all regions: null where
    there is none. share: of the photograph's pixels. saliency: the region's mean, 0 to 1. Regions of less than
    one 2,000th of the photograph are left out.
    """
    height, width = saliency.shape
    count, labels, stats, _ = cv2.connectedComponentsWithStats(make_mask(saliency, threshold), connectivity=8)
    objects = []
    for label in sorted(range(1, count), key=lambda label: -stats[label, cv2.CC_STAT_AREA]):
        left, top, wide, high, pixels = map(int, stats[label])
        if pixels < _SPECK * saliency.size:
            break
        part = slice(top, top + high), slice(left, left + wide)
        mean = float(saliency[part][labels[part] == label].mean()) / 255
        share = round(pixels / saliency.size, 6)
        objects.append({"bbox": [left, top, wide, high], "share": share, "saliency": round(mean, 4)})
    whole = None
    if objects:
        corners = np.array([one["bbox"] for one in objects])
        low, high = corners[:, :2].min(axis=0), (corners[:, :2] + corners[:, 2:]).max(axis=0)
        whole = [int(number) for number in (*low, *(high - low))]
    return {
        "width": width,
        "height": height,
        "threshold": threshold,
        "bbox": whole,
        "share": round(sum(one["share"] for one in objects), 6),
        "objects": objects,
    }


def crop_of(saliency, threshold=0.5):
    """(rows, columns), slices: the box around all that stands out and a margin; None where nothing does."""
    box = make_boxes(saliency, threshold)["bbox"]
    if box is None:
        return None
    left, top, width, height = box
    margin = int(round(max(width, height) * _MARGIN))
    return slice(max(0, top - margin), top + height + margin), slice(max(0, left - margin), left + width + margin)


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


def render(kinds, image, saliency, settings=USUAL):
    """The results of one image: {kind: uint8 H×W, H×W×3 (RGB) or H×W×4 (RGBA); of boxes: JSON values}."""
    if settings.refine:
        saliency = matting.refine(image, saliency)
    make = {
        "map": lambda: saliency,
        "mask": lambda: make_mask(saliency, settings.threshold),
        "cutout": lambda: make_cutout(image, saliency, settings),
        "overlay": lambda: make_overlay(image, saliency),
        "grid": lambda: make_grid(image, saliency),
        "box": lambda: make_boxes(saliency, settings.threshold),
    }
    return {kind: make[kind]() for kind in kinds}


def encode(result, suffix):
    """The bytes of a result as a file: boxes as .json, a picture as one of the suffixes WRITTEN."""
    suffix = suffix.lower()
    return (json.dumps(result) + "\n").encode() if suffix == ".json" else images.encode(result, suffix)


def write(outputs, image, saliency, settings=USUAL):
    """Write the results of one image, each whole or not at all. `outputs`: {kind: path}. Returns a note or None."""
    results = render(outputs, image, saliency, settings)
    for kind, path in outputs.items():
        write_bytes(path, encode(results[kind], os.path.splitext(path)[1]), sync=False)
    return note_on(results, saliency, settings)


def note_on(results, saliency, settings):
    """What the user must know of results (render), or None."""
    whole = settings.crop and "cutout" in results and results["cutout"].shape[:2] == saliency.shape
    return NOT_CROPPED if whole and crop_of(saliency, settings.threshold) is None else None
