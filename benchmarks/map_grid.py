"""The best, median and worst maps of a test set, without the photographs, which are not ours to show:

    python benchmarks/map_grid.py grid.jpg TEST_OUTPUT MODEL SET…

TEST_OUTPUT is the folder that `kdscfnet test` wrote to: its report shows the same maps beside image and mask.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import cv2
import numpy as np

CELL = (110, 150)  # pixels: height, width
EACH = 8


def cell(path, text):
    """One map on grey ground, `text` under it: uint8 (CELL height + 16) × CELL width."""
    saliency = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    scale = min(CELL[0] / saliency.shape[0], CELL[1] / saliency.shape[1])
    size = (max(1, round(saliency.shape[1] * scale)), max(1, round(saliency.shape[0] * scale)))
    small = cv2.resize(saliency, size, interpolation=cv2.INTER_AREA)
    canvas = np.full((CELL[0] + 16, CELL[1]), 90, np.uint8)
    top, left = (CELL[0] - size[1]) // 2, (CELL[1] - size[0]) // 2
    canvas[top : top + size[1], left : left + size[0]] = small
    cv2.putText(canvas, text, (3, CELL[0] + 12), cv2.FONT_HERSHEY_SIMPLEX, 0.38, 255, 1, cv2.LINE_AA)
    return np.pad(canvas, 2, constant_values=90)


def main():
    if len(sys.argv) < 5:
        sys.exit(__doc__)
    out, folder, model = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    rows = []
    for name in sys.argv[4:]:
        with open(str(folder / "report" / "maps.csv"), newline="", encoding="utf-8") as file:
            scored = [row for row in csv.DictReader(file) if row["set"] == name]
        scored.sort(key=lambda row: float(row["MAE"]))
        middle = (len(scored) - EACH) // 2
        for title, part in (
            ("best", scored[:EACH]),
            ("median", scored[middle : middle + EACH]),
            ("worst", scored[-EACH:]),
        ):
            cells = [
                cell(folder / "maps" / model / name / (row["image"] + ".png"), "MAE %.3f" % float(row["MAE"]))
                for row in part
            ]
            label = np.full((cells[0].shape[0], 110), 90, np.uint8)
            for line, text in enumerate((name, title)):
                cv2.putText(label, text, (8, 50 + 20 * line), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 255, 1, cv2.LINE_AA)
            rows.append(np.concatenate([label, *cells], axis=1))
    if not cv2.imwrite(out, np.concatenate(rows), [cv2.IMWRITE_JPEG_QUALITY, 85]):
        sys.exit("%s could not be written" % out)


if __name__ == "__main__":
    main()
