"""What goes wrong in the middle of a training, and what a run says and leaves then."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from unittest import mock

import cv2
import numpy as np
import pytest
from forked import Forked
from kill_training import command, environment, steps_done
from training import assert_same_run, run_small, said_by_train

from kdscfnet.data.find import find_image_set
from kdscfnet.data.workers import LoaderError
from kdscfnet.errors import Diverged
from kdscfnet.inference import networks
from kdscfnet.training import checkpoint, log, run, trainer
from kdscfnet.training.training_data import split_off


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    output = tmp_path_factory.mktemp("finished") / "run"
    assert run_small(data, output, "--epochs", "1") == 0
    return output


def said(capsys):
    """The lines that a run ended with."""
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return said_by_train(error)


def test_a_teacher_of_one_size_draws_the_boards_pictures_at_that_size(finished, data, tmp_path, monkeypatch):
    class OneSize:
        """Stands in for an exported Swin-B, which takes minutes to make."""

        name, size, seen = "onnxruntime", (64, 64), []

        def __call__(self, images):
            assert images.shape[2:] == self.size
            self.seen.append(len(images))
            return np.zeros((len(images), 1) + self.size, np.float32)

    monkeypatch.setattr(networks, "open_network", lambda *_, **__: OneSize())
    words = ["--teacher", "mobilenetv3", "--teacher-weights", finished / "final.pdparams", "--epochs", "1"]
    words += ["--sizes", "64", "--test-size", "96"]
    assert run_small(data, tmp_path / "run", *words, recipe="kd-stb") == 0
    assert OneSize.seen[-4:] == [1, 1, 1, 1]  # the pictures, one by one


def test_a_disk_that_is_full_at_the_start_leaves_a_folder_that_resumes(data, tmp_path, capsys, monkeypatch):
    """Whatever is written first finds no space: run.json, or the folders."""
    full = OSError(errno.ENOSPC, "No space left on device")

    def no_space(*_, **__):
        raise full

    monkeypatch.setattr(run, "write_json", no_space)
    for _ in range(2):  # the folder is there then
        assert run_small(data, tmp_path / "run", "--resume", "auto") == 1
        (line,) = said(capsys)
        assert "the disk is full" in line and "no checkpoint was saved yet" in line and "--resume auto" in line
    monkeypatch.undo()
    real = os.makedirs
    monkeypatch.setattr(
        os, "makedirs", lambda path, *a, **k: no_space() if path.endswith("checkpoints") else real(path, *a, **k)
    )
    assert run_small(data, tmp_path / "run", "--resume", "auto") == 1
    assert "no checkpoint was saved yet" in said(capsys)[0]
    monkeypatch.undo()
    for name in ("checkpoints", "weights", "board"):  # as an earlier version left them
        (tmp_path / "earlier" / name).mkdir(parents=True)
    for folder in (tmp_path / "run", tmp_path / "earlier"):
        assert run_small(data, folder, "--resume", "auto") == 0
        assert (folder / "final.pdparams").exists()
    # somebody else's files in a folder of that name are not ours
    (tmp_path / "theirs" / "weights").mkdir(parents=True)
    (tmp_path / "theirs" / "weights" / "mine.txt").write_text("x")
    assert run_small(data, tmp_path / "theirs", "--resume", "auto") == 2
    assert "holds no run of kdscfnet train" in said(capsys)[0]


def test_checkpoints_that_are_not_whole_do_not_push_out_those_that_are(data, tmp_path, monkeypatch, capsys):
    """The newest are cut; the run goes on from an older one, and is killed right after it saved again."""

    class Killed(BaseException):
        pass

    def kill_at(number):
        real = checkpoint.prune

        def prune(folder, keep):
            real(folder, keep)
            if checkpoint.list_checkpoints(folder)[0].endswith("%08d.pdckpt" % number):
                raise Killed

        monkeypatch.setattr(checkpoint, "prune", prune)
        with pytest.raises(Killed):
            run_small(data, tmp_path / "run", "--resume", "auto", "--checkpoint-steps", "1", "--keep", "2")
        monkeypatch.undo()

    folder = tmp_path / "run" / "checkpoints"
    kill_at(4)
    good, later = folder / "step_00000003.pdckpt", [folder / ("step_%08d.pdckpt" % step) for step in (4, 6, 8)]
    for path in later:
        path.write_bytes(good.read_bytes()[:1000])
    capsys.readouterr()
    kill_at(4)
    assert "going on with %s after step 3" % (tmp_path / "run") in capsys.readouterr().out
    assert sorted(folder.iterdir()) == [good, later[0]]
    assert checkpoint.read_checkpoint(str(good)) and checkpoint.read_checkpoint(str(later[0]))


def test_other_data_or_another_teacher_is_another_run(finished, data, tmp_path, capsys):
    def same(change, key, *words, source=data, recipe="kd-r50"):
        """Begin a run, change something, and go on with it: refused for `key`; then as it was: complete."""
        before, after = words, change
        capsys.readouterr()
        output = tmp_path / key
        assert run_small(source, output, "--epochs", "1", *before, recipe=recipe) == 0
        assert run_small(after[0], output, "--epochs", "1", "--resume", "auto", *after[1:], recipe=recipe) == 2
        (line,) = said(capsys)
        assert "holds another run (%s was" % key in line
        assert run_small(source, output, "--epochs", "1", "--resume", "auto", *before, recipe=recipe) == 0
        assert "is complete" in capsys.readouterr().out
        about = json.loads((output / "run.json").read_text())
        for added in ("image_names", "teacher_weights", "teacher_map_files", "init"):  # by a version that did not ask
            del about[added]
        (output / "run.json").write_text(json.dumps(about))
        assert run_small(after[0], output, "--epochs", "1", "--resume", "auto", *after[1:], recipe=recipe) == 0

    teacher = ["--teacher", "mobilenetv3", "--teacher-engine", "paddle", "--teacher-weights"]
    weights, other = finished / "final.pdparams", tmp_path / "other.pdparams"
    assert run_small(data, tmp_path / "other", "--epochs", "1", "--seed", "1") == 0
    shutil.copy(str(tmp_path / "other" / "final.pdparams"), str(other))
    same((data, *teacher, other), "teacher_weights", *teacher, weights)
    same((data, "--init", other), "init", "--init", weights, recipe="fs-m3")

    renamed = tmp_path / "moved" / "DUTS-TR"
    shutil.copytree(str(data), str(renamed))
    for kind, suffix in (("image", ".jpg"), ("mask", ".png")):
        (renamed / kind / ("7" + suffix)).rename(renamed / kind / ("9" + suffix))
    same((renamed,), "image_names", recipe="fs-m3")

    maps = tmp_path / "maps"
    shutil.copytree(str(data / "mask"), str(maps))
    cv2.imwrite(str(maps / "3.png"), np.random.RandomState(0).randint(0, 255, (40, 48)).astype(np.uint8))
    same((data, "--teacher-maps", maps), "teacher_map_files", "--teacher-maps", data / "mask")


def test_the_pretrained_backbone_counts_by_its_contents(data, tmp_path, capsys):
    from kdscfnet import SCFNet, save_weights

    here, there, other = (tmp_path / (name + ".pdparams") for name in ("here", "there", "other"))
    save_weights(SCFNet("mobilenetv3").bkbone, str(here))
    save_weights(SCFNet("mobilenetv3").bkbone, str(other))
    shutil.copy(str(here), str(there))
    words = ["--epochs", "1", "--resume", "auto", "--pretrained"]
    assert run_small(data, tmp_path / "run", *words, here) == 0
    assert run_small(data, tmp_path / "run", *words, there) == 0
    assert "is complete" in capsys.readouterr().out
    for name in (other, "none", "x"):
        assert run_small(data, tmp_path / "run", *words, name) == 2
        assert "another run (pretrained was" in said(capsys)[0]


def test_a_recipe_s_number_that_run_json_lacks_had_its_default(data, tmp_path, capsys):
    assert run_small(data, tmp_path / "run", "--epochs", "1") == 0
    path = tmp_path / "run" / "run.json"
    settings = json.loads(path.read_text())
    del settings["precise_bn"]
    path.write_text(json.dumps(settings))
    assert run_small(data, tmp_path / "run", "--epochs", "1", "--resume", "auto") == 0
    assert run_small(data, tmp_path / "run", "--epochs", "1", "--resume", "auto", "--precise-bn", "2") == 2
    assert "another run (precise_bn was 0, is 2)" in said(capsys)[0]


def test_a_run_goes_on_where_folders_have_moved(finished, data, tmp_path, capsys):
    shutil.copytree(str(finished), str(tmp_path / "elsewhere"))
    shutil.copytree(str(data), str(tmp_path / "DUTS-TR"))
    words = ["--epochs", "1", "--resume", "auto"]
    assert run_small(tmp_path / "DUTS-TR", tmp_path / "elsewhere", *words) == 0
    assert "is complete" in capsys.readouterr().out


@pytest.mark.parametrize("when", ["the loss", "the last update", "the statistics"])
def test_a_diverged_training_ends_with_one_line_and_good_weights(when, data, tmp_path, capsys, monkeypatch):
    """In the middle of the second epoch; in the last step's update, which no loss shows; in BatchNorm."""
    real, bad = trainer.learning_rate, {"the loss": 3, "the last update": 5, "the statistics": None}[when]

    def rate(step, *rest):
        return float("nan") if step == bad else real(step, *rest)

    monkeypatch.setattr(trainer, "learning_rate", rate)
    if when == "the statistics":

        def spoil(model, *_):
            layer = next(layer for layer in model.sublayers() if hasattr(layer, "_variance"))
            layer._variance.set_value(layer._variance.numpy() * np.float32("inf"))

        monkeypatch.setattr(trainer, "estimate_statistics", spoil)
    more = ["--precise-bn", "2", "--epochs", "1"] if when == "the statistics" else ["--epochs", "2"]
    assert run_small(data, tmp_path / "run", *more) == 1
    (line,) = said(capsys)
    assert "the training has diverged" in line and "a lower --max-lr than 0.01" in line
    saved = checkpoint.list_checkpoints(str(tmp_path / "run" / "checkpoints"))
    assert len(saved) == (0 if when == "the statistics" else 1)
    assert ("is whole" if saved else "no checkpoint was saved yet") in line
    for path in saved:
        assert all(np.isfinite(value).all() for value in checkpoint.read_checkpoint(path)["model"].values())
    assert not list((tmp_path / "run").rglob("*.pdparams"))


