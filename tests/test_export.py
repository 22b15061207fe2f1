"""Exported networks: where they are kept, when they are trusted, and that a wrong one is never written."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from predicting import exported_file, needs_export, picture, predictor, save, weight_file

from kdscfnet import child, cli
from kdscfnet.errors import ExportDiffers, UserError
from kdscfnet.files import file_sha256
from kdscfnet.inference import export, networks, onnx_file
from kdscfnet.weights import release, weightfile


@pytest.fixture
def student(tmp_path):
    """A weight file in a folder of its own, with its exported network."""
    needs_export()
    source = exported_file()
    folder = tmp_path / "weights"
    folder.mkdir()
    for path in source.parent.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder / source.name


def sidecar_of(path):
    return path.with_name(path.name + ".json")


@pytest.fixture
def no_export(monkeypatch):
    """Exporting fails the test."""

    def fail(*args):
        raise AssertionError("exported anew")

    monkeypatch.setattr(networks, "export_in_child", fail)


def test_the_exported_network_is_beside_the_weights_and_named_by_their_hash(student, no_export):
    path, about = networks.find_or_export(student)
    digest = file_sha256(student)
    assert path == student.parent / ("golden_mobilenetv3.%s.onnx" % digest[:16])
    assert about["backbone"] == "mobilenetv3" and about["weights"]["sha256"] == digest
    assert networks.find_or_export(str(student), "mobilenetv3")[0] == path


def test_a_network_trained_with_synchronised_batch_norm_is_exported_as_any_other(student, tmp_path):
    from golden_models import golden_model

    from kdscfnet.training.parallel import synchronise_batch_norm
    from kdscfnet.weights.files import save_weights

    model = golden_model("M3_0.5")
    synchronise_batch_norm(model)
    assert any(type(layer).__name__ == "SyncBatchNorm" for layer in model.sublayers())
    weights = tmp_path / "synchronised.pdparams"
    save_weights(model, str(weights))
    assert weights.read_bytes() == student.read_bytes()
    networks.export_in_child(["onnx"], weightfile.resolve(weights), "mobilenetv3", tmp_path / "network")
    image = np.random.RandomState(0).standard_normal((1, 3, 64, 96)).astype(np.float32)
    found, expected = (
        onnx_file.open_session(path, 1).run(None, {"image": image})[0]
        for path in (tmp_path / "network.onnx", networks.find_or_export(student)[0])
    )
    assert (found == expected).all()


def test_the_sidecar_says_how_to_make_the_same_map(student):
    """A program that knows the sidecar alone makes our map."""
    import cv2
    import onnxruntime

    path, about = networks.find_or_export(student)
    about = json.loads(sidecar_of(path).read_text())
    image = picture(100, 140)
    step = {step["step"]: step for step in about["preparation"]}
    x = (image.astype(np.float32) - np.float32(step["normalise"]["mean"])) / np.float32(step["normalise"]["std"])
    height, width = step["resize"]["size"]
    x = cv2.resize(x, (width, height), interpolation=cv2.INTER_LINEAR).transpose(2, 0, 1)[None]
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    logits = session.run([about["output"]["name"]], {about["input"]["name"]: x})[0]
    saliency = 1 / (1 + np.exp(-logits[0, 0].astype(np.float64)))
    rows, columns = (np.arange(n) * (m - 1) / (n - 1) for n, m in zip(image.shape[:2], saliency.shape))
    by_column = np.stack([np.interp(columns, np.arange(saliency.shape[1]), row) for row in saliency])
    exact = np.stack([np.interp(rows, np.arange(saliency.shape[0]), column) for column in by_column.T]).T * 255
    assert np.abs(predictor()(image) - exact).max() <= 0.51
    assert all(row["relative"] < about["difference"]["tolerance"] <= 1e-5 for row in about["difference"]["measured"])
    assert len({tuple(row["shape"]) for row in about["difference"]["measured"]}) >= 4


def damage_network(path, about):
    path.write_bytes(path.read_bytes()[:-100])


def damage_sidecar(path, about):
    sidecar_of(path).write_text("{")


def old_format(path, about):
    sidecar_of(path).write_text(json.dumps(dict(about, format=0)))


def other_weights(path, about):
    sidecar_of(path).write_text(json.dumps(dict(about, weights={"sha256": "0" * 64})))


def no_sidecar(path, about):
    sidecar_of(path).unlink()


@pytest.mark.parametrize("damage", [damage_network, damage_sidecar, old_format, other_weights, no_sidecar])
def test_what_is_not_right_is_made_anew(student, monkeypatch, damage):
    path, about = networks.find_or_export(student)
    damage(path, about)
    made = []
    monkeypatch.setattr(networks, "export_in_child", lambda *args: made.append(args) or [([path], "anew")])
    assert networks.find_or_export(student) == (path, "anew")
    assert [(formats, weights.path, *others) for formats, weights, *others in made] == [
        (["onnx"], str(student), "mobilenetv3", path.with_suffix(""), None)
    ]


def test_an_installed_package_gets_nothing(student, monkeypatch, tmp_path):
    weights = tmp_path / "kdscfnet" / "weights" / student.name
    weights.parent.mkdir(parents=True)
    shutil.copy(str(student), str(weights))
    monkeypatch.setattr(networks, "__file__", str(tmp_path / "kdscfnet" / "inference" / "networks.py"))
    monkeypatch.setenv("KDSCFNET_CACHE", str(tmp_path / "cache"))
    made = []
    monkeypatch.setattr(networks, "export_in_child", lambda *args: made.append(args) or [((), {})])
    assert networks.find_or_export(weights)[0].parent == tmp_path / "cache"
    assert made[0][3].parent == tmp_path / "cache"


def test_where_nothing_can_be_written_paddle_runs_the_network(student, monkeypatch, tmp_path, capsys):
    for path in list(student.parent.iterdir()):
        if path != student:
            path.unlink()
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KDSCFNET_CACHE", str(tmp_path / "file" / "cache"))
    os.chmod(str(student.parent), 0o555)
    try:
        with pytest.raises(onnx_file.CannotExport, match="KDSCFNET_CACHE"):
            networks.find_or_export(student)
        assert networks.open_network(student).name == "paddle"
    finally:
        os.chmod(str(student.parent), 0o755)
    assert "so Paddle runs the network" in capsys.readouterr().err


def test_a_read_only_folder_gets_nothing(student, monkeypatch, tmp_path):
    digest = file_sha256(student)
    for path in list(student.parent.iterdir()):
        if path != student:
            path.unlink()
    os.chmod(str(student.parent), 0o555)
    monkeypatch.setenv("KDSCFNET_CACHE", str(tmp_path / "cache"))
    made = []
    monkeypatch.setattr(networks, "export_in_child", lambda *args: made.append(args) or [((), {})])
    try:
        path, _ = networks.find_or_export(student)
    finally:
        os.chmod(str(student.parent), 0o755)
    assert path == tmp_path / "cache" / ("golden_mobilenetv3.%s.onnx" % digest[:16])
    assert made[0][3] == path.with_suffix("")


def test_onnx_network_takes_any_batch_and_size(student):
    import paddle
    from golden_models import golden_model

    network = networks.OnnxNetwork(str(student), "mobilenetv3")
    model = golden_model("M3_0.5")
    model.eval()
    for shape in [(1, 3, 64, 64), (7, 3, 32, 96), (5, 3, 65, 33)]:
        images = np.random.RandomState(0).standard_normal(shape).astype(np.float32)
        with paddle.no_grad():
            expected = model(paddle.to_tensor(images))[0].numpy()
        np.testing.assert_allclose(network(images), expected, atol=1e-5 * np.ptp(expected))
    for shape in [(0, 3, 32, 32), (1, 4, 32, 32), (3, 32, 32)]:
        with pytest.raises(ValueError, match="N×3×h×w"):
            network(np.zeros(shape, np.float32))


def test_a_wrong_export_is_not_written(tmp_path, monkeypatch):
    needs_export()
    import onnx

    convert = export._convert

    def convert_and_spoil(static, program):
        convert(static, program)
        network = onnx.load(static + ".onnx")
        tensors = list(network.graph.initializer)  # newer exporters write constants instead
        tensors += [node.attribute[0].t for node in network.graph.node if node.op_type == "Constant"]
        weight = next(value for value in tensors if len(value.dims) == 4)
        array = onnx.numpy_helper.to_array(weight) * np.float32(1.001)
        weight.CopyFrom(onnx.numpy_helper.from_array(array, weight.name))
        onnx.save(network, static + ".onnx")

    monkeypatch.setattr(export, "_convert", convert_and_spoil)
    monkeypatch.setattr(networks, "in_child", lambda function, environment, **given: export.export(**given))
    with pytest.raises(ExportDiffers, match="differs from dygraph .*nothing was written"):
        weights = weightfile.resolve(weight_file())
        networks.export_in_child(["paddle", "onnx"], weights, "mobilenetv3", tmp_path / "network")
    assert list(tmp_path.rglob("*")) == []


# put on the path of the processes that export: what ONNX Runtime computes is off by one
SPOIL = """
import onnxruntime

