"""The folder of a run: what lies in it, and whether a training may begin or go on there."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from dataclasses import MISSING, asdict, fields

from kdscfnet.errors import UserError
from kdscfnet.files import file_sha256, read_json_object, remove_leftovers, write_bytes, write_json
from kdscfnet.recipes import Recipe
from kdscfnet.training import checkpoint

NOT_EMPTY = "--output %s is not empty: go on with that %s by --resume auto, or name another folder"
_LOG_LINE = re.compile(rb"epoch \d+/\d+  step (\d+)  .*\n$")


class RunFolder:
    """The folder of a run, and what is in it."""

    def __init__(self, folder):
        self.folder = str(folder)
        self.settings = os.path.join(self.folder, "run.json")  # the run goes on only with the same
        self.checkpoints = os.path.join(self.folder, "checkpoints")  # the newest whole states, to go on from
        # an epoch's weights each, of the last third, and best.pdparams by validation MAE
        self.weights = os.path.join(self.folder, "weights")
        self.losses = os.path.join(self.folder, "losses.csv")  # a row a step
        self.log = os.path.join(self.folder, "log.txt")  # a line an epoch
        self.final = os.path.join(self.folder, "final.pdparams")  # the weights at the end: the run is complete
        self.board = os.path.join(self.folder, "board")  # for visualdl --logdir

    def begin(self, settings, resume):
        """Check the folder before anything is written; returns the checkpoint to go on from, or None.

        settings: of the run, as `run_settings` makes them. resume: whether to go on where the folder holds a run.
        """
        entries = entries_of(self.folder)
        ours = {os.path.basename(folder) for folder in (self.checkpoints, self.weights, self.board)}
        # nothing but empty folders of ours: a full disk kept run.json from being written
        if set(entries) <= ours and not any(os.listdir(os.path.join(self.folder, entry)) for entry in entries):
            return None
        if not resume:
            raise UserError(NOT_EMPTY % (self.folder, "run"))
        before = read_json_object(self.settings)
        if "name" not in before:
            what = "holds no run of kdscfnet train (no whole run.json): name another folder"
            raise UserError("--output %s %s" % (self.folder, what))
        # an older run.json lacks keys that were added later: a recipe's number had its default then, others are unknown
        defaults = {field.name: field.default for field in fields(Recipe) if field.default is not MISSING}
        before = {**json.loads(json.dumps(defaults)), **before}
        before.pop("image_sets", None)  # said, not compared: folders may be renamed and sets joined
        different = first_difference(before, {key: settings.get(key) for key in before})
        if different:
            what = "holds another run (%s was %s, is %s): name another folder" % different
            raise UserError("--output %s %s" % (self.folder, what))
        newest = checkpoint.newest_checkpoint(self.checkpoints)
        if newest is None and not os.path.exists(self.final) and checkpoint.list_checkpoints(self.checkpoints):
            raise UserError("%s: none of its checkpoints is whole: name another --output" % self.folder)
        return newest

    def what_resumes(self):
        """What to tell whoever goes on with a run that ended early: whether there is a state to go on from."""
        if checkpoint.list_checkpoints(self.checkpoints):
            return "the last checkpoint in %s is whole" % self.checkpoints
        return "no checkpoint was saved yet"

    def create(self, settings):
        write_json(self.settings, settings)  # first: a folder without it is nobody's run
        for folder in (self.checkpoints, self.weights, self.board):
            os.makedirs(folder, exist_ok=True)
        remove_leftovers((self.folder, self.checkpoints, self.weights))

    def forget_after(self, step):
        """Remove the lines of log.txt that a killed run wrote after the checkpoint of `step`; they will come again.

        Lines that are no run's (somebody's notes) stay; a line that was cut goes.
        """
        with contextlib.suppress(FileNotFoundError):
            with open(self.log, "rb") as file:
                lines = file.readlines()
            kept = []
            for line in lines:
                ours = _LOG_LINE.match(line)
                cut = line.startswith(b"epoch ") and not line.endswith(b"\n")
                if int(ours.group(1)) <= step if ours else not cut:
                    kept.append(line if line.endswith(b"\n") else line + b"\n")
            if kept != lines:
                write_bytes(self.log, b"".join(kept))


def entries_of(output):
    """The names in the folder of --output, [] where there is none, without what killed processes left half written."""
    if not os.path.exists(output):
        return []
    if not os.path.isdir(output):
        raise UserError("--output %s is a file: name a folder" % output)
    return [name for name in os.listdir(output) if not name.startswith(".tmp-")]


def run_settings(recipe, options, image_set, counts, world):
    """The contents of run.json: what must be the same for a run to go on. Folders may move; what is in them counts.

    image_set, counts: of `find_training_data`. world: the number of processes.
    """
    targets = " and ".join(["masks"] * bool(image_set.masks) + ["teacher maps"] * bool(image_set.maps))
    # maps of several teachers have the same names, and hardly ever the same sizes
    map_files = ["%s %d" % (os.path.basename(path), os.path.getsize(path)) for path in image_set.maps]
    pretrained = options.pretrained  # a file by its contents, other words as they are
    pretrained = file_sha256(pretrained)[:16] if os.path.isfile(pretrained) else pretrained
    settings = {
        "seed": options.seed,
        "accumulate": options.accumulate,
        "amp": options.amp,
        "images": len(image_set),
        "image_sets": counts,
        "image_names": _digest(map(os.path.basename, image_set.images)),
        "targets": targets or "teacher",
        "teacher_weights": options.teacher_weights.sha256[:16] if options.teacher_weights else None,
        "teacher_map_files": _digest(map_files) if map_files else None,
        "pretrained": pretrained,
        "init": options.init.sha256[:16] if options.init else None,
        "processes": world,
        **asdict(recipe),
    }
    return json.loads(json.dumps(settings))  # with lists for tuples


def _digest(lines):
    """A short fingerprint of texts in their order."""
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def first_difference(one, other):
    """The first key in which two dicts of settings differ, with both values, three texts; None where there is none."""
    for key in sorted({**one, **other}):
        if one.get(key) != other.get(key):
            texts = [json.dumps(each.get(key)) for each in (one, other)]
            return (key, *(text if len(text) < 60 else text[:57] + "..." for text in texts))
    return None
