"""Where the time of a prediction goes: what `kdscfnet benchmark` does.

Each measurement is a process of its own, so that peak memory and thread settings belong to one engine.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
import tempfile
import time

import numpy as np

from kdscfnet.child import Crashed, in_child
from kdscfnet.errors import UserError

STAGES = ("read", "prepare", "network", "finish", "write")


def measure(weights, backbone, engine, threads, size, images, device=None):
    """Predict `images` (paths) one by one, stage by stage, then all at once.

    Returns milliseconds per image for each of STAGES (medians), images per second one by one and overlapped, the
    engine's start in seconds, and the peak memory of the process in MB.
    """
    from kdscfnet.images import read_any
    from kdscfnet.inference import outputs
    from kdscfnet.inference.pipeline import predict_files
    from kdscfnet.inference.predictor import Predictor
    from kdscfnet.processing import prepare_image, to_map

    start = time.perf_counter()
    predictor = Predictor(weights, backbone, engine, size, threads, device)
    predictor(np.zeros((64, 64, 3), np.uint8))
    started = time.perf_counter() - start
    times = {stage: [] for stage in STAGES}
    with tempfile.TemporaryDirectory(prefix="kdscfnet-benchmark-") as folder:
        begun = time.perf_counter()
        for number, path in enumerate(images):
            t0 = time.perf_counter()
            image, _ = read_any(path)
            t1 = time.perf_counter()
            prepared = prepare_image(image, predictor.size)[None]
            t2 = time.perf_counter()
            logits = predictor.network(prepared)
            t3 = time.perf_counter()
            saliency = to_map(logits[0, 0], image.shape[0], image.shape[1])
            t4 = time.perf_counter()
            outputs.write({"map": os.path.join(folder, "loop-%d.png" % number)}, image, saliency)
            t5 = time.perf_counter()
            for stage, seconds in zip(STAGES, (t1 - t0, t2 - t1, t3 - t2, t4 - t3, t5 - t4)):
                times[stage].append(seconds)
        one_by_one = len(images) / (time.perf_counter() - begun)
        jobs = [(path, {"map": os.path.join(folder, "all-%d.png" % number)}) for number, path in enumerate(images)]
        begun = time.perf_counter()
        report = predict_files(predictor, jobs, show_progress=False)
        overlapped = len(report.done) / (time.perf_counter() - begun)
    return {
        "engine": predictor.engine,
        "threads": predictor.threads,
        "size": list(predictor.size),
        "backbone": predictor.backbone,
        "start_s": started,
        "milliseconds": {stage: float(np.median(values)) * 1e3 for stage, values in times.items()},
        "one_by_one_per_s": one_by_one,
        "overlapped_per_s": overlapped,
        "peak_memory_mb": peak_memory(),
    }


def peak_memory():
    """The greatest resident size of this process so far, in MB; None where the system does not say."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)


def benchmark_command(args):
    """Run `kdscfnet benchmark`; `args` as kdscfnet/commands/benchmark.py defines them. Returns the exit code."""
    from kdscfnet.images import read_any
    from kdscfnet.inference.inputs import find
    from kdscfnet.text import progress
    from kdscfnet.threads import available_cores
    from kdscfnet.weights.weightfile import resolve

    weights = resolve(args.weights).path
    engines = _engines(args.engine, weights)
    cores = available_cores()
    try:
        threads = sorted({int(number) for number in args.threads.split(",")}) if args.threads else sorted({1, cores})
    except ValueError:
        threads = [0]
    if min(threads) < 1 or args.count < 1 or args.rounds < 1:
        raise UserError("--threads, --count and --rounds take numbers from 1")
    if args.json and os.path.isdir(args.json):
        raise UserError("--json %s is a folder: name a file" % args.json)
    with tempfile.TemporaryDirectory(prefix="kdscfnet-benchmark-") as folder:
        if args.images:
            images = [item.path for item in find(args.images)[0]][: args.count]
        else:
            images = make_photographs(folder, args.count)
        if not images:
            raise UserError("there are no images among the inputs")
        for path in images:  # one that cannot be read is named before the first run
            read_any(path)
        requests = [
            {
                "weights": weights,
                "backbone": args.backbone,
                "engine": engine,
                "threads": number,
                "size": args.size,
                "images": images,
                "device": args.device,
            }
            for engine in engines
            for number in threads
        ]
        rounds = [[] for _ in requests]
        with progress(total=args.rounds * len(requests), desc="benchmark", unit=" runs") as bar:
            for _ in range(args.rounds):
                for request, results in zip(requests, rounds):
                    results.append(_in_a_process(request))
                    bar.update()
    rows = [_median(results) for results in rounds]
    figures = {
        "weights": str(weights),
        "images": len(images),
        "rounds": args.rounds,
        "machine": {
            "cores": cores,
            "processor": _processor(),
            "system": platform.platform(),
            "python": platform.python_version(),
            "versions": _versions(),
        },
        "results": rows,
    }
    print(table(figures))
    if args.json:
        from kdscfnet.files import write_json

        write_json(args.json, figures)
    return 0


