"""From an image to the network's input; augmentation; all in numpy and OpenCV, without Paddle.

The random numbers of a sample depend only on (seed, epoch, index), so they do not change with the number of workers.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from kdscfnet.processing import MEAN, STD


@dataclass(frozen=True)
class Augmentation:
    """The numbers of the authors' augmentation. Ranges are half open: [low, high)."""

    blur_probability: float = 1 / 10
    blur_kernel: tuple = (3, 9)  # drawn from 3…9; even numbers go up by one, at most 9
    contrast: tuple = (0.5, 1.5)
    brightness: tuple = (-15, 15)  # integers
    crop_fraction: float = 1 / 8  # of columns and of rows, at most, removed
    horizontal_flip_probability: float = 1 / 2
    vertical_flip_probability: float = 1 / 5


@dataclass(frozen=True)
class Draw:
    """What was drawn for one sample; `apply` carries it out."""

    blur_kernel: int  # 0: no blur
    contrast: float
    brightness: int
    top: int
    left: int
    height: int  # of the crop
    width: int
    flip_horizontal: bool
    flip_vertical: bool

    @property
    def crop(self):
        """An index of arrays H×W or H×W×3."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


def draw(rng, height, width, augmentation=Augmentation()):
    """Draw the augmentation of one sample of height×width pixels from `rng`, a numpy Generator."""
    a = augmentation
    kernel = 0
    if rng.random() < a.blur_probability:
        kernel = int(rng.integers(a.blur_kernel[0], a.blur_kernel[1] + 1))
        kernel = min(kernel + 1 - kernel % 2, a.blur_kernel[1])
    contrast = float(rng.uniform(*a.contrast))
    brightness = int(rng.integers(*a.brightness))
    # "up to (not including) W/8": an image narrower than 8 pixels is not cropped
    cut_width = int(rng.integers(max(1, int(width * a.crop_fraction))))
    cut_height = int(rng.integers(max(1, int(height * a.crop_fraction))))
    left = int(rng.integers(cut_width + 1))
    top = int(rng.integers(cut_height + 1))
    flips = [bool(rng.random() < p) for p in (a.horizontal_flip_probability, a.vertical_flip_probability)]
    return Draw(kernel, contrast, brightness, top, left, height - cut_height, width - cut_width, *flips)


_LEVELS = np.arange(256, dtype=np.float32)
_UNIT_LEVELS = _LEVELS / np.float32(255)


def apply_to_image(image, drawn, size):
    """Carry out `drawn` on an image.

    Args:
        image: uint8 H×W×3 RGB.
        size: (height, width) of the result.

    Returns float32 3×h×w, normalised. The crop is a view; contrast, brightness, clipping and normalisation are one
    table of 256 entries for each channel.
    """
    if drawn.blur_kernel:
        image = cv2.GaussianBlur(image, (drawn.blur_kernel, drawn.blur_kernel), 0)
    planes = cv2.split(_flip(image[drawn.crop], drawn))
    levels = np.clip(drawn.contrast * _LEVELS + drawn.brightness, 0, 255)
    out = np.empty((3, size[0], size[1]), np.float32)
    for channel, plane in enumerate(planes):
        table = ((levels - MEAN[channel]) / STD[channel]).astype(np.float32)
        cv2.resize(cv2.LUT(plane, table), (size[1], size[0]), dst=out[channel], interpolation=cv2.INTER_LINEAR)
    return out


def apply_to_mask(mask, drawn, size, original_size):
    """Crop, flip and resize a mask with its image.

    Args:
        mask: uint8 H×W or H×W×3, of the image's size, or smaller (a teacher's map made at a lower resolution): then the
            crop is scaled to it.
        size: (height, width) of the result.
        original_size: (H, W) of the image.

    Returns float32 1×h×w in [0, 1]; of a mask in colour, the mean of its channels.
    """
    same_size = mask.shape[:2] == tuple(original_size)
    mask = _flip(mask[drawn.crop] if same_size else _crop_scaled(mask, drawn, original_size), drawn)
    if mask.ndim == 3:
        mask = mask.mean(axis=2, dtype=np.float32) / np.float32(255)
    else:
        mask = cv2.LUT(mask, _UNIT_LEVELS)
    return cv2.resize(mask, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)[None]


def _flip(array, drawn):
    if drawn.flip_horizontal or drawn.flip_vertical:
        # OpenCV's codes: 1 left-right, 0 up-down, -1 both
        array = cv2.flip(array, -1 if drawn.flip_horizontal and drawn.flip_vertical else int(drawn.flip_horizontal))
    return array


def _crop_scaled(mask, drawn, original_size):
    """The part of a smaller mask that belongs to the crop, to a fraction of a pixel, at the mask's own resolution."""
    scale_y, scale_x = mask.shape[0] / original_size[0], mask.shape[1] / original_size[1]
    height = max(1, int(round(drawn.height * scale_y)))
    width = max(1, int(round(drawn.width * scale_x)))
    # pixel centres: the crop's pixel (x + ½)/width lies at (left + (x + ½)·crop/width)·scale in the mask
    step_x, step_y = drawn.width * scale_x / width, drawn.height * scale_y / height
    matrix = np.array(
        [[step_x, 0, drawn.left * scale_x + step_x / 2 - 0.5], [0, step_y, drawn.top * scale_y + step_y / 2 - 0.5]]
    )
    return cv2.warpAffine(
        mask, matrix, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE
    )
