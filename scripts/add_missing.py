"""Add what KD-SCFNet needs and this Python lacks, and leave everything that is there as it is.

usage: python scripts/add_missing.py cpu|gpu [test] [dev]      (names of files in requirements/; base is always meant)

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

from kdscfnet.dependencies import is_there, lacking, read

# Their limits on OpenCV and numpy would have pip refuse what is there, so they are added without their requirements;
# those that are not in base.txt anyway:
WITHOUT_REQUIREMENTS = ("paddleseg", "pysodmetrics")
OF_PADDLESEG = ("prettytable", "scikit-learn")


def pip(command, *arguments):
    return [sys.executable, "-m", "pip", command, "--disable-pip-version-check", *arguments]


def add(requirements, *options):
    if not requirements:
        return True
    print("adding %s to %s" % (", ".join(requirements), sys.prefix), flush=True)
    return subprocess.call(pip("install", "-q", *options, *requirements), stdin=subprocess.DEVNULL) == 0


def main(names):
    missing = {}
    for name in ["base", *names]:
        missing.update(lacking(read(name)))
    optional = lacking(read("onnx"))
    if importlib.util.find_spec("pip") is None:
        if not missing:
            return 0
        lines = " ".join("'%s'" % requirement for requirement in missing.values())
        print("%s has no pip; install these into it another way: %s" % (sys.executable, lines))
        return 2
    if not missing and not optional:
        return 0

    bare = [missing[package] for package in WITHOUT_REQUIREMENTS if package in missing]
    plain = [requirement for package, requirement in missing.items() if package not in WITHOUT_REQUIREMENTS]
    if "paddleseg" in missing:
        plain += [package for package in OF_PADDLESEG if not is_there(package)]
    handle, constraints = tempfile.mkstemp(suffix=".txt", prefix="kdscfnet-constraints-")
    try:
        there = subprocess.check_output(pip("list", "--format=freeze"), stdin=subprocess.DEVNULL).decode()
        if re.search(r"^paddlepaddle(-gpu)?==[12]\.", there, re.M):
            there += "paddle2onnx<2\n"  # 2 refuses to be imported with Paddle 2
        with os.fdopen(handle, "w") as file:
            file.write(there)
        if not (add(plain, "-c", constraints) and add(bare, "--no-deps")):
            print(
                "could not add what lacks without replacing what is installed in %s: use an environment of its own "
                "(deactivate this one, then run the same command again)" % sys.prefix
            )
            return 2
        if not add(list(optional.values()), "-c", constraints):
            print("going on without ONNX Runtime: prediction on a CPU will be slower, `kdscfnet export` will not run")
    finally:
        os.unlink(constraints)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