def _engines(text, weights):
    installed = [
        engine
        for engine, package in (("onnxruntime", "onnxruntime"), ("paddle", "paddle"))
        if importlib.util.find_spec(package)
    ]
    if text in (None, "", "auto"):
        return [engine for engine in installed if engine != "paddle" or not weights.lower().endswith(".onnx")]
    engines = [engine.strip() for engine in text.split(",") if engine.strip()]
    unknown = [engine for engine in engines if engine not in ("onnxruntime", "paddle")]
    if unknown or not engines:
        raise UserError("--engine %s: choose from onnxruntime, paddle" % text)
    return engines


def _in_a_process(request):
    try:
        return in_child("kdscfnet.inference.benchmark:measure", **request)
    except Crashed as crash:
        raise UserError("the run with %s failed: %s" % (request["engine"], crash))


def _median(results):
    row = dict(results[0])
    for key in ("start_s", "one_by_one_per_s", "overlapped_per_s", "peak_memory_mb"):
        values = [result[key] for result in results if result[key] is not None]
        row[key] = round(float(np.median(values)), 3) if values else None
    row["milliseconds"] = {
        stage: round(float(np.median([result["milliseconds"][stage] for result in results])), 3) for stage in STAGES
    }
    return row


def table(figures):
    """The figures as text."""
    rows = [
        ("engine", "threads") + STAGES + ("one by one", "overlapped", "memory", "start"),
        ("", "") + ("ms",) * len(STAGES) + ("images/s", "images/s", "MB", "s"),
    ]
    for row in figures["results"]:
        memory = row["peak_memory_mb"]
        rows.append(
            (row["engine"], "%d" % row["threads"])
            + tuple("%.2f" % row["milliseconds"][s] for s in STAGES)
            + (
                "%.1f" % row["one_by_one_per_s"],
                "%.1f" % row["overlapped_per_s"],
                "%.0f" % memory if memory else "-",
                "%.2f" % row["start_s"],
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths))
        ).rstrip()
        for row in rows
    ]
    first = figures["results"][0]
    lines.append(
        "%d images, %d rounds, medians; %s at %d×%d; %s, %d cores"
        % (
            figures["images"],
            figures["rounds"],
            first["backbone"],
            first["size"][1],
            first["size"][0],
            figures["machine"]["processor"],
            figures["machine"]["cores"],
        )
    )
    return "\n".join(lines)


def make_photographs(folder, count):
    """Made-up pictures of 400×300, as hard to decode as photographs: blurred noise over soft shapes. Returns paths."""
    import cv2

    rng = np.random.RandomState(0)
    paths = []
    for number in range(count):
        shapes = cv2.resize(rng.randint(0, 256, (6, 8, 3)).astype(np.uint8), (400, 300), interpolation=cv2.INTER_CUBIC)
        grain = cv2.GaussianBlur(rng.standard_normal((300, 400, 3)).astype(np.float32), (0, 0), 1.0) * 40
        paths.append(os.path.join(folder, "photograph-%d.jpg" % number))
        cv2.imwrite(paths[-1], np.clip(shapes + grain, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 90])
    return paths


def _processor():
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _versions():
    try:
        from importlib.metadata import PackageNotFoundError, version
    except ImportError:  # Python 3.7
        return {}
    found = {}
    for name in ("paddlepaddle", "paddlepaddle-gpu", "onnxruntime", "opencv-python", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            pass
    return found
