"""Exporting the network: ONNX and Paddle's inference format, checked against dygraph before anything is written."""
from __future__ import annotations

import contextlib
import datetime
import hashlib
import importlib.util
import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np

import kdscfnet
from kdscfnet.errors import UserError
from kdscfnet.files import write_json
from kdscfnet.inference.weights import DEFAULT_SIZE, as_size, backbone_of, test_size

FORMAT = 1  # of the sidecar, and of what an exported network is; another number: exported anew
OPSET = 13
IR_VERSION = 7  # the oldest that opset 13 allows, for old versions of ONNX Runtime
TOLERANCE = 1e-5  # of the logits' range: the greatest difference to dygraph that an export may have


class CannotExport(UserError):
    """What an export needs is not installed."""


def file_sha256(path):
    """The sha256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def find_or_export(weights, backbone=None, size=None):
    """The exported network of a weight file: (path of the .onnx file, its sidecar as a dict).

    It is kept beside the weights, named by their hash, or in the user's cache where that folder is read-only. One that is
    there is verified before it is used, and exported anew where it is not what it should be.

    Args:
        weights: a weight file, or an exported network (.onnx).
        backbone: None: the one in the file.
        size: for Swin-B, which is exported for one size: an integer or (height, width).

    Raises CannotExport where there is none and it cannot be made here.
    """
    weights = Path(weights)
    if not weights.is_file():
        raise UserError("there is no weight file %s" % weights)
    if weights.suffix.lower() == ".onnx":
        return weights, read_sidecar(weights)
    digest = file_sha256(weights)

    def name(size):
        return "%s.%s%s.onnx" % (weights.stem, digest[:16], ".%dx%d" % size if size else "")

    swin_size = as_size(size or DEFAULT_SIZE["swin_b"])
    for folder in (weights.parent, cache_folder()):
        for path in (folder / name(None), folder / name(swin_size)):
            about = verified(path, digest, backbone)
            if about is not None:
                return path, about
    backbone = backbone or backbone_of(weights)
    folder = weights.parent if _is_writable(weights.parent) else cache_folder()
    swin_size = swin_size if backbone == "swin_b" else None
    path = folder / name(swin_size)
    from kdscfnet.inference.engines import say

    lacking = _lacking()
    if lacking:
        raise CannotExport(lacking)
    say("exporting the network for ONNX Runtime, once per weight file, to %s" % path)
    return path, export_onnx(weights, backbone, path, swin_size)


def _is_writable(folder):
    # the mode is asked too, since root may write where nobody is meant to
    return os.access(str(folder), os.W_OK) and bool(os.stat(str(folder)).st_mode & 0o222)


def _lacking():
    """What keeps this machine from exporting, as a line with the command that installs it; "" where nothing does."""
    from kdscfnet.inference.engines import INSTALL_ONNX

    names = [name for name in ("onnx", "onnxruntime", "paddle", "paddle2onnx") if importlib.util.find_spec(name) is None]
    if not names:
        return ""
    return "the network cannot be exported without %s: %s" % (
        " and ".join(names), "pip install paddlepaddle" if names == ["paddle"] else INSTALL_ONNX)


def cache_folder():
    """The user's folder for exported networks whose weights lie where nothing can be written."""
    home = os.environ.get("KDSCFNET_CACHE")
    if home:
        return Path(home)
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "kdscfnet"


def verified(path, weights_sha256, backbone):
    """The sidecar of an exported network if both are there, whole, and belong to these weights; else None."""
    try:
        with open(str(path.with_suffix(".json")), encoding="utf-8") as file:
            about = json.load(file)
        if about["format"] != FORMAT or about["weights"]["sha256"] != weights_sha256:
            return None
        if backbone not in (None, about["backbone"]):
            return None
        if file_sha256(path) != about["file"]["sha256"]:
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return about


def read_sidecar(path):
    """The sidecar of an exported network that a user names; {} where there is none."""
    sidecar = Path(path).with_suffix(".json")
    if not sidecar.is_file():
        return {}
    try:
        with open(str(sidecar), encoding="utf-8") as file:
            about = json.load(file)
        if about["file"]["sha256"] != file_sha256(path):
            raise UserError("%s is not the file that %s describes: export it anew" % (path, sidecar.name))
        return about
    except (ValueError, KeyError, TypeError):
        raise UserError("%s is no sidecar of an exported network: export anew, or remove it" % sidecar)


def export_onnx(weights, backbone, target, size=None):
    """Export the network of `weights` to `target` (.onnx) and its sidecar (.json); returns the sidecar.

    Args:
        weights: a weight file.
        size: None: any batch and any size (the convolutional backbones); (height, width): that size alone.

    The result is compared with dygraph on several sizes and batches. Raises UserError, and writes nothing, where they
    differ by more than TOLERANCE of the logits' range.
    """
    lacking = _lacking()
    if lacking:
        raise CannotExport(lacking)
    target = Path(target)
    from kdscfnet.inference.engines import open_session

    model = _load(weights, backbone)
    with tempfile.TemporaryDirectory(prefix="kdscfnet-export-") as folder:
        made = os.path.join(folder, "network.onnx")
        with quiet():
            prefix = _save_static(model, os.path.join(folder, "static"), backbone, size)
            _convert(prefix, made)
        session = open_session(made, 1)
        differences = measure(model, lambda image: session.run(None, {"image": image})[0], backbone, size)
        about = describe(weights, backbone, size, differences, made, target.name)
        _put(made, target)
    write_json(target.with_suffix(".json"), about)
    return about


