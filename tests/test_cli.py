"""The exit code of a verb: 2 for a mistake of the user's, 1 for what the machine or the network did."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest
from predicting import picture, save, weight_file

from kdscfnet.cli import main

ENVIRONMENT = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))


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
