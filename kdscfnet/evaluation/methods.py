"""Scoring maps that exist already: finding methods and sets in folders, and scoring all of them."""

from __future__ import annotations

import collections
import os
import sys

from kdscfnet.data.find import KNOWN_SETS, canonical_name
from kdscfnet.errors import UserError
from kdscfnet.evaluation import tables
from kdscfnet.evaluation.pairs import MismatchError, find_sets, lacks_masks, pair_up, without_masks
from kdscfnet.evaluation.results import Result, made_by, published, remarks, write_scores
from kdscfnet.evaluation.scores import score_pairs, scores_named
from kdscfnet.files import write_text
from kdscfnet.images import IMAGE_SUFFIXES

LISTED = 20  # problems of a kind that are listed on the terminal


def say(text):
    print(text, file=sys.stderr, flush=True)


def find_methods(folders, sets):
    """Whose maps of which sets are in some folders, and whose maps of other sets.

    Args:
        folders: of maps. Each is one method's maps of one set, or one method's with a folder for each set, or holds a
            folder for each method.
        sets: list of ImageSet.

    Returns ({method: {set name: folder}}, in the order given, [(method, names of folders of maps that fit no set)]).
    Raises UserError where no maps are found.
    """
    methods, others = collections.OrderedDict(), []
    for folder in folders:
        if not os.path.isdir(folder):
            raise UserError("there is no folder of maps %s" % folder)
        found = _of_method(folder, sets)
        if found:
            others.append((_add(methods, folder, found), _of_other_sets(folder, found)))
            continue
        inside = [(path, _of_method(path, sets)) for path in _folders(folder)]
        if not any(found for _, found in inside):
            names = _labelled(sets)
            raise UserError(
                "%s holds no maps of %s: expected %s, with the names of the masks"
                % (folder, ", ".join(names), os.path.join(folder, names[0], "*.png"))
            )
        for path, found in inside:
            name = _add(methods, path, found) if found else os.path.basename(path)
            others.append((name, _of_other_sets(path, found)))
    return methods, [(name, names) for name, names in others if names]


def _of_method(folder, sets):
    """{set name: folder} of one method's folder; {} where it is none."""
    names = {found.name for found in sets}
    if _holds_images(folder):
        own = canonical_name(os.path.basename(os.path.abspath(folder)))
        if own in names:
            return {own: folder}
        labelled = _labelled(sets)
        if own in KNOWN_SETS and KNOWN_SETS.issuperset(labelled):
            return {}  # maps of PASCAL-S are none of ECSSD, though numbers may be the names of both
        if len(labelled) > 1:
            raise UserError("%s holds maps, but of which set? Name one: --sets %s" % (folder, labelled[0]))
        return {labelled[0]: folder}
    return {
        canonical_name(os.path.basename(path)): path
        for path in _folders(folder)
        if canonical_name(os.path.basename(path)) in names
    }


def _labelled(sets):
    """The names of the sets with masks; of all where none has."""
    return [found.name for found in sets if found.masks] or [found.name for found in sets]


def _of_other_sets(folder, found):
    """The names of the folders of maps in a method's folder that are not among those `found`."""
    if _holds_images(folder):
        return [] if found else [os.path.basename(os.path.abspath(folder))]
    return [os.path.basename(p) for p in _folders(folder) if p not in found.values() and _holds_images(p)]


def _add(methods, folder, found):
    parent, name = os.path.split(os.path.abspath(folder))
    if list(found.values()) == [folder] and canonical_name(name) in found:
        parent, name = os.path.split(parent)  # maps/CSNet/ECSSD: the method is CSNet
    if name in methods:
        name = "%s_%s" % (os.path.basename(parent), name)
    if name in methods:
        raise UserError("two folders of maps are called %s: rename one" % name)
    methods[name] = found
    return name


def _folders(folder):
    return [
        os.path.join(folder, entry)
        for entry in sorted(os.listdir(folder))
        if not entry.startswith(".") and os.path.isdir(os.path.join(folder, entry))
    ]


def _holds_images(folder):
    return any(
        not entry.startswith(".") and os.path.splitext(entry)[1].lower() in IMAGE_SUFFIXES
        for entry in os.listdir(folder)
    )


