"""`kdscfnet test`: from weights and data sets to maps and scores.

Most run with a stand-in for the network and test everything around it; two run the network itself.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
import scored_set

import kdscfnet.inference.predictor
from kdscfnet.cli import main
from kdscfnet.evaluation import model_scores
from kdscfnet.images import read_mask
from kdscfnet.weights.weightfile import bundled


class FakePredictor:
    """Bright is salient. Has what the pipeline needs of a Predictor."""

    made = []

    def __init__(self, weights, backbone, engine, size, threads, device):
        self.engine = "onnxruntime" if engine == "auto" else engine
        self.size, self.threads, self.network = (size, size), threads or 2, self
        self.concurrent = True
        self.made.append((os.path.basename(str(weights)), backbone, self.engine, size))

    def logits(self, images, threads=None):
        return np.stack([(cv2.resize(image, self.size)[None, :, :, 1] - 110.0) / 40 for image in images]).astype(
            np.float32
        )


def write_weights(path, backbone="mobilenetv3"):
    """A weight file of zeros that is recognised as one of our networks."""
    from safetensors.numpy import save_file

    from kdscfnet.weights import networks

    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {key: np.zeros(shape, np.float32) for key, shape in networks.shape_tables()[backbone].items()}
    arrays["cv1.1._mean"] = np.full_like(arrays["cv1.1._mean"], len(path.stem))  # files of different names differ
    save_file(arrays, str(path))
    return path


@pytest.fixture
def place(tmp_path, monkeypatch):
    """weights/FS-SCFNet.safetensors and data/{ECSSD,PASCAL-S} in the current folder, and the stand-in predictor."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KDSCFNET_WEIGHTS", raising=False)
    write_weights(tmp_path / "weights" / "FS-SCFNet.safetensors")
    for seed, name in enumerate(("ECSSD", "PASCAL-S")):
        scored_set.make_data(tmp_path / "data" / name, seed=seed)
    monkeypatch.setattr(kdscfnet.inference.predictor, "Predictor", FakePredictor)
    monkeypatch.setattr(FakePredictor, "made", [])
    return tmp_path


def run(*arguments):
    return main(["test", *arguments])


def fast(*arguments):
    return run("--scores", "mae", "--no-report", *arguments)


def times(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.png")}


def test_without_arguments_all_weights_on_all_test_sets(place, capsys):
    write_weights(place / "weights" / "KD-SCFNet_STB.safetensors")
    write_weights(place / "weights" / "mine.safetensors")
    (place / "weights" / "page.pdparams").write_bytes(b"<html>quota exceeded</html>")
    scored_set.make_data(place / "data" / "DUTS-TR")  # a training set is not tested on
    assert run() == 0
    captured = capsys.readouterr()
    assert [made[:1] + made[3:] for made in FakePredictor.made] == [
        ("FS-SCFNet.safetensors", 352),
        ("KD-SCFNet_STB.safetensors", 384),
        ("mine.safetensors", 352),
    ]
    maps = sorted(path.relative_to(place).as_posix() for path in (place / "maps").rglob("*.png"))
    assert len(maps) == 3 * 2 * 8 and maps[0] == "maps/FS-SCFNet/ECSSD/0001.png"
    assert read_mask(place / maps[0]).shape == (40, 60)
    scores = json.loads((place / "scores" / "KD-SCFNet_STB.json").read_text())
    assert scores["weights"] == "weights/KD-SCFNet_STB.safetensors" and scores["size"] == 384
    assert list(scores["sets"]) == ["ECSSD", "PASCAL-S"] and scores["sets"]["ECSSD"]["images"] == 8
    lines = captured.out.splitlines()
    assert lines[1].split() == ["model", "ECSSD", "paper", "diff.", "PASCAL-S", "paper", "diff."]
    assert lines[3].startswith("  KD-SCFNet (STB)") and "0.030" in lines[3] and "0.056" in lines[3]
    assert "left out" in captured.err and "page.pdparams" in captured.err
    page = (place / "report" / "report.html").read_text(encoding="utf-8")
    assert "KD-SCFNet (STB)" in page and "mine" in page


@pytest.mark.parametrize(
    "words,stray", [(("--sets", "ECSSD", "PASCAL-S"), "drafts"), ((), "DUTS-TR"), ((), "KD-SOD80K")]
)
def test_a_folder_that_nobody_asked_for_blocks_nothing(place, capsys, words, stray):
    """What --sets leaves out, and the training sets, which are tested on only where they are asked for."""
    scored_set.make_data(place / "data" / stray)
    scored_set.write(place / "data" / stray / "images" / "a.png", np.zeros((4, 4), np.uint8))  # beside image/
    assert fast(*words) == 0, capsys.readouterr().err
    scores = json.loads((place / "scores" / "FS-SCFNet.json").read_text())
    assert list(scores["sets"]) == ["ECSSD", "PASCAL-S"]
    assert fast("--sets", stray) == 2  # asked for
    assert stray in capsys.readouterr().err


def test_the_bundled_student_stands_in(place, capsys):
    for path in (place / "weights").iterdir():
        path.unlink()
    assert fast() == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "bundled" in line]
    assert len(said) == 1 and "ours and not the authors'" in said[0]
    assert [made[0] for made in FakePredictor.made] == ["scfnet_mobilenetv3_duts10k.pdparams"]
    write_weights(place / "weights" / "mine.safetensors")
    shutil.copy(str(bundled().path), str(place / "weights"))  # as in a clone: there, and not asked for
    FakePredictor.made.clear()
    assert fast() == 0
    assert [made[0] for made in FakePredictor.made] == ["mine.safetensors"]
    assert "bundled" not in capsys.readouterr().err


