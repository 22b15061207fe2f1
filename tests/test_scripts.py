"""The shell scripts, with programs that only write down what they are asked (no network, no installation)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ("bash", "sh", "dirname", "cat", "cksum", "cut", "grep", "mkdir", "chmod", "cp", "printf", "env")

# Stands in for a Python: says that it fits, makes environments by copying itself, and logs what it would run.
FAKE_PYTHON = """#!/bin/sh
case "$*" in
    *'find_spec("paddle")'*) exit 1 ;;
    *ensurepip*) [ -z "$NO_VENV" ] || exit 1; exit 0 ;;
    *version_info*) exit 0 ;;
    --version) echo "Python 3.12.0"; exit 0 ;;
    "-c import pip"*) exit 0 ;;
    "-m venv --clear "*) mkdir -p "$4/bin" && cp "$0" "$4/bin/python"; echo "venv" >> "$LOG"; exit 0 ;;
    "-m pip install"*) echo "pip $*" >> "$LOG"; [ -z "$PIP_FAILS" ] || exit 1; exit 0 ;;
    *) echo "run in $PWD: $*${KDSCFNET_SCRIPT:+ by $KDSCFNET_SCRIPT}" >> "$LOG" ;;
esac
"""


@pytest.fixture
def clone(tmp_path):
    """A folder with a space in its name that has what the scripts read, as a clone has it."""
    root = tmp_path / "a clone"
    root.mkdir()
    for name in ("scripts", "requirements"):
        shutil.copytree(str(ROOT / name), str(root / name))
    for name in ("setup.py", "requirements.txt", "requirements-gpu.txt"):
        shutil.copy(str(ROOT / name), str(root / name))
    return root


@pytest.fixture
def machine(tmp_path):
    """Runs a script on a machine with the shell's tools and the Pythons named; returns (exit code, output, log)."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in TOOLS:
        (tools / name).symlink_to(shutil.which(name))
    log = tmp_path / "log"

    def run(script, *arguments, pythons=(), cwd=tmp_path, **environment):
        for name in pythons:
            (tools / name).write_text(FAKE_PYTHON)
            (tools / name).chmod(0o755)
        log.write_text("")
        done = subprocess.run(
            ["bash", str(script), *arguments],
            cwd=str(cwd),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=dict({"PATH": str(tools), "HOME": str(tmp_path), "LOG": str(log)}, **environment),
        )
        return done.returncode, done.stdout, log.read_text().splitlines()

    return run


@pytest.mark.parametrize("script", sorted(ROOT.glob("scripts/*.sh")) + [ROOT / ".ci/run"], ids=lambda path: path.name)
def test_scripts_parse(script):
    subprocess.run(["bash", "-n", str(script)], check=True)


def test_first_run_makes_an_environment_and_the_second_starts_no_pip(clone, machine):
    code, output, log = machine(clone / "scripts/train_kd.sh", "--demo", pythons=["python3.12"])
    assert code == 0, output
    made, together, alone, ran = log
    assert made == "venv"
    for name in ("base", "evaluate", "train", "cpu", "onnx"):
        assert "-r %s/requirements/%s.txt" % (clone, name) in together
    assert "-e %s" % clone in together and "no-deps" not in together
    # what would bring another OpenCV or numpy comes last, without its requirements
    assert alone == "pip -m pip install -q --no-deps -r %s/requirements/train-no-deps.txt" % clone
    assert ran.endswith("-m kdscfnet train kd-r50 --demo by %s" % (clone / "scripts/train_kd.sh"))

    code, output, log = machine(clone / "scripts/train_kd.sh", "--demo")
    assert (code, len(log)) == (0, 1), output

    # another requirement, another installation; into the environment that is there
    with open(str(clone / "requirements/base.txt"), "a") as file:
        file.write("one-more\n")
    code, output, log = machine(clone / "scripts/train_kd.sh", "--demo")
    assert code == 0 and [line.split()[0] for line in log] == ["pip", "pip", "run"], output


