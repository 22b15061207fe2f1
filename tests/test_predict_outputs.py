"""`kdscfnet predict` with --background, --crop, --refine and --save box; the same from Python."""

from __future__ import annotations

import json
import os
import sys

import cv2
import numpy as np
import pytest
from predicting import picture, predictor, save, weight_file
from test_predict_command import Binary, modified, photos, predict, tree  # noqa: F401
from test_video import about, make_video

import kdscfnet.cli
from kdscfnet.errors import BadImageError, UserError
from kdscfnet.images import read_image
from kdscfnet.inference import outputs
from kdscfnet.inference.outputs import Settings


def expected(path, **settings):
    """The cut-out of a photograph, by the same network."""
    image = read_image(str(path))
    return outputs.render(["cutout"], image, predictor("paddle", 32)(image), Settings(**settings))["cutout"]


def written(path):
    """A picture file: uint8 H×W×3 RGB or H×W×4 RGBA."""
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB if pixels.shape[2] == 3 else cv2.COLOR_BGRA2RGBA)


BEHIND = picture(50, 20, 5)
CASES = {
    "white": (["--background", "white"], {"background": (255, 255, 255)}),
    "hex": (["--background", "#102030"], {"background": (16, 32, 48)}),
    "blur": (["--background", "blur"], {"background": "blur"}),
    "file": (["--background", "behind.png"], {"background": BEHIND}),
    "crop": (["--crop", "--threshold", "0.6"], {"crop": True, "threshold": 0.6}),
    "refined": (["--save", "cutout", "--refine"], {"refine": True}),
    "all": (["--background", "blur", "--crop", "--refine"], {"background": "blur", "crop": True, "refine": True}),
}


@pytest.mark.parametrize("case", CASES)
def test_each_flag_makes_what_it_says(photos, tmp_path, case):  # noqa: F811
    words, settings = CASES[case]
    save(tmp_path / "behind.png", BEHIND)
    assert predict("photos", "-o", "out", *words) == 0
    assert tree(tmp_path / "out") == ["a.png", "b.png", "sub/ü 中.png"]
    made, right = written(tmp_path / "out" / "b.png"), expected("photos/b.png", **settings)
    assert made.shape == right.shape and made.shape[2] == (3 if "background" in settings else 4)
    assert np.abs(made.astype(int) - right).max() <= 1


def test_a_changed_flag_makes_the_result_again(photos, tmp_path, capsys):  # noqa: F811
    save(tmp_path / "behind.png", BEHIND)
    common = ["photos", "-o", "out", "--save", "map,cutout"]
    assert predict(*common) == 0
    for words, kinds in (
        (["--background", "white"], ["cutout"]),
        (["--background", "blur"], ["cutout"]),
        (["--background", "behind.png"], ["cutout"]),
        (["--background", "behind.png", "--crop"], ["cutout"]),
        (["--background", "behind.png", "--crop", "--threshold", "0.4"], ["cutout"]),
        (["--background", "behind.png", "--crop", "--threshold", "0.4", "--refine"], ["cutout", "map"]),
        ([], ["cutout", "map"]),
    ):
        before = modified(tmp_path / "out")
        assert predict(*common, *words) == 0
        after = modified(tmp_path / "out")
        assert {name.split("/")[0] for name in before if after[name] > before[name]} == set(kinds), words
        assert predict(*common, *words) == 0 and modified(tmp_path / "out") == after
    assert predict(*common, "--background", "behind.png") == 0
    save(tmp_path / "behind.png", BEHIND + 1)  # another picture under the same name
    before = modified(tmp_path / "out")
    capsys.readouterr()
    assert predict(*common, "--background", "behind.png") == 0
    assert "3 made again: the input, the weights or the settings are others" in capsys.readouterr().err
    assert all(modified(tmp_path / "out")["cutout/" + name] > before["cutout/" + name] for name in ("a.png", "b.png"))


