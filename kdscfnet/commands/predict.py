"""Saliency maps, masks, cut-outs, overlays, side-by-side pictures and boxes of images, folders of images and videos.

One kind of result goes to OUT/<name>.png, several to OUT/<kind>/<name>.png; sub-folders of inputs are kept. A result
that is there already is not made again. `kdscfnet predict - < photo.jpg > map.png` reads and writes streams.
python -m paddle.distributed.launch "$(command -v kdscfnet)" predict … spreads the images over its processes.
"""

from __future__ import annotations

import collections
import os
import sys
import warnings
from dataclasses import asdict

from kdscfnet.commands.flags import NETWORK, NETWORK_OPTIONS, add_flags
from kdscfnet.errors import BadImageError, UserError
from kdscfnet.files import write_bytes
from kdscfnet.inference.record import FITS, STALE, Choice, Record, digest, fingerprint
from kdscfnet.text import progress, say, say_once, shown_path
from kdscfnet.weights import release


def add_arguments(parser):
    texts = {
        "inputs INPUT...": "an image, a folder, a pattern ('photos/**/*.jpg'), a video, or - for standard input",
        "-o --output OUT": "a folder, or the name of a single result "
        "(default: saliency, or standard output for the input -)",
        "--save KINDS": "what to make, with commas: map, mask, cutout, overlay, grid, box (JSON) "
        "(default: map; cutout with --background or --crop)",
        "--threshold T": "of masks, boxes and --crop: 0 to 1, or adaptive, twice the map's mean (default: 0.5)",
        "--background WHAT": "what goes behind cut-outs: a colour (white, '#rrggbb'), blur (of the photograph itself), "
        "or a picture, of which the middle that fits is taken (default: nothing, they are transparent)",
        "--crop": "cut-outs keep the box of what stands out, and a margin",
        "--refine": "edges follow those of the photograph; for large photographs",
        "--frames": "a video becomes a folder of pictures, not a video",
        "--overwrite": "make results again that are there already",
        "--part K/N": "make every N-th result from the K-th on, as in 2/8: for the tasks of a job array",
    }
    add_flags(parser, {**texts, **NETWORK}, threshold={"default": "0.5"}, **NETWORK_OPTIONS)


def run(args):
    # A broken file gets one line of ours at the end; the libraries would add theirs in the midst of the bar.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    warnings.filterwarnings("ignore", module=r"PIL\.")
    from kdscfnet.data.names import counted
    from kdscfnet.inference.inputs import plan_results
    from kdscfnet.inference.outputs import KINDS, Settings, parse_background, parse_threshold
    from kdscfnet.shares import Meeting, Shares
    from kdscfnet.weights.weightfile import resolve

    kinds = _kinds(args, KINDS)
    background = None if args.background is None else parse_background(args.background)
    settings = Settings(parse_threshold(args.threshold), background, args.crop, args.refine)
    if args.output == "":
        raise UserError("-o is empty: name a folder for the results")
    if args.inputs != ["-"]:
        if "-" in args.inputs:
            raise UserError("- (standard input) goes alone, without other inputs")
        if args.output == "-":
            raise UserError("only the result of standard input goes to standard output: name a folder for -o")
        args.output = args.output or "saliency"
    weight_file = resolve(args.weights)  # first: a result that is there does not excuse weights that are not
    # what results of a kind depend on, besides their input
    common = {"weights": weight_file.sha256, "size": list(weight_file.test_size(args.size))}
    made_by = {kind: dict(common, **settings.of(kind)) for kind in kinds}
    if args.inputs == ["-"]:
        if args.part:
            raise UserError("--part %s: standard input is one image, which has no parts" % args.part)
        return _stream(args, weight_file, made_by, settings)
    left_out = collections.Counter()
    images, videos = plan_results(args.inputs, args.output, kinds, args.frames, left_out, args.background)
    if videos and not args.frames and (args.crop or "box" in kinds):
        what = "--crop gives every frame a size of its own" if args.crop else "boxes differ from frame to frame"
        raise UserError("%s: add --frames, or leave out %s" % (what, videos[0].input))
    shares = Shares(args.part)
    is_file = any(args.output in job.outputs.values() for job in images + videos) and not os.path.isdir(args.output)
    folder = os.path.dirname(args.output) or "." if is_file else args.output  # of the results
    record = Record(folder, made_by)
    chosen = Choice(record, args.overwrite)
    mine = {job.input for job in shares.mine(images + videos)}  # of all, which is the same list in every process
    if not shares.together:
        images, videos = ([job for job in jobs if job.input in mine] for jobs in (images, videos))
    pending = chosen.of(images), chosen.of(videos, always=args.frames)
    with Meeting(shares, folder) as meeting:
        report = _predict_share(args, weight_file, settings, shares, meeting, record, pending, mine)
        if not shares.first:
            meeting.end(asdict(report))
            return 0  # process 0 tells for all: an exit code of 1 would let the launcher end it
        report.skipped += chosen.kept
        return _summary(report, args, chosen, counted(left_out))


