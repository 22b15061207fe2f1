"""What is known of one weight file, found out once and handed on. Imports no Paddle."""

from __future__ import annotations

import contextlib
import os

import numpy as np

from kdscfnet.errors import UserError, WeightsError
from kdscfnet.files import file_sha256, read_json_object
from kdscfnet.text import shown_path
from kdscfnet.weights import files, networks, release

LARGEST_SIZE = 8192


def as_size(size, name="size is", smallest=1):
    """352, "352", "320x256" or (320, 256) → (height, width), integers. Raises UserError, which begins with `name`."""
    parts = size
    if not isinstance(size, (list, tuple)):
        parts = str(size).lower().replace("×", "x").split("x")
        parts = parts * 2 if len(parts) == 1 else parts
    try:
        sides = [int(str(side)) for side in parts]
    except ValueError:
        sides = []
    if len(sides) != 2 or not smallest <= min(sides) <= max(sides) <= LARGEST_SIZE:
        most = " to %d" % LARGEST_SIZE if sides and max(sides) > LARGEST_SIZE else " or more"
        shown = size if name.startswith("-") else repr(size)  # a flag's text as it was given
        raise UserError("%s %s: %d%s, or HEIGHTxWIDTH" % (name, shown, smallest, most))
    return sides[0], sides[1]


class WeightFile:
    """One weight file: what it holds, which entry of the release it is, and the size that its network is tested at.

    Making one reads keys and shapes, not values; it never raises for a bad file. Whatever takes a path takes it, too.

    Attributes:
        path: a str.
        kind: "scfnet", "backbone" (ImageNet), "exported" (.onnx), "other" (readable, none of our networks) or "broken"
            (`problem` says why, in a line that names the file).
        backbone: of the network in it; "" where there is none.
        entry: the release.Entry that it is, by its name and its network or by its SHA-256, or None.
        is_named: whether it has the name of its `entry`.
        title: the entry's, else the file's name without its suffix.
        sidecar: of an exported network, as a dict; {} where there is none.
    """

    def __init__(self, path):
        self.path = os.fspath(path)
        self.name = os.path.splitext(os.path.basename(self.path))[0]
        self.backbone, self.entry, self.title, self.problem = "", None, self.name, ""
        self.is_named, self.sidecar, self._sha256 = False, {}, None
        try:
            self.kind = self._look()
        except (UserError, OSError) as error:
            self.kind, self.problem = "broken", str(error)

    def __fspath__(self):
        return self.path

    __str__ = __fspath__

    def _look(self):
        if self.path.lower().endswith(".onnx"):
            self.sidecar = self._read_sidecar()
            self.backbone, self.title = self.sidecar.get("backbone", ""), "an exported network"
            return "exported"
        entries = release.release().entries
        named = [entry for entry in entries if os.path.splitext(entry.file)[0].lower() == self.name.lower()]
        # one of ours is known by its bytes; to read the keys takes a part of the time to the first map
        can_be = os.path.isfile(self.path) and os.access(self.path, os.R_OK)
        ours = [(one.kind, one.backbone) for one in named if can_be and one.sha256 and one.sha256 == self.sha256]
        same = ours[0] if ours else networks.identify(files.read_weights(self.path, lazy=True))
        kind, self.backbone = same
        if kind != "scfnet":
            self.title = release.holding(kind, self.backbone)
        entries, named = ([one for one in some if (one.kind, one.backbone) == same] for some in (entries, named))
        self.is_named = bool(named)
        # a copy under another name
        for entry in named or [one for one in entries if one.sha256 and one.sha256 == self.sha256]:
            self.entry, self.title = entry, entry.title
        return kind

    def _read_sidecar(self):
        beside = self.path + ".json"
        if not os.path.isfile(beside):
            return {}
        sidecar = read_json_object(beside)
        try:
            expected = sidecar["file"]["sha256"]
            as_size(sidecar["test_size"])
        except (KeyError, TypeError, UserError):
            raise UserError("%s is no sidecar of an exported network: export anew, or remove it" % beside)
        if expected != self.sha256:
            names = self.path, os.path.basename(beside)
            raise UserError("%s is not the file that %s describes: export it anew" % names)
        return sidecar

    @property
    def is_bundled(self):
        return self.is_named and self.entry in release.release().ours

    @property
    def home(self):
        """The folder that tells a file from others of its name: of the run that wrote it, else the one it lies in."""
        folder = os.path.dirname(os.path.abspath(self.path))
        above = os.path.dirname(folder)  # of best.pdparams and the epochs of the last third
        is_runs = os.path.basename(folder) == "weights" and os.path.isfile(os.path.join(above, "run.json"))
        return above if is_runs else folder

    @property
    def sha256(self):
        """The SHA-256 of the file, in hexadecimal; computed once."""
        if self._sha256 is None:
            self._sha256 = file_sha256(self.path)
        return self._sha256

    def network(self):
        """The backbone of the SCFNet in the file. Raises WeightsError where it holds none."""
        if self.kind in ("broken", "other"):
            self.verify()  # raises what is wrong
        if self.kind != "scfnet":
            reason = "holds %s, not the weights of a whole SCFNet" % self.title
            raise WeightsError(shown_path(self.path), reason)
        return self.backbone

    def verify(self, entry=None):
        """Check the file whole: structure, dtypes, finite values, and for an `entry` that it is that one (its network,
        its checksum where the release has one). Without `entry`, a file that has the very name of one is compared with
        that one's checksum.

        Returns (files.LoadReport, which entry it is byte for byte, to be read; "" where the release has no checksum).
        Raises WeightsError with what is wrong.
        """
        name = shown_path(self.path)
        arrays, report = files.read_file(self.path)
        report.parameters = count_parameters(arrays)
        kind, backbone = networks.identify(arrays)
        if entry is not None and (kind, backbone) != (entry.kind, entry.backbone):
            holds = release.holding(kind, backbone), release.holding(entry.kind, entry.backbone)
            raise WeightsError(name, "holds %s, not %s" % holds)
        if kind == "other":
            # the network it is nearest to says best what is wrong
            found = {key: tuple(array.shape) for key, array in arrays.items()}.items()
            alike = {name: len(found & table.items()) for name, table in networks.shape_tables().items()}
            kind, backbone = "scfnet", max(alike, key=alike.get)
            if not alike[backbone]:
                raise WeightsError(name, "holds %d arrays, none of them of a network of ours" % len(arrays))
        shapes, unused = networks.expected(kind, backbone)
        files.fit(arrays, shapes, report, backbone, unused)
        # a .safetensors file made from a published one has its stem only, and not its bytes
        file = os.path.basename(self.path).lower()
        namesakes = (each for each in release.release().entries if each.file.lower() == file)
        entry = entry or next(namesakes, None if self.is_named else self.entry)
        if entry is None or not (entry.sha256 or entry.md5):
            return report, ""
        digest = self.sha256 if entry.sha256 else file_sha256(self.path, "md5")
        names = release.described(entry), "SHA-256" if entry.sha256 else "MD5"
        if digest != (entry.sha256 or entry.md5):
            raise WeightsError(name, "has the name of %s, but its %s differs: it is another file, or damaged" % names)
        return report, "%s, byte for byte (by its %s)" % names

    def test_size(self, size=None):
        """(height, width) of the network's input at test time. The sources, first one first: `size`, the caller's; the
        run of `kdscfnet train` that wrote the file; the release; the sidecar of an exported network; the backbone."""
        if size is not None:
            return as_size(size)
        of_run = read_json_object(os.path.join(self.home, "run.json")).get("test_size")
        if self.kind != "exported" and type(of_run) in (int, list):
            with contextlib.suppress(UserError):
                return as_size(of_run)
        published, usual = self.entry and self.entry.test_size, 384 if self.backbone == "swin_b" else 352
        return as_size(published or self.sidecar.get("test_size") or usual)


