"""Two machines on one: network namespaces of their own, joined by a link that this process carries, slows and cuts.

The link is a pair of TUN devices: kernels of small machines have no netem. Needs root and /dev/net/tun.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import heapq
import os
import select
import struct
import subprocess
import threading
import time

SETIFF, TUN, NO_INFORMATION = 0x400454CA, 0x0001, 0x1000
NETWORK = 0x40000000  # CLONE_NEWNET
ADDRESSES = ("10.231.7.1", "10.231.7.2")


def why_not():
    """Why this machine cannot have two namespaces and a link, or None."""
    try:
        with TwoMachines():
            return None
    except (OSError, subprocess.CalledProcessError) as error:
        return "no network namespaces here: %s" % error


class TwoMachines:
    """names: of the namespaces; addresses: of the machines. delay: seconds; rate: bytes a second; cut: a flag."""

    def __init__(self):
        self.names = ["kd%d%s" % (os.getpid() % 100000, side) for side in "ab"]
        self.addresses = ADDRESSES
        self.delay, self.rate, self.cut, self.carried = 0.0, float("inf"), False, 0

    def __enter__(self):
        self._files, self._over = [], threading.Event()
        try:
            for name, address in zip(self.names, self.addresses):
                _ip("netns", "add", name)
                file = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
                self._files.append(file)
                device = name + "t"
                fcntl.ioctl(file, SETIFF, struct.pack("16sH", device.encode(), TUN | NO_INFORMATION))
                _ip("link", "set", device, "netns", name)
                _ip("-n", name, "addr", "add", address + "/24", "dev", device)
                for each in ("lo", device):
                    _ip("-n", name, "link", "set", each, "up")
        except BaseException:
            self.__exit__()
            raise
        self._carrier = threading.Thread(target=self._carry, daemon=True)
        self._carrier.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        if hasattr(self, "_carrier"):
            self._carrier.join()
        for file in self._files:
            os.close(file)
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name], stderr=subprocess.DEVNULL)

    def on(self, machine, command):
        """The command that runs `command` on machine 0 or 1."""
        return ["ip", "netns", "exec", self.names[machine]] + command

    def _carry(self):
        waiting, count, free = [], 0, [0.0, 0.0]
        while not self._over.is_set():
            patience = max(0.0, min(0.1, waiting[0][0] - time.monotonic())) if waiting else 0.1
            for file in select.select(self._files, [], [], patience)[0]:
                packet = os.read(file, 65536)
                if self.cut:
                    continue
                other = 1 - self._files.index(file)
                sent = max(free[other], time.monotonic()) + len(packet) / self.rate
                free[other], count = sent, count + 1
                heapq.heappush(waiting, (sent + self.delay, count, other, packet))
            while waiting and waiting[0][0] <= time.monotonic():
                _, _, other, packet = heapq.heappop(waiting)
                with contextlib.suppress(OSError):  # a full queue drops packets, as a real one does
                    os.write(self._files[other], packet)
                    self.carried += len(packet)


def enter(name):
    """This process goes to the namespace `name`, as `ip netns exec` does before it starts a program."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/var/run/netns/" + name) as file:
        if libc.setns(file.fileno(), NETWORK):
            raise OSError(ctypes.get_errno(), "setns")


def _ip(*words):
    subprocess.run(["ip"] + list(words), check=True, stderr=subprocess.DEVNULL)
