"""Tables of scores: for the terminal, Markdown, LaTeX, HTML and CSV."""

from __future__ import annotations

import csv
import html
import io
import re
from dataclasses import dataclass, field

from kdscfnet.evaluation.results import sets_of
from kdscfnet.evaluation.scores import ALL_SCORES, LOWER_IS_BETTER, MAE_SCORES
from kdscfnet.text import columns

# How scores are written for people, where that is not their name
_PLAIN = {"MAE_unstretched": "MAE unstr."}
_STYLED = {  # HTML, LaTeX
    "MAE_unstretched": ("MAE<br>unstretched", r"MAE$_\mathrm{unstr.}$"),
    "maxF": ("F<sub>β</sub> max", r"$F_\beta^{\max}$"),
    "meanF": ("F<sub>β</sub> mean", r"$F_\beta^\mathrm{mean}$"),
    "adpF": ("F<sub>β</sub> adp", r"$F_\beta^\mathrm{adp}$"),
    "wF": ("F<sub>β</sub><sup>w</sup>", r"$F_\beta^w$"),
    "S": ("S<sub>α</sub>", r"$S_\alpha$"),
    "maxE": ("E<sub>φ</sub> max", r"$E_\phi^{\max}$"),
    "meanE": ("E<sub>φ</sub> mean", r"$E_\phi^\mathrm{mean}$"),
    "adpE": ("E<sub>φ</sub> adp", r"$E_\phi^\mathrm{adp}$"),
}


@dataclass
class Table:
    """Cells are strings; `best` holds the (row, column) of figures to set in bold."""

    title: str
    header: list
    rows: list
    best: set = field(default_factory=set)
    set_name: str = ""  # of a table of one set


def mae_table(results):
    """Models by sets: the MAE, and the paper's and the difference beside it where a model is a released one."""
    names = sets_of(results)
    with_paper = [name for name in names if any(result.difference(name) is not None for result in results)]
    header, rows = ["model"], [[result.title] for result in results]
    figures = {}
    for name in names:
        column = len(header)
        header.append(name)
        for row, result in enumerate(results):
            scores = result.sets.get(name)
            rows[row].append("%.4f" % scores["MAE"] if scores else "-")
            if scores:
                figures[row, column] = scores["MAE"]
        if name in with_paper:
            header += ["paper", "diff."]
            for row, result in enumerate(results):
                difference = result.difference(name)
                known = difference is not None
                rows[row] += ["%.3f" % result.paper[name], "%+.4f" % difference] if known else ["-", "-"]
    parts = [with_coverage(results, name) for name in names]
    title = "; ".join(["MAE, lower is better"] + [part for part, name in zip(parts, names) if part != name])
    return Table(title, header, rows, _best(figures, rows, lambda column: min))


def with_coverage(results, name):
    """`ECSSD`, or `ECSSD (100 of 300 images)` where some were left out."""
    found = [result.on(name) for result in results if result.on(name) is not None]
    parts = {"%d of %d images" % (scores["images"], scores.expected) for scores in found if scores.left_out}
    return "%s (%s)" % (name, " / ".join(sorted(parts))) if parts else name


def set_table(results, name):
    """All scores of one set, models by scores; `-` where nothing could be scored."""
    found = [(result.title, result.on(name)) for result in results if result.on(name) is not None]
    scores = [score for score in ALL_SCORES if any(score in of_set for _, of_set in found)]
    rows, figures = [], {}
    for row, (title, of_set) in enumerate(found):
        rows.append([title])
        for column, score in enumerate(scores, 1):
            if score in of_set:
                figures[row, column] = of_set[score]
            rows[row].append("%.4f" % of_set[score] if score in of_set else "-")
        rows[row].append("%d" % of_set["images"])
    best = _best(figures, rows, lambda column: min if scores[column - 1] in LOWER_IS_BETTER else max)
    return Table(with_coverage(results, name), ["model"] + list(scores) + ["images"], rows, best, name)


def tables(results):
    """The MAE table, then one for each set with all of its scores."""
    return [mae_table(results)] + [set_table(results, name) for name in sets_of(results)]


