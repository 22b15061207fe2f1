"""Testing models: weights and test sets to maps, scores and the paper's table."""

from __future__ import annotations

import collections
import os

from kdscfnet.data.find import no_masks
from kdscfnet.data.names import list_images
from kdscfnet.errors import UserError
from kdscfnet.evaluation.pairs import MISSING_MAP, MISSING_MASK, UNREADABLE, Problem, pair_up
from kdscfnet.evaluation.publish import check
from kdscfnet.evaluation.results import Result, made_by, write_scores
from kdscfnet.evaluation.scores import SCORES, score_pairs
from kdscfnet.files import remove_leftovers, write_json
from kdscfnet.inference.pipeline import Job, predict_files
from kdscfnet.shares import Meeting, Shares
from kdscfnet.text import progress, say, say_once
from kdscfnet.weights import release
from kdscfnet.weights.weightfile import WeightFile, bundled, find_weights, resolve


def find_models(weights=None):
    """What to test: {name of its files and folders: WeightFile}.

    Args:
        weights: files, names of the release, or folders of files; default: all usable weights in the weights folder
            (release.weights_folders), or the bundled student where there are none, of which a line is said.

    Raises UserError for a file that is none of our networks, and where there is none.
    """
    found = []
    for path in weights or [None]:
        found += _in_folder(path) if path is None or os.path.isdir(path) else [resolve(path)]
    models = {}
    for item in found:
        item.network()  # raises where it holds no whole SCFNet
        names = item.name, "%s_%s" % (os.path.basename(item.home), item.name)
        free = [name for name in names if name not in models or os.path.samefile(models[name].path, item.path)]
        if not free:
            raise UserError("two weight files are called %s: rename one" % os.path.basename(item.path))
        models[free[0]] = item
    # two runs' final.pdparams: told apart in tables by their folders, or by their whole paths
    for title in (lambda item: "%s/%s" % (os.path.basename(item.home), item.title), lambda item: item.path):
        count = collections.Counter(item.title for item in models.values())
        for item in [item for item in models.values() if count[item.title] > 1]:
            item.title = title(item)
    return models


def _in_folder(folder):
    found = find_weights(folder)
    usable = {item.path for item in found}
    for path in release.weight_files(folder):
        if str(path) not in usable:
            item = WeightFile(path)
            if item.kind != "backbone" and not item.is_bundled:
                say("left out: %s" % (item.problem or "%s is none of our networks" % path))
    ours = bundled() if not found and folder is None else None
    if ours is not None:
        say_once(release.bundled_notice())
        return [ours]
    if not found:
        advice = "get one (kdscfnet weights fetch fs-m3; kdscfnet weights list --links), or name a file: --weights FILE"
        raise UserError("no weights in %s: %s" % (os.path.abspath(str(release.weights_folder(folder))), advice))
    return found


def test_models(models, image_sets, options):
    """Make the maps of every model on every set and score them; what was made before is not made again.

    Args:
        models: {name: WeightFile} of `find_models`.
        image_sets: of kdscfnet.data.find.find_sets_to_test.
        options: ScoreOptions. Maps go to output/maps/<name>/<SET>/<image>.png, scores to output/scores/<name>.json.

    Returns (list of Result, list of sentences on what was not scored). Raises MismatchError and other UserErrors; what
    can be known of that is known before the first map is made.

    Processes of paddle.distributed.launch make a share of the maps each. The first one scores all of them; the others
    return None.
    """
    remarks = _expect_masks(image_sets, options)
    runs = [ModelOnSet(name, model, image_set, options) for name, model in models.items() for image_set in image_sets]
    for run in runs:
        run.require_ours()
    shares, results, problems = Shares(), {}, {}

    def score(run):
        pairs, misfits = pair_up(run.folder, run.set, empty=True)
        unread = {
            name: Problem(UNREADABLE, os.path.basename(image), run.failed[image])
            for name, image in zip(run.set.names, run.set.images)
            if image in run.failed
        }
        told = MISSING_MAP if run.set.masks else MISSING_MASK  # by what is wrong with the image
        misfits = [unread.get(problem.name, problem) if problem.kind == told else problem for problem in misfits]
        wanted = SCORES[options.scores] if options.allow_missing or not misfits else ()
        scored = score_pairs(pairs, misfits, wanted, options.resize, options.threads, run.where if pairs else None)
        found = scored.left_out if run.set.masks else list(unread.values())  # all outputs say of sets without masks
        if found:
            problems[run.where] = found
        result = results.setdefault(run.name, run.empty_result())
        if options.allow_missing or not scored.left_out:
            result.add(run.set, scored)
            write_scores(result, os.path.join(options.output, "scores"))  # what is there stays if a later model fails

    with Meeting(shares, options.output) as meeting:
        for run in _make_together(runs, shares, meeting, options):
            if not shares.together:
                score(run)
        if not shares.first:
            meeting.end([run.failed for run in runs])
            return None
        for failures in meeting.wait_for_others():
            for run, failed in zip(runs, failures):
                run.failed.update(failed)
    for run in runs if shares.together else ():
        score(run)
    check(problems, options, results.values() if any(image_set.masks for image_set in image_sets) else ())
    return list(results.values()), remarks


