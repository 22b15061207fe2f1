"""A small generated data set with maps of it, for the tests of scoring."""

from __future__ import annotations

import cv2
import numpy as np

NAMES = tuple("%04d" % number for number in range(1, 9))


def write(path, array):
    """Write an array as an image file, made folders included."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), array)
    return path


def make_data(root, names=NAMES, size=(40, 60), seed=0):
    """`root`/image/*.jpg and `root`/mask/*.png: ellipses on noise. Returns {name: mask}."""
    rng = np.random.RandomState(seed)
    masks = {}
    for name in names:
        mask = np.zeros(size, np.uint8)
        centre = int(rng.randint(10, size[1] - 10)), int(rng.randint(10, size[0] - 10))
        cv2.ellipse(mask, centre, (size[1] // 5, size[0] // 5), 30.0, 0, 360, 255, -1)
        image = rng.randint(0, 120, size + (3,)).astype(np.uint8)
        image[mask > 0] += 120
        write(root / "image" / (name + ".jpg"), image)
        write(root / "mask" / (name + ".png"), mask)
        masks[name] = mask
    return masks


def make_maps(folder, masks, noise=25, seed=1):
    """A blurred, noisy map of each mask in `folder`. Returns {name: map}."""
    rng = np.random.RandomState(seed)
    maps = {}
    for name, mask in masks.items():
        soft = cv2.GaussianBlur(mask, (0, 0), 2) + rng.normal(0, noise, mask.shape)
        maps[name] = np.clip(soft, 0, 255).astype(np.uint8)
        write(folder / (name + ".png"), maps[name])
    return maps
