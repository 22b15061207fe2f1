"""Signals that stop a training: Ctrl-C, and the SIGTERM of schedulers."""

from __future__ import annotations

import contextlib
import os
import signal


class Signals:
    """Ctrl-C and SIGTERM let the step that runs come to its end. A second one ends the process at once."""

    def __init__(self):
        self.received = None

    def __enter__(self):
        self.before = {}
        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(ValueError):  # not in the main thread (a notebook's)
                self.before[number] = signal.signal(number, self._receive)
        return self

    def _receive(self, number, _):
        if self.received is not None:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.received = number

    def __exit__(self, *_):
        for number, handler in self.before.items():
            signal.signal(number, handler)
