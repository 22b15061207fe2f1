"""Saliency of videos: frames in, a video or frames out. OpenCV reads; ffmpeg writes where it is installed, else OpenCV.

ffmpeg writes H.264, which browsers play, with the sound of the original. OpenCV's own builds have no encoder for
H.264, and theirs for VP9 takes half a second a frame: without ffmpeg a result is MPEG-4 part 2, without sound.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import os
import re
import shutil
import subprocess
import tempfile

import cv2
import numpy as np

from kdscfnet.errors import BadImageError, UserError
from kdscfnet.files import atomic_file
from kdscfnet.inference import outputs, pipeline
from kdscfnet.text import progress, say_once

DEFAULT_RATE = 25.0  # frames a second, where a video does not say
SAMPLE = 120  # frames whose times are looked at first
NO_FFMPEG = (
    "videos are written without ffmpeg: without sound, and browsers may not play them; install ffmpeg with libx264 "
    "(apt install ffmpeg, brew install ffmpeg, conda install ffmpeg)"
)
# of ffmpeg, by the suffix of the result
_CODECS = {
    **dict.fromkeys(
        (".mp4", ".m4v", ".mov", ".mkv"),
        "-c:v libx264 -preset veryfast -crf 18 -pix_fmt yuv420p -c:a aac -movflags +faststart",
    ),
    ".webm": "-c:v libvpx-vp9 -deadline realtime -cpu-used 6 -crf 30 -b:v 0 -pix_fmt yuv420p -c:a libopus",
}


def result_suffix(path):
    """ ".mp4", or ".avi" where results are of odd width or height, which no other format here can hold."""
    with contextlib.suppress(BadImageError), _opened(path) as capture:
        sides = capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT)
        return ".avi" if any(side % 2 for side in sides) else ".mp4"
    return ".mp4"


def predict_video(predictor, job, overwrite=False, settings=outputs.USUAL, frames=False, show_progress=True):
    """Make the results of one video: videos with as many frames, of the same rate, size and pixel shape.

    Args:
        predictor: a Predictor.
        job: pipeline.Job of a video; its outputs are .mp4 (or another suffix) paths, or folders.
        overwrite: make frames that are there already again; a video is made in any case.
        settings: how results are made of maps (outputs.Settings).
        frames: outputs are folders, one picture a frame: 000001.png, 000002.png, …

    A video file is whole or not there; of frames those that are there already are kept. A cut-out in a video, which has
    no transparency, is on black where `settings` name no background. Returns (frames done, a note or None). Raises
    BadImageError where the video cannot be read, UserError where its results cannot be written.
    """
    count, kept, sinks, title = 0, 0, {}, os.path.basename(job.input)

    def paths(number):
        names = {kind: "%06d%s" % (number, outputs.SUFFIXES[kind]) for kind in job.outputs}
        return {kind: os.path.join(folder, names[kind]) for kind, folder in job.outputs.items()}

    def wanted():
        nonlocal kept
        for number in itertools.count(1):
            if frames and not overwrite and all(map(os.path.exists, paths(number).values())):
                if not capture.grab():
                    return
                kept += 1
                bar.update()
                continue
            good, frame = capture.read()
            if not good:
                return
            yield number, frame

    def read(item):
        return cv2.cvtColor(item[1], cv2.COLOR_BGR2RGB), None

    def finish(item, image, saliency):
        if frames:
            outputs.write(paths(item[0]), image, saliency, settings)
            return None
        pictures = outputs.render(job.outputs, image, saliency, settings)
        return {kind: _frame(picture) for kind, picture in pictures.items()}

    if not frames and not ffmpeg():
        say_once(NO_FFMPEG)
    with contextlib.ExitStack() as stack:
        capture = stack.enter_context(_opened(job.input))
        expected = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        rate, note = (0.0, None) if frames else frame_rate(job.input)
        for kind, path in job.outputs.items() if not frames else ():
            suffix = os.path.splitext(path)[1]
            sink = _FFmpegSink if ffmpeg() and suffix.lower() in _CODECS else _OpenCVSink
            temporary = stack.enter_context(atomic_file(path, False, suffix)).name
            sinks[kind] = sink(temporary, rate, _pixel_shape(capture), job.input)
        notes = [note, *{sink.note for sink in sinks.values()}]
        total = expected if expected > 0 else None
        try:
            bar = stack.enter_context(progress(total=total, unit=" frames", desc=title, disable=not show_progress))
            for _, pictures, _, failure in pipeline.predict_stream(predictor, wanted(), read, finish):
                if failure is not None:
                    raise BadImageError(job.input, failure)
                for kind, sink in sinks.items():
                    sink.write(pictures[kind])
                count += 1
                bar.update()
        finally:
            for sink in sinks.values():
                sink.close()
        if not count and not kept:
            raise BadImageError(job.input, "no frame of the video can be read")
        for sink in sinks.values():
            sink.check(count)
    if 0 < count + kept < expected:
        notes.append("the video says it has %d frames, and %d can be read" % (expected, count + kept))
    return count, "; ".join(filter(None, notes)) or None


def remove_frames(job):
    """Remove the frames of an earlier result of `job`, whose outputs are folders; other files stay."""
    for folder in job.outputs.values():
        for name in os.listdir(folder) if os.path.isdir(folder) else ():
            if re.match(r"\d{6}\.(png|jpg|json)$", name):
                os.unlink(os.path.join(folder, name))


@contextlib.contextmanager
def _opened(path):
    try:
        # an absolute path: FFmpeg takes what stands before a colon in a relative one for a protocol
        capture = cv2.VideoCapture(os.path.abspath(path))
    except (UnicodeError, SystemError, cv2.error):  # a name that is not Unicode
        raise BadImageError(path, "OpenCV cannot open a video of that name")
    try:
        if not capture.isOpened():
            raise BadImageError(path, "not a video that OpenCV can read")
        yield capture
    finally:
        capture.release()


def frame_rate(path):
    """(frames a second, a note or None) of a video, by the times of its frames where the file's own rate cannot be.

    A browser's recorder writes 1000, and phones record at a rate that varies.
    """
    with _opened(path) as capture:
        said = capture.get(cv2.CAP_PROP_FPS)
        said = said if math.isfinite(said) and 0 < said <= 1000 else 0.0
        measured, varies = _measured_rate(capture, SAMPLE)
    if varies:  # then only all of the frames tell
        with _opened(path) as capture:
            measured = _measured_rate(capture, None)[0]
    rate, note = said, None
    if varies:
        rate = measured
        note = "its frame rate varies: the result shows all frames at the mean, %.4g a second" % rate
    elif measured and abs(measured - said) > 0.02 * measured:
        rate = measured
        note = "the file says %g frames a second, its frames' times say %.4g, which is taken" % (said, rate)
    elif not said:
        rate, note = DEFAULT_RATE, "the video does not say its rate: %g frames a second are taken" % DEFAULT_RATE
    # the nearest that MPEG-4 can hold: OpenCV writes it over a power of ten, and both must stay below 65,536
    return next(round(rate, places) for places in (3, 2, 1, 0) if round(rate, places) * 10**places < 65536), note


def _measured_rate(capture, count):
    """(mean rate of the next frames, whether it varies); (0.0, False) where the frames have no times."""
    times = []
    while (count is None or len(times) < count) and capture.grab():
        time = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        if times and time < times[-1]:  # some containers do not know the last one's
            break
        times.append(time)
    if len(times) < 3 or times[-1] <= times[0]:
        return 0.0, False
    steps = np.diff(times)
    usual = np.median(steps)
    # times in whole milliseconds, or a recorder that doubles one, are no varying rate
    varies = bool(usual > 0 and np.percentile(np.abs(steps - usual), 90) > max(0.3 * usual, 0.002))
    return (len(times) - 1) / (times[-1] - times[0]), varies


def _pixel_shape(capture):
    """Width over height of a pixel, as two integers; (1, 1) where a video does not say."""
    width, height = (int(capture.get(name)) for name in (cv2.CAP_PROP_SAR_NUM, cv2.CAP_PROP_SAR_DEN))
    return (width, height) if width > 0 and height > 0 else (1, 1)


def _frame(picture):
    """A picture as a frame of a video: uint8 H×W×3, BGR."""
    if picture.ndim == 2:
        return cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR)
    if picture.shape[2] == 4:
        opaque = picture[..., :3] * (picture[..., 3:] / np.float32(255))
        picture = np.rint(opaque).astype(np.uint8)
    return cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)


@functools.lru_cache(maxsize=1)
def ffmpeg():
    """The path of an ffmpeg that writes H.264, or None."""
    path = shutil.which("ffmpeg")
    if path is None:
        return None
    listed = subprocess.run([path, "-hide_banner", "-encoders"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return path if b" libx264 " in listed.stdout else None


class _Sink:
    """A video file that is opened with its first frame, whose size is the video's."""

    note = None

    def __init__(self, path, rate, shape, source):
        self.path, self.rate, self.shape, self.source = path, rate, shape, source
        self.suffix = os.path.splitext(path)[1].lower()
        self.writer = None

    def size_of(self, frame):
        """(width, height). Raises UserError where the format holds no odd ones: FFmpeg would cut a row off."""
        size = frame.shape[1], frame.shape[0]
        if self.suffix != ".avi" and (size[0] % 2 or size[1] % 2):
            what = "%s videos are of even width and height, not of %d×%d: name the result .avi, or take --frames"
            raise UserError(what % (self.suffix, *size))
        return size


