"""Every kind of image file people have, with a real file of each kind."""

from __future__ import annotations

import io
import struct
import sys
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps
from predicting import picture, save

from kdscfnet import formats, images
from kdscfnet.data.names import list_images
from kdscfnet.errors import BadImageError
from kdscfnet.images import FIRST_FRAME, read_any, read_image, read_levels, read_mask, size_of

# EXIF orientation -> what turns the stored pixels upright
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a),
}


@pytest.fixture
def image():
    return picture()


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_orientations(tmp_path, image, suffix, orientation):
    if suffix == "webp" and not _writes_webp():
        pytest.skip("this Pillow writes no WebP")
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / ("turned." + suffix)
    options = {"exif": exif.tobytes() if suffix != "tif" else exif}
    Image.fromarray(image).save(str(path), **dict(options, **({"lossless": True} if suffix == "webp" else {})))
    stored = (
        image
        if suffix != "jpg"
        else cv2.imdecode(np.fromfile(str(path), np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)[..., ::-1]
    )
    made, note = read_any(path)
    np.testing.assert_array_equal(made, UPRIGHT[orientation](stored))
    assert note is None


def _writes_webp():
    from PIL import features

    return features.check("webp")


def test_plain_files_have_the_pixels_of_imread(tmp_path, image):
    for suffix in (".jpg", ".png", ".bmp", ".tif", ".webp"):
        path = save(tmp_path / ("plain" + suffix), image)
        np.testing.assert_array_equal(read_any(path)[0], cv2.imread(str(path))[..., ::-1])


def test_greyscale(tmp_path, image):
    grey = image[..., 1]
    for suffix in (".png", ".jpg", ".tif"):
        path = save(tmp_path / ("grey" + suffix), grey)
        made, _ = read_any(path)
        assert made.shape == image.shape
        np.testing.assert_array_equal(made, cv2.imread(str(path))[..., ::-1])
        np.testing.assert_array_equal(made[..., 0], made[..., 2])


def test_alpha_is_dropped(tmp_path, image):
    picture_with_alpha = Image.fromarray(np.dstack([image, image[..., 0]]))
    for suffix in ("png", "webp"):
        path = tmp_path / ("alpha." + suffix)
        picture_with_alpha.save(str(path), **({"lossless": True, "exact": True} if suffix == "webp" else {}))
        np.testing.assert_array_equal(read_any(path)[0], image)
    Image.fromarray(image).convert("LA").save(str(tmp_path / "la.png"))
    assert read_any(tmp_path / "la.png")[0].shape == image.shape


def test_sixteen_bits(tmp_path, image):
    for suffix in (".png", ".tif"):
        save(tmp_path / ("colour" + suffix), image.astype(np.uint16) * 257)
        np.testing.assert_array_equal(read_any(tmp_path / ("colour" + suffix))[0], image)
        save(tmp_path / ("grey" + suffix), image[..., 0].astype(np.uint16) * 257)
        np.testing.assert_array_equal(read_any(tmp_path / ("grey" + suffix))[0], np.repeat(image[..., :1], 3, axis=2))


def test_cmyk(tmp_path, image):
    cmyk = Image.fromarray(image).convert("CMYK")
    cmyk.save(str(tmp_path / "cmyk.jpg"), quality=95)
    cmyk.save(str(tmp_path / "cmyk.tif"))
    assert np.abs(read_any(tmp_path / "cmyk.tif")[0].astype(int) - image).max() <= 2
    assert np.abs(read_any(tmp_path / "cmyk.jpg")[0].astype(int) - image).mean() < 4  # JPEG loses some


def test_palette_and_one_bit(tmp_path, image):
    palette = Image.fromarray(image).convert("P")
    for suffix in ("png", "gif", "bmp", "tif"):
        palette.save(str(tmp_path / ("palette." + suffix)))
        made, note = read_any(tmp_path / ("palette." + suffix))
        np.testing.assert_array_equal(made, np.asarray(palette.convert("RGB")))
        assert note is None
    bits = Image.fromarray(image).convert("1")
    bits.save(str(tmp_path / "bits.png"))
    np.testing.assert_array_equal(read_any(tmp_path / "bits.png")[0], np.asarray(bits.convert("RGB")))


@pytest.mark.parametrize("suffix", ["gif", "png", "webp"])
def test_animated_files_give_their_first_frame_and_say_so(tmp_path, image, suffix):
    if suffix == "webp" and not _writes_webp():
        pytest.skip("this Pillow writes no WebP")
    path = tmp_path / ("moving." + suffix)
    first = Image.fromarray(image)
    first.save(
        str(path),
        save_all=True,
        append_images=[ImageOps.mirror(first), ImageOps.invert(first)],
        **({"lossless": True} if suffix == "webp" else {}),
    )
    made, note = read_any(path)
    assert note == FIRST_FRAME
    assert np.abs(made.astype(int) - image).mean() < (8 if suffix == "gif" else 1e-9)  # a GIF has 256 colours


def test_unicode_names(tmp_path, image):
    path = save(tmp_path / "Größe 显著性 🐟.png", image)
    np.testing.assert_array_equal(read_any(path)[0], image)
    np.testing.assert_array_equal(read_any(str(path))[0], image)


def test_a_wrong_suffix_does_not_matter(tmp_path, image):
    save(tmp_path / "a.png", image).rename(tmp_path / "a.jpg")
    np.testing.assert_array_equal(read_any(tmp_path / "a.jpg")[0], image)


def broken_files(folder, image):
    """Ten files that are no whole images: {name: bytes, or None for a folder}."""
    jpeg = cv2.imencode(".jpg", image)[1].tobytes()
    png = cv2.imencode(".png", image)[1].tobytes()
    return {
        "empty.jpg": b"",
        "text.jpg": b"this is not a picture",
        "page.png": b"<!DOCTYPE html><html><body>Quota exceeded</body></html>",
        "short.jpg": jpeg[: len(jpeg) // 2],
        "head_only.jpg": jpeg[:20],
        "short.png": png[: len(png) // 2],
        "flipped.png": png[:60] + bytes([png[60] ^ 0xFF]) + png[61:],
        "short.gif": b"GIF89a\x10\x00\x10\x00",
        "short.webp": b"RIFF\x40\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00\x02",
        "short.tif": b"II*\x00\x08\x00\x00\x00\x01",
    }


@pytest.mark.parametrize("name", sorted(broken_files(None, picture())))
def test_broken_files_are_named_with_a_reason(tmp_path, image, name):
    path = tmp_path / name
    path.write_bytes(broken_files(tmp_path, image)[name])
    with pytest.raises(BadImageError) as caught:
        read_any(path)
    assert caught.value.path == str(path)
    assert caught.value.reason and "\n" not in str(caught.value)


def test_a_webp_that_ends_in_its_header_is_no_image(tmp_path):
    (tmp_path / "a.webp").write_bytes(b"RIFF\x40\x00\x00\x00WEBPVP8X")
    for read in (read_any, read_mask, size_of):
        with pytest.raises(BadImageError, match="not an image"):
            read(tmp_path / "a.webp")


def test_missing_files_folders_and_forbidden_files(tmp_path, image):
    for path in (tmp_path / "not_there.png", tmp_path):
        with pytest.raises(BadImageError):
            read_any(path)


# ---- what people really feed it: the folders of pictures of public bug reports, made anew


def exif_of(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


def jpeg_of(image, **options):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", **dict({"quality": 95}, **options))
    return file.getvalue()


def with_segments(jpeg, *segments):
    """A JPEG with further segments, (marker, content), behind its first one."""
    end = 4 + int.from_bytes(jpeg[4:6], "big")
    added = b"".join(b"\xff" + bytes([mark]) + (len(text) + 2).to_bytes(2, "big") + text for mark, text in segments)
    return jpeg[:end] + added + jpeg[end:]


LATE_EXIF = {
    "behind JFIF": [(0xE1, exif_of(6))],
    "behind a colour profile": [(0xE2, b"ICC_PROFILE\0\1\1" + bytes(60000)), (0xE1, exif_of(6))],
    "behind XMP": [(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x/>"), (0xFE, b"a comment"), (0xE1, exif_of(6))],
}


@pytest.mark.parametrize("where", sorted(LATE_EXIF))
def test_a_photograph_is_turned_wherever_its_exif_data_stand(tmp_path, image, where):
    path = tmp_path / "phone.jpg"
    path.write_bytes(with_segments(jpeg_of(image), *LATE_EXIF[where]))
    stored = cv2.imdecode(np.frombuffer(jpeg_of(image), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    np.testing.assert_array_equal(read_image(path), UPRIGHT[6](stored))
    assert size_of(path)[0] == image.shape[:2] == read_mask(path).shape[1::-1]


def test_exif_data_behind_the_pixels_of_a_png_turn_it(tmp_path, image):
    whole = io.BytesIO()
    Image.fromarray(image).save(whole, "PNG")
    content = b"eXIf" + exif_of(8)[6:]
    chunk = (len(content) - 4).to_bytes(4, "big") + content + zlib.crc32(content).to_bytes(4, "big")
    (tmp_path / "a.png").write_bytes(whole.getvalue()[:-12] + chunk + whole.getvalue()[-12:])
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), UPRIGHT[8](image))
    assert size_of(tmp_path / "a.png")[0] == image.shape[:2]


def exif_of_entries(order, *values):
    """EXIF data of one directory; values: (tag, kind, count, content) of its entries."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    listed = b"".join(struct.pack(order + "HHI", *value[:3]) + value[3] for value in values)
    return b"Exif\0\0" + mark + struct.pack(order + "IH", 8, len(values)) + listed + bytes(4)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pillow_is_asked_of_what_is_turned_alone(image, order, orientation, monkeypatch):
    width = (0x0100, 3, 1, struct.pack(order + "HH", 6, 0))
    short = (0x0112, 3, 1, struct.pack(order + "HH", orientation, 0))
    long = (0x0112, 4, 1, struct.pack(order + "I", orientation))
    of_short, of_long = (with_segments(jpeg_of(image), (0xE1, exif_of_entries(order, width, x))) for x in (short, long))
    assert formats.orientation(of_short) == formats.orientation(of_long) == orientation
    monkeypatch.setitem(sys.modules, "PIL", None)  # to load it takes time and memory
    if orientation == 1:
        assert formats.orientation(of_short) == 1
    else:
        with pytest.raises(ImportError):
            formats.orientation(of_short)


@pytest.mark.parametrize("exif", [b"Exif\0\0II*\0", b"Exif\0\0" + bytes(40), exif_of(9)])
def test_exif_data_that_say_nothing_turn_nothing(tmp_path, image, exif):
    (tmp_path / "a.jpg").write_bytes(with_segments(jpeg_of(image), (0xE1, exif)))
    assert read_image(tmp_path / "a.jpg").shape == image.shape and size_of(tmp_path / "a.jpg")[0] == image.shape[1::-1]


@pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP", "AVIF", "TIFF", "BMP"])
def test_the_check_and_training_read_by_content_not_by_suffix(tmp_path, image, kind):
    from PIL import features

    if kind in ("AVIF", "WEBP") and not (kind.lower() in features.modules and features.check(kind.lower())):
        pytest.skip("this Pillow writes no " + kind)
    path = tmp_path / "a.jpg"
    Image.fromarray(image).save(str(path), kind)
    assert size_of(path)[0] == image.shape[1::-1]
    assert np.abs(read_image(path).astype(int) - image).mean() < 12  # GIF has 256 colours


def heic(image, mode="RGB", **options):
    import pillow_heif

    file = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(image).convert(mode)).save(file, quality=90, **options)
    return file.getvalue()


@pytest.mark.parametrize("name", ["photo.HEIC", "photo.heif", "photo.jpg"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_heic_is_read_where_pillow_heif_is_installed(tmp_path, image, name, mode):
    heif = pytest.importorskip("pillow_heif")
    path = tmp_path / name
    path.write_bytes(heic(image, mode))
    assert heif.is_supported(str(path)) and size_of(path)[0] == image.shape[1::-1]
    expected = np.asarray(Image.fromarray(image).convert(mode).convert("RGB")).astype(int)
    assert np.abs(read_image(path) - expected).mean() < 12
    assert list(list_images(str(tmp_path))) == ["photo"]


@pytest.mark.parametrize("turn", [1, 3, 6, 8])
def test_a_phones_heic_is_upright(tmp_path, image, turn):
    pytest.importorskip("pillow_heif")
    path = tmp_path / "IMG_0001.HEIC"
    path.write_bytes(heic(image, exif=exif_of(turn)))
    if turn != 1 and b"irot" not in path.read_bytes():
        pytest.skip("this pillow-heif cannot write a HEIC that is turned, as phones do")
    upright = np.rot90(image, {1: 0, 3: 2, 6: -1, 8: 1}[turn]).astype(int)
    assert read_image(path).shape == upright.shape and size_of(path)[0] == upright.shape[1::-1]
    assert np.abs(read_image(path) - upright).mean() < 12


def test_what_nobody_here_can_read_is_refused_by_the_check_with_its_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "_HEIF", False)
    (tmp_path / "a.jpg").write_bytes(b"\0\0\0\x18ftypheic" + bytes(200))
    with pytest.raises(BadImageError, match="HEIC: pip install pillow-heif"):
        size_of(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").write_bytes(b"\xff\x0a" + bytes(200))  # JPEG XL
    with pytest.raises(BadImageError, match="not an image"):
        size_of(tmp_path / "b.jpg")


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"exif": exif_of(1)}], ids=["plain", "progressive", "exif"]
)
@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("missing", [1, 2])
def test_a_jpeg_that_lacks_its_end_marker_alone_is_read_with_a_note(tmp_path, image, options, grey, missing):
    whole = jpeg_of(image[..., 0] if grey else image, **options)
    (tmp_path / "whole.jpg").write_bytes(whole)
    (tmp_path / "a.jpg").write_bytes(whole[:-missing])
    made, note = read_any(tmp_path / "a.jpg")
    np.testing.assert_array_equal(made, read_any(tmp_path / "whole.jpg")[0])
    if images._pixels(whole[:-missing]) is not None:  # Pillow 9 finds nothing odd in a grey one
        assert note is None
        return
    assert note == images.NO_END_MARKER and size_of(tmp_path / "a.jpg") == (image.shape[1::-1], [note])
    np.testing.assert_array_equal(read_mask(tmp_path / "a.jpg"), read_mask(tmp_path / "whole.jpg"))


@pytest.mark.parametrize("missing", [8, 20, 200, 0.5])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_that_lacks_pixels_is_refused(tmp_path, image, missing, progressive):
    whole = jpeg_of(image, progressive=progressive)
    (tmp_path / "a.jpg").write_bytes(whole[: -int(missing if missing > 1 else missing * len(whole))])
    for read in (read_any, read_mask, size_of):
        with pytest.raises(BadImageError, match="the image is cut short"):
            read(tmp_path / "a.jpg")


def test_real_numbers_are_scaled_or_refused(tmp_path, image):
    path = str(tmp_path / "a.tif")
    unit = image[..., ::-1].astype(np.float32) / 255
    plain = [cv2.IMWRITE_TIFF_COMPRESSION, 1]
    for values in (unit, unit * 255):
        assert cv2.imwrite(path, values.astype(np.float32), plain)
        assert np.abs(read_image(path).astype(int) - image).max() <= 1
    cv2.imwrite(path, unit)  # by itself OpenCV writes logarithms, which overshoot
    assert abs(read_image(path).mean() - image.mean()) < 2 and size_of(path)[0] == image.shape[1::-1]
    cv2.imwrite(path, unit[..., 0], plain)  # a mask
    assert np.abs(read_mask(path).astype(int) - image[..., 2]).max() <= 1
    for values in (unit * 3, unit - 1, unit * 1000, unit * np.float32("nan")):
        cv2.imwrite(path, values.astype(np.float32), plain)
        with pytest.raises(BadImageError, match="real numbers"):
            read_image(path)


def png_of_size(width, height):
    def chunk(name, content):
        return len(content).to_bytes(4, "big") + name + content + zlib.crc32(name + content).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\1\0\0\0\0"
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def bombs(image):
    jpeg = jpeg_of(image)
    size = jpeg.index(b"\xff\xc0") + 5
    bmp = cv2.imencode(".bmp", image)[1].tobytes()
    return {
        "a.png": png_of_size(70000, 70000),
        "narrow.png": png_of_size(2, 2**30),
        "a.jpg": jpeg[:size] + b"\xff\xdc\xff\xdc" + jpeg[size + 4 :],
        "a.bmp": bmp[:18] + (40000).to_bytes(4, "little") + (40000).to_bytes(4, "little") + bmp[26:],
    }


@pytest.mark.parametrize("name", sorted(bombs(picture())))
def test_a_picture_of_too_many_pixels_is_one_line_and_no_memory(tmp_path, image, name):
    (tmp_path / name).write_bytes(bombs(image)[name])
    for read in (read_image, read_mask, size_of):
        with pytest.raises(BadImageError, match="more pixels than can be read") as caught:
            read(tmp_path / name)
        assert "\n" not in str(caught.value)


# ---- masks


def shape_of(size=(40, 48)):
    return cv2.ellipse(np.zeros(size, np.uint8), (24, 20), (12, 8), 20, 0, 360, 255, -1)


def alpha_masks():
    """name of a file → a Pillow image whose alpha channel is the mask."""
    mask, photo = shape_of(), cv2.resize(picture(), (48, 40))
    black, white = np.zeros_like(mask), np.full_like(mask, 255)
    palette = Image.fromarray((mask > 0).astype(np.uint8))
    palette.putpalette([9, 9, 9] * 256)
    return {
        "constant.png": Image.fromarray(np.dstack([black, black, black, mask])),
        "white.png": Image.fromarray(np.dstack([white, white, white, mask])),
        "cut-out.png": Image.fromarray(np.dstack([photo, mask])),
        "grey.png": Image.fromarray(np.dstack([white, mask]), "LA"),
        "palette.png": palette,
        "cut-out.webp": Image.fromarray(np.dstack([photo, mask])),
        "constant.tif": Image.fromarray(np.dstack([black, black, black, mask])),
    }


@pytest.mark.parametrize("name", sorted(alpha_masks()))
def test_a_mask_in_the_alpha_channel_is_taken_and_said(tmp_path, name):
    if name.endswith("webp") and not _writes_webp():
        pytest.skip("this Pillow writes no WebP")
    more = {"transparency": b"\0\xff"} if name == "palette.png" else {}
    more = dict(more, lossless=True, exact=True) if name.endswith("webp") else more
    alpha_masks()[name].save(str(tmp_path / name), **more)
    levels, notes = read_levels(tmp_path / name)
    np.testing.assert_array_equal(levels, shape_of())
    assert notes == [images.FROM_ALPHA]


def test_a_mask_with_an_alpha_channel_of_its_own_is_its_colours(tmp_path):
    mask = shape_of()
    for alpha in (np.full_like(mask, 255), np.full_like(mask, 77), np.tile(np.arange(48, dtype=np.uint8), (40, 1))):
        Image.fromarray(np.dstack([mask, mask, mask, alpha])).save(str(tmp_path / "a.png"))
        levels, notes = read_levels(tmp_path / "a.png")
        np.testing.assert_array_equal(levels, mask)
        assert notes == []


def test_sixteen_bits_that_hold_eight(tmp_path):
    mask = shape_of()
    for suffix in (".png", ".tif"):
        path = str(tmp_path / ("a" + suffix))
        for stored, expected, note in (
            ((mask > 0).astype(np.uint16), mask // 255, images.LOW_BYTES),
            (mask.astype(np.uint16), mask, images.LOW_BYTES),
            (mask.astype(np.uint16) * 257, mask, images.SIXTEEN_BITS),
            (mask.astype(np.uint16) * 100, (mask.astype(int) * 100 // 256).astype(np.uint8), images.SIXTEEN_BITS),
        ):
            cv2.imwrite(path, stored)
            levels, notes = read_levels(path)
            np.testing.assert_array_equal(levels, expected)
            assert notes == [note]
