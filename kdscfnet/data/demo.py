"""A small generated data set, for a machine with nothing on it.

Every scene is a textured background with one to three salient objects, which differ from it in colour and texture, and
distractors: thin lines and small faint blobs, which are no objects. Masks are exact up to the anti-aliased edge.
"""

from __future__ import annotations

import os

import cv2
import numpy as np

from kdscfnet.files import atomic_path, write_text
from kdscfnet.images import write_png
from kdscfnet.text import progress

SIDE = (120, 160)  # height, width of a scene


def _texture(rng, height, width, colour, strength):
    """Noise at two scales around a colour: float32 H×W×3."""
    texture = np.zeros((height, width, 3), np.float32)
    for cells, amount in ((rng.integers(3, 9), 1.0), (rng.integers(12, 40), 0.6)):
        noise = rng.normal(0, 1, (int(cells), int(cells), 3)).astype(np.float32)
        noise = 0.6 * noise.mean(axis=2, keepdims=True) + 0.4 * noise
        texture += amount * cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    ramp = np.linspace(-1, 1, width, dtype=np.float32)[None, :, None] * rng.normal(0, 15)
    return colour + strength * texture + ramp


def _outline(rng, height, width, size, centre):
    """A closed outline (points, int32) around `centre`: an ellipse, a polygon or a wavy blob."""
    angles = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    kind = rng.integers(3)
    if kind == 0:
        radii = np.ones_like(angles)
    elif kind == 1:
        corners = int(rng.integers(3, 7))
        phase = np.mod(angles, 2 * np.pi / corners) - np.pi / corners
        radii = np.cos(np.pi / corners) / np.cos(phase)
    else:
        radii = 1 + 0.2 * np.sin(int(rng.integers(2, 6)) * angles + rng.uniform(0, 6)) + 0.1 * np.sin(7 * angles)
    aspect, turn = rng.uniform(0.6, 1.0), rng.uniform(0, 2 * np.pi)
    x, y = radii * np.cos(angles) * size, radii * np.sin(angles) * size * aspect
    points = np.stack([x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)], axis=1)
    return np.round(points + centre).astype(np.int32)


def scene(seed, index):
    """One scene: (uint8 H×W×3 RGB image, uint8 H×W mask); a function of (seed, index)."""
    rng = np.random.default_rng((seed, index))
    height, width = SIDE
    background = rng.uniform(40, 215, 3).astype(np.float32)
    image = _texture(rng, height, width, background, rng.uniform(6, 22))
    for _ in range(int(rng.integers(2, 7))):  # distractors
        faint = (background + rng.normal(0, 22, 3)).clip(0, 255)
        layer = np.zeros((height, width), np.uint8)
        if rng.random() < 0.5:
            ends = rng.integers(0, (width, height), (2, 2))
            cv2.line(
                layer, tuple(map(int, ends[0])), tuple(map(int, ends[1])), 255, int(rng.integers(1, 3)), cv2.LINE_AA
            )
        else:
            centre = rng.uniform((0, 0), (width, height))
            cv2.fillPoly(layer, [_outline(rng, height, width, rng.uniform(3, 7), centre)], 255, cv2.LINE_AA)
        weight = layer[..., None].astype(np.float32) / 255 * 0.7
        image = image * (1 - weight) + faint.astype(np.float32) * weight
    mask = np.zeros((height, width), np.uint8)
    for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
        size = rng.uniform(0.2, 0.36) * min(height, width) * (1.2 if not mask.any() else 0.8)
        centre = rng.uniform((0.2 * width, 0.2 * height), (0.8 * width, 0.8 * height))
        layer = np.zeros((height, width), np.uint8)
        cv2.fillPoly(layer, [_outline(rng, height, width, size, centre)], 255, cv2.LINE_AA)
        colour = rng.uniform(0, 255, 3)
        while np.abs(colour - background).sum() < 170:
            colour = rng.uniform(0, 255, 3)
        surface = _texture(rng, height, width, colour.astype(np.float32), rng.uniform(4, 22))
        weight = layer[..., None].astype(np.float32) / 255
        image = image * (1 - weight) + surface * weight
        mask = np.maximum(mask, layer)
    image += rng.normal(0, rng.uniform(1, 5), image.shape)
    return np.clip(image, 0, 255).astype(np.uint8), mask


# folder -> (first index, number of scenes, with masks)
PARTS = {"DEMO-TR": (0, 120, True), "DEMO-UNLABELLED": (10_000, 400, False), "DEMO-TE": (20_000, 60, True)}


def make_demo_set(root, seed=0):
    """Write the demo set in the usual layout: root/DEMO-TR, root/DEMO-UNLABELLED (no masks), root/DEMO-TE.

    A part that is complete (its list file is written last) is left as it is.
    """
    for name, (first, count, with_masks) in PARTS.items():
        folder = os.path.join(root, name)
        listing = os.path.join(folder, "test.txt" if name.endswith("TE") else "train.txt")
        if os.path.exists(listing):
            continue
        os.makedirs(os.path.join(folder, "image"), exist_ok=True)
        names = []
        for number in progress(range(count), desc=name, leave=False):
            image, mask = scene(seed, first + number)
            names.append("%04d" % (number + 1))
            with atomic_path(os.path.join(folder, "image", names[-1] + ".jpg")) as temporary:
                cv2.imwrite(temporary, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 95])
            if with_masks:
                write_png(os.path.join(folder, "mask", names[-1] + ".png"), mask, sync=False)
        write_text(listing, "".join(name + "\n" for name in names))
