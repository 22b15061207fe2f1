"""Predictor: maps equal to the authors', by either engine, of any size."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from predicting import exported_file, needs_export, picture, predictor, save, weight_file

import kdscfnet
from kdscfnet import Predictor
from kdscfnet.errors import BadImageError, UserError, WeightsError
from kdscfnet.inference.predictor import as_rgb_array

ENGINES = ("paddle", "onnxruntime")


@pytest.fixture(scope="module")
def authors_weights(shared, tmp_path_factory):
    """The authors' weights in a folder of ours, where the exported network may go."""
    source = shared / "weights" / "scfnet_m3_authors_code.pdparams"
    path = tmp_path_factory.mktemp("weights") / source.name
    path.write_bytes(source.read_bytes())
    return path


@pytest.mark.parametrize("engine", ENGINES)
def test_maps_equal_the_authors(shared, authors_weights, engine):
    if engine == "onnxruntime":
        needs_export()
    predict = Predictor(str(authors_weights), engine=engine)
    assert predict.engine == engine and predict.size == (352, 352)
    goldens = sorted((shared / "golden" / "maps").glob("*.png"))
    assert len(goldens) == 20
    images = [shared / "data" / "ECSSD" / "image" / (path.stem + ".jpg") for path in goldens]
    for image, golden, made in zip(images, goldens, predict.batch(images)):
        expected = cv2.imread(str(golden), cv2.IMREAD_UNCHANGED)
        assert made.shape == expected.shape and made.dtype == np.uint8
        assert np.abs(made.astype(int) - expected).max() <= 1, image


@pytest.mark.parametrize("height, width", [(1, 1), (3, 2000), (2000, 3), (301, 400), (1200, 1600)])
def test_engines_agree_at_odd_sizes(height, width):
    image = picture(height, width)
    maps = [predictor(engine)(image) for engine in ENGINES]
    assert maps[0].shape == (height, width)
    assert np.abs(maps[0].astype(int) - maps[1]).max() <= 1


def test_engines_agree_at_another_size():
    for size in (96, (64, 160)):
        maps = [predictor(engine, size)(picture(90, 120)) for engine in ENGINES]
        assert np.abs(maps[0].astype(int) - maps[1]).max() <= 1


@pytest.mark.parametrize("backbone, size", [("resnet50", None), ("swin_b", 96)])
def test_teachers_by_both_engines(backbone, size):
    """ResNet-50 at any size; Swin-B, exported for one size, small here so that the test is short."""
    import paddle

    needs_export()
    path = weight_file(backbone)
    if backbone == "swin_b" and paddle.__version__.startswith("2.2"):
        with pytest.raises(UserError, match="export it with Paddle 2.6 or later"):
            Predictor(str(path), backbone, "onnxruntime", size)
        return
    maps = [Predictor(str(path), backbone, engine, size)(picture(70, 100)) for engine in ENGINES]
    assert np.abs(maps[0].astype(int) - maps[1]).max() <= 1
    assert np.ptp(maps[0]) > 0
    for large in path.parent.iterdir():
        os.unlink(str(large))


def test_a_path_and_its_pixels_give_one_map(tmp_path):
    image = picture(40, 50)
    path = save(tmp_path / "image.png", image)
    predict = predictor("paddle", 64)
    np.testing.assert_array_equal(predict(path), predict(image))
    np.testing.assert_array_equal(predict(str(path)), predict(image))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_batch_gives_the_maps_of_its_images(engine):
    images = [picture(20 + 3 * i, 60 - 2 * i, i) for i in range(9)]
    predict = predictor(engine, 64)
    maps = predict.batch(images)
    assert [m.shape for m in maps] == [i.shape[:2] for i in images]
    for image, made in zip(images, maps):
        assert np.abs(predict(image).astype(int) - made).max() <= 1
    assert predict.batch([]) == []


def test_a_bad_image_in_a_batch_is_named(tmp_path):
    good = save(tmp_path / "good.png", picture())
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"nothing")
    with pytest.raises(BadImageError, match="bad.png"):
        predictor("paddle", 64).batch([good, bad])


