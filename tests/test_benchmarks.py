"""The programs in benchmarks/ that make tables and pictures of the documents, on small stand-ins."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from training import make_set

ROOT = Path(__file__).resolve().parent.parent


def run(name, *words, code=0):
    command = [sys.executable, str(ROOT / "benchmarks" / name)] + [str(word) for word in words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


def make_run(root, name, targets, images, seed, held_out, tested):
    """What labels.py reads of a training and of its test."""
    folder = root / name
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps({"targets": targets, "images": images, "seed": seed}))
    (folder / "log.txt").write_text(
        "epoch 1/2  val MAE 0.9\nepoch 2/2  val MAE %.4f  val MAE_unstretched 0.5\n" % held_out
    )
    (folder / "final.pdparams").write_bytes(name.encode())
    (root / "scores").mkdir(exist_ok=True)
    scores = {"sha256": hashlib.sha256(name.encode()).hexdigest(), "sets": {"ECSSD": {"MAE": tested}}}
    (root / "scores" / (name + ".json")).write_text(json.dumps(scores))
    return folder


def test_labels(tmp_path):
    runs = [
        make_run(tmp_path, "a", "masks", 250, 0, 0.2, 0.25),
        make_run(tmp_path, "b", "masks", 250, 1, 0.3, 0.35),
        make_run(tmp_path, "c", "masks", 1000, 0, 0.1, 0.15),
        make_run(tmp_path, "d", "teacher maps", 2000, 0, 0.12, 0.17),
    ]
    picture = tmp_path / "labels.png"
    out = run("labels.py", picture, tmp_path, *runs).splitlines()
    assert out[0] == "| learnt from | images | seeds | held out | ECSSD |"
    assert out[2:] == [
        "| masks | 250 | 0, 1 | 0.2000, 0.3000 | 0.2500, 0.3500 |",
        "| masks | 1000 | 0 | 0.1000 | 0.1500 |",
        "| teacher maps | 2000 | 0 | 0.1200 | 0.1700 |",
    ]
    assert cv2.imread(str(picture)).shape[0] > 300
    (runs[0] / "final.pdparams").write_bytes(b"another")
    assert "it was not measured" in run("labels.py", picture, tmp_path, *runs, code=1)


def test_side_by_side(tmp_path):
    """A student, and maps made before of two of three images: here the masks themselves."""
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is not for this Python")
    pytest.importorskip("paddle2onnx", reason="paddle2onnx is not for this Python")
    import paddle

    from kdscfnet.models.scfnet import SCFNet
    from kdscfnet.weights.files import save_weights

    data = make_set(tmp_path, 3, name="ECSSD-even")
    made = tmp_path / "made" / "ECSSD"
    made.mkdir(parents=True)
    for index in range(2):
        mask = cv2.imread(str(data / "mask" / ("%d.png" % index)), cv2.IMREAD_GRAYSCALE)
        cv2.imwrite(str(made / ("%d.png" % index)), mask)
    paddle.seed(0)
    save_weights(SCFNet("mobilenetv3"), str(tmp_path / "student.pdparams"))
    words = ["--data", data, "--weights", tmp_path / "student.pdparams", "--maps", "perfect=%s" % (tmp_path / "made")]
    out = run("side_by_side.py", tmp_path / "out", *words)
    assert (tmp_path / "out" / "table.md").read_text(encoding="utf-8").strip() == out.strip()
    whole, part = out.split("**ECSSD-even: 2 images, of which perfect has maps**")
    assert "| perfect |" not in whole and "| perfect | 0.0000 | 1.000 | 1.000 | – | – |" in part
    assert "| KD-SCFNet (STB), the authors' figure on all of ECSSD | 0.030 |" in whole and "authors" not in part
    scores = [float(line.split("|")[2]) for line in out.splitlines() if line.startswith("| student |")]
    assert len(scores) == 2 and all(0 < score < 1 for score in scores)
    maps = [cv2.imread(str(tmp_path / "out" / "student" / "ECSSD-even" / ("%d.png" % i)), 0) for i in range(3)]
    assert all(saliency.shape == (40, 48) for saliency in maps) and np.ptp(maps[0]) > 0
