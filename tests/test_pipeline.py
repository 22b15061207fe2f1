"""Many files at once: in order, in flat memory, one bad file stops nothing, and nothing is half written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import cv2
import numpy as np
import pytest
from predicting import exported_file, needs_export, picture, predictor, save
from test_images import broken_files

from kdscfnet.inference import pipeline
from kdscfnet.inference.pipeline import Job, predict_files, predict_stream
from kdscfnet.threads import in_order

ENGINES = ("paddle", "onnxruntime")


def jobs_of(folder, out, kinds=("map",)):
    return [
        Job(str(path), {kind: str(out / kind / (path.stem + ".png")) for kind in kinds})
        for path in sorted(folder.iterdir())
    ]


@pytest.mark.parametrize("engine", ENGINES)
def test_ten_broken_files_among_a_hundred(tmp_path, engine):
    image = picture()
    folder = tmp_path / "in"
    for number in range(90):
        save(folder / ("good_%03d.jpg" % number), picture(20 + number % 7, 30, number))
    for name, data in broken_files(folder, image).items():
        (folder / name).write_bytes(data)
    jobs = jobs_of(folder, tmp_path / "out")
    report = predict_files(predictor(engine, 32), jobs, show_progress=False)
    assert len(report.done) == 90 and len(report.failed) == 10
    assert sorted(os.path.basename(path) for path, _ in report.failed) == sorted(broken_files(folder, image))
    assert all(reason and "\n" not in reason for _, reason in report.failed)
    assert report.done == [job.input for job in jobs if "good" in job.input]
    made = sorted(path.name for path in (tmp_path / "out" / "map").iterdir())
    assert made == ["good_%03d.png" % number for number in range(90)]
    for number in (0, 41, 89):
        expected = predictor(engine, 32)(folder / ("good_%03d.jpg" % number))
        written = cv2.imread(str(tmp_path / "out" / "map" / ("good_%03d.png" % number)), cv2.IMREAD_UNCHANGED)
        assert np.abs(written.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("engine", ENGINES)
def test_results_that_are_there_are_made_again(tmp_path, engine):
    for number in range(4):
        save(tmp_path / "in" / ("%d.png" % number), picture(20, 30, number))
    jobs = jobs_of(tmp_path / "in", tmp_path / "out", ("map", "mask"))
    os.makedirs(str(tmp_path / "out" / "map"))
    os.makedirs(str(tmp_path / "out" / "mask"))
    for kind in ("map", "mask"):
        (tmp_path / "out" / kind / "0.png").write_bytes(b"earlier")
    (tmp_path / "out" / "map" / "1.png").write_bytes(b"half of it")
    report = predict_files(predictor(engine, 32), jobs, show_progress=False)
    assert report.done == [job.input for job in jobs]
    for number in range(4):
        assert cv2.imread(str(tmp_path / "out" / "map" / ("%d.png" % number))).shape == (20, 30, 3)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_full_disk_stops_the_run(tmp_path, engine, monkeypatch):
    for number in range(12):
        save(tmp_path / "in" / ("%02d.png" % number), picture(20, 30, number))

    def no_space(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pipeline.outputs, "write", no_space)
    with pytest.raises(OSError, match="No space left"):
        predict_files(predictor(engine, 32), jobs_of(tmp_path / "in", tmp_path / "out"), show_progress=False)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("count", [0, 1, 2, 37])
def test_a_stream_keeps_its_order_and_its_failures(engine, count):
    from kdscfnet.errors import BadImageError

    def read(item):
        if item % 5 == 3:
            raise BadImageError("x", "number %d" % item)
        time.sleep(0.002 * (item % 3))
        return picture(8 + item, 9), "note" if item == 2 else None

    found = list(
        predict_stream(predictor(engine, 32), iter(range(count)), read, lambda item, image, saliency: saliency.shape)
    )
    assert [item for item, _, _, _ in found] == list(range(count))
    for item, result, note, failure in found:
        assert failure == ("number %d" % item if item % 5 == 3 else None)
        assert result == (None if failure else (8 + item, 9))
        assert note == ("note" if item == 2 else None)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_stream_is_read_a_few_ahead(engine):
    """However long the stream, few images are held."""
    taken, given = [], []

    def items():
        for number in range(200):
            taken.append(number)
            yield number

    furthest = 0
    for item, _, _, _ in predict_stream(
        predictor(engine, 32, 2), items(), lambda item: (picture(8, 8), None), lambda *args: None
    ):
        given.append(item)
        furthest = max(furthest, len(taken) - len(given))
    assert len(given) == 200 and furthest <= 16


def test_batches_of_paddle(monkeypatch):
    images = [picture(10 + i, 12, i) for i in range(7)]
    predict = predictor("paddle", 32)
    network, sizes = predict.network, []
    monkeypatch.setattr(predict, "network", lambda batch: sizes.append(len(batch)) or network(batch))
    predict.network.concurrent = False
    one = list(predict_maps(predict, images))
    predict.network.on_gpu = True
    monkeypatch.setattr(pipeline, "_GPU_BATCH", 3)
    three = list(predict_maps(predict, images))
    assert sizes == [1] * 7 + [3, 3, 1]
    assert all(np.abs(a.astype(int) - b).max() <= 1 for a, b in zip(one, three))


def predict_maps(predict, images):
    for _, saliency, _, _ in predict_stream(predict, images, lambda image: (image, None), lambda *work: work[2]):
        yield saliency


def test_in_order_stops_what_has_not_begun():
    begun = []

    def work(item):
        begun.append(item)
        if item == 3:
            raise RuntimeError("three")
        time.sleep(0.01)

    with pytest.raises(RuntimeError, match="three"):
        for _, outcome in in_order(work, range(1000), 2, 8):
            outcome()
    assert len(begun) < 30


def test_opencv_threads_are_given_back():
    before = cv2.getNumThreads()
    with pytest.raises(ZeroDivisionError):
        with pipeline.one_opencv_thread():
            assert cv2.getNumThreads() == 1
            raise ZeroDivisionError
    assert cv2.getNumThreads() == before


def test_threads_share_a_predictor():
    needs_export()
    predict = predictor("onnxruntime", 64)
    images = [picture(30 + i, 40, i) for i in range(8)]
    expected = [predict(image) for image in images]
    made = [None] * 8

    def work(number):
        made[number] = predict(images[number])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert all((a == b).all() for a, b in zip(expected, made))


def test_a_killed_run_leaves_whole_files(tmp_path):
    needs_export()
    for number in range(300):
        save(tmp_path / "in" / ("%03d.png" % number), picture(40, 50, number))
    out = tmp_path / "out"
    command = [
        sys.executable,
        "-m",
        "kdscfnet",
        "predict",
        str(tmp_path / "in"),
        "-o",
        str(out),
        "--size",
        "96",
        "--weights",
        str(exported_file()),
        "--quiet",
        "--threads",
        "2",
    ]
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))

    def whole():
        return [path for path in out.iterdir() if not path.name.startswith(".")] if out.is_dir() else []

    for wanted in (20, 120):  # the second run goes on where the first was killed
        process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        deadline = time.time() + 120
        while process.poll() is None and len(whole()) < wanted:
            assert time.time() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        made = whole()
        assert len(made) >= wanted
        for path in made:
            assert cv2.imread(str(path), cv2.IMREAD_UNCHANGED).shape == (40, 50)
