"""What a training says of itself: losses.csv, and the VisualDL board under the authors' tags."""

from __future__ import annotations

import contextlib
import logging

import numpy as np
import paddle

from kdscfnet.errors import Diverged
from kdscfnet.files import write_text

CSV_HEADER = ("step", "epoch", "lr", "loss", "loss1", "loss2", "loss3", "loss4")
LOSS_TAGS = ("train/loss", "train/loss1", "train/loss2", "train/loss3", "train/loss4")


class LossLog:
    """The losses of a training, and losses.csv: a row a step.

    Losses stay on the device until `flush` reads them back, all at once.

    Args:
        path, board: losses.csv, and what `open_board` returns; None in processes that write nothing.
        step: the step that comes first.
        tolerated: how many losses in a row may be infinite or no number; `flush` raises Diverged at the next.
    """

    def __init__(self, path, board, step, steps_per_epoch, tolerated=0):
        self.board, self.file, self.pending = board, None, []
        self.tolerated, self.not_finite = tolerated, 0
        self.epoch = []  # the losses of the epoch's steps so far
        if path is not None:
            # rows of steps that a killed run took after its last checkpoint are done again
            rows = [(row, numbers) for row, numbers in _read_rows(path) if numbers[0] < step]
            write_text(path, "".join(row + "\n" for row in [",".join(CSV_HEADER), *(row for row, _ in rows)]))
            self.epoch = [numbers[3] for _, numbers in rows if numbers[0] >= step - step % steps_per_epoch]
            self.file = open(path, "a", newline="", encoding="utf-8")

    def add(self, step, epoch, rate, losses):
        """losses: float32 tensor [5], on the device."""
        self.pending.append((step, epoch, rate, losses))

    def flush(self):
        if not self.pending:
            return
        pending, self.pending = self.pending, []
        values = paddle.stack([losses for *_, losses in pending]).numpy()
        self.epoch += values[:, 0].tolist()
        if self.file is not None:
            for (step, epoch, rate, _), row in zip(pending, values):
                self.file.write("%d,%d,%.9g," % (step, epoch, rate) + ",".join("%.9g" % v for v in row) + "\n")
                for tag, value in zip(("train/lr", *LOSS_TAGS), (rate, *row)):
                    self.board.add_scalar(tag, float(value), step)
            self.file.flush()
        for (step, *_), row in zip(pending, values):
            self.not_finite = 0 if np.isfinite(row).all() else self.not_finite + 1
            if self.not_finite > self.tolerated:
                raise Diverged("the loss of step %d is %g" % (step, row[0]))

    def epoch_mean(self):
        """The mean of the epoch's losses; the next epoch begins."""
        mean, self.epoch = np.mean(self.epoch), []
        return mean

    def close(self):
        self.flush()
        if self.file is not None:
            self.file.close()


def _read_rows(path):
    """The whole rows of losses.csv: [(text, its numbers)]."""
    rows = []
    with contextlib.suppress(FileNotFoundError), open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            with contextlib.suppress(ValueError):  # the header, or what is no row of ours
                numbers = [float(cell) for cell in line.split(",")]
                if len(numbers) == len(CSV_HEADER):
                    rows.append((line.rstrip("\n"), numbers))
    return rows


def open_board(folder, start_step):
    """A visualdl.LogWriter of scalars, pictures and hyper-parameters for `visualdl --logdir FOLDER`.

    A run that was interrupted writes a further file in the same folder; steps that are done again have the same values.
    """
    logging.getLogger("visualdl").setLevel(logging.ERROR)
    from visualdl import LogWriter

    # VisualDL finds files whose name holds "vdlrecords"; one for every (re)start
    return LogWriter(logdir=str(folder), file_name="vdlrecords.%010d.log" % start_step)
