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


def _number(kind, low, high=None, low_included=True):
    def parse(text):
        value = kind(text)
        high_enough = value >= low if low_included else value > low  # what nan is not
        if high_enough and value < float("inf") and (high is None or value <= high):
            return value
        span = "%s %s%s" % ("from" if low_included else "more than", low, "" if high is None else " to %s" % high)
        raise argparse.ArgumentTypeError("%s is out of range (%s)" % (text, span))

    parse.__name__ = kind.__name__  # argparse names it where the text is no number at all
    return parse


def add_arguments(parser):
    parser.add_argument(
        "recipe", choices=sorted(ALL_RECIPES), metavar="RECIPE", help="one of " + ", ".join(sorted(ALL_RECIPES))
    )

    group = parser.add_argument_group("data and weights")
    group.add_argument(
        "--data", nargs="+", metavar="DIR", help="labelled training set, or the folder that holds it (data); or several"
    )
    group.add_argument(
        "--images",
        nargs="+",
        metavar="DIR",
        help="images without labels, for distillation (data/KD-SOD80K); several sets, too",
    )
    group.add_argument("--teacher-weights", metavar="FILE", help="the teacher of a kd recipe")
    group.add_argument("--teacher", choices=BACKBONES, help="the teacher's backbone, where it is not the recipe's")
    group.add_argument(
        "--teacher-maps",
        nargs="+",
        metavar="DIR",
        help="distil from maps made before, named as the images, instead "
        "of running the teacher (docs/FIDELITY.md says how the two differ); one folder, or one for each set",
    )
    group.add_argument(
        "--teacher-engine",
        choices=("auto", "paddle", "onnxruntime"),
        help="what runs the teacher (auto: ONNX Runtime on a CPU where it is installed, else Paddle)",
    )
    group.add_argument(
        "--pretrained",
        default="none",
        metavar="FILE",
        help="weights of the backbone: a file, auto (of ImageNet: the weights folder, the cache, the download), "
        "ppocrv3 (bundled: of a text detector that began with ImageNet) or none (default)",
    )
    group.add_argument("--init", metavar="FILE", help="start from the weights of a whole network, to fine-tune it")
    group.add_argument("--val", metavar="DIR", help="labelled set to measure MAE on while training")
    group.add_argument("--val-every", type=_number(int, 1), metavar="K", help="every K epochs (1)")
    group.add_argument(
        "--skip-bad", action="store_true", help="leave out files that cannot be read whole, and count them"
    )

    group = parser.add_argument_group("the run")
    group.add_argument("--output", metavar="DIR", help="folder of the run (runs/RECIPE)")
    group.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        default="no",
        choices=("auto", "no"),
        help="auto: go on from the newest whole checkpoint in --output, or begin where there is none (no)",
    )
    group.add_argument("--device", default="auto", metavar="NAME", help="auto, cpu, gpu or gpu:N (auto)")
    group.add_argument("--seed", type=_number(int, 0, 2**31 - 1), default=0, help="of everything that is drawn (0)")
    group.add_argument(
        "--workers",
        type=_number(int, 0),
        metavar="N",
        help="processes that load data (4 on a GPU; on a CPU, which training keeps busy, 0)",
    )
    group.add_argument(
        "--accumulate",
        type=_number(int, 1),
        default=1,
        metavar="N",
        help="add up the gradients of N batches before a step, for a large batch on a small GPU (1)",
    )
    group.add_argument("--amp", action="store_true", help="mixed precision, on GPUs")
    group.add_argument(
        "--checkpoint-minutes",
        type=_number(float, 0),
        default=10.0,
        metavar="M",
        help="save the state at least so often (10); every epoch's end besides",
    )
    group.add_argument(
        "--checkpoint-steps", type=_number(int, 0), default=0, metavar="N", help="and after every N steps (0: not)"
    )
    group.add_argument("--keep", type=_number(int, 1), default=3, metavar="N", help="how many states to keep (3)")
    group.add_argument(
        "--picture-every", type=_number(int, 1), default=5, metavar="K", help="pictures on the board every K epochs (5)"
    )
    group.add_argument(
        "--demo",
        action="store_true",
        help="a machine with nothing on it: a small generated data set, a few minutes on a CPU, a table at the end",
    )

    group = parser.add_argument_group("numbers of the recipe (default: the authors')")
    for flag, kind, text in (
        ("--batch-size", _number(int, 1), "images of one step, process and turn (128)"),
        ("--epochs", _number(int, 1), "(69)"),
        ("--warmup-epochs", _number(float, 0), "linear warm-up (5)"),
        ("--max-lr", _number(float, 0, low_included=False), "learning rate after the warm-up (0.064)"),
        ("--min-lr", _number(float, 0), "learning rate at both ends (0.00064)"),
        ("--momentum", _number(float, 0, 1), "(0.9)"),
        ("--weight-decay", _number(float, 0), "(0.0005)"),
        ("--backbone-lr-factor", _number(float, 0), "the backbone's part of the learning rate (0.1)"),
        (
            "--sizes",
            _sizes,
            "sizes of which one is drawn for a batch, with commas (224,256,288,320,352; Swin-B and its student 384)",
        ),
        ("--early-sizes", _early, "smaller sizes for the first epochs: UNTIL_EPOCH:SIZES;… (none)"),
        ("--hold-out", _number(int, 0), "keep N images of the set out of training and measure on them (0)"),
        (
            "--precise-bn",
            _number(int, 0),
            "after every epoch, estimate BatchNorm's statistics anew on N training images; for small batches (0)",
        ),
        (
            "--map-weight",
            _number(float, 0, 1),
            "learn from labels and from --teacher-maps: the maps' part of the loss (0)",
        ),
        ("--test-size", _size, "size at validation (352; Swin-B and its student 384)"),
        ("--log-every", _number(int, 1), "steps between readings of the losses (30; kd recipes 100)"),
    ):
        names = [flag] + (["--batch"] if flag == "--batch-size" else [])
        group.add_argument(*names, type=kind, metavar="X", help=text)


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
    words = dict(vars(args), resume=args.resume == "auto", how_to_resume=how_to_resume(args))
    options = TrainOptions(**{field.name: words[field.name] for field in fields(TrainOptions)})
    numbers = {field.name for field in fields(recipe)} - {"name", "title", "backbone", "data"}
    if not recipe.teacher:  # TrainOptions.check refuses --teacher
        numbers.remove("teacher")
    given = {name: words[name] for name in numbers if words[name] is not None}
    recipe = replace(recipe, **given)
    # the demo: at its size one thread is as fast as two, and gives the same bits on every machine
    import_paddle(threads=1 if args.demo else None)
    if args.demo:
        from kdscfnet.training.demo import run_demo

        return run_demo(recipe, given, options)
    from kdscfnet.training.start import run_training

    return run_training(recipe, options)
