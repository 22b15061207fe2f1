"""A small generated data set, for a machine with nothing on it.

Every scene has depth of field: one to three things in focus before things of the same kinds that are out of focus, over
a textured backdrop or hills. What is in focus stands out; shadows do not belong to it. Masks are exact up to the
anti-aliased edge.
"""

from __future__ import annotations

import os

import cv2
import numpy as np

from kdscfnet.files import write_bytes, write_text
from kdscfnet.images import write_png
from kdscfnet.text import progress

SIDE = (144, 192)  # height, width of a scene

# Closed outlines within about ±1: functions of the angle t that return (x, y)
OUTLINES = {
    "disc": lambda t: (np.cos(t), np.sin(t)),
    "petals": lambda t: ((0.75 + 0.25 * np.cos(5 * t)) * np.cos(t), (0.75 + 0.25 * np.cos(5 * t)) * np.sin(t)),
    "star": lambda t: (np.cos(t) * (0.7 + 0.3 * _wave(5 * t)), np.sin(t) * (0.7 + 0.3 * _wave(5 * t))),
    "box": lambda t: (0.8 * np.cos(t) / _largest(t), 0.8 * np.sin(t) / _largest(t)),
    "heart": lambda t: (np.sin(t) ** 3, (5 * np.cos(2 * t) + 2 * np.cos(3 * t) - 13 * np.cos(t)) / 16),
    "fish": lambda t: (np.cos(t) - np.sin(t) ** 2 / 1.4, 1.1 * np.cos(t) * np.sin(t)),
    "drop": lambda t: (1.2 * np.sin(t) * np.sin(t / 2) ** 2, -np.cos(t)),
    "leaf": lambda t: (np.cos(t), 0.55 * np.sin(t) * np.abs(np.sin(t))),
}


def _wave(t):
    """A triangle wave in [−1, 1]."""
    return np.arcsin(np.cos(t)) * 2 / np.pi


def _largest(t):
    return np.maximum(np.abs(np.cos(t)), np.abs(np.sin(t)))


def _noise(rng, cells, strength):
    """Smooth noise over a scene, `cells` grains across and `strength` grey levels: float32 H×W×1."""
    grains = rng.normal(0, strength, (cells, cells)).astype(np.float32)
    return cv2.resize(grains, SIDE[::-1], interpolation=cv2.INTER_CUBIC)[..., None]


def _shape(rng, size, centre):
    """One of OUTLINES, turned and squeezed: its coverage, float32 H×W×1 in [0, 1]."""
    t = np.linspace(0, 2 * np.pi, 120, endpoint=False)
    x, y = OUTLINES[str(rng.choice(sorted(OUTLINES)))](t)
    y, turn = y * rng.uniform(0.7, 1.0), rng.uniform(0, 2 * np.pi)
    points = size * np.stack([x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)], axis=1)
    layer = np.zeros(SIDE, np.uint8)
    cv2.fillPoly(layer, [np.round((points + centre) * 16).astype(np.int32)], 255, cv2.LINE_AA, shift=4)
    return layer[..., None].astype(np.float32) / 255


def _surface(rng, size, centre):
    """What a thing is made of: a colour, perhaps with stripes or spots of another, lit from one side; float32 H×W×3."""
    first, second = rng.uniform(20, 235, (2, 3)).astype(np.float32)
    y, x = np.mgrid[: SIDE[0], : SIDE[1]].astype(np.float32)
    u, v = (x - np.float32(centre[0])) / np.float32(size), (y - np.float32(centre[1])) / np.float32(size)
    turn, scale, kind = rng.uniform(0, np.pi), rng.uniform(5, 14), rng.random()
    along, aside = np.float32(scale * np.cos(turn)), np.float32(scale * np.sin(turn))
    across = np.sin(along * u + aside * v)
    if kind < 0.4:  # plain
        pattern = np.zeros(SIDE, np.float32)
    elif kind < 0.7:
        pattern = np.clip(3 * across, 0, 1)
    else:
        pattern = np.clip(4 * across * np.sin(along * v - aside * u) - 1, 0, 1)
    light = rng.uniform(-0.7, 0.7, 2).astype(np.float32)
    shade = 1.2 - 0.45 * np.hypot(u - light[0], v - light[1])
    return (first + pattern[..., None] * (second - first)) * np.maximum(shade, 0.4)[..., None]