@pytest.mark.parametrize(
    "script, arguments, expected",
    [
        ("train_fs.sh", [], "train fs-m3"),
        ("train_fs.sh", ["fs-r50", "--data", "a b"], "train fs-r50 --data a b"),
        ("train_kd.sh", ["kd-stb"], "train kd-stb"),
        ("train_kd.sh", ["--demo", "--epochs", "2"], "train kd-r50 --demo --epochs 2"),
        ("test.sh", ["--weights", "x"], "test --weights x"),
        ("test.sh", [], "test"),
    ],
)
def test_arguments_reach_the_verb_and_paths_stay_relative(clone, machine, tmp_path, script, arguments, expected):
    away = tmp_path / "elsewhere"
    away.mkdir()
    code, output, log = machine(clone / "scripts" / script, *arguments, pythons=["python3.10"], cwd=away)
    assert code == 0, output
    # the advice how to resume names the script that trains
    by = " by %s" % (clone / "scripts" / script) if expected.startswith("train") else ""
    assert log[-1] == "run in %s: -m kdscfnet %s%s" % (away, expected, by)


def test_failed_installation_is_one_line_and_is_tried_again(clone, machine):
    code, output, log = machine(clone / "scripts/test.sh", pythons=["python3.9"], PIP_FAILS="yes")
    assert code == 2 and "pip could not install" in output.splitlines()[-1]
    assert not any("kdscfnet test" in line for line in log)
    code, output, log = machine(clone / "scripts/test.sh")
    assert code == 0 and log[0].startswith("pip ") and log[-1].endswith("-m kdscfnet test")


def test_no_python(clone, machine):
    code, output, log = machine(clone / "scripts/test.sh")
    assert (code, log) == (2, [])
    assert output.count("\n") == 1 and "no Python from 3.8 to 3.13 found" in output


def test_python_without_venv_is_told_what_to_install(clone, machine):
    code, output, log = machine(clone / "scripts/test.sh", pythons=["python3.11"], NO_VENV="yes")
    assert (code, log) == (2, [])
    assert output.count("\n") == 1 and "apt-get install python3.11-venv" in output


def test_pythons_of_pyenv_are_found(clone, machine, tmp_path):
    pyenv = tmp_path / "pyenv/versions/3.12.1/bin/python3.12"
    pyenv.parent.mkdir(parents=True)
    pyenv.write_text(FAKE_PYTHON)
    pyenv.chmod(0o755)
    code, output, log = machine(clone / "scripts/test.sh", PYENV_ROOT=str(tmp_path / "pyenv"))
    assert code == 0 and log[0] == "venv", output


def test_gpu_machine_gets_the_cuda_build(clone, machine, tmp_path):
    (tmp_path / "bin/nvidia-smi").write_text("#!/bin/sh\necho 'GPU 0: Tesla V100'\n")
    (tmp_path / "bin/nvidia-smi").chmod(0o755)
    code, output, log = machine(clone / "scripts/test.sh", pythons=["python3.12"])
    assert code == 0 and "requirements/gpu.txt" in log[1] and "requirements/cpu.txt" not in log[1], output
    # the two builds overwrite each other's files: another build is another environment
    code, output, log = machine(clone / "scripts/test.sh", KDSCFNET_PADDLE="cpu")
    assert code == 0 and log[0] == "venv" and "requirements/cpu.txt" in log[1] and "gpu.txt" not in log[1], output
    code, output, log = machine(clone / "scripts/test.sh", KDSCFNET_PADDLE="cpu")
    assert (code, len(log)) == (0, 1), output
    code, output, log = machine(clone / "scripts/test.sh", KDSCFNET_PADDLE="tpu")
    assert (code, log) == (2, []) and "cpu or gpu" in output


def test_a_gpu_build_is_not_looked_for_where_there_is_none(clone, machine, tmp_path):
    """The package index has none for Python 3.13: an older Python is taken, or the one line says what to do."""
    code, output, log = machine(clone / "scripts/test.sh", pythons=["python3.13"], KDSCFNET_PADDLE="gpu")
    assert (code, log) == (2, []) and output.count("\n") == 1 and "KDSCFNET_PADDLE=cpu" in output
    code, output, log = machine(clone / "scripts/test.sh", pythons=["python3.12"], KDSCFNET_PADDLE="gpu")
    assert code == 0 and log[0] == "venv", output


def test_the_newest_python_is_taken(clone, machine, tmp_path):
    pythons = ["python3.%d" % minor for minor in (8, 12, 13)]
    code, output, log = machine(clone / "scripts/test.sh", pythons=pythons, KDSCFNET_PADDLE="cpu")
    assert code == 0, output
    assert (clone / ".venv/bin/python").read_text() == (tmp_path / "bin/python3.13").read_text()


