"""Kill a training at random moments, resume it each time, and compare it with one that was left alone.

    python tests/kill_training.py --kills 25 --workers 2 --signal KILL

Exits with 0 where final weights, momentum and logged losses are the same bits. The tests call it with few kills.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

from forked import Forked  # noqa: E402
from training import SMALL, assert_same_run, make_set  # noqa: E402


def command(data, output, workers, epochs):
    words = [w if w != "0" else str(workers) for w in SMALL]
    words[words.index("--epochs") + 1] = str(epochs)
    return [
        sys.executable,
        "-m",
        "kdscfnet",
        "train",
        "fs-m3",
        "--data",
        str(data),
        "--val",
        str(data),
        "--output",
        str(output),
        *words,
        "--resume",
        "auto",
        "--checkpoint-steps",
        "2",
    ]


def environment():
    root = str(Path(__file__).resolve().parent.parent)
    more = {
        "PYTHONPATH": root + os.pathsep + os.environ.get("PYTHONPATH", ""),
        "OMP_NUM_THREADS": "1",
        "FLAGS_paddle_num_threads": "1",
    }
    return dict(os.environ, **more)


def steps_done(output):
    try:
        return (Path(output) / "losses.csv").read_text().count("\n")
    except OSError:
        return 0


def kill_often(data, output, workers, kills, number, epochs, seed=0, say=print):
    """Start the training until it ends well; the first `kills` times it is killed. Returns the kills that hit it."""
    rng = random.Random(seed)
    hits = farthest = 0
    while True:
        log = Path("%s.log" % output)
        log.write_text("")
        process = Forked(command(data, output, workers, epochs)[1:], log, environment())
        if hits < kills:
            # at a random moment between its first step and a few steps later; now and then while it starts
            target, deadline = farthest + rng.randint(1, 5), time.time() + 120
            if rng.random() < 0.2:
                deadline = time.time() + rng.uniform(0, 5)
            while process.poll() is None and time.time() < deadline:
                if steps_done(output) > target:  # lines; the first is the header
                    break
                time.sleep(0.02)
            time.sleep(rng.uniform(0, 0.4))
            if process.poll() is None:
                hits += 1
                process.send_signal(number)
        code, out = process.wait(timeout=300), log.read_text(errors="replace")
        farthest = max(farthest, steps_done(output) - 1)
        if code == 0:
            return hits
        said = [line for line in out.replace("\r", "\n").splitlines() if "Go on with:" in line or "Traceback" in line]
        say("%d: exit code %s after %d rows of losses %s" % (hits, code, steps_done(output) - 1, said))
        if code not in (-number, 130, -signal.SIGTERM, -signal.SIGINT):
            raise AssertionError("exit code %s:\n%s" % (code, out[-3000:]))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--signal", choices=("KILL", "TERM", "INT"), default="KILL")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        data = make_set(folder)
        subprocess.run(
            command(data, folder / "alone", args.workers, args.epochs),
            env=environment(),
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        number = getattr(signal, "SIG" + args.signal)
        hits = kill_often(data, folder / "killed", args.workers, args.kills, number, args.epochs, args.seed)
        assert_same_run(folder / "alone", folder / "killed")
    print("killed %d times, %d workers, SIG%s: the same bits" % (hits, args.workers, args.signal))


if __name__ == "__main__":
    main()
