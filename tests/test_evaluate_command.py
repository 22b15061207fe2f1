from __future__ import annotations

import csv
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import scored_set

from kdscfnet.cli import main


@pytest.fixture
def place(tmp_path, monkeypatch):
    """data/{ECSSD,PASCAL-S} and maps/{first,second}/<SET> in the current folder."""
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("ECSSD", "PASCAL-S")):
        masks = scored_set.make_data(tmp_path / "data" / name, seed=seed)
        scored_set.make_maps(tmp_path / "maps" / "first" / name, masks, 10)
        # as PASCAL-S is called in some archives
        scored_set.make_maps(tmp_path / "maps" / "second" / name.replace("PASCAL-S", "PASCALS"), masks, 60)
    return tmp_path


def evaluate(*arguments):
    return main(["evaluate", *arguments])


def scores_of(place, method):
    return json.loads((place / "scores" / (method + ".json")).read_text(encoding="utf-8"))


def test_several_methods_and_sets(place, capsys):
    assert evaluate("--maps", "maps") == 0
    out = capsys.readouterr().out
    assert out.splitlines()[:2] == ["MAE, lower is better", "  model    ECSSD  PASCAL-S"]
    first, second = scores_of(place, "first"), scores_of(place, "second")
    assert list(first["sets"]) == list(second["sets"]) == ["ECSSD", "PASCAL-S"]
    assert first["sets"]["ECSSD"]["images"] == 8 and first["weights"] is None
    assert first["sets"]["PASCAL-S"]["MAE"] < second["sets"]["PASCAL-S"]["MAE"]
    assert "%.4f" % first["sets"]["ECSSD"]["maxF"] in out
    assert (place / "report" / "report.html").exists() and (place / "report" / "ECSSD-pr.png").exists()
    assert "report/report.html" in out


def spoil(folder, how):
    """A folder that is no data set anybody could choose."""
    scored_set.make_data(folder)
    if how == "two folders of images":
        scored_set.write(folder / "images" / "a.png", np.zeros((4, 4), np.uint8))
    elif how == "two files of one name":
        scored_set.write(folder / "image" / "0001.png", np.zeros((4, 4), np.uint8))
    else:
        (folder / "test.txt").write_text("0001\nnobody\n")


@pytest.mark.parametrize("how", ["two folders of images", "two files of one name", "a list that names nobody"])
def test_a_folder_that_nobody_asked_for_blocks_nothing(place, capsys, how):
    spoil(place / "data" / "drafts", how)
    spoil(place / "data" / "HKU-IS", how)
    words = ("--maps", "maps/first", "--scores", "mae", "--no-report", "--sets")
    assert evaluate(*words, "ECSSD") == 0, capsys.readouterr().err
    assert list(scores_of(place, "first")["sets"]) == ["ECSSD"]
    assert evaluate(*words, "ECSSD", "drafts") == 2  # asked for
    assert "drafts" in capsys.readouterr().err


@pytest.mark.parametrize(
    "maps,data,expected",
    [
        (["maps/first", "maps/second"], "data", {"first": 2, "second": 2}),
        (["maps/second"], "data/PASCAL-S", {"second": 1}),
        (["maps/first/ECSSD"], "data", {"first": 1}),
        (["maps/first/ECSSD"], "data/ECSSD/mask", {"first": 1}),
        (["maps/first/PASCAL-S", "maps/second/PASCALS"], "data/PASCAL-S", {"first": 1, "second": 1}),
    ],
)
def test_where_maps_and_masks_may_lie(place, maps, data, expected):
    assert evaluate("--maps", *maps, "--data", data, "--scores", "mae", "--no-report", "-o", "out") == 0
    found = {path.stem: len(json.loads(path.read_text())["sets"]) for path in (place / "out" / "scores").iterdir()}
    assert found == expected
    assert not (place / "out" / "report").exists()


def test_a_set_may_be_chosen_in_any_spelling(place):
    assert evaluate("--maps", "maps", "--sets", "pascals", "--scores", "mae", "--no-report") == 0
    assert list(scores_of(place, "second")["sets"]) == ["PASCAL-S"]
    assert set(scores_of(place, "second")["sets"]["PASCAL-S"]) == {"MAE", "MAE_unstretched", "images"}


def test_the_papers_figures_stand_beside_released_maps(place, capsys):
    (place / "maps" / "first").rename(place / "maps" / "KD-SCFNet_R50")
    assert evaluate("--maps", "maps", "--scores", "mae", "--no-report") == 0
    out = capsys.readouterr().out
    assert "KD-SCFNet (R50)" in out and "0.035" in out and "0.061" in out
    assert "ECSSD has 8 images here; the paper's figure is of 1000" in out
    sets = scores_of(place, "KD-SCFNet_R50")["sets"]
    assert sets["ECSSD"]["difference"] == sets["ECSSD"]["MAE"] - 0.035


