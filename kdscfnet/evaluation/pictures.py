"""Pictures of scores: precision-recall and F-threshold curves, and a grid of the best, median and worst maps."""

from __future__ import annotations

import io

import cv2
import numpy as np

from kdscfnet.errors import BadImageError
from kdscfnet.evaluation.scores import THRESHOLDS
from kdscfnet.evaluation.tables import with_coverage
from kdscfnet.images import read_image, read_levels

EXAMPLES = 3  # of best, of median and of worst maps
_FIELD = (180, 240)  # pixels: height, width of a picture in the grid
# Told apart by everybody, also in print: Okabe and Ito's colours
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31")
_STYLES = ("-", "--", "-.", ":")


def new_figure(width, height):
    """A matplotlib figure that needs no screen and no pyplot state."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height))


def literal(text):
    """A name as matplotlib shows it letter by letter: between two dollar signs it would read a formula.

    It cannot draw what a name that is not UTF-8 holds: that is escaped as in the text files.
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8").replace("$", r"\$")


# kind: what is on the axes, and the score in the legend
CURVES = {
    "pr": ("Recall", "Precision", r"max $F_\beta$", "maxF"),
    "f": ("Threshold", r"$F_\beta$  ($\beta^2 = 0.3$)", r"mean $F_\beta$", "meanF"),
}


