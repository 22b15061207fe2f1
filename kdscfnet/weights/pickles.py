"""Pickles of {text: array}, which .pdparams files are: read without running anything in them, and written.

`pickle.load`, and so `paddle.load`, calls whatever a file names. The reader here is the unpickler in Python that the
standard library has beside the one in C (pickle._Unpickler), cut down to the opcodes and names of state dicts; a name
stands for a function below, never for what it names. Why not the one in C with a strict `find_class`: it allocates what
a file claims (ten bytes can claim gigabytes, by a memo index or by the length of a text) and hands hostile states to
numpy's own `__setstate__`.

Here every length is compared with the file, long data stays in the file until an array is made of it, and the number of
objects is bounded. So the keys and shapes of 350 MB are known after 100 kB of it, and a file of n bytes costs no more
than a few times n. No Paddle in here.
"""

from __future__ import annotations

import os
import pickle
import struct

import numpy as np

from kdscfnet.files import atomic_file
from kdscfnet.text import amount, shown

INLINE = 4096  # bytes; longer texts and data stay in the file until they are needed. The longest key
MAX_NAME = 128  # characters in a module's or a function's name
MAX_SIDE = 1 << 31  # of an array
# Plain numbers only: no objects (a pickle inside an array), no records, no texts, no dates
DTYPES = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"}
_CODE = "no weight file needs: it is damaged, or may run code; do not open it with paddle.load or pickle"


class Refused(Exception):
    """Says why a file is no weight file."""


class _Span:
    """Data that is still in the file. `text`: it is UTF-8 text that stands for bytes, one a character."""

    def __init__(self, offset, length, text):
        self.offset, self.length, self.text = offset, length, text


class _DType:
    def __init__(self, code, *_):
        if type(code) is not str or code.lstrip("<>|=") not in DTYPES or len(code) > 3:
            holds = "Python objects" if str(code)[:1] == "O" else "no plain numbers"
            raise Refused("an array in it holds %s (dtype %s)" % (holds, shown(code)))
        self.dtype = np.dtype(code)

    def set_state(self, state):  # (3, byte order, subarray, names, fields, …)
        if state[2:5] != (None, None, None):
            raise Refused("an array in it holds records (a dtype with fields)")
        self.dtype = self.dtype.newbyteorder(state[1])


class Array:
    """An array whose data is still in the file: shape, dtype, nbytes."""

    shape = dtype = data = None
    fortran = False

    @property
    def nbytes(self):
        count = self.dtype.itemsize
        for side in self.shape:
            count *= side
        return count

    def set_state(self, state):  # (1, shape, dtype, Fortran order, data), as numpy's own __reduce__ writes it
        _, shape, dtype, self.fortran, data = state
        sides = type(shape) is tuple and len(shape) <= 32 and all(type(side) is int and side >= 0 for side in shape)
        if not sides or type(dtype) is not _DType or type(data) not in (bytes, str, _Span):
            raise Refused("what it says about an array makes no sense: it is damaged, or made to do harm")
        self.shape, self.dtype, self.data = shape, dtype.dtype, data
        most = data.length if type(data) is _Span else len(data)
        least = (most + 1) // 2 if type(data) is _Span and data.text else most
        if not least <= self.nbytes <= most:
            raise Refused(
                "an array of shape %s claims %s but has %s: it is damaged, or made to do harm"
                % (shown(shape), amount(self.nbytes), amount(most))
            )
        return self

    def read(self, file):
        """The array itself: numpy, aligned, writable, native byte order."""
        data = self.data
        if type(data) is _Span:
            file.seek(data.offset)
            data = file.read(data.length)
            data = data.decode("utf-8") if self.data.text else data
        if type(data) is str:
            data = data.encode("latin-1")
        if len(data) != self.nbytes:
            raise Refused("the file became shorter while it was read")
        array = np.frombuffer(data, self.dtype).reshape(self.shape, order="F" if self.fortran else "C")
        return array.astype(self.dtype.newbyteorder("="), order="K")  # always a copy


