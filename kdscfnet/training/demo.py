"""The demo: generated scenes, a teacher of many labels, a student distilled from it without any, and a table.

The distilled student is compared with the same network on the few labels that a user might have: the same start, steps
and batch. The networks and losses are the recipe's; the numbers are small, so that two CPU cores end in minutes. The
teacher is a student-sized network: a ResNet-50 would take most of an hour here.
"""

from __future__ import annotations

import os
import sys
from dataclasses import asdict, replace
from typing import NamedTuple

import cv2
import numpy as np

from kdscfnet.data import demo as scenes
from kdscfnet.data.find import find_image_set
from kdscfnet.errors import UserError
from kdscfnet.files import read_json_object, write_text
from kdscfnet.images import read_image, read_levels, write_png
from kdscfnet.inference.onnx_file import require_exporter
from kdscfnet.models.scfnet import SCFNet
from kdscfnet.recipes import RECIPES, Recipe
from kdscfnet.schedule import steps_per_epoch
from kdscfnet.training import start
from kdscfnet.training.options import TrainOptions
from kdscfnet.training.run import NOT_EMPTY, RunFolder, entries_of
from kdscfnet.training.validation import picture_of, predict_map, validator
from kdscfnet.weights.backbone import load_backbone
from kdscfnet.weights.files import load_weights

# What the demo changes in a recipe. The steps are few, so the backbone must learn as fast as the rest; batches of less
# than eight give BatchNorm statistics that do not hold at test time.
NUMBERS = {
    "sizes": (128,),
    "test_size": 160,  # finer edges than at 128, and a smaller error
    "batch_size": 8,
    "max_lr": 0.05,
    "min_lr": 0.0005,
    "backbone_lr_factor": 1.0,
    "log_every": 10,
    # what our own recipes set for a large set
    "early_sizes": (),
    "hold_out": 0,
    "precise_bn": 0,
}
DISTILLATION_MAX_LR = 0.12  # region Dice alone learns more slowly than with the boundaries, and bears a higher rate
EPOCHS = 4  # of 400 images, those that are the same counted again: every network takes 200 steps
START = "ppocrv3"  # the bundled backbone, which all networks of a student's size start from
SLOWNESS = {"mobilenetv3": 1, "resnet50": 2, "swin_b": 4}  # the larger a network, the fewer its epochs
SWIN_SIZES = {"sizes": (96,), "test_size": 96}
# What the demo brings itself; the images that its student learns from have no masks to be measured by
NOT_WITH_DEMO = ("data", "images", "teacher", "teacher_weights", "teacher_maps", "val", "hold_out", "init")
_PICTURES = 8  # rows of the grid
_TITLE_HEIGHT = 24  # pixels


class Part(NamedTuple):
    """One training of the demo."""

    title: str
    name: str  # in the table
    recipe: Recipe
    options: TrainOptions
    scenes: str  # what it learns from: one of kdscfnet.data.demo.PARTS


