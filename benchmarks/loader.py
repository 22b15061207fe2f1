"""What one training sample costs, against the decoding of its two files, and images per second by number of workers.

python benchmarks/loader.py data/DUTS-TR [--images 300] [--rounds 5] [--workers 0,1,2,4]

All in one run, by turns. Batches of 32 at one of the five sizes each; a number of workers starts them once and is timed
from the first batch to the last.
"""

from __future__ import annotations

import argparse
import statistics
import time

import cv2
import numpy as np

from kdscfnet.data.batches import BatchPlan, TrainingSamples, batches
from kdscfnet.data.find import find_image_set
from kdscfnet.recipes import Recipe


def decode(path, flags):
    with open(path, "rb") as file:
        return cv2.imdecode(np.frombuffer(file.read(), np.uint8), flags)


def images_per_second(samples, plan, workers):
    """Of the loader with `workers` processes, without the first batch, in which they start."""
    loader = batches(samples, plan, workers)
    next(loader)
    began, images = time.perf_counter(), 0
    for batch, _, _, _ in loader:
        images += batch.shape[0]
    return images / (time.perf_counter() - began)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", default="0,1,2,4", help="numbers of the loader's processes, with commas")
    args = parser.parse_args()
    cv2.setNumThreads(0)  # one core, as in a worker
    found = find_image_set(args.data)
    count = min(args.images, len(found))
    images, masks = found.images[:count], found.masks[:count]
    samples = TrainingSamples(images, masks, 0)
    decoding, sampling = [], []
    for round_number in range(args.rounds + 1):
        began = time.perf_counter()
        for image, mask in zip(images, masks):
            decode(image, cv2.IMREAD_COLOR)
            decode(mask, cv2.IMREAD_GRAYSCALE)
        decoding.append((time.perf_counter() - began) / count * 1e3)
        plan = list(BatchPlan(count, 32, Recipe.sizes, 1, seed=round_number))
        began = time.perf_counter()
        for items in plan:
            samples.load(items)
        sampling.append((time.perf_counter() - began) / count * 1e3)
    decoding, sampling = decoding[1:], sampling[1:]  # the first round fills the system's cache
    ratio = statistics.median(s / d for s, d in zip(sampling, decoding))
    print("%d pairs of %s, one core, medians of %d rounds" % (count, found.name, args.rounds))
    print("decode image and mask             %6.2f ms" % statistics.median(decoding))
    print(
        "read, augment, resize, stack      %6.2f ms  (%.2f times the decoding)" % (statistics.median(sampling), ratio)
    )
    rates = {int(workers): [] for workers in args.workers.split(",")}
    for round_number in range(args.rounds):
        for workers, found_rates in rates.items():
            plan = BatchPlan(count, 32, Recipe.sizes, 2, seed=round_number)
            found_rates.append(images_per_second(TrainingSamples(images, masks, 0), plan, workers))
    for workers, found_rates in rates.items():
        ratio = statistics.median(rate / first for rate, first in zip(found_rates, next(iter(rates.values()))))
        print(
            "images a second, %2d workers       %6.1f     (%.2f times those of the first)"
            % (workers, statistics.median(found_rates), ratio)
        )


if __name__ == "__main__":
    main()
