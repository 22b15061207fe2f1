"""Tables of scores: for the terminal, Markdown, LaTeX, HTML and CSV."""

from __future__ import annotations

import csv
import html
import io
from dataclasses import dataclass, field

from kdscfnet.evaluation.results import sets_of
from kdscfnet.evaluation.scores import ALL_SCORES, LOWER_IS_BETTER, MAE_SCORES
from kdscfnet.text import columns

# How scores are written for people: plain, HTML, LaTeX
_PLAIN = {"MAE_unstretched": "MAE unstr."}
_HTML = {
    "MAE_unstretched": "MAE<br>unstretched",
    "maxF": "F<sub>β</sub> max",
    "meanF": "F<sub>β</sub> mean",
    "adpF": "F<sub>β</sub> adp",
    "wF": "F<sub>β</sub><sup>w</sup>",
    "S": "S<sub>α</sub>",
    "maxE": "E<sub>φ</sub> max",
    "meanE": "E<sub>φ</sub> mean",
    "adpE": "E<sub>φ</sub> adp",
}
_LATEX = {
    "MAE_unstretched": r"MAE$_\mathrm{unstr.}$",
    "maxF": r"$F_\beta^{\max}$",
    "meanF": r"$F_\beta^\mathrm{mean}$",
    "adpF": r"$F_\beta^\mathrm{adp}$",
    "wF": r"$F_\beta^w$",
    "S": r"$S_\alpha$",
    "maxE": r"$E_\phi^{\max}$",
    "meanE": r"$E_\phi^\mathrm{mean}$",
    "adpE": r"$E_\phi^\mathrm{adp}$",
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


def as_markdown(table):
    def line(cells):
        return "| %s |" % " | ".join(cells)

    lines = ["### " + table.title, "", line(_PLAIN.get(cell, cell) for cell in table.header)]
    lines.append("|---|" + "---:|" * (len(table.header) - 1))
    for number, row in enumerate(table.rows):
        cells = [cell.replace("|", "\\|") for cell in row]
        lines.append(line("**%s**" % c if (number, column) in table.best else c for column, c in enumerate(cells)))
    return "\n".join(lines) + "\n"


def as_latex(table):
    """A booktabs table."""
    lines = [
        r"\begin{table}[t]",
        r"\centering",
        r"\caption{%s}" % escape_latex(table.title),
        r"\begin{tabular}{l%s}" % ("r" * (len(table.header) - 1)),
        r"\toprule",
        " & ".join(_LATEX.get(cell, escape_latex(cell)) for cell in table.header) + r" \\",
        r"\midrule",
    ]
    for number, row in enumerate(table.rows):
        cells = [escape_latex(row[0])] + [_latex_figure(cell) for cell in row[1:]]
        cells = [r"\textbf{%s}" % c if (number, column) in table.best else c for column, c in enumerate(cells)]
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join(lines + [r"\bottomrule", r"\end{tabular}", r"\end{table}"]) + "\n"


def _latex_figure(cell):
    if cell == "-":
        return "--"
    return "$%s$%s" % (cell[0], cell[1:]) if cell[0] in "+-" else cell


def escape_latex(text):
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return "".join(special.get(c, "\\" + c if c in "#$%&_{}" else c) for c in text)


def as_html(table):
    def row(tag, cells):
        return "<tr>%s</tr>" % "".join("<%s>%s</%s>" % (tag, cell, tag) for cell in cells)

    lines = ["<table>", "<thead>", row("th", [_HTML.get(cell, html.escape(cell)) for cell in table.header]), "</thead>"]
    for number, cells in enumerate(table.rows):
        shown = [html.escape(cell) for cell in cells]
        lines.append(
            row("td", ["<b>%s</b>" % c if (number, column) in table.best else c for column, c in enumerate(shown)])
        )
    return "\n".join(lines + ["</table>"])


def scores_csv(results):
    """One line for each model and set, full precision; without figures where nothing could be scored."""
    with_all = any("S" in scores for result in results for scores in result.sets.values())
    names = ALL_SCORES if with_all else MAE_SCORES
    lines = [["model", "set", *names, "images", "left_out", "card_MAE", "difference", "weights"]]
    for result in results:
        for name, scores in (*result.sets.items(), *result.empty.items()):
            published = [result.paper[name], result.difference(name)] if name in result.paper else ["", ""]
            lines.append(
                [
                    result.name,
                    name,
                    *(scores.get(score, "") for score in names),
                    scores["images"],
                    len(scores.left_out),
                    *published,
                    result.weights or "",
                ]
            )
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
