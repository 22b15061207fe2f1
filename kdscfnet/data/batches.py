"""Training samples in batches: what every batch holds is a pure function of (seed, step), whoever loads it.

So the number of workers changes nothing, and a run that was interrupted goes on in the middle of an epoch.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import io
import multiprocessing
import os
import shutil
import signal
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from kdscfnet.data.augment import Augmentation, apply_to_image, apply_to_mask, draw
from kdscfnet.errors import BadImageError, UserError
from kdscfnet.images import check_whole, read_bytes, read_image, read_mask
from kdscfnet.recipes import all_sizes
from kdscfnet.schedule import steps_per_epoch
from kdscfnet.text import progress

# Streams of random numbers that must not run in parallel
_ORDER, _SIZE, _SAMPLE = 1, 2, 3


class BatchPlan:
    """Which images make up which batch, and of what size they are.

    A step uses `batch_size × accumulate × world` images (fewer at the end of an epoch), drawn without replacement in
    every epoch. They are dealt in order: first to the ranks, then to the turns of accumulation.

    Iterating yields, from `start_step` on, one list of items (index, epoch, size, step, share) per turn of this rank;
    `share` is the part of the step's images that the turn holds, times world. A rank for which nothing is left gets one
    image with share 0, so that all ranks take part in the exchange of gradients.

    `early_sizes`, ((until epoch, sizes), …), stand in for `sizes` in the first epochs.
    """

    def __init__(
        self, num_images, batch_size, sizes, epochs, seed, accumulate=1, rank=0, world=1, start_step=0, early_sizes=()
    ):
        self.num_images, self.batch_size, self.sizes, self.epochs, self.seed = (
            num_images,
            batch_size,
            tuple(sizes),
            epochs,
            seed,
        )
        self.accumulate, self.rank, self.world, self.start_step = accumulate, rank, world, start_step
        self.early_sizes = tuple(early_sizes)
        self.effective_batch = batch_size * accumulate * world
        self.steps_per_epoch = steps_per_epoch(num_images, self.effective_batch)
        self.total_steps = self.steps_per_epoch * epochs

    def __len__(self):
        return (self.total_steps - self.start_step) * self.accumulate

    def images_before(self, step):
        """How many images the steps before `step` use."""
        epoch, position = divmod(step, self.steps_per_epoch)
        return epoch * self.num_images + min(position * self.effective_batch, self.num_images)

    def order(self, epoch):
        """The order of all images in an epoch: int64 [num_images]."""
        return np.random.default_rng((self.seed, _ORDER, epoch)).permutation(self.num_images)

    def size(self, step):
        """(height, width) of a step's batch: one of its epoch's sizes, drawn for the step."""
        epoch = step // self.steps_per_epoch
        sizes = next((sizes for until, sizes in self.early_sizes if epoch < until), self.sizes)
        size = sizes[int(np.random.default_rng((self.seed, _SIZE, step)).integers(len(sizes)))]
        return (size, size) if isinstance(size, int) else tuple(size)

    def __iter__(self):
        order, order_epoch = None, None
        for step in range(self.start_step, self.total_steps):
            epoch, position = divmod(step, self.steps_per_epoch)
            if epoch != order_epoch:
                order, order_epoch = self.order(epoch), epoch
            images = order[position * self.effective_batch : (position + 1) * self.effective_batch]
            mine = np.array_split(images, self.world)[self.rank]
            for turn in np.array_split(mine, self.accumulate):
                share = len(turn) * self.world / len(images)
                size = self.size(step)
                yield [(int(i), epoch, size, step, share) for i in (turn if len(turn) else images[:1])]


class TrainingSamples:
    """Reads and augments single samples.

    Args:
        images: paths.
        targets: paths of masks or of a teacher's maps, parallel to `images`; None: there are none.
        seed: with epoch and index it decides the augmentation.
    """

    def __init__(self, images, targets, seed, augmentation=None):
        self.images, self.targets, self.seed, self.augmentation = (
            list(images),
            targets and list(targets),
            seed,
            augmentation or Augmentation(),
        )

    def __len__(self):
        return len(self.images)

    def __getitem__(self, item):
        """item: (index, epoch, (height, width), …) → float32 3×h×w, float32 1×h×w or None."""
        index, epoch, size = item[:3]
        image = read_image(self.images[index])
        rng = np.random.default_rng((self.seed, _SAMPLE, epoch, index))
        drawn = draw(rng, image.shape[0], image.shape[1], self.augmentation)
        target = None
        if self.targets is not None:
            target = apply_to_mask(read_mask(self.targets[index]), drawn, size, image.shape[:2])
        return apply_to_image(image, drawn, size), target


class _Turns:
    """One item per turn for paddle.io.DataLoader, which then has nothing to collate."""

    def __init__(self, samples, plan):
        self.samples, self.turns = samples, plan

    def load(self, items):
        height, width = items[0][2]
        images = np.empty((len(items), 3, height, width), np.float32)
        targets = np.empty((len(items), 1, height, width), np.float32) if self.samples.targets is not None else None
        for row, item in enumerate(items):
            images[row], target = self.samples[item]
            if targets is not None:
                targets[row] = target
        return images, targets, items[0][3], items[0][4]


class LoaderError(UserError):
    """A worker of the loader died, or could not read what was whole when training began."""


def batches(samples, plan, workers=0):
    """Yield (images, targets or None, step, share) for every turn of `plan`: float32 N×3×h×w and N×1×h×w.

    workers: processes that load ahead, by paddle.io.DataLoader, which also brings the tensors to the device; 0: in this
    process, as numpy arrays.
    """
    turns = _Turns(samples, plan)
    if workers == 0:
        for items in plan:
            yield turns.load(items)
        return

    import paddle

    class Dataset(paddle.io.Dataset):
        def __len__(self):
            return len(samples)

        def __getitem__(self, item):
            return item

    class Sampler(paddle.io.BatchSampler):
        def __init__(self):
            pass

        def __iter__(self):
            return iter(plan)

        def __len__(self):
            return len(plan)

    no_tensor = np.zeros(1, np.float32)  # Paddle takes no empty ones; one dimension tells it from the others

    def collate(items):
        try:
            images, targets, step, share = turns.load(items)
        except BadImageError as error:  # as data: Paddle would print a worker's traceback
            return [
                no_tensor,
                np.frombuffer(str(error).encode("utf-8"), np.uint8).copy(),
                np.zeros(1, np.int64),
                np.zeros(1, np.float64),
            ]
        return [
            images,
            no_tensor if targets is None else targets,
            np.array([step], np.int64),
            np.array([share], np.float64),
        ]

    loader = paddle.io.DataLoader(
        Dataset(),
        batch_sampler=Sampler(),
        collate_fn=collate,
        num_workers=workers,
        use_shared_memory=_shared_memory_is_enough(samples, plan, workers),
        worker_init_fn=functools.partial(_worker_init, os.getpid()),
        return_list=True,
    )
    _deaths.news = None
    try:
        others = set(multiprocessing.active_children())
        with _forked_without_garbage():
            iterator = iter(loader)  # starts the workers
        atexit.register(_kill, os.getpid(), set(multiprocessing.active_children()) - others)
        _deaths.listen()
        for images, targets, step, share in iterator:
            if _deaths.news is not None:
                raise _deaths.news
            if len(images.shape) == 1:
                raise LoaderError(bytes(targets.numpy()).decode("utf-8"))
            yield (
                images,
                (targets if samples.targets is not None else None),
                int(step.numpy()[0]),
                float(share.numpy()[0]),
            )
    except (RuntimeError, SystemError, OSError) as error:
        raise _as_loader_error(_deaths.news or error) or error


@contextlib.contextmanager
def _forked_without_garbage():
    """Start processes in this block. They get no garbage and collect none of the parent's: the reader of a loader that
    ended before waits for ever in a child, for threads that only the parent has (seen in Paddle 2.2)."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class _Deaths:
    """Paddle tells of a dead worker by raising out of a signal handler, once for each: in whatever the main process is
    doing, be it the tidying up after the first. This stands before that handler and keeps the first of its `news`, for
    the loop to ask after. (The loop cannot miss it: without batches Paddle's reader thread ends the waiting.)"""

    def __init__(self):
        self.news, self._theirs = None, None

    def listen(self):
        """Take the place of Paddle's handler, which is there once its first workers are."""
        handler = signal.getsignal(signal.SIGCHLD)
        if getattr(handler, "__module__", "").startswith("paddle"):
            self._theirs = handler
            signal.signal(signal.SIGCHLD, self._hear)

    def _hear(self, number, frame):
        try:
            self._theirs(number, frame)
        except (RuntimeError, SystemError, OSError) as error:
            self.news = self.news or error