def test_boxes_are_a_file_a_photograph(photos, tmp_path, monkeypatch):  # noqa: F811
    assert predict("photos", "-o", "out", "--save", "box,mask") == 0
    assert tree(tmp_path / "out" / "box") == ["a.json", "b.json", "sub/ü 中.json"]
    found = json.loads((tmp_path / "out" / "box" / "b.json").read_text())
    saliency = predictor("paddle", 32)("photos/b.png")
    assert found == outputs.make_boxes(saliency) and (found["width"], found["height"]) == (40, 31)
    left, top, width, height = found["bbox"]
    mask = cv2.imread(str(tmp_path / "out" / "mask" / "b.png"), cv2.IMREAD_UNCHANGED)
    assert mask[top : top + height, left : left + width].any()
    assert predict("photos/b.png", "-o", "one.json", "--save", "box", "--threshold", "0.3") == 0
    assert json.loads((tmp_path / "one.json").read_text()) == outputs.make_boxes(saliency, 0.3)

    out = Binary()
    out.isatty = lambda: True  # text may go to a terminal
    monkeypatch.setattr(sys, "stdin", Binary((photos / "b.png").read_bytes()))
    monkeypatch.setattr(sys, "stdout", out)
    assert predict("-", "--save", "box") == 0
    assert json.loads(out.buffer.getvalue().decode()) == found


def test_streams_take_the_flags_too(photos, tmp_path, monkeypatch, capsys):  # noqa: F811
    data = (photos / "b.png").read_bytes()
    monkeypatch.setattr(sys, "stdin", Binary(data))
    words = ["--background", "blur", "--crop", "--refine"]
    assert predict("-", "-o", "out.png", *words) == 0
    right = expected("photos/b.png", background="blur", crop=True, refine=True)
    assert np.abs(written("out.png").astype(int) - right).max() <= 1
    monkeypatch.setattr(sys, "stdin", Binary(data))
    assert predict("-", "-o", "out.png", "--background", "white") == 0
    assert "made again" in capsys.readouterr().err and written("out.png").shape == (31, 40, 3)
    monkeypatch.setattr(sys, "stdin", Binary(data))
    save(tmp_path / "behind.png", BEHIND)
    before = (tmp_path / "behind.png").read_bytes()
    assert predict("-", "-o", "behind.png", "--background", "behind.png", "--overwrite") == 2
    assert "would overwrite the background" in capsys.readouterr().err
    assert (tmp_path / "behind.png").read_bytes() == before


def test_the_picture_behind_is_never_overwritten(photos, tmp_path, capsys):  # noqa: F811
    save(tmp_path / "out" / "b.png", BEHIND)
    before = (tmp_path / "out" / "b.png").read_bytes()
    assert predict("photos", "-o", "out", "--background", "out/b.png", "--overwrite") == 2
    assert "would overwrite" in capsys.readouterr().err
    assert (tmp_path / "out" / "b.png").read_bytes() == before and tree(tmp_path / "out") == ["b.png"]


def test_an_opaque_cutout_may_be_a_jpeg(photos, tmp_path):  # noqa: F811
    assert predict("photos/b.png", "-o", "out.jpg", "--background", "white") == 0
    right = expected("photos/b.png", background=(255, 255, 255))
    assert np.abs(written("out.jpg").astype(int) - right).mean() < 8
    assert predict("photos/b.png", "-o", "out2.jpg", "--save", "cutout") == 2
    assert not (tmp_path / "out2.jpg").exists()


def test_nothing_that_stands_out_is_not_cropped_and_said(photos, tmp_path, capsys, monkeypatch):  # noqa: F811
    monkeypatch.setattr(outputs, "_SPECK", 2)  # no region is so large
    assert predict("photos/b.png", "-o", "out", "--crop") == 0
    assert "photos/b.png: nothing stands out, so it is not cropped" in capsys.readouterr().err
    assert written(tmp_path / "out" / "b.png").shape == (31, 40, 4)
    monkeypatch.setattr(sys, "stdin", Binary((photos / "b.png").read_bytes()))
    assert predict("-", "-o", "b.png", "--crop") == 0
    assert "nothing stands out, so it is not cropped" in capsys.readouterr().err


