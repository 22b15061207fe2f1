"""Zip files of data sets, as people pack them, end in data/<SET>/image and mask."""

from __future__ import annotations

import io
import os
import zipfile

import cv2
import numpy as np
import pytest

from kdscfnet.data.archives import sort_members, unpack
from kdscfnet.data.find import find_image_set, find_image_sets
from kdscfnet.errors import UserError


def picture(suffix, value=0):
    return cv2.imencode(suffix, np.full((8, 9, 3), value, np.uint8))[1].tobytes()


def make_zip(path, members):
    """members: names; .jpg and .png get pictures, bytes may be given as (name, bytes)."""
    with zipfile.ZipFile(path, "w") as archive:
        for member in members:
            name, data = member if isinstance(member, tuple) else (member, None)
            suffix = os.path.splitext(name)[1]
            if data is None:
                data = picture(suffix) if suffix in (".jpg", ".png") else b""
            archive.writestr(name, data)


def zip_bytes(members):
    buffer = io.BytesIO()
    make_zip(buffer, members)
    return buffer.getvalue()


def pair(image, mask, count=2):
    return [name % number for number in range(count) for name in (image, mask)]


LAYOUTS = {
    "as the authors have it": ("ECSSD.zip", pair("ECSSD/image/%d.jpg", "ECSSD/mask/%d.png")),
    "folders at the top": ("ECSSD.zip", pair("images/%d.jpg", "ground_truth_mask/%d.png")),
    "the set's name in the folders": ("x.zip", pair("ECSSD-Image/%d.jpg", "ECSSD-Mask/%d.png")),
    "deep": ("97810.zip", pair("SOD/test/ECSSD/imgs/%d.jpg", "SOD/test/ECSSD/GT/%d.png")),
    "a generic folder": ("ecssd.zip", pair("data/image/%d.jpg", "data/gt/%d.png")),
    "side by side": ("all.zip", pair("ECSSD/%d.jpg", "ECSSD/%d.png")),
    "with Windows' separators": ("ECSSD.zip", pair("ECSSD\\image\\%d.jpg", "ECSSD\\mask\\%d.png")),
    "with what a Mac adds": (
        "ECSSD.zip",
        pair("ECSSD/image/%d.jpg", "ECSSD/mask/%d.png") + ["__MACOSX/ECSSD/image/._0.jpg", "ECSSD/.DS_Store"],
    ),
    "a zip file inside": (
        "data.zip",
        [("ECSSD/images.zip", zip_bytes(["images/0.jpg", "images/1.jpg"]))]
        + [("ECSSD/ground_truth_mask.zip", zip_bytes(["ground_truth_mask/0.png", "ground_truth_mask/1.png"]))],
    ),
}


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_layouts(tmp_path, layout):
    file, members = LAYOUTS[layout]
    (tmp_path / "data/data97810").mkdir(parents=True)
    make_zip(tmp_path / "data/data97810" / file, members)
    found = unpack([tmp_path / "data"], tmp_path / "data", say=lambda text: None)
    assert list(found) == ["ECSSD"]
    image_set = find_image_set(tmp_path / "data/ECSSD")
    assert image_set.names == ("0", "1") and len(image_set.masks) == 2
    assert sorted(os.listdir(str(tmp_path / "data/ECSSD"))) == ["image", "mask"]


def test_several_sets_in_one_file_and_one_set_in_several(tmp_path):
    mount = tmp_path / "data12345"
    mount.mkdir()
    make_zip(
        mount / "two.zip",
        pair("sod/HKU-IS/imgs/%d.png", "sod/HKU-IS/gt/%d.png")
        + pair("sod/PASCALS/image/%d.jpg", "sod/PASCALS/mask/%d.png"),
    )
    make_zip(mount / "DUT-OMRON-image.zip", ["DUT-OMRON-image/0.jpg", "DUT-OMRON-image/1.jpg"])
    make_zip(mount / "DUT-OMRON-gt-pixelwise.zip", ["pixelwiseGT-new-PNG/0.png", "pixelwiseGT-new-PNG/1.png"])
    make_zip(mount / "KD-SOD80K.zip", ["KD-SOD80K/1/0.jpg", "KD-SOD80K/2/0.jpg"])
    make_zip(mount / "holiday.zip", ["beach/0.jpg"])
    (mount / "ECSSD.rar").write_bytes(b"Rar!")
    said = []
    found = unpack([mount, tmp_path / "not there"], tmp_path / "data", said.append)
    assert sorted(found) == ["DUT-OMRON", "HKU-IS", "KD-SOD80K", "PASCAL-S"]
    sets = {s.name: s for s in find_image_sets(tmp_path / "data")}
    assert {name: (len(s.images), len(s.masks)) for name, s in sets.items()} == {
        "DUT-OMRON": (2, 2),
        "HKU-IS": (2, 2),
        "KD-SOD80K": (2, 0),
        "PASCAL-S": (2, 2),
    }
    assert any("holiday.zip holds no data set" in line for line in said)
    assert any("ECSSD.rar is no zip file: unpack it by hand" in line for line in said)


