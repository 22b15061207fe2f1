"""What differs between versions of Paddle (2.2 to 3.3) and of the libraries around it, in one place."""

from __future__ import annotations

import os
import sys
import warnings


def import_paddle(threads=None):
    """Import Paddle, without its remarks, so that it uses `threads` threads on a CPU (default: all cores).

    It uses one unless FLAGS_paddle_num_threads says otherwise when it is imported, and OMP_NUM_THREADS when it computes
    for the first time; if the latter is set at import, it prints a warning. A user's own settings are kept, and
    nothing changes where Paddle has been imported before.
    """
    if "paddle" in sys.modules:
        return sys.modules["paddle"]
    chosen = os.environ.get("OMP_NUM_THREADS")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    os.environ.setdefault("FLAGS_paddle_num_threads", str(threads or chosen or cores))
    with warnings.catch_warnings():
        # since 3.0 it looks for a compiler cache that nothing here needs
        warnings.filterwarnings("ignore", message="No ccache found")
        import paddle
    if chosen is None:
        os.environ["OMP_NUM_THREADS"] = os.environ["FLAGS_paddle_num_threads"]
    return paddle