def _backdrop(rng):
    """A gradient with soft noise, half the time with hills before it: float32 H×W×3."""
    colours = rng.uniform(30, 225, (4, 3)).astype(np.float32)
    down = np.linspace(0, 1, SIDE[0], dtype=np.float32)[:, None, None]
    image = colours[0] * (1 - down) + colours[1] * down + _noise(rng, int(rng.integers(3, 8)), rng.uniform(3, 16))
    if rng.random() < 0.5:
        t, rows = np.linspace(0, 1, SIDE[1]), np.arange(SIDE[0])[:, None]
        for level, colour in zip((0.45, 0.7), colours[2:]):
            crest = level + 0.1 * np.sin(rng.uniform(3, 12) * t + rng.uniform(0, 6)) + 0.03 * np.sin(40 * t * level)
            hill = np.clip(rows - crest * SIDE[0], 0, 1)[..., None].astype(np.float32)
            image += hill * (0.5 * colour + 0.5 * colours[1] - image)
    return image + _noise(rng, int(rng.integers(20, 60)), rng.uniform(2, 12))


def scene(seed, index):
    """One scene: (uint8 H×W×3 RGB image, uint8 H×W mask); a function of (seed, index)."""
    rng = np.random.default_rng((seed, index))
    height, width = SIDE
    image = _backdrop(rng)
    for _ in range(int(rng.integers(1, 6))):  # out of focus
        size, centre = rng.uniform(0.1, 0.3) * height, rng.uniform((0, 0), (width, height))
        layer = _shape(rng, size, centre)
        thing = np.concatenate([layer, layer * _surface(rng, size, centre)], axis=2)
        blurred = cv2.GaussianBlur(thing, (0, 0), rng.uniform(3, 7))
        image = image * (1 - blurred[..., :1]) + blurred[..., 1:]
    mask = np.zeros((height, width, 1), np.float32)
    for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
        size = rng.uniform(0.26, 0.44) * height * (0.75 if mask.any() else 1.0)
        centre = rng.uniform((0.22 * width, 0.25 * height), (0.78 * width, 0.75 * height))
        layer = _shape(rng, size, centre)
        shadow = cv2.warpAffine(layer[..., 0], np.float32([[1, 0, 5], [0, 1, 5]]), (width, height))
        shadow = cv2.GaussianBlur(shadow, (0, 0), 5)[..., None]
        image *= 1 - 0.45 * shadow * (1 - mask)
        image += layer * (_surface(rng, size, centre) - image)
        mask = np.maximum(mask, layer)
    image += np.float32(rng.uniform(1, 4)) * rng.standard_normal(image.shape, np.float32)
    return np.clip(image, 0, 255).astype(np.uint8), np.round(255 * mask[..., 0]).astype(np.uint8)


# folder -> (first index, number of scenes, copies of each, with masks). The few are the first of DEMO-TR; their copies
# make an epoch as long as the others', so that every network is trained by the same schedule.
PARTS = {
    "DEMO-TR": (0, 400, 1, True),
    "DEMO-FEW": (0, 8, 50, True),
    "DEMO-UNLABELLED": (10_000, 400, 1, False),
    "DEMO-TE": (20_000, 60, 1, True),
}


def make_demo_set(root, seed=0):
    """Write the demo set in the usual layout: root/DEMO-TR, root/DEMO-FEW, root/DEMO-UNLABELLED (no masks),
    root/DEMO-TE.

    A part that is complete (its list file is written last) is left as it is.
    """
    for name, (first, count, copies, with_masks) in PARTS.items():
        folder = os.path.join(root, name)
        listing = os.path.join(folder, "test.txt" if name.endswith("TE") else "train.txt")
        if os.path.exists(listing):
            continue
        os.makedirs(os.path.join(folder, "image"), exist_ok=True)
        names = []
        for number in progress(range(count), desc=name, leave=False):
            image, mask = scene(seed, first + number)
            bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
            _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 95])
            for _ in range(copies):
                names.append("%04d" % (len(names) + 1))
                write_bytes(os.path.join(folder, "image", names[-1] + ".jpg"), data.tobytes(), sync=False)
                if with_masks:
                    write_png(os.path.join(folder, "mask", names[-1] + ".png"), mask, sync=False)
        write_text(listing, "".join(name + "\n" for name in names))
