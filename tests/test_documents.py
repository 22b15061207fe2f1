"""What the documents tell people to type is typed here: every block of README.md, on tiny stand-ins.

A block of shell or Python that cannot run in a test has a comment before it with the reason:
<!-- not run in tests: it needs GPUs -->
"""

from __future__ import annotations

import argparse
import ast
import collections
import functools
import http.server
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from training import make_set

from kdscfnet.cli import VERBS

ROOT = Path(__file__).resolve().parent.parent
ENGLISH, CHINESE, FIDELITY = ROOT / "README.md", ROOT / "README_cn.md", ROOT / "docs/FIDELITY.md"
NOTEBOOK = ROOT / "notebooks/kdscfnet_aistudio.ipynb"

CLONED = (
    "scripts",
    "requirements",
    "kdscfnet",
    "web",
    "setup.py",
    "requirements.txt",
    "requirements-gpu.txt",
    "README.md",
)
WHOLE = (*CLONED, "weights", "tests", "MANIFEST.in", "LICENSE", "NOTICE")

Block = collections.namedtuple("Block", ["language", "text", "line", "reason"])


def blocks(path):
    """The fenced blocks of a document; `reason` is why a block is not run, or ""."""
    found = []
    lines = path.read_text(encoding="utf-8").splitlines()
    start = None
    for number, line in enumerate(lines):
        if not line.startswith("```"):
            continue
        if start is None:
            start = number
            continue
        mark = re.match(r"<!-- not run in tests: (.+) -->$", lines[start - 1])
        text = "\n".join(lines[start + 1 : number]) + "\n"
        found.append(Block(lines[start][3:].strip(), text, start + 1, mark.group(1) if mark else ""))
        start = None
    assert start is None, "%s: a block that begins in line %d does not end" % (path.name, start + 1)
    return found


# What stands in for long work, GPUs, a package index and a browser: the real programs, with small numbers.
STAND_IN = """#!{python}
import os, subprocess, sys, time, urllib.error, urllib.request

name, words, end, port = os.path.basename(sys.argv[0]), sys.argv[1:], [], "{port}"
if name == "python":
    if words[:2] == ["-m", "paddle.distributed.launch"]:
        words[2:4] = "--nproc_per_node 2 --backend gloo --log_dir launched".split()  # for --gpus and its list
    if words[:2] != ["-m", "kdscfnet"]:
        os.execv(sys.executable, [sys.executable, *words])
    name, words = "kdscfnet", words[2:]
if name == "pip":
    as_if = "--dry-run --no-index --no-deps --no-build-isolation".split()
    os.execv(sys.executable, [sys.executable, "-m", "pip", *words, *as_if])
if name == "visualdl" or words[0] == "web":
    page = "app/index" if name == "visualdl" else "index.html"
    program = ["visualdl.server.app"] if name == "visualdl" else ["kdscfnet"]
    end = ["--port", port] + (["--no-browser"] if name == "kdscfnet" else [])
    server = subprocess.Popen([sys.executable, "-m", *program, *words, *end])
    try:
        while server.poll() is None:
            time.sleep(0.1)
            try:
                address = "http://127.0.0.1:%s/%s" % (port, page)
                request = urllib.request.Request(address, headers={{"Accept-Language": "en"}})
                sys.exit(urllib.request.urlopen(request, timeout=60).status != 200)
            except urllib.error.HTTPError:
                raise
            except OSError:  # it does not listen yet
                pass
        sys.exit("the server ended")
    finally:
        server.terminate()
        server.wait()
text = " ".join(words)
if words[0] == "train":
    end = "--epochs 1 --sizes 32 --test-size 32 --device cpu --batch-size".split() + ["40" if "--demo" in text else "2"]
    end += ["--teacher-engine", "paddle"] * ("--demo" in text or "--teacher-weights" in text)
elif words[0] in ("test", "predict"):
    end = ["--size", "32"] + ["--engine", "paddle"] * (words[0] == "test" or "SCFNet_R50" in text)
elif words[0] == "benchmark":
    end = "--count 2 --rounds 1 --size 32 --threads 1".split()
from kdscfnet.cli import main

code = main(words + end)
# the doctor's exit code says whether something is wrong with this machine
sys.exit(0 if words[0] == "doctor" and code == 1 else code)
"""


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A clone with tiny data sets, pictures and weights in the places that the documents name."""
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is not for this Python")
    pytest.importorskip("paddle2onnx", reason="paddle2onnx is not for this Python")
    import paddle

    from kdscfnet.models.scfnet import SCFNet
    from kdscfnet.weights.files import save_weights, write_weights

    top = tmp_path_factory.mktemp("documents")
    root = top / "clone"
    (root / "weights").mkdir(parents=True)
    for name in CLONED:
        (root / name).symlink_to(ROOT / name)
    shutil.copy(str(ROOT / "weights/manifest.yaml"), str(root / "weights"))
    (root / ".venv/bin").mkdir(parents=True)
    (root / ".venv/bin/activate").touch()  # what it would put on the path is there

    paddle.seed(0)
    (top / "mirror").mkdir()
    for backbone, file, imagenet in (
        ("mobilenetv3", top / "mirror/KD-SCFNet_STB.pdparams", "MobileNetV3_large_x0_5_pretrained"),
        ("mobilenetv3", top / "mirror/KD-SCFNet_R50.pdparams", ""),
        ("resnet50", root / "weights/SCFNet_R50.pdparams", "resnet50"),
    ):
        model = SCFNet(backbone)
        save_weights(model, str(file))
        if imagenet:
            arrays = {key: value.numpy() for key, value in model.bkbone.state_dict().items()}
            write_weights(str(root / "weights" / (imagenet + ".pdparams")), arrays)

    make_set(root / "data", 8, name="DUTS-TR")
    make_set(root / "data", 8, masks=False, name="KD-SOD80K")
    make_set(root / "data", 3, name="ECSSD")
    make_set(root, 4, name="my_set")
    shutil.copytree(str(root / "data/ECSSD/image"), str(root / "photos/holiday"))
    for name in ("photo.jpg", "beach.jpg"):
        shutil.copy(str(root / "data/ECSSD/image/0.jpg"), str(root / name))
    video = cv2.VideoWriter(str(root / "clip.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 5, (64, 48))
    for level in (0, 100, 200):
        video.write(np.full((48, 64, 3), level, np.uint8))
    video.release()

    (top / "bin").mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for program in ("python", "kdscfnet", "pip", "visualdl"):
        (top / "bin" / program).write_text(STAND_IN.format(python=sys.executable, port=port))
        (top / "bin" / program).chmod(0o755)
    return root


@pytest.fixture(scope="module")
def mirror(clone):
    """A server that has the released files, for $KDSCFNET_MIRROR."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(clone.parent / "mirror"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield "http://127.0.0.1:%d" % server.server_port
    server.shutdown()
    server.server_close()


