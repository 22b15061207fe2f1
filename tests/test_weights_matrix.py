"""Full-size weight files of all three networks, both ways: paddle.save's into our reader, ours into paddle.load.

Run on each row of scripts/matrix.sh, so on the paper's stack (Paddle 2.2.0) and on Paddle 3.3.1.
tests/weights_exchange.py has the rows read each other's files.
"""

from __future__ import annotations

import platform
import zlib

import numpy as np
import pytest

import kdscfnet
from kdscfnet.weights import networks
from kdscfnet.weights.files import load_weights, read_weights, save_weights
from kdscfnet.weights.networks import identify

paddle = pytest.importorskip("paddle")
STACK = "paddle%s-py%s-numpy%s" % (paddle.__version__, platform.python_version(), np.__version__)


def numbers(backbone):
    """Weights that any stack can make again: a function of key and shape."""
    arrays = {}
    for key, shape in networks.shape_tables()[backbone].items():
        count = int(np.prod(shape))
        if key.endswith("relative_position_index"):
            arrays[key] = np.arange(count, dtype=np.int64).reshape(shape)
        else:
            start = zlib.crc32(key.encode()) % 65536
            arrays[key] = (
                (np.arange(start, start + count, dtype=np.int32) % 8191).astype(np.float32) / 8191 + 0.5
            ).reshape(shape)
    return arrays


def equal(found, wanted):
    """Whether a dict of arrays (or tensors) is `wanted`, bit by bit."""
    if list(found) != list(wanted):
        return False
    for key, array in wanted.items():
        other = found[key] if isinstance(found[key], np.ndarray) else found[key].numpy()
        if other.dtype != array.dtype or other.shape != array.shape or not (other == array).all():
            return False
    return True


@pytest.fixture(scope="module", params=["mobilenetv3", "resnet50", "swin_b"])
def backbone(request):
    return request.param


@pytest.fixture(scope="module")
def wanted(backbone):
    return numbers(backbone)


def written_by_paddle(folder, backbone, wanted):
    tensors = {key: paddle.to_tensor(array) for key, array in wanted.items()}
    # 4 is the default of Paddle 2.1 and later; 2 writes bytes as text, which takes long at full size
    for protocol in (4,) if backbone != "mobilenetv3" else (2, 3, 4):
        path = folder / ("%s-%s-protocol%d.pdparams" % (STACK, backbone, protocol))
        paddle.save(tensors, str(path), protocol=protocol)
        yield path


def check(path, wanted):
    arrays = read_weights(path)
    assert equal(arrays, wanted), path
    assert equal(paddle.load(str(path)), wanted), path


def test_files_of_paddle_load_and_ours_load_in_paddle(tmp_path, backbone, wanted):
    model = kdscfnet.SCFNet(backbone)
    parameters = [key for key in wanted if not networks.is_derived(key)]
    for path in written_by_paddle(tmp_path, backbone, wanted):
        check(path, wanted)
        assert identify(read_weights(path, lazy=True)) == ("scfnet", backbone)
        for key, tensor in model.state_dict().items():
            if not networks.is_derived(key):
                tensor.set_value(np.zeros(tensor.shape, np.float32))
        report = load_weights(model, path)
        assert report.loaded == len(parameters)
        state = model.state_dict()
        assert all((state[key].numpy() == wanted[key]).all() for key in parameters)
        path.unlink()
    ours = tmp_path / "ours.pdparams"
    save_weights(model, ours)
    back = paddle.load(str(ours))
    assert list(back) == list(wanted) and all((back[key].numpy() == wanted[key]).all() for key in parameters)
    # as the authors' programs load it
    back = {key: tensor + 1 for key, tensor in back.items()}
    model.set_state_dict(back)
    state = model.state_dict()
    assert all((state[key].numpy() == back[key].numpy()).all() for key in parameters)
    ours.unlink()
