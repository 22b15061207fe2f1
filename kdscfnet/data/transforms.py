"""From an image to the network's input; augmentation; all in numpy and OpenCV, without Paddle.

The random numbers of a sample depend only on (seed, epoch, index), so they do not change with the number of workers.
"""
from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

# RGB, in grey levels. The authors' numbers.
MEAN = np.array([124.55, 118.90, 102.94], np.float32)
STD = np.array([56.77, 55.97, 57.50], np.float32)


# float32 256×3: what each grey level of each channel becomes
_NORMALIZED = (np.arange(256, dtype=np.float32)[:, None] - MEAN) / STD


def normalize(image):
    """uint8 H×W×3 RGB → float32 H×W×3, (image − MEAN) / STD."""
    return (image.astype(np.float32) - MEAN) / STD


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
    for channel, plane in enumerate(cv2.split(image)):
        cv2.resize(cv2.LUT(plane, np.ascontiguousarray(_NORMALIZED[:, channel])), (width, height), dst=out[channel],
                   interpolation=cv2.INTER_LINEAR)
    return out


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
    return Draw(
        kernel,
        contrast,
        brightness,
        top,
        left,
        height - cut_height,
        width - cut_width,
        bool(rng.random() < a.horizontal_flip_probability),
        bool(rng.random() < a.vertical_flip_probability),
    )


_LEVELS = np.arange(256, dtype=np.float32)[:, None]


def _normalized_levels(contrast, brightness):
    """float32 1×256×3: what each grey level of each channel becomes by contrast, brightness, clipping, normalisation."""
    return ((np.clip(contrast * _LEVELS + brightness, 0, 255) - MEAN) / STD)[None]


def apply_to_image(image, drawn, size):
    """Carry out `drawn` on an image.

    Args:
        image: uint8 H×W×3 RGB.
        size: (height, width) of the result.

    Returns float32 3×h×w, normalised. One table look-up does contrast, brightness, clipping and normalisation; crop
    and flips are views.
    """
    if drawn.blur_kernel:
        image = cv2.GaussianBlur(image, (drawn.blur_kernel, drawn.blur_kernel), 0)
    image = image[drawn.top : drawn.top + drawn.height, drawn.left : drawn.left + drawn.width]
    image = cv2.LUT(image, _normalized_levels(drawn.contrast, drawn.brightness))
    image = cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(_flip(image, drawn).transpose(2, 0, 1))


def apply_to_mask(mask, drawn, size, original_size):
    """Crop, flip and resize a mask with its image.

    Args:
        mask: uint8 H×W or H×W×3, of the image's size, or smaller (a teacher's map made at a lower resolution): then the
            crop is scaled to it.
        size: (height, width) of the result.
        original_size: (H, W) of the image.

    Returns float32 1×h×w in [0, 1].
    """
    rows = _scaled_span(drawn.top, drawn.height, mask.shape[0], original_size[0])
    columns = _scaled_span(drawn.left, drawn.width, mask.shape[1], original_size[1])
    mask = mask[rows, columns].astype(np.float32)
    if mask.ndim == 3:
        mask = mask.mean(axis=2)
    mask = cv2.resize(mask, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(_flip(mask, drawn))[None] / np.float32(255)


def _scaled_span(start, length, side, original_side):
    if side == original_side:
        return slice(start, start + length)
    scale = side / original_side
    first = min(int(round(start * scale)), side - 1)
    return slice(first, max(first + 1, int(round((start + length) * scale))))


def _flip(array, drawn):
    return array[:: -1 if drawn.flip_vertical else 1, :: -1 if drawn.flip_horizontal else 1]


def no_augmentation(height, width):
    """The Draw that changes nothing: for validation."""
    return Draw(0, 1.0, 0, 0, 0, height, width, False, False)
