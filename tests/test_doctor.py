"""kdscfnet doctor: every known clash is planted, and is named with the command that mends it."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from kdscfnet import dependencies, diagnosis, doctor, files

ROOT = Path(__file__).resolve().parent.parent
LIBGL = "ImportError: libGL.so.1: cannot open shared object file: No such file or directory"


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """The facts of the machine that runs the tests."""
    return doctor.look(str(tmp_path_factory.mktemp("data")), str(tmp_path_factory.mktemp("weights")))


@pytest.fixture
def healthy(tmp_path):
    """The facts of a machine on which nothing is wrong and nothing is worth a note."""
    return doctor.Facts(
        python=(3, 12, 1),
        packages={
            "numpy": "1.26.4",
            "opencv-python": "4.5.5.64",
            "paddlepaddle": "3.2.2",
            "paddleseg": "2.8.0",
            "onnxruntime": "1.23.2",
        },
        probes={name: {"version": "1", "cuda": False} for name in (*doctor.PROBED, "files")},
        absent={},
        absent_training={},
        absent_export={},
        gpus=[],
        weights="weights",
        weights_error="",
        data="data",
        free={"/": 1 << 40},
    )


def plant(facts, fails=(), packages=(), **changes):
    """The facts with other versions (None: not installed) and modules that fail with an error."""
    versions = dict(facts.packages, **dict(packages))
    changes["packages"] = {name: version for name, version in versions.items() if version}
    changes["probes"] = dict(facts.probes, **{name: {"error": error} for name, error in dict(fails).items()})
    return replace(facts, **changes)


def faults(facts):
    return [finding for finding in diagnosis.diagnose(facts) if finding.fault]


def the_only(findings):
    assert len(findings) == 1, findings
    return findings[0]


def test_nothing_is_wrong(healthy):
    assert diagnosis.diagnose(healthy) == []
    assert doctor.report(healthy, []).endswith("\nno problem found")


@pytest.mark.parametrize(
    "paddle, mend",
    [("3.3.1", 'install --upgrade "opencv-python>=4.10"'), (None, "--upgrade"), ("2.6.2", 'install "numpy<2"')],
)
def test_numpy_2_with_the_old_opencv(healthy, paddle, mend):
    """OpenCV is renewed, but for Paddle 2, which needs numpy 1 itself."""
    error = "ImportError: numpy.core.multiarray failed to import"
    facts = plant(healthy, {"cv2": error, "paddleseg": error}, {"numpy": "2.1.0", "paddlepaddle": paddle})
    found = faults(facts)[0]
    assert found.name == "numpy 2 with an old OpenCV" and len(faults(facts)) == 1
    assert "numpy 2.1.0" in found.what and "opencv-python 4.5.5.64" in found.what
    assert mend in found.mend


def test_numpy_2_with_a_new_opencv_is_fine(healthy):
    facts = plant(healthy, packages={"numpy": "2.1.0", "opencv-python": "4.10.0.84", "paddleseg": None})
    assert diagnosis.diagnose(facts) == []


def test_paddlesegs_pin_is_a_note(healthy):
    facts = plant(healthy, packages={"numpy": "2.5.5", "opencv-python": "5.0.0.93"})
    found = the_only(diagnosis.diagnose(facts))
    assert found.name == "paddleseg's pin" and not found.fault and "opencv-python 5.0.0.93" in found.what
    assert found.mend.endswith('install --no-deps "paddleseg==2.8.0"')


@pytest.mark.parametrize("version, told", [("3.3.0", True), ("3.3.1", True), ("3.2.2", False), ("2.6.2", False)])
def test_onednn_of_paddle_inference_is_a_note(healthy, version, told):
    found = diagnosis.diagnose(plant(healthy, packages={"paddlepaddle": version}))
    assert [one.name for one in found] == ["oneDNN in Paddle Inference"] * told
    assert all(not one.fault and "disable_mkldnn" in one.mend for one in found)


@pytest.mark.parametrize("paddle", ["3.2.2", "2.6.2", None])
def test_both_opencv_packages(healthy, paddle):
    facts = plant(healthy, packages={"opencv-python-headless": "4.12.0.88", "paddlepaddle": paddle, "paddleseg": None})
    found = the_only(diagnosis.diagnose(facts))
    assert found.name == "two OpenCV packages"
    assert "opencv-python 4.5.5.64 and opencv-python-headless 4.12.0.88" in found.what
    assert "uninstall -y opencv-python opencv-python-headless" in found.mend
    assert '"opencv-python>=4.1.1"' in found.mend and ('"numpy<2"' in found.mend) == (paddle == "2.6.2")


@pytest.mark.parametrize(
    "gpu, mend", [("2.6.2", 'pip install "paddlepaddle-gpu==2.6.2"'), ("3.2.0", "installation page")]
)
def test_cpu_paddle_over_gpu_paddle(healthy, gpu, mend):
    facts = plant(healthy, {"paddle": "ImportError: undefined symbol"}, {"paddlepaddle-gpu": gpu}, gpus=["Tesla V100"])
    found = the_only(diagnosis.diagnose(facts))
    assert found.name == "CPU Paddle over GPU Paddle"
    assert "uninstall -y paddlepaddle paddlepaddle-gpu" in found.mend and mend in found.mend


@pytest.mark.parametrize(
    "library, package",
    [
        ("libGL.so.1", "libgl1"),
        ("libgthread-2.0.so.0", "libglib2.0-0"),
        ("libSM.so.6", "libsm6"),
        ("libXrender.so.1", "libxrender1"),
    ],
)
def test_no_system_library(healthy, library, package):
    facts = plant(healthy, {"cv2": LIBGL.replace("libGL.so.1", library), "paddleseg": "ImportError: the same"})
    found = the_only(diagnosis.diagnose(facts))
    assert found.name == "no %s" % library.split(".so")[0].split("-")[0] and library in found.what
    assert package in found.mend and found.mend.startswith("apt-get install -y")
    assert "opencv-python-headless>=4.1.1" in found.mend  # for those who are not root


def test_a_library_that_paddle_lacks(healthy):
    facts = plant(healthy, {"paddle": "ImportError: libgomp.so.1: cannot open shared object file: No such file"})
    found = the_only(diagnosis.diagnose(facts))
    assert found.name == "no libgomp" and found.mend == "apt-get install -y libgomp1"


@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_no_paddle_is_a_note(healthy, kind):
    """A base install predicts: Paddle and what else trains is told at once, by one command."""
    facts = plant(
        healthy,
        packages={"paddlepaddle": None, "paddleseg": None},
        absent_training=dependencies.read("evaluate", "train", kind),
        absent_export=dependencies.read("onnx"),
    )
    del facts.probes["paddle"], facts.probes["paddleseg"]
    found = the_only(diagnosis.diagnose(facts))
    assert found.name == "no Paddle" and not found.fault
    for requirement in dependencies.read("train", kind).values():
        assert '"%s"' % requirement in found.mend
    assert found.mend.endswith('&& %s install --no-deps "paddleseg==2.8.0"' % dependencies.pip())


def test_what_trains_is_missing_beside_paddle(healthy):
    facts = replace(healthy, absent_training=dependencies.read("train"))
    found = the_only(diagnosis.diagnose(facts))
    assert found.name == "packages missing" and found.fault and "paddleseg" in found.what
    assert "--no-deps" in found.mend


@pytest.mark.parametrize(
    "packages, error, mend",
    [
        ({}, "TypeError: Descriptors cannot not be created directly.", '"protobuf<3.21"'),
        (
            {"paddlepaddle": "2.6.2", "numpy": "2.0.1", "opencv-python": "4.11.0.86", "paddleseg": None},
            "RuntimeError: ABI version",
            '"numpy<2" "opencv-python>=4.1.1"',
        ),
        (
            {"paddlepaddle": None, "paddlepaddle-gpu": "2.2.0"},
            "ImportError: libpaddle.so: undefined symbol: _dl_sym",
            ">=2.5",
        ),
        ({}, "the process was killed by signal 4", "--force-reinstall"),
    ],
)
def test_paddle_that_does_not_import(healthy, packages, error, mend):
    found = the_only(diagnosis.diagnose(plant(healthy, {"paddle": error, "paddleseg": error}, packages)))
    assert found.name == "Paddle does not import" and error in found.what and mend in found.mend


def test_gpus(healthy):
    facts = replace(healthy, gpus=["Tesla V100"])
    found = the_only(diagnosis.diagnose(facts))
    assert found.name == "GPU not used" and not found.fault and "paddlepaddle-gpu" in found.mend
    facts.probes["paddle"].update(cuda=True, cuda_version="11.8", gpus=[], gpu_error="driver too old")
    found = the_only(diagnosis.diagnose(facts))
    assert found.name == "Paddle sees no GPU" and found.fault and "driver too old" in found.what
    facts.probes["paddle"].update(gpus=[["Tesla V100, 32 GB", [7, 0]]])
    assert diagnosis.diagnose(facts) == []


@pytest.mark.parametrize(
    "capability, archs, fits",
    [
        ((7, 0), [70, 75, 80, 86], True),
        ((8, 9), [70, 75, 80, 86], True),  # a GPU runs code for a lower minor number
        ((9, 0), [70, 75, 80, 86], False),
        ((8, 0), [75, 86], False),
        ((12, 0), [80, 90, 100], False),
        ((9, 0), [], True),  # older versions of Paddle do not say what they were built for
    ],
)
def test_a_gpu_build_for_other_gpus(healthy, capability, archs, fits):
    facts = replace(healthy, gpus=["H100"])
    facts.probes["paddle"].update(cuda=True, cuda_version="11.8", archs=archs)
    facts.probes["paddle"].update(gpus=[["H100, 80 GB", list(capability)]])
    found = diagnosis.diagnose(facts)
    assert [one.name for one in found] == ["Paddle built for other GPUs"] * (not fits)
    for one in found:
        assert one.fault and "compute capability %d.%d" % capability in one.what


def test_onnxruntime_missing(healthy):
    facts = replace(
        healthy, absent={"onnxruntime": "onnxruntime>=1.12"}, absent_export={"onnxruntime": "x", "onnx": "y"}
    )
    found, note = diagnosis.diagnose(facts)
    assert found.name == "onnxruntime missing" and found.fault and '"onnxruntime>=' in found.mend
    assert note.name == "no export" and "onnxruntime" not in note.what
    facts = replace(healthy, absent_export={"paddle2onnx": "paddle2onnx>=1.0"})
    found = the_only(diagnosis.diagnose(facts))
    assert found.name == "no export" and not found.fault and '"paddle2onnx>=1.0"' in found.mend


def test_paddle2onnx_by_paddle(healthy):
    error = "ValueError: The paddlepaddle version should not be less than 3.0.0"
    facts = plant(healthy, {"paddle2onnx": error}, {"paddlepaddle": "2.6.2", "paddle2onnx": "2.1.0"})
    found = the_only(diagnosis.diagnose(facts))
    assert found.name == "paddle2onnx 2 with Paddle 2" and '"paddle2onnx<2"' in found.mend
    facts = plant(healthy, (), {"paddlepaddle": "2.6.2"}, absent_export={"paddle2onnx": "paddle2onnx>=1.0"})
    assert '"paddle2onnx<2"' in the_only(diagnosis.diagnose(facts)).mend


def test_packages_missing(healthy):
    facts = replace(healthy, absent={"tqdm": "tqdm>=4.40"}, absent_training={"scipy": "scipy>=1.5"})
    found = the_only(diagnosis.diagnose(facts))
    assert found.what == "not installed: scipy, tqdm" and '"tqdm>=4.40" "scipy>=1.5"' in found.mend


def test_another_package_that_does_not_import(healthy):
    found = the_only(diagnosis.diagnose(plant(healthy, {"visualdl": "ImportError: cannot import name 'x'"})))
    assert found.name == "visualdl does not import" and '"visualdl>=2.2"' in found.mend


def test_paddle_2_on_python_38(healthy):
    error = "zlib.error: Error -2 while decompressing data: inconsistent stream state"
    facts = plant(healthy, {"paddleseg": error, "visualdl": error}, {"charset-normalizer": "3.4.0"}, python=(3, 8, 18))
    found = the_only(diagnosis.diagnose(facts))
    assert "charset_normalizer" in found.name and found.mend.endswith('"charset_normalizer<3"')


def test_python_that_is_too_new(healthy):
    found = the_only(diagnosis.diagnose(replace(healthy, python=(3, 14, 0))))
    assert "3.14.0" in found.what and "python3.13 -m venv" in found.mend
    assert diagnosis.diagnose(replace(healthy, python=(3, 13, 0))) == []


def test_numpy_that_does_not_import_explains_the_others(healthy):
    error = "ImportError: libopenblas"
    facts = plant(healthy, dict.fromkeys(("numpy", "cv2", "paddle", "paddleseg"), error))
    found = the_only(diagnosis.diagnose(facts))
    assert found.name == "numpy does not import" and "--force-reinstall" in found.mend


def test_another_paddleseg_is_a_note(healthy):
    found = the_only(diagnosis.diagnose(plant(healthy, packages={"paddleseg": "2.7.0"})))
    assert "2.7.0" in found.what and not found.fault and '--no-deps "paddleseg==2.8.0"' in found.mend


def test_disk_full(healthy):
    found = the_only(diagnosis.diagnose(replace(healthy, free={"/": 1 << 40, "/small": 1 << 20})))
    assert found.name == "disk full" and found.what.startswith("/small")


def test_several_faults_are_all_told_and_notes_come_last(healthy):
    facts = plant(
        healthy,
        {"cv2": LIBGL},
        absent={"onnxruntime": "onnxruntime>=1.12"},
        gpus=["Tesla V100"],
        weights_error="Read-only file system",
    )
    found = diagnosis.diagnose(facts)
    assert [one.name for one in found] == ["no libGL", "onnxruntime missing", "weights folder", "GPU not used"]
    text = doctor.report(facts, found)
    assert text.endswith("3 problems found") and all(one.mend in text for one in found)


# the weights folder


@pytest.fixture
def read_only():
    """A folder that the user of the test may read and not write, even where the tests run as root."""
    folder = tempfile.mkdtemp()  # not tmp_path, which no other user may enter
    os.chmod(folder, 0o555)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    yield folder
    if root:
        os.seteuid(0)
    shutil.rmtree(folder)


def test_read_only_weights_folder(healthy, read_only):
    error = files.write_error(read_only)
    found = the_only(diagnosis.diagnose(replace(healthy, weights=read_only, weights_error=error)))
    assert found.name == "weights folder" and read_only in found.what
    assert "chmod u+w %s" % read_only in found.mend and "KDSCFNET_WEIGHTS=" in found.mend
    # a folder yet to be made in there
    assert files.write_error(os.path.join(read_only, "weights")) == error


def test_a_folder_that_only_root_may_write_to_is_named(tmp_path):
    folder = tmp_path / "weights"
    folder.mkdir(mode=0o555)
    assert "ermission denied" in files.write_error(str(folder))
    folder.chmod(0o755)
    assert files.write_error(str(folder)) == ""


def test_weights_folder_that_can_be_written_is_left_as_it_was(tmp_path):
    before = os.stat(str(tmp_path))
    assert files.write_error(str(tmp_path)) == "" and files.write_error(str(tmp_path / "not there yet")) == ""
    assert not list(tmp_path.iterdir()) and stat.S_IMODE(before.st_mode) == stat.S_IMODE(os.stat(str(tmp_path)).st_mode)


def test_weights_folder_that_is_a_file(tmp_path):
    (tmp_path / "weights").write_text("")
    assert files.write_error(str(tmp_path / "weights")) == "is a file"


# looking


def test_versions_come_from_metadata(tmp_path):
    for folder, text in [
        ("a/Some_Package-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: Some_Package\nVersion: 1.0\n"),
        ("b/some_package-2.0.dist-info/METADATA", "Name: some.package\nVersion: 2.0\n"),
        ("b/old.egg-info/PKG-INFO", "Name: old\nVersion: 0.1+local\n"),
        ("b/broken-1.dist-info/RECORD", ""),
    ]:
        path = tmp_path / folder
        path.parent.mkdir(parents=True)
        path.write_text(text)
    (tmp_path / "b/older.egg-info").write_text("Name: older\nVersion: 3\n")
    found = doctor.installed(path=[str(tmp_path / "a"), str(tmp_path / "b"), str(tmp_path / "none"), ""])
    expected = {"some-package": "1.0", "old": "0.1+local", "older": "3"}
    assert {name: found.get(name) for name in expected} == expected and "broken" not in found


@pytest.mark.parametrize(
    "code, error",
    [
        ("import os; os.kill(os.getpid(), 11)", "killed by signal 11"),
        ("import os; os._exit(3)", "exit code 3"),
        ("raise ImportError('no such thing')", "ImportError: no such thing"),
        ("import os; print('x', flush=True); os._exit(0)", "x"),
        ("import time; time.sleep(60)", "no answer in 1 seconds"),
    ],
)
def test_a_probe_survives_what_it_tries(tmp_path, monkeypatch, code, error):
    (tmp_path / "broken_module.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert error in doctor.probe("try_import", seconds=1 if "sleep" in code else 60, name="broken_module")["error"]


def test_a_probe_answers_through_noise(tmp_path, monkeypatch):
    (tmp_path / "noisy_module.py").write_text("print('a banner', end='')\n__version__ = '1.2'")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert doctor.probe("try_import", name="noisy_module") == {"version": "1.2"}


def test_this_machine(real):
    """The stack that runs these tests has no fault, but for an ONNX Runtime that it may lack."""
    findings = diagnosis.diagnose(real)
    assert {one.name for one in findings if one.fault} <= {"onnxruntime missing"}
    found = dict(doctor.describe(real))
    import cv2
    import numpy
    import paddle

    assert found["Paddle"].startswith(paddle.__version__) and found["OpenCV"].startswith(cv2.__version__)
    assert found["numpy"] == numpy.__version__ and found["paddleseg"] == "2.8.0"
    assert "nothing there" in found["weights"] and "nothing there" in found["data sets"]
    assert "free" in found["disk space"]


def test_weights_and_data_sets_are_found(tmp_path):
    """Whatever is wrong with a file or folder is told there; it is no fault of the machine."""
    import cv2
    import numpy as np

    for kind in ("image", "mask"):
        (tmp_path / "data/ECSSD" / kind).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "data/ECSSD" / kind / "1.png"), np.zeros((4, 4, 3), np.uint8))
    (tmp_path / "data/empty").mkdir()
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights/page.pdparams").write_text("<html>quota</html>")
    found = doctor.look_at_files(str(tmp_path / "data"), str(tmp_path / "weights"))
    assert found["sets"][0] == "ECSSD: 1 images, 1 masks" and "empty holds no images" in found["sets"][1]
    assert found["weights"][0].startswith("page.pdparams (")


# the command, on stub packages that stand before the real ones


BETWEEN = "\0between\0"
# The command twice, as text and for programs, on what one look has found
TWICE = (
    """
