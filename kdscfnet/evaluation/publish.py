"""What `test` and `evaluate` do alike: list the problems, print the tables, write scores and report."""

from __future__ import annotations

import collections
import os
import sys

from kdscfnet.errors import UserError
from kdscfnet.evaluation import tables
from kdscfnet.evaluation.pairs import MismatchError
from kdscfnet.evaluation.results import remarks, write_scores
from kdscfnet.files import write_text
from kdscfnet.text import say

LISTED = 20  # problems of a kind that are listed on the terminal


def with_scores(results):
    """The results; raises UserError where nothing at all was scored."""
    if not any(scores["images"] for result in results for scores in result.sets.values()):
        raise UserError("nothing could be scored: see the list above")
    return results


def check(problems, options):
    """List the problems on standard error, many of a kind in output/report/problems.txt; raise MismatchError unless
    allow_missing. `problems`: {what was scored: list of Problem}; `options`: ScoreOptions."""
    cut, path = False, os.path.normpath(os.path.join(options.output, "report", "problems.txt"))
    for where, of_set in problems.items():
        numbers = collections.Counter()
        for problem in of_set:
            numbers[problem.kind] += 1
            if numbers[problem.kind] <= LISTED:
                say("%s: %s" % (where, problem), failure=True)
        for kind, number in numbers.items():
            if number > LISTED:
                say("%s: … and %d more of this kind (%s)" % (where, number - LISTED, kind), failure=True)
                cut = True
    if cut:
        lines = ["%s: %s\n" % (where, problem) for where, of_set in problems.items() for problem in of_set]
        write_text(path, "".join(lines))
        say("all of them: " + path, failure=True)
    elif os.path.exists(path):
        os.unlink(path)  # of an earlier run
    if problems and not options.allow_missing:
        raise MismatchError(problems)


def publish(results, warnings, options):
    """Print the tables; write scores/<model>.json and the report folder under the output folder of `options`."""
    for table in tables.tables(results):
        _show(tables.as_text(table) + "\n")
    for remark in warnings + remarks(results):
        _show("note: " + remark)
    paths = [write_scores(result, os.path.join(options.output, "scores")) for result in results]
    if not options.no_report:
        from kdscfnet.evaluation.report import write_report

        paths.append(write_report(results, os.path.join(options.output, "report"), warnings))
    _show("written: " + ", ".join(map(os.path.normpath, paths)))


def _show(text):
    """Print; names of files may hold what the terminal's encoding does not, which is escaped as stderr does it."""
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding))
