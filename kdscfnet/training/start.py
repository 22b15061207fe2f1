"""From the words of the command line to a training that runs: everything is looked at before anything is written."""

from __future__ import annotations

import errno
import hashlib
import os
import shlex
import sys
import warnings
from dataclasses import asdict, replace

from kdscfnet.data.find import find_image_set
from kdscfnet.data.names import list_images, match_names
from kdscfnet.errors import UserError
from kdscfnet.files import file_sha256
from kdscfnet.recipes import all_sizes

# Paddle's own remarks while a network is built or trained, of no use to a user
warnings.filterwarnings("ignore", message="When training, we now always track global mean and variance")


def find_training_set(path, default_name, masks):
    """The data set at `path`: the set's own folder, or a folder that holds one named `default_name`."""
    root = path or os.path.join("data", default_name)
    if path and os.path.isdir(os.path.join(path, default_name)):
        root = os.path.join(path, default_name)
    if not path and not os.path.isdir(root):
        raise UserError(
            "there is no data folder %s: give one with --%s DIR, or try --demo"
            % (root, "data" if masks == "required" else "images")
        )
    return find_image_set(root, masks=masks, lists=("train.txt", "test.txt"))


def match_maps(folder, image_set):
    """The teacher's maps of all images, in their order; None for an image without one."""
    if not os.path.isdir(folder):
        raise UserError("--teacher-maps %s: there is no such folder" % folder)
    found = match_names(list_images(folder), image_set.names)
    return tuple(found.get(name) for name in image_set.names)


def expect_all_maps(folder, images, maps):
    """Raise UserError where a map is None."""
    missing = [image for image, found in zip(images, maps) if found is None]
    if missing:
        raise UserError(
            "--teacher-maps %s: %d of %d images have no map (the first: %s)"
            % (folder, len(missing), len(images), os.path.splitext(os.path.basename(missing[0]))[0])
        )