def describe(weights, backbone, size, differences, made, name):
    """The sidecar: everything a program in another language needs to make the same maps."""
    from kdscfnet.data.transforms import MEAN, STD

    input_size = list(size or as_size(test_size(weights, backbone)))
    return {
        "format": FORMAT,
        "kdscfnet": kdscfnet.__version__,
        "made": datetime.datetime.utcnow().strftime("%Y-%m-%dT%H:%M:%SZ"),
        "backbone": backbone,
        "weights": {"file": Path(weights).name, "sha256": file_sha256(weights)},
        "file": {"name": name, "sha256": file_sha256(made), "opset": OPSET},
        "test_size": input_size,
        "input": {"name": "image", "dtype": "float32", "layout": "NCHW",
                  "shape": [1, 3] + list(size) if size else [None, 3, None, None]},
        "output": {"name": "logits", "dtype": "float32", "layout": "NCHW", "what": "the finest logits"},
        "preparation": [
            {"step": "read", "colours": "RGB", "range": [0, 255], "orientation": "as EXIF says"},
            {"step": "normalise", "formula": "(image - mean) / std", "mean": MEAN.tolist(), "std": STD.tolist()},
            {"step": "resize", "size": input_size, "interpolation": "bilinear", "align_corners": False,
             "antialias": False},
        ],
        "finish": [
            {"step": "sigmoid"},
            {"step": "resize", "size": "the image's own", "interpolation": "bilinear", "align_corners": True},
            {"step": "scale", "factor": 255, "rounding": "nearest, halves to even", "dtype": "uint8"},
        ],
        "difference": {"to": "dygraph Paddle", "tolerance": TOLERANCE,
                       "unit": "greatest absolute difference / range of the logits", "measured": differences},
    }


def measure(model, run, backbone, size=None):
    """Compare `run` (numpy → numpy) with the dygraph `model` on random images of several sizes and batches.

    Returns a list of {"shape", "difference", "range", "relative"}. Raises UserError where one is over TOLERANCE.
    """
    import paddle

    if size:
        shapes = [(1, 3) + tuple(size)]
    else:
        shapes = [(1, 3, 352, 352), (2, 3, 224, 320), (3, 3, 96, 64), (1, 3, 57, 131)]
    found = []
    for seed, shape in enumerate(shapes):
        image = np.random.RandomState(seed).standard_normal(shape).astype(np.float32)
        with paddle.no_grad():
            expected = model(paddle.to_tensor(image)).numpy()
        got = run(image)
        if got.shape != expected.shape or not np.isfinite(got).all():
            raise UserError("the exported network gives %s for %s, dygraph %s: nothing was written"
                            % (got.shape, shape, expected.shape))
        difference, extent = float(np.abs(got - expected).max()), float(np.ptp(expected))
        relative = difference / extent if extent else float(difference > 0)
        found.append({"shape": list(shape), "difference": difference, "range": extent, "relative": relative})
        if not relative < TOLERANCE:
            raise UserError("the exported network differs from dygraph by %.1e of the logits' range on %s, more than %.0e: "
                            "nothing was written" % (relative, "×".join(map(str, shape)), TOLERANCE))
    return found


def _load(weights, backbone):
    import paddle

    from kdscfnet.models.scfnet import SCFNet
    from kdscfnet.pretrained.safe_load import load_weights

    class Finest(paddle.nn.Layer):
        """The network with its finest output alone: what only the coarser ones need is left out of the export."""

        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, image):
            return self.model(image)[0]

    model = SCFNet(backbone)
    load_weights(model, weights)
    model = Finest(model)
    model.eval()
    return model


def _save_static(model, prefix, backbone, size):
    import paddle

    shape = [1, 3] + list(size) if size else [None, 3, None, None]
    paddle.jit.save(model, prefix, input_spec=[paddle.static.InputSpec(shape, "float32", "image")])
    return prefix


def _convert(prefix, target):
    import onnx
    import paddle2onnx

    program = next(prefix + suffix for suffix in (".json", ".pdmodel") if os.path.isfile(prefix + suffix))
    # Without a target file nothing is run over the result. (The default tries Polygraphy, which installs packages.)
    data = paddle2onnx.export(program, prefix + ".pdiparams", None, OPSET, False)
    network = onnx.load_from_string(data)
    network.ir_version = IR_VERSION
    _tidy(network)
    onnx.checker.check_model(network)
    onnx.save(network, target)


def _tidy(network):
    """Name the output, and drop initializers that nothing uses (ONNX Runtime warns about each)."""
    graph = network.graph
    old = graph.output[0].name
    graph.output[0].name = "logits"
    used = set()
    for node in graph.node:
        node.output[:] = ["logits" if name == old else name for name in node.output]
        node.input[:] = ["logits" if name == old else name for name in node.input]
        used.update(node.input)
    kept = [value for value in graph.initializer if value.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    for value, names in ((graph.input[0], ("batch", None, "height", "width")),
                         (graph.output[0], ("batch", None, "height", "width"))):
        for dimension, name in zip(value.type.tensor_type.shape.dim, names):
            if name and dimension.dim_param:
                dimension.dim_param = name


def _put(made, target):
    from kdscfnet.files import atomic_path

    with atomic_path(target) as temporary:
        shutil.copyfile(made, temporary)


@contextlib.contextmanager
def quiet():
    """Keep what C++ libraries print off the user's terminal, and out of a result that goes to standard output."""
    import sys

    sys.stdout.flush()
    sys.stderr.flush()
    saved = [(number, os.dup(number)) for number in (1, 2)]
    sink = os.open(os.devnull, os.O_WRONLY)
    try:
        for number, _ in saved:
            os.dup2(sink, number)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, copy in saved:
            os.dup2(copy, number)
            os.close(copy)
        os.close(sink)
