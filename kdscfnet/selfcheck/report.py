"""What a check found, as a row: for a table that is read, and for JSON that is sent."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np

from kdscfnet.text import columns

PASS, FAIL, MEASURED, LEFT_OUT = "pass", "FAIL", "measured", "left out"


@dataclass
class Row:
    """One check. `expected`, `found`, `tolerance`: texts; `verdict`: one of the four above; `note`: a reason."""

    part: str
    name: str
    expected: str = "–"
    found: str = "–"
    tolerance: str = "–"
    verdict: str = MEASURED
    note: str = ""


def compared(part, name, expected, found, tolerance, note=""):
    """A row for arrays: it passes where every |found − expected| is at most its `tolerance` (one, or an array of them).

    The row shows the value that is furthest from its expected one, in tolerances.
    """
    expected, found = (np.atleast_1d(np.asarray(value, np.float64)) for value in (expected, found))
    if expected.shape != found.shape:
        return Row(part, name, "shape %s" % (expected.shape,), "shape %s" % (found.shape,), "–", FAIL, note)
    tolerance = np.broadcast_to(np.asarray(tolerance, np.float64), expected.shape)
    with np.errstate(invalid="ignore", divide="ignore"):
        excess = np.abs(found - expected) / tolerance
    # no number is as far away as can be; 0 of a tolerance of 0 is none
    excess = np.where(found == expected, 0.0, np.where(np.isfinite(excess), excess, np.inf))
    worst = np.unravel_index(int(np.argmax(excess)), excess.shape)
    return Row(
        part,
        name + (", worst of %d" % found.size if found.size > 1 else ""),
        "%.7g" % expected[worst],
        "%.7g" % found[worst],
        "%.2g" % tolerance[worst],
        PASS if excess[worst] <= 1 else FAIL,
        note,
    )


def holds(part, name, expected, found, note=""):
    """A row for what must be equal."""
    return Row(part, name, str(expected), str(found), "equal", PASS if expected == found else FAIL, note)


def measured(part, name, value, expected="–", note=""):
    """A row for a figure that nothing is asked of; the value is a number or a text."""
    if isinstance(value, float):
        value = "%.3g" % value if value < 100 and math.isfinite(value) else "%.0f" % value
    return Row(part, name, expected, str(value), "–", MEASURED, note)


def left_out(part, name, reason):
    return Row(part, name, verdict=LEFT_OUT, note=reason)


def as_text(facts, rows):
    """The report to read: facts, a table, and the outcome in its last line."""
    table = [("part", "check", "expected", "found", "tolerance", "verdict", "")]
    table += [(row.part, row.name, row.expected, row.found, row.tolerance, row.verdict, row.note) for row in rows]
    lines = ["%s: %s" % item for item in facts.items()] + ["", *columns(table, left=range(7)), "", outcome(rows)]
    return "\n".join(lines) + "\n"


def outcome(rows):
    """One line: how many rows passed, and the names of those that failed."""
    counts = [sum(row.verdict == verdict for row in rows) for verdict in (PASS, FAIL, MEASURED, LEFT_OUT)]
    line = "%d passed, %d failed, %d measured, %d left out" % tuple(counts)
    failed = [row.name for row in rows if row.verdict == FAIL]
    return line + (": " + "; ".join(failed) if failed else "")


def as_json(facts, rows):
    return {"facts": facts, "passed": not any(row.verdict == FAIL for row in rows), "rows": [asdict(r) for r in rows]}
