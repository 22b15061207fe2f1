"""`kdscfnet train`: what a run leaves, and what is said of bad input: one line, exit code 2, nothing written."""

from __future__ import annotations

import argparse
import errno
import json
import os
import shlex
import shutil
import sys
from dataclasses import fields

import cv2
import numpy as np
import pytest
from training import SMALL, losses_of, make_set, run_small, train

import kdscfnet
from kdscfnet.commands import train as command
from kdscfnet.data.batches import BatchPlan
from kdscfnet.recipes import RECIPES


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """A run that ended well, with validation."""
    output = tmp_path_factory.mktemp("finished") / "run"
    assert run_small(data, output, "--val", data, "--epochs", "4", "--picture-every", "1") == 0
    return output


def test_what_a_run_leaves(finished, capsys):
    assert (finished / "final.pdparams").exists() and (finished / "run.json").exists()
    assert sorted(p.name for p in (finished / "checkpoints").iterdir()) == ["step_%08d.pdckpt" % s for s in (6, 9, 12)]
    # every epoch of the last third, and the best
    assert sorted(p.name for p in (finished / "weights").iterdir()) == [
        "best.pdparams",
        "epoch_003.pdparams",
        "epoch_004.pdparams",
    ]
    rows = losses_of(finished)
    assert rows[0] == ["step", "epoch", "lr", "loss", "loss1", "loss2", "loss3", "loss4"] and len(rows) == 1 + 12
    lines = (finished / "log.txt").read_text().splitlines()
    assert len(lines) == 4 and lines[3].startswith("epoch 4/4  step 12") and "val MAE 0." in lines[3]
    assert not list(finished.rglob(".tmp*"))


def test_a_quiet_training_says_nothing_and_logs_all(data, tmp_path, capfd):
    assert run_small(data, tmp_path / "run", "--epochs", "1", "--quiet") == 0
    captured = capfd.readouterr()
    assert captured.out == "" and "epoch" not in captured.err and "fs-m3" not in captured.err
    assert len((tmp_path / "run" / "log.txt").read_text().splitlines()) == 1


def test_the_learning_rate_is_the_schedules(finished):
    from kdscfnet.schedule import learning_rate

    for row in losses_of(finished)[1:]:
        assert float(row[2]) == pytest.approx(learning_rate(int(row[0]), 8, 3, 4, 1, 0.01, 0.00064), rel=1e-6)


def test_the_board_has_the_authors_tags(finished):
    from visualdl import LogReader

    files = list((finished / "board").iterdir())
    assert len(files) == 1
    reader = LogReader(file_path=str(files[0]))
    tags = reader.get_tags()
    assert set(tags["scalar"]) == {
        "train/lr",
        "train/loss",
        "train/loss1",
        "train/loss2",
        "train/loss3",
        "train/loss4",
        "val/MAE",
        "val/MAE_unstretched",
    }
    recorded = [(item.id, item.value) for item in reader.get_data("scalar", "train/loss2")]
    expected = [(int(r[0]), np.float32(r[5])) for r in losses_of(finished)[1:]]
    assert recorded == expected
    assert tags["image"] == ["train/image_target_prediction"]
    assert tags["hyper_parameters"]


def test_distillation_from_what_was_trained(finished, data, tmp_path, capsys):
    unlabelled = make_set(tmp_path, masks=False, name="KD-SOD80K")
    words = ["--teacher", "mobilenetv3", "--teacher-weights", finished / "final.pdparams", "--teacher-engine", "paddle"]
    assert run_small(tmp_path, tmp_path / "out", *words, recipe="kd-r50") == 0
    out = capsys.readouterr().out
    assert out.startswith("device: cpu") and "KD-SOD80K: 8 images, 0 masks" in out
    assert len(losses_of(tmp_path / "out")) == 10
    # from maps: the set's own masks stand for the teacher's maps, one of them at half size
    maps = tmp_path / "maps"
    shutil.copytree(str(data / "mask"), str(maps))
    half = cv2.resize(cv2.imread(str(maps / "3.png"), 0), (24, 20))
    cv2.imwrite(str(maps / "3.png"), half)
    assert run_small(unlabelled, tmp_path / "out2", "--teacher-maps", maps, recipe="kd-r50") == 0
    (maps / "5.png").unlink()
    assert run_small(unlabelled, tmp_path / "out3", "--teacher-maps", maps, recipe="kd-r50") == 2
    assert "1 of 8 images have no map (the first: 5)" in capsys.readouterr().err


