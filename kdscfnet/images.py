"""Reading and writing image files exactly: whole, upright, by what they hold and not by their suffix.

One decoder for all: the check before training, training, prediction and scoring read by `decode_any` and `read_mask`.
OpenCV decodes where it is exact, Pillow the rest.
"""

from __future__ import annotations

import importlib.util
import io

import cv2
import numpy as np

from kdscfnet import formats
from kdscfnet.errors import BadImageError
from kdscfnet.files import write_bytes
from kdscfnet.text import is_address

HEIF_SUFFIXES = (".heic", ".heif")
_HEIF = importlib.util.find_spec("pillow_heif") is not None
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff") + (HEIF_SUFFIXES if _HEIF else ())

FIRST_FRAME = "animated: the map is of the first frame"
NO_END_MARKER = "the JPEG has no end marker; all of its pixels are there"
FROM_ALPHA = "the alpha channel was taken: it holds the mask"
LOW_BYTES = "16 bits that hold 8-bit levels"
SIXTEEN_BITS = "16 bits, brought to 8"
NO_FILE = "an address, not a file: download it first, then name the file"
IN_COLOUR = "in colour, the mean of its channels counts"

_JPEG = "JPEG", 65500, [cv2.IMWRITE_JPEG_QUALITY, 92]  # its name, pixels of its longer side (of libjpeg), options
_WRITERS = {
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".webp": ("WebP", 16383, [cv2.IMWRITE_WEBP_QUALITY, 101]),  # beyond 100: lossless
}

# EXIF orientation → the flip (of cv2.flip) that turns the stored pixels upright; from 5 on they are transposed before
_FLIPS = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}


def read_image(path):
    """Read an image file.

    Returns uint8 H×W×3, RGB. Greyscale becomes three equal channels; alpha is dropped. The pixels are those of
    cv2.imread(path, cv2.IMREAD_COLOR), as in the authors' code, turned as EXIF says.
    Raises BadImageError where the file is missing, no image or cut short.
    """
    return read_any(path)[0]


def read_any(path):
    """Read an image file. Returns (uint8 H×W×3 RGB, a note or None). Raises BadImageError."""
    return decode_any(read_bytes(path), path)


def decode_any(data, path):
    """Decode the bytes of an image file; `path` is for the message. Returns like `read_any`."""
    image, notes = _decode(data, path, cv2.IMREAD_COLOR)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB), "; ".join(notes) or None


def read_mask(path):
    """Read a mask or a saliency map: uint8 H×W for a grey file, else H×W×3, whose mean is the mask (`rounded_mean`).

    Alpha is dropped, unless it is what holds the mask: it varies, while the colours are constant, or are those of a
    picture that was cut out. Sixteen bits are brought to 8 by the upper byte, or by the lower where the upper is 0.
    Raises BadImageError like `read_image`.
    """
    return _mask_and_notes(path)[0]


def read_levels(path):
    """`read_mask`, its mean, and what a reader of its figures must know: returns (uint8 H×W, list of notes)."""
    mask, notes = _mask_and_notes(path)
    return rounded_mean(mask), notes


def _mask_and_notes(path):
    data = read_bytes(path)
    if formats.may_have_alpha(data):
        pixels, notes = _decode(data, path, cv2.IMREAD_UNCHANGED)
        levels = _alpha(pixels)
        if levels is not None:
            return levels, notes + [FROM_ALPHA]
    depth = cv2.IMREAD_ANYDEPTH if formats.has_sixteen_bits(data) else 0
    levels, notes = _decode(data, path, cv2.IMREAD_ANYCOLOR | depth)
    if levels.dtype == np.uint16:
        small = 0 < levels.max() <= 255
        levels = (levels if small else levels >> 8).astype(np.uint8)
        notes.append(LOW_BYTES if small else SIXTEEN_BITS)
    if levels.ndim == 3:
        if (levels[..., 0] == levels[..., 1]).all() and (levels[..., 0] == levels[..., 2]).all():
            levels = np.ascontiguousarray(levels[..., 0])
        else:
            notes.insert(0, IN_COLOUR)
    return levels, notes


def rounded_mean(mask):
    """The mean of a mask's channels, halves up: uint8 H×W as it is, or H×W×3 to H×W."""
    return mask if mask.ndim == 2 else np.floor(mask.mean(axis=2, dtype=np.float32) + np.float32(0.5)).astype(np.uint8)


