"""Headless Chromium for tests/test_board.py and tests/test_web.py, and for the picture of the board in docs/.

python tests/board_browser.py RUN PICTURE.png [/sample/image]      a screenshot of what `visualdl --logdir RUN` shows
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

# Without the flags about networking, Chromium looks up its maker's hosts at every start; without the features, it loads
# two pages of its own for the address bar.
CHROMIUM_FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --hide-scrollbars --lang=en "
    "--disable-features=WebUIOmniboxPopup,WebUIOmniboxAimPopup"
).split()


def lacking():
    """What this machine lacks for a browser test, or ""."""
    programs = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return "needs %s (Debian: apt-get install chromium chromium-driver)" % " and ".join(programs) if programs else ""


@contextlib.contextmanager
def board(logdir):
    """Serve `logdir` with VisualDL; yields the address of the page. A second is how long it keeps what it has read."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["--logdir", str(logdir), "--host", "127.0.0.1", "--port", str(port), "--cache-timeout", "1"]
    words += ["--disable-telemetry"]
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen([sys.executable, "-m", "visualdl.server.app", *words], stdout=log, stderr=log)
        try:
            for _ in range(600):
                with contextlib.suppress(OSError):
                    urllib.request.urlopen("http://127.0.0.1:%d/alive" % port, timeout=5).close()
                    break
                if server.poll() is not None:
                    break
                time.sleep(0.1)
            else:
                raise RuntimeError("VisualDL does not answer")
            if server.poll() is not None:
                log.seek(0)
                raise RuntimeError("VisualDL ended: %s" % log.read().decode(errors="replace")[-2000:])
            yield "http://127.0.0.1:%d/app" % port
        finally:
            server.terminate()
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


@contextlib.contextmanager
def chromium(width=1400, height=900, flags=(), downloads=None):
    """A headless Chromium with a profile of its own, which saves to `downloads`, a folder; yields Selenium's driver."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    with tempfile.TemporaryDirectory() as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium")
        if downloads:
            preferences = {"download.default_directory": str(downloads)}
            preferences["profile.default_content_setting_values.automatic_downloads"] = 1  # more than one, unasked
            options.add_experimental_option("prefs", preferences)
        for flag in [*CHROMIUM_FLAGS, *flags, "--window-size=%d,%d" % (width, height), "--user-data-dir=" + profile]:
            options.add_argument(flag)
        driver = webdriver.Chrome(service=Service(shutil.which("chromedriver")), options=options)
        try:
            driver.set_page_load_timeout(60)
            yield driver
        finally:
            driver.quit()


def wait_for(read, seconds=60):
    """Call `read` until it returns something true, and return that; AssertionError with the last value otherwise."""
    end = time.monotonic() + seconds
    while True:
        value = read()
        if value:
            return value
        assert time.monotonic() < end, "still %r after %d seconds" % (value, seconds)
        time.sleep(0.2)


def text_of(driver):
    return driver.execute_script("return document.body ? document.body.innerText : ''")


# Canvases with a curve: axes and titles are grey, a run's curve has a colour.
DRAWN = """
return Array.from(document.querySelectorAll('canvas')).filter(canvas => {
    if (!canvas.width || !canvas.height) return false;
    const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
    let coloured = 0;
    for (let i = 0; i < data.length; i += 4) {
        const [red, green, blue, opacity] = data.slice(i, i + 4);
        if (opacity > 200 && Math.max(red, green, blue) - Math.min(red, green, blue) > 100) coloured++;
    }
    return coloured > 100;
}).length;
"""


def drawn_charts(driver):
    """How many charts have a curve."""
    return driver.execute_script(DRAWN)


def pictures(driver):
    """[(width, height)] of the pictures of a run that have arrived; the page's own ornaments are left out."""
    return driver.execute_script(
        "return Array.from(document.images).filter(i => i.src.startsWith('blob:') || i.src.includes('/api/'))"
        ".filter(i => i.complete && i.naturalWidth > 0).map(i => [i.naturalWidth, i.naturalHeight])"
    )


if __name__ == "__main__":
    with board(sys.argv[1]) as address, chromium(1400, 1150) as page:
        page.get(address + (sys.argv[3] if len(sys.argv) > 3 else "/scalar"))
        time.sleep(8)
        page.save_screenshot(sys.argv[2])