def _predict_share(args, weight_file, settings, shares, meeting, record, pending, mine):
    """Make those of the `pending` (images, videos) whose inputs are `mine`.

    Returns the Report; in process 0 of a launch it is of what all have made.
    """
    from kdscfnet.inference.pipeline import Report, predict_files

    images, videos = ([job for job in jobs if job.input in mine] for jobs in pending)
    total = len(pending[0]) + len(pending[1])
    report = Report()
    bar = progress(total=total, desc="predict", disable=not (shares.together and shares.first))

    def show():
        bar.update(meeting.done_by_all() - bar.n)

    def each():
        meeting.done += 1
        show()

    with bar:
        if total:  # otherwise the network is not needed
            meeting.wait_for_first(1)  # it exports the network, where that is needed
            args.threads = shares.threads(args.threads)
            predictor = _open(args, weight_file)
            meeting.reach(1)
            name, size = shown_path(os.path.basename(predictor.weights)), predictor.size[::-1]
            many = ", in each of %d processes" % shares.world if shares.together else ""
            say_once("%s, %s, %d×%d, on %s%s" % ((name, predictor.backbone) + size + (_where(predictor), many)))
            sources = {job.input: fingerprint(job.input) for job in images}  # before they are read
            report = predict_files(
                predictor,
                images,
                settings,
                show_progress=not shares.together and len(images) > 1,
                made=lambda job: record.add(job.outputs, sources[job.input]),
                each=each,
            )
            for job in videos:
                _video(predictor, job, args, settings, report, record, shares.first)
                each()
        if shares.together and shares.first:
            meeting.reach(1)
            for other in meeting.wait_for_others(show):
                for kind, items in other.items():
                    getattr(report, kind).extend(items)
            bar.update(bar.total - bar.n)  # the last beats of the others may have been read before their end
    return report


def _kinds(args, known):
    of_cutouts = next((flag for flag in ("background", "crop") if getattr(args, flag)), None)
    text = ("cutout" if of_cutouts else "map") if args.save is None else args.save
    kinds = list(dict.fromkeys(kind.strip() for kind in text.split(",") if kind.strip()))
    if not kinds or set(kinds) - set(known):
        raise UserError("--save %s: choose from %s" % (text, ", ".join(known)))
    if of_cutouts and "cutout" not in kinds:
        raise UserError("--%s is for cut-outs: add cutout to --save %s" % (of_cutouts, text))
    return kinds


def _open(args, weight_file):
    from kdscfnet.inference.predictor import Predictor

    predictor = Predictor(weight_file, args.backbone, args.engine, args.size, args.threads, args.device)
    if args.weights is None and weight_file.is_bundled:
        say_once(release.bundled_notice())
    return predictor