class _FFmpegSink(_Sink):
    """A file that ffmpeg writes."""

    def write(self, frame):
        if self.writer is None:
            size = self.size_of(frame)
            command = [ffmpeg(), "-y", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "bgr24"]
            command += ["-s", "%dx%d" % size, "-r", "%.6g" % self.rate, "-i", "-", "-i", os.path.abspath(self.source)]
            # the frames, and the original's sound where it has one
            command += ["-map", "0:v:0", "-map", "1:a?", "-vf", "setsar=%d/%d" % self.shape]
            command += [*_CODECS[self.suffix].split(), self.path]
            self.errors = tempfile.TemporaryFile()
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": self.errors}
            self.writer = subprocess.Popen(command, **pipes)
        with contextlib.suppress(BrokenPipeError):  # `check` says why
            self.writer.stdin.write(np.ascontiguousarray(frame).data)

    def close(self):
        if self.writer is not None:
            with contextlib.suppress(BrokenPipeError):
                self.writer.stdin.close()
            self.writer.wait()

    def check(self, count):
        if self.writer.returncode:
            self.errors.seek(0)
            lines = self.errors.read().decode(errors="replace").strip().splitlines() or ["no reason given"]
            raise UserError("ffmpeg could not write the result of %s: %s" % (self.source, lines[-1][:200]))
        self.errors.close()


