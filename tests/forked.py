"""Programs of tests that begin with Paddle imported: the standard library's fork server has it, and forks.

A start of Paddle takes more than a second of a core. Programs whose start is what is tested have processes of their own
(subprocess), and so has one launch by paddle.distributed.launch in every module that is about several processes.
"""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import os
import runpy
import signal
import socket
import subprocess
import sys
from multiprocessing import forkserver
from pathlib import Path

_TESTS = Path(__file__).resolve().parent
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["forked_server"])


class Forked:
    """A program in a process and a session of its own, as subprocess.Popen has it.

    Args:
        words: ["-m", module, …] or [file, …], as python takes them.
        log: the file that standard output and error are added to.
        environment, folder: what the program finds; ours by default.
        namespace: of the network (see two_machines.py).
    """

    def __init__(self, words, log, environment=None, folder=None, namespace=None):
        _start_server()
        settings = dict(os.environ if environment is None else environment)
        rest = [str(word) for word in words], str(log), settings, str(folder or os.getcwd()), namespace
        self._process = _context.Process(target=_become, args=rest)
        self._process.start()
        self.pid = self._process.pid

    @property
    def returncode(self):
        return self._process.exitcode

    def poll(self):
        return self._process.exitcode

    def wait(self, timeout=None):
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("pid %d" % self.pid, timeout)
        return self.returncode

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)

    def terminate(self):
        self.send_signal(signal.SIGTERM)


def _start_server():
    """In the folder and with the path of the tests, whatever test comes first."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(_TESTS), str(_TESTS.parent)] + ([before] if before else []))
    try:
        forkserver.ensure_running()
    finally:
        del os.environ["PYTHONPATH"]
        if before is not None:
            os.environ["PYTHONPATH"] = before


def _become(words, log, settings, folder, namespace):
    """The process that was forked becomes the program."""
    atexit._clear()
    os.setsid()
    multiprocessing.set_start_method("fork", force=True)  # of its own children, as in a process of its own
    # what a shell starts in the background is deaf to Ctrl-C, and hands that on
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if namespace is not None:
        from two_machines import enter

        enter(namespace)
    with open(os.devnull, "rb") as nothing, open(log, "ab") as file:
        os.dup2(nothing.fileno(), 0)
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ.clear()
    os.environ.update(settings)
    os.chdir(folder)
    try:
        if words[0] == "-m":
            sys.argv = words[1:]
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = words
            runpy.run_path(words[0], run_name="__main__")
    finally:
        atexit._run_exitfuncs()  # multiprocessing does it from Python 3.13 on; the loader's workers wait for it


def of_ranks(addresses):
    """What paddle.distributed.launch tells the processes that it starts, one on each address: their environments."""
    endpoints = []
    with contextlib.ExitStack() as stack:
        for address in addresses:
            free = stack.enter_context(socket.socket())
            free.bind(("", 0))
            endpoints.append("%s:%d" % (address, free.getsockname()[1]))
    count = len(endpoints)
    common = {"PADDLE_TRAINERS_NUM": str(count), "PADDLE_TRAINER_ENDPOINTS": ",".join(endpoints)}
    return [
        dict(common, PADDLE_TRAINER_ID=str(rank), PADDLE_CURRENT_ENDPOINT=endpoint, PADDLE_DISTRI_BACKEND="gloo")
        for rank, endpoint in enumerate(endpoints)
    ]


def start_ranks(words, folder, environment, count=2):
    """`count` processes of one program, as paddle.distributed.launch starts them on one machine.

    Returns (Forked processes, their logs in folder/logs).
    """
    (folder / "logs").mkdir(exist_ok=True)
    logs = [folder / "logs" / ("workerlog.%d" % rank) for rank in range(count)]
    for log in logs:
        log.write_text("")
    settings = [dict(environment, **more) for more in of_ranks(["127.0.0.1"] * count)]
    return [Forked(words, log, own, folder) for log, own in zip(logs, settings)], logs
