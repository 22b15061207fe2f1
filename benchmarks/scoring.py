"""How long kdscfnet.evaluate takes, as a share of one pysodmetrics loop over the same files.

    python benchmarks/scoring.py [--maps DIR --masks DIR] [--number 1000] [--rounds 3] [--json FILE]

Without folders: the published maps of ../shared, repeated under new names until there are --number. Every round times
the three in turn; medians and their ratios are printed, and the greatest difference of any score.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import cv2  # noqa: E402

import kdscfnet  # noqa: E402
from kdscfnet.data.names import list_images  # noqa: E402
from kdscfnet.errors import UserError  # noqa: E402
from kdscfnet.text import progress  # noqa: E402
from kdscfnet.threads import available_cores  # noqa: E402

LIMITS = {"all": 0.60, "mae": 0.15}  # of the loop's time


def by_pysodmetrics(maps, masks):
    """The loop that its documentation shows: read both files, one step of each measure."""
    import py_sod_metrics as m

    measures = mae, f, e, s, wf = m.MAE(), m.Fmeasure(), m.Emeasure(), m.Smeasure(), m.WeightedFmeasure()
    for name in list_images(maps):
        levels = cv2.imread(os.path.join(maps, name + ".png"), cv2.IMREAD_GRAYSCALE)
        mask = cv2.imread(os.path.join(masks, name + ".png"), cv2.IMREAD_GRAYSCALE)
        for measure in measures:
            measure.step(levels, mask)
    f, e = f.get_results()["fm"], e.get_results()["em"]
    return {
        "MAE": mae.get_results()["mae"],
        "maxF": f["curve"].max(),
        "meanF": f["curve"].mean(),
        "adpF": f["adp"],
        "wF": wf.get_results()["wfm"],
        "S": s.get_results()["sm"],
        "maxE": e["curve"].max(),
        "meanE": e["curve"].mean(),
        "adpE": e["adp"],
    }


def repeat(maps, masks, number, folder):
    """Folders of `number` links to the maps and masks of two folders; names that both have."""
    found_maps, found_masks = list_images(maps), list_images(masks)
    names = [name for name in found_maps if name in found_masks]
    if not names:
        raise UserError("%s and %s have no name in common" % (maps, masks))
    for kind, found in (("maps", found_maps), ("masks", found_masks)):
        os.mkdir(os.path.join(folder, kind))
        for index in range(number):
            source = os.path.abspath(found[names[index % len(names)]])
            os.symlink(source, os.path.join(folder, kind, "%05d.png" % index))
    return os.path.join(folder, "maps"), os.path.join(folder, "masks")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(os.environ.get("KDSCFNET_SHARED", ROOT.parent / "shared"))
    parser.add_argument("--maps", default=str(shared / "maps" / "CSNet-L-x2" / "ECSSD"), help="PNG files")
    parser.add_argument("--masks", default=str(shared / "data" / "ECSSD" / "mask"), help="PNG files of the same names")
    parser.add_argument("--number", type=int, default=1000, help="of maps")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", help="write the figures there too")
    args = parser.parse_args()

    seconds, worst = {"pysodmetrics": [], "all": [], "mae": []}, 0.0
    with tempfile.TemporaryDirectory() as folder:
        maps, masks = repeat(args.maps, args.masks, args.number, folder)
        for _ in progress(range(args.rounds), unit=" rounds"):
            start = time.perf_counter()
            expected = by_pysodmetrics(maps, masks)
            seconds["pysodmetrics"].append(time.perf_counter() - start)
            for scores in ("all", "mae"):
                start = time.perf_counter()
                result = kdscfnet.evaluate(maps, masks, scores=scores)
                seconds[scores].append(time.perf_counter() - start)
                worst = max([worst] + [abs(result[name] - value) for name, value in expected.items() if name in result])

    medians = {name: statistics.median(values) for name, values in seconds.items()}
    ratios = {name: medians[name] / medians["pysodmetrics"] for name in LIMITS}
    print("%d maps, %d cores, median of %d rounds" % (args.number, available_cores(), args.rounds))
    print(
        "  %-28s %7.2f s  %6.1f maps/s"
        % ("pysodmetrics, one loop", medians["pysodmetrics"], args.number / medians["pysodmetrics"])
    )
    for name, limit in LIMITS.items():
        print(
            "  %-28s %7.2f s  %6.1f maps/s  %5.1f%% of the loop (limit %d%%)"
            % (
                "kdscfnet.evaluate, %s" % name,
                medians[name],
                args.number / medians[name],
                100 * ratios[name],
                100 * limit,
            )
        )
    print("  greatest difference of a score: %.1e" % worst)
    if args.json:
        from kdscfnet.files import write_json

        write_json(
            args.json,
            {
                "maps": args.number,
                "cores": available_cores(),
                "seconds": seconds,
                "ratios": ratios,
                "greatest_difference": worst,
            },
        )
    return int(worst > 1e-9 or any(ratios[name] > limit for name, limit in LIMITS.items()))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit("benchmarks/scoring.py: %s" % error)