class Dict(dict):
    def __init__(self, pairs=None):
        for key, value in pairs or ():
            self[key] = value
        if pairs:
            pairs.clear()  # a list is moved: a file could ask for a copy of it again and again

    def __setitem__(self, key, value):
        if type(key) is not str:  # nor one that is longer than INLINE
            raise Refused("a dict in it has a key that is no text, or a very long one")
        if key in self:
            raise Refused("a dict in it has the key %s twice" % shown(key))
        super().__setitem__(key, value)


def _bytes_of(text, encoding):
    if encoding not in ("latin1", "latin-1"):
        raise Refused("an array in it has data in the encoding %s" % shown(encoding))
    return text  # Array.read encodes it, once: a file can ask for the same text again and again


# Names that a file may use, and the functions of ours that a call of them calls
_NAMES = {
    "numpy.ndarray": Array,  # an argument of _reconstruct; nothing calls it
    "numpy.dtype": _DType,
    "_codecs.encode": _bytes_of,  # Python 3 writes bytes so at protocol 2
    "collections.OrderedDict": Dict,
}
for _module in ("__builtin__", "builtins"):
    _NAMES[_module + ".bytes"] = lambda: b""  # empty bytes at protocol 2
    # Paddle 2.1 and later: tuple((name, array)). A copy of a long list again and again would cost memory
    _NAMES[_module + ".tuple"] = lambda items: items if type(items) is tuple else ()
for _core in ("numpy.core", "numpy._core"):  # numpy 1 and 2
    _NAMES[_core + ".multiarray._reconstruct"] = lambda *_: Array()
    _NAMES[_core + ".numeric._frombuffer"] = lambda data, dtype, shape, order: Array().set_state(
        (1, shape, dtype, order == "F", data)
    )


class _Source:
    """The file: what it claims is compared with its size, and how often it is asked is bounded."""

    def __init__(self, file, size):
        self.file, self.size, self.position, self.left = file, size, 0, 16000 + size // 20

    def count(self, objects=1):
        self.left -= objects
        if self.left < 0:
            raise Refused("it would take far more memory than its size: no weight file does")

    def skip(self, length):
        if length > self.size - self.position:
            raise Refused("the file ends early, at %s: it was cut short or damaged" % amount(self.size))
        self.position += length

    def read(self, length):
        self.count()
        self.skip(length)
        data = self.file.read(length)
        if len(data) != length:
            raise Refused("the file became shorter while it was read")
        return data

    def readline(self):
        line = self.file.readline(MAX_NAME + 1)
        self.skip(len(line))
        if not line.endswith(b"\n"):
            raise Refused("a name in it does not end: it was cut short or damaged")
        return line


_OPCODES = (  # with Python's own handlers
    "STOP MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 BINFLOAT SHORT_BINBYTES SHORT_BINUNICODE SHORT_BINSTRING "
    "EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST APPEND APPENDS SETITEM SETITEMS BINPUT LONG_BINPUT MEMOIZE "
    "BINGET LONG_BINGET GLOBAL STACK_GLOBAL"
).split()


class _Handlers(dict):
    def __missing__(self, code):
        name = next((name for name, value in vars(pickle).items() if value == bytes([code]) and name.isupper()), "")
        what = "the pickle opcode %s" % name if name else "byte 0x%02x, which is no pickle opcode" % code
        raise Refused("it has %s, which %s" % (what, _CODE))


def _data(size, kind):
    """The handler of an opcode with a length, of `size` bytes, and data: text in the encoding `kind`, or bytes."""

    def load(self):
        length = int.from_bytes(self.read(size), "little")
        if length > INLINE:
            self.append(_Span(self.source.position, length, kind == "utf-8"))
            self.source.skip(length)
            self.source.file.seek(length, os.SEEK_CUR)
        else:
            data = self.read(length)
            self.append(data.decode(kind, "surrogatepass") if kind else data)

    return load


