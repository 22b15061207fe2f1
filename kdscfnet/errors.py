"""The errors a user can cause. Each message is one line that says what is wrong and what to do."""

from __future__ import annotations


class UserError(Exception):
    """A mistake of the user's or a missing input: the command line prints the message and exits with 2."""


class WeightsError(UserError):
    """A weight file that cannot be trusted or does not fit the network.

    Where entries do not fit, these list all of them: `missing`, `unexpected`, `non_finite` (keys), `mismatched` (key →
    what is wrong with its shape or dtype).
    """

    missing = unexpected = non_finite = ()
    mismatched: dict = {}


class BadImageError(UserError):
    """An image or mask file that cannot be read whole."""

    def __init__(self, path, reason):
        super().__init__("%s: %s" % (path, reason))
        self.path = str(path)
        self.reason = reason

    def __reduce__(self):
        return type(self), (self.path, self.reason)
