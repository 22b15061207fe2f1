"""Data parallel by paddle.distributed.launch, gradient accumulation, mixed precision's scaler."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import golden_inputs
import numpy as np
import paddle
import pytest
from forked import start_ranks
from golden_models import golden_model, tensor
from kill_training import environment
from training import SMALL, assert_same_run, losses_of, make_set

from kdscfnet.data.batches import TrainingSamples
from kdscfnet.losses import supervised_loss
from kdscfnet.recipes import RECIPES
from kdscfnet.training import checkpoint, trainer
from kdscfnet.training.options import TrainOptions
from kdscfnet.training.parallel import synchronise_batch_norm
from kdscfnet.training.run import RunFolder
from kdscfnet.training.steps import SupervisedStep
from kdscfnet.weights.files import read_weights

PROGRAM = Path(__file__).with_name("parallel_program.py")
needs_gloo = pytest.mark.skipif(
    paddle.__version__ < "2.4", reason="this Paddle starts no CPU processes by --backend gloo"
)


class Two:
    """Two processes of parallel_program.py, as paddle.distributed.launch starts them; their logs are in folder/logs."""

    def __init__(self, folder, *words):
        self.processes, self.logs = start_ranks([PROGRAM, *words], folder, environment())

    def said(self):
        return "".join(log.read_text() for log in self.logs)

    def wait(self):
        try:
            codes = [process.wait(240) for process in self.processes]
        finally:
            self.kill()
        assert codes == [0, 0], self.said()[-3000:]

    def kill(self):
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait()


def kill_after_first_checkpoint(two, output):
    """Kill what trains in `output` amid its training."""
    deadline = time.time() + 240
    try:
        while not checkpoint.list_checkpoints(str(output / "checkpoints")):
            assert two.processes[0].poll() is None, two.said()[-3000:]
            assert time.time() < deadline, "no checkpoint in four minutes"
            time.sleep(0.02)
    finally:
        two.kill()
    assert not (output / "final.pdparams").exists(), "the run was complete before it was killed"


@needs_gloo
def test_two_processes_average_the_gradient_of_one(tmp_path):
    """By the launcher itself; what follows starts the two as it does."""
    words = ["--nproc_per_node", "2", "--backend", "gloo", "--log_dir", tmp_path / "logs"]
    command = [sys.executable, "-m", "paddle.distributed.launch", *words, PROGRAM, "gradients", tmp_path]
    with open(str(tmp_path / "launch.log"), "wb") as log:
        done = subprocess.run(
            [str(word) for word in command],
            env=environment(),
            cwd=str(tmp_path),
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            timeout=240,
        )
    assert done.returncode == 0, (tmp_path / "launch.log").read_text()[-3000:]
    model = golden_model("M3_0.5")
    model.eval()
    image, mask = tensor(golden_inputs.image(1, 8, 64, 64)), tensor(golden_inputs.mask(2, 8, 64, 64))
    supervised_loss(model(image), mask, 0)[0].backward()
    ranks = [np.load(str(tmp_path / ("rank%d.npz" % rank))) for rank in (0, 1)]
    compared = 0
    for name, parameter in model.named_parameters():
        if parameter.grad is None:
            continue
        compared += 1
        assert (ranks[0][name] == ranks[1][name]).all(), name
        assert np.abs(ranks[0][name] - parameter.grad.numpy()).max() <= 1e-5, name
    assert compared > 200


def assert_ranks_agree(output):
    one, two = (read_weights("%s-rank%d.pdparams" % (output, rank)) for rank in (0, 1))
    for key, value in one.items():
        if not key.endswith(("._mean", "._variance")):  # statistics are each process's own without SyncBatchNorm
            assert value.tobytes() == two[key].tobytes(), key


@needs_gloo
def test_two_processes_train_one_network_and_resume(tmp_path):
    data = make_set(tmp_path)
    words = [
        "train",
        "fs-m3",
        "--data",
        data,
        *SMALL,
        "--batch-size",
        "2",
        "--epochs",
        "8",
        "--checkpoint-steps",
        "1",
        "--resume",
        "auto",
    ]
    Two(tmp_path, *words, "--output", "whole").wait()
    assert_ranks_agree(tmp_path / "whole")
    assert len(losses_of(tmp_path / "whole")) == 1 + 16 and len(list((tmp_path / "whole" / "board").iterdir())) == 1
    assert len((tmp_path / "whole" / "log.txt").read_text().splitlines()) == 8

    kill_after_first_checkpoint(Two(tmp_path, *words, "--output", "killed"), tmp_path / "killed")
    two = Two(tmp_path, *words, "--output", "killed")
    two.wait()
    assert "going on with killed after step" in two.logs[0].read_text()
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


@needs_gloo
def test_two_processes_carry_out_one_demo_and_resume(tmp_path):
    words = ["demo", "kd-r50", "--output", "pdemo", "--sizes", "32", "--test-size", "32", "--batch-size", "2"]
    words += ["--device", "cpu", "--teacher-engine", "paddle"]
    output = tmp_path / "pdemo"
    kill_after_first_checkpoint(Two(tmp_path, *words), output / "student")
    assert (output / "teacher" / "final.pdparams").exists()
    two = Two(tmp_path, *words, "--resume", "auto")
    two.wait()
    said = two.said()
    assert "the run in pdemo/teacher is complete" in said
    for part in ("teacher", "student", "labels"):
        assert_ranks_agree(output / part)
        assert len((output / part / "log.txt").read_text().splitlines()) == 8
        assert len(losses_of(output / part)) == 1 + 2 * 8
    assert len((output / "table.md").read_text().splitlines()) == 2 + 4 and (output / "grid.png").exists()
    assert said.count("| best constant map") == 1
    assert sorted(p.name for p in output.iterdir() if p.is_dir()) == ["data", "labels", "student", "teacher"]


@needs_gloo
@pytest.mark.parametrize("where", ["look", "make"])
def test_a_demo_that_fails_in_one_process_ends_in_all(tmp_path, where):
    Two(tmp_path, "failing", where).wait()
    said = [(tmp_path / ("rank%d" % rank)).read_text() for rank in (0, 1)]
    own, other = (said[1], said[0]) if where == "look" else said
    assert own == "2: kdscfnet train: it fails here"
    assert other == "2: kdscfnet train: another process of this training has failed; its log says why"


class Keep:
    """A model whose BatchNorm stays on running statistics in training."""

    def __init__(self, model):
        model.eval()
        model.train = lambda: None
        self.model = model


def train_once(data, output, accumulate=1, batch=8, steps=1, **more):
    from kdscfnet.data.find import find_image_set

    image_set = find_image_set(data)
    model = Keep(golden_model("M3_0.5")).model
    recipe = replace(RECIPES["fs-m3"], batch_size=batch, epochs=steps, warmup_epochs=1, sizes=(64,), max_lr=0.05)
    trainer.Trainer(
        model,
        SupervisedStep(),
        TrainingSamples(image_set.images, image_set.masks, 0),
        recipe,
        RunFolder(output),
        {"x": 1},
        TrainOptions(accumulate=accumulate),
        **more,
    ).run()
    return model


def test_accumulating_equals_the_large_batch(tmp_path):
    data = make_set(tmp_path)
    one = train_once(data, tmp_path / "one", steps=3)
    for accumulate, batch in ((2, 4), (4, 2)):
        other = train_once(data, tmp_path / ("turns%d" % accumulate), accumulate, batch, steps=3)
        for key, value in one.state_dict().items():
            assert np.abs(value.numpy() - other.state_dict()[key].numpy()).max() <= 1e-5, key
        theirs = np.array(losses_of(tmp_path / "one")[1:], float)
        ours = np.array(losses_of(tmp_path / ("turns%d" % accumulate))[1:], float)
        assert np.abs(theirs - ours).max() <= 1e-5


class Scaler:
    """Stands in for paddle.amp.GradScaler, which does nothing on a CPU: scales, skips overflows, remembers."""

    def __init__(self, overflows=()):
        self.factor, self.calls, self.overflows, self.skipped = 2.0**10, 0, set(overflows), 0

    def scale(self, loss):
        return loss * self.factor

    def step(self, optimizer):
        if self.calls in self.overflows:
            self.skipped += 1
            return
        for parameter in optimizer._parameter_list:
            if parameter.grad is not None:
                parameter.grad.set_value(parameter.grad / self.factor)
        optimizer.step()

    def update(self):
        if self.calls in self.overflows:
            self.factor /= 2
        self.calls += 1

    def state_dict(self):
        return {"scale": np.array([self.factor], np.float32), "calls": self.calls}

    def load_state_dict(self, state):
        self.factor, self.calls = float(np.asarray(state["scale"]).reshape(-1)[0]), int(state["calls"])


def test_the_scaler_scales_skips_and_resumes(tmp_path, monkeypatch):
    data = make_set(tmp_path)
    plain = train_once(data, tmp_path / "plain", batch=4, steps=2)
    scaled = train_once(data, tmp_path / "scaled", batch=4, steps=2, scaler=Scaler())
    for key, value in plain.state_dict().items():  # powers of two: the same bits
        assert value.numpy().tobytes() == scaled.state_dict()[key].numpy().tobytes(), key

    scaler = Scaler(overflows=(1, 2))
    whole = train_once(data, tmp_path / "skipping", batch=4, steps=3, scaler=scaler)
    assert (scaler.skipped, scaler.factor, scaler.calls) == (2, 2.0**8, 6)
    assert any((value.numpy() != plain.state_dict()[key].numpy()).any() for key, value in whole.state_dict().items())

    real = trainer.learning_rate
    monkeypatch.setattr(
        trainer,
        "learning_rate",
        lambda step, *rest: (os.kill(os.getpid(), signal.SIGTERM) if step == 2 else None, real(step, *rest))[1],
    )
    with pytest.raises(trainer.Interrupted):
        train_once(data, tmp_path / "stopped", batch=4, steps=3, scaler=Scaler(overflows=(1, 2)))
    monkeypatch.undo()
    state = checkpoint.newest_checkpoint(str(tmp_path / "stopped" / "checkpoints"))
    assert state["step"] == 3
    scaler = Scaler(overflows=(1, 2))
    train_once(data, tmp_path / "stopped", batch=4, steps=3, scaler=scaler, resume=state)
    assert (scaler.factor, scaler.calls) == (2.0**8, 6)
    assert_same_run(tmp_path / "skipping", tmp_path / "stopped")


def test_losses_are_summed_in_float32_whatever_the_network_returns():
    from kdscfnet.training.steps import DistillationStep

    outputs = [
        tensor(np.random.RandomState(i).standard_normal((2, 1, 16, 16))) for i in range(4)
    ]  # float64 for float16
    mask = tensor(golden_inputs.mask(2, 2, 16, 16))
    for step in (SupervisedStep(), DistillationStep(lambda images: outputs[0]), DistillationStep()):
        total, parts = step(lambda images: outputs, None, mask, 0)
        assert all(value.dtype == paddle.float32 for value in [total, *parts])


def test_paddles_scaler_state_survives_a_checkpoint(tmp_path):
    def plain(scaler):
        return {key: np.asarray(value).tolist() for key, value in scaler.state_dict().items()}

    scaler = paddle.amp.GradScaler(enable=True, init_loss_scaling=512.0)
    for name in ("scale", "step", "update", "state_dict", "load_state_dict"):
        assert callable(getattr(scaler, name))
    (tmp_path / "state").write_text(json.dumps(plain(scaler)))
    other = paddle.amp.GradScaler(enable=True, init_loss_scaling=2.0)
    other.load_state_dict(json.loads((tmp_path / "state").read_text()))
    assert plain(other) == plain(scaler)


def test_synchronised_batch_norm_keeps_names_parameters_and_regularizers():
    model = golden_model("M3_0.5")
    before = {k: v.numpy().copy() for k, v in model.state_dict().items()}
    owned = dict(model.named_parameters())
    synchronise_batch_norm(model)
    kinds = {type(layer).__name__ for layer in model.sublayers()}
    assert "SyncBatchNorm" in kinds and not kinds & {"BatchNorm", "BatchNorm2D"}
    assert list(model.state_dict()) == list(before)
    assert all((v.numpy() == before[k]).all() for k, v in model.state_dict().items())
    assert all(p is owned[k] for k, p in model.named_parameters())
    assert model.bkbone.conv.bn.weight.regularizer is not None
