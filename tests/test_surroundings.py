"""File systems that refuse what is a nicety, and processes without standard streams: the work is done."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest
from predicting import picture, save

from kdscfnet import files


def refuse(number):
    def refused(*_, **__):
        raise OSError(number, os.strerror(number))

    return refused


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP, errno.EACCES])
def test_a_file_system_without_permissions(tmp_path, monkeypatch, number):
    monkeypatch.setattr(os, "chmod", refuse(number))
    files.write_bytes(tmp_path / "a.png", b"whole")
    assert (tmp_path / "a.png").read_bytes() == b"whole" and len(list(tmp_path.iterdir())) == 1


def test_a_file_system_without_fsync(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", refuse(errno.EINVAL))
    files.write_bytes(tmp_path / "a.png", b"whole")
    assert (tmp_path / "a.png").read_bytes() == b"whole"
    monkeypatch.setattr(os, "fsync", refuse(errno.EIO))  # a disk that fails is no nicety
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        files.write_bytes(tmp_path / "a.png", b"another")
    assert (tmp_path / "a.png").read_bytes() == b"whole" and len(list(tmp_path.iterdir())) == 1


def test_a_file_system_that_renames_to_no_name_that_is_taken(tmp_path, monkeypatch):
    files.write_bytes(tmp_path / "a.png", b"old")
    monkeypatch.setattr(os, "replace", refuse(errno.EEXIST))
    files.write_bytes(tmp_path / "a.png", b"new")
    assert (tmp_path / "a.png").read_bytes() == b"new" and len(list(tmp_path.iterdir())) == 1
    real = os.rename

    def fails_for_the_new_one(source, target):
        if str(target).endswith("a.png") and not str(source).endswith(".old"):
            raise OSError(errno.EIO, "I/O error")
        return real(source, target)

    monkeypatch.setattr(os, "rename", fails_for_the_new_one)
    with pytest.raises(OSError):
        files.write_bytes(tmp_path / "a.png", b"never")
    assert (tmp_path / "a.png").read_bytes() == b"new" and len(list(tmp_path.iterdir())) == 1


STREAMS = ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"]


@pytest.mark.parametrize("closed", STREAMS)
@pytest.mark.parametrize(
    "verb", ["predict photo.png -o out.png --size 32", "weights list", "evaluate --maps m --data s"]
)
def test_without_standard_streams(tmp_path, closed, verb):
    save(tmp_path / "photo.png", picture(40, 50))
    for folder in ("s/ECSSD/image", "s/ECSSD/mask", "m/ECSSD"):
        save(tmp_path / folder / "1.png", picture(20, 20)[..., 0])
    command = "%s -m kdscfnet %s %s" % (sys.executable, verb, closed)
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
    done = subprocess.run(["sh", "-c", command], cwd=str(tmp_path), env=environment, stderr=subprocess.PIPE)
    assert done.returncode == 0, done.stderr.decode()
    made = {path.name: path.read_bytes()[:4] for path in tmp_path.iterdir() if path.is_file()}
    if verb.startswith("predict"):
        assert made["out.png"] == b"\x89PNG"
    assert b"kdscfnet:" not in b"".join(path.read_bytes() for path in tmp_path.rglob("*.png"))
