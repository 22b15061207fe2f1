"""Weight files: what loads, exactly; and what must not, without harm (tests/hostile_files.py)."""

from __future__ import annotations

import base64
import collections
import importlib
import json
import os
import pickle
import subprocess
import sys
import tracemalloc
import zlib

import hostile_files
import numpy as np
import pytest

import kdscfnet
from kdscfnet.errors import WeightsError
from kdscfnet.weights import files, networks
from kdscfnet.weights.files import (
    load_weights,
    read_weights,
    save_weights,
    write_weights,
)
from kdscfnet.weights.networks import identify

# What any load may cost on top of six times the file: the interpreter's small change, and one report
BASE_MEMORY = 2 << 20


@pytest.fixture(scope="module")
def model():
    return kdscfnet.SCFNet("mobilenetv3")


@pytest.fixture(scope="module")
def arrays(model):
    """The state of `model`; no test changes it but the ones that put it back."""
    return {key: tensor.numpy() for key, tensor in model.state_dict().items()}


def fingerprint(model):
    crc = 0
    for tensor in model.state_dict().values():
        crc = zlib.crc32(tensor.numpy().tobytes(), crc)
    return crc


def same(left, right):
    """Equal values and types, all the way down."""
    if isinstance(left, np.ndarray) or isinstance(left, np.generic):
        return (
            type(left) is type(right)
            and left.dtype == right.dtype
            and left.shape == right.shape
            and left.tobytes() == right.tobytes()
        )
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    return left == right


# What is refused -----------------------------------------------------------------------------------------------------


class Watch:
    """Counts what the interpreter is asked to do: opening files, importing, starting programs (sys.addaudithook)."""

    HARMFUL = (
        "os.system",
        "os.exec",
        "os.fork",
        "os.posix_spawn",
        "subprocess.Popen",
        "socket.connect",
        "import",
        "pickle.find_class",
        "exec",
        "compile",
        "ctypes.dlopen",
        "os.remove",
        "os.rename",
        "shutil.rmtree",
    )
    installed = None

    def __init__(self):
        self.events = None
        if hasattr(sys, "addaudithook"):
            sys.addaudithook(self.hook)

    def hook(self, event, arguments):
        if self.events is not None and (event in self.HARMFUL or event == "open"):
            self.events.append((event, str(arguments[0])))

    @classmethod
    def get(cls):
        if cls.installed is None:  # a hook cannot be taken away again
            cls.installed = cls()
        return cls.installed

    def __enter__(self):
        self.events = []
        return self.events

    def __exit__(self, *_):
        self.events = None


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, arrays):
    folder = tmp_path_factory.mktemp("hostile")
    return folder, hostile_files.corpus(folder, arrays)


