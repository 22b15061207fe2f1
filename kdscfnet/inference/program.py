"""What `kdscfnet predict` does."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict

from kdscfnet.errors import BadImageError, UserError
from kdscfnet.inference import outputs
from kdscfnet.shares import Meeting, Shares
from kdscfnet.text import progress, say, shown_path

FOLDER = "saliency"  # of results, where none is named


def predict(args):
    """Run `kdscfnet predict`; `args` as kdscfnet/commands/predict.py defines them. Returns the exit code."""
    kinds = _kinds(args.save)
    threshold = outputs.parse_threshold(args.threshold)
    if args.output == "":
        raise UserError("-o is empty: name a folder for the results")
    if args.inputs == ["-"]:
        if args.part:
            raise UserError("--part %s: standard input is one image, which has no parts" % args.part)
        return _stream(args, kinds, threshold)
    if "-" in args.inputs:
        raise UserError("- (standard input) goes alone, without other inputs")
    if args.output == "-":
        raise UserError("only the result of standard input goes to standard output: name a folder for -o")
    args.output = args.output or FOLDER

    from kdscfnet.inference.inputs import is_file_name, plan

    shares = Shares(args.part)
    images, videos = plan(args.inputs, args.output, kinds, args.frames)
    folder = (os.path.dirname(args.output) or ".") if is_file_name(args.output) else args.output
    with Meeting(shares, folder) as meeting:
        report = _predict_share(images, videos, args, threshold, shares, meeting)
        if not shares.first:
            meeting.end(asdict(report))
            return 0  # process 0 tells for all: an exit code of 1 would let the launcher end it
        return _summary(report, args)


def _predict_share(images, videos, args, threshold, shares, meeting):
    """The Report of this process's share of the jobs; in process 0 of a launch, of everybody's."""
    from kdscfnet.inference.pipeline import Report, predict_files

    def lack(jobs):
        if args.overwrite:
            return jobs
        return [
            job
            for job in jobs
            if args.frames and job in videos or not all(os.path.exists(path) for path in job.outputs.values())
        ]

    mine = shares.mine(images + videos)
    todo = lack(images + videos) if shares.together else lack(mine)
    quiet = args.quiet or not shares.first
    report = Report(skipped=[job.input for job in mine])
    bar = progress(total=len(todo), desc="predict", disable=quiet or not shares.together)

    def show():
        bar.update(meeting.done_by_all() - bar.n)

    def each():
        meeting.done += 1
        show()

    with bar:
        if todo:  # otherwise the network is not needed
            meeting.wait_for_first(1)  # it exports the network, where that is needed
            args.threads = shares.threads(args.threads)
            predictor = _open(args, quiet)
            meeting.reach(1)
            if not quiet:
                say(
                    "%s, %s, %d×%d, on %s%s"
                    % (
                        shown_path(os.path.basename(predictor.weights)),
                        predictor.backbone,
                        predictor.size[1],
                        predictor.size[0],
                        _where(predictor),
                        ", in each of %d processes" % shares.world if shares.together else "",
                    )
                )
            pictures = [job for job in mine if job not in videos]
            alone = not quiet and not shares.together and len(pictures) > 1
            report = predict_files(predictor, pictures, args.overwrite, threshold, show_progress=alone, each=each)
            for job in mine:
                if job in videos:
                    _video(predictor, job, args, threshold, report, quiet)
                    each()
        if shares.together and shares.first:
            meeting.reach(1)
            for other in meeting.wait_for_others(show):
                for kind, found in other.items():
                    getattr(report, kind).extend(map(_as_in_report, found))
            bar.update(bar.total - bar.n)  # the last beats of the others may have been read before their end
    return report


def _as_in_report(item):
    return tuple(item) if isinstance(item, list) else item  # pairs, which JSON has as lists


def _kinds(text):
    kinds = list(dict.fromkeys(kind.strip() for kind in text.split(",") if kind.strip()))
    unknown = [kind for kind in kinds if kind not in outputs.KINDS]
    if unknown or not kinds:
        raise UserError("--save %s: choose from %s" % (text, ", ".join(outputs.KINDS)))
    return kinds


def _open(args, quiet=False):
    from kdscfnet.inference.predictor import Predictor

    predictor = Predictor(args.weights, args.backbone, args.engine, args.size, args.threads, args.device)
    if args.weights is None and not (args.quiet or quiet):
        from kdscfnet.weights import release

        if predictor.weight_file.is_bundled:
            say(release.bundled_notice())
    return predictor


def _where(predictor):
    if predictor.engine == "onnxruntime":
        return "ONNX Runtime, %d core%s" % (predictor.threads, "s" if predictor.threads > 1 else "")
    return "Paddle, %s" % ("GPU" if predictor.network.on_gpu else "CPU")


def _video(predictor, job, args, threshold, report, quiet):
    from kdscfnet.inference.video import predict_video

    try:
        count, note = predict_video(predictor, job, args.overwrite, threshold, args.frames, not quiet)
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
