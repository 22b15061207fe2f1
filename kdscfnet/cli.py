"""The command line: `kdscfnet VERB …`. Each verb lives in kdscfnet/commands/ and is imported only when asked for."""

from __future__ import annotations

import argparse
import atexit
import gc
import importlib
import os
import sys
from errno import EACCES, EDQUOT, EEXIST, EFBIG, EIO, EISDIR, ELOOP, ENAMETOOLONG, ENOENT, ENOSPC, ENOTDIR, EPERM, EROFS

import kdscfnet
from kdscfnet.errors import MachineError, UserError
from kdscfnet.text import begin

# verb -> what `kdscfnet --help` says of it; the module is kdscfnet.commands.<verb>,
# with add_arguments(parser) and run(args) -> exit code, or None for 0
VERBS = {
    "train": "train one of the paper's five systems, or the demo",
    "test": "weights and test sets to maps, scores and the paper's table",
    "predict": "saliency maps, masks and cut-outs of images, folders and videos",
    "evaluate": "scores of saliency maps that exist already",
    "export": "write the network as ONNX or as a Paddle inference model",
    "web": "a page that does it in the browser, on this machine or on any static host",
    "weights": "list, fetch, verify and convert weight files",
    "benchmark": "where the time goes: read, prepare, network, finish, write",
    "selfcheck": "whether this machine computes what the authors' code did, and how fast",
    "doctor": "versions, devices, known clashes, and what to do about them",
}

# What the system refuses: a full or broken disk is nobody's mistake (exit code 1), a path that cannot be used is (2)
_FULL_DISK = (ENOSPC, EDQUOT)
_BAD_DISK = (*_FULL_DISK, EIO, EFBIG)
_BAD_PATH = (EACCES, EPERM, EROFS, ENOENT, ENOTDIR, EISDIR, EEXIST, ENAMETOOLONG, ELOOP)

QUIET = "no progress bar and no remarks; results and failures are still told"


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message):
        self.exit(2, "%s: %s (see %s --help)\n" % (self.prog, message, self.prog))


def _overview():
    width = max(map(len, VERBS))
    lines = ["usage: kdscfnet VERB [options]", ""]
    lines += ["  %-*s  %s" % (width, verb, text) for verb, text in VERBS.items()]
    lines += ["", "kdscfnet VERB --help tells the rest; kdscfnet --version the version."]
    return "\n".join(lines)


def main(argv=None):
    """Run one verb. Returns the exit code: 0 done; 2 wrong use or missing input; 1 anything else; 130 interrupted."""
    _open_missing_streams()
    if argv is None:  # a process of our own
        # otherwise the linear algebra of numpy and OpenCV starts threads that do nothing, at full speed, for 0.1 s each
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        atexit.register(gc.freeze)  # then the end of Python does not search all objects for cycles
    if hasattr(sys.stdout, "reconfigure"):  # names of files may hold what its encoding does not: escaped as on stderr
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = _main(list(sys.argv[1:] if argv is None else argv))
    except BrokenPipeError:  # whoever reads has seen enough, as in `kdscfnet weights list | head`
        code = 1
    try:
        sys.stdout.flush()
    except OSError:  # it is said already; Python would try once more at its end
        code = code or 1
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
    return code


def _open_missing_streams():
    """Give a process that was started without standard streams (`2>&-`, a service) ones that lead nowhere.

    Without them the next files that are opened get their numbers, and messages would land in results.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free: this one
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))


def open_verb(verb):
    """(module, parser) of a verb. Each has --quiet, and so has what stands below it (`weights list`)."""
    module = importlib.import_module("kdscfnet.commands." + verb)
    parser = Parser(
        prog="kdscfnet " + verb, description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    module.add_arguments(parser)
    parser.set_defaults(quiet=False)
    below = [action.choices.values() for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    for one in [parser, *(one for parsers in below for one in parsers)]:
        # a default of its own would undo what was given before the lower verb
        one.add_argument("--quiet", action="store_true", default=argparse.SUPPRESS, help=QUIET)
    return module, parser


def _main(argv):
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0 if argv else 2
    if argv[0] in ("-V", "--version"):
        print("kdscfnet", kdscfnet.__version__)
        return 0
    verb = argv[0]
    if verb not in VERBS:
        import difflib

        likely = difflib.get_close_matches(verb.lower(), VERBS, 1)
        advice = "did you mean %s?" % likely[0] if likely else "one of " + ", ".join(VERBS)
        print("kdscfnet: there is no verb '%s': %s" % (verb, advice), file=sys.stderr)
        return 2

    try:
        module, parser = open_verb(verb)
        # verbs that say how to go on need the words as they were given
        args = parser.parse_args(argv[1:], argparse.Namespace(argv=argv))
        begin(args.quiet)
        code = module.run(args) or 0
        sys.stdout.flush()  # an output that takes no more is said below
        return code
    except (UserError, MachineError) as error:
        message, code = str(error), 1 if isinstance(error, MachineError) else 2
    except ModuleNotFoundError as error:
        from kdscfnet.dependencies import explain

        message, code = explain(error.name), 2
        if not message:
            raise
    except OSError as error:
        if error.errno not in _BAD_DISK + _BAD_PATH:
            raise
        where = " (%s)" % error.filename if error.filename else ""
        advice = ": free some space, then run the same command again" if error.errno in _FULL_DISK else ""
        message, code = "%s%s%s" % (error.strerror or error, where, advice), 1 if error.errno in _BAD_DISK else 2
    except KeyboardInterrupt:
        print("kdscfnet %s: interrupted" % verb, file=sys.stderr)
        return 130
    print("kdscfnet %s: %s" % (verb, message), file=sys.stderr)
    return code
