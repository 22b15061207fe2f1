"""The release as data: which weights exist, where to put them, what is there, and how to get the rest.

    release()                 weights/manifest.yaml as objects
    find_weights(folder)      the usable SCFNet weights in the weights folder
    bundled()                 the student that comes with the package, for where there are no others
    inspect_file(path)        what one file is
    fetch(entry, folder)      download, verified before it gets its name (kdscfnet/weights/download.py)
    load_backbone(model, …)   ImageNet weights into a model's backbone: path, "auto" or "none"

Imports no Paddle, but for load_backbone.
"""

from __future__ import annotations

import functools
import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from kdscfnet.errors import UserError, WeightsError
from kdscfnet.files import file_digest, file_sha256
from kdscfnet.text import shown_path
from kdscfnet.weights import files
from kdscfnet.weights.weightfile import test_size

ENVIRONMENT = "KDSCFNET_WEIGHTS"
MIRROR = "KDSCFNET_MIRROR"
CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Model:
    """A published SCFNet. `mae`: test set → the card's mean absolute error. `teacher`: a backbone, or "".

    The bundled student is one too: published by us, so `mae` is empty and what we measured stands in `measured`.
    """

    recipe: str
    title: str
    file: str
    backbone: str
    teacher: str
    test_size: int
    mae: dict
    url: str
    page: str  # for people, with a browser
    maps_page: str
    sha256: str = ""
    md5: str = ""
    measured: dict = field(default_factory=dict)

    @property
    def names(self):
        """What `fetch` accepts: the recipe, the title, the file."""
        return (self.recipe, self.title, self.file, os.path.splitext(self.file)[0])

    @property
    def scores(self):
        """What we measured, to be read: `0.068 on ECSSD, 0.114 on DUTS-TE`."""
        return ", ".join("%.3f on %s" % (mae, name) for name, mae in self.measured.items())

    is_backbone = False


@dataclass(frozen=True)
class Backbone:
    """A published ImageNet backbone."""

    backbone: str
    title: str
    file: str
    url: str
    page: str
    cache: str  # where the library that publishes it keeps its downloads
    sha256: str = ""
    md5: str = ""

    @property
    def names(self):
        return (self.backbone, self.title, self.file, os.path.splitext(self.file)[0])

    is_backbone = True


@dataclass(frozen=True)
class Release:
    models: tuple
    backbones: tuple
    baidu: str
    baidu_code: str
    bundled: Model

    def __iter__(self):
        return iter(self.models + self.backbones)

    def find(self, name):
        """The entry of that recipe, title, backbone or file name. Raises UserError."""
        wanted = name.lower()
        for entry in self:
            if wanted in (known.lower() for known in entry.names):
                return entry
        raise UserError(
            "there is no '%s' in the release: one of %s"
            % (name, ", ".join([m.recipe for m in self.models] + [b.backbone for b in self.backbones]))
        )


@functools.lru_cache(maxsize=1)
def release():
    """The release: weights/manifest.yaml of a clone, or the copy that a wheel carries."""
    import yaml

    for path in (Path(__file__).with_name("manifest.yaml"), CHECKOUT / "weights" / "manifest.yaml"):
        if path.is_file():
            break
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    models = []
    for item in data["models"]:
        drive, maps = item.pop("drive"), item.pop("maps_drive")
        item["teacher"] = item["teacher"] or ""
        models.append(Model(url=drive_url(drive), page=drive_page(drive), maps_page=drive_page(maps), **item))
    backbones = [Backbone(page=item["url"], **item) for item in data["backbones"]]
    ours = data["bundled"]
    ours["teacher"] = ours["teacher"] or ""
    ours = Model(mae={}, url="", page="", maps_page="", **ours)
    return Release(tuple(models), tuple(backbones), data["baidu"]["url"], data["baidu"]["code"], ours)


def drive_url(identifier):
    """The direct link of a Google Drive file; `confirm=t` skips the page that warns of large files."""
    return "https://drive.usercontent.google.com/download?id=%s&export=download&confirm=t" % identifier


