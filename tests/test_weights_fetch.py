"""`fetch` against a server of our own that is slow, breaks off, refuses, or sends something else."""

from __future__ import annotations

import http.server
import json
import os
import re
import socketserver
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from kdscfnet import cli
from kdscfnet.errors import UserError, WeightsError
from kdscfnet.weights import download, networks, release
from kdscfnet.weights.files import write_weights

NAME = "KD-SCFNet_R50.pdparams"
PAGE = b"<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded</title></head><body>%s</body></html>"
QUOTA = PAGE % b'<p class="uc-error-subcaption">Too many users have viewed or downloaded this file recently.</p>'


class Handler(http.server.BaseHTTPRequestHandler):
    """Does what the next entry of server.plan says, and the last one for ever."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        server = self.server
        server.seen.append((self.path, self.headers.get("Range"), self.headers.get("If-Range")))
        step = server.plan.pop(0) if len(server.plan) > 1 else server.plan[0]
        options = dict(step) if isinstance(step, dict) else {"do": step}
        try:
            getattr(self, "do_" + options.pop("do"))(**options)
        except (BrokenPipeError, ConnectionResetError):
            pass
        self.close_connection = True

    def start(self, status, length=None, **headers):
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Connection", "close")
        self.end_headers()

    def do_file(
        self,
        cut=None,
        ranges=True,
        etag='"one"',
        length=True,
        stall=0.0,
        slow=0.0,
        kind="application/octet-stream",
        data=None,
    ):
        """The file, from where it is asked for; `cut`: the connection breaks off after so many bytes."""
        data = self.server.data if data is None else data
        offset, status, headers = 0, 200, {"ETag": etag, "Content-Type": kind}
        wanted = re.match(r"bytes=(\d+)-$", self.headers.get("Range", ""))
        if wanted and ranges and self.headers.get("If-Range", etag) == etag:
            offset = int(wanted.group(1))
            if offset >= len(data):
                self.start(416, 0, Content_Range="bytes */%d" % len(data))
                return
            status = 206
            headers["Content-Range"] = "bytes %d-%d/%d" % (offset, len(data) - 1, len(data))
        body = data[offset:]
        self.start(status, len(body) if length else None, **headers)
        body = body if cut is None else body[:cut]
        step = len(body) if not slow else 1 + len(body) // 20
        for at in range(0, len(body), step):
            self.wfile.write(body[at : at + step])
            self.wfile.flush()
            self.server.sent += len(body[at : at + step])
            time.sleep(slow)
        time.sleep(stall)

    def do_status(self, status, **headers):
        self.start(status, 0, **headers)

    def do_page(self, body, status=200, kind="text/html; charset=utf-8"):
        self.start(status, len(body), Content_Type=kind)
        self.wfile.write(body)

    def do_endless(self):
        self.start(200, None, Content_Type="application/octet-stream")
        while True:
            self.wfile.write(bytes(1 << 20))

    def do_wrong_range(self):
        self.start(206, 10, Content_Range="bytes 0-9/%d" % len(self.server.data))
        self.wfile.write(self.server.data[:10])


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True

    def handle_error(self, *_):  # a client that went away
        pass


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    rng = np.random.RandomState(0)
    arrays = {
        key: rng.standard_normal(shape).astype("f4") for key, shape in networks.shape_tables()["mobilenetv3"].items()
    }
    path = tmp_path_factory.mktemp("published") / NAME
    write_weights(path, arrays)
    return path.read_bytes()


@pytest.fixture
def server(weights):
    server = Server(("127.0.0.1", 0), Handler)
    server.data, server.plan, server.seen, server.sent = weights, ["file"], [], 0
    server.url = "http://127.0.0.1:%d" % server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "weights"


def fetch(server, folder, **options):
    options = dict({"pause": 0.01, "timeout": 5}, **options)
    return download.fetch(release.release().find("kd-r50"), folder, mirror=options.pop("mirror", server.url), **options)


def fails(server, folder, says, **options):
    with pytest.raises(WeightsError) as caught:
        fetch(server, folder, **options)
    message = str(caught.value)
    assert re.search(says, message), message
    assert message.isprintable()
    # how to get it by hand
    for part in (
        "KD-SCFNet (R50): ",
        "https://drive.google.com/file/d/1pzR914hF078dJ762DLFoVOk72AREtjVn/view",
        "16xQwUFdp8t3hk3Oa5ifMrg (code sota)",
        "save it as %s in %s" % (NAME, folder),
    ):
        assert part in message
    assert not (folder / NAME).exists()
    return message


def names(folder):
    """Of what is in a folder but the files of locks, which stay."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock") if folder.exists() else []