def test_hostile_files_are_refused_and_do_nothing(corpus, model):
    folder, cases = corpus
    assert len(cases) >= 150
    for case in cases:  # what is imported or read when it is first needed is so now
        if case.path.suffix == ".safetensors" or case.name in ("misfit-missing-key", "reduce-2"):
            with pytest.raises(WeightsError):
                load_weights(model, case.path)
    before = fingerprint(model)
    for case in cases:
        size = case.path.stat().st_size if "\0" not in str(case.path) and case.path.is_file() else 0
        tracemalloc.start()
        with Watch.get() as events, pytest.raises(WeightsError) as caught:
            load_weights(model, case.path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        message = str(caught.value)
        assert case.says in message, (case.name, message)
        assert message.isprintable() and len(message) < 900, (case.name, message)
        assert message.startswith(str(case.path).replace("\0", "?") + ": "), (case.name, message)
        assert peak <= 6 * size + BASE_MEMORY, (case.name, peak, size)
        assert [event for event in events if event != ("open", str(case.path))] == [], case.name
    assert fingerprint(model) == before
    assert not list(folder.glob("canary-*"))


def test_the_hostile_files_are_hostile(corpus, tmp_path):
    """pickle.load, and so paddle.load, runs the code in every file that the corpus calls code."""
    folder, cases = corpus
    cases = [case for case in cases if case.runs_code]
    assert len(cases) >= 30
    script = tmp_path / "load.py"
    script.write_text(
        "import copyreg, pickle, sys\n"
        "import numpy, numpy.core, argparse\n"
        "copyreg.add_extension('os', 'system', %d)\n"
        "for path in sys.argv[1:]:\n"
        "    try:\n"
        "        pickle.load(open(path, 'rb'), encoding='latin1')\n"
        "    except Exception:\n"
        "        pass\n" % hostile_files.EXTENSION
    )
    subprocess.run(
        [sys.executable, str(script), *(str(case.path) for case in cases)],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    harmless = []
    for case in cases:
        file = hostile_files.canary(folder, case.name)
        if file.exists():
            file.unlink()
        else:
            harmless.append(case.name)
    # the newest numpy keeps no `os` where this one looks for it
    gone = [] if hasattr(importlib.import_module("numpy.core.multiarray").overrides, "os") else ["dotted-multiarray"]
    assert harmless == gone


def test_no_permission(tmp_path, model, arrays):
    path = tmp_path / "closed.pdparams"
    write_weights(path, arrays)
    if os.name == "nt":
        pytest.skip("Windows has other permissions")
    path.chmod(0)
    if os.geteuid() == 0:  # root reads everything: ask as somebody else
        os.seteuid(65534)
    try:
        with pytest.raises(WeightsError, match="closed.pdparams: Permission denied$"):
            load_weights(model, path)
    finally:
        if os.getuid() == 0:
            os.seteuid(0)


def test_another_backbones_file(tmp_path, model):
    before = fingerprint(model)
    shapes = networks.shape_tables()["resnet50"]
    path = tmp_path / "other.pdparams"
    write_weights(path, {key: np.zeros(shape, np.int8) for key, shape in shapes.items()})
    with pytest.raises(WeightsError, match="holds SCFNet with the backbone resnet50, not mobilenetv3") as caught:
        load_weights(model, path)
    error = caught.value
    assert len(str(error)) < 300
    assert "bkbone.conv.conv.weight" in error.missing and "bkbone.conv1.weight" in error.unexpected
    assert error.mismatched["mp.cv1.0.weight"] == "is [64, 256, 3, 3], should be [16, 16, 3, 3]"
    assert fingerprint(model) == before


def test_long_lists_are_cut_and_kept_whole(tmp_path, model, arrays):
    path = tmp_path / "half.pdparams"
    write_weights(path, dict(list(arrays.items())[:100]))
    with pytest.raises(WeightsError, match=r"missing [^ ]+, [^ ]+, [^ ]+ and 251 more$") as caught:
        load_weights(model, path)
    assert len(caught.value.missing) == 254


def test_a_file_that_shrinks_while_it_is_read(tmp_path, model, arrays, monkeypatch):
    path = tmp_path / "weights.pdparams"
    write_weights(path, arrays)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    monkeypatch.setattr(os, "fstat", lambda _: os.stat_result((0,) * 6 + (len(whole),) + (0,) * 3))
    before = fingerprint(model)
    with pytest.raises(WeightsError, match="the file became shorter while it was read"):
        load_weights(model, path)
    assert fingerprint(model) == before


# What loads ----------------------------------------------------------------------------------------------------------


def test_the_authors_file(shared, model, arrays):
    path = shared / "weights" / "scfnet_m3_authors_code.pdparams"
    report = load_weights(model, path)
    try:
        assert report.loaded == 354 and report.converted == {}
        assert report.ignored == {"StructuredToParameterName@@": "Paddle's table of names"}
        assert "354 entries loaded from %s" % path in str(report)
        with open(str(path), "rb") as file:
            expected = pickle.load(file)  # written by the authors' code, in our own hands
        del expected["StructuredToParameterName@@"]
        assert list(expected) == list(model.state_dict())
        assert all((expected[key] == tensor.numpy()).all() for key, tensor in model.state_dict().items())
        assert identify(read_weights(path)) == ("scfnet", "mobilenetv3")
    finally:
        put_back(model, arrays)


def test_maps_of_the_authors_file(shared, model, arrays):
    """Twenty maps within one grey level of those that the authors' code made (evaluation.md)."""
    import paddle
    import paddle.nn.functional as F

    from kdscfnet.images import read_image, read_mask
    from kdscfnet.processing import prepare_image

    load_weights(model, shared / "weights" / "scfnet_m3_authors_code.pdparams")
    model.eval()
    try:
        expected = sorted((shared / "golden" / "maps").rglob("*.png"))
        assert len(expected) == 20
        worst, total = 0, 0
        for path in expected:
            image = read_image(shared / "data" / "ECSSD" / "image" / (path.stem + ".jpg"))
            with paddle.no_grad():
                logits = model(paddle.to_tensor(prepare_image(image, 352)[None]))[0]
                saliency = F.interpolate(
                    F.sigmoid(logits), size=list(image.shape[:2]), mode="bilinear", align_corners=True
                )
            # cv2.imwrite rounds half to even, as numpy does
            ours = np.rint(saliency.numpy()[0, 0] * 255).astype(int)
            difference = np.abs(ours - read_mask(path))
            worst, total = max(worst, difference.max()), total + (difference > 0).mean()
        assert worst <= 1 and total / 20 < 0.01
    finally:
        model.train()
        put_back(model, arrays)


def put_back(model, arrays):
    for key, tensor in model.state_dict().items():
        tensor.set_value(arrays[key])


def python2_pickle(arrays):
    """A state dict as Python 2 wrote it at protocol 2: byte strings for texts and for data, memo numbers from 1."""
    parts = [b"\x80\x02}q\x01("]
    for number, (key, array) in enumerate(arrays.items()):
        data = array.tobytes()
        parts += [
            b"U" + bytes([len(key)]) + key.encode(),
            b"cnumpy.core.multiarray\n_reconstruct\n" + (b"q\x02" if not number else b""),
            b"cnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01(",
            b"".join(b"J" + side.to_bytes(4, "little") for side in array.shape) + b"t",
            b"cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89",
            (b"U" + bytes([len(data)]) if len(data) < 256 else b"T" + len(data).to_bytes(4, "little")) + data,
            b"tb",
        ]
    return b"".join(parts) + b"u."


def written_forms(arrays):
    """(name, bytes) of the ways in which a state dict has been written."""
    table = {"StructuredToParameterName@@": {key: "conv2d_%d.w_0" % i for i, key in enumerate(arrays)}}
    for protocol in (2, 3, 4, min(5, pickle.HIGHEST_PROTOCOL)):
        yield "plain-%d" % protocol, pickle.dumps(arrays, protocol)
        yield "with-table-%d" % protocol, pickle.dumps(dict(arrays, **table), protocol)
        yield "ordered-%d" % protocol, pickle.dumps(collections.OrderedDict(arrays), protocol)
        # Paddle 2.1 and later where the dict holds more than tensors: tuple((name, array))
        named = {key: hostile_files.Reduce(tuple, ("conv_%s" % key, array)) for key, array in arrays.items()}
        yield "tuples-%d" % protocol, pickle.dumps(named, protocol)
        yield "plain-tuples-%d" % protocol, pickle.dumps({key: ("n", array) for key, array in arrays.items()}, protocol)
        yield (
            "fortran-%d" % protocol,
            pickle.dumps({key: np.asfortranarray(array) for key, array in arrays.items()}, protocol),
        )
        yield (
            "big-endian-%d" % protocol,
            pickle.dumps({key: array.astype(">f4") for key, array in arrays.items()}, protocol),
        )
    # numpy 2 calls the same classes otherwise (the real thing: test_numpy_2)
    yield "numpy-2", pickle.dumps(arrays, 2).replace(b"cnumpy.core.multiarray\n", b"cnumpy._core.multiarray\n")
    yield "python-2", python2_pickle(arrays)


def test_every_way_in_which_state_dicts_are_written(tmp_path, model, arrays):
    path = tmp_path / "weights.pdparams"
    # values that tell a wrong order from a right one
    rng = np.random.RandomState(0)
    others = {key: rng.standard_normal(array.shape).astype("f4") for key, array in arrays.items()}
    try:
        for name, data in written_forms(others):
            path.write_bytes(data)
            report = load_weights(model, path)
            assert report.loaded == 354, name
            assert all((others[key] == tensor.numpy()).all() for key, tensor in model.state_dict().items()), name
            shapes = read_weights(path, lazy=True)
            assert identify(shapes) == ("scfnet", "mobilenetv3")
            assert all(shapes[key].nbytes == array.nbytes for key, array in others.items())
            put_back(model, arrays)
    finally:
        put_back(model, arrays)


@pytest.mark.parametrize("protocol", ["2", "3", "4", "5"])
def test_numpy_2(tmp_path, golden, protocol):
    """Pickles that numpy 2 wrote: the same classes under other names."""
    path = tmp_path / "numpy2.pkl"
    pickles = json.loads((golden / "numpy2_pickles.json").read_text())["pickles"]
    path.write_bytes(zlib.decompress(base64.b64decode("".join(pickles[protocol]))))
    assert same(
        read_weights(path),
        {
            "a": np.arange(6, dtype="f4").reshape(2, 3),
            "c": np.arange(4, dtype="f8").reshape(2, 2),
            "d": np.zeros(0, "f4"),
            "e": np.ones(2, "f2"),
        },
    )


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_other_floats_are_converted_and_reported(tmp_path, model, arrays, dtype):
    path = tmp_path / "weights.pdparams"
    key = "linear2.weight"
    write_weights(path, dict(arrays, **{key: np.full(arrays[key].shape, 0.1, dtype)}))
    try:
        report = load_weights(model, path)
        assert report.converted == {key: dtype}
        assert "1 converted from %s to float32" % dtype in str(report)
        assert (model.linear2.weight.numpy() == np.float32(np.dtype(dtype).type(0.1))).all()
    finally:
        put_back(model, arrays)


def test_safetensors_load(tmp_path, model, arrays):
    pytest.importorskip("safetensors")
    path = tmp_path / "weights.anything"  # the content decides, not the name
    write_weights(tmp_path / "a.safetensors", dict(arrays, **{"linear2.weight": np.full((1, 16, 3, 3), 0.1, "f2")}))
    (tmp_path / "a.safetensors").rename(path)
    try:
        report = load_weights(model, path)
        assert (report.loaded, report.format, report.converted) == (354, "safetensors", {"linear2.weight": "float16"})
        assert identify(read_weights(path, lazy=True)) == ("scfnet", "mobilenetv3")
        assert (model.linear2.weight.numpy() == np.float32(np.float16(0.1))).all()
    finally:
        put_back(model, arrays)
    write_weights(tmp_path / "a.safetensors", dict(arrays, **{"linear2.bias": np.array([np.inf], "f4")}))
    with pytest.raises(WeightsError, match="NaN or infinite values in linear2.bias"):
        load_weights(model, tmp_path / "a.safetensors")
    assert all((tensor.numpy() == arrays[key]).all() for key, tensor in model.state_dict().items())


def test_swin_buffers_are_left_alone_and_named():
    shapes = {key: shape for key, shape in networks.shape_tables()["swin_b"].items() if ".layers.0." in key}
    arrays = {key: np.zeros(shape, "f4") for key, shape in shapes.items()}
    index, mask = "bkbone.layers.0.blocks.0.attn.relative_position_index", "bkbone.layers.0.blocks.1.attn_mask"
    arrays[index] = np.full((3, 3), 7)  # of another window: not used, so not checked
    del arrays[mask]
    report = files.LoadReport("x", "pdparams", 0)
    chosen = files.fit(arrays, shapes, report)
    assert index not in chosen and mask not in chosen
    assert report.ignored[index].startswith("derived")
    assert report.loaded == len(chosen) == sum(not networks.is_derived(key) for key in shapes)


# Writing -------------------------------------------------------------------------------------------------------------


def test_saved_files_load_with_plain_paddle(tmp_path, model, arrays):
    import paddle

    path = tmp_path / "weights.pdparams"
    save_weights(model, path)
    loaded = paddle.load(str(path))
    assert list(loaded) == list(arrays)
    assert all(isinstance(tensor, paddle.Tensor) for tensor in loaded.values())
    assert all((loaded[key].numpy() == array).all() for key, array in arrays.items())
    assert same(read_weights(path), arrays)
    with open(str(path), "rb") as file:
        assert same(pickle.load(file), arrays)


def test_both_formats_are_exact_and_reproducible(tmp_path, arrays):
    pytest.importorskip("safetensors")
    every = {key: np.ascontiguousarray(array) for key, array in arrays.items()}
    every["half"] = np.arange(5, dtype="f2")
    every["double"] = np.array([[np.pi]])
    every["index"] = np.arange(4).reshape(2, 2)
    every["nothing"] = np.zeros((0, 3), "f4")
    every["one"], every["a count"] = np.array(2.5, "f4"), np.array(7)  # without dimensions
    every["Fortran"] = np.asfortranarray(np.arange(6, dtype="f4").reshape(2, 3))
    every["odd values"] = np.array([np.nan, -0.0, np.inf, 1e-45], "f4")
    first, second, third = (tmp_path / name for name in ("a.pdparams", "b.safetensors", "c.pdparams"))
    write_weights(first, every)
    write_weights(second, read_weights(first))
    back = read_weights(second)
    write_weights(third, {key: back[key] for key in every})
    assert set(back) == set(every) and all(same(back[key], every[key]) for key in every)
    assert first.read_bytes() == third.read_bytes()
    assert same(read_weights(first), every)


def test_written_bytes_do_not_depend_on_the_stack(tmp_path):
    """So a file that one Paddle and numpy read from us is a file that all of them read (test_weights_matrix.py)."""
    write_weights(
        tmp_path / "a.pdparams", {"a.weight": np.arange(6, dtype="f4").reshape(2, 3), "b": np.ones(300, "f8")}
    )
    assert zlib.crc32((tmp_path / "a.pdparams").read_bytes()) == 793208005


def test_saving_to_another_suffix(tmp_path, model):
    with pytest.raises(WeightsError, match="ends with .pdparams or .safetensors"):
        save_weights(model, tmp_path / "weights.pth")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".pdparams", ".safetensors"])