def test_active_environment_is_used_as_it_is(clone, machine, tmp_path):
    active = tmp_path / "active/bin/python"
    active.parent.mkdir(parents=True)
    active.write_text(FAKE_PYTHON)
    active.chmod(0o755)
    code, output, log = machine(clone / "scripts/test.sh", VIRTUAL_ENV=str(tmp_path / "active"))
    assert code == 0, output
    assert log == [
        "run in %s: %s/scripts/add_missing.py cpu" % (tmp_path, clone),
        "run in %s: -m kdscfnet test" % tmp_path,
    ]
    assert not (clone / ".venv").exists()


def test_a_folder_that_is_not_ours_is_never_cleared(clone, machine, tmp_path):
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "precious").write_text("")
    code, output, log = machine(clone / "scripts/test.sh", pythons=["python3.12"], KDSCFNET_VENV=str(folder))
    assert (code, log) == (2, []) and "remove it" in output
    assert (folder / "precious").exists()

    # an environment that somebody else made there is used like an active one
    (folder / "bin").mkdir()
    shutil.copy(str(tmp_path / "bin/python3.12"), str(folder / "bin/python"))
    code, output, log = machine(clone / "scripts/test.sh", KDSCFNET_VENV=str(folder))
    assert code == 0 and "add_missing.py" in log[0] and (folder / "precious").exists(), output


# Paddle is there already, as on AI Studio: the real scripts/add_missing.py, on a Python that sees only stub packages

STUBS = (
    "paddle numpy cv2 paddleseg filelock importlib_metadata matplotlib PIL yaml safetensors scipy tqdm visualdl "
    "onnx onnxruntime paddle2onnx requests six sklearn urllib3"
).split()
THERE = "paddlepaddle-gpu==2.2.0 opencv-contrib-python==4.8.0.74 numpy==1.26.0"
FAKE_PIP = (
    """
import os, sys
if sys.argv[1] == "list":
    sys.exit(print("\\n".join("%s".split())))
"""
    % THERE
    + """
with open(os.environ["LOG"], "a") as log:
    log.write("pip " + " ".join(sys.argv[1:]) + "\\n")
    if "-c" in sys.argv:
        with open(sys.argv[sys.argv.index("-c") + 1]) as file:
            log.write("constraints " + " ".join(file.read().split()) + "\\n")
"""
)


@pytest.fixture
def studio(tmp_path, clone, machine):
    """A machine whose `python` has Paddle (a stub) and, beside the standard library, only stub packages."""
    stubs = tmp_path / "stubs"
    for name in STUBS:
        (stubs / name).mkdir(parents=True)
        (stubs / name / "__init__.py").write_text("raise ImportError('only looked for, never imported')\n")
    (stubs / "pip").mkdir()
    (stubs / "pip/__init__.py").write_text("")
    (stubs / "pip/__main__.py").write_text(FAKE_PIP)
    (clone / "kdscfnet").mkdir()
    for name in ("__init__.py", "dependencies.py"):
        shutil.copy(str(ROOT / "kdscfnet" / name), str(clone / "kdscfnet" / name))
    (clone / "kdscfnet/__main__.py").write_text(
        "import os, sys\nopen(os.environ['LOG'], 'a').write('verb ' + ' '.join(sys.argv[1:]) + '\\n')\n"
    )
    python = tmp_path / "bin/python"
    # -S: no site-packages of the machine that runs this test
    python.write_text('#!/bin/sh\nexec "%s" -S "$@"\n' % sys.executable)
    python.chmod(0o755)

    def run():
        return machine(clone / "scripts/train_kd.sh", "--demo", PYTHONPATH=str(stubs))

    run.stubs = stubs
    return run


def test_complete_environment_with_paddle_is_left_alone(studio, clone):
    code, output, log = studio()
    assert (code, log) == (0, ["verb train kd-r50 --demo"]), output
    assert not (clone / ".venv").exists()


