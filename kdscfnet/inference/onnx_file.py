"""What an exported network is: an .onnx file with a sidecar; opening one, and what making one needs."""

from __future__ import annotations

import importlib.util
import sys

from kdscfnet import dependencies
from kdscfnet.device import paddle_version
from kdscfnet.errors import UserError

FORMAT = 1  # of the sidecar, and of what an exported network is; another number: exported anew


class CannotExport(UserError):
    """What an export needs is not installed."""


def open_session(path, threads, size=None):
    """An ONNX Runtime session on `threads` threads of the CPU; `size`: for one image of that (height, width) alone."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if size:  # then what follows from the size is computed once, when the session is opened
        for name, side in zip(("batch", "height", "width"), (1,) + size):
            options.add_free_dimension_override_by_name(name, side)
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # of many types, none of them public
        raise UserError("ONNX Runtime cannot load %s (%s)" % (path, str(error).strip().splitlines()[-1][:200]))
    inputs, outputs = session.get_inputs(), session.get_outputs()
    shape = inputs[0].shape
    if len(inputs) != 1 or len(shape) != 4 or shape[1] != 3 or inputs[0].type != "tensor(float)" or not outputs:
        raise UserError("%s is not an exported SCFNet: its input is %s" % (path, shape))
    return session


def require_exporter():
    """Raises CannotExport, which says what to do, where this machine cannot make an .onnx file."""
    modules = ("onnx", "onnxruntime", "paddle", "paddleseg", "paddle2onnx")
    names = [name for name in modules if importlib.util.find_spec(name) is None]
    if not names:
        return
    if "paddle2onnx" in names and "paddle2onnx" not in dependencies.read("onnx"):
        raise CannotExport(
            "the network cannot be exported on Python %d.%d, for which paddle2onnx has no build: "
            "`kdscfnet export` on Python 3.12 makes the .onnx file, which runs here" % sys.version_info[:2]
        )
    training = dependencies.lacking(dependencies.read("train", "cpu")) if {"paddle", "paddleseg"} & set(names) else {}
    commands = [dependencies.install(*training.values())] if training else []
    if set(names) - {"paddle", "paddleseg"}:
        commands.append(install_onnx())
    raise CannotExport("the network cannot be exported without %s: %s" % (" and ".join(names), " && ".join(commands)))


def install_onnx():
    """The command that installs what ONNX Runtime and the export need beside the Paddle that is here."""
    version = paddle_version("full_version") or "3"
    return 'pip install onnxruntime onnx "paddle2onnx%s"' % (">=2,<3" if version.startswith("3") else ">=1,<2")
