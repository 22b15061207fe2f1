"""ImageNet weights for a model's backbone."""

from __future__ import annotations

import os

from kdscfnet.errors import WeightsError
from kdscfnet.weights import files, networks
from kdscfnet.weights.release import path_of_ours, release
from kdscfnet.weights.weightfile import WeightFile, find_weights


def find_backbone(backbone, folder=None):
    """The WeightFile of ImageNet weights for `backbone` in the weights folder or the user's, else in the cache of the
    library that publishes them, else None."""
    entry = release().find(backbone)
    cached = WeightFile(os.path.join(os.path.expanduser(entry.cache), entry.file))
    found = [*find_weights(folder, backbone, "backbone"), cached]
    return next((item for item in found if (item.kind, item.backbone) == ("backbone", backbone)), None)


def load_backbone(model, source, folder=None, **options):
    """Start a model's backbone from weights that were trained before.

    Args:
        model: kdscfnet.SCFNet.
        source: a path; "auto": the weights folder, then PaddleClas's or Paddle's own cache, then a download into the
            weights folder, all of ImageNet; the name of a bundled backbone; "none": nothing is loaded.

    The file must hold every entry of the backbone; the classifier in it is not used. Returns a LoadReport, or None for
    "none". Raises WeightsError as `load_weights` does; the model is as it was then.
    """
    if source == "none":
        return None
    if source == "auto":
        from kdscfnet.weights.download import fetch

        try:
            found = find_backbone(model.backbone, folder)
            path = found or fetch(release().find(model.backbone), folder, **options)
        except WeightsError as error:
            raise WeightsError(error.path, "%s; or start from random numbers: --pretrained none" % error.reason)
    else:
        path = {entry.name: path_of_ours(entry.file) for entry in release().starts}.get(source) or source
    arrays, report = files.read_file(path)
    kind, backbone = networks.identify(arrays)
    if kind == "scfnet":
        reason = "holds a whole SCFNet, not the ImageNet weights of a backbone that --pretrained takes"
        raise WeightsError(report.path, reason)
    if kind == "backbone" and backbone != model.backbone:
        raise WeightsError(report.path, "holds ImageNet weights of %s, not of %s" % (backbone, model.backbone))
    return files.put(model.bkbone, arrays, report, "backbone " + model.backbone, networks.CLASSIFIER[model.backbone])
