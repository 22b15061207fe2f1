"""The release as data, the weights folder, ImageNet backbones, and `kdscfnet weights`."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import kdscfnet
from kdscfnet import cli, recipes
from kdscfnet.errors import UserError, WeightsError
from kdscfnet.files import file_sha256
from kdscfnet.weights import download, files, networks, release
from kdscfnet.weights.backbone import load_backbone
from kdscfnet.weights.files import write_weights
from kdscfnet.weights.weightfile import WeightFile, as_size, bundled, count_parameters, find_weights, resolve

ROOT = Path(__file__).resolve().parent.parent


def random_arrays(shapes, seed=0):
    rng = np.random.RandomState(seed)
    return {key: rng.standard_normal(shape).astype(np.float32) for key, shape in shapes.items()}


@pytest.fixture(scope="module")
def student():
    return random_arrays(networks.shape_tables()["mobilenetv3"])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty weights folder that the environment variable names, and a home of our own."""
    monkeypatch.setenv("KDSCFNET_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("KDSCFNET_MIRROR", raising=False)
    (tmp_path / "home").mkdir()
    (tmp_path / "weights").mkdir()
    return tmp_path / "weights"


# The release ---------------------------------------------------------------------------------------------------------


def test_the_release_agrees_with_the_recipes():
    models = release.release().models
    assert [model.name for model in models] == list(recipes.RECIPES)
    for model in models:
        recipe = recipes.RECIPES[model.name]
        assert (model.title, model.backbone, model.teacher, model.test_size) == (
            recipe.title,
            recipe.backbone,
            recipe.teacher,
            recipe.test_size,
        )
    assert [backbone.backbone for backbone in release.release().backbones] == list(recipes.BACKBONES)


def test_the_release_has_the_numbers_of_the_card():
    """The table and the file ids of evaluation.md, typed a second time."""
    sets = ("DUTS-TE", "ECSSD", "HKU-IS", "DUT-OMRON", "PASCAL-S")
    stated = {
        "fs-m3": "0.041 0.039 0.031 0.059 0.068 16Sd3jk44kDDhpkbO6fkZ4JrGDGT8rTcA 1hmIFlfKGwIHWYMRz9qGfVGzu4ZVbURXk",
        "fs-r50": "0.031 0.031 0.026 0.047 0.060 1LeSxaZ8jLin5UOKm2TBQckv0IhPFDI54 1Neks1YNJNVLhpGD5BJWAzelxlibwD1nU",
        "fs-stb": "0.026 0.023 0.021 0.045 0.051 1d-jhK5WBLes-ME-cNIIXh5pMZHnXGPi4 1DI4yjPJsxYytNnrPbxwd3ziKDx3LYN7E",
        "kd-r50": "0.035 0.035 0.029 0.052 0.061 1pzR914hF078dJ762DLFoVOk72AREtjVn 1bnYjTTFJBBiGp-KPVRUbBDlDXkzITkyk",
        "kd-stb": "0.035 0.030 0.026 0.054 0.056 1WX8iFMkuE8RxFtOwJT_bPlyyBu84n0Eq 1dc76-jVW1tabeMhehj2WC39iolUKXFVI",
    }
    for model in release.release().models:
        *scores, weight, maps = stated[model.name].split()
        assert model.mae == dict(zip(sets, map(float, scores)))
        assert "id=%s&" % weight in model.url and model.page == "https://drive.google.com/file/d/%s/view" % weight
        assert model.maps_page == "https://drive.google.com/file/d/%s/view" % maps
    assert release.release().baidu.endswith("16xQwUFdp8t3hk3Oa5ifMrg") and release.release().baidu_code == "sota"


def test_names_of_entries():
    published = release.release()
    assert published.find("KD-R50") is published.find("KD-SCFNet (R50)") is published.find("kd-scfnet_r50.pdparams")
    assert published.find("resnet50").kind == "backbone" and published.find("fs-r50").kind == "scfnet"
    with pytest.raises(UserError, match="no 'r34' in the release: one of fs-m3, "):
        published.find("r34")


# The folder ----------------------------------------------------------------------------------------------------------


def test_which_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KDSCFNET_WEIGHTS", raising=False)
    assert release.weights_folder() == ROOT / "weights"  # of the clone
    monkeypatch.setattr(release, "CHECKOUT", tmp_path / "site-packages")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert release.weights_folder() == tmp_path / "cache" / "kdscfnet" / "weights"  # of an installed package
    assert release.weights_folders() == [release.users_folder()]
    monkeypatch.setattr(release, "CHECKOUT", ROOT)
    (tmp_path / "weights").mkdir()
    assert release.weights_folder() == Path("weights")
    monkeypatch.setenv("KDSCFNET_WEIGHTS", str(tmp_path / "mine"))
    assert release.weights_folder() == tmp_path / "mine"
    assert release.weights_folder(str(tmp_path / "flag")) == tmp_path / "flag"
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="is a file, not a folder"):
        release.weights_folder(tmp_path / "file")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "weights"]


