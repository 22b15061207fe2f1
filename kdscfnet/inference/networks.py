"""The networks that a predictor can run: dygraph Paddle, and ONNX Runtime on an exported network, found or made here.

Both are called with float32 N×3×h×w, normalised, and return the finest logits, float32 N×1×h×w. Neither Paddle nor ONNX
Runtime is imported before it is needed, and with ONNX Runtime and an exported network Paddle never is.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np

from kdscfnet.child import Crashed, in_child
from kdscfnet.device import import_paddle, paddle_has_gpu
from kdscfnet.errors import ExportDiffers, UserError
from kdscfnet.files import replace, write_error
from kdscfnet.inference.onnx_file import FORMAT, CannotExport, install_onnx, open_session, require_exporter
from kdscfnet.recipes import ENGINES
from kdscfnet.text import say
from kdscfnet.threads import available_cores
from kdscfnet.weights.release import cache_folder
from kdscfnet.weights.weightfile import WeightFile, resolve

_CHUNK = 4  # images per call of ONNX Runtime


class OnnxNetwork:
    """The network on ONNX Runtime, on the CPU.

    Args:
        weights: a weight file (.pdparams, .safetensors), whose exported network is looked for beside it and in the
            user's cache, and made where there is none; or an exported .onnx file.
        backbone: as in SCFNet; None: the one in the file.
        size: the size the exported network is for; only Swin-B needs one. An integer or (height, width).
        threads: threads of one call; default: all cores.

    Attributes:
        size: the one (height, width) that it takes; None: any.
        usual: the (height, width) of images that come one at a time, which run a little faster then; to be set.

    network(images): float32 N×3×h×w → the finest logits, float32 N×1×h×w. Any N, h, w with the two convolutional
    backbones. Calls from several threads run side by side: give each `threads=1` for the most images per second.
    """

    name = "onnxruntime"
    concurrent = True

    def __init__(self, weights, backbone=None, size=None, threads=None):
        if importlib.util.find_spec("onnxruntime") is None:
            raise CannotExport("ONNX Runtime is not installed: %s" % install_onnx())
        self.path, self.about = find_or_export(weights, backbone, size)
        self.backbone = self.about.get("backbone", backbone)
        self.threads = threads or available_cores()
        self._sessions = {}
        self._lock = threading.Lock()
        sides = tuple(self.about["input"]["shape"][2:])
        self.size, self.usual = None if None in sides else sides, None

    def _session(self, threads, size=None):
        with self._lock:
            if (threads, size) not in self._sessions:
                self._sessions[threads, size] = open_session(self.path, threads, size)
            return self._sessions[threads, size]

    def __call__(self, images, threads=None):
        if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape:
            raise ValueError("the network takes N×3×h×w, not %s" % "×".join(map(str, images.shape)))
        images = np.ascontiguousarray(images, np.float32)
        usual = len(images) == 1 and images.shape[2:] == self.usual
        session = self._session(threads or self.threads, self.usual if usual else None)
        name = session.get_inputs()[0].name
        step = 1 if self.size else _CHUNK  # larger batches are no faster on a CPU and take more memory
        chunks = [session.run(None, {name: images[at : at + step]})[0] for at in range(0, len(images), step)]
        return chunks[0] if len(chunks) == 1 else np.concatenate(chunks)


class PaddleNetwork:
    """The network in dygraph Paddle, on `device` ("cpu", "gpu", "gpu:0"; default: a GPU where there is one).

    `threads` counts where Paddle has not been imported yet.

    network(images): float32 N×3×h×w numpy → the finest logits, float32 N×1×h×w numpy.
    """

    name = "paddle"
    concurrent = False  # one call at a time: dygraph keeps its state in the process

    def __init__(self, weights, backbone=None, device=None, threads=None):
        if threads and "paddle" not in sys.modules:
            # a stated number goes before the environment's; the second variable counts at the first computation
            os.environ["FLAGS_paddle_num_threads"] = str(threads)
            os.environ.pop("OMP_NUM_THREADS", None)
        paddle = import_paddle(threads)
        from kdscfnet.device import select_device
        from kdscfnet.models.scfnet import SCFNet
        from kdscfnet.weights.files import load_weights

        select_device(device or "auto")
        weights, self._paddle, self._device = resolve(weights), paddle, paddle.device.get_device()
        self.on_gpu, self.size = self._device.startswith("gpu"), None
        self.backbone = backbone or weights.network()
        self.model = SCFNet(self.backbone)
        load_weights(self.model, weights)
        self.model.eval()

    def __call__(self, images, threads=None):
        before = self._paddle.device.get_device()
        if before != self._device:  # another network of this process may run on another one
            self._paddle.set_device(self._device)
        try:
            with self._paddle.no_grad():
                return self.model(self._paddle.to_tensor(np.ascontiguousarray(images, np.float32)))[0].numpy()
        finally:
            if before != self._device:
                self._paddle.set_device(before)


def open_network(weights, backbone=None, engine="auto", size=None, threads=None, device=None):
    """The network of a weight file on the engine asked for; "auto": Paddle on a GPU, else ONNX Runtime, else Paddle."""
    if engine not in ENGINES:
        raise UserError("engine is %r: one of %s" % (engine, ", ".join(ENGINES)))
    weights = resolve(weights)
    device = None if device == "auto" else device
    if device and device.split(":")[0] not in ("cpu", "gpu"):
        raise UserError("device is %r: auto, cpu, gpu or gpu:N" % device)
    exported = weights.kind == "exported"
    if device and device != "cpu" and (exported or engine == "onnxruntime"):
        raise UserError("ONNX Runtime runs on the CPU here: leave the device out, or take the engine paddle")
    if engine == "paddle" and exported:
        raise UserError("%s is an exported network, which only the engine onnxruntime runs" % weights)
    may_fall_back = engine == "auto" and not exported
    if may_fall_back and ((device or "").startswith("gpu") or (device is None and paddle_has_gpu())):
        engine = "paddle"
    if engine != "paddle":
        has_onnxruntime, has_paddle = (importlib.util.find_spec(name) is not None for name in ("onnxruntime", "paddle"))
        if may_fall_back and not has_onnxruntime and not has_paddle:
            message = "neither ONNX Runtime nor Paddle is installed: pip install paddlepaddle, then "
            raise UserError(message + install_onnx())
        try:
            return OnnxNetwork(weights, backbone, size, threads)
        except (CannotExport, ExportDiffers) as error:
            if not may_fall_back or not has_paddle:
                raise
            say("%s; so Paddle runs the network, several times slower" % error)
    return PaddleNetwork(weights, backbone, device, threads)


def find_or_export(weights, backbone=None, size=None):
    """The exported network of a weight file: (path of the .onnx file, its sidecar as a dict).

    It is the one beside the weights with their name, as the bundled student has it, where that was made from them.
    Otherwise it is kept beside the weights, named by their hash, or in the user's cache where that folder is read-only
    or belongs to an installed package. One that is there is verified before it is used, and exported anew where it is
    not what it should be.

    Args:
        weights: a weight file, or an exported network (.onnx): a WeightFile, or its path.
        backbone: None: the one in the file.
        size: for Swin-B, which is exported for one size: an integer or (height, width).

    Raises CannotExport where there is none and it cannot be made here.
    """
    weight_file = resolve(weights)
    weights = Path(weight_file)
    if weight_file.kind == "exported":
        if not weight_file.sidecar:
            text = "%s comes without its sidecar %s.json, so it may be another network: kdscfnet export makes both"
            raise UserError(text % (weights, weights.name))
        return weights, weight_file.sidecar
    digest = weight_file.sha256

    def name(size):
        return "%s.%s%s.onnx" % (weights.stem, digest[:16], ".%dx%d" % size if size else "")

    swin_size = weight_file.test_size(size)
    kept = [folder / name(side) for folder in (weights.parent, cache_folder()) for side in (None, swin_size)]
    for path in (weights.with_suffix(".onnx"), *kept):  # the bundled student comes with the first
        about = WeightFile(path).sidecar
        is_of_weights = about.get("format") == FORMAT and about.get("weights", {}).get("sha256") == digest
        is_of_backbone = backbone in (None, about.get("backbone"))
        if is_of_weights and is_of_backbone and about["input"]["shape"][2:] in ([None, None], list(swin_size)):
            return path, about
    backbone = backbone or weight_file.network()
    installed = Path(__file__).resolve().parents[1] in weights.resolve().parents
    folder = cache_folder() if installed or write_error(weights.parent) else weights.parent
    swin_size = swin_size if backbone == "swin_b" else None
    path = folder / name(swin_size)
    require_exporter()
    say("exporting the network for ONNX Runtime, once per weight file, to %s" % path)
    try:
        ((_, about),) = export_in_child(["onnx"], weight_file, backbone, path.with_suffix(""), swin_size)
    except OSError as error:
        advice = "name a folder that can be written by KDSCFNET_CACHE"
        raise CannotExport("there is no place for the exported network (%s: %s): %s" % (folder, error.strerror, advice))
    return path, about


def export_in_child(formats, weight_file, backbone, prefix, size=None):
    """Export the network of a weight file to files of the name `prefix` and a suffix, whole, and all of them or none.

    It is done in a process of its own, on the CPU: exporters print a lot, take memory that Paddle does not give back,
    and some end the process where they fail. Arguments and errors as for `export.export`; CannotExport where the
    process crashed. Returns [(paths of the files, the sidecar)], one of each format.
    """
    prefix.parent.mkdir(parents=True, exist_ok=True)
    arguments = {"formats": formats, "weights": weight_file.path, "backbone": backbone, "size": size}
    on_cpu = {"CUDA_VISIBLE_DEVICES": ""}
    with tempfile.TemporaryDirectory(prefix=".export-", dir=str(prefix.parent)) as folder:
        try:
            made = in_child("kdscfnet.inference.export:export", on_cpu, folder=folder, name=prefix.name, **arguments)
        except Crashed as crash:
            advice = "these versions fit: %s" % install_onnx()
            raise CannotExport("the network could not be exported (%s): %s" % (crash, advice))
        for suffix in [suffix for suffixes, _ in made for suffix in suffixes]:
            replace(os.path.join(folder, "network" + suffix), str(prefix) + suffix)
    return [([Path(str(prefix) + suffix) for suffix in suffixes], about) for suffixes, about in made]
