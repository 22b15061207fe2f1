"""What the bytes of an image file say of it: its format, size, orientation and depth. Nothing is decoded."""

from __future__ import annotations

import io
import struct
import zlib


def is_jpeg(data):
    return data[:2] == b"\xff\xd8"


def is_png(data):
    return data[:8] == b"\x89PNG\r\n\x1a\n"


def png_checksums_hold(data):
    """Whether the chunks of a PNG file that make its pixels, as far as they are there, have the checksums they say.

    OpenCV 5 reads a file with a wrong one, and makes up the pixels.
    """
    position = 8
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 8 + length
        if end + 4 > len(data):
            break  # cut short
        if kind[:1].isupper() and zlib.crc32(data[position + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            return False
        position = end + 4
    return True


def is_extended_webp(data):
    return data[:4] == b"RIFF" and data[8:16] == b"WEBPVP8X" and len(data) > 20


def is_tiff(data):
    return data[:4] in (b"II*\0", b"MM\0*")


def heif_brand(data):
    """The brand of a file of the AVIF and HEIC family, else b""."""
    return data[8:12] if data[4:8] == b"ftyp" else b""


def is_animated(data):
    if is_png(data):
        return 0 <= data.find(b"acTL", 0, 4096) < data.find(b"IDAT")
    if is_extended_webp(data):
        return bool(data[20] & 2)
    if data[:4] == b"GIF8":
        from PIL import Image

        try:
            return bool(getattr(Image.open(io.BytesIO(data)), "is_animated", False))
        except Exception:  # a broken file; reading it will say so
            return False
    return False


def may_have_alpha(data):
    if is_png(data):
        return data[25:26] in (b"\4", b"\6") or data.find(b"tRNS", 0, max(0, data.find(b"IDAT"))) >= 0
    if data[:4] == b"RIFF":
        return data[12:16] == b"VP8L" or (is_extended_webp(data) and bool(data[20] & 16))
    return is_tiff(data)


def has_sixteen_bits(data):
    return data[24:25] == b"\x10" if is_png(data) else is_tiff(data)


def segments(data):
    """(marker, first byte of the content, length) of the segments of a JPEG file that stand before its pixels."""
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF and data[position + 1] != 0xDA:
        if data[position + 1] == 0xFF:  # a fill byte
            position += 1
            continue
        length = (data[position + 2] << 8) + data[position + 3]
        yield data[position + 1], position + 4, length - 2
        position += 2 + length


def header_size(data):
    """(width, height) as they are stored in a JPEG or PNG that OpenCV reads; None for any other file."""
    if is_png(data) and len(data) >= 24:
        return struct.unpack(">II", data[16:24])
    if is_jpeg(data):
        for marker, start, length in segments(data):
            if marker in (0xC0, 0xC1, 0xC2) and length >= 5:  # baseline, extended, progressive
                depth, height, width = struct.unpack(">BHH", data[start : start + 5])
                return (width, height) if depth == 8 and height else None
    return None  # lossless, hierarchical and arithmetic JPEG among them


def _jpeg_exif(data):
    """The content of a JPEG's EXIF segment, from its name on, or b""."""
    for marker, start, length in segments(data):
        if marker == 0xE1 and data[start : start + 6] == b"Exif\0\0":
            return data[start : start + length]
    return b""


def _plainly_upright(exif):
    """Whether the first directory of EXIF data lists its entries well, and none of them turns the picture."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[6:10])
    if order is None:
        return False
    try:
        (first,) = struct.unpack_from(order + "I", exif, 10)
        (count,) = struct.unpack_from(order + "H", exif, 6 + first)
        entries = [struct.unpack_from(order + "HHIH", exif, 8 + first + 12 * index) for index in range(count)]
    except struct.error:  # cut short
        return False
    return all(entry == (0x0112, 3, 1, 1) for entry in entries if entry[0] == 0x0112)


def orientation(data):
    """The EXIF orientation (1 to 8) of a JPEG, PNG or WebP file, wherever in it the EXIF data stand."""
    if is_jpeg(data):
        exif = _jpeg_exif(data)
        turned = exif and not _plainly_upright(exif)  # Pillow is slow to start
    else:
        turned = b"eXIf" in data if is_png(data) else is_extended_webp(data) and data[20] & 8
    if not turned:
        return 1
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as opened:
            if is_png(data):
                opened.load()  # it may stand behind the pixels
            exif = Image.Exif()
            exif.load(opened.info["exif"])
            value = exif.get(0x0112, 1)
    except Exception:  # no EXIF data that anybody could read
        return 1
    return value if value in range(1, 9) else 1


def holds_real_numbers(data):
    from PIL import TiffImagePlugin

    try:
        tags, file = TiffImagePlugin.ImageFileDirectory_v2(data[:8]), io.BytesIO(data)
        file.seek(tags.next)
        tags.load(file)
        kinds = tags.get(339, 1)  # SampleFormat; 3: real numbers
        in_logarithms = tags.get(262) in (32844, 32845)  # PhotometricInterpretation: LogL, LogLuv
        return in_logarithms or 3 in (kinds if isinstance(kinds, tuple) else (kinds,))
    except Exception:  # no TIFF that anybody could read
        return False
