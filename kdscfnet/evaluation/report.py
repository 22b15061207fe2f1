"""The report folder: tables as CSV, Markdown and LaTeX, curves and grids as pictures, and one page that shows all."""

from __future__ import annotations

import base64
import contextlib
import csv
import datetime
import html
import os
import re
from string import Template

import kdscfnet
from kdscfnet.evaluation import pictures, tables
from kdscfnet.evaluation.results import remarks, sets_of
from kdscfnet.files import write_bytes, write_text

_MOST_NOTES = 200  # that the page lists for one set; the CSV of maps has all


def write_report(results, folder, warnings=()):
    """Write the report of some results.

    Args:
        results: list of Result, in the order of the tables.
        folder: where the files go: report.html, scores.csv, maps.csv, tables.md, tables.tex, and for each set
            <SET>-pr.png/.pdf, <SET>-f.png/.pdf (not for MAE alone) and <SET>-maps.png.
        warnings: further sentences for the top of every table file.

    Returns the path of the page. Every file is whole or not there; pictures of the report that was there before go.
    """
    found = tables.tables(results)
    notes = list(warnings) + remarks(results)
    listed = ["".join("- %s\n" % note for note in notes)] if notes else []
    head = "% Needs \\usepackage{booktabs}\n" + "".join("%% %s\n" % note.replace("\n", " ") for note in notes)
    _remove_pictures(folder)
    write_text(os.path.join(folder, "scores.csv"), tables.scores_csv(results))
    write_text(os.path.join(folder, "maps.csv"), tables.per_image_csv(results))
    write_text(os.path.join(folder, "tables.md"), "\n".join([*map(tables.as_markdown, found), *listed]))
    write_text(os.path.join(folder, "tables.tex"), "\n".join([head, *map(tables.as_latex, found)]))
    sections = [_section(table, results, _pictures_of(table.set_name, results, folder)) for table in found[1:]]
    path = os.path.join(folder, "report.html")
    write_text(path, _page(results, found[0], sections, notes))
    return path


def _pictures_of(name, results, folder):
    """Write the pictures of one set to `folder`. Returns a list of HTML: the curves, the grid, where there are any."""
    curves = []
    for kind in pictures.CURVES:
        figure = pictures.curves(results, name, kind)
        if figure is not None:
            for form, dpi in (("png", 200), ("pdf", 150)):
                write_bytes(_picture(folder, name, "%s.%s" % (kind, form)), pictures.encoded(figure, form, dpi))
            curves.append(_image(pictures.encoded(figure, "svg"), "svg+xml", "%s of %s" % (kind, name), "curve"))
    parts = ['<div class="curves">%s</div>' % "".join(curves)] if curves else []
    figure = pictures.grid(results, name)
    if figure is not None:
        data = pictures.encoded(figure, "png", dpi=130)
        write_bytes(_picture(folder, name, "maps.png"), data)
        parts.append(_scrolled(_image(data, "png", "best, median and worst maps of %s" % name, "grid", figure)))
    return parts


def _picture(folder, name, ending):
    """The path of one of a set's pictures: `ECSSD-pr.png`."""
    return os.path.join(folder, "%s-%s" % (re.sub(r"[^\w.-]", "_", name), ending))


def _remove_pictures(folder):
    """Those of the sets in the report that is in `folder`: this one may have fewer sets, or no curves."""
    try:
        with open(os.path.join(folder, "scores.csv"), encoding="utf-8", newline="") as file:
            names = {line["set"] for line in csv.DictReader(file) if line.get("set") is not None}
    except (OSError, ValueError, csv.Error):
        return
    for name in names:
        for ending in ("pr.png", "pr.pdf", "f.png", "f.pdf", "maps.png"):
            with contextlib.suppress(OSError):  # it may have had no such picture
                os.unlink(_picture(folder, name, ending))


def _image(data, kind, alt, style, figure=None):
    """An <img> with its data inside, of at most 125 pixels for an inch of `figure`."""
    width = "" if figure is None else ' style="max-width: %dpx"' % round(125 * figure.get_figwidth())
    encoded = base64.b64encode(data).decode("ascii")
    return '<img class="%s"%s alt="%s" src="data:image/%s;base64,%s">' % (style, width, html.escape(alt), kind, encoded)


def _section(table, results, shown):
    name = table.set_name
    parts = ['<section id="%s">' % html.escape(name), "<h2>%s</h2>" % html.escape(table.title)]
    parts += [_scrolled(tables.as_html(table)), *shown]
    for result in results:
        scores = result.sets.get(name)
        if scores and (scores.left_out or scores.notes):
            lines = ["left out: %s" % problem for problem in scores.left_out]
            lines += ["%s: %s" % note for note in scores.notes]
            more = len(lines) - _MOST_NOTES
            items = "".join("<li>%s</li>" % html.escape(line) for line in lines[:_MOST_NOTES])
            items += "<li>… and %d more: see maps.csv</li>" % more if more > 0 else ""
            listed = html.escape(result.title), len(lines), items
            parts.append("<details><summary>%s: %d notes on single maps</summary><ul>%s</ul></details>" % listed)
    return "\n".join(parts + ["</section>"])


def _scrolled(table):
    return '<div class="scroll">%s</div>' % table


def _page(results, table, sections, notes):
    with open(os.path.join(os.path.dirname(__file__), "page.html"), encoding="utf-8") as file:
        template = Template(file.read())
    rows = []
    for result in results:
        details = ", ".join("%s %s" % item for item in result.details.items() if item[0] != "sha256")
        digest = result.details.get("sha256")
        weights = html.escape(os.path.basename(result.weights)) if result.weights else "maps only"
        if digest:
            weights += ' <code title="SHA-256 %s">%s…</code>' % (digest, digest[:12])
        cells = html.escape(result.title), weights, html.escape(details)
        rows.append("<tr><td>%s</td><td>%s</td><td>%s</td></tr>" % cells)
    listed = "".join("<li>%s</li>" % html.escape(note) for note in notes)
    banner = '<div class="notes"><b>Read with this in mind</b><ul>%s</ul></div>' % listed if notes else ""
    compared = any(result.difference(name) is not None for result in results for name in result.sets)
    links = "".join('<a href="#%s">%s</a>' % (html.escape(name), html.escape(name)) for name in sets_of(results))
    return template.substitute(
        banner=banner,
        paper="The paper’s figure and the difference stand beside the MAE of released models." if compared else "",
        links=links,
        mae=_scrolled(tables.as_html(table)),
        models="\n".join(rows),
        sections="\n".join(sections),
        title=html.escape(", ".join(sets_of(results))),
        when=datetime.datetime.now().strftime("%Y-%m-%d %H:%M"),
        version=html.escape(kdscfnet.__version__),
    )
