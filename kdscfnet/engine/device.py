"""Choosing the device, aloud: a run never falls back to the CPU in silence."""

from __future__ import annotations

import os

from kdscfnet.compat import import_paddle
from kdscfnet.errors import UserError


def select_device(name="auto"):
    """Make `name` Paddle's device: "auto" (a GPU where there is one), "cpu", "gpu", or "gpu:1".

    Returns one line that says what it is. Raises UserError where the device does not exist.
    """
    paddle = import_paddle()
    count = paddle.device.cuda.device_count() if paddle.device.is_compiled_with_cuda() else 0
    if name not in ("auto", "cpu", "gpu") and not (name.startswith("gpu:") and name[4:].isdigit()):
        raise UserError("--device %s: auto, cpu, gpu or gpu:N" % name)
    if name == "auto":
        name = "gpu" if count else "cpu"
    if name.startswith("gpu"):
        number = (
            int(name[4:] or 0) if ":" in name else int(os.environ.get("FLAGS_selected_gpus", "0").split(",")[0] or 0)
        )
        if not paddle.device.is_compiled_with_cuda():
            raise UserError(
                "--device %s: this Paddle %s is built for CPUs: install paddlepaddle-gpu, or use --device cpu"
                % (name, paddle.__version__)
            )
        if number >= count:
            raise UserError(
                "--device %s: there %s here: use --device cpu (kdscfnet doctor says more)"
                % (name, "are only %d GPUs" % count if count else "is no GPU")
            )
        paddle.set_device("gpu:%d" % number)
        return "device: gpu:%d, %s (Paddle %s)" % (
            number,
            paddle.device.cuda.get_device_name(number),
            paddle.__version__,
        )
    paddle.set_device("cpu")
    threads = os.environ.get("FLAGS_paddle_num_threads", "1")
    return "device: cpu, %s thread%s (Paddle %s)" % (threads, "" if threads == "1" else "s", paddle.__version__)
