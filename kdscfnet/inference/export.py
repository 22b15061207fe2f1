"""Making exported networks, ONNX and Paddle's inference format; each is compared with dygraph before it is written."""

from __future__ import annotations

import datetime
import os
import sys
from pathlib import Path

import numpy as np

import kdscfnet
from kdscfnet.device import import_paddle
from kdscfnet.errors import ExportDiffers
from kdscfnet.files import file_sha256, write_json
from kdscfnet.inference.onnx_file import FORMAT, CannotExport, open_session, require_exporter
from kdscfnet.processing import MEAN, STD
from kdscfnet.weights.weightfile import resolve

OPSET = 14
IR_VERSION = 7  # the oldest that opset 14 allows, for old versions of ONNX Runtime
TOLERANCE = 1e-5  # of the logits' range: the greatest difference to dygraph that an export may have


def export(formats, weights, backbone, folder, name, size=None):
    """Export the network of `weights` to `folder`, as files that are called "network" and a suffix there.

    Args:
        formats: of "onnx" (.onnx) and "paddle" (a Paddle inference model: .pdiparams, and .json of Paddle 3 or .pdmodel
            of Paddle 2), each with its sidecar (.onnx.json, .paddle.json).
        weights: a weight file.
        name: what stands before the suffixes in the end; the sidecars name the files so.
        size: None: any size (the convolutional backbones); (height, width): that size alone. The batch is always free.

    Each is compared with dygraph on several sizes and batches. Returns [(suffixes of the files, the sidecar)], one of
    each format. Raises ExportDiffers where one differs by more than TOLERANCE of the logits' range.
    """
    if "onnx" in formats:
        require_exporter()
    network, static, made = _load(weights, backbone), os.path.join(folder, "network"), []
    reference = dygraph_outputs(network, size)
    _save_static(network, static, size)
    program = next(suffix for suffix in (".json", ".pdmodel") if os.path.isfile(static + suffix))
    for each in formats:
        if each == "onnx":
            _convert(static, program)
            session = open_session(static + ".onnx", 1)
            measured = compare(reference, lambda image, session=session: session.run(None, {"image": image})[0])
            suffixes, sidecar = [".onnx"], ".onnx.json"
            about = {"file": {"name": name + ".onnx", "sha256": file_sha256(static + ".onnx"), "opset": OPSET}}
        else:
            measured = compare(reference, _inference_predictor(static + program, static + ".pdiparams"))
            suffixes, sidecar = [program, ".pdiparams"], ".paddle.json"
            about = {
                "files": [{"name": name + suffix, "sha256": file_sha256(static + suffix)} for suffix in suffixes],
                "paddle": sys.modules["paddle"].__version__,
                "run": "paddle.inference; on a CPU with config.disable_mkldnn(): "
                "these kernels of 3.3 fail on this network",
            }
        about = dict(describe(weights, backbone, size, measured), **about)
        write_json(static + sidecar, about)
        made.append(([*suffixes, sidecar], about))
    return made


def describe(weights, backbone, size, differences):
    """The sidecar: everything a program in another language needs to make the same maps."""
    weights, resize = resolve(weights), {"step": "resize", "interpolation": "bilinear"}
    input_size = list(size or weights.test_size())
    return {
        "format": FORMAT,
        "kdscfnet": kdscfnet.__version__,
        "made": datetime.datetime.utcnow().strftime("%Y-%m-%dT%H:%M:%SZ"),
        "backbone": backbone,
        "weights": {"file": Path(weights).name, "sha256": weights.sha256},
        "test_size": input_size,
        "input": {"name": "image", "dtype": "float32", "layout": "NCHW", "shape": [None, 3, *(size or (None, None))]},
        "output": {"name": "logits", "dtype": "float32", "layout": "NCHW", "what": "the finest logits"},
        "preparation": [
            {"step": "read", "colours": "RGB", "range": [0, 255], "orientation": "as EXIF says"},
            {"step": "normalise", "formula": "(image - mean) / std", "mean": MEAN.tolist(), "std": STD.tolist()},
            dict(resize, size=input_size, align_corners=False, antialias=False),
        ],
        "finish": [
            {"step": "sigmoid"},
            dict(resize, size="the image's own", align_corners=True),
            {"step": "scale", "factor": 255, "rounding": "nearest, halves to even", "dtype": "uint8"},
        ],
        "difference": {
            "to": "dygraph Paddle",
            "tolerance": TOLERANCE,
            "unit": "greatest absolute difference / range of the logits",
            "measured": differences,
        },
    }