real = onnxruntime.InferenceSession.run
onnxruntime.InferenceSession.run = lambda *given, **more: [value + 1 for value in real(*given, **more)]
"""


@pytest.mark.parametrize("verb", ["export", "predict"])
def test_an_export_that_differs_is_no_mistake_of_the_users(verb, tmp_path):
    needs_export()
    shutil.copy(str(weight_file()), str(tmp_path / "net.pdparams"))
    save(tmp_path / "photo.png", picture())
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "sitecustomize.py").write_text(SPOIL)
    words = {"export": ["-o", "out"], "predict": ["photo.png", "-o", "out", "--engine", "onnxruntime"]}[verb]
    done = subprocess.run(
        [sys.executable, "-m", "kdscfnet", verb, *words, "--weights", "net.pdparams"],
        cwd=str(tmp_path),
        env=dict(os.environ, PYTHONPATH=os.pathsep.join([str(tmp_path / "path"), *sys.path])),
        capture_output=True,
        text=True,
    )
    line = done.stderr.splitlines()[-1]
    assert line.startswith("kdscfnet %s: " % verb) and "differs from dygraph" in line, done.stderr
    assert done.returncode == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.pdparams", "path", "photo.png"]


def test_comparison_sees_shapes_and_nan():
    reference = [(np.zeros((1, 3, 4, 4), np.float32), np.ones((1, 1, 4, 4), np.float32))]
    with pytest.raises(ExportDiffers, match="gives"):
        export.compare(reference, lambda image: np.ones((1, 1, 2, 2), np.float32))
    with pytest.raises(ExportDiffers, match="gives"):
        export.compare(reference, lambda image: np.full((1, 1, 4, 4), np.nan, np.float32))
    assert export.compare(reference, lambda image: reference[0][1])[0]["relative"] == 0


def test_the_bundled_student_comes_exported(tmp_path, monkeypatch):
    """Its bytes are those that the manifest names, and nothing has to be exported to predict with it."""
    weights, entry = weightfile.bundled(), release.release().bundled
    monkeypatch.setattr(networks, "export_in_child", None)  # would fail
    path, about = networks.find_or_export(weights)
    assert path == Path(weights.path).with_suffix(".onnx") and path.stat().st_size < 4e6
    assert file_sha256(path) == entry.onnx_sha256 == about["file"]["sha256"]
    assert about["weights"] == {"file": entry.file, "sha256": entry.sha256}
    assert about["test_size"] == [entry.test_size] * 2
    assert about["input"]["shape"] == [None, 3, None, None]


def test_the_bundled_exported_network_is_the_weights(tmp_path):
    """Dygraph computes the same; where there is an exporter, what it makes today computes the same, too."""
    runtime = pytest.importorskip("onnxruntime")
    weights = weightfile.bundled()
    path, about = networks.find_or_export(weights)
    session = onnx_file.open_session(path, 1)
    differences = export.compare(
        export.dygraph_outputs(export._load(weights, weights.backbone)),
        lambda image: session.run(None, {"image": image})[0],
    )
    assert len(differences) == 4 and max(row["relative"] for row in differences) < export.TOLERANCE
    assert runtime.__version__
    try:
        onnx_file.require_exporter()
    except onnx_file.CannotExport:
        return
    ((_, again),) = networks.export_in_child(["onnx"], weights, weights.backbone, tmp_path / "again")
    image = np.random.RandomState(0).standard_normal((1, 3, 64, 96)).astype(np.float32)
    new = onnx_file.open_session(tmp_path / "again.onnx", 1).run(None, {"image": image})[0]
    old = session.run(None, {"image": image})[0]
    assert np.abs(new - old).max() <= export.TOLERANCE * np.ptp(old)
    assert again["weights"] == about["weights"]


def test_an_export_beside_the_weights_is_used_where_it_fits(tmp_path, monkeypatch):
    """By the weights' digest, and for any size: one for a fixed size is for those who name it."""
    weights = Path(weightfile.bundled().path)
    for suffix in (".pdparams", ".onnx", ".onnx.json"):
        shutil.copy(str(weights.with_suffix(suffix)), str(tmp_path / ("mine" + suffix)))
    mine, sidecar = tmp_path / "mine.pdparams", tmp_path / "mine.onnx.json"
    assert networks.find_or_export(mine)[0] == tmp_path / "mine.onnx"
    about = json.loads(sidecar.read_text())
    monkeypatch.setattr(networks, "require_exporter", mock.Mock(side_effect=onnx_file.CannotExport("nothing fits")))
    for key, value in (("input", {"shape": [None, 3, 64, 96]}), ("weights", {"sha256": "0" * 64})):
        sidecar.write_text(json.dumps(dict(about, **{key: value})))
        with pytest.raises(onnx_file.CannotExport, match="nothing fits"):
            networks.find_or_export(mine)


