"""Tables of scores: for the terminal, Markdown, LaTeX, HTML and CSV."""

from __future__ import annotations

import collections
import csv
import html
import io
import re

from kdscfnet.evaluation.results import sets_of
from kdscfnet.evaluation.scores import ALL_SCORES, MAE_SCORES
from kdscfnet.text import columns

# How scores are written for people, where that is not their name: plain, HTML, LaTeX
_HEADS = {
    "MAE_unstretched": ("MAE unstr.", "MAE<br>unstretched", r"MAE$_\mathrm{unstr.}$"),
    "maxF": ("maxF", "F<sub>β</sub> max", r"$F_\beta^{\max}$"),
    "meanF": ("meanF", "F<sub>β</sub> mean", r"$F_\beta^\mathrm{mean}$"),
    "adpF": ("adpF", "F<sub>β</sub> adp", r"$F_\beta^\mathrm{adp}$"),
    "wF": ("wF", "F<sub>β</sub><sup>w</sup>", r"$F_\beta^w$"),
    "S": ("S", "S<sub>α</sub>", r"$S_\alpha$"),
    "maxE": ("maxE", "E<sub>φ</sub> max", r"$E_\phi^{\max}$"),
    "meanE": ("meanE", "E<sub>φ</sub> mean", r"$E_\phi^\mathrm{mean}$"),
    "adpE": ("adpE", "E<sub>φ</sub> adp", r"$E_\phi^\mathrm{adp}$"),
}
_PLAIN, _HTML, _LATEX = range(3)
_SPECIAL = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}  # in LaTeX
_ESCAPED = str.maketrans(dict(_SPECIAL, **{c: "\\" + c for c in "#$%&_{}"}))


# Cells are strings. best: the (row, column) of figures to set in bold. set_name: of a table of one set, else "".
Table = collections.namedtuple("Table", ["title", "header", "rows", "best", "set_name"])


def mae_table(results):
    """Models by sets: the MAE, and the paper's and the difference beside it where a model is a released one."""
    columns, parts = [], ["MAE, lower is better"]
    for name in sets_of(results):
        columns.append((name, "%.4f", min, [result.sets.get(name, {}).get("MAE") for result in results]))
        differences = [result.difference(name) for result in results]
        if any(difference is not None for difference in differences):
            paper = [None if result.difference(name) is None else result.paper[name] for result in results]
            columns += [("paper", "%.3f", None, paper), ("diff.", "%+.4f", None, differences)]
        if with_coverage(results, name) != name:
            parts.append(with_coverage(results, name))
    return _table("; ".join(parts), results, columns)


def with_coverage(results, name):
    """`ECSSD`, or `ECSSD (100 of 300 images)` where some were left out."""
    found = [result.sets[name] for result in results if name in result.sets]
    parts = {"%d of %d images" % (scores["images"], scores.expected) for scores in found if scores.left_out}
    return "%s (%s)" % (name, " / ".join(sorted(parts))) if parts else name


def set_table(results, name):
    """All scores of one set, models by scores; `-` where nothing could be scored."""
    on_set = [result for result in results if name in result.sets]
    columns = []
    for score in ALL_SCORES:
        if any(score in result.sets[name] for result in on_set):
            best = min if score in MAE_SCORES else max
            columns.append((score, "%.4f", best, [result.sets[name].get(score) for result in on_set]))
    columns.append(("images", "%d", None, [result.sets[name]["images"] for result in on_set]))
    return _table(with_coverage(results, name), on_set, columns, name)


def tables(results):
    """The MAE table, then one for each set with all of its scores."""
    return [mae_table(results)] + [set_table(results, name) for name in sets_of(results)]


