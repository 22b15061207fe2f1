"""KD-SCFNet: salient object detection by knowledge distillation (ECCV 2022), in PaddlePaddle.

The public names are imported when they are first used: `import kdscfnet` loads neither Paddle nor OpenCV.
"""

from __future__ import annotations

import importlib

__version__ = "0.1.0"

# public name -> the module that defines it; None: the name is itself a module
_PUBLIC = {
    "SCFNet": "kdscfnet.models.scfnet",
    "Predictor": "kdscfnet.inference.predictor",
    "evaluate": "kdscfnet.evaluation.scores",
    "load_weights": "kdscfnet.weights.files",
    "save_weights": "kdscfnet.weights.files",
    "losses": None,
    "schedule": None,
    "optim": None,
    "recipes": None,
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name):  # PEP 562
    if name not in _PUBLIC:
        raise AttributeError("module 'kdscfnet' has no attribute '%s'" % name)
    module = _PUBLIC[name]
    value = (
        importlib.import_module("kdscfnet." + name)
        if module is None
        else getattr(importlib.import_module(module), name)
    )
    globals()[name] = value
    return value


def __dir__():
    return sorted([*globals(), *_PUBLIC])
