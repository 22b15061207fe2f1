"""The check before training: every file is looked at before anything is written."""

from __future__ import annotations

import io
import os
from concurrent.futures import ThreadPoolExecutor

from kdscfnet.errors import BadImageError
from kdscfnet.images import check_whole, read_bytes
from kdscfnet.text import progress


def scan(images, masks, skip_bad=False, same_size=True, title="checking"):
    """Look at every file before training starts: whole, an image, and mask and image of one size.

    It reads the files and their headers but decodes nothing, about ten times as fast as decoding.

    Args:
        images, masks: parallel tuples of paths; masks may be empty.
        same_size: masks must have their image's size.
        skip_bad: leave out what is bad instead of raising.

    Returns (images, masks, problems): what is good, and a list of BadImageError. Raises the first otherwise.
    """
    pairs = list(zip(images, masks)) if masks else [(image, None) for image in images]

    def look(pair):
        try:
            size = _size_of(pair[0])
            if pair[1] is not None:
                mask_size = _size_of(pair[1])
                if same_size and mask_size != size:
                    raise BadImageError(
                        pair[1], "the mask is %d×%d, its image %d×%d: they must be of one size" % (mask_size + size)
                    )
        except BadImageError as error:
            return error
        return None

    good, problems = [], []
    with ThreadPoolExecutor(max(2, os.cpu_count() or 1)) as pool:
        for pair, error in progress(zip(pairs, pool.map(look, pairs)), total=len(pairs), desc=title, leave=False):
            if error is None:
                good.append(pair)
            elif skip_bad:
                problems.append(error)
            else:
                pool.shutdown(wait=False)
                raise BadImageError(error.path, error.reason + " (--skip-bad goes on without it)")
    return tuple(p[0] for p in good), tuple(p[1] for p in good) if masks else (), problems


def _size_of(path):
    """(width, height) from the header of an image file, after a look at its end. EXIF rotation counts."""
    from PIL import Image

    data = read_bytes(path)
    check_whole(data, path)
    try:
        with Image.open(io.BytesIO(data)) as image:
            size = image.size
            if image.format == "JPEG" and b"Exif" in data[:64] and image.getexif().get(0x0112, 1) >= 5:
                size = size[::-1]
            return size
    except Exception:
        raise BadImageError(path, "not an image that can be read")
