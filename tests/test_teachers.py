"""The teacher in ONNX Runtime gives the student the same losses."""

from __future__ import annotations

import json

import golden_inputs
import numpy as np
import pytest
from golden_models import golden_model, tensor
from predicting import weight_file

from kdscfnet.errors import ExportDiffers, UserError
from kdscfnet.inference import networks
from kdscfnet.optim import build_optimizer
from kdscfnet.training.steps import DistillationStep, OnnxTeacher, PaddleTeacher, open_teacher
from kdscfnet.weights.files import save_weights

pytest.importorskip("onnxruntime", reason="ONNX Runtime is not for this Python")
pytest.importorskip("paddle2onnx", reason="paddle2onnx is not for this Python")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """The golden ResNet-50 in a file."""
    path = tmp_path_factory.mktemp("teacher") / "teacher.pdparams"
    save_weights(golden_model("R50"), str(path))
    return str(path)


def test_losses_agree_with_the_recorded(teacher, golden):
    recorded = json.loads((golden / "train.json").read_text())["train_kd"]
    step_of = DistillationStep(open_teacher("resnet50", teacher, "onnxruntime"))
    assert isinstance(step_of.teacher, OnnxTeacher)
    student = golden_model("M3_0.5")
    student.train()
    optimizer = build_optimizer(student, 0.1)
    for step, expected in enumerate(recorded["losses"]):
        total, parts = step_of(student, tensor(golden_inputs.image(300 + step, 4, 224, 224)), None, 0)
        assert np.abs(np.array([float(v) for v in [total, *parts]]) - expected).max() <= 1e-4, step
        optimizer.set_lr(recorded["lr"][step])
        total.backward()
        optimizer.step()
        optimizer.clear_grad()


def test_auto_takes_onnxruntime_on_a_cpu(teacher):
    assert isinstance(open_teacher("resnet50", teacher, "auto"), OnnxTeacher)
    frozen = open_teacher("resnet50", teacher, "paddle")
    assert isinstance(frozen, PaddleTeacher) and not frozen.model.training
    assert all(p.stop_gradient for p in frozen.model.parameters())


def test_auto_takes_paddle_where_an_export_differs(teacher, monkeypatch, capsys):
    def differs(*given, **more):
        raise ExportDiffers("it differs from dygraph")

    monkeypatch.setattr(networks, "OnnxNetwork", differs)
    assert isinstance(open_teacher("resnet50", teacher, "auto"), PaddleTeacher)
    assert "it differs from dygraph; so Paddle runs the network" in capsys.readouterr().err
    assert networks.open_network(teacher, "resnet50", device="cpu").name == "paddle"
    assert "it differs from dygraph; so Paddle runs the network" in capsys.readouterr().err
    with pytest.raises(ExportDiffers):
        open_teacher("resnet50", teacher, "onnxruntime")
    with pytest.raises(ExportDiffers):
        networks.open_network(teacher, "resnet50", "onnxruntime")


def test_swin_has_one_size_in_onnxruntime():
    weights = weight_file("swin_b")
    with pytest.raises(UserError, match="runs at one size: give --sizes one number"):
        open_teacher("swin_b", weights, "onnxruntime", (224, 352))
    assert isinstance(open_teacher("swin_b", weights, "auto", (224, 352)), PaddleTeacher)


def test_maps_are_the_teachers_sigmoid():
    """Distilling from stored maps is distilling from the teacher, where both see the same pixels."""
    student = golden_model("M3_0.5")
    student.eval()
    image = tensor(golden_inputs.image(1, 2, 64, 64))
    logits = tensor(np.random.RandomState(0).standard_normal((2, 1, 64, 64)).astype("float32"))
    one, _ = DistillationStep(lambda images: logits)(student, image, None, 0)
    import paddle.nn.functional as F

    other, _ = DistillationStep()(student, image, F.sigmoid(logits), 0)
    assert float(one) == float(other)
