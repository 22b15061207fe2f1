"""The page of `kdscfnet web`, as a visitor uses it: headless Chromium, and the files and the server by themselves."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from board_browser import chromium, lacking, wait_for

from kdscfnet import web
from kdscfnet.cli import main
from kdscfnet.errors import UserError
from kdscfnet.images import encode, read_image
from kdscfnet.inference.outputs import make_mask, make_overlay

ROOT = Path(__file__).resolve().parent.parent
SAMPLES = ROOT / "web" / "samples"

browser = pytest.mark.browser


def encode_png(image):
    return encode(image, ".png")


@pytest.fixture(scope="module")
def files():
    return web.page_files()


# the files


def test_the_folder_holds_what_the_page_asks_for(files, tmp_path):
    target = tmp_path / "a" / "public"
    assert main(["web", "--build", str(target)]) == 0
    built = {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}
    assert built == set(files)
    about = json.loads((target / "model.json").read_text(encoding="utf-8"))
    from kdscfnet.files import file_sha256

    assert file_sha256(target / "model" / about["file"]["name"]) == about["file"]["sha256"]
    asked = set()
    for name in ("index.html", "app.js", "worker.js"):
        text = (target / name).read_text(encoding="utf-8")
        asked |= set(re.findall(r'["`](?:\./)?([\w./-]+\.(?:js|mjs|css|svg|txt|gz|json|jpg))["`]', text))
    assert len(asked) >= 8 and asked <= built
    assert {name.split("/")[1] for name in built if name.startswith("samples/")} == set(os.listdir(str(SAMPLES)))
    assert not list(target.parent.glob(".tmp-*"))


def test_no_file_of_ours_names_another_address(files):
    for name, content in files.items():
        if name.endswith((".html", ".css", ".js")):
            assert "//" not in re.sub(r"(^|\s)//.*", "", content.read_text(encoding="utf-8"), flags=re.M), name


def test_policy_of_the_page_is_that_of_the_server(files):
    text = files["index.html"].read_text(encoding="utf-8")
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', text)
    assert web.POLICY == policy + "; frame-ancestors 'none'"  # which a page cannot say of itself


def test_a_folder_with_something_else_is_left_alone(files, tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("mine")
    assert main(["web", "--build", str(tmp_path), "--overwrite"]) == 2
    assert "something other than the page" in capsys.readouterr().err
    assert os.listdir(str(tmp_path)) == ["mine.txt"]
    assert main(["web", "--build", str(tmp_path / "mine.txt")]) == 2
    page = tmp_path / "page"
    web.build(files, page)
    (page / "index.html").write_text("old")
    assert main(["web", "--build", str(page)]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert (page / "index.html").read_text() == "old"
    assert main(["web", "--build", str(page), "--overwrite"]) == 0
    assert (page / "index.html").read_bytes() == files["index.html"].read_bytes()


def test_a_network_without_a_sidecar_is_refused(files, tmp_path):
    network = next(content for name, content in files.items() if name.endswith(".onnx"))
    shutil.copyfile(str(network), str(tmp_path / "net.onnx"))
    with pytest.raises(UserError, match="without its sidecar"):
        web.page_files(str(tmp_path / "net.onnx"))


def test_runtime_is_that_of_npm(tmp_path):
    """What lies in web/runtime is byte for byte what npm has under the digest of package-lock.json."""
    if shutil.which("npm") is None and not os.environ.get("KDSCFNET_NO_SKIPS"):
        pytest.skip("needs npm (Debian: apt-get install npm)")
    for name in ("package.json", "package-lock.json"):
        shutil.copyfile(str(ROOT / "web" / name), str(tmp_path / name))
    words = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(words, cwd=str(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode and re.search("EAI_AGAIN|ENOTFOUND|ECONNREFUSED|ETIMEDOUT", done.stdout):
        if not os.environ.get("KDSCFNET_NO_SKIPS"):
            pytest.skip("npm does not reach its registry")
    assert done.returncode == 0, done.stdout
    package = tmp_path / "node_modules" / "onnxruntime-web"
    runtime = ROOT / "web" / "runtime"
    names = {path.name for path in runtime.iterdir()}
    assert names == {"ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm.gz"}
    for name in names:
        ours = (runtime / name).read_bytes()
        ours = gzip.decompress(ours) if name.endswith(".gz") else ours
        theirs = (package / "dist" / name.replace(".gz", "")).read_bytes()
        assert ours == theirs, name
    version = json.loads((package / "package.json").read_text(encoding="utf-8"))["version"]
    assert "ONNX Runtime Web %s," % version in (ROOT / "web" / "LICENSES.txt").read_text(encoding="utf-8")


# the server


@contextlib.contextmanager
def serving(files, port=0):
    with web.server(files, port) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address
        finally:
            server.shutdown()
            thread.join()


def test_server_gives_the_page_and_nothing_else(files):
    with serving(files) as address:
        assert address[0] == "127.0.0.1"

        def get(path, method="GET"):
            connection = http.client.HTTPConnection(*address, timeout=30)
            connection.request(method, path)
            answer = connection.getresponse()
            return answer, answer.read()

        for name, content in files.items():
            answer, data = get("/" + name)
            assert answer.status == 200, name
            assert data == (content if isinstance(content, bytes) else content.read_bytes())
            assert answer.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
            assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        for name in ("app.js", "runtime/ort.wasm.bundle.min.mjs"):  # or a browser runs no module
            assert get("/" + name)[0].headers["Content-Type"].startswith("text/javascript")
        assert get("/runtime/ort-wasm-simd-threaded.wasm.gz")[0].headers["Content-Encoding"] is None
        answer, data = get("/?threads=1", "HEAD")
        assert answer.status == 200 and data == b""
        for path in ("/../setup.py", "/%2e%2e/setup.py", "/model/", "/package.json", "//etc/passwd", "/nothing"):
            assert get(path)[0].status == 404, path
        assert get("/", "POST")[0].status == 501


def test_a_port_that_is_taken(files, monkeypatch, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        port = taken.getsockname()[1]
        assert main(["web", "--no-browser", "--port", str(port)]) == 2
        assert "port %d cannot be had" % port in capsys.readouterr().err
        assert main(["web", "--no-browser", "--port", "70000"]) == 2
        monkeypatch.setattr(web, "PORT", port)
        with web.server(files) as other:  # unasked, any port will do
            assert other.server_address[1] != port


@contextlib.contextmanager
def command():
    """`kdscfnet web` as a process of its own; yields it and its address."""
    words = [sys.executable, "-m", "kdscfnet", "web", "--no-browser", "--port", "0"]
    process = subprocess.Popen(words, cwd=str(ROOT), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        line = process.stdout.readline()
        assert "for this machine alone" in line, line + process.stdout.read()
        yield process, re.search(r"http://127\.0\.0\.1:\d+/", line).group()
    finally:
        process.kill()
        process.communicate()


def test_ctrl_c_ends_it():
    with command() as (process, _):
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        assert "Traceback" not in output


# the page

if lacking() and not os.environ.get("KDSCFNET_NO_SKIPS"):
    browser = pytest.mark.skip(reason=lacking())

CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
MEMORY = ["--enable-blink-features=ForceEagerMeasureMemory"]
WEBGL = ["--enable-unsafe-swiftshader"]


@pytest.fixture(scope="module")
def downloads(tmp_path_factory):
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="module")
def page(files, downloads):
    pytest.importorskip("selenium")
    with serving(files) as address, chromium(1280, 900, CAMERA + MEMORY + WEBGL, downloads) as driver:
        driver.get("http://%s:%d/" % address)
        loaded(driver)
        yield driver


def state(page):
    return page.execute_script("return document.body.dataset.state")


def status(page):
    return page.execute_script("return document.getElementById('status').textContent")


def loaded(page):
    wait_for(lambda: page.execute_script("return document.body.dataset.first"), 120)
    assert state(page) == "ready", status(page)


def settled(page, *words):
    """Wait until the page is done; its status must hold one of `words`."""
    wait_for(lambda: state(page) == "ready")
    assert any(word in status(page) for word in words), status(page)


def choose(page, path):
    page.find_element("id", "file").send_keys(str(path))
    settled(page, "stands out")


def press(page, selector):
    page.execute_script("document.querySelector(arguments[0]).click()", selector)


def put(page, identifier, value):
    page.execute_script(
        "const one = document.getElementById(arguments[0]); one.value = arguments[1];"
        "one.dispatchEvent(new Event('input', {bubbles: true}))",
        identifier,
        str(value),
    )


def saved(page, downloads, kind):
    """What the download button of a kind gives, as cv2 reads it, in RGB."""
    for path in downloads.iterdir():
        path.unlink()
    press(page, "[data-save=%s]" % kind)
    path = wait_for(lambda: next((one for one in downloads.glob("*_%s.*" % kind) if one.suffix != ".crdownload"), None))
    settled(page, path.name)
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if picture.ndim == 3:
        picture = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB if picture.shape[2] == 3 else cv2.COLOR_BGRA2RGBA)
    return picture


def scene(height, width, seed=0):
    """Something that stands out, with texture everywhere: uint8 height×width×3."""
    rng = np.random.default_rng(seed)
    image = cv2.resize(
        rng.integers(60, 120, (9, 12, 3)).astype(np.uint8), (width, height), interpolation=cv2.INTER_CUBIC
    )
    centre, axes = (int(width * 0.45), int(height * 0.55)), (max(1, width // 5), max(1, height // 4))
    cv2.ellipse(image, centre, axes, 20, 0, 360, (230, 70, 40), -1, cv2.LINE_AA)
    noise = rng.integers(-12, 13, image.shape)
    return np.clip(image.astype(int) + noise, 0, 255).astype(np.uint8)


def with_chunk(png, kind, data):
    """A PNG file with one more chunk after its header."""
    added = struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return png[:33] + added + png[33:]


def photograph():
    return encode_png(scene(427, 640))


def turned():
    image = cv2.cvtColor(scene(427, 640), cv2.COLOR_RGB2BGR)
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]


# made when they are asked for
PICTURES = {
    "photograph.png": photograph,
    "grey.png": lambda: encode_png(scene(427, 640)[..., 1]),
    # colours of another space are taken as they are stored
    "gamma.png": lambda: with_chunk(photograph(), b"gAMA", struct.pack(">I", 100000)),
    "turned.jpg": turned,
    "large.png": lambda: encode_png(scene(1500, 2000, 1)),
    "wide.png": lambda: encode_png(scene(8, 900, 2)),
    "one.png": lambda: encode_png(scene(1, 1, 3)),
}


@pytest.fixture(scope="module")
def predictor():
    from kdscfnet import Predictor

    return Predictor("bundled", engine="onnxruntime")


@browser
@pytest.mark.parametrize("name", sorted(PICTURES))
def test_maps_are_those_of_python(page, downloads, tmp_path, predictor, name):
    path = tmp_path / name
    path.write_bytes(PICTURES[name]())
    choose(page, path)
    made = saved(page, downloads, "map")
    expected = predictor(str(path))
    assert made.shape == expected.shape
    difference = np.abs(made.astype(int) - expected)
    assert difference.max() <= 2, (difference.max(), difference.mean())
    if min(expected.shape) > 100:
        assert np.ptp(expected) > 200  # or it would say little


@browser
def test_colours_below_no_opacity(page, downloads, tmp_path, predictor):
    """They are taken as they are stored, as in Python, where the browser has WebGL."""
    path = tmp_path / "transparent.png"
    image = scene(427, 640)
    path.write_bytes(encode_png(np.dstack([image, np.where(np.indices((427, 640))[0] < 213, 0, 90).astype(np.uint8)])))
    choose(page, path)
    assert np.abs(saved(page, downloads, "map").astype(int) - predictor(str(path))).max() <= 2


@browser
@pytest.mark.parametrize("sample", sorted(path.stem for path in SAMPLES.glob("*.jpg")))
def test_samples(page, downloads, predictor, sample):
    press(page, "[data-sample=%s]" % sample)
    settled(page, "stands out")
    expected = predictor(str(SAMPLES / (sample + ".jpg")))
    # two decoders of JPEG: where they differ by a level the network may differ by more
    assert np.abs(saved(page, downloads, "map").astype(int) - expected).mean() < 1


@browser
def test_mask_and_cutout_are_exact(page, downloads, tmp_path):
    path = tmp_path / "photo.with.dots.png"
    image = scene(300, 401, 5)
    path.write_bytes(encode_png(image))
    choose(page, path)
    saliency = saved(page, downloads, "map")
    assert [one.name for one in downloads.iterdir()] == ["photo.with.dots_map.png"]
    assert (saved(page, downloads, "mask") == make_mask(saliency)).all()
    press(page, "[name=kind][value=mask]")
    put(page, "threshold", 0.8)
    assert (saved(page, downloads, "mask") == make_mask(saliency, 0.8)).all()
    press(page, "#adaptive")
    assert (saved(page, downloads, "mask") == make_mask(saliency, "adaptive")).all()
    press(page, "#adaptive")
    put(page, "threshold", 0.5)
    assert (saved(page, downloads, "cutout") == np.dstack([image, saliency])).all()
    put(page, "firmness", 4)
    firm = np.clip((saliency.astype(float) - 127.5) * 4 + 127.5, 0, 255)
    assert np.abs(saved(page, downloads, "cutout")[..., 3] - firm).max() <= 0.5
    put(page, "firmness", 1)
    overlay = saved(page, downloads, "overlay").astype(int)
    assert np.abs(overlay - make_overlay(image, saliency)).mean() < 8  # JPEG of noise, and another pen


@browser
def test_backgrounds(page, downloads, tmp_path):
    path, behind = tmp_path / "photo.png", tmp_path / "behind.png"
    image = scene(300, 400, 6)
    path.write_bytes(encode_png(cv2.GaussianBlur(image, (5, 5), 0)))  # smooth, for the sake of JPEG
    behind.write_bytes(encode_png(np.full((50, 50, 3), (20, 90, 200), np.uint8)))
    choose(page, path)
    image, saliency = read_image(path).astype(float), saved(page, downloads, "map")[..., None] / 255
    press(page, "[name=kind][value=background]")

    def made(kind):
        press(page, "[name=background][value=%s]" % kind)
        return saved(page, downloads, "background").astype(float)

    def differs(picture, colour):
        return np.abs(picture - (image * saliency + np.array(colour) * (1 - saliency))).mean()

    assert differs(made("white"), (255, 255, 255)) < 2
    put(page, "colour", "#28a05a")
    assert differs(made("colour"), (40, 160, 90)) < 2
    page.find_element("id", "behind").send_keys(str(behind))
    assert differs(made("picture"), (20, 90, 200)) < 2
    blurred = made("blur")
    assert np.abs(blurred - image)[saliency[..., 0] > 0.99].mean() < 3  # what stands out stays sharp
    around = cv2.dilate((saliency > 0.05).astype(np.uint8), np.ones((25, 25))) - (saliency[..., 0] > 0.02)
    # no halo: what is behind does not take the red of what stands out
    ground = image[saliency[..., 0] < 0.01]
    assert blurred[around > 0][:, 0].mean() < ground[:, 0].mean() + 12
    assert blurred[saliency[..., 0] < 0.01].std() < ground.std()
    press(page, "[name=background][value=white]")


@browser
@pytest.mark.parametrize("way", ["drop", "paste"])
def test_dropped_and_pasted(page, downloads, way):
    event = {
        "drop": "new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true})",
        "paste": "new ClipboardEvent('paste', {clipboardData: data, bubbles: true})",
    }[way]
    size = {"drop": (60, 90), "paste": (70, 80)}[way]
    script = (
        "const data = new DataTransfer();"
        "data.items.add(new File([new Uint8Array(arguments[0])], 'some.png', {type: 'image/png'}));"
        "document.body.dispatchEvent(%s)" % event
    )
    page.execute_script(script, list(encode_png(scene(*size))))
    wait_for(lambda: "%d × %d" % size[::-1] in status(page))
    settled(page, "stands out")


@browser
def test_what_is_no_picture_is_named_and_the_last_one_stays(page, downloads, tmp_path):
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    good.write_bytes(encode_png(scene(50, 60)))
    bad.write_text("no picture")
    choose(page, good)
    page.find_element("id", "file").send_keys(str(bad))
    wait_for(lambda: "bad.png" in status(page))
    settled(page, "no picture that the browser can read")
    assert saved(page, downloads, "map").shape == (50, 60)


def memory(page):
    """(bytes of the page and its worker after garbage was collected, private bytes of the browser's processes).

    Shared memory is left out: Chromium keeps up to 450 MB of the false camera's frames there, whatever page draws them.
    """
    page.set_script_timeout(120)
    script = "const done = arguments[0]; performance.measureUserAgentSpecificMemory().then(one => done(one.bytes))"
    of_page = page.execute_async_script(script)
    children = {}
    for entry in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            fields = dict(re.findall(r"^(\w+):\s+(\d+)", entry.read_text(), re.M))
            children.setdefault(int(fields["PPid"]), []).append((int(fields["Pid"]), int(fields.get("RssAnon", 0))))
    private, todo = 0, [page.service.process.pid]
    while todo:
        for process, kilobytes in children.get(todo.pop(), []):
            todo.append(process)
            private += kilobytes * 1024
    return of_page, private


@browser
def test_camera(page, downloads):
    def frames():
        return int(page.execute_script("return document.getElementById('rate').dataset.frames || 0"))

    press(page, "[name=kind][value=background]")
    press(page, "[name=background][value=blur]")
    press(page, "#camera")
    wait_for(lambda: state(page) == "live")
    assert "camera is on" in status(page)
    wait_for(lambda: frames() >= 60)
    assert float(page.execute_script("return document.getElementById('rate').textContent").split()[0]) > 0
    before, first = memory(page), frames()
    wait_for(lambda: frames() >= first + 120, 300)
    after = memory(page)
    one = 640 * 480 * 4  # what a picture that is kept by mistake holds, once a frame
    assert after[0] - before[0] < 10 * one, (before, after)
    assert after[1] - before[1] < 100 * one, (before, after)  # of 120 frames
    size = page.execute_script("const one = document.getElementById('after'); return [one.width, one.height]")
    assert size == [640, 480]
    press(page, "#shutter")
    settled(page, "stands out", "640 × 480")
    assert not page.execute_script("return document.getElementById('video').srcObject")
    assert saved(page, downloads, "map").shape == (480, 640)
    press(page, "#camera")
    wait_for(lambda: state(page) == "live")
    tracks = "return window.tracks = document.getElementById('video').srcObject.getTracks(), tracks.length"
    assert page.execute_script(tracks) == 1
    press(page, "#stop")
    settled(page, "camera is off")
    assert page.execute_script("return tracks[0].readyState") == "ended"
    stopped = frames()
    time.sleep(1)
    assert frames() == stopped
    press(page, "[name=background][value=white]")


@browser
def test_keyboard_and_screen_reader(page):
    """Everything is reached by Tab, seen when it is, and has a name; what happens is announced."""
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    press(page, "[name=kind][value=background]")
    press(page, "[name=background][value=colour]")
    page.execute_script("document.activeElement.blur(); window.scrollTo(0, 0)")
    reached = set()
    for _ in range(40):
        ActionChains(page).send_keys(Keys.TAB).perform()
        reached.add(
            page.execute_script(
                "const one = document.activeElement; const box = (one.closest('label') ?? one).getBoundingClientRect();"
                "return box.width && (one.dataset.save || one.dataset.sample || one.id || one.name || one.tagName)"
            )
        )
    names = "language compare file paste camera kind colour firmness background map cutout astronaut cat A".split()
    assert set(names) <= reached, set(names) - reached
    page.execute_cdp_cmd("Accessibility.enable", {})
    tree = page.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    roles = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in tree if not node["ignored"]]
    controls = [one for one in roles if one[0] in ("button", "radio", "slider", "checkbox", "link", "ColorWell")]
    assert len(controls) >= 20
    assert not [one for one in controls if not one[1]]
    assert ("button", "Download: Cut-out") in controls and ("radio", "Blur") in controls
    assert ("image", "Another background") in roles
    assert "status" in [role for role, _ in roles] and "radiogroup" in [role for role, _ in roles]
    press(page, "[name=background][value=white]")
    press(page, "[name=kind][value=map]")


@browser
def test_words_are_the_same_in_both_languages(page):
    script = "const done = arguments[0]; import('./words.js').then(module => done(module.WORDS))"
    words = page.execute_async_script(script)
    english, chinese = words["en"], words["zh"]
    assert set(english) == set(chinese)
    for key, text in english.items():
        assert set(re.findall(r"\{\w+\}", text)) == set(re.findall(r"\{\w+\}", chinese[key])), key
        assert key == "switch" or re.search("[一-鿿]", chinese[key]), key


@browser
@pytest.mark.parametrize("language", ["en-GB", "zh-CN"])
def test_widths_and_languages(page, language):
    agent = page.execute_script("return navigator.userAgent")
    page.execute_cdp_cmd("Network.setUserAgentOverride", {"userAgent": agent, "acceptLanguage": language})
    chinese = language == "zh-CN"

    def set_width(width):
        metrics = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 600}
        page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        assert page.execute_script("return innerWidth") == width

    try:
        set_width(320)
        page.refresh()
        loaded(page)
        assert page.execute_script("return document.documentElement.lang") == ("zh-Hans" if chinese else "en")
        assert ("显著区域" in status(page)) == chinese
        for width in (320, 390, 768, 1280):
            set_width(width)
            for kind in ("map", "mask", "background"):
                press(page, "[name=kind][value=%s]" % kind)
                press(page, "[name=background][value=picture]")
                outside = page.execute_script(
                    "return [document.documentElement.scrollWidth, ...[...document.querySelectorAll('body *')]"
                    ".filter(one => !one.closest('.unseen')).map(one => one.getBoundingClientRect().right)]"
                )
                assert max(outside) <= width + 0.5, (width, kind)
        press(page, "#language")
        assert page.execute_script("return document.documentElement.lang") == ("en" if chinese else "zh-Hans")
    finally:
        if page.execute_script("return document.documentElement.lang") != "en":  # which other tests read
            press(page, "#language")
        page.execute_script("localStorage.clear()")
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        page.execute_cdp_cmd("Network.setUserAgentOverride", {"userAgent": agent, "acceptLanguage": "en"})


@browser
def test_nothing_leaves_and_nothing_is_needed(tmp_path):
    """Every request that the page starts goes to the server's address; without the server all goes on."""
    pytest.importorskip("selenium")
    log = tmp_path / "net.json"
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    path = tmp_path / "late.png"
    path.write_bytes(encode_png(scene(90, 120)))
    with command() as (process, address):
        flags = [*CAMERA, "--log-net-log=%s" % log, "--net-log-capture-mode=Everything"]
        with chromium(1280, 900, flags, downloads) as driver:
            driver.get(address)
            loaded(driver)
            assert driver.execute_script("return crossOriginIsolated")
            process.kill()
            process.wait()
            press(driver, "[data-sample=coffee]")
            settled(driver, "stands out")
            choose(driver, path)
            for kind in ("map", "mask", "cutout", "overlay", "background"):
                assert saved(driver, downloads, kind).shape[:2] == (90, 120)
            refused = "return fetch('https://example.org').then(() => 'sent', error => String(error))"
            assert "Failed to fetch" in driver.execute_script(refused)
            messages = [one["message"] for one in driver.get_log("browser")]
            assert messages and all("example.org" in one for one in messages), messages
    events = json.loads(log.read_text(encoding="utf-8"))
    start = events["constants"]["logEventTypes"]["URL_REQUEST_START_JOB"]
    jobs = [one["params"] for one in events["events"] if one["type"] == start and "url" in one.get("params", {})]
    # Chromium asks its maker things of its own, which have no page for an initiator
    asked = {job["url"] for job in jobs if job["initiator"] in (address, address.rstrip("/"))}
    assert address + "model.json" in asked and len(asked) >= 13
    assert not [url for url in asked if not url.startswith((address, "blob:" + address))]