def test_finding_weights(folder, student):
    assert find_weights() == []
    (folder / "deeper").mkdir()
    (folder / ".hidden").mkdir()
    write_weights(folder / "my run.pdparams", student)
    for name in (
        "deeper/KD-SCFNet_STB.pdparams",
        "fs-scfnet.pdparams",
        "SCFNet_R50.pdparams",
        ".tmp-x.pdparams",
        ".hidden/a.pdparams",
        "notes.txt",
    ):
        shutil.copy(str(folder / "my run.pdparams"), str(folder / name))
    (folder / "broken.pdparams").write_bytes(b"<html>")
    write_weights(folder / "head.pdparams", {"a": np.zeros(3, "f4")})
    found = find_weights()
    assert [
        (Path(item.path).name, item.title, item.entry and item.entry.teacher, item.test_size()) for item in found
    ] == [
        ("fs-scfnet.pdparams", "FS-SCFNet", "", (352, 352)),
        ("KD-SCFNet_STB.pdparams", "KD-SCFNet (STB)", "swin_b", (384, 384)),
        # a student under a teacher's name is not the published teacher
        ("SCFNet_R50.pdparams", "SCFNet_R50", None, (352, 352)),
        ("my run.pdparams", "my run", None, (352, 352)),
    ]
    assert found[1].entry.mae["ECSSD"] == 0.030 and found[1].entry is release.release().find("kd-stb")
    assert found[2].entry is None
    assert all(item.backbone == "mobilenetv3" for item in found)
    assert WeightFile(folder / "broken.pdparams").kind == "broken"
    assert WeightFile(folder / "head.pdparams").kind == "other"


