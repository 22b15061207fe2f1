"""The training loop: one for all systems. What a step computes is handed to it (kdscfnet.training.steps)."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import signal
import time

import numpy as np
import paddle

from kdscfnet.data.batches import BatchPlan, batches
from kdscfnet.data.workers import LoaderError
from kdscfnet.errors import UserError
from kdscfnet.files import write_json, write_text
from kdscfnet.optim import build_optimizer
from kdscfnet.schedule import learning_rate
from kdscfnet.text import progress
from kdscfnet.training import checkpoint
from kdscfnet.training.board import LOSS_TAGS, Board, NoBoard
from kdscfnet.training.precise_bn import estimate_statistics
from kdscfnet.weights.files import save_weights

# What run.json says since runs are told apart by these, too: one of before lacks them and resumes all the same
ADDED_TO_RUN_JSON = ("image_names", "teacher_weights", "teacher_map_files", "init")
CSV_HEADER = ("step", "epoch", "lr", "loss", "loss1", "loss2", "loss3", "loss4")


# Losses in a row that may be infinite in mixed precision: the scaler skips such steps, each second time at half the
# scale, and comes from 2**10 to 1 in twenty
SKIPPED_AT_MOST = 50


class Diverged(UserError):
    """The losses or the weights are no numbers any more."""


class Interrupted(Exception):
    """A signal ended the run after its state was saved; the message says how to go on."""


class Run:
    """The folder of a run, and what is in it.

    run.json             what was asked for: the run goes on only with the same
    checkpoints/         the newest whole states, to go on from
    weights/             an epoch's weights each, of the last third, and best.pdparams by validation MAE
    losses.csv           a row a step
    log.txt              a line an epoch
    board/               for visualdl --logdir
    """

    def __init__(self, folder):
        self.folder = str(folder)
        self.checkpoints = os.path.join(self.folder, "checkpoints")
        self.weights = os.path.join(self.folder, "weights")
        self.board = os.path.join(self.folder, "board")
        self.losses = os.path.join(self.folder, "losses.csv")
        self.log = os.path.join(self.folder, "log.txt")
        self.about = os.path.join(self.folder, "run.json")

    def begin(self, about, resume):
        """Check the folder before anything is written; returns the checkpoint to go on from, or None.

        about: what the run was asked for, JSON values. resume: whether to go on where the folder holds a run.
        """
        entries = []
        if os.path.exists(self.folder):
            if not os.path.isdir(self.folder):
                raise UserError("--output %s is a file: name a folder" % self.folder)
            entries = [entry for entry in os.listdir(self.folder) if not entry.startswith(".tmp-")]
        if not entries or self._only_begun(entries):
            return None
        if not resume:
            raise UserError(
                "--output %s is not empty: go on with that run by --resume auto, or name another folder" % self.folder
            )
        try:
            with open(self.about, encoding="utf-8") as file:
                before = json.load(file)
        except (OSError, ValueError):
            raise UserError(
                "--output %s holds no run of kdscfnet train (no whole run.json): name another folder" % self.folder
            )
        for key in sorted(set(about) | set(before)):
            if key in ADDED_TO_RUN_JSON and key not in before:
                continue
            if before.get(key) != about.get(key):
                raise UserError(
                    "--output %s holds another run (%s was %s, is %s): name another folder"
                    % (self.folder, key, _short(before.get(key)), _short(about.get(key)))
                )
        found = checkpoint.newest_checkpoint(self.checkpoints)
        if found is None and self.finished() is None and os.path.isdir(self.checkpoints):
            if checkpoint.list_checkpoints(self.checkpoints):
                raise UserError("%s: none of its checkpoints is whole: name another --output" % self.folder)
        return found

    def _only_begun(self, entries):
        """Whether the folder holds but empty folders of ours: a full disk kept run.json from being written."""
        ours = {os.path.basename(folder) for folder in (self.checkpoints, self.weights, self.board)}
        return set(entries) <= ours and not any(os.listdir(os.path.join(self.folder, entry)) for entry in entries)

    def what_resumes(self):
        """What to tell whoever goes on with a run that ended early: whether there is a state to go on from."""
        if checkpoint.list_checkpoints(self.checkpoints):
            return "the last checkpoint in %s is whole" % self.checkpoints
        return "no checkpoint was saved yet"

    def finished(self):
        """The path of the final weights where the run is complete, else None."""
        path = os.path.join(self.folder, "final.pdparams")
        return path if os.path.exists(path) else None

    def create(self, about):
        write_json(self.about, about)  # first: a folder without it is nobody's run
        for folder in (self.checkpoints, self.weights, self.board):
            os.makedirs(folder, exist_ok=True)
        checkpoint.remove_leftovers(self.folder, self.checkpoints, self.weights)

    def forget_after(self, step):
        """Remove the lines of log.txt that a killed run wrote after the checkpoint of `step`; they will come again."""
        with contextlib.suppress(FileNotFoundError):
            with open(self.log, encoding="utf-8") as file:
                lines = [
                    line for line in file if line.endswith("\n") and int(line.split("step ")[1].split()[0]) <= step
                ]
            write_text(self.log, "".join(lines))


def _short(value):
    text = json.dumps(value)
    return text if len(text) < 60 else text[:57] + "..."


class LossLog:
    """losses.csv: a row a step. Losses stay on the device until `flush` reads them back, all at once.

    tolerated: how many losses in a row may be infinite or no number; `flush` raises Diverged at the next.
    """

    def __init__(self, run, board, step, steps_per_epoch, tolerated=0):
        self.board, self.pending = board, []
        self.tolerated, self.not_finite = tolerated, 0
        self.sums, self.count = np.zeros(5), 0
        rows = []
        with contextlib.suppress(FileNotFoundError):
            with open(run.losses, newline="", encoding="utf-8") as file:
                # rows of steps that a killed run took after its last checkpoint are done again
                rows = [
                    row
                    for row in csv.reader(file)
                    if len(row) == len(CSV_HEADER) and row[0].isdigit() and int(row[0]) < step
                ]
        write_text(run.losses, "".join(",".join(row) + "\n" for row in [CSV_HEADER, *rows]))
        self.file = open(run.losses, "a", newline="", encoding="utf-8")
        self.recent = np.zeros(5, np.float32)
        for row in rows:
            if int(row[0]) >= step - step % steps_per_epoch:  # of the epoch that goes on
                self.sums += [float(value) for value in row[3:]]
                self.count += 1

    def add(self, step, epoch, rate, losses):
        """losses: float32 tensor [5], on the device."""
        self.pending.append((step, epoch, rate, losses))

    def flush(self):
        if not self.pending:
            return
        values = paddle.stack([p[3] for p in self.pending]).numpy()
        for (step, epoch, rate, _), row in zip(self.pending, values):
            self.file.write("%d,%d,%.9g," % (step, epoch, rate) + ",".join("%.9g" % v for v in row) + "\n")
            self.board.losses(step, rate, row)
        self.file.flush()
        self.recent = values[-1]
        self.sums += values.sum(axis=0, dtype=np.float64)
        self.count += len(values)
        steps, self.pending = [p[0] for p in self.pending], []
        for step, row in zip(steps, values):
            self.not_finite = 0 if np.isfinite(row).all() else self.not_finite + 1
            if self.not_finite > self.tolerated:
                raise Diverged("the loss of step %d is %g" % (step, row[0]))

    def epoch_mean(self):
        mean = self.sums / max(1, self.count)
        self.sums, self.count = np.zeros(5), 0
        return mean

    def close(self):
        self.flush()
        self.file.close()


class _NoLog:
    recent = np.zeros(5, np.float32)

    def add(self, *_):
        pass

    def flush(self):
        pass

    def close(self):
        pass

    def epoch_mean(self):
        return np.zeros(5)


class _Signals:
    """Ctrl-C and SIGTERM let the step that runs come to its end. A second one ends the process at once."""

    def __init__(self):
        self.received = None

    def __enter__(self):
        self.before = {}
        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(ValueError):  # not in the main thread (a notebook's)
                self.before[number] = signal.signal(number, self._receive)
        return self

    def _receive(self, number, _):
        if self.received is not None:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.received = number

    def __exit__(self, *_):
        for number, handler in self.before.items():
            signal.signal(number, handler)


def train(
    model,
    step_function,
    samples,
    recipe,
    run,
    about,
    seed=0,
    accumulate=1,
    workers=0,
    resume=None,
    validate=None,
    validate_every=1,
    pictures=None,
    picture_every=5,
    checkpoint_steps=0,
    checkpoint_minutes=10.0,
    keep=3,
    scaler=None,
    autocast=None,
    parallel=None,
    how_to_resume="",
    say=print,
):
    """Train `model` for all epochs of `recipe`.

    Args:
        model: an SCFNet.
        step_function: kdscfnet.training.steps, (model, images, targets, epoch) → (total, losses).
        samples: kdscfnet.data.batches.TrainingSamples.
        recipe: a Recipe: batch size (of one process and turn), sizes, epochs and the optimizer's numbers.
        run: a Run whose folder `begin` has looked at; `about` is what it was asked for.
        accumulate: turns of `batch_size` images whose gradients make one step.
        resume: a checkpoint that was read, or None.
        validate: model → {"MAE": float, …}; called after every `validate_every` epochs and the last.
        pictures: (model, epoch) → {tag: uint8 RGB picture}, every `picture_every` epochs, for the board.
        checkpoint_steps, checkpoint_minutes: besides every epoch's end, save after so many steps or minutes.
        scaler, autocast: of mixed precision: a paddle.amp.GradScaler and a function that returns a context.
        parallel: kdscfnet.training.parallel.Parallel; None: one process.

    Returns the path of the final weights. Raises Interrupted after a signal, with the state saved, and after the last
    step the final weights.
    """
    world, rank = (parallel.world, parallel.rank) if parallel else (1, 0)
    optimizer = build_optimizer(model, recipe.max_lr, recipe.momentum, recipe.weight_decay, recipe.backbone_lr_factor)
    extra = {"best": None, "elapsed": 0.0}
    start = 0
    if resume is not None:
        checkpoint.restore(resume, model, optimizer)
        start, extra = resume["step"], dict(resume["extra"])
        if scaler is not None and extra.get("scaler"):
            scaler.load_state_dict(_scaler_state(extra["scaler"]))
    plan = BatchPlan(
        len(samples),
        recipe.batch_size,
        recipe.sizes,
        recipe.epochs,
        seed,
        accumulate,
        rank,
        world,
        start,
        recipe.early_sizes,
    )
    if plan.effective_batch > len(samples):
        raise UserError(
            "a batch of %d is larger than the data (%d images): use --batch-size %d or less"
            % (plan.effective_batch, len(samples), max(1, len(samples) // (accumulate * world)))
        )
    if rank == 0:
        run.create(about)
        run.forget_after(start)
    # not whole, or the run would go on from them
    passed_over = checkpoint.list_checkpoints(run.checkpoints, after=start) if rank == 0 else []
    board = Board(run.board, start) if rank == 0 else NoBoard()
    if rank == 0 and start == 0:
        board.hyper_parameters(about, [LOSS_TAGS[0]] + (["val/MAE"] if validate else []))
    tolerated = SKIPPED_AT_MOST if scaler is not None else 0
    log = LossLog(run, board, start, plan.steps_per_epoch, tolerated) if rank == 0 else _NoLog()
    forward = parallel.wrap(model) if parallel else model
    per_epoch = plan.steps_per_epoch
    bar = progress(
        total=plan.images_before(plan.total_steps),
        initial=plan.images_before(start),
        desc=recipe.name,
        disable=rank != 0,
    )
    began = saved_at = time.monotonic()
    elapsed_before = float(extra.get("elapsed", 0.0))

    def look_at_weights(step):
        """Raise Diverged where they are no numbers any more: a loss shows it one step late."""
        for name, value in model.state_dict().items():
            if not np.isfinite(value.numpy()).all():
                raise Diverged("after step %d %s holds what is no number" % (step, name))

    def save(step):
        log.flush()
        if rank == 0 and step % per_epoch:  # end_of_epoch has looked
            look_at_weights(step)
        extra["elapsed"] = elapsed_before + time.monotonic() - began
        if scaler is not None:
            extra["scaler"] = {k: _plain(v) for k, v in scaler.state_dict().items()}
        if rank == 0:
            saved = checkpoint.save_checkpoint(run.checkpoints, step, model, optimizer, extra)
            while passed_over:  # they would count among the newest, and the one gone on from be pruned for them
                path = passed_over.pop()
                if path != saved:
                    os.unlink(path)
            checkpoint.prune(run.checkpoints, keep)

    def end_of_epoch(epoch, step):
        log.flush()
        means = log.epoch_mean()
        if recipe.precise_bn:
            estimate_statistics(model, samples.images, recipe.precise_bn, recipe.test_size, recipe.batch_size)
        if rank == 0:
            look_at_weights(step)
        model.eval()
        line = "epoch %d/%d  step %d  lr %.6f  loss %.4f" % (
            epoch + 1,
            recipe.epochs,
            step,
            learning_rate(step - 1, *schedule_of),
            means[0],
        )
        last = epoch + 1 == recipe.epochs
        # in every process, though one measures for all: those that wait give up after half a minute (gloo)
        measured = validate is not None and ((epoch + 1) % validate_every == 0 or last)
        scores = validate(model) if measured else {}
        if rank == 0:
            if measured:
                for name, value in scores.items():
                    board.scalar("val/" + name, value, step)
                line += "  " + "  ".join("val %s %.4f" % item for item in scores.items())
                if extra["best"] is None or scores["MAE"] < extra["best"]:
                    extra["best"] = scores["MAE"]
                    save_weights(model, os.path.join(run.weights, "best.pdparams"))
            if pictures is not None and (epoch % picture_every == 0 or last):
                for tag, picture in pictures(model, epoch).items():
                    board.picture(tag, picture, step)
            if epoch >= recipe.epochs * 2 // 3:  # as the authors do: every epoch of the last third
                save_weights(model, os.path.join(run.weights, "epoch_%03d.pdparams" % (epoch + 1)))
            seconds = elapsed_before + time.monotonic() - began
            line += "  %s" % time.strftime("%H:%M:%S", time.gmtime(seconds))
            with open(run.log, "a", encoding="utf-8") as file:
                file.write(line + "\n")
            bar.write(line)
        model.train()
        if parallel:
            parallel.barrier()

    schedule_of = (
        len(samples),
        plan.effective_batch,
        recipe.epochs,
        recipe.warmup_epochs,
        recipe.max_lr,
        recipe.min_lr,
    )

    def until_stopped(loader):
        """The loader's batches. It ends early where the signal that stops this process has ended a worker, too."""
        try:
            yield from loader
        except LoaderError:
            if signals.received is None:
                raise

    def interrupted(step, kept):
        return Interrupted(
            "stopped by %s after step %d of %d; %s. %s"
            % (
                "Ctrl-C" if signals.received == signal.SIGINT else "a signal",
                step,
                plan.total_steps,
                kept,
                how_to_resume,
            )
        )

    model.train()
    sums, finished_turns = None, 0
    last_step = saved_step = start
    with _Signals() as signals, contextlib.ExitStack() as stack:
        stack.callback(bar.close)
        stack.callback(board.close)
        stack.callback(log.close)
        loader = batches(samples, plan, workers if len(plan) else 0)
        stack.callback(loader.close)
        for images, targets, step, share in until_stopped(loader):
            epoch = step // per_epoch
            images = images if paddle.is_tensor(images) else paddle.to_tensor(images)
            if targets is not None and not paddle.is_tensor(targets):
                targets = paddle.to_tensor(targets)
            if finished_turns == 0:
                # dropped paths and the like: a function of the step, so that a run that goes on draws the same
                paddle.seed((seed * 1_000_003 + step * 1009 + rank) % (1 << 31))
            turn_is_last = finished_turns + 1 == accumulate
            with contextlib.ExitStack() as step_stack:
                if parallel and not turn_is_last:
                    step_stack.enter_context(parallel.no_exchange(forward))
                with autocast() if autocast else contextlib.nullcontext():
                    total, parts = step_function(forward, images, targets, epoch)
                # reshaped, since a scalar is of shape [1] before Paddle 2.5 and of shape [] after
                losses = paddle.concat([value.detach().astype("float32").reshape([1]) for value in [total, *parts]])
                if share != 1:
                    total = total * share
                    losses = losses * share
                (scaler.scale(total) if scaler is not None else total).backward()
            sums = losses if sums is None else sums + losses
            finished_turns += 1
            if not turn_is_last:
                continue
            rate = learning_rate(step, *schedule_of)
            optimizer.set_lr(rate)
            if scaler is not None:
                scaler.step(optimizer)
                scaler.update()
            else:
                optimizer.step()
            optimizer.clear_grad()
            log.add(step, epoch, rate, parallel.mean(sums) if parallel else sums)
            sums, finished_turns = None, 0
            last_step = done = step + 1
            bar.update(plan.images_before(done) - plan.images_before(step))
            if done % recipe.log_every == 0 or len(log.pending if rank == 0 else ()) >= 100:
                log.flush()
                bar.set_postfix_str("epoch %d/%d, loss %.4f" % (epoch + 1, recipe.epochs, log.recent[0]), refresh=False)
            epoch_ended = done % per_epoch == 0
            if epoch_ended:
                end_of_epoch(epoch, done)
            stop = signals.received is not None
            if parallel:  # all stop together; they ask each other now and then, since that waits for the device
                asked = epoch_ended or done % recipe.log_every == 0
                stop = parallel.any(stop) if asked else False
            now = time.monotonic()
            timed = checkpoint_minutes and now - saved_at >= checkpoint_minutes * 60
            if epoch_ended or stop or timed or (checkpoint_steps and done % checkpoint_steps == 0):
                save(done)
                saved_at, saved_step = now, done
            if stop and done < plan.total_steps:
                raise interrupted(done, "the state is saved in %s" % run.checkpoints)
        if signals.received is not None and last_step < plan.total_steps:
            # turns of a step that was not ended have changed BatchNorm's statistics: that state is nobody's
            if saved_step < last_step and finished_turns == 0:
                save(last_step)
                saved_step = last_step
            saved = "the state is saved in %s" % run.checkpoints
            raise interrupted(last_step, saved if saved_step == last_step > start else run.what_resumes())
    if last_step < plan.total_steps:
        raise UserError("the loader ended at step %d of %d; %s" % (last_step, plan.total_steps, run.what_resumes()))
    final = os.path.join(run.folder, "final.pdparams")
    if rank == 0:
        model.eval()
        save_weights(model, final)
    stop = signals.received is not None
    if parallel:  # which lets no process go on before the weights are written
        stop = parallel.any(stop)
    if stop:  # after the last step, too: what comes next, as in the demo, must not begin
        raise interrupted(last_step, "the run is complete: " + final)
    return final


def _plain(value):
    """A scaler's state as numbers: its entries are tensors, arrays or numbers, by Paddle's version."""
    value = value.numpy() if paddle.is_tensor(value) else value
    value = np.asarray(value)
    return value.tolist() if value.dtype.kind != "O" else value.item()


def _scaler_state(state):
    return {k: np.asarray(v, np.float32) if k == "scale" else v for k, v in state.items()}
