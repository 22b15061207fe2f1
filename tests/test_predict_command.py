"""`kdscfnet predict` and `kdscfnet benchmark` as a user runs them."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
from predicting import exported_file, needs_export, picture, predictor, save, weight_file
from test_images import broken_files
from test_video import about, make_video

from kdscfnet import cli, images
from kdscfnet.data import names
from kdscfnet.inference import inputs
from kdscfnet.inference.record import NAME
from kdscfnet.weights import weightfile
from kdscfnet.weights.files import read_weights, write_weights
from kdscfnet.weights.networks import shape_tables
from kdscfnet.weights.weightfile import WeightFile


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """A working folder with photos/{a.jpg, b.png, sub/ü 中.jpg}."""
    for number, name in enumerate(("a.jpg", "b.png", "sub/ü 中.jpg")):
        save(tmp_path / "photos" / name, picture(30 + number, 40, number))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "photos"


def predict(*arguments, weights=True, size="32", engine="paddle"):
    arguments = ["predict", *map(str, arguments)]
    if weights:
        arguments += ["--weights", str(weight_file()), "--size", size, "--engine", engine]
    return code_of(arguments)


def code_of(words):
    try:
        return cli.main(words)
    except SystemExit as ended:  # by argparse
        return ended.code


def tree(folder):
    """The files in a folder and below, without the record of what made the results."""
    paths = sorted(str(path.relative_to(folder)).replace(os.sep, "/") for path in folder.rglob("*") if path.is_file())
    return [path for path in paths if os.path.basename(path) != NAME]


def modified(folder):
    return {name: (folder / name).stat().st_mtime_ns for name in tree(folder)}


def test_a_result_is_made_again_where_it_is_not_what_is_asked_for(photos, tmp_path, capsys):
    out = tmp_path / "out"
    assert predict("photos", "-o", "out") == 0
    first = modified(out)
    assert predict("photos", "-o", "out") == 0 and modified(out) == first
    assert "0 done, 3 there already" in capsys.readouterr().err
    for arguments, options in (
        (["--save", "mask"], {}),
        (["--save", "mask", "--threshold", "0.7"], {}),
        (["--save", "mask", "--threshold", "adaptive"], {}),
        ([], {}),
        ([], {"size": "64"}),
        ([], {"size": "64x32"}),
    ):
        before = modified(out)
        assert predict("photos", "-o", "out", *arguments, **options) == 0
        assert all(modified(out)[name] > time for name, time in before.items())
        assert "3 done (3 made again: the input, the weights or the settings are others)" in capsys.readouterr().err
    # other weights of the same name, in another folder
    other = tmp_path / "other" / os.path.basename(str(weight_file()))
    other.parent.mkdir()
    arrays = read_weights(weight_file())
    write_weights(str(other), {key: array * 0.5 for key, array in arrays.items()})
    common = ["predict", "photos", "-o", "out", "--engine", "paddle", "--size", "64x32", "--weights"]
    assert cli.main([*common, str(other)]) == 0 and "3 made again" in capsys.readouterr().err
    # another photograph under the same name
    save(photos / "b.png", picture(33, 44, 9))
    assert cli.main([*common, str(other)]) == 0 and "1 done (1 made again" in capsys.readouterr().err
    assert cli.main([*common, str(tmp_path / "gone.pdparams")]) == 2
    assert "there is no weight file" in capsys.readouterr().err


def test_one_kind_more_keeps_the_others(photos, tmp_path, capsys):
    assert predict("photos/b.png", "-o", "out", "--save", "map,mask") == 0
    before = modified(tmp_path / "out")
    assert predict("photos/b.png", "-o", "out", "--save", "map,mask,cutout", "--threshold", "0.2") == 0
    after = modified(tmp_path / "out")
    assert [name for name in before if after[name] == before[name]] == ["map/b.png"] and "cutout/b.png" in after


def test_a_result_of_unknown_making_is_kept_and_said(photos, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "b.png").write_bytes(b"somebody's")
    assert predict("photos", "-o", "out") == 0
    assert (tmp_path / "out" / "b.png").read_bytes() == b"somebody's"
    said = capsys.readouterr().err
    assert "2 done, 1 there already" in said and "1 results of unknown weights and settings kept" in said


@pytest.mark.parametrize("name", ["out.webp", "out.tif", "out.bmp", "out.png"])
def test_a_map_is_written_as_the_picture_that_is_named(photos, tmp_path, name):
    assert predict("photos/b.png", "-o", name) == 0
    assert predict("photos/b.png", "-o", "exact.png") == 0
    made = cv2.imread(str(tmp_path / name), cv2.IMREAD_GRAYSCALE)
    np.testing.assert_array_equal(made, cv2.imread(str(tmp_path / "exact.png"), cv2.IMREAD_UNCHANGED))


@pytest.mark.parametrize("name", ["out.gif", "out.heic", "out.svg", "out.jp2", "out.mp4", "out.mpg", "out.jpg"])
def test_a_name_that_cannot_be_written_is_refused_and_no_folder(photos, tmp_path, capsys, name):
    assert predict("photos/b.png", "-o", name) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1 and not (tmp_path / name).exists()


def test_what_a_folder_holds_and_nobody_reads_is_said(photos, tmp_path, monkeypatch, capsys):
    for each, suffixes in ((inputs, "IMAGE_SUFFIXES"), (inputs, "FOLDER_SUFFIXES"), (names, "IMAGE_SUFFIXES")):
        without = tuple(set(getattr(each, suffixes)) - set(images.HEIF_SUFFIXES))  # pillow-heif may be installed
        monkeypatch.setattr(each, suffixes, without)
    for name in ("a.heic", "b.HEIC", "c.jxl", "d.svg", "README", "notes.txt", ".hidden.svg"):
        (photos / name).write_bytes(b"x")
    os.symlink(str(tmp_path), str(photos / "linked"))
    assert predict("photos", "-o", "out") == 0
    said = "left out: 2 .heic (pip install pillow-heif to read them), 1 .jxl, 1 .svg, 1 linked folder, 1 without suffix"
    assert said in capsys.readouterr().err


def test_frames_of_another_video_are_not_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make_video(tmp_path / "clip.avi", 9, code="MJPG")
    assert predict("clip.avi", "-o", "out", "--frames") == 0 and len(tree(tmp_path / "out")) == 9
    os.unlink(str(tmp_path / "out" / "clip" / "000004.png"))
    assert predict("clip.avi", "-o", "out", "--frames") == 0 and len(tree(tmp_path / "out")) == 9
    make_video(tmp_path / "clip.avi", 5, code="MJPG")
    before = modified(tmp_path / "out")
    assert predict("clip.avi", "-o", "out", "--frames") == 0 and len(tree(tmp_path / "out")) == 5
    assert all(before[name] < time for name, time in modified(tmp_path / "out").items())


def test_a_folder(photos, tmp_path, capsys):
    assert predict("photos", "-o", "out") == 0
    assert tree(tmp_path / "out") == ["a.png", "b.png", "sub/ü 中.png"]
    error = capsys.readouterr().err
    assert "3 done; results: out" in error and "3/3" in error
    for source, made in (("photos/a.jpg", "out/a.png"), ("photos/sub/ü 中.jpg", "out/sub/ü 中.png")):
        written = cv2.imdecode(np.fromfile(made, np.uint8), cv2.IMREAD_UNCHANGED)
        assert np.abs(predictor("paddle", 32)(source).astype(int) - written).max() <= 1
        assert written.dtype == np.uint8 and written.ndim == 2

    # again: nothing is made, and the network is not even opened
    os.utime("out/a.png", (1, 1))
    assert predict("photos", "-o", "out", "--weights", weight_file(), "--size", 32, weights=False) == 0
    assert os.stat("out/a.png").st_mtime == 1
    assert "0 done, 3 there already (--overwrite makes them again)" in capsys.readouterr().err
    assert predict("photos", "-o", "out", "--overwrite", "--quiet") == 0
    assert os.stat("out/a.png").st_mtime != 1
    assert capsys.readouterr() == ("", "")


def test_all_kinds_in_one_run(photos, tmp_path):
    assert (
        predict("photos/*.jpg", "-o", "out", "--save", "map,mask,cutout,overlay,grid", "--threshold", "adaptive") == 0
    )
    assert tree(tmp_path / "out") == ["cutout/a.png", "grid/a.jpg", "map/a.png", "mask/a.png", "overlay/a.jpg"]
    mask = cv2.imread("out/mask/a.png", cv2.IMREAD_UNCHANGED)
    assert set(np.unique(mask)) <= {0, 255} and mask.shape == (30, 40)
    assert cv2.imread("out/cutout/a.png", cv2.IMREAD_UNCHANGED).shape == (30, 40, 4)
    assert cv2.imread("out/overlay/a.jpg").shape == (30, 40, 3)
    assert cv2.imread("out/grid/a.jpg").shape == (30, 4 * 40 + 18, 3)


def test_turned_and_animated_files_through_the_command(tmp_path, monkeypatch, capsys):
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture(30, 50)).save("in/turned.jpg", exif=exif.tobytes())
    frames = [Image.fromarray(picture(20, 30, seed)) for seed in (0, 1)]
    frames[0].save("in/moving.gif", save_all=True, append_images=frames[1:])
    assert predict("in", "-o", "out") == 0
    assert cv2.imread("out/turned.png").shape[:2] == (50, 30)
    assert cv2.imread("out/moving.png").shape[:2] == (20, 30)
    assert "in/moving.gif: animated: the map is of the first frame" in capsys.readouterr().err


def test_broken_files_are_reported_at_the_end(photos, tmp_path, capsys):
    for name, data in broken_files(photos, picture()).items():
        (photos / name).write_bytes(data)
    assert predict("photos", "-o", "out") == 1
    error = capsys.readouterr().err
    assert "3 done, 10 failed; results: out" in error
    for name in broken_files(photos, picture()):
        assert "FAILED photos/%s: " % name in error
    assert "Traceback" not in error
    assert len(tree(tmp_path / "out")) == 3
    assert predict("photos/empty.jpg", "-o", "one.png", "--quiet") == 1
    assert "FAILED photos/empty.jpg: the file is empty" in capsys.readouterr().err


def test_inputs_stay_as_they_are(photos):
    before = {name: (photos / name).read_bytes() for name in tree(photos)}
    assert predict("photos", "-o", "photos") == 2
    assert predict("photos/b.png", "-o", "photos/b.png") == 2
    assert predict("photos/b.png", "-o", "photos", "--overwrite") == 0
    assert predict("photos", "-o", "photos/out") == 0
    made = {name for name in tree(photos) if name.startswith("out/")} | {"b_map.png"}
    assert {name: (photos / name).read_bytes() for name in set(tree(photos)) - made} == before


def test_without_a_folder_results_go_to_saliency(photos, monkeypatch, capsys):
    monkeypatch.chdir(photos)
    assert predict("b.png") == 0 and tree(photos / "saliency") == ["b.png"]
    assert "results: saliency" in capsys.readouterr().err


def test_videos(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    make_video(tmp_path / "in" / "clip.avi", 7, code="MJPG")
    save(tmp_path / "in" / "still.png", picture(20, 30))
    (tmp_path / "in" / "bad.mp4").write_bytes(b"no video")
    assert predict("in", "-o", "out") == 1
    assert tree(tmp_path / "out") == ["clip.mp4", "still.png"]
    assert about(tmp_path / "out" / "clip.mp4")[0] == 7
    error = capsys.readouterr().err
    assert "FAILED in/bad.mp4: not a video that OpenCV can read" in error and "7/7" in error
    (tmp_path / "in" / "bad.mp4").unlink()
    (tmp_path / "out" / "clip.mp4").write_bytes(b"an earlier result")
    assert predict("in", "-o", "out") == 0
    assert (tmp_path / "out" / "clip.mp4").read_bytes() == b"an earlier result"
    assert "0 done, 2 there already" in capsys.readouterr().err
    assert predict("in/clip.avi", "-o", "frames", "--frames", "--save", "map,mask") == 0
    assert len(tree(tmp_path / "frames")) == 14 and "map/clip/000007.png" in tree(tmp_path / "frames")
    assert predict("in/clip.avi", "-o", "frames", "--frames", "--save", "map,mask") == 0
    assert "0 done, 1 there already" in capsys.readouterr().err


@pytest.mark.parametrize("there", [False, True])
def test_what_a_video_lacks_without_ffmpeg_is_one_line(tmp_path, monkeypatch, capsys, there):
    from kdscfnet.inference import video

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("kdscfnet.text._SAID", set())
    if not there:
        monkeypatch.setattr(video, "ffmpeg", lambda: None)
    elif video.ffmpeg() is None:
        pytest.skip("needs ffmpeg with libx264 (apt-get install ffmpeg)")
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        make_video(tmp_path / "in" / (name + ".avi"), 2, code="MJPG")
    assert predict("in/a.avi", "-o", "frames", "--frames") == 0
    assert "ffmpeg" not in capsys.readouterr().err  # pictures have no sound
    assert predict("in", "-o", "out") == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "ffmpeg" in line]
    assert len(lines) == (not there) and all("without sound" in line and "apt install" in line for line in lines)


def test_what_all_processes_of_a_launch_find_is_said_by_the_first(monkeypatch, capsys):
    from kdscfnet import text

    monkeypatch.setattr(text, "_SAID", set())
    for rank in "1203":
        monkeypatch.setenv("PADDLE_TRAINER_ID", rank)
        text.say_once("4 files: a note")
        text.say_once("4 files: a note")
    assert capsys.readouterr().err == "kdscfnet: 4 files: a note\n"


class Binary:
    """A standard stream that is a pipe."""

    def __init__(self, data=b""):
        self.buffer = io.BytesIO(data)

    def isatty(self):
        return False

    def flush(self):
        pass


def test_standard_input_to_standard_output(tmp_path, monkeypatch, capsys):
    image = picture(30, 40)
    data = save(tmp_path / "a.png", image).read_bytes()
    out = Binary()
    monkeypatch.setattr(sys, "stdin", Binary(data))
    monkeypatch.setattr(sys, "stdout", out)
    assert predict("-", "--save", "cutout") == 0
    decoded = cv2.imdecode(np.frombuffer(out.buffer.getvalue(), np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(decoded[..., 2::-1], image)
    np.testing.assert_array_equal(decoded[..., 3], predictor("paddle", 32)(image))

    monkeypatch.setattr(sys, "stdin", Binary(data))
    assert predict("-", "-o", tmp_path / "result.png") == 0
    assert cv2.imread(str(tmp_path / "result.png")).shape == (30, 40, 3)
    for stdin, code, message in ((b"", 2, "standard input is empty"), (b"text", 1, "standard input: not an image")):
        monkeypatch.setattr(sys, "stdin", Binary(stdin))
        monkeypatch.setattr(sys, "stdout", Binary())
        assert predict("-") == code
        assert message in capsys.readouterr().err
        assert sys.stdout.buffer.getvalue() == b""


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["photos", "-o", "-"], "only the result of standard input goes to standard output"),
        (["photos", "-o", ""], "-o is empty"),
        (["photos", "-o", "out", "--save", "heatmap"], "--save heatmap: choose from map, mask, cutout, overlay, grid"),
        (["photos", "-o", "out", "--save", ","], "choose from"),
        (["photos", "-o", "out", "--threshold", "2"], "from 0 to 1, or adaptive"),
        (["photos", "-o", "out", "--size", "0"], "--size 0: 1 or more"),
        (["photos", "-o", "out", "--threads", "0"], "argument --threads: 0 is out of range (from 1)"),
        (["nowhere", "-o", "out"], "there is no file or folder nowhere"),
        (["-", "photos", "-o", "out"], "goes alone"),
        (["-", "-o", "out.jpg"], "a map is written as .png"),
        (["-", "-o", "photos"], "photos is a folder"),
        (["-", "--save", "map,mask", "-o", "out.png"], "one result"),
        (["photos", "-o", "out", "--weights", "nowhere.pdparams"], "there is no weight file nowhere.pdparams"),
        (["photos", "-o", "out", "--weights", "kd-r51"], "there is no 'kd-r51' in the release"),
        (["photos", "-o", "out", "--weights", "photos"], "photos is a folder: name a weight file"),
        (["photos", "-o", "out", "--engine", "paddle", "--weights", "photos/a.jpg"], "photos/a.jpg"),
        (["photos", "-o", "out", "--device", "gpu:99", "--engine", "paddle"], "--device gpu:99: "),
    ],
)
def test_wrong_use_is_one_line_and_code_2(photos, tmp_path, capsys, arguments, message):
    if "--weights" not in arguments:
        arguments = arguments + ["--weights", str(weight_file())]
    assert predict(*arguments, weights=False) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_weights_are_found_in_the_weights_folder(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("KDSCFNET_WEIGHTS", str(tmp_path / "none"))
    with monkeypatch.context() as without_bundled:
        without_bundled.setattr(weightfile, "bundled", lambda known=(): None)
        assert predict("photos", "-o", "out", weights=False) == 2
        assert "there are no weights" in capsys.readouterr().err
    assert predict("photos/a.jpg", "-o", "out0", "--engine", "paddle", weights=False) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "bundled" in line]
    assert len(said) == 1 and "ours and not the authors'" in said[0] and str(tmp_path / "none") in said[0]
    assert predict("photos/a.jpg", "-o", "out0", "--overwrite", "--quiet", weights=False) == 0
    assert "bundled" not in capsys.readouterr().err
    folder = tmp_path / "mine"
    folder.mkdir()
    teacher = {key: np.zeros(shape, np.float32) for key, shape in shape_tables()["resnet50"].items()}
    write_weights(str(folder / "SCFNet_R50.pdparams"), teacher)  # to distil from, not to predict with
    monkeypatch.setenv("KDSCFNET_WEIGHTS", str(folder))
    assert predict("photos/a.jpg", "-o", "out1", "--engine", "paddle", weights=False) == 0
    assert "using the bundled" in capsys.readouterr().err
    for name in ("FS-SCFNet.pdparams", "KD-SCFNet_STB.pdparams", "own.pdparams"):
        (folder / name).write_bytes(weight_file().read_bytes())
    assert predict("photos/a.jpg", "-o", "out", "--engine", "paddle", weights=False) == 0
    assert "KD-SCFNet_STB.pdparams, mobilenetv3, 384×384" in capsys.readouterr().err  # the best of the paper
    assert predict("photos/a.jpg", "-o", "out2", "--engine", "paddle", "--weights", "fs-m3", weights=False) == 0
    assert "FS-SCFNet.pdparams, mobilenetv3, 352×352" in capsys.readouterr().err
    assert predict("photos/a.jpg", "-o", "out3", "--weights", "kd-r50", weights=False) == 2
    assert "kdscfnet weights fetch kd-r50" in capsys.readouterr().err


def test_a_read_only_results_folder_is_told(photos, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert predict("photos", "-o", "file/out") == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error and "file" in error.splitlines()[-1]


@pytest.mark.parametrize("engine", ["paddle", "onnxruntime"])
@pytest.mark.parametrize("name", ["final.pdparams", "weights/best.pdparams"])
def test_weights_of_a_run_are_used_at_the_size_they_were_measured_at(photos, tmp_path, capsys, engine, name):
    if engine == "onnxruntime":
        needs_export()
    weights = tmp_path / "run" / name
    weights.parent.mkdir(parents=True)
    weights.write_bytes(weight_file().read_bytes())
    words = ["predict", "photos/a.jpg", "--engine", engine, "--weights", str(weights), "-o"]
    assert cli.main(words + ["without"]) == 0 and "mobilenetv3, 352×352" in capsys.readouterr().err
    (tmp_path / "run" / "run.json").write_text('{"recipe": "own", "test_size": 96}')
    assert cli.main(words + ["with"]) == 0 and "mobilenetv3, 96×96" in capsys.readouterr().err
    assert WeightFile(weights).test_size() == (96, 96)
    for broken in ("{", "[]", '{"test_size": "96"}', '{"test_size": -1}'):
        (tmp_path / "run" / "run.json").write_text(broken)
        assert WeightFile(weights).test_size() == (352, 352)


def test_a_reader_that_has_seen_enough_is_no_error(photos, tmp_path):
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
    for words in (
        ["--help"],
        ["weights", "list"],
        ["predict", "-", "--engine", "paddle", "--weights", str(weight_file())],
    ):
        read, write = os.pipe()
        os.close(read)
        with open("photos/a.jpg", "rb") as picture_file:
            done = subprocess.run(
                [sys.executable, "-m", "kdscfnet"] + words,
                env=environment,
                stdin=picture_file,
                stdout=write,
                stderr=subprocess.PIPE,
            )
        os.close(write)
        error = done.stderr.decode()
        assert done.returncode == 1 and "Traceback" not in error and "BrokenPipe" not in error, error


def test_the_first_run_and_the_next(photos, tmp_path):
    """In a shell, with a fresh copy of the weights: exported once, then neither exported nor Paddle imported."""
    needs_export()
    weights = tmp_path / "w" / "student.pdparams"
    weights.parent.mkdir()
    weights.write_bytes(weight_file().read_bytes())
    program = (
        "import sys; from kdscfnet.cli import main; code = main(sys.argv[1:]); "
        "print('paddle' in sys.modules, file=sys.stderr); sys.exit(code)"
    )
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
    said = []
    for out in ("first", "second"):
        done = subprocess.run(
            [sys.executable, "-c", program, "predict", "photos/a.jpg", "-o", out, "--weights", str(weights)],
            env=environment,
            capture_output=True,
            check=True,
        )
        assert done.stdout == b""
        said.append(done.stderr.decode().splitlines())
    assert sum("exporting the network" in line for line in said[0]) == 1
    assert not any("exporting" in line for line in said[1])
    assert [lines[-1] for lines in said] == ["False", "False"]
    assert (tmp_path / "first" / "a.png").read_bytes() == (tmp_path / "second" / "a.png").read_bytes()
    assert len(list(weights.parent.glob("student.*.onnx"))) == 1


def test_benchmark(photos, tmp_path, capsys):
    needs_export()
    exported_file()
    code = cli.main(
        [
            "benchmark",
            "photos",
            "--count",
            "2",
            "--rounds",
            "1",
            "--threads",
            "1",
            "--size",
            "32",
            "--weights",
            str(weight_file()),
            "--json",
            "figures.json",
        ]
    )
    out = capsys.readouterr().out
    assert code == 0
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert [(row["engine"], row["threads"]) for row in figures["results"]] == [("onnxruntime", 1), ("paddle", 1)]
    for row in figures["results"]:
        assert set(row["milliseconds"]) == {"read", "prepare", "network", "finish", "write"}
        assert all(value > 0 for value in row["milliseconds"].values())
        assert row["overlapped_per_s"] > 0 and row["peak_memory_mb"] > 20
        assert row["engine"] in out
    assert "2 images" in out


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--engine", "tensorrt"], "choose from onnxruntime, paddle"),
        (["--threads", "two"], "argument --threads: invalid numbers value: 'two'"),
        (["--count", "0"], "argument --count: 0 is out of range (from 1)"),
        (["--json", "."], "is a folder"),
        (["nowhere"], "there is no file or folder nowhere"),
        (["broken.jpg", "--engine", "paddle", "--count", "1"], "broken.jpg: "),
    ],
)
def test_wrong_use_of_benchmark(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    assert code_of(["benchmark", "--weights", str(weight_file())] + arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
