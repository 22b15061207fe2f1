"""Scores of saliency maps that exist already: the released ones, your own, other people's, several methods at once.

  kdscfnet evaluate --maps maps --data data                     maps/<method>/<SET>/*.png of all methods and sets
  kdscfnet evaluate --maps CSNet/ECSSD --data data/ECSSD        one method, one set

Prints the tables and writes scores/<method>.json and report/ (report.html, CSV, Markdown, LaTeX, curves, maps).
"""

from __future__ import annotations


def add_arguments(parser):
    parser.add_argument(
        "--maps",
        nargs="+",
        required=True,
        metavar="DIR",
        help="folders of maps: DIR/<method>/<SET>/*.png, DIR/<SET>/*.png or DIR/*.png",
    )
    parser.add_argument(
        "--data", default="data", metavar="DIR", help="the data sets, one of them, or a folder of masks (default: data)"
    )
    add_scoring_arguments(parser)


def add_scoring_arguments(parser):
    """The options that `test` has too."""
    parser.add_argument(
        "--sets", nargs="+", metavar="SET", help="only these data sets, as in DUTS-TE ECSSD (default: all)"
    )
    parser.add_argument(
        "--scores", choices=("all", "mae"), default="all", help="all, or MAE alone, many times faster (default: all)"
    )
    parser.add_argument(
        "--allow-missing",
        action="store_true",
        help="score what can be scored where maps or masks are missing or unreadable, and say so",
    )
    parser.add_argument(
        "--resize",
        action="store_true",
        help="bring maps of another size to their mask's (bilinear, as the authors) instead of refusing them",
    )
    parser.add_argument("--threads", type=_positive, metavar="N", help="cores to use (default: all)")
    parser.add_argument(
        "-o", "--output", default=".", metavar="DIR", help="where scores/ and report/ go (default: here)"
    )
    parser.add_argument("--no-report", action="store_true", help="the tables and scores/*.json alone")


def _positive(text):
    number = int(text)
    if number < 1:
        raise ValueError
    return number


_positive.__name__ = "number of cores"  # argparse names it in its message


def run(args):
    from kdscfnet.evaluation.methods import score_methods
    from kdscfnet.evaluation.publish import publish

    publish(*score_methods(args), args)
    return 0
