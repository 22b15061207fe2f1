"""Reading images of every kind people have: OpenCV where it is exact, Pillow for what OpenCV cannot read."""

from __future__ import annotations

import io

import cv2
import numpy as np

from kdscfnet.errors import BadImageError
from kdscfnet.images import decode, read_bytes

FIRST_FRAME = "animated: the map is of the first frame"


def read_any(path):
    """Read an image file. Returns (uint8 H×W×3 RGB, a note or None). Raises BadImageError."""
    return decode_any(read_bytes(path), path)


def decode_any(data, path):
    """Decode the bytes of an image file; `path` is for the message. Returns like `read_any`.

    The pixels are those of cv2.imread(path) in every format that OpenCV reads, turned as EXIF says.
    """
    note = FIRST_FRAME if _is_animated(data) else None
    if not _needs_pillow(data):
        try:
            return cv2.cvtColor(decode(data, path), cv2.COLOR_BGR2RGB), note
        except BadImageError as error:
            if "OpenCV" not in error.reason:
                raise
            failure = error
        try:
            return _decode_with_pillow(data, path), note
        except BadImageError:
            raise failure
    return _decode_with_pillow(data, path), note


def _is_animated(data):
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return 0 <= data.find(b"acTL", 0, 4096) < data.find(b"IDAT")
    if data[:4] == b"RIFF" and data[8:16] == b"WEBPVP8X":
        return bool(data[20] & 2)
    if data[:4] == b"GIF8":
        from PIL import Image

        try:
            return bool(getattr(Image.open(io.BytesIO(data)), "is_animated", False))
        except Exception:  # a broken file; reading it will say so
            return False
    return False


def _needs_pillow(data):
    """GIF; WebP that is animated or turned by EXIF; PNG turned by EXIF, which old versions of OpenCV do not turn."""
    if data[:4] == b"RIFF" and data[8:16] == b"WEBPVP8X":
        return bool(data[20] & (2 | 8))
    return data[:4] == b"GIF8" or (data[:4] == b"\x89PNG" and b"eXIf" in data)


def _decode_with_pillow(data, path):
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(data)) as opened:
            image = ImageOps.exif_transpose(opened)
            if image.mode.startswith("I;16") or image.mode == "I":
                levels = np.asarray(image).astype(np.int64)
                grey = (np.clip(levels, 0, 65535) >> 8).astype(np.uint8)
                return np.ascontiguousarray(np.repeat(grey[..., None], 3, axis=2))
            if image.mode == "F":
                raise BadImageError(path, "an image of real numbers: save it with 8 or 16 bits a channel")
            return np.array(image.convert("RGB"))
    except BadImageError:
        raise
    except MemoryError:
        raise
    except Exception as error:
        raise BadImageError(
            path, "not an image that OpenCV or Pillow can decode (%s)" % str(error).splitlines()[0][:100]
        )
