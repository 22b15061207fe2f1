"""The backbone that comes with the package: `--pretrained ppocrv3`, and the script that makes it."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from training import make_set, run_small

from kdscfnet.cli import main
from kdscfnet.files import file_sha256
from kdscfnet.models.scfnet import SCFNet
from kdscfnet.weights import backbone, files, networks, release

ROOT = Path(__file__).resolve().parent.parent
START = release.release().starts[0]
PATH = release.path_of_ours(START.file)


def test_the_file_is_the_manifests(capsys):
    assert START.name == "ppocrv3" and START.licence == "Apache-2.0" and "rapidocr-onnxruntime 1.2.3" in START.origin
    assert file_sha256(str(PATH)) == START.sha256
    assert PATH.stat().st_size < 4_000_000
    assert main(["weights", "verify", str(PATH)]) == 0
    assert "the bundled %s, byte for byte" % START.title in capsys.readouterr().out
    assert START.file in (ROOT / "NOTICE").read_text()


def test_a_model_takes_it_by_name():
    model = SCFNet("mobilenetv3")
    report = backbone.load_backbone(model, "ppocrv3")
    arrays = files.read_weights(str(PATH))
    assert report.loaded == len(arrays) == 262
    for key, tensor in model.bkbone.state_dict().items():
        assert np.array_equal(tensor.numpy(), arrays[key]), key


def test_another_backbone_refuses_it():
    with pytest.raises(files.WeightsError, match="of mobilenetv3, not of resnet50"):
        backbone.load_backbone(SCFNet("resnet50"), "ppocrv3")


def test_auto_means_imagenet(tmp_path, monkeypatch):
    """The bundled backbone is never taken for the published ImageNet weights, whatever folder it lies in."""
    (tmp_path / START.file).write_bytes(PATH.read_bytes())
    monkeypatch.setenv("HOME", str(tmp_path))
    assert backbone.find_backbone("mobilenetv3", tmp_path) is None
    (tmp_path / "mine.safetensors").write_bytes(PATH.read_bytes())
    assert backbone.find_backbone("mobilenetv3", tmp_path).path == str(tmp_path / "mine.safetensors")


def test_a_run_says_where_it_started(tmp_path, capsys):
    data = make_set(tmp_path)
    assert run_small(data, tmp_path / "run", "--pretrained", "ppocrv3", "--epochs", "1") == 0
    assert "backbone: 262 entries loaded from %s" % PATH in capsys.readouterr().out
    assert json.loads((tmp_path / "run" / "run.json").read_text())["pretrained"] == "ppocrv3"


def _script():
    spec = importlib.util.spec_from_file_location("ppocrv3_backbone", str(ROOT / "scripts" / "ppocrv3_backbone.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _graph(path, arrays):
    """An ONNX file with the convolutions and BatchNorms of `arrays`, the first one's input channels turned."""
    from onnx import helper, numpy_helper, save

    nodes = []

    def constant(array):
        name = "c%d" % len(nodes)
        tensor = numpy_helper.from_array(np.ascontiguousarray(array), name)
        nodes.append(helper.make_node("Constant", [], [name], value=tensor))
        return name

    before = "image"
    for key in [key for key in networks.expected("backbone", "mobilenetv3")[0] if key.endswith(".conv.weight")]:
        weight = arrays[key] if before != "image" else arrays[key][:, ::-1]
        made = helper.make_node("Conv", [before, constant(weight)], [key])
        norm = [constant(arrays[key[: -len("conv.weight")] + "bn." + name]) for name in _script()._NORM]
        nodes += [made, helper.make_node("BatchNormalization", [key, *norm], [key + ".bn"])]
        before = key + ".bn"
    save(helper.make_model(helper.make_graph(nodes, "detector", [], [])), str(path))


def test_the_script_makes_the_very_bytes(tmp_path):
    """From an ONNX file with the detector's convolutions; the package's own is not ours to carry."""
    pytest.importorskip("onnx")
    _graph(tmp_path / "detector.onnx", files.read_weights(str(PATH)))
    _script().main(str(tmp_path / "detector.onnx"), str(tmp_path / "again.safetensors"))
    assert (tmp_path / "again.safetensors").read_bytes() == PATH.read_bytes()


def test_the_script_refuses_another_network(tmp_path):
    pytest.importorskip("onnx")
    arrays = files.read_weights(str(PATH))
    arrays["blocks.0.expand_conv.conv.weight"] = np.zeros((4, 8, 1, 1), np.float32)
    _graph(tmp_path / "other.onnx", arrays)
    with pytest.raises(SystemExit, match="another file"):
        _script().main(str(tmp_path / "other.onnx"), str(tmp_path / "made.safetensors"))
    assert not (tmp_path / "made.safetensors").exists()
