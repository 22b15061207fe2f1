"""One piece of work for several processes: each takes every n-th item, the first one tells for all.

Processes of paddle.distributed.launch meet in the folder of the results, by a small file each: no exchange of theirs
gives up after a while of waiting, and none needs Paddle. Parts (--part 2/8) know nothing of each other.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import sys
import threading
import time

from kdscfnet.errors import MachineError, UserError
from kdscfnet.files import write_bytes
from kdscfnet.text import say
from kdscfnet.threads import available_cores

BEAT = 2.0  # seconds between two signs of life
SILENCE = 60.0  # seconds without one, after which a process of another machine is taken for dead
_FIRST_SIGN = 600.0  # seconds until the first one: a cold start reads gigabytes from a shared disk
AGAIN = "what is missing is made by the same command again"


class Shares:
    """Which items are this process's, by --part or by paddle.distributed.launch.

    rank, world: the number of this share, from 0, and of all. together: whether the shares meet (a launch).
    """

    def __init__(self, part=None):
        world = int(os.environ.get("PADDLE_TRAINERS_NUM", "1"))
        self.rank, self.world, self.together = int(os.environ.get("PADDLE_TRAINER_ID", "0")), world, world > 1
        if part is not None:
            found = re.match(r"^(\d+)/(\d+)$", part)
            if not found or not 1 <= int(found.group(1)) <= int(found.group(2)):
                raise UserError("--part %s: K/N with K from 1 to N, as in 2/8" % part)
            if self.together:
                raise UserError("--part %s: paddle.distributed.launch deals the shares out itself: leave it out" % part)
            self.rank, self.world = int(found.group(1)) - 1, int(found.group(2))

    @property
    def first(self):
        """Whether this process speaks for all."""
        return self.rank == 0 or not self.together

    def mine(self, items):
        """This share of a list that is the same, and in the same order, for every share."""
        return items[self.rank :: self.world]

    def threads(self, wanted):
        """Cores to use: what was asked for; by default an equal part of this machine's for each process on it."""
        if wanted or not self.together:
            return wanted
        return max(1, available_cores() // int(os.environ.get("PADDLE_LOCAL_SIZE", self.world)))


class Meeting:
    """The processes of one launch, in `folder`. Use as a context: a process that leaves it by an error has failed.

    done: how many items this process has done, which the others may read.
    """

    def __init__(self, shares, folder):
        self.shares, self.done = shares, 0
        launch = "%s %s" % (os.environ.get("PADDLE_TRAINER_ENDPOINTS"), os.environ.get("PADDLE_JOB_ID"))
        self.folder = os.path.join(folder, ".shares-" + hashlib.sha256(launch.encode()).hexdigest()[:12])
        self._state = {"pid": os.getpid(), "host": socket.gethostname(), "stage": 0, "end": None, "born": time.time()}
        self._over, self._lock = threading.Event(), threading.RLock()  # a signal may come within _tell
        self._seen, self._began = {}, time.monotonic()
        self._counted = (0.0, 0)

    def __enter__(self):
        if self.shares.together:
            os.makedirs(self.folder, exist_ok=True)
            self._write()
            self._beating = threading.Thread(target=self._beat, daemon=True)
            self._beating.start()
            with contextlib.suppress(ValueError):  # not in the main thread
                self._before = signal.signal(signal.SIGTERM, self._terminated)
        return self

    def __exit__(self, kind, error, _):
        if not self.shares.together:
            return
        self._over.set()
        self._beating.join()
        if kind is not None:
            self._tell(end={"failed": str(error)})
        elif self.shares.rank == 0:
            shutil.rmtree(self.folder, ignore_errors=True)
        with contextlib.suppress(ValueError, AttributeError):
            signal.signal(signal.SIGTERM, self._before)

    def reach(self, stage):
        """Say that this process has come to a stage, a number that rises."""
        if self.shares.together:
            self._tell(stage=stage)

    def wait_for_first(self, stage):
        """Wait until process 0 has come to a stage. Raises MachineError where it has died or failed."""
        if not self.shares.together or self.shares.rank == 0:
            return
        while self._look(0)["stage"] < stage:
            self._raise_for([0])
            time.sleep(0.1)

    def end(self, report):
        """Say that this process has done its share; `report`: JSON values, for process 0."""
        if self.shares.together:
            self._over.set()  # process 0 removes the folder then; a beat would make it anew
            self._beating.join()
            self._tell(end={"report": report})

    def wait_for_others(self, each=lambda: None):
        """Process 0: wait until all others have ended; their reports. `each` is called while it waits.

        Raises MachineError that names those that died or failed.
        """
        others = range(1, self.shares.world)
        while True:
            each()
            states = [self._look(rank) for rank in others]
            if all(state["end"] and "report" in state["end"] for state in states):
                return [state["end"]["report"] for state in states]
            self._raise_for(others)
            time.sleep(0.1)

    def done_by_all(self):
        """How many items all processes have done, as far as is known."""
        if not self.shares.together:
            return self.done
        now = time.monotonic()
        if now - self._counted[0] > 0.5:
            self._counted = now, sum(self._look(rank)["done"] for rank in range(1, self.shares.world))
        return self.done + self._counted[1]

    # the files

    def _path(self, rank):
        return os.path.join(self.folder, "%d.json" % rank)

    def _tell(self, **what):
        with self._lock:
            self._state.update(what)
            self._write()

    def _write(self):
        text = json.dumps(dict(self._state, done=self.done, beat=time.time()))
        write_bytes(self._path(self.shares.rank), text.encode(), sync=False)

    def _beat(self):
        while not self._over.wait(BEAT):
            with self._lock:
                self._write()

    def _look(self, rank):
        try:
            with open(self._path(rank), encoding="utf-8") as file:
                state = json.load(file)
        except (OSError, ValueError):
            state = {"born": 0.0}
        if state["born"] < self._state["born"] - _FIRST_SIGN:  # none yet, or of a launch before on the same ports
            return {"stage": 0, "end": None, "done": 0}
        if rank not in self._seen or self._seen[rank][0] != state["beat"]:
            self._seen[rank] = state["beat"], time.monotonic()  # our clock, not that of the other machine
        return state

    def _gone(self, rank):
        """Why a process is taken for dead, or None."""
        state = self._look(rank)
        if state["end"]:
            return state["end"].get("failed")
        if "pid" not in state:
            if time.monotonic() - self._began > _FIRST_SIGN:
                return "it never came to %s: do all machines write into one folder?" % os.path.dirname(self.folder)
            return None
        if state["host"] == socket.gethostname() and not _runs(state["pid"]):
            return "it has died"
        if time.monotonic() - self._seen[rank][1] > SILENCE:
            return "no sign of life from %s for a minute" % state["host"]
        return None

    def _raise_for(self, ranks):
        gone = self._those_gone(ranks)
        if gone:
            raise MachineError("%s; %s" % (gone, AGAIN))

    def _those_gone(self, ranks):
        reasons = [(rank, self._gone(rank)) for rank in ranks]
        return "; ".join(
            "process %d of %d: %s" % (rank + 1, self.shares.world, reason) for rank, reason in reasons if reason
        )

    def _terminated(self, number, frame):
        # the launcher ends all processes where one has died, and kills them three seconds later: say it at once
        if self.shares.rank:
            self._tell(end={"stopped": number})  # so that the first one does not take it for dead
            os._exit(1)
        gone = self._those_gone(range(1, self.shares.world)) or "stopped by a signal"
        say("%s; %s" % (gone, AGAIN))
        sys.stderr.flush()
        os._exit(1)  # results are whole or not there; threads would be waited for


def _runs(pid):
    """Whether a process of this machine runs; one that waits to be buried does not."""
    try:
        with open("/proc/%d/stat" % pid) as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        if os.path.isdir("/proc/self"):
            return False
    except OSError:
        return True
    try:  # no /proc
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True
