"""What a model or a method scored, the paper's figures beside it, and scores/<model>.json."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from kdscfnet.data.sets import PAPER_SETS, in_order
from kdscfnet.evaluation.pairs import summarise
from kdscfnet.files import read_json_object, write_json


@dataclass
class Result:
    """Scores of one model (or of somebody's maps) on some sets."""

    name: str  # of its files and folders
    title: str  # for people
    sets: dict = field(default_factory=dict)  # set -> SetScores; last those of which nothing could be scored
    paper: dict = field(default_factory=dict)  # set -> the paper's MAE; {} where it is not a released model
    weights: str = None  # path; None where only maps are known
    details: dict = field(default_factory=dict)  # "size", "engine", "sha256", …

    def add(self, image_set, scores):
        """Put the scores of one set, an ImageSet, in."""
        scores.passed_over = image_set.passed_over
        self.sets[image_set.name] = scores
        self.sets = dict(sorted(self.sets.items(), key=lambda item: item[1]["images"] == 0))

    def difference(self, set_name):
        """The MAE minus the paper's, or None."""
        scores = self.sets.get(set_name, {})
        return scores["MAE"] - self.paper[set_name] if "MAE" in scores and set_name in self.paper else None

    def as_dict(self):
        """The content of scores/<model>.json."""
        sets = {}
        for name, scores in self.sets.items():
            entry = sets[name] = dict(scores)
            if self.difference(name) is not None:
                entry.update(card_MAE=self.paper[name], difference=self.difference(name))
            if scores.left_out or not scores["images"]:
                entry.update(images_expected=scores.expected, left_out=[p.as_dict() for p in scores.left_out])
            if scores.notes:
                entry["notes"] = [{"name": image, "note": note} for image, note in scores.notes]
            if scores.passed_over:
                entry["passed_over"] = list(scores.passed_over)
        return {"model": self.name, "weights": self.weights, **self.details, "sets": sets}


def write_scores(result, folder):
    """Write `folder`/<model>.json; returns its path.

    Sets that an earlier run measured with the same weights at the same size stay in the file, and say so where they
    were made with another engine: it grows with every set, while the tables and the report are of one run. Of maps
    whose weights are not known only the last run's scores are there.
    """
    path = os.path.join(folder, result.name + ".json")
    scores, before = result.as_dict(), read_json_object(path)
    if scores.get("sha256") and all(scores.get(key) == before.get(key) for key in ("sha256", "size")):
        sets = scores.pop("sets")
        for name, earlier in before["sets"].items() if isinstance(before.get("sets"), dict) else ():
            if name not in sets and isinstance(earlier, dict):
                other = before.get("engine") != scores.get("engine")
                sets[name] = dict({"engine": before.get("engine")} if other else {}, **earlier)
        if "backbone" in before:  # which `evaluate` cannot know from the record of maps
            scores["backbone"] = before["backbone"]
        scores["sets"] = {name: sets[name] for name in in_order(sets)}
    write_json(path, scores)
    return path


def made_by(folder):
    """What `kdscfnet test` recorded of the maps in `folder` (weights, sha256, size, engine), {} where that is unknown.

    The record lies beside the folder: maps/<model>/<SET>.json.
    """
    return read_json_object(os.path.normpath(folder) + ".json")


def sets_of(results):
    """The names of all sets in some results, also of those without figures, in the order of tables."""
    return in_order(name for result in results for name in result.sets)


def remarks(results):
    """What a reader of the figures must know: a list of sentences, the same in every output."""
    found = [
        "%s on %s: nothing could be scored, of %d images: %s" % (r.title, name, s.expected, summarise(s.left_out, 0))
        for r in results
        for name, s in r.sets.items()
        if not s["images"]
    ]
    for name in sets_of(results):
        on_set = [(result, result.sets[name]) for result in results if name in result.sets]
        found += dict.fromkeys(text for _, scores in on_set for text in scores.passed_over)
        on_set = [(result, scores) for result, scores in on_set if scores["images"]]
        for result, scores in on_set:
            if scores.left_out:
                counts = result.title, name, scores["images"], scores.expected, summarise(scores.left_out, 0)
                found.append("%s on %s: %d of %d images scored (--allow-missing); left out: %s" % counts)
        expected = on_set[0][1].expected if on_set else None
        if any(name in result.paper for result, _ in on_set) and expected != PAPER_SETS.get(name, expected):
            found.append("%s has %d images here; the paper's figure is of %d" % (name, expected, PAPER_SETS[name]))
        for result, scores in on_set:
            kinds = {}
            for image, note in scores.notes:
                kinds.setdefault(note.split(" (")[0], []).append(image)
            for note, images in kinds.items():
                listed = ", ".join(images[:5]) + (", …" if len(images) > 5 else "")
                found.append("%s on %s: %s: %d (%s)" % (result.title, name, note, len(images), listed))
    return found
