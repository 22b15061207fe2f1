"""Batches from worker processes: paddle.io.DataLoader, and what it needs to be dependable."""

from __future__ import annotations

import atexit
import functools
import gc
import multiprocessing
import os
import shutil
import signal
import sys

import numpy as np

from kdscfnet.errors import BadImageError, UserError
from kdscfnet.recipes import all_sizes


class LoaderError(UserError):
    """A worker of the loader died, or could not read what was whole when training began."""


def load_ahead(samples, plan, workers):
    """Yield what kdscfnet.data.batches.batches yields, loaded by `workers` processes (at least one)."""
    import paddle

    class Dataset(paddle.io.Dataset):
        def __len__(self):
            return len(samples)

        def __getitem__(self, item):
            return item

    no_tensor = np.zeros(1, np.float32)  # Paddle takes no empty ones; one dimension tells it from the others

    def collate(items):
        try:
            images, targets = samples.load(items)
        except BadImageError as error:  # as data: Paddle would print a worker's traceback
            images, targets = no_tensor, np.frombuffer(str(error).encode("utf-8"), np.uint8).copy()
        return [images, no_tensor if targets is None else targets]

    loader = paddle.io.DataLoader(
        Dataset(),
        batch_sampler=plan,  # Paddle asks for its length and iterates
        collate_fn=collate,
        num_workers=workers,
        use_shared_memory=_shared_memory_is_enough(samples, plan, workers),
        worker_init_fn=functools.partial(_worker_init, os.getpid()),
        return_list=True,
    )
    _deaths.clear()
    try:
        others = set(multiprocessing.active_children())
        # The workers collect none of this process's garbage: the reader of a loader that ended before waits for ever in
        # a child, for threads that only the parent has (seen in Paddle 2.2)
        gc.collect()
        gc.freeze()
        iterator = iter(loader)  # starts the workers
        gc.unfreeze()
        atexit.register(_kill, os.getpid(), set(multiprocessing.active_children()) - others)
        _collect_deaths()
        for (images, targets), items in zip(iterator, plan):
            if _deaths:
                raise _deaths[0]
            if len(images.shape) == 1:
                raise LoaderError(bytes(targets.numpy()).decode("utf-8"))
            yield (images, targets if samples.channels else None, *items[0][3:])
    except (RuntimeError, SystemError, OSError) as error:
        raise _as_loader_error((_deaths or [error])[0]) or error


_deaths = []  # what Paddle raised for workers that died


def _collect_deaths():
    """Paddle (2.2 to 3.3) raises from its SIGCHLD handler for each dead worker, possibly in the middle of unrelated
    code. This wraps that handler, which is there once its first workers are, and keeps the errors: the loop raises the
    first. The loop cannot miss it: without batches Paddle's reader thread ends the wait.
    """
    theirs = signal.getsignal(signal.SIGCHLD)
    if getattr(theirs, "__module__", "").startswith("paddle"):  # it is set once in a process

        def on_child_exit(number, frame):
            try:
                theirs(number, frame)
            except (RuntimeError, SystemError, OSError) as error:
                _deaths.append(error)

        signal.signal(signal.SIGCHLD, on_child_exit)


def _as_loader_error(error):
    """A LoaderError where `error` is Paddle's word that a worker died, else None."""
    text = str(error)
    # "data reader": the word of Paddle 2.2
    if not any(word in text.lower() for word in ("dataloader", "worker", "data reader")):
        return None
    lines = [line.strip() for line in text.splitlines() if "loader" in line.lower() or "reader" in line.lower()]
    return LoaderError("a worker of the loader died (out of memory?): %s" % (lines or text.strip().splitlines())[0])


def _worker_init(parent, _):
    import ctypes

    import cv2

    gc.freeze()  # what came from the parent is the parent's to tidy up
    # Killed when the parent ends, however that happens: Paddle's workers look for it every few seconds, and then wait
    # for ever to hand over their last batches (seen: three in four outlive a parent that was killed)
    if sys.platform.startswith("linux"):
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended before
        os._exit(1)
    # Ctrl-C reaches the whole group, a scheduler's SIGTERM often all processes; the main process ends the workers
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    cv2.setNumThreads(0)


def _kill(parent, workers):
    """At the end of the program `parent`: multiprocessing would send SIGTERM to what is left, and wait for ever."""
    if os.getpid() == parent:
        for worker in workers:
            worker.kill()  # does nothing where it has ended


def _shared_memory_is_enough(samples, plan, workers):
    """Containers often have 64 MB of it, and a process that runs out is killed by SIGBUS without a word."""
    largest = int(max(np.max(size) for size in all_sizes(plan.sizes, plan.early_sizes)))
    needed = plan.batch_size * (3 + samples.channels) * largest * largest * 4 * 2 * (workers + 1)
    try:
        return shutil.disk_usage("/dev/shm").free > needed
    except OSError:
        return False