def test_what_a_file_would_not_give_back_is_not_written(tmp_path, suffix):
    if suffix == ".safetensors":
        pytest.importorskip("safetensors")
    path, one = tmp_path / ("a" + suffix), np.ones(1, "f4")
    wrong = [
        ({"a": np.zeros(2, "c8")}, "'a' is complex64, and weight files hold plain numbers"),
        ({"a": np.zeros(2, "U3")}, "plain numbers"),
        ({"a": np.zeros(2, object)}, "plain numbers"),
        ({1: one}, "the key 1 is no text"),
        ({"a" * 5000: one}, "the key 'aaa.* is longer than 4096 bytes"),
        ({}, "there are no arrays"),
    ]
    if suffix == ".safetensors":
        wrong += [
            ({"b": one, "a\ud800": one}, r"the key 'a\\ud800' is no valid Unicode"),
            ({"b": one, "__metadata__": one}, "the key '__metadata__' has a meaning of its own"),
        ]
    for arrays, says in wrong:
        with pytest.raises(WeightsError, match=says) as caught:
            write_weights(path, arrays)
        assert str(caught.value).startswith("%s: cannot be written: " % path) and str(caught.value).isprintable()
        assert list(tmp_path.iterdir()) == []
    if suffix == ".pdparams":  # which can have them
        write_weights(path, {"a\ud800": one, "__metadata__": one})
        assert list(read_weights(path)) == ["a\ud800", "__metadata__"]


