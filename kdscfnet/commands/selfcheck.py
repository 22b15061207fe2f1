"""Whether this machine computes what the authors' code computed, and how fast; a report that can be sent.

It runs the three networks, the losses, gradients, ten supervised and six distillation steps from known weights and
compares them with recorded values; on a GPU also --amp, several GPUs where there are, and the loader. It then measures
images per second and memory. Nothing is needed but the package and Paddle. docs/SCALING.md says where the tolerances
come from. Exit code 0: every row passed or was measured; 1: one failed.
"""

from __future__ import annotations


def add_arguments(parser):
    parser.add_argument("--device", metavar="DEVICE", default="auto", help="auto, cpu, gpu or gpu:N (default: auto)")
    parser.add_argument(
        "-o",
        "--output",
        metavar="BASENAME",
        default="selfcheck",
        help="the report: BASENAME.json and BASENAME.txt (default: selfcheck)",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=3.0,
        metavar="S",
        help="how long each speed is measured; 0 leaves speed and memory out (default: 3)",
    )


def run(args):
    from kdscfnet.selfcheck.run import selfcheck

    return selfcheck(args.device, args.output, args.seconds)