def _where(predictor):
    if predictor.engine == "onnxruntime":
        return "ONNX Runtime, %d core%s" % (predictor.threads, "s" if predictor.threads > 1 else "")
    return "Paddle, %s" % ("GPU" if predictor.network.on_gpu else "CPU")


def _video(predictor, job, args, settings, report, record, show_progress):
    from kdscfnet.inference.video import predict_video, remove_frames

    try:
        source = fingerprint(job.input)
        if args.frames:
            states = record.states(job).values()
            if STALE in states:
                remove_frames(job)
            if FITS not in states:  # before the first frame: each that is there then fits
                record.add(job.outputs, source)
        count, note = predict_video(predictor, job, args.overwrite, settings, args.frames, show_progress)
    except (BadImageError, UserError) as error:  # the other videos are done
        report.failed.append((job.input, error.reason if isinstance(error, BadImageError) else str(error)))
        return
    if not args.frames:
        record.add(job.outputs, source)
    (report.done if count else report.skipped).append(job.input)
    if note:
        report.notes.append((job.input, note))


def _stream(args, weight_file, made_by, settings):
    """Standard input to standard output, or to the file that -o names."""
    from kdscfnet.images import decode_any
    from kdscfnet.inference import outputs

    if len(made_by) > 1:
        raise UserError("standard input gives one result: name one kind with --save")
    (kind,) = made_by
    suffix = outputs.SUFFIXES[kind]
    to_file = args.output not in (None, "-")
    if to_file:
        if os.path.isdir(args.output):
            raise UserError("%s is a folder: name a file for the result of standard input" % args.output)
        suffix = outputs.suffix_of(args.output, kind, settings.background is not None)
        if args.background and os.path.realpath(args.output) == os.path.realpath(args.background):
            raise UserError("the result would overwrite the background %s: choose another name for -o" % args.output)
    elif sys.stdout.isatty() and kind != "box":
        raise UserError("the result is a picture, which a terminal cannot show: add > result%s, or -o" % suffix)
    data = sys.stdin.buffer.read()
    if not data:
        raise UserError("standard input is empty")
    if to_file:
        record, source = Record(os.path.dirname(args.output) or ".", made_by), digest(data)
        if os.path.exists(args.output) and not args.overwrite:
            if record.state(kind, args.output, source) != STALE:
                say("%s is there already (--overwrite makes it again)" % shown_path(args.output))
                return 0
            say("%s is made again: its input, the weights or the settings are others" % shown_path(args.output))
    try:
        image, note = decode_any(data, "standard input")
    except BadImageError as error:
        print("kdscfnet predict: %s" % error, file=sys.stderr)
        return 1
    saliency = _open(args, weight_file)(image)
    results = outputs.render([kind], image, saliency, settings)
    result = outputs.encode(results[kind], suffix)
    for remark in filter(None, (note, outputs.note_on(results, saliency, settings))):
        say(remark)
    if to_file:
        write_bytes(args.output, result)
        record.add({kind: args.output}, source)
    else:
        sys.stdout.buffer.write(result)
        sys.stdout.buffer.flush()
    return 0


def _summary(report, args, chosen, left_out):
    for path, note in report.notes:
        print("  %s: %s" % (shown_path(path), note), file=sys.stderr)
    for path, reason in report.failed:
        print("  FAILED %s: %s" % (shown_path(path), reason), file=sys.stderr)
    again = " (%d made again: the input, the weights or the settings are others)" % chosen.stale
    parts = ["%d done%s" % (len(report.done), again if chosen.stale else "")]
    if report.skipped:
        parts.append("%d there already (--overwrite makes them again)" % len(report.skipped))
    if report.failed:
        parts.append("%d failed" % len(report.failed))
    if chosen.unknown:
        parts.append("%d results of unknown weights and settings kept" % chosen.unknown)
    say("%s; results: %s" % (", ".join(parts), shown_path(args.output)), failure=bool(report.failed))
    if left_out:
        say("left out: " + left_out)
    return 1 if report.failed else 0
