"""The training loop: one for all systems. What a step computes is handed to it (kdscfnet.training.steps)."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass, field

import numpy as np
import paddle

from kdscfnet.data.batches import BatchPlan, TrainingSamples, batches
from kdscfnet.data.workers import LoaderError
from kdscfnet.errors import Diverged, MachineError
from kdscfnet.optim import build_optimizer
from kdscfnet.recipes import Recipe
from kdscfnet.schedule import learning_rate
from kdscfnet.text import is_quiet, progress
from kdscfnet.training import checkpoint
from kdscfnet.training.log import LOSS_TAGS, LossLog, open_board
from kdscfnet.training.options import TrainOptions
from kdscfnet.training.parallel import Parallel
from kdscfnet.training.precise_bn import estimate_statistics
from kdscfnet.training.run import RunFolder
from kdscfnet.weights.files import save_weights

# Losses in a row that may be infinite in mixed precision: the scaler skips such steps, each second time at half the
# scale, and comes from 2**10 to 1 in twenty
SKIPPED_AT_MOST = 50


class Interrupted(Exception):
    """A signal ended the run after its state was saved; the message says how to go on."""


@contextlib.contextmanager
def signals_received():
    """A list that gets Ctrl-C or SIGTERM: the step that runs comes to its end. A second one ends the process."""
    received, before = [], {}

    def receive(number, _):
        if received:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        received.append(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(ValueError):  # not in the main thread (a notebook's)
            before[number] = signal.signal(number, receive)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass
class Trainer:
    """One training, from its first step or from a checkpoint to the final weights."""

    model: object  # an SCFNet
    step_function: object  # of kdscfnet.training.steps: (model, images, targets, epoch) → (total, losses)
    samples: TrainingSamples
    recipe: Recipe  # its batch size is that of one process and turn
    folder: RunFolder  # `begin` has looked at it
    settings: dict  # the contents of run.json
    options: TrainOptions  # accumulate: turns of a batch each, whose gradients make one step
    process: Parallel = field(default_factory=Parallel)
    resume: dict = None  # a checkpoint that was read, to go on from
    validate: object = None  # model → {"MAE": float, …}
    picture: object = None  # model → uint8 H×W×3 RGB, for the board
    workers: int = 0  # processes that load data
    scaler: object = None  # in place of the paddle.amp.GradScaler

    def __post_init__(self):
        recipe, options, process = self.recipe, self.options, self.process
        self.first = process.rank == 0  # this process writes
        numbers = recipe.max_lr, recipe.momentum, recipe.weight_decay, recipe.backbone_lr_factor
        self.optimizer = build_optimizer(self.model, *numbers)
        # without --amp it does nothing
        self.scaler = self.scaler or paddle.amp.GradScaler(enable=options.amp, init_loss_scaling=1024)
        self.start, self.best_mae, self.saved_at = 0, None, time.monotonic()
        self.began = self.saved_at  # as if the run had never been interrupted
        if self.resume is not None:
            checkpoint.restore(self.resume, self.model, self.optimizer)
            self.start, extra = self.resume["step"], self.resume["extra"]
            self.best_mae, self.began = extra.get("best"), self.began - float(extra.get("elapsed", 0.0))
            self.scaler.load_state_dict(extra.get("scaler", {}))
        numbers = recipe.batch_size, recipe.sizes, recipe.epochs, options.seed, options.accumulate
        share = process.rank, process.world
        self.plan = BatchPlan(len(self.samples), *numbers, *share, self.start, recipe.early_sizes)
        size = len(self.samples), self.plan.effective_batch
        self.schedule = (*size, recipe.epochs, recipe.warmup_epochs, recipe.max_lr, recipe.min_lr)
        self.done = self.saved_step = self.start  # steps that were taken, and those that the newest checkpoint has
        self.loss_sums, self.finished_turns = None, 0  # of a step whose turns are not all done

    def run(self):
        """Train for all epochs of the recipe; returns the path of the final weights.

        Raises Interrupted after a signal, with the state saved, and after the last step the final weights; Diverged;
        LoaderError.
        """
        self.open_folder()
        forward = self.process.wrap(self.model)
        self.model.train()
        with signals_received() as self.signals, contextlib.ExitStack() as stack:
            for part in filter(None, (self.bar, self.board, self.log)):
                stack.callback(part.close)
            loader = batches(self.samples, self.plan, self.workers if len(self.plan) else 0)
            stack.callback(loader.close)
            try:
                for images, targets, step, share in loader:
                    self.turn(forward, images, targets, step, share)
                    if self.finished_turns == self.options.accumulate:
                        self.step(step)
                        self.after_step(step)
            except LoaderError:
                if not self.signals:  # the signal that stops this process may have ended a worker, too
                    raise
            if self.done < self.plan.total_steps:
                self.end_early()
        return self.finish()

    def open_folder(self):
        """Make the run's folder, and open what is written in it."""
        self.board = path = None
        if self.first:
            self.folder.create(self.settings)
            self.folder.forget_after(self.start)
            self.board, path = open_board(self.folder.board, self.start), self.folder.losses
            if self.start == 0:
                shown = {key: v if type(v) in (int, float, str) else str(v) for key, v in self.settings.items()}
                self.board.add_hparams(shown, [LOSS_TAGS[0]] + (["val/MAE"] if self.validate else []))
        tolerated = SKIPPED_AT_MOST if self.options.amp else 0
        self.log = LossLog(path, self.board, self.start, self.plan.steps_per_epoch, tolerated)
        total, done = self.recipe.epochs * len(self.samples), self.plan.images_before(self.start)
        self.bar = progress(total=total, initial=done, desc=self.recipe.name, disable=not self.first)

    def turn(self, forward, images, targets, step, share):
        """Add the gradient of one batch. share: the part of the step's images that it holds, times the processes."""
        images = images if paddle.is_tensor(images) else paddle.to_tensor(images)
        if targets is not None and not paddle.is_tensor(targets):
            targets = paddle.to_tensor(targets)
        if self.finished_turns == 0:
            # dropped paths and the like: a function of the step, so that a run that goes on draws the same
            paddle.seed((self.options.seed * 1_000_003 + step * 1009 + self.process.rank) % (1 << 31))
        turn_is_last = self.finished_turns + 1 == self.options.accumulate
        # gradients stay in this process until the last turn
        with contextlib.nullcontext() if turn_is_last or self.process.world == 1 else forward.no_sync():
            with paddle.amp.auto_cast(enable=self.options.amp):
                total, parts = self.step_function(forward, images, targets, step // self.plan.steps_per_epoch)
            # reshaped, since a scalar is of shape [1] before Paddle 2.5 and of shape [] after
            losses = paddle.concat([value.detach().astype("float32").reshape([1]) for value in [total, *parts]])
            if share != 1:
                total = total * share
                losses = losses * share
            self.scaler.scale(total).backward()
        self.loss_sums = losses if self.loss_sums is None else self.loss_sums + losses
        self.finished_turns += 1

    def step(self, step):
        """Update the weights by the gradients of all turns."""
        self.rate = learning_rate(step, *self.schedule)
        self.optimizer.set_lr(self.rate)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.clear_grad()
        epoch = step // self.plan.steps_per_epoch
        self.log.add(step, epoch, self.rate, self.process.mean(self.loss_sums))
        self.loss_sums, self.finished_turns = None, 0
        self.done = step + 1
        self.bar.update(self.plan.images_before(self.done) - self.plan.images_before(step))
        if self.done % self.recipe.log_every == 0 or len(self.log.pending) >= 100:
            self.log.flush()
            line = "epoch %d/%d, loss %.4f" % (epoch + 1, self.recipe.epochs, self.log.epoch[-1])
            self.bar.set_postfix_str(line, refresh=False)

    def after_step(self, step):
        """End an epoch, and save or stop, where it is time to."""
        options, epoch_ended = self.options, self.done % self.plan.steps_per_epoch == 0
        if epoch_ended:
            self.end_of_epoch(step // self.plan.steps_per_epoch)
        # processes stop together; they ask each other now and then, as that takes a while
        asked = self.process.world == 1 or epoch_ended or self.done % self.recipe.log_every == 0
        stop = asked and self.process.any(bool(self.signals))
        minutes, steps = options.checkpoint_minutes, options.checkpoint_steps
        due = steps and self.done % steps == 0 or minutes and time.monotonic() - self.saved_at >= minutes * 60
        if epoch_ended or stop or due:
            self.save()
        if stop and self.done < self.plan.total_steps:
            raise self.interrupted()

    def end_of_epoch(self, epoch):
        """Measure, keep weights and pictures, and write the epoch's line of log.txt."""
        recipe, options = self.recipe, self.options
        self.log.flush()
        loss = self.log.epoch_mean()
        if recipe.precise_bn:
            estimate_statistics(self.model, self.samples.images, recipe.precise_bn, recipe.test_size, recipe.batch_size)
        self.check_weights()
        self.model.eval()
        last = epoch + 1 == recipe.epochs
        # in every process, though one measures for all: those that wait give up after half a minute (gloo)
        measured = self.validate is not None and ((epoch + 1) % (options.val_every or 1) == 0 or last)
        scores = self.validate(self.model) if measured else {}
        if scores and (self.best_mae is None or scores["MAE"] < self.best_mae):
            self.best_mae = scores["MAE"]
            self.save_weights(os.path.join(self.folder.weights, "best.pdparams"))
        if epoch >= recipe.epochs * 2 // 3:  # as the authors do: every epoch of the last third
            self.save_weights(os.path.join(self.folder.weights, "epoch_%03d.pdparams" % (epoch + 1)))
        if self.first:
            line = "epoch %d/%d  step %d  lr %.6f  loss %.4f" % (epoch + 1, recipe.epochs, self.done, self.rate, loss)
            for name, value in scores.items():
                self.board.add_scalar("val/" + name, value, self.done)
                line += "  val %s %.4f" % (name, value)
            if self.picture is not None and (epoch % options.picture_every == 0 or last):
                self.board.add_image("train/image_target_prediction", self.picture(self.model), self.done)
            line += "  %s" % time.strftime("%H:%M:%S", time.gmtime(time.monotonic() - self.began))
            with open(self.folder.log, "a", encoding="utf-8") as file:
                file.write(line + "\n")
            if not is_quiet():
                self.bar.write(line)
        self.model.train()
        self.process.any(False)  # all go on together; gloo does not have barrier() in every Paddle

    def save(self):
        """Save the whole state, to go on from."""
        newest_before, self.saved_step, self.saved_at = self.saved_step, self.done, time.monotonic()
        self.log.flush()
        if self.done % self.plan.steps_per_epoch:  # the end of an epoch has checked them
            self.check_weights()
        # a scaler's entries are tensors, arrays or numbers, by Paddle's version
        scaler = {key: np.asarray(value).tolist() for key, value in self.scaler.state_dict().items()}
        extra = {"best": self.best_mae, "elapsed": time.monotonic() - self.began, "scaler": scaler}
        if self.first:
            saved = checkpoint.save_checkpoint(self.folder.checkpoints, self.done, self.model, self.optimizer, extra)
            for path in checkpoint.list_checkpoints(self.folder.checkpoints, after=newest_before):
                if path != saved:  # damaged; it would count among the newest, and push out one that is whole
                    os.unlink(path)
            checkpoint.prune(self.folder.checkpoints, self.options.keep)

    def check_weights(self):
        """Raise Diverged where weights are no numbers any more: a loss shows it one step late."""
        if self.first:
            for name, value in self.model.state_dict().items():
                if not np.isfinite(value.numpy()).all():
                    raise Diverged("after step %d %s holds what is no number" % (self.done, name))

    def save_weights(self, path):
        if self.first:
            save_weights(self.model, path)

    def end_early(self):
        """The loader has no more batches, and steps are left: raise Interrupted after a signal, else MachineError."""
        if not self.signals:
            steps = self.done, self.plan.total_steps, self.folder.what_resumes()
            raise MachineError("the loader ended at step %d of %d; %s" % steps)
        # turns of a step that was not ended have changed BatchNorm's statistics: that state is nobody's
        if self.saved_step < self.done and self.finished_turns == 0:
            self.save()
        raise self.interrupted()

    def finish(self):
        """Write the final weights; returns their path."""
        self.model.eval()
        self.save_weights(self.folder.final)
        # the exchange lets no process go on before the weights are written
        if self.process.any(bool(self.signals)):
            # after the last step, too: what comes next, as in the demo, must not begin
            raise self.interrupted()
        return self.folder.final

    def interrupted(self):
        """The Interrupted to raise: it says what is left of the work."""
        if self.done == self.plan.total_steps:
            kept = "the run is complete: " + self.folder.final
        elif self.saved_step == self.done > self.start:
            kept = "the state is saved in " + self.folder.checkpoints
        else:
            kept = self.folder.what_resumes()
        by = "Ctrl-C" if self.signals[:1] == [signal.SIGINT] else "a signal"
        how = by, self.done, self.plan.total_steps, kept, self.options.how_to_resume
        return Interrupted("stopped by %s after step %d of %d; %s. %s" % how)