def test_every_number_of_a_recipe_is_a_flag(capsys):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    flags = {action.dest: action for action in parser._actions}
    numbers = {f.name for f in fields(RECIPES["fs-m3"])} - {"name", "title", "backbone", "teacher", "data"}
    assert len(numbers) == 15 and numbers <= set(flags)
    args = parser.parse_args(["fs-m3", "--batch", "64", "--sizes", "224,320x256", "--max-lr", "1e-2"])
    assert (args.batch_size, args.sizes, args.max_lr) == (64, (224, (320, 256)), 0.01)
    for bad in (
        ["--batch", "0"],
        ["--batch", "many"],
        ["--epochs", "-1"],
        ["--max-lr", "nan"],
        ["--max-lr", "inf"],
        ["--weight-decay", "1e999"],
        ["--checkpoint-minutes", "nan"],
        ["--sizes", "16"],
        ["--momentum", "2"],
        ["--hold-out", "-1"],
        ["--early-sizes", "96,128"],
        ["--early-sizes", "20:96;10:128"],
        ["--early-sizes", "20:8"],
        ["--early-sizes", "²:64"],
    ):
        assert train("fs-m3", *bad) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "argument %s" % bad[0] in line  # not what comes after the words, data that lack


@pytest.mark.parametrize("words", ["--sizes 64,abc", "--sizes ,", "--test-size 32x64x96", "--early-sizes 2:x"])
def test_a_size_that_is_none_is_said_in_our_words(words, capsys):
    assert train("fs-m3", *words.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "a size is a number from 32 on, or HEIGHTxWIDTH" in line and "_s" not in line


@pytest.mark.parametrize(
    "given,advised",
    [
        ("fs-m3 --output 'my run'", "fs-m3 --output 'my run' --resume auto"),
        ("fs-m3 --res auto", "fs-m3 --resume auto"),
        ("fs-m3 --resu=auto --keep 2", "fs-m3 --keep 2 --resume auto"),
        ("fs-m3 --r no --name auto --keep 2", None),
        ("fs-m3 --resume", "fs-m3 --resume auto"),
        ("--resume auto fs-m3 --output auto", "fs-m3 --output auto --resume auto"),
        ("fs-m3 --res no", "fs-m3 --resume auto"),
        ("fs-m3 --output --resume-later", None),  # argparse refuses it
        ("fs-m3 --output=--resume-later", "fs-m3 --output=--resume-later --resume auto"),
    ],
)
def test_the_advice_how_to_resume_is_a_command_that_resumes(given, advised, capsys, monkeypatch):
    """The words come from the caller, not from sys.argv: in a notebook that is Jupyter's."""
    said = []
    monkeypatch.setattr(command, "run", lambda args: said.append(command.how_to_resume(args)))
    monkeypatch.setattr(sys, "argv", ["/usr/lib/ipykernel_launcher.py", "-f", "kernel.json", "--resume", "auto"])
    words = shlex.split(given)
    if advised is None:
        assert train(*words) == 2
        return
    assert train(*words) == 0
    assert said[-1] == "Go on with: kdscfnet train " + advised
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    resumed = parser.parse_args(shlex.split(said[-1])[5:])
    assert vars(resumed) == dict(vars(parser.parse_args(words)), resume="auto")

    monkeypatch.setenv("KDSCFNET_SCRIPT", "scripts/my train.sh")
    train(*words)
    assert said[-1] == "Go on with: bash 'scripts/my train.sh' " + advised
    monkeypatch.delenv("KDSCFNET_SCRIPT")
    monkeypatch.setattr(sys, "argv", [os.path.join(os.path.dirname(kdscfnet.__file__), "__main__.py"), "train"])
    train(*words)
    assert said[-1] == "Go on with: %s -m kdscfnet train %s" % (shlex.quote(sys.executable), advised)
    monkeypatch.setenv("PADDLE_TRAINERS_NUM", "2")
    train(*words)
    assert said[-1] == "Go on with the same launch command and --resume auto"


def test_a_test_size_of_two_numbers_is_in_run_json(data, tmp_path):
    assert run_small(data, tmp_path / "run", "--test-size", "64x32", "--val", data, "--epochs", "1") == 0
    assert json.loads((tmp_path / "run" / "run.json").read_text())["test_size"] == [64, 32]


def test_the_authors_recipes():
    described = {r.name: (r.backbone, r.teacher, r.data, r.sizes, r.test_size) for r in RECIPES.values()}
    multi = (224, 256, 288, 320, 352)
    assert described == {
        "fs-m3": ("mobilenetv3", "", "DUTS-TR", multi, 352),
        "fs-r50": ("resnet50", "", "DUTS-TR", multi, 352),
        "fs-stb": ("swin_b", "", "DUTS-TR", (384,), 384),
        "kd-r50": ("mobilenetv3", "resnet50", "KD-SOD80K", multi, 352),
        "kd-stb": ("mobilenetv3", "swin_b", "KD-SOD80K", (384,), 384),
    }
    for r in RECIPES.values():
        assert (r.batch_size, r.epochs, r.warmup_epochs, r.max_lr, r.min_lr) == (128, 69, 5, 0.064, 0.00064)
        assert (r.momentum, r.weight_decay, r.backbone_lr_factor) == (0.9, 5e-4, 0.1)


def refused(capsys, message, *words):
    """The run ends with 2 and one line that holds `message`; the output folder is not there."""
    capsys.readouterr()
    assert train(*words) == 2
    captured = capsys.readouterr()
    lines = [line for line in captured.err.replace("\r", "\n").splitlines() if line.startswith("kdscfnet")]
    assert len(lines) == 1 and message in lines[0], captured.err
    assert "Traceback" not in captured.err
    return captured.out


class TestBadInput:
    @pytest.fixture(autouse=True)
    def paths(self, tmp_path, data):
        self.tmp, self.output = tmp_path, tmp_path / "output"
        self.data = tmp_path / "DUTS-TR"
        shutil.copytree(str(data), str(self.data))
        self.words = ["fs-m3", "--data", self.data, "--output", self.output, *SMALL]
        yield
        assert not self.output.exists()

    def test_missing_and_empty_folders(self, capsys):
        refused(capsys, "there is no data folder", "fs-m3", "--data", self.tmp / "nowhere", "--output", self.output)
        (self.tmp / "empty").mkdir()
        refused(capsys, "holds no images: expected", "fs-m3", "--data", self.tmp / "empty", "--output", self.output)

    def test_list_that_names_a_missing_file(self, capsys):
        (self.data / "train.txt").write_text("0\n1\nmissing\n")
        refused(capsys, "train.txt line 3: there is no image 'missing'", *self.words)

    def test_mask_of_another_size(self, capsys):
        cv2.imwrite(str(self.data / "mask" / "4.png"), np.zeros((30, 30), np.uint8))
        refused(capsys, "4.png: the mask is 30×30, its image 48×40", *self.words)

    def test_truncated_image(self, capsys):
        path = self.data / "image" / "2.jpg"
        path.write_bytes(path.read_bytes()[:400])
        out = refused(capsys, "2.jpg: the image is cut short (--skip-bad goes on without it)", *self.words)
        assert out.startswith("device: cpu")
        assert train(*self.words, "--skip-bad", "--epochs", "1") == 0
        out = capsys.readouterr().out
        assert "left out: 1 of 8 images (--skip-bad); 7 remain" in out and "2.jpg: the image is cut short" in out
        shutil.rmtree(str(self.output))

    def test_distillation_without_teacher_weights(self, capsys):
        refused(
            capsys,
            "distillation needs the teacher's weights: --teacher-weights FILE",
            "kd-r50",
            "--images",
            self.data,
            "--output",
            self.output,
            *SMALL,
        )

    def test_teacher_of_another_backbone(self, finished, capsys):
        refused(
            capsys,
            "holds a network with mobilenetv3, the recipe's teacher has resnet50",
            "kd-r50",
            "--images",
            self.data,
            "--output",
            self.output,
            *SMALL,
            "--teacher-weights",
            finished / "final.pdparams",
        )
        refused(
            capsys,
            "nothing.pdparams",
            "kd-r50",
            "--images",
            self.data,
            "--output",
            self.output,
            *SMALL,
            "--teacher-weights",
            self.tmp / "nothing.pdparams",
        )

    def test_more_turns_than_images(self, capsys):
        refused(capsys, "a step of 9 images (--accumulate 9, 1 processes) is more", *self.words, "--accumulate", "9")

    def test_device(self, capsys):
        import paddle

        if paddle.device.is_compiled_with_cuda() and paddle.device.cuda.device_count():
            pytest.skip("this machine has a GPU")
        words = [w if w != "cpu" else "gpu" for w in self.words]
        assert "device" not in refused(capsys, "--device gpu: th", *words)
        refused(capsys, "--device tpu", *[w if w != "cpu" else "tpu" for w in self.words])

    def test_mixed_precision_on_a_cpu(self, capsys):
        refused(capsys, "--amp is for GPUs", *self.words, "--amp")

    def test_flags_of_the_other_kind(self, capsys):
        refused(capsys, "learns from labels", *self.words, "--teacher-weights", "x")
        refused(capsys, "learns from labels", *self.words, "--images", self.data)
        refused(capsys, "--min-lr 1 is more than --max-lr", *self.words, "--min-lr", "1")

    def test_flags_that_would_be_ignored(self, capsys):
        refused(capsys, "--val-every 2: there is nothing to measure on", *self.words, "--val-every", "2")
        refused(capsys, "--pretrained has no use", *self.words, "--init", "x.pdparams", "--pretrained", "auto")
        words = ["kd-r50", *self.words[1:]]
        refused(capsys, "both name what to distil from", *words, "--images", self.data)
        words += ["--teacher-maps", self.data / "mask"]
        for flag, value in (("weights", "x.pdparams"), ("engine", "auto"), ("", "mobilenetv3")):
            name = ("--teacher-" + flag).rstrip("-")
            refused(capsys, "leave out %s" % name, *words, name, value)
        # a recipe's own numbers are no flags of the user's
        out = refused(
            capsys,
            "a step of 99 images",
            "fs-m3-cpu",
            *self.words[1:],
            "--val-every",
            "2",
            "--hold-out",
            "2",
            "--accumulate",
            "99",
        )
        assert "DUTS-TR: 8 images" in out

    def test_validation_set_without_masks(self, capsys):
        unlabelled = make_set(self.tmp, masks=False, name="VAL")
        refused(capsys, "holds no masks", *self.words, "--val", unlabelled)

    def test_unknown_recipe(self, capsys):
        refused(capsys, "invalid choice: 'fs-r34'", "fs-r34")


def contents(folder):
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_folder_that_holds_another_run(finished, data, tmp_path, capsys):
    before = contents(finished)
    assert run_small(data, finished) == 2
    assert "is not empty: go on with that run by --resume auto" in capsys.readouterr().err
    assert run_small(data, finished, "--resume", "auto", "--batch", "4") == 2
    assert "holds another run (batch_size was 3, is 4)" in capsys.readouterr().err
    assert contents(finished) == before
    other = tmp_path / "mine"
    other.mkdir()
    (other / "thesis.txt").write_text("years of work")
    assert run_small(data, other, "--resume", "auto") == 2
    assert "holds no run of kdscfnet train" in capsys.readouterr().err
    assert [p.name for p in other.iterdir()] == ["thesis.txt"]
    assert run_small(data, other / "thesis.txt") == 2


def test_full_disk_while_saving(data, tmp_path, capsys, monkeypatch):
    """The second checkpoint finds no space: one line, and the first one is whole and resumes."""
    real, calls = os.fsync, []

    def full(handle):
        name = os.readlink("/proc/self/fd/%d" % handle)
        if os.path.basename(os.path.dirname(name)) == "checkpoints":
            calls.append(name)
            if len(calls) == 2:
                os.truncate(name, 1000)
                raise OSError(errno.ENOSPC, "No space left on device", name)
        return real(handle)

    monkeypatch.setattr(os, "fsync", full)
    assert run_small(data, tmp_path / "out") == 1
    error = [line for line in capsys.readouterr().err.replace("\r", "\n").splitlines() if line.startswith("kdscfnet")]
    assert len(error) == 1 and "the disk is full" in error[0] and "--resume auto" in error[0]
    assert [p.name for p in (tmp_path / "out" / "checkpoints").iterdir()] == ["step_00000003.pdckpt"]
    monkeypatch.undo()
    assert run_small(data, tmp_path / "out", "--resume", "auto") == 0
    assert run_small(data, tmp_path / "whole") == 0
    from training import assert_same_run

    assert_same_run(tmp_path / "out", tmp_path / "whole")


def test_fine_tuning_starts_from_a_network(finished, data, tmp_path, capsys):
    assert run_small(data, tmp_path / "out", "--init", finished / "final.pdparams", "--epochs", "1") == 0
    assert "entries loaded from" in capsys.readouterr().out
    assert float(losses_of(tmp_path / "out")[1][3]) < float(losses_of(finished)[1][3])


def test_early_sizes_come_first(data, tmp_path):
    plan = BatchPlan(8, 3, (128,), 4, seed=0, early_sizes=((1, (32,)), (3, (64, 96))))
    by_epoch = {}
    for items in plan:
        by_epoch.setdefault(items[0][1], set()).add(items[0][2][0])
    assert by_epoch[0] == {32} and by_epoch[1] | by_epoch[2] == {64, 96} and by_epoch[3] == {128}
    assert run_small(data, tmp_path / "run", "--early-sizes", "1:32;2:64x32", "--sizes", "64") == 0
    about = json.loads((tmp_path / "run" / "run.json").read_text())
    assert about["early_sizes"] == [[1, [32]], [2, [[64, 32]]]] and about["sizes"] == [64]


def test_held_out_images_are_measured_and_not_trained_on(data, tmp_path, capsys, monkeypatch):
    from kdscfnet.data import batches
    from kdscfnet.data.find import find_image_set
    from kdscfnet.training.training_data import split_off

    whole = find_image_set(data)
    kept, held = split_off(whole, 2)
    assert len(held) == 2 and len(kept) == len(whole) - 2
    assert sorted(kept.images + held.images) == sorted(whole.images)
    assert [os.path.basename(m)[0] for m in held.masks] == list(held.names)
    read = set()
    real = batches.read_image
    monkeypatch.setattr(batches, "read_image", lambda path: read.add(path) or real(path))
    assert run_small(data, tmp_path / "run", "--hold-out", "2") == 0
    assert "DUTS-TR (held out): 2 images, 2 masks" in capsys.readouterr().out
    assert read == set(kept.images)
    assert "val MAE" in (tmp_path / "run" / "log.txt").read_text()
    # distillation, which takes no masks, is measured with them
    words = ["--teacher", "mobilenetv3", "--teacher-weights", tmp_path / "run" / "final.pdparams", "--hold-out", "2"]
    assert run_small(data, tmp_path / "distilled", *words, recipe="kd-r50") == 0
    assert "val MAE" in (tmp_path / "distilled" / "log.txt").read_text()
    assert json.loads((tmp_path / "distilled" / "run.json").read_text())["images"] == 6
    refused(
        capsys,
        "give one of them",
        "fs-m3",
        "--data",
        data,
        "--hold-out",
        "2",
        "--val",
        data,
        "--output",
        tmp_path / "no",
        "--batch",
        "3",
    )
    refused(capsys, "the set has 8 images", "fs-m3", "--data", data, "--hold-out", "8", "--output", tmp_path / "no")
