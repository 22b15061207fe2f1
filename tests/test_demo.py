"""The demo set, and the demo from end to end with few steps."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from training import train

from kdscfnet.data import demo as scenes
from kdscfnet.data.find import find_image_set
from kdscfnet.recipes import ALL_RECIPES, all_sizes
from kdscfnet.training import demo, start, trainer
from kdscfnet.training.options import TrainOptions

WHOLE = scenes.PARTS  # `small` makes it smaller


def test_scenes_are_what_they_are_said_to_be():
    fractions, contrasts = [], []
    for index in range(40):
        image, mask = scenes.scene(0, index)
        again, _ = scenes.scene(0, index)
        assert (image == again).all() and image.shape == scenes.SIDE + (3,) and mask.shape == scenes.SIDE
        inside, outside = image[mask == 255].mean(axis=0), image[mask == 0].mean(axis=0)
        fractions.append((mask > 127).mean())
        contrasts.append(np.abs(inside - outside).sum())
    assert 0.12 < np.mean(fractions) < 0.35 and min(fractions) > 0.03
    assert np.mean(contrasts) > 60
    assert (scenes.scene(0, 1)[0] != scenes.scene(1, 1)[0]).any()


def parts_of(count, few, held_out):
    """scenes.PARTS with fewer scenes."""
    return {
        "DEMO-TR": (0, count, 1, True),
        "DEMO-FEW": (0, few, count // few, True),
        "DEMO-UNLABELLED": (10_000, count, 1, False),
        "DEMO-TE": (20_000, held_out, 1, True),
    }


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The demo of kd-r50 with a handful of scenes and steps."""
    patch = pytest.MonkeyPatch()
    patch.setattr(scenes, "PARTS", parts_of(8, few=2, held_out=4))
    patch.setattr(demo, "EPOCHS", 1)
    output = tmp_path_factory.mktemp("demo") / "run"
    words = [
        "kd-r50",
        "--demo",
        "--output",
        output,
        "--sizes",
        "64",
        "--test-size",
        "64",
        "--device",
        "cpu",
        "--teacher-engine",
        "paddle",
    ]
    yield output, words
    patch.undo()


