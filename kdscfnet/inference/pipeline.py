"""Saliency maps of many images: reading, preparing, network, finishing and writing overlap on the available cores."""

from __future__ import annotations

import collections
import contextlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from kdscfnet.errors import BadImageError
from kdscfnet.images import read_any
from kdscfnet.inference import outputs
from kdscfnet.processing import prepare_image, to_map
from kdscfnet.text import progress
from kdscfnet.threads import in_order, one_opencv_thread

# One image to predict: `input` is a path, `outputs` maps a kind (outputs.KINDS) to the path of the result.
Job = collections.namedtuple("Job", ["input", "outputs"])


@dataclass
class Report:
    """What became of the jobs: lists in the order of the jobs."""

    done: list = field(default_factory=list)  # inputs
    skipped: list = field(default_factory=list)  # inputs whose results are all there
    failed: list = field(default_factory=list)  # (input, reason)
    notes: list = field(default_factory=list)  # (input, what was noticed)


def predict_files(
    predictor,
    jobs,
    overwrite=False,
    threshold=0.5,
    title="predict",
    show_progress=True,
    batch_size=None,
    each=lambda: None,
):
    """Make the results of many image files.

    Args:
        predictor: a Predictor; `predictor.threads` images are worked on at a time.
        jobs: Jobs, or (input path, {kind: output path}) pairs; kinds are "map", "mask", "cutout", "overlay", "grid".
        overwrite: make results that are there already again; otherwise an image whose results are all there is skipped.
        threshold: of masks (outputs.make_mask).
        title, show_progress: the progress bar.
        batch_size: see `run`.
        each: called after every image that was done or has failed.

    A file that cannot be read is reported, the others are done. Every result is whole or not there, also when the
    process is killed. Returns a Report. Raises OSError where results cannot be written (a full disk).
    """
    report = Report()
    todo = []
    for job in jobs:
        job = Job(*job)
        if not overwrite and all(os.path.exists(path) for path in job.outputs.values()):
            report.skipped.append(job.input)
        else:
            todo.append(job)
    keep_image = any(kind in outputs.NEEDS_IMAGE for job in todo for kind in job.outputs)

    def finish(job, image, saliency):
        outputs.write(job.outputs, image, saliency, threshold)

    with progress(total=len(todo), desc=title, disable=not show_progress) as bar:
        for job, _, note, failure in run(
            predictor, todo, lambda job: read_any(job.input), finish, keep_image, batch_size
        ):
            if failure is None:
                report.done.append(job.input)
            else:
                report.failed.append((job.input, failure))
            if note:
                report.notes.append((job.input, note))
            bar.update()
            each()
    return report


def run(predictor, items, read, finish, keep_image=True, batch_size=None):
    """Predict any stream of images, on all of the predictor's cores.

    Args:
        items: what `read` and `finish` understand; taken as they are needed, a few ahead, so a stream may be endless.
        read: item → (uint8 H×W×3 RGB, a note or None); runs on several threads.
        finish: (item, image, saliency) → result; saliency is uint8 H×W; runs on several threads.
        keep_image: whether `finish` needs the image; it gets None otherwise, where that saves memory.
        batch_size: images per call of the network, for Paddle; default: 16 on a GPU, 1 on a CPU. (ONNX Runtime runs one
            image on each core instead, which is faster.)

    Yields (item, result, note, failure) in the order of the items. `failure` is the reason why this one item could not
    be done, else None; an error that is not of one item alone is raised.
    """
    items = iter(items)
    first = list(_take(items, 2))
    alone = len(first) < 2
    items = _chain(first, items)
    engine = _side_by_side if predictor.network.concurrent else _through_one_network
    with contextlib.ExitStack() as stack:
        if not alone:
            stack.enter_context(one_opencv_thread())
        yield from engine(predictor, items, read, finish, keep_image, batch_size, alone)


def _take(iterator, count):
    for _ in range(count):
        try:
            yield next(iterator)
        except StopIteration:
            return


def _chain(first, rest):
    while first:  # forgets what it has given
        yield first.pop(0)
    yield from rest


def _side_by_side(predictor, items, read, finish, keep_image, batch_size, alone):
    """Each core takes an image from reading to writing: nothing is handed over, nobody waits for anybody."""
    cores = 1 if alone else predictor.threads
    threads = predictor.threads if alone else 1

    def work(item):
        image, note = read(item)
        logits = predictor.logits([image], threads)
        return finish(item, image, to_map(logits[0, 0], image.shape[0], image.shape[1])), note

    for item, outcome in in_order(work, items, cores, 4 * cores):
        value, failure = _settle(outcome)
        result, note = value if failure is None else (None, None)
        yield item, result, note, failure


def _through_one_network(predictor, items, read, finish, keep_image, batch_size, alone):
    """The network runs here, in batches; the other cores read and prepare what comes next and write what is done."""
    batch_size = batch_size or (16 if getattr(predictor.network, "on_gpu", False) else 1)
    cores = 1 if alone else max(2, predictor.threads)

    def prepare(item):
        image, note = read(item)
        return prepare_image(image, predictor.size), image.shape[:2], image if keep_image else None, note

    def complete(item, logits, shape, image):
        return finish(item, image, to_map(logits, shape[0], shape[1]))

    with ThreadPoolExecutor(cores) as pool:
        pending, batch = collections.deque(), []

        def run_batch():
            logits = predictor.network(np.stack([prepared for _, (prepared, _, _, _) in batch]))
            for i, (item, (_, shape, image, note)) in enumerate(batch):
                pending.append((item, note, pool.submit(complete, item, logits[i, 0], shape, image)))
            del batch[:]

        def completed(item, note, future):
            result, failure = _settle(future.result)
            return item, result, note, failure

        for item, outcome in in_order(prepare, items, cores, batch_size + 2 * cores):
            prepared, failure = _settle(outcome)
            if failure is None:
                batch.append((item, prepared))
            else:  # it keeps its place in the order
                batch and run_batch()
                pending.append((item, None, _Failed(failure)))
            if len(batch) == batch_size:
                run_batch()
            while len(pending) > batch_size + 2 * cores:
                yield completed(*pending.popleft())
        if batch:
            run_batch()
        while pending:
            yield completed(*pending.popleft())


class _Failed:
    """A future whose work failed before."""

    def __init__(self, reason):
        self.reason = reason

    def result(self):
        raise BadImageError("", self.reason)


def _settle(result):
    """(value, None), or (None, reason) for what concerns one image alone; other errors are raised."""
    try:
        return result(), None
    except BadImageError as error:
        return None, error.reason
    except MemoryError:
        return None, "too large for the memory of this machine"
