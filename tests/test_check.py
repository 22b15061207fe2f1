"""The check before training looks at sizes, wholeness and values; what it passes, training reads."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image

from kdscfnet.data.batches import TrainingSamples
from kdscfnet.data.check import scan, target_levels
from kdscfnet.errors import BadImageError, UserError


def masks_of(folder, count=4):
    """Paths to write masks to, and the masks: uint8 0 and 1, one ellipse each."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [str(folder / ("%02d.png" % number)) for number in range(count)]
    return paths, [
        cv2.ellipse(np.zeros((40, 48), np.uint8), (15 + number % 15, 20), (10, 8), 0, 0, 360, 1, -1)
        for number in range(count)
    ]


def palette_mask(mask, colours):
    image = Image.fromarray(mask)
    image.putpalette([level for colour in colours for level in colour])
    return image


TWO_LEVELS = {
    "0 and 1": lambda mask: Image.fromarray(mask),
    "1 and 2": lambda mask: Image.fromarray(mask + 1),
    "10 and 200": lambda mask: Image.fromarray(mask * 190 + 10),
    "a palette": lambda mask: palette_mask(mask, [(0, 0, 0), (128, 0, 0)]),
    "one bit": lambda mask: Image.fromarray(mask * 255).convert("1"),
    "sixteen bits": lambda mask: Image.fromarray(mask.astype(np.uint16)),
    "an alpha channel of 0 and 128": lambda mask: Image.fromarray(np.dstack([mask * 0] * 3 + [mask * 128])),
    "colours": lambda mask: Image.fromarray(np.dstack([mask * 200, mask * 30, mask * 90])),
}


@pytest.mark.parametrize("name", sorted(TWO_LEVELS))
def test_masks_of_any_two_levels_train_on_0_and_1(tmp_path, name):
    paths, masks = masks_of(tmp_path / "mask")
    images, _ = masks_of(tmp_path / "image")
    for path, image, mask in zip(paths, images, masks):
        TWO_LEVELS[name](mask).save(path)
        cv2.imwrite(image, np.dstack([mask * 100] * 3))
    table, lines = target_levels(paths)
    assert (table is None) == (name == "one bit") and bool(lines) == (name != "one bit")
    assert table is None or "taken as 0 and 255" in lines[-1]
    samples = TrainingSamples(images, paths, seed=0, table=table)
    for number, mask in enumerate(masks):
        _, target = samples[(number, 0, (40, 48))]
        assert target.min() == 0 and target.max() == 1 and target.mean() > 0.5 * mask.mean()


def test_a_mask_beyond_the_sample_is_cut_at_half(tmp_path):
    paths, masks = masks_of(tmp_path)
    for path, mask in zip(paths, masks):
        cv2.imwrite(path, mask * 200)
    table, _ = target_levels(paths)
    assert table[[0, 99, 100, 200, 255]].tolist() == [0, 0, 255, 255, 255]


def test_ordinary_masks_are_left_as_they_are(tmp_path):
    paths, masks = masks_of(tmp_path)
    for path, mask in zip(paths, masks):
        cv2.imwrite(path, mask * 255)
    assert target_levels(paths) == (None, [])
    cv2.imwrite(paths[0], cv2.GaussianBlur(masks[0] * 255, (0, 0), 1))  # grey edges
    assert target_levels(paths) == (None, [])
    (tmp_path / "00.png").write_bytes(b"no image")  # which the scan says
    assert target_levels(paths) == (None, [])


def test_masks_of_which_nothing_could_be_learned_are_refused(tmp_path):
    paths, masks = masks_of(tmp_path, 200)
    for level in (0, 1, 255):
        for path, mask in zip(paths, masks):
            cv2.imwrite(path, np.full_like(mask, level))
        with pytest.raises(UserError, match="the masks hold level %d alone, in every file" % level):
            target_levels(paths)
    cv2.imwrite(paths[198], masks[198] * 255)  # one that is none of the sample
    assert target_levels(paths) == (None, [])
    for path, mask in zip(paths, masks):
        cv2.imwrite(path, mask + (np.arange(48) > 20))  # classes
    with pytest.raises(UserError, match="the masks have levels from 0 to 2: save them with 255 for objects"):
        target_levels(paths)


