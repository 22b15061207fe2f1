"""What this machine has, what is wrong with it, and the command that mends it.

Three steps: `look` gathers facts, and imports nothing that may crash into this process (versions come from the
packages' metadata; whether a module imports is tried in a process of its own); kdscfnet.diagnosis turns facts into
findings; `report` makes the text.
"""

from __future__ import annotations

import importlib
import os
import platform
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import kdscfnet
from kdscfnet import dependencies
from kdscfnet.child import Crashed, in_child
from kdscfnet.diagnosis import PROBED
from kdscfnet.errors import UserError
from kdscfnet.files import existing_folder, write_error
from kdscfnet.weights.release import weight_files, weights_folder

OPENCVS = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")


@dataclass
class Facts:
    """What `look` found. A probe is what a function found in a process of its own, {"error": …} where that failed."""

    python: tuple
    packages: dict  # lower-case name → version
    probes: dict  # module → probe of its import, and "files" → that of `look_at_files`
    absent: dict  # of what predicts: package that is not there → requirement
    absent_training: dict  # of what trains and scores, Paddle included
    absent_export: dict
    gpus: list  # by the driver, whether Paddle can use them or not
    weights: str
    weights_error: str  # why nothing can be written there, "" if it can
    data: str
    free: dict  # folder → bytes

    def version(self, *names):
        """The version of the first of these packages that is installed, as numbers: (3, 3, 1); () for none."""
        text = next((self.packages[name] for name in names if name in self.packages), "")
        return tuple(int(part) for part in re.findall(r"\d+", re.match(r"[\d.]*", text).group()))

    def error(self, module):
        return self.probes.get(module, {}).get("error", "")

    @property
    def paddle(self):
        """The version of Paddle by the metadata, as numbers; () where it has none."""
        return self.version("paddlepaddle-gpu", "paddlepaddle")

    @property
    def opencvs(self):
        return [name for name in OPENCVS if name in self.packages]


def look(data="data", weights=None):
    """Gather the facts. Takes a few seconds; writes nothing but a file without a name in the weights folder."""
    try:
        weights = str(weights_folder(weights))
    except UserError:  # it is a file, which `write_error` will say
        weights = str(weights or os.environ["KDSCFNET_WEIGHTS"])
    with ThreadPoolExecutor(2) as pool:
        probes = {name: pool.submit(probe, "try_import", name=name) for name in PROBED if dependencies.is_there(name)}
        probes["files"] = pool.submit(probe, "look_at_files", data=data, weights=weights)
    gpus = nvidia_gpus()
    read, lacking = dependencies.read, dependencies.lacking
    return Facts(
        python=tuple(sys.version_info[:3]),
        packages=installed(),
        probes={name: future.result() for name, future in probes.items()},
        absent=lacking(read("base")),
        absent_training=lacking(read("evaluate", "train", "gpu" if gpus else "cpu")),
        absent_export=lacking(read("onnx")),
        gpus=gpus,
        weights=weights,
        weights_error=write_error(weights),
        data=data,
        free={folder: shutil.disk_usage(folder).free for folder in {existing_folder("."), existing_folder(weights)}},
    )


def probe(function, seconds=180, **arguments):
    """Call a function of this module in a process of its own. error: its last line, or what ended it."""
    try:
        return in_child("kdscfnet.doctor:" + function, {"PYTHONWARNINGS": "ignore"}, seconds, **arguments)
    except Crashed as crash:
        return {"error": str(crash)}


def try_import(name):
    """Import a module, and compute a little with Paddle. Returns what is to be known of it, as a dict."""
    module = importlib.import_module(name)
    info = {"version": str(getattr(module, "__version__", ""))}
    if name == "paddle":
        info.update(cuda=bool(module.is_compiled_with_cuda()), gpus=[], archs=[])
        if info["cuda"]:
            info["cuda_version"] = str(module.version.cuda())
            info["archs"] = [int(arch) for arch in getattr(module.version, "compiled_cuda_archs", ())]
            try:
                for index in range(module.device.cuda.device_count()):
                    one = module.device.cuda.get_device_properties(index)
                    gpu = "%s, %.0f GB" % (one.name, one.total_memory / 2**30)
                    info["gpus"].append([gpu, [one.major, one.minor]])
            except Exception as error:
                info["gpu_error"] = str(error).strip().splitlines()[-1]
        module.set_device("cpu")
        assert float(module.nn.functional.relu(module.ones([2, 2])).sum()) == 4
    return info


