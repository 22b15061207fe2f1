"""A run that was interrupted ends with the same bits as one that was not."""

from __future__ import annotations

import contextlib
import os
import pickle
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from forked import Forked
from kill_training import command, environment, kill_often, steps_done
from training import SMALL, assert_same_run, losses_of, run_small, said_by_train

from kdscfnet.cli import main
from kdscfnet.errors import UserError, WeightsError
from kdscfnet.training import checkpoint, start, trainer


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    output = tmp_path_factory.mktemp("whole") / "run"
    assert run_small(data, output, "--checkpoint-steps", "2") == 0
    return output


def stop_at(monkeypatch, steps, number):
    """Send this process a signal while it computes each of `steps`."""
    real, left = trainer.learning_rate, set(steps)

    def rate(step, *rest):
        if step in left:
            left.discard(step)
            os.kill(os.getpid(), number)
        return real(step, *rest)

    monkeypatch.setattr(trainer, "learning_rate", rate)


@pytest.mark.parametrize("number,workers", [(signal.SIGTERM, 0), (signal.SIGINT, 0), (signal.SIGTERM, 2)])
def test_signals_save_first_and_say_how_to_go_on(number, workers, data, whole, tmp_path, monkeypatch, capsys):
    handler = signal.getsignal(number)
    stop_at(monkeypatch, (0, 1, 4, 6, 7), number)
    codes = [
        run_small(data, tmp_path / "run", "--resume", "auto", "--checkpoint-steps", "2", "--workers", workers)
        for _ in range(6)
    ]
    assert codes == [130] * 5 + [0]
    said = said_by_train(capsys.readouterr().err)
    assert len(said) == 5 and all("the state is saved in" in line and "--resume auto" in line for line in said)
    assert_same_run(whole, tmp_path / "run")
    assert signal.getsignal(number) == handler
    assert [line.split("  ")[1] for line in (tmp_path / "run" / "log.txt").read_text().splitlines()] == [
        "step 3",
        "step 6",
        "step 9",
    ]


def test_a_signal_in_the_last_step_is_not_lost(data, whole, tmp_path, monkeypatch, capsys):
    stop_at(monkeypatch, (8,), signal.SIGTERM)
    assert run_small(data, tmp_path / "run", "--checkpoint-steps", "2") == 130
    said = capsys.readouterr().err.replace("\r", "\n").splitlines()[-1]
    assert "after step 9 of 9; the run is complete: %s" % (tmp_path / "run" / "final.pdparams") in said
    assert_same_run(whole, tmp_path / "run")
    assert run_small(data, tmp_path / "run", "--checkpoint-steps", "2", "--resume", "auto") == 0


def advised(error):
    """The words of the command that a stopped run says goes on with it."""
    (line,) = said_by_train(error)
    return shlex.split(line.split("Go on with: ")[1])


@pytest.mark.parametrize("caller", ["shell", "notebook"])
def test_the_advice_is_the_command_with_one_flag_to_resume(caller, data, tmp_path, monkeypatch, capsys):
    words = ["train", "fs-m3", "--data", str(data), "--output", str(tmp_path / "a run"), *SMALL, "--epochs", "1"]

    def call(*flags):
        argv = {"shell": ["kdscfnet", *words, *flags], "notebook": ["kernel", "-f", "x"]}[caller]
        monkeypatch.setattr(sys, "argv", argv)
        return main(None if caller == "shell" else words + list(flags))

    with monkeypatch.context() as without_training:
        seen = []
        without_training.setattr(start, "run_training", lambda recipe, options: seen.append(options.how_to_resume))
        for flags in ([], ["--resume"], ["--resume=auto"], ["--res", "auto"], ["--res=no"], ["--resum"]):
            assert call(*flags) == 0
    stop_at(monkeypatch, (1,), signal.SIGTERM)
    assert call() == 130
    command = advised(capsys.readouterr().err)
    assert command[command.index("train") :] == words + ["--resume", "auto"]
    assert seen == ["Go on with: " + " ".join(map(shlex.quote, command))] * 6
    assert main(command[command.index("train") :]) == 0