def test_what_lacks_is_added_and_nothing_is_replaced(studio, clone):
    for name in ("paddleseg", "six", "safetensors"):
        shutil.rmtree(str(studio.stubs / name))
    code, output, log = studio()
    assert code == 0, output
    added, constraints, bare, verb = log
    assert "safetensors>=" in added and " six" in added and " -c " in added
    assert not any(word in added for word in ("paddle", "opencv", "numpy"))
    # every version that is there is a constraint
    assert constraints == "constraints %s paddle2onnx<2" % THERE
    # paddleseg would ask for another OpenCV, so it comes alone
    assert bare.endswith("--no-deps paddleseg==2.8.0")
    assert verb == "verb train kd-r50 --demo"


def test_environment_without_pip_is_told_what_lacks(studio):
    shutil.rmtree(str(studio.stubs / "pip"))
    shutil.rmtree(str(studio.stubs / "scipy"))
    code, output, log = studio()
    assert (code, log) == (2, [])
    assert "no pip" in output and "scipy>=1.5" in output


# the version matrix

JUNIT = '<testsuites><testsuite errors="%d" failures="%d" skipped="2" tests="10" time="12.3"/></testsuites>'


@pytest.mark.parametrize("errors, failures, code", [(0, 0, 0), (0, 1, 1), (1, 0, 1)])
def test_a_row_of_the_matrix_counts(tmp_path, errors, failures, code):
    junit = tmp_path / "junit.xml"
    junit.write_text(JUNIT % (errors, failures))
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts/matrix_row.py"), "a row", str(junit)], stdout=subprocess.PIPE, text=True
    )
    bad = errors + failures
    assert done.stdout.startswith("| a row | %d.%d." % sys.version_info[:2])
    assert done.stdout.rstrip().endswith("| %d | %d | 2 | 12 |" % (8 - bad, bad))
    assert done.returncode == code


def test_a_row_without_a_result_is_a_failure(tmp_path):
    command = [sys.executable, str(ROOT / "scripts/matrix_row.py"), "a row", str(tmp_path / "none.xml")]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    assert done.returncode == 1 and "no result" in done.stdout


def test_matrix_knows_its_rows(clone, machine):
    code, output, log = machine(clone / "scripts/matrix.sh", "py99")
    assert code == 2 and "no row 'py99'" in output


# CI skips nothing


def test_ci_excuses_what_needs_an_exporter_that_this_python_has_not(tmp_path):
    shutil.copy(str(ROOT / "tests/conftest.py"), str(tmp_path / "conftest.py"))
    (tmp_path / "test_it.py").write_text("import pytest\ndef test_it():\n    pytest.skip('needs paddle2onnx')\n")
    code = (
        "import sys, pytest\n"
        "from kdscfnet import dependencies\n"
        "dependencies.read = lambda *names: {'paddle2onnx': ''} if sys.argv[1] == 'has' else {}\n"
        "sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider', 'test_it.py']))\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment.update(PYTHONPATH=str(ROOT), KDSCFNET_NO_SKIPS="1", PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
    for kind, expected, text in (("has", 1, "CI skips no test"), ("has not", 0, "1 tests need paddle2onnx")):
        done = subprocess.run(
            [sys.executable, "-c", code, kind], cwd=str(tmp_path), env=environment, capture_output=True, text=True
        )
        assert done.returncode == expected and text in done.stdout, done.stdout


@pytest.mark.parametrize("workers", [[], ["-n", "1"]], ids=["one process", "two processes"])
def test_a_skipped_test_fails_ci(tmp_path, workers):
    if workers:
        pytest.importorskip("xdist")
    shutil.copy(str(ROOT / "tests/conftest.py"), str(tmp_path / "conftest.py"))
    (tmp_path / "test_it.py").write_text("import pytest\ndef test_it():\n    pytest.skip('for a reason')\n")
    plugins = ["-p", "no:cacheprovider"] + ["-p", "xdist"] * bool(workers)
    command = [sys.executable, "-m", "pytest", "-q", *plugins, *workers, "test_it.py"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "KDSCFNET_"))}
    environment.update(PYTHONPATH=str(ROOT), PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")  # others take seconds to load
    for strict, code in (("", 0), ("1", 1)):
        done = subprocess.run(
            command, cwd=str(tmp_path), env=dict(environment, KDSCFNET_NO_SKIPS=strict), capture_output=True, text=True
        )
        assert done.returncode == code, done.stdout
        assert ("CI skips no test" in done.stdout) == bool(code) and "1 skipped" in done.stdout
