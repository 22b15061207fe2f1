"""Whether this machine computes what the authors' code computed, and how fast; a report that can be sent.

It runs the three networks, the losses, gradients, ten supervised and six distillation steps from known weights and
compares them with recorded values; on a GPU also --amp, several GPUs where there are, and the loader. It then measures
images per second and memory. Nothing is needed but the package and Paddle. docs/SCALING.md says where the tolerances
come from. Exit code 0: every row passed or was measured; 1: one failed.
"""

from __future__ import annotations

from kdscfnet.commands.flags import add_flags


def add_arguments(parser):
    texts = {
        "--device DEVICE": "auto, cpu, gpu or gpu:N (default: auto)",
        "-o --output BASENAME": "the report: BASENAME.json and BASENAME.txt (default: selfcheck)",
        "--seconds S": "how long each speed is measured; 0 leaves speed and memory out (default: 3)",
    }
    seconds = {"type": float, "default": 3.0}
    add_flags(parser, texts, device={"default": "auto"}, output={"default": "selfcheck"}, seconds=seconds)


def run(args):
    from kdscfnet.selfcheck.run import selfcheck

    return selfcheck(args.device, args.output, args.seconds)
