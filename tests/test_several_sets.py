"""Several data sets in one training, and a teacher's maps beside the labels."""

from __future__ import annotations

import json
import shutil

import numpy as np
import paddle
import pytest
from training import assert_same_run, losses_of, make_set, run_small

from kdscfnet.losses import soft_target_loss, supervised_loss
from kdscfnet.training.steps import LabelsAndMapsStep


@pytest.fixture(scope="module")
def halves(tmp_path_factory):
    """A set of eight images, and the same images as two sets of four, the odd and the even ones."""
    root = tmp_path_factory.mktemp("sets")
    whole = make_set(root)
    for kind, suffix in (("image", ".jpg"), ("mask", ".png")):
        for index in range(8):
            folder = root / ("odd" if index % 2 else "even") / kind
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(str(whole / kind / ("%d%s" % (index, suffix))), str(folder))
    return whole, root / "even", root / "odd"


def test_two_halves_train_as_the_whole_in_any_order(halves, tmp_path, capsys):
    whole, even, odd = halves
    assert run_small(whole, tmp_path / "one", "--hold-out", "2") == 0
    capsys.readouterr()
    assert run_small(odd, tmp_path / "two", "--hold-out", "2", "--data", str(odd), str(even)) == 0
    said = capsys.readouterr().out.splitlines()
    assert "odd: 4 images, 4 masks" in said and "even: 4 images, 4 masks" in said
    assert json.loads((tmp_path / "two" / "run.json").read_text())["image_sets"] == [["odd", 4], ["even", 4]]
    assert_same_run(tmp_path / "one", tmp_path / "two")
    # the images are those of the run: it goes on though the sets are now one
    assert run_small(whole, tmp_path / "two", "--hold-out", "2", "--resume", "auto") == 0
    assert "is complete" in capsys.readouterr().out


def test_a_name_in_two_sets_is_two_images(halves, tmp_path, capsys):
    whole, even, odd = halves
    assert run_small(whole, tmp_path / "run", "--data", str(whole), str(odd), "--batch-size", "12") == 0
    assert json.loads((tmp_path / "run" / "run.json").read_text())["images"] == 12
    capsys.readouterr()
    distil = ["--images", str(whole), str(odd), "--teacher-maps", str(whole / "mask")]
    assert run_small(whole, tmp_path / "kd", *distil, recipe="kd-r50") == 2
    assert "both hold an image 1: give each its own folder" in capsys.readouterr().err
    assert run_small(whole, tmp_path / "kd", *distil, str(odd / "mask"), recipe="kd-r50") == 0


def test_a_set_given_twice_is_refused(halves, tmp_path, capsys):
    whole = halves[0]
    assert run_small(whole, tmp_path / "run", "--data", str(whole), str(whole) + "/.") == 2
    assert "is given twice" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_labels_and_maps_are_weighed():
    """The step's losses and gradients are the weighted sums of the two losses'; weight 0 is the labels' loss."""
    rng = np.random.default_rng(0)
    mask, soft = ((rng.random((2, 1, 32, 32)) > 0.5).astype("float32"), rng.random((2, 1, 32, 32)).astype("float32"))
    logits = [paddle.to_tensor(rng.standard_normal((2, 1, 32, 32)).astype("float32")) for _ in range(4)]
    both = paddle.to_tensor(np.concatenate([mask, soft], 1))
    labels, label_parts = supervised_loss(logits, paddle.to_tensor(mask), 3)
    maps, map_parts = soft_target_loss(logits, paddle.to_tensor(soft))
    assert abs(float(labels) - float(maps)) > 0.1
    for weight in (0.0, 0.25, 1.0):
        total, parts = LabelsAndMapsStep(weight)(lambda images: logits, None, both, 3)
        assert float(total) == pytest.approx((1 - weight) * float(labels) + weight * float(maps), rel=1e-6)
        for part, hard, easy in zip(parts, label_parts, map_parts):
            assert float(part) == pytest.approx((1 - weight) * float(hard) + weight * float(easy), rel=1e-6)


def test_a_run_on_labels_and_maps(halves, tmp_path, capsys):
    """Maps that are the masks, at no weight: the training on labels alone. At some weight: another one."""
    whole = halves[0]
    maps = ["--teacher-maps", str(whole / "mask")]
    assert run_small(whole, tmp_path / "labels") == 0
    assert run_small(whole, tmp_path / "refused", *maps) == 2
    assert "--teacher-maps needs a --map-weight" in capsys.readouterr().err
    assert run_small(whole, tmp_path / "refused", "--map-weight", "0.5") == 2
    assert "--map-weight is for labels and a teacher's maps together" in capsys.readouterr().err
    assert run_small(whole, tmp_path / "refused", *maps, "--map-weight", "0.5", recipe="kd-r50") == 2
    assert not (tmp_path / "refused").exists()
    for name, workers in (("both", "0"), ("workers", "2")):
        assert run_small(whole, tmp_path / name, *maps, "--map-weight", "0.5", "--workers", workers) == 0
    assert_same_run(tmp_path / "both", tmp_path / "workers")
    about = json.loads((tmp_path / "both" / "run.json").read_text())
    assert about["targets"] == "masks and teacher maps" and about["teacher_map_files"] and about["map_weight"] == 0.5
    assert losses_of(tmp_path / "both")[1] != losses_of(tmp_path / "labels")[1]
    assert run_small(whole, tmp_path / "both", *maps, "--map-weight", "0.4", "--resume", "auto") == 2
    assert "map_weight was 0.5, is 0.4" in capsys.readouterr().err
