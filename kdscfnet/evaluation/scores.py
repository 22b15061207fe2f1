"""Scores of saliency maps: one map, one folder, on all cores."""

from __future__ import annotations

import collections
import contextlib
import functools
import os
import threading

import cv2
import numpy as np

from kdscfnet.data.check import target_levels
from kdscfnet.data.find import find_masks
from kdscfnet.errors import BadImageError, UserError
from kdscfnet.evaluation import measures
from kdscfnet.evaluation.pairs import OTHER_SIZE, UNREADABLE, MismatchError, Problem, pair_up, summarise
from kdscfnet.images import read_levels
from kdscfnet.text import progress
from kdscfnet.threads import available_cores, in_order, one_opencv_thread

MAE_SCORES = ("MAE", "MAE_unstretched")
ALL_SCORES = MAE_SCORES + ("maxF", "meanF", "adpF", "wF", "S", "maxE", "meanE", "adpE")
SCORES = {"mae": MAE_SCORES, "all": ALL_SCORES}
CURVES = ("precision", "recall", "F", "E")
THRESHOLDS = np.arange(255, -1, -1)  # of the curves: a pixel of at least this level is salient

CONSTANT_MAP = "the map is constant: it is not stretched, its value counts as it is"
BLACK_MASK = "the mask is all black: F and weighted F are 0"
WHITE_MASK = "the mask is all white"


# Scores of one map. pair: a Pair, whose name it has. values: {score: float}. notes: list of texts.
MapScores = collections.namedtuple("MapScores", ["name", "pair", "values", "notes"])


class SetScores(dict):
    """Scores of one set of maps: {score: float, "images": int}, with more in the attributes.

    Attributes:
        per_image: list of MapScores, in the set's order.
        curves: {"precision", "recall", "F", "E": float64 [256]}, means over the images by threshold, 255 first; {} for
            MAE alone.
        notes: list of (name, text): constant maps, masks of one value and the like, which have defined values.
        left_out: list of Problem: what could not be scored (allow_missing).
        expected: how many images the set has.
        passed_over: sentences: which files beside its images and masks are no part of the set.
    """

    per_image = curves = notes = left_out = passed_over = ()
    expected = 0


def evaluate(
    maps_dir: str | os.PathLike,
    masks_dir: str | os.PathLike,
    scores: str = "all",
    allow_missing: bool = False,
    resize: bool = False,
    threads: int | None = None,
    show_progress: bool = False,
) -> SetScores:
    """Score a folder of saliency maps against a folder of masks.

    Args:
        maps_dir: 8-bit maps, named as the masks (`0001_sal.png` and `0001_gt.png` belong together too).
        masks_dir: the masks, or a data set's folder that holds them (ECSSD with image/ and mask/).
        scores: "all", or "mae" for MAE and MAE_unstretched alone, which is many times faster.
        allow_missing: score what can be scored instead of raising an error; the rest is in `.left_out`.
        resize: bring maps of another size to their mask's, bilinear, as the authors do, instead of refusing them.
        threads: cores to use; default: all.

    Returns a SetScores: a dict of MAE (the authors': map and mask each stretched to [0, 1], the mask cut at half),
    MAE_unstretched (map / 255), maxF, meanF, adpF (β² = 0.3), wF, S, maxE, meanE, adpE (as pysodmetrics 1.4.2), images.
    Raises MismatchError, a UserError that lists what is missing, unreadable or of another size.
    """
    if scores not in SCORES:
        raise UserError("scores is %r: one of %s" % (scores, ", ".join(SCORES)))
    image_set = find_masks(masks_dir)
    pairs, problems = pair_up(os.fspath(maps_dir), image_set)
    # with problems nothing will come of the scores: look for further problems only
    names = SCORES[scores] if allow_missing or not problems else ()
    result = score_pairs(pairs, problems, names, resize, threads, image_set.name if show_progress else None)
    if result.left_out and not allow_missing:
        raise MismatchError({image_set.name: result.left_out}, in_python=True)
    if not result["images"]:
        raise UserError("nothing in %s could be scored: %s" % (maps_dir, summarise(result.left_out)))
    return result