# Which network is it? ------------------------------------------------------------------------------------------------


def test_shape_tables_are_those_of_the_models(golden):
    for backbone, kind in (("mobilenetv3", "M3_0.5"), ("resnet50", "R50"), ("swin_b", "ST")):
        with open(str(golden / ("manifest_%s.json" % kind))) as file:
            recorded = {key: tuple(entry["shape"]) for key, entry in json.load(file).items()}
        assert networks.shape_tables()[backbone] == recorded
        assert list(networks.shape_tables()[backbone]) == list(recorded)


class Shaped:
    def __init__(self, shape):
        self.shape = shape


@pytest.mark.parametrize("backbone", ["mobilenetv3", "resnet50", "swin_b"])
def test_identify(backbone):
    whole = {key: Shaped(shape) for key, shape in networks.shape_tables()[backbone].items()}
    assert identify(whole) == ("scfnet", backbone)
    alone = {key: Shaped(shape) for key, shape in networks.expected("backbone", backbone)[0].items()}
    assert identify(alone) == ("backbone", backbone)
    head = {"mobilenetv3": "last_conv.weight", "resnet50": "fc.weight", "swin_b": "head.bias"}[backbone]
    assert identify(dict(alone, **{head: Shaped((1000,))})) == ("backbone", backbone)
    assert identify(dict(alone, other=Shaped((1,)))) == ("other", "")
    assert identify(dict(whole, **{"bkbone." + head: Shaped((1000,))})) == ("other", "")
    for key in list(whole)[::50]:
        less = {name: value for name, value in whole.items() if name != key}
        assert identify(less) == (("scfnet", backbone) if networks.is_derived(key) else ("other", ""))


def test_reading_imports_no_paddle(tmp_path, arrays):
    write_weights(tmp_path / "a.pdparams", arrays)
    subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from kdscfnet.weights.files import read_weights\n"
            "from kdscfnet.weights.networks import identify\n"
            "assert identify(read_weights(%r)) == ('scfnet', 'mobilenetv3')\n"
            "assert not {'paddle', 'cv2', 'safetensors'} & set(sys.modules)" % str(tmp_path / "a.pdparams"),
        ],
        check=True,
        cwd=os.path.dirname(os.path.dirname(os.path.abspath(kdscfnet.__file__))),
    )
