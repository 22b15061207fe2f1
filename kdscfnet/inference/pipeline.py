"""Saliency maps of many files: reading, preparing, network, finishing and writing overlap on the available cores."""
from __future__ import annotations

import collections
import contextlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import cv2
import numpy as np

from kdscfnet.data.transforms import prepare_image
from kdscfnet.errors import BadImageError
from kdscfnet.inference import writers
from kdscfnet.inference.finish import to_map
from kdscfnet.inference.readers import read_any
from kdscfnet.progress import progress

# One image to predict: `input` is a path, `outputs` maps a kind (writers.KINDS) to the path of the result.
Job = collections.namedtuple("Job", ["input", "outputs"])


@dataclass
class Report:
    """What became of the jobs: lists in the order of the jobs."""

    done: list = field(default_factory=list)  # inputs
    skipped: list = field(default_factory=list)  # inputs whose results are all there
    failed: list = field(default_factory=list)  # (input, reason)
    notes: list = field(default_factory=list)  # (input, what was noticed)


def predict_files(predictor, jobs, overwrite=False, threshold=0.5, title="predict", show_progress=True, batch_size=None):
    """Make the results of many images.

    Args:
        predictor: a Predictor; `predictor.threads` images are worked on at a time.
        jobs: Jobs, or (input path, {kind: output path}) pairs; kinds are "map", "mask", "cutout", "overlay", "grid".
        overwrite: make results that are there already again; otherwise an image whose results are all there is skipped.
        threshold: of masks (writers.make_mask).
        title, show_progress: the progress bar.
        batch_size: images per call of the network for Paddle; default: 16 on a GPU, 1 on a CPU. (ONNX Runtime runs one
            image on each core instead, which is faster.)

    A file that cannot be read is reported, the others are done. Every result is whole or not there, also when the
    process is killed. Returns a Report. Raises OSError where results cannot be written (a full disk).
    """
    report = Report()
    jobs = [Job(*job) for job in jobs]
    todo = []
    for job in jobs:
        if not overwrite and all(os.path.exists(path) for path in job.outputs.values()):
            report.skipped.append(job.input)
        else:
            todo.append(job)
    run = _side_by_side if predictor.network.concurrent else _through_one_network
    with one_opencv_thread(), progress(total=len(todo), desc=title, disable=not show_progress) as bar:
        for job, note, failure in run(predictor, todo, threshold, batch_size):
            if failure is None:
                report.done.append(job.input)
                if note:
                    report.notes.append((job.input, note))
            else:
                report.failed.append((job.input, failure))
            bar.update()
    return report


def _side_by_side(predictor, jobs, threshold, batch_size):
    """Each core takes an image from reading to writing: nothing is handed over, nobody waits for anybody."""
    cores = min(predictor.threads, max(1, len(jobs)))

    def work(job):
        image, note = read_any(job.input)
        logits = predictor.logits([image], threads=max(1, predictor.threads // cores))
        writers.write(job.outputs, image, to_map(logits[0, 0], image.shape[0], image.shape[1]), threshold)
        return note

    for job, result in in_order(work, jobs, cores, 8 * cores):
        note, failure = _settle(result)
        yield job, note, failure


def _through_one_network(predictor, jobs, threshold, batch_size):
    """The network runs here, in batches; the other cores read and prepare what comes next and write what is done."""
    batch_size = batch_size or (16 if getattr(predictor.network, "on_gpu", False) else 1)
    cores = max(2, predictor.threads)

    def prepare(job):
        image, note = read_any(job.input)
        keep = image if any(kind in writers.NEEDS_IMAGE for kind in job.outputs) else None
        return prepare_image(image, predictor.size), image.shape[:2], keep, note

    def finish(job, logits, shape, image):
        writers.write(job.outputs, image, to_map(logits, shape[0], shape[1]), threshold)

    with ThreadPoolExecutor(cores) as writing:
        pending, batch = collections.deque(), []

        def run_batch():
            logits = predictor.network(np.stack([prepared for _, (prepared, _, _, _) in batch]))
            for i, (job, (_, shape, image, note)) in enumerate(batch):
                pending.append((job, note, writing.submit(finish, job, logits[i, 0], shape, image)))
            del batch[:]

        for job, result in in_order(prepare, jobs, cores, batch_size + 2 * cores):
            prepared, failure = _settle(result)
            if failure is not None:
                yield job, None, failure
                continue
            batch.append((job, prepared))
            if len(batch) == batch_size:
                run_batch()
            while len(pending) > batch_size + 2 * cores:
                job, note, future = pending.popleft()
                yield job, note, _settle(future.result)[1]
        if batch:
            run_batch()
        while pending:
            job, note, future = pending.popleft()
            yield job, note, _settle(future.result)[1]


def _settle(result):
    """(value, None), or (None, reason) for what concerns one image alone; other errors are raised."""
    try:
        return result(), None
    except BadImageError as error:
        return None, error.reason
    except MemoryError:
        return None, "too large for the memory of this machine"


def in_order(work, items, threads, ahead):
    """Run `work(item)` on a pool of threads; yields (item, function that returns or raises the result) in order.

    At most `ahead` items are under way or waiting, so memory stays flat however many there are.
    """
    stop = threading.Event()

    def guarded(item):
        if stop.is_set():
            return None
        return work(item)

    pending = collections.deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                pending.append((item, pool.submit(guarded, item)))
                if len(pending) >= ahead:
                    item, future = pending.popleft()
                    yield item, future.result
            while pending:
                item, future = pending.popleft()
                yield item, future.result
        finally:  # an error or an interruption: what has not begun does not begin
            stop.set()


@contextlib.contextmanager
def one_opencv_thread():
    """OpenCV on one thread inside: the images are spread over the cores already."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
