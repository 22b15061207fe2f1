"""The page of web/ with a network: its files, a folder of them for a static host, and a server for this machine."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import sys
import tempfile
import webbrowser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from kdscfnet.errors import UserError

PORT = 8000
# What of web/ makes the page; the rest says where runtime/ comes from.
PATTERNS = ("*.html", "*.css", "*.js", "*.svg", "*.txt", "runtime/*", "samples/*.jpg")
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".jpg": "image/jpeg",
    ".txt": "text/plain; charset=utf-8",
    ".onnx": "application/octet-stream",
    ".gz": "application/gzip",  # the page unpacks it: no Content-Encoding
}
# The page has the same policy in itself, for hosts that send no headers; who may frame it is for a header alone to say.
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; style-src 'self'; "
    "img-src 'self' blob:; media-src blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    # both together make the page cross-origin isolated, and that allows threads
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


def source_folder():
    """The page without a network: a wheel carries it in the package, a clone in web/."""
    package = Path(__file__).resolve().parent
    for folder in (package / "_web", package.parent / "web"):
        if (folder / "index.html").is_file():
            return folder
    raise UserError("the page is not here: install kdscfnet again, or run it from a whole clone")


def page_files(weights="bundled"):
    """The files of the page with a network.

    Args:
        weights: a weight file or an exported network; a name of the release; "bundled".

    Returns {name relative to the page, with "/": Path or bytes}. Raises UserError where the network cannot be exported.
    """
    from kdscfnet.inference.networks import find_or_export

    folder = source_folder()
    files = {path.relative_to(folder).as_posix(): path for pattern in PATTERNS for path in sorted(folder.glob(pattern))}
    network, about = find_or_export(weights)
    about = dict(about, file=dict(about["file"], name=network.name))  # it may have been renamed since
    files["model/" + network.name] = network
    files["model.json"] = json.dumps(about, indent=2, ensure_ascii=False).encode()
    return files


def build(files, target, overwrite=False):
    """Write the page to the folder `target`, whole or not at all; returns the number of bytes.

    Raises UserError where the folder has files and `overwrite` is false, or has something other than a page.
    """
    target = Path(target)
    if target.exists() and not target.is_dir():
        raise UserError("%s is a file: --build takes a folder" % target)
    if target.is_dir() and any(target.iterdir()):
        if not (target / "model.json").is_file() or not (target / "worker.js").is_file():
            raise UserError("%s holds something other than the page: name an empty or a new folder" % target)
        if not overwrite:
            raise UserError("%s holds a page already: --overwrite replaces it" % target)
    target = target.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".tmp-", dir=str(target.parent)) as temporary:
        made = Path(temporary, "page")
        for name, content in files.items():
            path = made / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                path.write_bytes(content)
            else:
                shutil.copyfile(str(content), str(path))
        size = sum(path.stat().st_size for path in made.rglob("*") if path.is_file())
        if target.exists():
            target.rename(Path(temporary, "old"))
        made.rename(target)
    return size


def server(files, port=None):
    """An HTTP server of these files, and of nothing else, on 127.0.0.1; `serve_forever` of it serves.

    Args:
        port: 0: a free one; None: PORT, or a free one where that is taken.

    Raises UserError where the port cannot be had.
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            name = unquote(urlsplit(self.path).path).lstrip("/") or "index.html"
            content = files.get(name)
            if content is None:
                self.send_error(404)
                return
            if not isinstance(content, bytes):
                content = content.read_bytes()
            self.send_response(200)
            self.send_header("Content-Type", TYPES[os.path.splitext(name)[1]])
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        do_HEAD = do_GET

        def end_headers(self):
            for name, value in HEADERS.items():
                self.send_header(name, value)
            super().end_headers()

        def log_message(self, *_):
            pass

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request, client_address):
            if not isinstance(sys.exc_info()[1], ConnectionError):  # a reader that left is no error
                super().handle_error(request, client_address)

    ports = [PORT, 0] if port is None else [port]
    for one in ports:
        try:
            return Server(("127.0.0.1", one), Handler)
        except OverflowError:
            raise UserError("--port is a number from 0 to 65535")
        except OSError as error:
            if one == ports[-1]:
                raise UserError("port %d cannot be had (%s): --port 0 takes a free one" % (one, error.strerror))


def web_command(args):
    """`kdscfnet web`. Returns the exit code."""
    files = page_files(args.weights)
    if args.build:
        size = build(files, args.build, args.overwrite)
        print("the page is in %s: %d files, %.1f MB" % (args.build, len(files), size / 1e6))
        return 0
    with server(files, args.port) as serving:
        address = "http://127.0.0.1:%d/" % serving.server_address[1]
        try:
            print("the page is at %s, for this machine alone; Ctrl-C ends it" % address, flush=True)
            # without a screen the standard library would start a browser of text in this very terminal
            screen = sys.platform != "linux" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
            if not args.no_browser and screen:
                webbrowser.open(address)
            serving.serve_forever()
        except KeyboardInterrupt:
            print()
    return 0
