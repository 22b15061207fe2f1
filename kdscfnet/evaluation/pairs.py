"""Which map belongs to which mask, and everything that does not fit."""

from __future__ import annotations

import collections
import itertools
import os
from dataclasses import dataclass

from kdscfnet.data.names import bare, list_images, pair_names
from kdscfnet.errors import UserError

# What can be wrong, in the order of a listing, each with its words for one and for several
_KINDS = {
    "missing map": "missing maps",
    "missing mask": "missing masks",
    "map without a mask": "maps without a mask",
    "name that fits several files": "names that fit several files",
    "unreadable file": "unreadable files",
    "map of another size": "maps of another size",
}
MISSING_MAP, MISSING_MASK, EXTRA_MAP, AMBIGUOUS, UNREADABLE, OTHER_SIZE = _KINDS


# One map and its mask, and their image, None where there is none: paths.
Pair = collections.namedtuple("Pair", ["name", "map", "mask", "image"])


@dataclass(frozen=True)
class Problem:
    """One name that cannot be scored, and why."""

    kind: str
    name: str
    detail: str = ""

    def __str__(self):
        return "%s: %s%s" % (self.kind, self.name, " (%s)" % self.detail if self.detail else "")

    def as_dict(self):
        return {"name": self.name, "problem": self.kind, **({"detail": self.detail} if self.detail else {})}


class MismatchError(UserError):
    """Maps and masks do not fit each other. `problems` maps what was scored ("ECSSD") to its list of Problem."""

    def __init__(self, problems, in_python=False):
        parts = ["%s: %s" % (where, summarise(found)) for where, found in problems.items()]
        kinds = {problem.kind for found in problems.values() for problem in found}
        advice = "%s scores the rest" % ("allow_missing=True" if in_python else "--allow-missing")
        if OTHER_SIZE in kinds:
            advice += ", %s brings maps to their mask's size" % ("resize=True" if in_python else "--resize")
        super().__init__("%s; %s" % ("; ".join(parts), advice))
        self.problems = problems


def summarise(problems, names=5):
    """One line: `2 missing maps (0004, 0007), 1 unreadable file (0009.png: the image is cut short)`.

    At most `names` of a kind are named; with 0 it is `2 missing maps, 1 unreadable file`.
    """
    parts = []
    for kind, several in _KINDS.items():
        found = [problem for problem in problems if problem.kind == kind]
        listed = [p.name + (": " + p.detail if p.detail else "") for p in found[:names]]
        named = " (%s%s)" % (", ".join(listed), ", …" if len(found) > names else "") if listed else ""
        parts += ["%d %s%s" % (len(found), kind if len(found) == 1 else several, named)] if found else []
    return ", ".join(parts)


def pair_up(maps_dir, image_set, empty=False):
    """Pair the maps in a folder with the masks of an ImageSet: (list of Pair in the set's order, list of Problem).

    A folder without maps is an error, or with `empty` one in which all are missing. Of a set without masks all of these
    are missing: those of its images, or of the maps where there are no images.
    """
    if not os.path.isdir(maps_dir) and not empty:
        raise UserError("there is no folder of maps %s" % maps_dir)
    maps = list_images(maps_dir) if os.path.isdir(maps_dir) else {}
    if not image_set.masks:
        return [], [Problem(MISSING_MASK, name) for name in image_set.names or maps]
    if not maps and not empty:
        raise UserError("%s holds no maps: expected one .png for each image of %s" % (maps_dir, image_set.name))
    spare = image_set.spare
    # 0001_sal for 0001, 0001 for 0001_gt, 0001_sal for 0001_gt
    matched, doubtful = pair_names(image_set.names + spare, maps, [(str, bare), (bare, str), (bare, bare)])
    used = set(matched.values()).union(maps[file] for files in doubtful.values() for file in files)
    pairs, problems = [], []
    for name, mask, image in itertools.zip_longest(image_set.names, image_set.masks, image_set.images):
        if mask is None:
            problems.append(Problem(MISSING_MASK, name))
        elif name in doubtful:
            problems.append(Problem(AMBIGUOUS, name, _files_that_fit(name, doubtful)))
        elif name not in matched:
            problems.append(Problem(MISSING_MAP, name))
        else:
            pairs.append(Pair(name, matched[name], mask, image))
    for name in spare:
        has_map = name in matched or name in doubtful
        kind, detail = (EXTRA_MAP, "its mask has no image in the set") if has_map else (MISSING_MAP, "its image too")
        problems.append(Problem(kind, name, detail))
    problems += [Problem(EXTRA_MAP, os.path.relpath(path, maps_dir)) for path in maps.values() if path not in used]
    return pairs, problems


def _files_that_fit(name, doubtful):
    """`0001_map, 0001_sal`; of a single file also whom else it fits."""
    files = doubtful[name]
    others = [other for other in doubtful if doubtful[other] is files and other != name]
    return ", ".join(files) + (" fits %s too" % ", ".join(others) if len(files) == 1 else "")
