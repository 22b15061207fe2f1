"""What a training, a test and a prediction start from: copies under other names, the user's folder, two runs' finals;
and a recipe on a set that is small for it."""

from __future__ import annotations

import math
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from training import run_small

from kdscfnet import recipes
from kdscfnet.cli import main
from kdscfnet.errors import UserError
from kdscfnet.evaluation.model_scores import find_models
from kdscfnet.schedule import learning_rate
from kdscfnet.training.options import TrainOptions
from kdscfnet.weights import download, networks, release
from kdscfnet.weights.backbone import find_backbone
from kdscfnet.weights.files import read_weights, write_weights
from kdscfnet.weights.weightfile import WeightFile, bundled, find_weights, resolve

ROOT = Path(__file__).resolve().parent.parent
ZEROS = {key: np.zeros(shape, "f4") for key, shape in networks.shape_tables()["mobilenetv3"].items()}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An installed package's world: no clone, no weights folder, a home of our own."""
    monkeypatch.chdir(tmp_path)
    for name in ("KDSCFNET_WEIGHTS", "KDSCFNET_CACHE", "XDG_CACHE_HOME", "KDSCFNET_MIRROR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    entry = release.release().bundled
    monkeypatch.setattr(release, "CHECKOUT", tmp_path / "site-packages")
    (tmp_path / "site-packages" / "weights").mkdir(parents=True)
    shutil.copy(str(ROOT / "weights" / entry.file), str(tmp_path / "site-packages" / "weights"))
    return tmp_path


# Copies --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mine.pdparams", "run/final.pdparams", "w/best.pdparams", "SCFNet_R50.pdparams"])
def test_a_copy_under_another_name_is_known_by_its_digest(place, capsys, name):
    copy = place / name
    copy.parent.mkdir(exist_ok=True)
    shutil.copy(bundled().path, str(copy))
    found = WeightFile(copy)
    assert found.entry is release.release().bundled and found.title == found.entry.title
    assert found.test_size() == (256, 256) and not found.is_bundled
    assert list(find_models([str(copy)])) == [copy.stem]
    assert main(["weights", "verify", str(copy)]) == 0
    assert "by its SHA-256: %s" % found.title in capsys.readouterr().out
    assert main(["weights", "list", "--weights-folder", str(copy.parent)]) == 0
    assert copy.name in capsys.readouterr().out


def test_a_copy_that_was_trained_further_is_another_network(place):
    arrays = dict(read_weights(bundled().path))
    arrays["linear2.bias"] = arrays["linear2.bias"] + np.float32(1)
    write_weights(place / "mine.pdparams", arrays)
    assert WeightFile(place / "mine.pdparams").entry is None
    assert WeightFile(place / "mine.pdparams").test_size() == (352, 352)


# The user's folder ---------------------------------------------------------------------------------------------------


def test_weights_fetched_once_are_found_from_every_folder(place, monkeypatch, capsys):
    entry = release.release().find("kd-stb")
    sent = place / "mirror.pdparams"
    write_weights(sent, ZEROS)

    class Sent(download._Download):
        def run(self, *_):
            self.file.write(sent.read_bytes())

    monkeypatch.setattr(download, "_Download", Sent)
    users = place / "home" / ".cache" / "kdscfnet" / "weights" / entry.file
    assert download.fetch(entry) == users
    for name in ("a", "b"):
        (place / name).mkdir()
        monkeypatch.chdir(place / name)
        assert resolve("kd-stb").path == str(users) == resolve(None).path
        assert download.fetch(entry) == users
        assert [item.path for item in find_weights()] == [str(users)]
        assert not os.listdir(".")


def test_the_projects_own_weights_come_before_the_users(place, capsys):
    users = release.users_folder()
    users.mkdir(parents=True)
    for name in ("KD-SCFNet_STB.pdparams", "FS-SCFNet.pdparams"):
        write_weights(users / name, ZEROS)
    (place / "weights").mkdir()
    assert resolve(None).entry.name == "kd-stb" and resolve(None).path.startswith(str(users))
    write_weights(place / "weights" / "mine.pdparams", ZEROS)
    assert resolve(None).path == "weights/mine.pdparams"
    assert [item.path for item in find_weights()] == ["weights/mine.pdparams"]
    assert resolve("fs-m3").path == str(users / "FS-SCFNet.pdparams")
    write_weights(place / "weights" / "FS-SCFNet.pdparams", ZEROS)
    assert resolve("fs-m3").path == "weights/FS-SCFNet.pdparams"
    assert find_weights(users)[0].path.startswith(str(users))
    assert main(["weights", "list"]) == 0
    out = capsys.readouterr().out
    assert "KD-SCFNet_STB.pdparams is found as %s" % (users / "KD-SCFNet_STB.pdparams") in out


def test_a_backbone_in_the_users_folder_is_found(place):
    entry = next(item for item in release.release().backbones if item.backbone == "mobilenetv3")
    assert find_backbone("mobilenetv3") is None
    path = release.users_folder() / entry.file
    path.parent.mkdir(parents=True)
    shapes = networks.expected("backbone", "mobilenetv3")[0]
    write_weights(path, {key: np.zeros(shape, "f4") for key, shape in shapes.items()})
    assert find_backbone("mobilenetv3").path == str(path)


# Names of runs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "paths,titles",
    [
        (["a/final", "b/final"], ["a/final", "b/final"]),
        (["a/weights/best", "b/weights/best"], ["a/best", "b/best"]),
        (["a/final", "a/weights/best"], ["final", "best"]),
        (["x/run/final", "y/run/final"], ["x/run/final.pdparams", "y/run/final.pdparams"]),
        (["a/final", "b/final", "c/final"], ["a/final", "b/final", "c/final"]),
    ],
)
def test_runs_of_one_name_are_told_apart_by_their_folders(place, paths, titles):
    for path in paths:
        home = place / path.replace("/weights/best", "/final")
        home.parent.mkdir(parents=True, exist_ok=True)
        (home.parent / "run.json").write_text("{}")
        (place / path).parent.mkdir(exist_ok=True)
        write_weights(place / (path + ".pdparams"), dict(ZEROS, **{"linear2.bias": np.full(1, len(path), "f4")}))
    models = find_models([path + ".pdparams" for path in paths])
    assert [item.title for item in models.values()] == titles
    assert len(models) == len(paths)


