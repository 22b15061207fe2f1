"""Saliency maps, masks, cut-outs, overlays and side-by-side pictures of images, folders of images and videos.

One kind of result goes to OUT/<name>.png, several to OUT/<kind>/<name>.png; sub-folders of inputs are kept. A result
that is there already is not made again. `kdscfnet predict - < photo.jpg > map.png` reads and writes streams.
python -m paddle.distributed.launch "$(command -v kdscfnet)" predict … spreads the images over its processes.
"""

from __future__ import annotations

KINDS = "map, mask, cutout, overlay, grid"


def add_arguments(parser):
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="an image, a folder, a pattern ('photos/**/*.jpg'), a video, or - for standard input",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        help="a folder, or the name of a single result (default: saliency, or standard output for the input -)",
    )
    parser.add_argument(
        "--save", default="map", metavar="KINDS", help="what to make, with commas: %s (default: map)" % KINDS
    )
    parser.add_argument(
        "--threshold", default="0.5", metavar="T", help="of masks: 0 to 1, or adaptive (twice the map's mean)"
    )
    parser.add_argument("--frames", action="store_true", help="a video becomes a folder of pictures, not a video")
    parser.add_argument("--overwrite", action="store_true", help="make results again that are there already")
    parser.add_argument(
        "--part",
        metavar="K/N",
        help="make every N-th result from the K-th on, as in 2/8: for the tasks of a job array",
    )
    add_network_arguments(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress bar and no summary; failures are still told")


def add_network_arguments(parser):
    """What `predict` and `benchmark` let a user choose of the network."""
    parser.add_argument(
        "--weights",
        metavar="FILE",
        help="a weight file, an exported .onnx, or a name of the release "
        "(default: the best student in the weights folder, else the bundled one)",
    )
    parser.add_argument(
        "--backbone",
        default="auto",
        choices=("auto", "mobilenetv3", "resnet50", "swin_b"),
        help="default: the one in the file",
    )
    parser.add_argument(
        "--engine",
        default="auto",
        choices=("auto", "onnxruntime", "paddle"),
        help="default: Paddle on a GPU, else ONNX Runtime, else Paddle",
    )
    parser.add_argument(
        "--size",
        type=size,
        metavar="SIZE",
        help="the network's input, 352 or HEIGHTxWIDTH (default: what the model was tested at)",
    )
    parser.add_argument("--threads", type=int, metavar="N", help="cores to use (default: all)")
    parser.add_argument(
        "--device", metavar="DEVICE", help="auto, cpu, gpu or gpu:N (default: a GPU where Paddle has one)"
    )


def size(text):
    """The type of --size: '352' or '320x256' → (height, width)."""
    from kdscfnet.weights.weightfile import as_size

    return as_size(text, "--size")


def run(args):
    import os
    import warnings

    # A broken file is reported by us, in one line at the end, and not also by the libraries in the midst of the bar
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    warnings.filterwarnings("ignore", module=r"PIL\.")
    from kdscfnet.inference.program import predict

    return predict(args)
