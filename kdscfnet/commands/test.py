"""Weights and test sets to saliency maps, scores, and the paper's table.

  kdscfnet test                                       all weights in weights/, all test sets in data/
  kdscfnet test --weights model.pdparams --sets ECSSD

Maps go to maps/<model>/<SET>/, scores to scores/<model>.json, tables, curves and report.html to report/. Maps that are
there already are not made again, so an interrupted run goes on where it stopped. paddle.distributed.launch spreads the
images over its processes.
"""

from __future__ import annotations

from kdscfnet.commands.evaluate import SCORING, SCORING_OPTIONS
from kdscfnet.commands.flags import ENGINE, add_flags, options_of, size


def add_arguments(parser):
    texts = {
        "--weights FILE...": "weight files, names of the release, or folders of files (default: all in the weights "
        "folder, $KDSCFNET_WEIGHTS or weights/, else the bundled student)",
        "--data DIR": "the test sets, or one of them (default: data)",
        "--engine": "what runs the network (default: auto, the fastest there is)",
        "--device NAME": "of Paddle: cpu, gpu, gpu:0 (default: a GPU where there is one)",
        "--size SIZE": "the network's input, 352 or HEIGHTxWIDTH "
        "(default: the model's: 352; 384 for Swin-B and its student)",
        "--overwrite": "make maps again that are there already",
        **SCORING,
    }
    add_flags(parser, texts, engine=ENGINE, size={"type": size}, **SCORING_OPTIONS)


def run(args):
    from kdscfnet.data.find import find_sets_to_test
    from kdscfnet.evaluation.model_scores import find_models, test_models
    from kdscfnet.evaluation.publish import ScoreOptions, publish

    options = options_of(ScoreOptions, args)
    tested = test_models(find_models(args.weights), find_sets_to_test(args.data, args.sets), options)
    if tested is not None:  # None in the processes that made maps for the first one
        publish(*tested, options)
