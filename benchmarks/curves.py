"""Learning curves of runs, in one picture: python benchmarks/curves.py curves.png NAME=RUN_FOLDER…

Left the loss of every epoch, right the MAE on what was held out, over the epochs.
"""

from __future__ import annotations

import csv
import os
import re
import sys
from pathlib import Path

from matplotlib.ticker import MaxNLocator

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from kdscfnet.evaluation.pictures import COLOURS, new_figure


def read_run(folder):
    """[(epoch, mean loss, MAE or None)] of a run's folder."""
    sums = {}
    with open(os.path.join(folder, "losses.csv"), newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            sums.setdefault(int(row["epoch"]) + 1, []).append(float(row["loss"]))
    measured = {}
    with open(os.path.join(folder, "log.txt"), encoding="utf-8") as file:
        for line in file:
            found = re.match(r"epoch (\d+)/.* val MAE ([0-9.]+)", line)
            if found:
                measured[int(found.group(1))] = float(found.group(2))
    return [(epoch, sum(losses) / len(losses), measured.get(epoch)) for epoch, losses in sorted(sums.items())]


def main():
    if len(sys.argv) < 3 or not all("=" in word for word in sys.argv[2:]):
        sys.exit(__doc__)
    figure = new_figure(10, 3.8)
    left, right = figure.subplots(1, 2)
    for number, word in enumerate(sys.argv[2:]):
        name, folder = word.split("=", 1)
        rows = read_run(folder)
        style = {"color": COLOURS[number % len(COLOURS)], "marker": "o", "markersize": 3, "label": name}
        left.plot([row[0] for row in rows], [row[1] for row in rows], **style)
        rows = [row for row in rows if row[2] is not None]
        right.plot([row[0] for row in rows], [row[2] for row in rows], **style)
    for axes, title in ((left, "mean loss of the epoch"), (right, "MAE on the held-out images")):
        axes.set_xlabel("epoch")
        axes.set_title(title)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(sys.argv[1], dpi=110)


if __name__ == "__main__":
    main()
