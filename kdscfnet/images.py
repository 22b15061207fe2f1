"""Reading and writing image files exactly: OpenCV's decoder, whole files only, colours always RGB."""

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
