"""Checkpoints: everything a run needs to go on as if nothing had happened, in one file, whole or not at all.

A checkpoint holds the model, the optimizer, the step, and what else is passed in. Random numbers need no state: they
are functions of (seed, step). The file is numpy's .npz: it is read without pickle, so it runs nothing, and the checksum
of each array finds a flipped bit.
"""

from __future__ import annotations

import contextlib
import json
import os
import re

import numpy as np

from kdscfnet.errors import UserError, WeightsError
from kdscfnet.files import atomic_file, open_regular
from kdscfnet.text import shown_path

_NAME = re.compile(r"^step_(\d+)\.pdckpt$")
_HEADER = "kdscfnet"  # the entry with step and extra, as JSON text in bytes; arrays are model/KEY and optimizer/KEY


def _velocities(model):
    """{parameter's name: name of its momentum in the optimizer's state}.

    Paddle's names (conv2d_17.w_0_velocity_0) count all layers made in the process and change from run to run.
    """
    return {name: parameter.name + "_velocity_0" for name, parameter in model.named_parameters()}


def checkpoint_path(folder, step):
    return os.path.join(folder, "step_%08d.pdckpt" % step)


def save_checkpoint(folder, step, model, optimizer, extra):
    """Write folder/step_<step>.pdckpt; `extra` is a dict of JSON values. Returns the path."""
    path, state = checkpoint_path(folder, step), optimizer.state_dict()
    arrays = {"model/" + key: value.numpy() for key, value in model.state_dict().items()}
    for name, velocity in _velocities(model).items():
        if velocity in state:
            arrays["optimizer/" + name] = state[velocity].numpy()
    write_arrays(path, arrays, {"step": step, "extra": extra})
    return path


def write_arrays(path, arrays, header):
    """Write {key: array} and a dict of JSON values as .npz, whole or not at all, and on the disk when this returns."""
    # with the names of the arrays: a zip archive whose directory is damaged may just seem to be shorter
    header = json.dumps(dict(header, arrays=list(arrays))).encode()
    arrays = dict(arrays, **{_HEADER: np.frombuffer(header, np.uint8)})
    with atomic_file(path) as file:
        np.savez(file, **arrays)


def list_checkpoints(folder, after=-1):
    """Paths of the checkpoints in `folder`, newest first; `after`: those of later steps only."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        found = [(int(m.group(1)), os.path.join(folder, m.group(0))) for m in map(_NAME.match, os.listdir(folder)) if m]
    return [path for step, path in sorted(found, reverse=True) if step > after]


def read_checkpoint(path):
    """Read one checkpoint: {"step", "extra", "model": {key: array}, "optimizer": {key: array}}.

    Raises WeightsError where it is not whole, and UserError where it is of a version that wrote pickles.
    """
    with open_regular(path) as (file, _):
        return parse_checkpoint(file, shown_path(path))


def parse_checkpoint(file, name):
    """`read_checkpoint` of a binary file that is open. name: of the file, for messages."""
    if file.read(4) == b"\x80\x04}(":
        raise UserError("%s: checkpoints of earlier versions are not read: begin anew in another --output" % name)
    file.seek(0)
    try:
        with np.load(file, allow_pickle=False) as archive:  # reading an entry to its end compares its checksum
            arrays = {key: archive[key] for key in archive.files}
        header = json.loads(arrays.pop(_HEADER).tobytes().decode())
        if header["arrays"] != list(arrays):
            raise ValueError("arrays are missing")
        value = {"step": header["step"], "extra": header["extra"], "model": {}, "optimizer": {}}
        for key, array in arrays.items():
            part, _, key = key.partition("/")
            value[part][key] = array
    except Exception as error:  # zipfile, numpy and JSON have one each for what a damaged file may be
        raise WeightsError(name, "is not a whole checkpoint (%s)" % type(error).__name__)
    return value


def newest_checkpoint(folder):
    """The newest checkpoint in `folder` that is whole, read; None where there is none. Says which are not whole."""
    for path in list_checkpoints(folder):
        try:
            return read_checkpoint(path)
        except WeightsError as error:
            print("left out: %s" % error)
    return None


def restore(value, model, optimizer):
    """Load a checkpoint that was read into model and optimizer."""
    import paddle

    state, velocities = model.state_dict(), _velocities(model)
    wrong = [k for k in state if k not in value["model"] or list(value["model"][k].shape) != list(state[k].shape)]
    wrong += sorted({*value["model"]} - {*state} | {*value["optimizer"]} - {*velocities})
    if wrong:
        raise UserError("the checkpoint is of another network (%s): use the output folder of this recipe" % wrong[0])
    for key, tensor in state.items():
        tensor.set_value(value["model"][key])
    optimizer.set_state_dict({velocities[key]: paddle.to_tensor(array) for key, array in value["optimizer"].items()})


def prune(folder, keep):
    """Remove all but the newest `keep` checkpoints."""
    for path in list_checkpoints(folder)[keep:]:
        os.unlink(path)
