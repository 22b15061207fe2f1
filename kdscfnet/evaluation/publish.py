"""What `test` and `evaluate` do alike: take options, list the problems, print the tables, write scores and report."""

from __future__ import annotations

import os
from dataclasses import dataclass

from kdscfnet.errors import UserError
from kdscfnet.evaluation import tables
from kdscfnet.evaluation.pairs import MismatchError
from kdscfnet.evaluation.report import write_report
from kdscfnet.evaluation.results import remarks, write_scores
from kdscfnet.files import write_text
from kdscfnet.text import say

LISTED = 20  # problems of a kind that are listed on the terminal


@dataclass(frozen=True)
class ScoreOptions:
    """What a user wants of scores. scores: "all" or "mae". allow_missing, resize, threads: of kdscfnet.evaluate.

    output: the folder of scores/ and report/, and of the maps that test makes; no_report: leave the second out.
    Of test alone: engine, size, device: of kdscfnet.Predictor; overwrite: make maps again that are there.
    """

    output: str = "."
    scores: str = "all"
    allow_missing: bool = False
    resize: bool = False
    threads: int | None = None
    no_report: bool = False
    engine: str = "auto"
    size: tuple[int, int] | None = None
    device: str | None = None
    overwrite: bool = False


def check(problems, options, results=()):
    """List the problems on standard error, many of a kind in output/report/problems.txt; raise MismatchError unless
    allow_missing, and UserError where there are `results` and nothing at all was scored.

    problems: {what was scored: list of Problem}. options: ScoreOptions.
    """
    cut, path = False, os.path.normpath(os.path.join(options.output, "report", "problems.txt"))
    for where, of_set in problems.items():
        for kind in dict.fromkeys(problem.kind for problem in of_set):
            alike = [problem for problem in of_set if problem.kind == kind]
            for problem in alike[:LISTED]:
                say("%s: %s" % (where, problem), failure=True)
            if len(alike) > LISTED:
                say("%s: … and %d more of this kind (%s)" % (where, len(alike) - LISTED, kind), failure=True)
                cut = True
    if cut:
        lines = ["%s: %s\n" % (where, problem) for where, of_set in problems.items() for problem in of_set]
        write_text(path, "".join(lines))
        say("all of them: " + path, failure=True)
    elif os.path.exists(path):
        os.unlink(path)  # of an earlier run
    if problems and not options.allow_missing:
        raise MismatchError(problems)
    if results and not any(scores["images"] for result in results for scores in result.sets.values()):
        raise UserError("nothing could be scored: see the list above")


def publish(results, warnings, options):
    """Print the tables; write scores/<model>.json and the report folder under the output folder of `options`."""
    for table in tables.tables(results):
        print(tables.as_text(table) + "\n")
    for remark in warnings + remarks(results):
        print("note: " + remark)
    paths = [write_scores(result, os.path.join(options.output, "scores")) for result in results]
    if not options.no_report:
        paths.append(write_report(results, os.path.join(options.output, "report"), warnings))
    print("written: " + ", ".join(map(os.path.normpath, paths)))
