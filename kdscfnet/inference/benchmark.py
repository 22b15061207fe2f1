"""Where the time of a prediction goes: the measuring of `kdscfnet benchmark`.

Each measurement is a process of its own, so that peak memory and thread settings belong to one engine.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time

import numpy as np

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
