"""Files of the release, downloaded: taken up where they broke off, and verified. Imported where a download begins."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from urllib.parse import quote

import filelock
import numpy as np
import requests
from urllib3.exceptions import InvalidHeader
from urllib3.util.retry import Retry

from kdscfnet.errors import UserError, WeightsError
from kdscfnet.files import read_json_object, write_json
from kdscfnet.text import amount, progress, shown, shown_path
from kdscfnet.weights.networks import shape_tables
from kdscfnet.weights.release import MIRROR, how_to_get, weights_folders
from kdscfnet.weights.weightfile import WeightFile

CHUNK = 1 << 14  # bytes; what has come of a piece when the connection breaks off is lost
PROGRESS = 1 << 18  # bytes that make an attempt worth another one
LONGEST_WAIT = 60  # seconds that a server may ask for before it is called unavailable
_WEB_PAGE = "the server sent a web page instead of the file"


class _Failed(Exception):
    """Why a download did not work, without advice."""


class _BrokeOff(Exception):
    """What a further request may go on after."""


def fetch(entry, folder=None, force=False, mirror=None, timeout=30, attempts=5, pause=1.0):
    """Download `entry` into the weights folder; returns its Path. Nothing is written elsewhere.

    A file that is there already and is right is kept. The bytes go to `.NAME.part` beside it. A download that breaks
    off is taken up where it stopped, in this call up to `attempts` times without progress, or by a later call; a server
    that has another file by then sends all of it. A file that WeightFile.verify finds right gets its name; another one
    is deleted.

    Args:
        mirror: (or $KDSCFNET_MIRROR) the address of a folder that has the files under their names in the manifest, to
            be asked instead of Google Drive or the libraries' servers.
        timeout: seconds without a byte before a connection counts as broken.
        pause: seconds before the second attempt; doubles with each further one.

    Raises WeightsError with the way to get it by hand, and UserError where another process downloads the same file.
    """
    mirror = mirror or os.environ.get(MIRROR)
    url = "%s/%s" % (mirror.rstrip("/"), quote(entry.file)) if mirror else entry.url
    targets = [each / entry.file for each in weights_folders(folder)]
    target = next((path for path in targets if path.exists() and not force), targets[0])
    if target.exists() and not force:
        try:
            WeightFile(target).verify(entry)
        except WeightsError as error:
            raise WeightsError(error.path, "%s; delete it, or say --overwrite to download it again" % error.reason)
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(".%s.part" % target.name)
    notes = part.with_name(part.name + ".json")  # which version of which file it is the beginning of
    with _locked(part):
        try:
            with open(str(part), "a+b") as file:
                _Download(url, file, notes, _limit(entry)).run(timeout, attempts, pause)
                file.flush()
                os.fsync(file.fileno())
            WeightFile(part).verify(entry)
            os.replace(str(part), str(target))
        except WeightsError as error:
            os.unlink(str(part))
            reason = "the server sent another file than the one that was published: %s" % error.reason
            raise WeightsError(entry.title, "%s; %s" % (reason, how_to_get(entry, folder)))
        except _Failed as error:
            raise WeightsError(entry.title, "%s; %s" % (error, how_to_get(entry, folder)))
        finally:
            if not part.exists() or not part.stat().st_size:  # nothing to go on from
                for path in (notes, part):
                    with contextlib.suppress(OSError):
                        path.unlink()
    return target


def _limit(entry):
    """Bytes of the longest file that can be `entry`: float64, at protocol 2, with a classifier."""
    return (16 << 20) + 12 * sum(int(np.prod(shape)) for shape in shape_tables()[entry.backbone].values())


@contextlib.contextmanager
def _locked(part):
    """While this lasts, no other process downloads the file. The file of the lock stays: to remove it is a race."""
    lock = filelock.FileLock(str(part.with_name(part.name[:-5] + ".lock")))
    try:
        with contextlib.suppress(NotImplementedError):  # a file system without locks
            lock.acquire(timeout=0)
    except filelock.Timeout:
        raise UserError("another process is downloading %s: wait until it is done" % shown_path(part)) from None
    try:
        yield
    finally:
        lock.release()


class _Download:
    def __init__(self, url, file, notes, limit):
        self.url, self.file, self.notes, self.limit = url, file, notes, limit

    def run(self, timeout, attempts, pause):
        failures = 0
        with requests.Session() as session:
            # Byte offsets must be those of the file, not of a compressed stream.
            session.headers.update({"Accept-Encoding": "identity", "User-Agent": "Mozilla/5.0 (kdscfnet)"})
            while True:
                before = self.size()
                try:
                    return self.attempt(session, timeout)
                except (requests.exceptions.ConnectionError, requests.exceptions.Timeout) as error:
                    problem = _problem(error)
                except (requests.exceptions.RequestException, InvalidHeader) as error:  # such as a wrong address
                    raise _Failed(_problem(error))
                except _BrokeOff as error:
                    problem = error
                # a connection that breaks off often but gets on is as good as a slow one
                failures = 1 if self.size() - before >= PROGRESS else failures + 1
                if failures >= attempts:
                    here = "(%s are here: the same command goes on from there)" % amount(self.size())
                    raise _Failed("%s %s" % (problem, here) if self.size() else problem)
                time.sleep(min(pause * 2 ** (failures - 1), 30))

    def size(self):
        return self.file.seek(0, os.SEEK_END)

    def attempt(self, session, timeout):
        """One request for what is not here yet. Raises _BrokeOff where a further one may go on."""
        notes = read_json_object(self.notes)
        if notes.get("url") != self.url:
            self.file.truncate(0)
        offset = self.size()
        # requests sends no header that is None
        headers = {"Range": "bytes=%d-" % offset, "If-Range": notes.get("validator") or None} if offset else {}
        with session.get(self.url, headers=headers, stream=True, timeout=timeout) as response:
            total = self.judge(response, offset)
            if response.status_code == 416:  # all of it is here
                return
            if response.headers.get("Content-Type", "").lower().startswith("text/html"):
                raise _Failed(_WEB_PAGE)
            if total is not None and total > self.limit:
                text = "the server sends another file: %s, where at most %s can be right"
                raise _Failed(text % (amount(total), amount(self.limit)))
            if response.status_code == 200:
                offset = 0
                self.file.truncate(0)
                tag = response.headers.get("ETag", "")
                tag = tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified", "")
                write_json(str(self.notes), {"url": self.url, "validator": tag})
            self.receive(response, offset, total)

    def judge(self, response, offset):
        """The length of the whole file; None where the server does not say. Raises where this is no part of it."""
        status, total = response.status_code, response.headers.get("Content-Length", "")
        if status in (206, 416):
            span, _, total = response.headers.get("Content-Range", "").replace("bytes ", "").partition("/")
            if not offset or (span.split("-")[0] if status == 206 else total) != str(offset):
                self.file.truncate(0)
                raise _BrokeOff("the server has another file than the one that was begun")
        elif status in (408, 429) or status >= 500:  # it may answer otherwise a little later
            what = "too many downloads" if status == 429 else "the server has a problem"
            wait = Retry().get_retry_after(response.raw) or 0
            if wait > LONGEST_WAIT:
                raise _Failed("%s (%d): the server asks to wait %d minutes" % (what, status, -(-wait // 60)))
            time.sleep(wait)
            raise _BrokeOff("%s (%d)%s" % (what, status, ": try again later" if status == 429 else ""))
        elif status != 200:
            refuses = "does not have the file" if status in (404, 410) else "refuses"
            raise _Failed("the server %s (%d)" % (refuses, status))
        return int(total) if total.isdigit() else None

    def receive(self, response, offset, total):
        received = offset
        name = os.path.basename(self.file.name)[1:-5]
        with progress(total=total, initial=offset, desc=name, unit="B", unit_scale=True) as bar:
            try:
                for chunk in response.iter_content(CHUNK):
                    if received == 0 and chunk.lstrip()[:1] == b"<":
                        raise _Failed(_WEB_PAGE)
                    received += len(chunk)
                    if received > (self.limit if total is None else total):
                        self.file.truncate(0)
                        raise _Failed("the server sends more than the file: %s and on" % amount(received))
                    self.file.write(chunk)
                    bar.update(len(chunk))
            except requests.exceptions.RequestException:
                raise _BrokeOff("the connection broke off at %s" % amount(self.size()))
        if total is not None and received < total:
            raise _BrokeOff("the connection broke off at %s of %s" % (amount(received), amount(total)))
        if not received:
            raise _BrokeOff("the server sent nothing")


def _problem(error):
    """What an exception of requests means to a user, by what first went wrong."""
    causes, line = [error], shown(" ".join(str(error).split()), 160)[1:-1]
    while causes[-1].__context__ is not None:
        causes.append(causes[-1].__context__)
    for kind, meaning in (
        (requests.exceptions.SSLError, "no secure connection to the server (%s)" % line),
        (socket.gaierror, "the server's name is not known: is there an internet connection?"),
        (ConnectionRefusedError, "the server refuses connections"),
        ((requests.exceptions.Timeout, socket.timeout), "the server does not answer"),
    ):
        if any(isinstance(cause, kind) for cause in causes):
            return meaning
    return "no connection to the server (%s)" % line
