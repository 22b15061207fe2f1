"""Files of the release, downloaded and verified; and ImageNet weights for a model's backbone."""

from __future__ import annotations

import os
from urllib.parse import quote

import numpy as np

from kdscfnet.errors import WeightsError
from kdscfnet.weights import files, networks
from kdscfnet.weights.release import MIRROR, how_to_get, path_of_ours, release, weights_folders
from kdscfnet.weights.weightfile import WeightFile, find_weights, verify


def fetch(entry, folder=None, force=False, mirror=None, **options):
    """Download `entry` into the weights folder; returns its Path. Nothing is written elsewhere.

    A file that is there already and is right is kept. `mirror` (or $KDSCFNET_MIRROR): the address of a folder that has
    the files under their names in the manifest, to be asked instead of Google Drive or the libraries' servers.
    `options` are those of kdscfnet.weights.download.download. Raises WeightsError with the way to get it by hand.
    """
    from kdscfnet.weights.download import DownloadError, download

    mirror = mirror or os.environ.get(MIRROR)
    url = "%s/%s" % (mirror.rstrip("/"), quote(entry.file)) if mirror else entry.url
    targets = [each / entry.file for each in weights_folders(folder)]
    target = next((path for path in targets if path.exists() and not force), targets[0])
    if target.exists() and not force:
        try:
            verify(target, entry)
        except WeightsError as error:
            raise WeightsError(error.path, "%s; delete it, or say --overwrite to download it again" % error.reason)
        return target
    try:
        download(url, target, check=lambda path: verify(path, entry), limit=_limit(entry), **options)
    except DownloadError as error:
        raise WeightsError(entry.title, "%s; %s" % (error, how_to_get(entry, folder)))
    return target


def _limit(entry):
    """Bytes that a download of `entry` cannot exceed: float64, at protocol 2, with a classifier."""
    shapes = networks.shape_tables()[entry.backbone].values()
    return (16 << 20) + 12 * sum(int(np.prod(shape)) for shape in shapes)


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
