"""Errors that end in one line instead of a traceback. It says what is wrong and what to do."""

from __future__ import annotations


class UserError(Exception):
    """A mistake of the user's or a missing input: the command line prints the message and exits with 2."""


class MachineError(Exception):
    """What no user can help, such as a full disk: the command line prints the message and exits with 1."""


class Diverged(MachineError):
    """The losses or the weights of a training are no numbers any more."""


class ExportDiffers(MachineError):
    """An exported network computes something else than the network it was made of."""


class PathError(UserError):
    """What is wrong with one file. `path`: as it is shown; `reason`: one line, without the path."""

    def __init__(self, path, reason):
        super().__init__("%s: %s" % (path, reason))
        self.path = str(path)
        self.reason = str(reason)

    def __reduce__(self):
        return type(self), (self.path, self.reason)


class WeightsError(PathError):
    """A weight file that cannot be trusted or does not fit the network.

    Where entries do not fit, these list all of them: `missing`, `unexpected`, `non_finite` (keys), `mismatched` (key →
    what is wrong with its shape or dtype).
    """

    missing = unexpected = non_finite = ()
    mismatched: dict = {}


class BadImageError(PathError):
    """An image or mask file that cannot be read whole."""
