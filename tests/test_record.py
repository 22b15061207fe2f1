"""What made a result, and whether it still fits."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from kdscfnet.inference.record import FITS, MISSING, NAME, STALE, UNKNOWN, Record, fingerprint

SETTINGS = {
    "map": {"weights": "ab", "size": [352, 352]},
    "mask": {"weights": "ab", "size": [352, 352], "threshold": 0.5},
}


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    return str(path)


def test_a_result_fits_what_made_it_and_nothing_else(tmp_path):
    result = str(tmp_path / "sub" / "a.png")
    record = Record(str(tmp_path), SETTINGS)
    assert record.state("map", result, "1") == MISSING
    touch(tmp_path / "sub" / "a.png")
    assert record.state("map", result, "1") == UNKNOWN
    record.add({"map": result}, "1")
    for again in (record, Record(str(tmp_path), SETTINGS)):
        assert again.state("map", result, "1") == FITS
        assert again.state("map", result, "2") == STALE  # another input
        assert again.state("mask", result, "1") == STALE  # another kind of the same name
    for change in ({"weights": "cd"}, {"size": [224, 224]}):
        other = Record(str(tmp_path), {"map": dict(SETTINGS["map"], **change)})
        assert other.state("map", result, "1") == STALE
    masks = dict(SETTINGS["mask"], threshold="adaptive")
    record.add({"mask": result}, "1")
    assert Record(str(tmp_path), SETTINGS).state("mask", result, "1") == FITS
    assert Record(str(tmp_path), {"mask": masks}).state("mask", result, "1") == STALE
    os.unlink(result)
    assert record.state("mask", result, "1") == MISSING


def test_a_line_cut_short_costs_that_result_alone(tmp_path):
    record = Record(str(tmp_path), SETTINGS)
    results = [touch(tmp_path / ("%d.png" % number)) for number in range(3)]
    for result in results[:2]:
        record.add({"map": result}, "1")
    path = tmp_path / NAME
    path.write_bytes(path.read_bytes()[:-5])
    again = Record(str(tmp_path), SETTINGS)
    again.add({"map": results[2]}, "1")
    assert [Record(str(tmp_path), SETTINGS).state("map", result, "1") for result in results] == [FITS, UNKNOWN, FITS]


@pytest.mark.parametrize(
    "content", [b"", b'[]\n1\nnull\n{}\n[1,2]\n[[],2,3]\n{"made":[]}\n', b"\xff\xfe\x00", b'["a.png", "k"]\n"text"\n']
)
def test_a_record_that_is_none_is_no_record(tmp_path, content):
    (tmp_path / NAME).write_bytes(content)
    result = touch(tmp_path / "a.png")
    record = Record(str(tmp_path), SETTINGS)
    assert record.state("map", result, "1") == UNKNOWN
    record.add({"map": result}, "1")
    assert Record(str(tmp_path), SETTINGS).state("map", result, "1") == FITS


def test_threads_and_names_of_any_bytes(tmp_path):
    names = [os.fsdecode(b"caf\xe9%d.png" % number) for number in range(40)]
    record = Record(str(tmp_path), SETTINGS)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: record.add({"map": touch(tmp_path / name)}, "1"), names))
    again = Record(str(tmp_path), SETTINGS)
    assert {again.state("map", str(tmp_path / name), "1") for name in names} == {FITS}


def test_an_input_of_another_content_or_time_has_another_fingerprint(tmp_path):
    path = touch(tmp_path / "a.jpg")
    first = fingerprint(path)
    os.utime(path, ns=(0, 1))
    second = fingerprint(path)
    (tmp_path / "a.jpg").write_bytes(b"xy")
    os.utime(path, ns=(0, 1))
    assert len({first, second, fingerprint(path)}) == 3