def score_pairs(pairs, problems, scores, resize, threads, title):
    """Score Pairs on all cores. Returns a SetScores.

    problems: what was found before; goes to the result's `left_out`. scores: MAE_SCORES, ALL_SCORES, or () to read
    everything and only look for problems. title: of the progress bar; None: no bar.
    """
    result = SetScores()
    result.per_image, result.notes, result.left_out = [], [], list(problems)
    result.expected = len(pairs) + len(problems)
    curves = np.zeros((len(CURVES), 256))
    cores = max(1, min(threads or available_cores(), len(pairs)))
    work = functools.partial(score_pair, scores=scores, resize=resize, scale=Scale([pair.mask for pair in pairs]))
    with one_opencv_thread(), progress(total=len(pairs), desc=title, disable=title is None, unit=" maps") as bar:
        for _, outcome in in_order(work, pairs, cores, 16 * cores):
            scored, of_map = outcome()
            if isinstance(scored, Problem):
                result.left_out.append(scored)
            else:
                if of_map is not None:
                    curves += of_map
                result.per_image.append(scored)
                result.notes += [(scored.name, note) for note in scored.notes]
            bar.update()

    number = len(result.per_image)
    if number:
        for name in scores:
            result[name] = float(np.mean([scored.values[name] for scored in result.per_image]))
        if scores == ALL_SCORES:
            curves /= number
            result.curves = dict(zip(CURVES, curves))
            # of the mean curve: the best threshold is one for the whole set, not one for each image
            for letter in "FE":
                result["max" + letter] = float(result.curves[letter].max())
                result["mean" + letter] = float(result.curves[letter].mean())
    result["images"] = number
    return result


class Scale:
    """What a mask of one grey level means: black or white, as that level is in its set. Looked at where one comes.

    scale(mask): uint8 H×W → the same; a mask of level 1 alone is 255 in a set of masks of 0 and 1.
    """

    def __init__(self, masks):
        self._masks, self._table, self._lock = masks, None, threading.Lock()

    def __call__(self, mask):
        if mask[0, 0] in (0, 255) or (mask != mask[0, 0]).any():
            return mask
        with self._lock:
            if self._table is None:
                with contextlib.suppress(UserError):  # no mask of the set says more
                    self._table = target_levels(self._masks)[0]
                self._table = np.arange(256, dtype=np.uint8) if self._table is None else self._table
        return self._table[mask]


def score_pair(pair, scores, resize, scale):
    """Score one Pair. With scores () it reads only. scale: of its set, a Scale.

    Returns (MapScores, or a Problem where that is not possible; curves as `score_map` has them).
    """
    try:
        mask, mask_notes = read_levels(pair.mask)
    except BadImageError as error:
        return Problem(UNREADABLE, _file_of(pair, pair.mask), "mask: %s" % error.reason), None
    try:
        levels, notes = read_levels(pair.map)
    except BadImageError as error:
        return Problem(UNREADABLE, _file_of(pair, pair.map), error.reason), None
    mask = scale(mask)
    if levels.shape != mask.shape and not resize:
        sizes = levels.shape[1], levels.shape[0], mask.shape[1], mask.shape[0]
        return Problem(OTHER_SIZE, _file_of(pair, pair.map), "%d×%d, its mask %d×%d" % sizes), None
    if not scores:
        return MapScores(pair.name, pair, {}, []), None
    values, curves, more = score_map(levels, mask, scores)
    notes = ["map: " + note for note in notes] + ["mask: " + note for note in mask_notes] + more
    return MapScores(pair.name, pair, values, notes), curves


def _file_of(pair, path):
    """A file's name, with the sub-folder of its set: `seq1/0001.png`."""
    return os.path.join(os.path.dirname(pair.name), os.path.basename(path))