class _Unpickler(pickle._Unpickler):
    dispatch = _Handlers()
    for _name in _OPCODES:
        dispatch[getattr(pickle, _name)[0]] = pickle._Unpickler.dispatch[getattr(pickle, _name)[0]]
    for _code, _size, _kind in (
        *((pickle.BINBYTES, 4, None), (pickle.BINBYTES8, 8, None), (b"\x96", 8, None)),  # BYTEARRAY8, not in Python 3.7
        *((pickle.BINUNICODE, 4, "utf-8"), (pickle.BINUNICODE8, 8, "utf-8"), (pickle.BINSTRING, 4, "latin-1")),
    ):
        dispatch[_code[0]] = _data(_size, _kind)

    def __init__(self, source):
        super().__init__(source, encoding="latin-1")  # of Python 2's texts, which may be data
        self.source = source

    def find_class(self, module, name):
        full = "%s.%s" % (module, name)
        if full not in _NAMES:
            raise Refused("it names %s, which %s" % (shown(full), _CODE))
        return _NAMES[full]

    def load_proto(self):
        version = self.read(1)[0]
        if not 2 <= version <= 5:
            raise Refused("pickle protocol %d is not supported: 2 to 5 are" % version)

    def load_frame(self):  # a hint for buffering
        length = int.from_bytes(self.read(8), "little")
        if length > self.source.size - self.source.position:
            self.source.skip(length)  # says that the file ends early

    def load_reduce(self):
        arguments = self.stack.pop()
        function = self.stack.pop()  # all that can be called here comes from _NAMES
        if not callable(function) or function is Array or type(arguments) is not tuple:
            raise Refused("it calls something that is no array: it may run code elsewhere")
        self.append(function(*arguments))

    def load_build(self):
        state = self.stack.pop()
        if type(self.stack[-1]) not in (Array, _DType):
            raise Refused("it sets the state of something that is no array: it may run code elsewhere")
        self.stack[-1].set_state(state)

    def load_empty_dict(self):
        self.source.count(3)  # it takes 240 bytes in Python 3.7
        self.append(Dict())

    for _code, _load in (
        *((pickle.PROTO, load_proto), (pickle.FRAME, load_frame), (pickle.REDUCE, load_reduce)),
        *((pickle.BUILD, load_build), (pickle.EMPTY_DICT, load_empty_dict)),
    ):
        dispatch[_code[0]] = _load


def read_pickle(file, size):
    """The dict in a pickle, as paddle.save and `write_arrays` write it; its arrays are Array objects.

    Args:
        file: open for reading in binary mode, at its start; size: its length in bytes.

    Runs nothing in the file. Raises Refused, and whatever a damaged file makes of Python's own steps.
    """
    source = _Source(file, size)
    tree = _Unpickler(source).load()
    if source.position != size:
        follow = amount(size - source.position)
        raise Refused("%s follow the end of the pickle: the file is damaged, or not what it seems" % follow)
    if type(tree) is not Dict:
        raise Refused("holds a %s, not a dict of arrays" % type(tree).__name__.strip("_").lower())
    return tree


def write_arrays(path, arrays):
    """Write {text: array of plain numbers} as pickle protocol 4, whole or not at all.

    Any pickle.load and paddle.load (2.0 and later, with numpy 1 or 2) reads the file. The bytes depend on the values
    only, not on the versions of Python and numpy (whose own picklers spell array types in two ways).
    """
    with atomic_file(path) as file:
        file.write(b"\x80\x04}(")
        for key, array in arrays.items():
            text = key.encode("utf-8", "surrogatepass")
            file.write(b"\x8c" + bytes([len(text)]) if len(text) < 256 else b"\x8d" + struct.pack("<Q", len(text)))
            file.write(text)
            _write_array(file, array)
        file.write(b"u.")


def bare(dtype):
    """A dtype's code without its byte order; weight files hold those in DTYPES."""
    return dtype.newbyteorder("<").str.lstrip("<|")


def _write_array(file, array):
    # What numpy's own __reduce__ says, at protocol 4, with names that numpy 1 and numpy 2 both know.
    code = bare(array.dtype).encode()
    file.write(b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R(K\x01(")
    for side in array.shape:
        file.write(b"K" + bytes([side]) if side < 256 else b"J" + struct.pack("<i", side))
    file.write(b"tcnumpy\ndtype\n\x8c\x02" + code + b"\x89\x88\x87R(K\x03\x8c\x01")
    file.write((b"|" if code[1:] == b"1" else b"<") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89")
    data = np.ascontiguousarray(array, dtype="<" + code.decode()).reshape(-1)
    size = data.nbytes
    file.write(b"C" + bytes([size]) if size < 256 else b"\x8e" + struct.pack("<Q", size))
    file.write(data.view(np.uint8).data)
    file.write(b"tb")