def test_where_there_is_no_build_of_the_exporter_the_line_says_so(tmp_path, monkeypatch):
    lacking(monkeypatch, "paddle2onnx")
    monkeypatch.setattr(sys, "version_info", (3, 13, 0))
    with pytest.raises(onnx_file.CannotExport) as raised:
        onnx_file.require_exporter()
    line = str(raised.value)
    assert "Python 3.13, for which paddle2onnx has no build" in line
    assert "Python 3.12" in line and "\n" not in line
    monkeypatch.setattr(sys, "version_info", (3, 12, 1))
    with pytest.raises(onnx_file.CannotExport) as raised:
        onnx_file.require_exporter()
    assert "pip install" in str(raised.value) and "paddle2onnx" in str(raised.value)


def test_the_command(tmp_path, capsys):
    """Both formats, for a stated size; the Paddle format alone on stacks without an exporter to ONNX."""
    both = all(importlib.util.find_spec(name) for name in ("paddle2onnx", "onnx", "onnxruntime"))
    out = tmp_path / "out"
    arguments = [
        "export",
        "--weights",
        str(weight_file()),
        "-o",
        str(out / "net"),
        "--size",
        "64",
        "96",
        "--format",
        "both" if both else "paddle",
    ]
    assert cli.main(arguments) == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert {"net.pdiparams", "net.paddle.json"} | ({"net.onnx", "net.onnx.json"} if both else set()) < set(before)
    assert not any(name.startswith(".") for name in before)
    about = json.loads(before["net.paddle.json"].decode())
    assert all(row["relative"] < 1e-5 for row in about["difference"]["measured"])
    assert {entry["name"] for entry in about["files"]} < set(before)
    text = capsys.readouterr().out
    assert "greatest difference to dygraph" in text and "2 × 3 × 64 × 96" in text

    # nothing is replaced unasked
    assert cli.main(arguments) == 2
    assert "is there already" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    if not both:
        return

    # what was written predicts the same, without its weights
    from kdscfnet import Predictor

    exported = Predictor(str(out / "net.onnx"))
    assert exported.size == (64, 96)
    np.testing.assert_array_equal(exported(picture(50, 60)), predictor(size=(64, 96))(picture(50, 60)))
    with pytest.raises(UserError, match="64×96"):
        Predictor(str(out / "net.onnx"), size=64)
    (out / "net.onnx").write_bytes(before["net.onnx"] + b"x")
    with pytest.raises(UserError, match="export it anew"):
        Predictor(str(out / "net.onnx"))


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["-o", "out", "--weights", "nowhere.pdparams"], "there is no weight file nowhere.pdparams"),
        (["-o", "out.onnx", "--format", "both"], "is one file"),
        (["-o", "out", "--size", "1", "2", "3"], "--size 1x2x3: 1 or more, or HEIGHTxWIDTH"),
        (["-o", "out", "--size", "0"], "--size 0: 1 or more"),
    ],
)
def test_wrong_use_of_the_command(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    if "--weights" not in arguments:
        arguments = arguments + ["--weights", str(weight_file())]
    assert cli.main(["export"] + arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def lacking(monkeypatch, *names):
    """As if packages were not installed."""
    find_spec = networks.importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *more: None if name in names else find_spec(name, *more)
    )


def bare_copy(tmp_path):
    path = tmp_path / "bare.pdparams"
    path.write_bytes(weight_file().read_bytes())
    return path


def test_without_onnxruntime(tmp_path, monkeypatch, capsys):
    lacking(monkeypatch, "onnxruntime")
    assert networks.open_network(bare_copy(tmp_path)).name == "paddle"
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "pip install onnxruntime" in error
    with pytest.raises(UserError, match="pip install onnxruntime"):
        networks.open_network(bare_copy(tmp_path), engine="onnxruntime")


def test_without_the_exporter(tmp_path, monkeypatch, capsys):
    pytest.importorskip("onnxruntime")
    lacking(monkeypatch, "paddle2onnx")
    assert networks.open_network(bare_copy(tmp_path)).name == "paddle"
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "paddle2onnx" in error
    with pytest.raises(UserError, match="cannot be exported (without|on Python 3.13, for which) paddle2onnx"):
        networks.open_network(bare_copy(tmp_path), engine="onnxruntime")


def test_without_anything(tmp_path, monkeypatch):
    lacking(monkeypatch, "onnxruntime", "paddle")
    with pytest.raises(UserError, match="neither ONNX Runtime nor Paddle"):
        networks.open_network(bare_copy(tmp_path))


def test_a_crashing_exporter_leaves_paddle(tmp_path, monkeypatch, capsys):
    needs_export()

    def crash(*args, **options):
        raise child.Crashed("Segmentation fault")

    monkeypatch.setattr(networks, "in_child", crash)
    assert networks.open_network(bare_copy(tmp_path)).name == "paddle"
    assert "Segmentation fault" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["bare.pdparams"]


def test_a_child_that_dies_says_what_it_last_said():
    with pytest.raises(child.Crashed):
        child.in_child("os:abort")
    with pytest.raises(child.Crashed, match="has no attribute 'nothing'"):
        child.in_child("kdscfnet.child:nothing")
    with pytest.raises(UserError, match="from 0 to 1, or adaptive"):
        child.in_child("kdscfnet.inference.outputs:parse_threshold", text="2")
    assert child.in_child("kdscfnet.inference.outputs:parse_threshold", text="0.5") == 0.5


def test_what_is_no_network_is_told(tmp_path):
    pytest.importorskip("onnxruntime")
    path = tmp_path / "page.onnx"
    path.write_text("<html></html>")
    with pytest.raises(UserError, match="ONNX Runtime cannot load"):
        onnx_file.open_session(str(path), 1)
    with pytest.raises(UserError, match="comes without its sidecar page.onnx.json, so it may be another network"):
        networks.open_network(str(path))
    with pytest.raises(UserError, match="only the engine onnxruntime"):
        networks.open_network(str(path), engine="paddle")


def test_prediction_does_not_import_paddle(student):
    program = (
        "import sys; from kdscfnet import Predictor; import numpy as np; "
        "predict = Predictor(sys.argv[1]); predict(np.zeros((9, 9, 3), np.uint8)); "
        "print(predict.engine, [m for m in ('paddle', 'paddleseg', 'onnx', 'matplotlib', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(student)],
        stdout=subprocess.PIPE,
        check=True,
        env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)),
    )
    assert done.stdout.decode().strip() == "onnxruntime []"