def test_a_good_server(server, folder, weights):
    assert fetch(server, folder) == folder / NAME
    assert (folder / NAME).read_bytes() == weights and names(folder) == [NAME]
    assert (folder / NAME).stat().st_mode & 0o777 == 0o666 & ~download_umask()
    assert [path for path, _, _ in server.seen] == ["/" + NAME]
    fetch(server, folder)  # it is here and right
    assert len(server.seen) == 1
    fetch(server, folder, force=True)
    assert len(server.seen) == 2 and names(folder) == [NAME]


def download_umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_slow_server(server, folder, weights):
    server.plan = [{"do": "file", "slow": 0.02}]
    fetch(server, folder, timeout=2)
    assert (folder / NAME).read_bytes() == weights and len(server.seen) == 1


def test_broken_connections_are_taken_up(server, folder, weights):
    server.plan = [
        {"do": "file", "cut": 1000000},
        {"do": "status", "status": 500},
        {"do": "file", "cut": 500000},
        "file",
    ]
    fetch(server, folder)
    assert (folder / NAME).read_bytes() == weights and names(folder) == [NAME]
    offsets = [int(span[6:-1]) for _, span, _ in server.seen[1:]]
    assert server.seen[0][1] is None
    # a piece that had not come whole when the connection broke is asked for again
    assert 0 <= 1000000 - offsets[0] < download.CHUNK and offsets[0] == offsets[1]
    assert 0 <= offsets[1] + 500000 - offsets[2] < download.CHUNK
    assert [condition for _, _, condition in server.seen] == [None] + ['"one"'] * 3
    assert server.sent < len(weights) + 2 * download.CHUNK


def test_a_later_call_takes_up_what_is_there(server, folder, weights):
    server.plan = [{"do": "file", "cut": 700000}, {"do": "status", "status": 500}]
    message = fails(
        server, folder, r"the server has a problem \(500\) \(688.1 kB are here: the same command goes on from there\)"
    )
    assert "\n" not in message and names(folder) == [".%s.part" % NAME, ".%s.part.json" % NAME]
    server.plan, server.seen = ["file"], []
    fetch(server, folder)
    assert server.seen[0][1] == "bytes=688128-" and (folder / NAME).read_bytes() == weights and names(folder) == [NAME]


def test_all_is_here_but_the_name(server, folder, weights):
    """Stopped between the last byte and the check."""
    folder.mkdir()
    (folder / (".%s.part" % NAME)).write_bytes(weights)
    (folder / (".%s.part.json" % NAME)).write_text(json.dumps({"url": server.url + "/" + NAME, "validator": '"one"'}))
    fetch(server, folder)
    assert server.sent == 0 and (folder / NAME).read_bytes() == weights and names(folder) == [NAME]


