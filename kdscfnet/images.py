"""Reading and writing image files exactly: whole files, RGB; OpenCV where it is exact, Pillow for the rest."""

from __future__ import annotations

import io

import cv2
import numpy as np

from kdscfnet.errors import BadImageError
from kdscfnet.files import write_bytes

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


def read_image(path):
    """Read an image file.

    Returns uint8 H×W×3, RGB. Greyscale becomes three equal channels; alpha is dropped. The pixels are those of
    cv2.imread(path, cv2.IMREAD_COLOR), as in the authors' code.
    Raises BadImageError where the file is missing, no image or cut short.
    """
    return cv2.cvtColor(decode(read_bytes(path), path), cv2.COLOR_BGR2RGB)


def read_mask(path):
    """Read a mask or a saliency map.

    Returns uint8 H×W for a one-channel file, else uint8 H×W×3 (the mean of the channels is the mask: see `mask_mean`).
    Sixteen-bit files are brought to 8 bits, alpha is dropped. Raises BadImageError like `read_image`.
    """
    mask = decode(read_bytes(path), path, cv2.IMREAD_ANYCOLOR)
    if mask.ndim == 3 and (mask[..., 0] == mask[..., 1]).all() and (mask[..., 0] == mask[..., 2]).all():
        mask = np.ascontiguousarray(mask[..., 0])
    return mask


def mask_mean(mask):
    """The mean of a mask's channels: H×W as it is, or uint8 H×W×3 to float32 H×W (range 0 to 255)."""
    return mask if mask.ndim == 2 else mask.mean(axis=2, dtype=np.float32)


def write_png(path, image, sync=True):
    """Write uint8 H×W, H×W×3 (RGB) or H×W×4 (RGBA) as PNG, whole or not at all (`sync`: see files.write_bytes)."""
    write_bytes(path, encode_png(image), sync)


def encode_png(image):
    """uint8 H×W, H×W×3 (RGB) or H×W×4 (RGBA) → the bytes of a PNG file.

    OpenCV's own settings (run-length strategy, Sub filter) are both the fastest and near the smallest for these maps.
    """
    if image.ndim == 3:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR if image.shape[2] == 3 else cv2.COLOR_RGBA2BGRA)
    done, data = cv2.imencode(".png", image)
    if not done:
        raise ValueError("OpenCV could not encode an array of shape %s and type %s" % (image.shape, image.dtype))
    return data.tobytes()


def read_bytes(path):
    """The bytes of an image file. Raises BadImageError where it is missing or empty."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise BadImageError(path, error.strerror or str(error))
    if not data:
        raise BadImageError(path, "the file is empty")
    return data


def decode(data, path, flags=cv2.IMREAD_COLOR):
    """Decode the bytes of an image file; `path` is for the message. Returns what cv2.imread(path, flags) does (BGR)."""
    check_whole(data, path)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise BadImageError(path, "OpenCV cannot decode it (%s)" % str(error).strip().splitlines()[-1])
    if image is None:
        raise BadImageError(path, "not an image that OpenCV can decode")
    return image


def check_whole(data, path):
    """Raise BadImageError where `data`, the bytes of an image file, ends early; nothing is decoded."""
    if _is_cut_short(data):
        raise BadImageError(path, "the image is cut short")


def _is_cut_short(data):
    """Whether a JPEG or PNG file ends early. OpenCV fills what is missing with grey and only prints a warning."""
    if data[:2] == b"\xff\xd8":
        # The end marker must come after the last start of scan; thumbnails in the header have both of their own.
        end = data.rfind(b"\xff\xd9")
        suspicious = end < 0 or data.find(b"\xff\xda", end) >= 0
    elif data[:8] == b"\x89PNG\r\n\x1a\n":
        suspicious = b"IEND" not in data[-12:]
    else:
        return False
    if not suspicious:
        return False
    from PIL import Image  # slow and strict; asked only where the quick look found something odd

    try:
        Image.open(io.BytesIO(data)).load()
    except Exception:
        return True
    return False


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
