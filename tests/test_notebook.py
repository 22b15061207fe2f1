"""The notebook runs from top to bottom on a machine without a GPU, and leaves what is installed alone."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import venv
import zipfile
from pathlib import Path

import pytest
from test_scripts import FAKE_PIP, STUBS, THERE
from training import make_set

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "notebooks/kdscfnet_aistudio.ipynb"
SMALL = "--epochs 1 --batch-size 2 --sizes 32 --test-size 32 --device cpu --workers 0 --teacher-engine paddle"
CLONED = ("scripts", "requirements", "kdscfnet", "docs", "web", "requirements.txt", "setup.py")

nbformat = pytest.importorskip("nbformat")


def load_runner():
    """notebooks/execute.py as a module."""
    spec = importlib.util.spec_from_file_location("execute", str(ROOT / "notebooks/execute.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


runner = load_runner()


@pytest.fixture
def notebook():
    return nbformat.read(str(NOTEBOOK), as_version=4)


def code_of(notebook, word):
    """The source of the one code cell that has `word` in it."""
    found = [cell.source for cell in notebook.cells if cell.cell_type == "code" and word in cell.source]
    assert len(found) == 1, word
    return found[0]


@pytest.fixture
def studio(tmp_path, monkeypatch):
    """A home as on AI Studio: the clone in ~/work, data sets mounted as zip files in ~/data. Returns the clone."""
    home = tmp_path / "home"
    clone = home / "work/kdscfnet"
    (clone / "weights").mkdir(parents=True)
    for name in CLONED:
        (clone / name).symlink_to(ROOT / name)
    shutil.copy(str(ROOT / "weights/manifest.yaml"), str(clone / "weights"))
    for name in [name for name in os.environ if name.startswith("KDSCFNET_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # whatever lacks is not brought by a test
    return clone


def mount(home, name):
    """~/data/data97810/test.zip with the set `name` in a folder of its own."""
    make_set(home / "sets", 3, name=name)
    (home / "data/data97810").mkdir(parents=True)
    with zipfile.ZipFile(str(home / "data/data97810/test.zip"), "w") as archive:
        for path in sorted((home / "sets").rglob("*.*")):
            archive.write(str(path), "SOD/" + str(path.relative_to(home / "sets")))
    shutil.rmtree(str(home / "sets"))


def make_the_demo_smaller(package):
    """Links to the files of kdscfnet in place of the one to the folder, and a demo of a handful of scenes."""
    source = package.resolve()
    package.unlink()
    (package / "data").mkdir(parents=True)
    for path in [*source.iterdir(), *(source / "data").glob("*.py")]:
        if path.name not in ("data", "demo.py"):
            (package / path.relative_to(source)).symlink_to(path)
    code = (source / "data/demo.py").read_text(encoding="utf-8")
    for scenes, fewer, times in (
        (" 400, 1, ", " 8, 1, ", 2),
        (" 8, 50, ", " 2, 4, ", 1),
        (" 60, 1, ", " 6, 1, ", 1),
    ):
        assert code.count(scenes) == times
        code = code.replace(scenes, fewer)
    (package / "data/demo.py").write_text(code, encoding="utf-8")


def text_of(cell):
    """All that a cell shows as text."""
    texts = []
    for output in cell.outputs:
        texts.append(output.text if output.output_type == "stream" else output.get("data", {}).get("text/markdown", ""))
    return "".join(texts)


@pytest.mark.notebook
def test_it_runs_from_top_to_bottom(notebook, studio, monkeypatch):
    import paddle

    from kdscfnet.models.scfnet import SCFNet
    from kdscfnet.weights.files import save_weights

    mount(studio.parent.parent, "ECSSD")
    make_the_demo_smaller(studio / "kdscfnet")
    paddle.seed(0)
    save_weights(SCFNet("mobilenetv3"), str(studio / "weights/KD-SCFNet_R50.pdparams"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("KDSCFNET_TRAIN_FLAGS", SMALL.replace("--batch-size 2", "--batch-size 4"))
    runner.execute(notebook, studio.parent, timeout=300)

    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in cells)
    said = "".join(text_of(cell) for cell in cells)
    assert "Traceback" not in said
    assert "adding " not in said or not os.environ.get("CI")  # nothing lacks in CI, so nothing is added
    assert "data sets: ECSSD" in said and (studio / "data/ECSSD/mask/0.png").is_file()
    # the demo trains, three parts of it are tested, and the mounted set with the weights that are there
    for part in ("teacher", "student", "labels"):
        assert (studio / "runs/demo-kd-r50" / part / "final.pdparams").is_file()
        assert "| %s |" % part in said
    assert (studio / "runs/table/maps/KD-SCFNet_R50/ECSSD/0.png").is_file() and "KD-SCFNet (R50)" in said
    assert len(list((studio / "runs/mine/cutout").glob("*.png"))) == 4  # the samples
    pictures = [output for cell in cells for output in cell.outputs if "image/jpeg" in output.get("data", {})]
    assert len(pictures) >= 7
    assert not (studio / ".venv").exists()


@pytest.mark.parametrize(
    "sets, teacher, gpu, expected",
    [
        (["KD-SOD80K", "DUTS-TR"], True, True, "kd-r50"),
        (["KD-SOD80K", "DUTS-TR"], False, True, "fs-m3"),
        (["KD-SOD80K"], False, True, "demo-kd-r50"),
        (["KD-SOD80K", "DUTS-TR"], True, False, "demo-kd-r50"),
    ],
)
def test_what_is_trained_follows_from_what_is_there(notebook, tmp_path, monkeypatch, sets, teacher, gpu, expected):
    """The commands for real data, which want a GPU, run here on tiny sets; the one for the demo is only looked at."""
    from kdscfnet.cli import main
    from kdscfnet.models.scfnet import SCFNet
    from kdscfnet.weights.files import save_weights, write_weights

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KDSCFNET_TRAIN_FLAGS", SMALL)
    monkeypatch.setenv("KDSCFNET_WEIGHTS", str(tmp_path / "weights"))
    (tmp_path / "weights").mkdir()
    for name in sets:
        make_set(tmp_path / "data", masks=name == "DUTS-TR", name=name)
    if teacher and gpu:
        save_weights(SCFNet("resnet50"), str(tmp_path / "weights/SCFNet_R50.pdparams"))
    elif teacher:
        (tmp_path / "weights/SCFNet_R50.pdparams").write_bytes(b"only looked for")
    backbone = SCFNet("mobilenetv3").bkbone
    write_weights(
        str(tmp_path / "weights/MobileNetV3_large_x0_5_pretrained.pdparams"),
        {key: value.numpy() for key, value in backbone.state_dict().items()},
    )
    asked = []
    names = {"ROOT": tmp_path, "os": os, "GPU": gpu, "SETS": dict.fromkeys(sets), "sh": asked.append}
    exec(code_of(notebook, "kdscfnet train"), names)
    assert names["RUN"] == "runs/" + expected and names["DEMO"] == expected.startswith("demo") and len(asked) == 1
    words = shlex.split(asked[0])
    assert words[:2] == ["kdscfnet", "train"]
    if names["DEMO"]:
        assert words[2:4] == ["kd-r50", "--demo"]
        return
    assert main(words[1:]) == 0
    assert (tmp_path / names["RUN"] / "final.pdparams").is_file()


# Paddle is there already


@pytest.fixture
def machine(tmp_path):
    """A Python of its own in which all packages are stubs, pip too: it only writes down what it is asked."""
    folder = tmp_path / "python"
    venv.create(str(folder), symlinks=True, with_pip=False)
    python = folder / "bin/python"
    packages = Path(
        subprocess.check_output(
            [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True
        ).strip()
    )
    for name in STUBS:
        (packages / name).mkdir()
        (packages / name / "__init__.py").write_text("raise ImportError('only looked for, never imported')\n")
    (packages / "pip").mkdir()
    (packages / "pip/__init__.py").write_text("")
    (packages / "pip/__main__.py").write_text(FAKE_PIP)
    return python, packages


def start(notebook, machine, studio, tmp_path):
    """Run the notebook's first cell on the machine; returns (output, what pip was asked, the files of Paddle)."""
    python, packages = machine
    log = tmp_path / "pip.log"
    log.write_text("")
    done = subprocess.run(
        [str(python), "-c", code_of(notebook, "add_missing.py")],
        cwd=str(studio.parent),
        env=dict(os.environ, LOG=str(log)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    stamp = (packages / "paddle/__init__.py").stat()
    return done.stdout, log.read_text().splitlines(), (stamp.st_ino, stamp.st_mtime_ns)


def test_paddle_that_is_there_is_left_alone(notebook, machine, studio, tmp_path):
    before = (machine[1] / "paddle/__init__.py").stat()
    output, asked, after = start(notebook, machine, studio, tmp_path)
    assert asked == [] and after == (before.st_ino, before.st_mtime_ns), output


def test_what_lacks_is_added_and_paddle_is_not_touched(notebook, machine, studio, tmp_path):
    for name in ("paddleseg", "safetensors", "visualdl"):
        shutil.rmtree(str(machine[1] / name))
    before = (machine[1] / "paddle/__init__.py").stat()
    output, asked, after = start(notebook, machine, studio, tmp_path)
    assert after == (before.st_ino, before.st_mtime_ns)
    added = [line for line in asked if line.startswith("pip install")]
    assert len(added) == 2 and "safetensors" in added[0] and "visualdl" in added[0], output
    assert " -c " in added[0] and added[1].endswith("--no-deps paddleseg==2.8.0")
    assert not any(re.search(r"paddlepaddle|opencv|numpy|--upgrade|--force", line) for line in added)
    # what is there, Paddle first of all, is what pip may not change
    assert any(line.startswith("constraints " + THERE) for line in asked)


def test_without_the_code_it_says_what_to_do(notebook, machine, tmp_path):
    done = subprocess.run(
        [str(machine[0]), "-c", code_of(notebook, "add_missing.py")],
        cwd=str(tmp_path),
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode != 0 and "clone or upload the repository" in done.stdout


# the file itself


def test_it_is_stored_with_its_outputs_and_small(notebook):
    assert NOTEBOOK.stat().st_size < 1500000
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not any(output.output_type == "error" for cell in cells for output in cell.outputs)
    pictures = [output for cell in cells for output in cell.outputs if "image/jpeg" in output.get("data", {})]
    assert len(pictures) >= 6
    said = "".join(text_of(cell) for cell in cells)
    assert "| student |" in said and "$ kdscfnet train kd-r50 --demo" in said


def test_it_speaks_both_languages(notebook):
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            assert re.search("[\u4e00-\u9fff]", cell.source), cell.source
            assert re.search("[a-z]{3} [a-z]{2}", cell.source), cell.source


def test_stored_outputs_are_plain():
    bars = "a:   0%|  | 0/9\r     \rdone 1/9\n\ra:  50%|## | 5/9\ra: 100%|###| 9/9\n"
    text = bars + "at /home/me/x/run\n\x1b[31mred\x1b[0m\n"
    assert runner.plain(text, [("/home/me/x", ".")]) == "done 1/9\na: 100%|###| 9/9\nat ./run\nred\n"
    outputs = [nbformat.v4.new_output("stream", name="stdout", text=part) for part in ("a\n", "b", "c\n")]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x", outputs=outputs)])
    assert [output.text for output in runner.tidy(notebook).cells[0].outputs] == ["a\nbc\n"]