def _table(title, results, columns, set_name=""):
    """columns: (head, format, min or max or None, [number or None of each result])."""
    cells, best = [[result.title for result in results]], set()
    for column, (_, form, choose, numbers) in enumerate(columns, 1):
        cells.append(["-" if number is None else form % number for number in numbers])
        known = [number for number in numbers if number is not None]
        if choose and len(known) > 1:  # the best as printed
            best |= {(row, column) for row, cell in enumerate(cells[column]) if cell == form % choose(known)}
    header = ["model"] + [head for head, *_ in columns]
    return Table(title, header, [list(row) for row in zip(*cells)], best, set_name)


def as_text(table):
    """For a terminal."""
    return "\n".join([table.title, *("  " + line for line in columns(_cells(table, _PLAIN, "%s", str)))])


def _cells(table, form, bold, escape):
    """Header and rows of a table, each cell by `escape`, the best ones by the pattern `bold`, too."""
    header = [_HEADS[cell][form] if cell in _HEADS else escape(cell) for cell in table.header]
    return [header] + [
        [bold % escape(cell) if (row, column) in table.best else escape(cell) for column, cell in enumerate(cells)]
        for row, cells in enumerate(table.rows)
    ]


def as_markdown(table):
    rows = _cells(table, _PLAIN, "**%s**", lambda cell: cell.replace("|", "\\|"))
    lines = ["| %s |" % " | ".join(cells) for cells in rows]
    lines.insert(1, "|---|" + "---:|" * (len(table.header) - 1))
    return "\n".join(["### " + table.title, "", *lines]) + "\n"


def as_latex(table):
    """A booktabs table."""
    begin = [r"\begin{table}[t]", r"\centering", r"\caption{%s}" % table.title.translate(_ESCAPED)]
    begin += [r"\begin{tabular}{l%s}" % ("r" * (len(table.header) - 1)), r"\toprule"]
    lines = [" & ".join(cells) + r" \\" for cells in _cells(table, _LATEX, r"\textbf{%s}", _latex_cell)]
    lines.insert(1, r"\midrule")
    end = [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
    return "\n".join([*begin, *lines, *end]) + "\n"


def _latex_cell(cell):
    if re.match(r"[+-]\d", cell):  # a difference: the sign is set as one
        return "$%s$%s" % (cell[0], cell[1:])
    return "--" if cell == "-" else cell.translate(_ESCAPED)


def as_html(table):
    def row(tag, cells):
        return "<tr>%s</tr>" % "".join("<%s>%s</%s>" % (tag, cell, tag) for cell in cells)

    header, *rows = _cells(table, _HTML, "<b>%s</b>", html.escape)
    return "\n".join(["<table>", "<thead>", row("th", header), "</thead>", *(row("td", r) for r in rows), "</table>"])


def scores_csv(results):
    """One line for each model and set, full precision; without figures where nothing could be scored."""
    on_sets = [(result, name, scores) for result in results for name, scores in result.sets.items()]
    names = ALL_SCORES if any("S" in scores for _, _, scores in on_sets) else MAE_SCORES
    lines = [["model", "set", *names, "images", "left_out", "card_MAE", "difference", "weights"]]
    for result, name, scores in on_sets:
        figures = [scores.get(score) for score in names]
        published = result.paper.get(name), result.difference(name)
        counts = scores["images"], len(scores.left_out)
        lines.append([result.name, name, *figures, *counts, *published, result.weights])
    return _csv(lines)


def per_image_csv(results):
    """One line for each map, full precision; what was left out is there too, without figures."""
    on_sets = [(result.name, name, scores) for result in results for name, scores in result.sets.items()]
    # of all maps of a set the scores are the same
    names = list(dict.fromkeys(name for _, _, scores in on_sets for s in scores.per_image[:1] for name in s.values))
    lines = [["model", "set", "image", *names, "note"]]
    for method, set_name, scores in on_sets:
        for scored in scores.per_image:
            figures = (scored.values.get(name) for name in names)
            lines.append([method, set_name, scored.name, *figures, "; ".join(scored.notes)])
        for problem in scores.left_out:
            lines.append([method, set_name, problem.name, *[None] * len(names), "left out: %s" % problem])
    return _csv(lines)


def _csv(lines):
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(lines)
    return file.getvalue()
