"""What people feed it, beyond what the other files test: inputs that have always worked, and the list of all kinds.

Fifty-five trials from public bug reports of neighbouring tools ended in thirty failures, of eleven kinds. Each of them
is a test of its module. INPUTS lists, by kind, further inputs of that kind with their tests. The trials that passed are
tests here.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from predicting import picture, save, weight_file
from training import make_set

from kdscfnet import cli
from kdscfnet.data.archives import unpack
from kdscfnet.data.batches import TrainingSamples
from kdscfnet.data.check import scan, target_levels
from kdscfnet.data.find import find_image_set
from kdscfnet.images import read_image

INPUTS = """

1 stale results
    another size, square or not
        test_predict_command.py::test_a_result_is_made_again_where_it_is_not_what_is_asked_for
    another video under the same name, as frames
        test_predict_command.py::test_frames_of_another_video_are_not_kept
    a kind more beside those that fit
        test_predict_command.py::test_one_kind_more_keeps_the_others
    a result that somebody else made
        test_predict_command.py::test_a_result_of_unknown_making_is_kept_and_said
    a record that was cut short
        test_record.py::test_a_line_cut_short_costs_that_result_alone

2 values
    levels 1 and 2, 10 and 200, sixteen bits, two colours
        test_check.py::test_masks_of_any_two_levels_train_on_0_and_1
    masks of classes, masks of one level
        test_check.py::test_masks_of_which_nothing_could_be_learned_are_refused
    teacher maps from 0 to 1 or to 100
        test_check.py::test_maps_of_another_range_are_refused
    a mask that is wholly 1 in a set of 0 and 1
        test_scores.py::test_a_mask_of_one_level_means_what_it_means_in_its_set
    sixteen bits that hold eight
        test_images.py::test_sixteen_bits_that_hold_eight

3 one decoder
    GIF, WebP, TIFF, BMP, AVIF as .jpg
        test_images.py::test_the_check_and_training_read_by_content_not_by_suffix
    HEIC, also as .jpg
        test_images.py::test_heic_is_read_where_pillow_heif_is_installed
    JPEG XL as .jpg
        test_images.py::test_what_nobody_here_can_read_is_refused_by_the_check_with_its_reason
    eXIf behind the pixels
        test_images.py::test_exif_data_behind_the_pixels_of_a_png_turn_it
    EXIF data that say nothing
        test_images.py::test_exif_data_that_say_nothing_turn_nothing
    a turned TIFF with its mask
        test_check.py::test_an_upright_mask_goes_with_a_turned_image_and_a_stored_one_does_not
    a mask of half the size
        test_check.py::test_a_mask_of_another_size_is_no_map_of_low_resolution

4 lists
    commas, tabs, capitals, points, a byte order mark
        test_lists.py::test_every_kind_of_line
    a mask of quite another name
        test_lists.py::test_the_second_column_may_name_a_mask_of_another_name
    lists of pictures in sub-folders
        test_lists.py::test_lists_of_pictures_in_sub_folders
    texts that are no lists, in three encodings
        test_datasets.py::test_a_text_that_is_no_list_is_passed_over

5 what is left out
    thumbnails in a sub-folder beside images
        test_datasets.py::test_sub_folders_beside_images_are_no_part_of_the_set
    folders in folders of sequences
        test_datasets.py::test_pictures_in_sub_folders_by_sequence
    sets below the folders of images in a zip
        test_archives.py::test_folders_of_sets_below_those_of_images
    a system's own files, which are not counted
        test_datasets.py::test_what_is_left_out_is_said_once

6 videos
    119.88, 239.76 and 999.999 frames/s
        test_video.py::test_a_rate_that_mpeg4_cannot_hold_is_rounded
    a rate that varies
        test_video.py::test_a_rate_that_varies_is_said
    pixels of 4:3
        test_video.py::test_the_shape_of_pixels_is_kept
    TypeScript as .ts, a .vob
        test_video.py::test_a_ts_file_is_a_video_by_its_content
    a machine without ffmpeg
        test_predict_command.py::test_what_a_video_lacks_without_ffmpeg_is_one_line
    one bad video among others
        test_predict_command.py::test_videos

7 names of results
    .heic, .svg, .jp2, .mp4 for a picture
        test_predict_command.py::test_a_name_that_cannot_be_written_is_refused_and_no_folder
    a folder of that name that is there
        test_cases.py::test_a_folder_may_be_called_as_a_picture
    a suffix in capitals
        test_cases.py::test_a_result_may_have_a_suffix_in_capitals

8 surroundings
    a disk without fsync
        test_surroundings.py::test_a_file_system_without_fsync
    a disk that renames to no name that is taken
        test_surroundings.py::test_a_file_system_that_renames_to_no_name_that_is_taken
    chmod that is not supported, not permitted, denied
        test_surroundings.py::test_a_file_system_without_permissions
    all three streams at once
        test_surroundings.py::test_without_standard_streams

