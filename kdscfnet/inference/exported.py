"""Finding the exported network of a weight file, or having it made once, in a process of its own."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from kdscfnet.child import Crashed, in_child
from kdscfnet.errors import UserError
from kdscfnet.files import _replace, file_sha256, may_be_written, read_json_object
from kdscfnet.inference.onnx_file import FORMAT, CannotExport, install_onnx, what_lacks
from kdscfnet.text import say
from kdscfnet.weights.release import cache_folder
from kdscfnet.weights.weightfile import resolve


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
        about = verified(path, digest, backbone)
        if about is not None and about["input"]["shape"][2:] in ([None, None], list(swin_size)):
            return path, about
    backbone = backbone or weight_file.network()
    installed = Path(__file__).resolve().parents[1] in weights.resolve().parents
    folder = weights.parent if may_be_written(weights.parent) and not installed else cache_folder()
    swin_size = swin_size if backbone == "swin_b" else None
    path = folder / name(swin_size)
    lacking = what_lacks()
    if lacking:
        raise CannotExport(lacking)
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
    with tempfile.TemporaryDirectory(prefix=".export-", dir=str(prefix.parent)) as folder:
        try:
            made = in_child(
                "kdscfnet.inference.export:export",
                {"CUDA_VISIBLE_DEVICES": ""},
                formats=formats,
                weights=weight_file.path,
                backbone=backbone,
                folder=folder,
                name=prefix.name,
                size=size,
            )
        except Crashed as crash:
            advice = "these versions fit: %s" % install_onnx()
            raise CannotExport("the network could not be exported (%s): %s" % (crash, advice))
        for suffix in [suffix for suffixes, _ in made for suffix in suffixes]:
            _replace(os.path.join(folder, "network" + suffix), str(prefix) + suffix)
    return [([Path(str(prefix) + suffix) for suffix in suffixes], about) for suffixes, about in made]


def verified(path, weights_sha256, backbone):
    """The sidecar of an exported network if both are there, whole, and belong to these weights; else None."""
    about = read_json_object(str(path) + ".json")
    try:
        ours = about["format"] == FORMAT and about["weights"]["sha256"] == weights_sha256
        ours = ours and backbone in (None, about["backbone"]) and file_sha256(path) == about["file"]["sha256"]
    except (OSError, KeyError, TypeError):
        return None
    return about if ours else None