def curves(results, name, kind):
    """Precision over recall ("pr") or F-measure by threshold ("f") of one set: a figure, or None without curves."""
    x_label, y_label, score_label, score = CURVES[kind]
    results = [result for result in results if name in result.sets and result.sets[name].curves]
    if not results:
        return None
    figure = new_figure(5, 4.1)
    axes = figure.add_subplot(111)
    over_recall, lowest = kind == "pr", 0.9
    for number, result in enumerate(results):
        scores = result.sets[name]
        x = scores.curves["recall"] if over_recall else THRESHOLDS
        y = scores.curves["precision" if over_recall else "F"]
        colour, style = COLOURS[number % len(COLOURS)], _STYLES[number // len(COLOURS) % len(_STYLES)]
        label = "%s  (%s %.3f)" % (literal(result.title), score_label, scores[score])
        label = " " + label if label.startswith("_") else label  # or matplotlib leaves the line out of the legend
        axes.plot(x, y, style, color=colour, linewidth=1.8, label=label)
        lowest = min(lowest, float(np.min(y)))
    axes.set(xlim=(0, 1 if over_recall else 255), ylim=(np.floor(lowest * 10) / 10, 1))
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.set_title(literal(with_coverage(results, name)), fontsize=11)
    axes.grid(True, color="#dddddd", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.legend(loc="lower left" if over_recall else "lower center", fontsize=8, framealpha=0.9)
    figure.tight_layout()
    return figure


def choose_examples(results, name):
    """The best, median and worst maps of a set by MAE (the mean over the results): {group: [names, best first]}.

    A map is in one group only; a group without maps is left out.
    """
    by_image = {}
    for result in results:
        for scored in result.sets[name].per_image:
            by_image.setdefault(scored.name, []).append(scored.values["MAE"])
    mean = {image: float(np.mean(maes)) for image, maes in by_image.items() if len(maes) == len(results)}
    ranked = sorted(mean, key=lambda image: (mean[image], image))
    number = min(EXAMPLES, max(1, len(ranked) // 3))
    middle = max(0, (len(ranked) - number) // 2)
    groups = {"best": ranked[:number], "median": ranked[middle : middle + number], "worst": ranked[-number:]}
    if len(ranked) < 3:
        groups = {"best": ranked[:1], "worst": ranked[1:]}
    return {group: images for group, images in groups.items() if images}


def grid(results, name):
    """The best, median and worst maps of one set beside image and mask: a figure, or None where there are no maps.

    With one result the three groups stand side by side, with several one below the other, as in a paper's comparison.
    """
    results = [result for result in results if name in result.sets and result.sets[name].per_image]
    groups = choose_examples(results, name)
    if not groups:
        return None
    scored = [{s.name: s for s in result.sets[name].per_image} for result in results]
    with_image = any(scored[0][example].pair.image for examples in groups.values() for example in examples)
    side_by_side = len(results) == 1
    heads = (["image"] if with_image else []) + ["mask"] + (["map"] if side_by_side else [r.title for r in results])
    widths = [1.0] * len(heads)
    if side_by_side:  # a narrow empty column, or a low empty row, between the groups
        widths = (widths + [0.12]) * (len(groups) - 1) + widths
        heights = [1.0] * max(map(len, groups.values()))
    else:
        heights = sum(([1.0] * len(examples) + [0.25] for examples in groups.values()), [])[:-1]

    small = 10 if side_by_side else 8  # points; a wide figure is shown smaller
    width, height = 1.6 * sum(widths) + 0.2, 1.45 * sum(heights) + 0.75
    figure = new_figure(width, height)
    edges = {"left": 0.1 / width, "right": 1 - 0.1 / width, "top": 1 - 0.62 / height, "bottom": 0.25 / height}
    ratios = {"width_ratios": widths, "height_ratios": heights, "wspace": 0.05, "hspace": 0.16}
    layout = figure.add_gridspec(len(heights), len(widths), **ratios, **edges)
    row_offset = column_offset = 0
    for group, examples in groups.items():
        for row, example in enumerate(examples):
            for column, (picture, caption) in enumerate(_pictures(example, scored, with_image)):
                axes = figure.add_subplot(layout[row_offset + row, column_offset + column])
                axes.imshow(picture, interpolation="nearest")
                axes.set_axis_off()
                below = {"ha": "center", "va": "top", "transform": axes.transAxes}
                axes.text(0.5, -0.02, literal(caption), fontsize=small - 1, **below)
                if row == 0:
                    head = "%s: %s" % (group, heads[column]) if column == 0 else heads[column]
                    head = head if len(head) <= 20 else head[:19] + "…"
                    weight = "bold" if column == 0 else None
                    axes.set_title(literal(head), fontsize=small, pad=3, fontweight=weight)
        if side_by_side:
            column_offset += len(heads) + 1
        else:
            row_offset += len(examples) + 1
    whose = " of %s" % results[0].title if side_by_side else ""
    title = "%s: the best, median and worst maps%s by MAE" % (with_coverage(results, name), whose)
    figure.suptitle(literal(title), fontsize=small + 2, x=0.1 / width, ha="left", y=1 - 0.08 / height, va="top")
    return figure


def _pictures(name, scored, with_image):
    """[(picture, caption)] of one example: image, mask, then the map of each result. Pictures: uint8 H×W×3."""
    pair = scored[0][name].pair
    label = name if len(name) <= 18 else "…" + name[-17:]  # the end of a name tells files apart
    found = [(_thumbnail(pair.image, read_image), label)] if with_image else []
    found.append((_thumbnail(pair.mask, _read_grey), "" if with_image else label))
    for by_name in scored:
        found.append((_thumbnail(by_name[name].pair.map, _read_grey), "MAE %.4f" % by_name[name].values["MAE"]))
    return found


def _read_grey(path):
    return cv2.cvtColor(read_levels(path)[0], cv2.COLOR_GRAY2RGB)


def _thumbnail(path, read):
    """A picture with a thin frame, in the middle of a white 4:3 field."""
    try:
        picture = read(path)
    except BadImageError:  # the image cannot be read, or went away since it was scored
        picture = np.full((3, 4, 3), 235, np.uint8)
    scale = min(_FIELD[0] / picture.shape[0], _FIELD[1] / picture.shape[1])
    height, width = (min(most, max(1, int(round(side * scale)))) for most, side in zip(_FIELD, picture.shape))
    picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    picture[[0, -1]] = picture[:, [0, -1]] = 150
    top, left = (_FIELD[0] - height) // 2, (_FIELD[1] - width) // 2
    edges = top, _FIELD[0] - height - top, left, _FIELD[1] - width - left
    return cv2.copyMakeBorder(picture, *edges, cv2.BORDER_CONSTANT, value=(255, 255, 255))


def encoded(figure, form, dpi=150):
    """The bytes of a figure as "png", "svg" or "pdf"."""
    file = io.BytesIO()
    # without the date the same figures give the same file
    dated = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[form]
    figure.savefig(file, format=form, dpi=dpi, metadata=dated)
    return file.getvalue()
