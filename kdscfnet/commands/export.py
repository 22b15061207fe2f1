"""The network for other programs: ONNX and Paddle's inference format, with a JSON file that says how to use it.

What is exported is compared with dygraph Paddle on several sizes and batches; if it differs by more than 1e-5 of the
logits' range, nothing is written.
"""

from __future__ import annotations


def add_arguments(parser):
    parser.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        required=True,
        help="where to: a folder, or a name (scfnet.onnx, or scfnet for all formats)",
    )
    parser.add_argument("--format", default="onnx", choices=("onnx", "paddle", "both"), help="default: onnx")
    parser.add_argument(
        "--weights",
        metavar="FILE",
        help="a weight file or a name of the release (default: the best student in the weights folder)",
    )
    parser.add_argument(
        "--backbone",
        default="auto",
        choices=("auto", "mobilenetv3", "resnet50", "swin_b"),
        help="default: the one in the file",
    )
    parser.add_argument(
        "--size",
        nargs="+",
        metavar="SIZE",
        help="export for this size alone: 352 or "
        "HEIGHTxWIDTH (default: any size; Swin-B: 384). Any batch in every case",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there already")


def run(args):
    from kdscfnet.inference.export import export_command

    return export_command(args)
