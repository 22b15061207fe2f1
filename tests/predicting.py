"""What the tests of prediction share: weight files with the golden weights, exported once, and pictures."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from golden_models import KINDS, golden_model

BACKBONES = {backbone: kind for kind, backbone in KINDS.items()}


@functools.lru_cache(maxsize=1)
def workshop():
    """A folder for what is made once per run of the tests."""
    folder = tempfile.mkdtemp(prefix="kdscfnet-tests-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def weight_file(backbone="mobilenetv3"):
    """A weight file of the golden weights, in a folder of its own, where its exported network goes too."""
    from kdscfnet.weights.files import save_weights

    path = workshop() / backbone / ("golden_%s.pdparams" % backbone)
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        save_weights(golden_model(BACKBONES[backbone]), str(path))
    return path


def needs_export():
    """Skip where the network cannot be exported; the version matrix has such a stack."""
    for name in ("paddle2onnx", "onnx", "onnxruntime"):
        pytest.importorskip(name)


def exported_file(backbone="mobilenetv3"):
    """A weight file whose exported network is beside it."""
    from kdscfnet.inference.networks import find_or_export

    find_or_export(weight_file(backbone), backbone)
    return weight_file(backbone)


@functools.lru_cache(maxsize=None)
def predictor(engine="onnxruntime", size=None, threads=None):
    """A Predictor of the student with golden weights."""
    from kdscfnet import Predictor

    if engine == "onnxruntime":
        needs_export()
        exported_file()
    return Predictor(str(weight_file()), engine=engine, size=size, threads=threads)


def picture(height=48, width=64, seed=0):
    """uint8 H×W×3 RGB: soft shapes with some grain."""
    rng = np.random.RandomState(seed)
    shapes = cv2.resize(rng.randint(0, 256, (4, 5, 3)).astype(np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(shapes + rng.normal(0, 4, shapes.shape), 0, 255).astype(np.uint8)


def save(path, image, *options):
    """Write uint8 H×W×3 RGB (or H×W) by OpenCV; returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    done, data = cv2.imencode(path.suffix, image[..., ::-1] if image.ndim == 3 else image, list(options))
    assert done
    path.write_bytes(data.tobytes())
    return path
