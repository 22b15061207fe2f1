"""Scoring maps that exist already: finding methods and sets in folders, and scoring all of them.

A method is whoever made the maps: one author's network, with a folder of maps for each set.
"""

from __future__ import annotations

import os

from kdscfnet.data.find import find_sets_to_score, no_masks
from kdscfnet.data.names import bare, is_image, list_images, sub_folders
from kdscfnet.data.sets import KNOWN_SETS, canonical_name
from kdscfnet.errors import UserError
from kdscfnet.evaluation.pairs import pair_up
from kdscfnet.evaluation.publish import check
from kdscfnet.evaluation.results import Result, made_by
from kdscfnet.evaluation.scores import SCORES, score_pairs
from kdscfnet.text import say
from kdscfnet.weights.release import release


def find_methods(folders, sets):
    """Whose maps of which sets are in some folders, and whose maps of other sets.

    Args:
        folders: of maps. Each is one method's maps of one set, or one method's with a folder for each set, or holds a
            folder for each method.
        sets: list of ImageSet.

    Returns ({method: {set name: folder}}, in the order given, [(method, names of folders of maps that fit no set)]).
    Raises UserError where no maps are found.
    """
    labelled = [image_set.name for image_set in sets if image_set.masks] or [image_set.name for image_set in sets]
    methods, others = {}, []
    for folder in folders:
        if not os.path.isdir(folder):
            raise UserError("there is no folder of maps %s" % folder)
        found = [(folder, *_of_method(folder, sets, labelled))]
        if not found[0][1]:
            found = [(path, *_of_method(path, sets, labelled)) for path in sub_folders(folder)]
        if not any(by_set for _, by_set, _ in found):
            expected = os.path.join(folder, labelled[0], "*.png")
            text = "%s holds no maps of %s: expected %s, with the names of the masks"
            raise UserError(text % (folder, ", ".join(labelled), expected))
        for path, by_set, of_others in found:
            parent, name = os.path.split(os.path.abspath(path))
            if by_set:
                if list(by_set.values()) == [path] and canonical_name(name) in by_set:
                    parent, name = os.path.split(parent)  # maps/CSNet/ECSSD: the method is CSNet
                name = "%s_%s" % (os.path.basename(parent), name) if name in methods else name
                if name in methods:
                    raise UserError("two folders of maps are called %s: rename one" % name)
                methods[name] = by_set
            others += [(name, of_others)] if of_others else []
    return methods, others


def _of_method(folder, sets, labelled):
    """({set name: folder} of one method's folder, {} where it is none; names of folders of maps that fit no set)."""
    names = {image_set.name for image_set in sets}
    base = os.path.basename(os.path.abspath(folder))
    own = canonical_name(base)
    for image_set in sets:
        if image_set.name == own or len(sets) == 1:
            if not set(map(bare, list_images(folder))).isdisjoint(name for name in image_set.names if "/" in name):
                return {image_set.name: folder}, []  # maps by sequence, as the masks
    if _holds_images(folder):
        if own in names:
            return {own: folder}, []
        if own in KNOWN_SETS and KNOWN_SETS.issuperset(labelled):
            return {}, [base]  # maps of PASCAL-S are none of ECSSD, though numbers may be the names of both
        if len(labelled) > 1:
            raise UserError("%s holds maps, but of which set? Name one: --sets %s" % (folder, labelled[0]))
        return {labelled[0]: folder}, []
    paths = sub_folders(folder)
    by_set = {canonical_name(os.path.basename(path)): path for path in paths}
    by_set = {name: path for name, path in by_set.items() if name in names}
    return by_set, [os.path.basename(p) for p in paths if p not in by_set.values() and _holds_images(p)]


def _holds_images(folder):
    return any(map(is_image, os.listdir(folder)))


def score_methods(maps_folders, data, sets, options):
    """Score the maps of several methods on the data sets in a folder; shows progress.

    Args:
        maps_folders: where the maps are, for `find_methods`.
        data, sets: the folder of the data sets, and the names of those to score; None: all.
        options: ScoreOptions. A long list of problems goes to a file under its `output`.

    Returns (list of Result, list of sentences on maps that were not scored). Raises MismatchError with everything that
    does not fit, over all methods and sets.
    """
    image_sets = find_sets_to_score(data, sets)
    methods, others = find_methods(maps_folders, image_sets)
    # People have maps of more sets than masks: no error; sets that were not asked for concern nobody
    warnings = [
        "%s has maps of %s, and %s holds no such data set: left out" % (method, ", ".join(names), data)
        for method, names in ([] if sets else others)
    ] + _maps_without_masks(methods, image_sets, options.allow_missing)
    for warning in warnings:
        say(warning)
    paired = []
    for method, folders in methods.items():
        for image_set in image_sets:
            if image_set.name in folders:
                paired.append((method, image_set, *pair_up(folders[image_set.name], image_set)))
            elif image_set.masks or sets:
                say("%s has no maps of %s: left out" % (method, image_set.name))
    # where names do not match nothing is scored: the files are only read, so that all that is wrong is listed at once
    all_fit = not any(misfits for _, image_set, _, misfits in paired if image_set.masks)
    names = SCORES[options.scores] if options.allow_missing or all_fit else ()
    problems, results = {}, {method: _result_of(method, folders) for method, folders in methods.items()}
    for method, image_set, pairs, misfits in paired:
        where = "%s, %s" % (method, image_set.name)
        scored = score_pairs(pairs, misfits, names, options.resize, options.threads, where if pairs else None)
        if scored.left_out and image_set.masks:
            problems[where] = scored.left_out
        results[method].add(image_set, scored)
    check(problems, options, results.values())
    return list(results.values()), warnings


def _maps_without_masks(methods, image_sets, allow_missing):
    """What is said of sets that have maps and no masks; raises UserError unless `allow_missing`."""
    warnings = []
    for image_set in image_sets:
        whose = [method for method, folders in methods.items() if image_set.name in folders]
        if image_set.masks or not whose:
            continue
        if not allow_missing:
            advice = "--allow-missing leaves its scores out, --sets chooses other sets"
            raise UserError("%s, and %s has maps of it; %s" % (no_masks(image_set.root), " and ".join(whose), advice))
        warnings.append("%s; maps of it are not scored (--allow-missing)" % no_masks(image_set.root))
    return warnings


def published(name):
    """The entry of the release whose file, title or recipe is `name`, or None."""
    return next((model for model in release().models if model.is_called(name)), None)


def _result_of(method, folders):
    """An empty Result of a method's maps, with what made them where `kdscfnet test` recorded one thing for all."""
    entry = published(method)
    result = Result(method, entry.title if entry else method, paper=entry.mae if entry else {})
    result.details["maps"] = os.path.dirname(next(iter(folders.values()))) or "."
    records = [made_by(folder) for folder in folders.values()]
    if all(records[0].get(key) and records[0][key] == r.get(key) for r in records for key in ("sha256", "size")):
        result.weights = records[0].get("weights")
        result.details.update((key, records[0][key]) for key in ("size", "engine", "sha256") if key in records[0])
    return result
