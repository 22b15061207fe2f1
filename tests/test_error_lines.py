"""What is said of wrong use: tests/golden/errors.txt has commands, and for each the exit code and the one line.

A line that changed on purpose, or a new command in that file (`$ VERB …`, nothing below), is stored by

    python tests/test_error_lines.py

Then look at the difference: a user reads these lines.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(Path(__file__).resolve().parent), str(ROOT)]

from training import make_set  # noqa: E402

from kdscfnet.cli import main  # noqa: E402

STORED = ROOT / "tests" / "golden" / "errors.txt"
ENVIRONMENT = {"KDSCFNET_WEIGHTS": "weights", "CUDA_VISIBLE_DEVICES": ""}


def stored():
    """[(command, "CODE line")], in the file's order; the second is "" for a command that is new."""
    blocks = re.split(r"^\$ ", STORED.read_text(encoding="utf-8"), flags=re.M)[1:]
    return [(block.split("\n")[0], block.partition("\n")[2].strip()) for block in blocks]


def make_world(here):
    """What the commands name: a set with masks, one without, photographs, folders, and files that are no weights."""
    make_set(here)
    make_set(here, masks=False, name="KD-SOD80K")
    shutil.copytree(str(here / "DUTS-TR" / "image"), str(here / "photos"))
    shutil.copy(str(here / "photos" / "0.jpg"), str(here / "photo.jpg"))
    shutil.copy(str(ROOT / "weights" / "scfnet_mobilenetv3_duts10k.pdparams"), str(here / "student.pdparams"))
    for name, content in (
        ("junk.pdparams", b"junk"),
        ("web.pdparams", b"<!DOCTYPE html><html>"),
        ("net.onnx", b"onnx"),
    ):
        (here / name).write_bytes(content)
    for name in ("empty", "weights"):
        (here / name).mkdir()


def outcome(command, errors):
    """ "CODE line" of a command that runs in this process; `errors` is where its standard error goes."""
    try:
        code = main(shlex.split(command))
    except SystemExit as end:  # argparse
        code = end.code
    lines = [line.rsplit("\r", 1)[-1] for line in errors().splitlines()]  # what a progress bar leaves on the screen
    said = [line for line in lines if line.startswith("kdscfnet")]
    assert len(said) == 1 and lines[-1] == said[0], "not one line: %r" % lines
    line = said[0].replace(os.getcwd(), "HERE")
    # since Python 3.12.8 argparse writes the choices without quotes
    line = re.sub(r"\(choose from [^)]*\)", lambda found: found.group().replace("'", ""), line)
    return "%d %s" % (code, line)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    here = tmp_path_factory.mktemp("world")
    make_world(here)
    return here


@pytest.mark.parametrize("command,line", stored(), ids=[command for command, _ in stored()])
def test_one_line_says_what_is_wrong_and_nothing_is_written(command, line, world, monkeypatch, capfd):
    monkeypatch.chdir(world)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    before = sorted(world.rglob("*"))
    assert outcome(command, lambda: capfd.readouterr().err) == line
    assert sorted(world.rglob("*")) == before


def test_every_verb_is_among_them():
    from kdscfnet.cli import VERBS

    assert {command.split()[0] for command, _ in stored()} >= set(VERBS)


def renew():
    commands = [command for command, _ in stored()]
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder).resolve()
        make_world(here)
        os.chdir(str(here))
        os.environ.update(ENVIRONMENT)
        text = ""
        for command in commands:
            errors = io.StringIO()
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(errors):
                text += "$ %s\n%s\n" % (command, outcome(command, errors.getvalue))
        os.chdir("/")
    STORED.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    renew()
