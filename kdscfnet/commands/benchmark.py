"""Where the time of a prediction goes: read, prepare, network, finish, write; by engine and number of threads.

Each engine runs in its own process, in several rounds that take turns; medians. 'one by one' is a plain loop over the
images, 'overlapped' what `kdscfnet predict` does.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile

from kdscfnet.errors import UserError

PACKAGES = ("paddlepaddle", "paddlepaddle-gpu", "onnxruntime", "opencv-python", "numpy")  # whose versions count


def add_arguments(parser):
    from kdscfnet.commands.predict import add_network_arguments

    parser.add_argument(
        "images",
        nargs="*",
        metavar="IMAGE",
        help="images, folders or patterns (default: made-up photographs of 400×300)",
    )
    parser.add_argument("--count", type=int, default=100, metavar="N", help="use at most N images (default: 100)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="how often each engine runs (default: 3)")
    parser.add_argument("--json", metavar="FILE", help="write the figures to FILE")
    parser.add_argument("--overwrite", action="store_true", help="replace FILE if it is there already")
    add_network_arguments(parser)
    for action in parser._actions:
        if action.dest == "threads":
            action.type, action.help = str, "numbers of cores to try, with commas (default: 1 and all)"
        if action.dest == "engine":
            action.choices = None
            action.help = "engines to try, with commas: onnxruntime, paddle (default: those that are installed)"
            action.default = None


def run(args):
    from kdscfnet.images import read_any
    from kdscfnet.inference.benchmark import make_photographs
    from kdscfnet.inference.inputs import find
    from kdscfnet.weights.weightfile import resolve

    weights = resolve(args.weights).path
    engines = _engines(args.engine, weights)
    threads = _threads(args.threads)
    if min(threads) < 1 or args.count < 1 or args.rounds < 1:
        raise UserError("--threads, --count and --rounds take numbers from 1")
    if args.json and os.path.isdir(args.json):
        raise UserError("--json %s is a folder: name a file" % args.json)
    if args.json and os.path.exists(args.json) and not args.overwrite:
        raise UserError("%s is there already: --overwrite replaces it" % args.json)
    with tempfile.TemporaryDirectory(prefix="kdscfnet-benchmark-") as folder:
        if args.images:
            images = [item.path for item in find(args.images)[0]][: args.count]
        else:
            images = make_photographs(folder, args.count)
        if not images:
            raise UserError("there are no images among the inputs")
        for path in images:  # one that cannot be read is named before the first run
            read_any(path)
        common = {"weights": weights, "backbone": args.backbone, "size": args.size, "device": args.device}
        requests = [
            dict(common, engine=engine, threads=number, images=images) for engine in engines for number in threads
        ]
        results = _measure(requests, args.rounds)
    figures = {"weights": str(weights), "images": len(images), "rounds": args.rounds, "machine": _machine()}
    figures["results"] = results
    print(_table(figures))
    if args.json:
        from kdscfnet.files import write_json

        write_json(args.json, figures)
    return 0


def _threads(text):
    from kdscfnet.threads import available_cores

    try:
        return sorted({int(number) for number in text.split(",")} if text else {1, available_cores()})
    except ValueError:
        return [0]


def _engines(text, weights):
    installed = [engine for engine in ("onnxruntime", "paddle") if importlib.util.find_spec(engine)]
    if text in (None, "", "auto"):
        return [engine for engine in installed if engine != "paddle" or not weights.lower().endswith(".onnx")]
    engines = [engine.strip() for engine in text.split(",") if engine.strip()]
    unknown = [engine for engine in engines if engine not in ("onnxruntime", "paddle")]
    if unknown or not engines:
        raise UserError("--engine %s: choose from onnxruntime, paddle" % text)
    return engines


def _measure(requests, rounds):
    """A row of medians for each request; the rounds take turns, each run is a process of its own."""
    from kdscfnet.child import Crashed, in_child
    from kdscfnet.inference.benchmark import median
    from kdscfnet.text import progress

    results = [[] for _ in requests]
    with progress(total=rounds * len(requests), desc="benchmark", unit=" runs") as bar:
        for _ in range(rounds):
            for request, measured in zip(requests, results):
                try:
                    measured.append(in_child("kdscfnet.inference.benchmark:measure", **request))
                except Crashed as crash:
                    raise UserError("the run with %s failed: %s" % (request["engine"], crash))
                bar.update()
    return [median(measured) for measured in results]


def _table(figures):
    from kdscfnet.inference.benchmark import STAGES
    from kdscfnet.text import columns

    rows = [
        ("engine", "threads", *STAGES, "one by one", "overlapped", "memory", "start"),
        ("", "", *("ms",) * len(STAGES), "images/s", "images/s", "MB", "s"),
    ]
    for row in figures["results"]:
        memory = row["peak_memory_mb"]
        speeds = "%.1f" % row["one_by_one_per_s"], "%.1f" % row["overlapped_per_s"]
        times = ("%.2f" % row["milliseconds"][stage] for stage in STAGES)
        last = "%.0f" % memory if memory else "-", "%.2f" % row["start_s"]
        rows.append((row["engine"], "%d" % row["threads"], *times, *speeds, *last))
    first, machine = figures["results"][0], figures["machine"]
    what = figures["images"], figures["rounds"], first["backbone"], first["size"][1], first["size"][0]
    summary = "%d images, %d rounds, medians; %s at %d×%d; %s, %d cores"
    return "\n".join([*columns(rows), summary % (*what, machine["processor"], machine["cores"])])


def _machine():
    import platform

    from kdscfnet.doctor import installed
    from kdscfnet.threads import available_cores, processor

    packages = installed()
    versions = {name: packages[name] for name in PACKAGES if name in packages}
    python = {"system": platform.platform(), "python": platform.python_version()}
    return {"cores": available_cores(), "processor": processor(), **python, "versions": versions}
