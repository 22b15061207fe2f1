"""The release's weight files: what there is, what you have, where it goes; download, check and convert them."""

from __future__ import annotations


def add_arguments(parser):
    from kdscfnet.weights import release

    parsers = parser.add_subparsers(dest="what", metavar="list | fetch | verify | convert")
    parsers.required = True
    names = ", ".join(entry.name for entry in release.release())

    listing = parsers.add_parser("list", help="what there is, what you have, and where it goes")
    listing.add_argument("--links", action="store_true", help="print where to get each file by hand")
    fetching = parsers.add_parser("fetch", help="download files of the release, checked before they get their names")
    fetching.add_argument("names", nargs="+", metavar="NAME", help="%s; or models, backbones, all" % names)
    fetching.add_argument("--force", action="store_true", help="download again what is there already")
    fetching.add_argument(
        "--mirror",
        metavar="URL",
        help="get the files from this address, by their names in "
        "`weights list`, instead of from Google Drive (also: $%s)" % release.MIRROR,
    )
    verifying = parsers.add_parser("verify", help="check files: structure, finite values, which model, SHA-256")
    verifying.add_argument("files", nargs="+", metavar="FILE")
    converting = parsers.add_parser("convert", help="from .pdparams to .safetensors or back, exactly")
    converting.add_argument("source", metavar="FROM")
    converting.add_argument("target", metavar="TO", help="its suffix chooses the format")
    converting.add_argument("--force", action="store_true", help="replace TO if it exists")
    for each in (listing, fetching):
        each.add_argument(
            "--weights-folder",
            metavar="FOLDER",
            help="default: $%s, else ./weights, else the clone's weights folder" % release.ENVIRONMENT,
        )


def run(args):
    from kdscfnet.weights import catalogue

    if args.what == "list":
        return catalogue.print_list(args.weights_folder, args.links)
    if args.what == "fetch":
        return catalogue.fetch(args.names, args.weights_folder, args.force, args.mirror)
    if args.what == "verify":
        return catalogue.verify(args.files)
    return catalogue.convert(args.source, args.target, args.force)
