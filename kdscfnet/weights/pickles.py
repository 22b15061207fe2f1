"""Pickles of arrays and plain containers, read without running anything in them.

`pickle.load`, and so `paddle.load`, calls whatever a file names. The reader here is an interpreter of its own for the
part of the format that weight files use (protocols 2 to 5): it makes None, booleans, numbers, text, bytes, lists,
tuples, dicts and numpy arrays, and it never looks up, imports or calls a name. The few names that arrays need
(`numpy…_reconstruct`, `numpy.dtype`, …) are tags to it; every other name is an error.

Why not a subclass of `pickle.Unpickler` with a strict `find_class`: such a one still allocates what a file claims (ten
bytes can claim gigabytes, by a memo index or by the length of a text), and would hand hostile states to numpy's own
`__setstate__`. Here every length is checked against the file, and the memory that small objects take is budgeted, so a
file of n bytes costs about n bytes. Array data stays in the file until it is asked for: the keys and shapes of a
file of 350 MB are known after reading 100 KB of it.

No Paddle in here.
"""

from __future__ import annotations

import os
import pickletools
import struct
import sys

import numpy as np

from kdscfnet.errors import WeightsError
from kdscfnet.files import atomic_path, open_regular
from kdscfnet.text import amount, shown, shown_path

INLINE = 4096  # bytes; longer texts and byte strings stay in the file until they are needed
MAX_DEPTH = 32  # containers inside containers
BASE_BUDGET = 1 << 20  # bytes of small objects that a file of any size may make
MAX_INTEGER = 64  # bytes of an integer; the widest legitimate one is the 128 bits of a random generator's state
MAX_KEY = 1 << 31  # an integer key beyond it, on either side, is refused
MAX_KEYS = 10000  # entries of a dict that has integer keys
MAX_NAME = 128  # characters in a module's or a function's name

# What the names in a file mean. Nothing here is the named object itself.
_RECONSTRUCT, _FROMBUFFER, _SCALAR, _NDARRAY, _DTYPE, _ENCODE, _TUPLE, _BYTES, _DICT = (
    "an array",
    "an array from a buffer",
    "a scalar",
    "the array type",
    "a dtype",
    "latin-1 bytes",
    "a tuple",
    "bytes",
    "an ordered dict",
)
_NAMES = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _DTYPE,
    ("_codecs", "encode"): _ENCODE,  # Python 3 writes bytes so at protocol 2
    ("__builtin__", "bytes"): _BYTES,  # and empty bytes so
    ("builtins", "bytes"): _BYTES,
    ("__builtin__", "tuple"): _TUPLE,  # Paddle 2.1 and later write a tensor as tuple((name, array))
    ("builtins", "tuple"): _TUPLE,
    ("collections", "OrderedDict"): _DICT,
}
for _core in ("numpy.core", "numpy._core"):  # numpy 1 and numpy 2
    _NAMES[_core + ".multiarray", "_reconstruct"] = _RECONSTRUCT
    _NAMES[_core + ".multiarray", "scalar"] = _SCALAR
    _NAMES[_core + ".numeric", "_frombuffer"] = _FROMBUFFER

# Plain numbers only: no objects (a pickle inside an array), no records, no texts, no dates
_DTYPES = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"}
# One object for each byte order, made once: what a file says about dtypes takes no memory, however often it says it
_ORDERED = {order + code: np.dtype(order + code) for order in "<>|=" for code in _DTYPES}

_NOTHING = object()


class PickleError(Exception):
    """Says what in a file is no part of a pickle of arrays and plain containers."""


class _Tag:
    """A name that a file may use."""

    __slots__ = ("means",)

    def __init__(self, means):
        self.means = means


class _DType:
    __slots__ = ("dtype",)

    def __init__(self, dtype):
        self.dtype = dtype


