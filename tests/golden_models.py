"""Networks with the golden weights: shared by the tests of the network, the losses and the training steps."""

from __future__ import annotations

import numpy as np

from kdscfnet.selfcheck import goldens

KINDS = goldens.BACKBONES
_MADE = goldens.Goldens()


def golden_model(kind):
    """An SCFNet whose state is golden_inputs.weight of each key, derived buffers as the network builds them."""
    return _MADE.network(kind)


def tensor(array):
    import paddle

    return paddle.to_tensor(np.ascontiguousarray(array))
