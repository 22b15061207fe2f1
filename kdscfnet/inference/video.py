"""Saliency of videos: frames in, a video or frames out, by OpenCV."""

from __future__ import annotations

import contextlib
import math
import os

import cv2
import numpy as np

from kdscfnet.errors import BadImageError, UserError
from kdscfnet.files import atomic_path
from kdscfnet.inference import outputs, pipeline
from kdscfnet.text import progress

DEFAULT_RATE = 25.0  # frames a second, where a video does not say


def result_suffix(path):
    """ ".mp4", or ".avi" where results are of odd width or height, which OpenCV writes in no other format."""
    try:
        capture = cv2.VideoCapture(path)
    except (UnicodeError, SystemError, cv2.error):
        return ".mp4"
    sides = capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT)
    capture.release()
    return ".avi" if any(side % 2 for side in sides) else ".mp4"


def predict_video(predictor, job, overwrite=False, threshold=0.5, frames=False, show_progress=True):
    """Make the results of one video: videos with as many frames, of the same rate and size; sound is not copied.

    Args:
        predictor: a Predictor.
        job: pipeline.Job of a video; its outputs are .mp4 (or another suffix OpenCV can write) paths, or folders.
        overwrite: make results that are there already again.
        threshold: of masks.
        frames: outputs are folders, one picture a frame: 000001.png, 000002.png, …

    A video file is whole or not there; of frames those that are there already are kept. A cut-out in a video, which has
    no transparency, is on black. Returns (frames done, a note or None). Raises BadImageError where the video cannot be
    read.
    """
    if not frames and not overwrite and all(os.path.exists(path) for path in job.outputs.values()):
        return 0, "skipped: its results are there already"
    try:
        capture = cv2.VideoCapture(job.input)
    except (UnicodeError, SystemError, cv2.error):  # a name that is not Unicode
        raise BadImageError(job.input, "OpenCV cannot open a video of that name")
    try:
        if not capture.isOpened():
            raise BadImageError(job.input, "not a video that OpenCV can read")
        return _predict(predictor, job, capture, overwrite, threshold, frames, show_progress)
    finally:
        capture.release()


def _predict(predictor, job, capture, overwrite, threshold, frames, show_progress):
    expected = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    rate = capture.get(cv2.CAP_PROP_FPS)
    note = None
    if not (math.isfinite(rate) and 0 < rate <= 1000):
        rate, note = DEFAULT_RATE, "the video does not say its rate: %g frames a second are taken" % DEFAULT_RATE

    def paths(number):
        return {
            kind: os.path.join(folder, "%06d%s" % (number, outputs.SUFFIXES[kind]))
            for kind, folder in job.outputs.items()
        }

    def wanted():
        number = 0
        while True:
            number += 1
            there = frames and not overwrite and all(os.path.exists(path) for path in paths(number).values())
            if there:
                if not capture.grab():
                    return
                kept.append(number)
                bar.update()
                continue
            good, frame = capture.read()
            if not good:
                return
            yield number, frame

    def finish(item, image, saliency):
        if frames:
            outputs.write(paths(item[0]), image, saliency, threshold)
            return None
        return {kind: _frame(outputs.render(kind, image, saliency, threshold)) for kind in job.outputs}

    count, kept = 0, []
    with contextlib.ExitStack() as stack:
        sinks = {}
        if not frames:
            sinks = {kind: _Sink(stack.enter_context(atomic_path(path)), rate) for kind, path in job.outputs.items()}
        try:
            bar = stack.enter_context(
                progress(
                    total=expected if expected > 0 else None,
                    unit=" frames",
                    desc=os.path.basename(job.input),
                    disable=not show_progress,
                )
            )
            for _, pictures, _, failure in pipeline.predict_stream(predictor, wanted(), _read, finish):
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
    if 0 < count + len(kept) < expected:
        note = "the video says it has %d frames, and %d can be read" % (expected, count + len(kept))
    return count, note


def _read(item):
    return cv2.cvtColor(item[1], cv2.COLOR_BGR2RGB), None


def _frame(picture):
    """A picture as a frame of a video: uint8 H×W×3, BGR."""
    if picture.ndim == 2:
        return cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR)
    if picture.shape[2] == 4:
        opaque = picture[..., :3] * (picture[..., 3:] / np.float32(255))
        picture = np.rint(opaque).astype(np.uint8)
    return cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)


class _Sink:
    """A video file that is opened with its first frame, whose size is the video's."""

    def __init__(self, path, rate):
        self.path, self.rate = path, rate
        self.writer = None

    def write(self, frame):
        if self.writer is None:
            size = frame.shape[1], frame.shape[0]
            suffix = os.path.splitext(self.path)[1].lower()
            if suffix == ".avi":
                self.writer = cv2.VideoWriter(
                    self.path, cv2.CAP_OPENCV_MJPEG, cv2.VideoWriter_fourcc(*"MJPG"), self.rate, size
                )
            elif size[0] % 2 or size[1] % 2:  # FFmpeg in OpenCV would cut a column or a row off
                raise UserError(
                    "OpenCV writes %s videos of even width and height, not of %d×%d: name the result .avi, or "
                    "take --frames" % ((suffix,) + size)
                )
            else:
                self.writer = cv2.VideoWriter(self.path, cv2.VideoWriter_fourcc(*"mp4v"), self.rate, size)
            if not self.writer.isOpened():
                raise UserError(
                    "OpenCV cannot write %s videos here: name the result .mp4 or .avi, or take --frames" % suffix
                )
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
