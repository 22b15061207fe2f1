"""What tests share: the goldens, the folder beside the checkout (../shared), and the threads Paddle uses."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

# The goldens were recorded with one thread; sums over two round differently, and ten training steps magnify that.
for variable in ("FLAGS_paddle_num_threads", "OMP_NUM_THREADS"):
    os.environ[variable] = "1"

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = Path(__file__).resolve().parent / "golden"
SHARED = Path(os.environ.get("KDSCFNET_SHARED", ROOT.parent / "shared"))

sys.path.insert(0, str(GOLDEN))  # golden_inputs.py


@pytest.fixture(scope="session")
def shared():
    """The folder with real data, weights and maps. Skips elsewhere, fails in CI, which has it."""
    if SHARED.is_dir():
        return SHARED
    if os.environ.get("CI"):
        pytest.fail("CI must have %s" % SHARED)
    pytest.skip("needs %s (real data and recorded maps), which this machine does not have" % SHARED)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A labelled set of eight tiny images (training.make_set)."""
    from training import make_set

    return make_set(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def golden():
    """tests/golden: numbers recorded from the authors' code."""
    return GOLDEN


def pytest_collection_modifyitems(items):
    """What takes a minute begins first, or all would wait for it in the end: the demo, and two machines' time-outs.

    The last worker begins with the tests of pages: workers that shared them would each start a browser.
    """
    first, pages, rest = [], [], []
    for item in items:
        if item.name == "test_the_distilled_student_beats_the_same_student_on_few_labels":
            first.insert(0, item)
        elif item.path.name == "test_two_machines.py":
            first.append(item)
        else:
            (pages if item.get_closest_marker("browser") else rest).append(item)
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    share = -(-len(items) // workers)  # the last worker's, before the idle ones take from the others' ends
    before = max(0, len(items) - share - len(first))
    items[:] = first + rest[:before] + pages + rest[before:]


def pytest_sessionfinish(session):
    """In CI a skipped test is a failure (scripts/run_tests.sh sets KDSCFNET_NO_SKIPS there), but for those that need
    paddle2onnx on a Python that it has no build for: they are counted, and run on CI's older stack."""
    from kdscfnet import dependencies

    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter else []
    if not os.environ.get("KDSCFNET_NO_SKIPS") or not skipped:
        return
    excused = (
        []
        if "paddle2onnx" in dependencies.read("onnx")
        else [one for one in skipped if "paddle2onnx" in str(one.longrepr)]
    )
    if excused:
        reporter.write_line("%d tests need paddle2onnx, which has no build for this Python" % len(excused))
    if len(skipped) > len(excused):
        reporter.write_line("CI skips no test: these were", red=True)
        for report in skipped:
            if report not in excused:
                reporter.write_line("  %s" % report.nodeid, red=True)
        session.exitstatus = 1