@pytest.mark.parametrize(
    "plan",
    [
        [{"do": "file", "cut": 700000}, {"do": "file", "ranges": False}],  # does not know ranges
        [{"do": "file", "cut": 700000}, {"do": "file", "etag": '"two"'}],  # has another version by now
        [{"do": "file", "cut": 700000}, "wrong_range", "file"],
        [{"do": "file", "cut": 700000}, {"do": "status", "status": 416, "Content_Range": "bytes */5"}, "file"],
        [{"do": "file", "cut": 0}, "file"],
        [{"do": "file", "length": False}],
        [{"do": "file", "stall": 3.0, "cut": 900000}, "file"],  # falls silent
    ],
    ids=["no-ranges", "changed", "wrong-range", "416", "nothing", "no-length", "stalls"],
)
def test_servers_with_habits(server, folder, weights, plan):
    server.plan = plan
    fetch(server, folder, timeout=0.5)
    assert (folder / NAME).read_bytes() == weights and names(folder) == [NAME]


def test_a_part_of_something_else_is_not_gone_on_with(server, folder, weights):
    folder.mkdir()
    (folder / (".%s.part" % NAME)).write_bytes(b"x" * 5000)  # without a note of where it is from
    fetch(server, folder)
    assert (folder / NAME).read_bytes() == weights and server.seen[0][1] is None


def test_not_there(server, folder):
    server.plan = [{"do": "status", "status": 404}]
    fails(server, folder, r"the server does not have the file \(404\)")
    assert len(server.seen) == 1 and names(folder) == []


def test_forbidden(server, folder):
    server.plan = [{"do": "status", "status": 403}]
    fails(server, folder, r"the server refuses \(403\)")
    assert names(folder) == []


def test_too_many_requests(server, folder, weights):
    server.plan = [{"do": "status", "status": 429, "Retry_After": "7200"}]
    fails(server, folder, r"too many downloads \(429\): the server asks to wait 120 minutes")
    assert len(server.seen) == 1 and names(folder) == []
    server.plan = [{"do": "status", "status": 429, "Retry_After": "soon"}]
    fails(server, folder, "Invalid Retry-After header: soon")
    server.plan, server.seen = [{"do": "status", "status": 429}], [None]
    fails(server, folder, r"too many downloads \(429\): try again later", attempts=3)
    assert len(server.seen) == 4 and names(folder) == []
    server.plan = [{"do": "status", "status": 429, "Retry_After": "1"}, "file"]
    start = time.time()
    fetch(server, folder)
    assert time.time() - start > 0.9 and (folder / NAME).read_bytes() == weights


@pytest.mark.parametrize(
    "page, says",
    [
        ({"do": "page", "body": QUOTA}, "a web page instead of the file;"),
        (
            {"do": "page", "body": PAGE % b"sign in"},
            "a web page instead of the file;",
        ),
        ({"do": "page", "body": QUOTA, "kind": "application/octet-stream"}, r"a web page instead of the file;"),
        ({"do": "page", "body": QUOTA, "status": 403}, r"the server refuses \(403\)"),
    ],
    ids=["quota", "sign-in", "disguised", "403"],
)
def test_pages(server, folder, page, says):
    server.plan = [page]
    fails(server, folder, says)
    assert len(server.seen) == 1 and names(folder) == []


def other_files(weights):
    import pickle

    from hostile_files import Reduce

    arrays = {key: np.zeros(shape, "f4") for key, shape in networks.shape_tables()["mobilenetv3"].items()}
    yield "another network", pickle.dumps({"a": np.zeros(3, "f4")}, 4), "holds none of our networks"
    yield (
        "only the backbone",
        pickle.dumps(
            {key: np.zeros(shape, "f4") for key, shape in networks.expected("backbone", "mobilenetv3")[0].items()}, 4
        ),
        "the ImageNet backbone mobilenetv3",
    )
    yield (
        "NaN",
        pickle.dumps(dict(arrays, **{"linear2.bias": np.full(1, np.nan, "f4")}), 4),
        "NaN or infinite values in linear2.bias",
    )
    yield "damaged", weights[:-1000] + bytes(1000), "damaged"
    yield "cut", weights[:-1000], "ends early"
    yield "code", pickle.dumps(Reduce(os.mkdir, "ran-code"), 4), "may run code"
    yield "zip", b"PK\x03\x04" + bytes(100), "a zip archive"
    yield "empty", b"", "the server sent nothing"


