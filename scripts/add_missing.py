"""Add what KD-SCFNet needs and this Python lacks, and leave everything that is there as it is.

usage: python scripts/add_missing.py requirements/cpu.txt|requirements/gpu.txt [FURTHER_FILE ...]

For environments that are not ours: an active virtual environment, or AI Studio, where Paddle is installed already. A
package counts as there when its module is found, whatever its version and whoever packaged it (opencv-contrib-python
is an OpenCV, paddlepaddle-gpu is a Paddle). pip gets every installed version as a constraint, so that it can add but
not replace. When nothing lacks, pip is not started.
"""

import importlib.util
import os
import re
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MODULES = {  # where the module has another name than the package
    "opencv-python": "cv2",
    "paddlepaddle": "paddle",
    "paddlepaddle-gpu": "paddle",
    "pillow": "PIL",
    "pyyaml": "yaml",
    "pysodmetrics": "py_sod_metrics",
    "pytest-xdist": "xdist",
    "pre-commit": "pre_commit",
    "scikit-learn": "sklearn",
}
# Their limits on OpenCV and numpy would have pip refuse what is there, so they are added without their requirements;
# those that are not in base.txt anyway:
WITHOUT_REQUIREMENTS = ("paddleseg", "pysodmetrics")
OF_PADDLESEG = ("prettytable", "scikit-learn")


def holds(marker):
    """Whether an environment marker of our files holds: python_version against one version, nothing else is used."""
    match = re.match(r'\s*python_version\s*(<|>=)\s*"(\d+)\.(\d+)"\s*$', marker)
    if not match:
        raise ValueError("marker not understood: %s" % marker)
    version = (int(match.group(2)), int(match.group(3)))
    return sys.version_info[:2] < version if match.group(1) == "<" else sys.version_info[:2] >= version


def read(name):
    """The requirements of a file that apply to this Python, as (package, requirement)."""
    found = []
    with open(os.path.join(ROOT, name), encoding="utf-8") as file:
        for line in file:
            line = line.split("#")[0].strip()
            if line.startswith("-r"):
                found += read(os.path.join(os.path.dirname(name), line[2:].strip()))
            elif line:
                requirement, _, marker = line.partition(";")
                if not marker or holds(marker):
                    found.append((re.match(r"[\w.-]+", requirement).group().lower(), requirement.strip()))
    return found


def is_there(package):
    spec = importlib.util.find_spec(MODULES.get(package, package.replace("-", "_")))
    return spec is not None and spec.origin is not None  # a mere folder of that name has no origin


def lacking(requirements):
    return [(package, requirement) for package, requirement in requirements if not is_there(package)]


def installed():
    """Every installed package as name==version, a line each."""
    command = [sys.executable, "-m", "pip", "list", "--disable-pip-version-check", "--format=freeze"]
    return subprocess.check_output(command, stdin=subprocess.DEVNULL)


def add(requirements, *options):
    if not requirements:
        return True
    print("adding %s to %s" % (", ".join(requirements), sys.prefix), flush=True)
    command = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", *options, *requirements]
    return subprocess.call(command, stdin=subprocess.DEVNULL) == 0


def main(further):
    needed = read("requirements/base.txt")
    for name in further:
        needed += read(name)
    missing = lacking(needed)
    optional = lacking(read("requirements/onnx.txt"))
    if not missing and not optional:
        return 0
    if importlib.util.find_spec("pip") is None:
        if not missing:
            return 0
        names = " ".join("'%s'" % requirement for _, requirement in missing)
        print("%s has no pip; install these into it another way: %s" % (sys.executable, names))
        return 2

    plain = [requirement for package, requirement in missing if package not in WITHOUT_REQUIREMENTS]
    bare = [requirement for package, requirement in missing if package in WITHOUT_REQUIREMENTS]
    if any(package == "paddleseg" for package, _ in missing):
        plain += [package for package in OF_PADDLESEG if not is_there(package)]
    handle, constraints = tempfile.mkstemp(suffix=".txt", prefix="kdscfnet-constraints-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(installed())
        if not (add(plain, "-c", constraints) and add(bare, "--no-deps")):
            print(
                "could not add what lacks without replacing what is installed in %s: use an environment of its own "
                "(deactivate this one, then run the same command again)" % sys.prefix
            )
            return 2
        if not add([requirement for _, requirement in optional], "-c", constraints):
            print("going on without ONNX Runtime: prediction on a CPU will be slower, `kdscfnet export` will not run")
    finally:
        os.unlink(constraints)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