_deaths = _Deaths()  # one, as Paddle sets its handler once in a process


def _as_loader_error(error):
    """A LoaderError where `error` is Paddle's word that a worker died, else None."""
    text = str(error)
    # "data reader": the word of Paddle 2.2
    if not any(word in text.lower() for word in ("dataloader", "worker", "data reader")):
        return None
    line = next(
        (part.strip() for part in text.splitlines() if "loader" in part.lower() or "reader" in part.lower()),
        text.strip().splitlines()[0],
    )
    return LoaderError("a worker of the loader died (out of memory?): %s" % line)


def _worker_init(parent, _):
    import cv2

    gc.freeze()  # what came from the parent is the parent's to tidy up
    gc.enable()
    _end_with(parent)
    # Ctrl-C reaches the whole group, a scheduler's SIGTERM often all processes; the main process ends the workers
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    cv2.setNumThreads(0)


def _kill(parent, workers):
    """At the end of the program `parent`: multiprocessing would send SIGTERM to what is left, and wait for ever."""
    if os.getpid() == parent:
        for worker in workers:
            worker.kill()  # does nothing where it has ended


def _end_with(parent):
    """Let this process be killed when its parent ends, however that happens.

    Paddle's workers look for their parent every few seconds and then wait for ever to hand over their last batches
    (seen: three in four outlive a parent that was killed).
    """
    import ctypes

    if sys.platform.startswith("linux"):
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended before
        os._exit(1)


