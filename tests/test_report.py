from __future__ import annotations

import csv
import io
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
import scored_set

import kdscfnet
from kdscfnet.evaluation import pictures, tables
from kdscfnet.evaluation.methods import published
from kdscfnet.evaluation.report import write_report
from kdscfnet.evaluation.results import Result, remarks, write_scores


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Two methods on two sets; the first is a released model by name, the second lacks a map and is called oddly."""
    root = tmp_path_factory.mktemp("report")
    good, poor = (
        Result(
            "FS-SCFNet",
            "FS-SCFNet",
            paper={"ECSSD": 0.039, "HKU-IS": 0.031},
            weights="weights/FS-SCFNet.pdparams",
            details={"size": 352, "sha256": "ab" * 32},
        ),
        Result("other_50%", title="Other_50% <&>"),
    )
    for number, name in enumerate(("ECSSD", "PASCAL-S")):
        masks = scored_set.make_data(root / name, ["%04d" % n for n in range(1, 13)], seed=number)
        for result, noise in ((good, 10), (poor, 90)):
            maps = root / result.name / name
            scored_set.make_maps(maps, masks, noise)
            if result is poor and name == "ECSSD":
                (maps / "0007.png").unlink()
            result.sets[name] = kdscfnet.evaluate(maps, root / name, allow_missing=True)
    return [good, poor]


def test_a_released_model_is_known_by_its_file_title_or_recipe():
    assert published("KD-SCFNet_STB").title == "KD-SCFNet (STB)"
    assert published("kd-scfnet_stb").mae["ECSSD"] == 0.030
    assert published("fs-m3").title == "FS-SCFNet"
    assert published("CSNet-L-x2") is None


def test_the_mae_table_has_the_papers_and_the_difference_beside_released_models(results):
    table = tables.mae_table(results)
    assert table.header == ["model", "ECSSD", "paper", "diff.", "PASCAL-S"]
    mae = results[0].sets["ECSSD"]["MAE"]
    assert table.rows[0][:4] == ["FS-SCFNet", "%.4f" % mae, "0.039", "%+.4f" % (mae - 0.039)]
    assert table.rows[1][2:4] == ["-", "-"]
    assert table.best == {(0, 1), (0, 4)}
    assert "ECSSD (11 of 12 images)" in table.title
    lines = tables.as_text(table).splitlines()
    assert len({len(line) for line in lines[1:]}) == 1  # columns line up


def test_the_best_of_each_score_is_marked(results):
    table = tables.set_table(results, "PASCAL-S")
    assert table.header[1:-1] == list(results[0].sets["PASCAL-S"])[:-1] and table.rows[0][-1] == "12"
    assert table.best == {(0, column) for column in range(1, 11)}  # less noise is better in every score
    alone = tables.set_table(results[:1], "PASCAL-S")
    assert not alone.best


def test_markdown_and_latex(results):
    table = tables.mae_table(results)
    rows = tables.as_markdown(table).splitlines()
    assert rows[4].startswith("| FS-SCFNet | **0.") and rows[3] == "|---|---:|---:|---:|---:|"
    assert len({row.count("|") for row in rows[2:]}) == 1
    latex = tables.as_latex(table)
    assert r"Other\_50\% <\&>" in latex and r"\textbf{0." in latex and "& -- &" in latex
    assert latex.count(r"\\") == 3 and latex.count("&") - latex.count(r"\&") == 4 * 3
    assert r"$F_\beta^w$" in tables.as_latex(tables.set_table(results, "ECSSD"))


def test_csv_files_hold_full_precision(results):
    lines = list(csv.DictReader(io.StringIO(tables.scores_csv(results))))
    assert [(line["model"], line["set"]) for line in lines][:2] == [("FS-SCFNet", "ECSSD"), ("FS-SCFNet", "PASCAL-S")]
    for line, scores in zip(lines, [result.sets[name] for result in results for name in result.sets]):
        assert float(line["MAE"]) == scores["MAE"] and float(line["adpE"]) == scores["adpE"]
        assert int(line["images"]) == scores["images"] and int(line["left_out"]) == len(scores.left_out)
    assert float(lines[0]["difference"]) == results[0].difference("ECSSD") and lines[1]["card_MAE"] == ""
    maps = list(csv.DictReader(io.StringIO(tables.per_image_csv(results))))
    assert len(maps) == 4 * 12
    assert [line["note"] for line in maps if line["note"]] == ["left out: missing map: 0007"]
    assert float(maps[0]["S"]) == results[0].sets["ECSSD"].per_image[0].values["S"]


def test_remarks_name_what_was_left_out_and_incomplete_sets(results):
    found = remarks(results)
    assert "Other_50% <&> on ECSSD: 11 of 12 images scored (--allow-missing); left out: 1 missing map" in found
    assert "ECSSD has 12 images here; the paper's figure is of 1000" in found
    assert len(found) == 2


def test_scores_json(results, tmp_path):
    import json

    data = json.loads(open(write_scores(results[0], str(tmp_path)), encoding="utf-8").read())
    assert (data["model"], data["weights"], data["size"]) == ("FS-SCFNet", "weights/FS-SCFNet.pdparams", 352)
    assert data["sets"]["PASCAL-S"] == dict(results[0].sets["PASCAL-S"])
    assert data["sets"]["ECSSD"]["card_MAE"] == 0.039
    data = json.loads(open(write_scores(results[1], str(tmp_path)), encoding="utf-8").read())
    ecssd = data["sets"]["ECSSD"]
    assert (ecssd["images"], ecssd["images_expected"]) == (11, 12)
    assert ecssd["left_out"] == [{"name": "0007", "problem": "missing map"}]


def test_examples_are_the_best_the_median_and_the_worst(results):
    ranked = sorted(results[0].sets["PASCAL-S"].per_image, key=lambda scored: scored.values["MAE"])
    names = [scored.name for scored in ranked]
    chosen = pictures.choose_examples(results[:1], "PASCAL-S")
    assert list(chosen.items()) == [("best", names[:3]), ("median", names[4:7]), ("worst", names[-3:])]
    both = pictures.choose_examples(results, "ECSSD")
    assert "0007" not in sum(both.values(), [])  # one method has no map of it


@pytest.mark.parametrize("number", [1, 2, 4])
def test_few_maps_make_a_small_grid(tmp_path, number):
    masks = scored_set.make_data(tmp_path / "ECSSD", scored_set.NAMES[:number])
    scored_set.make_maps(tmp_path / "maps", masks)
    result = Result("few", "few", sets={"ECSSD": kdscfnet.evaluate(tmp_path / "maps", tmp_path / "ECSSD" / "mask")})
    chosen = pictures.choose_examples([result], "ECSSD")
    names = sum(chosen.values(), [])
    assert len(set(names)) == len(names) == min(number, 3)
    figure = pictures.grid([result], "ECSSD")  # without images: masks and maps alone
    assert len(figure.axes) == 2 * len(names)


def test_curves_show_every_method_and_the_thresholds_the_right_way_round(results):
    figure = pictures.curves(results, "ECSSD", "f")
    assert figure.axes[0].get_title() == "ECSSD (11 of 12 images)"
    lines = figure.axes[0].get_lines()
    assert len(lines) == 2
    x, y = lines[0].get_data()
    scores = results[0].sets["ECSSD"]
    assert y.max() == scores["maxF"] and x[np.argmax(y)] not in (0, 255)
    everything_salient = list(x).index(0)  # at threshold 0 every pixel is: precision is the share of the foreground
    assert scores.curves["recall"][everything_salient] == 1
    assert pictures.curves([Result("mae", "mae", sets={"ECSSD": _mae_only(results)})], "ECSSD", "pr") is None


def _mae_only(results):
    scores = type(results[0].sets["ECSSD"])(results[0].sets["ECSSD"])
    scores.per_image, scores.curves = results[0].sets["ECSSD"].per_image, {}
    return scores


@pytest.fixture(scope="module")
def folder(results, tmp_path_factory):
    """A whole report."""
    folder = tmp_path_factory.mktemp("written")
    assert write_report(results, str(folder), ["a warning of this run"]) == str(folder / "report.html")
    return folder


def test_pictures_of_an_earlier_report_go(results, folder, tmp_path):
    for path in folder.iterdir():
        shutil.copy(str(path), str(tmp_path))
    for name in ("notes-f.png", "notes.txt"):  # somebody else's
        (tmp_path / name).write_bytes(b"mine")
    write_report([Result("mae", "mae", sets={"ECSSD": _mae_only(results)})], str(tmp_path))
    pictures_left = sorted(path.name for path in tmp_path.iterdir() if path.suffix in (".png", ".pdf"))
    assert pictures_left == ["ECSSD-maps.png", "notes-f.png"] and (tmp_path / "notes.txt").exists()


def test_dollar_signs_in_names_are_no_formulas(tmp_path):
    """Names that matplotlib takes for formulas, or leaves out of a legend, are shown as they are."""
    names = ["x$_$", r"a\$b$^$", "plain"]
    root = tmp_path / "S$_$"
    masks = scored_set.make_data(root, names)
    results = []
    for method in ("_m$_$", "other$^$"):
        scored_set.make_maps(tmp_path / method, masks)
        results.append(Result(method, method, sets={"S$_$": kdscfnet.evaluate(tmp_path / method, root)}))
    (tmp_path / "other$^$" / "plain.png").unlink()
    results[1].sets["S$_$"] = kdscfnet.evaluate(tmp_path / "other$^$", root, allow_missing=True)
    write_report(results, str(tmp_path / "report"))  # draws all of them
    write_report(results[:1], str(tmp_path / "alone"))

    figure = pictures.curves(results, "S$_$", "f")
    assert _shown(figure.axes[0].title) == "S$_$ (2 of 3 images)"
    legend = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert len(legend) == 2 and legend[0].strip().startswith(r"_m\$_\$  (mean $F_\beta$ ")
    figure = pictures.grid(results, "S$_$")
    titles = [_shown(axes.title) for axes in figure.axes]
    assert "best: image" in titles and "_m$_$" in titles and "other$^$" in titles
    assert {"x$_$", r"a\$b$^$"} <= {_shown(text) for axes in figure.axes for text in axes.texts}
    figure = pictures.grid(results[:1], "S$_$")
    assert _shown(figure._suptitle) == "S$_$: the best, median and worst maps of _m$_$ by MAE"


def _shown(text):
    """What matplotlib draws for a text, which must be none with formulas."""
    shown, is_formula = text._preprocess_math(text.get_text())
    assert not is_formula, text
    return shown


class _Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.sources, self.anchors, self.identifiers, self.open = [], [], set(), []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.identifiers.add(attributes.get("id"))
        if "src" in attributes:
            self.sources.append(attributes["src"])
        if tag == "a":
            self.anchors.append(attributes["href"])
        if tag not in ("img", "meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_report_folder(folder):
    names = {path.name for path in folder.iterdir()}
    curves = {
        "%s-%s.%s" % (name, kind, form)
        for name in ("ECSSD", "PASCAL-S")
        for kind in ("pr", "f")
        for form in ("png", "pdf")
    }
    assert names == curves | {
        "ECSSD-maps.png",
        "PASCAL-S-maps.png",
        "report.html",
        "scores.csv",
        "maps.csv",
        "tables.md",
        "tables.tex",
    }
    for name in names:
        head = (folder / name).read_bytes()[:8]
        assert head.startswith({"png": b"\x89PNG", "pdf": b"%PDF"}.get(name[-3:], head[:1])) and head

    text = (folder / "report.html").read_text(encoding="utf-8")
    links = _Links()
    links.feed(text)
    assert not links.open
    assert len(links.sources) == 6 and all(source.startswith("data:image/") for source in links.sources)
    assert all(anchor[0] == "#" and anchor[1:] in links.identifiers for anchor in links.anchors) and links.anchors
    assert not re.search(r"(src|href)=\"?(https?:|//|file:)|url\(|@import|\$\w", re.sub(r"data:image[^\"]*", "", text))
    for said in ("a warning of this run", "11 of 12 images", "missing map: 0007", "Other_50% &lt;&amp;&gt;", "0.039"):
        assert said in text, said
    for name in ("tables.md", "tables.tex"):
        content = (folder / name).read_text(encoding="utf-8")
        assert "a warning of this run" in content and "11 of 12 images" in content
