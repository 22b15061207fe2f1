"""What is installed and imported: the wheel carries everything, the requirements name everything, nothing is eager."""

from __future__ import annotations

import ast
import importlib.machinery
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from kdscfnet import dependencies
from kdscfnet.weights.release import release

ROOT = Path(__file__).resolve().parent.parent
# the weights, what they are, and their exported network with its sidecar
BUNDLED = [
    Path(release().bundled.file).with_suffix(suffix).name for suffix in (".pdparams", ".md", ".onnx", ".onnx.json")
]
BUNDLED += [start.file for start in release().starts]
PYTHONS = [(3, minor) for minor in range(7, 14)]


# import


@pytest.mark.parametrize(
    "code",
    [
        "import kdscfnet; kdscfnet.__version__; dir(kdscfnet)",
        "import kdscfnet.cli; kdscfnet.cli.main(['help'])",
        "import kdscfnet.cli; assert kdscfnet.cli.main(['nonsense']) == 2",
    ],
)
def test_import_is_light_and_silent(code):
    script = code + "\nimport sys; sys.stderr.write(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], cwd=str(ROOT), capture_output=True, text=True, check=True)
    if "cli" not in code:
        assert done.stdout == ""
        assert "\n" not in done.stderr  # no warning before the names of the modules
    loaded = {name.split(".")[0] for name in done.stderr.split()}
    assert "kdscfnet" in loaded
    heavy = "paddle paddleseg cv2 numpy scipy matplotlib PIL onnxruntime yaml visualdl requests".split()
    assert not loaded & set(heavy)


def test_import_writes_nothing_and_starts_nothing():
    code = (
        "import sys, os\n"
        "def watch(event, args):\n"
        "    written = event == 'open' and isinstance(args[1], str) and set(args[1]) & set('wax+')\n"
        "    if written or event.startswith(('subprocess', 'os.system', 'os.fork', 'socket')):\n"
        "        print(event, args)\n"
        "sys.dont_write_bytecode = True\n"
        "if hasattr(sys, 'addaudithook'): sys.addaudithook(watch)\n"
        "import kdscfnet\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=str(ROOT),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    )
    assert done.stdout == ""


def test_lazy_names_are_refused_by_name():
    import kdscfnet

    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = kdscfnet.nonsense


# requirements


def test_the_source_distribution_builds(tmp_path):
    """What an sdist carries is all that a build takes: the bundled student, the release as data, the requirements."""
    clone = tmp_path / "clone"
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=str(ROOT), capture_output=True)
    if tracked.returncode:
        pytest.skip("needs a git clone")
    for name in tracked.stdout.decode().split("\0")[:-1]:
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(str(ROOT / name), str(clone / name))

    def setup(folder, *words):
        subprocess.run([sys.executable, "setup.py", "-q"] + list(words), cwd=str(folder), check=True)

    setup(clone, "sdist", "--formats", "gztar")
    with tarfile.open(str(next((clone / "dist").glob("*.tar.gz")))) as archive:
        archive.extractall(str(tmp_path / "unpacked"))
    source = next((tmp_path / "unpacked").iterdir())
    setup(source, "build", "--build-lib", str(tmp_path / "built"))
    built = tmp_path / "built" / "kdscfnet"
    for name in ("manifest.yaml", *BUNDLED):
        assert (built / "weights" / name).read_bytes() == (ROOT / "weights" / name).read_bytes()
    for name in ("forward.npz", "train.json", "gradients.json", "sensitivities.json", "golden_inputs.py"):
        assert (built / "selfcheck" / "golden" / name).read_bytes() == (ROOT / "tests" / "golden" / name).read_bytes()
    assert (built / "_requirements" / "base.txt").is_file() and (built / "cli.py").is_file()