def resolve(weights=None):
    """The WeightFile of what a user names.

    Args:
        weights: a path; a name of the release that `kdscfnet weights list` shows, or "bundled"; None: the best student
            in the weights folder, a published one before others, else the bundled one; a WeightFile is returned.

    Raises UserError with what to do where there is none.
    """
    if isinstance(weights, WeightFile):
        return weights
    if weights is None:
        students = find_weights(backbone="mobilenetv3")
        if students:  # the best by the paper's MAE, which a copy of ours has not
            return min(students, key=lambda one: (one.entry.mae.get("ECSSD", 1.0) if one.entry else 1.0, one.path))
    if weights is None or (weights == "bundled" and not os.path.exists(weights)):
        student = bundled()
        if student is None:
            folder = os.path.abspath(str(release.weights_folder()))
            advice = "kdscfnet weights fetch kd-stb gets some, --weights names others"
            raise UserError("there are no weights in %s: %s" % (folder, advice))
        return student
    if os.path.isdir(weights):
        raise UserError("%s is a folder: name a weight file in it" % weights)
    weight_file = WeightFile(weights if os.path.exists(weights) else _of_the_release(os.fspath(weights)))
    if weight_file.kind == "broken" and weight_file.path.lower().endswith(".onnx"):
        raise UserError(weight_file.problem)
    return weight_file


def _of_the_release(name):
    if os.sep in name or os.path.splitext(name)[1]:
        raise UserError("there is no weight file %s" % name)
    entry = release.release().find(name)
    if entry.kind == "backbone":
        raise UserError("%s is an ImageNet backbone, which makes no saliency maps: name a model" % name)
    for folder in release.weights_folders():
        if (folder / entry.file).is_file():
            return folder / entry.file
    ways = name, entry.name, release.how_to_get(entry)
    raise UserError("%s is not here yet: kdscfnet weights fetch %s, or %s" % ways)


def find_weights(folder=None, backbone=None, kind="scfnet"):
    """The usable SCFNet weights in the weights folder: WeightFiles, published ones first, in the order of the release.

    Without a `folder` that is named, and where the weights folder has none: those in the user's. The bundled ones,
    which a clone has there, are not among them. `backbone`: only weights with this one. `kind`: or else "backbone"."""
    paths = [release.path_of_ours(entry.file) for entry in release.release().ours]
    found, ours = [], {os.path.realpath(path) for path in paths if path}
    for each in release.weights_folders(folder):
        if not found:
            # what lies where it came is not even read: it takes a part of the time to the first map
            others = [path for path in release.weight_files(each) if os.path.realpath(path) not in ours]
            found = [item for item in map(WeightFile, others) if item.kind == kind and not item.is_bundled]
            found = [item for item in found if backbone in (None, item.backbone)]
    order = list(release.release())
    return sorted(found, key=lambda item: order.index(item.entry) if item.entry in order else len(order))


def bundled():
    """The student that comes with the package, or None where it was taken away.

    This project trained it on 10,353 photographs (weights/scfnet_mobilenetv3_duts10k.md); it is not the authors'.
    Raises UserError where it is damaged.
    """
    path = release.path_of_ours(release.release().bundled.file)
    if path is None:
        return None
    student = WeightFile(path)
    if student.kind == "broken":
        advice = "the bundled student is damaged: install kdscfnet again, or name other weights by --weights"
        raise UserError("%s: %s" % (student.problem, advice))
    return student


def count_parameters(arrays):
    """Numbers in a model: trainable ones and BatchNorm statistics, without derived buffers."""
    return sum(int(np.prod(array.shape)) for key, array in arrays.items() if not networks.is_derived(key))
