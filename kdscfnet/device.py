"""Paddle and its devices: importing it, choosing a device aloud, and asking for a GPU without importing it."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import signal
import sys
import warnings
from pathlib import Path

from kdscfnet.errors import UserError
from kdscfnet.threads import available_cores


def import_paddle(threads=None):
    """Import Paddle, without its remarks, so that it uses `threads` threads on a CPU (default: all cores).

    It uses one unless FLAGS_paddle_num_threads says otherwise when it is imported, and OMP_NUM_THREADS when it computes
    for the first time; if the latter is set at import, it prints a warning. A user's own settings are kept, and
    nothing changes where Paddle has been imported before.

    Paddle's own handler of SIGTERM is taken away again: it prints a stack, for which it waits for ever where the signal
    came while a library was being loaded (seen), so that a training could not be stopped in its first seconds.
    """
    if "paddle" in sys.modules:
        return sys.modules["paddle"]
    chosen = os.environ.get("OMP_NUM_THREADS")
    os.environ.setdefault("FLAGS_paddle_num_threads", str(threads or chosen or available_cores()))
    on_terminate = signal.getsignal(signal.SIGTERM)
    with warnings.catch_warnings():
        # since 3.0 it looks for a compiler cache that nothing here needs
        warnings.filterwarnings("ignore", message="No ccache found")
        import paddle
    with contextlib.suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGTERM, on_terminate or signal.SIG_DFL)
    if chosen is None:
        os.environ["OMP_NUM_THREADS"] = os.environ["FLAGS_paddle_num_threads"]
    return paddle


def select_device(name="auto"):
    """Make `name` Paddle's device: "auto" (a GPU where there is one), "cpu", "gpu", or "gpu:1".

    Returns one line that says what it is. Raises UserError where the device does not exist.
    """
    paddle = import_paddle()
    for_gpus = paddle.device.is_compiled_with_cuda()
    count = paddle.device.cuda.device_count() if for_gpus else 0
    if not re.fullmatch(r"auto|cpu|gpu(:\d+)?", name):
        raise UserError("--device %s: auto, cpu, gpu or gpu:N" % name)
    if name == "cpu" or (name == "auto" and not count):
        paddle.set_device("cpu")
        threads = os.environ.get("FLAGS_paddle_num_threads", "1")
        return "device: cpu, %s thread%s (Paddle %s)" % (threads, "" if threads == "1" else "s", paddle.__version__)
    selected = os.environ.get("FLAGS_selected_gpus", "0").split(",")[0]
    number = int(name[4:] or selected or 0)
    if not for_gpus:
        text = "--device %s: this Paddle %s is built for CPUs: install paddlepaddle-gpu, or use --device cpu"
        raise UserError(text % (name, paddle.__version__))
    if number >= count:
        there = "are only %d GPUs" % count if count else "is no GPU"
        raise UserError("--device %s: there %s here: use --device cpu (kdscfnet doctor says more)" % (name, there))
    paddle.set_device("gpu:%d" % number)
    return "device: gpu:%d, %s (Paddle %s)" % (number, paddle.device.cuda.get_device_name(number), paddle.__version__)


def paddle_has_gpu():
    """Whether a Paddle built for GPUs is installed and there is a GPU, found out without importing Paddle."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
        return False
    if "paddle" not in sys.modules:
        if paddle_version("cuda_version") in ("", "False", "None"):
            return False
        windows = os.path.join(os.environ.get("SystemRoot", "C:\\Windows"), "System32", "nvcuda.dll")
        if not any(map(os.path.exists, ("/dev/nvidia0", "/proc/driver/nvidia/version", "/dev/dxg", windows))):
            return False
    paddle = import_paddle()
    return bool(paddle.device.is_compiled_with_cuda()) and paddle.device.get_device().startswith("gpu")


def paddle_version(name):
    """An entry of Paddle's version file (`full_version`, `cuda_version`), without importing Paddle; or ""."""
    spec = importlib.util.find_spec("paddle")
    if spec is None or not spec.origin:
        return ""
    folder = Path(spec.origin).parent
    files = [path for path in (folder / "version.py", folder / "version" / "__init__.py") if path.is_file()]
    text = "".join(path.read_text(encoding="utf-8") for path in files)
    found = re.search(r"^%s\s*=\s*['\"](.*?)['\"]" % name, text, re.M)
    return found.group(1) if found else ""
