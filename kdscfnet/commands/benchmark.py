"""Where the time of a prediction goes: read, prepare, network, finish, write; by engine and number of threads.

Each engine runs in its own process, in several rounds that take turns; medians. 'one by one' is a plain loop over the
images, 'overlapped' what `kdscfnet predict` does.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import tempfile

from kdscfnet.commands.flags import NETWORK, NETWORK_OPTIONS, add_flags, number, numbers
from kdscfnet.errors import UserError
from kdscfnet.files import write_json
from kdscfnet.recipes import ENGINES

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
    from kdscfnet.doctor import installed
    from kdscfnet.images import read_any
    from kdscfnet.inference.benchmark import make_photographs, measure_in_turns, table
    from kdscfnet.inference.inputs import find
    from kdscfnet.threads import available_cores, processor
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
        common = {key: getattr(args, key) for key in ("backbone", "size", "device")}
        common.update(weights=weights, images=images)
        requests = [dict(common, engine=engine, threads=number) for engine in engines for number in threads]
        results = measure_in_turns(requests, args.rounds)
    packages = installed()
    versions = {name: packages[name] for name in PACKAGES if name in packages}
    python = {"system": platform.platform(), "python": platform.python_version()}
    machine = {"cores": available_cores(), "processor": processor(), **python, "versions": versions}
    figures = {"weights": weights, "images": len(images), "rounds": args.rounds, "machine": machine, "results": results}
    print(table(figures))
    if args.json:
        write_json(args.json, figures)


def _engines(text, weights):
    known = ENGINES[1:]
    if text in (None, "", "auto"):
        installed = [engine for engine in known if importlib.util.find_spec(engine)]
        return [engine for engine in installed if engine != "paddle" or not weights.lower().endswith(".onnx")]
    engines = [engine.strip() for engine in text.split(",") if engine.strip()]
    if not engines or set(engines) - set(known):
        raise UserError("--engine %s: choose from %s" % (text, ", ".join(known)))
    return engines
