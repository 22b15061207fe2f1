"""Saliency maps, masks, cut-outs, overlays and side-by-side pictures of images, folders of images and videos.

One kind of result goes to OUT/<name>.png, several to OUT/<kind>/<name>.png; sub-folders of inputs are kept. A result
that is there already is not made again. `kdscfnet predict - < photo.jpg > map.png` reads and writes streams.
"""

from __future__ import annotations

import os
import sys

from kdscfnet.errors import BadImageError, UserError
from kdscfnet.text import say, shown_path

KINDS = "map, mask, cutout, overlay, grid"
FOLDER = "saliency"  # of results, where none is named


def add_arguments(parser):
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="an image, a folder, a pattern ('photos/**/*.jpg'), a video, or - for standard input",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        help="a folder, or the name of a single result (default: saliency, or standard output for the input -)",
    )
    parser.add_argument(
        "--save", default="map", metavar="KINDS", help="what to make, with commas: %s (default: map)" % KINDS
    )
    parser.add_argument(
        "--threshold", default="0.5", metavar="T", help="of masks: 0 to 1, or adaptive (twice the map's mean)"
    )
    parser.add_argument("--frames", action="store_true", help="a video becomes a folder of pictures, not a video")
    parser.add_argument("--overwrite", action="store_true", help="make results again that are there already")
    add_network_arguments(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress bar and no summary; failures are still told")


def add_network_arguments(parser):
    """What `predict` and `benchmark` let a user choose of the network."""
    parser.add_argument(
        "--weights",
        metavar="FILE",
        help="a weight file, an exported .onnx, or a name of the release "
        "(default: the best student in the weights folder, else the bundled one)",
    )
    parser.add_argument(
        "--backbone",
        default="auto",
        choices=("auto", "mobilenetv3", "resnet50", "swin_b"),
        help="default: the one in the file",
    )
    parser.add_argument(
        "--engine",
        default="auto",
        choices=("auto", "onnxruntime", "paddle"),
        help="default: Paddle on a GPU, else ONNX Runtime, else Paddle",
    )
    parser.add_argument(
        "--size",
        type=size,
        metavar="SIZE",
        help="the network's input, 352 or HEIGHTxWIDTH (default: what the model was tested at)",
    )
    parser.add_argument("--threads", type=int, metavar="N", help="cores to use (default: all)")
    parser.add_argument(
        "--device", metavar="DEVICE", help="auto, cpu, gpu or gpu:N (default: a GPU where Paddle has one)"
    )


def size(text):
    """The type of --size: '352' or '320x256' → (height, width)."""
    from kdscfnet.weights.weightfile import as_size

    return as_size(text, "--size")


def run(args):
    _quiet_libraries()
    from kdscfnet.inference import outputs

    kinds = _kinds(args.save)
    threshold = outputs.parse_threshold(args.threshold)
    if args.output == "":
        raise UserError("-o is empty: name a folder for the results")
    if args.inputs == ["-"]:
        return _stream(args, kinds, threshold)
    if "-" in args.inputs:
        raise UserError("- (standard input) goes alone, without other inputs")
    if args.output == "-":
        raise UserError("only the result of standard input goes to standard output: name a folder for -o")
    args.output = args.output or FOLDER

    from kdscfnet.inference.inputs import plan_results
    from kdscfnet.inference.pipeline import Report, predict_files

    images, videos = plan_results(args.inputs, args.output, kinds, args.frames)
    pending = (
        images + videos
        if args.overwrite or args.frames and videos
        else [job for job in images + videos if not all(os.path.exists(path) for path in job.outputs.values())]
    )
    report = Report(skipped=[job.input for job in images + videos])
    if pending:  # otherwise the network is not needed
        predictor = _open(args)
        if not args.quiet:
            say(
                "%s, %s, %d×%d, on %s"
                % (
                    shown_path(os.path.basename(predictor.weights)),
                    predictor.backbone,
                    predictor.size[1],
                    predictor.size[0],
                    _where(predictor),
                )
            )
        report = predict_files(
            predictor, images, args.overwrite, threshold, show_progress=not args.quiet and len(images) > 1
        )
        for job in videos:
            _video(predictor, job, args, threshold, report)
    return _summary(report, args)


def _kinds(text):
    from kdscfnet.inference import outputs

    kinds = list(dict.fromkeys(kind.strip() for kind in text.split(",") if kind.strip()))
    unknown = [kind for kind in kinds if kind not in outputs.KINDS]
    if unknown or not kinds:
        raise UserError("--save %s: choose from %s" % (text, ", ".join(outputs.KINDS)))
    return kinds


def _open(args):
    from kdscfnet.inference.predictor import Predictor

    predictor = Predictor(args.weights, args.backbone, args.engine, args.size, args.threads, args.device)
    if args.weights is None and not args.quiet:
        from kdscfnet.weights import release

        if predictor.weight_file.is_bundled:
            say(release.bundled_notice())
    return predictor


def _where(predictor):
    if predictor.engine == "onnxruntime":
        return "ONNX Runtime, %d core%s" % (predictor.threads, "s" if predictor.threads > 1 else "")
    return "Paddle, %s" % ("GPU" if predictor.network.on_gpu else "CPU")


def _video(predictor, job, args, threshold, report):
    from kdscfnet.inference.video import predict_video

    try:
        count, note = predict_video(predictor, job, args.overwrite, threshold, args.frames, not args.quiet)
    except BadImageError as error:
        report.failed.append((job.input, error.reason))
        return
    (report.done if count else report.skipped).append(job.input)
    if note:
        report.notes.append((job.input, note))


def _stream(args, kinds, threshold):
    """Standard input to standard output, or to the file that -o names."""
    from kdscfnet.files import write_bytes
    from kdscfnet.images import decode_any
    from kdscfnet.inference import outputs

    if len(kinds) > 1:
        raise UserError("standard input gives one result: name one kind with --save")
    suffix = outputs.SUFFIXES[kinds[0]]
    to_file = args.output not in (None, "-")
    if to_file and os.path.isdir(args.output):
        raise UserError("%s is a folder: name a file for the result of standard input" % args.output)
    if to_file and os.path.splitext(args.output)[1].lower() != suffix:
        raise UserError("a %s is written as %s: name it so" % (kinds[0], suffix))
    if not to_file and sys.stdout.isatty():
        raise UserError("the result is a picture, which a terminal cannot show: add > result%s, or -o" % suffix)
    if to_file and os.path.exists(args.output) and not args.overwrite:
        say("%s is there already (--overwrite makes it again)" % shown_path(args.output))
        return 0
    data = sys.stdin.buffer.read()
    if not data:
        raise UserError("standard input is empty")
    try:
        image, note = decode_any(data, "standard input")
    except BadImageError as error:
        print("kdscfnet predict: %s" % error, file=sys.stderr)
        return 1
    if note and not args.quiet:
        say(note)
    result = outputs.encode(outputs.render(kinds[0], image, _open(args)(image), threshold), suffix)
    if to_file:
        write_bytes(args.output, result)
    else:
        sys.stdout.buffer.write(result)
        sys.stdout.buffer.flush()
    return 0


def _summary(report, args):
    for path, note in report.notes:
        print("  %s: %s" % (shown_path(path), note), file=sys.stderr)
    for path, reason in report.failed:
        print("  FAILED %s: %s" % (shown_path(path), reason), file=sys.stderr)
    if not args.quiet or report.failed:
        parts = ["%d done" % len(report.done)]
        if report.skipped:
            parts.append("%d there already (--overwrite makes them again)" % len(report.skipped))
        if report.failed:
            parts.append("%d failed" % len(report.failed))
        say("%s; results: %s" % (", ".join(parts), shown_path(args.output)))
    return 1 if report.failed else 0


def _quiet_libraries():
    """A broken file gets one line of ours at the end; the libraries would add theirs in the midst of the bar."""
    import warnings

    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    warnings.filterwarnings("ignore", module=r"PIL\.")
