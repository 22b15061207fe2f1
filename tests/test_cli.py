"""The exit code of a verb: 2 for a mistake of the user's, 1 for what the machine or the network did."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest
from predicting import picture, save, weight_file

from kdscfnet import text
from kdscfnet.cli import main

ENVIRONMENT = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
ENVIRONMENT.pop("PYTHONUNBUFFERED", None)  # most people have none: what is printed waits in a buffer


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize(
    "words", [["weights", "list"], ["doctor"], ["predict", "-", "--engine", "paddle", "--weights", str(weight_file())]]
)
def test_an_output_without_space_is_one_line_and_code_1(words, tmp_path):
    photo = save(tmp_path / "photo.png", picture())
    with open("/dev/full", "wb") as full, open(str(photo), "rb") as file:
        command = [sys.executable, "-m", "kdscfnet", *words]
        done = subprocess.run(command, stdin=file, stdout=full, stderr=subprocess.PIPE, env=ENVIRONMENT, check=False)
    said = done.stderr.decode().splitlines()
    assert [line for line in said if "No space left on device" in line] == [said[-1]], said
    assert said[-1].startswith("kdscfnet ") and "free some space" in said[-1]
    assert done.returncode == 1


@pytest.mark.parametrize("number,code", [(errno.ENOSPC, 1), (errno.EDQUOT, 1), (errno.EIO, 1), (errno.EACCES, 2)])
def test_a_disk_that_is_full_or_broken_is_code_1_and_a_forbidden_place_2(number, code, tmp_path, monkeypatch, capsys):
    real = os.replace

    def replace(source, target):
        if str(target).endswith("photo.png"):
            raise OSError(number, os.strerror(number), str(target))
        real(source, target)

    save(tmp_path / "photo.png", picture())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "replace", replace)
    words = ["photo.png", "-o", "out", "--engine", "paddle", "--weights", str(weight_file())]
    assert main(["predict", *words]) == code
    assert os.strerror(number) in capsys.readouterr().err.splitlines()[-1]
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("quiet", [False, True])
def test_remarks_are_for_those_who_did_not_ask_for_silence(tmp_path, monkeypatch, capsys, quiet):
    """The notice on the bundled student comes once in a run, the bars and the summary too; failures come always."""
    monkeypatch.setenv("KDSCFNET_WEIGHTS", str(tmp_path / "none"))
    monkeypatch.chdir(tmp_path)
    for name in ("in/a.png", "in/b.png"):
        save(tmp_path / name, picture())
    (tmp_path / "in" / "broken.png").write_bytes(b"x")
    words = ["in", "--engine", "paddle", "--size", "32", "--save", "map,cutout"] + ["--quiet"] * quiet
    for out in ("one", "two"):  # each is a run of its own
        assert main(["predict", "-o", out, *words]) == 1
        said = capsys.readouterr().err
        assert said.count("using the bundled") == (0 if quiet else 1)
        assert ("3/3" in said) != quiet and "FAILED in/broken.png" in said and "2 done, 1 failed" in said
    assert main(["predict", "in/a.png", "-o", "three", *words[1:]]) == 0
    assert (capsys.readouterr().err == "") == quiet
    assert main(["weights", *["--quiet"] * quiet, "list"]) == 0 and text.is_quiet() == quiet
    assert main(["weights", "list", *["--quiet"] * quiet]) == 0 and text.is_quiet() == quiet
    assert "kd-stb" in capsys.readouterr().out  # a result


def test_what_a_run_said_once_the_next_says_again(capsys):
    for _ in range(2):
        text.begin()
        text.say_once("a remark")
        text.say_once("a remark")
        assert capsys.readouterr().err == "kdscfnet: a remark\n"
    text.begin(quiet=True)
    text.say_once("a remark")
    text.say("a failure", failure=True)
    list(text.progress([1, 2]))
    text.begin()
    assert capsys.readouterr().err == "kdscfnet: a failure\n"


@pytest.mark.parametrize(
    "word, guess", [("predcit", "predict"), ("Train", "train"), ("evalute", "evaluate"), ("weight", "weights")]
)
def test_a_mistyped_verb_gets_a_guess(capsys, word, guess):
    assert main([word, "photo.jpg"]) == 2
    assert capsys.readouterr().err == "kdscfnet: there is no verb '%s': did you mean %s?\n" % (word, guess)
