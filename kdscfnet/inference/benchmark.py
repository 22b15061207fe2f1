"""Where the time of a prediction goes: the measuring of `kdscfnet benchmark`.

Each measurement is a process of its own, so that peak memory and thread settings belong to one engine.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time

import cv2
import numpy as np

from kdscfnet.child import Crashed, in_child
from kdscfnet.errors import UserError
from kdscfnet.images import read_any
from kdscfnet.inference import outputs
from kdscfnet.inference.pipeline import predict_files
from kdscfnet.inference.predictor import Predictor
from kdscfnet.processing import prepare_image, to_map
from kdscfnet.text import columns, progress

STAGES = ("read", "prepare", "network", "finish", "write")


def measure(weights, backbone, engine, threads, size, images, device=None):
    """Predict `images` (paths) one by one, stage by stage, then all at once.

    Returns milliseconds per image for each of STAGES (medians), images per second one by one and overlapped, the
    engine's start in seconds, and the peak memory of the process in MB.
    """
    start = time.perf_counter()
    predictor = Predictor(weights, backbone, engine, size, threads, device)
    predictor(np.zeros((64, 64, 3), np.uint8))
    started = time.perf_counter() - start
    times = {stage: [] for stage in STAGES}

    def timed(stage, work, *arguments):
        before = time.perf_counter()
        result = work(*arguments)
        times[stage].append(time.perf_counter() - before)
        return result

    with tempfile.TemporaryDirectory(prefix="kdscfnet-benchmark-") as folder:
        begun = time.perf_counter()
        for number, path in enumerate(images):
            image, _ = timed("read", read_any, path)
            prepared = timed("prepare", prepare_image, image, predictor.size)
            logits = timed("network", predictor.network, prepared[None])
            saliency = timed("finish", to_map, logits[0, 0], image.shape[0], image.shape[1])
            timed("write", outputs.write, {"map": os.path.join(folder, "loop-%d.png" % number)}, image, saliency)
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


def median(results):
    """One row of several of `measure`: the median of each real number."""
    first = results[0]
    if isinstance(first, dict):
        return {key: median([result[key] for result in results]) for key in first}
    return round(float(np.median(results)), 3) if isinstance(first, float) else first


def measure_in_turns(requests, rounds):
    """A row of medians for each request; the rounds take turns, each run is a process of its own."""
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


def table(figures):
    """The figures as text: a row of medians for each engine and number of threads."""
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


def make_photographs(folder, count):
    """Made-up pictures of 400×300, as hard to decode as photographs: blurred noise over soft shapes. Returns paths."""
    rng = np.random.RandomState(0)
    paths = []
    for number in range(count):
        shapes = cv2.resize(rng.randint(0, 256, (6, 8, 3)).astype(np.uint8), (400, 300), interpolation=cv2.INTER_CUBIC)
        grain = cv2.GaussianBlur(rng.standard_normal((300, 400, 3)).astype(np.float32), (0, 0), 1.0) * 40
        paths.append(os.path.join(folder, "photograph-%d.jpg" % number))
        cv2.imwrite(paths[-1], np.clip(shapes + grain, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 90])
    return paths