def test_mixed_precision_may_show_infinite_losses_now_and_then(tmp_path):
    import paddle

    def log_of(values, tolerated):
        losses = log.LossLog(str(tmp_path / "losses.csv"), mock.Mock(), 0, 1000, tolerated)
        for step, value in enumerate(values):
            losses.add(step, 0, 0.1, paddle.full([5], value, "float32"))
            if step % 7 == 0:
                losses.flush()
        losses.close()

    inf, allowed = float("inf"), trainer.SKIPPED_AT_MOST
    log_of([1.0, inf, 2.0] + [inf] * allowed + [1.0] + [inf] * allowed, allowed)
    for values, tolerated in (([1.0, inf, 2.0], 0), ([1.0] + [inf] * (allowed + 1), allowed)):
        with pytest.raises(Diverged, match="the loss of step %d is inf" % (1 + tolerated)):
            log_of(values, tolerated)


def test_skip_bad_goes_on_without_what_cannot_be_measured_on(data, tmp_path, capsys):
    """A cut image in --val, and one among the held out."""
    for name in ("VAL", "DUTS-TR"):
        shutil.copytree(str(data), str(tmp_path / name))
        path = tmp_path / name / "image" / "2.jpg"
        path.write_bytes(path.read_bytes()[:400])
    val, training = tmp_path / "VAL", tmp_path / "DUTS-TR"
    held_out = split_off(find_image_set(training), 2)[1]
    assert "2" in held_out.names
    cases = ((data, ["--val", val], "1 of 8 images to measure on (--skip-bad); 7 remain", "VAL: 7 images, 7 masks"),)
    cases += ((training, ["--hold-out", "2"], "1 of 2 images to measure on", "(held out): 1 images, 1 masks"),)
    for number, (source, words, counted, found) in enumerate(cases):
        output = tmp_path / str(number)
        assert run_small(source, output, "--epochs", "1", *words) == 2
        assert "2.jpg: the image is cut short (--skip-bad goes on without it)" in said(capsys)[0]
        assert run_small(source, output, "--epochs", "1", *words, "--skip-bad") == 0
        out = capsys.readouterr().out
        assert counted in out and found in out and "2.jpg: the image is cut short" in out
    for path in (val / "image").iterdir():
        path.write_bytes(path.read_bytes()[:400])
    assert run_small(data, tmp_path / "none", "--val", val, "--skip-bad") == 2
    assert "VAL: none of its images can be read whole" in said(capsys)[0]


