"""What made the results in a folder, so that one is kept only where it is still what is asked for.

The folder of results holds one hidden file, a line of JSON each: {"made": KEY, …} says once what settings KEY stands
for, and [RESULT, KEY, INPUT] that a result (a relative path) was made by them from an input (its fingerprint). A later
line of the same result replaces an earlier one. A line is written when its result is whole, so a killed run loses
nothing, and several processes may write to one folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading

NAME = ".kdscfnet.jsonl"
MISSING, FITS, STALE, UNKNOWN = "missing", "fits", "stale", "unknown"


def fingerprint(path):
    """What tells an input file from another one of the same name: its size and the time of its last change."""
    try:
        status = os.stat(path)
    except OSError:  # it went since it was found; reading it says so
        return ""
    return "%d-%d" % (status.st_size, status.st_mtime_ns)


def digest(data):
    """The fingerprint of an input that is no file: of its bytes."""
    return hashlib.sha256(data).hexdigest()[:32]


class Record:
    """The record of a folder of results.

    Args:
        folder: of the results.
        settings: {kind: what its results depend on, JSON values}: weights, size, threshold, …
    """

    def __init__(self, folder, settings):
        self.path = os.path.join(folder, NAME)
        self.folder, self._lock = os.path.abspath(folder), threading.Lock()
        self._keys = {kind: _key(kind, values) for kind, values in settings.items()}
        self._settings = {self._keys[kind]: dict(values, kind=kind) for kind, values in settings.items()}
        self._made, self._written = self._read()

    def _read(self):
        made, written = {}, set()
        try:
            with open(self.path, encoding="utf-8", errors="replace") as file:
                for line in file:
                    try:
                        entry = json.loads(line)
                    except ValueError:  # cut short by a kill
                        continue
                    if isinstance(entry, dict):
                        written.add(str(entry.get("made")))
                    elif isinstance(entry, list) and len(entry) == 3 and isinstance(entry[0], str):
                        made[entry[0]] = entry[1:]
        except OSError:
            pass
        return made, written

    def state(self, kind, result, source):
        """Of one result: MISSING, FITS, STALE (made by other settings or from another input) or UNKNOWN (not recorded).

        Args:
            kind: of the result.
            result: its path.
            source: the fingerprint of its input.
        """
        if not os.path.exists(result):
            return MISSING
        made = self._made.get(self._name(result))
        if made is None:
            return UNKNOWN
        return FITS if made == [self._keys[kind], source] else STALE

    def states(self, job):
        """{kind: state} of the results of a pipeline.Job."""
        source = fingerprint(job.input)
        return {kind: self.state(kind, path, source) for kind, path in job.outputs.items()}

    def add(self, outputs, source):
        """Record results that are whole now: {kind: path}, and the fingerprint of their input."""
        with self._lock:
            lines = []
            for kind, path in outputs.items():
                key, name = self._keys[kind], self._name(path)
                if key not in self._written:
                    self._written.add(key)
                    lines.append(dict(self._settings[key], made=key))
                self._made[name] = [key, source]
                lines.append([name, key, source])
            os.makedirs(self.folder, exist_ok=True)
            with open(self.path, "ab") as file:
                # the line break comes first: it ends what a kill cut short
                file.write("".join("\n" + json.dumps(line) for line in lines).encode())

    def _name(self, result):
        return os.path.relpath(os.path.abspath(result), self.folder).replace(os.sep, "/")


class Choice:
    """Which results are to be made: those that are not there or stale, or all.

    Attributes, filled in by `of`: kept (inputs whose results are all kept), stale and unknown (how many results were).
    """

    def __init__(self, record, overwrite=False):
        self.record, self.overwrite = record, overwrite
        self.kept, self.stale, self.unknown = [], 0, 0

    def of(self, jobs, always=False):
        """Those of `jobs` (pipeline.Job) that have results to be made, with these alone. `always`: all jobs, whole."""
        chosen = []
        for job in jobs:
            states = self.record.states(job)
            wanted = {kind for kind, state in states.items() if self.overwrite or state in (MISSING, STALE)}
            if not self.overwrite:
                self.stale += list(states.values()).count(STALE)
                self.unknown += list(states.values()).count(UNKNOWN)
            if always:
                chosen.append(job)
            elif wanted:
                chosen.append(job._replace(outputs={kind: job.outputs[kind] for kind in states if kind in wanted}))
            else:
                self.kept.append(job.input)
        return chosen


def _key(kind, values):
    text = json.dumps([kind, values], sort_keys=True)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:8]
