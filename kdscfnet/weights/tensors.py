"""Reading .safetensors files of state dicts, by the safetensors package. bfloat16 comes as its bits, as from Paddle."""

from __future__ import annotations

import numpy as np

from kdscfnet.errors import WeightsError
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
        raise WeightsError(name, "an array in it holds no plain numbers (dtype %s)" % error)
    except MemoryError:
        raise WeightsError(name, "there is not enough memory for it")
    except (SafetensorError, TypeError, ValueError, OSError) as error:
        raise WeightsError(name, " ".join(str(error).split()))
    return arrays