def score_methods(
    maps_folders, data, sets=None, scores="all", allow_missing=False, resize=False, threads=None, output="."
):
    """Score the maps of several methods on the data sets in a folder; shows progress.

    Arguments are those of kdscfnet.evaluate, with several folders of maps (`find_methods`), and a folder of data sets
    of which `sets` may choose some. A long list of problems goes to a file under `output`.

    Returns (list of Result, list of sentences on maps that were not scored). Raises MismatchError with everything that
    does not fit, over all methods and sets.
    """
    image_sets = find_sets(data, sets)
    methods, others = find_methods(maps_folders, image_sets)
    paired, problems, warnings = [], collections.OrderedDict(), []
    if not sets:  # people have maps of more sets than masks: no error; sets that were not asked for concern nobody
        for method, names in others:
            warnings.append(
                "%s has maps of %s, and %s holds no such data set: left out" % (method, ", ".join(names), data)
            )
    for image_set in image_sets:
        whose = [method for method, folders in methods.items() if image_set.name in folders]
        if not image_set.masks and whose:
            if not allow_missing:
                raise UserError(
                    "%s, and %s has maps of it; --allow-missing leaves its scores out, --sets chooses other sets"
                    % (lacks_masks(image_set), " and ".join(whose))
                )
            warnings.append("%s; maps of it are not scored (--allow-missing)" % lacks_masks(image_set))
    for warning in warnings:
        say(warning)
    for method, folders in methods.items():
        for image_set in image_sets:
            if image_set.name not in folders:
                if image_set.masks or sets:
                    say("%s has no maps of %s: left out" % (method, image_set.name))
                continue
            if not image_set.masks:
                paired.append((method, image_set, [], without_masks(image_set, folders[image_set.name])))
                continue
            pairs, found = pair_up(folders[image_set.name], image_set)
            paired.append((method, image_set, pairs, found))
            if found:
                problems["%s, %s" % (method, image_set.name)] = found
    # Names that do not match are known before anything is scored. Then nothing is: the files are only read, so that all
    # that is wrong is listed at once.
    names = scores_named(scores) if allow_missing or not problems else ()
    results = collections.OrderedDict()
    for method, image_set, pairs, found in paired:
        where = "%s, %s" % (method, image_set.name)
        scored = score_pairs(pairs, found, names, resize, threads, where if pairs else None)
        if scored.left_out and image_set.masks:
            problems[where] = scored.left_out
        if method not in results:
            results[method] = _result_of(method, methods[method])
        results[method].add(image_set.name, scored)
    check(problems, allow_missing, output)
    return with_scores(list(results.values())), warnings


def _result_of(method, folders):
    """An empty Result of a method's maps, with what made them where `kdscfnet test` recorded one thing for all."""
    entry = published(method)
    result = Result(method, entry.title if entry else "", card=entry.mae if entry else {})
    result.details["maps"] = os.path.dirname(next(iter(folders.values()))) or "."
    records = [made_by(folder) for folder in folders.values()]
    if all(records[0].get(key) and records[0][key] == r.get(key) for r in records for key in ("sha256", "size")):
        result.weights = records[0].get("weights")
        result.details.update((key, records[0][key]) for key in ("size", "engine", "sha256") if key in records[0])
    return result


def with_scores(results):
    """The results; raises UserError where nothing at all was scored."""
    if not any(result.sets for result in results):
        raise UserError("nothing could be scored: see the list above")
    return results


def check(problems, allow_missing, output):
    """List the problems on standard error, many of a kind in `output`/report/problems.txt; raise MismatchError unless
    `allow_missing`."""
    cut, path = False, os.path.normpath(os.path.join(output, "report", "problems.txt"))
    for where, found in problems.items():
        numbers = collections.Counter()
        for problem in found:
            numbers[problem.kind] += 1
            if numbers[problem.kind] <= LISTED:
                say("%s: %s" % (where, problem))
        for kind, number in numbers.items():
            if number > LISTED:
                say("%s: … and %d more of this kind (%s)" % (where, number - LISTED, kind))
                cut = True
    if cut:
        write_text(
            path, "".join("%s: %s\n" % (where, problem) for where, found in problems.items() for problem in found)
        )
        say("all of them: " + path)
    elif os.path.exists(path):
        os.unlink(path)  # of an earlier run
    if problems and not allow_missing:
        raise MismatchError(problems)


def publish(results, output, report=True, warnings=()):
    """Print the tables; write scores/<model>.json and the report folder under `output`."""
    for table in tables.tables(results):
        _show(tables.as_text(table) + "\n")
    for remark in list(warnings) + remarks(results):
        _show("note: " + remark)
    paths = [write_scores(result, os.path.join(output, "scores")) for result in results]
    if report:
        from kdscfnet.evaluation.report import write_report

        paths.append(write_report(results, os.path.join(output, "report"), warnings))
    _show("written: " + ", ".join(map(os.path.normpath, paths)))


def _show(text):
    """Print; names of files may hold what the terminal's encoding does not, which is escaped as stderr does it."""
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding))
