"""Weight files: read without trust, fitted strictly, written so that everybody can read them.

Nothing in this project calls paddle.load on a user's file: a .pdparams file is a pickle, and paddle.load runs what is
in it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kdscfnet.errors import WeightsError
from kdscfnet.files import atomic_file, open_regular
from kdscfnet.text import say_once, shown, shown_path
from kdscfnet.weights.networks import compare, identify, prefix_of
from kdscfnet.weights.pickles import DTYPES, INLINE, MAX_SIDE, Array, Refused, bare, read_pickle, write_arrays
from kdscfnet.weights.release import SUFFIXES

NAME_TABLE = "StructuredToParameterName@@"  # paddle.save's table from keys to the names of parameters
MAX_HEADER = 1 << 20  # bytes of a safetensors header; ours have 60 kB
BFLOAT16 = np.dtype("u2")  # numpy has no bfloat16: Paddle hands out its bits as integers
# by the names in .safetensors files: F32, I64
_DTYPES = {"%s%d" % (code[0].upper(), 8 * int(code[1])): code for code in DTYPES - {"b1"}}
_DTYPES.update(BOOL="b1", BF16="u2")


@dataclass
class LoadReport:
    """What `load_weights` did.

    loaded: number of entries the model has taken. ignored: key → why it was not used. converted: key → the dtype that
    was brought to float32. format: "pdparams" or "safetensors", from the content of the file. said: sentences on what
    was taken off or left out before. parameters: numbers in the model, where WeightFile.verify has counted them.
    """

    path: str
    format: str
    loaded: int
    ignored: dict = field(default_factory=dict)
    converted: dict = field(default_factory=dict)
    said: list = field(default_factory=list)
    parameters: int = 0

    @property
    def remarks(self):
        """A list of sentences on what was converted and what was ignored."""
        kinds = " and ".join(sorted(set(self.converted.values())))
        found = ["%d converted from %s to float32" % (len(self.converted), kinds)] if kinds else []
        for reason in dict.fromkeys(self.ignored.values()):
            keys = [key for key, why in self.ignored.items() if why == reason]
            found.append("ignored: %s (%s)" % (some(keys), reason))
        return found

    def __str__(self):
        return "; ".join(["%d entries loaded from %s" % (self.loaded, self.path), *self.remarks])


def load_weights(model: Any, path: str | os.PathLike) -> LoadReport:
    """Load a weight file into `model`, all of it or nothing.

    Args:
        model: a paddle.nn.Layer, such as kdscfnet.SCFNet("mobilenetv3").
        path: a .pdparams file (of paddle.save 2.0 to 3.3, or of ours) or a .safetensors file; the content decides.

    Every entry of the model must be in the file with its shape, and nothing else may be in it but derived buffers
    (Swin's index and mask tables; the model keeps its own) and Paddle's table of names. Values must be finite. float16,
    bfloat16 and float64 are converted to float32. What `read_file` takes off or leaves out is said.

    Returns a LoadReport. Raises WeightsError, one line; its attributes `missing`, `unexpected`, `mismatched` (key →
    what is wrong with its shape or dtype) and `non_finite` list everything. The model is as it was then.
    """
    arrays, report = read_file(path)
    return put(model, arrays, report, getattr(model, "backbone", None))


def put(layer, arrays, report, model=None, unused=()):
    """`fit` arrays to a paddle.nn.Layer, and set its state to them. Returns the report."""
    state = layer.state_dict()
    shapes = {key: tuple(tensor.shape) for key, tensor in state.items()}
    for key, array in fit(arrays, shapes, report, model, unused).items():
        state[key].set_value(array)
    return report


def fit(arrays, shapes, report, model=None, unused=()):
    """Check `arrays` (key → array) against `shapes` (key → shape), strictly; derived buffers may differ.

    Args:
        report: its `loaded`, `ignored` and `converted` are filled in; its `path` is for messages.
        model: name of the network or backbone wanted, for messages.
        unused: beginnings of keys that may be there and are not used.

    Returns key → float32 array. Raises WeightsError as `load_weights` says.
    """
    missing, unexpected, mismatched, ignored = compare(arrays, shapes, tuple(unused))
    report.ignored.update(ignored)
    chosen = {key: arrays[key] for key in shapes if key in arrays and key not in ignored}
    for key, array in chosen.items():
        if array.dtype.kind != "f" and array.dtype != BFLOAT16:
            mismatched.setdefault(key, "is %s, should be float32" % array.dtype)
    if missing or unexpected or mismatched:
        raise _misfit(report.path, arrays, model, missing, unexpected, mismatched)
    for key, array in chosen.items():
        if array.dtype == BFLOAT16:
            report.converted[key], chosen[key] = "bfloat16", (array.astype("<u4") << 16).view("<f4")
        elif array.dtype != np.float32:
            report.converted[key] = str(array.dtype)
            with np.errstate(over="ignore"):
                chosen[key] = array.astype(np.float32)
    non_finite = [key for key, array in chosen.items() if not np.isfinite(array).all()]
    if non_finite:
        reason = "NaN or infinite values in %s: the file is damaged, or its training diverged" % some(non_finite)
        error = WeightsError(report.path, reason)
        error.non_finite = non_finite
        raise error
    report.loaded = len(chosen)
    return chosen


def _misfit(path, arrays, model, missing, unexpected, mismatched):
    wrong = ["%s %s" % item for item in mismatched.items()]
    lists = (("missing %s", missing), ("unexpected %s", unexpected), ("wrong: %s", wrong))
    parts = "; ".join(text % some(found) for text, found in lists if found)
    reason = "does not fit the network%s: %s" % (" (%s)" % model if model else "", parts)
    kind, backbone = identify(arrays)
    if kind == "scfnet" and backbone != model:
        names = backbone, model or "this network", backbone
        reason = "holds SCFNet with the backbone %s, not %s: use --backbone %s, or another file" % names
    elif kind == "backbone":
        reason = "holds only the ImageNet backbone %s, not a whole SCFNet: it is for --pretrained" % backbone
    error = WeightsError(path, reason)
    error.missing, error.unexpected, error.mismatched = missing, unexpected, mismatched
    return error


def some(names, limit=3):
    """A few of `names` for a message, and how many more there are."""
    names = [shown(name, 100)[1:-1] for name in names]
    if len(names) <= limit + 1:
        return ", ".join(names)
    return "%s and %d more" % (", ".join(names[:limit]), len(names) - limit)


def read_weights(path, lazy=False):
    """The arrays of a weight file: {key: numpy array}, as they are in the file. Imports no Paddle, runs nothing.

    `lazy`: only shapes and dtypes are read (objects with .shape, .dtype, .nbytes).

    Raises WeightsError, one line, where the file is no weight file or is damaged.
    """
    return read_file(path, lazy)[0]


def read_file(path, lazy=False):
    """(arrays as `read_weights` gives them, a LoadReport with the file's format).

    Of a checkpoint that holds one network among other things, that network; without what a wrapper of it put before
    every key. Both are said, where the arrays are read.
    """
    path = os.fspath(path)
    name = shown_path(path)
    report = LoadReport(name, "pdparams", 0)
    with open_regular(path) as (file, size):
        try:
            head = file.read(1024)
            file.seek(0)
            if head[:1] == b"\x80":
                arrays = _read_pdparams(file, size, report, lazy)
            elif head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= size - 8:
                if int.from_bytes(head[:8], "little") > MAX_HEADER:
                    raise Refused("its header is larger than any weight file's: it is damaged")
                arrays, report.format = _read_safetensors(path, lazy), "safetensors"
            else:
                text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
                raise Refused(next(what for start, what in _SIGNATURES if text.startswith(start)))
            if not arrays:
                raise Refused("holds no arrays")
        except Refused as error:
            raise WeightsError(name, error) from None
        except OSError as error:
            raise WeightsError(name, error.strerror or error)
        except MemoryError:
            raise WeightsError(name, "there is not enough memory for it") from None
        except Exception as error:  # whatever a damaged file makes of Python's own steps
            raise WeightsError(name, "it is damaged, or made to do harm (%s)" % type(error).__name__) from None
    prefix = prefix_of(arrays)
    if prefix:
        arrays = {key[len(prefix) :]: array for key, array in arrays.items()}
        report.said.append("%s stands before every key: it is taken off" % shown(prefix))
    for what in report.said if not lazy else ():
        say_once("%s: %s" % (name, what))
    return arrays, report


def _read_safetensors(path, lazy):
    """{key: numpy array} of a .safetensors file; `lazy`: objects with shape and dtype."""
    from safetensors import SafetensorError, deserialize, safe_open

    arrays = {}
    try:
        if lazy:
            with safe_open(path, framework="numpy") as file:
                for key in file.keys():
                    part, arrays[key] = file.get_slice(key), Array()
                    arrays[key].shape, arrays[key].dtype = tuple(part.get_shape()), np.dtype(_DTYPES[part.get_dtype()])
        else:  # not safe_open, which needs ml_dtypes for BF16
            with open(path, "rb") as file:
                parts = dict(deserialize(file.read()))
            for key in sorted(parts):
                part = parts[key]
                arrays[key] = np.frombuffer(part["data"], _DTYPES[part["dtype"]]).reshape(part["shape"])
    except KeyError as error:
        raise Refused("an array in it holds no plain numbers (dtype %s)" % error)
    except SafetensorError as error:
        raise Refused(" ".join(str(error).split()))
    return arrays


def _read_pdparams(file, size, report, lazy):
    """The arrays of a pickled dict; or of the dict in it that holds a network, where that is the only one."""
    tree = read_pickle(file, size)
    arrays, others = _split(tree)
    inner = {key: _split(value) for key, value in others.items() if isinstance(value, dict) and key != NAME_TABLE}
    fitting = [key for key, (inside, _) in inner.items() if prefix_of(inside) is not None]
    if prefix_of(arrays) is None and len(fitting) == 1:
        left = some(key for key in tree if key != fitting[0])
        report.said.append("of this checkpoint %s is taken%s" % (shown(fitting[0]), left and ", not used: " + left))
        arrays, others = inner[fitting[0]]
    if sum(array.nbytes for array in arrays.values()) > size:
        raise Refused("it uses the same data more than once: no weight file does")
    if isinstance(others.pop(NAME_TABLE, None), dict):
        report.ignored[NAME_TABLE] = "Paddle's table of names"
    if others:
        kinds = {key: type(value).__name__.strip("_").lower() for key, value in others.items()}
        entries = some("%s (%s)" % (shown(key), kind) for key, kind in kinds.items())
        advice = ": it may be a whole training checkpoint; the weights alone are wanted" if inner else ""
        raise Refused("holds entries that are no arrays: %s%s" % (entries, advice))
    return arrays if lazy else {key: array.read(file) for key, array in arrays.items()}


def _split(tree):
    """({key: Array}, {key: whatever else}) of a dict. A tensor may stand behind its name, in a pair."""
    arrays, others = {}, {}
    for key, value in tree.items():
        if type(value) in (tuple, list) and len(value) == 2 and type(value[0]) is str:
            value = value[1]
        (arrays if type(value) is Array and value.shape is not None else others)[key] = value
    return arrays, others


# how a file begins, in small letters and without white space before it: what it is
_SIGNATURES = (
    (b"pk\x03\x04", "a zip archive (or a PyTorch file), not a weight file: unpack it first"),
    (b"\x1f\x8b", "a gzip archive, not a weight file: unpack it first"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself: run git lfs pull"),
    (
        (b"<!doctype", b"<html", b"<?xml", b"<head"),
        "a web page, not a weight file (Google Drive sends one when a file's daily quota is used up): "
        "delete it and download again",
    ),
    (b"", "not a weight file (neither .pdparams of Paddle 2.0 or later nor .safetensors)"),
)


def save_weights(model: Any, path: str | os.PathLike) -> None:
    """Write the weights of `model` (a paddle.nn.Layer) to `path`, whole or not at all; the suffix chooses the format.

    A .pdparams file has the keys of the authors' files and loads with plain paddle.load from Paddle 2.0 on. The same
    weights give the same bytes.
    """
    write_weights(path, {key: tensor.numpy() for key, tensor in model.state_dict().items()})


def write_weights(path, arrays):
    """Write {key: numpy array} to `path`: .pdparams or .safetensors. Raises WeightsError, and writes nothing, where the
    file would not give back what was put in."""
    name, suffix = shown_path(path), os.path.splitext(os.fspath(path))[1].lower()
    if suffix not in SUFFIXES:
        raise WeightsError(name, "the name of a weight file ends with %s" % " or ".join(SUFFIXES))
    # not ascontiguousarray, which gives an array without dimensions one
    arrays = {key: np.asarray(array, order="C") for key, array in arrays.items()}
    for key, array in arrays.items():
        problem = _unwritable(key, array, suffix)
        if problem:
            raise WeightsError(name, "cannot be written: %s" % problem)
    if not arrays:
        raise WeightsError(name, "cannot be written: there are no arrays")
    if suffix == ".pdparams":
        write_arrays(path, arrays)
        return
    from safetensors.numpy import save_file

    with atomic_file(path) as file:
        save_file(arrays, file.name)


def _unwritable(key, array, suffix):
    """Why a file cannot have that entry, so that it can be read again; None where it can."""
    if type(key) is not str:
        return "the key %s is no text" % shown(key)
    if len(key.encode("utf-8", "surrogatepass")) > INLINE:
        return "the key %s is longer than %d bytes" % (shown(key), INLINE)
    if bare(array.dtype) not in DTYPES:
        return "%s is %s, and weight files hold plain numbers" % (shown(key), array.dtype)
    if max(array.shape, default=0) >= MAX_SIDE:
        return "%s has a side of %d" % (shown(key), max(array.shape))
    if suffix == ".safetensors" and key == "__metadata__":
        return "the key '__metadata__' has a meaning of its own in .safetensors files"
    if suffix == ".safetensors" and any("\ud800" <= character <= "\udfff" for character in key):
        return "the key %s is no valid Unicode, as those of .safetensors files are" % shown(key)
    return None
