"""What KD-SCFNet needs of this Python (requirements/*.txt), and what of it is there.

Imports the standard library only.
A package counts as there when its module is found, whatever its version and whoever packaged it: opencv-contrib-python
is an OpenCV, paddlepaddle-gpu is a Paddle.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import sys

# Their requirements name versions of OpenCV and numpy that they do not need: pip install --no-deps.
ALONE = ("paddleseg", "pysodmetrics")

# where the module has another name than the package
MODULES = {
    "opencv-python": "cv2",
    "paddlepaddle": "paddle",
    "paddlepaddle-gpu": "paddle",
    "pillow": "PIL",
    "pyyaml": "yaml",
    "pysodmetrics": "py_sod_metrics",
    "pytest-xdist": "xdist",
    "scikit-image": "skimage",
    "scikit-learn": "sklearn",
}


def folder():
    """Where the requirement files are: inside an installed package, at the top of a clone."""
    package = os.path.dirname(os.path.abspath(__file__))
    carried = os.path.join(package, "_requirements")
    return carried if os.path.isdir(carried) else os.path.join(os.path.dirname(package), "requirements")


def read(*names):
    """The requirements of files (base, train, cpu, gpu, onnx, …) that apply to this Python: package → requirement.

    NAME stands for NAME-no-deps.txt, too, where there is one."""
    found = {}
    paths = [os.path.join(folder(), name + suffix) for name in names for suffix in (".txt", "-no-deps.txt")]
    for path in filter(os.path.isfile, paths):
        with open(path, encoding="utf-8") as file:
            for line in file:
                requirement, _, marker = line.split("#")[0].strip().partition(";")
                if requirement and (not marker or holds(marker)):
                    found[package_of(requirement)] = requirement.strip()
    return found


def package_of(requirement):
    """The package that a requirement names: "numpy>=1.19" → "numpy"."""
    return re.match(r"[\w.-]+", requirement).group().lower()


def holds(marker):
    """Whether an environment marker of our files holds: `python_version` against one version; they use nothing else."""
    match = re.match(r'\s*python_version\s*(<|>=)\s*"(\d+)\.(\d+)"\s*$', marker)
    if not match:
        raise ValueError("marker not understood: %s" % marker)
    version = (int(match.group(2)), int(match.group(3)))
    return (sys.version_info[:2] < version) == (match.group(1) == "<")


def module_of(package):
    """The module of a package: opencv-python → cv2."""
    return MODULES.get(package, package.replace("-", "_"))


def is_there(package):
    """Whether the package's module can be found. It is not imported."""
    spec = importlib.util.find_spec(module_of(package))
    return spec is not None and spec.origin is not None  # a mere folder of that name has no origin


def lacking(requirements):
    """Those of the requirements (package → requirement) whose module is not found."""
    return {package: requirement for package, requirement in requirements.items() if not is_there(package)}


def pip():
    """How to call the pip of this Python: `python -m pip`, with the whole path where `python` is another one."""
    short = shutil.which("python") or ""
    same = os.path.dirname(short) == os.path.dirname(sys.executable) and os.path.samefile(short, sys.executable)
    return "%s -m pip" % ("python" if same else shlex.quote(sys.executable))


def install(*requirements):
    """The command that installs these; the packages of ALONE by one of their own, after the others."""
    alone = [requirement for requirement in requirements if package_of(requirement) in ALONE]
    together = [requirement for requirement in requirements if requirement not in alone]
    return " && ".join(
        "%s install %s" % (pip(), " ".join(options + ['"%s"' % one for one in group]))
        for options, group in (([], together), (["--no-deps"], alone))
        if group
    )


def explain(module):
    """What to say where `module` cannot be imported because it is not there: one line; "" for a module of nobody's
    requirements."""
    module = (module or "").split(".")[0]
    for names in (["base"], ["evaluate"], ["evaluate", "train", "cpu"], ["onnx"]):
        wanted = read(*names)
        if module in map(module_of, wanted):
            return "%s is not installed: %s" % (module, install(*lacking(wanted).values()))
    return ""
