"""The board of a demo run, as a user sees it: VisualDL's pages in headless Chromium."""

from __future__ import annotations

import json
import os
import re
import time
import urllib.request

import pytest

from kdscfnet.cli import main
from kdscfnet.data import demo as scenes

pytestmark = pytest.mark.browser

pytest.importorskip("selenium")
from board_browser import board, chromium, drawn_charts, lacking, pictures, text_of, wait_for  # noqa: E402

if lacking() and not os.environ.get("KDSCFNET_NO_SKIPS"):
    pytest.skip(lacking(), allow_module_level=True)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A whole demo run, on few and small images."""
    output = tmp_path_factory.mktemp("board") / "demo"
    flags = ["--epochs", "2", "--batch-size", "4", "--sizes", "32", "--test-size", "32", "--device", "cpu"]
    parts = {"DEMO-TR": 40, "DEMO-UNLABELLED": 4, "DEMO-TE": 8}
    few = {name: (first, parts.get(name, count), *rest) for name, (first, count, *rest) in scenes.PARTS.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scenes, "PARTS", few)
        assert main(["train", "fs-m3", "--demo", "--output", str(output), *flags]) == 0
    return output


@pytest.fixture(scope="module")
def address(run):
    with board(run) as url:
        yield url


@pytest.fixture(scope="module")
def page(address):
    with chromium(height=2200) as driver:
        yield driver


def words_of(page, *wanted):
    """The page's text once all of `wanted` are in it."""

    def read():
        text = text_of(page)
        return text if all(word in text for word in wanted) else ""

    return wait_for(read)


def test_losses_learning_rate_and_mae_are_drawn(page, address):
    page.get(address + "/scalar")
    # titles of charts are drawn, so the text has the groups with their numbers of charts, and the run
    text = words_of(page, "train", "val", "Select Runs", "model/board")
    assert re.search(r"train\s+6\b", text) and re.search(r"val\s+2\b", text), text
    wait_for(lambda: drawn_charts(page) == 6)
    group = page.find_element("xpath", "//h3[text()='val']")  # closed at first
    page.execute_script("arguments[0].click()", group)
    wait_for(lambda: drawn_charts(page) == 8)


def test_pictures_are_shown(page, address):
    page.get(address + "/sample/image")
    words_of(page, "train/image_target_prediction", "Sample: 1/2")
    # four rows of image, target and prediction
    assert wait_for(lambda: pictures(page)) == [[647, 656]]  # 3 · 213 + 2 · 4, 4 · (160 + 4)


def test_hyper_parameters_are_shown(page, address):
    page.get(address + "/hyper-parameter")
    # the table of trials, and the list of what may be chosen beside it
    text = words_of(page, "Trial ID", "batch_size", "max_lr", "backbone", "epochs", "seed")
    assert "fs-m3" in text and "mobilenetv3" in text


def test_a_second_look_shows_new_steps(run, address):
    """The board is for watching: what a run writes later is there after a reload."""
    from kdscfnet.training.log import open_board

    def last_step():
        query = "/api/scalar/list?run=%s&tag=train/loss" % (run / "model" / "board")
        # VisualDL answers 500 to a client that names no language
        request = urllib.request.Request(address + query, headers={"Accept-Language": "en"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            rows = json.load(answer)["data"]
        return int(rows[-1][1]) if rows else None

    before = last_step()
    assert before == 19  # two epochs of ten steps
    later = open_board(run / "model" / "board", 20)
    later.add_scalar("train/loss", 1.0, 20)
    later.close()
    end = time.monotonic() + 60
    while last_step() == before and time.monotonic() < end:
        time.sleep(1)
    assert last_step() == 20