def test_the_maps_are_scored_as_evaluate_scores_them(place):
    assert run("--no-report") == 0
    expected = kdscfnet.evaluate("maps/FS-SCFNet/ECSSD", "data/ECSSD")
    assert json.loads((place / "scores" / "FS-SCFNet.json").read_text())["sets"]["ECSSD"]["S"] == expected["S"]


def test_finished_maps_are_not_made_again(place, capsys):
    assert fast() == 0
    maps = place / "maps" / "FS-SCFNet" / "ECSSD"
    before = times(maps)
    for name in ("0002.png", "0007.png"):
        (maps / name).unlink()
    assert fast() == 0
    assert "6 maps were there already" in capsys.readouterr().err
    after = times(maps)
    assert {name for name in before if after[name] != before[name]} == {"0002.png", "0007.png"}
    FakePredictor.made.clear()
    assert fast() == 0
    assert times(maps) == after and not FakePredictor.made  # nothing to make: the network is not even loaded


def test_scores_of_earlier_runs_stay(place, capsys):
    def recorded():
        return json.loads((place / "o" / "scores" / "FS-SCFNet.json").read_text())

    assert fast("--sets", "PASCAL-S", "-o", "o") == 0
    first = recorded()
    assert fast("--sets", "ECSSD", "-o", "o") == 0
    both = recorded()
    assert list(both["sets"]) == ["ECSSD", "PASCAL-S"] and both["sets"]["PASCAL-S"] == first["sets"]["PASCAL-S"]
    assert {key: both[key] for key in both if key != "sets"} == {key: first[key] for key in first if key != "sets"}
    # a set that is measured again replaces its own entry
    assert run("--no-report", "--sets", "ECSSD", "-o", "o") == 0
    assert "S" in recorded()["sets"]["ECSSD"] and recorded()["sets"]["PASCAL-S"] == first["sets"]["PASCAL-S"]
    # the engine of the others is theirs
    assert fast("--sets", "ECSSD", "--engine", "paddle", "-o", "o") == 0
    assert recorded()["engine"] == "paddle" and recorded()["sets"]["PASCAL-S"]["engine"] == "onnxruntime"
    assert "engine" not in recorded()["sets"]["ECSSD"]
    # other weights, or another size, are another model
    assert fast("--sets", "ECSSD", "--size", "64", "--overwrite", "-o", "o") == 0
    assert list(recorded()["sets"]) == ["ECSSD"] and recorded()["size"] == 64


