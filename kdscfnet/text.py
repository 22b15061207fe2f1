"""What is said to people: progress, lines on standard error, and values made fit for a message."""

from __future__ import annotations

import os
import re
import sys

_SAID = set()
_QUIET = []  # holds something where --quiet was given


def progress(iterable=None, **options):
    """A tqdm bar. `options` are tqdm's (total, desc, unit, initial, …).

    Without a terminal (a log file, CI) it writes a line every thirty seconds instead of ten a second.
    """
    from tqdm import tqdm

    usual = {"unit": " images", "dynamic_ncols": True}
    if not sys.stderr.isatty():
        usual.update(mininterval=30, maxinterval=60)
    options["disable"] = options.get("disable") or is_quiet()
    return tqdm(iterable, file=sys.stderr, **dict(usual, **options))


def begin(quiet=False):
    """A run of the command line begins: nothing was said in it so far. `quiet`: no bars, and `say` is silent."""
    _SAID.clear()
    _QUIET[:] = [True] * bool(quiet)


def is_quiet():
    return bool(_QUIET)


def say(message, failure=False):
    """One line to the user, on standard error. Under --quiet only a `failure` is told."""
    if failure or not is_quiet():
        print("kdscfnet: " + message, file=sys.stderr, flush=True)


def say_once(message):
    """One line to the user, once in a run, and of the processes of a launch by the first one alone."""
    if message not in _SAID and os.environ.get("PADDLE_TRAINER_ID", "0") == "0":
        _SAID.add(message)
        say(message)


def shown(value, limit=80):
    """`value` for an error message: on one line, and not longer than `limit`."""
    text = repr(value) if not isinstance(value, str) else "'%s'" % value.encode("unicode_escape").decode("ascii")
    return text if len(text) <= limit else text[: limit - 4] + "…" + text[-1]


def is_address(path):
    """Whether a path is the address of something on the web."""
    return re.match(r"[a-z][a-z0-9+.-]+://", os.fsdecode(path), re.I) is not None


def shown_path(path):
    return "".join(c if c.isprintable() else "?" for c in os.fsdecode(os.fspath(path)))


def amount(count):
    if count >= 10**18:
        return "more bytes than there are"
    if count < 1000:
        return "%d bytes" % count
    power = (len(str(count)) - 1) // 3
    return "%.1f %s" % (count / 1000**power, ("kB", "MB", "GB", "TB", "PB")[power - 1])


def columns(rows, left=(0,)):
    """Rows of texts as aligned lines; the columns `left` are flush left, the others flush right. Returns a list."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return [
        "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths))
        ).rstrip()
        for row in rows
    ]
