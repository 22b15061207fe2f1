"""The demo: generated scenes, a small teacher trained on labels, a student distilled from it without, and a table.

The networks and losses are the recipe's; the numbers are small, so that two CPU cores end in minutes. The teacher is a
student-sized network, trained for longer: a ResNet-50 would take most of an hour here.
"""

from __future__ import annotations

import contextlib
import copy
import os
import sys
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from kdscfnet.recipes import Recipe

# What the demo changes in a recipe. From random numbers the backbone must learn as fast as the rest; batches of less
# than eight give BatchNorm statistics that do not hold at test time.
NUMBERS = {
    "sizes": (128,),
    "test_size": 128,
    "batch_size": 8,
    "max_lr": 0.03,
    "min_lr": 0.0003,
    "warmup_epochs": 1,
    "backbone_lr_factor": 1.0,
    "log_every": 10,
    # what our own recipes set for a large set
    "early_sizes": (),
    "hold_out": 0,
    "precise_bn": 0,
}
# Epochs of 120, 120 and 400 images. The teacher's batches are of four, for more steps.
LABELLED_EPOCHS, TEACHER_EPOCHS, DISTILLATION_EPOCHS = 30, 22, 14
TEACHER_BATCH = 4
# Region Dice alone, without the boundary loss, learns more slowly and bears a higher rate.
DISTILLATION_MAX_LR = 0.05
SWIN_SIZES = {"sizes": (96,), "test_size": 96}
# What the demo brings itself; its student's masks are no part of a set to hold images out of
NOT_WITH_DEMO = ("data", "images", "teacher", "teacher_weights", "teacher_maps", "val", "hold_out", "init")


class Part(NamedTuple):
    """One training of the demo."""

    folder: str
    title: str
    name: str  # in the table
    recipe: Recipe
    data: str  # one of kdscfnet.data.demo.PARTS
    flags: dict  # of `kdscfnet train` that differ from the user's


