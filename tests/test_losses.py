"""Losses against the values recorded from the authors' code."""

from __future__ import annotations

import json

import golden_inputs
import numpy as np
import paddle
import pytest
from golden_models import tensor

from kdscfnet import losses


@pytest.fixture(scope="module")
def recorded(golden):
    return json.loads((golden / "train.json").read_text())["loss"]


@pytest.fixture(scope="module")
def inputs():
    rng = np.random.RandomState(0)
    pred = rng.standard_normal((3, 1, 64, 80)).astype("float32") * 2
    teacher = rng.standard_normal((3, 1, 64, 80)).astype("float32") * 2
    soft = rng.uniform(0, 1, (3, 1, 64, 80)).astype("float32")
    return [tensor(a) for a in (pred, teacher, soft, golden_inputs.mask(1, 3, 64, 80))]


def test_dice(recorded, inputs):
    pred, _, soft, mask = inputs
    assert abs(float(losses.dice_loss(pred, mask)) - recorded["dice"]) <= 1e-6
    assert abs(float(losses.dice_loss(pred, soft)) - recorded["dice_soft"]) <= 1e-6


def test_boundary_at_every_recorded_epoch(recorded, inputs):
    pred, _, _, mask = inputs
    assert len(recorded["boundary"]) == 12
    for epoch, value in recorded["boundary"].items():
        assert abs(float(losses.boundary_dice_loss(pred, mask, int(epoch))) - value) <= 1e-6, epoch


def test_distillation(recorded, inputs):
    pred, teacher, _, _ = inputs
    total, parts = losses.distillation_loss([pred] * 4, teacher)
    assert abs(float(parts[0]) - recorded["kd_dice"]) <= 1e-6
    assert abs(float(total) - recorded["kd_dice"] * 1.875) <= 2e-6


def test_boundary_width_shrinks_to_one():
    assert [losses.boundary_width(e) for e in (0, 8, 9, 19, 29, 39, 49, 58, 59, 68, 200)] == [
        13,
        13,
        11,
        9,
        7,
        5,
        3,
        3,
        1,
        1,
        1,
    ]


def test_supervised_is_the_weighted_sum(inputs):
    pred, teacher, soft, mask = inputs
    outputs = [pred, teacher, -pred, pred * 0.5]
    total, parts = losses.supervised_loss(outputs, mask, 7)
    expected = [float(losses.dice_loss(o, mask) + losses.boundary_dice_loss(o, mask, 7)) for o in outputs]
    assert np.allclose([float(p) for p in parts], expected, atol=1e-6)
    assert abs(float(total) - np.dot(expected, [1, 1 / 2, 1 / 4, 1 / 8])) < 1e-6


def test_no_gradient_reaches_the_teacher(inputs):
    pred, teacher, _, _ = inputs
    student, frozen = pred.detach(), teacher.detach()
    student.stop_gradient = frozen.stop_gradient = False
    losses.distillation_loss([student] * 4, frozen)[0].backward()
    assert student.grad is not None and np.abs(student.grad.numpy()).max() > 0
    assert frozen.grad is None or np.abs(frozen.grad.numpy()).max() == 0


def test_perfect_and_opposite_maps():
    mask = tensor(golden_inputs.mask(3, 2, 64, 64))
    sure = (mask * 2 - 1) * 50
    assert float(losses.dice_loss(sure, mask)) < 1e-4
    assert float(losses.dice_loss(-sure, mask)) > 0.99
    assert float(losses.boundary_dice_loss(sure, mask, 0)) < 1e-4
    assert paddle.is_tensor(losses.dice_loss(sure, mask))
