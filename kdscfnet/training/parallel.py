"""Data parallel training, by what Paddle has: python -m paddle.distributed.launch … starts the processes."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
import sys
import threading
from concurrent.futures import Future, wait

import numpy as np
import paddle
from paddle import distributed, nn

from kdscfnet.errors import UserError

_MESSAGE = 4 << 20  # bytes
_DEVICE = []  # that this process got when it joined the others


class Parallel:
    """This process among those that paddle.distributed.launch started, or alone; may be made several times.

    rank, world: number of this process, and of all.
    """

    def __init__(self):
        self.rank, self.world = 0, 1
        if int(os.environ.get("PADDLE_TRAINERS_NUM", "1")) < 2:
            return
        # Once a process: a second time Paddle 2.2 starts its exchange anew. It chooses the device, too.
        if _DEVICE:
            paddle.set_device(_DEVICE[0])
        else:
            name_interface()
            distributed.init_parallel_env()
            _DEVICE.append(paddle.device.get_device())
        self.rank, self.world = distributed.get_rank(), distributed.get_world_size()

    def wrap(self, model):
        """The model to call in training: gradients are averaged over the processes in its backward pass."""
        if self.world == 1:
            return model
        # Swin's last norm is in the checkpoints and not in the forward pass
        return paddle.DataParallel(model, find_unused_parameters=model.backbone == "swin_b")

    def mean(self, tensor):
        """The mean over the processes; the same on all of them."""
        if self.world == 1:
            return tensor
        tensor = tensor.clone()
        distributed.all_reduce(tensor)
        return tensor / self.world

    def any(self, flag):
        """Whether `flag` holds in any process."""
        return flag if self.world == 1 else bool(self._sum(np.array([flag], np.float32))[0] > 0)

    def from_first(self, data=b""):
        """The bytes that process 0 has, in every process."""
        size = int(self._sum(np.array([len(data) if self.rank == 0 else 0], np.int64))[0])
        parts = []
        for start in range(0, size, _MESSAGE):  # small ones, or a slow link would take longer than gloo waits
            length = min(_MESSAGE, size - start)
            part = np.zeros(-(-length // 4), np.int32)  # which every Paddle's exchange knows
            if self.rank == 0:
                part.view(np.uint8)[:length] = np.frombuffer(data, np.uint8, length, start)
            parts.append(self._sum(part).view(np.uint8)[:length].tobytes())
        return b"".join(parts)

    def _sum(self, array):
        tensor = paddle.to_tensor(array)
        distributed.all_reduce(tensor)
        return tensor.numpy()

    @contextlib.contextmanager
    def all_or_none(self):
        """Leave the block together; where it fails in one process, the others fail too, or they would wait for it."""
        try:
            yield
        except BaseException:
            self.any(True)
            raise
        if self.any(False):
            raise UserError("another process of this training has failed; its log says why")

    def by_first(self, work):
        """Process 0 returns what `work` does, without Paddle; the others wait, however long; see all_or_none."""
        if self.world == 1:
            return work()
        outcome = Future()

        def attempt():
            try:
                outcome.set_result(work())
            except BaseException as error:
                outcome.set_exception(error)

        # gloo gives up an exchange after half a minute: they go on meeting while a thread works
        if self.rank == 0:
            threading.Thread(target=attempt, daemon=True).start()
        while self.any(self.rank == 0 and not outcome.done()):
            if self.rank == 0:
                wait([outcome], 1.0)
        with self.all_or_none():
            return outcome.result() if self.rank == 0 else None

    @contextlib.contextmanager
    def last_words(self, line):
        """Let `line` be said on standard error where this process is ended amid the block: Paddle aborts it where the
        exchange of gradients fails, in a thread of its own, and nothing of Python's runs any more."""
        if self.world == 1:
            yield
            return
        listen = "import sys\nif sys.stdin.read() != 'well': sys.stderr.write(sys.argv[1] + '\\n')"
        command = [sys.executable, "-S", "-c", listen, line]
        listener = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
        try:
            yield
        finally:
            listener.stdin.write(b"well")
            listener.stdin.close()
            listener.wait()


def name_interface():
    """Tell gloo the network interface of this process's endpoint: it takes that of the machine's own name, which is the
    loopback on many (Debian's /etc/hosts), and no other machine is reached from there."""
    address = os.environ.get("PADDLE_CURRENT_ENDPOINT", "").rpartition(":")[0]
    if not address or not sys.platform.startswith("linux"):
        return
    import fcntl

    get_address = 0x8915  # SIOCGIFADDR
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        for _, name in socket.if_nameindex():
            with contextlib.suppress(OSError):  # an interface without an address
                answer = fcntl.ioctl(asked, get_address, struct.pack("256s", name.encode()[:15]))
                if socket.inet_ntoa(answer[20:24]) == address:
                    os.environ.setdefault("GLOO_SOCKET_IFNAME", name)


def lost_another(error):
    """Whether an error of Paddle's is that another process, or the link to it, is gone."""
    words = ("gloo", "connection", "timed out", "timeout", "nccl", "broken pipe", "peer")
    return any(word in str(error).lower() for word in words)


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