@pytest.mark.parametrize("python", PYTHONS, ids=str)
def test_what_each_file_of_requirements_brings(monkeypatch, python):
    monkeypatch.setattr(sys, "version_info", python)
    base = dependencies.read("base")
    # what predicts needs nothing of what trains
    assert not set(base) & {"paddlepaddle", "paddlepaddle-gpu", "visualdl", *dependencies.ALONE}
    assert "onnxruntime" in base and "opencv-python-headless" not in base
    # no upper bound on what the user's environment has in versions of its own
    together = dependencies.read("base", "evaluate", "train", "cpu", "onnx")
    for package in ("numpy", "opencv-python", "scipy", "matplotlib", "pillow", "onnx", "onnxruntime"):
        assert "<" not in together[package] and "=" not in together[package].replace(">=", "")
    # exactly one Paddle, one safetensors for every Python
    assert len(dependencies.read("cpu")) == 1 and "paddlepaddle" in next(iter(dependencies.read("cpu")))
    assert dependencies.read("gpu")["numpy"] == "numpy<2"  # the index's GPU builds are of Paddle 2
    assert "safetensors" in base
    assert "paddleseg==2.8.0" in dependencies.read("train").values()
    # no build of the exporter for the newest Python
    assert ("paddle2onnx" in dependencies.read("onnx")) == (python < (3, 13))


def test_what_would_bring_another_opencv_comes_alone():
    """The files whose packages are installed without their requirements hold these packages, and no other file does."""
    folder = ROOT / "requirements"
    held = {
        path.stem: {dependencies.package_of(line) for line in path.read_text().splitlines() if line[:1].isalpha()}
        for path in folder.glob("*.txt")
    }
    alone = [held[stem] for stem in held if stem.endswith("-no-deps")]
    assert set().union(*alone) == set(dependencies.ALONE) and len(alone) == 2
    assert not set().union(*(held[stem] for stem in held if not stem.endswith("-no-deps"))) & set(dependencies.ALONE)
    assert held["test-no-deps"] == {"pysodmetrics"}  # scores are compared with it, and never made by it
    command = dependencies.install("paddleseg==2.8.0", "six", "scipy>=1.5")
    assert command.endswith(
        'install "six" "scipy>=1.5" && %s install --no-deps "paddleseg==2.8.0"' % dependencies.pip()
    )


