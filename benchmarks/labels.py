"""When does distillation win? MAE over the number of labels, distillation as a line:

    python benchmarks/labels.py labels.png TEST_OUTPUT RUN…

RUN are folders of `kdscfnet train` with a validation set; TEST_OUTPUT is where `kdscfnet test --weights
RUN/final.pdparams` wrote to. A run tells what it learnt from: masks, maps of a teacher, or both. Runs of several seeds
are one point, their mean; each is a dot or a thin line. Prints the same as a table in Markdown.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from kdscfnet.evaluation.pictures import COLOURS, new_figure
from kdscfnet.files import file_sha256

HELD_OUT = "held out"


def read_run(folder, scores):
    """{"targets", "images", "seed", "MAE": {set: value}} of a run; scores: {SHA-256 of weights: {set: MAE}}."""
    about = json.loads(Path(folder, "run.json").read_text(encoding="utf-8"))
    measured = re.findall(r" val MAE ([0-9.]+)", Path(folder, "log.txt").read_text(encoding="utf-8"))
    tested = scores.get(file_sha256(str(Path(folder, "final.pdparams"))), {})
    if not measured or not tested:
        sys.exit("%s: it was not measured, or TEST_OUTPUT does not hold its scores" % folder)
    values = dict({HELD_OUT: float(measured[-1])}, **tested)
    return {"targets": about["targets"], "images": about["images"], "seed": about["seed"], "MAE": values}


def read_scores(output):
    found = {}
    for path in sorted(Path(output, "scores").glob("*.json")):
        scores = json.loads(path.read_text(encoding="utf-8"))
        found[scores["sha256"]] = {name: values["MAE"] for name, values in scores["sets"].items()}
    return found


def main():
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    scores = read_scores(sys.argv[2])
    groups = {}
    for folder in sys.argv[3:]:
        run = read_run(folder, scores)
        groups.setdefault((run["targets"], run["images"]), []).append(run)
    groups = dict(sorted(groups.items()))
    sets = list(next(iter(groups.values()))[0]["MAE"])
    print("| learnt from | images | seeds | %s |\n|---|---|---|%s" % (" | ".join(sets), "---|" * len(sets)))
    for (targets, images), runs in groups.items():
        cells = [", ".join("%.4f" % run["MAE"][name] for run in runs) for name in sets]
        print("| %s | %d | %s | %s |" % (targets, images, ", ".join(str(r["seed"]) for r in runs), " | ".join(cells)))

    figure = new_figure(4.2 * len(sets), 3.8)
    labelled = [key for key in groups if key[0] == "masks"]
    for axes, name in zip(figure.subplots(1, len(sets), squeeze=False)[0], sets):
        means = {key: sum(run["MAE"][name] for run in runs) / len(runs) for key, runs in groups.items()}
        counts = [images for _, images in labelled]
        axes.plot(counts, [means[key] for key in labelled], color=COLOURS[0], label="labels alone")
        for key in labelled:
            axes.plot([key[1]] * len(groups[key]), [r["MAE"][name] for r in groups[key]], "o", color=COLOURS[0], ms=4)
        for number, key in enumerate([key for key in groups if key not in labelled], 1):
            title = "%s of %d images" % (key[0].replace("teacher maps", "a teacher's maps"), key[1])
            axes.axhline(means[key], color=COLOURS[number], linestyle="--", label=title)
            for run in groups[key]:
                axes.axhline(run["MAE"][name], color=COLOURS[number], linewidth=0.5)
        axes.set_xscale("log")
        axes.set_xticks(counts, ["%d" % count for count in counts])
        axes.minorticks_off()
        axes.set_xlabel("images with labels")
        axes.set_title("MAE, %s" % name)
        axes.grid(alpha=0.3)
    figure.legend(*axes.get_legend_handles_labels(), loc="lower center", ncol=3, fontsize=8, frameon=False)
    figure.tight_layout(rect=(0, 0.12, 1, 1))
    figure.savefig(sys.argv[1], dpi=110)


if __name__ == "__main__":
    main()
