"""What KD-SCFNet needs of this Python (requirements/*.txt), and what of it is there.

Imports the standard library only.
A package counts as there when its module is found, whatever its version and whoever packaged it: opencv-contrib-python
is an OpenCV, paddlepaddle-gpu is a Paddle.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys

# where the module has another name than the package
MODULES = {
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


def folder():
    """Where the requirement files are: inside an installed package, at the top of a clone."""
    package = os.path.dirname(os.path.abspath(__file__))
    carried = os.path.join(package, "_requirements")
    return carried if os.path.isdir(carried) else os.path.join(os.path.dirname(package), "requirements")


def read(name):
    """The requirements of a file (base, cpu, gpu, onnx, test, dev) that apply to this Python: package → requirement."""
    found = {}
    with open(os.path.join(folder(), name + ".txt"), encoding="utf-8") as file:
        for line in file:
            requirement, _, marker = line.split("#")[0].strip().partition(";")
            if requirement and (not marker or holds(marker)):
                found[re.match(r"[\w.-]+", requirement).group().lower()] = requirement.strip()
    return found


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