def score_map(levels, mask, scores=ALL_SCORES):
    """Score one map against one mask.

    Args:
        levels: uint8 H×W, the saliency map; one of another size is resized to the mask's, bilinear.
        mask: uint8 H×W, before its cut.
        scores: MAE_SCORES or ALL_SCORES.

    Returns (values, curves, notes): {score: float}; float64 4×256 or None; list of texts.
    """
    notes = []
    foreground, foreground_of_library = _cut(mask, notes)
    values = {}
    if levels.shape != mask.shape:
        notes.append("the map was resized from %d×%d to %d×%d" % (levels.shape[::-1] + mask.shape[::-1]))
        values, levels = _resized(levels, foreground)
    every = scores == ALL_SCORES
    centre = measures.centre_of(foreground_of_library) if every else None
    counts = measures.count_levels(levels, foreground, centre)
    whole = counts.sum(axis=0)
    present = np.flatnonzero(whole.sum(axis=0))
    saliency = measures.stretched(present[0], present[-1])
    if len(present) == 1:
        notes.append("%s (level %d)" % (CONSTANT_MAP, present[0]))
    if not values:
        values = {
            "MAE": measures.mean_absolute_error(whole, saliency),
            "MAE_unstretched": measures.mean_absolute_error(whole, measures.stretched(0, 255)),
        }
    if not every:
        return values, None, notes
    if foreground_of_library is not foreground:
        foreground = foreground_of_library
        counts = measures.count_levels(levels, foreground, centre)
        whole = counts.sum(axis=0)
    precision, recall, f_curve, values["adpF"] = measures.f_measure(whole, saliency)
    e_curve, values["adpE"] = measures.e_measure(whole, saliency)
    values["wF"] = measures.weighted_f_measure(levels, saliency, foreground)
    values["S"] = measures.s_measure(counts, saliency, levels, foreground, centre)
    for letter, curve in (("F", f_curve), ("E", e_curve)):
        values["max" + letter], values["mean" + letter] = float(curve.max()), float(curve.mean())
    return values, np.stack([precision, recall, f_curve, e_curve]), notes


def _cut(mask, notes):
    """The foreground by the authors' cut and by pysodmetrics': two bool H×W, the same array where they agree.

    The authors stretch the mask to [0, 1] by its own minimum and maximum, then cut at 0.5. pysodmetrics takes what is
    above 128. They differ where a grey edge has exactly level 128, or where a mask does not reach from black to white.
    """
    counts = measures.histogram(mask)
    present = np.flatnonzero(counts)
    low, high = int(present[0]), int(present[-1])
    if low == high:
        notes.append(WHITE_MASK if low > 127 else BLACK_MASK)
        if low not in (0, 255):
            notes[-1] += " (level %d)" % low
        foreground = mask > 127
        return foreground, foreground
    cut = (low + high + 1) // 2
    foreground = mask >= cut
    middle = counts[low + (high - low) // 8 + 1 : high - (high - low) // 8].sum()
    if middle > 0.1 * mask.size:
        notes.append("the mask is not black and white: %d%% of it is grey" % round(100 * middle / mask.size))
    if not counts[min(cut, 129) : max(cut, 129)].any():
        return foreground, foreground
    if high <= 128 or low > 128:
        notes.append("the mask's levels are %d to %d: cut at half of that for all scores" % (low, high))
        return foreground, foreground
    return foreground, mask > 128


def _resized(levels, foreground):
    """MAE of a map of another size, by the authors' order (stretch, then resize), and the map resized for the rest."""
    size = foreground.shape[::-1]
    present = np.flatnonzero(measures.histogram(levels))
    values = {}
    for name, ends in (("MAE", (present[0], present[-1])), ("MAE_unstretched", (0, 255))):
        table = measures.stretched(*ends)
        resized = cv2.resize(table[levels], size, interpolation=cv2.INTER_LINEAR)
        values[name] = float(np.abs(resized - foreground).mean())
    return values, cv2.resize(levels, size, interpolation=cv2.INTER_LINEAR)
