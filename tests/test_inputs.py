"""What a user names, as jobs: folders, patterns, names of results, and nothing that overwrites an input."""

from __future__ import annotations

import os

import pytest
from predicting import picture, save

from kdscfnet.errors import UserError
from kdscfnet.inference.inputs import find, plan_results


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """photos/{a.jpg, b.png, sub/c.jpg, sub/deep/d.webp, clip.mp4, notes.txt, .hidden.jpg}, in the working folder."""
    folder = tmp_path / "photos"
    for name in ("a.jpg", "b.png", "sub/c.jpg", "sub/deep/d.webp", ".hidden.jpg", ".trash/e.jpg"):
        save(folder / name, picture(8, 8))
    (folder / "clip.mp4").write_bytes(b"")
    (folder / "notes.txt").write_text("no picture")
    monkeypatch.chdir(tmp_path)
    return folder


def results(jobs):
    return {job.input: job.outputs for job in jobs}


def test_a_folder_keeps_its_sub_folders(photos):
    images, videos = plan_results(["photos"], "out", ["map"])
    assert results(images) == {
        "photos/a.jpg": {"map": "out/a.png"},
        "photos/b.png": {"map": "out/b.png"},
        "photos/sub/c.jpg": {"map": "out/sub/c.png"},
        "photos/sub/deep/d.webp": {"map": "out/sub/deep/d.png"},
    }
    assert results(videos) == {"photos/clip.mp4": {"map": "out/clip.mp4"}}


def test_several_kinds_have_folders(photos):
    images, videos = plan_results(["photos/a.jpg", "photos/clip.mp4"], "out", ["map", "overlay"], frames=True)
    assert results(images) == {"photos/a.jpg": {"map": "out/map/a.png", "overlay": "out/overlay/a.jpg"}}
    assert results(videos) == {"photos/clip.mp4": {"map": "out/map/clip", "overlay": "out/overlay/clip"}}


def test_patterns(photos):
    assert [job.input for job in plan_results(["photos/*.jpg"], "out", ["map"])[0]] == ["photos/a.jpg"]
    images, _ = plan_results(["photos/**/*.*"], "out", ["map"])
    assert results(images)["photos/sub/deep/d.webp"] == {"map": "out/sub/deep/d.png"}
    assert not any(os.path.basename(job.input).startswith(".") for job in images)
    with pytest.raises(UserError, match="nothing is called like"):
        plan_results(["photos/*.gif"], "out", ["map"])


def test_a_file_with_brackets_in_its_name_is_no_pattern(photos):
    save(photos / "x[1].jpg", picture(8, 8))
    assert [job.input for job in plan_results(["photos/x[1].jpg"], "out", ["map"])[0]] == ["photos/x[1].jpg"]


def test_equal_names_keep_their_suffix(photos):
    save(photos / "a.png", picture(8, 8))
    outputs = results(plan_results(["photos"], "out", ["map"])[0])
    assert outputs["photos/a.jpg"] == {"map": "out/a.jpg.png"}
    assert outputs["photos/a.png"] == {"map": "out/a.png.png"}
    assert outputs["photos/b.png"] == {"map": "out/b.png"}


def test_one_file_named_twice_is_done_once(photos):
    assert len(plan_results(["photos/a.jpg", "photos/../photos/a.jpg", "photos"], "out", ["map"])[0]) == 4


def test_several_folders_have_their_own(photos):
    save(photos.parent / "more" / "a.jpg", picture(8, 8))
    outputs = results(plan_results(["photos", "more"], "out", ["map"])[0])
    assert outputs["photos/a.jpg"] == {"map": "out/photos/a.png"} and outputs["more/a.jpg"] == {"map": "out/more/a.png"}
    save(photos.parent / "elsewhere" / "photos" / "a.jpg", picture(8, 8))
    with pytest.raises(UserError, match="several folders are called photos"):
        plan_results(["photos", "elsewhere/photos"], "out", ["map"])


def test_files_of_one_name_from_two_places(photos):
    save(photos.parent / "more" / "a.jpg", picture(8, 8))
    with pytest.raises(UserError, match="would have one result"):
        plan_results(["photos/a.jpg", "more/a.jpg"], "out", ["map"])