def plan(recipe, given, root):
    """The trainings of the demo in the folder `root`: [Part]; `given`: the numbers that the user set."""
    from kdscfnet.recipes import RECIPES

    def part(folder, title, name, recipe, epochs, data, **flags):
        numbers = dict(NUMBERS, epochs=epochs)
        if recipe.backbone == "swin_b":
            numbers.update(SWIN_SIZES, epochs=max(1, epochs // 10))
        elif recipe.backbone == "resnet50":
            numbers["epochs"] = max(1, epochs // 4)
        if folder == "teacher":
            numbers["batch_size"] = TEACHER_BATCH
        elif folder == "student":
            numbers["max_lr"] = DISTILLATION_MAX_LR
        numbers.update(given)
        return Part(folder, title, name, replace(recipe, **numbers), data, flags)

    if not recipe.teacher:
        return [part("model", recipe.title + ", on labels", recipe.title, recipe, LABELLED_EPOCHS, "DEMO-TR")]
    student = RECIPES["fs-m3"]
    return [
        part(
            "teacher",
            "teacher, on labels",
            "teacher",
            replace(student, name="teacher"),
            TEACHER_EPOCHS,
            "DEMO-TR",
            pretrained="none",
        ),
        part(
            "student",
            "student, distilled without labels",
            "student, distilled",
            replace(recipe, teacher="mobilenetv3"),
            DISTILLATION_EPOCHS,
            "DEMO-UNLABELLED",
            teacher_weights=os.path.join(root, "teacher", "final.pdparams"),
        ),
        part(
            "labels",
            "the same student, on the labels alone",
            "student, labels alone",
            replace(student, name="labels"),
            LABELLED_EPOCHS,
            "DEMO-TR",
        ),
    ]


def run_demo(recipe, given, args):
    """Carry out `kdscfnet train RECIPE --demo`; `given`: the numbers that the user set. Returns the exit code."""
    from kdscfnet.training.start import resume_command

    try:
        return _run_demo(recipe, given, args)
    except KeyboardInterrupt:  # between the trainings, which stop in their own way
        print("kdscfnet train: stopped by Ctrl-C. %s" % resume_command(args), file=sys.stderr)
        return 130


def _run_demo(recipe, given, args):
    from kdscfnet.data.demo import PARTS, make_demo_set
    from kdscfnet.data.find import find_image_set
    from kdscfnet.device import import_paddle

    import_paddle(threads=1)  # at this size as fast as two, and the same bits on every machine
    from kdscfnet.device import select_device
    from kdscfnet.errors import UserError
    from kdscfnet.training.parallel import Parallel, started_in_parallel
    from kdscfnet.training.start import run_training
    from kdscfnet.training.trainer import Run

    for flag in NOT_WITH_DEMO:
        if getattr(args, flag):
            raise UserError("--demo brings its own data and teacher: leave out --%s" % flag.replace("_", "-"))
    device = select_device(args.device)
    parallel = Parallel() if started_in_parallel() else None
    first = parallel is None or parallel.rank == 0
    say = print if first else (lambda *_, **__: None)
    say(device, flush=True)
    root = args.output or os.path.join("runs", "demo-" + recipe.name)
    data = os.path.join(root, "data")
    parts = plan(recipe, given, root)
    # no process writes before all have looked
    with parallel.all_or_none() if parallel else contextlib.nullcontext():
        _look_at(root, data, args.resume == "auto")
        for part in parts:
            _check(part, args, PARTS[part.data][1], parallel.world if parallel else 1)
    if parallel:
        parallel.by_first(lambda: make_demo_set(data))
    else:
        make_demo_set(data)
    held_out = find_image_set(os.path.join(data, "DEMO-TE"))
    say("demo scenes in %s: 120 with labels, 400 without, 60 held out" % data, flush=True)

    weights, rows = {}, []
    for part in parts:
        part_args = copy.copy(args)
        part_args.demo, part_args.output, part_args.resume = False, os.path.join(root, part.folder), "auto"
        part_args.val, part_args.val_every = held_out.root, max(1, part.recipe.epochs // 3)
        setattr(part_args, "images" if part.recipe.teacher else "data", os.path.join(data, part.data))
        for flag, value in part.flags.items():
            setattr(part_args, flag, value)
        sizes = " or ".join(map(str, part.recipe.sizes))
        say("\n%s: %d epochs, images of %s pixels" % (part.title, part.recipe.epochs, sizes), flush=True)
        code = run_training(part.recipe, part_args)
        if code:
            return code
        weights[part.name] = Run(part_args.output).finished()
    if not first:
        return 0
    maps = {}
    for part in parts:
        path, used = weights[part.name], part.recipe
        maps[part.name] = _maps(path, used.backbone, held_out, used.test_size)
        kind = "with labels" if PARTS[part.data][2] else "without"
        seen = "%d epochs of %d images %s" % (used.epochs, PARTS[part.data][1], kind)
        rows.append((part.name, _mae(maps[part.name], held_out), seen, path))
    constant, level = best_constant(held_out)
    rows.append(("best constant map (level %d)" % level, constant, "–", ""))
    picture = os.path.join(root, "grid.png")
    _grid(picture, held_out, maps)
    table = _table(rows, len(held_out))
    from kdscfnet.files import write_text

    write_text(os.path.join(root, "table.md"), table)
    print("\n" + table)
    print("image, mask, %s: %s" % (", ".join(maps), picture))
    print("board: visualdl --logdir %s" % root)
    return 0


def _look_at(root, data, resume):
    """Raise UserError where the demo cannot be written to `root`."""
    from kdscfnet.errors import UserError

    if os.path.exists(root) and not os.path.isdir(root):
        raise UserError("--output %s is a file: name a folder" % root)
    if not os.path.isdir(root) or not os.listdir(root):
        return
    if not resume:
        raise UserError(
            "--output %s is not empty: go on with that demo by --resume auto, or name another folder" % root
        )
    if not os.path.isdir(data):
        raise UserError("--output %s holds no demo: name another folder" % root)


def _check(part, args, images, world):
    """Raise UserError for what the training of `part` would refuse, so that it is said before anything is written."""
    import paddle

    from kdscfnet.errors import UserError
    from kdscfnet.inference.export import what_lacks
    from kdscfnet.models.scfnet import SCFNet
    from kdscfnet.training.start import refuse_amp_on_cpu
    from kdscfnet.weights.fetch import load_backbone

    recipe = part.recipe
    refuse_amp_on_cpu(args, paddle.device.get_device().startswith("cpu"))
    if recipe.min_lr > recipe.max_lr:
        raise UserError(
            "--demo trains %s from --min-lr %g to --max-lr %g: give both, the second one larger"
            % (part.name, recipe.min_lr, recipe.max_lr)
        )
    turns = args.accumulate * world
    if recipe.batch_size * turns > images:
        raise UserError(
            "a batch of %d is larger than the demo's %d images: use --batch-size %d or less"
            % (recipe.batch_size * turns, images, max(1, images // turns))
        )
    if recipe.teacher and args.teacher_engine == "onnxruntime" and what_lacks():
        raise UserError(what_lacks())
    if part.flags.get("pretrained", args.pretrained) != "none":
        load_backbone(SCFNet(recipe.backbone), args.pretrained)


def _maps(path, backbone, image_set, size):
    from kdscfnet.images import read_image
    from kdscfnet.models.scfnet import SCFNet
    from kdscfnet.training.validation import predict_map
    from kdscfnet.weights.files import load_weights

    model = SCFNet(backbone)
    load_weights(model, path)
    model.eval()
    return [predict_map(model, read_image(image), size) for image in image_set.images]


def _masks(image_set):
    from kdscfnet.training.validation import read_mask_levels

    return [read_mask_levels(path) for path in image_set.masks]


def _mae(maps, image_set):
    from kdscfnet.evaluation.scores import MAE_SCORES, score_map

    return float(np.mean([score_map(m, mask, MAE_SCORES)[0]["MAE"] for m, mask in zip(maps, _masks(image_set))]))


def best_constant(image_set):
    """(MAE, level) of the one grey level that, as everybody's map, comes nearest to the masks.

    It is not stretched, as a constant cannot be. The error of level c is linear in c for each mask, so black or white
    is the best.
    """
    fraction = float(np.mean([(mask >= 128).mean() for mask in _masks(image_set)]))
    return min((fraction, 0), (1 - fraction, 255))


def _grid(path, image_set, maps, count=8):
    from kdscfnet.images import read_image, write_png
    from kdscfnet.training.validation import grid_row, read_mask_levels, stack_rows

    rows = []
    for index in range(0, len(image_set), max(1, len(image_set) // count)):
        columns = [read_image(image_set.images[index]), read_mask_levels(image_set.masks[index])]
        rows.append(grid_row(columns + [m[index] for m in maps.values()], 120))
    write_png(path, stack_rows(rows[:count]))


def _table(rows, images):
    lines = ["| on %d held-out scenes | MAE | trained on | weights |" % images, "|---|---|---|---|"]
    lines += ["| %s | %.4f | %s | %s |" % row for row in rows]
    return "\n".join(lines) + "\n"
