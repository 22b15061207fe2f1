"""The VisualDL board, under the authors' tags."""

from __future__ import annotations

import logging

import numpy as np

LOSS_TAGS = ("train/loss", "train/loss1", "train/loss2", "train/loss3", "train/loss4")


class Board:
    """Writes scalars, pictures and hyper-parameters for `visualdl --logdir FOLDER`.

    A run that was interrupted writes a further file in the same folder; steps that are done again have the same values.
    """

    def __init__(self, folder, start_step=0):
        logging.getLogger("visualdl").setLevel(logging.ERROR)
        from visualdl import LogWriter

        # VisualDL finds files whose name holds "vdlrecords"; one for every (re)start
        self._writer = LogWriter(logdir=str(folder), file_name="vdlrecords.%010d.log" % start_step)

    def losses(self, step, rate, losses):
        """losses: (total, L2, L3, L4, L5), floats."""
        self._writer.add_scalar("train/lr", float(rate), step)
        for tag, value in zip(LOSS_TAGS, losses):
            self._writer.add_scalar(tag, float(value), step)

    def scalar(self, tag, value, step):
        self._writer.add_scalar(tag, float(value), step)

    def picture(self, tag, image, step):
        """image: uint8 H×W×3 RGB."""
        self._writer.add_image(tag, np.ascontiguousarray(image), step)

    def hyper_parameters(self, values, metrics):
        """values: {name: number or text}; metrics: tags that the table of runs shows beside them."""
        kept = {
            k: v if isinstance(v, (int, float, str)) and not isinstance(v, bool) else str(v) for k, v in values.items()
        }
        self._writer.add_hparams(kept, list(metrics))

    def close(self):
        self._writer.close()


class NoBoard:
    """For ranks other than the first."""

    def __getattr__(self, name):
        return lambda *args, **kwargs: None
