"""What differs between versions of Paddle (2.2 to 3.3) and of the libraries around it, in one place."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import warnings


def import_paddle(threads=None):
    """Import Paddle, without its remarks, so that it uses `threads` threads on a CPU (default: all cores).

    It uses one unless FLAGS_paddle_num_threads says otherwise when it is imported, and OMP_NUM_THREADS when it computes
    for the first time; if the latter is set at import, it prints a warning. A user's own settings are kept, and
    nothing changes where Paddle has been imported before.

    Paddle's own handler of SIGTERM is taken away again: it prints a stack, for which it waits for ever where the signal
    came while a library was being loaded (seen), so that a training could not be stopped in its first seconds.
    """
    if "paddle" in sys.modules:
        return sys.modules["paddle"]
    chosen = os.environ.get("OMP_NUM_THREADS")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    os.environ.setdefault("FLAGS_paddle_num_threads", str(threads or chosen or cores))
    on_terminate = signal.getsignal(signal.SIGTERM)
    with warnings.catch_warnings():
        # since 3.0 it looks for a compiler cache that nothing here needs
        warnings.filterwarnings("ignore", message="No ccache found")
        import paddle
    with contextlib.suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGTERM, on_terminate or signal.SIG_DFL)
    if chosen is None:
        os.environ["OMP_NUM_THREADS"] = os.environ["FLAGS_paddle_num_threads"]
    return paddle