@pytest.mark.parametrize(
    "inputs, output, kinds, message",
    [
        (["nowhere"], "out", ["map"], "there is no file or folder nowhere"),
        (["photos/notes.txt", "nowhere.jpg"], "out", ["map"], "there is no file or folder nowhere.jpg"),
        (["empty"], "out", ["map"], "empty holds no images and no videos"),
        (["photos"], "photos", ["map"], "results cannot go to the folder of the inputs"),
        (["photos"], "photos/sub/..", ["map"], "results cannot go to the folder of the inputs"),
        (["photos/*.jpg"], "photos", ["map"], "results cannot go to the folder of the inputs"),
        (["photos/b.png"], "photos/b.png", ["map"], "would overwrite the input"),
        (["photos/b.png"], "link.png", ["map"], "would overwrite the input"),
        (["photos"], "out.png", ["map"], "more than one result"),
        (["photos/a.jpg"], "out.png", ["map", "mask"], "more than one result"),
        (["photos/a.jpg"], "out.jpg", ["map"], "a map is written as .png"),
        (["photos/a.jpg"], "out.jpg", ["cutout"], "a cutout is written as .png"),
        (["photos/a.jpg"], "out.mp4", ["map"], "is a video, and the input is an image"),
        (["photos/clip.mp4"], "out.png", ["map"], "cannot hold a video"),
        (["photos/a.jpg"], "photos/notes.txt", ["map"], "is a file, and results go to a folder"),
    ],
)
def test_wrong_use_is_told(photos, inputs, output, kinds, message):
    (photos.parent / "empty").mkdir()
    os.symlink(str(photos / "b.png"), "link.png")
    os.symlink(str(photos), "folder_link")
    with pytest.raises(UserError, match=message.replace(".", r"\.")) as caught:
        plan_results(inputs, output, kinds)
    assert "\n" not in str(caught.value)


def test_a_result_in_the_folder_of_its_input_has_a_name_of_its_own(photos):
    save(photos / "a.png", picture(8, 8))  # a photograph, and not the result of a.jpg
    for output in ("photos", "folder_link"):
        os.path.lexists("folder_link") or os.symlink(str(photos), "folder_link")
        images, videos = plan_results(["photos/a.jpg", "photos/b.png", "photos/clip.mp4"], output, ["map"])
        assert [job.outputs["map"] for job in images] == [output + "/a_map.png", output + "/b_map.png"]
        assert videos[0].outputs == {"map": output + "/clip_map.mp4"}
    assert plan_results(["photos/a.jpg"], "photos", ["map", "mask"])[0][0].outputs["mask"] == "photos/mask/a.png"


def test_frames_of_a_video_have_a_folder_of_their_own(photos):
    save(photos / "clip" / "000001.jpg", picture(8, 8))
    images, videos = plan_results(["photos"], "out", ["map"], frames=True)
    assert results(images)["photos/clip/000001.jpg"] == {"map": "out/clip/000001.png"}
    assert results(videos) == {"photos/clip.mp4": {"map": "out/clip.mp4"}}
    # and none where an input is
    (photos.parent / "videos").mkdir()
    (photos / "clip.mp4").rename(photos.parent / "videos" / "clip.mp4")
    with pytest.raises(UserError, match="would go to the folder photos/clip, where the input photos/clip/000001.jpg"):
        plan_results(["videos/clip.mp4", "photos/clip/000001.jpg"], "photos", ["map"], frames=True)


def test_results_and_folders_of_results_never_share_a_name(photos):
    save(photos / "x.jpg", picture(8, 8))
    save(photos / "x.png" / "1.jpg", picture(8, 8))
    for name in ("y.jpg", "y.png", "y.jpg.png"):
        save(photos / name, picture(8, 8))
    outputs = results(plan_results(["photos"], "out", ["map"])[0])
    assert outputs["photos/x.jpg"] == {"map": "out/x.jpg.png"}
    assert outputs["photos/x.png/1.jpg"] == {"map": "out/x.png/1.png"}
    paths = [paths["map"] for paths in outputs.values()]
    assert len(set(paths)) == len(outputs) == 9 and not set(paths) & set(map(os.path.dirname, paths))


def test_one_result_may_be_named(photos):
    assert results(plan_results(["photos/a.jpg"], "maps/result.png", ["map"])[0]) == {
        "photos/a.jpg": {"map": "maps/result.png"}
    }
    assert results(plan_results(["photos/a.jpg"], "result.png", ["overlay"])[0]) == {
        "photos/a.jpg": {"overlay": "result.png"}
    }
    assert results(plan_results(["photos/clip.mp4"], "result.avi", ["map"])[1]) == {
        "photos/clip.mp4": {"map": "result.avi"}
    }


def test_earlier_results_inside_the_folder_are_no_inputs(photos):
    before = [job.input for job in plan_results(["photos"], "photos/maps", ["map"])[0]]
    save(photos / "maps" / "a.png", picture(8, 8))
    assert [job.input for job in plan_results(["photos"], "photos/maps", ["map"])[0]] == before
    # a folder above the inputs holds them, and no results of theirs
    assert len(plan_results(["photos"], ".", ["map"])[0]) == 5


def test_find_takes_other_suffixes_when_they_are_named(photos):
    save(photos / "scan.png", picture(8, 8)).rename(photos / "scan.dat")
    images, _ = find(["photos/scan.dat"])
    assert [(item.path, item.name) for item in images] == [("photos/scan.dat", "scan")]
