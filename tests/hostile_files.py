"""Hostile and broken weight files, made by the tests: what the reader must refuse without running, opening or
allocating anything. Used by test_weights_files.py.

`corpus(folder, arrays)` yields Case objects. `runs_code` marks those that pickle.load runs: test_weights_files.py
proves it in a process of its own, so that the corpus cannot turn harmless unnoticed.
"""

from __future__ import annotations

import copyreg
import gzip
import io
import os
import pickle
import struct
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

EXTENSION = 240  # code of an extension that stands for os.system; test_weights_files.py registers it


@dataclass
class Case:
    name: str
    path: Path
    says: str  # a part of the error message
    runs_code: bool = False


def canary(folder, name):
    """The file that a case makes when its code runs."""
    return Path(folder) / ("canary-" + name)


class Reduce:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def text(value):
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def arrays_pickle(protocol=4):
    return pickle.dumps({"weight": np.arange(6, dtype=np.float32)}, protocol)


def code_cases(command):
    """(name, bytes) of pickles that run `command` when pickle.load reads them; `command(name)` gives the shell line."""

    def cmd(name):
        return text(command(name))

    two, four = b"\x80\x02", b"\x80\x04"
    for protocol in (2, 4):
        name = "reduce-%d" % protocol
        yield name, pickle.dumps(Reduce(os.system, command(name)), protocol)
        name = "reduce-in-state-dict-%d" % protocol
        yield name, pickle.dumps({"a": np.ones(2, "f4"), "b": Reduce(os.system, command(name))}, protocol)
        name = "reduce-eval-%d" % protocol  # as Paddle itself writes a DenseTensor
        yield name, pickle.dumps(Reduce(eval, "__import__('os').system(%r)" % command(name)), protocol)
        name = "object-array-%d" % protocol
        objects = np.empty(2, object)
        objects[:] = [Reduce(os.system, command(name)), 1]
        yield name, pickle.dumps({"a": objects}, protocol)
        name = "scalar-of-objects-%d" % protocol
        yield (
            name,
            pickle.dumps(Reduce(np.core.multiarray.scalar, np.dtype("O"), Reduce(os.system, command(name))), protocol),
        )
        name = "dtype-metadata-%d" % protocol
        yield name, pickle.dumps({"d": np.dtype("f4"), "m": [Reduce(os.system, command(name))]}, protocol)
    yield "global", two + b"cos\nsystem\n" + cmd("global") + b"\x85R."
    yield "global-posix", two + b"cposix\nsystem\n" + cmd("global-posix") + b"\x85R."
    yield "stack-global", four + text("os") + text("system") + b"\x93" + cmd("stack-global") + b"\x85R."
    yield "inst", two + b"(" + cmd("inst") + b"ios\nsystem\n."
    yield "obj", two + b"(cos\nsystem\n" + cmd("obj") + b"o."
    yield (
        "newobj",
        four + (b"cbuiltins\nbytes\ncbuiltins\nmap\ncos\nsystem\n](" + cmd("newobj") + b"e\x86\x81\x85\x81."),
    )
    yield (
        "newobj-ex",
        four + (b"cbuiltins\nbytes\ncbuiltins\nmap\ncos\nsystem\n](" + cmd("newobj-ex") + b"e\x86}\x92\x85}\x92."),
    )
    yield (
        "build",
        two + (b"cargparse\nNamespace\n)\x81}" + text("__setstate__") + b"cos\nsystem\nsb" + cmd("build") + b"b."),
    )
    for name, opcode in (("ext1", b"\x82\xf0"), ("ext2", b"\x83\xf0\x00"), ("ext4", b"\x84\xf0\x00\x00\x00")):
        yield name, two + opcode + cmd(name) + b"\x85R."
    # dotted names, through modules that array pickles use
    yield (
        "dotted-numpy",
        four + text("numpy") + text("_pytesttester.os.system") + b"\x93" + cmd("dotted-numpy") + b"\x85R.",
    )
    yield (
        "dotted-multiarray",
        four
        + (
            text("numpy.core.multiarray") + text("overrides.os.system") + b"\x93" + cmd("dotted-multiarray") + b"\x85R."
        ),
    )
    yield (
        "dotted-collections",
        four
        + (
            text("collections")
            + text("_sys.modules.__class__.get")
            + b"\x93"
            + text("collections")
            + text("_sys.modules")
            + b"\x93"
            + text("os")
            + b"\x86R"
            + b"0"
            + text("os")
            + text("system")
            + b"\x93"
            + cmd("dotted-collections")
            + b"\x85R."
        ),
    )
    yield "after-a-good-pickle", arrays_pickle()[:-1] + b"0cos\nsystem\n" + cmd("after-a-good-pickle") + b"\x85R."
    yield "in-a-memo", four + b"cos\nsystem\n\x940h\x00" + cmd("in-a-memo") + b"\x85R."
    yield "protocol-0", b"cos\nsystem\n(S'%s'\ntR." % command("protocol-0").encode()
    yield "protocol-1", b"cos\nsystem\n(" + cmd("protocol-1") + b"tR."


