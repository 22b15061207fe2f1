"""Data parallel training, by what Paddle has: python -m paddle.distributed.launch … starts the processes."""

from __future__ import annotations

import contextlib
import os

import numpy as np
import paddle
from paddle import nn


def started_in_parallel():
    """Whether paddle.distributed.launch started this process as one of several."""
    return int(os.environ.get("PADDLE_TRAINERS_NUM", "1")) > 1


class Parallel:
    """This process among the others.

    rank, world: number of this process, and of all.
    """

    def __init__(self):
        import paddle.distributed as dist

        dist.init_parallel_env()
        self._dist = dist
        self.rank, self.world = dist.get_rank(), dist.get_world_size()

    def wrap(self, model):
        """The model to call in training: gradients are averaged over the processes in its backward pass."""
        # Swin's last norm is in the checkpoints and not in the forward pass
        return paddle.DataParallel(model, find_unused_parameters=model.backbone == "swin_b")

    @contextlib.contextmanager
    def no_exchange(self, wrapped):
        """Gradients of a turn that is not the step's last stay in this process."""
        with wrapped.no_sync():
            yield

    def mean(self, tensor):
        """The mean over the processes; the same on all of them."""
        tensor = tensor.clone()
        self._dist.all_reduce(tensor)
        return tensor / self.world

    def any(self, flag):
        """Whether `flag` holds in any process."""
        tensor = paddle.to_tensor(np.array([1.0 if flag else 0.0], np.float32))
        self._dist.all_reduce(tensor)
        return float(tensor.numpy()[0]) > 0

    def barrier(self):
        # an exchange rather than barrier(), which gloo does not have in every Paddle
        self.any(False)


def synchronise_batch_norm(layer):
    """Replace every BatchNorm by SyncBatchNorm, in place, with the same parameters and statistics; for GPUs.

    Paddle's own conversion leaves out paddle.nn.BatchNorm, which MobileNetV3 is made of, and loses its regularizers.
    """
    for name, child in list(layer.named_children()):
        if isinstance(child, (nn.BatchNorm2D, nn.BatchNorm)) and not isinstance(child, nn.SyncBatchNorm):
            features = child.weight.shape[0]
            synchronised = nn.SyncBatchNorm(features, momentum=child._momentum, epsilon=child._epsilon)
            synchronised.weight, synchronised.bias = child.weight, child.bias
            synchronised._mean, synchronised._variance = child._mean, child._variance
            synchronised.training = child.training
            setattr(layer, name, synchronised)
        else:
            synchronise_batch_norm(child)
    return layer
