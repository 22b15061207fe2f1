"""Cores, threads, and what each thread keeps for itself."""

from __future__ import annotations

import collections
import contextlib
import functools
import operator
import os
import platform
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np


def available_cores():
    """The cores this process may use: its affinity, and the quota of the container it runs in."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError), open("/sys/fs/cgroup/cpu.max") as file:
        quota, period = file.read().split()
        if quota != "max":
            cores = min(cores, -(-int(quota) // int(period)))
    return max(1, cores)


def processor():
    """The name of this machine's processor."""
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def in_order(work, items, threads, ahead):
    """Run `work(item)` on a pool of threads; yields (item, function that returns or raises the result) in order.

    At most `ahead` items are under way or waiting, so memory stays flat however many there are.
    """
    pending = collections.deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                pending.append((item, pool.submit(work, item)))
                del item
                if len(pending) >= ahead:
                    item, future = pending.popleft()
                    yield item, future.result
            while pending:
                item, future = pending.popleft()
                yield item, future.result
        finally:  # after an error or an interruption what has not begun does not begin
            for _, future in pending:
                future.cancel()


@contextlib.contextmanager
def one_opencv_thread():
    """OpenCV on one thread inside: the images are spread over the cores already.

    OpenCV has one number for the whole process: the first to enter lowers it, the last to leave restores it.
    """
    import cv2

    with _LOCK:
        _BEFORE.append(cv2.getNumThreads())
        cv2.setNumThreads(1)
    try:
        yield
    finally:
        with _LOCK:
            cv2.setNumThreads(_BEFORE.pop())


_LOCK = threading.Lock()
_BEFORE = []  # OpenCV's number of threads before each block that runs now: its own, then 1 for every further block


class Scratch(threading.local):
    """Arrays that a thread uses again for its next map. Fresh memory costs more than the arithmetic in it.

    most: elements; larger arrays are given back after each map.
    """

    def __init__(self, most=1 << 20):
        self._most = most

    def __call__(self, name, shape, dtype=np.float32):
        size = functools.reduce(operator.mul, shape)
        kept = self.__dict__.get(name)
        if kept is None or kept.size < size:
            kept = np.empty(size, dtype)
            if size <= self._most:
                setattr(self, name, kept)
        return kept[:size].reshape(shape)
