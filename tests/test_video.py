"""Videos: frames in, a video or frames out, as many, at the same rate and size."""

from __future__ import annotations

import functools
import os
import subprocess
import tempfile

import cv2
import numpy as np
import pytest
from predicting import picture, predictor, workshop

from kdscfnet.errors import BadImageError, UserError
from kdscfnet.inference import video
from kdscfnet.inference.inputs import find
from kdscfnet.inference.pipeline import Job
from kdscfnet.inference.video import ffmpeg, predict_video, result_suffix

# OpenCV 4.1, the paper's, counts frames in place of reading their times, and writes some rates over milliseconds
OLD = tuple(map(int, cv2.__version__.split(".")[:2])) < (4, 2)
knows_times = pytest.mark.skipif(OLD, reason="this OpenCV does not tell the times of frames")


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
    "name, frames, rate, size, code",
    [
        ("clip.mp4", 200, 25.0, (64, 48), "mp4v"),
        ("ntsc.mp4", 40, 30000 / 1001, (80, 50), "mp4v"),
        ("odd.avi", 40, 24.0, (75, 49), "MJPG"),
    ],
)
def test_as_many_frames_at_the_same_rate_and_size(tmp_path, capsys, name, frames, rate, size, code):
    source = make_video(tmp_path / name, frames, rate, size, code)
    target = tmp_path / "out" / ("map" + result_suffix(str(source)))
    count, note = predict_video(predict(), Job(str(source), {"map": str(target)}))
    assert (count, note) == (frames, None)
    made, given = about(target), about(source)
    assert made[0] == given[0] == frames
    assert abs(made[1] - given[1]) < 1e-3 * given[1]
    assert made[2] == given[2] == size
    assert "%d/%d" % (frames, frames) in capsys.readouterr().err  # the progress bar
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
    video.write_bytes(b"an earlier result")  # `kdscfnet predict` decides whether it is kept
    assert predict_video(predict(), Job(str(source), {"map": str(video)}))[0] == 6
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


# Videos as browsers, phones and cameras write them; made by ffmpeg, of which Debian's package is enough

needs_ffmpeg = pytest.mark.skipif(ffmpeg() is None, reason="needs ffmpeg with libx264 (apt-get install ffmpeg)")


@functools.lru_cache(maxsize=None)
def film(name, *arguments, seconds=1, rate=30):
    """A test picture of some seconds, made once; `arguments` are of ffmpeg. Returns the path as text."""
    path = os.path.join(tempfile.mkdtemp(dir=str(workshop())), name)
    source = "testsrc=duration=%g:size=160x120:rate=%g" % (seconds, rate)
    subprocess.run(["ffmpeg", "-loglevel", "error", "-f", "lavfi", "-i", source, *arguments, path], check=True)
    return path


def shown(path):
    """What ffmpeg says of a file."""
    done = subprocess.run(["ffmpeg", "-hide_banner", "-i", str(path)], stderr=subprocess.PIPE)
    return done.stderr.decode()


def seconds(path):
    frames, rate, _ = about(path)
    return frames / rate


JITTER = ["-vf", "settb=1/1000,setpts='(N+0.2*mod(N*7,5)/5)/30/TB'", "-r", "1000", "-vsync", "vfr"]
JITTER += ["-c:v", "libvpx", "-cpu-used", "8"]
VARYING = ["-vf", "setpts='if(lt(N,30),N/30,1+(N-30)/10)/TB'", "-vsync", "passthrough"]


@pytest.fixture(params=["ffmpeg", "OpenCV"])
def writer(request, monkeypatch):
    if request.param == "OpenCV":
        monkeypatch.setattr(video, "ffmpeg", lambda: None)
    return request.param


@needs_ffmpeg
def test_a_recorders_rate_is_measured(tmp_path, writer):
    source = film("recorded.webm", *JITTER)
    said = cv2.VideoCapture(source).get(cv2.CAP_PROP_FPS)  # 1000, which OpenCV 5 does not believe itself
    count, note = predict_video(predict(), Job(source, {"map": str(tmp_path / "map.mp4")}), show_progress=False)
    assert count == 30 and (note is None if said < 100 else "its frames' times say" in note)
    assert abs(seconds(tmp_path / "map.mp4") - 1) < 0.05