def test_the_advice_after_a_script_goes_on_when_it_is_typed(data, tmp_path):
    """On a machine where the scripts are all there is: the command kdscfnet is not on the path."""
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "python").write_text('#!/bin/sh\nexec "%s" "$@"\n' % sys.executable)
    (tools / "python").chmod(0o755)
    path = [folder for folder in os.environ["PATH"].split(os.pathsep) if not os.path.exists(folder + "/kdscfnet")]
    settings = dict(environment(), PATH=os.pathsep.join([str(tools), *path]), PIP_NO_INDEX="1", PYTHONUNBUFFERED="1")
    for name in ("PYTHONPATH", "VIRTUAL_ENV", "CONDA_PREFIX"):
        settings.pop(name, None)
    settings["KDSCFNET_VENV"] = str(tmp_path / "no-venv")

    def start(line):
        return subprocess.Popen(
            ["bash", "-c", "exec " + line],
            cwd=str(tmp_path),
            env=settings,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    words = ["--data", str(data), "--output", "a run", *SMALL, "--epochs", "500", "--log-every", "1"]
    script = os.path.relpath(str(Path(__file__).resolve().parent.parent / "scripts" / "train_fs.sh"), str(tmp_path))
    process = start(" ".join(map(shlex.quote, ["bash", script, *words])))
    wait_for_steps(process, tmp_path / "a run", 2)
    process.terminate()
    out = process.communicate(timeout=120)[0].decode("utf-8", "replace").replace("\r", "\n")
    assert process.returncode == 130, out
    done = steps_done(tmp_path / "a run")
    process = start(" ".join(map(shlex.quote, advised(out))))
    wait_for_steps(process, tmp_path / "a run", done + 1)
    process.terminate()
    assert process.wait(timeout=120) == 130


@pytest.mark.parametrize("workers", [0, 2])
def test_killed_runs_resume_to_the_same_bits(workers, data, tmp_path):
    assert main(command(data, tmp_path / "alone", workers, 4)[3:]) == 0  # the words after python -m kdscfnet
    assert kill_often(data, tmp_path / "killed", workers, 2, signal.SIGKILL, 4) >= 1
    assert_same_run(tmp_path / "alone", tmp_path / "killed")


def test_workers_end_with_a_parent_that_is_killed(data, tmp_path):
    for wait in (0.0, 0.3, 0.6):  # while they start, and while they load
        process = Forked(command(data, tmp_path / str(wait), 2, 1000)[1:], tmp_path / "log", environment())
        deadline = time.time() + 60
        while len(children_of(process.pid)) < 2:
            assert time.time() < deadline and process.poll() is None
            time.sleep(0.01)
        time.sleep(wait)
        process.kill()
        process.wait(20)
        deadline = time.time() + 20
        try:
            while any(state[:1] != b"Z" for state in states_of(process.pid)):
                assert time.time() < deadline
                time.sleep(0.05)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def states_of(session):
    """The states of its processes, as ps writes them: Z for one that has ended and that nobody has asked about."""
    return subprocess.run(["ps", "-o", "stat=", "-s", str(session)], stdout=subprocess.PIPE, check=False).stdout.split()


def children_of(pid):
    return subprocess.run(["pgrep", "-P", str(pid)], stdout=subprocess.PIPE, check=False).stdout.split()


def test_a_checkpoint_cut_in_half_is_passed_over(data, whole, tmp_path, monkeypatch, capsys):
    stop_at(monkeypatch, (5,), signal.SIGTERM)
    assert run_small(data, tmp_path / "run", "--checkpoint-steps", "2") == 130
    newest, older = checkpoint.list_checkpoints(str(tmp_path / "run" / "checkpoints"))[:2]
    older_step = checkpoint.read_checkpoint(older)["step"]
    content = open(newest, "rb").read()
    with open(newest, "wb") as file:
        file.write(content[: len(content) // 2])
    with pytest.raises(WeightsError):
        checkpoint.read_checkpoint(newest)
    assert run_small(data, tmp_path / "run", "--resume", "auto", "--checkpoint-steps", "2") == 0
    out = capsys.readouterr().out
    assert "left out: %s" % newest in out and "after step %d" % older_step in out
    assert_same_run(whole, tmp_path / "run")


def test_foreign_lines_in_the_logs_stay_out_of_the_way(data, whole, tmp_path, monkeypatch, capsys):
    """Notes in log.txt stay; what is no row of losses.csv goes; what a killed run wrote later comes again."""
    stop_at(monkeypatch, (7,), signal.SIGTERM)
    assert run_small(data, tmp_path / "run", "--checkpoint-steps", "2") == 130
    notes = b"a note: learning rate too high?\nstep by step\n\xff\xfe epoch\n\n"
    with open(tmp_path / "run" / "log.txt", "ab") as file:
        file.write(notes + b"epoch 9/3  step 99  lr 0.1  loss 1.0  00:00:01\nepoch 3/3  st")
    with open(tmp_path / "run" / "losses.csv", "ab") as file:
        file.write(b"\xff,\x00,0,0,0,0,0,0\nnotes,of,a,user,with,eight,cells,here\n3,0,x,1,1,1,1,1\n")
    assert run_small(data, tmp_path / "run", "--resume", "auto", "--checkpoint-steps", "2") == 0
    assert_same_run(whole, tmp_path / "run")
    log = (tmp_path / "run" / "log.txt").read_bytes()
    assert notes in log and b"step 99" not in log
    assert [line[:9] for line in log.replace(notes, b"").splitlines()] == [b"epoch %d/3" % epoch for epoch in (1, 2, 3)]


def test_no_whole_checkpoint_is_said(data, tmp_path, monkeypatch, capsys):
    stop_at(monkeypatch, (1,), signal.SIGTERM)
    assert run_small(data, tmp_path / "run") == 130
    for path in checkpoint.list_checkpoints(str(tmp_path / "run" / "checkpoints")):
        open(path, "wb").write(b"\x80\x04")
    assert run_small(data, tmp_path / "run", "--resume", "auto") == 2
    assert "none of its checkpoints is whole" in capsys.readouterr().err


def unfinished(whole, folder):
    """A copy of a run that was killed before its last file."""
    shutil.copytree(str(whole), str(folder))
    (folder / "final.pdparams").unlink()
    return folder


@pytest.mark.parametrize(
    "foreign", [b"a note by hand\n", b"\n", b"epoch 2/3  step nine\n", b"step \n", "caf\u00e9\n".encode("latin-1")]
)
def test_a_foreign_line_in_the_log_stays_and_stops_nobody(foreign, data, whole, tmp_path):
    run = unfinished(whole, tmp_path / "run")
    lines = (run / "log.txt").read_bytes().splitlines(True)
    lines[1:1] = [foreign]
    (run / "log.txt").write_bytes(b"".join(lines))
    assert run_small(data, run, "--resume", "auto", "--checkpoint-steps", "2") == 0
    assert (run / "log.txt").read_bytes() == b"".join(lines)
    assert_same_run(whole, run)


@pytest.mark.parametrize("content", ["[]", "{}", "null", "7", '"fs-m3"', "[{}]", '{"name": "fs'])
def test_a_run_json_that_holds_no_run_is_said(content, data, whole, tmp_path, capsys):
    run = unfinished(whole, tmp_path / "run")
    (run / "run.json").write_text(content)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert run_small(data, run, "--resume", "auto", "--checkpoint-steps", "2") == 2
    (line,) = said_by_train(capsys.readouterr().err)
    assert "--output %s holds no run of kdscfnet train" % run in line and "name another folder" in line
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def wait_for_steps(process, output, steps, seconds=240):
    """Until a training that runs has logged so many steps; fails where it ends before, or takes longer."""
    deadline = time.time() + seconds
    try:
        while steps_done(output) < steps + 1:  # lines; the first is the header
            assert process.poll() is None, "it ended with %s after %d steps" % (
                process.returncode,
                steps_done(output) - 1,
            )
            assert time.time() < deadline, "%d of %d steps in %d s" % (steps_done(output) - 1, steps, seconds)
            time.sleep(0.02)
    except AssertionError:
        process.kill()
        raise


def test_a_worker_that_dies_is_said_and_the_run_resumes(data, whole, tmp_path):
    # in a process of its own: Paddle's news of dead workers comes by a signal, at any moment
    words, log = command(data, tmp_path / "run", 2, 40)[1:], tmp_path / "log"
    process = Forked(words, log, environment())
    wait_for_steps(process, tmp_path / "run", 4)
    subprocess.run(["pkill", "-KILL", "-P", str(process.pid)], check=True)
    code, out = process.wait(timeout=120), log.read_text(errors="replace")
    said = said_by_train(out)
    assert code == 1 and len(said) == 1, out[-3000:]
    assert "a worker of the loader died" in said[0] and "--resume auto" in said[0]
    step = checkpoint.newest_checkpoint(str(tmp_path / "run" / "checkpoints"))["step"]
    assert step >= 2
    process = Forked(words, log, environment())
    wait_for_steps(process, tmp_path / "run", step + 3)
    process.terminate()
    assert process.wait(timeout=120) == 130


def test_resume_auto_begins_where_there_is_nothing_and_ends_where_all_is_done(data, whole, capsys):
    assert run_small(data, whole, "--resume", "auto", "--checkpoint-steps", "2") == 0
    assert "is complete" in capsys.readouterr().out
    assert len(losses_of(whole)) == 10


def test_checkpoints_are_kept_and_pruned(whole):
    names = [os.path.basename(p) for p in checkpoint.list_checkpoints(str(whole / "checkpoints"))]
    assert names == ["step_%08d.pdckpt" % s for s in (9, 8, 6)]
    path = checkpoint.list_checkpoints(str(whole / "checkpoints"))[0]
    value = checkpoint.read_checkpoint(path)
    assert value["step"] == 9 and set(value["optimizer"]) <= set(value["model"])
    assert "bkbone.conv.conv.weight" in value["optimizer"]


def test_a_checkpoint_gives_back_every_bit(tmp_path):
    arrays = {
        "model/float32": np.array([[np.nan, -0.0, np.inf, 1e-45]], "f4"),
        "model/bfloat16": np.array([0x3F80, 0x7FC1], "u2"),  # as Paddle gives it to numpy
        "model/float16": np.array([6e-8], "f2"),
        "model/count": np.array(7),
        "model/nothing": np.zeros((0, 3), "f4"),
        "model/Fortran": np.asfortranarray(np.arange(6, dtype="f4").reshape(2, 3)),
        "optimizer/float32": np.array([1.5], "f4"),
    }
    extra = {"best": 0.1 + 0.2, "none": None, "scaler": {"scale": [1024.0], "use_dynamic_loss_scaling": True}}
    checkpoint.write_arrays(str(tmp_path / "a.pdckpt"), arrays, {"step": 3, "extra": extra})
    value = checkpoint.read_checkpoint(str(tmp_path / "a.pdckpt"))
    assert value["step"] == 3 and value["extra"] == extra
    back = {"%s/%s" % (part, key): array for part in ("model", "optimizer") for key, array in value[part].items()}
    assert list(back) == list(arrays)
    for key, array in arrays.items():
        assert (back[key].dtype, back[key].shape) == (array.dtype, array.shape)
        assert back[key].tobytes() == array.tobytes()


def test_a_flipped_bit_is_found(tmp_path):
    path = tmp_path / "a.pdckpt"
    array = np.random.RandomState(0).standard_normal(50).astype("f4")
    checkpoint.write_arrays(str(path), {"model/a": array, "optimizer/a": array}, {"step": 3, "extra": {}})
    whole, found = path.read_bytes(), 0
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
        try:
            value = checkpoint.read_checkpoint(str(path))
        except (WeightsError, UserError):
            found += 1
        else:  # a date or a flag that no reader asks for
            assert value["step"] == 3 and value["extra"] == {}
            for part in ("model", "optimizer"):
                assert list(value[part]) == ["a"] and value[part]["a"].tobytes() == array.tobytes()
    assert found > len(whole) * 0.7


def test_a_checkpoint_of_an_earlier_version_is_refused_in_one_line(data, whole, tmp_path, capsys):
    old = {"step": 3, "model": {}, "optimizer": {}, "extra": {}}
    shutil.copytree(str(whole), str(tmp_path / "run"))
    (tmp_path / "run" / "final.pdparams").unlink()
    for path in checkpoint.list_checkpoints(str(tmp_path / "run" / "checkpoints")):
        with open(path, "wb") as file:  # as earlier versions wrote it, with their own writer
            file.write(b"\x80\x04}(" + pickle.dumps(old, 2)[2:])
    capsys.readouterr()
    assert run_small(data, tmp_path / "run", "--resume", "auto", "--checkpoint-steps", "2") == 2
    (line,) = said_by_train(capsys.readouterr().err)
    assert "checkpoints of earlier versions are not read: begin anew in another --output" in line