9 weights of others
    module., _layers., student._layers.
        test_weights_foreign.py::test_a_network_in_other_wrappings_is_taken_and_said_once
    a checkpoint that Paddle saved
        test_weights_foreign.py::test_a_checkpoint_that_paddle_saved
    bfloat16, in some entries or in all
        test_weights_foreign.py::test_bfloat16_is_converted_and_reported
    a part of a network
        test_weights_foreign.py::test_predict_says_what_is_wrong_itself
    two networks in one checkpoint
        test_weights_files.py::test_hostile_files_are_refused_and_do_nothing

10 fine-tuning
    a copy under a published name
        test_starting_weights.py::test_a_copy_under_another_name_is_known_by_its_digest
    a copy that was trained further
        test_starting_weights.py::test_a_copy_that_was_trained_further_is_another_network
    turns and processes that a small set has no images for
        test_starting_weights.py::test_a_batch_larger_than_the_set_becomes_the_set
    three finals, and runs of one folder's name
        test_starting_weights.py::test_runs_of_one_name_are_told_apart_by_their_folders
    weights of the user and of the project
        test_starting_weights.py::test_the_projects_own_weights_come_before_the_users

11 files that others show
    half an end marker; progressive, grey
        test_images.py::test_a_jpeg_that_lacks_its_end_marker_alone_is_read_with_a_note
    a JPEG that lacks pixels
        test_images.py::test_a_jpeg_that_lacks_pixels_is_refused
    real numbers to 255, to 2, NaN
        test_images.py::test_real_numbers_are_scaled_or_refused
    bombs of other formats
        test_images.py::test_a_picture_of_too_many_pixels_is_one_line_and_no_memory
