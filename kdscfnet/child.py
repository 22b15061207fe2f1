"""Running a function in a Python process of its own.

For work whose libraries may end the process (exporters in C++ do), print where results go, or keep memory that the
caller must not pay for.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile

from kdscfnet import errors


class Crashed(Exception):
    """The process ended without a result; the message is the last thing it said."""


def in_child(function, environment=None, seconds=None, **arguments):
    """Call `function` ("package.module:name") with keyword arguments of plain JSON types, in a new process.

    Returns its result, which must be JSON too. Raises what it raised where that is a UserError or a MachineError, with
    its class where that is known, and Crashed where the process ended without a result, or gave none in `seconds`.
    """
    settings = dict(os.environ, **(environment or {}))
    # a clone that is not installed is on the caller's path, not on the new interpreter's
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    settings["PYTHONPATH"] = os.pathsep.join(filter(None, [root, settings.get("PYTHONPATH")]))
    with tempfile.TemporaryDirectory(prefix="kdscfnet-") as folder:
        answer = os.path.join(folder, "answer.json")
        try:
            done = subprocess.run(
                [sys.executable, "-m", "kdscfnet.child", answer],
                env=settings,
                input=json.dumps([function, arguments]).encode(),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=seconds,
            )
        except subprocess.TimeoutExpired:
            raise Crashed("no answer in %d seconds" % seconds)
        if done.returncode or not os.path.exists(answer):
            lines = [line.strip() for line in done.stdout.decode(errors="replace").splitlines() if line.strip()]
            errors_said = [line for line in lines if "Error" in line or "ERROR" in line]
            ended = "exit code %d without an answer" % done.returncode
            if done.returncode < 0:
                ended = "the process was killed by signal %d" % -done.returncode
            raise Crashed((errors_said or lines or [ended])[-1][:300])
        with open(answer, encoding="utf-8") as file:
            answer = json.load(file)
    if "error" in answer:
        module, name, arguments = answer["error"]
        raise getattr(sys.modules.get(module), name, errors.UserError)(*arguments)
    return answer["value"]


def main(path):
    name, arguments = json.load(sys.stdin)
    module, name = name.split(":")
    try:
        answer = {"value": getattr(importlib.import_module(module), name)(**arguments)}
    except (errors.UserError, errors.MachineError) as error:
        answer = {"error": [type(error).__module__, type(error).__name__, error.__reduce__()[1]]}
    with open(path, "w", encoding="utf-8") as file:
        json.dump(answer, file)


if __name__ == "__main__":
    main(sys.argv[1])