def size_of(path):
    """((width, height), notes) of an image file as it is read: upright, and whole. Raises BadImageError.

    A JPEG or PNG that OpenCV reads is known by its header and its end, about ten times as fast as by decoding it;
    every other file is decoded.
    """
    data = read_bytes(path)
    size = formats.header_size(data)
    if size is None:
        image, notes = _decode(data, path, cv2.IMREAD_COLOR)
        return image.shape[1::-1], notes
    _, notes = _whole(data, path)
    _limit(size, path)
    return size[::-1] if formats.orientation(data) >= 5 else size, notes


def write_png(path, image, sync=True):
    """Write uint8 H×W, H×W×3 (RGB) or H×W×4 (RGBA) as PNG, whole or not at all (`sync`: see files.write_bytes)."""
    write_bytes(path, encode(image, ".png"), sync)


def encode(image, suffix):
    """uint8 H×W, H×W×3 (RGB) or H×W×4 (RGBA) → the bytes of a file of that suffix; all but JPEG are exact.

    OpenCV's own settings for PNG (run-length strategy, Sub filter) are both the fastest and near the smallest for
    saliency maps. Raises BadImageError, without a path, where the image is too large for such a file.
    """
    name, limit, options = _WRITERS.get(suffix, ("", 0, []))
    height, width = image.shape[:2]
    if limit and max(height, width) > limit:
        raise BadImageError("", "%d×%d pixels are more than a %s file can hold" % (width, height, name))
    if image.ndim == 3:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR if image.shape[2] == 3 else cv2.COLOR_RGBA2BGRA)
    elif name == "JPEG":
        image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    done, data = cv2.imencode(suffix, image, options)
    if not done:
        raise ValueError("OpenCV could not encode %d×%d pixels of %s as %s" % (width, height, image.dtype, suffix))
    return data.tobytes()


def read_bytes(path):
    """The bytes of an image file. Raises BadImageError where it is missing or empty."""
    try:
        with open(path, "rb", 0) as file:  # a buffer helps nobody who reads all at once
            data = file.read()
    except OSError as error:
        raise BadImageError(path, NO_FILE if is_address(path) else error.strerror or str(error))
    if not data:
        raise BadImageError(path, "the file is empty")
    return data


# ---- decoding


def _decode(data, path, flags):
    """(pixels as OpenCV has them: BGR, notes) of the bytes of an image file, whole and upright."""
    notes = [FIRST_FRAME] if formats.is_animated(data) else []
    data, more = _whole(data, path)
    notes += more
    _limit(formats.header_size(data), path)
    for_pillow = data[:4] == b"GIF8" or formats.heif_brand(data) or (formats.is_extended_webp(data) and data[20] & 2)
    image = None if for_pillow else _decode_with_opencv(data, path, flags)
    return _decode_with_pillow(data, path, flags) if image is None else image, notes


def _decode_with_opencv(data, path, flags):
    """The pixels; None where OpenCV does not read the file, which Pillow may."""
    real = formats.is_tiff(data) and formats.holds_real_numbers(data)
    if not formats.is_tiff(data):  # OpenCV turns a TIFF as it says, whatever the flags
        flags |= cv2.IMREAD_IGNORE_ORIENTATION  # IMREAD_UNCHANGED stays as it is: all of its bits are set
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED if real else flags)
    except cv2.error as error:
        if "_IMAGE_" in str(error).strip().splitlines()[-1]:  # CV_IO_MAX_IMAGE_PIXELS, _WIDTH, _HEIGHT
            raise BadImageError(path, _TOO_LARGE)
        return None
    if image is None:
        return None
    if real:
        image = _levels_of_real_numbers(image, path, flags)
    orientation = formats.orientation(data)
    if orientation >= 5:
        image = cv2.transpose(image)
    return cv2.flip(image, _FLIPS[orientation]) if orientation in _FLIPS else image


def _decode_with_pillow(data, path, flags):
    from PIL import Image

    if formats.heif_brand(data) not in (b"", b"avif", b"avis"):
        if not _HEIF:
            raise BadImageError(path, "HEIC: pip install pillow-heif, or save it as JPEG")
        import pillow_heif

        pillow_heif.register_heif_opener()
    try:
        with Image.open(io.BytesIO(data)) as opened:
            return from_pillow(opened, path, flags)
    except (BadImageError, MemoryError):
        raise
    except Image.DecompressionBombError:
        raise BadImageError(path, _TOO_LARGE)
    except Exception as error:
        # "cannot identify" tells no more than the line does
        known = not isinstance(error, Image.UnidentifiedImageError)
        reason = " (%s)" % " ".join(str(error).split())[:100] if known else ""
        raise BadImageError(path, "not an image that OpenCV or Pillow can decode" + reason)


