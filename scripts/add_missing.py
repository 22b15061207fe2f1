"""Add what KD-SCFNet needs and this Python lacks, and leave everything that is there as it is.

usage: python scripts/add_missing.py cpu|gpu [test] [dev]      (files in requirements/; what trains is always meant)

For environments that are not ours: an active virtual environment, or AI Studio, where Paddle is installed already. pip
gets every installed version as a constraint, so that it can add but not replace. When nothing lacks, it is not started.
scripts/setup.sh has put the clone on the path.
"""

import importlib.util
import os
import re
import subprocess
import sys
import tempfile

from kdscfnet.dependencies import ALONE, install, lacking, read


def pip(command, *arguments):
    return [sys.executable, "-m", "pip", command, "--disable-pip-version-check", *arguments]


def add(requirements, *options):
    if not requirements:
        return True
    print("adding %s to %s" % (", ".join(requirements), sys.prefix), flush=True)
    return subprocess.call(pip("install", "-q", *options, *requirements), stdin=subprocess.DEVNULL) == 0


def main(names):
    optional = {package: one for package, one in lacking(read("onnx")).items() if package not in read("base")}
    missing = lacking(read("base", "evaluate", "train", *names))
    if not missing and not optional:
        return 0
    if importlib.util.find_spec("pip") is None:
        if not missing:
            return 0
        print("%s has no pip; do this with a pip of another Python: %s" % (sys.executable, install(*missing.values())))
        return 2

    alone = [missing.pop(package) for package in ALONE if package in missing]
    handle, constraints = tempfile.mkstemp(suffix=".txt", prefix="kdscfnet-constraints-")
    try:
        there = subprocess.check_output(pip("list", "--format=freeze"), stdin=subprocess.DEVNULL).decode()
        if re.search(r"^paddlepaddle(-gpu)?==[12]\.", there, re.M):
            there += "paddle2onnx<2\n"  # 2 refuses to be imported with Paddle 2
        with os.fdopen(handle, "w") as file:
            file.write(there)
        if not (add(list(missing.values()), "-c", constraints) and add(alone, "--no-deps")):
            print(
                "could not add what lacks without replacing what is installed in %s: use an environment of its own "
                "(deactivate this one, then run the same command again)" % sys.prefix
            )
            return 2
        if not add(list(optional.values()), "-c", constraints):
            print("going on without %s: `kdscfnet export` will not run" % " and ".join(sorted(optional)))
    finally:
        os.unlink(constraints)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
