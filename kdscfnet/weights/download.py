"""Downloads that resume, and that get their name only when they are what they should be.

gdown reads Google Drive's pages (the one that asks for a confirmation, the one that says that a quota is used up);
requests does the rest. gdown's own download function is not used, because its oldest version that we support (on
Python 3.7) takes an error page for the file and cannot tell whether a server honoured the request to resume.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path

from kdscfnet.errors import UserError, WeightsError
from kdscfnet.files import write_json
from kdscfnet.text import amount, progress, shown, shown_path

CHUNK = 1 << 14  # bytes; what has come of a piece when the connection breaks off is lost
PROGRESS = 1 << 18  # bytes that make an attempt worth another one
MAX_PAGE = 1 << 20  # bytes of a web page that are read
LONGEST_WAIT = 60  # seconds that a server may ask for before it is called unavailable


class DownloadError(Exception):
    """Why a download did not work, without advice."""


class _Again(Exception):
    """Something that a further attempt may get over. `wait`: seconds that the server asks for."""

    def __init__(self, text, wait=0):
        super().__init__(text)
        self.wait = wait


def download(url, target, check, limit, timeout=30, attempts=5, pause=1.0):
    """Download `url` to the file `target`.

    The bytes go to `.NAME.part` beside it. A download that breaks off is taken up where it stopped, in this call up to
    `attempts` times without progress, or by a later call; a server that has another file by then sends all of it. When
    everything is there, `check(path)` looks at it; only then it gets its name. A file that `check` refuses (by
    WeightsError) is deleted.

    Args:
        limit: bytes; a longer file cannot be the right one and is refused.
        timeout: seconds without a byte before a connection counts as broken.
        pause: seconds before the second attempt; doubles with each further one.

    Raises DownloadError.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(".%s.part" % target.name)
    with _locked(part) as file:
        try:
            _Download(url, file, part, limit, timeout).run(attempts, pause)
        except BaseException:
            if not file.seek(0, os.SEEK_END):  # nothing to go on from
                _discard(part)
            raise
        file.flush()
        os.fsync(file.fileno())
        try:
            check(part)
        except WeightsError as error:
            _discard(part)
            raise DownloadError("the server sent another file than the one that was published: %s" % error.reason)
        if os.name == "nt":  # an open file cannot be renamed there
            file.close()
        # While the file has this name, it is locked for us; after the rename another process may begin both anew.
        _unlink(_notes(part))
        os.replace(str(part), str(target))


def _discard(part):
    _unlink(_notes(part))
    _unlink(part)  # last: what is beside it belongs to whoever has it


def _unlink(path):
    with contextlib.suppress(OSError):
        os.unlink(str(path))


def _notes(part):
    """The file beside the unfinished one that says which version of which file it is the beginning of."""
    return part.with_name(part.name + ".json")


@contextlib.contextmanager
def _locked(part):
    """The unfinished file, open for reading and writing, and ours alone."""
    try:
        import fcntl
    except ImportError:  # Windows has no such locks; two downloads at once fail the check there
        fcntl = None
    busy = UserError("another process is downloading %s: wait until it is done" % shown_path(part))
    for _ in range(10):
        with open(str(part), "a+b") as file:
            if fcntl:
                try:
                    fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise busy
                except OSError:
                    pass  # a file system without locks
                if not _has_name(file, part):
                    continue  # its owner finished between our two calls: this is the finished file by now
            yield file
            return
    raise busy


