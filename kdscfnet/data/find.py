"""Finding images and masks in folders as people have them.

The layout of the authors is <SET>/image, <SET>/mask and a list, train.txt or test.txt, one name a line. Archives unpack
under other names too (DUTS-TR-Image, images, ground_truth_mask, GT, …), without a list, with .png images, or with
images and masks side by side in one folder: what is there is found, and `ImageSet.describe` says what that was.
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass

from kdscfnet.errors import UserError
from kdscfnet.images import IMAGE_SUFFIXES

_IMAGE_FOLDER = re.compile(r"^(.+[-_])?(images?|imgs?|im)$", re.I)
_MASK_FOLDER = re.compile(
    r"^(.+[-_])?(masks?|gts?|ground[-_]?truth([-_]masks?)?|labels?|annotations?)$|^pixelwisegt.*$", re.I
)
_MASK_SUFFIX = re.compile(r"[-_](mask|gt|groundtruth|ground_truth|label|segmentation)$", re.I)
# other spellings of the test sets' names, in capitals without punctuation
_CANONICAL = {
    "DUTSTR": "DUTS-TR",
    "DUTSTE": "DUTS-TE",
    "ECSSD": "ECSSD",
    "HKUIS": "HKU-IS",
    "DUTOMRON": "DUT-OMRON",
    "DUTO": "DUT-OMRON",
    "PASCALS": "PASCAL-S",
    "KDSOD80K": "KD-SOD80K",
}
KNOWN_SETS = frozenset(_CANONICAL.values())


@dataclass(frozen=True)
class ImageSet:
    """A data set that was found: parallel lists, in the order of the list file or by name."""

    name: str
    root: str
    names: tuple  # file names without suffix
    images: tuple  # paths; empty where only masks were asked for and there are no images
    masks: tuple  # paths; empty: no masks; None for a lacking one where masks="partial" was asked for

    def __len__(self):
        return len(self.names)

    def describe(self):
        """One line: `DUTS-TR: 4000 images, 4000 masks`."""
        return "%s: %d images, %d masks" % (self.name, len(self.images), len(self.masks) - self.masks.count(None))


def canonical_name(name):
    """The usual spelling of a data set's name: `PASCALS` → `PASCAL-S`; other names stay."""
    return _CANONICAL.get(re.sub(r"[^A-Z0-9]", "", name.upper()), name)


def list_images(folder):
    """{name without suffix: path} of the image files in `folder`, by name; hidden files are left out.

    Two files of one name and different suffixes are an error: nobody could tell which one is meant.
    """
    found = {}
    for entry in sorted(os.listdir(folder)):
        stem, suffix = os.path.splitext(entry)
        if suffix.lower() not in IMAGE_SUFFIXES or entry.startswith("."):
            continue
        if stem in found:
            raise UserError(
                "%s holds both %s and %s: remove one of them" % (folder, os.path.basename(found[stem]), entry)
            )
        found[stem] = os.path.join(folder, entry)
    return found


def find_image_set(root, masks="required", images="required", lists=("train.txt", "test.txt")):
    """Find the images and masks of one data set.

    Args:
        root: the data set's folder, or a folder of images.
        masks: "required", "optional" (for all images or for none), "partial" (as many as there are) or "ignored".
        images: "required" or "optional".
        lists: names of list files, the first that is there is used, then <SET>.txt; a single other .txt file counts
            where its first line names an image of the set, and is passed over with a line on stderr where not.

    Returns an ImageSet. Raises UserError with what is missing where.
    """
    root = os.fspath(root)
    if not os.path.isdir(root):
        raise UserError("there is no data folder %s" % root)
    home, image_folder, mask_folder = _find_folders(root)
    name = canonical_name(os.path.basename(os.path.abspath(root)))
    images_found, masks_found = {}, {}
    if image_folder is not None and image_folder == mask_folder:
        images_found, masks_found = _split_by_suffix(image_folder)
    else:
        if image_folder is not None:
            images_found = list_images(image_folder)
        if mask_folder is not None and masks != "ignored":
            masks_found = list_images(mask_folder)
    if masks == "ignored":
        masks_found = {}
    if images == "required" and not images_found:
        raise UserError("%s holds no images: expected %s/image/*.jpg (or images, %s-Image, imgs)" % (root, root, name))
    if masks == "required" and not masks_found:
        raise UserError("%s holds no masks: expected %s/mask/*.png (or GT, masks, ground_truth_mask)" % (root, root))
    masks_by_name = match_names(masks_found, images_found) if images_found else masks_found

    base = images_found or masks_found
    listed = _read_list(home, lists, {name, os.path.basename(os.path.abspath(root))}, base)
    if listed is None:
        names = list(base)
    else:
        names = []
        for number, entry in listed[1]:
            for kind, found in (("image", images_found), ("mask", masks_by_name)):
                if found and entry not in found and not (kind == "mask" and masks == "partial"):
                    raise UserError(
                        "%s line %d: there is no %s %r in %s: correct the list or remove it"
                        % (listed[0], number, kind, entry, image_folder if kind == "image" else mask_folder)
                    )
            names.append(entry)
        if not names:
            raise UserError("%s is empty: remove it, or list one name a line" % listed[0])
    if masks == "partial":
        masks_by_name = {n: masks_by_name.get(n) for n in names} if masks_by_name else {}
    elif masks_by_name and images_found:
        lacking = [n for n in names if n not in masks_by_name]
        if lacking and masks == "required":
            raise UserError(
                "%s: %d of %d images have no mask in %s (the first: %s)"
                % (root, len(lacking), len(names), mask_folder, lacking[0])
            )
        if lacking:  # optional masks are taken for all images or for none
            masks_by_name = {}
    return ImageSet(
        name,
        root,
        tuple(names),
        tuple(images_found[n] for n in names) if images_found else (),
        tuple(masks_by_name[n] for n in names) if masks_by_name else (),
    )