def _best(figures, rows, choose):
    """The best of each column, as printed, where there are several to choose from."""
    best = set()
    for column in {column for _, column in figures}:
        values = [value for (_, c), value in figures.items() if c == column]
        if len(values) > 1:
            wanted = "%.4f" % choose(column)(values)
            best |= {(row, c) for row, c in figures if c == column and rows[row][c] == wanted}
    return best


def as_text(table):
    """For a terminal."""
    rows = [[_PLAIN.get(cell, cell) for cell in table.header]] + table.rows
    return "\n".join([table.title, *("  " + line for line in columns(rows))])


def _styled(table, bold, escape):
    """The rows of a table, each cell by `escape`, the best ones by the pattern `bold`, too."""
    return [
        [bold % escape(cell) if (row, column) in table.best else escape(cell) for column, cell in enumerate(cells)]
        for row, cells in enumerate(table.rows)
    ]


def as_markdown(table):
    header = [_PLAIN.get(cell, cell) for cell in table.header]
    rows = _styled(table, "**%s**", lambda cell: cell.replace("|", "\\|"))
    lines = ["| %s |" % " | ".join(cells) for cells in (header, *rows)]
    lines.insert(1, "|---|" + "---:|" * (len(header) - 1))
    return "\n".join(["### " + table.title, "", *lines]) + "\n"


def as_latex(table):
    """A booktabs table."""
    header = [_STYLED[cell][1] if cell in _STYLED else escape_latex(cell) for cell in table.header]
    rows = _styled(table, r"\textbf{%s}", _latex_cell)
    return "\n".join(
        [
            r"\begin{table}[t]",
            r"\centering",
            r"\caption{%s}" % escape_latex(table.title),
            r"\begin{tabular}{l%s}" % ("r" * (len(header) - 1)),
            r"\toprule",
            " & ".join(header) + r" \\",
            r"\midrule",
            *(" & ".join(cells) + r" \\" for cells in rows),
            "\\bottomrule\n\\end{tabular}\n\\end{table}\n",
        ]
    )


def _latex_cell(cell):
    if re.match(r"[+-]\d", cell):  # a difference: the sign is set as one
        return "$%s$%s" % (cell[0], cell[1:])
    return "--" if cell == "-" else escape_latex(cell)


def escape_latex(text):
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return "".join(special.get(c, "\\" + c if c in "#$%&_{}" else c) for c in text)


def as_html(table):
    def row(tag, cells):
        return "<tr>%s</tr>" % "".join("<%s>%s</%s>" % (tag, cell, tag) for cell in cells)

    header = row("th", [_STYLED[cell][0] if cell in _STYLED else html.escape(cell) for cell in table.header])
    rows = [row("td", cells) for cells in _styled(table, "<b>%s</b>", html.escape)]
    return "\n".join(["<table>", "<thead>", header, "</thead>", *rows, "</table>"])


def scores_csv(results):
    """One line for each model and set, full precision; without figures where nothing could be scored."""
    with_all = any("S" in scores for result in results for scores in result.sets.values())
    names = ALL_SCORES if with_all else MAE_SCORES
    lines = [["model", "set", *names, "images", "left_out", "card_MAE", "difference", "weights"]]
    for result in results:
        for name, scores in (*result.sets.items(), *result.empty.items()):
            published = [result.paper[name], result.difference(name)] if name in result.paper else ["", ""]
            figures = (scores.get(score, "") for score in names)
            numbers = scores["images"], len(scores.left_out), *published
            lines.append([result.name, name, *figures, *numbers, result.weights or ""])
    return _csv(lines)


def per_image_csv(results):
    """One line for each map, full precision; what was left out is there too, without figures."""
    names = []
    for result in results:
        for scores in result.sets.values():
            names += [name for s in scores.per_image[:1] for name in s.values if name not in names]
    lines = [["model", "set", "image", *names, "note"]]
    for result in results:
        for set_name, scores in (*result.sets.items(), *result.empty.items()):
            for scored in scores.per_image:
                figures = (scored.values.get(name, "") for name in names)
                lines.append([result.name, set_name, scored.name, *figures, "; ".join(scored.notes)])
            for problem in scores.left_out:
                lines.append([result.name, set_name, problem.name, *[""] * len(names), "left out: %s" % problem])
    return _csv(lines)


def _csv(lines):
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerows([repr(cell) if isinstance(cell, float) else cell for cell in line] for line in lines)
    return file.getvalue()