def dygraph_outputs(network, size=None):
    """What dygraph makes of random images of several sizes and batches: a list of (image, logits)."""
    import paddle

    if size:
        shapes = [(1, 3) + tuple(size), (2, 3) + tuple(size)]
    else:
        shapes = [(1, 3, 352, 352), (2, 3, 224, 320), (3, 3, 96, 64), (1, 3, 57, 131)]
    outputs = []
    for seed, shape in enumerate(shapes):
        image = np.random.RandomState(seed).standard_normal(shape).astype(np.float32)
        with paddle.no_grad():
            outputs.append((image, network(paddle.to_tensor(image)).numpy()))
    return outputs


def compare(reference, run):
    """Compare `run` (numpy → numpy) with dygraph's outputs.

    Returns a list of {"shape", "difference", "range", "relative"}. Raises ExportDiffers where one is over TOLERANCE.
    """
    found = []
    for image, expected in reference:
        got = run(image)
        if got.shape != expected.shape or not np.isfinite(got).all():
            shapes = got.shape, image.shape, expected.shape
            raise ExportDiffers("the exported network gives %s for %s, dygraph %s: nothing was written" % shapes)
        difference, extent = float(np.abs(got - expected).max()), float(np.ptp(expected))
        relative = difference / extent if extent else float(difference > 0)
        found.append({"shape": list(image.shape), "difference": difference, "range": extent, "relative": relative})
        if not relative < TOLERANCE:
            raise ExportDiffers(
                "the exported network differs from dygraph by %.1e of the logits' range on %s, more than %.0e: "
                "nothing was written" % (relative, "×".join(map(str, image.shape)), TOLERANCE)
            )
    return found


def _load(weights, backbone):
    paddle = import_paddle()
    from kdscfnet.models.scfnet import SCFNet
    from kdscfnet.weights.files import load_weights

    class Finest(paddle.nn.Layer):
        """The network with its finest output alone: what only the coarser ones need is left out of the export."""

        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, image):
            return self.model(image)[0]

    network = Finest(SCFNet(backbone))
    load_weights(network.model, weights)
    network.eval()
    return network


def _save_static(network, prefix, size):
    import paddle

    # Swin's masks belong to the size and are no part of its state; the program needs them to be. (They were made when
    # the dygraph reference was computed; made while tracing, they would be of no use outside it.)
    for number, mask in enumerate(getattr(network.model.bkbone, "_masks", {}).values()):
        network.register_buffer("mask%d" % number, mask)
    shape = [None, 3] + list(size or (None, None))
    try:
        paddle.jit.save(network, prefix, input_spec=[paddle.static.InputSpec(shape, "float32", "image")])
    except Exception as error:  # Paddle 2.2 and Swin-B
        lines = [line.strip() for line in str(error).splitlines() if "Error:" in line] or [type(error).__name__]
        raise CannotExport(
            "Paddle %s cannot trace this network (%s): export it with Paddle 2.6 or later"
            % (paddle.__version__, lines[-1][:200])
        )


def _inference_predictor(program, parameters):
    """A function of numpy that runs a Paddle inference model the way a user would."""
    from paddle import inference

    config = inference.Config(program, parameters)
    config.disable_gpu()
    config.disable_glog_info()
    if hasattr(config, "disable_mkldnn"):  # Paddle 3 turns these kernels on
        config.disable_mkldnn()
    predictor = inference.create_predictor(config)

    def run(image):
        handle = predictor.get_input_handle(predictor.get_input_names()[0])
        handle.reshape(image.shape)
        handle.copy_from_cpu(image)
        predictor.run()
        return predictor.get_output_handle(predictor.get_output_names()[0]).copy_to_cpu()

    return run


def _convert(static, program):
    """The static network as ONNX, beside it. `program`: the suffix of its program."""
    import onnx
    import paddle2onnx

    # Without a target file nothing is run over the result. (The default tries Polygraphy, which installs packages.)
    data = paddle2onnx.export(static + program, static + ".pdiparams", None, OPSET, True)
    network = onnx.load_from_string(data)
    network.ir_version = IR_VERSION
    # name the output, mend what paddle2onnx gets wrong, and drop initializers that nothing uses
    graph = network.graph
    old = graph.output[0].name
    graph.output[0].name = "logits"
    used = set()
    for node in graph.node:
        if node.op_type == "Pad":
            # paddle2onnx 2.1 leaves the value to whatever is in memory; this network pads with zeros
            if not any(value.name == "zero" for value in graph.initializer):
                graph.initializer.append(onnx.numpy_helper.from_array(np.array(0, np.float32), "zero"))
            node.input[2] = "zero"
        node.output[:] = ["logits" if name == old else name for name in node.output]
        node.input[:] = ["logits" if name == old else name for name in node.input]
        used.update(node.input)
    kept = [value for value in graph.initializer if value.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    for value in (graph.input[0], graph.output[0]):
        for dimension, name in zip(value.type.tensor_type.shape.dim, ("batch", None, "height", "width")):
            if name and dimension.dim_param:
                dimension.dim_param = name
    onnx.checker.check_model(network)
    onnx.save(network, static + ".onnx")