def find_image_sets(root, masks="required", images="required", lists=("test.txt", "train.txt")):
    """The data sets in the folders of `root`, by name, or `root` itself where it is one. Returns a list of ImageSet."""
    root = os.fspath(root)
    if not os.path.isdir(root):
        raise UserError("there is no data folder %s" % root)
    if any(folder is not None for folder in _find_folders(root, depth=0)[1:]):
        return [find_image_set(root, masks, images, lists)]
    sets = []
    for entry in sorted(os.listdir(root)):
        path = os.path.join(root, entry)
        if entry.startswith(".") or not os.path.isdir(path):
            continue
        _, image_folder, mask_folder = _find_folders(path)
        if (image_folder is not None or images == "optional") and (mask_folder is not None or masks != "required"):
            sets.append(find_image_set(path, masks, images, lists))
    if not sets:
        raise UserError("%s holds no data set: expected folders like %s" % (root, os.path.join(root, "ECSSD", "image")))
    return sets


def match_names(found, names):
    """Map each of `names` to its file in `found` ({name: path}), by name or with a usual suffix (`0001_mask`).

    A file is one name's at most. Raises UserError where several files fit a name that has none of its own.
    """
    matched, doubtful = assign(names, found, [(str, lambda file: _MASK_SUFFIX.sub("", file))])
    for name, files in doubtful.items():
        raise UserError(
            "%s and %s both fit the image %s: keep one" % (found[files[0]], os.path.basename(found[files[1]]), name)
        )
    return {name: matched[name] for name in names if name in matched}


def assign(names, found, rules):
    """Give each of `names` its file in `found` ({file's name: path}), and no file to two names.

    Files of exactly these names go first. Then each rule, a pair (name → key, file's name → key), brings together the
    names and the files still free that have one key.

    Returns ({name: path}, {name: [names of the files that fit]} where it is not one name and one file).
    """
    names = list(dict.fromkeys(names))  # a list of names may hold one twice
    matched, doubtful = {name: found[name] for name in names if name in found}, {}
    free = [file for file in found if file not in matched]
    for of_name, of_file in rules:
        fitting = {}
        for file in free:
            fitting.setdefault(of_file(file), []).append(file)
        wanting = {}
        for name in names:
            if name not in matched and name not in doubtful:
                wanting.setdefault(of_name(name), []).append(name)
        for key, those in wanting.items():
            files = fitting.get(key, [])
            if len(those) == len(files) == 1:
                matched[those[0]] = found[files[0]]
            elif files:
                doubtful.update((name, files) for name in those)
        taken = {file for key, files in fitting.items() if key in wanting for file in files}
        free = [file for file in free if file not in taken]
    return matched, doubtful


def _find_folders(root, depth=2):
    """(home, folder of images, folder of masks); either folder may be None. Looks into a single nested folder too."""
    folders = sorted(e for e in os.listdir(root) if os.path.isdir(os.path.join(root, e)) and not e.startswith("."))
    image = [f for f in folders if _IMAGE_FOLDER.match(f)]
    mask = [f for f in folders if _MASK_FOLDER.match(f)]
    for kind, candidates in (("images", image), ("masks", mask)):
        if len(candidates) > 1:
            raise UserError("%s has several folders of %s (%s): keep one" % (root, kind, ", ".join(candidates)))
    if image or mask:
        return (root, os.path.join(root, image[0]) if image else None, os.path.join(root, mask[0]) if mask else None)
    files = [e for e in os.listdir(root) if os.path.splitext(e)[1].lower() in IMAGE_SUFFIXES and not e.startswith(".")]
    if files:
        jpegs = {os.path.splitext(f)[0] for f in files if f.lower().endswith((".jpg", ".jpeg"))}
        pngs = {_MASK_SUFFIX.sub("", os.path.splitext(f)[0]) for f in files if f.lower().endswith(".png")}
        return root, root, root if jpegs & pngs else None  # images and masks side by side
    if depth and folders:
        nested = [_find_folders(os.path.join(root, f), depth - 1) for f in folders]
        nested = [found for found in nested if found[1] is not None or found[2] is not None]
        if len(nested) == 1:
            return nested[0]
    return root, None, None


def _split_by_suffix(folder):
    images, masks = {}, {}
    for entry in sorted(os.listdir(folder)):
        stem, suffix = os.path.splitext(entry)
        if entry.startswith("."):
            continue
        if suffix.lower() in (".jpg", ".jpeg"):
            images[stem] = os.path.join(folder, entry)
        elif suffix.lower() == ".png":
            masks[stem] = os.path.join(folder, entry)
    return images, masks


def _read_list(home, lists, set_names, known):
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
            _say_once("%s is no list of the images beside it: passed over" % path)
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


_SAID = set()


def _say_once(text):
    """A line on stderr, once in a process: a set may be looked for several times."""
    if text not in _SAID:
        _SAID.add(text)
        print(text, file=sys.stderr, flush=True)