def test_evaluate_keeps_what_made_the_maps(place):
    assert fast("-o", "o") == 0
    path = place / "o" / "scores" / "FS-SCFNet.json"
    made = json.loads(path.read_text())
    assert main(["evaluate", "--maps", "o/maps", "--sets", "ECSSD", "-o", "o"]) == 0
    scores = json.loads(path.read_text())
    for key in ("weights", "backbone", "size", "engine", "sha256"):
        assert scores[key] == made[key]
    assert "S" in scores["sets"]["ECSSD"] and scores["sets"]["PASCAL-S"] == made["sets"]["PASCAL-S"]
    assert "FS-SCFNet.safetensors" in (place / "o" / "report" / "report.html").read_text(encoding="utf-8")
    # maps of somebody else under the same name are not these weights'
    shutil.copytree(str(place / "o" / "maps" / "FS-SCFNet" / "ECSSD"), str(place / "their" / "FS-SCFNet" / "ECSSD"))
    assert main(["evaluate", "--maps", "their", "--sets", "ECSSD", "--scores", "mae", "--no-report", "-o", "o"]) == 0
    scores = json.loads(path.read_text())
    assert scores["weights"] is None and "sha256" not in scores and list(scores["sets"]) == ["ECSSD"]


def test_overwrite_makes_all_maps_again(place):
    assert fast() == 0
    before = times(place / "maps" / "FS-SCFNet" / "ECSSD")
    assert fast("--overwrite") == 0
    after = times(place / "maps" / "FS-SCFNet" / "ECSSD")
    assert len(after) == 8 and not set(before.items()) & set(after.items())


def test_another_engine_makes_its_own_maps(place, capsys):
    assert fast() == 0
    before = times(place / "maps" / "FS-SCFNet" / "ECSSD")
    assert fast("--engine", "paddle") == 0
    assert "maps of the engine onnxruntime are made again with paddle" in capsys.readouterr().err
    after = times(place / "maps" / "FS-SCFNet" / "ECSSD")
    assert not set(before.items()) & set(after.items())
    assert json.loads((place / "scores" / "FS-SCFNet.json").read_text())["engine"] == "paddle"
    (place / "maps" / "FS-SCFNet" / "ECSSD" / "0001.png").unlink()
    assert fast() == 0  # auto goes on with the engine that began
    assert FakePredictor.made[-1][2] == "paddle"


@pytest.mark.parametrize(
    "change,message",
    [
        (
            lambda place: write_weights(place / "weights" / "FS-SCFNet.safetensors", "resnet50"),
            "maps made with other weights",
        ),
        (
            lambda place: (place / "maps" / "FS-SCFNet" / "ECSSD.json").unlink(),
            "maps that `kdscfnet test` did not make",
        ),
    ],
)
def test_maps_of_other_weights_are_neither_used_nor_lost(place, capsys, change, message):
    assert fast("--sets", "ECSSD") == 0
    before = times(place / "maps" / "FS-SCFNet" / "ECSSD")
    change(place)
    assert fast() == 2
    err = capsys.readouterr().err
    assert message in err and "--overwrite" in err
    assert times(place / "maps" / "FS-SCFNet" / "ECSSD") == before
    assert not (place / "maps" / "FS-SCFNet" / "PASCAL-S").exists()  # it was known before any map was made
    assert fast("--overwrite") == 0


def test_another_size_is_another_map(place, capsys):
    assert fast("--size", "64") == 0
    assert FakePredictor.made == [("FS-SCFNet.safetensors", "mobilenetv3", "onnxruntime", 64)]
    assert fast() == 2
    assert "maps made at size 64, not 352" in capsys.readouterr().err


def test_a_missing_mask_is_known_before_maps_are_made(place, capsys):
    (place / "data" / "ECSSD" / "mask" / "0003.png").unlink()
    (place / "data" / "PASCAL-S" / "image" / "0004.jpg").unlink()
    assert fast() == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert (
        "ECSSD: 1 missing mask (0003)" in last and "PASCAL-S: 1 missing map (0004: it has a mask and no image)" in last
    )
    assert not (place / "maps").exists() and not FakePredictor.made
    assert fast("--allow-missing") == 0
    sets = json.loads((place / "scores" / "FS-SCFNet.json").read_text())["sets"]
    assert sets["ECSSD"]["images"] == 7 and sets["PASCAL-S"]["images"] == 7
    assert (place / "maps" / "FS-SCFNet" / "ECSSD" / "0003.png").exists()  # its map is wanted even so


