"""The demo: generated scenes, a small teacher trained on labels, a student distilled from it without, and a table.

The networks and losses are the recipe's; the numbers are small, so that two CPU cores end in minutes. The teacher is a
student-sized network, trained for longer: a ResNet-50 would take most of an hour here.
"""

from __future__ import annotations

import contextlib
import copy
import os
from dataclasses import replace

import numpy as np

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
}
# Epochs of 120, 120 and 400 images. The teacher's batches are of four, for more steps.
LABELLED_EPOCHS, TEACHER_EPOCHS, DISTILLATION_EPOCHS = 30, 22, 14
TEACHER_BATCH = 4
# Region Dice alone, without the boundary loss, learns more slowly and bears a higher rate.
DISTILLATION_MAX_LR = 0.05
SWIN_SIZES = {"sizes": (96,), "test_size": 96}


def run_demo(recipe, given, args):
    """Carry out `kdscfnet train RECIPE --demo`; `given`: the numbers that the user set. Returns the exit code."""
    from kdscfnet.compat import import_paddle
    from kdscfnet.data.datasets import find_image_set
    from kdscfnet.data.demo import make_demo_set

    import_paddle(threads=1)  # at this size as fast as two, and the same bits on every machine
    from kdscfnet.engine.session import run_training
    from kdscfnet.engine.trainer import Run
    from kdscfnet.errors import UserError

    for flag in ("data", "images", "teacher_weights", "teacher_maps", "val", "init"):
        if getattr(args, flag):
            raise UserError("--demo brings its own data and teacher: leave out --%s" % flag.replace("_", "-"))
    from kdscfnet.engine.device import select_device
    from kdscfnet.engine.parallel import Parallel, started_in_parallel

    device = select_device(args.device)
    parallel = Parallel() if started_in_parallel() else None
    first = parallel is None or parallel.rank == 0
    say = print if first else (lambda *_, **__: None)
    say(device, flush=True)
    root = args.output or os.path.join("runs", "demo-" + recipe.name)
    # no process writes before all have looked
    with parallel.all_or_none() if parallel else contextlib.nullcontext():
        _look_at(root, args.resume == "auto")
    data = os.path.join(root, "data")
    if parallel:
        parallel.by_first(lambda: make_demo_set(data))
    else:
        make_demo_set(data)
    held_out = find_image_set(os.path.join(data, "DEMO-TE"))
    say("demo scenes in %s: 120 with labels, 400 without, 60 held out" % data, flush=True)

    def part(name, title, recipe, epochs, **flags):
        numbers = dict(NUMBERS, epochs=epochs)
        if recipe.backbone == "swin_b":
            numbers.update(SWIN_SIZES, epochs=max(1, epochs // 10))
        elif recipe.backbone == "resnet50":
            numbers["epochs"] = max(1, epochs // 4)
        if name == "teacher":
            numbers["batch_size"] = TEACHER_BATCH
        elif name == "student":
            numbers["max_lr"] = DISTILLATION_MAX_LR
        numbers.update(given)
        recipe = replace(recipe, **numbers)
        part_args = copy.copy(args)
        part_args.demo, part_args.output, part_args.resume = False, os.path.join(root, name), "auto"
        part_args.val, part_args.val_every = held_out.root, max(1, recipe.epochs // 3)
        for flag, value in flags.items():
            setattr(part_args, flag, value)
        say(
            "\n%s: %d epochs, images of %s pixels" % (title, recipe.epochs, " or ".join(map(str, recipe.sizes))),
            flush=True,
        )
        code = run_training(recipe, part_args)
        if parallel:
            parallel.barrier()  # process 0 has written the final weights
        return code, Run(part_args.output).finished(), recipe

    from kdscfnet.recipes import RECIPES

    labels, unlabelled = os.path.join(data, "DEMO-TR"), os.path.join(data, "DEMO-UNLABELLED")
    weights, seen, rows = {}, {}, []

    def note(name, used, root, kind):
        seen[name] = "%d epochs of %d images %s" % (used.epochs, len(find_image_set(root, masks="ignored")), kind)

    if recipe.teacher:
        student = RECIPES["fs-m3"]
        code, weights["teacher"], used = part(
            "teacher",
            "teacher, on labels",
            replace(student, name="teacher"),
            TEACHER_EPOCHS,
            data=labels,
            pretrained="none",
        )
        note("teacher", used, labels, "with labels")
        if code:
            return code
        distilled = replace(recipe, teacher="mobilenetv3")
        code, weights["student, distilled"], used = part(
            "student",
            "student, distilled without labels",
            distilled,
            DISTILLATION_EPOCHS,
            images=unlabelled,
            teacher_weights=weights["teacher"],
        )
        note("student, distilled", used, unlabelled, "without")
        if code:
            return code
        code, weights["student, labels alone"], used = part(
            "labels",
            "the same student, on the labels alone",
            replace(student, name="labels"),
            LABELLED_EPOCHS,
            data=labels,
        )
        note("student, labels alone", used, labels, "with labels")
    else:
        code, weights[recipe.title], used = part(
            "model", recipe.title + ", on labels", recipe, LABELLED_EPOCHS, data=labels
        )
        note(recipe.title, used, labels, "with labels")
    if code or not first:
        return code
    maps = {}
    for name, path in weights.items():
        maps[name] = _maps(path, used.backbone, held_out, used.test_size)
        rows.append((name, _mae(maps[name], held_out), seen[name], path))
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


def _look_at(root, resume):
    """Raise UserError where the demo cannot be written to `root`."""
    from kdscfnet.errors import UserError

    if not resume and os.path.isdir(root) and os.listdir(root):
        raise UserError(
            "--output %s is not empty: go on with that demo by --resume auto, or name another folder" % root
        )
    if os.path.exists(root) and not os.path.isdir(root):
        raise UserError("--output %s is a file: name a folder" % root)


def _maps(path, backbone, image_set, size):
    from kdscfnet.engine.validation import predict_map
    from kdscfnet.images import read_image
    from kdscfnet.models.scfnet import SCFNet
    from kdscfnet.pretrained.safe_load import load_weights

    model = SCFNet(backbone)
    load_weights(model, path)
    model.eval()
    return [predict_map(model, read_image(image), size) for image in image_set.images]


def _masks(image_set):
    from kdscfnet.engine.validation import read_mask_levels

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
    from kdscfnet.engine.validation import grid_row, read_mask_levels, stack_rows
    from kdscfnet.images import read_image, write_png

    rows = []
    for index in range(0, len(image_set), max(1, len(image_set) // count)):
        columns = [read_image(image_set.images[index]), read_mask_levels(image_set.masks[index])]
        rows.append(grid_row(columns + [m[index] for m in maps.values()], 120))
    write_png(path, stack_rows(rows[:count]))


def _table(rows, images):
    lines = ["| on %d held-out scenes | MAE | trained on | weights |" % images, "|---|---|---|---|"]
    lines += ["| %s | %.4f | %s | %s |" % row for row in rows]
    return "\n".join(lines) + "\n"
