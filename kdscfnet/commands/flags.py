"""How the verbs declare their flags, and those that several verbs share."""

from __future__ import annotations

import argparse
from dataclasses import fields

from kdscfnet.recipes import BACKBONES, ENGINES


def add_flags(parser, texts, **options):
    """Add arguments to a parser, or to a group of one.

    Args:
        texts: {usage: help}. A usage is a flag's names and what follows them: "-o --output DIR", "--data DIR..." for
            one or more. "inputs INPUT" is no flag. A flag that nothing follows and that has no options is a switch.
        options: of argparse, for arguments that need some, by the argument's name: size={"type": size}.
    """
    for usage, text in texts.items():
        names, more = usage.split(), {"help": text}
        if not names[-1].startswith("-"):
            value = names.pop()
            more.update({"metavar": value[:-3], "nargs": "+"} if value.endswith("...") else {"metavar": value})
        own = options.get(max(names, key=len).lstrip("-").replace("-", "_"))
        if own is None and "metavar" not in more:
            own = {"action": "store_true"}
        parser.add_argument(*names, **more, **(own or {}))


def options_of(kind, args):
    """A frozen dataclass of options with what the user chose; what was not given keeps its default there."""
    chosen = {field.name: getattr(args, field.name, None) for field in fields(kind)}
    return kind(**{name: value for name, value in chosen.items() if value is not None})


def number(kind, low, high=None, low_included=True):
    """The type of a flag that takes an int or a float in a range."""

    def parse(text):
        value = kind(text)
        high_enough = value >= low if low_included else value > low  # what nan is not
        if high_enough and value < float("inf") and (high is None or value <= high):
            return value
        span = "%s %s%s" % ("from" if low_included else "more than", low, "" if high is None else " to %s" % high)
        raise argparse.ArgumentTypeError("%s is out of range (%s)" % (text, span))

    parse.__name__ = kind.__name__  # argparse names it where the text is no number at all
    return parse


def size(text):
    """The type of --size: '352' or '320x256' → (height, width)."""
    from kdscfnet.weights.weightfile import as_size

    return as_size(text, "--size")


def numbers(text):
    """The type of a flag that takes numbers from 1, with commas: '4,1' → [1, 4]."""
    return sorted({number(int, 1)(part) for part in text.split(",")})


BACKBONE = {"default": "auto", "choices": ("auto", *BACKBONES)}
ENGINE = {"default": "auto", "choices": ENGINES}

# What `predict` and `benchmark` let a user choose of the network
NETWORK = {
    "--weights FILE": "a weight file, an exported .onnx, or a name of the release "
    "(default: the best student in the weights folder, else the bundled one)",
    "--backbone": "of the network (default: auto, the one in the file)",
    "--engine": "what runs the network (default: auto, Paddle on a GPU, else ONNX Runtime, else Paddle)",
    "--size SIZE": "the network's input, 352 or HEIGHTxWIDTH (default: what the model was tested at)",
    "--threads N": "cores to use (default: all)",
    "--device DEVICE": "auto, cpu, gpu or gpu:N (default: a GPU where Paddle has one)",
}
NETWORK_OPTIONS = {"backbone": BACKBONE, "engine": ENGINE, "size": {"type": size}, "threads": {"type": number(int, 1)}}
