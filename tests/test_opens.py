"""How often one `kdscfnet predict` opens its weight file. Each visit is a reader more that must agree with the others.

Weights may be of 350 MB and lie on a network drive. Only this process counts, not the one that exports a network once.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from forked import Forked
from kill_training import environment
from predicting import exported_file, needs_export, picture, save

BUNDLED = Path(__file__).resolve().parent.parent / "weights" / "scfnet_mobilenetv3_duts10k.pdparams"

# What the file is opened for: to see which network it holds, to name it by its digest, to load it
AT_MOST = 3

# python PROGRAM FILE words…: kdscfnet words…, then how often FILE was opened
PROGRAM = """
import builtins, io, os, pathlib, sys  # pathlib keeps the real os.open

wanted, opened = os.path.realpath(sys.argv[1]), []

def look(path):
    if isinstance(path, (str, bytes, os.PathLike)) and os.path.realpath(os.fsdecode(path)) == wanted:
        opened.append(path)

if hasattr(sys, "addaudithook"):
    sys.addaudithook(lambda event, arguments: look(arguments[0]) if event == "open" else None)
else:  # Python 3.7
    def watched(real):
        def call(path, *rest, **options):
            look(path)
            return real(path, *rest, **options)
        return call
    builtins.open = io.open = watched(open)
    os.open = watched(os.open)

from kdscfnet.cli import main
code = main(sys.argv[2:])
print("opened %d times" % len(opened))
sys.exit(code)
"""


@pytest.mark.parametrize("case", ["bundled", "named", "exported"])
def test_a_prediction_opens_the_weight_file_a_few_times(case, tmp_path):
    save(tmp_path / "photo.png", picture())
    words = ["predict", "photo.png", "-o", "out", "--device", "cpu"]
    if case == "exported":
        needs_export()
        weights = exported_file()
        words += ["--engine", "onnxruntime", "--weights", str(weights)]
    else:
        weights = BUNDLED
        words += ["--engine", "paddle"] + (["--weights", str(weights)] if case == "named" else [])
    # a weights folder as a clone's is: with the bundled student, and nothing else
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / BUNDLED.name).symlink_to(BUNDLED)
    (tmp_path / "program.py").write_text(PROGRAM)
    log, settings = tmp_path / "log", dict(environment(), KDSCFNET_WEIGHTS="weights")
    process = Forked([tmp_path / "program.py", weights, *words], log, settings, tmp_path)
    assert process.wait(120) == 0, log.read_text()
    assert os.path.isfile(str(tmp_path / "out" / "photo.png"))
    (count,) = map(int, re.findall(r"^opened (\d+) times$", log.read_text(), re.M))
    assert 1 <= count <= AT_MOST