def drive_page(identifier):
    return "https://drive.google.com/file/d/%s/view" % identifier


def weights_folder(folder=None):
    """Where weights are: `folder` (a flag) if given, else $KDSCFNET_WEIGHTS, else ./weights if there is one, else the
    weights folder of the clone this package runs from, else ./weights. Returns a Path; creates nothing."""
    chosen = folder or os.environ.get(ENVIRONMENT)
    if chosen:
        path = Path(os.path.expanduser(str(chosen)))
        if path.exists() and not path.is_dir():
            raise UserError("the weights folder %s is a file, not a folder" % shown_path(path))
        return path
    here = Path("weights")
    clone = CHECKOUT / "weights"
    return clone if not here.is_dir() and (clone / "manifest.yaml").is_file() else here


@dataclass
class Found:
    """A weight file: what it holds, and which entry of the release it is (by file name and structure).

    kind: "scfnet", "backbone" (ImageNet), "other" (readable, none of our networks) or "broken" (`problem` says why).
    teacher: a backbone, "" without teacher, None where not known. test_size: the side of the square network input, in
    pixels. mae: test set → the card's MAE, empty unless `entry` is a published model.
    """

    path: Path
    kind: str
    backbone: str = ""
    entry: object = None
    title: str = ""
    teacher: object = None
    test_size: int = 0
    mae: dict = field(default_factory=dict)
    parameters: int = 0
    problem: str = ""

    @property
    def is_bundled(self):
        return self.entry is not None and self.entry == release().bundled


def inspect_file(path):
    """What the file at `path` is, by its keys and shapes (its values are not read). Never raises for a bad file."""
    path = Path(path)
    try:
        arrays = files.read_weights(path, lazy=True)
    except WeightsError as error:
        return Found(path, "broken", problem=str(error))
    parameters = count_parameters(arrays)
    backbone = files.identify(arrays)
    if backbone is None:
        backbone = files.identify_backbone(arrays)
        kind = "backbone" if backbone else "other"
        entry = _entry(path, backbone, release().backbones)
        title = entry.title if entry else "ImageNet backbone %s" % backbone if backbone else "not a network of ours"
        return Found(path, kind, backbone or "", entry, title, parameters=parameters)
    entry = find_model(path, backbone)
    size = test_size(path, backbone)
    if entry is None:
        return Found(path, "scfnet", backbone, title=path.stem, test_size=size, parameters=parameters)
    return Found(path, "scfnet", backbone, entry, entry.title, entry.teacher, size, entry.mae, parameters)


def find_model(path, backbone):
    """The published or bundled Model that the file at `path` is by its name and backbone, or None."""
    return _entry(Path(path), backbone, (*release().models, release().bundled))


def _entry(path, backbone, entries):
    for entry in entries:
        if entry.backbone == backbone and os.path.splitext(entry.file)[0].lower() == path.stem.lower():
            return entry
    return None


def count_parameters(arrays):
    """Numbers in a model: trainable ones and BatchNorm statistics, without derived buffers."""
    return sum(_product(array.shape) for key, array in arrays.items() if not files.is_derived(key))


def _product(shape):
    product = 1
    for side in shape:
        product *= int(side)
    return product


def weight_files(folder=None):
    """Paths of all weight files in the weights folder and its subfolders, sorted; no hidden or unfinished ones."""
    root = weights_folder(folder)
    paths = []
    for parent, folders, names in os.walk(str(root)):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths += [
            Path(parent, name)
            for name in sorted(names)
            if not name.startswith(".") and name.lower().endswith(files.SUFFIXES)
        ]
    return paths


def find_weights(folder=None):
    """The usable SCFNet weights in the weights folder: a list of Found, published ones first, in the card's order.

    The bundled student, which a clone has there, is not among them."""
    order = {entry.recipe: number for number, entry in enumerate(release().models)}
    found = [item for item in map(inspect_file, weight_files(folder)) if item.kind == "scfnet" and not item.is_bundled]
    return sorted(found, key=lambda item: order[item.entry.recipe] if item.entry else len(order))


