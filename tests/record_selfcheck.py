"""What rounding changes of the values that kdscfnet selfcheck compares: its tolerances, and the gradients it expects.

    python tests/record_selfcheck.py

Ten minutes of a CPU; kdscfnet.selfcheck.goldens says what is done and why.
"""

from __future__ import annotations

import functools
import json
import os
import sys

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

from kdscfnet.selfcheck import goldens


def record(draws=4):
    """Write gradients.json and sensitivities.json beside the other goldens.

    sensitivities.json, by arithmetic, what the draws change: {"forward": {network: the largest change}, "gradients":
    {parameter: root mean square}, "train_fs", "train_kd": {"losses": [largest a step], "after": {entry: root mean
    square}}}; training steps and networks get a quarter of the draws.
    """
    from kdscfnet.files import write_text

    made = goldens.Goldens()
    base = goldens.gradients(made)
    write_text(os.path.join(goldens.folder(), "gradients.json"), _lines(base))
    found = {arithmetic: {"forward": {}} for arithmetic in goldens.FACTORS}
    for arithmetic, changes in found.items():
        ways = [functools.partial(goldens.add_rounding, arithmetic=arithmetic, draw=draw) for draw in range(draws)]
        changes["gradients"] = _spread([goldens.gradients(made, prepare=way) for way in ways], base)
        print(arithmetic, "gradients", flush=True)
        for name in ("train_fs", "train_kd"):
            recorded = made.train[name]
            runs = [goldens.training(made, name, way) for way in ways[: draws // 4]]
            largest = np.abs(np.array([losses_ for losses_, _ in runs]) - recorded["losses"]).max(axis=(0, 2))
            # rounding never gets less on the way, though a draw's change may
            changes[name] = {
                "losses": np.maximum.accumulate(largest).tolist(),
                "after": _spread([after for _, after in runs], recorded["after"]),
            }
            print(arithmetic, name, changes[name]["losses"], flush=True)
        for kind, shape in goldens.FORWARDS:
            model = made.network(kind)
            runs = []
            for way in ways[: draws // 4]:
                remove = way(model)
                runs.append(goldens.forward(made, kind, shape, model=model))
                remove()
            changes["forward"]["%s|%dx%dx%d" % ((kind,) + shape)] = float(
                np.abs(np.array(runs) - goldens.recorded_forward(made, kind, shape)).max()
            )
        print(arithmetic, changes["forward"], flush=True)
    write_text(os.path.join(goldens.folder(), "sensitivities.json"), _lines(found))


def _spread(runs, base):
    """{key: root mean square} of what differs from `base`."""
    return {key: np.sqrt(np.mean([np.subtract(run[key], base[key]) ** 2 for run in runs])) for key in base}


def _lines(value):
    return json.dumps(_short(value), indent=1) + "\n"


def _short(value):
    if isinstance(value, dict):
        return {key: _short(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_short(item) for item in value]
    return float("%.9g" % value)


if __name__ == "__main__":
    from kdscfnet.device import select_device

    select_device("cpu")
    record()
