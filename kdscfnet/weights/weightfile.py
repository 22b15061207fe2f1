"""Which weight file to predict with, which network it holds, and the size it was made for. Imports no Paddle."""

from __future__ import annotations

import json
import os

from kdscfnet.errors import UserError, WeightsError

DEFAULT_SIZE = {"mobilenetv3": 352, "resnet50": 352, "swin_b": 384}


def as_size(size):
    """An integer or (height, width) → (height, width)."""
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


def resolve(weights=None):
    """The path of a weight file.

    Args:
        weights: a path; a name of the release that `kdscfnet weights list` shows, or "bundled"; or None: the best
            student in the weights folder, a published one before others, else the bundled one.

    Raises UserError with what to do where there is none.
    """
    if weights is not None and os.path.exists(weights):
        if os.path.isdir(weights):
            raise UserError("%s is a folder: name a weight file in it" % weights)
        return str(weights)
    from kdscfnet.weights import release

    if weights is None:
        found = [item for item in release.find_weights() if item.backbone == "mobilenetv3"]
        if found:
            return str(min(found, key=_preference).path)
    if weights in (None, "bundled"):
        found = release.bundled()
        if found is None:
            raise UserError(
                "there are no weights in %s: kdscfnet weights fetch kd-stb gets some, --weights names others"
                % os.path.abspath(str(release.weights_folder()))
            )
        return str(found.path)
    name = os.fspath(weights)
    if os.sep in name or os.path.splitext(name)[1]:
        raise UserError("there is no weight file %s" % name)
    entry = release.release().find(name)
    if entry.is_backbone:
        raise UserError("%s is an ImageNet backbone, which makes no saliency maps: name a model" % name)
    path = release.weights_folder() / entry.file
    if not path.is_file():
        raise UserError(
            "%s is not here yet: kdscfnet weights fetch %s, or %s" % (name, entry.recipe, release.how_to_get(entry))
        )
    return str(path)


def _preference(found):
    return found.entry is None, found.mae.get("ECSSD", 1.0), str(found.path)


def backbone_of(weights):
    """The backbone of the network in a weight file. Raises WeightsError where it holds none of ours."""
    from kdscfnet.weights import files

    backbone = files.identify(files.read_weights(weights, lazy=True))
    if backbone is None:
        raise WeightsError("%s holds no network of ours: kdscfnet weights verify says more" % weights)
    return backbone


def test_size(weights, backbone):
    """The side of the network's input at test time: what the run of `kdscfnet train` that wrote the file was measured
    at; else by the file's name in the release; else by its backbone."""
    from kdscfnet.weights import release

    own = size_of_run(weights)
    if own:
        return own
    entry = release.find_model(weights, backbone)
    return entry.test_size if entry else DEFAULT_SIZE[backbone]


def size_of_run(weights):
    """The test size of the training run in whose folder the file `weights` lies, by its run.json; 0 outside of one."""
    folder = os.path.dirname(os.path.abspath(weights))
    if os.path.basename(folder) == "weights":  # best.pdparams and the epochs of the last third
        folder = os.path.dirname(folder)
    try:
        with open(os.path.join(folder, "run.json"), encoding="utf-8") as file:
            size = json.load(file)["test_size"]
    except (OSError, ValueError, KeyError, TypeError):
        return 0
    return size if isinstance(size, int) and 0 < size <= 8192 else 0
