"""Lists of images as several projects write them."""

from __future__ import annotations

import pytest
from test_datasets import fill

from kdscfnet.data.find import find_image_set
from kdscfnet.data.lists import FOR_TESTS, FOR_TRAINING, FOR_VALIDATION
from kdscfnet.errors import UserError


def make(root, names, mask="%s.png"):
    fill(root / "image", [name + ".jpg" for name in names])
    fill(root / "mask", [mask % name for name in names], channels=1)
    return root


NAMES = ["0001", "0002", "0003", "0004"]


@pytest.mark.parametrize("pattern", ["%s.txt", "%s_list.txt"])
def test_training_and_measuring_take_lists_of_their_own(tmp_path, capsys, pattern):
    root = make(tmp_path / "set", NAMES)
    for part, name in (("train", "0001"), ("val", "0002"), ("test", "0003")):
        (root / (pattern % part)).write_text("image/%s.jpg mask/%s.png\n" % (name, name))
    assert find_image_set(root, lists=FOR_TRAINING).names == ("0001",)
    assert find_image_set(root, lists=FOR_VALIDATION).names == ("0002",)
    assert find_image_set(root, lists=FOR_TESTS).names == ("0003",)
    for _ in range(2):
        find_image_set(root)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3  # each is said once
    others = ", ".join(sorted(pattern % part for part in ("val", "test")))
    assert lines[0] == "kdscfnet: %s: the images of %s; not used here: %s" % (root, pattern % "train", others)
    (root / (pattern % "val")).unlink()
    assert find_image_set(root, lists=FOR_VALIDATION).names == ("0003",)
    (root / (pattern % "train")).unlink()
    assert find_image_set(root).names == ("0003",)


LINES = {
    "names with blanks": (["weed (1)", "a b c", "x"], "%s.png", "weed (1)\na b c\nx\n"),
    "names with blanks and suffixes": (["a b c", "a", "b"], "%s.png", "a b c.jpg\nimage/a.jpg\nb\n"),
    "names with blanks in two columns": (
        ["a b c", "a", "b"],
        "%s.png",
        "image/a b c.jpg mask/a b c.png\na.jpg a.png\nb b\n",
    ),
    "PaddleSeg": (
        ["0001", "0002"],
        "%s_mask.png",
        "image/0001.jpg mask/0001_mask.png\nimage/0002.jpg mask/0002_mask.png",
    ),
    "classes": (["0001", "1"], "%s.png", "image/0001.jpg 1\n1.jpg 0\n"),
    "commas": (["0001", "0002"], "%s.png", "image/0001.jpg,mask/0001.png\n0002,1\n"),
    "tabs": (["a b", "c"], "%s.png", "a b\t1\nc.jpg\tc.png\n"),
    "Windows": (["0001", "a b"], "%s.png", "C:\\data\\set\\image\\0001.jpg\r\nD:\\my data\\a b.jpg\r\n"),
    "absolute": (["0001", "0002"], "%s.png", "/home/me/set/image/0001.jpg\n./image/0002.jpg\n"),
    "names with points": (["a.b", "a"], "%s.png", "a.b\na\n"),
    "capitals": (["A", "b"], "%s.png", "image/A.JPG\nb.JPG mask/b.PNG\n"),
    "a byte order mark": (["0001", "0002"], "%s.png", "\ufeff0001\n0002\n"),
}


@pytest.mark.parametrize("kind", sorted(LINES))
def test_every_kind_of_line(tmp_path, kind):
    names, mask, text = LINES[kind]
    root = make(tmp_path / "set", names, mask)
    (root / "train.txt").write_bytes(text.encode("utf-8"))
    found = find_image_set(root)
    assert sorted(found.names) == sorted(names) and len(found.masks) == len(names)
    assert [path.rsplit("/", 1)[1] for path in found.masks] == [mask % name for name in found.names]


def test_the_second_column_may_name_a_mask_of_another_name(tmp_path):
    root = tmp_path / "set"
    fill(root / "image", ["a.jpg", "b.jpg"])
    fill(root / "mask", ["label_7.png", "b.png", "a.png"], channels=1)
    (root / "train_list.txt").write_text("image/a.jpg mask/label_7.png\nimage/b.jpg mask/b.png\n")
    assert [path.rsplit("/", 1)[1] for path in find_image_set(root).masks] == ["label_7.png", "b.png"]


def test_lists_of_pictures_in_sub_folders(tmp_path):
    root = tmp_path / "set"
    for sequence in ("seq1", "seq2"):
        fill(root / "image" / sequence, ["0001.jpg", "0002.jpg"])
        fill(root / "mask" / sequence, ["0001.png", "0002.png"], channels=1)
    fill(root / "image" / "seq2", ["only.jpg"])
    fill(root / "mask" / "seq2", ["only.png"], channels=1)
    (root / "train.txt").write_text("seq1/0001\nimage/seq2/0002.jpg mask/seq2/0002.png\nonly\n")
    found = find_image_set(root)
    assert found.names == ("seq1/0001", "seq2/0002", "seq2/only")
    assert found.masks[1].endswith("mask/seq2/0002.png")
    (root / "train.txt").write_text("0001\n")  # of which sequence?
    with pytest.raises(UserError, match="line 1: there is no image '0001'"):
        find_image_set(root)