def _shared_memory_is_enough(samples, plan, workers):
    """Containers often have 64 MB of it, and a process that runs out is killed by SIGBUS without a word."""
    sizes = all_sizes(plan.sizes, plan.early_sizes)
    largest = max(max(size) if isinstance(size, (tuple, list)) else size for size in sizes)
    needed = plan.batch_size * (4 if samples.targets is not None else 3) * largest * largest * 4 * 2 * (workers + 1)
    try:
        return shutil.disk_usage("/dev/shm").free > needed
    except OSError:
        return False


def scan(images, masks, skip_bad=False, same_size=True, title="checking"):
    """Look at every file before training starts: whole, an image, and mask and image of one size.

    It reads the files and their headers but decodes nothing, about ten times as fast as decoding.

    Args:
        images, masks: parallel tuples of paths; masks may be empty.
        same_size: masks must have their image's size.
        skip_bad: leave out what is bad instead of raising.

    Returns (images, masks, problems): what is good, and a list of BadImageError. Raises the first otherwise.
    """
    pairs = list(zip(images, masks)) if masks else [(image, None) for image in images]

    def look(pair):
        try:
            size = _size_of(pair[0])
            if pair[1] is not None:
                mask_size = _size_of(pair[1])
                if same_size and mask_size != size:
                    raise BadImageError(
                        pair[1], "the mask is %d×%d, its image %d×%d: they must be of one size" % (mask_size + size)
                    )
        except BadImageError as error:
            return error
        return None

    good, problems = [], []
    with ThreadPoolExecutor(max(2, os.cpu_count() or 1)) as pool:
        for pair, error in progress(zip(pairs, pool.map(look, pairs)), total=len(pairs), desc=title, leave=False):
            if error is None:
                good.append(pair)
            elif skip_bad:
                problems.append(error)
            else:
                pool.shutdown(wait=False)
                raise BadImageError(error.path, error.reason + " (--skip-bad goes on without it)")
    return tuple(p[0] for p in good), tuple(p[1] for p in good) if masks else (), problems


def _size_of(path):
    """(width, height) from the header of an image file, after a look at its end. EXIF rotation counts."""
    from PIL import Image

    data = read_bytes(path)
    check_whole(data, path)
    try:
        with Image.open(io.BytesIO(data)) as image:
            size = image.size
            if image.format == "JPEG" and b"Exif" in data[:64] and image.getexif().get(0x0112, 1) >= 5:
                size = size[::-1]
            return size
    except Exception:
        raise BadImageError(path, "not an image that can be read")