def clean(**own):
    """A shell's environment without what the tests set."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("KDSCFNET_", "CONDA_", "VIRTUAL_"))
    }
    return dict(kept, PIP_NO_INDEX="1", **own)  # whatever lacks is not brought by a test


def run(clone, mirror, language, text):
    """Run a block in the clone as a user would; returns (exit code, output)."""
    environment = clean(
        PATH="%s:%s" % (clone.parent / "bin", os.environ["PATH"]),
        PYTHONPATH=str(clone),
        HOME=str(clone.parent / "home"),
        KDSCFNET_VENV=str(clone.parent / "none"),
        KDSCFNET_MIRROR=mirror,
    )
    command = ["bash", "-euo", "pipefail", "-c", text] if language == "bash" else ["python", "-c", text]
    done = subprocess.run(
        command,
        cwd=str(clone),
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    return done.returncode, done.stdout.decode("utf-8", "replace")


def test_the_first_block_in_an_empty_folder(tmp_path):
    """From the clone to a cut-out. Packages come from this Python's environment in place of the index."""
    block = blocks(ENGLISH)[0]
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/git").write_text(
        '#!/bin/sh\nmkdir "$3" && cd %s && cp -rL %s "$OLDPWD/$3"\n' % (shlex.quote(str(ROOT)), " ".join(WHOLE))
    )
    see = "import site; print(site.getsitepackages()[0])"
    (tmp_path / "bin/python3").write_text(
        '#!/bin/sh\n%s "$@" && %s -c "%s" > "$($3/bin/python -c "%s")/there.pth"\n'
        % (shlex.quote(sys.executable), shlex.quote(sys.executable), see, see)
    )
    for program in ("git", "python3"):
        (tmp_path / "bin" / program).chmod(0o755)
    environment = clean(
        PATH="%s:%s" % (tmp_path / "bin", os.environ["PATH"]), HOME=str(tmp_path), PIP_NO_BUILD_ISOLATION="0"
    )
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.text],
        cwd=str(tmp_path),
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    cutout = cv2.imread(str(tmp_path / "kdscfnet/saliency/coffee.png"), cv2.IMREAD_UNCHANGED)
    assert cutout.shape == (341, 512, 4) and 0.2 < (cutout[:, :, 3] > 128).mean() < 0.8


def test_every_block_of_the_readme_runs(clone, mirror):
    """In one go, as they build on each other."""
    ran = []
    for block in blocks(ENGLISH)[1:]:
        if block.reason:
            continue
        assert block.language in ("bash", "python"), "README.md line %d: a block of what?" % block.line
        code, output = run(clone, mirror, block.language, block.text)
        assert code == 0, "README.md line %d:\n%s\n%s" % (block.line, block.text, output[-3000:])
        assert "Traceback" not in output, "README.md line %d:\n%s" % (block.line, output[-3000:])
        ran.append(block)
    assert len(ran) == len(blocks(ENGLISH)) - 2  # the first has a test of its own; one starts the tests
    # what the blocks say they make
    for path in (
        "runs/demo-kd-r50/grid.png out/holiday/0.png cut/cutout/photo.png masks/holiday/0.png clip-map.mp4 map.png "
        "runs/mine/final.pdparams runs/kd-r50/final.pdparams runs/kd-from-maps/final.pdparams report/report.html "
        "scores/KD-SCFNet_STB.json maps/SCFNet_R50/ECSSD/0.png exported/scfnet.onnx exported/scfnet.pdiparams "
        "student.safetensors weights/KD-SCFNet_R50.pdparams"
    ).split():
        assert (clone / path).is_file(), path


