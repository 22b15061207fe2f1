"""Every kind of image file people have, with a real file of each kind."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps
from predicting import picture, save

from kdscfnet.errors import BadImageError
from kdscfnet.images import FIRST_FRAME, read_any

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


def test_missing_files_folders_and_forbidden_files(tmp_path, image):
    for path in (tmp_path / "not_there.png", tmp_path):
        with pytest.raises(BadImageError):
            read_any(path)
