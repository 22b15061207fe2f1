"""Weights as other programs save them: wrapped, in a checkpoint, in bfloat16; and what is nobody's network."""

from __future__ import annotations

import json
import pickle
import struct

import cv2
import numpy as np
import paddle
import pytest

import kdscfnet
from kdscfnet import text
from kdscfnet.cli import main
from kdscfnet.errors import WeightsError
from kdscfnet.weights import files
from kdscfnet.weights.files import load_weights, write_weights
from kdscfnet.weights.weightfile import WeightFile


@pytest.fixture(scope="module")
def model():
    return kdscfnet.SCFNet("mobilenetv3")


@pytest.fixture(scope="module")
def arrays(model):
    rng = np.random.RandomState(0)
    return {key: rng.standard_normal(tensor.shape).astype("f4") for key, tensor in model.state_dict().items()}


@pytest.fixture(autouse=True)
def said(monkeypatch):
    monkeypatch.setattr(text, "_SAID", set())


def wrapped(arrays, prefix):
    return {prefix + key: array for key, array in arrays.items()}


FOREIGN = {
    "DataParallel": (lambda arrays: wrapped(arrays, "module."), ["'module.' stands before every key"]),
    "Paddle's DataParallel": (lambda arrays: wrapped(arrays, "_layers."), ["'_layers.' stands before every key"]),
    "two wrappers": (lambda arrays: wrapped(arrays, "student._layers."), ["'student._layers.'"]),
    "model": (lambda arrays: {"model": arrays}, ["'model' is taken"]),
    "state_dict": (lambda arrays: {"epoch": 3, "state_dict": arrays}, ["'state_dict' is taken, not used: epoch"]),
    "with an optimizer": (
        lambda arrays: {"net": arrays, "opt": {"conv_0.w_0_velocity_0": arrays["linear2.weight"]}, "lr": 0.1},
        ["'net' is taken, not used: opt, lr"],
    ),
    "wrapped in a checkpoint": (
        lambda arrays: {"model": wrapped(arrays, "module."), "best": np.zeros(1, "f4")},
        ["'model' is taken, not used: best", "'module.' stands"],
    ),
}


@pytest.mark.parametrize("kind", sorted(FOREIGN))
def test_a_network_in_other_wrappings_is_taken_and_said_once(tmp_path, model, arrays, capsys, kind):
    make, said = FOREIGN[kind]
    path = tmp_path / "weights.pdparams"
    path.write_bytes(pickle.dumps(make(arrays), 4))
    found = WeightFile(path)
    assert (found.kind, found.backbone) == ("scfnet", "mobilenetv3")
    assert capsys.readouterr().err == ""  # it was only looked at
    for _ in range(2):
        assert load_weights(model, path).loaded == 354
    assert all((tensor.numpy() == arrays[key]).all() for key, tensor in model.state_dict().items())
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(said) and all(what in line for what, line in zip(said, lines)), lines


def test_a_checkpoint_that_paddle_saved(tmp_path, model, capsys):
    path = str(tmp_path / "checkpoint.pdparams")
    optimizer = paddle.optimizer.Momentum(parameters=model.parameters())
    paddle.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}, path)
    before = {key: tensor.numpy() for key, tensor in model.state_dict().items()}
    assert load_weights(model, path).loaded == 354
    assert all((tensor.numpy() == before[key]).all() for key, tensor in model.state_dict().items())
    assert "'model' is taken, not used: optimizer, epoch" in capsys.readouterr().err


def test_a_wrapped_network_that_does_not_fit_is_named_by_our_keys(tmp_path, model, arrays):
    path = tmp_path / "weights.pdparams"
    changed = dict(arrays, **{"linear2.weight": np.zeros((2, 16, 3, 3), "f4")})
    path.write_bytes(pickle.dumps({"model": wrapped(changed, "module.")}, 4))
    with pytest.raises(WeightsError, match="wrong: linear2.weight is .2, 16, 3, 3., should be .1, 16, 3, 3."):
        load_weights(model, path)


def bits(array):
    return (array.view("u4") >> 16).astype("u2")


@pytest.mark.parametrize("form", ["safetensors", "pickle", "some entries"])
def test_bfloat16_is_converted_and_reported(tmp_path, model, arrays, form):
    path = tmp_path / ("w.safetensors" if form == "safetensors" else "w.pdparams")
    halves = ["linear2.weight"] if form == "some entries" else list(arrays)
    if form == "safetensors":
        header_and_data(path, arrays)
    else:  # as paddle.save writes the state of a network in bfloat16
        write_weights(path, dict(arrays, **{key: bits(arrays[key]) for key in halves}))
    report = load_weights(model, path)
    assert report.converted == dict.fromkeys(halves, "bfloat16")
    assert "%d converted from bfloat16 to float32" % len(halves) in str(report)
    for key, tensor in model.state_dict().items():
        expected = arrays[key].view("u4") >> 16 << 16 if key in halves else arrays[key].view("u4")
        assert (tensor.numpy().view("u4") == expected).all(), key
    assert files.read_weights(path, lazy=True)["linear2.weight"].shape == (1, 16, 3, 3)


def header_and_data(path, arrays):
    """A .safetensors file in bfloat16, byte by byte: the package cannot write one from numpy."""
    header, data = {}, b""
    for key, array in arrays.items():
        part = bits(array).tobytes()
        header[key] = {"dtype": "BF16", "shape": array.shape, "data_offsets": [len(data), len(data) + len(part)]}
        data += part
    text_of = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text_of)) + text_of + data)


NOT_OURS = {
    "another network": ({"fc.weight": np.zeros((3, 3), "f4")}, "holds 1 arrays, none of them of a network of ours"),
    "a part": (None, "missing"),
    "a backbone": (None, "backbone mobilenetv3"),
}


@pytest.mark.parametrize("kind", sorted(NOT_OURS))
def test_predict_says_what_is_wrong_itself(tmp_path, arrays, capsys, kind):
    """It sent the reader to `weights verify`, which sent him on."""
    content, message = NOT_OURS[kind]
    if kind == "a part":
        content = {key: array for key, array in arrays.items() if not key.startswith("linear")}
    elif kind == "a backbone":
        content = {key[7:]: array for key, array in arrays.items() if key.startswith("bkbone.")}
    path, photo = tmp_path / "w.pdparams", tmp_path / "x.png"
    write_weights(path, content)
    cv2.imwrite(str(photo), np.zeros((8, 8, 3), np.uint8))
    assert main(["predict", str(photo), "--weights", str(path), "-o", str(tmp_path / "out.png")]) == 2
    line = capsys.readouterr().err
    assert message in line and "weights verify" not in line and "kdscfnet predict: " in line
    if kind != "a backbone":  # which is good, for what it is
        assert main(["weights", "verify", str(path)]) == 2
        verified = capsys.readouterr().out
        assert message in verified and "kdscfnet predict" not in verified