def bundled():
    """The student that comes with the package, a Found, or None where it was taken away.

    It was trained by this project on 4,000 photographs (weights/scfnet_mobilenetv3_duts4k.md); it is not the authors'.
    """
    name = release().bundled.file
    for path in (Path(__file__).with_name(name), CHECKOUT / "weights" / name):
        if path.is_file():
            return inspect_file(path)
    return None


def say_of_bundled(folder=None):
    """The line that is said where the bundled student stands in for weights that are not there."""
    return (
        "no other student in %s: using the bundled %s, ours and not the authors' (MAE %s); theirs: weights fetch kd-stb"
        % (
            shown_path(os.path.abspath(str(weights_folder(folder)))),
            release().bundled.title,
            release().bundled.scores,
        )
    )


def how_to_get(entry, folder=None):
    """One line: links, code, file name and folder, for a download by hand."""
    where = "save it as %s in %s" % (entry.file, os.path.abspath(str(weights_folder(folder))))
    if entry.is_backbone:
        return "get it from %s and %s" % (entry.page, where)
    return "get it from %s or from Baidu, %s (code %s), and %s" % (
        entry.page,
        release().baidu,
        release().baidu_code,
        where,
    )


@dataclass
class Verified:
    """The outcome of `verify`: what a good file is."""

    found: Found
    sha256: str
    size: int  # bytes
    report: object  # files.LoadReport
    same_as: object = None  # the Model or Backbone that it is by its checksum
    checksum: str = ""  # "SHA-256" or "MD5": by which


def verify(path, entry=None):
    """Check a file whole: structure, dtypes, finite values, and for an `entry` that it is that one (its network, its
    checksum where the release has one). Without `entry`, a file that has the very name of one is compared with that
    one's checksum. Returns Verified; raises WeightsError with what is wrong."""
    path = Path(path)
    name = shown_path(path)
    arrays, report = files.read_file(path)
    backbone, kind = files.identify(arrays), "scfnet"
    if backbone is None:
        backbone, kind = files.identify_backbone(arrays), "backbone"
    if entry is not None:
        wanted = "the ImageNet backbone " if entry.is_backbone else "SCFNet with the backbone "
        if backbone != entry.backbone or (kind == "backbone") != entry.is_backbone:
            held = (
                "none of our networks"
                if backbone is None
                else (("the ImageNet backbone " if kind == "backbone" else "SCFNet with the backbone ") + backbone)
            )
            raise WeightsError("%s: holds %s, not %s%s" % (name, held, wanted, entry.backbone))
    if backbone is None:
        # the network it is nearest to says best what is wrong
        backbone = max(files.shape_tables(), key=lambda table: _likeness(arrays, files.shape_tables()[table]))
        if not _likeness(arrays, files.shape_tables()[backbone]):
            raise WeightsError("%s: holds %d arrays, none of them of a network of ours" % (name, len(arrays)))
        kind = "scfnet"
    if kind == "backbone":
        files.fit(arrays, files.backbone_shapes(backbone), report, backbone, files.CLASSIFIER[backbone])
    else:
        files.fit(arrays, files.shape_tables()[backbone], report, backbone)
    digest, same_as, compared = file_sha256(path), None, ""
    by_name = entry is None
    if by_name:
        entry = namesake(path)
    if entry is not None:
        for kind, wanted in (("SHA-256", entry.sha256), ("MD5", entry.md5)):
            if not wanted:
                continue
            if wanted == (digest if kind == "SHA-256" else file_digest(path, hashlib.md5())):
                same_as, compared = entry, compared or kind
            elif by_name:
                raise WeightsError(
                    "%s: has the name of %s, but its %s differs: it is another file, or damaged"
                    % (name, described(entry), kind)
                )
            else:
                raise WeightsError("%s: is not the published file: its %s differs" % (name, kind))
    return Verified(inspect_file(path), digest, path.stat().st_size, report, same_as, compared)


def namesake(path):
    """The entry, published or bundled, whose file has the name of `path`, suffix and all, or None. A .safetensors file
    made from it shares its stem only, and not its bytes."""
    for entry in (*release(), release().bundled):
        if entry.file.lower() == Path(path).name.lower():
            return entry
    return None


