"""Train one of the paper's five systems. Every number of the recipe is a flag; the defaults are the authors'.

kdscfnet train fs-m3 --data data/DUTS-TR
kdscfnet train kd-r50 --images data/KD-SOD80K --teacher-weights weights/SCFNet_R50.pdparams
kdscfnet train kd-r50 --demo
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from dataclasses import fields, replace

import kdscfnet
from kdscfnet.commands.flags import add_flags, number, options_of
from kdscfnet.recipes import ALL_RECIPES, BACKBONES


def _size(text):
    """'352' → 352, '320x256' → (320, 256), height first."""
    from kdscfnet.errors import UserError
    from kdscfnet.weights.weightfile import as_size

    try:
        height, width = as_size(text, smallest=32)
    except UserError:
        raise argparse.ArgumentTypeError("%r: a size is a number from 32 on, or HEIGHTxWIDTH" % text)
    return height if text.strip().isdigit() else (height, width)  # a number is one in run.json


def _sizes(text):
    return tuple(_size(part) for part in text.split(","))


def _early(text):
    """'20:96,128;30:160' → ((20, (96, 128)), (30, (160,)))."""
    stages = []
    for part in text.split(";"):
        until, colon, sizes = part.partition(":")
        if not colon or not until.strip().isdecimal() or (stages and int(until) <= stages[-1][0]):
            raise argparse.ArgumentTypeError("%r: expected UNTIL_EPOCH:SIZES, as in 20:96,128;30:160" % text)
        stages.append((int(until), _sizes(sizes)))
    return tuple(stages)


def add_arguments(parser):
    recipes = sorted(ALL_RECIPES)
    add_flags(parser, {"recipe RECIPE": "one of " + ", ".join(recipes)}, recipe={"choices": recipes})
    options = {
        "teacher": {"choices": BACKBONES},
        "teacher_engine": {"choices": ("auto", "paddle", "onnxruntime")},
        "resume": {"nargs": "?", "const": "auto", "default": "no", "choices": ("auto", "no")},
    }
    types = {
        number(int, 0, 2**31 - 1): "seed",
        number(int, 1): "val_every accumulate keep picture_every batch_size epochs log_every",
        number(int, 0): "workers checkpoint_steps hold_out precise_bn",
        number(float, 0, low_included=False): "max_lr",
        number(float, 0): "checkpoint_minutes warmup_epochs min_lr weight_decay backbone_lr_factor",
        number(float, 0, 1): "momentum map_weight",
        _size: "test_size",
        _sizes: "sizes",
        _early: "early_sizes",
    }
    for kind, names in types.items():
        options.update((name, {"type": kind}) for name in names.split())

    texts = {
        "--data DIR...": "labelled training set, or the folder that holds it (data); or several",
        "--images DIR...": "images without labels, for distillation (data/KD-SOD80K); several sets, too",
        "--teacher-weights FILE": "the teacher of a kd recipe",
        "--teacher": "the teacher's backbone, where it is not the recipe's",
        "--teacher-maps DIR...": "distil from maps made before, named as the images, instead of running the teacher "
        "(docs/FIDELITY.md says how the two differ); one folder, or one for each set",
        "--teacher-engine": "what runs the teacher (auto: ONNX Runtime on a CPU where it is installed, else Paddle)",
        "--pretrained FILE": "weights of the backbone: a file, auto (of ImageNet: the weights folder, the cache, the "
        "download), ppocrv3 (bundled: of a text detector that began with ImageNet) or none (default)",
        "--init FILE": "start from the weights of a whole network, to fine-tune it",
        "--val DIR": "labelled set to measure MAE on while training",
        "--val-every K": "every K epochs (1)",
        "--skip-bad": "leave out files that cannot be read whole, and count them",
    }
    add_flags(parser.add_argument_group("data and weights"), texts, **options)

    texts = {
        "--output DIR": "folder of the run (runs/RECIPE)",
        "--resume": "auto: go on from the newest whole checkpoint in --output, or begin where there is none (no)",
        "--device NAME": "auto, cpu, gpu or gpu:N (auto)",
        "--seed": "of everything that is drawn (0)",
        "--workers N": "processes that load data (4 on a GPU; on a CPU, which training keeps busy, 0)",
        "--accumulate N": "add up the gradients of N batches before a step, for a large batch on a small GPU (1)",
        "--amp": "mixed precision, on GPUs",
        "--checkpoint-minutes M": "save the state at least so often (10); every epoch's end besides",
        "--checkpoint-steps N": "and after every N steps (0: not)",
        "--keep N": "how many states to keep (3)",
        "--picture-every K": "pictures on the board every K epochs (5)",
        "--demo": "a machine with nothing on it: a small generated data set, a few minutes on a CPU, "
        "a table at the end",
    }
    add_flags(parser.add_argument_group("the run"), texts, **options)

    texts = {
        "--batch-size --batch X": "images of one step, process and turn (128)",
        "--epochs X": "(69)",
        "--warmup-epochs X": "linear warm-up (5)",
        "--max-lr X": "learning rate after the warm-up (0.064)",
        "--min-lr X": "learning rate at both ends (0.00064)",
        "--momentum X": "(0.9)",
        "--weight-decay X": "(0.0005)",
        "--backbone-lr-factor X": "the backbone's part of the learning rate (0.1)",
        "--sizes X": "sizes of which one is drawn for a batch, with commas (224,256,288,320,352; Swin-B and its "
        "student 384)",
        "--early-sizes X": "smaller sizes for the first epochs: UNTIL_EPOCH:SIZES;… (none)",
        "--hold-out X": "keep N images of the set out of training and measure on them (0)",
        "--precise-bn X": "after every epoch, estimate BatchNorm's statistics anew on N training images; for small "
        "batches (0)",
        "--map-weight X": "learn from labels and from --teacher-maps: the maps' part of the loss (0)",
        "--test-size X": "size at validation (352; Swin-B and its student 384)",
        "--log-every X": "steps between readings of the losses (30; kd recipes 100)",
    }
    add_flags(parser.add_argument_group("numbers of the recipe (default: the authors')"), texts, **options)


def how_to_resume(args):
    """The sentence that says how to go on with this training: the command as it was given, with --resume auto."""
    if int(os.environ.get("PADDLE_TRAINERS_NUM", "1")) > 1:
        return "Go on with the same launch command and --resume auto"
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--resume", nargs="?")
    words = parser.parse_known_args(args.argv)[1] + ["--resume", "auto"]
    script = os.environ.get("KDSCFNET_SCRIPT")  # scripts/train_fs.sh and train_kd.sh name themselves
    if script:
        command = ["bash", script, *words[1:]]
    elif os.path.abspath(sys.argv[0]) == os.path.abspath(kdscfnet.__file__).replace("__init__", "__main__"):
        command = [sys.executable, "-m", "kdscfnet", *words]
    else:
        command = ["kdscfnet", *words]
    return "Go on with: " + " ".join(map(shlex.quote, command))


def run(args):
    from kdscfnet.device import import_paddle
    from kdscfnet.training.options import TrainOptions

    recipe = ALL_RECIPES[args.recipe]
    options = replace(options_of(TrainOptions, args), resume=args.resume == "auto", how_to_resume=how_to_resume(args))
    numbers = {field.name for field in fields(recipe)} - {"name", "title", "backbone", "data"}
    if not recipe.teacher:  # TrainOptions.check refuses --teacher
        numbers.remove("teacher")
    given = {name: value for name, value in vars(args).items() if name in numbers and value is not None}
    recipe = replace(recipe, **given)
    # the demo: at its size one thread is as fast as two, and gives the same bits on every machine
    import_paddle(threads=1 if args.demo else None)
    if args.demo:
        from kdscfnet.training.demo import run_demo

        return run_demo(recipe, given, options)
    from kdscfnet.training.start import run_training

    return run_training(recipe, options)
