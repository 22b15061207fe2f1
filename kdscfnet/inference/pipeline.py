"""Saliency maps of many images: reading, preparing, network, finishing and writing overlap on the available cores."""

from __future__ import annotations

import collections
import contextlib
import itertools
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
_GPU_BATCH = 16  # images per call of the network


@dataclass
class Report:
    """What became of the jobs: lists in the order of the jobs."""

    done: list = field(default_factory=list)  # inputs
    skipped: list = field(default_factory=list)  # inputs whose results are all there
    failed: list = field(default_factory=list)  # (input, reason)
    notes: list = field(default_factory=list)  # (input, what was noticed)


def predict_files(
    predictor, jobs, settings=outputs.USUAL, show_progress=True, made=lambda job: None, each=lambda: None
):
    """Make the results of many image files.

    Args:
        predictor: a Predictor; `predictor.threads` images are worked on at a time.
        jobs: Jobs, or (input path, {kind: output path}) pairs; kinds are outputs.KINDS.
        settings: how results are made of maps (outputs.Settings).
        show_progress: whether there is a progress bar.
        made: called with a job when its results are whole, from any thread.
        each: called after every image that was done or has failed.

    A file that cannot be read is reported, the others are done. Every result is whole or not there, also when the
    process is killed. Returns a Report. Raises OSError where results cannot be written (a full disk).
    """
    report, jobs = Report(), [Job(*job) for job in jobs]
    keep_image = settings.refine or any(kind in outputs.NEEDS_IMAGE for job in jobs for kind in job.outputs)

    def finish(job, image, saliency):
        note = outputs.write(job.outputs, image, saliency, settings)
        made(job)
        return note

    with progress(total=len(jobs), desc="predict", disable=not show_progress) as bar:
        for job, remark, note, failure in predict_stream(
            predictor, jobs, lambda job: read_any(job.input), finish, keep_image
        ):
            if failure is None:
                report.done.append(job.input)
            else:
                report.failed.append((job.input, failure))
            if note or remark:
                report.notes.append((job.input, "; ".join(filter(None, (note, remark)))))
            bar.update()
            each()
    return report


def predict_stream(predictor, items, read, finish, keep_image=True):
    """Predict any stream of images, on all of the predictor's cores.

    Args:
        items: what `read` and `finish` understand; taken as they are needed, a few ahead, so a stream may be endless.
        read: item → (uint8 H×W×3 RGB, a note or None); runs on several threads.
        finish: (item, image, saliency) → result; saliency is uint8 H×W; runs on several threads.
        keep_image: whether `finish` needs the image; it gets None otherwise, where that saves memory.

    Yields (item, result, note, failure) in the order of the items. `failure` is the reason why this one item could not
    be done, else None; an error that is not of one item alone is raised.
    """
    items = iter(items)
    first = list(itertools.islice(items, 2))
    alone = len(first) < 2
    items = itertools.chain(iter(first), items)  # the iterator of a list forgets the list at its end: images are large
    del first
    engine = _side_by_side if predictor.network.concurrent else _through_one_network
    with contextlib.nullcontext() if alone else one_opencv_thread():
        for item, outcome in engine(predictor, items, read, finish, keep_image, alone):
            value, reason = _value_or_reason(outcome)
            result, note = value if reason is None else (None, None)
            yield item, result, note, reason


def _side_by_side(predictor, items, read, finish, keep_image, alone):
    """Each core takes an image from reading to writing: nothing is handed over, nobody waits for anybody."""
    cores = 1 if alone else predictor.threads
    threads = predictor.threads if alone else 1

    def work(item):
        image, note = read(item)
        logits = predictor.logits([image], threads)
        return finish(item, image, to_map(logits[0, 0], image.shape[0], image.shape[1])), note

    return in_order(work, items, cores, 4 * cores)


def _through_one_network(predictor, items, read, finish, keep_image, alone):
    """The network runs here, in batches; the other cores read and prepare what comes next and write what is done."""
    batch_size = _GPU_BATCH if getattr(predictor.network, "on_gpu", False) else 1
    cores = 1 if alone else max(2, predictor.threads)
    ahead = batch_size + 2 * cores

    def prepare(item):
        image, note = read(item)
        return prepare_image(image, predictor.size), (image.shape[:2], image if keep_image else None, note)

    def through_network():
        """Yields (item, reason, logits, what `complete` needs)."""
        prepared = ((item, *_value_or_reason(outcome)) for item, outcome in in_order(prepare, items, cores, ahead))
        for batch in iter(lambda: list(itertools.islice(prepared, batch_size)), []):
            inputs = [value[0] for _, value, reason in batch if reason is None]
            logits = iter(predictor.network(np.stack(inputs)) if inputs else ())
            for item, value, reason in batch:
                yield (item, reason, next(logits), value[1]) if reason is None else (item, reason, None, None)

    def complete(work):
        item, reason, logits, rest = work
        if reason is not None:  # it keeps its place in the order
            raise BadImageError("", reason)
        shape, image, note = rest
        return finish(item, image, to_map(logits[0], shape[0], shape[1])), note

    for work, outcome in in_order(complete, through_network(), cores, ahead):
        yield work[0], outcome


def _value_or_reason(outcome):
    """(value, None), or (None, reason) for what concerns one image alone; other errors are raised."""
    try:
        return outcome(), None
    except BadImageError as error:
        return None, error.reason
    except MemoryError:
        return None, "too large for the memory of this machine"
