"""The .safetensors files of state dicts, by the safetensors package. bfloat16 comes as its bits, as from Paddle."""

from __future__ import annotations

import numpy as np

from kdscfnet.errors import WeightsError
from kdscfnet.files import atomic_path
from kdscfnet.weights.pickles import Array

BFLOAT16 = np.dtype("u2")  # numpy has no bfloat16: Paddle hands out its bits as integers
_DTYPES = {"BOOL": "b1", "BF16": "u2"}
for _kind, _sizes in (("F", (2, 4, 8)), ("I", (1, 2, 4, 8)), ("U", (1, 2, 4, 8))):
    _DTYPES.update({"%s%d" % (_kind, 8 * size): "%s%d" % (_kind.lower(), size) for size in _sizes})


def read_safetensors(path, name, lazy=False):
    """{key: numpy array} of a .safetensors file; `lazy`: objects with shape and dtype. Raises WeightsError."""
    from safetensors import SafetensorError, deserialize, safe_open

    arrays = {}
    try:
        with safe_open(path, framework="numpy") as file:
            halves = []
            for key in file.keys():
                part = file.get_slice(key)
                if lazy:
                    arrays[key] = Array()
                    arrays[key].shape = tuple(part.get_shape())
                    arrays[key].dtype = np.dtype(_DTYPES[part.get_dtype()])
                elif part.get_dtype() == "BF16":  # which safe_open gives to numpy with ml_dtypes alone
                    halves.append(key)
                else:
                    arrays[key] = file.get_tensor(key)
        if halves:
            with open(path, "rb") as file:
                parts = dict(deserialize(file.read()))
            for key in halves:
                arrays[key] = np.frombuffer(parts[key]["data"], "<u2").reshape(parts[key]["shape"])
    except MemoryError:
        raise WeightsError(name, "there is not enough memory for it")
    except (SafetensorError, TypeError, KeyError, ValueError, AttributeError, OSError) as error:
        raise WeightsError(name, " ".join(str(error).split()))
    return arrays


def write_safetensors(path, arrays):
    """Write {key: numpy array}, whole or not at all."""
    from safetensors.numpy import save_file

    with atomic_path(path) as temporary:
        save_file(arrays, temporary)