def refused_pickles():
    """(name, bytes, part of the message) of pickles that do other harm, or are no weight files."""
    two, four, five = b"\x80\x02", b"\x80\x04", b"\x80\x05"
    number = b"\x8c\x04data"
    rebuild = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
    f4 = b"cnumpy\ndtype\n\x8c\x02f4\x89\x88\x87R(K\x03\x8c\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"

    def array(shape, data=b"C\x04abcd", dtype=f4, version=b"K\x01"):
        return four + b"}\x8c\x01a" + rebuild + b"(" + version + shape + dtype + b"\x89" + data + b"tbs."

    tera = b"\x8a\x06" + (1 << 40).to_bytes(6, "little")
    yield "persistent-id", b"\x80\x02Pos.system\n.", "opcode PERSID"
    yield "persistent-id-binary", two + text("os.system") + b"Q.", "opcode BINPERSID"
    yield "opens-a-file", pickle.dumps(Reduce(open, "/etc/passwd"), 4), "open"
    yield "numpy-load", four + b"cnumpy\nload\n" + text("/etc/passwd") + b"\x85R.", "numpy.load"
    yield "numpy-memmap", four + b"cnumpy\nmemmap\n" + text("/etc/passwd") + b"\x85R.", "numpy.memmap"
    yield "numpy-zeros", four + b"cnumpy\nzeros\n" + tera + b"\x85R.", "numpy.zeros"
    yield (
        "subclass-of-array",
        four + b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nmatrix\nK\x00\x85C\x01b\x87R.",
        "matrix",
    )
    yield "call-of-a-number", two + b"K\x01)R.", "calls something"
    yield "call-of-the-array-type", two + b"cnumpy\nndarray\n" + tera + b"\x85\x85R.", "LONG1"
    yield "append-to-an-array", four + rebuild + b"K\x01a.", "damaged"
    yield "item-of-an-array", four + rebuild + b"K\x01K\x01s.", "damaged"
    yield "state-of-a-dict", two + b"}}b.", "state"
    yield "array-without-state", four + b"}\x8c\x01a" + rebuild + b"s.", "no array"
    yield "a-bare-name", two + b"cnumpy\nndarray\n.", "not a dict of arrays"

    yield "object-array-of-numbers", pickle.dumps({"a": np.array([1, 2], object)}, 4), "Python objects"
    yield (
        "object-dtype-over-bytes",
        array(b"K\x01\x85", dtype=f4.replace(b"f4", b"O8"), data=b"C\x08" + bytes(8)),
        "Python objects",
    )
    yield "dtype-with-fields", pickle.dumps({"a": np.zeros(2, [("x", "f4"), ("y", "i4")])}, 4), "no plain numbers"
    yield "dtype-with-subarray", pickle.dumps({"a": np.zeros(2, [("x", "f4", 3)])}, 2), "no plain numbers"
    yield "fields-in-a-plain-dtype", array(b"K\x01\x85", dtype=f4.replace(b"NNN", b"N)}")), "fields"
    yield "text-array", pickle.dumps({"a": np.array(["a", "b"])}, 4), "no plain numbers"
    yield "date-array", pickle.dumps({"a": np.zeros(2, "M8[s]")}, 4), "no plain numbers"
    yield "complex-array", pickle.dumps({"a": np.zeros(2, "c8")}, 4), "no plain numbers"
    yield "odd-byte-order", array(b"K\x01\x85", dtype=f4.replace(b"f4", b"<<")), "no plain numbers"

    yield "terabytes-by-shape", array(tera + b"\x85"), "LONG1"
    yield "gigabytes-by-shape", array(b"J\xff\xff\xff\x7f\x85"), "claims 8.6 GB"
    yield "zero-times-giga", array(b"(K\x00" + b"J\xff\xff\xff\x7f" * 5 + b"t", b"C\x00"), "damaged"
    yield "terabytes-by-product", array(b"J\x00\x00\x10\x00J\x00\x00\x10\x00\x86"), "claims 4.4 TB"
    yield "overflow-by-product", array(b"(" + (b"\x8a\x09" + (1 << 64).to_bytes(9, "little")) * 32 + b"t"), "LONG1"
    yield "zero-times-tera", array(b"K\x00" + tera + b"\x86", b"C\x00"), "LONG1"
    yield "negative-shape", array(b"J\xff\xff\xff\xffJ\xff\xff\xff\xff\x86"), "makes no sense"
    yield "too-many-dimensions", array(b"(" + b"K\x01" * 33 + b"t"), "makes no sense"
    yield "shape-of-text", array(text("x") + b"\x85"), "makes no sense"
    yield "data-too-short", array(b"K\x02\x85"), "claims 8 bytes but has 4 bytes"
    yield "data-too-long", array(b"K\x02\x85", b"C\x0c" + bytes(12)), "claims 8 bytes but has 12 bytes"
    yield "no-data", array(b"K\x01\x85", b"N"), "makes no sense"
    yield "data-of-a-list", array(b"K\x01\x85", b"]K\x01a"), "makes no sense"
    yield "terabytes-by-bytes", four + b"\x8e" + struct.pack("<Q", 1 << 40) + b"abc.", "ends early"
    yield "terabytes-by-text", four + b"\x8d" + struct.pack("<Q", 1 << 40) + b"abc.", "ends early"
    yield "exabytes-by-bytearray", five + b"\x96" + struct.pack("<Q", (1 << 63) - 1) + b"abc.", "ends early"
    yield "gigabytes-by-text", two + b"X" + struct.pack("<I", 0xFFFFFFF0) + b"abc.", "ends early"
    yield "gigabytes-by-frame", four + b"\x95" + struct.pack("<Q", 1 << 33) + b"N.", "ends early"
    yield "gigabytes-by-integer", two + b"\x8b" + struct.pack("<i", 0x7FFFFFFF) + b"N.", "LONG4"
    yield "negative-integer-length", two + b"\x8b" + struct.pack("<i", -5) + b"N.", "LONG4"
    yield "wide-integer", two + b"\x8b" + struct.pack("<i", 5000) + b"\xff" * 5000 + b".", "LONG4"
    yield "gigabytes-by-memo", two + b"Nr\xff\xff\xff\x7f.", "not a dict of arrays"
    yield (
        "scalar-of-terabytes",
        four + b"cnumpy.core.multiarray\nscalar\n" + f4 + b"\x8e" + struct.pack("<Q", 1 << 41) + b"\x86R.",
        "scalar",
    )

    flood = 500000
    yield "nested-lists", four + b"]" * flood + b"a" * (flood - 1) + b".", "memory"
    yield "nested-lists-few", four + b"]" * 1000 + b"a" * 999 + b".", "not a dict of arrays"
    yield "nested-tuples", four + b")" + b"\x85" * flood + b".", "memory"
    yield "nested-dicts", four + (b"}" + number) * 500 + b"N" + b"s" * 500 + b".", "no arrays"
    yield "nested-tuple-as-key", four + b"})" + b"\x85" * 3000 + b"Ns.", "a key that is no text"
    yield "marks", four + b"(" * flood + b".", "memory"
    yield "memo-flood", four + b"N" + b"\x94" * flood + b".", "memory"
    yield "dict-flood", four + b"(" + b"}" * flood + b"t.", "memory"
    yield (
        "one-item-dicts",
        four + b"(" + b"".join(b"}J%sNs" % struct.pack("<i", i) for i in range(flood // 7)) + b"t.",
        "a key that is no text",
    )
    yield (
        "wide-texts",
        four + b"(" + (b"X" + struct.pack("<I", 4004) + b"a" * 4000 + "\U0001f600".encode()) * 500 + b"t.",
        "not a dict of arrays",
    )
    long = b"X" + struct.pack("<I", 2000004) + b"a" * 2000000 + "\U0001f600".encode()
    yield "one-wide-text", four + long + b".", "not a dict of arrays"
    # what is made of little, again and again, in a file that is large for another reason
    padding = b"B" + struct.pack("<I", 3000000) + bytes(3000000)
    encode = b"c_codecs\nencode\nq\x00X" + struct.pack("<I", 4096) + b"a" * 4096 + b"\x8c\x06latin1\x86q\x01"
    yield "encoded-flood", four + b"(" + encode + b"h\x00h\x01R" * 50000 + padding + b"l.", "memory"
    pairs = b"".join(b"](\x8c\x04%04xNe" % number for number in range(9000))
    ordered = b"ccollections\nOrderedDict\nq\x00](" + pairs + b"e\x85q\x01R"
    yield "ordered-flood", four + b"(" + ordered + b"h\x00h\x01R" * 5000 + padding + b"l.", "LIST"
    yield "wide-tuple", four + b"(" + b"N" * 400000 + b"t" + padding + b"\x86.", "memory"
    # keys whose hashes are all 0, so that each is compared with all before it: seconds for these
    zeros = [b"\x8a\x0a" + (i * (2**61 - 1)).to_bytes(10, "little") + b"N" for i in range(8000)]
    yield "colliding-keys", four + b"}(" + b"".join(zeros) + b"u.", "LONG1"
    ordered = two + b"ccollections\nOrderedDict\n"
    yield "colliding-keys-ordered", ordered + b")R(" + b"".join(zeros) + b"u.", "LONG1"
    pairs = b"".join(b"](" + pair + b"e" for pair in zeros[:3000])
    yield "colliding-keys-python-2", ordered + b"](" + pairs + b"e\x85R.", "LONG1"
    for name, key in (("wide-key", 2**31 + 1), ("wide-negative-key", -(2**31) - 1)):
        yield name, four + b"}\x8a\x05" + key.to_bytes(5, "little", signed=True) + b"Ns.", "LONG1"
    # within 32 bits keys cannot have one hash, but still take the same way through a table
    keys = b"".join(b"J" + struct.pack("<i", i << 16) + b"N" for i in range(-5000, 5001))
    yield "many-integer-keys", four + b"}(" + keys + b"u" + padding + b"\x86.", "a key that is no text"
    yield (
        "bytes-that-are-no-latin1",
        four + b"c_codecs\nencode\n" + long + text("latin1") + b"\x86R.",
        "not a dict of arrays",
    )
    yield (
        "scalar-that-is-no-latin1",
        four + b"cnumpy.core.multiarray\nscalar\n" + f4 + text("\u0100") + b"\x86R.",
        "scalar",
    )
    laughs = b"".join(b"h%sh%s\x86\x94" % (bytes([i]), bytes([i])) for i in range(30))
    yield "many-laughs", four + b"(K\x01\x85\x94" + laughs + b"t.", "not a dict of arrays"
    yield "holds-itself", four + b"]\x94h\x00a.", "not a dict of arrays"
    yield "dict-that-holds-itself", four + b"}\x94\x8c\x01ah\x00s.", "no arrays"
    data = b"B" + struct.pack("<I", 8000) + bytes(8000) + b"\x940"
    shared = b"".join(
        b"\x8c\x04%04d" % i + rebuild + b"(K\x01" + b"M\xd0\x07\x85" + f4 + b"\x89h\x00tb" for i in range(50)
    )
    yield "shared-data", four + data + b"}(" + shared + b"u.", "POP"
    memo = b"}\x8c\x01k" + b"B" + struct.pack("<I", 8000) + bytes(8000) + b"\x94s("
    yield "shared-data-memo", four + memo + shared + b"u.", "more than once"
    texts = b"}\x8c\x01k" + b"X" + struct.pack("<I", 8000) + bytes(8000) + b"\x94s("
    encoded = b"c_codecs\nencode\nh\x00" + text("latin1") + b"\x86R"
    yield "shared-encoded-data", four + texts + shared.replace(b"h\x00", encoded) + b"u.", "more than once"

    yield "key-twice", four + b"}(\x8c\x01aN\x8c\x01aNu.", "twice"
    yield "key-without-value", four + b"}(\x8c\x01au.", "damaged"
    yield "no-mark", four + b"}u.", "damaged"
    yield "stack-underflow", four + b"\x86.", "damaged"
    yield "nothing-to-stop-at", four + b".", "damaged"
    yield "two-values", four + b"NN.", "not a dict of arrays"
    yield "stop-in-a-mark", four + b"N(.", "damaged"
    yield "missing-memo", four + b"h\x07.", "damaged"
    yield "unknown-opcode", four + b"\xff.", "no pickle opcode"
    yield "text-that-is-no-utf8", four + b"\x8c\x02\xff\xff.", "damaged"
    yield "name-without-end", four + b"c" + b"a" * 500, "does not end"
    yield "name-with-control-characters", four + b"cos\x1b[2J\nsys\ttem\n.", "names"
    yield "protocol-6", b"\x80\x06N.", "protocol 6"
    yield "buffers-out-of-band", five + b"\x97.", "pickle opcode"
    yield "trailing-bytes", arrays_pickle() + b"xyz", "follow the end"
    yield "two-pickles", arrays_pickle() + arrays_pickle(), "follow the end"
    yield "a-text", pickle.dumps("weights", 4), "holds a str"
    yield "a-list-of-arrays", pickle.dumps([np.zeros(2, "f4")], 4), "holds a list"
    yield "an-empty-dict", pickle.dumps({}, 4), "holds no arrays"
    yield "a-checkpoint", pickle.dumps({"model": {"a": np.zeros(2, "f4")}, "epoch": 3}, 4), "training checkpoint"
    yield "numbers-for-arrays", pickle.dumps({"a": 1.5, "b": [1, 2]}, 4), "no arrays"
    yield "keys-that-are-no-texts", pickle.dumps({1: np.zeros(2, "f4")}, 4), "a key that is no text"
    yield "endless-key", pickle.dumps({"a" * 3000000: np.zeros(2, "f4")}, 4), "a key that is no text"
    yield "keys-with-line-breaks", pickle.dumps({"a\nb\x1b[31m" * 50: 1}, 4), "no arrays"


def other_files():
    """(name, suffix, bytes, part of the message) of files that are no pickle."""
    page = b"<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded</title></head><body>Sorry</body></html>"
    yield "quota-page", ".pdparams", page, "web page"
    yield "quota-page-with-spaces", ".pdparams", b"\xef\xbb\xbf\n\n  " + page, "web page"
    yield "xml-error", ".pdparams", b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "web page"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.pdparams", arrays_pickle())
    yield "zip", ".pdparams", buffer.getvalue(), "zip archive"
    yield "gzip", ".pdparams", gzip.compress(arrays_pickle()), "gzip archive"
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("a.pdparams")
        info.size = 3
        archive.addfile(info, io.BytesIO(b"abc"))
    yield "tar", ".pdparams", buffer.getvalue(), "not a weight file"
    yield (
        "git-lfs-pointer",
        ".pdparams",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 12\n",
        "Git LFS",
    )
    yield "empty", ".pdparams", b"", "empty"
    yield "one-byte", ".pdparams", b"\x80", "ends early"
    yield "zeros", ".pdparams", bytes(5000), "not a weight file"
    yield "text-file", ".pdparams", b"hello, world\n" * 100, "not a weight file"

    def tensors(header, data=b"", length=None):
        return struct.pack("<Q", len(header) if length is None else length) + header + data

    good = b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
    yield "safetensors-cut", ".safetensors", tensors(good, b"1234"), ""
    yield "safetensors-claims", ".safetensors", tensors(good.replace(b"[2]", b"[1099511627776]"), bytes(8)), ""
    yield "safetensors-header-of-terabytes", ".safetensors", tensors(good, bytes(8), 1 << 40), "not a weight file"
    yield "safetensors-header-large", ".safetensors", tensors(b"{" + b" " * (2 << 20) + good[1:], bytes(8)), "header"
    yield "safetensors-nested", ".safetensors", tensors(b'{"a":' * 100000 + b"1" + b"}" * 100000), ""
    yield (
        "safetensors-overlap",
        ".safetensors",
        tensors(
            b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}',
            bytes(8),
        ),
        "",
    )
    yield "safetensors-no-json", ".safetensors", tensors(b"{hello}"), ""
    yield "safetensors-nothing", ".safetensors", tensors(b"{}"), "no arrays"
    yield (
        "safetensors-bfloat16",
        ".safetensors",
        tensors(good.replace(b"F32", b"BF16").replace(b"0,8", b"0,4"), bytes(4)),
        "",
    )
    yield (
        "safetensors-two-of-a-name",
        ".safetensors",
        tensors(
            b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}',
            bytes(8),
        ),
        "",
    )
    yield "safetensors-trailing-bytes", ".safetensors", tensors(good, bytes(20)), ""
    yield "safetensors-unknown-dtype", ".safetensors", tensors(good.replace(b"F32", b"XYZ"), bytes(8)), ""


