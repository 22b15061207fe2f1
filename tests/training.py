"""Small trainings for tests: a set of eight tiny images, and the command that trains on it in a second or two."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np

from kdscfnet.cli import main
from kdscfnet.training.checkpoint import read_checkpoint

SMALL = [
    "--batch-size",
    "3",
    "--epochs",
    "3",
    "--sizes",
    "32,64",
    "--test-size",
    "32",
    "--warmup-epochs",
    "1",
    "--max-lr",
    "0.01",
    "--device",
    "cpu",
    "--workers",
    "0",
]


def make_set(root, count=8, masks=True, name="DUTS-TR"):
    """root/name/image/*.jpg and mask/*.png: bright ellipses on dark noise."""
    folder = Path(root) / name
    for kind in ("image",) + (("mask",) if masks else ()):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for index in range(count):
        mask = np.zeros((40, 48), np.uint8)
        cv2.ellipse(mask, (int(rng.integers(15, 33)), 20), (10, 8), 0, 0, 360, 255, -1)
        image = rng.integers(0, 90, (40, 48, 3)).astype(np.uint8) + (mask[..., None] // 2)
        cv2.imwrite(str(folder / "image" / ("%d.jpg" % index)), image)
        if masks:
            cv2.imwrite(str(folder / "mask" / ("%d.png" % index)), mask)
    return folder


def train(*words):
    """kdscfnet train …; returns the exit code."""
    try:
        return main(["train"] + [str(word) for word in words])
    except SystemExit as end:  # argparse
        return end.code


def run_small(data, output, *more, recipe="fs-m3"):
    source = ["--images", data] if recipe.startswith("kd") else ["--data", data]
    return train(recipe, *source, "--output", output, *SMALL, *more)


def said_by_train(output):
    """The lines of `kdscfnet train` itself in what it printed, bars and all."""
    return [line for line in output.replace("\r", "\n").splitlines() if line.startswith("kdscfnet train:")]


def losses_of(output):
    with open(str(Path(output) / "losses.csv"), newline="") as file:
        return list(csv.reader(file))


def newest_state(output):
    path = sorted((Path(output) / "checkpoints").glob("step_*.pdckpt"))[-1]
    return read_checkpoint(str(path))


def assert_same_run(one, other):
    """Weights, momentum, step and every logged loss: bit for bit."""
    assert losses_of(one) == losses_of(other)
    first, second = newest_state(one), newest_state(other)
    assert first["step"] == second["step"]
    for part in ("model", "optimizer"):
        assert list(first[part]) == list(second[part])
        for key, value in first[part].items():
            assert value.tobytes() == second[part][key].tobytes(), (part, key)
    assert (Path(one) / "final.pdparams").read_bytes() == (Path(other) / "final.pdparams").read_bytes()
