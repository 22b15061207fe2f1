"""What the fork server of forked.py imports before it forks."""

from kdscfnet.device import import_paddle

import_paddle(threads=1)

import visualdl  # noqa: E402,F401

from kdscfnet.models import backbones  # noqa: E402,F401
from kdscfnet.training import start, trainer  # noqa: E402,F401