def described(entry):
    """An entry for a message: `the published KD-SCFNet (R50)`."""
    return "the %s %s" % ("bundled" if entry == release().bundled else "published", entry.title)


def _likeness(arrays, table):
    return sum(key in arrays and tuple(arrays[key].shape) == shape for key, shape in table.items())


def fetch(entry, folder=None, force=False, mirror=None, **options):
    """Download `entry` (a Model or Backbone) into the weights folder; returns its Path. Nothing is written elsewhere.

    A file that is there already and is right is kept. `mirror` (or $KDSCFNET_MIRROR): the address of a folder that has
    the files under their names in the manifest, to be asked instead of Google Drive or the libraries' servers.
    `options` are those of kdscfnet.weights.download.download. Raises WeightsError with the way to get it by hand.
    """
    from kdscfnet.weights.download import DownloadError, download

    mirror = mirror or os.environ.get(MIRROR)
    url = "%s/%s" % (mirror.rstrip("/"), quote(entry.file)) if mirror else entry.url
    target = weights_folder(folder) / entry.file
    if target.exists() and not force:
        try:
            verify(target, entry)
        except WeightsError as error:
            raise WeightsError("%s; delete it, or say --force to download it again" % error)
        return target
    try:
        download(url, target, check=lambda path: verify(path, entry), limit=_limit(entry), **options)
    except DownloadError as error:
        raise WeightsError("%s: %s; %s" % (entry.title, error, how_to_get(entry, folder)))
    return target


def _limit(entry):
    """Bytes that a download of `entry` cannot exceed: float64, at protocol 2, with a classifier."""
    shapes = files.shape_tables()[entry.backbone].values()
    return (16 << 20) + 12 * sum(_product(shape) for shape in shapes)


# ImageNet weights of the backbones -----------------------------------------------------------------------------------


def find_backbone(backbone, folder=None):
    """The path of ImageNet weights for `backbone` in the weights folder, else in the cache of the library that
    publishes them, else None."""
    entry = next(item for item in release().backbones if item.backbone == backbone)
    named = [weights_folder(folder) / entry.file, Path(os.path.expanduser(entry.cache)) / entry.file]
    others = [path for path in weight_files(folder) if path != named[0]]
    for path in [named[0], *others, named[1]]:
        if path.is_file():
            found = inspect_file(path)
            if found.kind == "backbone" and found.backbone == backbone:
                return path
    return None


def load_backbone(model, source, folder=None, **options):
    """Start a model's backbone from ImageNet weights.

    Args:
        model: kdscfnet.SCFNet.
        source: a path; "auto": the weights folder, then PaddleClas's or Paddle's own cache, then a download into the
            weights folder; "none": nothing is loaded.

    The file must hold every entry of the backbone; the classifier in it is not used. Returns a LoadReport, or None for
    "none". Raises WeightsError as `load_weights` does; the model is as it was then.
    """
    if source == "none":
        return None
    if source == "auto":
        entry = next(item for item in release().backbones if item.backbone == model.backbone)
        path = find_backbone(model.backbone, folder)
        if path is None:
            try:
                path = fetch(entry, folder, **options)
            except WeightsError as error:
                raise WeightsError("%s; or start from random numbers: --pretrained none" % error)
    else:
        path = source
    arrays, report = files.read_file(path)
    state = model.bkbone.state_dict()
    if files.identify(arrays):
        raise WeightsError(
            "%s: holds a whole SCFNet, not the ImageNet weights of a backbone that --pretrained takes" % report.path
        )
    other = files.identify_backbone(arrays)
    if other and other != model.backbone:
        raise WeightsError("%s: holds ImageNet weights of %s, not of %s" % (report.path, other, model.backbone))
    shapes = {key: tuple(tensor.shape) for key, tensor in state.items()}
    chosen = files.fit(arrays, shapes, report, "backbone " + model.backbone, files.CLASSIFIER[model.backbone])
    files.assign(state, chosen)
    return report