def test_whatever_people_have_gives_the_map_of_the_file(tmp_path):
    """Path, bytes, file objects, PIL images; arrays with alpha, in real numbers and in grey: one picture, one map."""
    from PIL import Image

    pixels = picture()
    path = save(tmp_path / "a.png", pixels)
    data = path.read_bytes()
    run = predictor("paddle", 64)
    expected = run(pixels)
    alpha = np.dstack([pixels, np.full(pixels.shape[:2], 7, np.uint8)])
    with open(str(path), "rb") as file, Image.open(str(path)) as opened:
        kinds = [path, str(path), data, bytearray(data), io.BytesIO(data), file, opened, Image.fromarray(alpha), alpha]
        kinds += [pixels / 255.0, (pixels / 255.0).astype(np.float32), pixels[:, ::-1][:, ::-1], pixels.tolist()]
        for image in kinds[:-1] + [np.array(kinds[-1], np.uint8)]:
            np.testing.assert_array_equal(run(image), expected)
    np.testing.assert_array_equal(run.batch([data, alpha, path])[1], expected)
    grey = pixels[..., 0]
    expected = run(np.repeat(grey[..., None], 3, axis=2))
    for image in (grey, grey[..., None], grey / 255.0, Image.fromarray(grey)):
        np.testing.assert_array_equal(run(image), expected)


def test_a_pil_image_is_turned_as_its_file_is(tmp_path):
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    path = tmp_path / "turned.jpg"
    Image.fromarray(picture(48, 64)).save(str(path), exif=exif.tobytes())
    with Image.open(str(path)) as opened:
        turned = as_rgb_array(opened)
    assert turned.shape == as_rgb_array(path).shape == (64, 48, 3)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((4, 4, 3), np.int64),
        np.full((4, 4, 3), 1.01),
        np.full((4, 4, 3), -0.1, np.float32),
        np.full((4, 4, 3), np.nan),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((0, 4, 3)),
        np.zeros((1, 4, 4, 3), np.uint8),
        None,
        {"image": 1},
    ],
)
def test_other_arrays_are_refused(image):
    with pytest.raises(kdscfnet.UserError, match="uint8 or in real numbers from 0 to 1, not"):
        predictor("paddle", 64)(image)