def test_strict_lists_everything_and_writes_nothing(place, capsys):
    (place / "maps" / "first" / "ECSSD" / "0002.png").unlink()
    (place / "maps" / "second" / "PASCALS" / "0003.png").write_bytes(b"no image")
    assert evaluate("--maps", "maps") == 2
    captured = capsys.readouterr()
    assert "first, ECSSD: missing map: 0002\n" in captured.err
    assert (
        "second, PASCAL-S: unreadable file: 0003.png (not an image that OpenCV or Pillow can decode)\n" in captured.err
    )
    last = captured.err.splitlines()[-1]
    assert last.startswith("kdscfnet evaluate: first, ECSSD: 1 missing map (0002); second, PASCAL-S: 1 unreadable")
    assert last.endswith("--allow-missing scores the rest") and "Traceback" not in captured.err and not captured.out
    assert not (place / "scores").exists() and not (place / "report").exists()


def test_quiet_tells_failures_and_results_alone(place, capsys):
    assert evaluate("--maps", "maps/second", "--no-report", "--quiet") == 0
    captured = capsys.readouterr()
    assert captured.err == "" and "second" in captured.out
    (place / "maps" / "first" / "ECSSD" / "0002.png").unlink()
    for words, code in (([], 2), (["--allow-missing", "--no-report"], 0)):
        assert evaluate("--maps", "maps/first", "--sets", "ECSSD", "--quiet", *words) == code
        said = [line for line in capsys.readouterr().err.splitlines() if "missing map: 0002" in line]
        assert said == ["kdscfnet: first, ECSSD: missing map: 0002"]


def test_allow_missing_says_so_in_every_output(place, capsys):
    (place / "maps" / "first" / "ECSSD" / "0002.png").unlink()
    assert evaluate("--maps", "maps", "--allow-missing", "--sets", "ECSSD") == 0
    said = "first on ECSSD: 7 of 8 images scored (--allow-missing); left out: 1 missing map"
    assert said in capsys.readouterr().out
    for name in ("report.html", "tables.md", "tables.tex"):
        text = (place / "report" / name).read_text(encoding="utf-8")
        assert said in text and "ECSSD (7 of 8 images" in text, name
    assert scores_of(place, "first")["sets"]["ECSSD"]["left_out"] == [{"name": "0002", "problem": "missing map"}]
    assert (
        "first,ECSSD," in (place / "report" / "scores.csv").read_text()
        and ",7,1," in (place / "report" / "scores.csv").read_text()
    )
    assert "left out: missing map: 0002" in (place / "report" / "maps.csv").read_text()


def test_what_has_no_scores_at_all_is_in_every_output(place, capsys):
    """One set of a method, a set of all methods, and a method of which nothing can be scored."""
    scored_set.make_maps(place / "maps" / "third" / "PASCAL-S", scored_set.make_data(place / "spare"))
    for folder in ("first/ECSSD", "second/ECSSD", "third/PASCAL-S"):
        for path in (place / "maps" / folder).iterdir():
            path.write_bytes(b"")
    assert evaluate("--maps", "maps", "--allow-missing") == 0
    out = capsys.readouterr().out
    assert "MAE, lower is better; ECSSD (0 of 8 images); PASCAL-S (0 of 8 images)" in out
    lines = [line.split() for line in out.splitlines()]
    assert ["model", "ECSSD", "PASCAL-S"] in lines and ["third", "-", "-"] in lines
    assert ["second", "0"] in lines and ["third"] + ["-"] * 10 + ["0"] in lines  # the tables of ECSSD, PASCAL-S
    report = place / "report"
    for name in ("report.html", "tables.md", "tables.tex"):
        text = (report / name).read_text(encoding="utf-8")
        for said in ("second on ECSSD: nothing could", "third on PASCAL-S: nothing could", "ECSSD (0 of 8 images)"):
            assert said in text, (name, said)
    assert "left out: unreadable file: 0004.png" in (report / "report.html").read_text(encoding="utf-8")
    scores = list(csv.DictReader(open(str(report / "scores.csv"), encoding="utf-8")))
    assert len(scores) == 5
    empty = [(row["model"], row["set"]) for row in scores if row["images"] == "0"]
    assert empty == [("first", "ECSSD"), ("second", "ECSSD"), ("third", "PASCAL-S")]
    assert all(row["MAE"] == row["S"] == "" and row["left_out"] == "8" for row in scores if row["images"] == "0")
    maps = list(csv.DictReader(open(str(report / "maps.csv"), encoding="utf-8")))
    assert len(maps) == 5 * 8 and sum(row["note"].startswith("left out: unreadable") for row in maps) == 3 * 8
    assert scores_of(place, "third")["sets"]["PASCAL-S"]["images"] == 0
    assert not (report / "ECSSD-maps.png").exists() and (report / "PASCAL-S-maps.png").exists()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has names that are no text")