@pytest.mark.parametrize(
    "module, mend",
    [
        ("paddleseg.models", '--no-deps "paddleseg==2.8.0"'),
        ("paddle", '"paddlepaddle'),
        ("scipy", '"scipy>=1.5"'),
        ("matplotlib", '"matplotlib>=3.3"'),
        ("visualdl", '"visualdl>=2.2"'),
    ],
)
def test_what_is_missing_is_one_line_with_its_command(module, mend):
    """At the command line and at the first use of a public name: no traceback, no import error without advice."""
    name = module.split(".")[0]
    block = (
        "import sys, importlib.util\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] == %r: raise ModuleNotFoundError('No module named ' + name, name=name)\n"
        "sys.meta_path.insert(0, Missing())\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda one, *more: None if one == %r else find(one, *more)\n"
    ) % (name, name)
    verb = (
        "import kdscfnet.cli, kdscfnet.commands.doctor\n"
        "def run(args): import %s\n"
        "kdscfnet.commands.doctor.run = run\n"
        "sys.exit(kdscfnet.cli.main(['doctor']))\n"
    ) % module
    done = subprocess.run([sys.executable, "-c", block + verb], cwd=str(ROOT), capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("kdscfnet doctor: %s is not installed: " % name) and mend in done.stderr
    if name in ("paddle", "paddleseg"):
        code = block + "import kdscfnet\nkdscfnet.SCFNet"
        done = subprocess.run([sys.executable, "-c", code], cwd=str(ROOT), capture_output=True, text=True)
        last = done.stderr.splitlines()[-1]
        assert last.startswith("ModuleNotFoundError: %s is not installed: " % name) and mend in last


def test_markers_that_are_not_understood_are_an_error():
    with pytest.raises(ValueError):
        dependencies.holds('sys_platform == "win32"')


def imports_of(path):
    """Top-level names of the absolute imports anywhere in a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name.split(".")[0]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.split(".")[0]


@pytest.mark.parametrize(
    "folders, names",
    [
        (["kdscfnet"], ["base", "evaluate", "train", "cpu", "onnx"]),
        (["tests", "benchmarks", "scripts"], ["base", "evaluate", "train", "cpu", "onnx", "test"]),
    ],
    ids=["the package", "tests, benchmarks and scripts"],
)
def test_every_import_is_a_requirement(folders, names):
    """What is imported is the standard library, this project's, or named in these files of requirements/."""
    declared = set(map(dependencies.module_of, dependencies.read(*names))) | {"paddle2onnx"}  # not for each Python
    stdlib = getattr(sys, "stdlib_module_names", None)
    if stdlib is None:  # Python 3.9 and older: whatever is found beside os.py or built in
        library = os.path.dirname(os.__file__)
        library = [library, os.path.join(library, "lib-dynload")]

        def is_stdlib(name):
            # not by sys.modules, where other packages put their own pickle
            found = importlib.machinery.PathFinder.find_spec(name, library)
            return name in sys.builtin_module_names or (found is not None and found.origin is not None)
    else:

        def is_stdlib(name):
            return name in stdlib

    # tried first, done without: newer Pythons and setuptools lack the first two, HEIC is read where the third is there
    either_way = {"importlib_metadata", "pkg_resources", "pillow_heif"}
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    ours = {"kdscfnet"} | {path.stem for path in files if "tests" in path.parts or "benchmarks" in path.parts}
    undeclared = {
        "%s imports %s" % (path.relative_to(ROOT), name)
        for path in files
        for name in imports_of(path)
        if name not in declared | either_way | ours and not is_stdlib(name)
    }
    assert not undeclared


def test_sources_are_python_37():
    """No syntax that Python 3.7 lacks, in anything that runs there."""
    options = {"feature_version": (3, 7)} if sys.version_info >= (3, 8) else {}
    for folder in ("kdscfnet", "scripts", "tests", "benchmarks"):
        for path in (ROOT / folder).rglob("*.py"):
            ast.parse(path.read_text(encoding="utf-8"), str(path), **options)


# the build


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """What `pip install .` would install, and its metadata; without network, so without pip."""
    pytest.importorskip("setuptools", reason="setuptools is not installed here; pip brings its own")
    target = tmp_path_factory.mktemp("build")
    subprocess.run(
        [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", str(target), "build", "--build-base", str(target)],
        cwd=str(ROOT),
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    return target


def test_build_carries_every_file_of_the_package(built):
    (folder,) = built.glob("lib*/kdscfnet")
    files = {
        str(path.relative_to(ROOT / "kdscfnet"))
        for path in (ROOT / "kdscfnet").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert "cli.py" in files
    carried = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert not files - carried
    # and what stands elsewhere in a clone
    for name in ("manifest.yaml", *BUNDLED):
        assert (folder / "weights" / name).read_bytes() == (ROOT / "weights" / name).read_bytes()
    for path in (ROOT / "requirements").iterdir():
        assert (folder / "_requirements" / path.name).read_bytes() == path.read_bytes()


def test_metadata(built):
    import kdscfnet

    folder = built / "kdscfnet.egg-info"
    info = (folder / "PKG-INFO").read_text(encoding="utf-8")
    assert "\nVersion: %s\n" % kdscfnet.__version__ in info
    assert "\nRequires-Python: <3.14,>=3.7\n" in info or "\nRequires-Python: >=3.7,<3.14\n" in info
    assert "kdscfnet = kdscfnet.cli:main" in (folder / "entry_points.txt").read_text()
    base, *extras = (folder / "requires.txt").read_text().split("\n[")
    assert "onnxruntime" in base
    text = (folder / "requires.txt").read_text()
    assert "paddle" not in base and "paddleseg" not in text and "pysodmetrics" not in text
    names = {extra.split("]")[0].split(":")[0] for extra in extras}
    assert names - {""} == {"evaluate", "train", "cpu", "gpu", "onnx", "dev"}


def test_type_checkers_see_the_public_names():
    """The package says that it is typed, and names for type checkers what it imports on first use."""
    import kdscfnet

    assert (ROOT / "kdscfnet/py.typed").is_file()
    tree = ast.parse((ROOT / "kdscfnet/__init__.py").read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.asname: node.module for node in block.body for alias in node.names}
    expected = {name: module or "kdscfnet" for name, module in kdscfnet._PUBLIC.items()}
    assert seen == expected
