"""The published data sets: how their names are spelled, what they are for, and their order in tables."""

from __future__ import annotations

import re

from kdscfnet.errors import UserError

TRAINING_SETS = ("DUTS-TR", "KD-SOD80K")  # tested on only where somebody asks for them
# The test sets in the order of the paper's table, with the number of images in each. The paper's figures are of all.
PAPER_SETS = {"DUTS-TE": 5019, "ECSSD": 1000, "HKU-IS": 4447, "DUT-OMRON": 5168, "PASCAL-S": 850}
KNOWN_SETS = frozenset(TRAINING_SETS).union(PAPER_SETS)


def _letters(name):
    return re.sub(r"[^A-Z0-9]", "", name.upper())


_SPELLINGS = dict({_letters(name): name for name in KNOWN_SETS}, DUTO="DUT-OMRON")


def canonical_name(name):
    """The usual spelling of a data set's name: `PASCALS` → `PASCAL-S`; other names stay."""
    return _SPELLINGS.get(_letters(name), name)


def in_order(names):
    """Names of sets, each once: the paper's test sets in its order, then the others by name."""
    names = set(names)
    return [name for name in PAPER_SETS if name in names] + sorted(names.difference(PAPER_SETS))


def choose(names, wanted, root):
    """Those of `names` that `wanted` asks for, in any spelling (None: all), in the order of tables.

    Raises UserError where a wanted set is not among them; `root` is the folder that the message names.
    """
    chosen = [canonical_name(name) for name in wanted] if wanted else names
    for name in chosen:
        if name not in names:
            found = ", ".join(sorted(names)) or "none"
            raise UserError("there is no data set %s in %s: found %s" % (name, root, found))
    return in_order(chosen)