def _has_name(file, path):
    """Whether an open file is still the one at `path`: not renamed, not deleted."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(str(path)))
    except FileNotFoundError:
        return False


class _Download:
    def __init__(self, url, file, part, limit, timeout):
        import requests

        self.requests = requests
        self.session = requests.Session()
        # Byte offsets must be those of the file, not of a compressed stream.
        self.session.headers.update({"Accept-Encoding": "identity", "User-Agent": "Mozilla/5.0 (kdscfnet)"})
        self.url, self.file, self.part, self.limit, self.timeout = url, file, part, limit, timeout
        self.pages = 0  # of Google Drive, followed so far
        self.bar = None

    def run(self, attempts, pause):
        failures = 0
        with self.session:
            while True:
                before = self.size()
                try:
                    self.attempt()
                    return
                except _Again as error:
                    again = error
                except self.requests.exceptions.SSLError as error:
                    raise DownloadError("no secure connection to the server (%s)" % _line(error))
                except (
                    self.requests.exceptions.InvalidURL,
                    self.requests.exceptions.MissingSchema,
                    self.requests.exceptions.InvalidSchema,
                    self.requests.exceptions.TooManyRedirects,
                ) as error:
                    raise DownloadError(_line(error))
                except self.requests.exceptions.RequestException as error:
                    again = _Again(_network_problem(error))
                finally:
                    if self.bar is not None:
                        self.bar.close()
                        self.bar = None
                # a connection that breaks off often but gets on is as good as a slow one
                failures = 1 if self.size() - before >= PROGRESS else failures + 1
                if failures >= attempts:
                    text = str(again)
                    if self.size():
                        text += " (%s are here: the same command goes on from there)" % amount(self.size())
                    raise DownloadError(text)
                time.sleep(max(again.wait, min(pause * 2 ** (failures - 1), 30)))

    def size(self):
        return self.file.seek(0, os.SEEK_END)

    def start_over(self, response=None):
        self.file.truncate(0)
        notes = {"url": self.url}
        if response is not None:
            tag = response.headers.get("ETag", "")
            notes["validator"] = tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified", "")
        write_json(str(_notes(self.part)), notes)

    def notes(self):
        try:
            with open(str(_notes(self.part)), encoding="utf-8") as file:
                notes = json.load(file)
            return notes if isinstance(notes, dict) else {}
        except (OSError, ValueError):
            return {}

    def attempt(self):
        offset, headers, notes = self.size(), {}, self.notes()
        if offset and notes.get("url") != self.url:
            self.start_over()
            offset = 0
        if offset:
            headers["Range"] = "bytes=%d-" % offset
            if notes.get("validator"):
                headers["If-Range"] = notes["validator"]
        source = self.url
        while True:
            response = self.session.get(source, headers=headers, stream=True, timeout=self.timeout)
            with contextlib.closing(response):
                total = self.judge(response, offset)
                if total is _COMPLETE:
                    return
                if response.headers.get("Content-Type", "").lower().startswith("text/html"):
                    source = self.follow_page(response)
                    continue
                if response.status_code == 200:
                    offset = 0
                    self.start_over(response)
                return self.receive(response, offset, total)

    def judge(self, response, offset):
        """The length of the whole file (None: the server does not say), _COMPLETE, or an exception."""
        status = response.status_code
        if status == 206:
            span = response.headers.get("Content-Range", "").replace("bytes ", "")
            span, _, total = span.partition("/")
            if offset and span.split("-")[0] == str(offset):
                return self.acceptable(int(total) if total.isdigit() else None)
            self.start_over()
            raise _Again("the server did not go on where it was asked to")
        if status == 416:  # nothing after the end: all is here, or what is here is no part of this file
            total = response.headers.get("Content-Range", "").rpartition("/")[2]
            if offset and total == str(offset):
                return _COMPLETE
            self.start_over()
            raise _Again("the server has another file than the one that was begun")
        if status == 200:
            length = response.headers.get("Content-Length", "")
            return self.acceptable(int(length) if length.isdigit() else None)
        if status in (404, 410):
            raise DownloadError("the server does not have the file (%d)" % status)
        if status == 429 or status == 503:
            wait = response.headers.get("Retry-After", "")
            wait = int(wait) if wait.isdigit() else 0
            text = "too many downloads" if status == 429 else "the server is busy"
            if wait > LONGEST_WAIT:
                raise DownloadError("%s (%d): the server asks to wait %d minutes" % (text, status, -(-wait // 60)))
            raise _Again("%s (%d): try again later" % (text, status), wait)
        if status >= 500 or status == 408:
            raise _Again("the server has a problem (%d)" % status)
        raise DownloadError("the server refuses (%d)" % status)

    def acceptable(self, total):
        if total is not None and total > self.limit:
            raise DownloadError(
                "the server sends another file: %s, where at most %s can be right" % (amount(total), amount(self.limit))
            )
        return total

    def follow_page(self, response):
        """The link that a page of Google Drive gives for the file itself."""
        page = b"".join(_up_to(response.iter_content(CHUNK), MAX_PAGE)).decode("utf-8", "replace")
        self.pages += 1
        problem = "the server sent a web page instead of the file"
        if self.pages > 3:
            raise DownloadError(problem)
        try:
            read_page = _gdown()
        except (ImportError, OSError):
            raise DownloadError(problem + " (pip install gdown: it can read Google Drive's)")
        try:
            return read_page(page)
        except Exception as error:  # its own classes, which differ between versions
            raise DownloadError("%s (%s)" % (problem, _line(error)))

    def receive(self, response, offset, total):
        self.bar = progress(total=total, initial=offset, desc=self.part.name[1:-5], unit="B", unit_scale=True)
        received = offset
        for chunk in response.iter_content(CHUNK):
            if received == 0 and chunk.lstrip()[:1] == b"<":
                self.start_over()
                raise DownloadError("the server sent a web page instead of the file")
            received += len(chunk)
            if received > (self.limit if total is None else total):
                self.start_over()
                raise DownloadError("the server sends more than the file: %s and on" % amount(received))
            self.file.write(chunk)
            self.bar.update(len(chunk))
        if total is not None and received < total:
            raise _Again("the connection broke off at %s of %s" % (amount(received), amount(total)))
        if not received:
            raise _Again("the server sent nothing")


_COMPLETE = object()


def _gdown():
    """gdown's reader of Google Drive's pages. Versions before 6 make a folder in ~/.cache when they are imported."""
    folder = os.path.join(os.path.expanduser("~"), ".cache", "gdown")
    new = [path for path in (folder, os.path.dirname(folder)) if not os.path.exists(path)]
    from gdown.download import get_url_from_gdrive_confirmation

    for path in new:
        with contextlib.suppress(OSError):
            os.rmdir(path)
    return get_url_from_gdrive_confirmation


def _up_to(chunks, limit):
    for chunk in chunks:
        yield chunk[:limit]
        limit -= len(chunk)
        if limit <= 0:
            return


def _network_problem(error):
    text = str(error)
    for sign, meaning in (
        ("Name or service not known", "the server's name is not known: is there an internet connection?"),
        ("Temporary failure in name resolution", "the server's name is not known: is there an internet connection?"),
        ("getaddrinfo failed", "the server's name is not known: is there an internet connection?"),
        ("Connection refused", "the server refuses connections"),
        ("Network is unreachable", "there is no way to the server: is there an internet connection?"),
        ("timed out", "the server does not answer"),
        ("IncompleteRead", "the connection broke off"),
        ("Connection broken", "the connection broke off"),
        ("Connection aborted", "the connection broke off"),
        ("reset by peer", "the connection broke off"),
    ):
        if sign in text:
            return meaning
    return "no connection to the server (%s)" % _line(error)


def _line(error):
    return shown(" ".join(str(error).split()), 160)[1:-1]