@pytest.fixture(scope="module")
def whole_demo(small):
    """The small demo, carried out: its folder, its words, and what it printed."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert train(*small[1]) == 0
    return (*small, out.getvalue())


def test_demo_ends_with_a_table_and_a_picture(whole_demo):
    output, _, out = whole_demo
    assert out.startswith("device: cpu")
    table = (output / "table.md").read_text().splitlines()
    assert table[0] == "| on 4 held-out scenes | MAE | learnt from | steps | weights |" and table[-1] in out
    names = [line.split(" | ")[0].strip("| ") for line in table[2:]]
    assert names[:3] == ["teacher", "student, distilled", "student, few labels"] and names[3].startswith(
        "best constant map"
    )
    assert "| 8 images with masks | 1 of 8 images |" in table[2]
    assert "| 2 images with masks | 1 of 8 images |" in table[4]
    assert "| 8 images without, and the teacher's maps | 1 of 8 images |" in table[3]
    held_out = find_image_set(output / "data" / "DEMO-TE")
    constant = np.mean([(cv2.imread(m, 0) >= 128).mean() for m in held_out.masks])
    assert float(table[-1].split("|")[2]) == pytest.approx(min(constant, 1 - constant), abs=1e-4)
    picture = cv2.imread(str(output / "grid.png"))
    assert picture.shape[0] >= 4 * scenes.SIDE[0] + 20 and picture.shape[1] > 5 * scenes.SIDE[1]
    for part in ("teacher", "student", "labels"):
        assert (output / part / "final.pdparams").exists() and list((output / part / "board").iterdir())
    assert find_image_set(output / "data" / "DEMO-UNLABELLED", masks="partial").masks == ()


def test_demo_goes_on_where_it_stopped(whole_demo, capsys):
    output, words, _ = whole_demo
    before = (output / "teacher" / "final.pdparams").stat().st_mtime_ns
    assert train(*words) == 2
    assert "is not empty: go on with that demo by --resume auto" in capsys.readouterr().err
    shutil.rmtree(str(output / "student"))
    assert train(*words, "--resume", "auto") == 0
    assert (output / "teacher" / "final.pdparams").stat().st_mtime_ns == before
    assert (output / "student" / "final.pdparams").exists()


def test_ctrl_c_at_the_end_of_a_part_ends_the_demo(small, tmp_path, monkeypatch, capsys):
    words = [tmp_path / "run" if word == small[0] else word for word in small[1]]
    real, calls = trainer.learning_rate, []

    def rate(step, *rest):
        calls.append(step)
        if len(calls) in (1, 2):  # the teacher's only step, and the student's
            os.kill(os.getpid(), signal.SIGINT)
        return real(step, *rest)

    monkeypatch.setattr(trainer, "learning_rate", rate)
    assert train(*words) == 130
    said = capsys.readouterr().err.replace("\r", "\n").splitlines()[-1]
    assert "stopped by Ctrl-C after step 1 of 1; the run is complete" in said and "--resume auto" in said
    assert (tmp_path / "run" / "teacher" / "final.pdparams").exists() and not (tmp_path / "run" / "student").exists()

    assert train(*words, "--resume", "auto") == 130
    assert "the run in %s is complete" % (tmp_path / "run" / "teacher") in capsys.readouterr().out
    assert (tmp_path / "run" / "student").exists() and len(calls) >= 2

    def between(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(start, "run_training", between)
    assert train(*words, "--resume", "auto") == 130
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("kdscfnet train: stopped by Ctrl-C. Go on with") and said.endswith("--resume auto")


def test_the_distilled_student_beats_the_same_student_on_few_labels(tmp_path, monkeypatch):
    monkeypatch.setattr(scenes, "PARTS", parts_of(160, few=4, held_out=8))
    monkeypatch.setattr(demo, "EPOCHS", 4)  # `small` sets its own for the whole module
    assert train("kd-r50", "--demo", "--output", tmp_path / "run", *"--sizes 64 --test-size 64 --seed 1".split()) == 0
    rows = [line.split("|") for line in (tmp_path / "run/table.md").read_text().splitlines()[2:]]
    teacher, distilled, few, constant = (float(row[2]) for row in rows)
    assert rows[1][4] == rows[2][4] == " 80 of 8 images "
    assert teacher < few and distilled < 0.8 * few and distilled < 0.8 * constant


def test_demo_brings_its_own_data(tmp_path, capsys):
    assert train("fs-m3", "--demo", "--data", tmp_path, "--output", tmp_path / "out") == 2
    assert "leave out --data" in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "words,said",
    [
        ("kd-r50 --teacher resnet50", "leave out --teacher"),
        ("kd-r50 --hold-out 5", "leave out --hold-out"),
        ("fs-m3 --hold-out 5", "leave out --hold-out"),
        ("fs-m3 --amp", "--amp is for GPUs"),
        ("fs-m3 --max-lr 0.0001", "give both, the second one larger"),
        (
            "kd-r50 --accumulate 401",
            "a step of 401 images (--accumulate 401, 1 processes) is more than the data (400 i",
        ),
        ("fs-m3 --pretrained missing.pdparams", "missing.pdparams"),
        ("kd-r50 --pretrained missing.pdparams", "missing.pdparams"),
        ("kd-r50 --teacher-engine onnxruntime", "the network cannot be exported "),
    ],
)
def test_what_cannot_work_with_the_demo_is_said_before_it_writes(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(scenes, "PARTS", WHOLE)
    if "onnxruntime" in words:
        find = importlib.util.find_spec
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else find(name))
    assert train(*words.split(), "--demo", "--device", "cpu", "--output", tmp_path / "out") == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and said in lines[0] and not (tmp_path / "out").exists()


def test_a_demo_goes_on_in_a_folder_of_a_demo_only(tmp_path, capsys):
    (tmp_path / "holiday.jpg").touch()
    assert train("fs-m3", "--demo", "--device", "cpu", "--output", tmp_path, "--resume", "auto") == 2
    assert "holds no demo: name another folder" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["holiday.jpg"]


@pytest.mark.parametrize("name", sorted(ALL_RECIPES))
def test_the_demo_of_every_recipe_asks_for_nothing_but_its_own_data(name):
    for part in demo.demo_parts(ALL_RECIPES[name], {}, TrainOptions(), "x"):
        used = part.recipe
        assert (used.hold_out, used.precise_bn, used.early_sizes) == (0, 0, ()), part.name
        assert all_sizes(used.sizes, used.early_sizes) in ((128,), (96,)) and used.batch_size <= 8


def test_best_constant(tmp_path):
    for name, white in (("a", 20), ("b", 60)):
        mask = np.zeros((10, 10), np.uint8)
        mask.reshape(-1)[:white] = 255
        cv2.imwrite(str(tmp_path / (name + ".png")), mask)
    masks = argparse.Namespace(masks=[str(tmp_path / "a.png"), str(tmp_path / "b.png")])
    assert demo.best_constant(masks) == (pytest.approx(0.4), 0)


def test_the_demo_begins_without_remarks_of_paddles(tmp_path):
    root = str(Path(__file__).resolve().parent.parent)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "kdscfnet",
            "train",
            "kd-r50",
            "--demo",
            "--device",
            "tpu",
            "--output",
            str(tmp_path / "x"),
        ],
        capture_output=True,
        env=dict(os.environ, PYTHONPATH=root + os.pathsep + os.environ.get("PYTHONPATH", "")),
    )
    said = done.stderr.decode()
    # a GPU build's word that there is no GPU is a user's business; that a compiler cache lacks is not
    assert done.returncode == 2 and "ccache" not in said, said
    assert said.splitlines()[-1].startswith("kdscfnet train: --device tpu"), said
