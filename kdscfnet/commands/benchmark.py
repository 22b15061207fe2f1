"""Where the time of a prediction goes: read, prepare, network, finish, write; by engine and number of threads.

Each engine runs in its own process, in several rounds that take turns; medians. 'one by one' is a plain loop over the
images, 'overlapped' what `kdscfnet predict` does.
"""

from __future__ import annotations


def add_arguments(parser):
    from kdscfnet.commands.predict import add_network_arguments

    parser.add_argument(
        "images",
        nargs="*",
        metavar="IMAGE",
        help="images, folders or patterns (default: made-up photographs of 400×300)",
    )
    parser.add_argument("--count", type=int, default=100, metavar="N", help="use at most N images (default: 100)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="default: 3")
    parser.add_argument("--json", metavar="FILE", help="write the figures to FILE")
    add_network_arguments(parser)
    for action in parser._actions:
        if action.dest == "threads":
            action.type, action.help = str, "numbers of cores to try, with commas (default: 1 and all)"
        if action.dest == "engine":
            action.choices = None
            action.help = "engines to try, with commas: onnxruntime, paddle (default: those that are installed)"
            action.default = None


def run(args):
    from kdscfnet.inference.benchmark import benchmark_command

    return benchmark_command(args)
