"""The release as data: which weights exist, where they go, what is in the weights folder, and how to get the rest.

Opens no weight file: kdscfnet/weights/weightfile.py says what one is, kdscfnet/weights/download.py downloads.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass, field
from pathlib import Path

from kdscfnet.errors import UserError
from kdscfnet.text import shown_path

ENVIRONMENT = "KDSCFNET_WEIGHTS"
MIRROR = "KDSCFNET_MIRROR"
CHECKOUT = Path(__file__).resolve().parents[2]
DRIVE_PAGE = "https://drive.google.com/file/d/%s/view"
# `confirm=t` skips the page that warns of large files
DRIVE_FILE = "https://drive.usercontent.google.com/download?id=%s&export=download&confirm=t"
SUFFIXES = (".pdparams", ".safetensors")


@dataclass(frozen=True)
class Entry:
    """One file of the release: a published SCFNet or ImageNet backbone, or a bundled student or backbone.

    kind: "scfnet" or "backbone". name: the recipe, or the backbone. url: of the file. page: for people, with a browser.
    teacher: a backbone, or "". test_size: side of the square input, in pixels. mae: test set → the paper's mean
    absolute error. cache: where the library that publishes a backbone keeps its downloads. What the bundled student
    scored is ours and stands in `measured`; its `mae` is empty. origin, licence: of a backbone that is bundled.
    """

    kind: str
    name: str
    title: str
    file: str
    backbone: str
    url: str = ""
    page: str = ""
    teacher: str = ""
    test_size: int = 0
    mae: dict = field(default_factory=dict)
    measured: dict = field(default_factory=dict)
    maps_page: str = ""
    cache: str = ""
    origin: str = ""
    licence: str = ""
    sha256: str = ""
    md5: str = ""
    onnx_sha256: str = ""  # of the exported network that comes with the bundled student

    def is_called(self, name):
        """Whether `name` means this one: its name, its title, its file with or without the suffix, in any letters."""
        return name.lower() in map(str.lower, (self.name, self.title, self.file, os.path.splitext(self.file)[0]))

    @property
    def scores(self):
        """What we measured, to be read: `0.068 on ECSSD, 0.114 on DUTS-TE`."""
        return ", ".join("%.3f on %s" % (mae, name) for name, mae in self.measured.items())


def holding(kind, backbone):
    """What a file of that kind holds, to be read: `SCFNet with the backbone resnet50`."""
    kinds = {"scfnet": "SCFNet with the backbone ", "backbone": "the ImageNet backbone "}
    return kinds[kind] + backbone if backbone else "none of our networks"


@dataclass(frozen=True)
class Release:
    models: tuple
    backbones: tuple
    bundled: Entry
    baidu: str
    baidu_code: str
    starts: tuple  # backbones of ours to start a training from

    @property
    def ours(self):
        """The entries that come with the package. Iterating gives the published ones."""
        return (self.bundled, *self.starts)

    def __iter__(self):
        return iter(self.models + self.backbones)

    @property
    def entries(self):
        """All of them: the published ones, then those that come with the package."""
        return (*self, *self.ours)

    def find(self, name):
        """The published entry of that recipe, title, backbone or file name. Raises UserError."""
        for entry in self:
            if entry.is_called(name):
                return entry
        raise UserError("there is no '%s' in the release: one of %s" % (name, ", ".join(entry.name for entry in self)))


@functools.lru_cache(maxsize=1)
def release():
    """The release: weights/manifest.yaml of a clone, or the copy that a wheel carries."""
    import yaml

    # libyaml, where PyYAML was built with it, takes a tenth of the time
    text = path_of_ours("manifest.yaml").read_text(encoding="utf-8")
    data = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))

    def model(recipe, teacher, drive=None, maps_drive=None, **item):
        links = {"url": DRIVE_FILE % drive, "page": DRIVE_PAGE % drive, "maps_page": DRIVE_PAGE % maps_drive}
        return Entry("scfnet", recipe, teacher=teacher or "", **(links if drive else {}), **item)

    models = tuple(model(**item) for item in data["models"])
    backbones = tuple(Entry("backbone", item["backbone"], page=item["url"], **item) for item in data["backbones"])
    starts = tuple(Entry("backbone", **item) for item in data["starts"])
    return Release(models, backbones, model(**data["bundled"]), data["baidu"]["url"], data["baidu"]["code"], starts)


def path_of_ours(file):
    """Where a file that comes with the package is, in a wheel or in the clone: a Path, or None."""
    for path in (Path(__file__).with_name(file), CHECKOUT / "weights" / file):
        if path.is_file():
            return path
    return None


def weights_folder(folder=None):
    """Where weights are: `folder` (a flag) if given, else $KDSCFNET_WEIGHTS, else ./weights if there is one, else the
    weights folder of the clone this package runs from, else the user's. Returns a Path; creates nothing."""
    chosen = folder or os.environ.get(ENVIRONMENT)
    if chosen:
        path = Path(os.path.expanduser(str(chosen)))
        if path.exists() and not path.is_dir():
            raise UserError("the weights folder %s is a file, not a folder" % shown_path(path))
        return path
    here = Path("weights")
    clone = CHECKOUT / "weights"
    if here.is_dir():
        return here
    return clone if (clone / "manifest.yaml").is_file() else users_folder()


def weights_folders(folder=None):
    """Where weights are looked for, in this order: `weights_folder` and, unless `folder` names it, the user's."""
    first = weights_folder(folder)
    return [first] if folder or first == users_folder() else [first, users_folder()]


def users_folder():
    """Where weights are that are found from every folder: those that were fetched where there was no weights folder."""
    return cache_folder() / "weights"


def cache_folder():
    """The user's folder: $KDSCFNET_CACHE, else kdscfnet in $XDG_CACHE_HOME or ~/.cache."""
    home = os.environ.get("KDSCFNET_CACHE")
    if home:
        return Path(home)
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "kdscfnet"


def weight_files(folder=None):
    """Paths of all weight files in the weights folder and its subfolders, sorted; no hidden or unfinished ones."""
    paths = []
    for parent, folders, names in os.walk(str(weights_folder(folder))):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        names = [name for name in sorted(names) if not name.startswith(".") and name.lower().endswith(SUFFIXES)]
        paths += [Path(parent, name) for name in names]
    return paths


def bundled_notice():
    """The line that is said where the bundled student stands in for weights that are not there."""
    here, ours = shown_path(os.path.abspath(str(weights_folder()))), release().bundled
    line = "no other student in %s: using the bundled %s, ours and not the authors' (MAE %s); theirs: "
    return line % (here, ours.title, ours.scores) + "weights fetch kd-stb"


def how_to_get(entry, folder=None):
    """One line: links, code, file name and folder, for a download by hand."""
    where = "save it as %s in %s" % (entry.file, os.path.abspath(str(weights_folder(folder))))
    if entry.kind == "backbone":
        return "get it from %s and %s" % (entry.page, where)
    links = entry.page, release().baidu, release().baidu_code
    return "get it from %s or from Baidu, %s (code %s), and %s" % (*links, where)


def described(entry):
    """An entry for a message: `the published KD-SCFNet (R50)`."""
    return "the %s %s" % ("bundled" if entry in release().ours else "published", entry.title)
