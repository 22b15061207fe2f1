"""Progress of long work: a bar with a rate and the time left, on standard error."""

from __future__ import annotations

import sys


def progress(iterable=None, **options):
    """A tqdm bar. `options` are tqdm's (total, desc, unit, initial, …).

    Without a terminal (a log file, CI) it writes a line every thirty seconds instead of ten a second.
    """
    from tqdm import tqdm

    options.setdefault("unit", " images")
    options.setdefault("dynamic_ncols", True)
    if not sys.stderr.isatty():
        options.setdefault("mininterval", 30)
        options.setdefault("maxinterval", 60)
    return tqdm(iterable, file=sys.stderr, **options)