class _OpenCVSink(_Sink):
    """A file that OpenCV writes. It knows square pixels only: other frames are stretched to what is seen."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        if self.shape[0] != self.shape[1]:
            self.note = "its pixels are no squares: the result is stretched to what is seen (ffmpeg would keep them)"

    def write(self, frame):
        if self.shape[0] != self.shape[1]:
            width = 2 * round(frame.shape[1] * self.shape[0] / self.shape[1] / 2)
            frame = cv2.resize(frame, (max(2, width), frame.shape[0]), interpolation=cv2.INTER_LINEAR)
        if self.writer is None:
            code, api = ("MJPG", [cv2.CAP_OPENCV_MJPEG]) if self.suffix == ".avi" else ("mp4v", [])
            size = self.size_of(frame)
            self.writer = cv2.VideoWriter(self.path, *api, cv2.VideoWriter_fourcc(*code), self.rate, size)
            if not self.writer.isOpened():
                advice = "name the result .mp4 or .avi, or take --frames"
                raise UserError("OpenCV cannot write %s videos here: %s" % (self.suffix, advice))
        self.writer.write(frame)

    def close(self):
        if self.writer is not None:
            self.writer.release()

    def check(self, count):
        """OpenCV does not say when it could not write: what is there is counted."""
        capture = cv2.VideoCapture(self.path)
        written = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        capture.release()
        if written != count:
            raise UserError("only %d of %d frames could be written: is the disk full?" % (max(written, 0), count))
