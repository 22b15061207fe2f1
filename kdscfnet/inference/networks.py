"""The networks that a predictor can run: dygraph Paddle, and ONNX Runtime on an exported network.

Both are called with float32 N×3×h×w, normalised, and return the finest logits, float32 N×1×h×w. Neither Paddle nor ONNX
Runtime is imported before it is needed, and with ONNX Runtime and an exported network Paddle never is.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import threading

import numpy as np

from kdscfnet.device import import_paddle, paddle_has_gpu
from kdscfnet.errors import ExportDiffers, UserError
from kdscfnet.inference.onnx_file import CannotExport, install_onnx, open_session
from kdscfnet.text import say
from kdscfnet.threads import available_cores
from kdscfnet.weights.weightfile import resolve

ENGINES = ("auto", "onnxruntime", "paddle")
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
        from kdscfnet.inference.exported import find_or_export

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
