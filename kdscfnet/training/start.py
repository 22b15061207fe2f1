"""From a recipe and the user's options to a training that runs: everything is looked at before anything is written."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
import tempfile
import warnings

import paddle

from kdscfnet.data.batches import TrainingSamples
from kdscfnet.data.workers import LoaderError
from kdscfnet.device import select_device
from kdscfnet.errors import Diverged, MachineError, UserError
from kdscfnet.models.scfnet import SCFNet
from kdscfnet.recipes import all_sizes
from kdscfnet.text import is_quiet, shown
from kdscfnet.training.checkpoint import checkpoint_path, read_checkpoint
from kdscfnet.training.parallel import lost_another, synchronise_batch_norm, this_process
from kdscfnet.training.run import RunFolder, run_settings
from kdscfnet.training.steps import DistillationStep, LabelsAndMapsStep, SupervisedStep, TeacherMapStep, open_teacher
from kdscfnet.training.trainer import Interrupted, Trainer
from kdscfnet.training.training_data import find_training_data
from kdscfnet.training.validation import picture_maker, validator
from kdscfnet.weights.fetch import load_backbone
from kdscfnet.weights.files import load_weights


def run_training(recipe, options):
    """Carry out one training; returns the exit code. Paddle should have been imported by `import_paddle`."""
    # Paddle's own remark while a network is built, of no use to a user
    warnings.filterwarnings("ignore", message="When training, we now always track global mean and variance")
    process, on_cpu, say = open_device(options)
    options.check(recipe, on_cpu)
    data = find_training_data(recipe, options, say)
    recipe = options.fit_batch(recipe, len(data.images), process.world, say)
    options.say_of_the_rate(recipe, len(data.images), process.world, say)
    options = options.resolved()
    folder = RunFolder(options.output or os.path.join("runs", recipe.name))
    settings = run_settings(recipe, options, data, process.world)
    checkpoint, finished = begin(folder, settings, options.resume, process)
    if finished and options.resume:
        say("the run in %s is complete: %s" % (folder.folder, folder.final))
        return 0
    paddle.seed(options.seed)
    model = SCFNet(recipe.backbone)
    if checkpoint is None:
        load_start(model, options, say)
    else:
        say("going on with %s after step %d" % (folder.folder, checkpoint["step"]))
    step_function = choose_step(recipe, options, data, say)
    if process.world > 1 and not on_cpu:
        synchronise_batch_norm(model)
    from_teacher = data.targets_from == "teacher maps"
    samples = TrainingSamples(
        data.images, data.targets or None, options.seed, table=data.table, low_resolution=from_teacher, maps=data.maps
    )
    trainer = Trainer(
        model,
        step_function,
        samples,
        recipe,
        folder,
        settings,
        options,
        process,
        checkpoint,
        validate=validator(data.validation, recipe.test_size) if data.validation else None,
        pictures=pictures_of(recipe, data, step_function),
        scaler=paddle.amp.GradScaler(init_loss_scaling=1024) if options.amp else None,
        autocast=paddle.amp.auto_cast if options.amp else contextlib.nullcontext,
        workers=options.workers if options.workers is not None else (0 if on_cpu else 4),
    )
    return carry_out(trainer, say)


def begin(folder, settings, resume, process):
    """RunFolder.begin by process 0; returns (checkpoint or None, whether the run is complete) in every process.

    Its folder counts: on another machine it may be another one of that name, or none. So its checkpoint is sent to all,
    and all must have been asked for the same. Raises UserError. No process writes before all have looked.
    """
    found = []
    process.by_first(lambda: found.append(folder.begin(settings, resume)))
    if process.world == 1:
        return found[0], bool(folder.finished())
    state, known = b"", {}
    if process.rank == 0:
        known = {"settings": settings, "finished": bool(folder.finished())}
        if found[0] is not None:
            with open(checkpoint_path(folder.checkpoints, found[0]["step"]), "rb") as file:
                state = file.read()
    known = json.loads(process.from_first(json.dumps(known).encode()).decode())
    mine = json.loads(json.dumps(settings))
    with process.all_or_none():
        for key in sorted(set(mine) | set(known["settings"])):
            values = [shown(json.dumps(each.get(key)), 60) for each in (mine, known["settings"])]
            if values[0] != values[1]:
                raise UserError(
                    "process %d and the first one were asked for two trainings (%s is %s here, and %s there): give all "
                    "the same command and data" % (process.rank + 1, key, values[0], values[1])
                )
    state = process.from_first(state)
    if process.rank == 0 or not state:
        return (found[0] if found else None), known["finished"]
    with tempfile.TemporaryDirectory(prefix="kdscfnet-") as temporary:
        path = os.path.join(temporary, "state")
        with open(path, "wb") as file:
            file.write(state)
        return read_checkpoint(path), known["finished"]


def open_device(options):
    """Choose the device and join the other processes: (process, whether it is a CPU, a function that says a line)."""
    line = select_device(options.device)
    process = this_process()
    if process.world > 1:
        line += ", process %d of %d" % (process.rank + 1, process.world)
    say = print if process.rank == 0 and not is_quiet() else (lambda *_, **__: None)
    say(line, flush=True)
    return process, paddle.device.get_device().startswith("cpu"), say


def load_start(model, options, say):
    """Load the weights that a new run starts from."""
    if options.init:
        say("starting from: %s" % load_weights(model, options.init))
    elif options.pretrained != "none":
        say("backbone: %s" % load_backbone(model, options.pretrained))
    else:
        say("the backbone starts from random numbers (the authors' from ImageNet: --pretrained auto)")


def choose_step(recipe, options, data, say):
    """What one step of the training computes (kdscfnet.training.steps)."""
    if data.targets_from == "masks":
        return SupervisedStep()
    if data.targets_from == "teacher maps":
        return TeacherMapStep()
    if data.targets_from == "masks and teacher maps":
        return LabelsAndMapsStep(recipe.map_weight)
    sizes = all_sizes(recipe.sizes, recipe.early_sizes)
    teacher = open_teacher(recipe.teacher, options.teacher_weights, options.teacher_engine or "auto", sizes)
    say("teacher: %s, by %s" % (options.teacher_weights, teacher.runtime))
    return DistillationStep(teacher)


def pictures_of(recipe, data, step_function):
    """The maker of the board's pictures: of four training images, at equal distances."""
    shown = [i * len(data.images) // 4 for i in range(4)]
    images, targets = ([paths[i] for i in shown] if paths else () for paths in (data.images, data.targets))
    return picture_maker(images, targets, recipe.test_size, getattr(step_function, "teacher", None))


def carry_out(trainer, say):
    """Train to the end; returns the exit code. What ends the training early says how to go on."""
    folder, how_to_resume = trainer.folder, trainer.options.how_to_resume
    gone = "another process of this training, or the link to it, is gone; what was saved is in %s. %s"
    gone = gone % (folder.folder, how_to_resume)
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
        how = error, folder.what_resumes(), how_to_resume
        raise MachineError("%s; %s; fewer --workers need less memory. %s" % how)
    except (OSError, RuntimeError, SystemError, ValueError) as error:
        if trainer.process.world > 1 and lost_another(error):
            raise MachineError(gone)
        if getattr(error, "errno", None) not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise MachineError("the disk is full: free some space; %s. %s" % (folder.what_resumes(), how_to_resume))
    say("weights: %s\nlosses: %s\nboard: visualdl --logdir %s" % (final, folder.losses, folder.board))
    return 0
