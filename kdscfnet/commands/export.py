"""The network for other programs: ONNX and Paddle's inference format, with a JSON file that says how to use it.

What is exported is compared with dygraph Paddle on several sizes and batches; if it differs by more than 1e-5 of the
logits' range, nothing is written.
"""

from __future__ import annotations

import os
from pathlib import Path

from kdscfnet.commands.flags import BACKBONE, add_flags
from kdscfnet.errors import UserError

SUFFIXES = {"onnx": (".onnx", ".onnx.json"), "paddle": (".json", ".pdmodel", ".pdiparams", ".paddle.json")}


def add_arguments(parser):
    texts = {
        "-o --output OUT": "where to: a folder, or a name (scfnet.onnx, or scfnet for all formats)",
        "--format": "what to write (default: onnx)",
        "--weights FILE": "a weight file or a name of the release (default: the best student in the weights folder)",
        "--backbone": "of the network (default: auto, the one in the file)",
        "--size SIZE...": "export for this size alone: 352 or HEIGHTxWIDTH (default: any size; Swin-B: 384). "
        "Any batch in every case",
        "--overwrite": "replace files that are there already",
    }
    formats = {"default": "onnx", "choices": ("onnx", "paddle", "both")}
    add_flags(parser, texts, output={"required": True}, format=formats, backbone=BACKBONE)


def run(args):
    from kdscfnet.inference.networks import export_in_child
    from kdscfnet.weights.weightfile import as_size, resolve

    size = as_size("x".join(args.size), "--size") if args.size else None  # height and width may also stand apart
    formats = ("onnx", "paddle") if args.format == "both" else (args.format,)
    weights = resolve(args.weights)
    if weights.kind == "exported":
        raise UserError("%s is exported already: name the weight file it was made from" % weights)
    backbone = weights.network() if args.backbone == "auto" else args.backbone
    if backbone == "swin_b":
        size = weights.test_size(size)
    prefix = _prefix(args.output, weights.name, formats)
    places = [prefix.with_name(prefix.name + suffix) for each in formats for suffix in SUFFIXES[each]]
    there = [path for path in places if path.exists()]
    if there and not args.overwrite:
        raise UserError("%s is there already: --overwrite replaces it" % there[0])
    for each, (paths, sidecar) in zip(formats, export_in_child(formats, weights, backbone, prefix, size)):
        print("%s of %s (%s)" % ({"onnx": "ONNX", "paddle": "Paddle inference model"}[each], weights, backbone))
        for path in sorted(paths):
            print("  %s  %.1f MB" % (path, path.stat().st_size / 1e6))
        print("  N × C × H × W       greatest difference to dygraph, of the logits' range")
        for row in sidecar["difference"]["measured"]:
            print("  %-18s  %.1e" % (" × ".join(map(str, row["shape"])), row["relative"]))


def _prefix(output, name, formats):
    """The path of the results without their suffixes."""
    prefix = Path(output)
    if prefix.is_dir() or output.endswith(("/", os.sep)):
        return prefix / name
    if prefix.suffix.lower() != ".onnx":
        return prefix
    if formats != ("onnx",):
        raise UserError("%s is one file: name a folder, or a name without .onnx, for a Paddle inference model" % prefix)
    return prefix.with_suffix("")
