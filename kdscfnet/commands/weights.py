"""The release's weight files: what there is, what you have, where it goes; download, check and convert them."""

from __future__ import annotations

import os
import sys

from kdscfnet.commands.flags import add_flags
from kdscfnet.errors import UserError, WeightsError
from kdscfnet.text import amount, columns, shown_path
from kdscfnet.weights import files, networks, release
from kdscfnet.weights.backbone import find_backbone
from kdscfnet.weights.weightfile import WeightFile


def add_arguments(parser):
    parsers = parser.add_subparsers(dest="what", metavar="list | fetch | verify | convert")
    parsers.required = True
    names = ", ".join(entry.name for entry in release.release())
    folder = {
        "--weights-folder FOLDER": "default: $%s, else ./weights, else the clone's weights folder, else the user's"
        % release.ENVIRONMENT
    }
    listing = {"--links": "print where to get each file by hand", **folder}
    fetching = {
        "names NAME...": "%s; or models, backbones, all" % names,
        "--overwrite --force": "download again what is there already",  # --force is its old name
        "--mirror URL": "get the files from this address, by their names in `weights list`, instead of from Google "
        "Drive (also: $%s)" % release.MIRROR,
        **folder,
    }
    converting = {
        "source FROM": None,
        "target TO": "its suffix chooses the format",
        "--overwrite --force": "replace TO if it is there already",
    }
    for verb, text, flags in (
        ("list", "what there is, what you have, and where it goes", listing),
        ("fetch", "download files of the release, checked before they get their names", fetching),
        ("verify", "check files: structure, finite values, which model, SHA-256", {"files FILE...": None}),
        ("convert", "from .pdparams to .safetensors or back, exactly", converting),
    ):
        add_flags(parsers.add_parser(verb, help=text), flags)


def run(args):
    verbs = {"list": print_list, "fetch": download, "verify": print_verified, "convert": convert}
    return verbs[args.what](args)


def print_list(args):
    """Print the release, what of it is in the weights folder, and what else is there."""
    published, folders = release.release(), release.weights_folders(args.weights_folder)
    found = [WeightFile(path) for each in folders for path in release.weight_files(each)]
    have = {item.entry.file: item for item in reversed(found) if item.entry in published}
    notes = []

    def state(entry):
        item, known = have.get(entry.file), "here"
        if item is None and entry.kind == "backbone":
            item, known = find_backbone(entry.backbone, args.weights_folder), "found"
        if item is not None:
            if item.path != str(folders[0] / entry.file):
                notes.append("%s is found as %s" % (entry.file, shown_path(item)))
            return known
        for other in found:  # under the right name, but something else
            if os.path.basename(other.path) == entry.file:
                notes.append("%s is %s" % (entry.file, _what(other)))
                return "WRONG"
        return "missing"

    rows = [("name", "model", "backbone", "taught by", "size", "ECSSD MAE", "", "file")]
    for model in published.models:
        numbers = "%d" % model.test_size, "%.3f" % model.mae["ECSSD"]
        rows.append((model.name, model.title, model.backbone, model.teacher or "-", *numbers, state(model), model.file))
    rows.append(("",) * 8)
    for entry in published.backbones:
        rows.append((entry.backbone, "ImageNet", entry.backbone, "-", "-", "-", state(entry), entry.file))
    where = os.path.abspath(str(folders[0])), release.ENVIRONMENT
    lines = [*columns(rows, left=range(8)), *notes, ""]
    lines.append("Weights folder: %s (change it: --weights-folder, or %s)" % where)
    ours = release.path_of_ours(published.bundled.file)
    if ours is not None:
        what = WeightFile(ours).problem or "MAE %s" % published.bundled.scores
        lines.append("Bundled, ours and not the authors', for want of another (%s):" % what)
        lines.append("  " + shown_path(ours))
    others = [item for item in found if item.entry not in published and not item.is_bundled]
    others = ["  %s: %s" % (shown_path(item.path), _what(item)) for item in others]
    lines += ["Also there:", *others] if others else []
    if args.links:
        lines += ["", "By hand:"]
        lines += ["  %s: %s" % (entry.title, release.how_to_get(entry, args.weights_folder)) for entry in published]
        lines += ["Saliency maps of the five models:"]
        lines += ["  %s: %s" % (model.title, model.maps_page) for model in published.models]
    elif len(have) < len(list(published)):
        lines.append("Get one: kdscfnet weights fetch NAME. By hand: kdscfnet weights list --links")
    print("\n".join(lines))
    return 0


def _what(item):
    return item.problem.split(": ", 1)[-1] or release.holding(item.kind, item.backbone)


def download(args):
    """Download entries of the release by name; goes on after a failure and reports all of them at the end."""
    from kdscfnet.weights.download import fetch

    published = release.release()
    entries = []
    for name in args.names:
        group = {"all": list(published), "models": published.models, "backbones": published.backbones}.get(name.lower())
        entries += [entry for entry in group or [published.find(name)] if entry not in entries]
    failed = 0
    for entry in entries:
        try:
            path = fetch(entry, args.weights_folder, args.overwrite, args.mirror)
        except WeightsError as error:
            if len(entries) == 1:
                raise
            failed += 1
            print("kdscfnet weights: %s" % error, file=sys.stderr)
        else:
            print("%s: %s" % (entry.title, shown_path(path)))
    if failed:
        raise UserError("%d of %d files could not be downloaded: see above" % (failed, len(entries)))
    return 0


def print_verified(args):
    """Check files and print what each is. Exit code 2 where one is bad."""
    bad = 0
    for path in args.files:
        found = WeightFile(path)
        try:
            report, same_as = found.verify()
        except WeightsError as error:
            bad += 1
            print("BAD   %s" % error)
            continue
        print("good  %s" % shown_path(path))
        numbers = f"{report.parameters:,}", report.loaded, report.format, amount(os.path.getsize(path))
        print("      %s, %s parameters, %d entries, %s, %s" % (_what(found), *numbers))
        if found.entry is not None:
            mae = ", published MAE on ECSSD %.3f" % found.entry.mae["ECSSD"] if found.entry.mae else ""
            print("      by its %s: %s%s" % ("name" if found.is_named else "SHA-256", found.title, mae))
        for line in filter(None, (same_as, *report.remarks, "sha256 %s" % found.sha256)):
            print("      %s" % line)
    if bad and len(args.files) > 1:
        print("%d of %d files are bad" % (bad, len(args.files)), file=sys.stderr)
    return 2 if bad else 0


def convert(args):
    """Write the arrays of one weight file as another; every bit of every array stays."""
    if os.path.exists(args.target) and not args.overwrite:
        raise UserError("%s is there already: --overwrite replaces it" % shown_path(args.target))
    arrays = files.read_weights(args.source)
    kind, backbone = networks.identify(arrays)
    if kind == "scfnet":  # .safetensors files are sorted otherwise; .pdparams files get the order of the authors'
        table = networks.shape_tables()[backbone]
        arrays = {**{key: arrays[key] for key in table if key in arrays}, **arrays}
    files.write_weights(args.target, arrays)
    what = release.holding(kind, backbone) if kind == "scfnet" else shown_path(args.source)
    print("%s: %d arrays of %s" % (shown_path(args.target), len(arrays), what))
    return 0
