"""Scoring maps that exist already: finding methods and sets in folders, and scoring all of them."""

from __future__ import annotations

import collections
import os
import sys

from kdscfnet.data.datasets import canonical_name
from kdscfnet.errors import UserError
from kdscfnet.evaluation import tables
from kdscfnet.evaluation.pairs import MismatchError, find_sets, pair_up
from kdscfnet.evaluation.results import Result, published, remarks, write_scores
from kdscfnet.evaluation.scores import score_pairs, scores_named
from kdscfnet.files import write_text
from kdscfnet.images import IMAGE_SUFFIXES

LISTED = 20  # problems of a kind that are listed on the terminal


def say(text):
    print(text, file=sys.stderr, flush=True)


def find_methods(folders, sets):
    """Whose maps of which sets are in some folders.

    Args:
        folders: of maps. Each is one method's maps of one set, or one method's with a folder for each set, or holds a
            folder for each method.
        sets: list of ImageSet.

    Returns {method: {set name: folder}}, in the order given. Raises UserError where no maps are found.
    """
    methods = collections.OrderedDict()
    for folder in folders:
        if not os.path.isdir(folder):
            raise UserError("there is no folder of maps %s" % folder)
        found = _of_method(folder, sets)
        if found:
            _add(methods, folder, found)
            continue
        inside = [(path, _of_method(path, sets)) for path in _folders(folder)]
        inside = [(path, found) for path, found in inside if found]
        if not inside:
            raise UserError(
                "%s holds no maps of %s: expected %s, with the names of the masks"
                % (folder, ", ".join(found.name for found in sets), os.path.join(folder, sets[0].name, "*.png"))
            )
        for path, found in inside:
            _add(methods, path, found)
    return methods


def _of_method(folder, sets):
    """{set name: folder} of one method's folder; {} where it is none."""
    if any(_is_image(entry) for entry in os.listdir(folder)):
        own = canonical_name(os.path.basename(os.path.abspath(folder)))
        if own in {found.name for found in sets}:
            return {own: folder}
        if len(sets) > 1:
            raise UserError("%s holds maps, but of which set? Name one: --sets %s" % (folder, sets[0].name))
        return {sets[0].name: folder}
    names = {found.name for found in sets}
    return {
        canonical_name(os.path.basename(path)): path
        for path in _folders(folder)
        if canonical_name(os.path.basename(path)) in names
    }


def _add(methods, folder, found):
    parent, name = os.path.split(os.path.abspath(folder))
    if list(found.values()) == [folder] and canonical_name(name) in found:
        parent, name = os.path.split(parent)  # maps/CSNet/ECSSD: the method is CSNet
    if name in methods:
        name = "%s_%s" % (os.path.basename(parent), name)
    if name in methods:
        raise UserError("two folders of maps are called %s: rename one" % name)
    methods[name] = found


def _folders(folder):
    return [
        os.path.join(folder, entry)
        for entry in sorted(os.listdir(folder))
        if not entry.startswith(".") and os.path.isdir(os.path.join(folder, entry))
    ]


def _is_image(entry):
    return not entry.startswith(".") and os.path.splitext(entry)[1].lower() in IMAGE_SUFFIXES


def score_methods(
    maps_folders, data, sets=None, scores="all", allow_missing=False, resize=False, threads=None, output="."
):
    """Score the maps of several methods on the data sets in a folder; shows progress. Returns a list of Result.

    Arguments are those of kdscfnet.evaluate, with several folders of maps (`find_methods`), and a folder of data sets
    of which `sets` may choose some. A long list of problems goes to a file under `output`. Raises MismatchError with
    everything that does not fit, over all methods and sets.
    """
    image_sets = find_sets(data, sets)
    methods = find_methods(maps_folders, image_sets)
    paired, problems = [], collections.OrderedDict()
    for method, folders in methods.items():
        for image_set in image_sets:
            if image_set.name not in folders:
                say("%s has no maps of %s: left out" % (method, image_set.name))
                continue
            pairs, found = pair_up(folders[image_set.name], image_set)
            paired.append((method, image_set.name, pairs, found))
            if found:
                problems["%s, %s" % (method, image_set.name)] = found
    # Names that do not match are known before anything is scored. Then nothing is: the files are only read, so that all
    # that is wrong is listed at once.
    names = scores_named(scores) if allow_missing or not problems else ()
    results = collections.OrderedDict()
    for method, name, pairs, found in paired:
        scored = score_pairs(pairs, found, names, resize, threads, "%s, %s" % (method, name))
        if scored.left_out:
            problems["%s, %s" % (method, name)] = scored.left_out
        entry = published(method)
        result = results.setdefault(
            method, Result(method, entry.title if entry else "", card=entry.mae if entry else {})
        )
        result.details.setdefault("maps", os.path.dirname(methods[method][name]) or ".")
        result.add(name, scored)
    check(problems, allow_missing, output)
    return with_scores(list(results.values()))


def with_scores(results):
    """The results of which something was scored; raises UserError where nothing was."""
    left = [result for result in results if result.sets]
    if not left:
        raise UserError("nothing could be scored: see the list above")
    return left


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
        print(tables.as_text(table) + "\n")
    for remark in list(warnings) + remarks(results):
        print("note: " + remark)
    paths = [write_scores(result, os.path.join(output, "scores")) for result in results]
    if report:
        from kdscfnet.evaluation.report import write_report

        paths.append(write_report(results, os.path.join(output, "report"), warnings))
    print("written: " + ", ".join(map(os.path.normpath, paths)))