def misfits(arrays):
    """(name, arrays, part of the message) of well-formed files that do not fit the network of `arrays`."""
    keys = list(arrays)
    kernel = next(key for key in keys if arrays[key].ndim == 4 and arrays[key].shape[0] != arrays[key].shape[1])

    def changed(key, array):
        return dict(arrays, **{key: array})

    def spoilt(value, dtype="f4"):
        array = arrays[kernel].astype(dtype)
        array.flat[array.size // 2] = value
        return changed(kernel, array)

    yield "nan", spoilt(np.nan), "NaN or infinite values in %s" % kernel
    yield "infinity", spoilt(np.inf), "NaN or infinite values in %s" % kernel
    yield "minus-infinity-float16", spoilt(-np.inf, "f2"), "NaN or infinite"
    yield "too-large-for-float32", spoilt(1e300, "f8"), "NaN or infinite"
    yield (
        "transposed",
        changed(kernel, arrays[kernel].swapaxes(0, 1).copy()),
        "should be %s" % list(arrays[kernel].shape),
    )
    yield "flattened", changed(kernel, arrays[kernel].reshape(-1)), "should be"
    yield "missing-key", {key: arrays[key] for key in keys[1:]}, "missing %s" % keys[0]
    yield "extra-key", dict(arrays, **{"head.weight": np.zeros(3, "f4")}), "unexpected head.weight"
    yield (
        "extra-mask",
        dict(arrays, **{"bkbone.blocks.0.attn_mask": np.zeros(3, "f4")}),
        "unexpected bkbone.blocks.0.attn_mask",
    )
    yield "renamed", dict({"module." + key: arrays[key] for key in keys[1:]}, **{keys[0]: arrays[keys[0]]}), "missing"
    yield "two-networks", {"model": arrays, "ema": dict(arrays)}, "whole training checkpoint"
    yield "integers", changed(kernel, arrays[kernel].astype("i4")), "is int32, should be float32"
    yield "booleans", changed(kernel, arrays[kernel] > 0), "is bool, should be float32"
    yield "short-integers", changed(kernel, arrays[kernel].astype("i2")), "is int16, should be float32"
    yield "bfloat16", changed(kernel, np.full(arrays[kernel].shape, 0x7FC0, "u2")), "NaN or infinite"
    yield (
        "backbone-only",
        {key[7:]: value for key, value in arrays.items() if key.startswith("bkbone.")},
        "--pretrained",
    )
    yield (
        "half-the-network",
        {key: value for key, value in arrays.items() if key.startswith("bkbone.")},
        "missing mp.cv1",
    )


def corpus(folder, arrays):
    """Write all cases into `folder`; a list of Case. `arrays`: the state of the network that is to be loaded."""
    folder = Path(folder)
    cases = []

    def add(name, data, says, suffix=".pdparams", runs_code=False):
        path = folder / (name + suffix)
        path.write_bytes(data)
        cases.append(Case(name, path, says, runs_code))

    def command(name):
        return "touch '%s'" % canary(folder, name)

    copyreg.add_extension("os", "system", EXTENSION)
    try:
        for name, data in code_cases(command):
            add(name, data, "", runs_code=True)
    finally:
        copyreg.remove_extension("os", "system", EXTENSION)
    for name, data, says in refused_pickles():
        add(name, data, says)
    for name, suffix, data, says in other_files():
        add(name, data, says, suffix)
    for name, changed, says in misfits(arrays):
        add("misfit-" + name, pickle.dumps(changed, 4), says)

    whole = pickle.dumps(arrays, 4)
    for number in range(1, 30):
        add("truncated-%02d" % number, whole[: max(2, len(whole) * number // 30)], "ends early")
    add("truncated-by-one", whole[:-1], "ends early")
    whole = pickle.dumps(arrays, 2)
    for number in range(1, 6):
        add("truncated-protocol-2-%d" % number, whole[: len(whole) * number // 6], "ends early")

    (folder / "folder.pdparams").mkdir()
    cases.append(Case("folder", folder / "folder.pdparams", "is a folder"))
    cases.append(Case("missing", folder / "missing.pdparams", "no such file"))
    cases.append(Case("null-byte", folder / "null\0byte.pdparams", ""))
    if hasattr(os, "mkfifo"):
        os.mkfifo(str(folder / "pipe.pdparams"))
        cases.append(Case("pipe", folder / "pipe.pdparams", "no regular file"))
        os.symlink(str(folder / "nowhere"), str(folder / "broken-link.pdparams"))
        cases.append(Case("broken-link", folder / "broken-link.pdparams", "no such file"))
        cases.append(Case("device", Path("/dev/zero"), "no regular file"))
    return cases