class _Ref:
    """A long text or byte string that is still in the file. `form` is "bytes", "text" (UTF-8), "encoded" (UTF-8 text
    that stands for bytes, one per character) or "string" (of Python 2: bytes or Latin-1 text, as needed)."""

    __slots__ = ("offset", "length", "form")

    def __init__(self, offset, length, form):
        self.offset, self.length, self.form = offset, length, form


class LazyArray:
    """An array whose data is still in the file. `data` is a _Ref, or bytes."""

    __slots__ = ("shape", "dtype", "fortran", "data")

    def __init__(self):
        self.shape = None  # until BUILD

    @property
    def nbytes(self):
        return _count(self.shape) * self.dtype.itemsize


def _count(shape):
    count = 1
    for side in shape:
        count *= side
    return count


class _Machine:
    """Interprets one pickle. `file` is open for reading in binary mode, at its start; `size` is its length in bytes."""

    def __init__(self, file, size):
        self.file = file
        self.size = size
        self.position = 0
        self.budget = BASE_BUDGET + 2 * size
        self.stack = []
        self.marked = []  # the stacks below each mark
        self.memo = []
        self.taken = set()  # offsets of the _Refs that an array or a value of the result has: each serves once
        self.tags = {means: _Tag(means) for means in set(_NAMES.values())}

    # reading -------------------------------------------------------------------------------------------------------

    def read(self, count):
        if count > self.size - self.position:
            raise PickleError("the file ends early, at %s: it was cut short or damaged" % amount(self.size))
        data = self.file.read(count)
        if len(data) != count:
            raise PickleError("the file became shorter while it was read")
        self.position += count
        return data

    def skip(self, count):
        """Step over `count` bytes; returns where they begin."""
        if count > self.size - self.position:
            raise PickleError("the file ends early, at %s: it was cut short or damaged" % amount(self.size))
        offset = self.position
        self.position += count
        self.file.seek(self.position)
        return offset

    def number(self, form, count):
        return struct.unpack(form, self.read(count))[0]

    def line(self):
        data = self.file.readline(MAX_NAME + 1)
        self.position += len(data)
        if data[-1:] != b"\n":
            raise PickleError("a name in it does not end: it was cut short or damaged")
        return data[:-1].decode("latin-1")

    def spend(self, cost):
        """Account for `cost` bytes of small objects; the figures are what Python 3.7 to 3.12 take at most."""
        self.budget -= cost
        if self.budget < 0:
            raise PickleError("it would take far more memory than its size: no weight file does")

    def take(self, ref):
        if ref.offset in self.taken:
            raise PickleError("it uses the same data more than once: no weight file does")
        self.taken.add(ref.offset)

    def pop(self):
        if not self.stack:
            raise PickleError("it is damaged: a value is missing")
        return self.stack.pop()

    def top(self):
        if not self.stack:
            raise PickleError("it is damaged: a value is missing")
        return self.stack[-1]

    def pop_mark(self):
        if not self.marked:
            raise PickleError("it is damaged: a mark is missing")
        items, self.stack = self.stack, self.marked.pop()
        return items

    # one method per opcode -----------------------------------------------------------------------------------------

    def run(self):
        """The value of the pickle, as a tree of plain values with LazyArray and _Ref in it."""
        if self.size < 2 or self.read(1) != b"\x80":
            raise PickleError("it is no pickle of protocol 2 or later")
        protocol = self.read(1)[0]
        if not 2 <= protocol <= 5:
            raise PickleError("pickle protocol %d is not supported: 2 to 5 are" % protocol)
        handlers = _HANDLERS
        while True:
            code = self.read(1)[0]
            if code == 0x2E:  # STOP
                break
            handler = handlers.get(code)
            if handler is None:
                raise PickleError(_refused_opcode(code))
            self.spend(9)  # a place on the stack
            handler(self)
        if self.marked or len(self.stack) != 1:
            raise PickleError("it is damaged: it ends in the middle of a value")
        if self.position != self.size:
            raise PickleError(
                "%s follow the end of the pickle: the file is damaged, or not what it seems"
                % amount(self.size - self.position)
            )
        return self.stack.pop()

    def op_frame(self):
        if self.number("<Q", 8) > self.size - self.position:
            raise PickleError("the file ends early, at %s: it was cut short or damaged" % amount(self.size))

    def op_mark(self):
        self.spend(80)
        self.marked.append(self.stack)
        self.stack = []

    def op_none(self):
        self.stack.append(None)

    def op_true(self):
        self.stack.append(True)

    def op_false(self):
        self.stack.append(False)

    def op_int4(self):
        self.spend(28)
        self.stack.append(self.number("<i", 4))

    def op_int1(self):
        self.stack.append(self.read(1)[0])

    def op_int2(self):
        self.spend(28)
        self.stack.append(self.number("<H", 2))

    def op_long1(self):
        self._long(self.read(1)[0])

    def op_long4(self):
        self._long(self.number("<i", 4))

    def _long(self, count):
        if not 0 <= count <= MAX_INTEGER:
            raise PickleError("an integer of %d bytes in it" % count)
        self.spend(28 + count)
        self.stack.append(int.from_bytes(self.read(count), "little", signed=True))

    def op_float(self):
        self.spend(24)
        self.stack.append(self.number(">d", 8))

    def _text(self, length):
        if length > INLINE:
            self.spend(100)
            self.stack.append(_Ref(self.skip(length), length, "text"))
            return
        data = self.read(length)
        try:
            text = data.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            raise PickleError("a text in it is not UTF-8: it is damaged")
        self.spend(sys.getsizeof(text))  # one, two or four bytes for each character
        self.stack.append(text)

    def op_text1(self):
        self._text(self.read(1)[0])

    def op_text4(self):
        self._text(self.number("<I", 4))

    def op_text8(self):
        self._text(self.number("<Q", 8))

    def _bytes(self, length):
        if length > INLINE:
            self.spend(100)
            self.stack.append(_Ref(self.skip(length), length, "bytes"))
        else:
            self.spend(40 + length)
            self.stack.append(self.read(length))

    def op_bytes1(self):
        self._bytes(self.read(1)[0])

    def op_bytes4(self):
        self._bytes(self.number("<I", 4))

    def op_bytes8(self):
        self._bytes(self.number("<Q", 8))

    def _string(self, length):
        if length < 0:
            raise PickleError("it is damaged: a text of negative length")
        if length > INLINE:
            self.spend(100)
            self.stack.append(_Ref(self.skip(length), length, "string"))
        else:
            self.spend(80 + length)
            self.stack.append(self.read(length).decode("latin-1"))

    def op_string1(self):
        self._string(self.read(1)[0])

    def op_string4(self):
        self._string(self.number("<i", 4))

    def op_empty_tuple(self):
        self.stack.append(())

    def op_tuple(self):
        items = self.pop_mark()
        self.spend(56 + 8 * len(items))
        self.stack.append(tuple(items))

    def _tuple(self, count):
        if len(self.stack) < count:
            raise PickleError("it is damaged: a value is missing")
        self.spend(56 + 8 * count)
        items = tuple(self.stack[-count:])
        del self.stack[-count:]
        self.stack.append(items)

    def op_tuple1(self):
        self._tuple(1)

    def op_tuple2(self):
        self._tuple(2)

    def op_tuple3(self):
        self._tuple(3)

    def op_empty_list(self):
        self.spend(88)
        self.stack.append([])

    def _extend(self, items):
        target = self.top()
        if type(target) is not list:
            raise PickleError("it appends to something that is no list: such a file can run code elsewhere")
        self.spend(9 * len(items))
        target.extend(items)

    def op_append(self):
        item = self.pop()
        self._extend([item])

    def op_appends(self):
        self._extend(self.pop_mark())

    def op_empty_dict(self):
        self.spend(240)
        self.stack.append({})

    def _update(self, pairs):
        target = self.top()
        if type(target) is not dict:
            raise PickleError("it sets an item of something that is no dict: such a file can run code elsewhere")
        if len(pairs) % 2:
            raise PickleError("it is damaged: a key without a value")
        self.spend(70 * (len(pairs) // 2))
        for key, value in zip(pairs[::2], pairs[1::2]):
            if type(key) not in (str, int):
                raise PickleError("a dict in it has a key that is neither text nor an integer")
            if type(key) is int:
                # Python hashes integers in a way that everybody knows (texts it does not): keys can be chosen such that
                # each is compared with all before it. Wide ones make that easy, and few keys make it harmless.
                if not -MAX_KEY <= key <= MAX_KEY:
                    raise PickleError("a dict in it has the integer key %s: no weight file does" % shown(key, 30))
                if len(target) >= MAX_KEYS:
                    raise PickleError("a dict in it has more than %d integer keys: no weight file does" % MAX_KEYS)
            if key in target:
                raise PickleError("a dict in it has the key %s twice" % shown(key))
            target[key] = value

    def op_setitem(self):
        value = self.pop()
        key = self.pop()
        self._update([key, value])

    def op_setitems(self):
        self._update(self.pop_mark())

    def _put(self, index):
        self.spend(9)
        value, count = self.top(), len(self.memo)
        if index == count:
            self.memo.append(value)
        elif index < count:
            self.memo[index] = value
        elif index == count + 1 == 1:  # Python 2 counts from 1
            self.memo += [_NOTHING, value]
        else:
            raise PickleError("it is damaged: its values are numbered with gaps")

    def op_put1(self):
        self._put(self.read(1)[0])

    def op_put4(self):
        self._put(self.number("<I", 4))

    def op_memoize(self):
        self._put(len(self.memo))

    def _get(self, index):
        if index >= len(self.memo) or self.memo[index] is _NOTHING:
            raise PickleError("it is damaged: it refers to a value that it does not have")
        self.stack.append(self.memo[index])

    def op_get1(self):
        self._get(self.read(1)[0])

    def op_get4(self):
        self._get(self.number("<I", 4))

    def _name(self, module, name):
        means = _NAMES.get((module, name))
        if means is None:
            raise PickleError(
                "it names %s, which no weight file needs: it may run code; do not open it with "
                "paddle.load or pickle" % shown("%s.%s" % (module, name))
            )
        self.stack.append(self.tags[means])

    def op_global(self):
        module = self.line()
        self._name(module, self.line())

    def op_stack_global(self):
        name = self.pop()
        module = self.pop()
        if type(module) is not str or type(name) is not str:
            raise PickleError("it is damaged: a name that is no text")
        self._name(module, name)

    def op_reduce(self):
        arguments = self.pop()
        tag = self.pop()
        if type(tag) is not _Tag or type(arguments) is not tuple:
            raise PickleError("it calls something that is no array: it may run code elsewhere")
        self.spend(100)  # the object itself; `_made` accounts for what is in it
        self.stack.append(self._made(tag.means, arguments))

    def _made(self, means, arguments):
        if means is _RECONSTRUCT:  # (numpy.ndarray, (0,), b"b"): an empty array for BUILD to fill
            if len(arguments) == 3 and type(arguments[0]) is _Tag and arguments[0].means is _NDARRAY:
                return LazyArray()
        elif means is _DTYPE:  # ("f4", False, True)
            if len(arguments) in (1, 2, 3) and type(arguments[0]) is str:
                return _DType(self._dtype(arguments[0]))
        elif means is _ENCODE:
            if len(arguments) == 2 and type(arguments[1]) is str and arguments[1] in ("latin1", "latin-1"):
                return self._encoded(arguments[0])
        elif means is _TUPLE:
            if len(arguments) == 1 and type(arguments[0]) in (tuple, list):
                self.spend(8 * len(arguments[0]))
                return tuple(arguments[0])
        elif means is _BYTES:
            if arguments == ():
                return b""
        elif means is _DICT:
            if arguments == ():
                self.spend(240)
                return {}
            if len(arguments) == 1 and type(arguments[0]) is list:  # as Python 2 writes it
                self.spend(240)
                result = {}
                self.stack.append(result)
                for pair in arguments[0]:
                    if type(pair) not in (list, tuple) or len(pair) != 2:
                        break
                    self._update(list(pair))
                else:
                    return self.stack.pop()
        elif means is _SCALAR:
            if len(arguments) == 2 and type(arguments[0]) is _DType:
                data = self._encoded(arguments[1]) if type(arguments[1]) is str else arguments[1]
                if type(data) is bytes and len(data) == arguments[0].dtype.itemsize:
                    return np.frombuffer(data, arguments[0].dtype)[0]
        elif means is _FROMBUFFER:  # (data, dtype, shape, order), at protocol 5
            if len(arguments) == 4 and type(arguments[3]) is str and arguments[3] in ("C", "F"):
                array = LazyArray()
                self._fill(array, arguments[2], arguments[1], arguments[3] == "F", arguments[0])
                return array
        raise PickleError("what it says about %s makes no sense: it is damaged, or made to do harm" % means)

    def _dtype(self, code):
        bare = code[1:] if code[:1] in ("<", ">", "|", "=") else code
        if bare not in _DTYPES:
            kind = bare[:1]
            what = {"O": "Python objects, which can run code", "V": "records"}.get(kind, "no plain numbers")
            raise PickleError("an array in it holds %s (dtype %s)" % (what, shown(code)))
        return _ORDERED[code if bare != code else "<" + code]

    def _encoded(self, text):
        if type(text) is _Ref and text.form == "text":
            return _Ref(text.offset, text.length, "encoded")
        if type(text) is str:
            try:
                data = text.encode("latin-1")
            except UnicodeEncodeError:
                pass
            else:
                self.spend(40 + len(data))  # a few bytes of the file can ask for the same text again and again
                return data
        raise PickleError("it is damaged: bytes that are written as text are not Latin-1")

    def op_build(self):
        state = self.pop()
        target = self.top()
        if type(target) is LazyArray and target.shape is None:
            # (1, shape, dtype, Fortran order, data)
            if type(state) is not tuple or len(state) != 5 or type(state[0]) is not int:
                raise PickleError("what it says about an array makes no sense: it is damaged, or made to do harm")
            self._fill(target, *state[1:])
        elif type(target) is _DType:
            # (3, byte order, subarray, names, fields, itemsize, alignment, flags[, metadata])
            order = state[1] if type(state) is tuple and len(state) in (8, 9) else None
            if type(order) is not str or order not in ("<", ">", "|", "="):
                raise PickleError("what it says about a dtype makes no sense: it is damaged, or made to do harm")
            if any(part is not None for part in state[2:5]):
                raise PickleError("an array in it holds records (a dtype with fields)")
            if order in "<>":
                target.dtype = _ORDERED[order + target.dtype.str[1:]]
        else:
            raise PickleError("it sets the state of something that is no array: it may run code elsewhere")

    def _fill(self, array, shape, dtype, fortran, data):
        if type(dtype) is not _DType:
            raise PickleError("an array in it has no dtype: it is damaged, or made to do harm")
        if type(shape) is not tuple or len(shape) > 32 or not all(type(side) is int for side in shape):
            raise PickleError("an array in it has no shape: it is damaged, or made to do harm")
        self.spend(16 * len(shape))  # numpy's own notes of sides and strides; the tuple may be shared
        if type(data) is str:  # of Python 2
            data = self._encoded(data)
        if type(data) is list:
            raise PickleError("an array in it holds Python objects, which can run code")
        if type(data) is _Ref and data.form != "text":
            self.take(data)
            low, high = (data.length + 1) // 2 if data.form == "encoded" else data.length, data.length
        elif type(data) is bytes:
            self.spend(len(data) + 100)
            low = high = len(data)
        else:
            raise PickleError("an array in it has no data: it is damaged, or made to do harm")
        claimed = _count(shape) * dtype.dtype.itemsize
        if any(side < 0 or side > self.size for side in shape) or not low <= claimed <= high:
            raise PickleError(
                "an array of shape %s claims %s but has %s: it is damaged, or made to do harm"
                % (shown(shape), amount(claimed), amount(high))
            )
        array.shape, array.dtype, array.fortran, array.data = shape, dtype.dtype, bool(fortran), data

    # from lazy values to real ones -----------------------------------------------------------------------------------

    def finished(self, root, lazy=False):
        """The tree with its arrays and long texts read (`lazy`: arrays stay LazyArray)."""
        self.done = {}  # id → (finished value, number of values in it); None: not finished
        return self._finished(root, 0, lazy)[0]

    def _finished(self, value, depth, lazy):
        """(finished value, number of values in it). A value that is shared counts each time, so that what comes out is
        never larger to walk than the file is long."""
        kind = type(value)
        if value is None or kind in (bool, int, float, str, bytes) or isinstance(value, np.generic):
            return value, 1
        key = id(value)
        if key in self.done:
            known = self.done[key]
            if known is None:
                raise PickleError("a container in it holds itself")
            return known
        if depth > MAX_DEPTH:
            raise PickleError("containers in it are nested more than %d deep" % MAX_DEPTH)
        self.spend(250)  # for the entry in `done`
        self.done[key] = None
        if kind in (dict, list):  # in place: it may be large
            result, size = value, 1
            for name in value if kind is dict else range(len(value)):
                value[name], count = self._finished(value[name], depth + 1, lazy)
                size += count
        elif kind is tuple:
            self.spend(56 + 16 * len(value))  # the new one, and the list it is made of
            items, size = [], 1
            for item in value:
                item, count = self._finished(item, depth + 1, lazy)
                items.append(item)
                size += count
            result = tuple(items)
        elif kind is LazyArray and value.shape is not None:
            result, size = value if lazy else self.array(value), 1
        elif kind is _Ref:
            self.take(value)
            result, size = self._read_ref(value), 1
        else:
            raise PickleError("it holds something that is no array, number, text or container")
        if size > max(self.size, 100000):
            raise PickleError("it refers to the same values over and over: it would never end")
        self.done[key] = (result, size)
        return result, size

    def _read_ref(self, ref):
        if ref.form == "text":
            self.spend(4 * ref.length)
        self.file.seek(ref.offset)
        self.position = ref.offset
        data = self.read(ref.length)
        try:
            if ref.form == "text":
                return data.decode("utf-8", "surrogatepass")
            if ref.form == "string":
                return data.decode("latin-1")
            if ref.form == "bytes":
                return data
            if np.frombuffer(data, np.uint8).max() > 0xC3:  # before a wide text is made of it
                raise PickleError("it is damaged: bytes that are written as text are not Latin-1")
            text = data.decode("utf-8")
            del data  # one copy less
            return text.encode("latin-1")
        except UnicodeError:
            raise PickleError("a text in it is damaged")

    def array(self, lazy):
        """Read one array: numpy, aligned, writable, native byte order."""
        count = _count(lazy.shape)
        if type(lazy.data) is _Ref and lazy.data.form != "encoded":
            result = np.empty(count, lazy.dtype)
            self.file.seek(lazy.data.offset)
            if self.file.readinto(memoryview(result).cast("B")) != result.nbytes:
                raise PickleError("the file became shorter while it was read")
        else:
            data = self._read_ref(lazy.data) if type(lazy.data) is _Ref else lazy.data
            if len(data) != count * lazy.dtype.itemsize:
                raise PickleError(
                    "an array of shape %s has %d bytes of data: it is damaged" % (shown(lazy.shape), len(data))
                )
            result = np.frombuffer(data, lazy.dtype).copy()
        if not result.dtype.isnative:
            result = result.byteswap(inplace=True).view(result.dtype.newbyteorder("="))
        if lazy.dtype == np.bool_ and count and result.view(np.uint8).max() > 1:
            raise PickleError("an array of booleans in it holds other values")
        return result.reshape(lazy.shape, order="F" if lazy.fortran else "C")


_HANDLERS = {
    0x95: _Machine.op_frame,
    0x28: _Machine.op_mark,
    0x4E: _Machine.op_none,
    0x88: _Machine.op_true,
    0x89: _Machine.op_false,
    0x4A: _Machine.op_int4,
    0x4B: _Machine.op_int1,
    0x4D: _Machine.op_int2,
    0x8A: _Machine.op_long1,
    0x8B: _Machine.op_long4,
    0x47: _Machine.op_float,
    0x8C: _Machine.op_text1,
    0x58: _Machine.op_text4,
    0x8D: _Machine.op_text8,
    0x43: _Machine.op_bytes1,
    0x42: _Machine.op_bytes4,
    0x8E: _Machine.op_bytes8,
    0x96: _Machine.op_bytes8,
    0x55: _Machine.op_string1,
    0x54: _Machine.op_string4,
    0x29: _Machine.op_empty_tuple,
    0x74: _Machine.op_tuple,
    0x85: _Machine.op_tuple1,
    0x86: _Machine.op_tuple2,
    0x87: _Machine.op_tuple3,
    0x5D: _Machine.op_empty_list,
    0x61: _Machine.op_append,
    0x65: _Machine.op_appends,
    0x7D: _Machine.op_empty_dict,
    0x73: _Machine.op_setitem,
    0x75: _Machine.op_setitems,
    0x71: _Machine.op_put1,
    0x72: _Machine.op_put4,
    0x94: _Machine.op_memoize,
    0x68: _Machine.op_get1,
    0x6A: _Machine.op_get4,
    0x63: _Machine.op_global,
    0x93: _Machine.op_stack_global,
    0x52: _Machine.op_reduce,
    0x62: _Machine.op_build,
}

_OPCODE_NAMES = {ord(opcode.code): opcode.name for opcode in pickletools.opcodes}


def _refused_opcode(code):
    name = _OPCODE_NAMES.get(code)
    if name is None:
        return "it is damaged: byte 0x%02x is no pickle opcode" % code
    if name in ("INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "PERSID", "BINPERSID", "EXT1", "EXT2", "EXT4"):
        return (
            "it makes Python objects (opcode %s), which no weight file needs: it may run code; do not open it with "
            "paddle.load or pickle" % name
        )
    return "it uses the pickle opcode %s, which no weight file does: it is damaged, or of another kind" % name


def read_pickle(path, lazy=False, opened=None):
    """Read a pickle of None, booleans, numbers, text, bytes, lists, tuples, dicts (keys: text, or up to 10,000 integers
    of at most 32 bits), numpy scalars and numpy arrays of plain numbers, written by Python's pickle or by paddle.save.

    Runs nothing in the file and imports no Paddle. Memory: the arrays plus at most twice the file's size (in practice
    a small part of it). `lazy`: arrays are LazyArray objects (shape, dtype, nbytes), their data is not read.

    Raises WeightsError: one line that says what is wrong with the file.
    """
    file, size = opened or open_regular(path)
    with file:
        machine = _Machine(file, size)
        try:
            return machine.finished(machine.run(), lazy)
        except PickleError as error:
            raise WeightsError(shown_path(path), error) from None
        except OSError as error:
            raise WeightsError(shown_path(path), error.strerror or error)
        except MemoryError:
            raise WeightsError(shown_path(path), "there is not enough memory for it") from None


# Writing -------------------------------------------------------------------------------------------------------------


def write_pickle(path, value):
    """Write what `read_pickle` reads, as pickle protocol 4, whole or not at all.

    Any pickle.load and paddle.load (2.0 and later, with numpy 1 or 2) reads the file. The bytes depend on the values
    only, not on the versions of Python and numpy (whose own picklers spell array types in two ways).
    """
    with atomic_path(path) as temporary:
        with open(temporary, "wb") as file:
            file.write(b"\x80\x04")
            _write(file, value, 0)
            file.write(b".")
            file.flush()
            os.fsync(file.fileno())


def _write(file, value, depth):
    if depth > MAX_DEPTH:
        raise ValueError("containers are nested more than %d deep" % MAX_DEPTH)
    if value is None:
        file.write(b"N")
    elif value is True or value is False:
        file.write(b"\x88" if value else b"\x89")
    elif type(value) is int:
        if 0 <= value < 256:
            file.write(b"K" + bytes([value]))
        elif -(1 << 31) <= value < 1 << 31:
            file.write(b"J" + struct.pack("<i", value))
        else:
            data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            if len(data) > MAX_INTEGER:
                raise ValueError("an integer of %d bytes" % len(data))
            file.write(b"\x8a" + bytes([len(data)]) + data)
    elif type(value) is float:
        file.write(b"G" + struct.pack(">d", value))
    elif type(value) is str:
        data = value.encode("utf-8", "surrogatepass")
        file.write(b"\x8c" + bytes([len(data)]) if len(data) < 256 else b"\x8d" + struct.pack("<Q", len(data)))
        file.write(data)
    elif type(value) is bytes:
        _write_bytes(file, value, len(value))
    elif type(value) in (tuple, list):
        file.write(b"(" if type(value) is tuple else b"](")
        for item in value:
            _write(file, item, depth + 1)
        file.write(b"t" if type(value) is tuple else b"e")
    elif isinstance(value, dict):
        file.write(b"}(")
        for key, item in value.items():
            if type(key) not in (str, int):
                raise TypeError("a key of a dict is %r: text or an integer is wanted" % (key,))
            if type(key) is int and (not -MAX_KEY <= key <= MAX_KEY or len(value) > MAX_KEYS):
                raise ValueError(
                    "the key %d: integers are keys up to %d, in dicts of %d entries" % (key, MAX_KEY, MAX_KEYS)
                )
            _write(file, key, depth + 1)
            _write(file, item, depth + 1)
        file.write(b"u")
    elif isinstance(value, np.ndarray):
        _write_array(file, value)
    elif isinstance(value, np.generic):
        code = _code(value.dtype)
        file.write(b"cnumpy.core.multiarray\nscalar\n")
        _write_dtype(file, code)
        _write_bytes(file, value.astype(code).tobytes(), value.dtype.itemsize)
        file.write(b"\x86R")
    else:
        raise TypeError("%s cannot be written: plain values, containers and numpy arrays can" % type(value).__name__)


def is_plain(dtype):
    """Whether arrays of `dtype` are written and read: those of plain numbers are."""
    return _bare(dtype) in _DTYPES


def _bare(dtype):
    """A dtype's code without its byte order."""
    return dtype.newbyteorder("<").str.lstrip("<|")


def _code(dtype):
    if not is_plain(dtype):
        raise TypeError("an array of dtype %s cannot be written: only plain numbers can" % dtype)
    return "<" + _bare(dtype)


def _write_bytes(file, data, count):
    file.write(b"C" + bytes([count]) if count < 256 else b"\x8e" + struct.pack("<Q", count))
    file.write(data)


def _write_dtype(file, code):
    short = code[1:].encode()
    file.write(b"cnumpy\ndtype\n\x8c" + bytes([len(short)]) + short + b"\x89\x88\x87R(K\x03\x8c\x01")
    file.write((b"|" if short[1:] == b"1" else b"<") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb")


def _write_array(file, array):
    # What numpy's own __reduce__ says, at protocol 4, with names that numpy 1 and numpy 2 both know.
    code = _code(array.dtype)
    file.write(b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R(K\x01(")
    for side in array.shape:
        _write(file, int(side), 0)
    file.write(b"t")
    _write_dtype(file, code)
    file.write(b"\x89")
    data = np.ascontiguousarray(array, dtype=code).reshape(-1)
    _write_bytes(file, data.view(np.uint8).data, data.nbytes)
    file.write(b"tb")