@needs_ffmpeg
@pytest.mark.parametrize("rate", [211.222, 119.88, 239.76, 999.999])
def test_a_rate_that_mpeg4_cannot_hold_is_rounded(tmp_path, writer, rate):
    source = film("phone.mov", "-c:v", "mpeg4" if rate < 120 else "libx264", seconds=30 / rate, rate=rate)
    count, note = predict_video(predict(), Job(source, {"map": str(tmp_path / "map.mp4")}), show_progress=False)
    assert count >= 29 and note is None
    assert abs(about(tmp_path / "map.mp4")[1] - rate) < (0.04 if OLD else 0.01) * rate


@needs_ffmpeg
@knows_times
def test_a_rate_that_varies_is_said(tmp_path, writer):
    source = film("varies.mp4", *VARYING, seconds=2)
    count, note = predict_video(predict(), Job(source, {"map": str(tmp_path / "map.mp4")}), show_progress=False)
    assert count == 60 and "its frame rate varies: the result shows all frames at the mean" in note
    assert abs(seconds(tmp_path / "map.mp4") - 4) < 0.2


@needs_ffmpeg
def test_the_shape_of_pixels_is_kept(tmp_path, writer):
    source = film("wide.mp4", "-vf", "setsar=4/3")
    count, note = predict_video(predict(), Job(source, {"map": str(tmp_path / "map.mp4")}), show_progress=False)
    capture = cv2.VideoCapture(str(tmp_path / "map.mp4"))
    width, height = capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT)
    shape = (capture.get(cv2.CAP_PROP_SAR_NUM) or 1) / (capture.get(cv2.CAP_PROP_SAR_DEN) or 1)
    assert count == 30 and abs(width / height * shape - 160 * 4 / 3 / 120) < 0.02
    assert (note is None) == (writer == "ffmpeg")


@needs_ffmpeg
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
def test_browsers_play_the_result_and_the_sound_is_kept(tmp_path, suffix):
    sound = ["-f", "lavfi", "-i", "sine=duration=1", "-shortest"]
    source = film("clip.mp4", *sound)
    target = tmp_path / ("map" + suffix)
    assert predict_video(predict(), Job(source, {"map": str(target)}), show_progress=False) == (30, None)
    said = shown(target)
    assert ("vp9" if suffix == ".webm" else "h264") in said and "yuv420p" in said and "Audio: " in said


@needs_ffmpeg
def test_what_ffmpeg_cannot_write_is_one_line_and_leaves_nothing(tmp_path):
    source = film("clip.mp4", seconds=0.2)
    damaged = Job(source, {"map": str(tmp_path / "out" / "map.mp4")})
    sink = video._FFmpegSink(str(tmp_path / "map.mp4"), 25.0, (1, 1), str(tmp_path / "gone.mp4"))
    sink.write(np.zeros((48, 64, 3), np.uint8))
    sink.close()
    with pytest.raises(UserError, match="ffmpeg could not write the result of .*gone.mp4: .*No such file"):
        sink.check(1)
    assert predict_video(predict(), damaged, show_progress=False)[0] == 6


def test_a_name_with_a_colon_and_a_transport_stream(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_video(tmp_path / "clip.mp4", 3).rename("2024-01-01T12:30:05.mp4")
    job = Job("2024-01-01T12:30:05.mp4", {"map": "map.mp4"})
    assert predict_video(predict(), job, show_progress=False)[0] == 3


@pytest.mark.parametrize(
    "name, data, videos", [("a.ts", b"G" * 376, 1), ("app.ts", b"export {}", 0), ("b.vob", b"", 1)]
)
def test_a_ts_file_is_a_video_by_its_content(tmp_path, name, data, videos):
    (tmp_path / name).write_bytes(data)
    (tmp_path / "photo.png").write_bytes(b"")
    assert [len(found) for found in find([str(tmp_path)])] == [1, videos]