def test_what_is_not_run_has_a_reason_that_is_true():
    for block in blocks(ENGLISH):
        words = block.reason.split()
        assert not words or len(words) > 3
        for file in re.findall(r"tests/\w+\.py", block.reason):
            assert (ROOT / file).is_file(), file
    # the tests cannot start the tests: what CI starts is the very command
    started = [block for block in blocks(ENGLISH) if "bash scripts/run_tests.sh" in block.text]
    assert started and "bash scripts/run_tests.sh" in (ROOT / ".ci/run").read_text().splitlines()


def commands(path):
    """The blocks without comments, which are in the document's language."""
    without = [re.sub(r"\s+#.*", "", block.text, flags=re.M) for block in blocks(path)]
    return [[line.strip() for line in text.splitlines() if line.strip()] for text in without]


def test_both_readmes_have_the_same_commands():
    assert commands(ENGLISH) == commands(CHINESE)
    assert [bool(block.reason) for block in blocks(ENGLISH)] == [bool(block.reason) for block in blocks(CHINESE)]


def test_both_readmes_have_the_same_numbers():
    """Tables, links and pictures of one are in the other."""

    def numbers(path):
        rows = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
        return [re.findall(r"\d+\.\d+", row) for row in rows]

    def links(path):
        found = re.findall(r"\]\(([^)]+)\)", path.read_text(encoding="utf-8"))
        return sorted(set(found) - {"README.md", "README_cn.md"})

    assert numbers(ENGLISH) == numbers(CHINESE)
    assert links(ENGLISH) == links(CHINESE)


def test_the_papers_numbers_are_those_of_the_release():
    from kdscfnet.weights import release

    text = ENGLISH.read_text(encoding="utf-8")
    sets = ("DUTS-TE", "ECSSD", "HKU-IS", "DUT-OMRON", "PASCAL-S")
    for model in release.release().models:
        numbers = " | ".join("%.3f" % model.mae[name] for name in sets)
        assert "| %s |" % numbers in text, model.title
        assert model.name in text


DOCUMENTS = [ENGLISH, CHINESE, FIDELITY, NOTEBOOK]


def known_flags():
    """Every option of every verb, and those of other programs that the documents name."""
    import importlib

    flags = {"--help", "--version", "--gpus", "--logdir", "--disable-telemetry"}
    for verb in VERBS:
        parser = argparse.ArgumentParser()
        importlib.import_module("kdscfnet.commands." + verb).add_arguments(parser)
        parsers = [parser]
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                parsers += action.choices.values()
        flags.update(flag for one in parsers for action in one._actions for flag in action.option_strings)
    return flags


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_flag_that_is_named_exists(path):
    text = path.read_text(encoding="utf-8")
    # options of the authors that are gone, named as such, and one of pip
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) - {"--snapshot", "--batch", "--no-deps"}
    assert named, "no flag in %s: is this looked for rightly?" % path.name
    assert named <= known_flags(), sorted(named - known_flags())


@pytest.mark.parametrize("path", DOCUMENTS[:3], ids=lambda path: path.name)
def test_every_file_that_is_named_exists(path):
    text = path.read_text(encoding="utf-8")
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)]+)\)", text) if not link.startswith("http")]
    assert links or path == FIDELITY
    for link in links:
        assert (path.parent / link).exists(), link
    ours = r"`((?:kdscfnet|tests|scripts|docs|notebooks|requirements|benchmarks)/[\w./-]*)(?:::[\w:]+)?`"
    for name in re.findall(ours, text):
        assert (ROOT / name).exists(), name


def test_every_test_that_fidelity_names_exists():
    text = FIDELITY.read_text(encoding="utf-8")
    named = re.findall(r"`(tests/\w+\.py)::([\w:]+)`", text)
    assert len(named) > 30
    for file, name in named:
        body = ast.parse((ROOT / file).read_text(encoding="utf-8")).body
        for part in name.split("::"):
            found = [node for node in body if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name == part]
            assert found, "%s::%s" % (file, name)
            body = found[0].body


def test_every_difference_has_its_test():
    """Each paragraph and row of the sections that compare names a test."""
    text = FIDELITY.read_text(encoding="utf-8")
    sections = re.split(r"^## ", text, flags=re.M)
    compared = [section for section in sections if section[0] in "123"]
    assert len(compared) == 3
    for section in compared[:2]:
        for paragraph in section.strip().split("\n\n")[1:]:
            assert re.search(r"`tests/test_\w+\.py::", paragraph), paragraph[:80]
    rows = [line for line in compared[2].splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 8 and all("`tests/test_" in row for row in rows)


def test_documents_name_no_machine():
    """No folder or host of whoever wrote them."""
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"/work/|/tmp/|/opt/|/root/|file:///|localhost:\d{5}", text), path.name
