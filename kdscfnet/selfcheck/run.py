"""`kdscfnet selfcheck`: all checks in turn, a line each as it ends, and the report."""

from __future__ import annotations

import os
import platform
import time
import traceback
import warnings

from kdscfnet.errors import UserError
from kdscfnet.files import write_json, write_text
from kdscfnet.selfcheck.report import FAIL, Row, as_json, as_text, outcome
from kdscfnet.threads import processor


def selfcheck(device="auto", output="selfcheck", seconds=3.0):
    """Run every check on `device`; write `output`.json and `output`.txt. Returns 0, or 1 where a row failed."""
    import kdscfnet
    from kdscfnet.device import select_device

    if seconds < 0:
        raise UserError("--seconds %g: 0 or more" % seconds)
    folder = os.path.dirname(os.path.abspath(output))
    if not os.path.isdir(folder):
        raise UserError("-o %s: there is no folder %s" % (output, folder))
    line = select_device(device)
    # Paddle's remarks on what every training does
    warnings.filterwarnings("ignore", message="When training, we now always track global mean and variance")
    import numpy as np
    import paddle

    from kdscfnet.selfcheck import checks, devices, speed
    from kdscfnet.selfcheck.goldens import Goldens

    began = time.monotonic()
    goldens = Goldens()
    precision = checks.arithmetic()
    facts = {
        "kdscfnet": kdscfnet.__version__,
        "device": line,
        "arithmetic": precision,
        "Python": platform.python_version(),
        "Paddle": paddle.__version__,
        "CUDA, cuDNN": "%s, %s" % (paddle.version.cuda(), paddle.version.cudnn())
        if hasattr(paddle.version, "cuda")
        else "–",
        "numpy": np.__version__,
        "system": platform.platform(),
        "processor": processor(),
    }
    parts = [lambda: checks.numbers(goldens, precision)]
    if precision != "float32":
        parts.append(lambda: _without_tf32(checks, goldens))
    parts += [lambda: checks.mixed_precision(goldens), lambda: devices.machine(goldens)]
    if seconds:
        parts.append(lambda: speed.speed(goldens, seconds))
    rows = []
    for part in parts:
        try:
            for row in part():
                rows.append(row)
                print("%-8s  %s  %s%s" % (row.verdict, row.name, row.found, "  " + row.note if row.note else ""))
        except Exception as error:  # what a device cannot do is a finding, and the other checks go on
            traceback.print_exc()
            rows.append(Row("error", type(error).__name__, found=_last_line(error), verdict=FAIL))
    facts["seconds"] = "%.0f" % (time.monotonic() - began)
    write_json(output + ".json", as_json(facts, rows))
    write_text(output + ".txt", as_text(facts, rows))
    print("%s\nreport: %s.json, %s.txt" % (outcome(rows), output, output))
    return int(any(row.verdict == FAIL for row in rows))


def _without_tf32(checks, goldens):
    with checks.float32_alone():
        if checks.arithmetic() == "float32":
            yield from checks.numbers(goldens, "float32")


def _last_line(error):
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or ["no message"])[-1][:200]
