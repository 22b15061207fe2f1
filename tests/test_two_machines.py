"""Training on two machines: --nnodes 2 between two network namespaces, over a link that is slow, and is cut."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import golden_inputs
import numpy as np
import paddle
import pytest
from forked import Forked, of_ranks
from golden_models import golden_model, tensor
from kill_training import environment
from training import SMALL, losses_of, make_set
from two_machines import TwoMachines, why_not

from kdscfnet.losses import supervised_loss
from kdscfnet.training import checkpoint

PROGRAM = Path(__file__).with_name("parallel_program.py")
pytestmark = pytest.mark.skipif(
    paddle.__version__ < "2.4" or why_not() is not None,
    reason=why_not() or "this Paddle starts no CPU processes by --backend gloo",
)


@pytest.fixture
def machines():
    with TwoMachines() as two:
        yield two


class Launch:
    """The same program on both machines, each in a folder of its own; ends what it started.

    By paddle.distributed.launch, or (`launcher=False`) by forks that are told what it tells its processes.
    """

    def __init__(self, machines, folders, *words, launcher=False):
        self.folders, self.processes = folders, []
        for rank, (folder, more) in enumerate(zip(folders, of_ranks(machines.addresses))):
            folder.mkdir(exist_ok=True)
            for path in folder.glob("pid-*"):
                path.unlink()
            log = folder / "launch.log"
            log.write_text("")
            if launcher:
                self.processes.append(self._launch(machines, rank, folder, log, words))
            else:
                settings = dict(environment(), **more)
                self.processes.append(Forked([PROGRAM, *words], log, settings, folder, machines.names[rank]))

    def _launch(self, machines, rank, folder, log, words):
        command = [sys.executable, "-m", "paddle.distributed.launch", "--nnodes", "2", "--rank", str(rank)]
        command += ["--master", machines.addresses[0] + ":6790", "--nproc_per_node", "1"]
        command += ["--log_dir", str(folder / "logs"), str(PROGRAM)] + [str(word) for word in words]
        with open(str(log), "ab") as file:
            return subprocess.Popen(
                machines.on(rank, command),
                env=dict(environment(), PADDLE_DISTRI_BACKEND="gloo", POD_IP=machines.addresses[rank]),
                cwd=str(folder),
                stdout=file,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for rank in (0, 1):
            self.kill(rank)

    def kill(self, rank):
        """As if the machine lost its power: launcher and worker at once."""
        for path in self.folders[rank].glob("pid-*"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(path.name.split("-")[1]), signal.SIGKILL)
        self.processes[rank].kill()
        self.processes[rank].wait()

    def said(self, rank):
        logs = sorted((self.folders[rank] / "logs").glob("workerlog.*"))
        return "".join(p.read_text(errors="replace") for p in [self.folders[rank] / "launch.log"] + logs)

    def wait_until_said(self, rank, words):
        """The last words of a process that Paddle aborts come from another one, after its end."""
        end = time.monotonic() + 30
        while words not in self.said(rank):
            assert time.monotonic() < end, self.said(rank)[-3000:]
            time.sleep(0.05)

    def expect(self, code=0):
        # a machine whose other one has failed may wait for it: neither is waited for in vain
        assert [process.wait(timeout=400) for process in self.processes] == [code] * 2, (
            self.said(0)[-3000:] + self.said(1)[-3000:]
        )


def test_gradients_over_a_slow_link_are_those_of_one_process(machines, tmp_path):
    machines.delay, machines.rate = 0.01, 2.5e6
    with Launch(machines, [tmp_path / "a", tmp_path / "b"], "gradients", tmp_path, launcher=True) as launch:
        launch.expect()
    assert machines.carried > 3e6  # the student's gradients have gone over the link
    model = golden_model("M3_0.5")
    model.eval()
    supervised_loss(model(tensor(golden_inputs.image(1, 8, 64, 64))), tensor(golden_inputs.mask(2, 8, 64, 64)), 0)[
        0
    ].backward()
    ranks = [np.load(str(tmp_path / ("rank%d.npz" % rank))) for rank in (0, 1)]
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            assert (ranks[0][name] == ranks[1][name]).all(), name
            assert np.abs(ranks[0][name] - parameter.grad.numpy()).max() <= 1e-5, name


def newest_step(output):
    """The step of the newest checkpoint, by its name; 0 where there is none."""
    paths = checkpoint.list_checkpoints(str(output / "checkpoints"))
    return int(Path(paths[0]).stem.partition("_")[2]) if paths else 0


def wait_for_checkpoint(launch, output, step):
    """Until there is a checkpoint after that step."""
    while newest_step(output) <= step:
        assert launch.processes[0].poll() is None, launch.said(0)[-3000:]
        time.sleep(0.05)


@pytest.mark.parametrize("shared", [True, False], ids=["shared-folder", "own-folders"])
def test_a_machine_that_is_gone_ends_the_run_which_goes_on(machines, tmp_path, shared):
    """One run loses the link to a machine, then the machine itself, and ends whole."""
    machines.delay = 0.005  # steps that last, so that both meet a run that goes on
    data = make_set(tmp_path)
    words = ["train", "fs-m3", "--data", data, *SMALL, "--batch-size", "2", "--epochs", "10"]
    words += ["--checkpoint-steps", "1", "--resume", "auto", "--output", tmp_path / "run" if shared else "run"]
    folders = [tmp_path / "a", tmp_path / "b"]
    output = tmp_path / "run" if shared else folders[0] / "run"
    reached = 0
    for end in ("cut", "kill"):
        with Launch(machines, folders, *words) as launch:
            wait_for_checkpoint(launch, output, reached)
            if end == "kill":
                launch.kill(1)
            else:
                machines.cut = True
            assert launch.processes[0].wait() != 0
            launch.wait_until_said(0, "another process of this training, or the link to it, is gone")
            assert "what was saved is in" in launch.said(0)
            assert ("going on with" in launch.said(0)) == (reached > 0)
        machines.cut = False
        reached, before = newest_step(output), reached
        assert before < reached < 20
    with Launch(machines, folders, *words) as launch:
        launch.expect()
        assert "going on with" in launch.said(0)
    assert [int(row[0]) for row in losses_of(output)[1:]] == list(range(20))
    if not shared:
        assert not (folders[1] / "run").exists() or not list((folders[1] / "run").rglob("*.pdckpt"))


def test_machines_that_were_asked_for_two_trainings_are_refused(machines, tmp_path):
    words = ["train", "fs-m3", "--data", "DUTS-TR", *SMALL, "--batch-size", "2", "--output", "run"]
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder, count in zip(folders, (8, 9)):
        make_set(folder, count)
    with Launch(machines, folders, *words) as launch:
        for process in launch.processes:
            process.wait()
        said = launch.said(0) + launch.said(1)
    assert "process 2 and the first one were asked for two trainings" in said
    assert not (folders[0] / "run").exists()