def test_a_set_without_masks(place, capsys):
    shutil.rmtree(str(place / "data" / "ECSSD" / "mask"))
    assert fast() == 2
    assert "data/ECSSD holds no masks" in capsys.readouterr().err and not (place / "maps").exists()
    assert fast("--allow-missing") == 0
    assert "its maps were made, there are no scores" in capsys.readouterr().out
    assert len(times(place / "maps" / "FS-SCFNet" / "ECSSD")) == 8
    sets = json.loads((place / "scores" / "FS-SCFNet.json").read_text())["sets"]
    assert sets["PASCAL-S"]["images"] == 8 and sets["ECSSD"]["images"] == 0
    assert sets["ECSSD"]["left_out"][0] == {"name": "0001", "problem": "missing mask"}
    # nothing to score at all
    assert run("--scores", "mae", "--allow-missing", "--sets", "ECSSD", "-o", "other") == 0
    said = capsys.readouterr().out
    assert "ECSSD (0 of 8 images)" in said and "nothing could be scored, of 8 images: 8 missing masks" in said
    assert json.loads((place / "other/scores/FS-SCFNet.json").read_text())["sets"]["ECSSD"]["images"] == 0
    lines = (place / "other" / "report" / "scores.csv").read_text().splitlines()
    assert lines[1].startswith("FS-SCFNet,ECSSD,,,0,8,0.039,,weights/") and len(lines) == 2
    maps = (place / "other" / "report" / "maps.csv").read_text().splitlines()
    assert maps[1] == "FS-SCFNet,ECSSD,0001,left out: missing mask: 0001" and len(maps) == 9


def test_an_image_that_cannot_be_read(place, capsys):
    image = place / "data" / "ECSSD" / "image" / "0006.jpg"
    image.write_bytes(image.read_bytes()[:300])
    assert fast("--sets", "ECSSD") == 2
    assert "FS-SCFNet, ECSSD: 1 unreadable file (0006.jpg: " in capsys.readouterr().err.splitlines()[-1]
    assert len(times(place / "maps" / "FS-SCFNet" / "ECSSD")) == 7 and not (place / "scores").exists()
    assert fast("--sets", "ECSSD", "--allow-missing") == 0
    assert json.loads((place / "scores" / "FS-SCFNet.json").read_text())["sets"]["ECSSD"]["images"] == 7


def test_a_map_left_over_from_another_image_is_refused(place, capsys):
    assert fast() == 0
    shutil.copy(str(place / "maps/FS-SCFNet/ECSSD/0001.png"), str(place / "maps/FS-SCFNet/ECSSD/0009.png"))
    assert fast() == 2
    assert "1 map without a mask (0009.png)" in capsys.readouterr().err


def test_files_of_one_name_from_two_folders(place):
    for folder in ("a", "b"):
        write_weights(place / folder / "best.safetensors")
    assert fast("--weights", "a/best.safetensors", "b/best.safetensors", "--sets", "ECSSD") == 0
    assert sorted(os.listdir("scores")) == ["b_best.json", "best.json"]
    assert list(model_scores.find_models(["a/best.safetensors", "./a/best.safetensors", "b"])) == ["best", "b_best"]


@pytest.mark.parametrize(
    "arguments,message",
    [
        (["--weights", "nowhere.pdparams"], "nowhere.pdparams"),
        (["--weights", "data"], "no weights in "),
        (["--weights", "notes.pdparams"], "notes.pdparams"),
        (["--data", "nowhere"], "there is no data folder nowhere"),
        (["--sets", "HKU-IS"], "there is no data set HKU-IS in data: found ECSSD, PASCAL-S"),
        (["--engine", "torch"], "invalid choice"),
        (["--size", "0"], "--size 0: 1 or more"),
        (["--size", "-3"], "--size -3: 1 or more"),
    ],
)
def test_mistakes_get_one_line(place, capsys, arguments, message):
    (place / "notes.pdparams").write_text("not a weight file")
    try:
        code = fast(*arguments)
    except SystemExit as stop:  # argparse
        code = stop.code
    err = capsys.readouterr().err
    assert code == 2 and message in err and err.count("\n") == 1 and not FakePredictor.made


