"""selfcheck passes on what the authors' code computed, and fails where one thing of it is changed."""

from __future__ import annotations

import contextlib
import json
import os

import numpy as np
import paddle
import pytest

from kdscfnet import losses
from kdscfnet.data.workers import LoaderError
from kdscfnet.errors import BadImageError
from kdscfnet.selfcheck import checks, devices, goldens, report, speed
from kdscfnet.selfcheck.report import FAIL, PASS, Row, compared


@pytest.fixture(scope="module")
def made():
    return goldens.Goldens()


@pytest.fixture
def student_alone(monkeypatch):
    monkeypatch.setattr(goldens, "FORWARDS", (("M3_0.5", (2, 224, 224)),))


def verdicts(rows):
    return {row.verdict for row in rows}


def test_the_device_computes_what_the_authors_code_computed(made):
    """test_models looks at the outputs, test_training_steps at the steps; both ask selfcheck too."""
    rows = list(checks.loss_functions(made, "float32")) + list(checks.gradients(made, "float32"))
    assert len(rows) == 4 + 1
    assert [row for row in rows if row.verdict != PASS] == []


@pytest.mark.parametrize("key,index", [("bkbone.conv.conv.weight", (0, 1, 0, 0)), ("linear2.bias", (0,))])
def test_one_changed_weight_fails(made, student_alone, monkeypatch, key, index):
    real = goldens.Goldens.network

    def changed(self, kind):
        model = real(self, kind)
        weight = model.state_dict()[key]
        value = weight.numpy().copy()
        value[index] *= 1.01
        weight.set_value(value)
        return model

    monkeypatch.setattr(goldens.Goldens, "network", changed)
    assert verdicts(checks.outputs(made, "float32")) == {FAIL}
    assert verdicts(checks.gradients(made, "float32")) == {FAIL}


def test_one_changed_loss_term_fails(made, monkeypatch):
    def without_one(prediction, target):
        axes = [1] if prediction.ndim == 2 else [2, 3]
        intersection = (prediction * target).sum(axis=axes)
        union = (prediction + target).sum(axis=axes)
        return (1 - 2 * intersection / (union + 1)).mean()  # the one in the numerator is missing

    monkeypatch.setattr(losses, "_dice", without_one)
    rows = list(checks.loss_functions(made, "float32"))
    assert FAIL in verdicts(rows)
    assert "FAIL" in report.as_text({}, rows) and not report.as_json({}, rows)["passed"]


def test_one_weight_of_the_sum_changed_fails(made, monkeypatch):
    monkeypatch.setattr(losses, "OUTPUT_WEIGHTS", (1.0, 0.5, 0.25, 0.12))
    assert verdicts(checks.gradients(made, "float32")) == {FAIL}


def test_one_wrong_reduction_fails(made, monkeypatch):
    real = losses._dice
    # a sum over the batch for its mean
    monkeypatch.setattr(losses, "_dice", lambda prediction, target: real(prediction, target) * prediction.shape[0])
    assert verdicts(checks.loss_functions(made, "float32")) == {FAIL}
    assert verdicts(checks.gradients(made, "float32")) == {FAIL}


@pytest.mark.parametrize("arithmetic", ["float32", "tf32"])
def test_tolerances_are_what_another_rounding_changes(made, student_alone, arithmetic):
    """A draw that was not recorded passes, and is no more than a hundred times nearer than it may be."""

    kind, shape = goldens.FORWARDS[0]
    model = made.network(kind)
    goldens.add_rounding(model, arithmetic, 77)
    tolerance = checks._tolerances(arithmetic, "forward", made)["%s|%dx%dx%d" % ((kind,) + shape)]
    found = goldens.forward(made, kind, shape, model=model)
    assert 0.01 < np.abs(found - goldens.recorded_forward(made, kind, shape)).max() / tolerance < 1
    found = goldens.gradients(made, prepare=lambda model: goldens.add_rounding(model, arithmetic, 77))
    assert checks._gradient_row(made, arithmetic, found).verdict == PASS
    if arithmetic == "tf32":
        assert checks._gradient_row(made, "float32", found).verdict == FAIL


