"""Videos: frames in, a video or frames out, as many, at the same rate and size."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from predicting import picture, predictor

from kdscfnet.errors import BadImageError, UserError
from kdscfnet.inference.pipeline import Job
from kdscfnet.inference.video import predict_video, result_suffix


def make_video(path, frames=200, rate=25.0, size=(64, 48), code="mp4v"):
    """A disc that wanders over a soft background. Returns the path."""
    backend = cv2.CAP_OPENCV_MJPEG if code == "MJPG" else cv2.CAP_ANY  # FFmpeg writes no odd sizes
    writer = cv2.VideoWriter(str(path), backend, cv2.VideoWriter_fourcc(*code), rate, size)
    assert writer.isOpened()
    background = picture(size[1], size[0])[..., ::-1].copy()
    for number in range(frames):
        frame = background.copy()
        cv2.circle(frame, (number % size[0], size[1] // 2), 8, (0, 0, 255), -1)
        writer.write(frame)
    writer.release()
    return path


def about(path):
    """(frames that can be read, rate, (width, height)) of a video."""
    capture = cv2.VideoCapture(str(path))
    assert capture.isOpened()
    rate = capture.get(cv2.CAP_PROP_FPS)
    size = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
    count = 0
    while capture.read()[0]:
        count += 1
    capture.release()
    return count, rate, size


def predict():
    return predictor("paddle", 32)


@pytest.mark.parametrize(
    "name, rate, size, code",
    [
        ("clip.mp4", 25.0, (64, 48), "mp4v"),
        ("ntsc.mp4", 30000 / 1001, (80, 50), "mp4v"),
        ("odd.avi", 24.0, (75, 49), "MJPG"),
    ],
)
def test_two_hundred_frames(tmp_path, capsys, name, rate, size, code):
    source = make_video(tmp_path / name, 200, rate, size, code)
    target = tmp_path / "out" / ("map" + result_suffix(str(source)))
    count, note = predict_video(predict(), Job(str(source), {"map": str(target)}))
    assert (count, note) == (200, None)
    made, given = about(target), about(source)
    assert made[0] == given[0] == 200
    assert abs(made[1] - given[1]) < 1e-3 * given[1]
    assert made[2] == given[2] == size
    assert "200/200" in capsys.readouterr().err  # the progress bar
    assert list(target.parent.iterdir()) == [target]


def test_every_kind_and_the_frames_are_those_of_the_pictures(tmp_path):
    source = make_video(tmp_path / "clip.avi", 5, code="MJPG")
    kinds = ("map", "mask", "cutout", "overlay", "grid")
    job = Job(str(source), {kind: str(tmp_path / kind / "clip") for kind in kinds})
    assert predict_video(predict(), job, frames=True, show_progress=False) == (5, None)
    capture = cv2.VideoCapture(str(source))
    for number in range(1, 6):
        frame = capture.read()[1][..., ::-1]
        made = cv2.imread(str(tmp_path / "map" / "clip" / ("%06d.png" % number)), cv2.IMREAD_UNCHANGED)
        assert np.abs(made.astype(int) - predict()(frame)).max() <= 1
        cutout = cv2.imread(str(tmp_path / "cutout" / "clip" / ("%06d.png" % number)), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(cutout[..., 2::-1], frame)
        np.testing.assert_array_equal(cutout[..., 3], made)
    videos = Job(str(source), {kind: str(tmp_path / (kind + ".mp4")) for kind in kinds})
    assert predict_video(predict(), videos, show_progress=False)[0] == 5
    assert all(about(path)[0] == 5 for path in videos.outputs.values())
    assert about(tmp_path / "grid.mp4")[2] == (4 * 64 + 3 * 6, 48)


def test_what_is_there_is_kept(tmp_path):
    source = make_video(tmp_path / "clip.avi", 6, code="MJPG")
    video = tmp_path / "map.mp4"
    video.write_bytes(b"an earlier result")
    assert predict_video(predict(), Job(str(source), {"map": str(video)}))[0] == 0
    assert video.read_bytes() == b"an earlier result"
    assert predict_video(predict(), Job(str(source), {"map": str(video)}), overwrite=True)[0] == 6
    assert about(video)[0] == 6

    # frames of an interrupted run are kept, the others are made
    job = Job(str(source), {"map": str(tmp_path / "frames")})
    (tmp_path / "frames").mkdir()
    for number in (1, 2, 4):
        (tmp_path / "frames" / ("%06d.png" % number)).write_bytes(b"kept")
    assert predict_video(predict(), job, frames=True)[0] == 3
    assert len(list((tmp_path / "frames").iterdir())) == 6
    assert (tmp_path / "frames" / "000004.png").read_bytes() == b"kept"
    assert predict_video(predict(), job, frames=True) == (0, None)


def test_an_odd_size_is_refused_where_it_cannot_be_kept(tmp_path):
    source = make_video(tmp_path / "clip.avi", 3, size=(33, 20), code="MJPG")
    with pytest.raises(UserError, match="not of 33×20: name the result .avi"):
        predict_video(predict(), Job(str(source), {"map": str(tmp_path / "map.mp4")}))
    assert [path.name for path in tmp_path.iterdir()] == ["clip.avi"]


def test_what_is_no_video_is_named_and_leaves_nothing(tmp_path):
    for name, data in (("text.mp4", b"this is no video"), ("empty.mp4", b"")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(BadImageError, match=name):
            predict_video(predict(), Job(str(tmp_path / name), {"map": str(tmp_path / "out" / "map.mp4")}))
    assert not list(tmp_path.rglob("*map*"))


def test_a_video_that_ends_early_is_done_as_far_as_it_goes(tmp_path):
    source = make_video(tmp_path / "clip.avi", 50, code="MJPG")
    data = source.read_bytes()
    source.write_bytes(data[: len(data) * 6 // 10])
    target = tmp_path / "map.mp4"
    count, note = predict_video(predict(), Job(str(source), {"map": str(target)}), show_progress=False)
    assert 10 < count < 50 and about(target)[0] == count
    if note is not None:  # where the container still says how many frames it had
        assert "50 frames" in note