def test_the_list_of_names_comes_along(tmp_path):
    make_zip(
        tmp_path / "DUTS.zip",
        pair("DUTS-TR/image/%d.jpg", "DUTS-TR/mask/%d.png", 3) + [("DUTS-TR/train.txt", b"2\n0\n")],
    )
    unpack([tmp_path], tmp_path / "data", say=lambda text: None)
    assert find_image_set(tmp_path / "data/DUTS-TR").names == ("2", "0")


def test_what_is_there_is_left_alone_and_told(tmp_path):
    make_zip(tmp_path / "ECSSD.zip", LAYOUTS["as the authors have it"][1])
    first, second = [], []
    unpack([tmp_path], tmp_path / "data", first.append)
    (tmp_path / "data/ECSSD/image/0.jpg").write_bytes(b"mine")
    found = unpack([tmp_path, tmp_path], tmp_path / "data", second.append)
    assert list(found) == ["ECSSD"] and (tmp_path / "data/ECSSD/image/0.jpg").read_bytes() == b"mine"
    assert "2 files from" in first[0] and len(second) == 2 and all("there already" in line for line in second)


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda data: data[: len(data) // 2], "is damaged"),
        (lambda data: data.replace(picture(".jpg", 7)[-40:], bytes(40)), "is damaged"),
    ],
)
def test_damage_is_one_line_and_leaves_nothing(tmp_path, damage, message):
    data = zip_bytes(["ECSSD/image/0.jpg", ("ECSSD/image/1.jpg", picture(".jpg", 7))])
    assert damage(data) != data
    (tmp_path / "ECSSD.zip").write_bytes(damage(data))
    with pytest.raises(UserError, match=message):
        unpack([tmp_path], tmp_path / "data", say=lambda text: None)
    assert not (tmp_path / "data").exists() or not os.listdir(str(tmp_path / "data"))


def test_a_small_disk_is_told_before_anything_is_written(tmp_path, monkeypatch):
    import shutil

    make_zip(tmp_path / "ECSSD.zip", LAYOUTS["as the authors have it"][1])
    usage = shutil.disk_usage(str(tmp_path))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100))
    with pytest.raises(UserError, match=r"ECSSD.zip needs .* GB"):
        unpack([tmp_path], tmp_path / "data", say=lambda text: None)
    assert not (tmp_path / "data").exists()


def test_nothing_gets_out_of_the_folder():
    names = ["../../etc/image/0.jpg", "/abs/ECSSD/image/1.jpg", "ECSSD/mask/../../../2.png", "..", "../.", "..\\"]
    folders, _ = sort_members(names, "x.zip")
    assert sum(map(len, folders.values())) == 3
    assert all("/" not in file for files in folders.values() for file in files)
    assert all("/" not in name and name not in ("", ".", "..") for name, _ in folders)


def test_sub_folders_by_sequence_stay(tmp_path):
    members = [m % (s, n) for s in "12" for n in "12" for m in ("ECSSD/image/%s/00%s.jpg", "ECSSD/mask/%s/00%s.png")]
    make_zip(
        tmp_path / "ECSSD.zip", [*members, ("ECSSD/val.txt", b"1/001\n"), ("ECSSD/train_list.txt", b"2/001.jpg 1\n")]
    )
    unpack([tmp_path], tmp_path / "data", say=lambda text: None)
    home = tmp_path / "data" / "ECSSD"
    assert sorted(os.listdir(str(home))) == ["image", "mask", "train_list.txt", "val.txt"]
    assert find_image_set(home).names == ("2/001",)
    for name in ("val.txt", "train_list.txt"):
        (home / name).unlink()
    found = find_image_set(home)
    assert found.names == ("1/001", "1/002", "2/001", "2/002") and len(found.masks) == 4


def test_folders_of_sets_below_those_of_images(tmp_path):
    make_zip(
        tmp_path / "sod.zip",
        pair("images/ECSSD/%d.jpg", "masks/ECSSD/%d.png") + pair("images/PASCALS/a/%d.jpg", "masks/PASCALS/a/%d.png"),
    )
    assert sorted(unpack([tmp_path], tmp_path / "data", say=lambda text: None)) == ["ECSSD", "PASCAL-S"]
    assert find_image_set(tmp_path / "data" / "ECSSD").names == ("0", "1")
    assert find_image_set(tmp_path / "data" / "PASCAL-S").names == ("a/0", "a/1")