# Recipes and small sets ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "images,batch,turns,world,taken",
    [(8, 128, 1, 1, 8), (8, 3, 3, 1, 2), (9, 8, 1, 2, 4), (8, 8, 1, 1, 8), (1, 128, 1, 1, 1), (7, 2, 3, 1, 2)],
)
def test_a_batch_larger_than_the_set_becomes_the_set(images, batch, turns, world, taken):
    said = []
    recipe = replace(recipes.ALL_RECIPES["fs-m3"], batch_size=batch)
    fitting = TrainOptions(accumulate=turns).fit_batch(recipe, images, world, said.append)
    assert fitting == replace(recipe, batch_size=taken)
    larger = taken < batch
    assert said == larger * [
        "a batch of %d is larger than the data (%d images): --batch-size %d is taken"
        % (batch * turns * world, images, taken)
    ]
    with pytest.raises(UserError, match="a step of 9 images"):
        TrainOptions(accumulate=9).fit_batch(recipe, 8, 1, said.append)


@pytest.mark.parametrize(
    "images,batch,epochs,warmup,rises",
    [(8, 8, 3, 5, True), (8, 2, 5, 5, True), (8, 8, 9, 5, True), (8, 8, 13, 5, False), (8, 2, 3, 0, False)],
)
def test_a_warm_up_that_never_ends_is_said(images, batch, epochs, warmup, rises):
    said = []
    recipe = replace(recipes.ALL_RECIPES["fs-m3"], batch_size=batch, epochs=epochs, warmup_epochs=warmup)
    TrainOptions().say_of_the_rate(recipe, images, 1, said.append)
    steps = math.ceil(images / batch) * epochs
    rates = [learning_rate(step, images, batch, epochs, warmup, recipe.max_lr, recipe.min_lr) for step in range(steps)]
    assert (rates == sorted(rates)) == rises == bool(said)
    if rises:
        assert "the training has %d: the learning rate only rises, to %.2g" % (steps, rates[-1]) in said[0]


def test_a_run_says_both(data, tmp_path, capsys):
    """With the defaults of a recipe but for its length."""
    words = ["--batch-size", "128", "--warmup-epochs", "5", "--epochs", "1", "--sizes", "32"]
    assert run_small(data, tmp_path / "run", *words) == 0
    out = capsys.readouterr().out
    assert out.count("--batch-size 8 is taken") == 1 == out.count("the learning rate only rises")
