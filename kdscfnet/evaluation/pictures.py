"""Pictures of scores: precision-recall and F-threshold curves, and a grid of the best, median and worst maps."""
from __future__ import annotations

import collections
import io
import os

import cv2
import numpy as np

from kdscfnet.errors import BadImageError
from kdscfnet.evaluation.scores import THRESHOLDS
from kdscfnet.evaluation.tables import with_coverage
from kdscfnet.files import write_bytes
from kdscfnet.images import mask_mean, read_image, read_mask

EXAMPLES = 3  # of best, of median and of worst maps
_THUMBNAIL = 220  # pixels, the longer side
# Told apart by everybody, also in print: Okabe and Ito's colours
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31")
_STYLES = ("-", "--", "-.", ":")


def _figure(width, height):
    """A matplotlib figure that needs no screen and no pyplot state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def precision_recall(results, name):
    """Precision over recall of one set, a line for each result that has curves: a figure, or None without any."""
    return _curves(results, name, "Recall", "Precision", lambda c: (c["recall"], c["precision"]), "maxF", r"max $F_\beta$")


def f_threshold(results, name):
    """F-measure by threshold of one set: a figure, or None."""
    return _curves(results, name, "Threshold", r"$F_\beta$  ($\beta^2 = 0.3$)", lambda c: (THRESHOLDS, c["F"]), "meanF",
                   r"mean $F_\beta$")


def _curves(results, name, x_label, y_label, points, score, score_label):
    results = [result for result in results if name in result.sets and result.sets[name].curves]
    if not results:
        return None
    figure = _figure(5, 4.1)
    axes = figure.add_subplot(111)
    lowest = 1.0
    for number, result in enumerate(results):
        x, y = points(result.sets[name].curves)
        colour, style = _COLOURS[number % len(_COLOURS)], _STYLES[number // len(_COLOURS) % len(_STYLES)]
        label = "%s  (%s %.3f)" % (result.title.replace("$", r"\$"), score_label, result.sets[name][score])
        axes.plot(x, y, style, color=colour, linewidth=1.8, label=label)
        lowest = min(lowest, float(np.min(y)))
    axes.set_xlim(0, 255 if x_label == "Threshold" else 1)
    axes.set_ylim(np.floor(min(lowest, 0.9) * 10) / 10, 1)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.set_title(with_coverage(results, name), fontsize=11)
    axes.grid(True, color="#dddddd", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.legend(loc="lower left" if x_label == "Recall" else "lower center", fontsize=8, framealpha=0.9)
    figure.tight_layout()
    return figure


Example = collections.namedtuple("Example", ["group", "name"])


def choose_examples(results, name, number=EXAMPLES):
    """The best, median and worst maps of a set by MAE (the mean over the results): a list of Example, best first.

    Where there are fewer than 3 · `number` maps a map is shown once only.
    """
    by_image = collections.OrderedDict()
    for result in results:
        for scored in result.sets[name].per_image:
            by_image.setdefault(scored.name, []).append(scored.values["MAE"])
    mean = {image: float(np.mean(maes)) for image, maes in by_image.items() if len(maes) == len(results)}
    ranked = sorted(mean, key=lambda image: (mean[image], image))
    number = min(number, max(1, len(ranked) // 3))
    middle = max(0, (len(ranked) - number) // 2)
    groups = (("best", ranked[:number]), ("median", ranked[middle : middle + number]), ("worst", ranked[-number:]))
    chosen, used = [], set()
    for group, images in groups:
        chosen += [Example(group, image) for image in images if image not in used]
        used.update(images)
    return chosen


def grid(results, name, number=EXAMPLES):
    """The best, median and worst maps of one set beside image and mask: a figure, or None where there are no maps.

    With one result the three groups stand side by side, with several one below the other, as in a paper's comparison.
    """
    results = [result for result in results if name in result.sets]
    examples = choose_examples(results, name, number)
    if not examples:
        return None
    scored = [{s.name: s for s in result.sets[name].per_image} for result in results]
    with_image = any(scored[0][example.name].pair.image for example in examples)
    heads = (["image"] if with_image else []) + ["mask"] + [result.title for result in results]
    groups = collections.OrderedDict()
    for example in examples:
        groups.setdefault(example.group, []).append(example)
    side_by_side = len(results) == 1
    rows = max(map(len, groups.values())) if side_by_side else len(examples)
    columns = len(heads) * (len(groups) if side_by_side else 1)

    # gaps between the groups: empty columns or rows of a third of a picture
    gaps = len(groups) - 1
    widths = [1.0] * columns
    heights = [1.0] * rows
    for gap in range(gaps, 0, -1):
        if side_by_side:
            widths.insert(gap * len(heads), 0.12)
        else:
            heights.insert(sum(len(list(groups.values())[i]) for i in range(gap)), 0.3)
    cell = 1.55
    small, large = (11, 12) if side_by_side else (8, 9)  # a wide figure is shown smaller
    figure = _figure(cell * sum(widths) + 0.3, cell * (0.82 if with_image else 0.9) * sum(heights) + 0.55)
    layout = figure.add_gridspec(len(heights), len(widths), width_ratios=widths, height_ratios=heights, wspace=0.06,
                                 hspace=0.22, left=0.01, right=0.99, top=1 - 0.55 / figure.get_figheight(), bottom=0.03)
    row_offset = column_offset = 0
    for group, members in groups.items():
        for row, example in enumerate(members):
            pictures = _pictures(example.name, scored, with_image)
            for column, (picture, caption) in enumerate(pictures):
                axes = figure.add_subplot(layout[row_offset + row, column_offset + column])
                axes.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
                axes.set_xticks([])
                axes.set_yticks([])
                for spine in axes.spines.values():
                    spine.set_color("#999999")
                    spine.set_linewidth(0.6)
                axes.set_xlabel(caption, fontsize=small - 1, labelpad=2)
                if row == 0:
                    head = heads[column]
                    if column == 0:
                        head = "%s: %s" % (group, head)
                    axes.set_title(_short(head, 18), fontsize=small, pad=3, loc="left", fontweight="bold" if column == 0 else None)
        if side_by_side:
            column_offset += len(heads) + 1
        else:
            row_offset += len(members) + 1
    figure.suptitle(with_coverage(results, name) + ": maps of the least, median and largest MAE", fontsize=large + 1, x=0.01, ha="left",
                    y=1 - 0.06 / figure.get_figheight(), va="top")
    return figure


def _pictures(name, scored, with_image):
    """[(picture, caption)] of one example: image, mask, then the map of each result."""
    pair = scored[0][name].pair
    found = []
    if with_image:
        found.append((_thumbnail(pair.image, read_image), _short(name, 24)))
    found.append((_thumbnail(pair.mask, lambda path: mask_mean(read_mask(path))), "" if with_image else _short(name, 24)))
    for by_name in scored:
        caption = "MAE %.4f" % by_name[name].values["MAE"]
        found.append((_thumbnail(by_name[name].pair.map, lambda path: mask_mean(read_mask(path))), caption))
    return found


def _thumbnail(path, read):
    try:
        picture = read(path)
    except BadImageError:  # an image, or a file that went away since it was scored
        return np.full((90, 120), 230, np.uint8)
    scale = _THUMBNAIL / max(picture.shape[:2])
    size = [max(1, int(round(side * scale))) for side in picture.shape[1::-1]]
    return cv2.resize(picture, tuple(size), interpolation=cv2.INTER_AREA)


def _short(text, length=26):
    return text if len(text) <= length else text[: length - 1] + "…"


def encoded(figure, form, dpi=150):
    """The bytes of a figure as "png", "svg" or "pdf"."""
    file = io.BytesIO()
    # without the date the same figures give the same file
    dated = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[form]
    figure.savefig(file, format=form, dpi=dpi, metadata=dated)
    return file.getvalue()


def save(figure, path, dpi=150):
    """Write a figure; the suffix chooses the format."""
    write_bytes(path, encoded(figure, os.path.splitext(path)[1][1:], dpi))