import contextlib, functools, io, sys
from kdscfnet import cli, doctor

doctor.look = functools.lru_cache(maxsize=None)(doctor.look)
codes, said = [], []
for more in ([], ["--json"]):
    with contextlib.redirect_stdout(io.StringIO()) as output:
        codes.append(cli.main(sys.argv[1:] + more))
    said.append(output.getvalue())
print(codes, *said, sep=%r)
"""
    % BETWEEN
)


@pytest.fixture
def planted(tmp_path):
    """Runs `kdscfnet doctor` with stub packages, as broken as wanted; returns (exit code, names of faults, text)."""
    stubs = tmp_path / "stubs"
    stubs.mkdir()

    def module(name, code="__version__ = '0'"):
        (stubs / (name + ".py")).write_text(code)

    def package(name, version):
        folder = stubs / ("%s-%s.dist-info" % (name.replace("-", "_"), version))
        folder.mkdir()
        (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: %s\nVersion: %s\n" % (name, version))

    module(
        "paddle",
        "__version__ = '9'\ndef is_compiled_with_cuda(): return False\ndef set_device(name): pass\n"
        "def ones(shape): return 0\nclass nn:\n    class functional:\n        class relu:\n"
        "            def __init__(self, x): pass\n            def sum(self): return 4\n",
    )
    for name in ("paddleseg", "visualdl", "onnxruntime", "paddle2onnx", "onnx"):
        module(name)
    (stubs / "paddleseg.py").unlink()
    (stubs / "paddleseg/models/backbones").mkdir(parents=True)
    for path in ("", "models", "models/backbones"):
        (stubs / "paddleseg" / path / "__init__.py").write_text("mobilenetv3 = swin_transformer = None\n")
    module("visualdl", "__version__ = '0'\nLogWriter = None\n")
    module("onnxruntime", "__version__ = '0'\ndef get_available_providers(): return []\n")

    def run(weights=str(tmp_path)):
        words = ["doctor", "--data", str(tmp_path), "--weights", weights]
        environment = dict(os.environ, PYTHONPATH=os.pathsep.join([str(stubs), str(ROOT)]))
        done = subprocess.run(
            [sys.executable, "-c", TWICE, *words], cwd=str(tmp_path), env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0 and done.stderr == "", done.stderr
        codes, text, parsed = done.stdout.split(BETWEEN)
        result, codes = json.loads(parsed), json.loads(codes)
        assert codes == [int(not result["ok"])] * 2
        for finding in result["findings"]:
            assert finding["name"] in text and finding["mend"] in text
        return codes[0], [one["name"] for one in result["findings"] if one["fault"]], text

    run.module, run.package, run.stubs = module, package, stubs
    return run


def test_command_on_a_clean_machine(planted):
    code, names, text = planted()
    assert (code, names) == (0, []), text


def test_command_on_a_machine_with_everything_wrong(planted):
    planted.package("numpy", "2.1.0")
    planted.package("opencv-python", "4.5.5.64")
    planted.package("opencv-python-headless", "4.12.0.88")
    planted.package("paddlepaddle", "3.3.1")
    planted.package("paddlepaddle-gpu", "3.2.0")
    planted.module("cv2", "raise %s('%s')" % tuple(LIBGL.split(": ", 1)))
    planted.module("visualdl", "import os; os.kill(os.getpid(), 11)")
    code, names, text = planted(str(planted.stubs / "cv2.py"))
    assert code == 1
    assert names == [
        "two OpenCV packages",
        "numpy 2 with an old OpenCV",
        "CPU Paddle over GPU Paddle",
        "no libGL",
        "visualdl does not import",
        "weights folder",
    ]
    assert "killed by signal 11" in text
    assert "6 problems found" in text