def look_at_files(data, weights):
    """The data sets and weight files of two folders, a line for each. Needs numpy and OpenCV."""
    from kdscfnet.data.find import find_image_set
    from kdscfnet.data.names import sub_folders
    from kdscfnet.weights.weightfile import WeightFile

    info = {"sets": [], "weights": []}
    for folder in sub_folders(data) if os.path.isdir(data) else ():
        try:
            info["sets"].append(find_image_set(folder, masks="partial").describe())
        except UserError as error:
            info["sets"].append(str(error))
    for path in weight_files(weights):
        found = WeightFile(path)
        what = found.problem or (found.title if found.entry else " ".join((found.kind, found.backbone)))
        info["weights"].append("%s (%s)" % (os.path.relpath(str(path), weights), what))
    return info


def installed(**options):
    """Installed packages, lower-case name with dashes → version, by their metadata; first on the module path wins."""
    try:
        from importlib import metadata
    except ImportError:  # Python 3.7
        import importlib_metadata as metadata

    found = {}
    for distribution in metadata.distributions(**options):
        name = distribution.metadata["Name"]
        if name:
            found.setdefault(re.sub(r"[-_.]+", "-", name).lower(), distribution.version)
    return found


def nvidia_gpus():
    """Names of the GPUs that the NVIDIA driver sees."""
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.decode(errors="replace").split("\n")[:-1] if done.returncode == 0 else []


def describe(facts):
    """What is there, as (title, text) in the order of printing."""

    def version(module, package=None):
        if module not in facts.probes:
            return "-"
        text = facts.probes[module].get("version") or facts.packages.get(package or module, "")
        return "%s (does not import)" % text if facts.error(module) else text or "there"

    paddle = version("paddle", "paddlepaddle-gpu" if "paddlepaddle-gpu" in facts.packages else "paddlepaddle")
    info = facts.probes.get("paddle", {})
    if info.get("cuda"):
        gpus = "; ".join(name for name, _ in info["gpus"]) or "no GPU that it can use"
        paddle += ", GPU build (CUDA %s): %s" % (info["cuda_version"], gpus)
    elif "cuda" in info:
        paddle += ", CPU build"
    opencvs = " (%s)" % ", ".join(facts.opencvs) if facts.opencvs else ""
    files = facts.probes["files"]
    not_read = "not looked through: %s" % files["error"] if "error" in files else "nothing there"
    free = ["%.1f GB free in %s" % (free / 1e9, folder) for folder, free in sorted(facts.free.items())]
    gpus = ", ".join(facts.gpus) or "no NVIDIA GPU"
    return [
        ("kdscfnet", "%s in %s" % (kdscfnet.__version__, os.path.dirname(os.path.abspath(kdscfnet.__file__)))),
        ("system", "%s, %d cores, %s" % (platform.platform(), os.cpu_count() or 1, gpus)),
        ("Python", "%d.%d.%d, %s" % (*facts.python, sys.executable)),
        ("Paddle", paddle),
        ("OpenCV", version("cv2", "opencv-python") + opencvs),
        *((name, version(name)) for name in ("numpy", "paddleseg", "visualdl", "onnxruntime", "paddle2onnx")),
        ("weights", "%s: %s" % (os.path.abspath(facts.weights), "; ".join(files.get("weights", ())) or not_read)),
        ("data sets", "%s: %s" % (os.path.abspath(facts.data), "; ".join(files.get("sets", ())) or not_read)),
        ("disk space", "; ".join(free)),
    ]


def report(facts, findings):
    """The whole as text."""
    lines = ["%-13s %s" % line for line in describe(facts)] + [""]
    for number, finding in enumerate(findings, 1):
        lines.append("%d. %s%s: %s" % (number, "" if finding.fault else "(a note) ", finding.name, finding.what))
        lines.append("   %s" % finding.mend)
    faults = sum(finding.fault for finding in findings)
    lines.append("%d problem%s found" % (faults, "" if faults == 1 else "s") if faults else "no problem found")
    return "\n".join(lines)