"""


KINDS = [kind.splitlines() for kind in INPUTS.strip().split("\n\n")]


@pytest.mark.parametrize("kind", KINDS, ids=[kind[0] for kind in KINDS])
def test_each_kind_has_three_more_inputs_and_their_tests_exist(kind):
    described, tests = kind[1::2], kind[2::2]
    assert len(described) == len(tests) >= 3
    for test in tests:
        file, name = test.strip().split("::")
        source = (Path(__file__).parent / file).read_text(encoding="utf-8")
        assert re.search(r"^def %s\(" % name, source, re.M), test


# Predictions that have always worked ---------------------------------------------------------------------------------


def noise(height=20, width=30):
    return picture(height, width)


def saved(pixels, mode="RGB", **options):
    return lambda path: Image.fromarray(pixels).convert(mode).save(path, **options)


def sixteen_bits(path):
    cv2.imwrite(path, noise().astype(np.uint16) * 257)


def phone(path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise()).save(path, exif=exif.tobytes())


def animated(path):
    frames = [Image.fromarray(np.roll(noise(), step, 1)) for step in (0, 5)]
    frames[0].save(path, save_all=True, append_images=frames[1:])


PHOTOS = {  # name → (what writes it, height and width of its map)
    "plain.jpg": (saved(noise()), (20, 30)),
    "plain.png": (saved(noise()), (20, 30)),
    "plain.bmp": (saved(noise()), (20, 30)),
    "plain.webp": (saved(noise()), (20, 30)),
    "plain.tif": (saved(noise()), (20, 30)),
    "cmyk.jpg": (saved(noise(), "CMYK"), (20, 30)),
    "progressive.jpg": (saved(noise(), progressive=True), (20, 30)),
    "sixteen.png": (sixteen_bits, (20, 30)),
    "grey.jpg": (saved(noise(), "L"), (20, 30)),
    "rgba.png": (saved(noise(), "RGBA"), (20, 30)),
    "palette.png": (saved(noise(), "P"), (20, 30)),
    "phone.jpg": (phone, (30, 20)),
    "UPPER.JPG": (saved(noise()), (20, 30)),
    "Upper.Jpeg": (saved(noise()), (20, 30)),
    "写真 ünï.jpg": (saved(noise()), (20, 30)),
    "two  blanks .png": (saved(noise()), (20, 30)),
    "-dash.png": (saved(noise()), (20, 30)),
    "a.b-c.png": (saved(noise()), (20, 30)),
    "pixel.png": (saved(noise()[:1, :1]), (1, 1)),
    "row.png": (saved(noise()[:1]), (1, 30)),
    "column.png": (saved(noise()[:, :1]), (20, 1)),
    "deep/er/photo.jpg": (saved(noise()), (20, 30)),
}


def predict(*words):
    return cli.main(["predict", *words, "--weights", str(weight_file()), "--size", "32", "--engine", "paddle"])


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """The maps of all PHOTOS and of an animation, by one run, from a folder that cannot be written to."""
    home = tmp_path_factory.mktemp("photos")
    for name, (write, _) in PHOTOS.items():
        path = home / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write(str(path))
    animated(str(home / "wave.gif"))
    os.chmod(str(home / "in"), 0o555)
    try:
        assert predict(str(home / "in"), "-o", str(home / "out" / "not" / "there")) == 0
        assert predict(str(home / "wave.gif"), "-o", str(home / "wave.png")) == 0
    finally:
        os.chmod(str(home / "in"), 0o755)
    return home


@pytest.mark.parametrize("name", PHOTOS)
def test_an_ordinary_picture_has_its_map(results, name):
    maps = results / "out" / "not" / "there"
    stem = os.path.splitext(name)[0]
    of_that_stem = [other for other in PHOTOS if os.path.splitext(other)[0] == stem]
    path = maps / ((name if len(of_that_stem) > 1 else stem) + ".png")
    assert read_image(path).shape[:2] == PHOTOS[name][1]


def test_an_animation_has_the_map_of_its_first_frame(results):
    assert read_image(results / "wave.png").shape[:2] == (20, 30)


@pytest.mark.parametrize("given", ["./-dash.png", "写真 ünï.png", "*.png", "."])
def test_pictures_are_given_by_name_by_pattern_and_by_folder(tmp_path, monkeypatch, given):
    monkeypatch.chdir(tmp_path)
    for name in ("-dash.png", "写真 ünï.png"):
        save(tmp_path / name, noise())
    assert predict(given, "-o", "out") == 0
    assert len(list((tmp_path / "out").glob("*.png"))) == (1 if given.endswith("h.png") or "ï" in given else 2)


def test_an_empty_folder_is_one_line(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert predict(str(tmp_path / "empty"), "-o", str(tmp_path / "out")) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1 and not (tmp_path / "out").exists()


def test_a_folder_may_be_called_as_a_picture(tmp_path):
    save(tmp_path / "photo.png", noise())
    (tmp_path / "out.webp").mkdir()
    assert predict(str(tmp_path / "photo.png"), "-o", str(tmp_path / "out.webp")) == 0
    assert (tmp_path / "out.webp" / "photo.png").is_file()


@pytest.mark.parametrize("name", ["out.PNG", "out.WebP", "out.TIFF"])
def test_a_result_may_have_a_suffix_in_capitals(tmp_path, name):
    save(tmp_path / "photo.png", noise())
    assert predict(str(tmp_path / "photo.png"), "-o", str(tmp_path / name)) == 0
    assert read_image(tmp_path / name).shape == (20, 30, 3)


# Data sets that have always worked -----------------------------------------------------------------------------------


def rewrite(change, suffix=".png", **options):
    """A change of all masks of a set: their pixels, and how they are saved."""

    def all_masks(root):
        for path in sorted((root / "mask").iterdir()):
            mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
            path.unlink()
            change(Image.fromarray(mask)).save(str(path.with_suffix(suffix)), **options)

    return all_masks


def rename(name):
    def all_files(root):
        for kind in ("image", "mask"):
            for path in sorted((root / kind).iterdir()):
                path.rename(path.with_name(name % path.stem + path.suffix))

    return all_files


SETS = {
    "as it is": lambda root: None,
    "masks in colour": rewrite(lambda mask: mask.convert("RGB")),
    "masks of one bit": rewrite(lambda mask: mask.convert("1")),
    "masks as JPEG": rewrite(lambda mask: mask, ".jpg", quality=95),
    "masks with an opaque alpha channel": rewrite(lambda mask: mask.convert("RGBA")),
    "masks as BMP": rewrite(lambda mask: mask, ".bmp"),
    "names with blanks": rename("a b %s"),
    "names in other letters": rename("写真-%s"),
    "names with points": rename("v1.0.%s"),
    "a list": lambda root: (root / "train.txt").write_text("".join("%d\n" % number for number in range(8))),
}


@pytest.mark.parametrize("kind", sorted(SETS))
def test_an_ordinary_set_is_found_checked_and_learned_from(tmp_path, kind):
    root = make_set(tmp_path)
    SETS[kind](root)
    found = find_image_set(str(root) + os.sep)
    assert len(found) == len(found.masks) == 8
    assert scan(found.images, found.masks) == {}
    table, _ = target_levels(found.masks)
    assert table is None
    target = TrainingSamples(found.images, found.masks, seed=0)[(0, 0, (40, 48))][1]
    assert target.min() < 0.05 and target.max() > 0.95


@pytest.mark.parametrize("home", ["{}", "{}/", "{}/../ECSSD", "link"])
def test_an_ordinary_zip_and_its_folder_by_any_name(tmp_path, monkeypatch, home):
    import zipfile

    monkeypatch.chdir(tmp_path)
    root = make_set(tmp_path / "made", name="ECSSD")
    with zipfile.ZipFile("ECSSD.zip", "w") as archive:
        for path in sorted(root.rglob("*.*")):
            archive.write(str(path), str(path.relative_to(root.parent)))
    assert list(unpack([tmp_path], tmp_path / "data", say=lambda text: None)) == ["ECSSD"]
    os.symlink("data/ECSSD", "link")
    assert len(find_image_set(home.format("data/ECSSD"))) == 8