# The process that is killed: a run on another set imports everything, then each line on its input forks a run.
_RUNNER = """
import os, sys, time
sys.path[:0] = [sys.argv[1], os.path.dirname(sys.argv[1])]
import kdscfnet.inference.predictor, test_test_command
kdscfnet.inference.predictor.Predictor = test_test_command.FakePredictor
quick = test_test_command.FakePredictor.logits
def slow(self, images, threads=None):  # or an idle machine is done before the last kill
    time.sleep(0.02 * len(images))
    return quick(self, images, threads)
test_test_command.FakePredictor.logits = slow
answers = os.fdopen(os.dup(1), "w")
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
os.dup2(1, 2)
test_test_command.fast("--sets", "PASCAL-S")
for line in sys.stdin:
    child = os.fork()
    if not child:
        os._exit(test_test_command.fast("--sets", "ECSSD"))
    print(child, file=answers, flush=True)
    print(os.waitpid(child, 0)[1], file=answers, flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork (Linux, macOS)")
def test_twenty_kills_leave_whole_maps_only_and_the_next_run_goes_on(place):
    names = ["%04d" % number for number in range(1, 401)]
    scored_set.make_data(place / "data" / "ECSSD", names, (120, 160))
    folder = place / "maps" / "FS-SCFNet" / "ECSSD"
    rng = random.Random(0)
    here = os.path.dirname(os.path.abspath(__file__))
    runner = subprocess.Popen([sys.executable, "-c", _RUNNER, here], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def say():
        runner.stdin.write(b"go\n")
        runner.stdin.flush()
        return int(runner.stdout.readline())

    killed, numbers, seen = 0, [0], {}
    for _ in range(20):
        child = say()
        # after so many more maps, and then at any moment: also where the machine is slow
        target, deadline = len(seen) + rng.randint(0, 10), time.time() + 60
        while len(list(folder.glob("[0-9]*.png"))) < target and time.time() < deadline:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.02))
        os.kill(child, signal.SIGKILL)
        killed += os.WIFSIGNALED(int(runner.stdout.readline()))
        found = times(folder) if folder.exists() else {}
        for path in folder.glob("*.png"):
            assert read_mask(path).shape == (120, 160)  # raises for a file that is not whole
        assert seen.items() <= found.items()  # what was finished is not made again
        seen = found
        numbers.append(len(found))
    assert killed == 20 and sum(b > a for a, b in zip(numbers, numbers[1:])) >= 5, numbers
    assert 0 < numbers[-1] < 400, numbers
    # evaluate reads every file that is there
    result = kdscfnet.evaluate(folder, place / "data" / "ECSSD", scores="mae", allow_missing=True)
    assert result["images"] == numbers[-1] and {problem.kind for problem in result.left_out} == {"missing map"}
    say()
    assert os.WEXITSTATUS(int(runner.stdout.readline())) == 0
    runner.stdin.close()
    assert runner.wait() == 0
    assert len(times(folder)) == 400 and seen.items() <= times(folder).items()
    # temporary files of the killed runs go once no running process can own them
    for path in folder.glob(".tmp-*"):
        os.utime(str(path), (time.time() - 7200,) * 2)
    (folder / "0001.png").unlink()
    assert fast("--sets", "ECSSD") == 0
    assert not list(folder.glob(".tmp-*"))


def _few(shared, place, number=6):
    """The first images of ECSSD as a data set of their own, and the authors' weights."""
    shutil.rmtree(str(place / "data"))
    for kind, suffix in (("image", ".jpg"), ("mask", ".png")):
        folder = place / "data" / "ECSSD" / kind
        folder.mkdir(parents=True)
        for name in scored_set.NAMES[:number]:
            shutil.copy(str(shared / "data" / "ECSSD" / kind / (name + suffix)), str(folder))
    shutil.copy(str(shared / "weights" / "scfnet_m3_authors_code.pdparams"), str(place))
    return place / "scfnet_m3_authors_code.pdparams"


@pytest.mark.parametrize("engine", ["paddle", "onnxruntime"])
def test_the_authors_weights_give_the_authors_maps(shared, place, monkeypatch, engine):
    monkeypatch.undo()
    monkeypatch.chdir(place)
    if engine == "onnxruntime":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("paddle2onnx")
    weights = _few(shared, place)
    assert fast("--weights", str(weights), "--engine", engine) == 0
    for path in (place / "maps" / "scfnet_m3_authors_code" / "ECSSD").glob("*.png"):
        authors = read_mask(shared / "golden" / "maps" / path.name).astype(int)
        assert np.abs(read_mask(path) - authors).max() <= 1
    scores = json.loads((place / "scores" / "scfnet_m3_authors_code.json").read_text())
    assert scores["engine"] == engine
    # the mean over the maps of both engines, recorded with the authors' maps
    authors = shutil.copytree(str(shared / "golden" / "maps"), str(place / "authors"))
    expected = kdscfnet.evaluate(authors, "data/ECSSD", allow_missing=True, scores="mae")
    assert scores["sets"]["ECSSD"]["MAE"] == pytest.approx(expected["MAE"], abs=1e-4)