def test_rows_that_are_no_numbers_or_of_another_shape_fail():
    assert compared("", "x", [1.0, 2.0], [1.0, np.nan], 1).verdict == FAIL
    assert compared("", "x", [1.0, 2.0], [1.0], 1).verdict == FAIL
    assert compared("", "x", [1.0, np.inf], [1.0, 2.0], 1).verdict == FAIL
    assert compared("", "x", 0.0, 0.0, 0.0).verdict == PASS
    worst = compared("", "x", [1.0, 2.0], [1.05, 2.2], [0.01, 1.0])
    assert (worst.expected, worst.found, worst.verdict) == ("1", "1.05", FAIL)


# Devices that are not here


class Scaler:
    """Stands in for paddle.amp.GradScaler, which does nothing on a CPU."""

    def __init__(self, scale, forgets_to_skip=False):
        self.factor, self.bad, self.forgets = scale, False, forgets_to_skip

    def scale(self, loss):
        return loss * self.factor

    def step(self, optimizer):
        gradients = [p.grad for p in optimizer._parameter_list if p.grad is not None]
        self.bad = not all(np.isfinite(g.numpy()).all() for g in gradients)
        if self.bad and not self.forgets:
            return
        for parameter in optimizer._parameter_list:
            if parameter.grad is not None:
                parameter.grad.set_value(parameter.grad / self.factor)
        optimizer.step()

    def update(self):
        self.factor /= 2 if self.bad else 1

    def state_dict(self):
        return {"scale": np.array([self.factor], np.float32)}


def test_the_scalers_steps_pass_and_one_that_takes_an_overflow_fails(made):
    rows = list(checks.scaler_steps(made, Scaler, contextlib.nullcontext))
    assert verdicts(rows) == {PASS} and len(rows) == 6
    rows = list(checks.scaler_steps(made, lambda scale: Scaler(scale, True), contextlib.nullcontext))
    assert FAIL in verdicts(rows)


def test_gradients_of_the_next_step_are_lost_where_they_were_not_cleared(made, monkeypatch):
    from kdscfnet import optim

    real = optim.build_optimizer

    def never_clears(*rest):
        optimizer = real(*rest)
        optimizer.clear_grad = lambda: None
        return optimizer

    monkeypatch.setattr(optim, "build_optimizer", never_clears)
    rows = {row.name: row.verdict for row in checks.scaler_steps(made, Scaler, contextlib.nullcontext)}
    assert rows["the next good step is taken"] == FAIL


def test_tf32_is_what_new_gpus_use_unless_told_otherwise(monkeypatch):
    class Core:
        on = True

        def get_cublas_switch(self):
            return self.on

        get_cudnn_switch = get_cublas_switch

    core = Core()
    monkeypatch.setattr(paddle.device, "get_device", lambda: "gpu:0")
    monkeypatch.setattr(checks, "_core", lambda: core)
    for capability, switch, expected in (((8, 0), True, "tf32"), ((7, 0), True, "float32"), ((9, 0), False, "float32")):
        monkeypatch.setattr(paddle.device.cuda, "get_device_capability", lambda value=capability: value, raising=False)
        core.on = switch
        assert checks.arithmetic() == expected


def test_conversion_and_the_forked_loader_pass(made):
    rows = list(devices.conversion(made)) + list(devices.forked_loader())
    assert verdicts(rows) == {PASS} and len(rows) == 5


@pytest.mark.parametrize("wrong,expected", [(0, {PASS}), (1, {FAIL})])
def test_pinned_memory_that_changes_a_batch_fails(made, wrong, expected):
    rows = devices.pinned_memory(made, lambda array: paddle.to_tensor(array + np.float32(wrong)))
    assert verdicts(rows) == expected


