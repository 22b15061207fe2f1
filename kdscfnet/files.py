"""Writing files so that nothing is ever half written: a temporary name in the same folder, then a rename."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import stat
import tempfile
import time

from kdscfnet.errors import WeightsError
from kdscfnet.text import shown_path


def existing_folder(folder):
    """The folder as an absolute path, or the nearest one above it that exists."""
    folder = os.path.abspath(folder)
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    return folder


def write_error(folder):
    """Why no file can be made in the folder (or, if it is not there, in the one it would be in); "" if one can be."""
    if os.path.exists(folder) and not os.path.isdir(folder):
        return "is a file"
    folder = existing_folder(folder)
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return error.strerror or str(error)
    return "" if os.stat(folder).st_mode & 0o222 else "permission denied to all but root"


def file_sha256(path, algorithm="sha256"):
    """The SHA-256 of a file, or what another algorithm of hashlib says of its bytes, in hexadecimal."""
    digest = hashlib.new(algorithm)
    with open(str(path), "rb") as file:
        for block in iter(lambda: file.read(1 << 16), b""):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def atomic_file(path, sync=True, suffix=".part"):
    """Yield a binary file to write; when the block ends well it becomes `path`, whole and on the disk; else it goes.

    Its temporary name (`.name`, for writers that want a path) starts with `.tmp-`, so that no search for maps or
    weights takes it for a finished file, and ends in `suffix`, by which such writers choose the format. The folder is
    made where it is missing. A killed process can leave the temporary file, never a part of `path`.
    `sync=False` leaves it to the system when the data reaches the disk: a killed process still leaves whole files or
    none, a power cut may not. For results by the thousand that can be made again.
    """
    path = os.fspath(path)
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        os.makedirs(folder, exist_ok=True)
    temporary = os.path.join(folder, ".tmp-%s%s" % (os.urandom(8).hex(), suffix))
    try:
        # opened once: to open an empty file for writing anew makes ext4 send it to the disk as soon as it is closed
        with open(temporary, "xb") as file:  # not private, as mkstemp's would be
            yield file
            if sync:
                file.flush()
                try:
                    os.fsync(file.fileno())
                except OSError as error:  # a file system that has none
                    if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EPERM):
                        raise
        replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def replace(temporary, path):
    """os.replace; where a file system renames to no name that is taken, the old file goes first."""
    try:
        os.replace(temporary, path)
    except OSError:
        if not os.path.isfile(path):
            raise
        aside = temporary + ".old"
        os.rename(path, aside)  # kept until the new one has its name
        try:
            os.rename(temporary, path)
        except OSError:
            os.rename(aside, path)
            raise
        os.unlink(aside)


def write_bytes(path, data, sync=True):
    """Write `data` (bytes) to `path`, whole or not at all; `sync` as in `atomic_file`."""
    with atomic_file(path, sync) as file:
        file.write(data)


def write_text(path, text):
    """Write `text` to `path` as UTF-8, whole or not at all."""
    # names of files that are not UTF-8 hold what UTF-8 cannot: \udcca stands for the byte CA, also in JSON
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_json(path, value):
    """Write `value` to `path` as indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def remove_leftovers(folders, seconds=0):
    """Remove temporary files that killed processes left in folders, those that are older than so many seconds."""
    for folder in folders:
        with contextlib.suppress(FileNotFoundError):
            for path in (os.path.join(folder, name) for name in os.listdir(folder) if name.startswith(".tmp-")):
                if time.time() - os.path.getmtime(path) >= seconds:
                    os.unlink(path)


def read_json_object(path):
    """The dict in a JSON file; {} where there is none."""
    try:
        with open(str(path), encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


@contextlib.contextmanager
def open_regular(path):
    """Open a regular file for reading; yields (file, size). Raises WeightsError where `path` is something else."""
    try:
        # asked before opening: to open a pipe would wait for its other end
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise WeightsError(shown_path(path), "is a folder, not a weight file")
        if not stat.S_ISREG(mode):
            raise WeightsError(shown_path(path), "is no regular file")
        file = open(path, "rb")
    except FileNotFoundError:
        raise WeightsError(shown_path(path), "there is no such file")
    except (OSError, ValueError) as error:
        raise WeightsError(shown_path(path), getattr(error, "strerror", None) or error)
    with file:
        size = os.fstat(file.fileno()).st_size
        if not size:
            raise WeightsError(shown_path(path), "the file is empty")
        yield file, size
