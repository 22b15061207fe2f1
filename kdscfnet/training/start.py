"""From a recipe and the user's options to a training that runs: everything is looked at before anything is written."""

from __future__ import annotations

import errno
import io
import json
import os
import sys
import warnings
from dataclasses import replace

import paddle

from kdscfnet.data.batches import TrainingSamples
from kdscfnet.data.workers import LoaderError
from kdscfnet.device import select_device
from kdscfnet.errors import Diverged, MachineError, UserError
from kdscfnet.models.scfnet import SCFNet
from kdscfnet.recipes import all_sizes
from kdscfnet.text import is_quiet
from kdscfnet.training.checkpoint import checkpoint_path, parse_checkpoint
from kdscfnet.training.parallel import Parallel, lost_another, synchronise_batch_norm
from kdscfnet.training.run import RunFolder, first_difference, run_settings
from kdscfnet.training.steps import DistillationStep, LabelsAndMapsStep, SupervisedStep, open_teacher
from kdscfnet.training.trainer import Interrupted, Trainer
from kdscfnet.training.training_data import find_training_data
from kdscfnet.training.validation import picture_maker, validator
from kdscfnet.weights.backbone import load_backbone
from kdscfnet.weights.files import load_weights
from kdscfnet.weights.weightfile import resolve


def run_training(recipe, options):
    """Carry out one training; returns the exit code. Paddle should have been imported by `import_paddle`."""
    # Paddle's own remark while a network is built, of no use to a user
    warnings.filterwarnings("ignore", message="When training, we now always track global mean and variance")
    process, on_cpu, say = open_device(options)
    options.check(recipe, on_cpu)
    image_set, table, validation, counts = find_training_data(recipe, options, say)
    recipe = options.fit_batch(recipe, len(image_set), process.world, say)
    options.say_of_the_rate(recipe, len(image_set), process.world, say)
    named = {"teacher_weights": options.teacher_weights, "init": options.init}
    options = replace(options, **{flag: resolve(weights) for flag, weights in named.items() if weights})
    folder = RunFolder(options.output or os.path.join("runs", recipe.name))
    settings = run_settings(recipe, options, image_set, counts, process.world)
    state, finished = begin(folder, settings, options.resume, process)
    if finished:
        say("the run in %s is complete: %s" % (folder.folder, folder.final))
        return 0
    paddle.seed(options.seed)
    model = SCFNet(recipe.backbone)
    if state is not None:
        say("going on with %s after step %d" % (folder.folder, state["step"]))
    elif options.init:
        say("starting from: %s" % load_weights(model, options.init))
    elif options.pretrained != "none":
        say("backbone: %s" % load_backbone(model, options.pretrained))
    else:
        say("the backbone starts from random numbers (the authors' from ImageNet: --pretrained auto)")
    step_function = choose_step(recipe, options, image_set, say)
    if process.world > 1 and not on_cpu:
        synchronise_batch_norm(model)
    samples = TrainingSamples(image_set.images, image_set.masks, options.seed, table, image_set.maps)
    validate = validator(validation, recipe.test_size) if validation else None
    picture = picture_maker(image_set, recipe.test_size, getattr(step_function, "teacher", None))
    workers = options.workers if options.workers is not None else (0 if on_cpu else 4)
    trainer = Trainer(
        model, step_function, samples, recipe, folder, settings, options, process, state, validate, picture, workers
    )
    return carry_out(trainer, say)


def begin(folder, settings, resume, process):
    """RunFolder.begin by process 0; returns (checkpoint or None, whether the run is complete) in every process.

    Its folder counts: on another machine it may be another one of that name, or none. So its checkpoint is sent to all,
    and all must have been asked for the same. Raises UserError. No process writes before all have looked.
    """
    checkpoint, state = process.by_first(lambda: folder.begin(settings, resume)), b""
    known = {"settings": settings, "finished": os.path.exists(folder.final)}
    if process.world == 1:
        return checkpoint, known["finished"]
    if checkpoint is not None:
        with open(checkpoint_path(folder.checkpoints, checkpoint["step"]), "rb") as file:
            state = file.read()
    known = json.loads(process.from_first(json.dumps(known).encode()).decode())
    state = process.from_first(state)
    with process.all_or_none():
        different = first_difference(settings, known["settings"])
        if different:
            raise UserError(
                "process %d and the first one were asked for two trainings (%s is %s here, and %s there): give all "
                "the same command and data" % (process.rank + 1, *different)
            )
    if state and process.rank > 0:
        checkpoint = parse_checkpoint(io.BytesIO(state), "of process 1")
    return checkpoint, known["finished"]


def open_device(options):
    """Choose the device and join the other processes: (process, whether it is a CPU, a function that says a line)."""
    line = select_device(options.device)
    process = Parallel()
    if process.world > 1:
        line += ", process %d of %d" % (process.rank + 1, process.world)
    say = print if process.rank == 0 and not is_quiet() else (lambda *_, **__: None)
    say(line, flush=True)
    return process, paddle.device.get_device().startswith("cpu"), say


def choose_step(recipe, options, image_set, say):
    """What one step of the training computes (kdscfnet.training.steps)."""
    if image_set.masks:
        return LabelsAndMapsStep(recipe.map_weight) if image_set.maps else SupervisedStep()
    if image_set.maps:
        return DistillationStep()
    sizes = all_sizes(recipe.sizes, recipe.early_sizes)
    teacher = open_teacher(recipe.teacher, options.teacher_weights, options.teacher_engine or "auto", sizes)
    say("teacher: %s, by %s" % (options.teacher_weights, teacher.runtime))
    return DistillationStep(teacher)


def carry_out(trainer, say):
    """Train to the end; returns the exit code. What ends the training early says how to go on."""
    folder, advice = trainer.folder, trainer.options.how_to_resume
    gone = "another process of this training, or the link to it, is gone; what was saved is in "
    gone += "%s. %s" % (folder.folder, advice)
    try:
        with trainer.process.last_words("kdscfnet train: " + gone):
            final = trainer.run()
    except Interrupted as interruption:
        if trainer.first:
            print("kdscfnet train: %s" % interruption, file=sys.stderr)
        return 130
    except Diverged as error:
        raise Diverged(
            "%s: the training has diverged, none of that is saved; begin again in another --output with a lower "
            "--max-lr than %g (%s)" % (error, trainer.recipe.max_lr, folder.what_resumes())
        )
    except LoaderError as error:
        raise MachineError("%s; %s; fewer --workers need less memory. %s" % (error, folder.what_resumes(), advice))
    except (OSError, RuntimeError, SystemError, ValueError) as error:
        if trainer.process.world > 1 and lost_another(error):
            raise MachineError(gone)
        if getattr(error, "errno", None) not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise MachineError("the disk is full: free some space; %s. %s" % (folder.what_resumes(), advice))
    say("weights: %s\nlosses: %s\nboard: visualdl --logdir %s" % (final, folder.losses, folder.board))
    return 0