def test_names_that_are_not_utf_8(place):
    """As zip files from Chinese Windows leave them; in a process of its own, whose output is strict."""
    odd = b"\xca\xfd"
    for folder, suffix in (("data/ECSSD/image", b".jpg"), ("data/ECSSD/mask", b".png"), ("maps/first/ECSSD", b".png")):
        for name in (b"0003", b"0004"):
            os.rename(
                os.path.join(folder.encode(), name + suffix), os.path.join(folder.encode(), odd + name[-1:] + suffix)
            )
    scored_set.write(place / "maps" / "first" / "ECSSD" / "flat.png", np.full((40, 60), 90, np.uint8))
    os.rename(b"maps/first/ECSSD/flat.png", b"maps/first/ECSSD/" + odd + b"4.png")  # a constant map: there is a note
    os.rename(b"maps/first", b"maps/" + odd)
    command = [sys.executable, "-m", "kdscfnet", "evaluate", "--maps", "maps", "--sets", "ECSSD", "--allow-missing"]
    environment = dict(os.environ, PYTHONIOENCODING="utf-8", PYTHONPATH=os.path.dirname(os.path.dirname(__file__)))
    done = subprocess.run(command, capture_output=True, env=environment)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    assert rb"(\udcca\udcfd4)" in done.stdout
    assert r",\udcca\udcfd3," in (place / "report" / "maps.csv").read_text(encoding="utf-8")
    assert os.path.exists(b"scores/" + odd + b".json") and (place / "report" / "ECSSD-maps.png").exists()


def test_a_long_list_of_problems_goes_to_a_file(place, capsys):
    names = ["%04d" % number for number in range(1, 31)]
    scored_set.make_data(place / "data" / "ECSSD", names)
    assert evaluate("--maps", "maps/first", "--sets", "ECSSD") == 2
    err = capsys.readouterr().err
    assert err.count("missing map: ") == 20 and "and 2 more of this kind" in err and "report/problems.txt" in err
    assert len((place / "report" / "problems.txt").read_text().splitlines()) == 22
    scored_set.make_maps(place / "maps" / "first" / "ECSSD", scored_set.make_data(place / "data" / "ECSSD", names))
    assert evaluate("--maps", "maps/first", "--sets", "ECSSD", "--scores", "mae", "--no-report") == 0
    assert not (place / "report" / "problems.txt").exists()


def test_a_set_of_which_nothing_can_be_scored_does_not_cost_the_others(place, capsys):
    for path in (place / "maps" / "first" / "ECSSD").iterdir():
        path.write_bytes(b"")
    assert evaluate("--maps", "maps/first", "--allow-missing", "--no-report") == 0
    sets = scores_of(place, "first")["sets"]
    assert sets["PASCAL-S"]["images"] == 8 and sets["ECSSD"]["images"] == 0 and len(sets["ECSSD"]["left_out"]) == 8
    captured = capsys.readouterr()
    assert captured.err.count("first, ECSSD: unreadable file: ") == 8
    assert "first on ECSSD: nothing could be scored, of 8 images: 8 unreadable files" in captured.out
    assert evaluate("--maps", "maps/first", "--allow-missing", "--sets", "ECSSD") == 2
    assert "nothing could be scored" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments,message",
    [
        (["--maps", "nowhere"], "there is no folder of maps nowhere"),
        (["--maps", "maps", "--data", "nowhere"], "there is no data folder nowhere"),
        (["--maps", "data/ECSSD/image", "--sets", "ECSSD", "--data", "empty"], "holds no data set"),
        (["--maps", "empty"], "empty holds no maps of ECSSD, PASCAL-S: expected empty/ECSSD/*.png"),
        (["--maps", "loose"], "loose holds maps, but of which set? Name one: --sets ECSSD"),
        (["--maps", "maps", "--sets", "SOD"], "there is no data set SOD in data: found ECSSD, PASCAL-S"),
        (["--maps", "maps", "--threads", "0"], "argument --threads: 0 is out of range (from 1)"),
        (["--maps", "maps", "--data", "unlabelled"], "unlabelled holds no masks"),
    ],
)
def test_mistakes_get_one_line(place, capsys, arguments, message):
    (place / "empty").mkdir()
    scored_set.make_maps(place / "loose", scored_set.make_data(place / "spare"))
    (place / "unlabelled").mkdir()
    (place / "spare" / "image").rename(place / "unlabelled" / "image")
    try:
        code = evaluate(*arguments)
    except SystemExit as stop:  # argparse
        code = stop.code
    err = capsys.readouterr().err
    assert code == 2 and message in err and err.count("\n") == 1