def test_another_file(server, folder, weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, data, says in other_files(weights):
        server.data, server.plan = data, ["file"]
        fails(server, folder, says, attempts=2)
        assert names(folder) == [], name
    assert not (tmp_path / "ran-code").exists()


def test_more_than_the_file(server, folder, monkeypatch):
    server.plan = ["endless"]
    monkeypatch.setattr(download, "_limit", lambda entry: 5 << 20)
    fails(server, folder, "the server sends more than the file")
    server.data, server.plan = bytes(6 << 20), ["file"]
    fails(server, folder, "sends another file: 6.3 MB, where at most 5.2 MB can be right")
    assert names(folder) == []


def test_no_server(server, folder):
    server.shutdown()
    server.server_close()
    fails(server, folder, "the server refuses connections", attempts=2)
    assert names(folder) == []


def test_a_wrong_file_under_the_name_is_kept(server, folder):
    folder.mkdir()
    (folder / NAME).write_bytes(b"my own")
    with pytest.raises(WeightsError, match="not a weight file.*; delete it, or say --overwrite"):
        fetch(server, folder)
    assert server.seen == [] and (folder / NAME).read_bytes() == b"my own"
    server.plan = [{"do": "status", "status": 404}]
    with pytest.raises(WeightsError):
        fetch(server, folder, force=True)
    assert (folder / NAME).read_bytes() == b"my own"


def test_two_at_once(server, folder):
    folder.mkdir()
    with download._locked(folder / (".%s.part" % NAME)):
        with pytest.raises(UserError, match="another process is downloading"):
            fetch(server, folder)
    assert server.seen == []


def test_stopped_by_the_user(server, folder, weights, monkeypatch):
    class Stopped(download._Download):
        def judge(self, response, offset):
            if offset:
                raise KeyboardInterrupt
            return super().judge(response, offset)

    monkeypatch.setattr(download, "_Download", Stopped)
    server.plan = [{"do": "file", "cut": 600000}, "file"]
    with pytest.raises(KeyboardInterrupt):
        fetch(server, folder)
    assert not (folder / NAME).exists()
    monkeypatch.undo()
    fetch(server, folder)
    assert server.seen[-1][1] == "bytes=589824-" and (folder / NAME).read_bytes() == weights


def test_the_verb(server, folder, weights, monkeypatch, capsys):
    monkeypatch.setenv("KDSCFNET_MIRROR", server.url + "/")
    assert cli.main(["weights", "fetch", "kd-r50", "--weights-folder", str(folder)]) == 0
    assert capsys.readouterr().out == "KD-SCFNet (R50): %s\n" % (folder / NAME)
    # one of five fits; the others say why, and all are tried
    assert cli.main(["weights", "fetch", "models", "--weights-folder", str(folder)]) == 2
    err = capsys.readouterr().err
    assert err.count("the server sent another file") == 2
    assert "2 of 5 files could not be downloaded: see above" in err
    assert names(folder) == ["FS-SCFNet.pdparams", NAME, "KD-SCFNet_STB.pdparams"]


def test_nothing_is_written_elsewhere(server, tmp_path):
    """Neither home nor the current folder gets anything."""
    home, here, folder = tmp_path / "home", tmp_path / "here", tmp_path / "there"
    home.mkdir(), here.mkdir()
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(release.__file__))))
    environment = dict(
        os.environ,
        HOME=str(home),
        PYTHONPATH=root,
        KDSCFNET_WEIGHTS=str(folder),
        KDSCFNET_MIRROR=server.url,
        PYTHONDONTWRITEBYTECODE="1",
        XDG_CACHE_HOME="",
        TMPDIR=str(tmp_path / "none"),
    )
    subprocess.run(
        [sys.executable, "-m", "kdscfnet", "weights", "fetch", "kd-r50"], cwd=str(here), env=environment, check=True
    )
    assert names(home) == [] and names(here) == [] and names(folder) == [NAME]
    assert not (tmp_path / "none").exists()
