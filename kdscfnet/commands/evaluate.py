"""Scores of saliency maps that exist already: the released ones, your own, other people's, several methods at once.

  kdscfnet evaluate --maps maps --data data                     maps/<method>/<SET>/*.png of all methods and sets
  kdscfnet evaluate --maps CSNet/ECSSD --data data/ECSSD        one method, one set

Prints the tables and writes scores/<method>.json and report/ (report.html, CSV, Markdown, LaTeX, curves, maps).
"""

from __future__ import annotations

from kdscfnet.commands.flags import add_flags, number, options_of

# The flags that `test` has too
SCORING = {
    "--sets SET...": "only these data sets, as in DUTS-TE ECSSD (default: all)",
    "--scores": "all, or MAE alone, many times faster (default: all)",
    "--allow-missing": "score what can be scored where maps or masks are missing or unreadable, and say so",
    "--resize": "bring maps of another size to their mask's (bilinear, as the authors) instead of refusing them",
    "--threads N": "cores to use (default: all)",
    "-o --output DIR": "where scores/ and report/ go (default: here)",
    "--no-report": "the tables and scores/*.json alone",
}
SCORING_OPTIONS = {
    "data": {"default": "data"},
    "scores": {"choices": ("all", "mae")},
    "threads": {"type": number(int, 1)},
}


def add_arguments(parser):
    texts = {
        "--maps DIR...": "folders of maps: DIR/<method>/<SET>/*.png, DIR/<SET>/*.png or DIR/*.png",
        "--data DIR": "the data sets, one of them, or a folder of masks (default: data)",
        **SCORING,
    }
    add_flags(parser, texts, maps={"required": True}, **SCORING_OPTIONS)


def run(args):
    from kdscfnet.evaluation.methods import score_methods
    from kdscfnet.evaluation.publish import ScoreOptions, publish

    options = options_of(ScoreOptions, args)
    publish(*score_methods(args.maps, args.data, args.sets, options), options)