def test_maps_of_another_range_are_refused(tmp_path):
    paths, masks = masks_of(tmp_path)
    for highest, refused in ((1, True), (100, True), (128, False), (255, False)):
        for path, mask in zip(paths, masks):
            cv2.imwrite(path, (cv2.GaussianBlur(mask * 255, (0, 0), 2) / 255.0 * highest + 0.5).astype(np.uint8))
        if refused:
            with pytest.raises(UserError, match="maps have levels from 0 to %d: save them with 255 for full" % highest):
                target_levels(paths, "maps", teacher=True)
        else:
            assert target_levels(paths, "maps", teacher=True) == (None, [])


def test_a_mask_of_another_size_is_no_map_of_low_resolution(tmp_path):
    (image, path), masks = masks_of(tmp_path, 2)
    cv2.imwrite(image, np.zeros((40, 48, 3), np.uint8))
    cv2.imwrite(path, masks[0][::2, ::2] * 255)
    with pytest.raises(BadImageError, match="the mask is 24×20, its image 48×40: they must be of one size"):
        TrainingSamples([image], [path], seed=0)[(0, 0, (32, 32))]
    _, target = TrainingSamples([image], (), seed=0, maps=[path])[(0, 0, (32, 32))]
    assert target.max() == 1


def exif_of(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_an_upright_mask_goes_with_a_turned_image_and_a_stored_one_does_not(tmp_path, suffix):
    photo = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    image, upright, stored = (str(tmp_path / name) for name in ("a." + suffix, "upright.png", "stored.png"))
    Image.fromarray(photo).save(image, exif=exif_of(6))
    mask = np.zeros((40, 48), np.uint8)
    mask[:, :24] = 255
    cv2.imwrite(stored, mask)
    cv2.imwrite(upright, np.rot90(mask, -1))
    assert scan([image], [upright]) == {}
    assert TrainingSamples([image], [upright], seed=0)[(0, 0, (48, 40))][1].shape == (1, 48, 40)
    with pytest.raises(BadImageError, match="the mask is 48×40, its image 40×48"):
        scan([image], [stored])
    assert list(scan([image], [stored], skip_bad=True)) == [0]


def test_what_the_check_passes_training_reads_and_skip_bad_leaves_out_the_rest(tmp_path, capsys):
    photo = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    images = {}
    for name, kind in (("jpeg", "JPEG"), ("png", "PNG"), ("gif", "GIF"), ("bmp", "BMP"), ("tiff", "TIFF")):
        images[name] = str(tmp_path / (name + ".jpg"))
        Image.fromarray(photo).save(images[name], kind)
    jpeg = open(images["jpeg"], "rb").read()
    for name, data in (
        ("no end", jpeg[:-2]),
        ("cut", jpeg[: len(jpeg) // 2]),
        ("xl", b"\xff\x0a" + jpeg),
        ("bad gif", open(images["gif"], "rb").read()[:40]),
        ("bad tiff", open(images["tiff"], "rb").read()[:40]),
        ("lossless", jpeg.replace(b"\xff\xc0", b"\xff\xc3", 1)),
    ):
        images[name] = str(tmp_path / (name + ".jpg"))
        with open(images[name], "wb") as file:
            file.write(data)
    paths = list(images.values())
    problems = scan(paths, (), skip_bad=True)
    bad = [images[name] for name in images if name in ("cut", "xl", "bad gif", "bad tiff", "lossless")]
    assert [paths[number] for number in problems] == [error.path for error in problems.values()] == bad
    good = [path for path in paths if path not in bad]
    samples = TrainingSamples(good, None, seed=0)
    assert all(samples[(number, 0, (32, 32))][0].shape == (3, 32, 32) for number in range(len(good)))
    err = capsys.readouterr().err
    assert "1 file: the JPEG has no end marker; all of its pixels are there (the first: %s)" % images["no end"] in err
