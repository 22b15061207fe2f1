"""Where the time of a prediction goes: read, prepare, network, finish, write; by engine and number of threads.

Each engine runs in its own process, in several rounds that take turns; medians. 'one by one' is a plain loop over the
images, 'overlapped' what `kdscfnet predict` does.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile

from kdscfnet.commands.flags import NETWORK, NETWORK_OPTIONS, add_flags, number, numbers
from kdscfnet.errors import UserError

PACKAGES = ("paddlepaddle", "paddlepaddle-gpu", "onnxruntime", "opencv-python", "numpy")  # whose versions count


def add_arguments(parser):
    texts = {
        "images IMAGE": "images, folders or patterns (default: made-up photographs of 400×300)",
        "--count N": "use at most N images (default: 100)",
        "--rounds N": "how often each engine runs (default: 3)",
        "--json FILE": "write the figures to FILE",
        "--overwrite": "replace FILE if it is there already",
        **NETWORK,
        "--engine": "engines to try, with commas: onnxruntime, paddle (default: those that are installed)",
        "--threads N": "numbers of cores to try, with commas (default: 1 and all)",
    }
    own = {"images": {"nargs": "*"}, "engine": {}, "threads": {"type": numbers}}
    own.update(count={"type": number(int, 1), "default": 100}, rounds={"type": number(int, 1), "default": 3})
    add_flags(parser, texts, **dict(NETWORK_OPTIONS, **own))


def run(args):
    from kdscfnet.images import read_any
    from kdscfnet.inference.benchmark import make_photographs
    from kdscfnet.inference.inputs import find
    from kdscfnet.threads import available_cores
    from kdscfnet.weights.weightfile import resolve

    weights = resolve(args.weights).path
    engines = _engines(args.engine, weights)
    threads = args.threads or sorted({1, available_cores()})
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


def _engines(text, weights):
    known = ("onnxruntime", "paddle")
    if text in (None, "", "auto"):
        installed = [engine for engine in known if importlib.util.find_spec(engine)]
        return [engine for engine in installed if engine != "paddle" or not weights.lower().endswith(".onnx")]
    engines = [engine.strip() for engine in text.split(",") if engine.strip()]
    if not engines or set(engines) - set(known):
        raise UserError("--engine %s: choose from %s" % (text, ", ".join(known)))
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