def demo_parts(recipe, given, options, root):
    """The trainings of the demo in the folder `root`: [Part]. given: the numbers of the recipe that the user set."""

    def part(folder, title, name, recipe, scene_set):
        numbers = dict(NUMBERS, **(SWIN_SIZES if recipe.backbone == "swin_b" else {}))
        numbers["epochs"] = given.get("epochs", EPOCHS // SLOWNESS[recipe.backbone])
        numbers["warmup_epochs"] = numbers["epochs"] / 10
        flags = {"data": [os.path.join(root, "data", scene_set)], "val": os.path.join(root, "data", "DEMO-TE")}
        if recipe.teacher:
            numbers["max_lr"] = DISTILLATION_MAX_LR
            flags["teacher_weights"] = os.path.join(root, "teacher", "final.pdparams")
        recipe = replace(recipe, **dict(numbers, **given))
        if recipe.backbone == "mobilenetv3" and options.pretrained == "none":
            flags["pretrained"] = START
        seldom = max(1, recipe.epochs // 3)
        flags.update(val_every=seldom, picture_every=max(seldom, options.picture_every))
        flags.update(output=os.path.join(root, folder), resume=True)
        return Part(title, name, recipe, replace(options, **flags), scene_set)

    if not recipe.teacher:
        return [part("model", recipe.title + ", on labels", recipe.title, recipe, "DEMO-TR")]
    teacher = replace(RECIPES["fs-m3"], name="teacher")
    student, few = replace(recipe, teacher="mobilenetv3"), replace(teacher, name="labels")
    return [
        part("teacher", "teacher, on many labels", "teacher", teacher, "DEMO-TR"),
        part("student", "student, distilled without labels", "student, distilled", student, "DEMO-UNLABELLED"),
        part("labels", "the same student, on few labels alone", "student, few labels", few, "DEMO-FEW"),
    ]


def run_demo(recipe, given, options):
    """Carry out `kdscfnet train RECIPE --demo`. given: the numbers that the user set. Returns the exit code."""
    chosen = dict(asdict(options), hold_out=given.get("hold_out"))
    for flag in NOT_WITH_DEMO:
        if chosen[flag]:
            raise UserError("--demo brings its own data and teacher: leave out --%s" % flag.replace("_", "-"))
    process, on_cpu, say = start.open_device(options)
    root = options.output or os.path.join("runs", "demo-" + recipe.name)
    parts = demo_parts(recipe, given, options, root)
    with process.all_or_none():  # no process writes before all have looked
        _check_folder(root, options.resume)
        for part in parts:
            _check(part, process.world, on_cpu)
    try:
        process.by_first(lambda: scenes.make_demo_set(os.path.join(root, "data")))
        counts = tuple(count for _, count, _, _ in scenes.PARTS.values())
        text = "demo scenes in %s: %d with labels, of which %d are the few, %d without, %d held out"
        say(text % (os.path.join(root, "data"), *counts), flush=True)
        for part in parts:
            sizes = " or ".join(map(str, part.recipe.sizes))
            say("\n%s: %d epochs, images of %s pixels" % (part.title, part.recipe.epochs, sizes), flush=True)
            code = start.run_training(part.recipe, part.options)
            if code:
                return code
        if process.rank == 0:
            _compare(parts, root)
    except KeyboardInterrupt:  # between the trainings, which stop in their own way
        print("kdscfnet train: stopped by Ctrl-C. %s" % options.how_to_resume, file=sys.stderr)
        return 130
    return 0


def _check_folder(root, resume):
    """Raise UserError where the demo cannot be written to `root`."""
    entries = entries_of(root)
    if entries and not resume:
        raise UserError(NOT_EMPTY % (root, "demo"))
    if entries and not os.path.isdir(os.path.join(root, "data")):
        raise UserError("--output %s holds no demo: name another folder" % root)


def _check(part, world, on_cpu):
    """Raise UserError for what the training of `part` would refuse."""
    part.options.check(part.recipe, on_cpu)
    _, count, copies, _ = scenes.PARTS[part.scenes]
    part.options.fit_batch(part.recipe, count * copies, world, lambda line: None)
    if part.recipe.teacher and part.options.teacher_engine == "onnxruntime":
        require_exporter()
    if part.options.pretrained != "none":
        load_backbone(SCFNet(part.recipe.backbone), part.options.pretrained)


def _compare(parts, root):
    """Write and print the table of the demo's networks, and the grid of their maps, on the scenes held out."""
    held_out = find_image_set(os.path.join(root, "data", "DEMO-TE"))
    shown = range(0, len(held_out), max(1, len(held_out) // _PICTURES))[:_PICTURES]
    grid = [[read_image(held_out.images[i]), read_levels(held_out.masks[i])[0]] for i in shown]
    lines = ["| on %d held-out scenes | MAE | learnt from | steps | weights |" % len(held_out), "|---|---|---|---|---|"]
    for part in parts:
        folder, size = RunFolder(part.options.output), part.recipe.test_size
        model = SCFNet(part.recipe.backbone)
        load_weights(model, folder.final)
        model.eval()
        mae = validator(held_out, size)(model)["MAE"]
        _, images, _, with_masks = scenes.PARTS[part.scenes]
        learnt_from = "%d images %s" % (images, "with masks" if with_masks else "without, and the teacher's maps")
        run = read_json_object(folder.settings)
        batch = run["batch_size"] * run["accumulate"] * run["processes"]
        steps = "%d of %d images" % (run["epochs"] * steps_per_epoch(run["images"], batch), batch)
        lines.append("| %s | %.4f | %s | %s | %s |" % (part.name, mae, learnt_from, steps, folder.final))
        for row in grid:
            row.append(predict_map(model, row[0], size))
    mae, level = best_constant(held_out)
    lines.append("| best constant map (level %d) | %.4f | – | – |  |" % (level, mae))
    picture = os.path.join(root, "grid.png")
    titles = [_title(text) for text in ("image", "mask", *(part.name for part in parts))]
    write_png(picture, picture_of([(_TITLE_HEIGHT, titles), *((scenes.SIDE[0], row) for row in grid)]))
    table = "\n".join(lines) + "\n"
    write_text(os.path.join(root, "table.md"), table)
    print("\n" + table)
    print("picture: %s\nboard: visualdl --logdir %s" % (picture, root))


def _title(text):
    """The title of a column of the grid: black on white, uint8 H×W, as wide as a scene."""
    cell = np.full((_TITLE_HEIGHT, scenes.SIDE[1]), 255, np.uint8)
    return cv2.putText(cell, text, (2, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.45, 0, 1, cv2.LINE_AA)


def best_constant(image_set):
    """(MAE, level) of the one grey level that, as everybody's map, comes nearest to the masks.

    It is not stretched, as a constant cannot be. The error of level c is linear in c for each mask, so black or white
    is the best.
    """
    fraction = float(np.mean([(read_levels(path)[0] >= 128).mean() for path in image_set.masks]))
    return min((fraction, 0), (1 - fraction, 255))