def test_skip_bad_needs_no_teachers_map_of_what_it_leaves_out(data, tmp_path, capsys):
    images, maps = tmp_path / "KD-SOD80K", tmp_path / "maps"
    shutil.copytree(str(data), str(images))
    shutil.copytree(str(data / "mask"), str(maps))
    (images / "image" / "2.jpg").write_bytes((images / "image" / "2.jpg").read_bytes()[:400])
    (maps / "2.png").unlink()
    words = ["--teacher-maps", maps, "--epochs", "1"]
    assert run_small(images, tmp_path / "run", *words, recipe="kd-r50") == 2
    assert "1 of 8 images have no map (the first: 2)" in said(capsys)[0]
    assert run_small(images, tmp_path / "run", *words, "--skip-bad", recipe="kd-r50") == 0
    assert "left out: 1 of 8 images (--skip-bad); 7 remain" in capsys.readouterr().out
    (maps / "5.png").unlink()
    assert run_small(images, tmp_path / "no", *words, "--skip-bad", recipe="kd-r50") == 2
    assert "1 of 7 images have no map (the first: 5)" in said(capsys)[0]
    assert not (tmp_path / "no").exists()


def test_what_the_machine_refuses_is_one_line(data, tmp_path, capsys, monkeypatch):
    assert run_small(data, tmp_path / ("x" * 300), "--epochs", "1") == 2
    assert "File name too long" in said(capsys)[0]
    (tmp_path / "round").symlink_to(tmp_path / "round")
    assert run_small(data, tmp_path / "round" / "run", "--epochs", "1") == 2
    assert "symbolic links" in said(capsys)[0]
    for number in (errno.EIO, errno.EFBIG):

        def refuse(*_, number=number):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(checkpoint, "write_arrays", refuse)
        assert run_small(data, tmp_path / str(number), "--epochs", "1") == 1
        assert os.strerror(number) in said(capsys)[0]