def test_a_video_before_another_background(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_video(tmp_path / "clip.avi", 4, code="MJPG")
    assert predict("clip.avi", "-o", "out", "--background", "white", "--refine") == 0
    assert about(tmp_path / "out" / "clip.mp4")[0] == 4
    good, frame = cv2.VideoCapture(str(tmp_path / "clip.avi")).read()
    made = cv2.VideoCapture(str(tmp_path / "out" / "clip.mp4")).read()[1][..., ::-1].astype(int)
    frame = np.ascontiguousarray(frame[..., ::-1])
    settings = Settings(background=(255, 255, 255), refine=True)
    right = outputs.render(["cutout"], frame, predictor("paddle", 32)(frame), settings)["cutout"]
    assert good and np.abs(made - right).mean() < 12  # a video is not exact

    assert predict("clip.avi", "-o", "frames", "--frames", "--crop", "--save", "cutout,box") == 0
    assert tree(tmp_path / "frames")[0] == "box/clip/000001.json" and len(tree(tmp_path / "frames")) == 8
    boxes = [json.loads(path.read_text()) for path in sorted((tmp_path / "frames" / "box" / "clip").iterdir())]
    assert {(one["width"], one["height"]) for one in boxes} == {(64, 48)}
    os.unlink(str(tmp_path / "frames" / "box" / "clip" / "000002.json"))
    make_video(tmp_path / "clip.avi", 2, code="MJPG")  # a shorter one: no frame of the old one stays
    assert predict("clip.avi", "-o", "frames", "--frames", "--crop", "--save", "cutout,box") == 0
    assert len(tree(tmp_path / "frames")) == 4


@pytest.mark.parametrize(
    "words, message",
    [
        (["--crop"], "--crop gives every frame a size of its own: add --frames, or leave out"),
        (["--save", "box"], "boxes differ from frame to frame: add --frames, or leave out"),
    ],
)
def test_what_no_video_can_hold_is_refused_in_one_line(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    make_video(tmp_path / "in" / "clip.avi", 3, code="MJPG")
    save(tmp_path / "in" / "photo.png", picture())
    assert predict("in", "-o", "out", *words) == 2
    error = capsys.readouterr().err
    assert message in error and "clip.avi" in error and error.count("\n") == 1 and not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["array", "path", "bytes", "pillow"])
def test_from_python_in_kind(tmp_path, monkeypatch, kind):
    image_class = pytest.importorskip("PIL.Image")
    used = predictor("paddle", 32)
    monkeypatch.setattr("kdscfnet.inference.predictor._usual_predictor", lambda: used)
    image = picture(48, 64)
    path = save(tmp_path / "photo.png", image)
    save(tmp_path / "behind.png", BEHIND)
    given = {"array": image, "path": str(path), "bytes": path.read_bytes(), "pillow": image_class.fromarray(image)}[
        kind
    ]
    as_array = {
        "bytes": lambda data: cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), 1), cv2.COLOR_BGR2RGB),
        "pillow": np.asarray,
    }.get(kind, lambda array: array)
    for background in (
        "white",
        "#102030",
        (16, 32, 48),
        "blur",
        str(tmp_path / "behind.png"),
        BEHIND,
        tmp_path / "behind.png",
    ):
        known = {"white": (255,) * 3, "#102030": (16, 32, 48), "blur": "blur"}
        behind = background if isinstance(background, tuple) else BEHIND
        behind = known.get(background, behind) if isinstance(background, str) else behind
        made = as_array(kdscfnet.remove_background(given, background=background, crop=True, refine=True))
        np.testing.assert_array_equal(made, expected(path, background=behind, crop=True, refine=True))
    if kind == "pillow":
        assert kdscfnet.remove_background(given, "white").mode == "RGB"
        assert kdscfnet.remove_background(given, refine=True).mode == "RGBA"
    cropped = used.cutout(image, crop=True)
    np.testing.assert_array_equal(cropped, expected(path, crop=True))


def test_what_is_no_background_from_python():
    for background, error in (("whit", UserError), (np.zeros(3), UserError), (b"text", BadImageError)):
        with pytest.raises(error):
            predictor("paddle", 32).cutout(picture(), background=background)
    for colour in ((1, 2), (300, 0, 0), (0.5, 0, 0)):
        with pytest.raises(UserError, match="three whole numbers from 0 to 255"):
            predictor("paddle", 32).cutout(picture(), background=colour)


@pytest.mark.parametrize(
    "address", ["https://example.com/photo.jpg", "HTTP://example.com/a.png?x=[1]", "ftp://a/b.jpg"]
)
def test_an_address_gets_one_line(tmp_path, monkeypatch, capsys, address):
    monkeypatch.chdir(tmp_path)
    assert kdscfnet.cli.main(["predict", address, "--weights", str(weight_file())]) == 2
    assert "%s: an address, not a file: download it first" % address in capsys.readouterr().err
    with pytest.raises(BadImageError, match="download it first"):
        predictor("paddle", 32)(address)
