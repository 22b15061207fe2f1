"""predict and test by several processes: by --part, and under paddle.distributed.launch, killed and run again."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import paddle
import pytest
from forked import start_ranks
from kill_training import environment
from predicting import picture, save, weight_file

from kdscfnet import shares as module
from kdscfnet.cli import main
from kdscfnet.errors import MachineError
from kdscfnet.inference.record import NAME
from kdscfnet.shares import Meeting, Shares

PROGRAM = Path(__file__).with_name("parallel_program.py")
COUNT = 40
needs_gloo = pytest.mark.skipif(
    paddle.__version__ < "2.4", reason="this Paddle starts no CPU processes by --backend gloo"
)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shares") / "images"
    for index in range(COUNT):
        save(folder / ("%02d.png" % index), picture(24, 32, index))
    return folder


@pytest.fixture(scope="module")
def whole(images):
    output = images.parent / "whole"
    assert predict(images, output) == 0
    return bytes_of(output)


def predict(images, output, *more):
    return main(words_of(images, output) + ["--threads", "1"] + [str(word) for word in more])


def bytes_of(folder):
    """{name: content} of the results; the lines of the record may stand in any order."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != NAME]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_parts_are_apart_and_together_the_whole(images, whole, tmp_path, capsys):
    for count in (2, 4):
        output = tmp_path / str(count)
        seen = 0
        for part in range(1, count + 1):
            assert predict(images, output, "--part", "%d/%d" % (part, count)) == 0
            assert "%d done" % (COUNT // count) in capsys.readouterr().err
            seen += COUNT // count
            assert len(bytes_of(output)) == seen
        assert bytes_of(output) == whole


@pytest.mark.parametrize("part", ["0/2", "3/2", "1", "a/b", "1/0"])
def test_a_part_that_is_none_is_refused(images, tmp_path, capsys, part):
    assert predict(images, tmp_path / "out", "--part", part) == 2
    assert "--part %s: K/N with K from 1 to N" % part in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_parts_and_a_launch_are_one_too_many(images, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PADDLE_TRAINERS_NUM", "2")
    monkeypatch.setenv("PADDLE_TRAINER_ID", "0")
    assert predict(images, tmp_path / "out", "--part", "1/2") == 2
    assert "leave it out" in capsys.readouterr().err


def launch(folder, count, *words):
    command = [sys.executable, "-m", "paddle.distributed.launch", "--nproc_per_node", str(count), "--backend", "gloo"]
    command += ["--log_dir", str(folder / "logs"), str(PROGRAM)] + [str(word) for word in words]
    for path in folder.glob("pid-*"):
        path.unlink()
    log = open(str(folder / "launch.log"), "wb")
    return subprocess.Popen(
        command, env=environment(), cwd=str(folder), stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
    )


def words_of(images, output):
    # ONNX Runtime starts in a third of the time that Paddle takes; `test` below has Paddle
    return [
        "predict",
        str(images),
        "-o",
        str(output),
        "--weights",
        "bundled",
        "--engine",
        "onnxruntime",
        "--size",
        "32",
    ]


def said(folder):
    return "".join(
        path.read_text() for path in (folder / "logs" / "workerlog.0", folder / "launch.log") if path.exists()
    )


def fork(folder, count, *words):
    """What `launch` starts, without the launcher; returns the exit codes."""
    processes, _ = start_ranks([PROGRAM, *words], folder, environment(), count)
    return [process.wait(240) for process in processes]


@pytest.mark.parametrize("count", [pytest.param(2, marks=needs_gloo), 4])
def test_a_launch_makes_the_same_bytes_and_tells_once(images, whole, tmp_path, count):
    words = words_of(images, tmp_path / "out")
    if count == 2:
        assert launch(tmp_path, count, *words).wait() == 0, said(tmp_path)
    else:
        assert fork(tmp_path, count, *words) == [0] * count, said(tmp_path)
    assert bytes_of(tmp_path / "out") == whole  # and nothing else is there
    assert "%d done" % COUNT in (tmp_path / "logs" / "workerlog.0").read_text()
    for rank in range(1, count):
        assert "done" not in (tmp_path / "logs" / ("workerlog.%d" % rank)).read_text()


@needs_gloo
def test_a_process_that_is_killed_is_named_and_nothing_is_lost(images, whole, tmp_path):
    output = tmp_path / "out"
    process = launch(tmp_path, 3, "slowly", *words_of(images, output))
    victim = None
    while victim is None or not len(list(output.glob("*.png"))) >= 6:
        assert process.poll() is None, said(tmp_path)
        for path in output.glob(".shares-*/1.json"):
            victim = json.loads(path.read_text())["pid"]
        time.sleep(0.05)
    os.kill(victim, signal.SIGKILL)
    assert process.wait() != 0
    # not process 3, which the launcher ended because of process 2
    message = re.search("process . of 3.*", said(tmp_path)).group()
    assert message == "process 2 of 3: it has died; what is missing is made by the same command again"
    kept = {name: data for name, data in bytes_of(output).items() if not name.startswith(".")}
    assert 6 <= len(kept) < COUNT
    assert all(whole[name] == data for name, data in kept.items())
    (tmp_path / "again").mkdir()
    assert fork(tmp_path / "again", 2, *words_of(images, output)) == [0, 0], said(tmp_path / "again")
    found = {name: data for name, data in bytes_of(output).items() if not name.startswith(".")}
    assert found == whole
    assert "%d there already" % len(kept) in said(tmp_path / "again")


def test_test_by_two_processes_scores_once(tmp_path):
    from training import make_set

    make_set(tmp_path / "data", 10, name="ECSSD")
    words = ["test", "--weights", str(weight_file()), "--data", str(tmp_path / "data"), "--size", "32"]
    words += ["--engine", "paddle", "--device", "cpu", "--no-report"]
    assert main(words + ["--output", str(tmp_path / "alone")]) == 0
    (tmp_path / "alone" / "maps").rename(tmp_path / "alone-maps")
    assert fork(tmp_path, 2, *words, "--output", tmp_path / "both") == [0, 0], said(tmp_path)
    assert bytes_of(tmp_path / "both" / "maps") == bytes_of(tmp_path / "alone-maps")
    (score,) = (tmp_path / "both" / "scores").glob("*.json")
    assert score.read_bytes() == (tmp_path / "alone" / "scores" / score.name).read_bytes()
    assert "ECSSD" not in (tmp_path / "logs" / "workerlog.1").read_text()


# Meetings without a launch


@pytest.fixture
def second(monkeypatch, tmp_path):
    """A function (rank) → a Meeting of two, in one folder."""
    monkeypatch.setenv("PADDLE_TRAINERS_NUM", "2")
    monkeypatch.setattr(module, "BEAT", 0.02)

    def meeting(rank):
        monkeypatch.setenv("PADDLE_TRAINER_ID", str(rank))
        return Meeting(Shares(), str(tmp_path))

    return meeting


def test_reports_come_to_the_first(second, tmp_path):
    with second(0) as first, second(1) as other:
        other.done = 7
        first.reach(3)
        other.wait_for_first(3)
        other.end({"done": ["a"]})
        assert first.wait_for_others() == [{"done": ["a"]}]
        first.done = 2
        assert first.done_by_all() == 9
    assert not list(tmp_path.glob(".shares-*"))


def test_one_that_fails_or_falls_silent_is_named(second, monkeypatch):
    with second(0) as first:
        with pytest.raises(ValueError), second(1):
            raise ValueError("no disk")
        with pytest.raises(MachineError, match="process 2 of 2: no disk; what is missing"):
            first.wait_for_others()
    with second(0) as first:
        other = second(1)
        other._state.update(host="elsewhere")
        other._write()
        monkeypatch.setattr(module, "SILENCE", 0.05)
        with pytest.raises(MachineError, match="process 2 of 2: no sign of life from elsewhere"):
            first.wait_for_others()
    with second(0) as first:
        done = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], stdout=subprocess.PIPE)
        other = second(1)
        other._state.update(pid=int(done.stdout))
        other._write()
        with pytest.raises(MachineError, match="process 2 of 2: it has died"):
            first.wait_for_others()


def test_what_an_earlier_launch_left_is_not_believed(second):
    with second(0) as first:
        other = second(1)
        other._state.update(born=time.time() - 10_000, end={"failed": "long ago"})
        other._write()
        assert first._gone(1) is None
        other = second(1)
        other._tell(end={"report": {}})
        assert first.wait_for_others() == [{}]


def test_the_cores_of_a_machine_are_divided(monkeypatch):
    monkeypatch.setattr(module, "available_cores", lambda: 8)
    assert Shares().threads(None) is None and Shares("1/4").threads(None) is None
    monkeypatch.setenv("PADDLE_TRAINERS_NUM", "16")
    monkeypatch.setenv("PADDLE_LOCAL_SIZE", "4")
    assert Shares().threads(None) == 2 and Shares().threads(3) == 3
