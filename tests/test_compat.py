"""kdscfnet.device and kdscfnet.models.backbones: Paddle and PaddleSeg as we import them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

needs_proc = pytest.mark.skipif(
    not os.path.exists("/proc/self/status"), reason="asks Linux's /proc what a process catches"
)

_CAUGHT = """
import os, signal, sys
sys.path.insert(0, %r)
from kdscfnet.device import import_paddle
import_paddle()
if os.path.exists("/proc/self/status"):
    caught = next(line for line in open("/proc/self/status") if line.startswith("SigCgt")).split()[1]
    print(int(caught, 16) >> (signal.SIGTERM - 1) & 1)
else:
    print("unknown")
"""


@pytest.fixture(scope="module")
def said():
    """What one process says of its signals and its modules: a start of Paddle takes a second."""
    code = (_CAUGHT % str(ROOT)) + (
        "import kdscfnet.models.backbones\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('sklearn', 'scipy')])\n"
        "from paddleseg.models.losses import maskformer_loss\n"
        "from paddleseg.transforms import functional\n"
        "from paddleseg.utils import metrics\n"
        "print(metrics.skmetrics.roc_auc_score([0, 1], [0.1, 0.9]))\n"
        "print(*maskformer_loss.linear_sum_assignment([[2, 1], [1, 2]])[1])\n"
        "print(functional.distance_transform_edt([1, 1, 0]).max())\n"
        "import scipy.ndimage, sklearn.metrics; print(sklearn.metrics.roc_auc_score([0, 1], [0.1, 0.9]))"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], stdout=subprocess.PIPE, check=True)
    return done.stdout.decode().split()


@needs_proc
def test_paddles_handler_of_sigterm_is_taken_away(said):
    assert said[0] == "0"


@needs_proc
def test_a_handler_of_the_callers_own_stays():
    code = "import signal\nsignal.signal(signal.SIGTERM, lambda *_: print('mine', flush=True))" + _CAUGHT % str(ROOT)
    code += "\nimport os\nos.kill(os.getpid(), signal.SIGTERM)"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True)
    assert done.stdout.split()[-2:] == [b"1", b"mine"]


def test_what_paddleseg_takes_functions_from_is_loaded_when_it_calls_them(said):
    """Not by the import of a backbone, which it made twice as long."""
    assert said[1:] == ["[]", "1.0", "1", "0", "2.0", "1.0"]