def _expect_masks(image_sets, options):
    """A list of sentences on sets without masks. Raises UserError where masks or images are missing, unless
    --allow-missing."""
    remarks, problems = [], {}
    for image_set in image_sets:
        if not image_set.masks:
            if not options.allow_missing:
                raise UserError(no_masks(image_set.root) + "; --allow-missing makes its maps and leaves the scores out")
            remarks.append(no_masks(image_set.root) + "; its maps were made, there are no scores")
            continue
        missing = [Problem(MISSING_MASK, name) for name, mask in zip(image_set.names, image_set.masks) if mask is None]
        missing += [Problem(MISSING_MAP, name, "it has a mask and no image") for name in image_set.spare]
        if missing:
            problems[image_set.name] = missing
    if problems and not options.allow_missing:
        check(problems, options)
    return remarks


def _make_together(runs, shares, meeting, options):
    """Make the maps that are lacking, each process its share of every run. Yields a run when its share is made."""
    from kdscfnet.inference.predictor import Predictor

    threads = shares.threads(options.threads)
    predictor = opened = None
    for stage, run in enumerate(runs, 1):
        meeting.wait_for_first(stage)
        if not shares.first:  # the first process has removed what is made again, and recorded the engine
            run.overwrite, run.engine = False, made_by(run.folder).get("engine", run.engine)
        if run.todo():
            if opened != (run.name, run.engine):
                predictor = None  # the network before goes before the next one comes
                model, opened = run.model, (run.name, run.engine)
                predictor = Predictor(model, model.backbone, run.engine, run.size, threads, options.device)
                how = *predictor.size[::-1], predictor.engine, predictor.threads
                say_once("%s: %s, %s at %d×%d, %s on %d threads" % (model.title, model.path, model.backbone, *how))
            if shares.first:
                run.prepare(predictor)
            lacking, mine, before = run.lacking(), set(shares.mine(run.set.images)), meeting.done_by_all()
            if len(lacking) < len(run.set):
                say_once("%s: %d maps were there already" % (run.where, len(run.set) - len(lacking)))
            meeting.reach(stage)
            with progress(total=len(lacking), desc=run.where, disable=not shares.first) as bar:

                def each(bar=bar, before=before):
                    meeting.done += 1
                    bar.update(min(meeting.done_by_all() - before, bar.total) - bar.n)

                jobs = [job for job in lacking if job.input in mine]
                run.failed.update(predict_files(predictor, jobs, show_progress=False, each=each).failed)
        else:
            say_once("%s: all %d maps are there already (%s)" % (run.where, len(run.set), run.folder))
            meeting.reach(stage)
        yield run


class ModelOnSet:
    """One model on one set.

    maps/<model>/<SET>.json records what made the maps, so that maps of other weights, or of another size or engine, are
    never taken for this run's.
    """

    def __init__(self, name, model, image_set, options):
        self.name, self.model, self.set = name, model, image_set
        self.where = "%s, %s" % (model.title, image_set.name)
        self.folder = os.path.normpath(os.path.join(options.output, "maps", name, image_set.name))
        height, width = model.test_size(options.size)
        self.size = height if height == width else [height, width]
        self.overwrite, self.engine = options.overwrite, options.engine
        self.failed = {}  # path of an image that cannot be read -> why
        # an interrupted run goes on with the engine it began with
        if self.engine == "auto" and not self.overwrite:
            self.engine = made_by(self.folder).get("engine", "auto")

    def present(self):
        """{name: path} of the maps that are there."""
        return list_images(self.folder) if os.path.isdir(self.folder) else {}

    def todo(self):
        """Whether maps are lacking, are another engine's, or are all made again."""
        others = self.engine != "auto" and made_by(self.folder).get("engine", self.engine) != self.engine
        return self.overwrite or others or bool(self.lacking())

    def empty_result(self):
        """The Result of the model, without scores; the maps are there, so their engine is known."""
        model, engine = self.model, made_by(self.folder)["engine"]
        details = {"backbone": model.backbone, "size": self.size, "engine": engine, "sha256": model.sha256}
        return Result(self.name, model.title, {}, model.entry.mae if model.entry else {}, model.path, details)

    def require_ours(self):
        """Raise UserError where there are maps that this model, at this size, did not make."""
        if self.overwrite or not self.present():
            return
        record = made_by(self.folder)
        if not record:
            other = "that `kdscfnet test` did not make: score them with `kdscfnet evaluate --maps`, or "
        elif record.get("sha256") != self.model.sha256:
            other = "made with other weights (%s): " % record.get("weights")
        elif record.get("size") != self.size:
            other = "made at size %s, not %s: " % (record.get("size"), self.size)
        else:
            return
        advice = "--overwrite makes them anew, --output DIR puts the new ones elsewhere"
        raise UserError("%s holds maps %s%s" % (self.folder, other, advice))

    def lacking(self):
        """What is to be predicted: a Job for every image without a map, in their order."""
        present, names_and_images = self.present(), zip(self.set.names, self.set.images)
        missing = [(name, image) for name, image in names_and_images if name not in present]
        return [Job(image, {"map": os.path.join(self.folder, name + ".png")}) for name, image in missing]

    def prepare(self, predictor):
        """Record what makes the maps, and remove those of another engine or run."""
        maker = {"sha256": self.model.sha256, "size": self.size, "engine": predictor.engine}
        recorded, present = made_by(self.folder), self.present()
        if self.overwrite or any(recorded.get(key) != value for key, value in maker.items()):
            if present and not self.overwrite:
                engines = self.where, recorded.get("engine"), predictor.engine
                say("%s: maps of the engine %s are made again with %s" % engines)
            # The old ones go first: an interrupted run must not leave two kinds of maps side by side.
            for name in present.keys() & set(self.set.names):
                os.unlink(present[name])
            write_json(self.folder + ".json", dict(weights=self.model.path, **maker))
        # temporary files of the last hour may be another process's
        remove_leftovers([parent for parent, _, _ in os.walk(self.folder)], 3600)