def test_workers_are_deaf_to_a_signal_that_all_processes_get(data, tmp_path):
    """In a program of its own, which then ends well while its workers are at work, with the loader still open."""
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(
            """
            import glob, multiprocessing, os, signal, sys, time
            from kdscfnet.data.batches import BatchPlan, TrainingSamples, batches
            images = sorted(glob.glob(sys.argv[1] + "/image/*"))
            loader = batches(TrainingSamples(images, None, 0), BatchPlan(8, 3, (32,), 200, 0), 2)
            steps = [next(loader)[2]]
            workers = multiprocessing.active_children()
            assert len(workers) == 2
            time.sleep(0.5)  # they have begun
            for worker in workers:
                os.kill(worker.pid, signal.SIGTERM)
            for batch in loader:
                steps.append(batch[2])
                if len(steps) == 40:
                    break
            assert steps == list(range(40)), steps
            assert [worker.pid for worker in workers if worker.is_alive()] == [worker.pid for worker in workers]
            sys.stdout.write(" ".join(str(worker.pid) for worker in workers))
            sys.kept = sys._getframe(), loader
            if sys.argv[2] == "error":
                raise KeyError("some error")
            """
        )
    )
    for how, code in (("well", 0), ("error", 1)):
        done = subprocess.run(
            [sys.executable, str(program), str(data), how], env=environment(), capture_output=True, timeout=120
        )
        assert done.returncode == code, done.stderr.decode()
        for pid in done.stdout.split()[-2:]:
            assert not os.path.exists("/proc/%d" % int(pid)), how


def test_a_signal_that_ends_a_worker_too_is_a_stop(data, tmp_path, capsys, monkeypatch):
    """SIGTERM while the loop waits for a batch, which then never comes."""
    assert run_small(data, tmp_path / "whole") == 0
    real = trainer.batches

    def broken_at(step):
        def batches(samples, plan, workers):
            for batch in real(samples, plan, workers):
                if batch[2] == step:
                    os.kill(os.getpid(), signal.SIGTERM)
                    raise LoaderError("a worker of the loader died")
                yield batch

        monkeypatch.setattr(trainer, "batches", batches)
        code = run_small(data, tmp_path / "run", "--resume", "auto")
        monkeypatch.setattr(trainer, "batches", real)
        return code

    capsys.readouterr()
    assert broken_at(0) == 130
    assert "after step 0 of 9; no checkpoint was saved yet" in said(capsys)[0]
    for step in (2, 7):
        assert broken_at(step) == 130
        (line,) = said(capsys)
        assert "after step %d of 9; the state is saved in" % step in line and "--resume auto" in line
    assert broken_at(7) == 130
    assert "after step 7 of 9; the last checkpoint in" in said(capsys)[0]
    assert run_small(data, tmp_path / "run", "--resume", "auto") == 0
    assert_same_run(tmp_path / "whole", tmp_path / "run")


def test_a_signal_to_the_whole_group_saves_first(data, tmp_path):
    """What schedulers send, with workers at work."""
    log = tmp_path / "log"
    process = Forked(command(data, tmp_path / "run", 2, 40)[1:], log, environment())
    deadline = time.time() + 120
    while steps_done(tmp_path / "run") < 3 and time.time() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGTERM)
    code, out = process.wait(timeout=120), log.read_text(errors="replace")
    assert code == 130 and "the state is saved in" in out, out[-3000:]
    deadline = time.time() + 60
    with pytest.raises(ProcessLookupError):  # no worker is left
        while time.time() < deadline:
            os.killpg(process.pid, 0)
            time.sleep(0.01)