def split_off(image_set, count):
    """(the set without, a set of) `count` of its images, taken at equal distances, so that every run takes the same."""
    if not 0 < count < len(image_set):
        raise UserError("--hold-out %d: the set has %d images" % (count, len(image_set)))
    held = {(2 * i + 1) * len(image_set) // (2 * count) for i in range(count)}

    def part(kept, name):
        def pick(values):
            return tuple(value for index, value in enumerate(values) if (index in held) != kept)

        return replace(
            image_set,
            name=name,
            names=pick(image_set.names),
            images=pick(image_set.images),
            masks=pick(image_set.masks),
        )

    return part(True, image_set.name), part(False, image_set.name + " (held out)")


def _digest(lines):
    """A short fingerprint of texts in their order."""
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _file_digest(path):
    """A short fingerprint of what is in a weight file; None for none."""
    if not path:
        return None
    if not os.path.isfile(path):
        raise UserError("there is no weight file %s" % path)
    return file_sha256(path)[:16]


def refuse_amp_on_cpu(args, on_cpu):
    """Raise UserError where mixed precision would do nothing."""
    if args.amp and on_cpu:
        raise UserError("--amp is for GPUs: on a CPU Paddle's auto_cast does nothing, without a word")


def refuse_what_would_be_ignored(recipe, args):
    """Raise UserError where flags of the user's contradict each other, or one says something about nothing."""
    if recipe.hold_out and args.val:
        raise UserError("--hold-out and --val both name what to measure on: give one of them")
    if args.val_every and not (recipe.hold_out or args.val):
        raise UserError("--val-every %d: there is nothing to measure on; give --val or --hold-out" % args.val_every)
    if args.init and args.pretrained != "none":
        raise UserError("--init brings weights of the whole network, so --pretrained has no use: give one of them")
    if recipe.teacher and args.data and args.images:
        raise UserError("--images and --data both name what to distil from: give one of them")
    if recipe.teacher and args.teacher_maps:
        for flag in ("teacher_weights", "teacher_engine", "teacher"):
            if getattr(args, flag):
                raise UserError(
                    "--teacher-maps stands for a teacher that does not run: leave out --%s" % flag.replace("_", "-")
                )


def what_was_asked(recipe, args, images, targets, targets_from):
    """The contents of run.json: what must be the same for a run to go on. Folders may move; what is in them counts."""
    maps = targets if targets_from == "teacher maps" else ()
    about = {
        "recipe": asdict(recipe),
        "seed": args.seed,
        "accumulate": args.accumulate,
        "amp": bool(args.amp),
        "images": len(images),
        "image_names": _digest(map(os.path.basename, images)),
        "targets": targets_from,
        "teacher_weights": _file_digest(args.teacher_weights if targets_from == "teacher" else None),
        # maps of several teachers have the same names, and hardly ever the same sizes
        "teacher_map_files": _digest("%s %d" % (os.path.basename(path), os.path.getsize(path)) for path in maps)
        if maps
        else None,
        "pretrained": args.pretrained,
        "init": _file_digest(args.init),
        "processes": int(os.environ.get("PADDLE_TRAINERS_NUM", "1")),
    }
    about["recipe"] = {key: _json(value) for key, value in about["recipe"].items()}
    flat = {key: value for key, value in about.items() if key != "recipe"}
    flat.update(about["recipe"])
    return flat


def _json(value):
    return [_json(v) for v in value] if isinstance(value, (tuple, list)) else value


def resume_command(args):
    """The command that goes on with this run."""
    if int(os.environ.get("PADDLE_TRAINERS_NUM", "1")) > 1:
        return "Go on with the same launch command and --resume auto"
    words = [word for word in sys.argv[1:] if not word.startswith("--resume")]
    # "--resume auto" leaves its value behind
    before = sys.argv[1:]
    for index, word in enumerate(before):
        if word == "--resume" and index + 1 < len(before) and before[index + 1] in ("auto", "no"):
            position = len([w for w in before[:index] if not w.startswith("--resume")])
            del words[position]
    return "Go on with: kdscfnet " + " ".join(shlex.quote(word) for word in words) + " --resume auto"


def run_training(recipe, args):
    """Carry out `kdscfnet train` for one recipe; returns the exit code."""
    from kdscfnet.data.batches import TrainingSamples
    from kdscfnet.data.check import scan
    from kdscfnet.data.workers import LoaderError
    from kdscfnet.device import select_device

    line = select_device(args.device)  # imports Paddle with its threads; everything below may use it
    import paddle

    from kdscfnet.training.parallel import Parallel, started_in_parallel, synchronise_batch_norm
    from kdscfnet.training.steps import DistillationStep, SupervisedStep, TeacherMapStep, open_teacher
    from kdscfnet.training.trainer import Diverged, Interrupted, Run, train
    from kdscfnet.training.validation import picture_maker, validator

    parallel = Parallel() if started_in_parallel() else None
    first = parallel is None or parallel.rank == 0
    say = print if first else (lambda *_, **__: None)
    say(line + (", process %d of %d" % (parallel.rank + 1, parallel.world) if parallel else ""), flush=True)
    on_cpu = paddle.device.get_device().startswith("cpu")
    refuse_amp_on_cpu(args, on_cpu)
    if recipe.min_lr > recipe.max_lr:
        raise UserError("--min-lr %g is more than --max-lr %g" % (recipe.min_lr, recipe.max_lr))

    # Data
    refuse_what_would_be_ignored(recipe, args)
    if recipe.teacher:
        image_set = find_training_set(args.images or args.data, recipe.data, masks="ignored")
    else:
        if args.teacher_weights or args.teacher_maps:
            raise UserError(
                "%s learns from labels: --teacher-weights and --teacher-maps are for the kd recipes" % recipe.name
            )
        if args.images:
            raise UserError("%s learns from labels: give the labelled set with --data DIR" % recipe.name)
        image_set = find_training_set(args.data, recipe.data, masks="required")
    say(image_set.describe())
    validation = None
    if recipe.hold_out:
        labelled = image_set
        if recipe.teacher:  # measured with masks, never trained with them
            labelled = find_image_set(image_set.root, masks="required", lists=("train.txt", "test.txt"))
        validation = split_off(labelled, recipe.hold_out)[1]
        image_set = split_off(image_set, recipe.hold_out)[0]
    if recipe.teacher and args.teacher_maps:
        targets, targets_from = match_maps(args.teacher_maps, image_set), "teacher maps"
        if not args.skip_bad:
            expect_all_maps(args.teacher_maps, image_set.images, targets)
    elif recipe.teacher:
        targets, targets_from = (), "teacher"
        if not args.teacher_weights:
            open_teacher(recipe.teacher, None)  # says what is missing
    else:
        targets, targets_from = image_set.masks, "masks"

    def whole(images, targets, of="", **how):
        """(images, targets) that can be read whole; says what is left out."""
        count = len(images)
        images, targets, problems = scan(images, targets, args.skip_bad, **how)
        for problem in problems[:5]:
            say("left out: %s" % problem)
        if problems:
            say("left out: %d of %d images%s (--skip-bad); %d remain" % (len(problems), count, of, len(images)))
        return images, targets

    images, targets = whole(image_set.images, targets, same_size=not recipe.teacher)
    if targets_from == "teacher maps":  # of what cannot be read whole, the teacher could make none
        expect_all_maps(args.teacher_maps, images, targets)
    world = parallel.world if parallel else 1
    effective = recipe.batch_size * args.accumulate * world
    if effective > len(images):
        raise UserError(
            "a batch of %d is larger than the data (%d images): use --batch-size %d or less"
            % (effective, len(images), max(1, len(images) // (args.accumulate * world)))
        )
    if args.val:
        validation = find_image_set(args.val, masks="required", lists=("test.txt", "train.txt"))
    if validation is not None:
        good, masks = whole(validation.images, validation.masks, " to measure on", title="checking what to measure on")
        if not good:
            raise UserError("%s: none of its images can be read whole" % validation.root)
        kept = set(good)
        names = tuple(name for name, image in zip(validation.names, validation.images) if image in kept)
        validation = replace(validation, names=names, images=good, masks=masks)
        say("validation on " + validation.describe())

    # The folder of the run: looked at, not yet touched
    run = Run(args.output or os.path.join("runs", recipe.name))
    about = what_was_asked(recipe, args, images, targets, targets_from)
    checkpoint = run.begin(about, resume=args.resume == "auto")
    if parallel:
        parallel.barrier()  # no process writes before all have looked
    if run.finished() and args.resume == "auto":
        say("the run in %s is complete: %s" % (run.folder, run.finished()))
        return 0

    # Networks
    from kdscfnet.models.scfnet import SCFNet
    from kdscfnet.weights.fetch import load_backbone
    from kdscfnet.weights.files import load_weights

    paddle.seed(args.seed)
    model = SCFNet(recipe.backbone)
    if checkpoint is None:
        if args.init:
            say("starting from: %s" % load_weights(model, args.init))
        elif args.pretrained != "none":
            say("backbone: %s" % load_backbone(model, args.pretrained))
        elif first:
            say("the backbone starts from random numbers (the authors' from ImageNet: --pretrained auto)")
    teacher = None
    if targets_from == "teacher":
        sizes = all_sizes(recipe.sizes, recipe.early_sizes)
        teacher = open_teacher(recipe.teacher, args.teacher_weights, args.teacher_engine or "auto", sizes)
        say("teacher: %s, %s" % (args.teacher_weights, teacher.describe()))
        step = DistillationStep(teacher)
    else:
        step = TeacherMapStep() if targets_from == "teacher maps" else SupervisedStep()
    if parallel and not on_cpu:
        synchronise_batch_norm(model)

    scaler = autocast = None
    if args.amp:
        scaler = paddle.amp.GradScaler(init_loss_scaling=1024)
        autocast = paddle.amp.auto_cast
    workers = args.workers if args.workers is not None else (0 if on_cpu else 4)
    if checkpoint is not None:
        say("going on with %s after step %d" % (run.folder, checkpoint["step"]))
    shown = [i * len(images) // 4 for i in range(4)]
    try:
        final = train(
            model,
            step,
            TrainingSamples(images, targets or None, args.seed),
            recipe,
            run,
            about,
            seed=args.seed,
            accumulate=args.accumulate,
            workers=workers,
            resume=checkpoint,
            validate=validator(validation, recipe.test_size) if validation else None,
            validate_every=args.val_every or 1,
            pictures=picture_maker(
                [images[i] for i in shown], [targets[i] for i in shown] if targets else (), recipe.test_size, teacher
            ),
            picture_every=args.picture_every,
            checkpoint_steps=args.checkpoint_steps,
            checkpoint_minutes=args.checkpoint_minutes,
            keep=args.keep,
            scaler=scaler,
            autocast=autocast,
            parallel=parallel,
            how_to_resume=resume_command(args),
        )
    except Interrupted as interruption:
        if first:
            print("kdscfnet train: %s" % interruption, file=sys.stderr)
        return 130
    except Diverged as error:
        raise UserError(
            "%s: the training has diverged, none of that is saved; begin again in another --output with a lower "
            "--max-lr than %g (%s)" % (error, recipe.max_lr, run.what_resumes())
        )
    except LoaderError as error:
        raise UserError(
            "%s; %s; fewer --workers need less memory. %s" % (error, run.what_resumes(), resume_command(args))
        )
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError("the disk is full: free some space; %s. %s" % (run.what_resumes(), resume_command(args)))
    say("weights: %s\nlosses: %s\nboard: visualdl --logdir %s" % (final, run.losses, run.board))
    return 0