def from_pillow(image, path, flags):
    """A PIL image as OpenCV has its pixels, upright."""
    from PIL import ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # integers of 16 or 32 bits
        levels = np.clip(np.asarray(image).astype(np.int64), 0, 65535) >> 8
        return cv2.cvtColor(levels.astype(np.uint8), cv2.COLOR_GRAY2BGR)
    if image.mode == "F":
        raise BadImageError(path, _REAL_NUMBERS)
    if flags == cv2.IMREAD_UNCHANGED and (image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info):
        return cv2.cvtColor(np.array(image.convert("RGBA")), cv2.COLOR_RGBA2BGRA)
    return cv2.cvtColor(np.array(image.convert("RGB")), cv2.COLOR_RGB2BGR)


_MOST_PIXELS = 1 << 30  # OpenCV's own limit
_TOO_LARGE = "more pixels than can be read (%d million): make it smaller" % (_MOST_PIXELS // 10**6)


def _limit(size, path):
    """Raise BadImageError for a picture that would take all memory. size: (width, height), or None."""
    if size is not None and size[0] * size[1] > _MOST_PIXELS:
        raise BadImageError(path, "%d×%d, %s" % (size + (_TOO_LARGE,)))


# ---- files that end early


def _whole(data, path):
    """(the bytes of an image file, notes). Raises BadImageError where pixels are missing.

    OpenCV fills what is missing with grey and only prints a warning. What lacks its end marker alone gets it.
    """
    if formats.is_jpeg(data):
        # The end marker must come after the last start of scan; thumbnails in the header have both of their own.
        end = data.rfind(b"\xff\xd9")
        suspicious = end < 0 or data.find(b"\xff\xda", end) >= 0
    else:
        if formats.is_png(data) and not formats.png_checksums_hold(data):
            raise BadImageError(path, "damaged: a checksum in it is wrong")
        suspicious = formats.is_png(data) and b"IEND" not in data[-12:]
    if not suspicious or _pixels(data) is not None:  # slow and strict: asked only where something is odd
        return data, []
    if formats.is_jpeg(data):
        # A decoder that has all pixels ignores what follows; one that lacks some makes them of what follows.
        body = data[:-1] if data.endswith(b"\xff") else data  # half of the marker
        endings = [_pixels(body + filling + b"\xff\xd9") for filling in (b"", b"\x00" * 64, b"\xa5" * 64)]
        if all(pixels is not None and np.array_equal(pixels, endings[0]) for pixels in endings):
            return body + b"\xff\xd9", [NO_END_MARKER]
    raise BadImageError(path, "the image is cut short")


def _pixels(data):
    """The pixels of the bytes of an image as Pillow reads them; None where it finds them cut short."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as opened:
            opened.load()
            return np.asarray(opened)
    except Exception:
        return None


# ---- masks in other channels and other ranges


def _alpha(image):
    """uint8 H×W: the alpha channel of an image (BGRA) where that holds the mask, else None."""
    if image.ndim != 3 or image.shape[2] != 4:
        return None
    colours, alpha = image[..., :3], image[..., 3]
    if (alpha == alpha[0, 0]).all():
        return None
    constant = (colours == colours[0, 0]).all()
    grey = (colours[..., 0] == colours[..., 1]).all() and (colours[..., 0] == colours[..., 2]).all()
    if grey and not constant:
        return None  # a mask with an alpha channel of its own
    return (alpha >> 8).astype(np.uint8) if alpha.dtype == np.uint16 else np.ascontiguousarray(alpha)


_REAL_NUMBERS = "an image of real numbers that go neither from 0 to 1 nor to 255: save it with 8 or 16 bits a channel"


def _levels_of_real_numbers(image, path, flags):
    """uint8 levels of real numbers from 0 to 1, or to 255; channels as `flags` ask for them.

    Compression and resizing overshoot a little. Between 1 and 128 nobody could tell what is white.
    """
    low, high = float(np.min(image)), float(np.max(image))
    scale = 255 if high <= 1.05 else 1
    if image.dtype == np.uint8 or not (low * scale >= -13 and (scale == 255 or 128 <= high <= 256)):  # NaN too
        raise BadImageError(path, _REAL_NUMBERS)
    levels = np.rint(np.clip(image.astype(np.float64) * scale, 0, 255)).astype(np.uint8)
    if levels.ndim == 3 and levels.shape[2] == 4 and flags != cv2.IMREAD_UNCHANGED:
        levels = np.ascontiguousarray(levels[..., :3])
    if levels.ndim == 2 and flags == cv2.IMREAD_COLOR:
        levels = cv2.cvtColor(levels, cv2.COLOR_GRAY2BGR)
    return levels
