"""What a user chooses for one training besides the recipe's numbers, and what does not go together."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from kdscfnet.errors import UserError
from kdscfnet.schedule import steps_per_epoch


@dataclass(frozen=True)
class TrainOptions:
    """The flags of `kdscfnet train` that are no numbers of the recipe, under their names; None: not given."""

    # data and weights
    data: list = None  # folders
    images: list = None
    teacher_weights: str = None
    teacher: str = None  # only to refuse it where it is of no use; the recipe's teacher counts
    teacher_maps: list = None  # folders: one for all sets, or one for each
    teacher_engine: str = None
    pretrained: str = "none"
    init: str = None
    val: str = None
    val_every: int = None
    skip_bad: bool = False
    # the run
    output: str = None
    resume: bool = False
    device: str = "auto"
    seed: int = 0
    workers: int = None
    accumulate: int = 1
    amp: bool = False
    checkpoint_minutes: float = 10.0
    checkpoint_steps: int = 0
    keep: int = 3
    picture_every: int = 5
    how_to_resume: str = ""  # a sentence for the message of a run that ends early

    def check(self, recipe, on_cpu):
        """Raise UserError where a flag cannot work, contradicts another, or says something about nothing."""
        if self.amp and on_cpu:
            raise UserError("--amp is for GPUs: on a CPU Paddle's auto_cast does nothing, without a word")
        if recipe.min_lr > recipe.max_lr:
            rates = recipe.min_lr, recipe.max_lr
            raise UserError("--min-lr %g is more than --max-lr %g: give both, the second one larger" % rates)
        if recipe.hold_out and self.val:
            raise UserError("--hold-out and --val both name what to measure on: give one of them")
        if self.val_every and not (recipe.hold_out or self.val):
            raise UserError("--val-every %d: there is nothing to measure on; give --val or --hold-out" % self.val_every)
        if self.init and self.pretrained != "none":
            raise UserError("--init brings weights of the whole network, so --pretrained has no use: give one of them")
        if recipe.map_weight and (recipe.teacher or not self.teacher_maps):
            raise UserError(
                "--map-weight is for labels and a teacher's maps together: a recipe that learns from labels, "
                "--data with masks and --teacher-maps"
            )
        if recipe.teacher and self.data and self.images:
            raise UserError("--images and --data both name what to distil from: give one of them")
        for flag in ("teacher_weights", "teacher_engine", "teacher") if recipe.teacher and self.teacher_maps else ():
            if getattr(self, flag):
                what = "--teacher-maps stands for a teacher that does not run: leave out --%s"
                raise UserError(what % flag.replace("_", "-"))
        refused = {
            "--teacher is for the kd recipes": self.teacher,
            "--teacher-weights is for the kd recipes": self.teacher_weights,
            "--teacher-maps needs a --map-weight, or a kd recipe that learns from maps alone": self.teacher_maps
            and not recipe.map_weight,
            "give the labelled set with --data DIR": self.images,
        }
        for advice, value in refused.items() if not recipe.teacher else ():
            if value:
                raise UserError("%s learns from labels: %s" % (recipe.name, advice))

    def fit_batch(self, recipe, images, world, say):
        """The recipe with a batch that is no larger than the data, which is said. world: the number of processes.

        Raises UserError where the processes and turns of a step have no image each.
        """
        turns = self.accumulate * world
        largest = images // turns
        if not largest:
            what = "a step of %d images (--accumulate %d, %d processes) is more than the data (%d images)"
            raise UserError(what % (turns, self.accumulate, world, images))
        if recipe.batch_size > largest:
            counts = recipe.batch_size * turns, images, largest
            say("a batch of %d is larger than the data (%d images): --batch-size %d is taken" % counts)
            recipe = replace(recipe, batch_size=largest)
        return recipe

    def say_of_the_rate(self, recipe, images, world, say):
        """Say where the learning rate does nothing but rise, as its warm-up lasts to the end of the training."""
        batch = recipe.batch_size * self.accumulate * world
        steps, warm = recipe.epochs * steps_per_epoch(images, batch), recipe.warmup_epochs * (images / batch + 1)
        if warm >= steps:
            last = recipe.min_lr + (recipe.max_lr - recipe.min_lr) * (steps - 1) / warm
            say(
                "the warm-up of %g epochs takes %d steps and the training has %d: the learning rate only rises, "
                "to %.2g (fewer --warmup-epochs, or more --epochs)"
                % (recipe.warmup_epochs, math.ceil(warm), steps, last)
            )
