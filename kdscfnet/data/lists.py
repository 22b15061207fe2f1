"""List files: which images of a folder make up a data set, one name a line."""

from __future__ import annotations

import os
import re

from kdscfnet.errors import UserError
from kdscfnet.images import IMAGE_SUFFIXES
from kdscfnet.text import say_once


def read_list(home, lists, set_names, known):
    """(path, [(line number, name)]) of the list file in `home`, or None.

    A file that is named as a list (one of `lists`, train.txt, test.txt, <set>.txt) must be one; another is one where
    its first entry is among the `known` names. Archives come with texts of other kinds.
    """
    texts = [e for e in sorted(os.listdir(home)) if e.lower().endswith(".txt") and not e.lower().startswith("readme")]
    own = [name.lower() + ".txt" for name in set_names]
    chosen = [e for e in lists if e in texts] + [e for e in texts if e.lower() in own]
    chosen += texts if len(texts) == 1 else []
    if not chosen:
        return None
    path = os.path.join(home, chosen[0])
    named = chosen[0].lower() in (*lists, "train.txt", "test.txt", *own)
    with open(path, "rb") as file:
        data = file.read()
    if not named:
        entries = _entries(data.decode("utf-8-sig", errors="replace"))
        if not entries or entries[0][1] not in known:
            say_once("%s is no list of the images beside it: passed over" % path)
            return None
    try:
        return path, _entries(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        number = data[: error.start].count(b"\n") + 1
        raise UserError("%s line %d: not UTF-8 text: save the list as UTF-8 or remove it" % (path, number)) from None


def _entries(text):
    """[(line number, name)] of a list's text: names without folder and suffix; empty lines are left out."""
    entries = []
    for number, line in enumerate(re.split(r"\r\n?|\n", text), 1):
        line = line.strip()
        if line:
            entry = os.path.basename(line.split()[0] if os.path.splitext(line)[1] == "" or "\t" in line else line)
            stem, suffix = os.path.splitext(entry)
            entries.append((number, stem if suffix.lower() in IMAGE_SUFFIXES else entry))
    return entries