@pytest.mark.parametrize("image", [b"", b"no image", io.BytesIO(b"no image")])
def test_bytes_that_are_no_image_are_refused(image):
    with pytest.raises(kdscfnet.BadImageError, match="^the (bytes|file object): "):
        predictor("paddle", 64)(image)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"backbone": "vgg"}, "backbone is 'vgg'"),
        ({"engine": "tensorrt"}, "engine is 'tensorrt'"),
        ({"size": 0}, "size is 0"),
        ({"threads": 0}, "threads is 0"),
        ({"device": "tpu"}, "device is 'tpu'"),
        ({"device": "gpu", "engine": "onnxruntime"}, "ONNX Runtime runs on the CPU"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(UserError, match=message):
        Predictor(str(weight_file()), **options)


def test_missing_and_wrong_weights(tmp_path):
    with pytest.raises(UserError, match="there is no weight file"):
        Predictor(str(tmp_path / "none.pdparams"))
    with pytest.raises(UserError, match="is a folder"):
        Predictor(str(tmp_path))
    page = tmp_path / "page.pdparams"
    page.write_text("<html>quota</html>")
    for engine in ("paddle", "auto"):
        with pytest.raises(WeightsError):
            Predictor(str(page), engine=engine)
    with pytest.raises(WeightsError, match="mobilenetv3"):
        Predictor(str(weight_file()), "resnet50", engine="paddle")


def test_the_size_of_a_released_model_follows_its_name(tmp_path):
    for name, size in (("KD-SCFNet_STB.pdparams", 384), ("KD-SCFNet_R50.pdparams", 352), ("mine.pdparams", 352)):
        path = tmp_path / name
        path.write_bytes(weight_file().read_bytes())
        assert Predictor(str(path), engine="paddle").size == (size, size)
    assert Predictor(str(path), engine="paddle", size=(32, 64)).size == (32, 64)


class Waiting:
    """An image that is read when `may_go` is set; `begun` says that somebody waits for it."""

    def __init__(self):
        self.begun, self.may_go = threading.Event(), threading.Event()

    def __array__(self, *_, **__):
        self.begun.set()
        assert self.may_go.wait(60)
        return picture(20, 30)


@pytest.mark.parametrize("engine", ENGINES)
def test_predictions_that_overlap_give_opencv_its_threads_back(engine):
    """One begins before the other and ends before it, too: the number it found is not the number to leave behind."""
    threads, images = cv2.getNumThreads(), [Waiting(), Waiting()]
    predict = predictor(engine, 32, 2)
    cv2.setNumThreads(3)
    try:
        with ThreadPoolExecutor(2) as pool:
            runs = []
            for image in images:
                runs.append(pool.submit(predict.batch, [image, picture(20, 30)]))
                assert image.begun.wait(60)
            for image, run in zip(images, runs):
                image.may_go.set()
                assert len(run.result(60)) == 2
        assert cv2.getNumThreads() == 3
    finally:
        cv2.setNumThreads(threads)


def test_the_backbone_can_be_left_to_the_file():
    assert Predictor(str(weight_file()), backbone="auto", engine="paddle").backbone == "mobilenetv3"


@pytest.mark.parametrize("size,pixels", [("352", (352, 352)), ("64x32", (64, 32)), ([64, 32], (64, 32))])
def test_a_size_is_what_it_says_or_an_error(size, pixels):
    try:
        found = Predictor(str(weight_file()), engine="paddle", size=size).size
    except UserError as error:
        assert repr(size) in str(error)
    else:
        assert found == pixels


@pytest.mark.parametrize("size", ["", "big", "35.2", "352x", "-352", (352,), (32, 32, 32), 35.2, (32, "x"), 0, (0, 32)])
def test_a_size_that_is_none_is_named(size):
    with pytest.raises(UserError) as error:
        Predictor(str(weight_file()), engine="paddle", size=size)
    assert repr(size) in str(error.value)


def test_memory_stays_flat_over_3000_predictions():
    """At a small network size, so that it is short; benchmarks/prediction.py does it at 352²."""
    if not os.path.exists("/proc/self/statm"):
        pytest.skip("needs /proc")
    needs_export()
    program = """
import sys, numpy as np
from kdscfnet import Predictor
predict = Predictor(sys.argv[1], size=64)
rng = np.random.RandomState(0)
images = [rng.randint(0, 256, (int(h), int(w), 3)).astype(np.uint8) for h, w in rng.randint(40, 160, (50, 2))]
def resident():
    return int(open("/proc/self/statm").read().split()[1])
for number in range(1, 3001):
    predict(images[number % 50])
    if number == 300:
        early = resident()
print(resident() / early, "paddle" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(exported_file())],
        stdout=subprocess.PIPE,
        check=True,
        env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)),
    )
    ratio, imported_paddle = done.stdout.split()
    assert float(ratio) < 1.05
    assert imported_paddle == b"False"


def test_the_background_is_removed_in_kind(tmp_path, monkeypatch):
    image = picture(48, 64)
    save(tmp_path / "photo.png", image)
    used = predictor("paddle", 32)
    monkeypatch.setattr("kdscfnet.inference.predictor._usual_predictor", lambda: used)
    made = kdscfnet.remove_background(image)
    assert made.shape == (48, 64, 4) and made.dtype == np.uint8
    np.testing.assert_array_equal(made[..., :3], image)
    np.testing.assert_array_equal(made[..., 3], used(image))
    np.testing.assert_array_equal(kdscfnet.remove_background(str(tmp_path / "photo.png")), made)
    data = kdscfnet.remove_background((tmp_path / "photo.png").read_bytes())
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    np.testing.assert_array_equal(
        cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)[..., 3], made[..., 3]
    )
    opened = kdscfnet.remove_background(pytest.importorskip("PIL.Image").fromarray(image))
    assert opened.mode == "RGBA"
    np.testing.assert_array_equal(np.asarray(opened), made)
