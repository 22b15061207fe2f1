"""Ten supervised and six distillation steps from known weights and inputs, against the authors' recorded ones."""

from __future__ import annotations

import json

import golden_inputs
import numpy as np
import paddle
import pytest
from golden_models import golden_model, tensor

from kdscfnet.losses import distillation_loss, supervised_loss
from kdscfnet.optim import build_optimizer


def check_after(model, recorded):
    state = model.state_dict()
    assert recorded
    for key, (mean, norm) in recorded.items():
        value = state[key].numpy().astype("float64")
        assert abs(value.mean() - mean) <= 1e-6, key
        assert abs(np.sqrt((value**2).sum()) - norm) <= 1e-6 * max(1, norm), key


def run_step(optimizer, rate, total):
    optimizer.set_lr(rate)
    total.backward()
    optimizer.step()
    optimizer.clear_grad()


def test_supervised_steps(golden):
    recorded = json.loads((golden / "train.json").read_text())["train_fs"]
    model = golden_model("M3_0.5")
    model.train()
    optimizer = build_optimizer(model, recorded["lr"][0])
    assert len(recorded["losses"]) == 10
    for step, expected in enumerate(recorded["losses"]):
        image, mask = (
            tensor(golden_inputs.image(100 + step, 4, 224, 224)),
            tensor(golden_inputs.mask(200 + step, 4, 224, 224)),
        )
        total, parts = supervised_loss(model(image), mask, recorded["epoch"][step])
        assert np.abs(np.array([float(v) for v in [total, *parts]]) - expected).max() <= 1e-6, step
        run_step(optimizer, recorded["lr"][step], total)
    check_after(model, recorded["after"])


def test_distillation_steps(golden):
    recorded = json.loads((golden / "train.json").read_text())["train_kd"]
    student, teacher = golden_model("M3_0.5"), golden_model("R50")
    student.train()
    teacher.eval()
    optimizer = build_optimizer(student, recorded["lr"][0])
    assert len(recorded["losses"]) == 6
    for step, expected in enumerate(recorded["losses"]):
        image = tensor(golden_inputs.image(300 + step, 4, 224, 224))
        with paddle.no_grad():
            target = teacher(image)[0]
        total, parts = distillation_loss(student(image), target)
        assert np.abs(np.array([float(v) for v in [total, *parts]]) - expected).max() <= 1e-6, step
        run_step(optimizer, recorded["lr"][step], total)
    check_after(student, recorded["after"])


def test_backbone_learns_at_a_tenth_and_its_batchnorm_is_not_decayed():
    model = golden_model("M3_0.5")
    optimizer = build_optimizer(model, 0.5, momentum=0.0, weight_decay=0.1)
    before = {k: v.numpy().copy() for k, v in model.named_parameters()}
    sum(
        (p * 0).sum() for p in model.parameters() if not p.stop_gradient
    ).backward()  # zero gradients: what is left is the decay
    optimizer.step()
    for name, value in model.named_parameters():
        if value.stop_gradient:  # BatchNorm statistics, which Paddle counts among the parameters
            expected = before[name]
        elif name.startswith("bkbone"):
            decayed = ".bn." not in name
            expected = before[name] * (1 - 0.1 * 0.5 * 0.1) if decayed else before[name]
        else:
            expected = before[name] * (1 - 0.5 * 0.1)
        assert value.numpy() == pytest.approx(expected, rel=1e-5, abs=1e-7), name
