"""List files: which images of a folder make up a data set, one a line, as several projects write them."""

from __future__ import annotations

import os
import re

from kdscfnet.errors import UserError
from kdscfnet.images import IMAGE_SUFFIXES
from kdscfnet.text import say_once

_TRAIN, _VAL, _TEST = (("%s.txt" % part, "%s_list.txt" % part) for part in ("train", "val", "test"))
FOR_TRAINING = _TRAIN + _TEST + _VAL  # which list counts, the first one first
FOR_VALIDATION = _VAL + _TEST + _TRAIN
FOR_TESTS = _TEST + _VAL + _TRAIN
NAMES = frozenset(FOR_TRAINING)

_IMAGE_PATH = re.compile(r"(.*?(?:%s))(?:[\s,]+|$)(.*)" % "|".join(map(re.escape, IMAGE_SUFFIXES)), re.I)


def read_list(home, lists, set_names, known):
    """The list file in `home`: (path, [(line number, name, the rest of the line)]), or None where there is none.

    A file that is named as a list (one of `lists`, of NAMES, <set>.txt) must be one; another is one where its first
    line names one of the `known` images. Archives come with texts of other kinds. Lists that are not used are said.
    """
    known = index(known)
    texts = [e for e in sorted(os.listdir(home)) if e.lower().endswith(".txt") and not e.lower().startswith("readme")]
    own = [name.lower() + ".txt" for name in set_names]
    by_name = {entry.lower(): entry for entry in texts}
    chosen = [by_name[name] for name in (*lists, *own) if name in by_name] + (texts if len(texts) == 1 else [])
    if not chosen:
        return None
    path = os.path.join(home, chosen[0])
    named = chosen[0].lower() in NAMES.union(lists, own)
    with open(path, "rb") as file:
        data = file.read()
    if not named:
        lines = _lines(data.decode("utf-8-sig", errors="replace"))
        if not lines or _named_in(lines[0][1], known)[0] not in known:
            say_once("%s is no list of the images beside it: passed over" % path)
            return None
    try:
        lines = _lines(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        number = data[: error.start].count(b"\n") + 1
        raise UserError("%s line %d: not UTF-8 text: save the list as UTF-8 or remove it" % (path, number)) from None
    unused = [entry for entry in texts if entry.lower() in NAMES and entry != chosen[0]]
    if unused:
        say_once("%s: the images of %s; not used here: %s" % (home, chosen[0], ", ".join(unused)))
    return path, [(number, *_named_in(line, known)) for number, line in lines]


def _lines(text):
    """[(line number, line)] without the empty ones."""
    lines = [(number, line.strip()) for number, line in enumerate(re.split(r"\r\n?|\n", text), 1)]
    return [(number, line) for number, line in lines if line]


def _named_in(line, known):
    """(the name of an image, the rest of the line). The whole line counts first, then its first column.

    Columns end at the suffix of an image, at a tab, a comma or a blank: `image/0001.jpg mask/0001_gt.png`, `0001 1`. A
    name that is not known is returned as it stands there.
    """
    if line in known:
        return known[line], ""
    match = _IMAGE_PATH.match(line)
    columns = [match.groups()] if match else []
    columns.insert(1 if match and match.group(2) else 0, (line, ""))
    for separator in ("\t", ",", None):
        first, *rest = line.split(separator, 1)
        columns.append((first, rest[0] if rest else ""))
    for column, rest in columns:
        name = name_of(column, known)
        if name is not None:
            return name, rest
    stem, suffix = os.path.splitext(match.group(1) if match else columns[-1][0])
    return os.path.basename(stem if suffix.lower() in IMAGE_SUFFIXES else stem + suffix), ""


def index(names):
    """{end of a path: the name that it stands for}: each name, and its last part where one name alone ends in it."""
    by_end = {}
    for name in names:
        by_end.setdefault(name.rsplit("/", 1)[-1], []).append(name)
    known = {end: ending[0] for end, ending in by_end.items() if len(ending) == 1}
    known.update(zip(names, names))
    return known


def name_of(path, known):
    """The name that a path stands for, or None. `known`: an `index` of names.

    Folders above count as far as names have folders, `seq1/0001`; absolute paths and those of Windows are of another
    machine. A name without its folder counts where one known name alone ends in it.
    """
    parts = [part for part in path.strip().replace("\\", "/").split("/") if part not in ("", ".")]
    if not parts:
        return None
    stem, suffix = os.path.splitext(parts[-1])
    ends = [parts[-1]] + ([stem] if suffix.lower() in IMAGE_SUFFIXES else [])
    for first in range(len(parts)):
        for end in ends:
            name = "/".join(parts[first:-1] + [end])
            if name in known:
                return known[name]
    return None
