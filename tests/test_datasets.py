"""Data as people have it is found, and what is wrong with it is said in one line."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from kdscfnet.data import find, names
from kdscfnet.data.find import find_image_set, find_image_sets
from kdscfnet.data.names import list_images, match_names
from kdscfnet.data.sets import canonical_name
from kdscfnet.errors import UserError
from kdscfnet.images import read_image, read_mask, rounded_mean


def fill(folder, names, channels=3, size=(8, 10)):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        cv2.imwrite(str(folder / name), np.full(size + ((channels,) if channels > 1 else ()), 100, np.uint8))


LAYOUTS = [
    ("image", "mask", ".jpg", ".png"),
    ("images", "ground_truth_mask", ".jpg", ".png"),
    ("DUTS-TR-Image", "DUTS-TR-Mask", ".jpg", ".png"),
    ("Image", "GT", ".png", ".png"),
    ("imgs", "gt", ".png", ".png"),
    ("Imgs", "GT", ".JPG", ".PNG"),
    ("DUT-OMRON-image", "pixelwiseGT-new-PNG", ".jpg", ".png"),
    ("img", "masks", ".bmp", ".bmp"),
    ("im", "Ground-truth", ".jpeg", ".png"),
]


@pytest.mark.parametrize("image_folder,mask_folder,image_suffix,mask_suffix", LAYOUTS)
def test_layouts(tmp_path, image_folder, mask_folder, image_suffix, mask_suffix):
    root = tmp_path / "DUTS-TR"
    names = ["a", "b", "c"]
    fill(root / image_folder, [n + image_suffix for n in names])
    fill(root / mask_folder, [n + mask_suffix for n in names], channels=1)
    found = find_image_set(root)
    assert found.names == ("a", "b", "c") and len(found.images) == len(found.masks) == 3
    assert found.describe() == "DUTS-TR: 3 images, 3 masks"
    assert all("/" + image_folder + "/" in p for p in found.images) and all(
        "/" + mask_folder + "/" in p for p in found.masks
    )


def test_nested_as_archives_unpack(tmp_path):
    fill(tmp_path / "HKU-IS" / "HKU-IS" / "imgs", ["1.png"])
    fill(tmp_path / "HKU-IS" / "HKU-IS" / "gt", ["1.png"], channels=1)
    assert find_image_set(tmp_path / "HKU-IS").describe() == "HKU-IS: 1 images, 1 masks"


def test_side_by_side_in_one_folder(tmp_path):
    root = tmp_path / "PASCALS"
    fill(root, ["1.jpg", "2.jpg"])
    fill(root, ["1.png", "2.png"], channels=1)
    found = find_image_set(root)
    assert found.name == "PASCAL-S" and [p[-5:] for p in found.images + found.masks] == [
        "1.jpg",
        "2.jpg",
        "1.png",
        "2.png",
    ]


def test_a_folder_of_images_alone(tmp_path):
    fill(tmp_path / "photos", ["z.jpg", "y.PNG", "x.webp"])
    found = find_image_set(tmp_path / "photos", masks="ignored")
    assert found.names == ("x", "y", "z") and found.masks == ()
    with pytest.raises(UserError, match="holds no masks"):
        find_image_set(tmp_path / "photos")


def test_masks_with_usual_suffixes(tmp_path):
    fill(tmp_path / "set" / "image", ["a.jpg", "b.jpg"])
    fill(tmp_path / "set" / "mask", ["a_mask.png", "b-gt.png"], channels=1)
    assert len(find_image_set(tmp_path / "set").masks) == 2
    assert match_names({"a_GT": 1, "a": 2}, ["a"]) == {"a": 2}


def test_a_mask_is_one_images_at_most(tmp_path):
    assert match_names({"world_mask": 1}, ["world", "world_mask"]) == {"world_mask": 1}
    assert match_names({"world_mask": 1, "world_mask_gt": 2}, ["world", "world_mask"]) == {"world_mask": 1}
    assert match_names({"world_mask_mask": 1, "world_mask": 2, "world": 3}, ["world", "world_mask"]) == {
        "world": 3,
        "world_mask": 2,
    }
    fill(tmp_path / "set" / "image", ["a.jpg", "b.jpg"])
    fill(tmp_path / "set" / "mask", ["a_mask.png", "a_gt.png", "b.png", "b_gt.png"], channels=1)
    with pytest.raises(UserError, match=r"a_gt.png and a_mask.png both fit the image a: keep one"):
        find_image_set(tmp_path / "set")
    (tmp_path / "set" / "mask" / "a_mask.png").unlink()
    assert [path[-8:] for path in find_image_set(tmp_path / "set").masks] == ["a_gt.png", "sk/b.png"]


def test_list_file_orders_and_selects(tmp_path):
    root = tmp_path / "set"
    fill(root / "image", ["a.jpg", "b.jpg", "c.jpg"])
    fill(root / "mask", ["a.png", "b.png", "c.png"], channels=1)
    (root / "train.txt").write_text("c\n\n  a  \r\n")
    (root / "test.txt").write_text("image/b.jpg\n")
    assert find_image_set(root).names == ("c", "a")
    assert find_image_set(root, lists=("test.txt",)).names == ("b",)
    (root / "train.txt").write_text("a\nb\nnothing\n")
    with pytest.raises(UserError, match=r"train.txt line 3: there is no image 'nothing' in .*image"):
        find_image_set(root)
    (root / "mask" / "b.png").unlink()
    (root / "train.txt").write_text("a\nb\n")
    with pytest.raises(UserError, match=r"train.txt line 2: there is no mask 'b'"):
        find_image_set(root)


@pytest.mark.parametrize("kind", ["English", "GBK", "empty", "UTF-16"])
def test_a_text_that_is_no_list_is_passed_over(tmp_path, capsys, kind):
    root = tmp_path / "set"
    fill(root / "image", ["a.jpg", "b.jpg"])
    fill(root / "mask", ["a.png", "b.png"], channels=1)
    (root / "info.txt").write_bytes(
        {
            "English": b"See the paper for details\n",
            "GBK": "\u6570\u636e\u96c6\u8bf4\u660e\n".encode("gbk"),
            "empty": b"",
            "UTF-16": "a\nb\n".encode("utf-16"),
        }[kind]
    )
    for _ in range(2):
        assert find_image_set(root).names == ("a", "b")
    assert capsys.readouterr().err.splitlines() == [
        "kdscfnet: %s is no list of the images beside it: passed over" % (root / "info.txt")
    ]


def test_lists_under_other_names(tmp_path, capsys):
    root = tmp_path / "PASCALS"
    fill(root / "image", ["a.jpg", "b.jpg", "c.jpg"])
    fill(root / "mask", ["a.png", "b.png", "c.png"], channels=1)
    (root / "names.txt").write_text("b\na\n")
    assert find_image_set(root).names == ("b", "a")
    (root / "names.txt").write_text("b\nnothing\n")  # it begins as a list and must be one
    with pytest.raises(UserError, match=r"names.txt line 2: there is no image 'nothing' in .*: correct the list or"):
        find_image_set(root)
    (root / "names.txt").write_text("See the paper")
    for name in ("PASCAL-S.txt", "pascals.txt"):
        (root / name).write_text("c\nb\n")
        assert find_image_set(root).names == ("c", "b")
        (root / name).write_text("See the paper")
        with pytest.raises(UserError, match="%s line 1: there is no image 'See'" % name):
            find_image_set(root)
        (root / name).unlink()
    assert find_image_set(root, masks="partial").names == ("a", "b", "c")
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("name", ["train.txt", "test.txt", "set.txt", "names.txt"])
def test_a_list_that_is_no_utf_8_is_named(tmp_path, name):
    root = tmp_path / "set"
    fill(root / "image", ["a.jpg", "b.jpg"])
    (root / name).write_bytes(b"a\n\xca\xfd\n")
    with pytest.raises(UserError, match=name + " line 2: not UTF-8 text: save the list as UTF-8 or remove it"):
        find_image_set(root, masks="ignored")


def test_what_is_missing_is_said(tmp_path):
    with pytest.raises(UserError, match="there is no data folder"):
        find_image_set(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no images: expected"):
        find_image_set(tmp_path / "empty")
    fill(tmp_path / "set" / "image", ["a.jpg", "b.jpg"])
    fill(tmp_path / "set" / "mask", ["a.png"], channels=1)
    with pytest.raises(UserError, match=r"1 of 2 images have no mask .*\(the first: b\)"):
        find_image_set(tmp_path / "set")
    fill(tmp_path / "twice" / "image", ["a.jpg", "a.png"])
    with pytest.raises(UserError, match="both a.jpg and a.png"):
        find_image_set(tmp_path / "twice", masks="ignored")
    fill(tmp_path / "two" / "images", ["a.jpg"])
    fill(tmp_path / "two" / "imgs", ["a.jpg"])
    with pytest.raises(UserError, match="several folders of images"):
        find_image_set(tmp_path / "two", masks="ignored")


def test_all_sets_of_a_folder(tmp_path):
    for name in ("ECSSD", "HKU-IS"):
        fill(tmp_path / name / "image", ["1.jpg"])
        fill(tmp_path / name / "mask", ["1.png"], channels=1)
    (tmp_path / "notes").mkdir()
    assert [s.name for s in find_image_sets(tmp_path)] == ["ECSSD", "HKU-IS"]
    assert [s.name for s in find_image_sets(tmp_path / "ECSSD")] == ["ECSSD"]
    with pytest.raises(UserError, match="holds no data set"):
        find_image_sets(tmp_path / "notes")


def test_names():
    assert [canonical_name(n) for n in ("PASCALS", "duts_te", "HKU_IS", "DUT-O", "my set")] == [
        "PASCAL-S",
        "DUTS-TE",
        "HKU-IS",
        "DUT-OMRON",
        "my set",
    ]


def test_hidden_files_are_left_out(tmp_path):
    fill(tmp_path, [".tmp-1.png", "a.png"])
    assert list(list_images(tmp_path)) == ["a"]


def test_greyscale_images_and_masks_in_colour(tmp_path):
    cv2.imwrite(str(tmp_path / "grey.png"), np.arange(80, dtype=np.uint8).reshape(8, 10))
    image = read_image(tmp_path / "grey.png")
    assert image.shape == (8, 10, 3) and (image[..., 0] == image[..., 2]).all()
    colour = np.zeros((4, 4, 3), np.uint8)
    colour[..., 0], colour[..., 1] = 30, 60  # blue and green as OpenCV writes them
    cv2.imwrite(str(tmp_path / "colour.png"), colour)
    assert (read_image(tmp_path / "colour.png")[0, 0] == [0, 60, 30]).all()  # RGB
    assert (rounded_mean(read_mask(tmp_path / "colour.png")) == 30).all()
    cv2.imwrite(str(tmp_path / "mask.png"), np.full((4, 4, 3), 200, np.uint8))
    assert read_mask(tmp_path / "mask.png").shape == (4, 4)


def test_real_sets(shared):
    found = {s.name: s.describe() for s in find_image_sets(shared / "data")}
    assert found["DUTS-TR"] == "DUTS-TR: 4000 images, 4000 masks"
    assert found["ECSSD"] == "ECSSD: 300 images, 300 masks" and found["DUTS-TE"] == "DUTS-TE: 200 images, 200 masks"


def make_sequences(root):
    for sequence in ("seq1", "seq2"):
        fill(root / "image" / sequence, ["0001.jpg", "0002.jpg"])
        fill(root / "mask" / sequence, ["0001.png", "0002.png"], channels=1)
    return root


def test_pictures_in_sub_folders_by_sequence(tmp_path):
    root = make_sequences(tmp_path / "MoCA")
    found = find_image_set(root)
    assert found.names == ("seq1/0001", "seq1/0002", "seq2/0001", "seq2/0002")
    assert [path[-13:] for path in found.masks] == [name + ".png" for name in found.names]
    assert [s.name for s in find_image_sets(tmp_path)] == ["MoCA"]
    # images alone, by class
    found = find_image_set(root / "image", masks="ignored")
    assert len(found) == 4 and found.names[0] == "seq1/0001"
    # masks of other names, deeper folders
    for path in sorted((root / "mask" / "seq1").iterdir()):
        path.rename(path.with_name(path.stem + "_gt.png"))
    fill(root / "image" / "day" / "seq3", ["0001.jpg"])
    fill(root / "mask" / "day" / "seq3", ["0001.png"], channels=1)
    assert find_image_set(root).names[0] == "day/seq3/0001" and len(find_image_set(root).masks) == 5


def test_sub_folders_beside_images_are_no_part_of_the_set(tmp_path, capsys):
    fill(tmp_path / "set" / "image", ["a.jpg"])
    fill(tmp_path / "set" / "image" / "thumbs", ["a.jpg", "b.jpg"])
    fill(tmp_path / "set" / "mask", ["a.png"], channels=1)
    assert find_image_set(tmp_path / "set").names == ("a",)
    assert capsys.readouterr().err == "kdscfnet: %s: left out: 2 .jpg\n" % (tmp_path / "set" / "image")


def test_what_is_left_out_is_said_once(tmp_path, capsys, monkeypatch):
    for module in (names, find):
        if hasattr(module, "IMAGE_SUFFIXES"):
            monkeypatch.setattr(module, "IMAGE_SUFFIXES", (".jpg", ".png"))
    root = tmp_path / "set"
    fill(root / "image", ["a.jpg", "b.jpg"])
    fill(root / "mask", ["a.png", "b.png", "c.png"], channels=1)
    for name in ("c.HEIC", "d.svg", "e.jxl", "f.svg", "README", ".hidden.svg", "Thumbs.db", "list.txt"):
        (root / "image" / name).write_bytes(b"x")
    (tmp_path / "elsewhere").mkdir()
    (root / "image" / "more").symlink_to(tmp_path / "elsewhere")
    for _ in range(2):
        found = find_image_set(root)
    assert len(found) == 2 and found.spare == ("c",)
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "kdscfnet: %s: left out: 2 .svg, 1 .heic (pip install pillow-heif to read them), 1 .jxl, 1 linked folder, "
        "1 without suffix" % (root / "image"),
        "kdscfnet: %s: 1 without an image: c" % (root / "mask"),
    ]
    assert list(found.passed_over) == [line[len("kdscfnet: ") :] for line in said]


def test_a_folder_with_a_fault_is_of_no_concern_to_others(tmp_path):
    fill(tmp_path / "ECSSD" / "image", ["1.jpg"])
    fill(tmp_path / "ECSSD" / "mask", ["1.png"], channels=1)
    fill(tmp_path / "drafts" / "image", ["1.jpg"])
    fill(tmp_path / "drafts" / "images", ["1.jpg"])
    for look in (find.find_sets_to_score, find.find_sets_to_test):
        assert [s.name for s in look(tmp_path, ["ecssd"])] == ["ECSSD"]
        with pytest.raises(UserError, match="drafts has several folders of images"):
            look(tmp_path, ["ECSSD", "drafts"])
        with pytest.raises(UserError, match="there is no data set SOD in .*: found ECSSD, drafts"):
            look(tmp_path, ["SOD"])
