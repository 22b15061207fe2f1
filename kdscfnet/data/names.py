"""Which file belongs to which image, by their names."""

from __future__ import annotations

import collections
import os
import re

from kdscfnet.errors import UserError
from kdscfnet.images import HEIF_SUFFIXES, IMAGE_SUFFIXES

# What masks and maps are called besides their image's name: 0001_mask.png, 0001-gt.png, 0001_sal.png
_SUFFIX = re.compile(
    r"[-_](masks?|gts?|ground_?truth|labels?|segmentation|sal|saliency|saliency_?map|smap|map|pred|prediction|res|result)$",
    re.I,
)


def bare(name):
    """A file's name without the suffixes of maps and masks: `0001_mask` and `0001_sal` are both `0001`."""
    return _SUFFIX.sub("", name)


def is_image(entry):
    """Whether a file's name is that of an image: by its suffix, and not hidden."""
    return not entry.startswith(".") and os.path.splitext(entry)[1].lower() in IMAGE_SUFFIXES


def sub_folders(folder):
    """Paths of the folders in a folder, by name; hidden ones are left out."""
    paths = [os.path.join(folder, entry) for entry in sorted(os.listdir(folder)) if not entry.startswith(".")]
    return [path for path in paths if os.path.isdir(path)]


def list_images(folder):
    """{name without suffix: path} of the image files in `folder`, by name; hidden files are left out.

    A folder without images of its own may hold them in sub-folders, by sequence or class: then names are `seq1/0001`.
    Two files of one name and different suffixes are an error: nobody could tell which one is meant.
    """
    images = _images_in(folder)
    if not images:
        for parent, folders, _ in os.walk(folder):
            folders[:] = sorted(entry for entry in folders if not entry.startswith("."))
            prefix = os.path.relpath(parent, folder).replace(os.sep, "/")
            images.update(("%s/%s" % (prefix, stem), path) for stem, path in _images_in(parent).items())
    return images


def _images_in(folder):
    images = {}
    for entry in filter(is_image, sorted(os.listdir(folder))):
        stem = os.path.splitext(entry)[0]
        if stem in images:
            both = folder, os.path.basename(images[stem]), entry
            raise UserError("%s holds both %s and %s: remove one of them" % both)
        images[stem] = os.path.join(folder, entry)
    return images


def passed_over(folder, images):
    """What is left out of a folder, as one sentence by suffix, or "": all but `images` (paths), lists and hidden files.

    `x/image: left out: 2 .heic (pip install pillow-heif to read them), 1 without suffix, 1 linked folder`
    """
    taken, counts = set(images), collections.Counter()
    for parent, folders, files in os.walk(folder):
        folders[:] = [entry for entry in folders if not entry.startswith(".")]
        counts["linked folder"] += sum(os.path.islink(os.path.join(parent, entry)) for entry in folders)
        for entry in files:
            suffix = os.path.splitext(entry)[1].lower()
            if not (entry.startswith(".") or suffix == ".txt" or entry.lower() in ("thumbs.db", "desktop.ini")):
                counts[suffix or "without suffix"] += os.path.join(parent, entry) not in taken
    return "%s: left out: %s" % (folder, counted(counts)) if any(counts.values()) else ""


def counted(left_out):
    """What is left out, {suffix or words: how many}, as a list in words; the most first."""
    parts = []
    for kind, count in sorted(left_out.items(), key=lambda item: (-item[1], item[0])):
        heif = kind in HEIF_SUFFIXES and kind not in IMAGE_SUFFIXES
        plural = "s" if kind == "linked folder" and count > 1 else ""
        how = " (pip install pillow-heif to read them)" if heif else ""
        parts += ["%d %s%s%s" % (count, kind, plural, how)] if count else []
    return ", ".join(parts)


def match_names(files, names):
    """Map each of `names` to its file in `files` ({name: path}), by name or with a usual suffix (`0001_mask`).

    A file is one name's at most. Raises UserError where several files fit a name that has none of its own.
    """
    matched, doubtful = pair_names(names, files, [(str, bare)])
    for name, fitting in doubtful.items():
        both = files[fitting[0]], os.path.basename(files[fitting[1]])
        raise UserError("%s and %s both fit the image %s: keep one" % (*both, name))
    return matched


def pair_names(names, files, rules):
    """Give each of `names` its file in `files` ({file's name: path}), and no file to two names.

    Files of exactly these names go first. Then each rule, a pair (name → key, file's name → key), brings together the
    names and the files still free that have one key.

    Returns ({name: path}, {name: [names of the files that fit]} where it is not one name and one file).
    """
    names = list(dict.fromkeys(names))  # a list of names may hold one twice
    matched, doubtful = {name: files[name] for name in names if name in files}, {}
    free = [file for file in files if file not in matched]
    for of_name, of_file in rules:
        fitting = {}
        for file in free:
            fitting.setdefault(of_file(file), []).append(file)
        wanting = {}
        for name in names:
            if name not in matched and name not in doubtful:
                wanting.setdefault(of_name(name), []).append(name)
        for key, of_key in wanting.items():
            candidates = fitting.get(key, [])
            if len(of_key) == len(candidates) == 1:
                matched[of_key[0]] = files[candidates[0]]
            elif candidates:
                doubtful.update((name, candidates) for name in of_key)
        taken = {file for key, candidates in fitting.items() if key in wanting for file in candidates}
        free = [file for file in free if file not in taken]
    return matched, doubtful