def unlabel(place, name):
    for path in (place / "data" / name / "mask").iterdir():
        path.unlink()


def test_maps_of_a_set_that_has_no_masks_are_no_secret(place, capsys):
    unlabel(place, "ECSSD")
    assert evaluate("--maps", "maps", "--scores", "mae") == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "data/ECSSD holds no masks: expected data/ECSSD/mask/*.png" in err
    assert "first and second" in err and "--allow-missing" in err and not (place / "scores").exists()
    assert evaluate("--maps", "maps", "--scores", "mae", "--sets", "PASCAL-S", "--no-report") == 0
    assert "ECSSD" not in "".join(capsys.readouterr())
    assert evaluate("--maps", "maps", "--scores", "mae", "--sets", "ECSSD") == 2
    assert "data/ECSSD holds no masks" in capsys.readouterr().err

    assert evaluate("--maps", "maps", "--scores", "mae", "--allow-missing") == 0
    captured = capsys.readouterr()
    said = "data/ECSSD holds no masks: expected data/ECSSD/mask/*.png; maps of it are not scored (--allow-missing)"
    assert captured.err.count(said) == 1 and captured.out.count(said) == 1
    assert said in (place / "report" / "report.html").read_text(encoding="utf-8")
    ecssd = scores_of(place, "second")["sets"]["ECSSD"]
    assert (ecssd["images"], ecssd["images_expected"], len(ecssd["left_out"])) == (0, 8, 8)
    assert ecssd["left_out"][0] == {"name": "0001", "problem": "missing mask"}
    assert scores_of(place, "second")["sets"]["PASCAL-S"]["images"] == 8


def test_maps_of_sets_that_are_not_there_are_said(place, capsys):
    (place / "data" / "ECSSD").rename(place / "elsewhere")
    assert evaluate("--maps", "maps", "--scores", "mae") == 0
    captured = capsys.readouterr()
    for method in ("first", "second"):
        said = "%s has maps of ECSSD, and data holds no such data set: left out" % method
        assert captured.err.count(said) == 1 and captured.out.count(said) == 1
        assert said in (place / "report" / "report.html").read_text(encoding="utf-8")
        assert said in (place / "report" / "tables.md").read_text(encoding="utf-8")
    # also of a method that has maps of nothing else, and not where the set was not asked for
    for path in (place / "maps" / "second" / "PASCALS").iterdir():
        path.unlink()
    (place / "maps" / "second" / "PASCALS").rmdir()
    assert evaluate("--maps", "maps", "--scores", "mae", "--no-report") == 0
    assert "second has maps of ECSSD, and data holds no such data set" in capsys.readouterr().out
    assert evaluate("--maps", "maps", "--scores", "mae", "--sets", "PASCAL-S", "--no-report") == 0
    assert "ECSSD" not in "".join(capsys.readouterr())
    # maps of one known set are not scored on another, where numbers are the names of both
    assert evaluate("--maps", "maps/second", "--scores", "mae", "--no-report") == 2
    assert "maps/second holds no maps of PASCAL-S" in capsys.readouterr().err


def test_an_unlabelled_set_beside_labelled_ones_is_passed_over(place):
    scored_set.make_data(place / "data" / "KD-SOD80K")
    for path in (place / "data" / "KD-SOD80K" / "mask").iterdir():
        path.unlink()
    (place / "data" / "KD-SOD80K" / "mask").rmdir()
    assert evaluate("--maps", "maps", "--scores", "mae", "--no-report") == 0


def test_maps_by_sequence_of_methods_and_sets(place, capsys):
    for kind, suffix in (("image", ".jpg"), ("mask", ".png")):
        for number in range(1, 9):
            source = place / "data" / "ECSSD" / kind / ("%04d%s" % (number, suffix))
            target = place / "data" / "MoCA" / kind / ("seq%d" % (number % 2)) / source.name
            target.parent.mkdir(parents=True, exist_ok=True)
            source.rename(target)
    (place / "data" / "MoCA" / "image" / "seq1" / "0011.JXL").write_bytes(b"x")
    for source in sorted((place / "maps" / "first" / "ECSSD").iterdir()):
        target = place / "maps" / "net" / "MoCA" / ("seq%d" % (int(source.stem) % 2)) / source.name
        target.parent.mkdir(parents=True, exist_ok=True)
        source.rename(target)
    for maps in ("maps", "maps/net", "maps/net/MoCA"):
        assert evaluate("--maps", maps, "--sets", "MoCA", "--scores", "mae", "--no-report") == 0, maps
        scores = scores_of(place, "net")["sets"]["MoCA"]
        assert scores["images"] == 8
    said = "data/MoCA/image: left out: 1 .jxl"
    out = capsys.readouterr().out
    assert out.count("note: " + said) == 3 and scores["passed_over"][0].startswith(said)
