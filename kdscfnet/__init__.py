"""KD-SCFNet: salient object detection by knowledge distillation (ECCV 2022), in PaddlePaddle.

The public names are imported when they are first used: `import kdscfnet` loads neither Paddle nor OpenCV.
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False  # type checkers know the name; typing would take as long to load as all the rest
if TYPE_CHECKING:  # they cannot follow __getattr__
    from kdscfnet import losses as losses
    from kdscfnet import optim as optim
    from kdscfnet import recipes as recipes
    from kdscfnet import schedule as schedule
    from kdscfnet.errors import BadImageError as BadImageError
    from kdscfnet.errors import UserError as UserError
    from kdscfnet.errors import WeightsError as WeightsError
    from kdscfnet.evaluation.scores import evaluate as evaluate
    from kdscfnet.inference.predictor import Predictor as Predictor
    from kdscfnet.inference.predictor import remove_background as remove_background
    from kdscfnet.models.scfnet import SCFNet as SCFNet
    from kdscfnet.weights.files import load_weights as load_weights
    from kdscfnet.weights.files import save_weights as save_weights

__version__ = "0.1.0"

# public name -> the module that defines it; None: the name is itself a module
_PUBLIC = {
    "SCFNet": "kdscfnet.models.scfnet",
    "Predictor": "kdscfnet.inference.predictor",
    "remove_background": "kdscfnet.inference.predictor",
    "evaluate": "kdscfnet.evaluation.scores",
    "load_weights": "kdscfnet.weights.files",
    "save_weights": "kdscfnet.weights.files",
    "UserError": "kdscfnet.errors",
    "WeightsError": "kdscfnet.errors",
    "BadImageError": "kdscfnet.errors",
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
    try:
        value = importlib.import_module(module or "kdscfnet." + name)
    except ModuleNotFoundError as error:
        from kdscfnet.dependencies import explain

        message = explain(error.name)
        if not message:
            raise
        raise ModuleNotFoundError(message, name=error.name) from None
    globals()[name] = value if module is None else getattr(value, name)
    return globals()[name]


def __dir__():
    return sorted([*globals(), *_PUBLIC])
