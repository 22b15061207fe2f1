"""Mutations of valid weight files: none runs code, opens a file, takes memory beyond its size or half loads.

The test run takes a few hundred, the same each time. More, with new seeds (20,000 take a minute):

    KDSCFNET_FUZZ=20000 KDSCFNET_FUZZ_RANDOM=1 python -m pytest -s tests/test_weights_fuzz.py
"""

from __future__ import annotations

import collections
import os
import pickle
import struct
import tracemalloc

import numpy as np
import pytest

pytest.importorskip("hypothesis")
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_weights_files import BASE_MEMORY, Watch, fingerprint, python2_pickle

from kdscfnet.errors import WeightsError
from kdscfnet.weights.files import load_weights, write_weights
from kdscfnet.weights.networks import shape_tables

EXAMPLES = int(os.environ.get("KDSCFNET_FUZZ", 300))
RANDOM = bool(os.environ.get("KDSCFNET_FUZZ_RANDOM"))


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    """A small network, valid files of it in every form, and a place for the mutated ones."""
    from paddle import nn

    folder = tmp_path_factory.mktemp("fuzz")
    model = nn.Sequential(nn.Conv2D(3, 4, 3), nn.BatchNorm2D(4), nn.Linear(40, 30))
    arrays = {key: tensor.numpy() for key, tensor in model.state_dict().items()}
    table = {"StructuredToParameterName@@": {key: "w_%d" % i for i, key in enumerate(arrays)}}
    forms = {"protocol-%d" % protocol: pickle.dumps(dict(arrays, **table), protocol) for protocol in (2, 3, 4)}
    forms["tuples"] = pickle.dumps({key: ("name", array) for key, array in arrays.items()}, 4)
    forms["float16"] = pickle.dumps({key: array.astype("f2") for key, array in arrays.items()}, 4)
    forms["ordered"] = pickle.dumps(collections.OrderedDict(arrays), 2)
    forms["python-2"] = python2_pickle(arrays)
    write_weights(folder / "ours.pdparams", arrays)
    forms["ours"] = (folder / "ours.pdparams").read_bytes()
    try:
        write_weights(folder / "ours.safetensors", arrays)
        forms["safetensors"] = (folder / "ours.safetensors").read_bytes()
    except WeightsError:
        pass  # a stack without the library
    path = folder / "mutated.pdparams"
    shape_tables()  # a file of our own, read for some messages
    for data in forms.values():
        path.write_bytes(data)
        load_weights(model, path)
    return model, list(forms.items()), path, folder / "canary"


def gadgets(canary):
    """Pieces of pickle that do harm where they are understood."""
    command = ("touch '%s'" % canary).encode()
    text = b"X" + struct.pack("<I", len(command)) + command
    return [
        b"cos\nsystem\n" + text + b"\x85R",
        b"\x8c\x02os\x8c\x06system\x93" + text + b"\x85R",
        b"(" + text + b"ios\nsystem\n",
        b"(cos\nsystem\n" + text + b"o",
        b"\x81",
        b"R",
        b"b",
        b"0",
        b"2",
        b"(",
        b"t",
        b"\x94",
        b"h\x00",
        b"\x8e" + struct.pack("<Q", 1 << 40),
        b"X\xff\xff\xff\x7f",
        b"r\xff\xff\xff\x7f",
        b"\x8b\xff\xff\xff\x7f",
        b"]" * 500,
        b"numpy",
        b"numpy.core.multiarray",
        b"O8",
        b"f8",
        b"V4",
        b"\x00" * 8,
        b"\xff" * 8,
    ]


def mutated(data, edits, pieces):
    for kind, place, amount, piece in edits:
        if not data:
            break
        at = place % len(data)
        new = pieces[piece % len(pieces)]
        if kind == 0:  # one bit
            data = data[:at] + bytes([data[at] ^ (1 << amount % 8)]) + data[at + 1 :]
        elif kind == 1:  # one byte
            data = data[:at] + bytes([amount % 256]) + data[at + 1 :]
        elif kind == 2:
            data = data[:at] + data[at + amount % 64 + 1 :]
        elif kind == 3:
            data = data[:at] + new + data[at:]
        elif kind == 4:
            data = data[:at] + new + data[at + len(new) :]
        elif kind == 5:  # repeat a stretch
            data = data[:at] + data[at : at + amount % 300] * 2 + data[at + amount % 300 :]
        elif kind == 6:  # move a stretch
            stretch = data[at : at + amount % 300]
            data = data[: amount % len(data)] + stretch + data[amount % len(data) :]
        else:
            data = data[:at]
    return data


# Half of the places are near the start, where the structure is: most of a file is numbers.
EDITS = st.lists(
    st.tuples(
        st.integers(0, 7),
        st.one_of(st.integers(0, 400), st.integers(0, 1 << 20)),
        st.integers(0, 1 << 16),
        st.integers(0, 63),
    ),
    min_size=1,
    max_size=5,
)


def test_mutations_of_valid_files(target):
    model, forms, path, canary = target
    pieces = gadgets(canary)
    outcomes = collections.Counter()
    worst = [0.0]

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=not RANDOM,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.integers(0, len(forms) - 1), EDITS)
    def run(form, edits):
        name, data = forms[form]
        data = mutated(data, edits, pieces)
        path.write_bytes(data)
        before = fingerprint(model)
        tracemalloc.start()
        try:
            with Watch.get() as events:
                report = load_weights(model, path)
        except WeightsError as error:
            message = str(error)
            assert message.isprintable() and len(message) < 900 and message.startswith("%s: " % path), (name, message)
            assert fingerprint(model) == before
            outcomes["refused"] += 1
        else:
            assert report.loaded == 8
            assert all(np.isfinite(tensor.numpy()).all() for tensor in model.state_dict().values())
            outcomes["loaded"] += 1
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        worst[0] = max(worst[0], peak - 6 * len(data))
        assert peak <= 6 * len(data) + BASE_MEMORY, (name, peak, len(data))
        assert [item for item in events if item != ("open", str(path))] == []
        assert not canary.exists()

    run()
    print(
        "%d mutations: %d refused, %d loaded (other numbers, or nothing of weight changed); most memory beyond 6 times "
        "the file's size: %d kB" % (sum(outcomes.values()), outcomes["refused"], outcomes["loaded"], worst[0] // 1000)
    )
    # the fuzzer reaches past the first check, and does not only move numbers about
    assert outcomes["refused"] > EXAMPLES * 0.4 and outcomes["loaded"] > EXAMPLES * 0.02
