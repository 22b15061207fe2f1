"""Finding images and masks in folders as people have them.

The layout of the authors is <SET>/image, <SET>/mask and a list, train.txt or test.txt, one name a line. Archives unpack
under other names too (DUTS-TR-Image, images, ground_truth_mask, GT, …), without a list, with .png images, or with
images and masks side by side in one folder: what is there is found, and `ImageSet.describe` says what that was.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace

from kdscfnet.data.lists import FOR_TESTS, FOR_TRAINING, index, name_of, read_list
from kdscfnet.data.names import bare, is_image, list_images, match_names, passed_over, sub_folders
from kdscfnet.data.sets import TRAINING_SETS, canonical_name, choose
from kdscfnet.errors import UserError
from kdscfnet.text import say_once

IMAGE_FOLDER = re.compile(r"^(.+[-_])?(images?|imgs?|im)$", re.I)
MASK_FOLDER = re.compile(
    r"^(.+[-_])?(masks?|gts?|ground[-_]?truth([-_]masks?)?|labels?|annotations?)$|^pixelwisegt.*$", re.I
)
_OTHER_FOLDERS = " (or GT, masks, ground_truth_mask)"
_PARALLEL = ("names", "images", "masks", "maps")  # lists of an ImageSet


@dataclass(frozen=True)
class ImageSet:
    """A data set that was found: parallel lists, in the order of the list file or by name."""

    name: str
    root: str
    names: tuple  # file names without suffix; `seq1/0001` in sub-folders
    images: tuple  # paths; empty where only masks were asked for and there are no images
    masks: tuple  # paths; empty: no masks; None for a lacking one where masks="partial" was asked for
    spare: tuple = ()  # names of masks that no image has, where the set is all images of its folder
    passed_over: tuple = ()  # sentences: which files of its folders are no part of it
    maps: tuple = ()  # paths of a teacher's maps, None for a lacking one; empty: none were asked for

    def __len__(self):
        return len(self.names)

    def part(self, indices):
        """The set of those images."""
        lists = {key: getattr(self, key) for key in _PARALLEL}
        return replace(self, **{key: tuple(values[i] for i in indices) for key, values in lists.items() if values})

    def describe(self):
        """One line: `DUTS-TR: 4000 images, 4000 masks`."""
        return "%s: %d images, %d masks" % (self.name, len(self.images), len(self.masks) - self.masks.count(None))


def merge_sets(sets):
    """Several sets as one, by name, so that neither their order nor how they were split changes a training.

    Images of one name in two sets are two images. One set stays as it is.
    """
    if len(sets) == 1:
        return sets[0]
    joined = {}
    for key in _PARALLEL:
        lists = [getattr(one, key) for one in sets]
        joined[key] = sum(lists, ()) if all(lists) else ()
    sentences = tuple(sentence for one in sets for sentence in one.passed_over)
    merged = ImageSet(" + ".join(one.name for one in sets), sets[0].root, passed_over=sentences, **joined)
    return merged.part(sorted(range(len(merged)), key=lambda index: merged.names[index]))


def find_image_set(root, masks="required", images="required", lists=FOR_TRAINING):
    """Find the images and masks of one data set.

    Args:
        root: the data set's folder, or a folder of images.
        masks: "required", "partial" (as many as there are) or "ignored".
        images: "required" or "optional".
        lists: names of list files, the first that is there is used, then <SET>.txt; a single other .txt file counts
            where its first line names an image of the set, and is passed over with a line on stderr where not.

    Returns an ImageSet; says once what it leaves out. Raises UserError with what is missing where.
    """
    root = os.fspath(root)
    folders = _find_folders(root)
    name = canonical_name(os.path.basename(os.path.abspath(root)))
    image_files, mask_files = folders.files()
    if masks == "ignored":
        mask_files = {}
    if images == "required" and not image_files:
        raise UserError("%s holds no images: expected %s/image/*.jpg (or images, %s-Image, imgs)" % (root, root, name))
    if masks == "required" and not mask_files:
        raise UserError(no_masks(root) + _OTHER_FOLDERS)
    set_names = {name, os.path.basename(os.path.abspath(root))}
    names, matched = _listed(folders, lists, set_names, image_files, mask_files, masks)
    lacking = [entry for entry in names if entry not in matched]
    if lacking and masks == "required":
        counts = root, len(lacking), len(names), folders.mask, lacking[0]
        raise UserError("%s: %d of %d images have no mask in %s (the first: %s)" % counts)
    looked_into = filter(None, dict.fromkeys([folders.image, folders.mask if mask_files else None]))  # each once
    used = [*image_files.values(), *mask_files.values()]
    sentences = list(filter(None, (passed_over(folder, used) for folder in looked_into)))
    spare = ()
    if image_files and folders.image != folders.mask and len(set(names)) == len(image_files):
        used = set(matched.values())
        spare = tuple(entry for entry, path in mask_files.items() if path not in used)
    if spare and masks == "required":
        shown = ", ".join(spare[:3]) + (", …" if len(spare) > 3 else "")
        sentences.append("%s: %d without an image: %s" % (folders.mask, len(spare), shown))
    for sentence in sentences:
        say_once(sentence)
    image_paths = tuple(image_files[entry] for entry in names) if image_files else ()
    mask_paths = tuple(matched.get(entry) for entry in names) if matched else ()
    return ImageSet(name, root, tuple(names), image_paths, mask_paths, spare, tuple(sentences))


def find_image_sets(root, images="required", pick=list):
    """The data sets in the folders of `root`, or `root` itself where it is one. Returns a list of ImageSet.

    pick: names of the sets that are there → names of those to look into; by default all. What is wrong with the
    others is of no concern. Masks may lack.
    """
    root = os.fspath(root)
    if is_one_set(root):
        return [find_image_set(root, "partial", images, FOR_TESTS)]
    folders = {}
    for path in sub_folders(root):
        if images == "optional" or _may_be_set(path):
            folders.setdefault(canonical_name(os.path.basename(path)), []).append(path)
    if not folders:
        raise UserError("%s holds no data set: expected folders like %s" % (root, os.path.join(root, "ECSSD", "image")))
    return [find_image_set(path, "partial", images, FOR_TESTS) for name in pick(folders) for path in folders[name]]


def _may_be_set(path):
    try:
        return _find_folders(path).image is not None
    except UserError:  # it is one with a fault, which is said where somebody asks for the set
        return True


def is_one_set(root):
    """Whether a folder is a data set or a folder of images, rather than a folder of data sets."""
    folders = _find_folders(root, depth=0)
    return bool(folders.image or folders.mask)


def find_masks(root):
    """The masks in `root`, with their images where those are there too: an ImageSet (masks may hold None).

    `root` is a data set's folder (ECSSD with image/ and mask/) or the folder of masks itself.
    """
    root = os.fspath(root)
    if not os.path.isdir(root):
        raise UserError("there is no folder of masks %s" % root)
    image_set = find_image_set(root, masks="partial", images="optional")
    if image_set.masks:
        return image_set
    if image_set.images and _find_folders(root).image == root:
        parent, name = os.path.split(os.path.abspath(root))
        if not bare("_" + name):  # .../ECSSD/mask is ECSSD
            name = os.path.basename(parent) or name
        return replace(image_set, name=canonical_name(name), images=(), masks=image_set.images)
    raise UserError(no_masks(root) + _OTHER_FOLDERS)


def find_sets_to_score(root, wanted=None):
    """The data sets in `root` (a folder of sets, or one set) that there may be maps of: a list of ImageSet.

    wanted: names in any spelling; None: all. Sets without masks are among them: their `masks` are empty.
    """
    sets = find_image_sets(root, images="optional", pick=lambda names: choose(names, wanted, root))
    if not any(image_set.masks for image_set in sets) and (is_one_set(root) or not wanted):
        sets = [find_masks(root)]
    return _one_of_each(sets, wanted, root)


def find_sets_to_test(root, wanted=None):
    """The data sets in `root` to make maps of: a list of ImageSet; training sets only where `wanted` names them."""
    sets = find_image_sets(root, pick=lambda names: choose(names, wanted or set(names) - set(TRAINING_SETS), root))
    return _one_of_each(sets, wanted, root)


def _one_of_each(sets, wanted, root):
    """The sets in the order of tables. Of two folders that spell one name differently the one with masks counts."""
    by_name = {image_set.name: image_set for image_set in sorted(sets, key=lambda image_set: bool(image_set.masks))}
    return [by_name[name] for name in choose(by_name, wanted, root)]


def no_masks(root):
    """What is said of a folder in which masks are needed."""
    return "%s holds no masks: expected %s" % (root, os.path.join(root, "mask", "*.png"))


@dataclass(frozen=True)
class _Folders:
    """Where a data set has its list, its images and its masks; `image` or `mask` may be None."""

    home: str
    image: str
    mask: str

    def files(self):
        """({name: path} of the images, {name: path} of the masks)."""
        if self.image is not None and self.image == self.mask:  # side by side: photographs are JPEG, masks PNG
            sides = {}, {}
            for entry in sorted(filter(is_image, os.listdir(self.image))):
                stem, suffix = os.path.splitext(entry)
                if suffix.lower() in (".jpg", ".jpeg", ".png"):
                    sides[suffix.lower() == ".png"][stem] = os.path.join(self.image, entry)
            return sides
        return list_images(self.image) if self.image else {}, list_images(self.mask) if self.mask else {}


def _find_folders(root, depth=2):
    """The _Folders of a data set. Looks into a single nested folder too."""
    if not os.path.isdir(root):
        raise UserError("there is no data folder %s" % root)
    folders, found = sub_folders(root), []
    for kind, pattern in (("images", IMAGE_FOLDER), ("masks", MASK_FOLDER)):
        fitting = [path for path in folders if pattern.match(os.path.basename(path))]
        if len(fitting) > 1:
            names = ", ".join(map(os.path.basename, fitting))
            raise UserError("%s has several folders of %s (%s): keep one" % (root, kind, names))
        found.append(fitting[0] if fitting else None)
    if any(found):
        return _Folders(root, *found)
    files = list(filter(is_image, os.listdir(root)))
    if files:
        jpegs = {os.path.splitext(entry)[0] for entry in files if entry.lower().endswith((".jpg", ".jpeg"))}
        pngs = {bare(os.path.splitext(entry)[0]) for entry in files if entry.lower().endswith(".png")}
        return _Folders(root, root, root if jpegs & pngs else None)  # images and masks side by side
    if depth and folders:
        nested = [_find_folders(path, depth - 1) for path in folders]
        nested = [inner for inner in nested if inner.image or inner.mask]
        if len(nested) == 1:
            return nested[0]
        if nested and all(inner.image == inner.home and inner.mask is None for inner in nested):
            return _Folders(root, root, None)  # images alone, by sequence or class
    return _Folders(root, None, None)


def _listed(folders, lists, set_names, image_files, mask_files, masks):
    """(names of a set's images: those of its list, or all; {name: path} of their masks).

    Raises UserError where the list names what is not there; masks may lack where `masks` is "partial".
    """
    everything = image_files or mask_files
    listed = read_list(folders.home, lists, set_names, everything)
    path, entries = listed or (None, [(0, name, "") for name in everything])
    if not entries and listed:
        raise UserError("%s is empty: remove it, or list one name a line" % path)
    matched = dict(mask_files)
    if image_files:  # the list may name the masks, too
        known = index(mask_files)
        named = {name: name_of(rest, known) for _, name, rest in entries if is_image(os.path.basename(rest))}
        matched = {name: mask_files[mask] for name, mask in named.items() if mask is not None}
        taken = set(matched.values())
        free = {name: path for name, path in mask_files.items() if path not in taken}
        matched.update(match_names(free, [name for name in image_files if name not in matched]))
    needed = [("image", image_files, folders.image)]
    if masks != "partial" and mask_files:
        needed.append(("mask", matched, folders.mask))
    for number, name, _ in entries if listed else ():
        for kind, files, folder in needed:
            if files and name not in files:
                raise UserError(
                    "%s line %d: there is no %s %r in %s: correct the list or remove it"
                    % (path, number, kind, name, folder)
                )
    return [name for _, name, _ in entries], matched
