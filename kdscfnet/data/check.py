"""The check before training: every file is looked at before anything is written."""

from __future__ import annotations

import collections
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from kdscfnet.errors import BadImageError, UserError
from kdscfnet.images import read_levels, size_of
from kdscfnet.text import progress, say_once
from kdscfnet.threads import available_cores, in_order

_SAMPLE = 64  # masks whose levels are looked at


def scan(images, masks, skip_bad=False, same_size=True, title="checking"):
    """Look at every file before training starts: whole, an image, and mask and image of one size.

    What it passes can be read: by header and end of an ordinary JPEG or PNG, about ten times as fast as decoding; any
    other file is decoded. What the reader guesses is said, once for all files.

    Args:
        images, masks: parallel tuples of paths; masks may be empty.
        same_size: masks must have their image's size, both upright.
        skip_bad: leave out what is bad instead of raising.

    Returns {number of an image: BadImageError} of what is bad; without `skip_bad` raises the first one.
    """

    def look(paths):
        """[(path, note)] of an image, and its mask where it has one."""
        paths = list(filter(None, paths))
        sizes, notes = zip(*map(size_of, paths))
        if same_size and len(paths) == 2:
            expect_one_size(paths[1], sizes[1], sizes[0])
        return [(path, note) for path, of_file in zip(paths, notes) for note in of_file]

    pairs = list(zip(images, masks) if masks else zip(images))
    problems, noted = {}, {}
    threads = max(2, available_cores())
    looked_at = in_order(look, pairs, threads, 16 * threads)
    for index, (_, outcome) in enumerate(progress(looked_at, total=len(pairs), desc=title, leave=False)):
        try:
            for path, note in outcome():
                noted.setdefault(note, []).append(path)
        except BadImageError as error:
            if not skip_bad:
                raise BadImageError(error.path, error.reason + " (--skip-bad goes on without it)")
            problems[index] = error
    for note, paths in noted.items():
        say_once("%d %s: %s (the first: %s)" % (len(paths), "file" if len(paths) == 1 else "files", note, paths[0]))
    return problems


def expect_one_size(mask, mask_size, image_size):
    """Raise BadImageError where a mask's size, (width, height), is not its image's."""
    if tuple(mask_size) != tuple(image_size):
        sizes = (*mask_size, *image_size)
        raise BadImageError(mask, "the mask is %d×%d, its image %d×%d: they must be of one size" % sizes)


def target_levels(masks, whose="the masks", teacher=False):
    """What the levels of a set's masks, or of a teacher's maps, mean; a sample of them is read.

    Args:
        masks: paths, of at least one.
        whose: what they are, for messages.
        teacher: they are maps of real saliency, not masks of two levels.

    Returns (uint8 [256] or None, lines): masks of two levels become 0 and 255 by that table. The lines, a list, say so,
    and what else the reader did. Raises UserError where nothing could be learned: all files have one level alone, or no
    level is nearly white.
    """
    sample = masks[:: max(1, len(masks) // _SAMPLE)]
    present, notes = np.zeros(256, bool), collections.Counter()
    with ThreadPoolExecutor(max(2, available_cores())) as pool:
        for in_mask, of_mask in pool.map(_levels_in, sample):
            present |= in_mask
            notes.update(of_mask)
    for mask in masks if present.sum() < 2 else ():
        present |= _levels_in(mask)[0]
        if present.sum() > 1:
            break
    lines = ["%s: %s (%d of %d that were looked at)" % (whose, *note, len(sample)) for note in notes.items()]
    levels = np.flatnonzero(present)
    if not len(levels):
        return None, lines  # none can be read, which is said where they are
    low, high = int(levels[0]), int(levels[-1])
    if low == high:
        raise UserError("%s hold level %d alone, in every file: there is nothing to learn" % (whose, low))
    if len(levels) == 2 and not teacher:
        if (low, high) == (0, 255):
            return None, lines
        table = np.where(np.arange(256) >= (low + high + 1) // 2, 255, 0).astype(np.uint8)
        return table, lines + ["%s have the levels %d and %d alone: taken as 0 and 255" % (whose, low, high)]
    if high < 128:
        white = "full saliency" if teacher else "objects, 0 for the background"
        raise UserError("%s have levels from %d to %d: save them with 255 for %s" % (whose, low, high, white))
    return None, lines


def _levels_in(path):
    """(bool [256]: which levels a mask has, notes); none where it cannot be read, which is said where it is used."""
    try:
        levels, notes = read_levels(path)
    except BadImageError:
        return np.zeros(256, bool), []
    return np.bincount(levels.ravel(), minlength=256) > 0, notes