@pytest.mark.parametrize("content", [b"", b"<html>quota exceeded</html>", "half of it"])
def test_a_bundled_student_that_is_damaged_is_said(tmp_path, content):
    """In a copy of the package, whose bundled file was cut short by a full disk or a broken clone."""
    file = "scfnet_mobilenetv3_duts10k.pdparams"
    shutil.copytree(str(ROOT / "kdscfnet"), str(tmp_path / "kdscfnet"), ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "weights").mkdir()
    shutil.copy(str(ROOT / "weights" / "manifest.yaml"), str(tmp_path / "weights"))
    whole = (ROOT / "weights" / file).read_bytes()
    (tmp_path / "weights" / file).write_bytes(whole[: len(whole) // 2] if content == "half of it" else content)
    (tmp_path / "set" / "image").mkdir(parents=True)
    shutil.copytree(str(tmp_path / "set" / "image"), str(tmp_path / "set" / "mask"))
    for folder in (tmp_path / "set" / "image", tmp_path / "set" / "mask"):
        cv2.imwrite(str(folder / "a.png"), np.zeros((8, 8), np.uint8))

    def kdscfnet(*words):
        settings = dict(os.environ, PYTHONPATH=str(tmp_path), KDSCFNET_WEIGHTS=str(tmp_path / "none"))
        command = [sys.executable, "-m", "kdscfnet", *words]
        done = subprocess.run(command, capture_output=True, text=True, cwd=str(tmp_path), env=settings)
        assert "Traceback" not in done.stderr, done.stderr
        return done

    listed = kdscfnet("weights", "list")
    assert listed.returncode == 0 and listed.stdout.startswith("name ")
    assert file in listed.stdout + listed.stderr  # it is there, and no use
    assert "MAE 0.079" not in listed.stdout
    for words in (["test", "--data", "set"], ["predict", "set/image/a.png", "-o", "out"]):
        refused = kdscfnet(*words)
        (line,) = [line for line in refused.stderr.splitlines() if line.startswith("kdscfnet")]
        assert refused.returncode == 2 and file in line and "backbone is" not in line


@pytest.mark.parametrize(
    "backbone, parameters", [("mobilenetv3", 800154), ("resnet50", 26148420), ("swin_b", 88359932)]
)
def test_parameter_counts(backbone, parameters):
    """architecture.md: trainable numbers and BatchNorm statistics."""
    arrays = {key: np.broadcast_to(np.float32(0), shape) for key, shape in networks.shape_tables()[backbone].items()}
    assert count_parameters(arrays) == parameters


# ImageNet backbones --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def imagenet():
    """A file as PaddleClas publishes it: the backbone and the classifier's last layers."""
    arrays = random_arrays(networks.expected("backbone", "mobilenetv3")[0], seed=1)
    arrays.update(
        random_arrays(
            {
                "last_second_conv.conv.weight": (480, 80, 1, 1),
                "last_second_conv.bn._mean": (480,),
                "last_conv.weight": (1280, 480, 1, 1),
                "fc.weight": (1280, 10),
                "fc.bias": (10,),
            }
        )
    )
    return arrays


@pytest.fixture(scope="module")
def model():
    return kdscfnet.SCFNet("mobilenetv3")


def backbone_is(model, arrays):
    return all((tensor.numpy() == arrays[key]).all() for key, tensor in model.bkbone.state_dict().items())


def test_backbone_by_path(folder, model, imagenet):
    path = folder / "somewhere.pdparams"
    write_weights(path, imagenet)
    decoder = model.linear2.weight.numpy()
    report = load_backbone(model, path)
    assert report.loaded == 262 and backbone_is(model, imagenet)
    assert sorted(report.ignored) == [
        "fc.bias",
        "fc.weight",
        "last_conv.weight",
        "last_second_conv.bn._mean",
        "last_second_conv.conv.weight",
    ]
    assert (model.linear2.weight.numpy() == decoder).all()
    assert load_backbone(model, "none") is None


def test_backbone_auto(folder, model, imagenet, monkeypatch):
    def cleared():
        model.bkbone.conv.conv.weight.set_value(np.zeros([8, 3, 3, 3], "f4"))

    asked = []
    it, fetched = folder.parent / "it.pdparams", folder.parent / "fetched.pdparams"
    write_weights(it, imagenet)
    shutil.copy(str(it), str(fetched))
    monkeypatch.setattr(download, "fetch", lambda entry, *_, **__: asked.append(entry.file) or fetched)
    # the download comes last
    cleared()
    load_backbone(model, "auto")
    assert asked == ["MobileNetV3_large_x0_5_pretrained.pdparams"] and backbone_is(model, imagenet)
    # then the cache of PaddleClas
    cache = folder.parent / "home" / ".paddleclas" / "weights"
    cache.mkdir(parents=True)
    shutil.copy(str(it), str(cache / asked[0]))
    cleared()
    assert load_backbone(model, "auto").path == str(cache / asked[0])
    assert backbone_is(model, imagenet)
    # first the weights folder, under its name or another
    shutil.copy(str(it), str(folder / "x.pdparams"))
    assert load_backbone(model, "auto").path == str(folder / "x.pdparams")
    shutil.copy(str(it), str(folder / asked[0]))
    assert load_backbone(model, "auto").path == str(folder / asked[0])
    # something else under that name is passed over
    (folder / asked[0]).write_bytes(b"<html>")
    assert load_backbone(model, "auto").path == str(folder / "x.pdparams")
    assert len(asked) == 1


def test_backbone_without_a_way_out(folder, model, monkeypatch):
    monkeypatch.setenv("KDSCFNET_MIRROR", "http://127.0.0.1:9")  # nobody is there
    with pytest.raises(WeightsError) as caught:
        load_backbone(model, "auto", attempts=1)
    for part in ("MobileNetV3_large_x0_5_pretrained.pdparams", str(folder), "https://", "--pretrained none"):
        assert part in str(caught.value)
    assert [path.suffix for path in folder.iterdir()] == [".lock"]  # which stays: to remove it is a race


def test_wrong_backbone_files(folder, model, imagenet, student):
    before = [tensor.numpy() for tensor in model.state_dict().values()]
    path = folder / "a.pdparams"

    def refused(arrays, says):
        write_weights(path, arrays)
        with pytest.raises(WeightsError, match=says):
            load_backbone(model, path)

    refused(student, "holds a whole SCFNet, not the ImageNet weights")
    refused(
        {key: np.zeros(shape, "i1") for key, shape in networks.expected("backbone", "resnet50")[0].items()},
        "ImageNet weights of resnet50, not of mobilenetv3",
    )
    refused({key: value for key, value in imagenet.items() if key != "conv.conv.weight"}, "missing conv.conv.weight")
    refused(dict(imagenet, more=np.zeros(2, "f4")), "unexpected more")
    refused(dict(imagenet, **{"conv.bn._mean": np.full(8, np.nan, "f4")}), "NaN or infinite values in conv.bn._mean")
    assert all((old == tensor.numpy()).all() for old, tensor in zip(before, model.state_dict().values()))


def test_the_resnet_of_paddle_vision_is_ours():
    from paddle.vision.models import resnet50

    arrays = resnet50().state_dict()
    assert "fc.weight" in arrays and networks.identify(arrays) == ("backbone", "resnet50")


# verify and the command line -----------------------------------------------------------------------------------------


def test_verify(folder, student):
    path = folder / "a.pdparams"
    write_weights(path, student)
    good = WeightFile(path)
    report, same_as = good.verify()
    assert good.backbone == "mobilenetv3" and report.loaded == 354 and same_as == ""
    assert good.sha256 == file_sha256(path) and len(good.sha256) == 64
    entry = release.release().find("fs-m3")
    WeightFile(path).verify(dataclasses.replace(entry, sha256=good.sha256))
    for wrong in (dataclasses.replace(entry, sha256="0" * 64), dataclasses.replace(entry, md5="0" * 32)):
        with pytest.raises(
            WeightsError, match="has the name of the published FS-SCFNet, but its (SHA-256|MD5) differs"
        ):
            WeightFile(path).verify(wrong)
    with pytest.raises(
        WeightsError, match="holds SCFNet with the backbone mobilenetv3, not SCFNet with the backbone resnet50"
    ):
        WeightFile(path).verify(release.release().find("fs-r50"))
    with pytest.raises(
        WeightsError, match="holds SCFNet with the backbone mobilenetv3, not the ImageNet backbone mobilenetv3"
    ):
        WeightFile(path).verify(release.release().find("mobilenetv3"))
    # what is nearly a network is compared with that network
    write_weights(path, dict(list(student.items())[5:]))
    with pytest.raises(WeightsError, match="missing bkbone.conv.conv.weight, .* and 2 more"):
        WeightFile(path).verify()


def run(capsys, *arguments):
    code = cli.main(["weights", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out, err


def test_list(folder, student, imagenet, capsys):
    code, out, err = run(capsys, "list")
    assert code == 0 and err == "" and out.count("missing") == 8
    assert str(folder) in out and "KD-SCFNet_STB.pdparams" in out
    assert max(map(len, out.splitlines())) <= 150
    write_weights(folder / "KD-SCFNet_R50.pdparams", student)
    write_weights(folder / "mine.pdparams", student)
    write_weights(folder / "MobileNetV3_large_x0_5_pretrained.pdparams", imagenet)
    (folder / "SCFNet_STB.pdparams").write_bytes(b"<html>quota")
    code, out, err = run(capsys, "list")
    assert out.count("missing") == 5 and out.count("here ") == 2
    assert "SCFNet_STB.pdparams is a web page" in out
    assert "mine.pdparams: SCFNet with the backbone mobilenetv3" in out
    code, out, err = run(capsys, "list", "--links", "--weights-folder", folder / "none")
    assert "https://drive.google.com/file/d/1pzR914hF078dJ762DLFoVOk72AREtjVn/view" in out and "(code sota)" in out
    assert "1bnYjTTFJBBiGp-KPVRUbBDlDXkzITkyk" in out and "save it as KD-SCFNet_R50.pdparams in" in out
    assert not (folder / "none").exists()


def test_verify_verb(folder, student, capsys):
    write_weights(folder / "FS-SCFNet.pdparams", student)
    code, out, err = run(capsys, "verify", folder / "FS-SCFNet.pdparams")
    assert code == 0 and err == ""
    for part in (
        "mobilenetv3",
        "800,154 parameters",
        "354 entries",
        "FS-SCFNet",
        "0.039",
        file_sha256(folder / "FS-SCFNet.pdparams"),
    ):
        assert part in out
    (folder / "bad.pdparams").write_bytes(b"cos\nsystem\n")
    code, out, err = run(capsys, "verify", folder / "bad.pdparams", folder / "FS-SCFNet.pdparams")
    assert code == 2 and "BAD   %s: not a weight file" % (folder / "bad.pdparams") in out and "good " in out
    assert err == "1 of 2 files are bad\n"


def test_verify_compares_a_file_with_its_namesake(folder, student, capsys, monkeypatch):
    ours = Path(bundled().path)
    path, title = folder / ours.name, release.release().bundled.title
    shutil.copy(str(ours), str(path))
    code, out, err = run(capsys, "verify", path)
    assert code == 0 and "the bundled %s, byte for byte (by its SHA-256)\n" % title in out
    write_weights(path, student)  # the right network with other numbers
    code, out, err = run(capsys, "verify", path)
    assert code == 2 and "good" not in out
    says = "BAD   %s: has the name of the bundled %s, but its SHA-256 differs: it is another file, or damaged\n"
    assert out == says % (path, title)
    # under another name it is nobody's namesake
    write_weights(folder / "mine.pdparams", student)
    code, out, err = run(capsys, "verify", folder / "mine.pdparams")
    assert code == 0 and "byte for byte" not in out
    # an MD5 is as good; an entry without a checksum promises nothing
    name, published = folder / "KD-SCFNet_R50.pdparams", release.release()
    write_weights(name, student)
    assert run(capsys, "verify", name)[0] == 0
    md5 = hashlib.md5(name.read_bytes()).hexdigest()
    for checksum, expected in ((md5, 0), ("0" * 32, 2)):
        models = [dataclasses.replace(m, md5=checksum if m.name == "kd-r50" else "") for m in published.models]
        changed = dataclasses.replace(published, models=tuple(models))
        monkeypatch.setattr(release, "release", lambda changed=changed: changed)
        code, out, err = run(capsys, "verify", name)
        assert code == expected and ("the published KD-SCFNet (R50), byte for byte (by its MD5)" in out) == (code == 0)
    assert "has the name of the published KD-SCFNet (R50), but its MD5 differs" in out


def test_verify_of_a_converted_file(folder, capsys):
    pytest.importorskip("safetensors")
    target = folder / Path(bundled().path).with_suffix(".safetensors").name
    assert run(capsys, "convert", bundled().path, target)[0] == 0
    code, out, err = run(capsys, "verify", target)
    assert code == 0 and "byte for byte" not in out and "by its name: %s" % release.release().bundled.title in out


def test_convert_verb(folder, student, capsys):
    pytest.importorskip("safetensors")
    first, second, third = folder / "a.pdparams", folder / "b.safetensors", folder / "c.pdparams"
    write_weights(first, student)
    assert run(capsys, "convert", first, second)[0] == 0
    assert run(capsys, "convert", second, third)[0] == 0
    assert first.read_bytes() == third.read_bytes()
    code, out, err = run(capsys, "convert", first, third)
    assert code == 2 and "is there already: --overwrite replaces it" in err
    assert run(capsys, "convert", first, third, "--overwrite")[0] == 0
    code, out, err = run(capsys, "convert", first, folder / "d.pth")
    assert code == 2 and "ends with .pdparams or .safetensors" in err
    second.write_bytes(b"\x80\x02cos\nsystem\nX\x01\x00\x00\x00a\x85R.")
    code, out, err = run(capsys, "convert", second, third, "--force")
    assert code == 2 and "os.system" in err and first.read_bytes() == third.read_bytes()


def test_convert_refuses_in_one_line(folder, capsys):
    pytest.importorskip("safetensors")
    first, second = folder / "a.pdparams", folder / "b.safetensors"
    for key in ("a\ud800", "__metadata__"):
        write_weights(first, {key: np.ones(2, "f4")})
        code, out, err = run(capsys, "convert", first, second)
        assert code == 2 and out == "" and err.count("\n") == 1
        assert err.startswith("kdscfnet weights: %s: cannot be written: the key '%s" % (second, key[:1]))
        assert not second.exists()
    first.unlink()
    header = b'{"a":{"dtype":"C64","shape":[1],"data_offsets":[0,8]}}'
    second.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    code, out, err = run(capsys, "convert", second, first)
    assert code == 2 and out == "" and err.count("\n") == 1 and "Traceback" not in err
    assert not first.exists()
    # without dimensions
    write_weights(first, {"a": np.array(2.5, "f4")})
    assert run(capsys, "convert", first, second, "--force")[0] == 0
    assert files.read_weights(second)["a"].shape == ()
    assert run(capsys, "convert", second, folder / "c.pdparams")[0] == 0
    assert (folder / "c.pdparams").read_bytes() == first.read_bytes()


def test_wrong_use(folder, capsys):
    with pytest.raises(SystemExit) as caught:
        run(capsys)
    assert caught.value.code == 2
    code, out, err = run(capsys, "fetch", "resnet34")
    assert code == 2 and "there is no 'resnet34' in the release" in err and not list(folder.iterdir())


def test_the_wheels_copy_of_the_manifest(tmp_path):
    """Without a clone around it, the package reads the copy that setup.py puts beside release.py."""
    shutil.copytree(str(ROOT / "kdscfnet"), str(tmp_path / "kdscfnet"), ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("manifest.yaml", release.release().bundled.file):
        shutil.copy(str(ROOT / "weights" / name), str(tmp_path / "kdscfnet" / "weights" / name))
    out = subprocess.run(
        [sys.executable, "-m", "kdscfnet", "weights", "list"],
        cwd=str(tmp_path),
        check=True,
        stdout=subprocess.PIPE,
        env=dict(os.environ, PYTHONPATH="", KDSCFNET_WEIGHTS="", KDSCFNET_CACHE=str(tmp_path / "cache")),
    ).stdout.decode()
    assert "KD-SCFNet_STB.pdparams" in out and "Weights folder: %s" % (tmp_path / "cache" / "weights") in out
    assert "Bundled" in out and str(tmp_path / "kdscfnet" / "weights" / release.release().bundled.file) in out


def test_the_bundled_student_is_what_the_manifest_says():
    found, entry = bundled(), release.release().bundled
    assert found.is_bundled and Path(found.path).stat().st_size < 4e6
    assert (found.backbone, found.test_size()) == (entry.backbone, (entry.test_size, entry.test_size))
    found.verify(entry)  # structure, finite values, SHA-256
    assert found.title == entry.title
    card = Path(found.path).with_suffix(".md").read_text(encoding="utf-8")
    assert "not the authors" in card.splitlines()[0] + card.splitlines()[2]
    for name, mae in entry.measured.items():
        assert "%.4f" % mae in card and name in card
    assert resolve("bundled").path == found.path


# WeightFile and the test size -----------------------------------------------------------------------------------------


def test_list_says_what_is_wrong_with_the_bundled_file(folder, tmp_path, monkeypatch, capsys):
    (tmp_path / "clone" / "weights").mkdir(parents=True)
    damaged = tmp_path / "clone" / "weights" / release.release().bundled.file
    damaged.write_bytes(b"<html>quota")
    monkeypatch.setattr(release, "CHECKOUT", tmp_path / "clone")
    code, out, err = run(capsys, "list")
    assert code == 0 and err == "" and "%s: a web page, not a weight file" % damaged in out


def test_sizes():
    for text in (352, "352", " 352", (352, 352), [352, 352], "352x352", "352X352", "352×352", np.int64(352)):
        assert as_size(text) == (352, 352)
    assert as_size("320x256") == as_size((320, 256)) == (320, 256)
    for wrong in (0, -1, "", "x", "352x", "1x2x3", (1, 2, 3), (), "big", None, "9000", [None]):
        with pytest.raises(UserError, match="^--size "):
            as_size(wrong, "--size")
    with pytest.raises(UserError, match="size is '16': 32 or more, or HEIGHTxWIDTH"):
        as_size("16", smallest=32)


def test_the_ranking_of_test_sizes(folder, student):
    """The caller's; the run's; the release's; the backbone's."""
    run_folder = folder / "run"
    (run_folder / "weights").mkdir(parents=True)
    for name in ("KD-SCFNet_STB.pdparams", "mine.pdparams", "run/KD-SCFNet_STB.pdparams", "run/weights/best.pdparams"):
        write_weights(folder / name, student)
    assert WeightFile(folder / "mine.pdparams").test_size() == (352, 352)
    assert WeightFile(folder / "KD-SCFNet_STB.pdparams").test_size() == (384, 384)
    for said, size in ((224, (224, 224)), ([320, 256], (320, 256)), ("big", None), (True, None), ([], None)):
        (run_folder / "run.json").write_text('{"test_size": %s}' % json.dumps(said))
        assert WeightFile(run_folder / "KD-SCFNet_STB.pdparams").test_size() == (size or (384, 384))
        assert WeightFile(run_folder / "weights" / "best.pdparams").test_size() == (size or (352, 352))
        assert WeightFile(run_folder / "weights" / "best.pdparams").test_size("96x64") == (96, 64)
    with pytest.raises(UserError, match="size is 0"):
        WeightFile(folder / "mine.pdparams").test_size(0)


def test_the_test_size_of_an_exported_network_is_its_sidecars(folder):
    network, sidecar = folder / "net.onnx", folder / "net.onnx.json"
    network.write_bytes(b"network")
    (folder / "run.json").write_text('{"test_size": 96}')  # a run wrote no .onnx
    assert WeightFile(network).kind == "exported" and WeightFile(network).test_size() == (352, 352)
    about = {"backbone": "swin_b", "test_size": [320, 256], "file": {"sha256": file_sha256(network)}}
    sidecar.write_text(json.dumps(about))
    exported = resolve(network)
    assert (exported.backbone, exported.test_size(), exported.sidecar) == ("swin_b", (320, 256), about)
    for wrong in ({"test_size": "large"}, {"file": None}, {"file": {"sha256": "0" * 64}}):
        sidecar.write_text(json.dumps(dict(about, **wrong)))
        with pytest.raises(UserError, match="export (it )?anew"):
            resolve(network)


def test_what_a_weight_file_is_is_found_out_once(folder, student, monkeypatch):
    write_weights(folder / "mine.pdparams", student)
    opened = []
    real = files.open_regular
    monkeypatch.setattr(files, "open_regular", lambda path: opened.append(str(path)) or real(path))
    weight_file = resolve(folder / "mine.pdparams")
    assert resolve(weight_file) is weight_file and str(weight_file) == os.fspath(weight_file) == weight_file.path
    assert (weight_file.kind, weight_file.backbone, weight_file.title) == ("scfnet", "mobilenetv3", "mine")
    assert weight_file.sha256 == file_sha256(weight_file.path) and weight_file.test_size() == (352, 352)
    assert len(opened) == 1
    assert all((array == student[key]).all() for key, array in files.read_weights(weight_file).items())


def test_errors_carry_path_and_reason(folder):
    (folder / "a.pdparams").write_bytes(b"<html>")
    with pytest.raises(WeightsError) as caught:
        files.read_weights(folder / "a.pdparams")
    error = pickle.loads(pickle.dumps(caught.value))
    assert error.path == str(folder / "a.pdparams") and error.reason.startswith("a web page, not a weight file")
    assert str(error) == "%s: %s" % (error.path, error.reason)