@pytest.mark.parametrize("touches", [False, True])
def test_forked_workers_leave_the_device_alone(monkeypatch, touches):
    """A fork cannot use CUDA that its parent has initialised; here the first call of Paddle in it fails."""
    from kdscfnet.data import batches

    parent, real, load = os.getpid(), paddle.to_tensor, batches.TrainingSamples.__getitem__

    def of_parent_alone(*words, **more):
        if os.getpid() != parent:
            raise BadImageError("0.png", "CUDA cannot be initialised in a forked process")
        return real(*words, **more)

    monkeypatch.setattr(paddle, "to_tensor", of_parent_alone)
    if touches:
        touch = lambda *words: (paddle.to_tensor([0]), load(*words))[1]  # noqa: E731
        monkeypatch.setattr(batches.TrainingSamples, "__getitem__", touch)
        with pytest.raises(LoaderError, match="forked process"):
            list(devices.forked_loader())
    else:
        assert verdicts(devices.forked_loader()) == {PASS}


def test_two_predictors_each_compute_on_their_own_device(monkeypatch):
    """Paddle has one device for a process: a network that did not set its own would compute on the last one's."""
    from kdscfnet import device
    from kdscfnet.inference.networks import PaddleNetwork
    from kdscfnet.weights.weightfile import bundled

    now, computed = ["cpu"], []
    monkeypatch.setattr(paddle.device, "get_device", lambda: now[0])
    monkeypatch.setattr(paddle, "set_device", lambda name: now.__setitem__(0, name))
    monkeypatch.setattr(device, "select_device", lambda name: now.__setitem__(0, name))
    networks = []
    for name in ("gpu:0", "gpu:1"):
        networks.append(PaddleNetwork(bundled().path, device=name))
        networks[-1].model = lambda images: (computed.append(now[0]), [images])[1]
    for network in networks + networks:
        network(np.zeros((1, 3, 8, 8), np.float32))
    assert computed == ["gpu:0", "gpu:1"] * 2 and now == ["gpu:1"]


@pytest.mark.parametrize("most,expected", [(0, 0), (7, 0), (8, 8), (100, 96), (128, 128), (135, 128), (9999, 4096)])
def test_the_largest_batch_is_found(most, expected):
    asked = []
    assert speed.largest_batch(lambda batch: (asked.append(batch), batch <= most)[1]) == expected
    assert len(asked) < 25


def test_memory_that_ran_out_is_told_from_other_errors():
    assert speed.out_of_memory(RuntimeError("ResourceExhaustedError: \n  Out of memory error on GPU 0."))
    assert not speed.out_of_memory(RuntimeError("InvalidArgumentError: shape"))
    with pytest.raises(ValueError):
        speed.fits(lambda batch: 1 / 0 if batch == 0 else (_ for _ in ()).throw(ValueError("x")), 1)


# The command


def test_the_report_and_the_exit_code(tmp_path, monkeypatch, capsys):
    from kdscfnet.cli import main
    from kdscfnet.selfcheck import run  # noqa: F401

    verdict = [PASS]
    rows = [lambda *_: iter([Row("a", "b", "1", "2", "3", verdict[0])])]
    monkeypatch.setattr(checks, "numbers", rows[0])
    monkeypatch.setattr(devices, "machine", lambda made: iter([]))
    name = tmp_path / "report"
    assert main(["selfcheck", "--device", "cpu", "-o", str(name), "--seconds", "0"]) == 0
    verdict[0] = FAIL
    assert main(["selfcheck", "--device", "cpu", "-o", str(name), "--seconds", "0"]) == 1
    written = json.loads((tmp_path / "report.json").read_text())
    assert written["passed"] is False and written["rows"][0]["found"] == "2"
    assert "FAIL" in (tmp_path / "report.txt").read_text()

    def breaks(*_):
        raise RuntimeError("the kernel is not there")

    monkeypatch.setattr(checks, "numbers", breaks)
    capsys.readouterr()
    assert main(["selfcheck", "--device", "cpu", "-o", str(name), "--seconds", "0"]) == 1
    assert "the kernel is not there" in (tmp_path / "report.txt").read_text()
    assert main(["selfcheck", "--device", "cpu", "-o", str(tmp_path / "no" / "report")]) == 2
    assert main(["selfcheck", "--device", "cpu", "-o", str(name), "--seconds", "-1"]) == 2
